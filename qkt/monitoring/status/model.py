"""What the page shows now, computed at most five times a second however many look."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from qkt.clock import Clock, SystemClock
from qkt.monitoring.observed import ObservedBroker, ObservedBrokers
from qkt.monitoring.status.history import Mark, Spell, StatusHistory
from qkt.monitoring.status.page import page_title, sections_of
from qkt.monitoring.status.snapshot import Snapshot, connections_of, snapshot_of_broker, to_json_types
from qkt.monitoring.status.timeline import WINDOW_MS
from qkt.monitoring.status.verdict import Verdict, is_beyond_a_bound, judge
from qkt.monitoring.unresolved import UnresolvedSince

_FRESH_MS = 200


@attrs.frozen(kw_only=True)
class StatusView:
    """A snapshot, its verdict, and the page's sections."""

    snapshot: Snapshot
    verdict: Verdict
    marks: Sequence[Mark]
    spells: Sequence[Spell]
    sections: Mapping[str, str]

    @property
    def title(self) -> str:
        """The title of the browser's tab."""
        return page_title(self.verdict)

    @property
    def is_beyond_a_bound(self) -> bool:
        """True when a domain was never read or is older than its bound."""
        return is_beyond_a_bound(self.snapshot)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``/state.json``: plain JSON types, every number exact."""
        plain: dict[str, Any] = to_json_types(self.snapshot)
        verdict = {"as_of_ms": self.snapshot.as_of_ms, **to_json_types(self.verdict)}
        return {
            "verdict": verdict,
            **plain,
            "events": to_json_types(list(self.marks)),
            "spells": to_json_types(list(self.spells)),
        }


class StatusModel:
    """Reads brokers and history; safe from any thread."""

    def __init__(self, brokers: ObservedBrokers, history: StatusHistory, clock: Clock, *, age_bound_ms: int) -> None:
        self.brokers = brokers
        self.history = history
        self._clock = clock
        self._machine = SystemClock()  # how often the machine may be made to compute, whatever clock dates the page
        self._age_bound_ms = age_bound_ms
        self._unresolved = {each.name: UnresolvedSince() for each in brokers}
        self._lock = threading.Lock()
        self._view: StatusView | None = None
        self._viewed_ms = 0

    def view(self) -> StatusView:
        """The view now, or the last one when it is younger than 200 ms."""
        with self._lock:
            monotonic_ms = self._machine.monotonic_ms()
            if self._view is None or monotonic_ms - self._viewed_ms >= _FRESH_MS:
                self._view, self._viewed_ms = self._read(), monotonic_ms
            return self._view

    def broker(self, name: str) -> ObservedBroker | None:
        """The observed broker of a name."""
        return next((each for each in self.brokers if each.name == name), None)

    def _read(self) -> StatusView:
        now_ms = self._clock.now_ms()
        found = []
        for each in self.brokers:
            orders = each.open_orders()
            since_ms = self._unresolved[each.name].look(orders, now_ms)
            taken = snapshot_of_broker(each, bound_ms=self._age_bound_ms, unresolved_since_ms=since_ms, orders=orders)
            self.history.take_over(each.name, taken.health, each.reports())
            found.append(taken)
        snapshot = Snapshot(at_ms=now_ms, brokers=tuple(found), connections=connections_of(self.brokers, now_ms))
        verdict = judge(snapshot)
        marks, spells = self.history.since(now_ms - WINDOW_MS)
        return StatusView(
            snapshot=snapshot,
            verdict=verdict,
            marks=marks,
            spells=spells,
            sections=sections_of(snapshot, verdict, marks, spells),
        )
