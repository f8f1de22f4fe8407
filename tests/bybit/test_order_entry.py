"""Order entry beside lookups, wrong answers and `close`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest

from qkt import BybitSpotBroker, EventBus, OrderModification, SubmitAck, SubmitOutcome, ThreadScheduler
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.testing import FakeBybitClient
from qkt.testing.builders import a_limit_order, envelope, refusal
from tests.support.stage import AMEND, CANCEL, CREATE, EXECUTIONS, HISTORY, LOST, REALTIME, WALLET, Stage, ids


@pytest.fixture
def stage() -> Iterator[Stage]:
    staged = Stage()
    yield staged
    if staged._broker is not None:
        staged._broker.close()


def test_an_answer_about_another_order_leaves_ours_unknown_and_looked_up(stage: Stage) -> None:
    def swapped(body: Mapping[str, Any]) -> Any:
        stage.venue.create(body)
        return ids("b77", "somebody-else")

    stage.answers(CREATE, swapped)
    ack = stage.submit("c1")

    assert (ack.outcome, ack.broker_order_id) == (SubmitOutcome.UNKNOWN, "")
    stage.pass_ms(1_000)
    assert stage.broker.order("c1").broker_order_id == "b1"


@pytest.mark.parametrize("about", [("b77", "c1"), ("b1", "somebody-else")], ids=["another id", "another link id"])
@pytest.mark.parametrize("path", [CANCEL, AMEND])
def test_an_answer_about_another_order_confirms_no_cancel_and_no_amend(
    stage: Stage, path: str, about: tuple[str, str]
) -> None:
    stage.has_open_order()
    stage.answers(path, ids(*about))

    if path == CANCEL:
        ack = stage.broker.cancel("c1")
    else:
        ack = stage.broker.modify("c1", OrderModification(new_limit_price=Decimal(99)))

    assert ack.outcome is SubmitOutcome.UNKNOWN


def test_an_order_that_is_not_known_to_stand_is_not_amended(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit("c1")

    with pytest.raises(InvalidRequestError, match="nothing to amend"):
        stage.broker.modify("c1", OrderModification(new_limit_price=Decimal(99)))

    assert stage.asked(AMEND) == []


def two_remembered_cancels(stage: Stage) -> None:
    """Two orders whose creates arrived without an answer; each was cancelled before it was seen."""
    for client_order_id in ("c1", "c2"):
        stage.answers(CREATE, arrived_without_an_answer(stage))
        stage.submit(client_order_id)
        assert stage.broker.cancel(client_order_id).outcome is SubmitOutcome.UNKNOWN
    assert stage.asked(CANCEL) == []


def arrived_without_an_answer(stage: Stage) -> Callable[[Mapping[str, Any]], Any]:
    def create(body: Mapping[str, Any]) -> Any:
        stage.venue.create(body)
        return LOST

    return create


def test_a_remembered_cancel_that_cannot_be_sent_is_sent_when_the_venue_is_back(stage: Stage) -> None:
    two_remembered_cancels(stage)
    stage.answers(CANCEL, VenueUnavailableError("no connection"), VenueUnavailableError("no connection"))

    for _ in range(3):
        stage.round()

    assert sorted(post["orderId"] for post in stage.asked(CANCEL)) == ["b1", "b1", "b2", "b2"]


def test_an_interrupt_in_a_remembered_cancel_leaves_those_behind_it_remembered(stage: Stage) -> None:
    two_remembered_cancels(stage)
    stage.answers(CANCEL, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        stage.round()
    (first,) = [post["orderId"] for post in stage.asked(CANCEL)]
    stage.round()

    assert {post["orderId"] for post in stage.asked(CANCEL)} - {first}


def test_a_cancel_that_finds_nothing_answers_at_once_while_reads_hang() -> None:
    stage = Stage()
    client, go_on = stage.client, threading.Event()
    with (
        ThreadScheduler(2) as scheduler,
        BybitSpotBroker(client, EventBus(), poll_interval_ms=60_000, poll_scheduler=scheduler) as broker,
    ):
        broker.submit(a_limit_order(client_order_id="c1"))
        stage.venue.push_order()
        stage.venue.trades("e1", "1")
        real_read_once = client.read_once

        def read_once(path: str, query: Mapping[str, Any], *, timeout_ms: int, scope: Any = None) -> Any:
            if path in (REALTIME, HISTORY):
                go_on.wait(min(timeout_ms, 10_000) / 1000)
                if not go_on.is_set():
                    raise LOST
            return real_read_once(path, query, timeout_ms=timeout_ms, scope=scope)

        client.read_once = read_once  # type: ignore[method-assign]
        began = time.monotonic()

        ack = broker.cancel("c1")

        assert ack.outcome is SubmitOutcome.REJECTED
        assert time.monotonic() - began < 1
        go_on.set()
        assert broker.wait("c1", timeout_ms=5_000).cum_quantity == 1


def test_a_submit_begun_after_close_raises_and_sends_nothing(stage: Stage) -> None:
    broker = stage.broker
    broker.close()

    with pytest.raises(InvalidRequestError, match="closed"):
        broker.submit(a_limit_order())
    assert stage.client.posts == []


def test_a_submit_beside_close_is_unknown(stage: Stage) -> None:
    def closes_meanwhile(_body: Mapping[str, Any]) -> Any:
        stage.broker.close()
        raise LOST

    _ = stage.broker
    stage.client.responses[CREATE] = closes_meanwhile

    assert stage.submit("c1").outcome is SubmitOutcome.UNKNOWN


def test_a_closed_shared_scheduler_never_turns_a_sent_order_into_an_error() -> None:
    client = FakeBybitClient()
    client.responses[CREATE] = LOST
    scheduler = ThreadScheduler()
    with BybitSpotBroker(client, EventBus(), poll_scheduler=scheduler) as broker:
        scheduler.close()

        assert broker.submit(a_limit_order(client_order_id="c1")).outcome is SubmitOutcome.UNKNOWN
        assert broker.cancel("c1").outcome is SubmitOutcome.UNKNOWN


def test_a_given_scheduler_is_not_closed_by_its_broker() -> None:
    with ThreadScheduler() as scheduler:
        BybitSpotBroker(FakeBybitClient(), EventBus(), poll_scheduler=scheduler).close()
        ran = threading.Event()
        scheduler.schedule_once(ran.set, 0)

        assert ran.wait(5)


def test_close_returns_within_a_second_while_a_round_hangs() -> None:
    client, hanging, go_on = FakeBybitClient(), threading.Event(), threading.Event()
    broker = BybitSpotBroker(client, EventBus(), poll_interval_ms=10)

    def hangs() -> Any:
        hanging.set()
        go_on.wait(10)
        return envelope()

    client.responses[WALLET] = hangs
    assert hanging.wait(5)
    began = time.monotonic()
    try:
        broker.close()

        assert time.monotonic() - began < 1.5
    finally:
        go_on.set()


def test_ten_thousands_of_demo_trading_is_a_refusal(stage: Stage) -> None:
    stage.answers(CREATE, refusal(10032, "Demo trading are not supported."))

    assert stage.submit("c1").outcome is SubmitOutcome.REJECTED


def test_a_rejected_ack_is_false_in_a_condition() -> None:
    acks = {outcome: bool(SubmitAck(client_order_id="c1", outcome=outcome)) for outcome in SubmitOutcome}

    assert acks == {
        SubmitOutcome.ACCEPTED: True,
        SubmitOutcome.REJECTED: False,
        SubmitOutcome.UNKNOWN: False,
    }


# what a broker can find out about orders of earlier runs


def test_lookup_finds_an_order_that_ended_before_the_broker_was_built(stage: Stage) -> None:
    stage.venue.rests("b1", "c1")
    stage.venue.trades("e1", "0.4", execTime="1")
    stage.venue.ends("b1", updatedTime="1", createdTime="1")
    stage.client.responses[REALTIME] = lambda query: _without_symbol(stage, query, REALTIME)
    stage.client.responses[HISTORY] = lambda query: _without_symbol(stage, query, HISTORY)
    stage.client.responses[EXECUTIONS] = lambda query: _without_symbol(stage, query, EXECUTIONS)
    broker = stage.broker

    view = broker.lookup(client_order_id="c1")

    assert view is not None
    assert (view.status.value, str(view.cum_quantity)) == ("CANCELLED", "0.4")
    assert stage.story() == []
    with pytest.raises(InvalidRequestError, match="lookup"):
        broker.order("c1")


def test_lookup_of_an_order_the_venue_does_not_show_is_none(stage: Stage) -> None:
    for path in (REALTIME, HISTORY, EXECUTIONS):
        stage.client.responses[path] = envelope()

    assert stage.broker.lookup(client_order_id="c9") is None


def test_lookup_of_a_known_order_brings_it_up_to_date_and_tells_it(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")

    view = stage.broker.lookup("c1")

    assert view is not None
    assert view.status.value == "FILLED"
    assert stage.story("c1") == ["filled e1"]


def test_lookup_raises_when_the_venue_cannot_be_asked(stage: Stage) -> None:
    _ = stage.broker
    for path in (REALTIME, HISTORY, EXECUTIONS):
        stage.client.responses[path] = LOST

    with pytest.raises(Exception, match="could not be asked"):
        stage.broker.lookup(client_order_id="c9")


def _without_symbol(stage: Stage, query: Mapping[str, Any], path: str) -> Any:
    """The venue's answer to a question by id that names no symbol."""
    answer = {
        REALTIME: stage.venue.answer_realtime,
        HISTORY: stage.venue.answer_history,
        EXECUTIONS: stage.venue.answer_executions,
    }[path]
    return answer({"symbol": "BTCUSDT", **query})


