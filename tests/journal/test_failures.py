"""Failovers that lose commits, answers that are lost, servers that are down, silent or restarted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from qkt.errors import JournalError, JournalUnavailableError, NotOwnerError
from qkt.journal import PostgresJournal
from qkt.journal.postgres_session import PostgresSession
from qkt.journal.protocol import EventDraft, JournalFact, PermitOutcome, Resolution
from qkt.journal.verify import verify
from tests.support.journal_stores import ACCOUNT, TTL_MS, PostgresStore, SqliteStore, Store, a_draft
from tests.support.postgres_server import PostgresServer


@pytest.fixture
def failed_over(copied_store: Store) -> Store:
    """A store whose last commits were lost: the takeover by ``bot-b`` as epoch 2, and its permit ``lost``."""
    first = copied_store.open(owner="bot-a")
    first.acquire(ACCOUNT, ttl_ms=TTL_MS)
    first.append(ACCOUNT, 1, [a_draft("kept")])
    copied_store.save_copy()
    second = copied_store.open(owner="bot-b")
    second.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1)
    second.append(ACCOUNT, 2, [a_draft("lost")])
    second.record(ACCOUNT, 2, events=[EventDraft(key="k", kind="OrderAccepted", body="{}")])
    copied_store.restore_copy()
    return copied_store


def test_an_owner_whose_takeover_was_lost_gets_no_permit(failed_over: Store) -> None:
    second = failed_over.journals[1]  # type: ignore[attr-defined]

    with pytest.raises((NotOwnerError, JournalUnavailableError)):
        second.append(ACCOUNT, 2, [a_draft("after")])

    assert [permit.intent for permit in failed_over.open().permits(ACCOUNT)] == ["kept"]


def test_an_order_whose_permit_was_lost_is_not_known(failed_over: Store) -> None:
    found = failed_over.open().find_links(ACCOUNT, ["link-kept-1", "link-lost-1"])

    assert list(found) == ["link-kept-1"]


def test_a_successor_takes_an_epoch_above_the_lost_one(failed_over: Store) -> None:
    third = failed_over.open(owner="bot-c")
    failed_over.execute("UPDATE {p}lease SET expires_at_ms = 1")

    assert third.acquire(ACCOUNT, ttl_ms=TTL_MS, min_epoch=3).lease.epoch == 3
    assert [permit.intent for permit in third.open_permits(ACCOUNT, before_epoch=3)] == ["kept"]
    assert verify(third.snapshot(ACCOUNT)) == ()


def test_a_follower_that_is_ahead_of_a_failover_is_told(failed_over: Store) -> None:
    with pytest.raises(JournalError, match="events were lost"):
        failed_over.open().events(ACCOUNT, after=3)


def test_a_postgres_journal_goes_on_after_a_failover_by_itself(own_database: PostgresStore) -> None:
    journal = own_database.open()
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    own_database.save_copy()
    own_database.restore_copy()

    assert journal.append(ACCOUNT, 1, [a_draft()])


def test_a_sqlite_file_that_was_replaced_while_open_is_not_written_to(sqlite_store: SqliteStore) -> None:
    journal = sqlite_store.open()
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    sqlite_store.path.rename(sqlite_store.path.with_suffix(".moved"))
    sqlite_store.open()

    with pytest.raises(JournalUnavailableError, match="replaced"):
        journal.append(ACCOUNT, 1, [a_draft()])
    with pytest.raises(JournalUnavailableError, match="replaced"):
        journal.renew(ACCOUNT, 1, ttl_ms=TTL_MS)


def test_a_sqlite_file_that_is_locked_too_long_is_unavailable(sqlite_store: SqliteStore) -> None:
    journal = sqlite_store.open(timeout_ms=30)
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    other = sqlite_store.raw()
    other.execute("BEGIN IMMEDIATE")

    with pytest.raises(JournalUnavailableError, match="SQLITE_BUSY"):
        journal.append(ACCOUNT, 1, [a_draft()])

    other.execute("ROLLBACK")
    other.close()
    assert journal.append(ACCOUNT, 1, [a_draft()])


@pytest.fixture
def lose_the_next_answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the next message be committed and its answer be lost with the connection."""
    run_once = PostgresSession._run_once

    def lose() -> None:
        def run(session: PostgresSession, message: str, values: Any) -> Any:
            monkeypatch.setattr(PostgresSession, "_run_once", run_once)
            run_once(session, message, values)
            raise psycopg.OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(PostgresSession, "_run_once", run)

    return lose


Lose = Callable[[], None]


