"""A broker with a journal: one owner, permits before every create and amend, intents that survive a restart."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest

from qkt.broker.protocol import SubmitOutcome
from qkt.bus import EventBus
from qkt.bybit.linear import BybitLinearBroker
from qkt.bybit.ownership_keeper import keeper_of
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import (
    IntentConflictError,
    InvalidRequestError,
    JournalUnavailableError,
    NotOwnerError,
    VenueUnavailableError,
    WaitTimeoutError,
)
from qkt.events import BrokerEvent, OrderEvent, OwnershipChanged
from qkt.journal import SqliteJournal
from qkt.journal.intents import link_id
from qkt.journal.ownership_messages import HandOverRequested
from qkt.journal.protocol import Lease, Permit, PermitDraft, PermitOutcome, Recorded
from qkt.model.orders import OrderModification
from qkt.testing import FixedClock, TickScheduler
from qkt.testing.builders import a_limit_order, refusal
from tests.support.stage import AMEND, CANCEL, CREATE, EXECUTIONS, NOW_MS, REALTIME, Venue, words

ACCOUNT = "BYBIT:7001"


@attrs.define(slots=False)
class Run:
    """One run of a bot: its journal, broker, time and everything it heard."""

    venue: Venue
    path: Path
    clock: FixedClock
    label: str = "bot"
    heard: list[BrokerEvent] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.venue.client.responses["/v5/market/time"] = lambda: envelope_of(
            timeNano=str(self.clock.now_ms() * 1_000_000)
        )
        self.scheduler = TickScheduler(self.clock)
        self.bus = EventBus(self.clock)
        self.bus.subscribe(BrokerEvent, self.heard.append)
        self.journal = SqliteJournal(self.path, owner=self.label, clock=self.clock)
        self.broker: BybitSpotBroker | None = None

    def open(self, **options: Any) -> BybitSpotBroker:
        self.broker = BybitSpotBroker(
            self.venue.client, self.bus, self.clock, poll_scheduler=self.scheduler, journal=self.journal, **options
        )
        return self.broker

    def passes(self, seconds: int) -> None:
        self.scheduler.advance_ms(seconds * 1_000)
        self.bus.drain()

    def told(self) -> list[str]:
        return words(event for event in self.heard if isinstance(event, OrderEvent))

    def dies(self) -> None:
        """The process is killed: nothing is handed over and nothing more is recorded."""
        assert self.broker is not None
        for schedule in self.scheduler.schedules:
            schedule.cancel()
        self.journal.close()
        self.broker.close()


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(NOW_MS)


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    memory = Path("/dev/shm")
    folder = tempfile.mkdtemp(prefix="qkt-owner-", dir=memory if os.access(memory, os.W_OK) else tmp_path)
    return Path(folder) / "bot.db"  # type: ignore[return-value]


@pytest.fixture
def venue(clock: FixedClock) -> Venue:
    return Venue(clock)


@pytest.fixture
def run(venue: Venue, path: Path, clock: FixedClock) -> Iterator[Run]:
    run = Run(venue, path, clock)
    yield run
    if run.broker is not None:
        run.broker.close()
    run.journal.close()


def envelope_of(**result: Any) -> dict[str, Any]:
    """A successful answer."""
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 0}


def creates(venue: Venue) -> list[Any]:
    return [post for post in venue.client.posts if post.path == CREATE]


def second_run(run: Run, label: str = "next") -> Run:
    """The same account from another process: a client of its own on the same venue."""
    venue = Venue(run.clock)
    venue.orders, venue.executions, venue.wallet = run.venue.orders, run.venue.executions, run.venue.wallet
    return Run(venue, run.path, run.clock, label)


def stands_when_created(run: Run) -> None:
    """The venue takes each create, and its order stands."""

    def create(request: Any) -> dict[str, Any]:
        number = f"b{len(run.venue.orders) + 1}"
        run.venue.rests(number, request["orderLinkId"], qty=request["qty"], price=request["price"])
        return {
            "retCode": 0,
            "retMsg": "OK",
            "result": {"orderId": number, "orderLinkId": request["orderLinkId"]},
            "retExtInfo": {},
            "time": run.clock.now_ms(),
        }

    run.venue.client.responses[CREATE] = create


# ownership


def test_a_free_account_is_ours_at_once(run: Run) -> None:
    broker = run.open()

    assert (broker.ownership.state, broker.ownership.epoch) == ("owner", 1)
    assert broker.wait_for_ownership(timeout_ms=0) == broker.ownership


def test_without_a_journal_there_is_no_ownership(run: Run) -> None:
    with BybitSpotBroker(run.venue.client, run.bus, run.clock, poll_scheduler=run.scheduler) as broker:
        assert broker.ownership.state == "none"
        with pytest.raises(InvalidRequestError, match="journal"):
            broker.submit(a_limit_order(), intent="grid:1")
        with pytest.raises(InvalidRequestError, match="journal"):
            broker.hand_over()


def test_a_second_process_stands_by_and_may_only_cancel(run: Run) -> None:
    run.open()
    other = second_run(run)
    standby = other.open()
    other.venue.rests("b1", "c1")
    other.venue.push_order("b1")

    with pytest.raises(NotOwnerError, match="bot") as caught:
        standby.submit(a_limit_order(), intent="grid:1")
    with pytest.raises(NotOwnerError):
        standby.modify("c1", OrderModification(new_limit_price=Decimal(99)))
    with pytest.raises(WaitTimeoutError):
        standby.wait_for_ownership(timeout_ms=0)

    assert standby.ownership.state == "standby"
    assert caught.value.owner == run.journal.owner
    standby.cancel("c1")
    assert [post.path for post in other.venue.client.posts] == [CANCEL]
    standby.close()


def test_a_standby_takes_over_when_the_owner_died(run: Run) -> None:
    run.open()
    other = second_run(run)
    standby = other.open()
    run.dies()

    other.passes(11)

    assert (standby.ownership.state, standby.ownership.epoch) == ("owner", 2)
    states = [event.ownership.state for event in other.heard if isinstance(event, OwnershipChanged)]
    assert states[-2:] == ["quarantine", "owner"]
    standby.close()


def test_a_hand_over_gives_the_account_to_the_standby_within_a_second(run: Run) -> None:
    broker = run.open()
    other = second_run(run)
    standby = other.open()

    assert broker.hand_over().state == "standby"
    other.passes(1)

    assert standby.ownership.state == "owner"
    with pytest.raises(NotOwnerError):
        broker.submit(a_limit_order())
    standby.close()


def test_closing_the_last_broker_of_a_client_gives_the_account_away(run: Run) -> None:
    spot = run.open()
    linear = BybitLinearBroker(run.venue.client, run.bus, run.clock, poll_scheduler=run.scheduler, journal=run.journal)
    assert linear.ownership == spot.ownership

    spot.close()
    held = run.journal.lease(ACCOUNT)
    linear.close()
    freed = run.journal.lease(ACCOUNT)

    assert held is not None
    assert not held.is_free
    assert freed is not None
    assert freed.is_free


def test_brokers_of_one_client_must_share_the_journal(run: Run, tmp_path: Path) -> None:
    run.open()
    with SqliteJournal(tmp_path / "other.db") as other, pytest.raises(InvalidRequestError, match="share"):
        BybitLinearBroker(run.venue.client, run.bus, run.clock, poll_scheduler=run.scheduler, journal=other)


def test_a_journal_of_another_kind_is_refused(run: Run) -> None:
    with pytest.raises(InvalidRequestError, match="SqliteJournal or a PostgresJournal"):
        BybitSpotBroker(
            run.venue.client,
            run.bus,
            run.clock,
            poll_scheduler=run.scheduler,
            journal="bot.db",  # type: ignore[arg-type]
        )


def test_an_account_whose_user_id_the_venue_does_not_tell_is_refused(run: Run) -> None:
    run.venue.client.responses["/v5/user/query-api"] = envelope_of()

    with pytest.raises(InvalidRequestError, match="user id"):
        run.open()

    assert run.journal.leases() == ()


def test_a_hand_over_waits_for_the_answer_of_a_write_under_way(run: Run) -> None:
    broker = run.open()
    leases: list[Lease | None] = []

    def hands_over_before_it_answers(_: object) -> dict[str, Any]:
        keeper_of(run.venue.client).feed(HandOverRequested())
        leases.append(run.journal.lease(ACCOUNT))
        return envelope_of(orderId="b1")

    run.venue.client.responses[CREATE] = hands_over_before_it_answers
    broker.submit(a_limit_order(), intent="grid:1")
    leases.append(run.journal.lease(ACCOUNT))

    assert [lease is not None and lease.is_free for lease in leases] == [False, True]
    assert [permit.outcome for permit in run.journal.permits(ACCOUNT)] == [PermitOutcome.ACCEPTED]


def test_an_owner_freezes_when_the_stream_shows_a_higher_epoch(run: Run) -> None:
    broker = run.open()

    run.venue.rests("b9", link_id(ACCOUNT, "theirs", epoch=7, attempt=1))
    run.venue.push_order("b9")

    assert broker.ownership.state == "lost"
    with pytest.raises(NotOwnerError):
        broker.submit(a_limit_order())
    assert creates(run.venue) == []


def test_an_order_that_the_journal_has_forgotten_is_ours_and_told(run: Run) -> None:
    broker = run.open()

    run.venue.rests("b9", link_id(ACCOUNT, "lost commit", epoch=1, attempt=1))
    run.venue.push_order("b9")
    run.passes(1)

    assert not broker.order(broker_order_id="b9").external
    assert "commits were lost" in broker.health.degraded["journal"]


def test_a_paused_owner_whose_lease_was_taken_sends_nothing(run: Run) -> None:
    broker = run.open()
    other = second_run(run)
    run.clock.advance_ms(20_000)  # stopped by its host: nothing of it ran
    standby = other.open()
    assert standby.ownership.state == "owner"

    with pytest.raises(NotOwnerError):
        broker.submit(a_limit_order(), intent="grid:1")

    assert broker.ownership.state == "lost"
    assert creates(run.venue) == []
    standby.close()


# permits


def test_a_create_is_signed_with_the_stamp_and_body_of_its_permit(run: Run) -> None:
    broker = run.open()

    ack = broker.submit(a_limit_order(), intent="grid:1")

    (permit,) = run.journal.permits(ACCOUNT)
    (sent,) = creates(run.venue)
    assert ack.accepted
    assert permit.link_id == ack.client_order_id == sent["orderLinkId"]
    assert sent.permitted is not None
    assert (sent.permitted.body, sent.permitted.signed_at_ms) == (permit.body, permit.signed_at_ms)
    assert (sent.permitted.recv_window_ms, permit.intent) == (2_000, "grid:1")


def test_an_amend_has_a_permit_of_its_own(run: Run) -> None:
    stands_when_created(run)
    broker = run.open()
    ack = broker.submit(a_limit_order(), intent="grid:1")

    broker.modify(ack.client_order_id, OrderModification(new_limit_price=Decimal(99)))

    permit = run.journal.permits(ACCOUNT)[-1]
    (sent,) = [post for post in run.venue.client.posts if post.path == AMEND]
    assert (permit.operation, permit.intent, permit.link_id) == ("amend", "grid:1", ack.client_order_id)
    assert sent.permitted is not None
    assert sent.permitted.body == permit.body


def test_an_outcome_is_recorded(run: Run) -> None:
    broker = run.open()
    broker.submit(a_limit_order(), intent="taken")
    run.venue.client.responses[CREATE] = refusal(170131, "Insufficient balance.")
    refused = broker.submit(a_limit_order(), intent="refused")
    run.passes(1)

    assert refused.outcome is SubmitOutcome.REJECTED
    assert [permit.outcome for permit in run.journal.permits(ACCOUNT)] == [
        PermitOutcome.ACCEPTED,
        PermitOutcome.REFUSED,
    ]


def test_a_refused_time_stamp_is_tried_again_under_a_new_permit(run: Run) -> None:
    broker = run.open()
    answers: list[Any] = [refusal(10002, "invalid timestamp")]
    ordinary = run.venue.client.responses[CREATE]
    run.venue.client.responses[CREATE] = lambda request: (
        answers.pop() if answers else ordinary(request)  # type: ignore[operator]
    )

    ack = broker.submit(a_limit_order(), intent="grid:1")
    run.passes(1)

    first, second = run.journal.permits(ACCOUNT)
    assert ack.accepted
    assert ack.client_order_id == second.link_id
    assert (first.outcome, second.outcome) == (PermitOutcome.NEVER_SENT, PermitOutcome.ACCEPTED)
    assert (first.attempt, second.attempt) == (1, 2)
    assert "rejected" not in run.told()


def test_a_journal_that_cannot_be_reached_stops_creates_and_lets_cancels_pass(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stands_when_created(run)
    broker = run.open()
    ack = broker.submit(a_limit_order(), intent="grid:1")

    def fails(*_: object, **__: object) -> None:
        raise JournalUnavailableError("the disk is full")

    for name in ("append", "record", "renew", "acquire", "permits"):
        monkeypatch.setattr(run.journal, name, fails)
    run.venue.client.posts.clear()
    for _ in range(2):
        with pytest.raises(JournalUnavailableError):
            broker.submit(a_limit_order(), intent="grid:2")
    broker.cancel(ack.client_order_id)
    run.passes(1)

    assert [post.path for post in run.venue.client.posts] == [CANCEL]
    assert "journal" in broker.health.degraded

    monkeypatch.undo()
    run.passes(1)
    assert "journal" not in broker.health.degraded
    assert broker.submit(a_limit_order(), intent="grid:2")


def test_a_permit_whose_answer_was_lost_is_not_taken_for_a_sent_order(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = run.open()
    append = run.journal.append

    def commits_and_fails(*arguments: Any) -> None:
        append(*arguments)
        raise JournalUnavailableError("the answer was lost")

    monkeypatch.setattr(run.journal, "append", commits_and_fails)
    with pytest.raises(JournalUnavailableError):
        broker.submit(a_limit_order(), intent="grid:1")
    monkeypatch.undo()
    run.passes(1)

    assert broker.submit(a_limit_order(), intent="grid:1")
    assert len(creates(run.venue)) == 1


# intents


def test_the_same_intent_gives_the_same_order(run: Run) -> None:
    broker = run.open()

    first = broker.submit(a_limit_order(), intent="grid:1")
    again = broker.submit(a_limit_order(), intent="grid:1")

    assert again.client_order_id == first.client_order_id
    assert broker.intent_of(first.client_order_id) == "grid:1"
    assert len(creates(run.venue)) == 1


def test_two_threads_with_one_intent_send_one_order(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second comes when the first has its permit and no order yet, as if the permit's answer had been lost."""
    broker = run.open()
    append, acks = run.journal.append, []
    second = threading.Thread(target=lambda: acks.append(broker.submit(a_limit_order(), intent="grid:1")))

    def lets_the_second_in(*arguments: Any) -> tuple[Permit, ...]:
        permits = append(*arguments)
        if second.ident is None:
            second.start()
            second.join(0.3)  # it waits for the first; one that does not would be done by now
        return permits

    monkeypatch.setattr(run.journal, "append", lets_the_second_in)
    acks.append(broker.submit(a_limit_order(), intent="grid:1"))
    second.join(10)

    assert len({ack.client_order_id for ack in acks}) == 1
    assert len(creates(run.venue)) == len(run.journal.permits(ACCOUNT)) == 1


