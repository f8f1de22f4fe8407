"""The transaction log: one record per change of a coin's cash balance (docs v5/account/transaction-log)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from .money import ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One change; ``change`` equals ``cash_flow + funding - fee`` and ``cash_balance`` is what it led to.

    ``funding`` is positive when received, the opposite of a funding execution's ``execFee``.
    """

    number: int
    kind: str
    currency: str
    time_ms: int
    cash_balance: Decimal
    cash_flow: Decimal = ZERO
    funding: Decimal | None = None
    fee: Decimal = ZERO
    fee_rate: Decimal = ZERO
    category: str = ""
    symbol: str = ""
    base: str = ""
    side: str = "None"
    quantity: Decimal = ZERO
    size: Decimal = ZERO
    price: Decimal = ZERO
    trade_id: str = ""
    order_id: str = ""
    link_id: str = ""

    @property
    def change(self) -> Decimal:
        return self.cash_flow + (self.funding or ZERO) - self.fee
