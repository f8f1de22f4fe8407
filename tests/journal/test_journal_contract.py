"""What every journal promises, held for SQLite and for PostgreSQL alike."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from qkt.errors import (
    IntentConflictError,
    InvalidRequestError,
    JournalError,
    NotOwnerError,
    PermitExistsError,
)
from qkt.journal.protocol import EventDraft, Journal, JournalFact, PermitOutcome, Resolution
from qkt.journal.store import JournalStore
from tests.support.journal_stores import ACCOUNT, SIGNED_AT_MS, TTL_MS, Store, a_draft


def an_event(key: str, body: str = "{}") -> EventDraft:
    return EventDraft(key=key, kind="OrderFilled", body=body)


def a_fact(exec_id: str = "e1", **changes: Any) -> JournalFact:
    values: dict[str, Any] = {
        "category": "spot",
        "order_id": "9001",
        "exec_id": exec_id,
        "occurred_at_ms": 5,
        "body": "{}",
    }
    return JournalFact(**{**values, **changes})


def expire(store: Store) -> None:
    store.execute("UPDATE {p}lease SET expires_at_ms = 1")


def test_a_journal_is_one_by_its_protocol(journal: JournalStore) -> None:
    assert isinstance(journal, Journal)


def test_the_first_owner_has_epoch_one(store: Store) -> None:
    journal = store.open(owner="bot-a")

    result = journal.acquire(ACCOUNT, ttl_ms=TTL_MS)

    assert result.granted
    assert (result.lease.epoch, result.lease.owner) == (1, journal.owner)
    assert 0 < result.lease.remaining_ms <= TTL_MS


def test_a_second_owner_is_refused_and_learns_the_name_of_the_first(store: Store, journal: JournalStore) -> None:
    result = store.open(owner="bot-b").acquire(ACCOUNT, ttl_ms=TTL_MS)

    assert not result.granted
    assert result.lease.owner.startswith("bot-a/")


def test_the_same_label_in_another_process_is_another_owner(store: Store, journal: JournalStore) -> None:
    assert not store.open(owner="bot-a").acquire(ACCOUNT, ttl_ms=TTL_MS).granted


def test_acquiring_again_what_is_ours_renews_it(journal: JournalStore) -> None:
    again = journal.acquire(ACCOUNT, ttl_ms=5 * TTL_MS)

    assert (again.granted, again.lease.epoch) == (True, 1)
    assert again.lease.remaining_ms > TTL_MS


def test_an_expired_lease_is_taken_under_the_next_epoch(store: Store, journal: JournalStore) -> None:
    expire(store)

    result = store.open(owner="bot-b").acquire(ACCOUNT, ttl_ms=TTL_MS)

    assert (result.granted, result.lease.epoch) == (True, 2)


def test_a_released_lease_is_taken_at_once(store: Store, journal: JournalStore) -> None:
    assert journal.release(ACCOUNT, 1)
    released = journal.lease(ACCOUNT)
    assert released is not None
    assert (released.owner, released.is_free) == ("", True)

    assert store.open().acquire(ACCOUNT, ttl_ms=TTL_MS).lease.epoch == 2


def test_an_epoch_starts_where_it_is_asked_to(store: Store, journal: JournalStore) -> None:
    expire(store)

    assert store.open().acquire(ACCOUNT, ttl_ms=TTL_MS, min_epoch=9).lease.epoch == 9


def test_an_own_epoch_below_the_least_is_left_for_a_higher_one(journal: JournalStore) -> None:
    result = journal.acquire(ACCOUNT, ttl_ms=TTL_MS, min_epoch=5)

    assert (result.granted, result.lease.epoch) == (True, 5)


def test_renewing_extends_an_own_lease_that_expired_and_was_not_taken(store: Store, journal: JournalStore) -> None:
    expire(store)

    result = journal.renew(ACCOUNT, 1, ttl_ms=TTL_MS)

    assert result.granted
    assert result.lease.remaining_ms > 0


def test_renewing_is_refused_once_another_took_the_lease(store: Store, journal: JournalStore) -> None:
    other = store.open(owner="bot-b")
    assert other.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1).granted

    result = journal.renew(ACCOUNT, 1, ttl_ms=TTL_MS)

    assert (result.granted, result.lease.owner) == (False, other.owner)
    assert not journal.release(ACCOUNT, 1)


def test_a_takeover_needs_the_epoch_that_was_seen(store: Store, journal: JournalStore) -> None:
    other = store.open()

    assert not other.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=7).granted
    assert other.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1).lease.epoch == 2


def test_each_account_has_a_lease_of_its_own(store: Store, journal: JournalStore) -> None:
    other = store.open(owner="bot-b")
    assert other.acquire("BYBIT:7002", ttl_ms=TTL_MS).granted

    assert [(lease.account, lease.owner) for lease in other.leases()] == [
        (ACCOUNT, journal.owner),
        ("BYBIT:7002", other.owner),
    ]


def test_a_permit_is_stored_exactly_as_it_was_asked_for(journal: JournalStore) -> None:
    draft = a_draft(body='{"symbol":"BTC\'USDT","note":"100% \\u00e9 :name"}')

    (permit,) = journal.append(ACCOUNT, 1, [draft])

    assert journal.permits(ACCOUNT) == (permit,)
    assert (permit.body, permit.signed_at_ms, permit.recv_window_ms) == (draft.body, SIGNED_AT_MS, 2_000)
    assert (permit.epoch, permit.owner, permit.outcome) == (1, journal.owner, PermitOutcome.OPEN)
    assert permit.accepted_until_ms == SIGNED_AT_MS + 2_000


def test_no_permit_is_given_after_another_took_over(store: Store, journal: JournalStore) -> None:
    other = store.open(owner="bot-b")
    other.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1)

    with pytest.raises(NotOwnerError, match=r"owned by bot-b/.* under epoch 2") as refusal:
        journal.append(ACCOUNT, 1, [a_draft()])

    assert (refusal.value.owner, refusal.value.epoch) == (other.owner, 2)
    assert journal.permits(ACCOUNT) == ()


def test_no_permit_is_given_after_the_lease_was_released(journal: JournalStore) -> None:
    journal.release(ACCOUNT, 1)

    with pytest.raises(NotOwnerError, match="released under epoch 1"):
        journal.append(ACCOUNT, 1, [a_draft()])


def test_no_permit_is_given_for_an_account_without_a_lease(journal: JournalStore) -> None:
    with pytest.raises(NotOwnerError, match="has no lease"):
        journal.append("BYBIT:1", 1, [a_draft()])


def test_no_permit_is_given_under_the_epoch_of_another_owner(store: Store, journal: JournalStore) -> None:
    with pytest.raises(NotOwnerError):
        store.open(owner="bot-b").append(ACCOUNT, 1, [a_draft()])


def test_a_permit_is_given_under_a_lease_that_expired_and_was_not_taken(store: Store, journal: JournalStore) -> None:
    expire(store)

    assert journal.append(ACCOUNT, 1, [a_draft()])


def test_a_batch_is_permitted_whole_or_not_at_all(journal: JournalStore) -> None:
    journal.append(ACCOUNT, 1, [a_draft("b")])

    with pytest.raises(PermitExistsError):
        journal.append(ACCOUNT, 1, [a_draft("a"), a_draft("b")])

    assert [permit.intent for permit in journal.permits(ACCOUNT)] == ["b"]


def test_a_batch_comes_back_in_its_order(journal: JournalStore) -> None:
    intents = [f"i{number}" for number in range(20)]

    permits = journal.append(ACCOUNT, 1, [a_draft(intent) for intent in intents])

    assert [permit.intent for permit in permits] == intents
    assert [permit.seq for permit in permits] == sorted(permit.seq for permit in permits)


def test_one_intent_twice_in_a_batch_is_refused(journal: JournalStore) -> None:
    with pytest.raises(InvalidRequestError, match="same intent"):
        journal.append(ACCOUNT, 1, [a_draft("a"), a_draft("a")])


def test_another_order_under_a_used_intent_is_refused(journal: JournalStore) -> None:
    (first,) = journal.append(ACCOUNT, 1, [a_draft()])

    for attempt in (1, 2):
        with pytest.raises(IntentConflictError) as conflict:
            journal.append(ACCOUNT, 1, [a_draft(fingerprint="two bitcoin", attempt=attempt)])
        assert conflict.value.permit == first

    assert journal.permits(ACCOUNT) == (first,)


def test_the_same_attempt_is_permitted_once(journal: JournalStore) -> None:
    (first,) = journal.append(ACCOUNT, 1, [a_draft()])

    with pytest.raises(PermitExistsError) as refusal:
        journal.append(ACCOUNT, 1, [a_draft(signed_at_ms=SIGNED_AT_MS + 1)])

    assert refusal.value.permit == first


def test_an_intent_is_remembered_under_the_next_owner(store: Store, journal: JournalStore) -> None:
    (first,) = journal.append(ACCOUNT, 1, [a_draft()])
    other = store.open(owner="bot-b")
    other.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1)

    with pytest.raises(PermitExistsError) as refusal:
        other.append(ACCOUNT, 2, [a_draft()])

    assert refusal.value.permit == first


def test_a_further_attempt_and_amends_stand_under_the_intent(journal: JournalStore) -> None:
    assert journal.intent(ACCOUNT, "grid:42:buy") is None
    (first,) = journal.append(ACCOUNT, 1, [a_draft()])
    journal.append(ACCOUNT, 1, [a_draft(attempt=2)])
    amends = [journal.append(ACCOUNT, 1, [a_draft(operation="amend", link_id="link-2")])[0] for _ in range(2)]

    record = journal.intent(ACCOUNT, "grid:42:buy")

    assert record is not None
    assert [permit.attempt for permit in record.creates] == [1, 2]
    assert record.permits[2:] == tuple(amends)
    assert record.next_attempt == 3
    assert record.order == record.creates[1]

    journal.record(ACCOUNT, 1, resolutions=[Resolution(seq=first.seq, outcome=PermitOutcome.ACCEPTED)])
    accepted = journal.intent(ACCOUNT, "grid:42:buy")
    assert accepted is not None
    assert accepted.order == accepted.creates[0]


def test_an_intent_of_another_account_is_another_intent(store: Store, journal: JournalStore) -> None:
    journal.acquire("BYBIT:7002", ttl_ms=TTL_MS)
    journal.append(ACCOUNT, 1, [a_draft()])

    assert journal.append("BYBIT:7002", 1, [a_draft(fingerprint="other")])


def test_orders_are_found_by_their_link_ids(journal: JournalStore) -> None:
    permits = journal.append(ACCOUNT, 1, [a_draft(f"i{number}") for number in range(900)])
    journal.append(ACCOUNT, 1, [a_draft("i3", operation="amend", link_id="link-i3-1")])

    found = journal.find_links(ACCOUNT, [permit.link_id for permit in permits] + ["a stranger's"])

    assert dict(found) == {permit.link_id: permit for permit in permits}
    assert journal.find_links(ACCOUNT, []) == {}


def test_permits_are_read_page_by_page(journal: JournalStore) -> None:
    permits = journal.append(ACCOUNT, 1, [a_draft(f"i{number}") for number in range(5)])

    assert journal.permits(ACCOUNT, limit=2) == permits[:2]
    assert journal.permits(ACCOUNT, after=permits[1].seq, limit=2) == permits[2:4]


def test_a_new_owner_reads_the_open_permits_of_older_epochs(store: Store, journal: JournalStore) -> None:
    done, left = journal.append(ACCOUNT, 1, [a_draft("done"), a_draft("left")])
    journal.record(ACCOUNT, 1, resolutions=[Resolution(seq=done.seq, outcome=PermitOutcome.REFUSED)])
    other = store.open()
    other.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1)
    (own,) = other.append(ACCOUNT, 2, [a_draft("own")])

    assert other.open_permits(ACCOUNT, before_epoch=2) == (left,)
    assert other.open_permits(ACCOUNT) == (left, own)


@pytest.mark.parametrize(
    "changes",
    [
        {"attempt": 0},
        {"intent": ""},
        {"link_id": ""},
        {"signed_at_ms": 0},
        {"recv_window_ms": 0},
        {"operation": "buy"},
    ],
)
def test_a_draft_that_makes_no_sense_cannot_be_built(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        a_draft(**changes)


def test_the_outcome_of_a_permit_is_recorded(journal: JournalStore) -> None:
    (permit,) = journal.append(ACCOUNT, 1, [a_draft()])

    recorded = journal.record(
        ACCOUNT,
        1,
        resolutions=[Resolution(seq=permit.seq, outcome=PermitOutcome.ACCEPTED, broker_order_id="9001", reason="ack")],
    )

    (stored,) = journal.permits(ACCOUNT)
    assert recorded.contradicted == ()
    assert (stored.outcome, stored.broker_order_id, stored.reason) == (PermitOutcome.ACCEPTED, "9001", "ack")
    assert stored.resolved_epoch == 1
    assert stored.resolved_at_ms > 0


def test_the_first_outcome_stands_and_another_one_is_reported(journal: JournalStore) -> None:
    (permit,) = journal.append(ACCOUNT, 1, [a_draft()])
    never = Resolution(seq=permit.seq, outcome=PermitOutcome.NEVER_ARRIVED)
    journal.record(ACCOUNT, 1, resolutions=[never])

    assert journal.record(ACCOUNT, 1, resolutions=[never]).contradicted == ()
    late = journal.record(ACCOUNT, 1, resolutions=[Resolution(seq=permit.seq, outcome=PermitOutcome.ACCEPTED)])

    assert [told.outcome for told in late.contradicted] == [PermitOutcome.NEVER_ARRIVED]


def test_an_outcome_of_a_permit_that_is_not_there_is_refused(journal: JournalStore) -> None:
    with pytest.raises(InvalidRequestError, match="no permit"):
        journal.record(ACCOUNT, 1, resolutions=[Resolution(seq=4, outcome=PermitOutcome.ACCEPTED)])


def test_open_is_no_outcome_to_record(journal: JournalStore) -> None:
    with pytest.raises(InvalidRequestError, match="final"):
        journal.record(ACCOUNT, 1, resolutions=[Resolution(seq=1, outcome=PermitOutcome.OPEN)])


def test_an_execution_is_a_fact_once(store: Store, journal: JournalStore) -> None:
    first = journal.record(ACCOUNT, 1, facts=[a_fact("e1"), a_fact("e2"), a_fact("e1")])
    again = journal.record(ACCOUNT, 1, facts=[a_fact("e2"), a_fact("e3")])

    assert [fact.exec_id for fact in first.facts] == ["e1", "e2"]
    assert [fact.exec_id for fact in again.facts] == ["e3"]
    assert [fact.exec_id for fact in store.open().facts(ACCOUNT)] == ["e1", "e2", "e3"]


@pytest.mark.parametrize("changes", [{"category": "linear"}, {"order_id": "9002"}, {"kind": "end"}])
def test_an_execution_id_counts_within_category_and_order(journal: JournalStore, changes: dict[str, Any]) -> None:
    journal.record(ACCOUNT, 1, facts=[a_fact("e1")])

    assert journal.record(ACCOUNT, 1, facts=[a_fact("e1", **changes)]).facts


def test_facts_are_read_from_a_moment_on_and_page_by_page(journal: JournalStore) -> None:
    journal.record(ACCOUNT, 1, facts=[a_fact(f"e{time}", occurred_at_ms=time) for time in range(5)])

    late = journal.facts(ACCOUNT, since_ms=2, limit=2)

    assert [fact.exec_id for fact in late] == ["e2", "e3"]
    assert [fact.exec_id for fact in journal.facts(ACCOUNT, since_ms=2, after=late[-1].seq)] == ["e4"]


def test_a_watermark_never_moves_back(journal: JournalStore) -> None:
    journal.record(ACCOUNT, 1, watermarks={"executions": 50, "orders": 7})
    journal.record(ACCOUNT, 1, watermarks={"executions": 40, "orders": 8})

    assert dict(journal.watermarks(ACCOUNT)) == {"executions": 50, "orders": 8}


def test_nothing_is_recorded_by_an_owner_that_lost_the_account(store: Store, journal: JournalStore) -> None:
    store.open().take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1)

    with pytest.raises(NotOwnerError):
        journal.record(ACCOUNT, 1, facts=[a_fact()], events=[an_event("k")], watermarks={"executions": 1})

    assert (journal.facts(ACCOUNT), dict(journal.watermarks(ACCOUNT))) == ((), {})
    assert all(event.kind.startswith("lease.") for event in journal.events(ACCOUNT))


def test_events_are_followed_in_order_with_a_cursor(store: Store, journal: JournalStore) -> None:
    start = journal.last_event_seq(ACCOUNT)
    journal.record(ACCOUNT, 1, events=[an_event("a"), an_event("b")])
    journal.record(ACCOUNT, 1, events=[an_event("c")])
    follower = store.open(owner="dashboard")

    first = follower.events(after=start, limit=2)
    rest = follower.events(after=first[-1].seq)

    assert [event.key for event in (*first, *rest)] == ["a", "b", "c"]
    assert [event.seq for event in (*first, *rest)] == [start + 1, start + 2, start + 3]


def test_an_event_with_a_key_that_was_told_is_not_told_again(journal: JournalStore) -> None:
    start = journal.last_event_seq(ACCOUNT)
    journal.record(ACCOUNT, 1, events=[an_event("a", "first")])

    recorded = journal.record(ACCOUNT, 1, events=[an_event("a", "second"), an_event("b"), an_event("b")])

    assert [event.key for event in recorded.events] == ["b"]
    assert [(event.key, event.body) for event in journal.events(after=start)] == [("a", "first"), ("b", "{}")]


def test_changes_of_ownership_are_events(store: Store, journal: JournalStore) -> None:
    journal.release(ACCOUNT, 1)
    other = store.open(owner="bot-b")
    other.acquire(ACCOUNT, ttl_ms=TTL_MS)

    events = other.events(ACCOUNT)

    assert [(event.kind, event.epoch) for event in events] == [
        ("lease.acquired", 1),
        ("lease.released", 1),
        ("lease.acquired", 2),
    ]
    assert other.owner in events[-1].body


def test_a_follower_waits_until_another_process_tells_something(store: Store, journal: JournalStore) -> None:
    follower = store.open(owner="dashboard")
    start = follower.last_event_seq(ACCOUNT)
    heard: list[str] = []

    def follow() -> None:
        heard.extend(event.key for event in follower.events(after=start, timeout_ms=20_000))

    thread = threading.Thread(target=follow)
    thread.start()
    journal.record(ACCOUNT, 1, events=[an_event("news")])
    thread.join(timeout=10)

    assert heard == ["news"]


def test_a_follower_that_hears_nothing_gets_nothing_after_its_timeout(journal: JournalStore) -> None:
    assert journal.events(after=journal.last_event_seq(ACCOUNT), timeout_ms=60) == ()


def test_closing_ends_the_wait_of_a_follower(store: Store, journal: JournalStore) -> None:
    follower = store.open()
    thread = threading.Thread(
        target=follower.events, kwargs={"after": follower.last_event_seq(ACCOUNT), "timeout_ms": 50_000}
    )
    thread.start()
    follower.close()
    thread.join(timeout=10)

    assert not thread.is_alive()


def test_a_cursor_ahead_of_the_outbox_says_that_events_were_lost(journal: JournalStore) -> None:
    with pytest.raises(JournalError, match="ahead of the outbox"):
        journal.events(after=99)


def test_a_follower_of_several_accounts_names_the_one_it_means(journal: JournalStore) -> None:
    journal.acquire("BYBIT:7002", ttl_ms=TTL_MS)

    with pytest.raises(InvalidRequestError, match="2 accounts"):
        journal.events(after=0)
    assert [event.account for event in journal.events("BYBIT:7002")] == ["BYBIT:7002"]


def test_threads_that_tell_at_once_leave_no_gap_and_tell_each_key_once(journal: JournalStore) -> None:
    def tell(name: str) -> None:
        for number in range(15):
            journal.record(ACCOUNT, 1, events=[an_event(f"{name}:{number}"), an_event(f"shared:{number}")])

    threads = [threading.Thread(target=tell, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    events = journal.events()
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert len({event.key for event in events}) == len(events) == 1 + 4 * 15 + 15


def test_everything_is_there_after_a_restart(store: Store, journal: JournalStore) -> None:
    journal.append(ACCOUNT, 1, [a_draft()])
    journal.record(ACCOUNT, 1, facts=[a_fact()], events=[an_event("k")], watermarks={"executions": 1})
    before = journal.snapshot(ACCOUNT)
    journal.close()

    after = store.open().snapshot(ACCOUNT)

    assert (after.permits, after.facts, after.events) == (before.permits, before.facts, before.events)
    assert after.watermarks == before.watermarks


def test_a_closed_journal_says_so(journal: JournalStore) -> None:
    journal.close()
    journal.close()

    with pytest.raises(JournalError, match="closed"):
        journal.lease(ACCOUNT)


def test_a_journal_refuses_to_be_used_in_a_forked_child(journal: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: -1)

    with pytest.raises(JournalError, match="fork"):
        journal.lease(ACCOUNT)


def test_the_repr_says_where_it_is_and_whose(journal: JournalStore) -> None:
    assert journal.owner in repr(journal)


@pytest.mark.parametrize("account", ["", "a\nb"])
def test_an_account_that_cannot_be_named_is_refused(journal: JournalStore, account: str) -> None:
    with pytest.raises(InvalidRequestError, match="account"):
        journal.acquire(account, ttl_ms=TTL_MS)


def test_a_lease_without_a_duration_is_refused(journal: JournalStore) -> None:
    with pytest.raises(InvalidRequestError, match="ttl_ms"):
        journal.acquire(ACCOUNT, ttl_ms=0)
