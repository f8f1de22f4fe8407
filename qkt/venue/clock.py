"""The clock of the venue: real, or stepped by a test.

Every timestamp of the venue comes from here. Clock faults add an offset, so the venue's time differs from the
client's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Protocol

from .faults import Fault


class Clock(Protocol):
    def now_ms(self) -> int: ...


class RealClock:
    """The system clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def __repr__(self) -> str:
        return "<RealClock>"


class VirtualClock:
    """A clock that moves only when a test advances it; a live market makes its steps with it."""

    def __init__(self, start_ms: int = 1_767_225_600_000) -> None:
        self._now_ms = start_ms
        self._lock = threading.Lock()
        self._listeners: list[Callable[[int], None]] = []

    def now_ms(self) -> int:
        return self._now_ms

    def advance_ms(self, milliseconds: int) -> None:
        """Move time forward and call the listeners; to move it back, add the fault ``clock_jump``."""
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
    """A clock plus an offset, which clock faults change."""

    def __init__(self, clock: Clock) -> None:
        self.base = clock
        self.offset_ms: int = 0

    def jump(self, fault: Fault) -> None:
        """Move the offset as a ``clock_jump`` says, and keep the sum in the fault, whose removal takes it back."""
        self.offset_ms += int(fault["ms"])
        fault.memory = (fault.memory or 0) + int(fault["ms"])

    def now_ms(self) -> int:
        return self.base.now_ms() + self.offset_ms