def test_another_order_under_a_used_intent_is_refused_before_anything_is_sent(run: Run) -> None:
    broker = run.open()
    broker.submit(a_limit_order(), intent="grid:1")
    run.venue.client.posts.clear()

    with pytest.raises(IntentConflictError):
        broker.submit(a_limit_order(quantity=Decimal(2)), intent="grid:1")
    with pytest.raises(IntentConflictError):
        broker.submit_many([a_limit_order(), a_limit_order(quantity=Decimal(2))], intents=["grid:2", "grid:1"])

    assert run.venue.client.posts == []


def test_a_batch_sends_only_the_orders_whose_intents_are_new(run: Run) -> None:
    broker = run.open()
    known = broker.submit(a_limit_order(), intent="grid:1")
    run.venue.client.posts.clear()

    acks = broker.submit_many([a_limit_order(), a_limit_order(), a_limit_order()], intents=["grid:1", "grid:2", None])

    (batch,) = run.venue.client.posts
    assert [ack.accepted for ack in acks] == [True] * 3
    assert acks[0].client_order_id == known.client_order_id
    assert [item["orderLinkId"] for item in batch["request"]] == [ack.client_order_id for ack in acks[1:]]
    assert batch.permitted is not None
    run.passes(1)
    assert [permit.outcome for permit in run.journal.permits(ACCOUNT)] == [PermitOutcome.ACCEPTED] * 3


