"""Values formatted as plain JSON types and as table cells."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs

from qkt.cli.output import Line
from qkt.cli.session import bare_symbol
from qkt.cli.tables import table
from qkt.model.orders import OrderView
from qkt.money import to_wire


def plain(value: Any) -> Any:
    """A value as plain JSON types: decimals as strings, enums as their values, attrs classes as objects. Exact."""
    match value:
        case None | bool() | int() | str() | float():
            return value
        case Decimal():
            return number(value)
        case enum.Enum():
            return value.value
        case Mapping():
            return {str(name): plain(item) for name, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case set() | frozenset():
            return sorted(plain(item) for item in value)
        case _ if attrs.has(type(value)):
            fields = attrs.fields(type(value))
            return {field.name: plain(getattr(value, field.name)) for field in fields}
        case _:
            return str(value)


def number(value: Decimal | None, unknown: str = "-") -> str:
    """A number without an exponent and without trailing zeros."""
    if value is None:
        return unknown
    text = to_wire(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def short_reason(reason: str) -> str:
    """The first clause of a reason, without the class name of an exception."""
    text = reason.split(";")[0].removesuffix(".")
    head, _, rest = text.partition(": ")
    return rest if head.endswith(("Exception", "Error")) and rest else text


def clock_time(at_ms: int) -> str:
    """A moment in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%m-%d %H:%M:%S")


def date_time(at_ms: int) -> str:
    """A moment in UTC with its year, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def time_of_day(at_ms: int) -> str:
    """The time of a moment in UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%H:%M:%S")


def counted(count: int, what: str) -> str:
    """``no open orders``, ``1 open order``, ``2 open orders``."""
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def span(age_ms: int | None) -> str:
    """A duration as text: 840 ms, 12 s, 5 min, 3 h."""
    if age_ms is None:
        return "never"
    for unit, in_ms in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if age_ms >= (2 if unit != "s" else 1) * in_ms:
            return f"{age_ms / in_ms:.1f} {unit}" if unit == "s" and age_ms < 10_000 else f"{age_ms // in_ms} {unit}"
    return f"{age_ms} ms"


def terms(view: OrderView) -> str:
    """Price terms of an order: ``59350``, ``market``, ``stop 58000``, ``stop 58000 limit 57900``."""
    parts = []
    if view.stop_price is not None:
        kind = "touch" if view.order_type.value == "IF_TOUCHED" else "stop"
        parts.append(f"{kind} {number(view.stop_price)}")
    if view.limit_price is not None:
        parts.append(f"limit {number(view.limit_price)}" if parts else number(view.limit_price))
    return " ".join(parts) or ("market" if view.order_type.value == "MARKET" else "-")


ORDER_COLUMNS = ("ID", "SYMBOL", "SIDE", ">QUANTITY", ">PRICE", ">FILLED", "STATUS")


_SHORT = {"PARTIALLY_FILLED": "partial"}


def order_row(view: OrderView) -> list[str]:
    """An order for a table with `ORDER_COLUMNS`."""
    quantity = number(view.quantity) + (" quote" if view.quote_sized else "")
    return [
        view.client_order_id or view.broker_order_id,
        bare_symbol(view.symbol),
        "-" if view.side is None else view.side.value.lower(),
        quantity,
        terms(view),
        number(view.cum_quantity),
        "unresolved" if view.is_unresolved else _SHORT.get(view.status.value, view.status.value.lower()),
    ]


def order_table(views: Sequence[OrderView], ages: Sequence[str] | None = None, width: int = 0) -> list[Line]:
    """Orders as a table, with an AGE column if ``ages`` are given, fitted to ``width`` (0: not fitted)."""
    columns = ORDER_COLUMNS if ages is None else (*ORDER_COLUMNS, ">AGE")
    rows = [order_row(view) for view in views]
    if ages is not None:
        rows = [[*row, age] for row, age in zip(rows, ages, strict=True)]
    return table(columns, rows, width=width, keep=("STATUS", ">AGE", "ID"))
