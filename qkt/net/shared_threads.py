"""One set of threads for the whole process, shared by every client and broker.

A `Lane` is a scheduler for one owner, with a name and a limit of its own, on the shared threads: 50 accounts that read
every second need as many threads as run at the same time, not two each. One thread always watches the clock. Up to
four run at once without delay; beyond that another one starts only for an action that is overdue by 25 ms, so that
actions that block (a name server, a venue that does not answer) never stop the others.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable

from qkt.clock import SystemClock
from qkt.errors import InvalidRequestError
from qkt.threads import library_thread

log: logging.Logger = logging.getLogger(__name__)

_AT_ONCE = 4
_OVERDUE_MS = 25
_MOST_THREADS = 512
_IDLE_KEPT = 2
_LONGEST_WAIT_MS = 3_600_000
_CLOSE_MS = 5_000
_IDLE_NAME = "qkt-worker"


class _LaneSchedule:
    """One action of a lane and when it runs next; ``interval_ms`` is None for a single run."""

    def __init__(self, lane: Lane, action: Callable[[], None], interval_ms: int | None) -> None:
        self.lane = lane
        self.action: Callable[[], None] | None = action
        self.interval_ms = interval_ms
        self.due_ms = 0

    def cancel(self) -> None:
        """No run starts after this returns; one that has started is not waited for. Idempotent."""
        self.lane.threads.cancel(self)

    def __repr__(self) -> str:
        what = "cancelled" if self.action is None else f"due_ms={self.due_ms}"
        return f"<schedule {what} lane={self.lane.name} interval_ms={self.interval_ms}>"


class Lane:
    """A scheduler on shared threads: at most ``workers`` of its actions run at once. `close` ends it alone."""

    def __init__(self, threads: SharedThreads, name: str, workers: int) -> None:
        self.threads = threads
        self.name = name
        self.workers = workers
        self.running: set[threading.Thread] = set()
        self.closing: set[threading.Thread] = set()  # of the running ones, those that are inside close() themselves
        self.deferred: deque[_LaneSchedule] = deque()  # due, and waiting for one of the lane's own actions to end
        self.is_closed = False

    def schedule_at_fixed_rate(
        self, action: Callable[[], None], initial_delay_ms: int, interval_ms: int
    ) -> _LaneSchedule:
        """Run ``action`` after ``initial_delay_ms`` and then on every multiple of ``interval_ms`` after that."""
        if interval_ms <= 0:
            raise InvalidRequestError(f"interval_ms must be above zero, got {interval_ms}")
        return self.threads.add(_LaneSchedule(self, action, interval_ms), initial_delay_ms)

    def schedule_once(self, action: Callable[[], None], delay_ms: int) -> _LaneSchedule:
        """Run ``action`` once, after ``delay_ms``."""
        return self.threads.add(_LaneSchedule(self, action, None), delay_ms)

    def close(self, timeout_ms: int = _CLOSE_MS) -> None:
        """Start nothing more and wait for what runs, at most ``timeout_ms``; idempotent, from any thread.

        Called by one of its own actions it waits for the others only.
        """
        self.threads.close_lane(self, timeout_ms)

    def __repr__(self) -> str:
        state = "closed" if self.is_closed else "open"
        return f"<Lane {self.name} {state} running={len(self.running)} of {self.workers} on {self.threads!r}>"


class SharedThreads:
    """Threads that run the due actions of all lanes. They start when needed and end when nothing is scheduled."""

    def __init__(self) -> None:
        self.changed: threading.Condition = threading.Condition()
        self._clock = SystemClock()
        self._heap: list[tuple[int, int, _LaneSchedule]] = []
        self._tickets = itertools.count()
        self._lanes: set[Lane] = set()
        self._alive: set[threading.Thread] = set()
        self._ended: set[threading.Thread] = set()  # those that are about to end: `close` joins them
        self._waiting = 0  # threads that wait for something to become due
        self._running = 0

    def lane(self, name: str, workers: int = 1) -> Lane:
        """A new lane."""
        lane = Lane(self, name, workers)
        with self.changed:
            self._lanes.add(lane)
        return lane

    def add(self, schedule: _LaneSchedule, delay_ms: int) -> _LaneSchedule:
        """Schedule an action; raises InvalidRequestError when its lane is closed."""
        with self.changed:
            if schedule.lane.is_closed:
                raise InvalidRequestError(f"the scheduler {schedule.lane.name} is closed")
            schedule.due_ms = self._clock.monotonic_ms() + max(0, delay_ms)
            self._push(schedule)
            self._ensure_watcher()
        return schedule

    def _push(self, schedule: _LaneSchedule) -> None:
        heapq.heappush(self._heap, (schedule.due_ms, next(self._tickets), schedule))
        if self._heap[0][2] is schedule:
            self.changed.notify_all()  # a single one might reach a thread that waits in `close`

    def _ensure_watcher(self) -> None:
        """Keep one thread waiting for the next due action; the caller holds the lock."""
        if not self._waiting and self._heap and len(self._alive) < _MOST_THREADS:
            thread = library_thread(_IDLE_NAME, self._work)
            self._alive.add(thread)
            self._waiting += 1  # on behalf of the thread, which begins by waiting
            thread.start()

    def _work(self) -> None:
        me = threading.current_thread()
        try:
            while (job := self._take(me)) is not None:
                schedule, action = job
                me.name = schedule.lane.name
                try:
                    action()
                except BaseException:  # a SystemExit in an action must not end the threads of all
                    log.warning("scheduled action failed scheduler=%s action=%r", me.name, action, exc_info=True)
                me.name = _IDLE_NAME
                if not self._finish(me, schedule):
                    return
        finally:
            with self.changed:
                self._alive.discard(me)
                self._ended = {thread for thread in self._ended if thread.is_alive()} | {me}
                self.changed.notify_all()

    def _take(self, me: threading.Thread) -> tuple[_LaneSchedule, Callable[[], None]] | None:
        """The next action that may run, waiting for it; None when nothing is scheduled any more."""
        with self.changed:
            try:
                while self._drop_cancelled():
                    wait_ms = self._next_wait_ms()
                    if wait_ms > 0:
                        self.changed.wait(min(wait_ms, _LONGEST_WAIT_MS) / 1000)
                        continue
                    schedule = heapq.heappop(self._heap)[2]
                    lane, action = schedule.lane, schedule.action
                    if action is None or lane.is_closed:
                        continue
                    if len(lane.running) >= lane.workers:
                        lane.deferred.append(schedule)
                        continue
                    lane.running.add(me)
                    self._running += 1
                    return schedule, action
                return None
            finally:
                self._waiting -= 1
                self._ensure_watcher()

    def cancel(self, schedule: _LaneSchedule) -> None:
        """See `_LaneSchedule.cancel`."""
        with self.changed:
            schedule.action = None
            if self._heap and self._heap[0][2] is schedule:
                self.changed.notify_all()

    def _drop_cancelled(self) -> bool:
        """Drop cancelled schedules that come next; returns True when another one is left."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
        return bool(self._heap)

    def _next_wait_ms(self) -> int:
        """How long until an action may be taken by a waiting thread; 0 is now."""
        wait_ms = self._heap[0][0] - self._clock.monotonic_ms()
        if self._running >= _AT_ONCE:
            wait_ms += _OVERDUE_MS
        return max(0, wait_ms)

    def _finish(self, me: threading.Thread, schedule: _LaneSchedule) -> bool:
        """Account for a run that has ended; returns False when the thread is not needed any more."""
        lane = schedule.lane
        with self.changed:
            self._running -= 1
            lane.running.discard(me)
            lane.closing.discard(me)
            if not lane.is_closed:
                if lane.deferred:
                    self._push(lane.deferred.popleft())
                if schedule.interval_ms is not None and schedule.action is not None:
                    late_ms = max(0, self._clock.monotonic_ms() - schedule.due_ms)
                    schedule.due_ms += (late_ms // schedule.interval_ms + 1) * schedule.interval_ms
                    self._push(schedule)
            self.changed.notify_all()
            is_needed = self._drop_cancelled() and self._waiting < _IDLE_KEPT
            self._waiting += is_needed
            return is_needed

    def close_lane(self, lane: Lane, timeout_ms: int) -> None:
        """See `Lane.close`."""
        me = threading.current_thread()
        with self.changed:
            lane.is_closed = True
            lane.deferred.clear()
            self._lanes.discard(lane)
            self._heap = [entry for entry in self._heap if entry[2].lane is not lane]
            heapq.heapify(self._heap)
            is_own = me in lane.running
            if is_own:
                lane.closing.add(me)
            self.changed.notify_all()
            # two actions that close must not wait for each other; any other caller waits for all of them
            ignored = lane.closing if is_own else set()
            self.changed.wait_for(lambda: lane.running <= ignored, timeout=timeout_ms / 1000)
            late = [thread.name for thread in lane.running - lane.closing]
            if not self._drop_cancelled():  # nothing is scheduled: no idle thread is left behind
                self.changed.wait_for(lambda: bool(self._heap) or len(self._alive) <= self._running, timeout=0.5)
            ended, self._ended = self._ended, set()
        for thread in ended - {me}:
            thread.join(timeout=1.0)
        if late:
            log.warning("scheduler closed while an action still runs scheduler=%s threads=%s", lane.name, late)

    def __repr__(self) -> str:
        return f"<SharedThreads lanes={len(self._lanes)} threads={len(self._alive)} running={self._running}>"


_shared = SharedThreads()


def shared_lane(name: str, workers: int = 1) -> Lane:
    """A lane on the process's shared threads."""
    return _shared.lane(name, workers)


def _forked() -> None:
    global _shared
    _shared = SharedThreads()  # the parent's threads do not exist in the child, and its lock may be held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
