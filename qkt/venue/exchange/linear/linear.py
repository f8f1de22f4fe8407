"""The perpetual market as one object: what `Exchange` asks of contracts, in terms of the parts that do it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from ..accounts import Account, Order
from ..book import Book
from ..engine import Engine
from ..money import ZERO
from ..retcodes import Refusal, parameter_error
from .contracts import Contract
from .funding import Funding
from .ledger import LinearLedger
from .liquidation import Liquidation
from .positions import Position
from .protection import EXIT_KINDS, FULL_KINDS, Protection
from .reduction import Reduction
from .requests import (
    EXIT_PRICES,
    Body,
    amount_of,
    banded,
    check_size,
    check_trigger,
    contract_book,
    contract_of,
    given,
    parse_create,
    price_of,
    set_exits,
    trigger_by_of,
)
from .settings import Settings
from .trading_stop import TradingStop
from .triggers import Triggers

_MOST_CANCELLED = 500
_EXIT_FIELDS = (
    *EXIT_PRICES.values(),
    "tpsl_mode",
    "tp_trigger_by",
    "sl_trigger_by",
    "tp_order_type",
    "sl_order_type",
)


class Linear:
    """Contracts of one venue."""

    def __init__(self, engine: Engine, accounts: Callable[[], Iterable[Account]]) -> None:
        self._engine = engine
        self._accounts = accounts
        self.reduction: Reduction = Reduction(engine)
        self.ledger: LinearLedger = LinearLedger(engine, self.reduction)
        self.protection: Protection = Protection(engine)
        self.triggers: Triggers = Triggers(engine, self.reduction)
        self.triggers.on_triggered = self.protection.before_trigger
        self.triggers.settle_down = self.settle_down
        self.funding: Funding = Funding(engine, accounts)
        self.liquidation: Liquidation = Liquidation(engine, self.ledger, accounts)
        self.settings: Settings = Settings(engine)
        self.trading_stop: TradingStop = TradingStop(self.protection)
        engine.ledgers["linear"] = self.ledger
        for book in self.books():
            self.funding.open(book)

    def books(self) -> list[Book]:
        return [book for (category, _), book in self._engine.books.items() if category == "linear"]

    def contracts(self) -> list[Contract]:
        return [contract_of(book) for book in self.books()]

    def book_of(self, body: Body) -> Book:
        """The contract a request names.

        Raises:
            Refusal: 10001 when it names none, or one that is not traded.
        """
        return contract_book(body, self._engine.books)

    # What clients ask for.

    def create(self, account: Account, body: Body, *, outside: bool = False) -> Order:
        """Place an order; a reduce-only one above the largest order size becomes several.

        Raises:
            Refusal: the venue's definite no; nothing was done.
        """
        book = self.book_of(body)
        order = parse_create(body, account, book)
        order.outside = outside
        if self.reduction.only_reduces(order):
            self._fit_reducing(order)
        elif not order.trigger_price:
            self._check_risk_limit(order, book)
        rest = self._split(order)
        self._engine.place(order)
        for quantity in rest:
            self._engine.place(_twin(order, quantity))
        return order

    def parse(self, account: Account, body: Body) -> Order:
        """A create request as an order that is not placed."""
        return parse_create(body, account, self.book_of(body))

    def amend(self, order: Order, body: Body) -> None:
        """Change an open order to the values of a request.

        Raises:
            Refusal: 10001 for a wrong value or no change, 110064 for a quantity not above what has filled.
        """
        book = self._engine.books[order.instrument.key]
        contract = order.contract
        quantity = amount_of(body, "qty", contract) if given(body, "qty") else order.quantity
        price = order.price
        if given(body, "price") and order.order_type == "Limit":
            price = price_of(body, "price", contract)
        trigger_price = order.trigger_price
        if given(body, "triggerPrice") and order.is_conditional:
            trigger_price = price_of(body, "triggerPrice", contract) or order.trigger_price
        before = {name: getattr(order, name) for name in _EXIT_FIELDS}
        trigger_by = order.trigger_by
        try:
            if order.stop_kind not in EXIT_KINDS:
                set_exits(order, body, book)
            if given(body, "triggerBy") and order.is_conditional:
                order.trigger_by = trigger_by_of(body, "triggerBy")
            price = self._check_amend(order, book, quantity, price, trigger_price, (before, trigger_by))
            self._engine.amend(order, quantity=quantity, price=price, trigger_price=trigger_price)
        except Refusal:
            order.trigger_by = trigger_by
            for name, value in before.items():
                setattr(order, name, value)
            raise
        self.protection.after_amend(order)
        self.ledger.touch(order.account, order.account.position(contract, order.position_idx))

    def cancel(self, order: Order) -> None:
        """End an open order at its owner's request; a bound exit takes the other one with it."""
        pair = self.protection.cancel_with_pair(order) if order.stop_kind in EXIT_KINDS else None
        self._engine.cancel(order, cancel_type="CancelByUser")
        if pair is not None:
            self._engine.cancel(pair, cancel_type="CancelByUser")

    def cancel_all(self, account: Account, body: Body) -> list[Order]:
        """Cancel what a request selects, at most 500 orders picked at random (docs v5/order/cancel-all).

        Raises:
            Refusal: 10001 without symbol, base coin and settle coin, or for an unknown filter.
        """
        symbol, base, settle = body.get("symbol"), body.get("baseCoin"), body.get("settleCoin")
        if not (symbol or base or settle):
            raise parameter_error("params error: symbol, baseCoin or settleCoin is required")
        if symbol:
            self.book_of(body)
        wanted = body.get("orderFilter") or ""
        if wanted not in ("", "Order", "StopOrder", "OpenOrder"):
            raise parameter_error("params error: orderFilter invalid")
        only_stops = body.get("stopOrderType") == "Stop"
        chosen = [
            order
            for order in account.open_orders.values()
            if order.is_linear
            and (order.instrument.symbol == symbol if symbol else order.instrument.base == base if base else True)
            and (symbol or base or order.contract.settle == settle)
            and (not wanted or order.is_conditional == (wanted == "StopOrder"))
            and not (wanted == "StopOrder" and only_stops and order.stop_kind != "Stop")
        ]
        if len(chosen) > _MOST_CANCELLED:
            chosen = self._engine.random.sample(chosen, _MOST_CANCELLED)
        for order in chosen:
            if order.is_open:
                self.cancel(order)
        return chosen

    # What happens to positions.

    def settle_down(self) -> None:
        """Bring everything that hangs on a position in line after trades: exits, reducing orders, order margin."""
        ledger = self.ledger
        while ledger.touched or ledger.filled:
            touched, ledger.touched = ledger.touched, {}
            filled, ledger.filled = ledger.filled, {}
            for parent in filled.values():
                self.protection.after_parent_fill(parent)
            for account, position in touched.values():
                self.protection.follow(account, position)
                self.reduction.rebalance(account, position.contract, position.index)
                self._refresh_margin(account, position)
                self._engine.outbox.position(account, position)

    def after_price(self, book: Book, waiting: list[Order]) -> None:
        """A last, mark or index price changed: trigger what waited for it, liquidate who cannot bear it."""
        self.settle_down()
        if book.instrument.category == "linear":
            self.triggers.check(book, waiting)
        self.liquidate()

    def liquidate(self) -> None:
        while self.liquidation.check():
            self.settle_down()

    def equity(self, coin: str, accounts: Iterable[Account]) -> Decimal:
        """Unrealised profit of accounts in a settle coin, at mark prices."""
        return sum((self._engine.margin.coin_profit(account, coin) for account in accounts), ZERO)

    def _refresh_margin(self, account: Account, position: Position) -> None:
        for order in list(account.open_orders.values()):
            if order.is_resting and order.instrument is position.contract and order.position_idx == position.index:
                self._engine.hold(order, self._engine.funds_needed(order))

    def _fit_reducing(self, order: Order) -> None:
        """Cut a new reducing order to what is left of the position to close.

        Raises:
            Refusal: 110017 when there is nothing left to close.
        """
        if not self.reduction.closable(order):
            raise Refusal(110017, text="current position is zero, cannot fix reduce-only order qty")
        if order.trigger_price:
            return
        allowed = self.reduction.closable(order) if order.order_type == "Market" else self.reduction.free_for(order)
        if allowed <= 0:
            raise Refusal(110017)
        order.quantity = min(order.quantity, allowed)

    def _check_risk_limit(self, order: Order, book: Book) -> None:
        """A position may not outgrow the risk limit of its leverage."""
        position = order.account.position(order.contract, order.position_idx)
        limit = order.contract.limit_at(position.leverage)
        value = self.reduction.opening(order) * (order.price or book.last_price)
        if position.side == order.side:
            value += position.quantity * book.mark_price
        if value > limit:
            raise Refusal(110090)

    def _split(self, order: Order) -> list[Decimal]:
        """Cut a reduce-only order to the largest size; returns the quantities of the further orders."""
        contract = order.contract
        most = contract.max_limit_quantity if order.order_type == "Limit" else contract.max_market_quantity
        left = order.quantity - most
        order.quantity = min(order.quantity, most)
        parts: list[Decimal] = []
        while left > 0:
            parts.append(min(left, most))
            left -= most
        return parts

    def _check_amend(
        self,
        order: Order,
        book: Book,
        quantity: Decimal,
        price: Decimal,
        trigger_price: Decimal,
        before: tuple[dict[str, object], str],
    ) -> Decimal:
        exits, trigger_by = before
        same_exits = all(getattr(order, name) == value for name, value in exits.items())
        unchanged = (quantity, price, trigger_price) == (order.quantity, order.price, order.trigger_price)
        if unchanged and same_exits and trigger_by == order.trigger_by:
            raise parameter_error("The order remains unchanged as the parameters entered match the existing ones.")
        if quantity <= order.cum_quantity:
            raise Refusal(110064)
        if order.stop_kind in FULL_KINDS and quantity != order.quantity:
            raise Refusal(110060)
        if trigger_price != order.trigger_price:
            check_trigger(trigger_price, order.trigger_by, book, rises=order.trigger_rises)
        probe = _twin(order, quantity)
        probe.price, probe.trigger_price = price, trigger_price
        check_size(probe, book)
        if price != order.price and not order.is_conditional:
            return banded(probe, book)
        return price


def _twin(order: Order, quantity: Decimal) -> Order:
    """An unregistered order with the terms of another, without its link id."""
    return Order(
        order_id="",
        link_id="",
        account=order.account,
        instrument=order.instrument,
        side=order.side,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        quantity=quantity,
        price=order.price,
        is_leverage="",
        order_filter=order.order_filter,
        trigger_price=order.trigger_price,
        trigger_rises=order.trigger_rises,
        trigger_by=order.trigger_by,
        stop_kind=order.stop_kind,
        create_type=order.create_type,
        position_idx=order.position_idx,
        reduce_only=order.reduce_only,
        close_on_trigger=order.close_on_trigger,
        smp_type=order.smp_type,
        outside=order.outside,
        tpsl_mode=order.tpsl_mode,
    )
