"""Checks that a journal is consistent, and its text form: one JSON object a line. Pure.

`verify` finds what the protocol makes impossible, so that every finding means a damaged file, a hand-made change, or a
bug. `export_lines` and `parse_lines` are each other's inverse: an export can be verified without its database.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

import attrs

from qkt.errors import JournalError
from qkt.journal.intents import link_id, parse_link_id
from qkt.journal.protocol import (
    LEASE_ACQUIRED,
    JournalFact,
    JournalSnapshot,
    Lease,
    OutboxEvent,
    Permit,
    PermitOutcome,
)

FindingKind = Literal[
    "epoch_ahead_of_lease",
    "permit_after_takeover",
    "intent_with_two_orders",
    "intent_accepted_twice",
    "attempt_missing",
    "link_id_reused",
    "link_id_not_derived",
    "resolved_by_older_epoch",
    "fact_twice",
    "event_gap",
    "event_twice",
    "event_after_takeover",
    "takeover_not_told",
]


@attrs.frozen(kw_only=True)
class Finding:
    """One inconsistency: what kind, where it is (table and number), and what is wrong there."""

    kind: FindingKind
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.kind}: {self.message}"


def verify(snapshot: JournalSnapshot) -> tuple[Finding, ...]:
    """Everything that is inconsistent in one account's journal; empty for a sound one."""
    checks: tuple[Callable[[JournalSnapshot], Iterator[Finding]], ...] = (
        _check_epochs,
        _check_order_of_epochs,
        _check_intents,
        _check_link_ids,
        _check_resolutions,
        _check_facts,
        _check_events,
        _check_takeovers_told,
    )
    return tuple(finding for check in checks for finding in check(snapshot))


def _check_epochs(snapshot: JournalSnapshot) -> Iterator[Finding]:
    """No row carries an epoch above that of the lease."""
    highest = snapshot.lease.epoch if snapshot.lease else 0
    epochs = [
        *((f"permit {row.seq}", row.epoch) for row in snapshot.permits),
        *((f"fact {row.seq}", row.epoch) for row in snapshot.facts),
        *((f"event {row.seq}", row.epoch) for row in snapshot.events),
    ]
    for where, epoch in epochs:
        if epoch > highest:
            message = f"epoch {epoch}, while the lease is at {highest}"
            yield Finding(kind="epoch_ahead_of_lease", where=where, message=message)


def _check_order_of_epochs(snapshot: JournalSnapshot) -> Iterator[Finding]:
    """No permit of an epoch was stored after one of a later epoch: the fence would have failed."""
    highest = 0
    for permit in snapshot.permits:
        if permit.epoch < highest:
            yield Finding(
                kind="permit_after_takeover",
                where=f"permit {permit.seq}",
                message=f"granted under epoch {permit.epoch} after one of epoch {highest}",
            )
        highest = max(highest, permit.epoch)


def _check_intents(snapshot: JournalSnapshot) -> Iterator[Finding]:
    for intent, creates in _creates_by_intent(snapshot).items():
        last = creates[-1]
        where = f"permit {last.seq}"
        if len({permit.fingerprint for permit in creates}) > 1:
            yield Finding(
                kind="intent_with_two_orders", where=where, message=f"intent {intent!r} stands for different orders"
            )
        accepted = [permit for permit in creates if permit.outcome is PermitOutcome.ACCEPTED]
        if len(accepted) > 1:
            ids = ", ".join(permit.link_id for permit in accepted)
            yield Finding(kind="intent_accepted_twice", where=where, message=f"intent {intent!r} was accepted as {ids}")
        attempts = sorted(permit.attempt for permit in creates)
        if attempts != list(range(1, len(attempts) + 1)):
            yield Finding(kind="attempt_missing", where=where, message=f"intent {intent!r} has attempts {attempts}")


def _check_link_ids(snapshot: JournalSnapshot) -> Iterator[Finding]:
    """Find link ids used by more than one create, and generated link ids that do not match their row."""
    first: dict[str, Permit] = {}
    for permit in snapshot.permits:
        if permit.operation != "create":
            continue
        where = f"permit {permit.seq}"
        earlier = first.setdefault(permit.link_id, permit)
        if earlier is not permit:
            yield Finding(
                kind="link_id_reused", where=where, message=f"{permit.link_id} is that of permit {earlier.seq}"
            )
        if parse_link_id(permit.link_id) is None:
            continue  # named by the user
        expected = link_id(permit.account, permit.intent, epoch=permit.epoch, attempt=permit.attempt)
        if permit.link_id != expected:
            yield Finding(
                kind="link_id_not_derived", where=where, message=f"{permit.link_id}, where {expected} was expected"
            )


