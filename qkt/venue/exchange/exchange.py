"""The commands of the venue, from request parameters to results.

Commands come from clients, from the market and from tests. Not thread-safe and without I/O: the caller holds the lock,
supplies the clock and transports the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal

from .accounts import Account, Order
from .book import Book
from .conditionals import Conditionals
from .engine import Engine
from .instruments import Instrument
from .journal import Journal
from .linear.linear import Linear
from .linear.positions import Position
from .linear.rows import position_row
from .money import ZERO, floor_to_step, wire
from .outbox import Outbox
from .requests import TRADED, Amendment, Body, book_of, category_of, order_filter_of, parse_amend, parse_create
from .retcodes import Refusal, parameter_error
from .rows import Row, execution_row, order_row
from .spot import SpotLedger
from .transactions import Transaction

_FIRST_UID = 90_210_077


class Exchange:
    """One venue: its accounts, its markets and their commands."""

    def __init__(self, now_ms: Callable[[], int], seed: int, instruments: Sequence[Instrument]) -> None:
        self.now_ms = now_ms
        self.engine: Engine = Engine(now_ms, seed, instruments)
        self.engine.ledgers["spot"] = SpotLedger(self.engine)
        self.conditionals: Conditionals = Conditionals(self.engine)
        self.accounts: dict[str, Account] = {}
        self.linear: Linear = Linear(self.engine, self.accounts.values)
        self.journal: Journal = self.engine.journal
        self.outbox: Outbox = self.engine.outbox
        self.books: dict[tuple[str, str], Book] = self.engine.books

    def add_account(
        self,
        key: str,
        secret: str,
        balances: Mapping[str, Decimal],
        *,
        taker_fee_rate: Decimal = Decimal("0.001"),
        maker_fee_rate: Decimal = Decimal("0.001"),
        linear_taker_fee_rate: Decimal = Decimal("0.00055"),
        linear_maker_fee_rate: Decimal = Decimal("0.0002"),
        read_only: bool = False,
    ) -> Account:
        if key in self.accounts:
            raise ValueError(f"account {key!r} exists already")
        uid = _FIRST_UID + len(self.accounts)
        account = Account(key, secret, uid, taker_fee_rate, maker_fee_rate, read_only=read_only)
        account.linear_taker_rate, account.linear_maker_rate = linear_taker_fee_rate, linear_maker_fee_rate
        self.accounts[key] = account
        for coin, amount in balances.items():
            self._transfer(account, coin, amount)
        return account

    def deposit(self, account: Account, coin: str, amount: Decimal) -> None:
        self._transfer(account, coin, amount)
        self.journal.note("deposit", account.key, coin=coin, amount=wire(amount))
        self.outbox.coin(account, coin)
        self.linear.liquidate()
        self.finish()

    def _transfer(self, account: Account, coin: str, amount: Decimal) -> None:
        account.deposit(coin, amount)
        account.log(
            Transaction(
                number=account.next_transaction(),
                kind="TRANSFER_IN" if amount >= 0 else "TRANSFER_OUT",
                currency=coin,
                time_ms=self.now_ms(),
                cash_flow=amount,
                cash_balance=account.balance(coin).total,
            )
        )

    def finish(self) -> None:
        """End a command: carry out what follows from its trades and send its frames."""
        self.linear.settle_down()
        self.outbox.flush()

    def create(self, account: Account, body: Body, *, outside: bool = False) -> Order:
        """``POST /v5/order/create``: the order, already resting, filled or refused by the market.

        Raises:
            Refusal: the venue's definite no; nothing was done.
        """
        if category_of(body) == "linear":
            order = self.linear.create(account, body, outside=outside)
        else:
            order = parse_create(body, account, self.books)
            order.outside = outside
            self.engine.place(order)
        self.finish()
        return order

    def parse(self, account: Account, body: Body) -> Order:
        """A create request as an order that is not placed.

        Raises:
            Refusal: with the code of the first parameter that is wrong.
        """
        if category_of(body) == "linear":
            return self.linear.parse(account, body)
        return parse_create(body, account, self.books)

    def create_rejected(self, account: Account, body: Body, reason: str) -> Order:
        """A valid order that the venue acknowledges and then rejects.

        Raises:
            Refusal: the request was not valid in the first place.
        """
        order = self.parse(account, body)
        self.engine.register(order)
        self.engine.close(order, "Rejected", reject_reason=reason)
        self.finish()
        return order

    def amend(self, account: Account, body: Body, *, batch: bool = False) -> Order:
        """``POST /v5/order/amend``.

        Raises:
            Refusal: 170213 or 110001 when there is no such open order, or the code of what is wrong with the new
                values.
        """
        order = self.named_order(account, body, None)
        if batch and order.is_conditional:
            raise Refusal(110001 if order.is_linear else 170312)
        if order.is_linear:
            self.linear.amend(order, body)
        else:
            self._amend_spot(order, body)
        self.finish()
        return order

    def _amend_spot(self, order: Order, body: Body) -> None:
        amended = parse_amend(body, order, self.books[order.instrument.key])
        before = Amendment.of(order)
        _set_exits(order, amended)  # first: an amend that crosses fills, and a fill leaves the exits behind
        try:
            self.engine.amend(
                order, quantity=amended.quantity, price=amended.price, trigger_price=amended.trigger_price
            )
        except Refusal:
            _set_exits(order, before)
            raise

    def cancel(self, account: Account, body: Body, *, any_filter: bool = False) -> Order:
        """``POST /v5/order/cancel``.

        Raises:
            Refusal: 170213 or 110001 for what is unknown, finished, or (spot) of another ``orderFilter``.
        """
        if category_of(body) == "linear":
            order = self.named_order(account, body, None)
            self.linear.cancel(order)
        else:
            order = self.named_order(account, body, None if any_filter else order_filter_of(body, "Order"))
            self.engine.cancel(order, cancel_type="CancelByUser")
        self.finish()
        return order

    def cancel_all(self, account: Account, body: Body) -> list[Order]:
        """``POST /v5/order/cancel-all``: on spot only orders of the one filter, plain ones by default."""
        if category_of(body) == "linear":
            chosen = self.linear.cancel_all(account, body)
        else:
            chosen = self._cancel_all_spot(account, body)
        self.finish()
        return chosen

    def _cancel_all_spot(self, account: Account, body: Body) -> list[Order]:
        if body.get("settleCoin"):
            raise parameter_error("params error: settleCoin is not supported for spot")
        order_filter = order_filter_of(body, "Order")
        symbol, base = body.get("symbol"), body.get("baseCoin")
        if symbol:
            book_of(body, self.books, "spot")
        chosen = [
            order
            for order in account.open_orders.values()
            if order.instrument.category == "spot"
            and _listed_as(order) == order_filter
            and (not symbol or order.instrument.symbol == symbol)
            and (symbol or not base or order.instrument.base == base)
        ]
        for order in chosen:
            self.engine.cancel(order, cancel_type="CancelByUser")
        return chosen

    def named_order(self, account: Account, body: Body, order_filter: str | None) -> Order:
        """The open order a request names.

        Raises:
            Refusal: 10001 without an id, 170213 or 110001 when it is not open (which of the reasons, the venue does
                not say).
        """
        category = category_of(body)
        book_of(body, self.books, category)
        order_id, link_id = body.get("orderId"), body.get("orderLinkId")
        if not order_id and not link_id:
            raise parameter_error("params error: orderId or orderLinkId is required")
        order = account.find(category, str(order_id or ""), str(link_id or ""))
        if order is None or not order.is_open or order.instrument.symbol != body["symbol"]:
            raise Refusal(no_such_order(category))
        if order_filter is not None and _listed_as(order) != order_filter:
            raise Refusal(170213)
        return order

    def set_leverage(self, account: Account, body: Body) -> None:
        self.linear.settings.set_leverage(account, body, self.linear.book_of(body))
        self.finish()

    def switch_mode(self, account: Account, body: Body) -> None:
        self.linear.settings.switch_mode(account, body, self.linear.contracts())
        self.finish()

    def set_margin_mode(self, account: Account, body: Body) -> Row:
        reasons = self.linear.settings.set_margin_mode(account, body)
        self.finish()
        return reasons

    def add_margin(self, account: Account, body: Body) -> None:
        self.linear.settings.add_margin(account, body, self.linear.book_of(body))
        self.finish()

    def set_trading_stop(self, account: Account, body: Body) -> None:
        self.linear.trading_stop.set(account, body, self.linear.book_of(body))
        self.finish()

    def find(self, name: str) -> Order:
        """An order of any account by orderId or orderLinkId.

        Raises:
            LookupError: no account has it.
        """
        for account in self.accounts.values():
            order = account.orders.get(name)
            for category in TRADED:
                order = order or account.links.get((category, name))
            if order is not None:
                return order
        raise LookupError(f"no order {name!r} on this venue")

    def fill(self, order: Order, quantity: Decimal | None, price: Decimal | None) -> None:
        """Fill a resting order, at its own price by default."""
        if not order.is_open or order.is_conditional:
            raise ValueError(f"order {order.order_id} is {order.status}: nothing rests that could be filled")
        wanted = order.leaves_quantity if quantity is None else min(quantity, order.leaves_quantity)
        if wanted <= 0:
            raise ValueError("a fill needs a positive quantity")
        at = order.price if price is None else price
        if at > order.price if order.is_buy else at < order.price:
            raise ValueError(f"order {order.order_id} would not trade at {at}: its limit is {order.price}")
        self.engine.fill(order, wanted, at)
        self.finish()

    def cancel_outside(self, order: Order, cancel_type: str) -> None:
        """Cancel an order from outside the API: the app, self-match prevention, disconnect protection, the venue."""
        if not order.is_open:
            raise ValueError(f"order {order.order_id} is {order.status}: nothing to cancel")
        reason = "EC_PerCancelRequest" if cancel_type == "CancelByUser" else "EC_Others"
        self.engine.cancel(order, cancel_type=cancel_type, reject_reason=reason)
        self.finish()

    def move_price(self, book: Book, price: Decimal, volume: Decimal | None = None) -> None:
        """Move the market to a price: orders it passes fill, orders waiting for it trigger."""
        if price <= 0:
            raise ValueError("a price is positive")
        self.engine.move_price(book, price, volume)
        self._after_price(book)

    def pin_prices(self, book: Book, *, mark: Decimal | None, index: Decimal | None) -> None:
        """Set a contract's mark and index price; None lets them follow the last price."""
        if any(price is not None and price <= 0 for price in (mark, index)):
            raise ValueError("a price is positive")
        book.pinned_mark, book.pinned_index = mark, index
        book.update_id += 1
        self._after_price(book)

    def _after_price(self, book: Book) -> None:
        waiting = self.waiting_orders()
        if book.instrument.category == "spot":
            self.conditionals.check(book, waiting)
        self.linear.after_price(book, waiting)
        self.finish()

    def fund(self, book: Book) -> None:
        """Let the positions of a contract pay one funding, outside the schedule."""
        self.linear.funding.settle(book, self.now_ms())
        self.linear.liquidate()
        self.finish()

    def fund_due(self, now_ms: int) -> None:
        """Let every funding that is due by its schedule take place."""
        if self.linear.funding.settle_due(self.linear.books(), now_ms):
            self.linear.liquidate()
            self.finish()

    def liquidate(self, account: Account, position: Position) -> None:
        """Take a position over at its bankruptcy price, whatever its margin.

        Raises:
            ValueError: there is no position.
        """
        if not position.size:
            raise ValueError(f"there is no position in {position.contract.symbol}")
        self.linear.liquidation.take_over(account, position)
        self.finish()

    def deleverage(self, account: Account, position: Position, quantity: Decimal | None, price: Decimal) -> Order:
        """Close a position, or part of it, as auto-deleveraging does.

        Raises:
            ValueError: there is not that much to close.
        """
        wanted = position.quantity if quantity is None else quantity
        order = self.linear.liquidation.deleverage(account, position, wanted, price)
        self.finish()
        return order

    def waiting_orders(self) -> list[Order]:
        """Untriggered orders of all accounts, oldest first."""
        waiting = [
            order
            for account in self.accounts.values()
            for order in account.open_orders.values()
            if order.is_conditional
        ]
        return sorted(waiting, key=lambda order: order.number)

    def market_quantity(self, book: Book, quantity: Decimal) -> Decimal:
        return floor_to_step(quantity, book.instrument.base_step)

    def restart(self) -> None:
        """Restart the matching service: its cache of closed orders is emptied."""
        for account in self.accounts.values():
            account.closed_cache.clear()
        self.journal.note("restart")

    def truth(self, account: Account) -> Row:
        """Every order, execution and balance of an account, including those the API no longer shows."""
        return {
            "orders": [
                {**order_row(order, stream=True), "leavesQty": wire(order.leaves_quantity), "outside": order.outside}
                for order in account.orders.values()
            ],
            "executions": [execution_row(execution, stream=True) for execution in account.executions],
            "positions": [
                position_row(account, position, self.engine.margin, stream=False)
                for position in account.positions.values()
                if position.created_ms
            ],
            "balances": {
                coin: {
                    "walletBalance": wire(balance.total),
                    "locked": wire(balance.locked),
                    "available": wire(balance.available),
                    "deposited": wire(account.deposits.get(coin, ZERO)),
                }
                for coin, balance in account.wallet.items()
            },
            "journal": self.journal.entries(account.key),
        }

    def total(self, coin: str) -> Decimal:
        """All of a coin on the venue, unrealised profits included; equals what was deposited.

        Sums clients, the house, the fee pot and the insurance fund.
        """
        everyone = [*self.accounts.values(), self.engine.house, self.engine.fee_pot, self.linear.liquidation.insurance]
        cash = sum((account.wallet[coin].total for account in everyone if coin in account.wallet), ZERO)
        return cash + self.linear.equity(coin, everyone)


def no_such_order(category: str) -> int:
    """The retCode for an order that is unknown or finished."""
    return 110001 if category == "linear" else 170213


def _set_exits(order: Order, values: Amendment) -> None:
    order.take_profit, order.stop_loss = values.take_profit, values.stop_loss
    order.tp_limit_price, order.sl_limit_price = values.tp_limit_price, values.sl_limit_price


def _listed_as(order: Order) -> str:
    """The ``orderFilter`` that selects an order: its own while it waits, ``Order`` afterwards."""
    return order.order_filter if order.is_conditional else "Order"
