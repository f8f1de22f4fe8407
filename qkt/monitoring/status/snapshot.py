"""Everything the status page shows, read at one moment into frozen values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import attrs

from qkt.health import Health
from qkt.model.balances import Wallet
from qkt.model.orders import OrderView
from qkt.money import to_wire
from qkt.monitoring.observed import (
    ObservedBroker,
    ObservedBrokers,
    OwnershipRow,
    PositionRow,
    applicable_ages,
    headroom,
)


@attrs.frozen(kw_only=True)
class Age:
    """Age of one domain against its bound; ``age_ms`` is None before the first complete read."""

    domain: str
    age_ms: int | None
    bound_ms: int

    @property
    def is_beyond(self) -> bool:
        """True when the domain was never read, or is older than its bound."""
        return self.age_ms is None or self.age_ms > self.bound_ms


@attrs.frozen(kw_only=True)
class Connection:
    """One client: its request budget, clock and stream. None where the client does not tell."""

    name: str
    stream: str
    frame_age_ms: int | None = None
    losses: int | None = None
    requests_in_5_s: int | None = None
    request_limit_in_5_s: int | None = None
    headroom: float | None = None
    shut_out_ms: int = 0
    clock_offset_ms: int | None = None
    wallet: Wallet = attrs.field(factory=Wallet)
    wallet_age_ms: int | None = None


@attrs.frozen(kw_only=True)
class BrokerSnapshot:
    """One broker. ``positions`` and ``ownership`` are None where it has none."""

    name: str
    health: Health
    ages: tuple[Age, ...]
    orders: Sequence[OrderView]
    unresolved_since_ms: Mapping[str, int]
    positions: Sequence[PositionRow] | None
    ownership: OwnershipRow | None


@attrs.frozen(kw_only=True)
class Snapshot:
    """All brokers and clients at ``at_ms``."""

    at_ms: int
    brokers: tuple[BrokerSnapshot, ...]
    connections: tuple[Connection, ...]

    @property
    def as_of_ms(self) -> int | None:
        """Age of the oldest domain; None while one was never read."""
        ages = [age.age_ms for broker in self.brokers for age in broker.ages]
        known = [age for age in ages if age is not None]
        return max(known) if known and len(known) == len(ages) else None


def snapshot_of_broker(
    each: ObservedBroker, *, bound_ms: int, unresolved_since_ms: Mapping[str, int], orders: Sequence[OrderView]
) -> BrokerSnapshot:
    """Read one broker."""
    health = each.health()
    return BrokerSnapshot(
        name=each.name,
        health=health,
        ages=tuple(
            Age(domain=domain, age_ms=age_ms, bound_ms=bound_ms) for domain, age_ms in applicable_ages(health).items()
        ),
        orders=orders,
        unresolved_since_ms=unresolved_since_ms,
        positions=each.positions(),
        ownership=each.ownership(),
    )


def connections_of(brokers: ObservedBrokers, now_ms: int) -> tuple[Connection, ...]:
    """Read each client once."""
    return tuple(_connection(name, each, now_ms) for name, each in brokers.clients)


def _connection(name: str, each: ObservedBroker, now_ms: int) -> Connection:
    stats, wallet, offset_ms = each.stats(), each.wallet() or Wallet(), each.clock_offset_ms()
    age_ms = None if wallet.as_of_ms is None else max(0, now_ms + (offset_ms or 0) - wallet.as_of_ms)
    basic = Connection(
        name=name, stream=each.health().stream, clock_offset_ms=offset_ms, wallet=wallet, wallet_age_ms=age_ms
    )
    if stats is None:
        return basic
    return attrs.evolve(
        basic,
        frame_age_ms=stats.frame_age_ms,
        losses=stats.losses,
        requests_in_5_s=stats.requests_in_5_s,
        request_limit_in_5_s=stats.request_limit_in_5_s,
        headroom=headroom(stats),
        shut_out_ms=stats.shut_out_ms,
    )


def to_json_types(value: Any) -> Any:
    """Decimals as exact text, enums as their values, attrs values as objects."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Decimal):
        return to_wire(value)
    if isinstance(value, Mapping):
        return {str(name): to_json_types(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json_types(item) for item in value]
    if attrs.has(type(value)):
        return {field.name: to_json_types(getattr(value, field.name)) for field in attrs.fields(type(value))}
    return to_json_types(value.value) if hasattr(value, "value") else str(value)
