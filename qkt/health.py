"""Health of a broker: ages of what was read, open episodes, standing alarms. Pure: the caller passes the time.

Every domain of state (orders, executions, balances, positions) has an age: how long ago it was last read completely. An
episode begins when a domain is in trouble and ends when it is not; each end is published once (S74). An alarm is an
observation that no later success undoes: it stands until it is acknowledged.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import ClassVar

import attrs

from qkt.events import BrokerEvent, HealthDegraded, HealthRestored
from qkt.model.maintenance import Maintenance
from qkt.plain import PlainValue
from qkt.readonly import ReadOnlyDict, read_only_texts

DOMAINS = ("orders", "executions", "balances", "positions")

TRIES_BEFORE_ALARM = 2
INTERVALS_BEFORE_ALARM = 3

_ALARMS_KEPT = 100

_PAUSE_FOR_TIME_LOST = 3
_LONGEST_PAUSE_MS = 60_000


@attrs.frozen(kw_only=True)
class Alarm(PlainValue):
    """One observation that calls for a person, e.g. a second process on the account; ``since_ms`` is wall time."""

    domain: str
    reason: str
    since_ms: int

    def __str__(self) -> str:
        return f"{self.domain}: {self.reason}"


@attrs.frozen(kw_only=True)
class Health(PlainValue):
    """How well a broker knows what the venue holds, at one moment.

    ``orders``, ``executions``, ``balances``, ``positions``: age in ms of the last complete read, None before the first
    (and for domains the broker does not have, see ``domains``). ``stream`` is the private stream's state in one word.
    ``unresolved`` names the orders whose state is unknown; ``lookups_waiting`` how many lookups are put off to the next
    round. ``degraded``: domain -> reason, for every episode that has not ended. ``alarms`` stand until
    `acknowledge_alarms` is called on the broker. ``maintenances`` are planned or running at the venue, where a
    `MaintenanceWatch` looks for them.
    """

    source: str
    orders: int | None = None
    executions: int | None = None
    balances: int | None = None
    positions: int | None = None
    domains: tuple[str, ...] = ("orders", "executions", "balances")
    stream: str = "unknown"
    unresolved: tuple[str, ...] = ()
    lookups_waiting: int = 0
    queue_depth: int = 0
    degraded: Mapping[str, str] = attrs.field(factory=dict, converter=read_only_texts)
    alarms: tuple[Alarm, ...] = ()
    maintenances: tuple[Maintenance, ...] = ()

    plain_properties: ClassVar[tuple[str, ...]] = ("ok", "staleness_ms")

    @property
    def ages_ms(self) -> Mapping[str, int | None]:
        """Domain -> age in ms."""
        return ReadOnlyDict({domain: getattr(self, domain) for domain in DOMAINS})

    @property
    def ok(self) -> bool:
        """True when no episode is open, no alarm stands, nothing is unresolved and the stream is not closed."""
        return not (self.degraded or self.alarms or self.unresolved) and self.stream != "closed"

    @property
    def staleness_ms(self) -> int | None:
        """Highest age among ``domains``, None while one of them was never read."""
        ages = [self.ages_ms[domain] for domain in self.domains]
        known = [age for age in ages if age is not None]
        return max(known) if len(known) == len(ages) else None


class HealthEpisodes:
    """Open episodes and standing alarms of one broker. Not thread-safe: its owner guards it."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._open: dict[str, tuple[int, str]] = {}
        self._alarms: deque[Alarm] = deque(maxlen=_ALARMS_KEPT)

    def degrade(self, domain: str, reason: str, at_ms: int) -> list[BrokerEvent]:
        """Begin an episode; no event when one is open."""
        if domain in self._open:
            return []
        self._open[domain] = (at_ms, reason)
        return [HealthDegraded(source=self._source, domain=domain, reason=reason, since_ms=at_ms, timestamp=at_ms)]

    def alarm(self, domain: str, reason: str, at_ms: int) -> HealthDegraded:
        """Raise an alarm: it stands until `acknowledge`. The oldest of more than 100 is dropped."""
        self._alarms.append(Alarm(domain=domain, reason=reason, since_ms=at_ms))
        return HealthDegraded(source=self._source, domain=domain, reason=reason, since_ms=at_ms, timestamp=at_ms)

    def restore(self, domain: str, at_ms: int) -> list[BrokerEvent]:
        """End an episode; no event when none is open."""
        if domain not in self._open:
            return []
        since_ms, reason = self._open.pop(domain)
        return [HealthRestored(source=self._source, domain=domain, reason=reason, since_ms=since_ms, timestamp=at_ms)]

    def acknowledge(self) -> tuple[Alarm, ...]:
        """Take down every standing alarm and return them."""
        taken = tuple(self._alarms)
        self._alarms.clear()
        return taken

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """The standing alarms, oldest first."""
        return tuple(self._alarms)

    @property
    def reasons(self) -> Mapping[str, str]:
        """Domain -> reason of every open episode."""
        return {domain: reason for domain, (_, reason) in self._open.items()}


