"""Checks of ``qkt doctor`` as pure functions: measurements and replies in, a `Light` out."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from qkt.bybit.transport.client import ClientStats

_VENUE_REQUESTS_IN_5_S = 600  # per address (docs v5/rate-limit)
_FUTURE_ALLOWED_MS = 1_000  # largest lead over the venue's clock that a timestamp may have (docs v5/guide)


class Colour(enum.Enum):
    """Result of a check, from good to bad."""

    GREEN = "green"
    YELLOW = "yellow"
    RED = "red"


@attrs.frozen(kw_only=True)
class Light:
    """Name, colour, finding and remedy of one check."""

    name: str
    value: str
    colour: Colour = Colour.GREEN
    remedy: str = ""
    details: Mapping[str, Any] = attrs.field(factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The check as plain JSON types."""
        return {**attrs.asdict(self, recurse=False), "colour": self.colour.value, "details": dict(self.details)}


def clock_skew(offsets_ms: Sequence[float], round_trips_ms: Sequence[float], *, recv_window_ms: int) -> Light:
    """Check of the clock offset, compared with what half a round trip can measure."""
    if not offsets_ms:
        return Light(name="clock", colour=Colour.RED, value="not measured", remedy="the venue does not tell its time")
    best = min(range(len(round_trips_ms)), key=lambda at: round_trips_ms[at])
    skew_ms, blur_ms = offsets_ms[best], round_trips_ms[best] / 2
    value = f"venue is {abs(skew_ms):.0f} ms {'ahead' if skew_ms >= 0 else 'behind'}, known to {blur_ms:.1f} ms"
    details = {"skew_ms": round(skew_ms, 1), "half_round_trip_ms": round(blur_ms, 1)}
    certain_ms = max(0.0, abs(skew_ms) - blur_ms)
    limit_ms = _FUTURE_ALLOWED_MS if skew_ms < 0 else recv_window_ms
    if certain_ms >= limit_ms:
        remedy = "set this machine's clock (NTP): qkt corrects for it, other programs will be refused with 10002"
        return Light(name="clock", colour=Colour.RED, value=value, remedy=remedy, details=details)
    if certain_ms >= 250:
        remedy = "qkt corrects for it; let NTP set this machine's clock all the same"
        return Light(name="clock", colour=Colour.YELLOW, value=value, remedy=remedy, details=details)
    return Light(name="clock", value=value, details=details)


def latency(name: str, samples_ms: Sequence[float], remedy: str) -> Light:
    """Check of the round trips: median, 90th percentile and maximum."""
    if not samples_ms:
        return Light(name=name, colour=Colour.YELLOW, value="not measured", remedy="run it again")
    p50, p90, worst = percentile(samples_ms, 50), percentile(samples_ms, 90), max(samples_ms)
    value = f"median {p50:.0f} ms, 90 % {p90:.0f} ms, worst {worst:.0f} ms, of {len(samples_ms)}"
    details = {"p50_ms": round(p50, 1), "p90_ms": round(p90, 1), "max_ms": round(worst, 1)}
    if p90 >= 1_000:
        return Light(name=name, colour=Colour.YELLOW, value=value, remedy=remedy, details=details)
    return Light(name=name, value=value, details=details)


def percentile(samples: Sequence[float], percent: int) -> float:
    """The smallest sample that ``percent`` of all samples do not exceed."""
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)]


def key_is_valid(key: Mapping[str, Any]) -> Light:
    """Check that the venue accepts the key. Source, also of the next checks: docs v5/user/apikey-info."""
    note = f" {key['note']!r}" if key.get("note") else ""
    if key.get("readOnly"):
        remedy = "make a read-write key to trade; for watching this one is the safer choice"
        return Light(name="key", colour=Colour.YELLOW, value=f"valid{note}, reads only", remedy=remedy)
    return Light(name="key", value=f"valid{note}, may read and trade")


