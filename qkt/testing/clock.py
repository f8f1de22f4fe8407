"""A clock that stands still until the test moves it."""

from __future__ import annotations

import threading

from qkt.errors import InvalidRequestError


class FixedClock:
    """``FixedClock(0).advance_ms(500)``: wall and monotonic time move together; `step_wall_ms` is NTP's doing."""

    def __init__(self, now_ms: int = 0) -> None:
        self._lock = threading.Lock()
        self._now_ms = now_ms
        self._monotonic_ms = 0

    def now_ms(self) -> int:
        """Wall time in ms."""
        return self._now_ms

    def monotonic_ms(self) -> int:
        """Monotonic time in ms."""
        return self._monotonic_ms

    def advance_ms(self, n: int) -> FixedClock:
        """Let ``n`` ms pass; returns the clock."""
        if n < 0:
            raise InvalidRequestError(f"time does not go back: advance_ms({n}); step_wall_ms steps the wall clock")
        with self._lock:
            self._now_ms += n
            self._monotonic_ms += n
        return self

    def step_wall_ms(self, n: int) -> FixedClock:
        """Step the wall clock by ``n`` ms, either way, as NTP or an operator does; monotonic time stays."""
        with self._lock:
            self._now_ms += n
        return self

    def __repr__(self) -> str:
        return f"<FixedClock now_ms={self._now_ms} monotonic_ms={self._monotonic_ms}>"
