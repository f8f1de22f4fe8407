"""What a round did, for people and for machines: each path's result, and every discrepancy it healed.

A discrepancy is something the bot believed wrongly and now does not: what differed, the evidence, the likely cause, how
long it had been wrong. What a healthy stream would have said a moment later is none (S94).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import attrs

from qkt.events import FillEvent
from qkt.money import to_wire
from qkt.orders.facts import ExecutionReported, OrderReported
from qkt.orders.ledger import Change
from qkt.orders.order import AGED_OUT, NEVER_ARRIVED
from qkt.plain import PlainValue
from qkt.reconcile.snapshot import Completeness, MalformedRow, Read


@attrs.frozen(kw_only=True)
class Discrepancy(PlainValue):
    """One thing that was believed wrongly. ``wrong_for_ms`` is None where it is not known."""

    kind: str
    client_order_id: str = ""
    broker_order_id: str = ""
    what: str
    evidence: str
    likely_cause: str
    wrong_for_ms: int | None = None
    at_ms: int = 0

    def __str__(self) -> str:
        who = self.client_order_id or self.broker_order_id
        age = "" if self.wrong_for_ms is None else f", wrong for {self.wrong_for_ms} ms"
        return f"{self.kind} {who}: {self.what} (evidence: {self.evidence}; likely cause: {self.likely_cause}{age})"


@attrs.frozen(kw_only=True)
class PathResult(PlainValue):
    """One path of a round."""

    path: str
    completeness: Completeness
    rows: int = 0
    pages: int = 0
    duration_ms: int = 0
    problems: tuple[str, ...] = ()
    malformed: tuple[MalformedRow, ...] = ()

    @property
    def ok(self) -> bool:
        """True when the path was read completely."""
        return self.completeness is Completeness.COMPLETE

    @classmethod
    def of(cls, read: Read[Any]) -> PathResult:
        """The summary of a read."""
        return cls(
            path=read.path,
            completeness=read.completeness,
            rows=len(read.rows),
            pages=read.pages,
            duration_ms=read.duration_ms,
            problems=read.problems,
            malformed=read.malformed,
        )


@attrs.frozen(kw_only=True)
class ReconcileReport(PlainValue):
    """One round. ``ok``: every path was read completely and every question asked. Printable; `to_dict` is JSON-able.

    ``taken_in`` facts were learnt from the round's reads and not from the stream, but were too young to call them
    missed: a healthy stream might have told them a moment later. ``lookups_made`` orders were looked up by id;
    ``lookups_waiting`` more wait for the next round. ``unresolved`` names the orders whose state is unknown.
    """

    source: str
    trigger: str
    started_ms: int
    duration_ms: int
    paths: tuple[PathResult, ...]
    discrepancies: tuple[Discrepancy, ...] = ()
    taken_in: int = 0
    adopted: int = 0
    lookups_made: int = 0
    lookups_waiting: int = 0
    lookups_failed: int = 0
    unresolved: tuple[str, ...] = ()

    plain_properties: ClassVar[tuple[str, ...]] = ("ok",)

    @property
    def ok(self) -> bool:
        """True when what qkt believes now is what the venue held during the round."""
        return all(path.ok for path in self.paths) and not self.lookups_failed

    @property
    def failures(self) -> tuple[PathResult, ...]:
        """The paths that were not read completely."""
        return tuple(path for path in self.paths if not path.ok)

    def path(self, name: str) -> PathResult | None:
        """The result of one path, e.g. ``orders``."""
        return next((path for path in self.paths if path.path == name), None)

    def __str__(self) -> str:
        state = "complete" if self.ok else "INCOMPLETE"
        lines = [f"{self.source} round ({self.trigger}) {state} in {self.duration_ms} ms"]
        for path in self.paths:
            problems = f": {'; '.join(path.problems)}" if path.problems else ""
            lines.append(
                f"  {path.path:<11} {path.completeness.value:<8} rows={path.rows} pages={path.pages} "
                f"{path.duration_ms} ms{problems}"
            )
        if self.lookups_made or self.lookups_waiting:
            lines.append(f"  asked by id {self.lookups_made}, waiting {self.lookups_waiting}")
        if self.taken_in:
            lines.append(f"  taken in by the round, too young to call missed: {self.taken_in}")
        lines.extend(f"  healed: {discrepancy}" for discrepancy in self.discrepancies)
        if self.unresolved:
            lines.append(f"  unresolved: {', '.join(self.unresolved)}")
        return "\n".join(lines)


def discrepancies(changes: Iterable[Change], *, now_ms: int, grace_ms: int, is_first: bool) -> list[Discrepancy]:
    """What a list of changes says was believed wrongly before them. ``now_ms`` is venue time at the fence.

    In a broker's first round nothing was believed yet, so only what no start explains counts.
    """
    found: list[Discrepancy] = []
    for change in changes:
        found.extend(_always_told(change, now_ms))
        if not is_first and change.fact.origin == "reconcile":
            found.extend(_missed_by_the_stream(change, now_ms, grace_ms))
    return found


def taken_in(changes: Iterable[Change], *, now_ms: int, grace_ms: int) -> int:
    """How many changes with events came from the round's own reads and were too young for a discrepancy."""
    return sum(
        1
        for change in changes
        if change.events
        and change.fact.origin == "reconcile"
        and isinstance(change.fact, ExecutionReported | OrderReported)
        and not any(_missed_by_the_stream(change, now_ms, grace_ms))
        and not any(_always_told(change, now_ms))
        and now_ms - _happened_ms(change.fact) < grace_ms
    )


