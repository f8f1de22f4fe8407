"""Rows that cannot be placed yet: which order they are about is decided by a later answer.

A stream row without our client order id may be about an order whose acknowledgement is still on its way (S48). An
execution under an id that the venue calls taken, or refused, does not say how old its order is; the order's row will
(S16). Such rows wait under the venue's order id until that id is known, the answer they wait for has come, or
`DEFERRED_AT_MOST_MS` have passed.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator

from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport
from qkt.orders.facts import ExecutionReported, OrderReported

DEFERRED_AT_MOST_MS = 10_000
_DEFERRED_AT_MOST = 1_000

Row = OrderReport | Execution
RowFact = OrderReported | ExecutionReported


def row_of(fact: RowFact) -> Row:
    """What the fact shows; a repeated row is one row."""
    return fact.report if isinstance(fact, OrderReported) else fact.execution


class DeferredRows:
    """Waiting rows by the venue's order id, and those whose wait is over. Not thread-safe: its owner guards it.

    Each wait has a ``cause``: the market or the client order id whose answer decides. Every operation may be repeated
    with the same effect, and its cost does not depend on how many other rows wait.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, dict[Row, RowFact]] = {}
        self._ids_by_cause: dict[Hashable, dict[str, None]] = {}
        self._cause_by_id: dict[str, Hashable] = {}
        self._since_ms: dict[str, int] = {}
        self._ready: dict[Row, RowFact] = {}

    def has_room(self, fact: RowFact) -> bool:
        """False when too many wait, unless this very row waits already."""
        row = row_of(fact)
        return len(self._waiting) < _DEFERRED_AT_MOST or row in self._waiting.get(row.broker_order_id, ())

    def add(self, fact: RowFact, cause: Hashable) -> None:
        """Let a row wait."""
        row = row_of(fact)
        name = row.broker_order_id
        rows = self._waiting.setdefault(name, {})
        if len(rows) < _DEFERRED_AT_MOST:
            rows.setdefault(row, fact)
        self._since_ms.setdefault(name, fact.at_ms)
        self._cause_by_id.setdefault(name, cause)
        self._ids_by_cause.setdefault(cause, {})[name] = None

    def release(self, broker_order_id: str) -> None:
        """The rows under this id can be placed now."""
        rows = self._waiting.get(broker_order_id)
        if rows is None:
            return
        self._ready.update(rows)
        cause = self._cause_by_id.get(broker_order_id)
        names = self._ids_by_cause.get(cause, {})
        names.pop(broker_order_id, None)
        if not names:
            self._ids_by_cause.pop(cause, None)
        self._cause_by_id.pop(broker_order_id, None)
        self._since_ms.pop(broker_order_id, None)
        self._waiting.pop(broker_order_id, None)

    def release_caused_by(self, cause: Hashable) -> None:
        """Release the rows that waited for this answer."""
        for name in list(self._ids_by_cause.get(cause, ())):
            self.release(name)

    def release_overdue(self, now_ms: int) -> None:
        """Rows that waited for too long are placed as they are. ``now_ms`` on the clock that dated the facts."""
        while self._since_ms:
            name, since_ms = next(iter(self._since_ms.items()))
            if now_ms - since_ms < DEFERRED_AT_MOST_MS:
                return
            self.release(name)

    @property
    def next_ready(self) -> RowFact | None:
        """A row whose wait is over; it stays ready until `placed`."""
        return next(iter(self._ready.values()), None) if self._ready else None

    def placed(self, fact: RowFact) -> None:
        """A ready row found its order."""
        self._ready.pop(row_of(fact), None)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values())) + len(self._ready)

    def __bool__(self) -> bool:
        return bool(self._waiting or self._ready)

    def __iter__(self) -> Iterator[RowFact]:
        for rows in self._waiting.values():
            yield from rows.values()
        yield from self._ready.values()
