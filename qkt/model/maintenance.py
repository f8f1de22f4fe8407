"""A maintenance that the venue has announced."""

from __future__ import annotations

from typing import Literal

import attrs

from qkt.plain import PlainValue

MaintenanceState = Literal["scheduled", "ongoing", "completed", "canceled"]


@attrs.frozen(kw_only=True)
class Maintenance(PlainValue):
    """One announcement. Times are venue milliseconds; ``end_ms`` is expected, 0 where the venue does not say.

    ``products`` (e.g. ``spot``, ``linear``) and ``services`` (e.g. ``trading``, ``market data``) are what it is about,
    empty for everything.
    """

    maintenance_id: str
    title: str
    state: MaintenanceState
    begin_ms: int
    end_ms: int = 0
    products: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    def is_running(self, venue_ms: int) -> bool:
        """True while it lasts: the venue says so, or its time has come and it was not called off."""
        if self.state == "ongoing":
            return True
        return self.state == "scheduled" and self.begin_ms <= venue_ms and not 0 < self.end_ms <= venue_ms

    @property
    def is_over(self) -> bool:
        """True once it is completed or was called off."""
        return self.state in ("completed", "canceled")

    def __str__(self) -> str:
        return f"{self.title} ({self.state})"
