"""Matching for paper trading: orders against the prices that are fed, with rows as a venue would send them.

The market is one price per symbol and, optionally, the quantity that can trade at it. The same calls give the same
rows, and nothing trades except at a price that was fed. Rules:

- A resting order fills at its own limit price, as maker, once a price reaches it; an arriving order fills at the
  current price, as taker. Resting orders come before arriving ones, better prices before worse, older before younger.
- Liquidity is shared by all orders: what one order took is gone for the next. None is unlimited.
- On a symbol without a price a limit order may rest; market, IOC and FOK orders wait for the first price.
- A triggered conditional order arrives at the price that triggered it, so a gap is paid in full.

Statuses and reasons are Bybit's (docs v5/enum#orderstatus, #rejectreason), so that a bot sees the same words as live.
No I/O, no thread, no clock. Mutable; its owner guards it with a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal

import attrs

from qkt.errors import InvalidRequestError
from qkt.model.executions import Execution
from qkt.model.instruments import InstrumentRules
from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import LimitOrder, MarketOrder, OrderModification, OrderRequest, OrderType, Side, TimeInForce
from qkt.money import ZERO, to_wire

Row = OrderReport | Execution
Coins = tuple[str, str]

_CONDITIONAL = frozenset({OrderType.STOP, OrderType.STOP_LIMIT, OrderType.IF_TOUCHED})
_BASE_STEP = Decimal("1E-8")


class RefusedByMarketError(Exception):
    """A definite refusal by the paper market; the text is the reason."""


@attrs.frozen(kw_only=True)
class FeeRates:
    """Fee rates as a share of the received amount: ``Decimal("0.001")`` is 0.1 %. A negative rate is a rebate.

    Fees are paid as on the venue: in the coin received (base for a buy, quote for a sell), a rebate in the other coin;
    derivatives in quote coin. Source: docs v5/enum#spot-fee-currency-instruction.
    """

    maker: Decimal = ZERO
    taker: Decimal = ZERO

    def __bool__(self) -> bool:
        return bool(self.maker or self.taker)

    def charge(self, side: Side, quantity: Decimal, price: Decimal, coins: Coins, *, is_maker: bool) -> Fee:
        """The fee of one fill of ``coins`` (base, quote)."""
        rate = self.maker if is_maker else self.taker
        base, quote = coins
        if base and (side is Side.BUY) == (rate > 0):
            return Fee(rate * quantity, base)
        return Fee(rate * quantity * price, quote)


@attrs.frozen
class Fee:
    """An amount and its coin."""

    amount: Decimal = ZERO
    coin: str = ""


@attrs.frozen(kw_only=True)
class PaperOrder:
    """An open paper order. ``has_arrived`` is False while it waits for its trigger or for a first price."""

    client_order_id: str
    broker_order_id: str
    request: OrderRequest
    quantity: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    rank: int
    base_step: Decimal
    created_ms: int
    has_arrived: bool = False
    is_triggered: bool = False
    cum_quantity: Decimal = ZERO
    cum_value: Decimal = ZERO
    fills: int = 0

    @property
    def symbol(self) -> str:
        """Symbol of the order."""
        return self.request.symbol

    @property
    def side(self) -> Side:
        """Side of the order."""
        return self.request.side

    @property
    def is_quote_sized(self) -> bool:
        """True when its quantity is an amount of quote coin."""
        return isinstance(self.request, MarketOrder) and self.request.quote_sized

    @property
    def is_untriggered(self) -> bool:
        """True until its trigger price is met; False for an order without a trigger."""
        return self.request.order_type in _CONDITIONAL and not self.is_triggered

    @property
    def time_in_force(self) -> TimeInForce:
        """Time in force; IOC for market orders, triggered or plain."""
        return TimeInForce.IOC if self.limit_price is None else self.request.time_in_force

    @property
    def may_rest(self) -> bool:
        """True when the remainder that does not trade at once stays open."""
        return self.time_in_force in (TimeInForce.GTC, TimeInForce.POST_ONLY)

    @property
    def open_status(self) -> VenueStatus:
        """The venue's status of the order while it is open."""
        if self.is_untriggered:
            return VenueStatus.UNTRIGGERED
        return VenueStatus.PARTIALLY_FILLED if self.cum_quantity else VenueStatus.NEW

    def crosses(self, price: Decimal) -> bool:
        """True when it may trade at ``price``."""
        return self.limit_price is None or (self.limit_price - price) * self.side.sign >= 0

    def is_fired_by(self, price: Decimal) -> bool:
        """True when ``price`` meets the trigger: a stop is crossed in its own direction, an if-touched order in the
        other.
        """
        if self.stop_price is None:
            return False
        direction = -1 if self.request.order_type is OrderType.IF_TOUCHED else 1
        return (price - self.stop_price) * self.side.sign * direction >= 0

    def wants(self, price: Decimal) -> Decimal:
        """Remaining quantity in base coin when traded at ``price``."""
        if not self.is_quote_sized:
            return self.quantity - self.cum_quantity
        left = (self.quantity - self.cum_value) / price
        return left // self.base_step * self.base_step

    def after(self, quantity: Decimal, price: Decimal) -> PaperOrder:
        """The order after ``quantity`` has traded at ``price``."""
        return attrs.evolve(
            self,
            cum_quantity=self.cum_quantity + quantity,
            cum_value=self.cum_value + quantity * price,
            fills=self.fills + 1,
        )


