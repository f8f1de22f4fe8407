"""A venue small enough to be obviously right: a list of moments with all their rows, read through `FakeBybitClient`.

It shares nothing with qkt but the row builders, and nothing with `qkt.venue`. What a row may hide is said per moment:
``unlisted`` orders are missing from the open list and ``unseen`` ones from every lookup as well (a fresh order may not
be visible yet), ``late`` executions are not shown yet (indexing lag).
"""

from __future__ import annotations

from typing import Any

import attrs

from qkt.testing import FakeBybitClient
from qkt.testing.builders import envelope, wallet_envelope

REALTIME, HISTORY, EXECUTIONS = "/v5/order/realtime", "/v5/order/history", "/v5/execution/list"
OPEN = {"New", "PartiallyFilled", "Untriggered", "Triggered"}


@attrs.frozen(kw_only=True)
class Moment:
    """The venue's whole truth at one time. ``orders``: venue id -> row; ``executions``: execution id -> row."""

    orders: dict[str, Any]
    executions: dict[str, Any]
    unlisted: frozenset = frozenset()  # type: ignore[type-arg]
    unseen: frozenset = frozenset()  # type: ignore[type-arg]
    late: frozenset = frozenset()  # type: ignore[type-arg]


class ModelVenue:
    """Serves one moment at a time. ``on_read(path, query)`` hears each request first; ``asked`` are ids looked up."""

    def __init__(self, moments: Any, *, page_size: int = 1) -> None:
        self.moments = moments
        self.now = 0
        self.page_size = page_size
        self.on_read = lambda path, query: None
        self.asked: list[str] = []

    @property
    def truth(self) -> Moment:
        return self.moments[self.now]  # type: ignore[no-any-return]

    def wire(self, client: FakeBybitClient) -> None:
        client.responses[REALTIME] = lambda query: self._serve(REALTIME, query, self._realtime)
        client.responses[HISTORY] = lambda query: self._serve(HISTORY, query, self._history)
        client.responses[EXECUTIONS] = lambda query: self._serve(EXECUTIONS, query, self._executions)
        client.responses["/v5/account/wallet-balance"] = wallet_envelope(USDT="1000")

    def _serve(self, path: Any, query: Any, answer: Any) -> Any:
        self.on_read(path, query)  # type: ignore[no-untyped-call]
        rows = answer(query)
        begin = int(query.get("cursor") or 0)
        until = begin + self.page_size
        return envelope(rows[begin:until], cursor=str(until) if until < len(rows) else "")

    def _named(self, query: Any, rows: Any, hidden: Any) -> list[Any] | None:
        """The rows an id names, or None when the query names none."""
        if not (query.get("orderId") or query.get("orderLinkId")):
            return None
        return [
            row
            for row in rows
            if row["orderId"] not in hidden
            and (row["orderId"] == query.get("orderId") or row["orderLinkId"] == query.get("orderLinkId"))
        ]

    def _realtime(self, query: Any) -> Any:
        if query.get("orderFilter"):
            return []
        truth = self.truth
        named = self._named(query, truth.orders.values(), truth.unseen)
        if named is not None:
            self.asked.append(query.get("orderId") or query.get("orderLinkId"))
            return named
        hidden = truth.unseen | truth.unlisted
        return [row for name, row in truth.orders.items() if row["orderStatus"] in OPEN and name not in hidden]

    def _history(self, query: Any) -> Any:
        truth = self.truth
        closed = [row for row in truth.orders.values() if row["orderStatus"] not in OPEN]
        named = self._named(query, closed, truth.unseen)
        return closed if named is None else named

    def _executions(self, query: Any) -> Any:
        truth = self.truth
        shown = [row for exec_id, row in reversed(truth.executions.items()) if exec_id not in truth.late]
        named = self._named(query, shown, frozenset())
        if named is not None:
            return named
        return [row for row in shown if int(query["startTime"]) <= int(row["execTime"]) <= int(query["endTime"])]
