"""Take-profit, stop-loss and trailing stop of positions.

Each is an order that the venue itself creates: empty ``orderLinkId``, reducing, untriggered until its price is
reached (docs v5/position/trading-stop). In full mode a position has at most one of each, which follow its size; in
partial mode any pair closes its own quantity. A take-profit and a stop-loss set together are bound: the end of one
ends the other, until a one-sided change unbinds them. All of them end with the position.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ..accounts import Account, Order
from ..book import Book
from ..engine import Engine
from ..money import ZERO
from ..retcodes import Refusal
from .positions import Position

FULL_KINDS = ("TakeProfit", "StopLoss", "TrailingStop")
PARTIAL_KINDS = ("PartialTakeProfit", "PartialStopLoss")
EXIT_KINDS = (*FULL_KINDS, *PARTIAL_KINDS)
MOST_PARTIAL = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One exit to create: its trigger, and the limit price when it is not a market order."""

    kind: str
    trigger_price: Decimal
    trigger_by: str
    limit_price: Decimal = ZERO


class Protection:
    """Creates, moves and ends the exits of positions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def exits(self, account: Account, position: Position) -> list[Order]:
        """The untriggered exits of a position, oldest first."""
        return [
            order
            for order in account.open_orders.values()
            if order.is_conditional
            and order.stop_kind in EXIT_KINDS
            and order.instrument is position.contract
            and order.position_idx == position.index
        ]

    def full_exit(self, account: Account, position: Position, kind: str) -> Order | None:
        return next((order for order in self.exits(account, position) if order.stop_kind == kind), None)

    # Full mode.

    def set_full(self, account: Account, position: Position, leg: Leg, parent: Order | None = None) -> Order | None:
        """Create, move or (at price zero) remove the one exit of a kind; returns it when it stands."""
        standing = self.full_exit(account, position, leg.kind)
        self._show(position, leg)
        if standing is not None and leg.trigger_price:
            standing.trigger_price, standing.trigger_by = leg.trigger_price, leg.trigger_by
            self._engine.changed(standing)
            return standing
        if standing is not None:
            self._unbind(standing)
            self.clear(standing)
            return None
        if not leg.trigger_price:
            return None
        return self._create(account, position, leg, position.quantity, "Full", parent)

    def set_trailing(self, account: Account, position: Position, distance: Decimal, active_price: Decimal) -> None:
        """Create, change or (at distance zero) remove the trailing stop of a position."""
        position.trailing_stop = distance
        standing = self.full_exit(account, position, "TrailingStop")
        if standing is not None:
            self.clear(standing)
        if distance:
            leg = Leg(kind="TrailingStop", trigger_price=ZERO, trigger_by="LastPrice")
            self._create(account, position, leg, position.quantity, "Full", None, distance, active_price)

    # Partial mode.

    def add_partial(
        self, account: Account, position: Position, legs: list[Leg], quantity: Decimal, parent: Order | None = None
    ) -> list[Order]:
        """Add exits for a part of a position; two are bound to each other.

        Raises:
            Refusal: 110061 when the position has twenty partial exits already.
        """
        standing = [order for order in self.exits(account, position) if order.stop_kind in PARTIAL_KINDS]
        if len(standing) + len(legs) > MOST_PARTIAL:
            raise Refusal(110061)
        orders = [self._create(account, position, leg, quantity, "Partial", parent) for leg in legs]
        if len(orders) == 2:
            bind(*orders)
        return orders

    # What follows from fills, triggers and cancels.

    def after_parent_fill(self, parent: Order) -> None:
        """An order with attached exits has filled, wholly or in part: its exits come to stand or grow."""
        account = parent.account
        position = account.position(parent.contract, parent.position_idx)
        if position.side != parent.side:
            return
        legs = _legs(parent)
        if parent.tpsl_mode != "Partial":
            orders = [self.set_full(account, position, leg, parent) for leg in legs]
            standing = [order for order in orders if order is not None]
            if len(standing) == 2:
                bind(*standing)
            return
        children = [order for order in self.exits(account, position) if order.parent_id == parent.order_id]
        if not children:
            self.add_partial(account, position, legs, parent.cum_quantity, parent)
        for child in children:
            child.quantity = parent.cum_quantity
            self._engine.changed(child)

    def follow(self, account: Account, position: Position) -> None:
        """Bring the exits of a changed position in line: full ones take its size, all end with it."""
        for order in self.exits(account, position):
            if position.closable_by(order.side) <= 0:
                self.clear(order)
            elif order.stop_kind in FULL_KINDS and order.quantity != position.quantity:
                order.quantity = position.quantity
                self._engine.changed(order)
        if not position.size:
            position.take_profit = position.stop_loss = position.trailing_stop = ZERO

    def before_trigger(self, order: Order) -> None:
        """A triggered exit ends the one it is bound to, and the position no longer shows it."""
        pair, order.pair = order.pair, None
        if order.stop_kind in FULL_KINDS:
            position = order.account.position(order.contract, order.position_idx)
            self._show(position, Leg(kind=order.stop_kind, trigger_price=ZERO, trigger_by=order.trigger_by))
        if pair is not None and pair.is_conditional:
            loses = "Sl" if "StopLoss" in pair.stop_kind else "Tp"
            wins = "Tp" if loses == "Sl" else "Sl"
            pair.pair = None
            self._end(pair, f"CancelByOCO{loses}CanceledBy{wins}Triggered")

    def cancel_with_pair(self, order: Order) -> Order | None:
        """What else ends when a client cancels an exit: its bound pair; the position forgets both."""
        pair, order.pair = order.pair, None
        for leg in (order, pair):
            if leg is not None and leg.stop_kind in FULL_KINDS:
                position = leg.account.position(leg.contract, leg.position_idx)
                self._show(position, Leg(kind=leg.stop_kind, trigger_price=ZERO, trigger_by=leg.trigger_by))
        if pair is not None:
            pair.pair = None
        return pair if pair is not None and pair.is_conditional else None

    def after_amend(self, order: Order) -> None:
        """A client moved an exit: a position shows the new price of a full one."""
        if order.stop_kind in FULL_KINDS and not order.trailing:
            position = order.account.position(order.contract, order.position_idx)
            self._show(
                position, Leg(kind=order.stop_kind, trigger_price=order.trigger_price, trigger_by=order.trigger_by)
            )

    def unbind(self, account: Account, position: Position, kind: str) -> None:
        """A one-sided change of a full exit ends its binding to the other side."""
        standing = self.full_exit(account, position, kind)
        if standing is not None:
            self._unbind(standing)

    def clear(self, order: Order) -> None:
        """End an exit because its position or its setting is gone."""
        self._unbind(order)
        self._end(order, "CancelByTpSlTsClear")

    def _end(self, order: Order, cancel_type: str) -> None:
        self._engine.cancel(order, cancel_type=cancel_type, reject_reason="EC_NoError")

    def _unbind(self, order: Order) -> None:
        if order.pair is not None:
            order.pair.pair = None
            order.pair = None

    def _show(self, position: Position, leg: Leg) -> None:
        """The position's own TP/SL fields."""
        if leg.kind == "TakeProfit":
            position.take_profit, position.tp_trigger_by = leg.trigger_price, leg.trigger_by
        elif leg.kind == "StopLoss":
            position.stop_loss, position.sl_trigger_by = leg.trigger_price, leg.trigger_by
        else:
            position.trailing_stop = ZERO

    def _create(
        self,
        account: Account,
        position: Position,
        leg: Leg,
        quantity: Decimal,
        mode: str,
        parent: Order | None,
        trailing: Decimal = ZERO,
        active_price: Decimal = ZERO,
    ) -> Order:
        takes_profit = "TakeProfit" in leg.kind
        order = Order(
            order_id="",
            link_id="",
            account=account,
            instrument=position.contract,
            side="Sell" if position.is_long else "Buy",
            order_type="Limit" if leg.limit_price else "Market",
            time_in_force="GTC" if leg.limit_price else "IOC",
            quantity=quantity,
            price=leg.limit_price,
            is_leverage="",
            order_filter="StopOrder",
            trigger_price=leg.trigger_price,
            trigger_rises=takes_profit == position.is_long,
            trigger_by=leg.trigger_by,
            stop_kind=leg.kind,
            create_type=f"CreateBy{leg.kind}",
            tpsl_mode=mode,
            position_idx=position.index,
            reduce_only=True,
            close_on_trigger=True,
            parent_link_id=parent.link_id if parent is not None else "",
            parent_id=parent.order_id if parent is not None else "",
            trailing=trailing,
            active_price=active_price,
            status="Untriggered",
        )
        if trailing:
            order.trigger_rises = order.is_buy
            if not active_price:
                self._start_trailing(order, self._engine.books[position.contract.key])
        self._engine.register(order)
        self._engine.changed(order)
        return order

    def _start_trailing(self, order: Order, book: Book) -> None:
        order.extreme = book.last_price
        order.trigger_price = order.extreme + (order.trailing if order.is_buy else -order.trailing)


def bind(one: Order, other: Order) -> None:
    """Two exits of one setting: the end of one is the end of the other."""
    one.pair, other.pair = other, one


def _legs(parent: Order) -> list[Leg]:
    """The exits an order carries."""
    prefix = "Partial" if parent.tpsl_mode == "Partial" else ""
    legs = []
    if parent.take_profit:
        limit = parent.tp_limit_price if parent.tp_order_type == "Limit" else ZERO
        legs.append(
            Leg(
                kind=f"{prefix}TakeProfit",
                trigger_price=parent.take_profit,
                trigger_by=parent.tp_trigger_by,
                limit_price=limit,
            )
        )
    if parent.stop_loss:
        limit = parent.sl_limit_price if parent.sl_order_type == "Limit" else ZERO
        legs.append(
            Leg(
                kind=f"{prefix}StopLoss",
                trigger_price=parent.stop_loss,
                trigger_by=parent.sl_trigger_by,
                limit_price=limit,
            )
        )
    return legs