def _check_resolutions(snapshot: JournalSnapshot) -> Iterator[Finding]:
    for permit in snapshot.permits:
        if not permit.is_open and permit.resolved_epoch < permit.epoch:
            yield Finding(
                kind="resolved_by_older_epoch",
                where=f"permit {permit.seq}",
                message=f"granted under epoch {permit.epoch}, resolved under {permit.resolved_epoch}",
            )


def _check_facts(snapshot: JournalSnapshot) -> Iterator[Finding]:
    first: dict[tuple[str, ...], int] = {}
    for fact in snapshot.facts:
        if (earlier := first.setdefault(fact.key, fact.seq)) != fact.seq:
            yield Finding(
                kind="fact_twice",
                where=f"fact {fact.seq}",
                message=f"{fact.kind} {fact.exec_id} of order {fact.order_id} is fact {earlier} already",
            )


def _check_events(snapshot: JournalSnapshot) -> Iterator[Finding]:
    """Events count without gaps, tell each key once, and never fall back to an earlier epoch."""
    keys: dict[str, int] = {}
    expected, highest = None, 0
    for event in snapshot.events:
        where = f"event {event.seq}"
        if expected is not None and event.seq != expected:
            yield Finding(kind="event_gap", where=where, message=f"event {expected} is missing")
        if (earlier := keys.setdefault(event.key, event.seq)) != event.seq:
            yield Finding(kind="event_twice", where=where, message=f"key {event.key!r} is event {earlier} already")
        if event.epoch < highest:
            yield Finding(
                kind="event_after_takeover",
                where=where,
                message=f"told under epoch {event.epoch} after one of epoch {highest}",
            )
        expected, highest = event.seq + 1, max(highest, event.epoch)


def _check_takeovers_told(snapshot: JournalSnapshot) -> Iterator[Finding]:
    """Every epoch that permits were granted under was told by an event when it began."""
    told = {event.epoch for event in snapshot.events if event.kind == LEASE_ACQUIRED}
    for epoch in sorted({permit.epoch for permit in snapshot.permits} - told):
        yield Finding(
            kind="takeover_not_told", where=f"epoch {epoch}", message="has permits, and no event of its acquisition"
        )


def _creates_by_intent(snapshot: JournalSnapshot) -> Mapping[str, list[Permit]]:
    found: dict[str, list[Permit]] = defaultdict(list)
    for permit in snapshot.permits:
        if permit.operation == "create":
            found[permit.intent].append(permit)
    return found


def export_lines(snapshot: JournalSnapshot) -> Iterator[str]:
    """The snapshot as JSON lines: a header, then one line for each row, with its ``table``."""
    yield _line("journal", {"account": snapshot.account, "schema_version": snapshot.schema_version})
    if snapshot.lease is not None:
        yield _line("lease", attrs.asdict(snapshot.lease))
    for permit in snapshot.permits:
        yield _line("permit", {**attrs.asdict(permit), "outcome": permit.outcome.value})
    for fact in snapshot.facts:
        yield _line("fact", attrs.asdict(fact))
    for path, time_ms in sorted(snapshot.watermarks.items()):
        yield _line("watermark", {"path": path, "time_ms": time_ms})
    for event in snapshot.events:
        yield _line("event", attrs.asdict(event))


def parse_lines(lines: Iterable[str]) -> JournalSnapshot:
    """The snapshot that `export_lines` wrote; raises JournalError for a line that is none of its own."""
    tables: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            tables[row.pop("table")].append(row)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise JournalError(f"line {number} is not one of a journal's export: {line[:80]!r}") from error
    try:
        (header,) = tables.pop("journal", [])
        snapshot = JournalSnapshot(
            account=header["account"],
            schema_version=header["schema_version"],
            lease=next((Lease(**row) for row in tables.pop("lease", [])), None),
            permits=tuple(_permit(row) for row in tables.pop("permit", [])),
            facts=tuple(JournalFact(**row) for row in tables.pop("fact", [])),
            watermarks={row["path"]: row["time_ms"] for row in tables.pop("watermark", [])},
            events=tuple(OutboxEvent(**row) for row in tables.pop("event", [])),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise JournalError(f"the export is not whole or not of this version: {error}") from error
    if tables:
        raise JournalError(f"the export has tables that this version does not know: {', '.join(sorted(tables))}")
    return snapshot


def _line(table: str, values: Mapping[str, Any]) -> str:
    return json.dumps({"table": table, **values}, separators=(",", ":"))


def _permit(row: Mapping[str, Any]) -> Permit:
    return Permit(**{**row, "outcome": PermitOutcome(row["outcome"])})