# restart


def test_after_a_restart_orders_are_ours_with_intent_and_fills_and_nothing_retold(run: Run) -> None:
    stands_when_created(run)
    broker = run.open()
    ack = broker.submit(a_limit_order(), intent="grid:1")
    run.venue.push_order("b1")
    run.venue.trades("e1", "0.4")
    run.venue.push_execution("e1")
    run.venue.push_order("b1")
    assert run.told() == ["accepted", "part e1"]
    run.dies()

    later = second_run(run)
    later.clock.advance_ms(20_000)
    restarted = later.open()
    view = restarted.order(ack.client_order_id)

    assert restarted.ownership.state == "owner"
    assert (view.external, view.cum_quantity) == (False, Decimal("0.4"))
    assert [fill.exec_id for fill in restarted.fills(ack.client_order_id)] == ["e1"]
    assert restarted.intent_of(ack.client_order_id) == "grid:1"
    assert restarted.submit(a_limit_order(), intent="grid:1").client_order_id == ack.client_order_id
    assert creates(later.venue) == []
    assert later.told() == []
    restarted.close()


def test_what_happened_while_the_bot_was_down_is_told_once_however_long_it_was(run: Run) -> None:
    stands_when_created(run)
    broker = run.open()
    ack = broker.submit(a_limit_order(), intent="grid:1")
    run.venue.push_order("b1")
    broker.reconcile()
    run.passes(1)
    run.dies()

    run.clock.advance_ms(60_000)
    run.venue.trades("e1", "1")
    run.clock.advance_ms(3 * 24 * 3_600_000)
    later = second_run(run)
    restarted = later.open()
    assert later.told() == ["filled e1"]
    assert not restarted.order(ack.client_order_id).is_open
    later.passes(1)
    later.dies()

    run.clock.advance_ms(60_000)
    third = second_run(run, "third")
    third.open().close()
    assert third.told() == []