def permissions(key: Mapping[str, Any]) -> Light:
    """Check that the key may trade."""
    rights = _rights(key)
    named = ", ".join(f"{group} {'+'.join(each)}" for group, each in rights.items() if each)
    if "SpotTrade" not in rights.get("Spot", []):
        remedy = "give the key the right to trade spot (API management, Unified Trading)"
        return Light(name="permissions", colour=Colour.RED, value=named or "none", remedy=remedy)
    return Light(name="permissions", value=named)


def withdrawal(key: Mapping[str, Any]) -> Light:
    """Check that the key cannot withdraw: a bot never needs it."""
    if any("Withdraw" in right for rights in _rights(key).values() for right in rights):
        remedy = "take the right to withdraw from this key: no bot needs it"
        return Light(name="withdrawal", colour=Colour.YELLOW, value="this key may withdraw", remedy=remedy)
    return Light(name="withdrawal", value="this key may not withdraw")


def ip_binding(key: Mapping[str, Any]) -> Light:
    """Check that the key is bound to addresses; one that is not expires after 90 days."""
    addresses = [str(address) for address in key.get("ips") or []]
    if not addresses or "*" in addresses:
        remedy = "bind the key to this machine's address: it is safer, and it does not expire after three months"
        return Light(name="IP binding", colour=Colour.YELLOW, value="none: works from anywhere", remedy=remedy)
    return Light(name="IP binding", value=", ".join(addresses))


def expiry(key: Mapping[str, Any]) -> Light:
    """Check of the days until the key expires; the venue reports them only for keys that do."""
    try:
        days = int(key.get("deadlineDay") or 0)
    except (TypeError, ValueError):
        days = 0
    if days <= 0:
        return Light(name="expiry", value=f"the venue names no deadline (expires {key.get('expiredAt') or 'never'})")
    details, value = {"days": days}, f"in {days} days"
    remedy = "make a new key before this one ends, or bind it to an address"
    if days <= 7:
        return Light(name="expiry", colour=Colour.RED, value=value, remedy=remedy, details=details)
    if days <= 30:
        return Light(name="expiry", colour=Colour.YELLOW, value=value, remedy=remedy, details=details)
    return Light(name="expiry", value=value, details=details)


def account_type(info: Mapping[str, Any], asked_for: str) -> Light:
    """Check that the account is a unified one. Source: docs v5/account/account-info, ``unifiedMarginStatus``."""
    kinds = {1: "classic", 3: "unified 1.0", 4: "unified 1.0 pro", 5: "unified 2.0", 6: "unified 2.0 pro"}
    status = info.get("unifiedMarginStatus")
    kind = kinds.get(status if isinstance(status, int) else 0, f"unknown ({status})")
    value = f"{kind}, margin mode {info.get('marginMode') or 'unknown'}, asked for as {asked_for}"
    if status == 1:
        remedy = "upgrade the account to Unified Trading: its endpoints are the ones qkt speaks"
        return Light(name="account", colour=Colour.RED, value=value, remedy=remedy)
    if status not in (5, 6):
        remedy = "upgrade to unified 2.0: qkt is not tested against older accounts"
        return Light(name="account", colour=Colour.YELLOW, value=value, remedy=remedy)
    return Light(name="account", value=value)


def rate_limits(stats: ClientStats) -> Light:
    """Check of the address's request budget that this run used, and of requests that the venue refused."""
    used = stats.requests_in_5_s
    value = f"{used} of {_VENUE_REQUESTS_IN_5_S} requests per 5 s used here, {stats.throttled} turned away"
    details = {"used_in_5_s": used, "limit_in_5_s": _VENUE_REQUESTS_IN_5_S, "throttled": stats.throttled}
    if stats.throttled:
        remedy = "other programs share this account's limits: slow them down, or give each a key of its own account"
        return Light(name="rate limits", colour=Colour.YELLOW, value=value, remedy=remedy, details=details)
    return Light(name="rate limits", value=value, details=details)


def _rights(key: Mapping[str, Any]) -> dict[str, list[str]]:
    granted = key.get("permissions")
    if not isinstance(granted, Mapping):
        return {}
    return {str(group): [str(right) for right in rights or []] for group, rights in granted.items()}
