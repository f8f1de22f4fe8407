"""Orders that may only close: what they could close, and how the venue trims and cancels them.

A reduce-only order never opens a position. Together the resting ones of a position may not exceed its size: the
venue keeps those nearest to the market, cuts the one at the boundary and cancels the rest with
``CancelByReduceOnly``. In hedge mode an order of the closing side is always of this kind.
"""

from __future__ import annotations

from decimal import Decimal

from ..accounts import Account, Order
from ..engine import Engine
from ..money import ZERO
from .contracts import Contract


class Reduction:
    """Keeps reducing orders within their positions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def only_reduces(self, order: Order) -> bool:
        if order.reduce_only or order.close_on_trigger:
            return True
        return (order.position_idx == 1 and not order.is_buy) or (order.position_idx == 2 and order.is_buy)

    def closable(self, order: Order) -> Decimal:
        """How much of the position an order of its side could close, other orders aside."""
        return order.account.position(order.contract, order.position_idx).closable_by(order.side)

    def free_for(self, order: Order) -> Decimal:
        """How much a new reducing order could close beside the resting ones that come before it."""
        before = ZERO
        for other in self._resting(order.account, order.contract, order.position_idx, order.side):
            if other.price >= order.price if order.is_buy else other.price <= order.price:
                before += other.leaves_quantity
        return max(ZERO, self.closable(order) - before)

    def trim(self, order: Order) -> bool:
        """Cut an order that is about to match to its position; False when nothing is left and it was cancelled."""
        allowed = self.closable(order)
        if allowed <= 0:
            self._engine.close(order, "Cancelled", cancel_type="CancelByReduceOnly", reject_reason="EC_NoError")
            return False
        if order.leaves_quantity > allowed:
            order.quantity = order.cum_quantity + allowed
        return True

    def fillable(self, order: Order, quantity: Decimal) -> Decimal:
        quantity = min(quantity, order.leaves_quantity)
        return min(quantity, self.closable(order)) if self.only_reduces(order) else quantity

    def opening(self, order: Order) -> Decimal:
        """The part of an order that may open a position and so needs margin."""
        if self.only_reduces(order):
            return ZERO
        left = order.quantity - order.cum_quantity
        closing = self.closable(order)
        if not closing:
            return left
        ahead = sum(
            (
                other.leaves_quantity
                for other in order.account.open_orders.values()
                if other.is_resting
                and other is not order
                and other.instrument is order.instrument
                and other.position_idx == order.position_idx
                and other.side == order.side
                and not other.reduce_only
                and (not order.is_resting or other.priority < order.priority)
            ),
            ZERO,
        )
        return left - min(left, max(ZERO, closing - ahead))

    def rebalance(self, account: Account, contract: Contract, index: int) -> None:
        """Trim the resting reducing orders of a position to its size, the farthest from the market first."""
        for side in ("Buy", "Sell"):
            left = account.position(contract, index).closable_by(side)
            for order in self._resting(account, contract, index, side):
                allowed = min(order.leaves_quantity, left)
                left -= allowed
                if allowed == order.leaves_quantity:
                    continue
                if allowed <= 0:
                    self._engine.cancel(order, cancel_type="CancelByReduceOnly", reject_reason="EC_NoError")
                else:
                    order.quantity = order.cum_quantity + allowed
                    self._engine.changed(order)

    def make_room(self, order: Order) -> None:
        """A close-on-trigger order comes before every other order of its side that would close the position."""
        for other in self._resting(order.account, order.contract, order.position_idx, order.side):
            if other is not order:
                self._engine.cancel(other, cancel_type="CancelByReduceOnly", reject_reason="EC_NoError")

    def _resting(self, account: Account, contract: Contract, index: int, side: str | None = None) -> list[Order]:
        """Resting reducing orders of a position, those that trade first in front."""
        found = [
            order
            for order in account.open_orders.values()
            if order.is_resting
            and order.instrument is contract
            and order.position_idx == index
            and (side is None or order.side == side)
            and self.only_reduces(order)
        ]
        return sorted(found, key=lambda order: (-order.price if order.is_buy else order.price, order.priority))