def test_an_order_whose_answer_the_crash_took_is_resolved_as_ours(run: Run) -> None:
    broker = run.open()
    run.venue.client.responses[CREATE] = TimeoutError("killed here")
    ack = broker.submit(a_limit_order(), intent="grid:1")
    run.venue.rests("b1", ack.client_order_id)
    run.dies()

    later = second_run(run)
    later.clock.advance_ms(20_000)
    restarted = later.open()
    later.passes(2)

    assert restarted.ownership.state == "owner"
    (permit,) = later.journal.permits(ACCOUNT)
    assert (permit.outcome, permit.broker_order_id) == (PermitOutcome.ACCEPTED, "b1")
    assert not restarted.order(ack.client_order_id).external
    assert restarted.submit(a_limit_order(), intent="grid:1").client_order_id == ack.client_order_id
    assert creates(later.venue) == []
    restarted.close()


def test_a_permit_that_was_never_sent_is_proved_so_and_entered_anew_by_the_strategy(run: Run) -> None:
    broker = run.open()
    run.venue.client.responses[CREATE] = TimeoutError("killed before it was sent")
    ack = broker.submit(a_limit_order(), intent="grid:1")
    run.dies()

    later = second_run(run)
    stands_when_created(later)
    later.clock.advance_ms(11_000)
    restarted = later.open()
    later.passes(2)
    assert restarted.ownership.state == "owner"
    assert later.journal.permits(ACCOUNT)[0].outcome is PermitOutcome.NEVER_ARRIVED
    assert creates(later.venue) == []

    again = restarted.submit(a_limit_order(), intent="grid:1")

    assert again.accepted
    assert again.client_order_id != ack.client_order_id
    assert later.told()[0] == "rejected"
    restarted.close()


