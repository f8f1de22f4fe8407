"""Repeats an attempt until it succeeds: one at a time, for as long as it takes, with pauses by a backoff policy.

`ReconnectSupervisor.trigger` reports a loss. A trigger while an attempt is awaited adds nothing; one while an attempt
runs causes another attempt, because it may report the loss of what that attempt just made. The pauses start anew only
after a success that lasted, so that a venue that accepts and drops at once is not flooded.

The attempt always runs through the scheduler, so a test drives it with `qkt.testing.TickScheduler` and no thread.
"""

from __future__ import annotations

import logging
import random as _random
import threading
from collections.abc import Callable
from concurrent.futures import Executor

from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError
from qkt.net.backoff import BackoffPolicy, ExponentialBackoff
from qkt.net.scheduler import Cancellable, Scheduler, scheduler_from

log: logging.Logger = logging.getLogger(__name__)

DEFAULT_POLICY = ExponentialBackoff(initial_ms=250, max_ms=15_000)
_STABLE_AFTER_MS = 5_000


class ReconnectSupervisor:
    """Calls ``attempt()`` after each `trigger`, again and again, until it returns without raising.

    An attempt fails by raising, or by returning False. ``on_error(error)`` hears each failure (default: logged at
    WARNING). ``scheduler`` defaults to a thread of its own, which `stop` ends. ``random()`` draws the jitter.
    """

    def __init__(
        self,
        attempt: Callable[[], object],
        policy: BackoffPolicy | None = None,
        scheduler: Scheduler | Executor | None = None,
        on_error: Callable[[Exception], None] | None = None,
        random: Callable[[], float] = _random.random,
        *,
        clock: Clock | None = None,
        stable_after_ms: int = _STABLE_AFTER_MS,
    ) -> None:
        if not callable(attempt):
            raise InvalidRequestError(f"attempt must be callable, got {attempt!r}")
        self._attempt = attempt
        self._policy = policy or DEFAULT_POLICY
        self._scheduler, self._release = scheduler_from(scheduler, "qkt-reconnect")
        self._on_error = on_error or self._log_error
        self._random = random
        self._clock = clock or SystemClock()
        self._stable_after_ms = stable_after_ms

        self._lock = threading.Lock()
        self._waiting: Cancellable | None = None
        self._is_running = False
        self._lost_again = False
        self._is_stopped = False
        self._failures = 0
        self._pace = 0  # which pause comes next
        self._last_success_ms: int | None = None
        self._total = 0
        self._reason = ""
        self._last_error: Exception | None = None
        self._next_delay_ms: int | None = None

    @property
    def state(self) -> str:
        """``idle``, ``waiting`` (for the next attempt), ``running`` (an attempt) or ``stopped``."""
        with self._lock:
            return self._state()

    def _state(self) -> str:
        if self._is_stopped:
            return "stopped"
        if self._is_running:
            return "running"
        return "waiting" if self._waiting is not None else "idle"

    @property
    def attempts(self) -> int:
        """How many attempts were made, ever."""
        return self._total

    @property
    def failures(self) -> int:
        """How many have failed since the last success."""
        return self._failures

    @property
    def reason(self) -> str:
        """What the last trigger said."""
        return self._reason

    @property
    def last_error(self) -> Exception | None:
        """What the last failed attempt raised."""
        return self._last_error

    @property
    def next_delay_ms(self) -> int | None:
        """The pause before the attempt that is awaited, or was made last."""
        return self._next_delay_ms

    def trigger(self, reason: str) -> None:
        """Something is lost: attempt to bring it back. From any thread; after `stop` it does nothing."""
        with self._lock:
            if self._is_stopped:
                return
            self._reason = reason
            if self._is_running:
                self._lost_again = True
            elif self._waiting is None:
                if self._has_been_calm():
                    self._pace = 0
                self._wait_for_next()

    def stop(self) -> None:
        """No attempt starts after this; one under way is waited for only on a thread of the supervisor's own."""
        with self._lock:
            self._is_stopped = True
            waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
        self._release()

    def _has_been_calm(self) -> bool:
        succeeded_ms = self._last_success_ms
        return succeeded_ms is not None and self._clock.monotonic_ms() - succeeded_ms >= self._stable_after_ms

    def _wait_for_next(self) -> None:
        """Schedule the next attempt; the caller holds the lock."""
        delay_ms = self._policy.delay_ms(self._pace, jitter=self._random())
        self._pace += 1
        self._next_delay_ms = delay_ms
        try:
            self._waiting = self._scheduler.schedule_once(self._run, delay_ms)
        except InvalidRequestError:  # the given scheduler was closed: no further attempt is possible
            self._is_stopped = True
            log.warning("reconnecting ends, its scheduler is closed reason=%s", self._reason)

    def _run(self) -> None:
        with self._lock:
            if self._is_stopped or self._is_running:
                return
            self._waiting = None
            self._is_running, self._lost_again = True, False
            self._total += 1
        error = self._try()
        with self._lock:
            self._is_running = False
            self._failures = self._failures + 1 if error is not None else 0
            self._last_error = error
            self._last_success_ms = self._clock.monotonic_ms() if error is None else None
            if not self._is_stopped and (error is not None or self._lost_again):
                self._wait_for_next()
            is_news = error is not None and not self._is_stopped
        if error is not None and is_news:
            self._report(error)

    def _try(self) -> Exception | None:
        try:
            if self._attempt() is False:
                return ConnectionError("the attempt returned False")
        except Exception as error:  # noqa: BLE001 - every failure is answered by another attempt
            return error
        return None

    def _report(self, error: Exception) -> None:
        try:
            self._on_error(error)
        except Exception:  # a failing error handler must not end the attempts
            log.warning("error handler of a reconnect failed", exc_info=True)

    def _log_error(self, error: Exception) -> None:
        log.warning(
            "attempt failed reason=%s failures=%d next_in_ms=%s error=%s",
            self._reason,
            self._failures,
            self._next_delay_ms,
            error,
        )

    def __repr__(self) -> str:
        return (
            f"<ReconnectSupervisor {self.state} attempts={self._total} failures={self._failures} "
            f"reason={self._reason!r}>"
        )
