"""Judges the reads of one broker: ages, episodes of ill health, and when to leave a failing path alone."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping

from qkt.broker.state import BrokerState
from qkt.clock import Clock
from qkt.health import ReadHealth


class ReadMonitor:
    """`ReadHealth` of one broker, told to its `BrokerState`. Safe from any thread.

    ``intervals_ms``: domain -> time between two of its reads. Episodes are queued on the bus; deliver afterwards.
    """

    def __init__(self, state: BrokerState, clock: Clock, intervals_ms: Mapping[str, int]) -> None:
        self._state = state
        self._clock = clock
        self._domains = tuple(intervals_ms)
        self._lock = threading.Lock()
        self._reads = ReadHealth(intervals_ms)

    def note(self, domain: str, *, ok: bool, problem: str = "", took_ms: int = 0) -> None:
        """Learn how a read of ``domain`` went: two failures in a row, or an old last success, begin an episode."""
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            if ok:
                if self._reads.succeeded(domain, now_ms):
                    self._reads.retry_all_now()
                is_in_trouble = False
            else:
                is_in_trouble = self._reads.failed(domain, now_ms, took_ms)
        if ok:
            self._state.restore(domain)
        elif is_in_trouble:
            self._state.degrade(domain, problem)
        if not ok:
            self.judge_ages()

    def judge_ages(self) -> None:
        """Begin an episode for every domain whose last complete read is too old, whatever is under way."""
        for domain, reason in self.overdue().items():
            self._state.degrade(domain, reason)

    def overdue(self) -> dict[str, str]:
        """Domain -> reason, for every domain whose last complete read is too old now."""
        with self._lock:
            overdue = self._reads.overdue(self._clock.monotonic_ms(), self._domains)
        return {domain: f"not read completely for {age_ms} ms" for domain, age_ms in overdue.items()}

    def overdue_in_ms(self) -> int:
        """How long until `judge_ages` would find something, without a read in between."""
        with self._lock:
            return self._reads.overdue_in_ms(self._clock.monotonic_ms(), self._domains)

    def due(self, domains: Collection[str]) -> list[str]:
        """Those of ``domains`` that a timer should read now: one that keeps failing is read less often."""
        now_ms = self._clock.monotonic_ms()
        with self._lock:
            return [domain for domain in domains if self._reads.is_due(domain, now_ms)]

    @property
    def is_venue_down(self) -> bool:
        """True when every domain has failed several times in a row."""
        with self._lock:
            return self._reads.is_venue_down(self._domains)

    def age_ms(self, domain: str) -> int | None:
        """How long ago a domain was last read completely; None before the first time."""
        with self._lock:
            return self._reads.age_ms(domain, self._clock.monotonic_ms())

    @property
    def domains(self) -> tuple[str, ...]:
        """The domains this broker reads."""
        return self._domains
