"""Staleness as a number, and one alarm per episode.

Every domain of state (orders, executions, balances, positions) has an age: how long ago it was last read completely.
An episode begins when a domain is in trouble and ends when it is not; each is told once at either end (S74). Pure: the
caller says what time it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import attrs

from qkt.events import BrokerEvent, HealthDegraded, HealthRestored

DOMAINS = ("orders", "executions", "balances", "positions")


def _read_only(reasons: Mapping[str, str]) -> Mapping[str, str]:
    return MappingProxyType(dict(reasons))


@attrs.frozen(kw_only=True)
class Health:
    """How well a broker knows what the venue holds, at one moment.

    ``orders``, ``executions``, ``balances``, ``positions``: age in ms of the last complete read, None before the first
    (and for domains the broker does not have). ``stream`` is the private stream's state in one word. ``unresolved``
    names the orders nobody can speak for; ``lookups_waiting`` how many lookups are put off to the next round.
    ``degraded``: domain -> reason, for every episode that has not ended.
    """

    source: str
    orders: int | None = None
    executions: int | None = None
    balances: int | None = None
    positions: int | None = None
    stream: str = "unknown"
    unresolved: tuple[str, ...] = ()
    lookups_waiting: int = 0
    queue_depth: int = 0
    degraded: Mapping[str, str] = attrs.field(factory=dict, converter=_read_only)

    @property
    def ages_ms(self) -> Mapping[str, int | None]:
        """Domain -> age in ms."""
        return MappingProxyType({domain: getattr(self, domain) for domain in DOMAINS})

    @property
    def ok(self) -> bool:
        """True when no episode is open and nothing is unresolved."""
        return not self.degraded and not self.unresolved

    @property
    def staleness_ms(self) -> int | None:
        """The oldest age, None while some domain was never read."""
        known = [age for age in (self.orders, self.executions, self.balances) if age is not None]
        return max(known) if len(known) == 3 else None


class HealthEpisodes:
    """Which domains are in trouble since when. Not thread-safe: its owner guards it."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._open: dict[str, tuple[int, str]] = {}

    def degrade(self, domain: str, reason: str, at_ms: int) -> list[BrokerEvent]:
        """Begin an episode; says nothing when one is open."""
        if domain in self._open:
            return []
        self._open[domain] = (at_ms, reason)
        return [self.alarm(domain, reason, at_ms)]

    def alarm(self, domain: str, reason: str, at_ms: int) -> HealthDegraded:
        """One thing a person should look at, which no later success undoes."""
        return HealthDegraded(source=self._source, domain=domain, reason=reason, since_ms=at_ms, timestamp=at_ms)

    def restore(self, domain: str, at_ms: int) -> list[BrokerEvent]:
        """End an episode; says nothing when none is open."""
        if domain not in self._open:
            return []
        since_ms, reason = self._open.pop(domain)
        return [HealthRestored(source=self._source, domain=domain, reason=reason, since_ms=since_ms, timestamp=at_ms)]

    @property
    def reasons(self) -> Mapping[str, str]:
        """Domain -> reason of every open episode."""
        return {domain: reason for domain, (_, reason) in self._open.items()}
