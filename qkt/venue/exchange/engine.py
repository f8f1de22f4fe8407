"""The matching engine: the only place where orders, books and wallets change.

A command runs to its end under the venue's lock: it settles trades, updates locked amounts, closes finished orders,
writes the journal and passes the changes to the outbox. Clock and seed are arguments, so the same commands give the
same venue. What a client can read, and when, is decided in `queries` and by the faults.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from random import Random

from .accounts import Account, Order
from .book import Book, Sweep, Trade
from .executions import Execution
from .identifiers import Identifiers
from .instruments import Instrument
from .journal import Journal
from .ledger import Ledger
from .linear.margin import Margin
from .money import ZERO, wire
from .outbox import Outbox
from .retcodes import Refusal
from .rows import stop_order_type

_PROTECTION = Decimal("0.05")
_ID_STEP = 256  # a generated spot link id is orderId + 1, so ids must be further apart than that


class Engine:
    """Matches orders and settles trades."""

    def __init__(self, now_ms: Callable[[], int], seed: int, instruments: Sequence[Instrument]) -> None:
        self.now_ms = now_ms
        self.random: Random = Random(seed)
        self.books: dict[tuple[str, str], Book] = {instrument.key: Book(instrument) for instrument in instruments}
        for book in self.books.values():
            book.tape.price(now_ms(), book.last_price)
        self.journal: Journal = Journal(now_ms)
        self.margin: Margin = Margin(self.books, self.price_in_usd)
        self.outbox: Outbox = Outbox(now_ms, self.margin, self.random)
        self.house: Account = Account("house", "", 0, ZERO, ZERO)
        self.fee_pot: Account = Account("fees", "", 1, ZERO, ZERO)
        self.listeners: list[Callable[[Book, str, Decimal, Decimal, int], None]] = []
        self.ids: Identifiers = Identifiers(self.random, seed)
        self._priority = 0
        self.ledgers: dict[str, Ledger] = {}
        self.on_closed: Callable[[Order], None] = lambda _: None

    def place(self, order: Order) -> None:
        """Accept a validated order: lock its funds, give it an id, then match it or let it wait.

        Raises:
            Refusal: 170131 or 110007 when the wallet cannot pay for it.
        """
        waits = bool(order.trigger_price)
        ledger = self.ledger_of(order)
        needed = ZERO if order.order_filter == "StopOrder" and waits else ledger.needs(order)
        if needed > ledger.spendable(order):
            raise Refusal(ledger.insufficient)
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
        order.number = self.ids.next_order()
        if order.is_linear:
            order.order_id = self.ids.uuid()
        else:
            number = self.ids.spot_order()
            order.order_id = str(number)
            order.link_id = order.link_id or str(number + 1)
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
        """Match an order, then rest or cancel the remainder."""
        book = self.books[order.instrument.key]
        order.status = "New"
        if order.time_in_force in ("PostOnly", "RPI") and book.would_take(order.side, order.price):
            self.close(order, "Cancelled", reject_reason="EC_PostOnlyWillTakeLiquidity")
            return
        if not self.ledger_of(order).prepare(order):
            return
        plan = self.plan(order)
        if order.time_in_force == "FOK" and plan.quantity < order.leaves_quantity:
            self.close(order, "Cancelled", reject_reason="EC_NoEnoughQtyToFill")
            return
        self.hold(order, ZERO)
        while self._execute(order, plan):
            plan = self.plan(order)
        if self._is_complete(order):
            self.close(order, "Filled")
        elif plan.stopped_by is not None:
            self.cancel(order, cancel_type="CancelBySmp", reject_reason="EC_BySelfMatch")
        elif order.order_type == "Market" or order.time_in_force in ("IOC", "FOK"):
            self._close_remainder(order, plan)
        else:
            self.rest(order)

    def rest(self, order: Order) -> None:
        """Put an order on the book and lock its funds."""
        self._priority += 1
        order.priority = self._priority
        order.status = "PartiallyFilled" if order.cum_quantity else "New"
        self.hold(order, self.funds_needed(order))
        self.books[order.instrument.key].add(order)
        self.changed(order)

    def cancel(self, order: Order, *, cancel_type: str, reject_reason: str = "EC_PerCancelRequest") -> None:
        """Cancel an open order; its final status depends on its fills and its kind."""
        if order.is_conditional:
            status = "Deactivated"
        else:
            self.books[order.instrument.key].remove(order)
            status = self.ledger_of(order).cancelled_as(order)
        self.close(order, status, cancel_type=cancel_type, reject_reason=reject_reason)

    def amend(self, order: Order, *, quantity: Decimal, price: Decimal, trigger_price: Decimal) -> None:
        """Change an open order to absolute values; when it now crosses the book it trades as taker.

        Raises:
            Refusal: 170131 or 110007 when the wallet cannot pay for the larger order.
        """
        book = self.books[order.instrument.key]
        before = (order.quantity, order.price, order.trigger_price)
        keeps_place = price == order.price and quantity <= order.quantity
        if not order.is_conditional:
            book.remove(order)
        order.quantity, order.price, order.trigger_price = quantity, price, trigger_price
        holds = order.locked > 0 or not order.is_conditional
        needed = self.funds_needed(order) if holds else ZERO
        ledger = self.ledger_of(order)
        if needed > order.locked and needed - order.locked > ledger.spendable(order):
            order.quantity, order.price, order.trigger_price = before
            if not order.is_conditional:
                book.add(order)
            raise Refusal(ledger.insufficient)
        if order.is_conditional:
            if trigger_price != before[2] and not order.is_linear:
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
        """Fill a resting order against the house."""
        ledger = self.ledger_of(order)
        quantity = ledger.fillable(order, quantity)
        if quantity <= 0:
            return
        ledger.settle(order, Trade(price, quantity, order), self.ids.next_seq(), is_maker=True)
        ledger.settle_house(order, quantity, price)
        self._after_maker_fill(order)
        book = self.books[order.instrument.key]
        self.told_trade(book, "Sell" if order.is_buy else "Buy", price, quantity)

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
        if volume:  # the volume that no client order took is traded between counterparties
            self.told_trade(book, "Buy" if price >= book.last_price else "Sell", price, volume)
        book.last_price = price
        book.high, book.low = max(book.high, price), min(book.low, price)
        book.update_id += 1
        book.tape.price(self.now_ms(), price)

    def plan(self, order: Order) -> Sweep:
        """The plan of the order against the present book."""
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

    def ledger_of(self, order: Order) -> Ledger:
        return self.ledgers[order.instrument.category]

    def funds_needed(self, order: Order) -> Decimal:
        """The amount an order locks, in its lock coin."""
        return self.ledger_of(order).needs(order)

    def hold(self, order: Order, amount: Decimal) -> None:
        if amount != order.locked:
            order.account.lock(order, amount)
            self.outbox.coin(order.account, order.lock_coin)

    def changed(self, order: Order) -> None:
        """Set the time of a change, keep a copy of the state and queue its frame."""
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
        self.ledger_of(order).after_change(order)

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

    def _execute(self, order: Order, plan: Sweep) -> bool:
        """Settle a plan; True when a maker had less than planned, so that another plan is needed."""
        fell_short = False
        for maker in plan.cancelled_makers:
            self.cancel(maker, cancel_type="CancelBySmp", reject_reason="EC_BySelfMatch")
        seq = self.ids.next_seq() if plan.trades else 0
        book = self.books[order.instrument.key]
        ledger = self.ledger_of(order)
        for trade in plan.trades:
            if trade.maker is not None:
                planned = trade.quantity
                trade.quantity = ledger.fillable(trade.maker, planned)
                fell_short |= trade.quantity < planned
                if trade.quantity <= 0:
                    continue
            ledger.settle(order, trade, seq, is_maker=False)
            if trade.maker is None:
                ledger.settle_house(order, trade.quantity, trade.price)
            else:
                ledger.settle(trade.maker, trade, seq, is_maker=True)
                self._after_maker_fill(trade.maker)
            ledger.after_fill(order)
            self.told_trade(book, order.side, trade.price, trade.quantity)
        return fell_short

    def _after_maker_fill(self, order: Order) -> None:
        if self._is_complete(order):
            self.books[order.instrument.key].remove(order)
            self.close(order, "Filled")
        else:
            order.status = "PartiallyFilled"
            self.hold(order, self.funds_needed(order))
            self.changed(order)
        self.ledger_of(order).after_fill(order)

    def _close_remainder(self, order: Order, plan: Sweep) -> None:
        """Cancel the remainder of an immediate order, with the reason: no quantity left, or none within the limit."""
        too_dear = plan.reached_limit and order.order_type == "Market"
        if order.cum_quantity:
            reason = "EC_ReachRiskPriceLimit" if too_dear else "EC_CancelForNoFullFill"
            self.close(order, self.ledger_of(order).cancelled_as(order), reject_reason=reason)
        else:
            reason = "EC_ReachRiskPriceLimit" if too_dear else "EC_NoImmediateQtyToFill"
            self.close(order, "Cancelled", reject_reason=reason)

    def _is_complete(self, order: Order) -> bool:
        return order.cum_value == order.quantity if order.in_quote else order.cum_quantity == order.quantity

    def record(
        self,
        order: Order,
        *,
        price: Decimal,
        quantity: Decimal,
        fee: Decimal,
        fee_coin: str,
        rate: Decimal,
        seq: int,
        is_maker: bool,
        exec_type: str = "Trade",
        closed_size: Decimal = ZERO,
        profit: Decimal = ZERO,
    ) -> Execution:
        """Add an execution to the account of an order."""
        book = self.books[order.instrument.key]
        execution = Execution(
            exec_id=self.ids.uuid() if order.is_linear else str(self.ids.spot_execution()),
            number=self.ids.next_execution(),
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
            value=price * quantity,
            fee=fee,
            fee_coin=fee_coin,
            fee_rate=rate,
            is_maker=is_maker,
            time_ms=self.now_ms(),
            exec_type=exec_type,
            create_type=order.create_type,
            closed_size=closed_size,
            profit=profit,
            mark_price=book.mark_price,
            index_price=book.index_price,
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
        return execution

    def told_trade(self, book: Book, taker_side: str, price: Decimal, quantity: Decimal) -> None:
        book.volume += quantity
        book.turnover += price * quantity
        book.update_id += 1
        book.tape.trade(self.now_ms(), taker_side, price, quantity, self.ids.seq)
        for listener in self.listeners:
            listener(book, taker_side, price, quantity, self.ids.seq)
