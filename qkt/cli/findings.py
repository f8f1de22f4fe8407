"""Findings of one ``qkt reconcile``, for the text, the JSON and the HTML report."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from qkt.cli import exit_codes
from qkt.model.balances import Wallet
from qkt.model.orders import OrderView
from qkt.reconcile.report import Discrepancy, ReconcileReport


@attrs.frozen(kw_only=True)
class Findings:
    """Everything that the rounds of one run showed.

    ``reports`` are in order of time, of all categories in ``scope``; ``unread`` is category -> why it was not read.
    """

    place: str
    scope: str
    reports: tuple[ReconcileReport, ...]
    orders: tuple[OrderView, ...]
    wallet: Wallet
    unresolved: tuple[str, ...]
    lookups_waiting: int = 0
    unread: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def discrepancies(self) -> tuple[Discrepancy, ...]:
        """Differences found, over all rounds."""
        return tuple(found for report in self.reports for found in report.discrepancies)

    @property
    def last_reports(self) -> tuple[ReconcileReport, ...]:
        """The last report of each category."""
        return tuple({report.source: report for report in self.reports}.values())

    @property
    def code(self) -> int:
        """Exit code: 4 for something unresolved, 3 for something unread, 1 for a difference, else 0."""
        if self.unresolved or self.lookups_waiting:
            return exit_codes.UNKNOWN
        if self.unread or not all(report.ok for report in self.last_reports):
            return exit_codes.UNAVAILABLE
        return exit_codes.NO if self.discrepancies else exit_codes.OK


def nothing_differed(findings: Findings) -> str:
    """The sentence for a run without discrepancies, with the number of facts that only rounds brought."""
    taken_in = sum(int(getattr(report, "taken_in", 0)) for report in findings.reports)
    if not taken_in:
        return f"nothing in {findings.scope}: no round found a fact that the stream had not delivered"
    return (
        f"nothing in {findings.scope} that the stream can be blamed for: the rounds took in {taken_in} facts that were "
        "too young to count as missed"
    )
