"""Time comes in from outside: nothing else in qkt asks the machine what time it is.

Two readings, because they fail differently: the wall clock can be stepped by NTP or an operator and dates events; the
monotonic clock never goes back and measures waits and ages.
"""

from __future__ import annotations

import time
from typing import Protocol, runtime_checkable


@runtime_checkable
class Clock(Protocol):
    """What qkt needs of a clock. `qkt.testing.FixedClock` is one you move by hand."""

    def now_ms(self) -> int:
        """Wall time: milliseconds since 1970-01-01 UTC."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment; never goes back."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_ms(self) -> int:
        """Wall time: milliseconds since 1970-01-01 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        """Milliseconds on the machine's monotonic clock."""
        return time.monotonic_ns() // 1_000_000

    def __repr__(self) -> str:
        return "<SystemClock>"
