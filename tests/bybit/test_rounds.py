"""Rounds: their paths do not wait for each other, never raise for the venue, and health is judged by the clock."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest

from qkt import BybitSpotBroker, EventBus, OrderFilled, ThreadScheduler
from qkt.bybit.reconcile_loop import ReconcileLoop
from qkt.errors import ReconcileError, VenueUnavailableError
from qkt.events import BalancesUpdated, BrokerEvent, HealthDegraded
from qkt.health import ReadHealth
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import envelope, frame, refusal
from tests.support.stage import EXECUTIONS, HISTORY, LOST, REALTIME, WALLET, Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    staged = Stage()
    yield staged
    if staged._broker is not None:
        staged._broker.close()


def test_what_a_path_found_is_absorbed_before_the_next_path_is_read(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    seen: list[Decimal] = []
    truthful = stage.venue.answer_wallet

    def wallet(query: Mapping[str, Any]) -> Any:
        seen.append(stage.broker.order("c1").cum_quantity)
        return truthful(query)

    stage.client.responses[WALLET] = wallet

    stage.round()

    assert seen == [Decimal(1)]


def test_a_lost_fill_is_told_while_the_wallet_read_of_the_round_hangs(stage: Stage) -> None:
    client, bus = stage.client, EventBus()
    filled, go_on = threading.Event(), threading.Event()
    bus.subscribe(OrderFilled, lambda _event: filled.set())
    with ThreadScheduler() as scheduler, BybitSpotBroker(client, bus, poll_interval_ms=20, poll_scheduler=scheduler):
        truthful = stage.venue.answer_wallet

        def hangs(query: Mapping[str, Any]) -> Any:
            go_on.wait(10)
            return truthful(query)

        client.responses[WALLET] = hangs
        stage.venue.rests("b1", "c1", createdTime="1", updatedTime="1")
        stage.venue.trades("e1", "1", execTime=str(2_000_000_000_000))
        stage.client.responses[EXECUTIONS] = lambda _query: stage.venue._paged(
            list(stage.venue.executions.values()), {"limit": 100}
        )
        try:
            assert filled.wait(5)
        finally:
            go_on.set()


def test_a_round_delivers_under_no_lock_so_a_handler_may_reconcile(stage: Stage) -> None:
    reports = []
    stage.has_open_order()
    stage.bus.subscribe(OrderFilled, lambda _event: reports.append(stage.broker.reconcile()))
    stage.venue.trades("e1", "1")

    stage.round()

    assert [report.ok for report in reports] == [True]


def test_an_exception_in_a_path_is_that_path_failed_and_costs_no_other(stage: Stage) -> None:
    _ = stage.broker
    stage.client.responses[REALTIME] = AssertionError("a fault of the code itself")

    report = stage.round()

    assert [path.path for path in report.failures] == ["orders"]
    assert "a fault of the code itself" in str(report)
    assert any(isinstance(event, BalancesUpdated) for event in stage.heard)


def test_a_round_whose_lookups_break_counts_as_failed(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    _ = stage.broker

    def broken(*_arguments: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stage.broker._recovery.lookups, "make_due", broken)

    reports = [stage.round(), stage.round()]

    assert [report.ok for report in reports] == [False, False]
    assert stage.story() == ["degraded lookups"]


def test_lookups_stop_at_the_first_failure_and_the_failed_one_goes_last(stage: Stage) -> None:
    for name in ("c1", "c2", "c3"):
        stage.has_open_order(name)
    for order_id in ("b1", "b2", "b3"):
        stage.venue.ends(order_id)
    heal = stage.always(HISTORY, LOST)
    stage.client.responses[REALTIME] = lambda _query: stage.venue._paged([], {"limit": 50})
    stage.round()
    first = [request["orderId"] for request in stage.asked(HISTORY)]
    stage.forget()

    stage.round()

    second = [request["orderId"] for request in stage.asked(HISTORY)]
    assert (len(first), len(second)) == (1, 1)
    assert first != second
    heal()


@pytest.mark.parametrize("failing", [WALLET, REALTIME, EXECUTIONS])
def test_a_failing_poll_is_one_warning_per_episode(
    stage: Stage, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    _ = stage.broker
    heal = stage.always(failing, LOST)
    with caplog.at_level(logging.WARNING):
        for _ in range(10):
            stage.pass_ms(30_000)
        heal()
        stage.pass_ms(60_000)

    incomplete = [record for record in caplog.records if "reconcile incomplete" in record.getMessage()]
    assert len(incomplete) == 1


def test_a_venue_that_is_down_is_asked_one_cheap_question_per_interval(stage: Stage) -> None:
    _ = stage.broker
    for path in (REALTIME, HISTORY, EXECUTIONS, WALLET, "/v5/market/time"):
        stage.client.responses[path] = LOST
    for _ in range(5):
        stage.pass_ms(30_000)
    stage.forget()

    stage.pass_ms(60_000)

    assert [request.path for request in stage.client.gets] == ["/v5/market/time"] * 2


def test_a_path_that_hangs_is_left_alone_for_a_multiple_of_the_time_it_cost() -> None:
    reads = ReadHealth({"balances": 500})
    reads.failed("balances", now_ms=10_000, took_ms=3_000)

    assert not reads.is_due("balances", 18_999)
    assert reads.is_due("balances", 19_000)


def test_each_path_may_have_an_interval_of_its_own(stage: Stage) -> None:
    stage.open(poll_interval_ms=30_000, poll_intervals_ms={"orders": 5_000, "balances": 60_000})

    stage.pass_ms(60_000)

    reads = [[path.path for path in report.paths] for report in stage.broker.reports]
    counts = {name: sum(name in paths for paths in reads[1:]) for name in ("orders", "executions", "balances")}
    assert counts == {"orders": 12, "executions": 2, "balances": 1}


def test_two_failed_tries_are_told_however_long_the_interval() -> None:
    reads = ReadHealth({"orders": 30_000})
    reads.succeeded("orders", 0)

    assert [reads.failed("orders", 1_000), reads.failed("orders", 2_000)] == [False, True]


def test_three_intervals_without_a_read_are_told_while_the_round_is_under_way() -> None:
    client, bus = FakeBybitClient(), EventBus()
    told, go_on = threading.Event(), threading.Event()
    bus.subscribe(HealthDegraded, lambda _event: told.set())
    with BybitSpotBroker(client, bus, poll_interval_ms=20) as broker:

        def hangs() -> Any:
            go_on.wait(10)
            raise LOST

        client.responses[REALTIME] = hangs
        try:
            assert told.wait(5)
            assert not broker.health.ok
        finally:
            go_on.set()


def test_health_is_judged_by_the_clock_when_no_round_comes(stage: Stage) -> None:
    stage.open(poll_interval_ms=1_000)
    stage.clock.advance_ms(3_001)

    health = stage.broker.health

    assert set(health.degraded) == {"orders", "executions", "balances"}
    assert not health.ok


def test_many_bad_frames_are_one_round_a_second(stage: Stage) -> None:
    _ = stage.broker
    rounds = len(stage.broker.reports)
    for _ in range(9):
        for _ in range(30):
            stage.client.emit_ws_frame("order.spot", [{"orderId": ""}])
        stage.pass_ms(100)

    assert len(stage.broker.reports) - rounds == 1
    stage.pass_ms(1_000)
    assert len(stage.broker.reports) - rounds == 2


def test_a_malformed_wallet_frame_calls_for_a_round(stage: Stage) -> None:
    _ = stage.broker
    rounds = len(stage.broker.reports)

    stage.client.emit_ws_frame("wallet", [{"accountType": "UNIFIED", "coin": "none"}])
    stage.pass_ms(0)

    assert len(stage.broker.reports) == rounds + 1


def test_the_timer_starts_only_after_the_first_round() -> None:
    scheduler, schedules = TickScheduler(), []
    client = FakeBybitClient()

    def answer() -> Any:
        schedules.append(scheduler.schedules)
        return envelope()

    client.responses[REALTIME] = answer

    BybitSpotBroker(client, EventBus(), FixedClock(0), poll_scheduler=scheduler).close()

    assert set(schedules) == {()}


def test_a_construction_that_fails_leaves_no_schedule_and_no_listener() -> None:
    client, scheduler = FakeBybitClient(), TickScheduler()
    client.responses[WALLET] = refusal(10016)
    bus, heard = EventBus(), list[BrokerEvent]()

    with pytest.raises(ReconcileError):
        BybitSpotBroker(client, bus, FixedClock(0), poll_scheduler=scheduler)
    bus.subscribe(BrokerEvent, heard.append)
    client.emit_disconnect("cut")

    assert (scheduler.schedules, heard) == ((), [])


def test_the_cadence_is_tightened_while_an_order_is_unresolved_though_not_for_ever(stage: Stage) -> None:
    stage.open(poll_interval_ms=3_600_000)
    stage.answers("/v5/order/create", LOST)
    stage.submit("c1")
    stage.client.responses[HISTORY] = LOST
    stage.round()
    rounds = len(stage.broker.reports)
    stage.client.responses[HISTORY] = stage.venue.answer_history
    stage.round()
    stage.client.emit_disconnect("cut")
    stage.round()

    stage.pass_ms(3_000_000)

    tightened = [report for report in stage.broker.reports if report.trigger == "looking again"]
    assert rounds < len(stage.broker.reports)
    assert len(tightened) == 5  # every tenth minute instead of every hour


def test_extra_rounds_are_bounded(stage: Stage) -> None:
    stage.open(poll_interval_ms=6_000_000)
    loop: ReconcileLoop = stage.broker._loop
    loop._shortest_interval_ms = 6_000
    stage.client.emit_disconnect("cut")
    stage.round()
    before = loop._extra_rounds_left

    stage.pass_ms(3_600_000)

    assert before > 0
    assert loop._extra_rounds_left == 0
    assert stage.scheduler.schedules[0].is_fixed_rate
    assert len(stage.scheduler.schedules) == 1


def test_reports_and_discrepancies_are_bounded_and_discrepancies_outlive_reports(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    healed = stage.round()
    for _ in range(60):
        stage.round()

    assert healed.discrepancies
    assert len(stage.broker.reports) == 50
    assert healed not in stage.broker.reports
    assert set(healed.discrepancies) <= set(stage.broker.discrepancies)


def test_news_too_young_to_blame_is_counted_and_said(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")

    report = stage.round(after_ms=500)

    assert (report.discrepancies, report.taken_in) == ((), 1)
    assert "taken in by the round" in str(report)
    assert stage.round().taken_in == 0


def test_an_unreadable_execution_prolongs_the_wait_for_the_missing_one(stage: Stage) -> None:
    stage.has_open_order()
    row = stage.venue.trades("e1", "1")
    stage.venue.executions["e1"] = {**row, "execQty": "?"}
    stage.venue.push_order()
    stage.pass_ms(70_000)
    assert stage.story("c1") == []

    stage.venue.executions["e1"] = row
    stage.round()

    assert stage.story("c1") == ["filled e1"]


def test_silence_after_the_retention_ends_as_aged_out_and_not_as_never_arrived(stage: Stage) -> None:
    stage.answers("/v5/order/create", LOST)
    stage.submit("c1")
    stage.clock.advance_ms(25 * 3_600_000)

    for _ in range(3):
        stage.round(after_ms=6_000)

    assert stage.broker.order("c1").reason == "aged_out"
    assert stage.story("c1") == ["rejected"]


def test_an_unanswered_submit_shown_by_its_fill_is_looked_up_in_the_same_round(stage: Stage) -> None:
    _ = stage.broker

    def create(body: dict[str, object]) -> object:
        stage.venue.create(body)
        raise LOST

    stage.answers("/v5/order/create", create)
    stage.submit("c1")
    stage.venue.trades("e1", "0.4")
    stage.venue.ends("b1")

    stage.round()

    assert stage.story("c1") == ["accepted", "part e1", "cancelled"]


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000])
def test_a_step_of_the_wall_clock_leaves_the_wait_for_executions_alone(stage: Stage, step_ms: int) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    row = stage.venue.executions.pop("e1")
    stage.venue.push_order()
    stage.clock.step_wall_ms(step_ms)
    stage.client.clock_offset_ms = -step_ms

    stage.pass_ms(50_000)
    assert stage.story("c1") == []

    stage.pass_ms(60_000)
    assert stage.story("c1") == ["filled"]
    assert row["execQty"] == "1"


def test_history_is_asked_for_two_years_at_most(stage: Stage) -> None:
    queries = stage.broker._recovery.queries

    assert stage.clock.now_ms() - queries.oldest_ms(-(2**63)) == 2 * 365 * 24 * 3_600_000


def test_since_ms_reads_from_the_last_fill_a_bot_has_seen(stage: Stage) -> None:
    since_ms = stage.clock.now_ms() - 3_600_000
    stage.open(since_ms=since_ms)
    client = FakeBybitClient()
    BybitSpotBroker(client, EventBus(), stage.clock, poll_scheduler=TickScheduler(), since_ms=since_ms).close()

    (asked,) = [request.query for request in client.gets if request.path == EXECUTIONS]
    assert asked["startTime"] == since_ms


def test_an_interval_for_an_unknown_path_is_refused() -> None:
    with pytest.raises(ValueError, match="orders, executions, balances"):
        BybitSpotBroker(FakeBybitClient(), EventBus(), poll_intervals_ms={"fills": 1_000})


def test_a_read_of_the_users_own_that_raises_is_a_failed_read(stage: Stage) -> None:
    _ = stage.broker
    stage.client.responses[EXECUTIONS] = VenueUnavailableError("502")

    assert not stage.round().ok


def test_no_fill_from_before_a_short_window_is_published_in_any_later_round(stage: Stage) -> None:
    stage.venue.rests("b1", "by-hand")
    stage.venue.trades("e1", "1", execTime=str(stage.clock.now_ms() - 1))
    stage.open(recovery_window_ms=0)

    for _ in range(6):
        stage.round(after_ms=31_000)

    assert stage.story() == []


def test_a_frame_from_the_future_counts_as_venue_time_and_not_as_the_stepped_clock(stage: Stage) -> None:
    stage.has_open_order()
    true_ms = stage.clock.now_ms()
    stage.clock.step_wall_ms(3_600_000)
    stage.client.clock_offset_ms = -3_600_000
    far_ms = true_ms + 30 * 24 * 3_600_000
    row = {**stage.venue.orders["b1"], "updatedTime": str(far_ms)}
    stage.client.emit_ws_frame("order.spot", frame("order.spot", row, created_ms=far_ms))

    row |= {"price": "99", "updatedTime": str(true_ms + 5)}
    stage.client.emit_ws_frame("order.spot", frame("order.spot", row, created_ms=true_ms + 5))

    assert stage.broker.order("c1").limit_price == Decimal(99)


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000])
def test_a_submit_after_a_step_of_the_clock_is_dated_and_judged_by_venue_time(stage: Stage, step_ms: int) -> None:
    _ = stage.broker
    true_ms = stage.clock.now_ms()

    def tell_time(_query: object) -> object:
        stage.client.clock_offset_ms = -step_ms
        return envelope()

    stage.client.responses["/v5/market/time"] = tell_time
    stage.answers("/v5/order/create", LOST)
    stage.clock.step_wall_ms(step_ms)
    stage.submit("c1")

    doubt = stage.broker._state.order("c1").unanswered_submit

    assert doubt is not None
    assert 0 <= doubt.provable_from_ms - true_ms <= 20_000
    assert len(stage.asked("/v5/market/time")) == 1
