"""The seam between what must happen later and who counts the time.

`qkt.net.scheduler.ThreadScheduler` counts it on a thread; `qkt.testing.TickScheduler` when the test says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Cancellable(Protocol):
    """Something scheduled that can be called off; calling it off twice is harmless."""

    def cancel(self) -> None:
        """After this returns the action is not started again."""
        ...


class Scheduler(Protocol):
    """Runs actions later. An action that raises never stops the schedule."""

    def schedule_at_fixed_rate(
        self, action: Callable[[], None], initial_delay_ms: int, interval_ms: int
    ) -> Cancellable:
        """Run ``action`` after ``initial_delay_ms`` and then every ``interval_ms``; never two runs of it at once."""
        ...

    def schedule_once(self, action: Callable[[], None], delay_ms: int) -> Cancellable:
        """Run ``action`` once, after ``delay_ms``."""
        ...
