"""Closed profit and loss, one record per order that closed something (docs v5/position/close-pnl)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from ..money import ZERO
from .contracts import Contract


@dataclass(slots=True, eq=False)
class ClosedPnl:
    """What one order closed so far; ``profit`` is after the fees of opening and closing."""

    number: int
    order_id: str
    contract: Contract
    side: str
    order_type: str
    execution_kind: str
    order_price: Decimal
    order_quantity: Decimal
    leverage: Decimal
    created_ms: int
    updated_ms: int
    closed: Decimal = ZERO
    entry_value: Decimal = ZERO
    exit_value: Decimal = ZERO
    open_fee: Decimal = ZERO
    close_fee: Decimal = ZERO
    fills: int = 0

    @property
    def profit(self) -> Decimal:
        sign = 1 if self.side == "Sell" else -1  # a sell closes a long position
        return sign * (self.exit_value - self.entry_value) - self.open_fee - self.close_fee
