"""A timer that survives its actions, never doubles a run, and can be closed from anywhere."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from qkt.errors import InvalidRequestError
from qkt.net.scheduler import ThreadScheduler
from qkt.threads import is_library_thread

SOON = 5.0  # seconds: far more than anything here needs


def threads_named(prefix: Any) -> list[Any]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(prefix)]


def test_no_thread_exists_before_something_is_scheduled() -> None:
    with ThreadScheduler(name="lazy"):
        assert threads_named("lazy") == []


def test_actions_run_on_a_daemon_library_thread_with_the_name() -> None:
    seen = []
    done = threading.Event()

    def action() -> None:
        seen.append((threading.current_thread().name, threading.current_thread().daemon, is_library_thread()))
        done.set()

    with ThreadScheduler() as scheduler:
        scheduler.schedule_once(action, 0)
        assert done.wait(SOON)
    assert seen == [("qkt-reconcile", True, True)]


def test_actions_run_in_the_order_they_are_due() -> None:
    order = []
    done = threading.Event()
    with ThreadScheduler() as scheduler:
        scheduler.schedule_once(lambda: (order.append("late"), done.set()), 60)  # type: ignore[arg-type, func-returns-value]
        scheduler.schedule_once(lambda: order.append("early"), 10)
        assert done.wait(SOON)
    assert order == ["early", "late"]


def test_S75_a_schedule_survives_an_action_that_raises() -> None:
    runs = threading.Semaphore(0)

    def action() -> None:
        runs.release()
        raise RuntimeError("tick failed")

    with ThreadScheduler() as scheduler:
        scheduler.schedule_at_fixed_rate(action, 0, 5)
        assert all(runs.acquire(timeout=SOON) for _ in range(3))


def test_even_a_system_exit_does_not_end_the_timer() -> None:
    runs = threading.Semaphore(0)

    def action() -> None:
        runs.release()
        raise SystemExit

    with ThreadScheduler() as scheduler:
        scheduler.schedule_at_fixed_rate(action, 0, 5)
        assert all(runs.acquire(timeout=SOON) for _ in range(3))


def test_two_runs_of_one_schedule_never_overlap() -> None:
    inside, most = 0, 0
    lock = threading.Lock()
    runs = threading.Semaphore(0)

    def slow() -> None:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        threading.Event().wait(0.02)
        with lock:
            inside -= 1
        runs.release()

    with ThreadScheduler(workers=4) as scheduler:
        scheduler.schedule_at_fixed_rate(slow, 0, 1)
        assert all(runs.acquire(timeout=SOON) for _ in range(5))
    assert most == 1


class SleepyClock:
    """A monotonic clock that can leap, as after a suspend."""

    def __init__(self) -> None:
        self.leap_ms = 0

    def now_ms(self) -> Any:
        return self.monotonic_ms()

    def monotonic_ms(self) -> Any:
        return time.monotonic_ns() // 1_000_000 + self.leap_ms


def test_S82_beats_missed_in_a_suspend_are_not_made_up_for_in_a_burst() -> None:
    clock = SleepyClock()
    runs = []
    first = threading.Event()
    second = threading.Event()

    def action() -> None:
        runs.append(clock.monotonic_ms())
        (second if first.is_set() else first).set()

    with ThreadScheduler(clock=clock) as scheduler:
        scheduler.schedule_at_fixed_rate(action, 0, 200)
        assert first.wait(SOON)
        clock.leap_ms = 3_600_000
        assert second.wait(SOON)
        threading.Event().wait(0.1)
        assert len(runs) == 2


def test_a_cancelled_action_does_not_run() -> None:
    ran = []
    done = threading.Event()
    with ThreadScheduler() as scheduler:
        handle = scheduler.schedule_once(lambda: ran.append(1), 20)
        handle.cancel()
        handle.cancel()
        scheduler.schedule_once(done.set, 50)
        assert done.wait(SOON)
    assert ran == []


def test_an_action_may_cancel_its_own_schedule() -> None:
    runs = []
    done = threading.Event()
    with ThreadScheduler() as scheduler:
        handles: list[Any] = []

        def action() -> None:
            runs.append(1)
            handles[0].cancel()

        handles.append(scheduler.schedule_at_fixed_rate(action, 20, 10))
        scheduler.schedule_once(done.set, 120)
        assert done.wait(SOON)
    assert runs == [1]


def test_close_is_idempotent_joins_and_starts_nothing_more() -> None:
    ran = []
    scheduler = ThreadScheduler(workers=2, name="closing")
    scheduler.schedule_once(lambda: ran.append(1), 50)
    scheduler.schedule_once(lambda: ran.append(2), 50)
    scheduler.close()
    scheduler.close()
    assert threads_named("closing") == []
    assert ran == []
    with pytest.raises(InvalidRequestError, match="closed"):
        scheduler.schedule_once(lambda: None, 0)


def test_two_workers_may_close_their_scheduler_at_the_same_time() -> None:
    scheduler = ThreadScheduler(workers=2, name="suicidal")
    together = threading.Barrier(2)
    closed = threading.Semaphore(0)

    def action() -> None:
        together.wait(SOON)
        scheduler.close()
        closed.release()

    scheduler.schedule_once(action, 0)
    scheduler.schedule_once(action, 0)
    assert closed.acquire(timeout=SOON)
    assert closed.acquire(timeout=SOON)
    scheduler.close()
    assert threads_named("suicidal") == []


def test_close_does_not_wait_forever_for_a_hanging_action(caplog: pytest.LogCaptureFixture) -> None:
    hang, started = threading.Event(), threading.Event()
    scheduler = ThreadScheduler(name="hanging")
    scheduler.schedule_once(lambda: (started.set(), hang.wait(SOON)), 0)  # type: ignore[arg-type, func-returns-value]
    assert started.wait(SOON)
    scheduler.close(timeout_ms=50)
    assert "closed while an action still runs" in caplog.text
    hang.set()
    scheduler.close()


@pytest.mark.parametrize("workers", [0, -1, True, 1.5, "2"])
def test_a_senseless_number_of_workers_is_refused(workers: Any) -> None:
    with pytest.raises(InvalidRequestError):
        ThreadScheduler(workers=workers)


def test_the_repr_says_what_is_coming() -> None:
    with ThreadScheduler() as scheduler:
        scheduler.schedule_once(lambda: None, 60_000)
        assert "waiting=1" in repr(scheduler)
        assert "next_in_ms=" in repr(scheduler)
    assert "closed" in repr(scheduler)
