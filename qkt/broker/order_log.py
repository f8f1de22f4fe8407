"""Lines of the order audit log: one line for each request, answer, fill and end of an order.

A line is a phrase of `PHRASES` and then ``key=value`` pairs, for the logger ``qkt.orders`` at INFO. Values come from
the venue and from the user: they are escaped, cut, and quoted where they hold a space, so that no value can forge a
line or a key. The phrases are listed in ``docs/reference/log-phrases.md``.

Pure: the caller decides whether the lines are wanted and writes them.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Iterator
from decimal import Decimal

import attrs

from qkt.events import (
    FillEvent,
    HealthDegraded,
    HealthRestored,
    OrderAccepted,
    OrderCancelFailed,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModified,
    OrderModifyFailed,
    OrderRejected,
    OrderStatusUnknown,
)
from qkt.orders.facts import (
    CancelIntended,
    CancelUnanswered,
    CancelWithdrawn,
    ModifyIntended,
    ModifyUnanswered,
    ModifyWithdrawn,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitUnanswered,
    SubmitWithdrawn,
)
from qkt.orders.ledger import Change
from qkt.orders.order import Order
from qkt.secret import printable

LOGGER = "qkt.orders"

PHRASES = (
    "order submit",
    "order acknowledged",
    "order unknown",
    "order withdrawn",
    "order resolved",
    "order accepted",
    "order fill",
    "order filled",
    "order end held",
    "order cancelled",
    "order rejected",
    "order status unknown",
    "order changed",
    "order cancel",
    "order cancel unknown",
    "order cancel withdrawn",
    "order cancel failed",
    "order amend",
    "order amend unknown",
    "order amend withdrawn",
    "order amend failed",
)
"""Every phrase that a line of ``qkt.orders`` can begin with."""

_MOST_CHARACTERS = 200

_Field = tuple[str, object]


def lines_of(changes: Iterable[Change], *, source: str, account: str = "") -> Iterator[str]:
    """The lines of what several facts did, in order."""
    for change in changes:
        for phrase, fields in _entries(change):
            yield _line(phrase, (*_about(change.after, source, account), *fields, ("origin", change.fact.origin)))


def withdrawn_line(fact: SubmitWithdrawn, *, source: str, account: str = "") -> str:
    """The line of an order that never left; its client order id is free again."""
    return _line(
        "order withdrawn",
        (("source", source), ("account", account), ("client_order_id", fact.client_order_id), ("origin", fact.origin)),
    )


def health_fields(event: HealthDegraded | HealthRestored) -> str:
    """The ``key=value`` pairs of an alarm or of its end."""
    return _pairs(
        (
            ("source", event.source),
            ("account", event.account),
            ("domain", event.domain),
            ("since_ms", event.since_ms),
            ("reason", event.reason),
        )
    )


def _about(order: Order, source: str, account: str) -> tuple[_Field, ...]:
    return (
        ("source", source),
        ("account", account),
        ("client_order_id", order.client_order_id),
        ("broker_order_id", order.broker_order_id),
        ("symbol", order.symbol),
        ("external", order.external or None),
    )


def _entries(change: Change) -> Iterator[tuple[str, tuple[_Field, ...]]]:
    """Phrase and fields of each line: the request or its answer first, then what the events tell."""
    before, after = change.before, change.after
    if change.is_news or isinstance(change.fact, CancelIntended):
        yield from _request_entry(change)
    if before is not None and before.is_unresolved and not after.is_unresolved and not before.is_terminal_published:
        yield "order resolved", (("status", after.view_status), ("after_ms", _unresolved_ms(change)))
    for event in change.events:
        yield _event_entry(event)
    was_ended = before is not None and before.terminal is not None
    if after.terminal is not None and not was_ended and not after.is_terminal_published:
        yield (
            "order end held",
            (
                ("end", after.terminal.kind.name),
                ("cum_quantity", after.cum_quantity),
                ("missing_quantity", after.missing_quantity),
            ),
        )


def _request_entry(change: Change) -> Iterator[tuple[str, tuple[_Field, ...]]]:
    fact = change.fact
    match fact:
        case SubmitIntended():
            yield "order submit", _request_fields(fact)
        case SubmitAcknowledged():
            yield "order acknowledged", ()
        case SubmitUnanswered():
            yield "order unknown", (("provable_from_ms", fact.provable_from_ms), ("reason", fact.reason))
        case CancelIntended() if change.after.cancel is not None:
            yield "order cancel", (("remembered", fact.is_remembered or None), ("again", fact.is_again or None))
        case CancelUnanswered():
            yield "order cancel unknown", (("reason", fact.reason),)
        case CancelWithdrawn():
            yield "order cancel withdrawn", ()
        case ModifyIntended() if change.after.modify is not None:
            told = attrs.asdict(fact.changes, recurse=False)
            yield "order amend", tuple(told.items())
        case ModifyUnanswered():
            yield "order amend unknown", (("reason", fact.reason),)
        case ModifyWithdrawn():
            yield "order amend withdrawn", ()


def _request_fields(fact: SubmitIntended) -> tuple[_Field, ...]:
    """The terms of the order; what was left at its default is left out."""
    request, told = fact.request, []
    for field in attrs.fields(type(request)):
        value = getattr(request, field.name)
        if field.name not in ("symbol", "client_order_id", "extra") and value is not False:
            told.append((field.name, value))
    return (("type", request.order_type), *told, ("extra", dict(request.extra) or None), ("sent_ms", fact.sent_ms))


def _event_entry(event: OrderEvent) -> tuple[str, tuple[_Field, ...]]:
    match event:
        case OrderAccepted():
            return "order accepted", ()
        case FillEvent():
            return ("order filled" if isinstance(event, OrderFilled) else "order fill"), _fill_fields(event)
        case OrderCancelled():
            return "order cancelled", (("cum_quantity", event.cum_quantity), ("reason", event.reason))
        case OrderRejected():
            return "order rejected", (("cum_quantity", event.cum_quantity), ("reason", event.reason))
        case OrderStatusUnknown():
            return "order status unknown", (("since_ms", event.since_ms), ("reason", event.reason))
        case OrderModified():
            return "order changed", (
                ("quantity", event.new_quantity),
                ("limit_price", event.new_limit_price),
                ("stop_price", event.new_stop_price),
                ("reason", event.reason),
            )
        case OrderCancelFailed():
            return "order cancel failed", (("reason", event.reason),)
        case OrderModifyFailed():
            return "order amend failed", (("reason", event.reason),)
        case _:
            return "order changed", (("event", type(event).__name__),)


def _fill_fields(event: FillEvent) -> tuple[_Field, ...]:
    return (
        ("side", event.side),
        ("quantity", event.quantity),
        ("price", event.price),
        ("cum_quantity", event.cum_quantity),
        ("leaves_quantity", event.leaves_quantity),
        ("fee", event.fee),
        ("fee_currency", event.fee_currency),
        ("exec_id", event.exec_id),
        ("exec_time_ms", event.exec_time_ms or None),
        ("maker", event.is_maker or None),
        ("late", event.late or None),
    )


def _unresolved_ms(change: Change) -> int | None:
    before = change.before
    if before is None or before.unanswered_submit is None:
        return None
    return max(0, change.fact.at_ms - before.unanswered_submit.since_ms)


def _line(phrase: str, fields: Iterable[_Field]) -> str:
    return f"{phrase} {_pairs(fields)}"


def _pairs(fields: Iterable[_Field]) -> str:
    """``key=value`` for each field that has a value."""
    return " ".join(f"{name}={_text(value)}" for name, value in fields if value is not None and value != "")


def _text(value: object) -> str:
    if isinstance(value, enum.Enum):
        value = value.name
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal | int):
        return str(value)[:_MOST_CHARACTERS]
    text = str(value)
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]}… ({len(text)} characters)"
    if any(one in text for one in ' "=\\') or not text.isprintable():
        return printable(json.dumps(text, ensure_ascii=False))
    return text
