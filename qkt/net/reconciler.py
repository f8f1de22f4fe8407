"""Runs an action at a fixed rate; neither its exceptions nor those of the error handler stop the schedule."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from qkt.errors import InvalidRequestError
from qkt.net.scheduler import Cancellable, Scheduler, check_scheduler, scheduler_from

log: logging.Logger = logging.getLogger(__name__)


class PeriodicReconciler:
    """Runs ``action`` every ``interval_ms``, first after one interval.

    ``scheduler`` defaults to a thread of its own, which `stop` ends; a scheduler or `concurrent.futures.Executor` that
    was given is never closed. ``on_error(error)`` gets what a tick raised; by default it is logged at WARNING.
    """

    def __init__(
        self,
        interval_ms: int,
        action: Callable[[], None],
        scheduler: Scheduler | Executor | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        if not isinstance(interval_ms, int) or isinstance(interval_ms, bool) or interval_ms <= 0:
            raise InvalidRequestError(f"interval_ms must be a positive int (milliseconds), got {interval_ms!r}")
        if not callable(action):
            raise InvalidRequestError(f"action must be callable, got {action!r}")
        check_scheduler(scheduler)
        self._interval_ms = interval_ms
        self._action = action
        self._given = scheduler
        self._on_error = on_error or self._log_error
        self._lock = threading.Lock()
        self._release: Callable[[], None] | None = None
        self._schedule: Cancellable | None = None
        self._failures = 0

    @property
    def interval_ms(self) -> int:
        """Milliseconds between two ticks."""
        return self._interval_ms

    @property
    def is_running(self) -> bool:
        """True between `start` and `stop`."""
        return self._schedule is not None

    def start(self) -> None:
        """Begin; the first tick comes after one interval. Starting a running reconciler does nothing."""
        with self._lock:
            if self._schedule is not None:
                return
            scheduler, self._release = scheduler_from(self._given, "qkt-reconcile")
            self._schedule = scheduler.schedule_at_fixed_rate(self._tick, self._interval_ms, self._interval_ms)

    def stop(self) -> None:
        """End the schedule; before `start` it does nothing. Callable from any thread, the ticking one included."""
        with self._lock:
            schedule, self._schedule = self._schedule, None
            release, self._release = self._release, None
        if schedule is not None:
            schedule.cancel()
        if release is not None:
            release()

    def _tick(self) -> None:
        if self._schedule is None:
            return
        try:
            self._action()
        except Exception as error:  # noqa: BLE001 - reported; the next tick still comes
            self._failures += 1
            self._report(error)

    def _report(self, error: Exception) -> None:
        try:
            self._on_error(error)
        except Exception:  # must not end the schedule
            log.warning("error handler of a periodic action failed", exc_info=True)

    def _log_error(self, error: Exception) -> None:
        log.warning("periodic action failed next_in_ms=%d error=%s", self._interval_ms, error, exc_info=error)

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<PeriodicReconciler {state} interval_ms={self._interval_ms} failures={self._failures}>"
