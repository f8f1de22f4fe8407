"""The venue's commands, as clients, the market and the hand of God give them.

One `Exchange` is one venue: accounts, books, and every command from request parameters to result. Not thread-safe and
without I/O: the shell around it holds the lock, keeps the time and moves the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from .accounts import Account, Order
from .book import Book
from .conditionals import Conditionals
from .engine import Engine
from .instruments import Instrument
from .money import ZERO, floor_to_step, wire
from .requests import Amendment, Body, book_of, category_of, order_filter_of, parse_amend, parse_create
from .retcodes import Refusal, parameter_error
from .rows import Row, execution_row, order_row

_FIRST_UID = 90_210_077


class Exchange:
    """Accounts and markets behind one set of commands."""

    def __init__(self, now_ms: Callable[[], int], seed: int, instruments: list[Instrument]) -> None:
        self.now_ms = now_ms
        self.engine = Engine(now_ms, seed, instruments)
        self.conditionals = Conditionals(self.engine)
        self.accounts: dict[str, Account] = {}
        self.journal = self.engine.journal
        self.outbox = self.engine.outbox
        self.books = self.engine.books

    # -- accounts ------------------------------------------------------------------------------------------------

    def add_account(
        self,
        key: str,
        secret: str,
        balances: Mapping[str, Decimal],
        *,
        taker_fee_rate: Decimal = Decimal("0.001"),
        maker_fee_rate: Decimal = Decimal("0.001"),
        read_only: bool = False,
    ) -> Account:
        if key in self.accounts:
            raise ValueError(f"account {key!r} exists already")
        uid = _FIRST_UID + len(self.accounts)
        account = Account(key, secret, uid, taker_fee_rate, maker_fee_rate, read_only=read_only)
        self.accounts[key] = account
        for coin, amount in balances.items():
            account.deposit(coin, amount)
        return account

    def deposit(self, account: Account, coin: str, amount: Decimal) -> None:
        account.deposit(coin, amount)
        self.journal.note("deposit", account.key, coin=coin, amount=wire(amount))
        self.outbox.coin(account, coin)
        self.outbox.flush()

    # -- what clients ask for ------------------------------------------------------------------------------------

    def create(self, account: Account, body: Body, *, outside: bool = False) -> Order:
        """``POST /v5/order/create``: the order, already resting, filled or refused by the market.

        Raises:
            Refusal: the venue's definite no; nothing was done.
        """
        order = parse_create(body, account, self.books)
        order.outside = outside
        self.engine.place(order)
        self.outbox.flush()
        return order

    def amend(self, account: Account, body: Body, *, batch: bool = False) -> Order:
        """``POST /v5/order/amend``.

        Raises:
            Refusal: 170213 when there is no such open order, or the code of what is wrong with the new values.
        """
        order = self.named_order(account, body, None)
        if batch and order.is_conditional:
            raise Refusal(170312)
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
        self.outbox.flush()
        return order

    def cancel(self, account: Account, body: Body, *, any_filter: bool = False) -> Order:
        """``POST /v5/order/cancel``.

        Raises:
            Refusal: 170213 for what is unknown, finished, or of another ``orderFilter``.
        """
        order = self.named_order(account, body, None if any_filter else order_filter_of(body, "Order"))
        self.engine.cancel(order, cancel_type="CancelByUser")
        self.outbox.flush()
        return order

    def cancel_all(self, account: Account, body: Body) -> list[Order]:
        """``POST /v5/order/cancel-all``: on spot only orders of the one filter, plain ones by default."""
        category = category_of(body)
        if body.get("settleCoin"):
            raise parameter_error("params error: settleCoin is not supported for spot")
        order_filter = order_filter_of(body, "Order")
        symbol, base = body.get("symbol"), body.get("baseCoin")
        if symbol:
            book_of(body, self.books, category)
        chosen = [
            order
            for order in account.open_orders.values()
            if order.instrument.category == category
            and _listed_as(order) == order_filter
            and (not symbol or order.instrument.symbol == symbol)
            and (symbol or not base or order.instrument.base == base)
        ]
        for order in chosen:
            self.engine.cancel(order, cancel_type="CancelByUser")
        self.outbox.flush()
        return chosen

    def named_order(self, account: Account, body: Body, order_filter: str | None) -> Order:
        """The open order a request names.

        Raises:
            Refusal: 10001 without an id, 170213 when it is not open (which of the reasons, the venue does not say).
        """
        category = category_of(body)
        book_of(body, self.books, category)
        order_id, link_id = body.get("orderId"), body.get("orderLinkId")
        if not order_id and not link_id:
            raise parameter_error("params error: orderId or orderLinkId is required")
        order = account.find(category, str(order_id or ""), str(link_id or ""))
        if order is None or not order.is_open or order.instrument.symbol != body["symbol"]:
            raise Refusal(170213)
        if order_filter is not None and _listed_as(order) != order_filter:
            raise Refusal(170213)
        return order

    # -- what happens to clients ---------------------------------------------------------------------------------

    def find(self, name: str) -> Order:
        """An order of any account by orderId or orderLinkId.

        Raises:
            LookupError: no account has it.
        """
        for account in self.accounts.values():
            order = account.orders.get(name) or account.links.get(("spot", name))
            if order is not None:
                return order
        raise LookupError(f"no order {name!r} on this venue")

    def fill(self, order: Order, quantity: Decimal | None, price: Decimal | None) -> None:
        """A counterparty trades with a resting order, at its own price unless told otherwise."""
        if not order.is_open or order.is_conditional:
            raise ValueError(f"order {order.order_id} is {order.status}: nothing rests that could be filled")
        wanted = order.leaves_quantity if quantity is None else min(quantity, order.leaves_quantity)
        if wanted <= 0:
            raise ValueError("a fill needs a positive quantity")
        at = order.price if price is None else price
        if at > order.price if order.is_buy else at < order.price:
            raise ValueError(f"order {order.order_id} would not trade at {at}: its limit is {order.price}")
        self.engine.fill(order, wanted, at)
        self.outbox.flush()

    def cancel_outside(self, order: Order, cancel_type: str) -> None:
        """Someone else ends an order: the user's app, self-match prevention, a dead man's switch, the venue."""
        if not order.is_open:
            raise ValueError(f"order {order.order_id} is {order.status}: nothing to cancel")
        reason = "EC_PerCancelRequest" if cancel_type == "CancelByUser" else "EC_Others"
        self.engine.cancel(order, cancel_type=cancel_type, reject_reason=reason)
        self.outbox.flush()

    def move_price(self, book: Book, price: Decimal, volume: Decimal | None = None) -> None:
        """The market trades at a price: fills what it passes, triggers what waited for it."""
        if price <= 0:
            raise ValueError("a price is positive")
        self.engine.move_price(book, price, volume)
        self.conditionals.check(book, self.waiting_orders())
        self.outbox.flush()

    def waiting_orders(self) -> list[Order]:
        """Untriggered orders of all accounts, oldest first."""
        waiting = [
            order
            for account in self.accounts.values()
            for order in account.open_orders.values()
            if order.is_conditional
        ]
        return sorted(waiting, key=lambda order: int(order.order_id))

    def market_quantity(self, book: Book, quantity: Decimal) -> Decimal:
        return floor_to_step(quantity, book.instrument.base_step)

    def restart(self) -> None:
        """The matching service restarts: what it kept in memory about closed orders is gone."""
        for account in self.accounts.values():
            account.closed_cache.clear()
        self.journal.note("restart")

    # -- the whole truth -----------------------------------------------------------------------------------------

    def truth(self, account: Account) -> Row:
        """Every order, execution and balance of an account, whatever the API would still show."""
        return {
            "orders": [
                {**order_row(order, stream=True), "leavesQty": wire(order.leaves_quantity), "outside": order.outside}
                for order in account.orders.values()
            ],
            "executions": [execution_row(execution, stream=True) for execution in account.executions],
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
        """All of a coin on the venue, over clients, house and fee pot; equals what was deposited."""
        everyone: list[Any] = [*self.accounts.values(), self.engine.house, self.engine.fee_pot]
        return sum((account.wallet[coin].total for account in everyone if coin in account.wallet), ZERO)


def _set_exits(order: Order, values: Amendment) -> None:
    order.take_profit, order.stop_loss = values.take_profit, values.stop_loss
    order.tp_limit_price, order.sl_limit_price = values.tp_limit_price, values.sl_limit_price


def _listed_as(order: Order) -> str:
    """The filter an order answers to: its own while it waits, ``Order`` once it is on the market."""
    return order.order_filter if order.is_conditional else "Order"
