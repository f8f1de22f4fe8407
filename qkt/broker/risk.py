"""Risk limits that every order passes after all other checks and before it is sent. None are set by default.

They apply to single orders and batches. A refusal is an `InvalidRequestError` and nothing was sent. Cancels always
pass. Orders that are already at the venue are not touched.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Collection, Sequence
from decimal import Decimal
from typing import Any

import attrs

from qkt.broker.price_source import PriceSource
from qkt.clock import Clock
from qkt.errors import InvalidRequestError, StalePriceError, VenueUnavailableError
from qkt.model.checks import notional_of
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.money import require_positive, to_wire

log: logging.Logger = logging.getLogger(__name__)

_MINUTE_MS = 60_000


def _optional_notional(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "max_notional")


def _optional_symbols(value: Collection[str] | None) -> frozenset[str] | None:
    if isinstance(value, str):
        raise InvalidRequestError(f"allowed_symbols is a collection of symbols, not one: write {{{value!r}}}")
    return None if value is None else frozenset(value)


def _positive_count(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value <= 0):
        raise InvalidRequestError(f"{attribute.name} must be a whole number above zero, got {value!r}")


@attrs.frozen(kw_only=True)
class RiskLimits:
    """The limits of one broker; None is no limit.

    Args:
        max_notional: the most one order may be worth, in the quote coin of its symbol. A limit or conditional order is
            measured at the highest price it names. A market order sized in base coin is measured at the last price,
            for which one ticker is read before sending; if that fails, the order is refused.
        max_orders_per_minute: the most orders sent in any 60 s, each item of a batch counted; amends and cancels not.
        allowed_symbols: qkt symbols that may be traded, e.g. ``{"BYBIT_SPOT:BTCUSDT"}``.
        prices: a `PriceFeed` that last prices are taken from; where its price is stale, or it does not follow the
            symbol, one ticker is read as without it.
    """

    max_notional: Decimal | None = attrs.field(default=None, converter=_optional_notional)
    max_orders_per_minute: int | None = attrs.field(default=None, validator=_positive_count)
    allowed_symbols: frozenset[str] | None = attrs.field(default=None, converter=_optional_symbols)

    prices: PriceSource | None = attrs.field(default=None, eq=False)

    def fed_price(self, symbol: str) -> Decimal | None:
        """The last price of the feed; None without a feed, and where it has no current price."""
        if self.prices is None:
            return None
        try:
            return self.prices.last(symbol)
        except (StalePriceError, InvalidRequestError):
            return None

    def needs_price(self, request: OrderRequest) -> bool:
        """True when the value of an order depends on the market price."""
        return self.max_notional is not None and notional_of(request) is None


class RiskGate:
    """Applies `RiskLimits` and holds the kill switch. Safe from any thread."""

    def __init__(self, risk_limits: RiskLimits | None, clock: Clock, source: str) -> None:
        if risk_limits is not None and not isinstance(risk_limits, RiskLimits):
            raise InvalidRequestError(f"risk_limits must be a RiskLimits(...), got {risk_limits!r}")
        self.risk_limits: RiskLimits = risk_limits or RiskLimits()
        self._clock = clock
        self._source = source
        self._lock = threading.Lock()
        self._sent_ms: deque[int] = deque()
        self._frozen_because: str | None = None

    def freeze(self, reason: str) -> None:
        """Refuse submits and modifications until `unfreeze`."""
        with self._lock:
            self._frozen_because = reason
        log.warning("frozen source=%s reason=%s", self._source, reason)

    def unfreeze(self) -> None:
        """Accept submits and modifications again."""
        with self._lock:
            was_frozen, self._frozen_because = self._frozen_because is not None, None
        if was_frozen:
            log.warning("unfrozen source=%s", self._source)

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze`."""
        return self._frozen_because is not None

    def check_not_frozen(self) -> None:
        """Raise InvalidRequestError while frozen."""
        reason = self._frozen_because
        if reason is not None:
            raise InvalidRequestError(
                f"not sent: {self._source} is frozen ({reason}); cancels pass, unfreeze() lets orders pass again"
            )

    def admit(self, requests: Sequence[OrderRequest], prices: dict[str, Decimal | None]) -> None:
        """Count the orders against the limits, or raise InvalidRequestError and count none.

        ``prices`` are the last known prices by symbol.
        """
        for request in requests:
            self._check_symbol(request.symbol)
            self._check_notional(request, prices.get(request.symbol))
        with self._lock:
            self.check_not_frozen()
            self._count(len(requests))

    def admit_changes(self, order: OrderView, changes: OrderModification) -> None:
        """Raise InvalidRequestError for a modification whose result would exceed the limits of a new order."""
        self.check_not_frozen()
        self._check_symbol(order.symbol)
        quantity = changes.new_quantity or order.quantity
        prices = [changes.new_limit_price or order.limit_price, changes.new_stop_price or order.stop_price]
        known = [price for price in prices if price is not None]
        if quantity is not None and known and not order.quote_sized:
            self._check_value(quantity * max(known), order.symbol)

    def _check_symbol(self, symbol: str) -> None:
        allowed = self.risk_limits.allowed_symbols
        if allowed is not None and symbol not in allowed:
            raise InvalidRequestError(
                f"not sent: {symbol} is not among allowed_symbols ({', '.join(sorted(allowed)) or 'none'})"
            )

    def _check_notional(self, request: OrderRequest, last_price: Decimal | None) -> None:
        if self.risk_limits.max_notional is None:
            return
        worth = notional_of(request, last_price)
        if worth is None:
            raise VenueUnavailableError(
                f"not sent: max_notional is set and the last price of {request.symbol} cannot be read, so the order "
                "cannot be measured; try again, or send an order that names a price"
            )
        self._check_value(worth, request.symbol)

    def _check_value(self, worth: Decimal, symbol: str) -> None:
        most = self.risk_limits.max_notional
        if most is not None and worth > most:
            raise InvalidRequestError(
                f"not sent: an order worth {to_wire(worth)} in the quote coin of {symbol} is above max_notional "
                f"{to_wire(most)}"
            )

    def _count(self, orders: int) -> None:
        most = self.risk_limits.max_orders_per_minute
        if most is None:
            return
        now_ms = self._clock.monotonic_ms()
        while self._sent_ms and self._sent_ms[0] <= now_ms - _MINUTE_MS:
            self._sent_ms.popleft()
        if len(self._sent_ms) + orders > most:
            when = "split the batch"
            if orders <= most:
                free_ms = self._sent_ms[len(self._sent_ms) + orders - most - 1] + _MINUTE_MS
                when = f"there is room in {free_ms - now_ms} ms"
            raise InvalidRequestError(
                f"not sent: {orders} more would make {len(self._sent_ms) + orders} orders in a minute and "
                f"max_orders_per_minute is {most}; {when}"
            )
        self._sent_ms.extend([now_ms] * orders)
