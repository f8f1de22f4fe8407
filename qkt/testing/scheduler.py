"""A scheduler whose time passes when the test says so."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from qkt.errors import InvalidRequestError
from qkt.testing.clock import FixedClock

log: logging.Logger = logging.getLogger(__name__)


class Schedule:
    """One scheduled action. ``interval_ms`` is None for an action that runs once."""

    def __init__(self, action: Callable[[], None], due_ms: int, initial_delay_ms: int, interval_ms: int | None) -> None:
        self.action = action
        self.due_ms = due_ms
        self.initial_delay_ms = initial_delay_ms
        self.interval_ms = interval_ms
        self.is_cancelled: bool = False
        self.runs = 0

    @property
    def is_fixed_rate(self) -> bool:
        """True for an action that repeats."""
        return self.interval_ms is not None

    def cancel(self) -> None:
        """Call it off; idempotent."""
        self.is_cancelled = True

    def __repr__(self) -> str:
        kind = f"every {self.interval_ms} ms" if self.is_fixed_rate else "once"
        state = "cancelled" if self.is_cancelled else f"due at {self.due_ms} ms"
        return f"<Schedule {kind} {state} runs={self.runs}>"


class TickScheduler:
    """Runs nothing by itself, and everything on the caller's thread.

    ``fire_tick()`` runs each fixed-rate action once, whatever time it is. ``advance_ms(n)`` lets time pass and runs all
    that falls due, in order; a ``clock`` given at construction moves along. ``schedules`` shows every schedule that is
    not cancelled and not done. An action that raises is logged and does not stop the others.
    """

    def __init__(self, clock: FixedClock | None = None) -> None:
        self._clock = clock
        self._now_ms = 0
        self._all: list[Schedule] = []
        self._lock = threading.Lock()
        self.errors: list[Exception] = []

    def schedule_at_fixed_rate(self, action: Callable[[], None], initial_delay_ms: int, interval_ms: int) -> Schedule:
        """Remember an action that repeats."""
        if interval_ms <= 0:
            raise InvalidRequestError(f"interval_ms must be above zero, got {interval_ms}")
        return self._add(Schedule(action, self._now_ms + initial_delay_ms, initial_delay_ms, interval_ms))

    def schedule_once(self, action: Callable[[], None], delay_ms: int) -> Schedule:
        """Remember an action that runs once."""
        return self._add(Schedule(action, self._now_ms + delay_ms, delay_ms, None))

    def _add(self, schedule: Schedule) -> Schedule:
        with self._lock:
            self._all.append(schedule)
        return schedule

    @property
    def schedules(self) -> tuple[Schedule, ...]:
        """What is still to run."""
        with self._lock:
            self._all = [one for one in self._all if not one.is_cancelled and (one.is_fixed_rate or not one.runs)]
            return tuple(self._all)

    def fire_tick(self) -> int:
        """Run every fixed-rate action once; returns how many ran."""
        ticking = [schedule for schedule in self.schedules if schedule.is_fixed_rate]
        for schedule in ticking:
            self._run(schedule)
        return len(ticking)

    def advance_ms(self, n: int) -> int:
        """Let ``n`` ms pass, running what falls due in the order of its time; returns how many ran."""
        if n < 0:
            raise InvalidRequestError(f"time does not go back: advance_ms({n})")
        until_ms, ran = self._now_ms + n, 0
        while True:
            due = [schedule for schedule in self.schedules if schedule.due_ms <= until_ms]
            if not due:
                break
            schedule = min(due, key=lambda one: one.due_ms)
            self._move_to(max(self._now_ms, schedule.due_ms))
            if schedule.interval_ms is not None:
                schedule.due_ms += schedule.interval_ms
            self._run(schedule)
            ran += 1
        self._move_to(until_ms)
        return ran

    def _move_to(self, now_ms: int) -> None:
        if self._clock is not None:
            self._clock.advance_ms(now_ms - self._now_ms)
        self._now_ms = now_ms

    def _run(self, schedule: Schedule) -> None:
        if schedule.is_cancelled:
            return
        schedule.runs += 1
        try:
            schedule.action()
        except Exception as error:  # noqa: BLE001 - as ThreadScheduler: an action's fault does not stop the schedule
            self.errors.append(error)
            log.warning("scheduled action failed action=%r error=%r", schedule.action, error)

    def __repr__(self) -> str:
        waiting = self.schedules
        fixed = sum(schedule.is_fixed_rate for schedule in waiting)
        return f"<TickScheduler now_ms={self._now_ms} fixed_rate={fixed} once={len(waiting) - fixed}>"
