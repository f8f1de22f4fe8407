"""A position in one contract, and what a trade does to it.

``size`` and ``entry_value`` carry the direction: positive long, negative short. What a closing trade takes out of the
entry value is rounded once, and the profit is computed from the rounded amount, so that cash and entry value together
never gain or lose a digit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from ..money import ZERO, average
from .contracts import Contract

DEFAULT_LEVERAGE = Decimal(10)
_CENT_OF_A_CENT = Decimal("0.000000000001")


@dataclass(frozen=True, slots=True)
class Change:
    """What one trade did to a position: how much it opened and closed, and what the close earned before fees."""

    opened: Decimal
    closed: Decimal
    entry_value: Decimal
    """Unsigned entry value of the closed part."""
    profit: Decimal
    open_fee: Decimal = ZERO
    """Part of earlier opening fees that belongs to the closed part."""


@dataclass(slots=True, eq=False)
class Position:
    """One account's position in one contract; ``index`` is 0 in one-way mode, 1 (long) or 2 (short) in hedge mode."""

    contract: Contract
    index: int
    leverage: Decimal = DEFAULT_LEVERAGE
    size: Decimal = ZERO
    entry_value: Decimal = ZERO
    open_fees: Decimal = ZERO
    extra_margin: Decimal = ZERO
    """Margin added by hand to an isolated position."""
    take_profit: Decimal = ZERO
    stop_loss: Decimal = ZERO
    trailing_stop: Decimal = ZERO
    tp_trigger_by: str = "LastPrice"
    sl_trigger_by: str = "LastPrice"
    status: str = "Normal"
    current_realised: Decimal = ZERO
    total_realised: Decimal = ZERO
    created_ms: int = 0
    updated_ms: int = 0
    opened_ms: int = 0
    seq: int = -1
    key: tuple[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.key = (self.contract.symbol, self.index)

    @property
    def is_long(self) -> bool:
        return self.size > 0

    @property
    def side(self) -> str:
        """``Buy``, ``Sell``, or empty when flat."""
        return "" if not self.size else "Buy" if self.size > 0 else "Sell"

    @property
    def quantity(self) -> Decimal:
        return abs(self.size)

    @property
    def average_price(self) -> Decimal:
        return average(abs(self.entry_value), self.quantity) if self.size else ZERO

    def profit_at(self, price: Decimal) -> Decimal:
        """Unrealised profit at a price, before fees."""
        return self.size * price - self.entry_value

    def closable_by(self, side: str) -> Decimal:
        """How much an order of a side could close."""
        if not self.size or (side == "Buy") == self.is_long:
            return ZERO
        return self.quantity

    def apply(self, side: str, quantity: Decimal, price: Decimal) -> Change:
        """Book a trade: close what is on the other side first, open with the rest."""
        sign = 1 if side == "Buy" else -1
        closed = min(quantity, self.closable_by(side))
        change = self._close(closed, price) if closed else Change(ZERO, ZERO, ZERO, ZERO)
        opened = quantity - closed
        if opened:
            self.size += sign * opened
            self.entry_value += sign * opened * price
        return Change(opened, change.closed, change.entry_value, change.profit, change.open_fee)

    def _close(self, quantity: Decimal, price: Decimal) -> Change:
        sign = 1 if self.is_long else -1
        whole = quantity == self.quantity
        entry = self.entry_value if whole else _part(self.entry_value, quantity, self.quantity)
        fee = self.open_fees if whole else _part(self.open_fees, quantity, self.quantity)
        profit = sign * quantity * price - entry
        self.size -= sign * quantity
        self.entry_value -= entry
        self.open_fees -= fee
        return Change(ZERO, quantity, abs(entry), profit, fee)


def _part(value: Decimal, quantity: Decimal, whole: Decimal) -> Decimal:
    return (value * quantity / whole).quantize(_CENT_OF_A_CENT)