def test_creates_wait_until_nothing_of_an_earlier_owner_can_arrive(run: Run) -> None:
    run.open()
    other = second_run(run)
    standby = other.open()
    draft = PermitDraft(
        intent="grid:1",
        link_id=link_id(ACCOUNT, "grid:1", epoch=1, attempt=1),
        category="spot",
        symbol="BTCUSDT",
        signed_at_ms=run.clock.now_ms() + 10_500,
        recv_window_ms=2_000,
        body='{"category":"spot","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"1","price":"100",'
        '"timeInForce":"GTC","orderLinkId":"x"}',
    )
    run.journal.append(ACCOUNT, 1, [draft])
    run.dies()

    other.passes(11)
    assert standby.ownership.state == "quarantine"
    assert standby.ownership.until_ms == draft.signed_at_ms + 2_000 + 3_000
    with pytest.raises(NotOwnerError, match="quarantine"):
        standby.submit(a_limit_order())

    other.passes(6)
    assert standby.ownership.state == "owner"  # type: ignore[comparison-overlap]
    standby.close()


def test_creates_wait_while_the_venue_cannot_tell_of_an_earlier_request(run: Run) -> None:
    broker = run.open()
    other = second_run(run)
    standby = other.open()
    run.venue.client.responses[CREATE] = TimeoutError("killed before it was sent")
    broker.submit(a_limit_order(), intent="grid:1")
    run.dies()
    tells: Any = other.venue.client.responses[REALTIME]
    is_silent = True

    def read(request: Any) -> Any:
        if is_silent and "orderLinkId" in request:
            raise VenueUnavailableError("no answer")
        return tells(request)

    other.venue.client.responses[REALTIME] = read
    other.passes(20)
    silent = standby.ownership.state
    is_silent = False
    other.passes(20)

    assert (silent, standby.ownership.state) == ("quarantine", "owner")
    standby.close()