def test_a_permit_whose_answer_was_lost_is_given_once(
    postgres_store: PostgresStore, lose_the_next_answer: Lose
) -> None:
    journal = postgres_store.open()
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    for number, operation in enumerate(("create", "amend"), start=1):
        lose_the_next_answer()

        (permit,) = journal.append(ACCOUNT, 1, [a_draft(operation=operation)])

        assert journal.permits(ACCOUNT)[number - 1 :] == (permit,)


def test_leases_whose_answers_were_lost_are_held_once(
    postgres_store: PostgresStore, lose_the_next_answer: Lose
) -> None:
    journal, other = postgres_store.open(), postgres_store.open()
    lose_the_next_answer()
    assert journal.acquire(ACCOUNT, ttl_ms=TTL_MS).lease.epoch == 1
    lose_the_next_answer()
    assert journal.renew(ACCOUNT, 1, ttl_ms=TTL_MS).granted
    lose_the_next_answer()
    taken = other.take_over(ACCOUNT, ttl_ms=TTL_MS, from_epoch=1)
    assert (taken.granted, taken.lease.epoch) == (True, 2)
    lose_the_next_answer()
    assert other.release(ACCOUNT, 2)


def test_what_was_recorded_without_an_answer_is_recorded_once(
    postgres_store: PostgresStore, lose_the_next_answer: Lose
) -> None:
    journal = postgres_store.open()
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    (permit,) = journal.append(ACCOUNT, 1, [a_draft()])
    lose_the_next_answer()

    recorded = journal.record(
        ACCOUNT,
        1,
        resolutions=[Resolution(seq=permit.seq, outcome=PermitOutcome.ACCEPTED)],
        facts=[JournalFact(category="spot", order_id="1", exec_id="e", body="{}")],
        events=[EventDraft(key="k", kind="OrderFilled", body="{}")],
    )

    assert recorded.contradicted == ()
    assert len(journal.facts(ACCOUNT)) == 1
    assert [event.key for event in journal.events()].count("k") == 1


def test_lost_connections_are_replaced_without_the_caller_noticing(postgres_store: PostgresStore) -> None:
    journal = postgres_store.open()
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    for number in range(3):
        postgres_store.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'qkt-journal'"
        )
        assert journal.append(ACCOUNT, 1, [a_draft(str(number))])

    assert len(journal.permits(ACCOUNT)) == 3


def test_a_statement_that_waits_too_long_is_ended(postgres_store: PostgresStore) -> None:
    journal = postgres_store.open(timeout_ms=150)
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    with psycopg.connect(postgres_store.address) as blocker:
        blocker.execute(f"SELECT 1 FROM {postgres_store.schema}.lease FOR UPDATE".encode())

        with pytest.raises(JournalUnavailableError, match="QueryCanceled"):
            journal.append(ACCOUNT, 1, [a_draft()])

    assert journal.append(ACCOUNT, 1, [a_draft()])


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    """A server that the test may stop."""
    server = PostgresServer()
    yield server
    server.close()


def test_a_server_that_crashes_stops_permits_until_it_is_back(own_server: PostgresServer) -> None:
    with PostgresJournal(own_server.dsn(), timeout_ms=800) as journal:
        journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
        (granted,) = journal.append(ACCOUNT, 1, [a_draft("before")])
        own_server.stop("immediate")
        for _ in range(2):
            with pytest.raises(JournalUnavailableError, match="nothing was sent"):
                journal.append(ACCOUNT, 1, [a_draft("meanwhile")])
        own_server.start()

        assert journal.renew(ACCOUNT, 1, ttl_ms=TTL_MS).granted
        journal.append(ACCOUNT, 1, [a_draft("after")])

        assert journal.permits(ACCOUNT)[0] == granted
        assert [permit.intent for permit in journal.permits(ACCOUNT)] == ["before", "after"]


def test_a_server_that_is_silent_ends_the_wait_at_the_deadline(own_server: PostgresServer) -> None:
    with PostgresJournal(own_server.dsn(), timeout_ms=200) as journal:
        journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
        own_server.pause()
        try:
            with pytest.raises(JournalUnavailableError, match="no answer in time"):
                journal.append(ACCOUNT, 1, [a_draft("silent")])
        finally:
            own_server.resume()

        assert journal.append(ACCOUNT, 1, [a_draft("after")])


def test_a_follower_listens_again_after_the_server_was_restarted(own_server: PostgresServer) -> None:
    with PostgresJournal(own_server.dsn()) as journal, PostgresJournal(own_server.dsn()) as follower:
        journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
        start = follower.events()[-1].seq
        own_server.stop("fast")
        own_server.start()
        journal.record(ACCOUNT, 1, events=[EventDraft(key="k", kind="OrderFilled", body="{}")])

        assert [event.key for event in follower.events(after=start, timeout_ms=10_000)] == ["k"]