@attrs.frozen
class _Quote:
    """Last price and the quantity that can still trade at it; None is unlimited."""

    price: Decimal
    liquidity: Decimal | None = None

    def less(self, quantity: Decimal) -> _Quote:
        return self if self.liquidity is None else attrs.evolve(self, liquidity=self.liquidity - quantity)

    def up_to(self, quantity: Decimal) -> Decimal:
        return quantity if self.liquidity is None else min(quantity, self.liquidity)


class PaperMarket:
    """All open orders and the last price of each symbol.

    ``coins_of(symbol)`` -> (base, quote) is needed where fees or balances are kept; a base of "" means that quantities
    are contracts, which need no coin to hold. ``balances`` (coin -> total) enables the check that an order can be paid;
    None is an account without a limit.
    """

    def __init__(
        self,
        *,
        fees: FeeRates,
        coins_of: Callable[[str], Coins | None],
        balances: Mapping[str, Decimal] | None = None,
        rules_of: Callable[[str], InstrumentRules | None] = lambda _symbol: None,
        id_prefix: str = "paper",
    ) -> None:
        self._rules_of = rules_of
        self._id_prefix = id_prefix
        self._fees = fees
        self._coins_of = coins_of
        self._totals = None if balances is None else dict(balances)
        self._working: dict[str, PaperOrder] = {}
        self._quotes: dict[str, _Quote] = {}
        self._net: dict[str, Decimal] = {}  # position per symbol from our own fills
        self._placed = 0
        self._ranks = 0
        self._version_ms = 0

    def check(self, request: OrderRequest) -> None:
        """Raise InvalidRequestError for an order type that this market cannot match; the venue's rules are checked by
        the caller.
        """
        if request.time_in_force is TimeInForce.DAY:
            raise InvalidRequestError("time_in_force DAY is unknown at the venue; use GTC and cancel when the day ends")
        if isinstance(request, LimitOrder) and (request.take_profit is not None or request.stop_loss is not None):
            raise InvalidRequestError(
                "attached exits are not matched here: send them as orders once the entry has filled"
            )
        base_coin = (self._coins_of(request.symbol) or ("", ""))[0]
        if request.reduce_only and base_coin:
            raise InvalidRequestError("spot has no positions, so an order there cannot be reduce_only")
        if (self._fees or self._totals is not None) and self._coins_of(request.symbol) is None:
            raise InvalidRequestError(
                f"cannot tell base and quote coin of {request.symbol!r}, which fees and balances need: give the paper "
                'broker coins={"' + request.symbol + '": ("BASE", "QUOTE")}'
            )

    def place(self, request: OrderRequest, client_order_id: str, now_ms: int) -> list[Row]:
        """Accept an order that `check` passed; raises RefusedByMarketError when the balances do not cover it."""
        order = self._order_for(request, client_order_id, now_ms)
        quote = self._quotes.get(order.symbol)
        if quote is None and not order.is_untriggered and order.may_rest:
            order = attrs.evolve(order, has_arrived=True)
        if order.has_arrived or (quote is not None and not order.is_untriggered):
            self._require_funds(order, ZERO if quote is None else quote.price)
        self._placed += 1
        self._working[client_order_id] = order
        rows: list[Row] = [self._report(order, order.open_status, now_ms)]
        if not order.is_untriggered and quote is not None:
            rows += self._arrive(order, now_ms)
        return rows

    def _order_for(self, request: OrderRequest, client_order_id: str, now_ms: int) -> PaperOrder:
        rules = self._rules_of(request.symbol)
        return PaperOrder(
            client_order_id=client_order_id,
            broker_order_id=self.next_broker_order_id,
            request=request,
            quantity=request.quantity,
            limit_price=getattr(request, "limit_price", None),
            stop_price=getattr(request, "stop_price", None) or getattr(request, "trigger_price", None),
            rank=self._next_rank(),
            base_step=(None if rules is None else rules.quantity_step) or _BASE_STEP,
            created_ms=now_ms,
        )

    @property
    def next_broker_order_id(self) -> str:
        """Id that the next accepted order will have."""
        return f"{self._id_prefix}-{self._placed + 1}"

    def cancel(self, client_order_id: str, now_ms: int) -> list[Row]:
        """Cancel an open order; raises RefusedByMarketError when it is not open."""
        return [self._end(self._order_at_work(client_order_id), "CancelByUser", now_ms)]

    def amend(self, client_order_id: str, changes: OrderModification, now_ms: int) -> list[Row]:
        """Change terms of an open order (see `check_changes`); raises RefusedByMarketError when refused.

        The order keeps its queue position only if nothing but its quantity decreases.
        """
        order = self._order_at_work(client_order_id)
        changed = attrs.evolve(
            order,
            quantity=changes.new_quantity or order.quantity,
            limit_price=changes.new_limit_price or order.limit_price,
            stop_price=changes.new_stop_price or order.stop_price,
        )
        self._refuse_amend(order, changed)
        if (changed.limit_price, changed.stop_price) != (order.limit_price, order.stop_price) or (
            changed.quantity > order.quantity
        ):
            changed = attrs.evolve(changed, rank=self._next_rank())
        self._working[client_order_id] = changed
        rows: list[Row] = [self._report(changed, changed.open_status, now_ms)]
        quote = self._quotes.get(changed.symbol)
        if changed.has_arrived and quote is not None and changed.limit_price != order.limit_price:
            rows += self._arrive(changed, now_ms) if changed.crosses(quote.price) else []
        return rows

    def _refuse_amend(self, order: PaperOrder, changed: PaperOrder) -> None:
        quote = self._quotes.get(order.symbol)
        if changed.quantity <= order.cum_quantity:
            raise RefusedByMarketError(f"new_quantity must be above the {to_wire(order.cum_quantity)} already traded")
        if changed.stop_price != order.stop_price:
            if order.is_triggered:
                raise RefusedByMarketError("the order has triggered: its stop price is history")
            if quote is not None and changed.is_fired_by(quote.price):
                raise RefusedByMarketError("the new trigger is already crossed")
        if not order.has_arrived:
            return
        is_maker_only = changed.request.time_in_force is TimeInForce.POST_ONLY
        if is_maker_only and quote is not None and changed.crosses(quote.price):
            raise RefusedByMarketError("EC_PostOnlyWillTakeLiquidity")
        self._require_funds(changed, ZERO if quote is None else quote.price)

    def _order_at_work(self, client_order_id: str) -> PaperOrder:
        order = self._working.get(client_order_id)
        if order is None:
            raise RefusedByMarketError("the order has ended")
        return order

    def trade(self, symbol: str, price: Decimal, liquidity: Decimal | None, now_ms: int) -> list[Row]:
        """Set the price of a symbol, with ``liquidity`` to trade at it, and match: resting orders first, then arriving
        ones.
        """
        self._quotes[symbol] = _Quote(price, liquidity)
        working = sorted(
            (order for order in self._working.values() if order.symbol == symbol), key=lambda order: order.rank
        )
        reached = [order for order in working if order.has_arrived and order.crosses(price)]
        arriving = [order for order in working if not order.has_arrived]
        rows: list[Row] = []
        for order in sorted(reached, key=lambda order: -order.side.sign * (order.limit_price or ZERO)):
            rows += self._fill_resting(order, now_ms)
        for order in arriving:
            if not order.is_untriggered:
                rows += self._arrive(order, now_ms)
            elif order.is_fired_by(price):
                fired = attrs.evolve(order, is_triggered=True)
                rows += [self._report(fired, VenueStatus.TRIGGERED, now_ms), *self._arrive(fired, now_ms)]
        return rows

    def _fill_resting(self, order: PaperOrder, now_ms: int) -> list[Row]:
        assert order.limit_price is not None  # only limit orders rest
        quantity = self._quotes[order.symbol].up_to(self._may_trade(order, order.limit_price))
        rows = self._execute(order, quantity, order.limit_price, now_ms, is_maker=True) if quantity else []
        return [*rows, *self._end_if_nothing_to_reduce(order, now_ms)]

    def _may_trade(self, order: PaperOrder, price: Decimal) -> Decimal:
        """Remaining quantity in base coin; for a reduce-only order at most the position it can reduce."""
        wanted = order.wants(price)
        return min(wanted, self._reducible(order)) if order.request.reduce_only else wanted

    def _reducible(self, order: PaperOrder) -> Decimal:
        return max(ZERO, -order.side.sign * self._net.get(order.symbol, ZERO))

    def _end_if_nothing_to_reduce(self, order: PaperOrder, now_ms: int) -> list[Row]:
        left = self._working.get(order.client_order_id)
        if left is None or not order.request.reduce_only or self._reducible(order):
            return []
        return [self._end(left, "CancelByReduceOnly", now_ms)]

    def _arrive(self, order: PaperOrder, now_ms: int) -> list[Row]:
        """Match an arriving order at the current price, then rest or end it with the remainder."""
        quote = self._quotes[order.symbol]
        order = attrs.evolve(order, has_arrived=True)
        self._working[order.client_order_id] = order
        try:
            self._require_funds(order, quote.price)
        except RefusedByMarketError as error:
            return [self._end(order, str(error), now_ms)]
        wanted = self._may_trade(order, quote.price)
        available = quote.up_to(wanted) if order.crosses(quote.price) else ZERO
        if order.time_in_force is TimeInForce.POST_ONLY and order.crosses(quote.price):
            return [self._end(order, "EC_PostOnlyWillTakeLiquidity", now_ms)]
        if order.time_in_force is TimeInForce.FOK and available < wanted:
            return [self._end(order, "EC_NoEnoughQtyToFill", now_ms)]
        rows = self._execute(order, available, quote.price, now_ms, is_maker=False) if available else []
        rows += self._end_if_nothing_to_reduce(order, now_ms)
        left = self._working.get(order.client_order_id)
        if left is not None and not order.may_rest:
            reason = "EC_NoEnoughQtyToFill" if left.cum_quantity else "EC_NoImmediateQtyToFill"
            rows.append(self._end(left, reason, now_ms))
        return rows

    def _execute(
        self, order: PaperOrder, quantity: Decimal, price: Decimal, now_ms: int, *, is_maker: bool
    ) -> list[Row]:
        """One fill and the order row after it: final when nothing is left."""
        coins = self._coins_of(order.symbol) or ("", "")
        fee = self._fees.charge(order.side, quantity, price, coins, is_maker=is_maker)
        filled = order.after(quantity, price)
        is_done = not filled.wants(price)
        self._quotes[order.symbol] = self._quotes[order.symbol].less(quantity)
        self._settle(order.side, quantity, price, coins, fee)
        self._net[order.symbol] = self._net.get(order.symbol, ZERO) + order.side.sign * quantity
        execution = Execution(
            exec_id=f"{order.client_order_id}.{filled.fills}",
            broker_order_id=order.broker_order_id,
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            price=price,
            quantity=quantity,
            fee=fee.amount,
            fee_currency=fee.coin if fee.amount else "",
            is_maker=is_maker,
            exec_time_ms=now_ms,
            order_quantity=None if order.is_quote_sized else order.quantity,
            leaves_quantity=None if order.is_quote_sized else filled.quantity - filled.cum_quantity,
            order_type=order.request.order_type,
            seq=self._version_ms,
        )
        if not is_done:
            self._working[order.client_order_id] = filled
            return [execution, self._report(filled, VenueStatus.PARTIALLY_FILLED, now_ms)]
        del self._working[order.client_order_id]
        if filled.is_quote_sized and filled.cum_value < filled.quantity and filled.side is Side.BUY:
            return [
                attrs.evolve(
                    self._report(filled, VenueStatus.PARTIALLY_FILLED_CANCELED, now_ms), is_remainder_cancelled=True
                ),
                execution,
            ]
        return [self._report(filled, VenueStatus.FILLED, now_ms), execution]

    def _end(self, order: PaperOrder, reason: str, now_ms: int) -> OrderReport:
        del self._working[order.client_order_id]
        status = VenueStatus.PARTIALLY_FILLED_CANCELED if order.cum_quantity else VenueStatus.CANCELLED
        return attrs.evolve(self._report(order, status, now_ms), reason=reason)

    @property
    def totals(self) -> Mapping[str, Decimal] | None:
        """Coin -> balance, None for an account without a limit."""
        return None if self._totals is None else dict(self._totals)

    def locked(self, coin: str) -> Decimal:
        """Amount of ``coin`` that resting orders reserve."""
        return self._locked_by_others(coin, "")

    def _locked_by_others(self, coin: str, client_order_id: str) -> Decimal:
        needs = (
            self._need(order, ZERO) for order in self._working.values() if order.client_order_id != client_order_id
        )
        return sum((need.amount for need in needs if need.coin == coin), ZERO)

    def _need(self, order: PaperOrder, price: Decimal) -> Fee:
        """Amount that an order needs to trade in full; zero before it arrived, unless it arrives at ``price``."""
        base, quote = self._coins_of(order.symbol) or ("", "")
        if not base or not (order.has_arrived or price):
            return Fee()
        if order.side is Side.SELL:
            return Fee(order.wants(price) if price else order.quantity - order.cum_quantity, base)
        if order.is_quote_sized:
            return Fee(order.quantity - order.cum_value, quote)
        return Fee((order.quantity - order.cum_quantity) * (order.limit_price or price), quote)

    def _require_funds(self, order: PaperOrder, price: Decimal) -> None:
        if self._totals is None:
            return
        need = self._need(order, price)
        available = self._totals.get(need.coin, ZERO) - self._locked_by_others(need.coin, order.client_order_id)
        if need.amount > available:
            raise RefusedByMarketError(
                f"insufficient balance: needs {to_wire(need.amount)} {need.coin}, available {to_wire(available)}"
            )

    def _settle(self, side: Side, quantity: Decimal, price: Decimal, coins: Coins, fee: Fee) -> None:
        if self._totals is None:
            return
        base, quote = coins
        moves = [(fee.coin, -fee.amount)] if fee.amount else []
        if base:
            moves += [(base, side.sign * quantity), (quote, -side.sign * quantity * price)]
        for coin, amount in moves:
            self._totals[coin] = self._totals.get(coin, ZERO) + amount

    def _report(self, order: PaperOrder, status: VenueStatus, now_ms: int) -> OrderReport:
        # Every row has a later update time than the last one, even if the clock stands still: terms are ordered by it.
        self._version_ms = max(now_ms, self._version_ms + 1)
        return OrderReport(
            broker_order_id=order.broker_order_id,
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            status=status,
            venue_status=status.value,
            order_type=order.request.order_type,
            time_in_force=order.request.time_in_force.value,
            quantity=order.quantity,
            quote_sized=order.is_quote_sized,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
            cum_quantity=order.cum_quantity,
            avg_price=order.cum_value / order.cum_quantity if order.cum_quantity else None,
            created_ms=order.created_ms,
            updated_ms=self._version_ms,
        )

    def _next_rank(self) -> int:
        self._ranks += 1
        return self._ranks

    @property
    def working(self) -> int:
        """Number of open orders."""
        return len(self._working)

    @property
    def prices(self) -> Mapping[str, Decimal]:
        """Symbol -> last price fed."""
        return {symbol: quote.price for symbol, quote in self._quotes.items()}
