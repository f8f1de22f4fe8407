"""A sound journal has no finding, each kind of damage has its own, and an export is the journal in text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import attrs
import pytest

from qkt.errors import JournalError
from qkt.journal.intents import link_id
from qkt.journal.protocol import EventDraft, JournalFact, JournalSnapshot, PermitDraft, PermitOutcome, Resolution
from qkt.journal.store import JournalStore
from qkt.journal.verify import FindingKind, export_lines, parse_lines, verify
from tests.support.journal_stores import ACCOUNT, TTL_MS, SqliteStore, Store, a_draft

Damage = Callable[[JournalSnapshot], JournalSnapshot]


def fill(journal: JournalStore, epoch: int) -> None:
    """One whole story under an epoch: two intents, one of them entered twice, an execution, events."""
    name = f"epoch-{epoch}"
    first, second = journal.append(ACCOUNT, epoch, [derived(f"{name}-a", epoch), derived(f"{name}-b", epoch)])
    journal.record(
        ACCOUNT,
        epoch,
        resolutions=[
            Resolution(seq=first.seq, outcome=PermitOutcome.ACCEPTED, broker_order_id="9001"),
            Resolution(seq=second.seq, outcome=PermitOutcome.NEVER_ARRIVED),
        ],
        facts=[JournalFact(category="spot", order_id="9001", exec_id=f"{name}-{n}", body="{}") for n in range(2)],
        events=[EventDraft(key=f"{name}-{n}", kind="OrderFilled", body="{}") for n in range(2)],
        watermarks={"executions": epoch},
    )
    journal.append(ACCOUNT, epoch, [derived(f"{name}-b", epoch, attempt=2)])


def derived(intent: str, epoch: int, attempt: int = 1) -> PermitDraft:
    """A draft with the link id that the protocol derives."""
    return a_draft(intent, attempt=attempt, link_id=link_id(ACCOUNT, intent, epoch=epoch, attempt=attempt))


def a_sound_journal(store: Store) -> JournalSnapshot:
    """A journal of two owners, one after the other."""
    journal = store.open()
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    fill(journal, 1)
    other = store.open()
    assert other.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1).granted
    fill(other, 2)
    return other.snapshot(ACCOUNT)


@pytest.fixture
def sound(sqlite_store: SqliteStore) -> JournalSnapshot:
    return a_sound_journal(sqlite_store)


def with_permit(number: int, **changes: Any) -> Damage:
    def damage(snapshot: JournalSnapshot) -> JournalSnapshot:
        permits = list(snapshot.permits)
        permits[number] = attrs.evolve(permits[number], **changes)
        return attrs.evolve(snapshot, permits=tuple(permits))

    return damage


def with_event(number: int, **changes: Any) -> Damage:
    def damage(snapshot: JournalSnapshot) -> JournalSnapshot:
        events = list(snapshot.events)
        events[number] = attrs.evolve(events[number], **changes)
        return attrs.evolve(snapshot, events=tuple(events))

    return damage


def with_a_fact_twice(snapshot: JournalSnapshot) -> JournalSnapshot:
    again = attrs.evolve(snapshot.facts[0], seq=snapshot.facts[-1].seq + 1)
    return attrs.evolve(snapshot, facts=(*snapshot.facts, again))


def without_event(number: int) -> Damage:
    def damage(snapshot: JournalSnapshot) -> JournalSnapshot:
        return attrs.evolve(snapshot, events=snapshot.events[:number] + snapshot.events[number + 1 :])

    return damage


def without_permit(number: int) -> Damage:
    def damage(snapshot: JournalSnapshot) -> JournalSnapshot:
        return attrs.evolve(snapshot, permits=snapshot.permits[:number] + snapshot.permits[number + 1 :])

    return damage


# Permits of each epoch: "a", "b", and "b" again. Events of each epoch: its acquisition, then two.
DAMAGES: dict[FindingKind, Damage] = {
    "epoch_ahead_of_lease": with_permit(5, epoch=3),
    "permit_after_takeover": with_permit(4, epoch=1),
    "intent_with_two_orders": with_permit(2, fingerprint="another order"),
    "intent_accepted_twice": lambda snapshot: with_permit(2, outcome=PermitOutcome.ACCEPTED, resolved_epoch=1)(
        with_permit(1, outcome=PermitOutcome.ACCEPTED)(snapshot)
    ),
    "attempt_missing": without_permit(1),
    "link_id_reused": lambda snapshot: with_permit(1, link_id=snapshot.permits[0].link_id)(snapshot),
    "link_id_not_derived": with_permit(0, link_id=link_id(ACCOUNT, "another", epoch=1, attempt=1)),
    "resolved_by_older_epoch": with_permit(3, resolved_epoch=1),
    "fact_twice": with_a_fact_twice,
    "event_gap": without_event(1),
    "event_twice": with_event(2, key="epoch-1-0"),
    "event_after_takeover": with_event(5, epoch=1),
    "takeover_not_told": with_event(3, kind="OrderFilled"),
}


def test_a_sound_journal_has_no_finding(store: Store) -> None:
    sound = a_sound_journal(store)

    assert len(sound.permits) == 6
    assert len(sound.events) == 6
    assert verify(sound) == ()


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_kind_of_damage_is_found(kind: FindingKind, sound: JournalSnapshot) -> None:
    findings = verify(DAMAGES[kind](sound))

    assert kind in {finding.kind for finding in findings}
    assert all(str(finding).startswith(finding.where) for finding in findings)


def test_every_kind_of_finding_has_a_damage_here() -> None:
    assert set(DAMAGES) == set(get_args(FindingKind))


def test_an_export_is_the_journal_in_text(store: Store) -> None:
    sound = a_sound_journal(store)
    lines = list(export_lines(sound))

    assert parse_lines(lines) == sound
    assert all("\n" not in line for line in lines)
    assert len(lines) == 1 + 1 + 6 + 4 + 1 + 6


@pytest.mark.parametrize("line", ["", "[]", "{}", "not json", '{"table":"balance"}', '{"table":"lease","epoch":1}'])
def test_a_line_that_is_not_of_an_export_is_refused(sound: JournalSnapshot, line: str) -> None:
    header = next(export_lines(sound))

    with pytest.raises(JournalError):
        parse_lines([header, line])


def test_an_export_without_its_header_is_refused(sound: JournalSnapshot) -> None:
    with pytest.raises(JournalError, match="not whole"):
        parse_lines(list(export_lines(sound))[1:])
