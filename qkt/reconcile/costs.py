"""Fees, taxes and funding per symbol, each execution and each payment counted once. Pure.

Only the newest identities are remembered: an older one is not repeated by frames, by rounds, or by lookups of orders.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import attrs

from qkt.model.costs import CostStatement, FundingPayment
from qkt.model.executions import Execution
from qkt.money import ZERO, exact_sum

_IDENTITIES_KEPT = 100_000


@attrs.define
class _Sums:
    fees: dict[str, Decimal] = attrs.field(factory=dict)
    taxes: dict[str, Decimal] = attrs.field(factory=dict)
    funding: dict[str, Decimal] = attrs.field(factory=dict)
    fills: int = 0
    payments: int = 0


class CostBook:
    """Running sums of one broker. Not thread-safe: its owner guards it."""

    def __init__(self) -> None:
        self._of_symbol: dict[str, _Sums] = {}
        self._known: dict[tuple[str, str], None] = {}

    def add_execution(self, execution: Execution) -> None:
        """Count a fill; one that was counted before is left out."""
        if not self._is_new((execution.broker_order_id, execution.exec_id)):
            return
        sums = self._of_symbol.setdefault(execution.symbol, _Sums())
        sums.fills += 1
        _add(sums.fees, [(execution.fee_currency, execution.fee)])
        _add(sums.taxes, execution.taxes)

    def add_funding(self, payment: FundingPayment) -> bool:
        """Count a funding payment; False when it was counted before."""
        if not self._is_new(("", payment.exec_id)):
            return False
        sums = self._of_symbol.setdefault(payment.symbol, _Sums())
        sums.payments += 1
        _add(sums.funding, [(payment.currency, payment.amount)])
        return True

    def statement(self, symbol: str, since_ms: int) -> CostStatement:
        """The sums of one symbol; empty when nothing was counted."""
        sums = self._of_symbol.get(symbol, _Sums())
        return CostStatement(
            symbol=symbol,
            since_ms=since_ms,
            fees=sums.fees,
            taxes=sums.taxes,
            funding=sums.funding,
            fills=sums.fills,
            funding_payments=sums.payments,
        )

    def _is_new(self, identity: tuple[str, str]) -> bool:
        if identity in self._known:
            return False
        self._known[identity] = None
        if len(self._known) > _IDENTITIES_KEPT:
            del self._known[next(iter(self._known))]
        return True


def _add(sums: dict[str, Decimal], amounts: Iterable[tuple[str, Decimal]]) -> None:
    for coin, amount in amounts:
        if amount:
            sums[coin] = exact_sum(sums.get(coin, ZERO), amount)
