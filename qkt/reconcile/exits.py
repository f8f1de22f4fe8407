"""What orders say about the exits of positions: exit orders of the venue, and orders that carry exits.

Pure: reads an `Order` and returns what `qkt.reconcile.protection` joins with the positions.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from decimal import Decimal

import attrs

from qkt.model.order_kinds import ExitMode, Side, StopKind
from qkt.model.order_report import VenueStatus
from qkt.model.protection import ProtectionKind
from qkt.money import ZERO
from qkt.orders.order import Order, TerminalKind
from qkt.reconcile.positions import INDEX_OF_SIDE

KINDS = {
    StopKind.TAKE_PROFIT: ProtectionKind.TAKE_PROFIT,
    StopKind.STOP_LOSS: ProtectionKind.STOP_LOSS,
    StopKind.TRAILING_STOP: ProtectionKind.TRAILING_STOP,
    StopKind.PARTIAL_TAKE_PROFIT: ProtectionKind.TAKE_PROFIT,
    StopKind.PARTIAL_STOP_LOSS: ProtectionKind.STOP_LOSS,
}


class ExitState(enum.Enum):
    """Where an exit order is: waiting for its trigger, triggered and at work, filled, or ended without filling."""

    WAITING = "WAITING"
    WORKING = "WORKING"
    FILLED = "FILLED"
    GONE = "GONE"


@attrs.frozen(kw_only=True)
class Exit:
    """One exit order of the venue. ``as_of_ms`` is the venue time of this version of it."""

    broker_order_id: str
    symbol: str
    position_idx: int
    kind: ProtectionKind
    is_partial: bool
    state: ExitState
    price: Decimal | None
    quantity: Decimal
    parent_client_order_id: str = ""
    as_of_ms: int = 0

    @property
    def name(self) -> str:
        """What a partial exit belongs to: the order it was given with, else itself; "" for the whole position's."""
        return (self.parent_client_order_id or self.broker_order_id) if self.is_partial else ""


@attrs.frozen(kw_only=True)
class Carrier:
    """An order that carries exits and has traded: its position must have them. ``filled_ms`` is its newest trade."""

    client_order_id: str
    symbol: str
    position_idx: int
    is_long: bool
    is_partial: bool
    exits: Mapping[ProtectionKind, Decimal]
    filled: Decimal
    filled_ms: int

    @property
    def name(self) -> str:
        """See `Exit.name`."""
        return self.client_order_id if self.is_partial else ""


def exit_of(order: Order) -> Exit | None:
    """The exit that an order is; None for every other order."""
    kind = KINDS.get(order.details.stop_kind)
    if kind is None:
        return None
    ended_ms = order.terminal.updated_ms if order.terminal is not None else 0
    return Exit(
        broker_order_id=order.broker_order_id,
        symbol=order.symbol,
        position_idx=INDEX_OF_SIDE[order.details.position_side],
        kind=kind,
        is_partial=order.details.stop_kind.is_partial,
        state=_state_of(order),
        price=order.terms.stop_price,
        quantity=order.terms.quantity or ZERO,
        parent_client_order_id=order.details.parent_client_order_id,
        as_of_ms=max(ended_ms, order.terms.updated_ms),
    )


def carrier_of(order: Order) -> Carrier | None:
    """The carrier that an order is; None when it carries no exits or has not traded.

    A reduce-only order opens nothing, so nothing follows from exits printed on it.
    """
    details = order.details
    if not details.has_exits or details.stop_kind.is_exit or details.reduce_only or not order.cum_quantity:
        return None
    wanted = {ProtectionKind.TAKE_PROFIT: details.take_profit, ProtectionKind.STOP_LOSS: details.stop_loss}
    newest = order.fills.newest
    return Carrier(
        client_order_id=order.client_order_id or order.broker_order_id,
        symbol=order.symbol,
        position_idx=INDEX_OF_SIDE[details.position_side],
        is_long=order.side is Side.BUY,
        is_partial=details.exit_mode is ExitMode.PARTIAL,
        exits={kind: price for kind, price in wanted.items() if price is not None},
        filled=order.cum_quantity,
        filled_ms=newest.exec_time_ms if newest is not None else order.terms.updated_ms,
    )


def _state_of(order: Order) -> ExitState:
    if order.terminal is not None:
        return ExitState.FILLED if order.terminal.kind is TerminalKind.FILLED else ExitState.GONE
    is_waiting = order.status in (None, VenueStatus.UNTRIGGERED, VenueStatus.UNKNOWN) and not order.cum_quantity
    return ExitState.WAITING if is_waiting else ExitState.WORKING
