"""S76, S82: weeks of orders, and clocks that jump."""

from __future__ import annotations

import gc
import threading
from decimal import Decimal
from typing import Any

import pytest

from qkt import BybitSpotBroker
from qkt.errors import InvalidRequestError
from qkt.events import FillEvent, OrderEvent
from qkt.orders.ledger import Ledger
from qkt.testing.builders import acknowledged, execution_reported, order_reported, submit_intended
from tests.support.stage import CREATE, DAY_MS, LOST, Stage, words

D = Decimal
HOUR_MS, MINUTE_MS = 3_600_000, 60_000


# -- S76: what is forgotten, and when ----------------------------------------------------------------------------------


def live_and_die(ledger: Ledger, number: int, at_ms: int) -> None:
    """One order: sent, acknowledged, seen, three fills, filled."""
    ids: dict[str, Any] = {"client_order_id": f"c{number}", "broker_order_id": f"b{number}"}
    ledger.apply(submit_intended(f"c{number}", quantity=D(3), sent_ms=at_ms))
    ledger.apply(acknowledged(f"c{number}", f"b{number}"))
    ledger.apply(order_reported("New", quantity=D(3), updated_ms=at_ms, at_ms=at_ms, **ids))
    for fill in range(3):
        fact = execution_reported(f"e{number}-{fill}", 1, of=3, leaves=2 - fill, exec_time_ms=at_ms, at_ms=at_ms, **ids)
        ledger.apply(fact)
    ledger.apply(order_reported("Filled", 3, quantity=D(3), updated_ms=at_ms + 1, at_ms=at_ms, **ids))


def books_of(ledger: Ledger) -> dict[str, int]:
    """How much every container of the ledger holds."""
    return {name: len(book) for name, book in vars(ledger).items() if hasattr(book, "__len__")}


def test_S76_what_passed_through_leaves_nothing_behind_once_it_may_be_forgotten() -> None:
    ledger = Ledger()
    for number in range(2_000):
        live_and_die(ledger, number, at_ms=number)
        ledger.forget_closed(closed_before_ms=number - 100, executed_before_ms=number - 100)
    assert max(books_of(ledger).values()) <= 102
    ledger.forget_closed(closed_before_ms=10_000, executed_before_ms=10_000)
    assert set(books_of(ledger).values()) == {0}


def test_S76_an_order_whose_fills_can_still_be_repeated_is_kept_and_told_once() -> None:
    ledger = Ledger()
    live_and_die(ledger, 1, at_ms=1_000)
    assert ledger.forget_closed(closed_before_ms=DAY_MS, executed_before_ms=1_000) == 0
    ids: dict[str, Any] = {"client_order_id": "c1", "broker_order_id": "b1"}
    changes = ledger.apply(execution_reported("e1-2", 1, of=3, leaves=0, exec_time_ms=1_000, **ids))
    assert [event for change in changes for event in change.events] == []
    assert ledger.forget_closed(closed_before_ms=DAY_MS + 1, executed_before_ms=1_001) == 1


def test_S76_open_orders_and_orders_whose_fills_are_missing_are_never_forgotten() -> None:
    ledger = Ledger()
    ledger.apply(submit_intended("c1"))
    ledger.apply(order_reported("New"))
    ids: dict[str, Any] = {"client_order_id": "c2", "broker_order_id": "b2"}
    ledger.apply(submit_intended("c2"))
    ledger.apply(order_reported("Filled", 1, **ids))
    assert ledger.forget_closed(closed_before_ms=1_000 * DAY_MS, executed_before_ms=1_000 * DAY_MS) == 0
    assert len(ledger) == 2


def test_S76_retain_closed_ms_bounds_what_the_broker_remembers(stage: Stage) -> None:
    stage.open(retain_closed_ms=HOUR_MS, poll_interval_ms=30_000)
    stage.has_open_order("c1")
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    stage.pass_ms(HOUR_MS - 2 * MINUTE_MS)
    assert stage.broker.order("c1").cum_quantity == D(1)
    stage.pass_ms(10 * MINUTE_MS)
    with pytest.raises(InvalidRequestError, match="retain_closed_ms"):
        stage.broker.order("c1")
    assert stage.story("c1") == ["filled e1"]
    stage.assert_settled()


def test_S76_a_recovery_window_longer_than_the_retention_repeats_nothing(stage: Stage) -> None:
    stage.open(retain_closed_ms=HOUR_MS, recovery_window_ms=2 * DAY_MS, poll_interval_ms=30_000)
    stage.has_open_order("c1")
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    stage.pass_ms(6 * HOUR_MS)
    assert stage.story() == ["filled e1"]
    assert stage.broker.order("c1").is_open is False


def test_S76_an_unresolved_order_is_never_forgotten(stage: Stage) -> None:
    stage.open(retain_closed_ms=HOUR_MS, poll_interval_ms=30_000)
    stage.has_open_order("c1")
    stage.venue.hidden.add("b1")
    stage.pass_ms(6 * HOUR_MS)
    assert stage.broker.order("c1").is_unresolved
    assert stage.broker.health.unresolved == ("c1",)


