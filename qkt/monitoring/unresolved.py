"""Since when each unresolved order is unresolved. Not thread-safe: its owner guards it."""

from __future__ import annotations

from collections.abc import Iterable

from qkt.model.orders import OrderView


class UnresolvedSince:
    """Remembers when each unresolved order was first seen so.

    A submit without any answer is unresolved since it was sent (``created_ms``); an order that the venue stopped
    showing, since the first look that found it so.
    """

    def __init__(self) -> None:
        self._since_ms: dict[str, int] = {}

    def look(self, orders: Iterable[OrderView], now_ms: int) -> dict[str, int]:
        """Order id -> since when (ms), for the orders that are unresolved now."""
        found: dict[str, int] = {}
        for view in orders:
            if view.is_unresolved:
                name = view.client_order_id or view.broker_order_id
                begun_ms = view.created_ms if not view.broker_order_id and 0 < view.created_ms <= now_ms else now_ms
                found[name] = self._since_ms.get(name, begun_ms)
        self._since_ms = found
        return dict(found)
