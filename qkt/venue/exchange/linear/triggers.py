"""Contract orders that wait for a price: conditional orders, exits of positions, trailing stops.

A conditional order holds no margin until it triggers and is cancelled if there is too little then
(docs v5/order/create-order). It keeps its id, passes through ``Triggered`` and then behaves as a plain order.
"""

from __future__ import annotations

from collections.abc import Callable

from ..accounts import Order
from ..book import Book
from ..engine import Engine
from ..money import ZERO
from .reduction import Reduction
from .requests import reference_price


class Triggers:
    """Watches last, mark and index prices of contracts."""

    def __init__(self, engine: Engine, reduction: Reduction) -> None:
        self._engine = engine
        self._reduction = reduction
        self.on_triggered: Callable[[Order], None] = lambda _: None
        """Called before a triggered order reaches the market, to end what it excludes."""
        self.settle_down: Callable[[], None] = lambda: None

    def check(self, book: Book, waiting: list[Order]) -> None:
        """Trigger every waiting order of a contract whose price is reached, oldest first."""
        for order in waiting:
            if order.is_conditional and order.instrument is book.instrument and self._is_reached(order, book):
                self.trigger(order)
                self.settle_down()

    def trigger(self, order: Order) -> None:
        """Untriggered -> Triggered -> plain order, or cancelled when it cannot be paid for or closes nothing."""
        engine = self._engine
        order.status = "Triggered"
        order.updated_ms = engine.now_ms()
        engine.journal.note("order triggered", order.account.key, orderId=order.order_id, orderLinkId=order.link_id)
        engine.outbox.order_now(order)
        order.remember(order.updated_ms)
        self.on_triggered(order)
        if order.close_on_trigger:
            self._reduction.make_room(order)
        ledger = engine.ledger_of(order)
        needed = ledger.needs(order)
        if needed and needed > ledger.spendable(order):
            engine.close(order, "Cancelled", reject_reason="EC_Others")
            return
        engine.activate(order)

    def _is_reached(self, order: Order, book: Book) -> bool:
        price = reference_price(book, order.trigger_by)
        if order.trailing:
            return _trails(order, book)
        return price >= order.trigger_price if order.trigger_rises else price <= order.trigger_price


def _trails(order: Order, book: Book) -> bool:
    """Move a trailing stop with the last price; True once the price has come back by the distance."""
    last, closes_long = book.last_price, not order.is_buy
    if order.extreme == ZERO:
        if order.active_price and (last < order.active_price if closes_long else last > order.active_price):
            return False
        order.extreme = last
    order.extreme = max(order.extreme, last) if closes_long else min(order.extreme, last)
    order.trigger_price = order.extreme - order.trailing if closes_long else order.extreme + order.trailing
    return last <= order.trigger_price if closes_long else last >= order.trigger_price
