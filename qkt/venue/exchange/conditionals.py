"""Spot orders that wait for a price: conditional orders, TP/SL orders, and TP/SL attached to a limit order.

A ``StopOrder`` holds nothing until it triggers and is cancelled if it cannot be paid then; a ``tpslOrder`` holds its
funds from the start (docs v5/order/create-order). On trigger the order keeps its id, passes through ``Triggered`` and
then behaves as a plain order. When a limit order with TP/SL has filled, the venue itself places the exit: one
``tpslOrder``, or one ``BidirectionalTpslOrder`` carrying both legs.
"""

from __future__ import annotations

from decimal import Decimal

from .accounts import Order
from .book import Book
from .engine import Engine
from .money import ZERO, floor_to_step


class Conditionals:
    """Triggers waiting spot orders."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        engine.on_closed = self._after_close

    def check(self, book: Book, accounts: list[Order]) -> None:
        """Trigger every waiting order whose price the last price has reached, oldest first."""
        for order in accounts:
            if order.is_conditional and order.instrument is book.instrument:
                self._check_one(order, book)

    def _check_one(self, order: Order, book: Book) -> None:
        if order.order_filter == "BidirectionalTpslOrder":
            self._check_bidirectional(order, book)
            return
        reached = (
            book.last_price >= order.trigger_price if order.trigger_rises else book.last_price <= order.trigger_price
        )
        if reached:
            self._trigger(order)

    def _check_bidirectional(self, order: Order, book: Book) -> None:
        last, selling = book.last_price, not order.is_buy
        if last >= order.take_profit if selling else last <= order.take_profit:
            order.oco_trigger_by = "OcoTriggerByTp"
            order.trigger_price = order.take_profit
            self._become(order, order.tp_order_type, order.tp_limit_price)
        elif last <= order.stop_loss if selling else last >= order.stop_loss:
            order.oco_trigger_by = "OcoTriggerBySl"
            order.trigger_price = order.stop_loss
            self._become(order, order.sl_order_type, order.sl_limit_price)

    def _become(self, order: Order, order_type: str, limit_price: Decimal) -> None:
        """Turn an order into its triggered leg: a limit order at its own price, or a market order."""
        if order_type == "Limit" and limit_price:
            order.order_type, order.time_in_force, order.price = "Limit", "GTC", limit_price
        else:
            order.order_type, order.time_in_force, order.market_unit = "Market", "IOC", "baseCoin"
        self._trigger(order)

    def _trigger(self, order: Order) -> None:
        """Untriggered -> Triggered -> plain order, or cancelled when it cannot be paid."""
        engine = self._engine
        order.status = "Triggered"
        order.updated_ms = engine.now_ms()
        engine.journal.note("order triggered", order.account.key, orderId=order.order_id, orderLinkId=order.link_id)
        engine.outbox.order_now(order)
        order.remember(order.updated_ms)
        engine.hold(order, ZERO)
        if engine.funds_needed(order) > order.account.available(order.lock_coin):
            engine.close(order, "Cancelled", reject_reason="EC_Others")
            return
        engine.activate(order)

    def _after_close(self, order: Order) -> None:
        """Place the exit of a filled limit order with TP/SL."""
        if order.is_linear:
            return
        if order.status == "Filled" and (order.take_profit or order.stop_loss) and order.order_filter == "Order":
            self._place_exit(order)

    def _place_exit(self, parent: Order) -> None:
        instrument = parent.instrument
        quantity = parent.cum_quantity
        if parent.is_buy:
            quantity -= parent.fees.get(instrument.base, ZERO)
        quantity = floor_to_step(quantity, instrument.base_step)
        if quantity <= 0:
            return
        both = bool(parent.take_profit and parent.stop_loss)
        takes_profit = bool(parent.take_profit)
        order_type = parent.tp_order_type if takes_profit else parent.sl_order_type
        limit_price = parent.tp_limit_price if takes_profit else parent.sl_limit_price
        trigger_price = parent.take_profit if takes_profit else parent.stop_loss
        exit_order = Order(
            order_id="",
            link_id="",
            account=parent.account,
            instrument=instrument,
            side="Sell" if parent.is_buy else "Buy",
            order_type=order_type,
            time_in_force="GTC" if order_type == "Limit" else "IOC",
            quantity=quantity,
            price=ZERO if both or order_type == "Market" else limit_price,
            market_unit="" if order_type == "Limit" else "baseCoin",
            order_filter="BidirectionalTpslOrder" if both else "tpslOrder",
            trigger_price=ZERO if both else trigger_price,
            trigger_rises=takes_profit == parent.is_buy,
            take_profit=parent.take_profit if both else ZERO,
            stop_loss=parent.stop_loss if both else ZERO,
            tp_limit_price=parent.tp_limit_price if both else ZERO,
            sl_limit_price=parent.sl_limit_price if both else ZERO,
            tp_order_type=parent.tp_order_type,
            sl_order_type=parent.sl_order_type,
            status="Untriggered",
        )
        engine = self._engine
        engine.register(exit_order)
        exit_order.status = "Untriggered"
        needed = quantity
        if exit_order.is_buy:
            needed = min(
                quantity * max(parent.take_profit, parent.stop_loss),
                parent.account.available(instrument.quote),
            )
        engine.hold(exit_order, min(needed, parent.account.available(exit_order.lock_coin)))
        engine.changed(exit_order)
