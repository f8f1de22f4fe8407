"""Findings: what the rounds of one ``qkt reconcile`` showed, for the text, the JSON and the HTML report."""

from __future__ import annotations

import attrs

from qkt.cli import exit_codes
from qkt.health import Health
from qkt.model.balances import Wallet
from qkt.model.orders import OrderView
from qkt.reconcile.report import Discrepancy, ReconcileReport


@attrs.frozen(kw_only=True)
class Findings:
    """Everything the rounds of one run showed. ``reports`` oldest first."""

    place: str
    reports: tuple[ReconcileReport, ...]
    orders: tuple[OrderView, ...]
    wallet: Wallet
    health: Health

    @property
    def discrepancies(self) -> tuple[Discrepancy, ...]:
        """What differed, over all rounds."""
        return tuple(found for report in self.reports for found in report.discrepancies)

    @property
    def unresolved(self) -> tuple[str, ...]:
        """The orders nobody can speak for at the end."""
        return self.health.unresolved

    @property
    def code(self) -> int:
        """The exit code."""
        if self.unresolved or self.health.lookups_waiting:
            return exit_codes.UNKNOWN
        return exit_codes.OK if self.reports[-1].ok else exit_codes.UNAVAILABLE
