"""Costs of trading: funding payments, and the statement of fees, funding and taxes of one symbol."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import attrs

from qkt.model.order_kinds import Side
from qkt.money import ZERO
from qkt.plain import PlainValue
from qkt.readonly import ReadOnlyDict, read_only_decimals


@attrs.frozen(kw_only=True)
class FundingPayment(PlainValue):
    """One funding of one position.

    ``amount`` is in ``currency``: above zero was paid, below zero received. ``side`` is the position's (BUY is long),
    ``quantity`` its size, ``price`` the mark price of the settlement and ``rate`` the rate as charged to this position.
    Source: docs v5/order/execution (rows of type Funding).
    """

    exec_id: str
    symbol: str
    side: Side | None
    quantity: Decimal
    price: Decimal | None
    amount: Decimal
    currency: str
    rate: Decimal | None = None
    time_ms: int = 0


@attrs.frozen(kw_only=True)
class CostStatement(PlainValue):
    """What trading one symbol has cost since ``since_ms``; each mapping is coin -> amount, negative where received.

    ``fees`` are those of ``fills`` executions, ``taxes`` what was charged on top of them, ``funding`` the sum of
    ``funding_payments``.
    """

    symbol: str
    since_ms: int
    fees: Mapping[str, Decimal] = attrs.field(factory=dict, converter=read_only_decimals)
    taxes: Mapping[str, Decimal] = attrs.field(factory=dict, converter=read_only_decimals)
    funding: Mapping[str, Decimal] = attrs.field(factory=dict, converter=read_only_decimals)
    fills: int = 0
    funding_payments: int = 0

    @property
    def total(self) -> Mapping[str, Decimal]:
        """Coin -> fees, taxes and funding together."""
        coins = sorted({*self.fees, *self.taxes, *self.funding})
        parts = (self.fees, self.taxes, self.funding)
        return ReadOnlyDict({coin: sum((part.get(coin, ZERO) for part in parts), ZERO) for coin in coins})
