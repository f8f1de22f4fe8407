"""Rows of the system status as announcements. Pure.

Source: docs v5/system-status, v5/websocket/public/system-status.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from qkt.bybit.codec.bounds import required_text, time_ms_from_wire
from qkt.model.maintenance import Maintenance, MaintenanceState

_STATES = ("scheduled", "ongoing", "completed", "canceled")
_PRODUCTS = {1: "linear", 2: "spot", 3: "option", 4: "spread"}
_SERVICES = {1: "trading", 2: "trading by HTTP", 3: "trading by WebSocket", 4: "private stream", 5: "market data"}
_MOST_TITLE = 200


def to_maintenance(row: Mapping[str, Any]) -> Maintenance:
    """One announcement; raises ValueError for a row that cannot be read."""
    state = row.get("state")
    if state not in _STATES:
        raise ValueError(f"state is {str(state)[:40]!r}")
    return Maintenance(
        maintenance_id=required_text(row, "id"),
        title=str(row.get("title") or "maintenance")[:_MOST_TITLE],
        state=cast(MaintenanceState, state),
        begin_ms=time_ms_from_wire(row.get("begin")),
        end_ms=time_ms_from_wire(row.get("end") or 0),
        products=_named(row.get("product"), _PRODUCTS),
        services=_named(row.get("serviceTypes"), _SERVICES),
    )


def _named(numbers: Any, names: Mapping[int, str]) -> tuple[str, ...]:
    """The known ones of a list of numbers, given as numbers or as text."""
    listed = numbers if isinstance(numbers, list) else []
    return tuple(name for number, name in names.items() if number in listed or str(number) in listed)
