"""Raw venue rows into typed rows, one by one: a malformed row is kept as evidence and the others are read."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from qkt.reconcile.snapshot import MalformedRow
from qkt.secret import redact

T = TypeVar("T")


def parse_rows(
    raw: list[Any], parse: Callable[[Mapping[str, Any]], T | None], path: str
) -> tuple[tuple[T, ...], tuple[MalformedRow, ...]]:
    """Each row by itself: a broken one is kept as evidence, the others are read. None means "not of interest"."""
    rows: list[T] = []
    malformed: list[MalformedRow] = []
    for row in raw:
        try:
            parsed = parse(row)
        except (KeyError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
            malformed.append(_malformed(row, error, path))
        else:
            if parsed is not None:
                rows.append(parsed)
    return tuple(rows), tuple(malformed)


def _malformed(row: Any, error: Exception, path: str) -> MalformedRow:
    ids = row if isinstance(row, dict) else {}
    return MalformedRow(
        path=path,
        problem=f"{type(error).__name__}: {error}",
        excerpt=redact(json.dumps(row, default=str)),
        broker_order_id=str(ids.get("orderId") or ""),
        client_order_id=str(ids.get("orderLinkId") or ""),
    )
