"""Disconnect protection (DCP): cancel all orders of an account whose connections died (docs v5/order/dcp).

A product is watched once a window is set for it. The clock starts when the last living connection that subscribed to
its ``dcp`` topic is gone, and is reset by a connection that subscribes and pings. When the window is over, the active
orders of the product are cancelled with ``CancelByDCP``; untriggered conditional orders stay. Two simplifications: a
window takes effect at once, not after ten seconds, and no account manager has to enable the feature first.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..exchange.accounts import Account
from ..exchange.exchange import Exchange
from ..exchange.queries import Query
from ..exchange.requests import Body
from ..exchange.retcodes import parameter_error
from ..exchange.rows import Row

_PRODUCTS = {
    "SPOT": ("dcp.spot", ("spot",)),
    "DERIVATIVES": ("dcp.future", ("linear", "inverse")),
    "OPTIONS": ("dcp.option", ("option",)),
}
"""``product`` -> its topic and its categories."""
_SHORTEST_S, _LONGEST_S = 3, 300


@dataclass(frozen=True, slots=True)
class DcpConnection:
    """A living private connection that subscribed to ``dcp`` topics."""

    uid: int
    topics: frozenset[str]
    has_pinged: bool


@dataclass(slots=True)
class _Watch:
    account: Account
    product: str
    window_s: int
    is_armed: bool = False
    """Whether a connection with the topic has lived since the window was set or last passed."""
    dead_since_ms: int | None = None


class DisconnectProtection:
    """The windows that are set, and what their connections do."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._watches: dict[tuple[int, str], _Watch] = {}

    @property
    def is_configured(self) -> bool:
        return bool(self._watches)

    def configure(self, account: Account, body: Body) -> Row:
        """``POST /v5/order/disconnected-cancel-all``: set the window of a product, ``OPTIONS`` by default.

        Raises:
            Refusal: 10001 for an unknown product or a window outside 3 to 300 s.
        """
        product, window = str(body.get("product") or "OPTIONS"), str(body.get("timeWindow"))
        if product not in _PRODUCTS:
            raise parameter_error("params error: product invalid")
        if not (window.isascii() and window.isdigit() and _SHORTEST_S <= int(window) <= _LONGEST_S):
            raise parameter_error(f"params error: timeWindow must be between {_SHORTEST_S} and {_LONGEST_S}")
        key = (account.uid, product)
        known = self._watches.get(key)
        if known is None:
            self._watches[key] = _Watch(account, product, int(window))
        else:
            known.window_s = int(window)
        return {}

    def info(self, account: Account, _query: Query) -> Row:
        """``GET /v5/account/query-dcp-info``: the products with a window."""
        return {
            "dcpInfos": [
                {"product": watch.product, "dcpStatus": "ON", "timeWindow": str(watch.window_s)}
                for watch in self._watches.values()
                if watch.account is account
            ]
        }

    def sweep(self, connections: list[DcpConnection]) -> None:
        """Look after every watch; under the venue's lock."""
        for watch in self._watches.values():
            topic, categories = _PRODUCTS[watch.product]
            living = [
                connection
                for connection in connections
                if connection.uid == watch.account.uid and connection.topics & {topic, "dcp"}
            ]
            self._look(watch, living, categories)

    def _look(self, watch: _Watch, living: list[DcpConnection], categories: tuple[str, ...]) -> None:
        now_ms = self._exchange.now_ms()
        if watch.dead_since_ms is None:
            if living:
                watch.is_armed = True
            elif watch.is_armed:
                watch.dead_since_ms = now_ms
        elif any(connection.has_pinged for connection in living):
            watch.dead_since_ms = None
        elif now_ms - watch.dead_since_ms >= watch.window_s * 1000:
            watch.dead_since_ms, watch.is_armed = None, False
            self._cancel(watch.account, watch.product, categories)

    def _cancel(self, account: Account, product: str, categories: tuple[str, ...]) -> None:
        self._exchange.journal.note("disconnect protection", account.key, product=product)
        for order in list(account.open_orders.values()):
            if order.instrument.category in categories and order.is_open and not order.is_conditional:
                self._exchange.cancel_outside(order, "CancelByDCP")
