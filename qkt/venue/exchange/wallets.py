"""The balance of one coin: total, and locked by open orders."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from .money import ZERO


@dataclass(slots=True)
class Balance:
    total: Decimal = ZERO
    locked: Decimal = ZERO
    order_margin: Decimal = ZERO
    """Initial margin of open contract orders settled in this coin."""

    @property
    def available(self) -> Decimal:
        return self.total - self.locked
