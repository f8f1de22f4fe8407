"""The sentence at the top of the page: whether everything is known, and since when, or what is not. Pure."""

from __future__ import annotations

from typing import Literal

import attrs

from qkt.money import to_wire
from qkt.monitoring.status.snapshot import Snapshot

_MOST_REASON = 160

Level = Literal["known", "warning", "unknown"]


@attrs.frozen(kw_only=True)
class Verdict:
    """``level`` is ``known``, ``warning`` (known, and something is degraded) or ``unknown``.

    ``gaps`` is what is not known, ``warnings`` what is degraded besides.
    """

    level: Level
    sentence: str
    gaps: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(snapshot: Snapshot) -> Verdict:
    """Judge one snapshot. An age beyond its bound, an unresolved order and a missing execution are gaps."""
    gaps, warnings = _gaps(snapshot), _warnings(snapshot)
    if gaps:
        return Verdict(level="unknown", sentence=f"Not known: {gaps[0]}", gaps=gaps, warnings=warnings)
    as_of = "no state to know" if snapshot.as_of_ms is None else f"as of {seconds(snapshot.as_of_ms)} ago"
    return Verdict(
        level="warning" if warnings else "known", sentence=f"Everything known {as_of}", gaps=(), warnings=warnings
    )


def is_beyond_a_bound(snapshot: Snapshot) -> bool:
    """True when a domain of a broker was never read or is older than its bound."""
    return any(age.is_beyond for broker in snapshot.brokers for age in broker.ages)


def _gaps(snapshot: Snapshot) -> tuple[str, ...]:
    """What a trader must act on first: orders, then what was not read."""
    found = []
    for broker in snapshot.brokers:
        for name, since_ms in broker.unresolved_since_ms.items():
            found.append(f"order {name} is unresolved for {seconds(snapshot.at_ms - since_ms)}; do not send it again")
        for view in broker.orders:
            if view.missing_quantity:
                name = view.client_order_id or view.broker_order_id
                found.append(f"{to_wire(view.missing_quantity)} of order {name} traded, and no execution shows it yet")
    for broker in snapshot.brokers:
        never = [age.domain for age in broker.ages if age.age_ms is None]
        if never:
            found.append(f"{broker.name} {_listed(never)} were never read")
        beyond = [age for age in broker.ages if age.age_ms is not None and age.is_beyond]
        if beyond:
            oldest_ms = max(age.age_ms or 0 for age in beyond)
            reasons = [broker.health.degraded[age.domain] for age in beyond if age.domain in broker.health.degraded]
            found.append(
                f"{broker.name} {_listed([age.domain for age in beyond])} were last read {seconds(oldest_ms)} ago "
                f"(bound {seconds(beyond[0].bound_ms)})" + (f": {plain_reason(reasons[0])}" if reasons else "")
            )
    return tuple(found)


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _warnings(snapshot: Snapshot) -> tuple[str, ...]:
    found = [
        f"{broker.name} {domain}: {plain_reason(reason)}"
        for broker in snapshot.brokers
        for domain, reason in broker.health.degraded.items()
        if domain not in {age.domain for age in broker.ages if age.is_beyond}  # told with its age
    ]
    for broker in snapshot.brokers:
        found += [f"{broker.name} alarm, to be acknowledged: {alarm}" for alarm in broker.health.alarms]
        for row in broker.positions or ():
            if row.is_protection_lost:
                found.append(f"{broker.name} position {row.symbol} lacks an exit: {', '.join(row.protection or ())}")
        if broker.ownership is not None and broker.ownership.state == "lost":
            found.append(f"{broker.name}: the account is owned by {broker.ownership.owner or 'another process'} now")
    for client in snapshot.connections:
        if client.shut_out_ms:
            found.append(f"{client.name}: the venue refuses this address for {seconds(client.shut_out_ms)} more")
        elif client.headroom is not None and client.headroom < 0.1:
            found.append(f"{client.name}: {client.headroom:.0%} of the request budget is left")
    return tuple(found)


def seconds(span_ms: int) -> str:
    """A duration: ``0.8 s``, ``45 s``, ``4 min``, ``3 h``."""
    if span_ms < 10_000:
        return f"{max(0, span_ms) / 1000:.1f} s"
    if span_ms < 120_000:
        return f"{span_ms // 1000} s"
    if span_ms < 7_200_000:
        return f"{span_ms // 60_000} min"
    return f"{span_ms // 3_600_000} h"


def plain_reason(reason: str) -> str:
    """A reason without the class name of an exception in front, each of its clauses once, of bounded length."""
    head, _, rest = reason.partition(": ")
    text = rest if rest and head.endswith(("Exception", "Error")) else reason
    text = "; ".join(dict.fromkeys(text.split("; ")))
    return text if len(text) <= _MOST_REASON else f"{text[:_MOST_REASON]}…"