def test_a_restart_reads_executions_from_where_the_earlier_run_had_read_to(run: Run) -> None:
    run.open().reconcile()
    run.passes(1)
    read_to_ms = run.journal.watermarks(ACCOUNT)["executions:spot"]
    run.dies()
    run.clock.advance_ms(3 * 24 * 3_600_000)

    later = second_run(run)
    restarted = later.open()

    begins = [int(get["startTime"]) for get in later.venue.client.gets if get.path == EXECUTIONS and "startTime" in get]
    assert begins
    assert min(begins) <= read_to_ms
    restarted.close()


# outbox


def test_events_are_in_the_outbox_in_order_before_a_handler_hears_them(run: Run) -> None:
    stands_when_created(run)
    in_time: list[bool] = []
    run.bus.subscribe(
        OrderEvent,
        lambda event: in_time.append(type(event).__name__ in [one.kind for one in run.journal.events(ACCOUNT)]),
    )
    broker = run.open()
    broker.submit(a_limit_order(), intent="grid:1")
    run.venue.push_order("b1")
    run.venue.trades("e1", "1")
    run.venue.push_execution("e1")

    kinds = [event.kind for event in run.journal.events(ACCOUNT) if event.kind.startswith("Order")]
    assert kinds == ["OrderAccepted", "OrderFilled"]
    assert in_time == [True, True]


def test_a_watermark_that_rises_while_another_is_recorded_follows_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.open()
    keeper, record = keeper_of(run.venue.client), run.journal.record

    def rises_meanwhile(*arguments: Any, **parts: Any) -> Recorded:
        monkeypatch.undo()
        keeper.note((), {"executions:spot": NOW_MS + 2})
        return record(*arguments, **parts)

    monkeypatch.setattr(run.journal, "record", rises_meanwhile)
    keeper.note((), {"executions:spot": NOW_MS + 1})
    keeper.record()
    keeper.record()

    assert run.journal.watermarks(ACCOUNT)["executions:spot"] == NOW_MS + 2


def test_what_a_standby_went_through_is_not_told_in_the_owner_s_outbox(run: Run) -> None:
    run.open()
    other = second_run(run)
    standby = other.open()
    run.dies()
    other.passes(11)

    told = [event for event in other.journal.events(ACCOUNT) if event.kind == "OwnershipChanged" and event.epoch == 2]
    assert [json.loads(event.body)["ownership"]["state"] for event in told] == ["quarantine", "owner"]
    standby.close()