def _happened_ms(fact: ExecutionReported | OrderReported) -> int:
    if isinstance(fact, ExecutionReported):
        return fact.execution.exec_time_ms
    return fact.report.updated_ms or fact.report.created_ms


def _always_told(change: Change, now_ms: int) -> Iterable[Discrepancy]:
    before, after = change.before, change.after
    ids: dict[str, Any] = {
        "client_order_id": after.client_order_id,
        "broker_order_id": after.broker_order_id,
        "at_ms": change.fact.at_ms,
    }
    if change.is_resurrection and before is not None and before.terminal is not None:
        yield Discrepancy(
            kind="resurrected",
            what=f"told as {before.terminal.reason}, and the venue has it",
            evidence=type(change.fact).__name__,
            likely_cause="the request arrived after every deadline the venue documents",
            wrong_for_ms=max(0, change.fact.at_ms - before.terminal.since_ms),
            **ids,
        )
    for event in change.events:
        if isinstance(event, FillEvent) and event.late:
            yield Discrepancy(
                kind="late_fill",
                what=f"{to_wire(event.quantity)} more executed than was known when the order ended",
                evidence=f"execution {event.exec_id}",
                likely_cause="the venue showed the execution after the end",
                wrong_for_ms=max(0, now_ms - event.exec_time_ms) if event.exec_time_ms else None,
                **ids,
            )
    if (
        after.terminal is not None
        and after.is_terminal_published
        and not (before is not None and before.is_terminal_published)
    ):
        if after.missing_quantity:
            yield Discrepancy(
                kind="missing_fills",
                what=f"{to_wire(after.missing_quantity)} reported as executed and shown by no execution",
                evidence=f"order row {after.venue_status} cum={to_wire(after.reported_quantity)}",
                likely_cause="the venue's execution list lags or lost rows",
                **ids,
            )
        if after.terminal.reason == AGED_OUT:
            yield Discrepancy(
                kind=AGED_OUT,
                what="believed open, and no longer shown anywhere",
                evidence="complete reads of open orders, realtime, history and executions",
                likely_cause="cancelled unfilled more than a day ago",
                **ids,
            )


def _missed_by_the_stream(change: Change, now_ms: int, grace_ms: int) -> Iterable[Discrepancy]:
    before, after, fact = change.before, change.after, change.fact
    ids: dict[str, Any] = {
        "client_order_id": after.client_order_id,
        "broker_order_id": after.broker_order_id,
        "at_ms": fact.at_ms,
        "likely_cause": "ws_drop: no frame told it",
    }
    if isinstance(fact, ExecutionReported):
        age_ms = now_ms - _happened_ms(fact)
        is_told = any(isinstance(event, FillEvent) and event.exec_id and not event.late for event in change.events)
        if is_told and age_ms >= grace_ms:
            yield Discrepancy(
                kind="missed_fill",
                what=f"{to_wire(fact.execution.quantity)} @ {to_wire(fact.execution.price)} unknown",
                evidence=f"execution {fact.execution.exec_id}",
                wrong_for_ms=age_ms,
                **ids,
            )
    if isinstance(fact, OrderReported):
        age_ms = now_ms - _happened_ms(fact)
        if age_ms < grace_ms:
            return
        if before is None:
            yield Discrepancy(
                kind="missed_order",
                what=f"an outside order {after.venue_status} unknown",
                evidence="order row",
                wrong_for_ms=age_ms,
                **ids,
            )
        elif before.terminal is None and after.terminal is not None and after.terminal.reason != NEVER_ARRIVED:
            yield Discrepancy(
                kind="missed_end",
                what=f"believed {before.view_status.value}, is {after.view_status.value}",
                evidence=f"order row {fact.report.venue_status} {after.terminal.reason}".rstrip(),
                wrong_for_ms=age_ms,
                **ids,
            )
        elif not before.terms.says_the_same_as(after.terms):
            yield Discrepancy(
                kind="missed_amend", what="other terms than believed", evidence="order row", wrong_for_ms=age_ms, **ids
            )
