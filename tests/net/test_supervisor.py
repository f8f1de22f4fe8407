"""One attempt at a time, for as long as it takes."""

from __future__ import annotations

import threading
from typing import Any

from qkt.net.backoff import ExponentialBackoff, FixedDelayBackoff
from qkt.net.supervisor import ReconnectSupervisor

SOON = 5.0
BACKOFF = ExponentialBackoff(initial_ms=100, max_ms=1_000, jitter=0)


class HandScheduler:
    def __init__(self) -> None:
        self.delays: list[Any] = []
        self.waiting: list[Any] = []

    def schedule_at_fixed_rate(self, action: Any, initial_delay_ms: Any, interval_ms: Any) -> None:
        raise AssertionError("reconnecting has no rate")

    def schedule_once(self, action: Any, delay_ms: Any) -> Any:
        self.delays.append(delay_ms)
        self.waiting.append(action)
        return self

    def cancel(self) -> None:
        self.waiting.clear()

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for action in waiting:
            action()


class HandClock:
    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> Any:
        return self.ms

    def monotonic_ms(self) -> Any:
        return self.ms


def a_supervisor(attempt: Any, **more: Any) -> tuple[Any, ...]:
    scheduler = HandScheduler()
    return ReconnectSupervisor(attempt, BACKOFF, scheduler, clock=HandClock(), **more), scheduler  # type: ignore[arg-type]


def failing(*outcomes: Any) -> Any:
    """An attempt that raises for each True and succeeds for each False."""
    left = list(outcomes)

    def attempt() -> None:
        if left.pop(0):
            raise ConnectionError("refused")

    return attempt


def test_nothing_is_attempted_before_a_trigger() -> None:
    supervisor, scheduler = a_supervisor(lambda: None)
    assert (supervisor.state, scheduler.waiting) == ("idle", [])


def test_it_keeps_trying_until_the_attempt_succeeds() -> None:
    supervisor, scheduler = a_supervisor(failing(*[True] * 50, False), on_error=lambda error: None)
    supervisor.trigger("cut")
    for _ in range(51):
        scheduler.run()
    assert (supervisor.state, supervisor.attempts, supervisor.failures) == ("idle", 51, 0)
    assert scheduler.delays[:6] == [100, 200, 400, 800, 1_000, 1_000]


def test_an_attempt_that_returns_false_has_failed() -> None:
    supervisor, scheduler = a_supervisor(lambda: False, on_error=lambda error: None)
    supervisor.trigger("cut")
    scheduler.run()
    assert supervisor.state == "waiting"
    assert isinstance(supervisor.last_error, ConnectionError)


def test_triggers_that_come_while_one_is_pending_are_one() -> None:
    supervisor, scheduler = a_supervisor(lambda: None)
    for _ in range(20):
        supervisor.trigger("cut")
    assert len(scheduler.waiting) == 1
    scheduler.run()
    assert supervisor.attempts == 1


def test_a_trigger_during_an_attempt_is_not_lost() -> None:
    made = []

    def attempt() -> None:
        made.append(1)
        if len(made) == 1:
            supervisor.trigger("lost again, while connecting")

    supervisor, scheduler = a_supervisor(attempt)
    supervisor.trigger("cut")
    scheduler.run()
    assert supervisor.state == "waiting"
    scheduler.run()
    assert (supervisor.state, len(made)) == ("idle", 2)


def test_S41_a_success_that_does_not_last_keeps_the_pace() -> None:
    supervisor, scheduler = a_supervisor(lambda: None)
    for _ in range(4):
        supervisor.trigger("dropped at once")
        scheduler.run()
    assert scheduler.delays == [100, 200, 400, 800]


def test_after_a_success_that_lasted_the_pace_starts_anew() -> None:
    scheduler, clock = HandScheduler(), HandClock()
    supervisor = ReconnectSupervisor(lambda: None, BACKOFF, scheduler, clock=clock, stable_after_ms=5_000)  # type: ignore[arg-type]
    supervisor.trigger("first")
    scheduler.run()
    clock.ms += 5_000
    supervisor.trigger("hours later")
    assert scheduler.delays == [100, 100]


def test_chance_comes_in_from_outside() -> None:
    scheduler = HandScheduler()
    policy = ExponentialBackoff(initial_ms=100, max_ms=1_000, jitter=0.5)
    ReconnectSupervisor(lambda: None, policy, scheduler, random=lambda: 0.0).trigger("cut")  # type: ignore[arg-type]
    assert scheduler.delays == [50]


def test_after_stop_nothing_is_attempted() -> None:
    supervisor, scheduler = a_supervisor(lambda: None)
    supervisor.trigger("cut")
    supervisor.stop()
    supervisor.trigger("cut again")
    scheduler.run()
    assert (supervisor.state, supervisor.attempts) == ("stopped", 0)


def test_an_attempt_that_fails_because_of_the_stop_is_no_news() -> None:
    heard: list[Any] = []

    def attempt() -> None:
        supervisor.stop()
        raise ConnectionError("its socket was shut")

    supervisor, scheduler = a_supervisor(attempt, on_error=heard.append)
    supervisor.trigger("cut")
    scheduler.run()
    assert (supervisor.state, heard) == ("stopped", [])


def test_an_error_handler_that_raises_does_not_end_the_attempts() -> None:
    def on_error(error: Any) -> None:
        raise ValueError("handler")

    supervisor, scheduler = a_supervisor(failing(True, False), on_error=on_error)
    supervisor.trigger("cut")
    scheduler.run()
    scheduler.run()
    assert (supervisor.state, supervisor.attempts) == ("idle", 2)


def test_two_attempts_never_run_at_once_on_real_threads() -> None:
    inside = threading.Lock()
    overlaps, done = [], threading.Semaphore(0)

    def attempt() -> None:
        if not inside.acquire(blocking=False):
            overlaps.append(1)
            return
        threading.Event().wait(0.01)
        inside.release()
        done.release()

    supervisor = ReconnectSupervisor(attempt, FixedDelayBackoff(1))
    for _ in range(4):
        threads = [threading.Thread(target=supervisor.trigger, args=("cut",)) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert done.acquire(timeout=SOON)
        for thread in threads:
            thread.join(SOON)
    supervisor.stop()
    supervisor.stop()
    assert overlaps == []
    assert "qkt-reconnect" not in {thread.name for thread in threading.enumerate()}