def test_S76_a_hundred_quiet_rounds_leave_the_memory_as_it_was(stage: Stage) -> None:
    import tracemalloc

    stage.has_open_order("c1")
    for _ in range(60):  # the last fifty reports are kept
        stage.round()
    stage.forget()
    stage.ever_heard.clear()
    gc.collect()
    tracemalloc.start()
    try:
        for _ in range(100):
            stage.round()
            stage.forget()
            stage.ever_heard.clear()
        gc.collect()
        grown, _peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 400_000  # fifty reports made anew


# -- S82: clocks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS])
def test_S82_a_stepped_wall_clock_changes_no_age(stage: Stage, step_ms: Any) -> None:
    stage.has_open_order()
    before = stage.broker.health.staleness_ms
    stage.clock.step_wall_ms(step_ms)
    assert stage.broker.health.staleness_ms == before
    stage.clock.advance_ms(1_000)
    assert stage.broker.health.staleness_ms == before + 1_000  # type: ignore[operator]


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS])
def test_S82_a_stepped_wall_clock_ends_nothing_and_tells_nothing(stage: Stage, step_ms: Any) -> None:
    stage.has_open_order()
    stage.clock.step_wall_ms(step_ms)
    stage.client.clock_offset_ms = -step_ms
    for _ in range(3):
        assert stage.round().ok
    assert stage.story() == []
    assert stage.broker.order("c1").is_open


@pytest.mark.parametrize("step_ms", [HOUR_MS, -HOUR_MS])
def test_S82_a_fill_is_found_after_a_round_that_ran_on_a_wrong_clock(stage: Stage, step_ms: Any) -> None:
    """The round that runs before the offset is measured anew must not move the window past what comes next."""
    stage.has_open_order()
    stage.clock.step_wall_ms(step_ms)
    stage.round()
    stage.client.clock_offset_ms = -step_ms
    stage.venue.rests("x1", "")
    true_ms = str(stage.clock.now_ms() - step_ms)
    stage.venue.trades("e1", "1", order_id="x1", execTime=true_ms)
    stage.round()
    stage.round()
    assert words(event for event in stage.heard if isinstance(event, OrderEvent)) == ["accepted", "filled e1"]


def test_S82_a_host_clock_set_right_by_days_repeats_no_fill(stage: Stage) -> None:
    """A machine without a clock of its own starts in the past and is set right by NTP in the middle of the day.

    The transport measures its offset anew with the round's first request; what was told stays known.
    """
    stage.open(poll_interval_ms=30_000)
    stage.has_open_order("c1")
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    truthful: Any = stage.client.responses["/v5/order/realtime"]

    def measures(query: Any) -> Any:
        stage.client.clock_offset_ms = -2 * DAY_MS
        return truthful(query)

    stage.clock.step_wall_ms(2 * DAY_MS)
    stage.always("/v5/order/realtime", measures)
    for _ in range(3):
        stage.round()
    assert stage.story() == ["filled e1"]
    assert [fill.exec_id for fill in stage.broker.fills("c1")] == ["e1"]


def test_S82_the_snapshot_fence_is_no_time_at_all(stage: Stage) -> None:
    """An order submitted while the list is read is not missing from it, whatever the clock does meanwhile."""
    stage.has_open_order("c1")
    truthful: Any = stage.client.responses["/v5/order/realtime"]
    once = iter([True])

    def steps(query: Any) -> Any:
        answer = truthful(query)
        if next(once, False):
            stage.submit("c2")
            stage.clock.step_wall_ms(HOUR_MS)
        return answer

    stage.always("/v5/order/realtime", steps)
    stage.round()
    assert stage.story("c2") == []
    assert stage.broker.order("c2").is_open


def test_S82_a_gap_calls_for_a_round_at_once(stage: Stage) -> None:
    gaps: list[Any] = []
    stage.client.on_gap = gaps.append  # type: ignore[assignment, method-assign]
    stage.open(poll_interval_ms=30_000)
    stage.has_open_order("c1")
    stage.clock.advance_ms(HOUR_MS)
    stage.venue.trades("e1", "1")
    rounds = len(stage.broker.reports)
    for tell in gaps:
        tell("time jumped by 3600000 ms")
    assert stage.story() == [], "the caller's thread is the transport's: it is not kept"
    stage.pass_ms(0)
    assert len(stage.broker.reports) == rounds + 1
    assert stage.broker.reports[-1].trigger == "suspend or clock jump"
    assert stage.story() == ["filled e1"]
    stage.assert_settled()


def test_S82_an_hour_asleep_heals_with_the_first_round_and_no_missed_beat_is_made_up() -> None:
    """The machine slept: every timer is late by an hour, the stream died, and things happened."""
    stage = Stage()
    told = threading.Event()
    stage.bus.subscribe(FillEvent, lambda _event: told.set())
    stage.venue.rests("b7", "somebody")
    with BybitSpotBroker(stage.client, stage.bus, stage.clock, poll_interval_ms=20) as broker:
        stage.clock.advance_ms(HOUR_MS)
        stage.venue.trades("e1", "1", order_id="b7")
        assert told.wait(10)
        assert broker.order("somebody").is_open is False


def test_S82_non_arrival_is_not_proved_by_a_clock_that_jumped_ahead(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit("c1")
    stage.clock.step_wall_ms(HOUR_MS)
    stage.client.clock_offset_ms = -HOUR_MS
    stage.round(after_ms=1_000)
    stage.round(after_ms=6_000)
    assert stage.story() == []
    assert stage.broker.order("c1").is_unresolved
