"""Calls handlers one at a time, in order, on threads of its own.

A producer queues the calls and continues: a handler that sleeps delays the handlers after it and nothing else,
and one that raises is logged and forgotten. No call is made under a lock.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable

from qkt.errors import InvalidRequestError
from qkt.net.scheduler import Scheduler

log: logging.Logger = logging.getLogger(__name__)


class CallbackQueue:
    """Calls of handlers, made one at a time and in order on the scheduler's threads."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._is_draining = False
        self._is_closed = False

    def put(self, calls: Iterable[Callable[[], None]]) -> None:
        """Queue calls; they are made soon, on another thread."""
        with self._lock:
            if self._is_closed:
                return
            self._waiting.extend(calls)
            if self._is_draining or not self._waiting:
                return
            self._is_draining = True
        try:
            self._scheduler.schedule_once(self._drain, 0)
        except InvalidRequestError:  # closed meanwhile: these calls are dropped
            self.close()

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_draining = False
                    return
                call = self._waiting.popleft()
            try:
                call()
            except Exception:
                log.exception("connection handler failed handler=%r", call)

    def close(self) -> None:
        """Make no further call."""
        with self._lock:
            self._is_closed = True
            self._waiting.clear()

    def __len__(self) -> int:
        return len(self._waiting)