@attrs.define
class _DomainReads:
    """How the reads of one domain went; times are monotonic ms."""

    interval_ms: int
    last_ok_ms: int | None = None
    failures: int = 0
    retry_from_ms: int = 0


class ReadHealth:
    """When each domain was last read, and when that calls for an alarm. Not thread-safe: its owner guards it.

    A domain is in trouble after two failed tries in a row, or when its last complete read is three of its intervals
    old, whichever comes first. ``intervals_ms`` is the time between two reads of each domain; times are monotonic ms.
    """

    def __init__(self, intervals_ms: Mapping[str, int]) -> None:
        self._reads = {domain: _DomainReads(interval_ms=interval) for domain, interval in intervals_ms.items()}

    def age_ms(self, domain: str, now_ms: int) -> int | None:
        """How long ago a domain was last read completely; None before the first time."""
        reads = self._reads.get(domain)
        return None if reads is None or reads.last_ok_ms is None else now_ms - reads.last_ok_ms

    def succeeded(self, domain: str, now_ms: int) -> bool:
        """Note a complete read; True when the reads before it had failed."""
        reads = self._of(domain)
        had_failed = reads.failures > 0
        reads.last_ok_ms, reads.failures, reads.retry_from_ms = now_ms, 0, 0
        return had_failed

    def failed(self, domain: str, now_ms: int, took_ms: int = 0) -> bool:
        """Note a failed read that took so long, and when to try again; True when the domain is in trouble.

        A read that hangs holds up the other paths, so the pause before the next try is a few times as long.
        """
        reads = self._of(domain)
        reads.failures += 1
        reads.retry_from_ms = now_ms + min(_PAUSE_FOR_TIME_LOST * took_ms, _LONGEST_PAUSE_MS)
        return reads.failures >= TRIES_BEFORE_ALARM or self._is_overdue(reads, now_ms)

    def is_due(self, domain: str, now_ms: int) -> bool:
        """False while a domain that keeps failing is left alone."""
        return now_ms >= self._of(domain).retry_from_ms

    def is_venue_down(self, domains: Iterable[str]) -> bool:
        """True when each of ``domains`` has failed several times in a row."""
        return all(self._of(domain).failures > TRIES_BEFORE_ALARM for domain in domains)

    def retry_all_now(self) -> None:
        """The venue answers again: leave nothing alone any longer."""
        for reads in self._reads.values():
            reads.retry_from_ms = 0

    def overdue(self, now_ms: int, domains: Iterable[str]) -> dict[str, int]:
        """Domain -> age, for those whose last complete read is too old."""
        return {
            domain: now_ms - reads.last_ok_ms
            for domain, reads in self._reads.items()
            if domain in domains and reads.last_ok_ms is not None and self._is_overdue(reads, now_ms)
        }

    def overdue_in_ms(self, now_ms: int, domains: Iterable[str]) -> int:
        """How long until the first of ``domains`` is too old, without a read in between; 0 when one is already."""
        left = [
            reads.last_ok_ms + INTERVALS_BEFORE_ALARM * reads.interval_ms + 1 - now_ms
            for domain, reads in self._reads.items()
            if domain in domains and reads.last_ok_ms is not None
        ]
        return max(0, min(left, default=0))

    @staticmethod
    def _is_overdue(reads: _DomainReads, now_ms: int) -> bool:
        return reads.last_ok_ms is not None and now_ms - reads.last_ok_ms > INTERVALS_BEFORE_ALARM * reads.interval_ms

    def _of(self, domain: str) -> _DomainReads:
        known = self._reads.get(domain)
        if known is None:
            longest_ms = max((reads.interval_ms for reads in self._reads.values()), default=0)
            known = self._reads[domain] = _DomainReads(interval_ms=longest_ms)
        return known
