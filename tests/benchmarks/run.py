"""What a work needs to know of the run it is part of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar

from tests.benchmarks.servers import Door

T = TypeVar("T")


@dataclass(frozen=True)
class Run:
    """The server's first door, the length of the run, and the points of the scaling curves measured so far.

    ``curves`` maps a curve to its points ``(size, microseconds)``, or ``(size, KiB)`` for memory.
    """

    door: Door
    is_quick: bool
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)

    def pick(self, *, full: T, quick: T) -> T:
        """One of two settings."""
        return quick if self.is_quick else full
