"""The matching engine: the only place where orders, books and wallets change.

Every command runs to its end at once, under the venue's lock: settle the trades, update locks, close what is done,
note it in the journal, and put what changed into the outbox. Time, ids and chance come from outside or from the seed,
so the same commands give the same venue. What a client may *see*, and when, is decided elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from random import Random

from .accounts import Account, Order
from .book import Book, Sweep, Trade
from .executions import Execution
from .instruments import Instrument
from .journal import Journal
from .money import ZERO, wire
from .outbox import Outbox
from .retcodes import Refusal
from .rows import stop_order_type

_PROTECTION = Decimal("0.05")
_ID_STEP = 256  # a generated spot link id is orderId + 1, so neighbours must keep their distance


class Engine:
    """Books, accounts and the rules by which orders meet."""

    def __init__(self, now_ms: Callable[[], int], seed: int, instruments: list[Instrument]) -> None:
        self.now_ms = now_ms
        self.random = Random(seed)
        self.books = {instrument.key: Book(instrument) for instrument in instruments}
        for book in self.books.values():
            book.tape.price(now_ms(), book.last_price)
        self.journal = Journal(now_ms)
        self.outbox = Outbox(now_ms, self.price_in_usd, self.random)
        self.house = Account("house", "", 0, ZERO, ZERO)
        self.fee_pot = Account("fees", "", 1, ZERO, ZERO)
        self.listeners: list[Callable[[Book, str, Decimal, Decimal, int], None]] = []
        self._order_number = 2_000_000_000_000_000_000 + self.random.randrange(10**9) * _ID_STEP
        self._exec_number = 2_290_000_000_000_000_000 + self.random.randrange(10**9)
        self._seq = 118_000_000_000 + self.random.randrange(10**6)
        self._executions = 0
        self._priority = 0
        self.on_closed: Callable[[Order], None] = lambda _: None

    # -- commands ------------------------------------------------------------------------------------------------

    def place(self, order: Order) -> None:
        """Accept a validated order: hold its funds, give it an id, and let it wait or match.

        Raises:
            Refusal: 170131 when the wallet cannot pay for it.
        """
        waits = bool(order.trigger_price)
        needed = ZERO if order.order_filter == "StopOrder" and waits else self.funds_needed(order)
        if needed > order.account.available(order.lock_coin):
            raise Refusal(170131)
        self.register(order)
        if waits:
            order.status = "Untriggered"
            self.hold(order, needed)
            self.changed(order)
        else:
            self.activate(order)

    def register(self, order: Order) -> None:
        """Give an order its id, its times and its place in the account."""
        now_ms = self.now_ms()
        book = self.books[order.instrument.key]
        self._order_number += _ID_STEP
        order.order_id = str(self._order_number)
        order.link_id = order.link_id or str(self._order_number + 1)
        order.created_ms = order.updated_ms = now_ms
        order.last_on_created = book.last_price
        order.account.book_order(order)
        self.journal.note(
            "order placed",
            order.account.key,
            orderId=order.order_id,
            orderLinkId=order.link_id,
            symbol=order.instrument.symbol,
            side=order.side,
            orderType=order.order_type,
            qty=wire(order.quantity),
            price=wire(order.price),
            outside=order.outside,
        )

    def activate(self, order: Order) -> None:
        """Bring an order to the market: match what it meets, rest or cancel what remains."""
        book = self.books[order.instrument.key]
        order.status = "New"
        if order.time_in_force in ("PostOnly", "RPI") and book.would_take(order.side, order.price):
            self.close(order, "Cancelled", reject_reason="EC_PostOnlyWillTakeLiquidity")
            return
        plan = self.plan(order)
        if order.time_in_force == "FOK" and plan.quantity < order.leaves_quantity:
            self.close(order, "Cancelled", reject_reason="EC_NoEnoughQtyToFill")
            return
        self.hold(order, ZERO)
        self._execute(order, plan)
        if self._is_complete(order):
            self.close(order, "Filled")
        elif plan.stopped_by is not None:
            self.cancel(order, cancel_type="CancelBySmp", reject_reason="EC_BySelfMatch")
        elif order.order_type == "Market" or order.time_in_force in ("IOC", "FOK"):
            self._close_remainder(order, plan)
        else:
            self.rest(order)

    def rest(self, order: Order) -> None:
        """Put an order (back) on the book and hold what it may have to pay."""
        self._priority += 1
        order.priority = self._priority
        order.status = "PartiallyFilled" if order.cum_quantity else "New"
        self.hold(order, self.funds_needed(order))
        self.books[order.instrument.key].add(order)
        self.changed(order)

    def cancel(self, order: Order, *, cancel_type: str, reject_reason: str = "EC_PerCancelRequest") -> None:
        """End an open order; what it becomes depends on what it had done."""
        if order.is_conditional:
            status = "Deactivated"
        else:
            self.books[order.instrument.key].remove(order)
            status = "PartiallyFilledCanceled" if order.cum_quantity else "Cancelled"
        self.close(order, status, cancel_type=cancel_type, reject_reason=reject_reason)

    def amend(self, order: Order, *, quantity: Decimal, price: Decimal, trigger_price: Decimal) -> None:
        """Change an open order to absolute values; it may now cross, and then it takes.

        Raises:
            Refusal: 170131 when the wallet cannot pay for the larger order.
        """
        book = self.books[order.instrument.key]
        before = (order.quantity, order.price, order.trigger_price)
        keeps_place = price == order.price and quantity <= order.quantity
        if not order.is_conditional:
            book.remove(order)
        order.quantity, order.price, order.trigger_price = quantity, price, trigger_price
        holds = order.locked > 0 or not order.is_conditional
        needed = self.funds_needed(order) if holds else ZERO
        if needed - order.locked > order.account.available(order.lock_coin):
            order.quantity, order.price, order.trigger_price = before
            if not order.is_conditional:
                book.add(order)
            raise Refusal(170131)
        if order.is_conditional:
            if trigger_price != before[2]:
                order.trigger_rises = trigger_price > book.last_price
            self.hold(order, needed)
            self.changed(order)
        elif quantity <= order.cum_quantity and not order.in_quote:
            self.close(order, "Filled")
        elif book.would_take(order.side, price):
            self.activate(order)
        elif keeps_place:
            self.hold(order, needed)
            book.add(order)
            self.changed(order)
        else:
            self.rest(order)

    def fill(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        """A counterparty trades with a resting order."""
        self._settle(order, Trade(price, quantity, order), self._next_seq(), is_maker=True)
        self._settle_house(order, quantity, price)
        self._after_maker_fill(order)
        book = self.books[order.instrument.key]
        self._told_trade(book, "Sell" if order.is_buy else "Buy", price, quantity)

    def move_price(self, book: Book, price: Decimal, volume: Decimal | None = None) -> None:
        """The market moves towards a price and trades with every resting order it touches on the way.

        Args:
            volume: how much trades in all; an order that outlasts it holds the price. None: as much as it takes.
        """
        for order in book.crossed(price):
            quantity = order.leaves_quantity if volume is None else min(order.leaves_quantity, volume)
            if quantity > 0:
                self.fill(order, quantity, order.price)
            if volume is not None:
                volume -= quantity
            if order.is_open:
                price = order.price
                break
        if volume:  # what no client's order took, counterparties trade among themselves
            self._told_trade(book, "Buy" if price >= book.last_price else "Sell", price, volume)
        book.last_price = price
        book.high, book.low = max(book.high, price), min(book.low, price)
        book.update_id += 1
        book.tape.price(self.now_ms(), price)

    # -- the parts of a command ----------------------------------------------------------------------------------

    def plan(self, order: Order) -> Sweep:
        """What the order would trade right now."""
        book = self.books[order.instrument.key]
        limit = order.price if order.order_type == "Limit" else self.protective_price(order)
        if order.in_quote:
            return book.sweep(order, limit, base=None, quote=order.quantity - order.cum_value)
        return book.sweep(order, limit, base=order.quantity - order.cum_quantity, quote=None)

    def protective_price(self, order: Order) -> Decimal:
        """A market order is a limit order: 5 % away (captured), or as far as its own slippage tolerance allows."""
        book = self.books[order.instrument.key]
        sign = 1 if order.is_buy else -1
        best = book.best_ask() if order.is_buy else book.best_bid()
        if order.slippage_type == "TickSize":
            return best + sign * order.slippage * order.instrument.tick
        if order.slippage_type == "Percent":
            return best * (1 + sign * order.slippage / 100)
        return book.last_price * (1 + sign * _PROTECTION)

    def funds_needed(self, order: Order) -> Decimal:
        """What an order must hold back in its lock coin; fees are taken from what it receives."""
        if not order.is_buy:
            return self.plan(order).quantity if order.in_quote else order.quantity - order.cum_quantity
        if order.in_quote:
            return order.quantity - order.cum_value
        if order.order_type == "Limit":
            return order.price * (order.quantity - order.cum_quantity)
        if order.trigger_price and order.order_filter != "StopOrder":
            return order.trigger_price * order.quantity
        return self.plan(order).value

    def hold(self, order: Order, amount: Decimal) -> None:
        if amount != order.locked:
            order.account.lock(order, amount)
            self.outbox.coin(order.account, order.lock_coin)

    def changed(self, order: Order) -> None:
        """Stamp, remember and tell a new state."""
        now_ms = self.now_ms()
        order.updated_ms = now_ms
        order.remember(now_ms)
        self.journal.note(
            "order",
            order.account.key,
            orderId=order.order_id,
            orderLinkId=order.link_id,
            orderStatus=order.status,
            cumExecQty=wire(order.cum_quantity),
            qty=wire(order.quantity),
            price=wire(order.price),
            cancelType=order.cancel_type,
            rejectReason=order.reject_reason,
        )
        self.outbox.order(order)

    def close(
        self, order: Order, status: str, *, cancel_type: str = "UNKNOWN", reject_reason: str = "EC_NoError"
    ) -> None:
        order.status, order.cancel_type, order.reject_reason = status, cancel_type, reject_reason
        order.closed_ms = self.now_ms()
        self.hold(order, ZERO)
        order.account.open_orders.pop(order.order_id, None)
        order.account.cache_closed(order)
        self.changed(order)
        self.on_closed(order)

    def price_in_usd(self, coin: str) -> Decimal:
        if coin in ("USDT", "USDC"):
            return Decimal(1)
        book = self.books.get(("spot", f"{coin}USDT"))
        return book.last_price if book else ZERO

    def _execute(self, order: Order, plan: Sweep) -> None:
        for maker in plan.cancelled_makers:
            self.cancel(maker, cancel_type="CancelBySmp", reject_reason="EC_BySelfMatch")
        seq = self._next_seq() if plan.trades else 0
        book = self.books[order.instrument.key]
        for trade in plan.trades:
            self._settle(order, trade, seq, is_maker=False)
            if trade.maker is None:
                self._settle_house(order, trade.quantity, trade.price)
            else:
                self._settle(trade.maker, trade, seq, is_maker=True)
                self._after_maker_fill(trade.maker)
            self._told_trade(book, order.side, trade.price, trade.quantity)

    def _after_maker_fill(self, order: Order) -> None:
        if self._is_complete(order):
            self.books[order.instrument.key].remove(order)
            self.close(order, "Filled")
        else:
            order.status = "PartiallyFilled"
            self.hold(order, self.funds_needed(order))
            self.changed(order)

    def _close_remainder(self, order: Order, plan: Sweep) -> None:
        """What an immediate order could not get: for want of quantity, or because the rest was too dear."""
        too_dear = plan.reached_limit and order.order_type == "Market"
        if order.cum_quantity:
            reason = "EC_ReachRiskPriceLimit" if too_dear else "EC_CancelForNoFullFill"
            self.close(order, "PartiallyFilledCanceled", reject_reason=reason)
        else:
            reason = "EC_ReachRiskPriceLimit" if too_dear else "EC_NoImmediateQtyToFill"
            self.close(order, "Cancelled", reject_reason=reason)

    def _is_complete(self, order: Order) -> bool:
        return order.cum_value == order.quantity if order.in_quote else order.cum_quantity == order.quantity

    def _settle(self, order: Order, trade: Trade, seq: int, *, is_maker: bool) -> None:
        """Book one side of a trade: coins, fee, the order's sums, the execution record."""
        account, instrument = order.account, order.instrument
        price, quantity = trade.price, trade.quantity
        value = price * quantity
        rate = account.maker_fee_rate if is_maker else account.taker_fee_rate
        in_base = order.is_buy != (is_maker and rate < 0)
        fee = (quantity if in_base else value) * rate
        fee_coin = instrument.base if in_base else instrument.quote
        sign = 1 if order.is_buy else -1
        account.balance(instrument.base).total += sign * quantity
        account.balance(instrument.quote).total -= sign * value
        account.balance(fee_coin).total -= fee
        self.fee_pot.balance(fee_coin).total += fee
        order.cum_quantity += quantity
        order.cum_value += value
        order.fees[fee_coin] = order.fees.get(fee_coin, ZERO) + fee
        self._record(order, price, quantity, value, fee, fee_coin, rate, seq, is_maker)
        for coin in (instrument.base, instrument.quote):
            self.outbox.coin(account, coin)

    def _settle_house(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        """The other side of a trade with a synthetic counterparty."""
        sign = 1 if order.is_buy else -1
        self.house.balance(order.instrument.base).total -= sign * quantity
        self.house.balance(order.instrument.quote).total += sign * quantity * price

    def _record(
        self,
        order: Order,
        price: Decimal,
        quantity: Decimal,
        value: Decimal,
        fee: Decimal,
        fee_coin: str,
        rate: Decimal,
        seq: int,
        is_maker: bool,
    ) -> None:
        self._executions += 1
        self._exec_number += 1
        execution = Execution(
            exec_id=str(self._exec_number),
            number=self._executions,
            seq=seq,
            order_id=order.order_id,
            link_id=order.link_id,
            instrument=order.instrument,
            side=order.side,
            order_type=order.order_type,
            stop_order_type=stop_order_type(order),
            market_unit=order.market_unit,
            is_leverage=order.is_leverage,
            order_price=order.price,
            order_quantity=ZERO if order.in_quote else order.quantity,
            leaves_quantity=ZERO if order.in_quote else order.quantity - order.cum_quantity,
            price=price,
            quantity=quantity,
            value=value,
            fee=fee,
            fee_coin=fee_coin,
            fee_rate=rate,
            is_maker=is_maker,
            time_ms=self.now_ms(),
        )
        order.account.book_execution(execution)
        self.journal.note(
            "execution",
            order.account.key,
            execId=execution.exec_id,
            orderId=order.order_id,
            orderLinkId=order.link_id,
            execPrice=wire(price),
            execQty=wire(quantity),
            execFee=wire(fee),
            feeCurrency=fee_coin,
            isMaker=is_maker,
        )
        self.outbox.execution(order.account, execution)

    def _told_trade(self, book: Book, taker_side: str, price: Decimal, quantity: Decimal) -> None:
        book.volume += quantity
        book.turnover += price * quantity
        book.update_id += 1
        book.tape.trade(self.now_ms(), taker_side, price, quantity, self._seq)
        for listener in self.listeners:
            listener(book, taker_side, price, quantity, self._seq)

    def _next_seq(self) -> int:
        self._seq += 1
        return self._seq
