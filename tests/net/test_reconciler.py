"""The seed's timer: one schedule, errors reported, the beat never lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from qkt.errors import InvalidRequestError
from qkt.net.reconciler import PeriodicReconciler
from qkt.net.scheduler import ThreadScheduler

SOON = 5.0


class HandScheduler:
    """Records what was scheduled and runs it when told."""

    def __init__(self) -> None:
        self.scheduled: list[Any] = []

    def schedule_at_fixed_rate(self, action: Any, initial_delay_ms: Any, interval_ms: Any) -> Any:
        self.scheduled.append((action, initial_delay_ms, interval_ms))
        return self

    def schedule_once(self, action: Any, delay_ms: Any) -> None:
        raise AssertionError("a fixed rate is all it needs")

    def cancel(self) -> None:
        self.scheduled.clear()

    def tick(self) -> None:
        for action, _, _ in list(self.scheduled):
            action()


def test_one_schedule_at_interval_and_initial_delay() -> None:
    scheduler = HandScheduler()
    PeriodicReconciler(30_000, lambda: None, scheduler).start()  # type: ignore[arg-type]
    assert [(initial, interval) for _, initial, interval in scheduler.scheduled] == [(30_000, 30_000)]


def test_starting_three_times_schedules_once() -> None:
    scheduler = HandScheduler()
    reconciler = PeriodicReconciler(1_000, lambda: None, scheduler)  # type: ignore[arg-type]
    for _ in range(3):
        reconciler.start()
    assert len(scheduler.scheduled) == 1


def test_a_tick_runs_the_action() -> None:
    scheduler, ran = HandScheduler(), []
    PeriodicReconciler(1_000, lambda: ran.append(1), scheduler).start()  # type: ignore[arg-type]
    scheduler.tick()
    scheduler.tick()
    assert ran == [1, 1]


def test_S75_a_raising_tick_is_reported_and_the_next_still_runs() -> None:
    heard: list[Any] = []
    scheduler = HandScheduler()
    failure = RuntimeError("no venue")

    def action() -> None:
        raise failure

    PeriodicReconciler(1_000, action, scheduler, heard.append).start()  # type: ignore[arg-type]
    scheduler.tick()
    scheduler.tick()
    assert heard == [failure, failure]


def test_an_error_handler_that_raises_does_not_end_the_beat(caplog: pytest.LogCaptureFixture) -> None:
    scheduler, ran = HandScheduler(), []

    def action() -> None:
        ran.append(1)
        raise RuntimeError("tick")

    def on_error(error: Any) -> None:
        raise ValueError("handler")

    PeriodicReconciler(1_000, action, scheduler, on_error).start()  # type: ignore[arg-type]
    scheduler.tick()
    scheduler.tick()
    assert ran == [1, 1]
    assert "error handler" in caplog.text


def test_a_failing_tick_is_logged_by_default(caplog: pytest.LogCaptureFixture) -> None:
    scheduler = HandScheduler()
    PeriodicReconciler(1_000, lambda: 1 / 0, scheduler).start()  # type: ignore[arg-type]
    scheduler.tick()
    assert "periodic action failed" in caplog.text


def test_stop_cancels_and_says_so() -> None:
    scheduler = HandScheduler()
    reconciler = PeriodicReconciler(1_000, lambda: None, scheduler)  # type: ignore[arg-type]
    reconciler.start()
    assert reconciler.is_running
    reconciler.stop()
    assert not reconciler.is_running
    assert scheduler.scheduled == []


def test_stop_before_start_does_nothing() -> None:
    reconciler = PeriodicReconciler(1_000, lambda: None)
    reconciler.stop()
    assert not reconciler.is_running


@pytest.mark.parametrize("interval", [0, -1, 1.5, "30000", None, True])
def test_a_senseless_interval_is_refused(interval: Any) -> None:
    with pytest.raises(InvalidRequestError):
        PeriodicReconciler(interval, lambda: None)


def test_it_closes_only_a_scheduler_of_its_own() -> None:
    ticked, later = threading.Event(), threading.Event()
    with ThreadScheduler(name="shared") as shared:
        reconciler = PeriodicReconciler(5, ticked.set, shared)
        reconciler.start()
        assert ticked.wait(SOON)
        reconciler.stop()
        shared.schedule_once(later.set, 0)
        assert later.wait(SOON)


def test_its_own_thread_ends_with_stop_and_comes_back_with_start() -> None:
    ticks = threading.Semaphore(0)
    reconciler = PeriodicReconciler(5, ticks.release)
    for _ in range(2):
        reconciler.start()
        assert ticks.acquire(timeout=SOON)
        reconciler.stop()
        assert "qkt-reconcile" not in {thread.name for thread in threading.enumerate()}


def test_an_action_may_stop_its_own_reconciler() -> None:
    stopped = threading.Event()
    reconciler = PeriodicReconciler(5, lambda: (reconciler.stop(), stopped.set()))  # type: ignore[arg-type, func-returns-value]
    reconciler.start()
    assert stopped.wait(SOON)
    assert not reconciler.is_running


def test_the_repr_says_what_it_does() -> None:
    assert repr(PeriodicReconciler(1_000, lambda: None)) == ("<PeriodicReconciler stopped interval_ms=1000 failures=0>")
