"""Parses raw venue rows one by one: a malformed row is returned as evidence beside the rows that could be read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qkt.bybit.codec.bounds import MAX_BAD_ROWS, MAX_TEXT, text_from_wire
from qkt.reconcile.snapshot import MalformedRow
from qkt.secret import redact

T = TypeVar("T")

_SHOWN_FIELDS = 60


def parse_rows(
    raw: list[Any], parse: Callable[[Mapping[str, Any]], T | None], path: str
) -> tuple[tuple[T, ...], tuple[MalformedRow, ...]]:
    """Parse each row by itself; ``parse`` returns None for a row that is not of interest.

    Malformed rows are returned beside the others: the first hundred one by one, the rest as one that says how many.
    """
    rows: list[T] = []
    malformed: list[MalformedRow] = []
    further = 0
    for row in raw:
        try:
            parsed = parse(row)
        except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            if len(malformed) < MAX_BAD_ROWS:
                malformed.append(_malformed(row, error, path))
            else:
                further += 1
        else:
            if parsed is not None:
                rows.append(parsed)
    if further:
        malformed.append(MalformedRow(path=path, problem=f"{further} more malformed rows", excerpt=""))
    return tuple(rows), tuple(malformed)


def _malformed(row: Any, error: Exception, path: str) -> MalformedRow:
    return MalformedRow(
        path=path,
        problem=redact(f"{type(error).__name__}: {error}"),
        excerpt=redact(_text_of(row)),
        broker_order_id=_id_of(row, "orderId"),
        client_order_id=_id_of(row, "orderLinkId"),
    )


def _text_of(row: Any) -> str:
    """The row as JSON, as far as an excerpt needs it: a huge field is cut before it is written."""
    if isinstance(row, dict):
        row = {str(name)[:MAX_TEXT]: _brief(value) for name, value in list(row.items())[:_SHOWN_FIELDS]}
    return json.dumps(_brief(row), default=str)


def _brief(value: Any) -> Any:
    if isinstance(value, str):
        return value[: 4 * MAX_TEXT]
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, int) and abs(value) > 2**63:
        return "a number of more than 64 bits"
    return value


def _id_of(row: Any, name: str) -> str:
    try:
        return text_from_wire(row, name) if isinstance(row, dict) else ""
    except ValueError:
        return ""
