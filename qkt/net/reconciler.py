"""A beat that cannot be lost: run an action every so often, whatever the action does.

Broker-agnostic: each broker brings its own ``reconcile``. A tick that raises is reported and the next one still
comes; an error handler that raises does not end the beat either.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from qkt.errors import InvalidRequestError
from qkt.net.scheduler import Cancellable, Scheduler, ThreadScheduler

log = logging.getLogger(__name__)


class PeriodicReconciler:
    """Runs ``action`` every ``interval_ms``, first after one interval.

    ``scheduler`` defaults to a thread of its own, which `stop` ends; a scheduler that was given is never closed.
    ``on_error(error)`` hears what a tick raised; by default it is logged at WARNING.
    """

    def __init__(
        self,
        interval_ms: int,
        action: Callable[[], None],
        scheduler: Scheduler | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        if not isinstance(interval_ms, int) or isinstance(interval_ms, bool) or interval_ms <= 0:
            raise InvalidRequestError(f"interval_ms must be a positive int (milliseconds), got {interval_ms!r}")
        if not callable(action):
            raise InvalidRequestError(f"action must be callable, got {action!r}")
        self._interval_ms = interval_ms
        self._action = action
        self._given = scheduler
        self._on_error = on_error or self._log_error
        self._lock = threading.Lock()
        self._own: ThreadScheduler | None = None
        self._beat: Cancellable | None = None
        self._failures = 0

    @property
    def interval_ms(self) -> int:
        """Milliseconds between two ticks."""
        return self._interval_ms

    @property
    def is_running(self) -> bool:
        """True between `start` and `stop`."""
        return self._beat is not None

    def start(self) -> None:
        """Begin; the first tick comes after one interval. Starting a running reconciler does nothing."""
        with self._lock:
            if self._beat is not None:
                return
            scheduler = self._given
            if scheduler is None:
                scheduler = self._own = ThreadScheduler()
            self._beat = scheduler.schedule_at_fixed_rate(self._tick, self._interval_ms, self._interval_ms)

    def stop(self) -> None:
        """End the beat; before `start` it does nothing. Callable from any thread, the ticking one included."""
        with self._lock:
            beat, self._beat = self._beat, None
            own, self._own = self._own, None
        if beat is not None:
            beat.cancel()
        if own is not None:
            own.close()

    def _tick(self) -> None:
        if self._beat is None:
            return
        try:
            self._action()
        except Exception as error:  # noqa: BLE001 - a failed tick is the owner's business, the next tick is ours
            self._failures += 1
            self._report(error)

    def _report(self, error: Exception) -> None:
        try:
            self._on_error(error)
        except Exception:  # nor may the error handler end the beat
            log.warning("error handler of a periodic action failed", exc_info=True)

    def _log_error(self, error: Exception) -> None:
        log.warning("periodic action failed next_in_ms=%d error=%s", self._interval_ms, error, exc_info=error)

    def __repr__(self) -> str:
        state = "running" if self.is_running else "stopped"
        return f"<PeriodicReconciler {state} interval_ms={self._interval_ms} failures={self._failures}>"