def test_an_owner_is_in_every_generated_id_and_ids_stay_short(stage: Stage) -> None:
    broker = stage.open(owner="grid_of_2026")

    ack = broker.submit(a_limit_order(client_order_id=None))

    assert ack.client_order_id.startswith("qkt-grid_of_2026-")
    assert len(ack.client_order_id) <= 36


@pytest.mark.parametrize("owner", ["", "a-b", "thirteen_char", 7], ids=repr)
def test_an_owner_that_an_id_cannot_carry_is_refused(owner: Any) -> None:
    with pytest.raises(InvalidRequestError, match="owner"):
        BybitSpotBroker(FakeBybitClient(), EventBus(), owner=owner)


def test_orders_of_an_earlier_run_of_the_owner_are_ours_and_cancel_all_means_them(stage: Stage) -> None:
    stage.venue.rests("b1", "qkt-grid-0123456789-1")
    stage.venue.rests("b2", "qkt-other-0123456789-1")
    stage.venue.rests("b3", "by-hand")
    broker = stage.open(owner="grid")

    externals = {view.broker_order_id: view.external for view in broker.open_orders()}
    acks = broker.cancel_all()

    assert externals == {"b1": False, "b2": True, "b3": True}
    assert [ack.broker_order_id for ack in acks] == ["b1"]


def test_an_order_of_our_owner_placed_by_another_process_meanwhile_is_still_an_alarm(stage: Stage) -> None:
    stage.open(owner="grid")
    stage.clock.advance_ms(10_000)
    stage.venue.rests("b1", "qkt-grid-0123456789-1")

    stage.round()

    assert [alarm.domain for alarm in stage.broker.health.alarms] == ["split_brain"]


def test_alarms_stand_in_health_until_acknowledged(stage: Stage) -> None:
    broker = stage.open()
    stage.clock.advance_ms(10_000)
    stage.venue.rests("b1", "qkt-0123456789-1")
    stage.round()
    assert not broker.health.ok

    taken = broker.acknowledge_alarms()

    assert [alarm.domain for alarm in taken] == ["split_brain"]
    assert broker.health.alarms == ()
    assert broker.health.ok
