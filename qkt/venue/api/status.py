"""The announced maintenances of the venue (docs v5/system-status)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any
from uuid import UUID

from ..exchange.queries import Query
from ..exchange.rows import Row

_DEFAULTS: Mapping[str, Any] = {
    "href": "",
    "serviceTypes": [1, 2, 3, 4, 5],
    "product": [1, 2],
    "uidSuffix": [],
    "maintainType": 1,
    "env": 1,
}


class SystemStatus:
    """Keeps the maintenances; their state follows the clock."""

    def __init__(self, now_ms: Callable[[], int], seed: int) -> None:
        self._now_ms = now_ms
        self._random = Random(f"status {seed}")
        self._announced: list[Row] = []
        self._cancelled: set[str] = set()
        self._sent: dict[str, Row] = {}

    def announce(self, title: str, begin_in_ms: int, duration_ms: int, options: Mapping[str, Any]) -> Row:
        """Add a maintenance; returns its row.

        Raises:
            ValueError: an unknown field, or a duration that is not positive.
        """
        if unknown := set(options) - set(_DEFAULTS):
            raise ValueError(f"a maintenance has no field {', '.join(sorted(unknown))}; it has: {', '.join(_DEFAULTS)}")
        if duration_ms <= 0:
            raise ValueError("duration_ms must be positive")
        begin_ms = self._now_ms() + begin_in_ms
        announced = {
            "id": str(UUID(int=self._random.getrandbits(128), version=4)),
            "title": title,
            "begin": str(begin_ms),
            "end": str(begin_ms + duration_ms),
            **_DEFAULTS,
            **options,
        }
        self._announced.append(announced)
        return self._row(announced)

    def end(self, id: str) -> Row:
        """End a maintenance now, or cancel one that has not begun; returns its row.

        Raises:
            LookupError: there is none with this id.
        """
        announced = next((row for row in self._announced if row["id"] == id), None)
        if announced is None:
            raise LookupError(f"no maintenance has the id {id!r}")
        state = self._row(announced)["state"]
        if state == "scheduled":
            self._cancelled.add(id)
        elif state == "ongoing":
            announced["end"] = str(self._now_ms())
        return self._row(announced)

    def query(self, query: Query) -> Row:
        """``GET /v5/system/status``: newest first, filtered by ``id`` and ``state``."""
        rows = [self._row(announced) for announced in reversed(self._announced)]
        wanted = {name: query[name] for name in ("id", "state") if query.get(name)}
        return {"list": [row for row in rows if all(row[name] == value for name, value in wanted.items())]}

    def changed(self) -> list[Row]:
        """The rows that are new or have another state than at the last call."""
        rows = {row["id"]: row for row in map(self._row, self._announced)}
        changed = [row for key, row in rows.items() if self._sent.get(key) != row]
        self._sent = rows
        return changed

    def _row(self, announced: Row) -> Row:
        now_ms = self._now_ms()
        if announced["id"] in self._cancelled:
            state = "canceled"
        elif now_ms < int(announced["begin"]):
            state = "scheduled"
        else:
            state = "ongoing" if now_ms < int(announced["end"]) else "completed"
        return {"id": announced["id"], "title": announced["title"], "state": state, **announced}
