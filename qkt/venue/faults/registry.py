"""Keeps the armed faults and decides which of them apply to a request, a frame or a read.

A fault applies when its filters match, its window is open, its first ``after`` matches are over, the seeded random
number is below ``probability``, and it has fewer than ``count`` hits. Faults are added and removed from any thread;
the question costs nothing while no fault is armed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from random import Random
from typing import Any

from .kinds import KINDS, FaultKind

_FILTERS = ("path", "topic", "symbol", "account", "method")


class Fault:
    """One armed fault: `hits` counts how often it applied, `remove()` ends it."""

    def __init__(
        self,
        registry: Faults,
        fault_id: int,
        kind: FaultKind,
        *,
        count: int | None,
        probability: float,
        after: int,
        opens_ms: int,
        closes_ms: int | None,
        filters: dict[str, str],
        params: dict[str, Any],
    ) -> None:
        self.id = fault_id
        self.kind = kind
        self.count = count
        self.probability = probability
        self.after = after
        self.opens_ms = opens_ms
        self.closes_ms = closes_ms
        self.filters = filters
        self.params = params
        self.hits = 0
        self.seen = 0
        self.memory: Any = None
        self._registry = registry

    @property
    def name(self) -> str:
        return self.kind.name

    @property
    def exhausted(self) -> bool:
        return self.count is not None and self.hits >= self.count

    def __getitem__(self, name: str) -> Any:
        return self.params[name]

    def remove(self) -> None:
        self._registry.remove(self.id)

    def is_open(self, now_ms: int) -> bool:
        return self.opens_ms <= now_ms and (self.closes_ms is None or now_ms < self.closes_ms) and not self.exhausted

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "hits": self.hits,
            "seen": self.seen,
            "count": self.count,
            "probability": self.probability,
            "after": self.after,
            **self.filters,
            **self.params,
        }

    def __repr__(self) -> str:
        details = " ".join(f"{name}={value!r}" for name, value in {**self.filters, **self.params}.items())
        return f"<Fault {self.id} {self.name} hits={self.hits} seen={self.seen} {details}>"


class Faults:
    """All armed faults of one venue."""

    def __init__(self, seed: int, now_ms: Callable[[], int]) -> None:
        self._random = Random(seed)
        self._now_ms = now_ms
        self._lock = threading.Lock()
        self._faults: dict[int, Fault] = {}
        self._by_where: dict[str, list[Fault]] = {}
        self._last_id = 0
        self._listeners: list[Callable[[], None]] = []
        self.on_hit: Callable[[Fault, dict[str, str]], None] | None = None

    def add(
        self,
        name: str,
        *,
        count: int | None = None,
        probability: float = 1.0,
        after: int = 0,
        window_ms: int | None = None,
        start_ms: int = 0,
        **options: Any,
    ) -> Fault:
        """Arm a fault.

        Args:
            name: a kind of `KINDS`.
            count: how often it may apply; None for no limit.
            probability: that a match applies, decided by the venue's seed.
            after: how many matches pass before the first that applies.
            window_ms: how long it stays open (venue clock); None for ever.
            start_ms: how long from now it opens.
            **options: filters (``path``, ``topic``, ``symbol``, ``account``, ``method``; ``*`` globs) and the
                kind's own parameters.
        Raises:
            ValueError: an unknown kind, or an option the kind does not have.
        """
        kind = KINDS.get(name)
        if kind is None:
            raise ValueError(f"no fault is called {name!r}; there are: {', '.join(sorted(KINDS))}")
        filters = {key: str(options.pop(key)) for key in _FILTERS if key in options}
        unknown = set(options) - set(kind.params)
        if unknown:
            raise ValueError(f"{name} has no option {', '.join(sorted(unknown))}; it has: {sorted(kind.params)}")
        if not 0 <= probability <= 1:
            raise ValueError("probability lies between 0 and 1")
        with self._lock:
            self._last_id += 1
            opens_ms = self._now_ms() + start_ms if start_ms else -(1 << 62)
            base_ms = self._now_ms() + start_ms
            fault = Fault(
                self,
                self._last_id,
                kind,
                count=count,
                probability=probability,
                after=after,
                opens_ms=opens_ms,
                closes_ms=None if window_ms is None else base_ms + window_ms,
                filters=filters,
                params={**kind.params, **options},
            )
            self._faults[fault.id] = fault
            self._rebuild()
        self._tell()
        return fault

    def remove(self, fault_id: int) -> bool:
        with self._lock:
            found = self._faults.pop(fault_id, None)
            self._rebuild()
        self._tell()
        return found is not None

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self._rebuild()
        self._tell()

    @property
    def active(self) -> list[Fault]:
        """The armed faults that may still apply."""
        now_ms = self._now_ms()
        return [fault for fault in list(self._faults.values()) if fault.is_open(now_ms) or fault.opens_ms > now_ms]

    @property
    def all(self) -> list[Fault]:
        """The faults added and not removed, used-up ones included."""
        return list(self._faults.values())

    def listen(self, listener: Callable[[], None]) -> None:
        """Call a function after every change of the armed faults."""
        self._listeners.append(listener)

    def armed(self, where: str) -> bool:
        """Whether any fault is armed at a place; cheap, for the path without faults."""
        return where in self._by_where

    def standing(self, name: str) -> list[Fault]:
        """The open faults of one kind, not counted as hits: for states, such as a skewed clock."""
        now_ms = self._now_ms()
        return [fault for fault in list(self._faults.values()) if fault.name == name and fault.is_open(now_ms)]

    def take(self, wheres: str | Iterable[str], names: Iterable[str] | None = None, **context: str) -> list[Fault]:
        """The faults that apply now, in the order in which they were armed; each is counted as a hit."""
        if not self._by_where:
            return []
        struck: list[Fault] = []
        with self._lock:
            now_ms = self._now_ms()
            for where in (wheres,) if isinstance(wheres, str) else wheres:
                for fault in self._by_where.get(where, ()):
                    if (names is None or fault.name in names) and self._strikes(fault, now_ms, context):
                        struck.append(fault)
        struck.sort(key=lambda fault: fault.id)
        if self.on_hit is not None:
            for fault in struck:
                self.on_hit(fault, context)
        return struck

    def _strikes(self, fault: Fault, now_ms: int, context: dict[str, str]) -> bool:
        if not fault.is_open(now_ms):
            return False
        for name, pattern in fault.filters.items():
            if not _matches(name, context.get(name, ""), pattern):
                return False
        fault.seen += 1
        if fault.seen <= fault.after:
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        fault.hits += 1
        return True

    def _rebuild(self) -> None:
        by_where: dict[str, list[Fault]] = {}
        for fault in self._faults.values():
            by_where.setdefault(fault.kind.where, []).append(fault)
        self._by_where = by_where

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

    def __repr__(self) -> str:
        return f"<Faults {self.active!r}>"


def _matches(name: str, value: str, pattern: str) -> bool:
    if name == "topic":
        # "order" means the topic in all its variants; a subscribe request names several topics at once.
        return any(
            fnmatchcase(topic, pattern) or (topic.startswith(pattern + ".") and not topic.startswith(pattern + ".fast"))
            for topic in value.split(",")
        )
    return fnmatchcase(value, pattern)
