"""The venue's clock: real, or stepped by a test.

Every time on the venue comes from here, plus the skew that clock faults add: a client whose own clock is right must
then cope with a venue that is wrong, and the other way round.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    def now_ms(self) -> int: ...


class RealClock:
    """Wall time."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def __repr__(self) -> str:
        return "<RealClock>"


class VirtualClock:
    """Time that stands still until told to move; the living market moves with it."""

    def __init__(self, start_ms: int = 1_767_225_600_000) -> None:
        self._now_ms = start_ms
        self._lock = threading.Lock()
        self._listeners: list[Callable[[int], None]] = []

    def now_ms(self) -> int:
        return self._now_ms

    def advance_ms(self, milliseconds: int) -> None:
        """Move time forward (a clock never goes back; use a clock fault for that) and tell the listeners."""
        if milliseconds < 0:
            raise ValueError("a clock does not go back; add the fault clock_jump instead")
        with self._lock:
            self._now_ms += milliseconds
        for listener in list(self._listeners):
            listener(self._now_ms)

    def listen(self, listener: Callable[[int], None]) -> None:
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[int], None]) -> None:
        if listener in self._listeners:
            self._listeners.remove(listener)

    def __repr__(self) -> str:
        return f"<VirtualClock now_ms={self._now_ms}>"


class SkewedClock:
    """A clock with an offset that faults may change."""

    def __init__(self, clock: Clock) -> None:
        self.base = clock
        self.offset_ms = 0

    def now_ms(self) -> int:
        return self.base.now_ms() + self.offset_ms
