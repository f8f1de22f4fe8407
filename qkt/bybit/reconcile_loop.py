"""`ReconcileLoop`: when a round runs. On a timer, on request, and sooner while something is unresolved.

Threads: the scheduler's for rounds; the background scheduler's for the watch over a round that takes long.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping

from qkt.broker.state import BrokerState
from qkt.bybit.recovery import BybitStateRecovery
from qkt.clock import Clock
from qkt.errors import InvalidRequestError
from qkt.net.reconciler import PeriodicReconciler
from qkt.net.scheduler import Cancellable, Scheduler
from qkt.reconcile.report import ReconcileReport
from qkt.threads import is_library_thread

log: logging.Logger = logging.getLogger(__name__)

# While the stream is down or an order is unresolved a round runs this many times as often, though not for ever.
_TIGHTENING = 6
_LEAST_BETWEEN_ROUNDS_MS = 1_000
_MOST_EXTRA_ROUNDS = 60

_REMIND_OF_ALARMS_MS = 600_000


class ReconcileLoop:
    """Runs the rounds of one broker.

    ``scheduler`` runs the rounds, ``background`` what must not wait for one. ``intervals_ms``: path -> time between two
    timed reads of it. ``after_round`` is called after each round, without a lock, before events are delivered.
    """

    def __init__(
        self,
        recovery: BybitStateRecovery,
        state: BrokerState,
        clock: Clock,
        scheduler: Scheduler,
        background: Scheduler,
        *,
        intervals_ms: Mapping[str, int],
        after_round: Callable[[], None],
    ) -> None:
        self._recovery = recovery
        self._state = state
        self._clock = clock
        self._scheduler = scheduler
        self._background = background
        self._after_round = after_round
        self._shortest_interval_ms = min(intervals_ms.values())
        self._timers = [
            PeriodicReconciler(interval_ms, self._timer_action(paths), scheduler=scheduler)
            for interval_ms, paths in _by_interval(intervals_ms).items()
        ]
        self._lock = threading.Lock()
        self._is_stopped = False
        self._requested: dict[str, Cancellable | None] = {}
        self._last_run_ms: dict[str, int] = {}
        self._extra_round: Cancellable | None = None
        self._extra_rounds_left = _MOST_EXTRA_ROUNDS
        self._reminded_ms = clock.monotonic_ms()

    def start(self) -> None:
        """Start the timers: the first round comes after one interval."""
        for timer in self._timers:
            timer.start()

    def stop(self) -> None:
        """No round starts after this returns; one under way is not waited for. Idempotent."""
        with self._lock:
            self._is_stopped = True
            planned = [self._extra_round, *self._requested.values()]
            self._requested.clear()
        for one in planned:
            if one is not None:
                one.cancel()
        for timer in self._timers:
            timer.stop()

    # running

    def run(
        self, trigger: str, paths: Collection[str] | None = None, *, then: Callable[[], None] = lambda: None
    ) -> ReconcileReport:
        """Run a round now, on this thread, over ``paths`` (None: all); ``then`` is called when it is over."""
        watch = self._watch_ages()
        try:
            report = self._recovery.reconcile(trigger, paths)
        finally:
            if watch is not None:
                watch.cancel()
        if not self._state.is_closed:
            then()
            self._after_round()
            self._look_again_soon(report)
            self._remind_of_alarms()
        self._state.bus.deliver()
        return report

    def request(self, trigger: str, *, least_apart_ms: int = 0) -> None:
        """Run a round in the background. One is pending per trigger, however many ask for it.

        ``least_apart_ms``: how long after the last round of this trigger the next may start.
        """
        with self._lock:
            if self._is_stopped or trigger in self._requested:
                return
            last_ms = self._last_run_ms.get(trigger)
            delay_ms = 0 if last_ms is None else max(0, last_ms + least_apart_ms - self._clock.monotonic_ms())
            self._requested[trigger] = None  # before it is scheduled: it may run at once
        planned = self._schedule(self._scheduler, lambda: self._run_requested(trigger), delay_ms)
        with self._lock:
            if planned is None:
                self._requested.pop(trigger, None)
            elif trigger in self._requested:
                self._requested[trigger] = planned
                if self._is_stopped:
                    planned.cancel()

    def _run_requested(self, trigger: str) -> None:
        with self._lock:
            self._requested.pop(trigger, None)
            self._last_run_ms[trigger] = self._clock.monotonic_ms()
            if self._is_stopped:
                return
        self.run(trigger)

    def _timer_action(self, paths: frozenset[str]) -> Callable[[], None]:
        def tick() -> None:
            monitor = self._recovery.monitor
            due = monitor.due(paths)
            if not due or self._is_stopped:
                return
            if monitor.is_venue_down and not self._recovery.queries.venue_answers():
                log.debug("venue does not answer: no round source=%s", self._state.source)
                return
            self.run("timer", due)

        return tick

    # sooner than the timer

    def _look_again_soon(self, report: ReconcileReport) -> None:
        """Tighten the cadence while another round can settle something; a venue that fails is left alone."""
        is_dark = not {"stream", "topics"}.isdisjoint(self._state.degraded)
        wants_more = report.ok and bool(is_dark or report.unresolved or report.lookups_waiting)
        with self._lock:
            if not wants_more:
                self._extra_rounds_left = _MOST_EXTRA_ROUNDS
                return
            if self._is_stopped or self._extra_round is not None or not self._extra_rounds_left:
                return
            self._extra_rounds_left -= 1
            delay_ms = max(_LEAST_BETWEEN_ROUNDS_MS, self._shortest_interval_ms // _TIGHTENING)
            self._extra_round = self._schedule(self._scheduler, self._run_extra_round, delay_ms)

    def _run_extra_round(self) -> None:
        with self._lock:
            self._extra_round = None
            if self._is_stopped:
                return
        self.run("looking again")

    # health

    def _watch_ages(self) -> Cancellable | None:
        """Schedule a check of the read ages for the moment they become overdue while this round runs."""
        if not is_library_thread():
            return None  # on a user's thread the caller waits for the round, and timed rounds keep the watch
        return self._schedule(self._background, self._judge_ages, self._recovery.monitor.overdue_in_ms())

    def _judge_ages(self) -> None:
        if not self._state.is_closed:
            self._recovery.monitor.judge_ages()
            self._state.bus.deliver()

    def _remind_of_alarms(self) -> None:
        """Log the standing alarms again every ten minutes until they are acknowledged."""
        now_ms = self._clock.monotonic_ms()
        alarms = self._state.alarms
        if not alarms:
            self._reminded_ms = now_ms
        elif now_ms - self._reminded_ms >= _REMIND_OF_ALARMS_MS:
            self._reminded_ms = now_ms
            log.warning(
                "alarms not acknowledged source=%s count=%d last=%s", self._state.source, len(alarms), alarms[-1]
            )

    @staticmethod
    def _schedule(scheduler: Scheduler, action: Callable[[], None], delay_ms: int) -> Cancellable | None:
        """None, with a WARNING, when the scheduler was closed under us."""
        try:
            return scheduler.schedule_once(action, delay_ms)
        except (InvalidRequestError, RuntimeError) as error:
            log.warning("round not scheduled error=%s", error)
            return None


def _by_interval(intervals_ms: Mapping[str, int]) -> dict[int, frozenset[str]]:
    paths: dict[int, set[str]] = {}
    for path, interval_ms in intervals_ms.items():
        paths.setdefault(interval_ms, set()).add(path)
    return {interval_ms: frozenset(names) for interval_ms, names in sorted(paths.items())}
