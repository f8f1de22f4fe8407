"""Everything that is looked at before a byte leaves: whose symbol it is, what can be done, the rules, the guards.

One order or a whole batch passes here, all or none. What stands here only ever refuses: an order goes out as it was
given, or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import TypeVar

from qkt.broker.capabilities import capability_names, needed_for
from qkt.broker.protocol import OrderTypeCapability
from qkt.broker.risk import RiskGate
from qkt.bybit.account.instrument_cache import InstrumentCache
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.errors import InvalidRequestError
from qkt.model.checks import check_changes, check_order, quantize, trigger_price_of
from qkt.model.orders import OrderModification, OrderRequest, OrderType, OrderView

R = TypeVar("R", bound=OrderRequest)


class PreTradeChecks:
    """The checks of one broker. Safe from any thread."""

    def __init__(
        self,
        instruments: InstrumentCache,
        risk: RiskGate,
        *,
        category: str,
        source: str,
        capabilities: frozenset[OrderTypeCapability],
    ) -> None:
        self.instruments = instruments
        self.risk = risk
        self._category = category
        self._source = source
        self._capabilities = capabilities

    def admit(self, requests: Sequence[OrderRequest]) -> None:
        """Let orders pass to the venue, and count them against the guards; or raise, and count none."""
        self.risk.check_not_frozen()
        prices = self.check(requests)
        self.risk.admit(requests, prices)

    def check(self, requests: Sequence[OrderRequest]) -> dict[str, Decimal | None]:
        """Raise InvalidRequestError for the first order that cannot be right; returns the last prices it had to ask.

        A price is asked (one GET per symbol) for the conditional orders of a category without a direction field, and
        for orders that a guard can only measure at the market. An unknown one stops no conditional order.
        """
        for request in requests:
            self._check_served(request)
            check_order(request, self.instruments.rules_or_warning(request.symbol))
        priced = [request for request in requests if self._needs_price(request)]
        prices = {symbol: self._last_price(symbol) for symbol in dict.fromkeys(one.symbol for one in priced)}
        for request in priced:
            check_order(request, self.instruments.rules(request.symbol), prices[request.symbol])
        return prices

    def admit_changes(self, order: OrderView, changes: OrderModification) -> None:
        """`admit`, for an amend: the same steps, sizes, guards, and a trigger may not change sides."""
        self.risk.check_not_frozen()
        moves_trigger = None not in (changes.new_stop_price, order.stop_price) and self._category == "spot"
        last_price = self._last_price(order.symbol) if moves_trigger else None
        check_changes(order, changes, self.instruments.rules_or_warning(order.symbol), last_price)
        self.risk.admit_changes(order, changes)

    def quantize(self, request: R) -> R:
        """See `BybitBroker.quantize`."""
        self._check_served(request)
        rules = self.instruments.rules_or_warning(request.symbol)
        return request if rules is None else quantize(request, rules)

    def _check_served(self, request: OrderRequest) -> None:
        if not isinstance(request, OrderRequest):
            raise InvalidRequestError(f"submit takes an order, e.g. LimitOrder(...); got {type(request).__name__}")
        if BybitSymbol.parse(request.symbol).category != self._category:
            raise InvalidRequestError(f"{self._source} does not serve {request.symbol!r}")
        if request.order_type is OrderType.UNKNOWN:
            raise InvalidRequestError(f"{self._source} has no order like {type(request).__name__}; {self._can()}")
        lacking = needed_for(request) - self._capabilities
        if lacking:
            raise InvalidRequestError(f"{self._source} cannot do {capability_names(lacking)}; {self._can()}")

    def _can(self) -> str:
        return f"it can do {capability_names(self._capabilities)}"

    def _last_price(self, symbol: str) -> Decimal | None:
        """From the price feed of the risk limits, else one ticker read now."""
        return self.risk.risk_limits.fed_price(symbol) or self.instruments.last_price(symbol)

    def _needs_price(self, request: OrderRequest) -> bool:
        return self._is_undirected(request) or self.risk.risk_limits.needs_price(request)

    def _is_undirected(self, request: OrderRequest) -> bool:
        """Spot has no direction field: a crossed trigger would wait for the opposite move (docs create-order)."""
        return self._category == "spot" and trigger_price_of(request) is not None
