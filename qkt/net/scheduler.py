"""Schedulers: actions that run later, once or at a fixed rate, on threads of qkt or of a user's executor.

A schedule survives its action's exceptions; one schedule never runs twice at once; runs missed while the machine slept
or an action overran are skipped, not made up for in a burst; `ThreadScheduler.close` works from any thread, its own
workers included. No action runs under a lock.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from types import TracebackType
from typing import Protocol, Self

from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError
from qkt.net.shared_threads import shared_lane
from qkt.threads import library_thread, run_as_library

log: logging.Logger = logging.getLogger(__name__)

_CLOSE_PATIENCE_MS = 5_000
_LONGEST_WAIT_S = 3_600.0


class Cancellable(Protocol):
    """Something scheduled that can be called off; calling it off twice is harmless."""

    def cancel(self) -> None:
        """After this returns the action is not started again."""
        ...


class Scheduler(Protocol):
    """Runs actions later. An action that raises never stops the schedule."""

    def schedule_at_fixed_rate(
        self, action: Callable[[], None], initial_delay_ms: int, interval_ms: int
    ) -> Cancellable:
        """Run ``action`` after ``initial_delay_ms`` and then every ``interval_ms``; never two runs of it at once."""
        ...

    def schedule_once(self, action: Callable[[], None], delay_ms: int) -> Cancellable:
        """Run ``action`` once, after ``delay_ms``."""
        ...


class _Schedule:
    """One action and when it runs next; ``interval_ms`` is None for a single run."""

    def __init__(self, scheduler: ThreadScheduler, action: Callable[[], None], interval_ms: int | None) -> None:
        self._scheduler = scheduler
        self.action: Callable[[], None] | None = action
        self.interval_ms = interval_ms
        self.due_ms = 0

    def cancel(self) -> None:
        """No run starts after this returns; one that has started is not waited for. Idempotent."""
        self._scheduler._cancel(self)

    def __repr__(self) -> str:
        what = "cancelled" if self.action is None else f"due_ms={self.due_ms}"
        return f"<schedule {what} interval_ms={self.interval_ms}>"


class ThreadScheduler:
    """Runs scheduled actions on ``workers`` daemon threads, started when first needed.

    Several brokers may share one. ``clock`` only tells the time; the waiting is real.
    """

    def __init__(self, workers: int = 1, clock: Clock | None = None, name: str = "qkt-reconcile") -> None:
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise InvalidRequestError(f"workers must be a positive int, got {workers!r}")
        self._workers = workers
        self._clock = clock or SystemClock()
        self._name = name
        self._changed = threading.Condition()
        self._heap: list[tuple[int, int, _Schedule]] = []
        self._ticket = itertools.count()
        self._threads: list[threading.Thread] = []
        self._alive: set[threading.Thread] = set()
        self._closing: set[threading.Thread] = set()  # workers that are inside close() themselves
        self._running: set[_Schedule] = set()
        self._is_closed = False

    def schedule_at_fixed_rate(self, action: Callable[[], None], initial_delay_ms: int, interval_ms: int) -> _Schedule:
        """Run ``action`` after ``initial_delay_ms`` and then on every multiple of ``interval_ms`` after that."""
        if interval_ms <= 0:
            raise InvalidRequestError(f"interval_ms must be above zero, got {interval_ms}")
        return self._schedule(_Schedule(self, action, interval_ms), initial_delay_ms)

    def schedule_once(self, action: Callable[[], None], delay_ms: int) -> _Schedule:
        """Run ``action`` once, after ``delay_ms``."""
        return self._schedule(_Schedule(self, action, None), delay_ms)

    def _schedule(self, schedule: _Schedule, delay_ms: int) -> _Schedule:
        with self._changed:
            if self._is_closed:
                raise InvalidRequestError(f"the scheduler {self._name} is closed")
            schedule.due_ms = self._clock.monotonic_ms() + max(0, delay_ms)
            self._push(schedule)
            self._start_a_worker()
        return schedule

    def _push(self, schedule: _Schedule) -> None:
        heapq.heappush(self._heap, (schedule.due_ms, next(self._ticket), schedule))
        if self._heap[0][2] is schedule:  # otherwise every waiting worker wakes early enough as it is
            self._changed.notify()

    def _start_a_worker(self) -> None:
        if len(self._threads) < min(self._workers, len(self._heap) + len(self._running)):
            name = self._name if self._workers == 1 else f"{self._name}-{len(self._threads) + 1}"
            thread = library_thread(name, self._work)
            self._threads.append(thread)
            self._alive.add(thread)
            thread.start()

    def _cancel(self, schedule: _Schedule) -> None:
        with self._changed:
            schedule.action = None  # its place in the heap is cleared when it comes up

    def _work(self) -> None:
        try:
            while (job := self._take()) is not None:
                schedule, action = job
                try:
                    action()
                except BaseException:  # a SystemExit in one action must not end the thread that runs the others
                    log.warning("scheduled action failed scheduler=%s action=%r", self._name, action, exc_info=True)
                self._done(schedule)
        finally:
            with self._changed:
                self._alive.discard(threading.current_thread())
                self._changed.notify_all()

    def _take(self) -> tuple[_Schedule, Callable[[], None]] | None:
        """The next due schedule, waiting for it; None when the scheduler is closed."""
        with self._changed:
            while not self._is_closed:
                if self._heap:
                    due_ms, _, schedule = self._heap[0]
                    wait_ms = due_ms - self._clock.monotonic_ms()
                    if schedule.action is None or wait_ms <= 0:
                        heapq.heappop(self._heap)
                        if schedule.action is not None:
                            self._running.add(schedule)
                            return schedule, schedule.action
                        continue
                    self._changed.wait(min(wait_ms / 1000, _LONGEST_WAIT_S))
                else:
                    self._changed.wait()
            return None

    def _done(self, schedule: _Schedule) -> None:
        with self._changed:
            self._running.discard(schedule)
            if schedule.interval_ms is None or schedule.action is None or self._is_closed:
                return
            late_ms = max(0, self._clock.monotonic_ms() - schedule.due_ms)
            missed = late_ms // schedule.interval_ms
            schedule.due_ms += (missed + 1) * schedule.interval_ms
            self._push(schedule)

    def close(self, timeout_ms: int = _CLOSE_PATIENCE_MS) -> None:
        """Start nothing more and wait for what runs, at most ``timeout_ms``; idempotent, from any thread.

        Called by one of its own workers it waits for the others only.
        """
        me = threading.current_thread()
        with self._changed:
            self._is_closed = True
            self._heap.clear()
            is_worker = me in self._alive
            if is_worker:
                self._closing.add(me)
            self._changed.notify_all()
            # two workers that close must not wait for each other; any other thread waits for all of them
            self._changed.wait_for(
                lambda: self._alive <= (self._closing if is_worker else set()), timeout=timeout_ms / 1000
            )
            late = [thread.name for thread in self._alive - self._closing]
            ended = [thread for thread in self._threads if thread not in self._alive]
        for thread in ended:
            thread.join(timeout=1.0)
        if late:
            log.warning("scheduler closed while an action still runs scheduler=%s threads=%s", self._name, late)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        with self._changed:
            waiting = [schedule for _, _, schedule in self._heap if schedule.action is not None]
            next_in_ms = min((schedule.due_ms for schedule in waiting), default=0) - self._clock.monotonic_ms()
            state = "closed" if self._is_closed else "open"
            coming = f" next_in_ms={max(0, next_in_ms)}" if waiting else ""
            return (
                f"<ThreadScheduler {self._name} {state} workers={len(self._alive)}/{self._workers} "
                f"waiting={len(waiting)} running={len(self._running)}{coming}>"
            )


class ExecutorScheduler:
    """Runs scheduled actions on a user's `concurrent.futures.Executor`, which is never shut down from here.

    One timer thread of its own tells when an action is due. An executor that was shut down ends the schedules.
    """

    def __init__(self, executor: Executor, name: str = "qkt-timer") -> None:
        self._executor = executor
        self._timer = ThreadScheduler(1, name=name)

    def schedule_at_fixed_rate(
        self, action: Callable[[], None], initial_delay_ms: int, interval_ms: int
    ) -> Cancellable:
        """Hand ``action`` to the executor after ``initial_delay_ms`` and then every ``interval_ms``.

        A run that is due while the previous one still waits or runs is skipped.
        """
        job = _ExecutorJob(self._executor, action)
        job.schedule = self._timer.schedule_at_fixed_rate(job.submit, initial_delay_ms, interval_ms)
        return job

    def schedule_once(self, action: Callable[[], None], delay_ms: int) -> Cancellable:
        """Hand ``action`` to the executor once, after ``delay_ms``."""
        job = _ExecutorJob(self._executor, action)
        job.schedule = self._timer.schedule_once(job.submit, delay_ms)
        return job

    def close(self, timeout_ms: int = _CLOSE_PATIENCE_MS) -> None:
        """Stop the timer: nothing more is handed to the executor, which stays open. Idempotent."""
        self._timer.close(timeout_ms)

    def __repr__(self) -> str:
        return f"<ExecutorScheduler on {self._executor!r} timer={self._timer!r}>"


class _ExecutorJob:
    """One action and its place in the executor."""

    def __init__(self, executor: Executor, action: Callable[[], None]) -> None:
        self._executor = executor
        self._action = action
        self._lock = threading.Lock()
        self._is_submitted = False
        self._is_cancelled = False
        self.schedule: Cancellable | None = None

    def submit(self) -> None:
        """Hand the action to the executor, unless the last run has not ended yet."""
        with self._lock:
            if self._is_submitted or self._is_cancelled:
                return
            self._is_submitted = True
        try:
            self._executor.submit(self._run)
        except RuntimeError as error:
            self.cancel()
            log.error("schedule ends, its executor was shut down error=%s", error)

    def _run(self) -> None:
        try:
            with self._lock:
                is_cancelled = self._is_cancelled
            if not is_cancelled:
                run_as_library(self._action)
        except BaseException:
            log.warning("scheduled action failed executor=%r action=%r", self._executor, self._action, exc_info=True)
        finally:
            with self._lock:
                self._is_submitted = False

    def cancel(self) -> None:
        """No run starts after this returns; idempotent."""
        with self._lock:
            self._is_cancelled = True
        if self.schedule is not None:
            self.schedule.cancel()


def check_scheduler(given: object) -> None:
    """Raise InvalidRequestError unless `scheduler_from` can use ``given``."""
    is_scheduler = all(hasattr(given, method) for method in ("schedule_at_fixed_rate", "schedule_once"))
    if isinstance(given, type) or not (given is None or is_scheduler or isinstance(given, Executor)):
        raise InvalidRequestError(
            "a scheduler must be a qkt scheduler, e.g. ThreadScheduler(workers=2), or a concurrent.futures.Executor; "
            f"got {given!r}"
        )


def scheduler_from(given: Scheduler | Executor | None, name: str) -> tuple[Scheduler, Callable[[], None]]:
    """The scheduler for an option of a user, and a function that releases what was made for it.

    None makes a lane called ``name`` on the process's shared threads; an executor of the standard library gets an
    `ExecutorScheduler`; a scheduler is used as it is. What the user gave is never closed.

    Raises:
        InvalidRequestError: ``given`` is neither.
    """
    if given is None:
        own = shared_lane(name)
        return own, own.close
    if isinstance(given, Executor):
        timed = ExecutorScheduler(given)
        return timed, timed.close
    check_scheduler(given)
    return given, _release_nothing


def _release_nothing() -> None:
    """A given scheduler belongs to the user."""
