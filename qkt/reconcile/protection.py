"""Protection as a join of position rows, exit orders, orders that carry exits, and requests: the book of all exits.

What proves what is in `qkt.reconcile.protection_rules`. Pure: no I/O, the caller passes venue times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import attrs

from qkt.model.protection import Protection, ProtectionKind, ProtectionState
from qkt.money import ZERO
from qkt.reconcile.exits import Carrier, ExitState
from qkt.reconcile.protection_rules import (
    CONFIRMED_AFTER_MS,
    Claim,
    ClaimCase,
    Evidence,
    Key,
    PositionKey,
    Request,
    in_state,
    is_owed_by,
    key_of,
    new_claim,
    shown_on,
)

_SETTLING = (ProtectionState.STANDS, ProtectionState.ENDED)
_SETTLED_KEPT = 10_000


@attrs.frozen(kw_only=True)
class ProtectionChange:
    """One exit before and after; ``was`` is None for a new one."""

    was: Protection | None
    now: Protection

    @property
    def is_loss(self) -> bool:
        """True when the position is now known to lack an exit it had, or was to have."""
        had = self.was.state if self.was is not None else None
        return self.now.state is ProtectionState.DOES_NOT_STAND and had is not ProtectionState.DOES_NOT_STAND


@attrs.frozen(kw_only=True)
class ProtectionBook:
    """Every exit that stands or is wanted.

    ``settled``: how much of a carrier's fills has been dealt with, per kind: its exit stood, or is over.
    """

    claims: Mapping[Key, Claim] = attrs.field(factory=dict)
    settled: Mapping[tuple[str, ProtectionKind], Decimal] = attrs.field(factory=dict)

    @property
    def protections(self) -> tuple[Protection, ...]:
        """What the user sees, ordered by symbol, side, kind."""
        keys = sorted(self.claims, key=lambda key: (key[0], key[1], key[2].value, key[3]))
        return tuple(self.claims[key].protection for key in keys)

    @property
    def lost(self) -> tuple[Protection, ...]:
        """Exits that are known not to stand while their position does."""
        return tuple(one for one in self.protections if one.state is ProtectionState.DOES_NOT_STAND)

    def next_check_ms(self) -> int | None:
        """Venue time from which another read can settle something; None while nothing is open."""
        times = [
            claim.request.settles_from_ms if claim.request else (claim.missing_since_ms or 0) + CONFIRMED_AFTER_MS
            for claim in self.claims.values()
            if claim.protection.state is ProtectionState.UNKNOWN
        ]
        return min(times, default=None)

    # requests

    def requested(
        self, key: PositionKey, wanted: Mapping[ProtectionKind, Decimal], *, sent_ms: int, settles_from_ms: int
    ) -> ProtectionBook:
        """A request is about to be sent: what it asks for is unknown from now on."""
        claims = dict(self.claims)
        for kind, value in wanted.items():
            known = claims.get((*key, kind, ""))
            claim = known or new_claim((*key, kind, ""), sent_ms)
            before = None if known is None else known.request.before if known.request else known.protection
            claims[(*key, kind, "")] = attrs.evolve(
                claim,
                request=Request(value=value, sent_ms=sent_ms, settles_from_ms=settles_from_ms, before=before),
                is_released=False,
                protection=attrs.evolve(
                    in_state(claim.protection, ProtectionState.UNKNOWN, sent_ms, "requested"), wanted=value or None
                ),
            )
        return attrs.evolve(self, claims=claims)

    def answered(self, key: PositionKey, kinds: Iterable[ProtectionKind], at_ms: int) -> ProtectionBook:
        """The venue took the request: a row newer than the answer by two seconds has to show it."""
        claims = dict(self.claims)
        for name in ((*key, kind, "") for kind in kinds):
            claim = claims.get(name)
            if claim is not None and claim.request is not None:
                request = attrs.evolve(claim.request, settles_from_ms=at_ms + CONFIRMED_AFTER_MS)
                claims[name] = attrs.evolve(claim, request=request)
        return attrs.evolve(self, claims=claims)

    def refused(self, key: PositionKey, kinds: Iterable[ProtectionKind]) -> ProtectionBook:
        """The request was refused, or provably not sent: what was known before it is known again."""
        claims = dict(self.claims)
        for name in ((*key, kind, "") for kind in kinds):
            claim = claims.get(name)
            if claim is None or claim.request is None:
                continue
            if claim.request.before is None:
                del claims[name]
            else:
                claims[name] = attrs.evolve(claim, request=None, protection=claim.request.before)
        return attrs.evolve(self, claims=claims)

    def released(self, broker_order_id: str) -> ProtectionBook:
        """The user cancels an exit order: its end is no loss."""
        claims = {
            key: attrs.evolve(claim, is_released=True) if claim.protection.broker_order_id == broker_order_id else claim
            for key, claim in self.claims.items()
        }
        return attrs.evolve(self, claims=claims)

    # judging

    def judged(self, evidence: Evidence) -> Judgement:
        """The book after what the venue shows, and every exit that changed."""
        claims, settled = dict(self.claims), dict(self.settled)
        due = _due_carriers(evidence.carriers, settled)
        changes: list[ProtectionChange] = []
        for key in _keys(claims, evidence, due):
            claim = claims.get(key)
            was = claim.protection if claim is not None else None
            after = ClaimCase(key, claim, evidence, due).judge()
            if after is not None and after.protection.state in _SETTLING:
                settled |= {(one.client_order_id, key[2]): one.filled for one in due if is_owed_by(one, key)}
            if after is not None and after.protection.state is ProtectionState.ENDED:
                claims.pop(key, None)
                if was is not None:
                    changes.append(ProtectionChange(was=was, now=after.protection))
                # the position that follows may show an exit of its own
                was, after = None, ClaimCase(key, None, evidence, ()).judge()
                if after is not None and after.protection.state is not ProtectionState.STANDS:
                    after = None
            if after is not None:
                claims[key] = after
                if was is None or _tells_more(was, after.protection):
                    changes.append(ProtectionChange(was=was, now=after.protection))
        newest = dict(list(settled.items())[-_SETTLED_KEPT:])
        return Judgement(book=ProtectionBook(claims=claims, settled=newest), changes=tuple(changes))


@attrs.frozen(kw_only=True)
class Judgement:
    """The outcome of `ProtectionBook.judged`."""

    book: ProtectionBook
    changes: tuple[ProtectionChange, ...]


def _keys(claims: Mapping[Key, Claim], evidence: Evidence, due: Iterable[Carrier]) -> list[Key]:
    """Every exit that is claimed, shown, or owed by an order that carries it."""
    keys = dict.fromkeys(claims)
    for position in evidence.positions.values():
        keys |= dict.fromkeys(
            (*position.key, kind, "") for kind in ProtectionKind if shown_on(position, kind) is not None
        )
    keys |= dict.fromkeys(key_of(one) for one in evidence.exits if one.state is ExitState.WAITING)
    for carrier in due:
        keys |= dict.fromkeys((carrier.symbol, carrier.position_idx, kind, carrier.name) for kind in carrier.exits)
    return list(keys)


def _due_carriers(carriers: Iterable[Carrier], settled: Mapping[tuple[str, ProtectionKind], Decimal]) -> list[Carrier]:
    """Carriers with fills that no ended exit accounts for, each with the exits that are owed."""
    due = []
    for carrier in carriers:
        owed = {
            kind: price
            for kind, price in carrier.exits.items()
            if carrier.filled > settled.get((carrier.client_order_id, kind), ZERO)
        }
        if owed:
            due.append(attrs.evolve(carrier, exits=owed))
    return due


def _tells_more(was: Protection, now: Protection) -> bool:
    """True when a user should hear of the difference: another state, price, quantity or request."""
    return (was.state, was.price, was.quantity, was.wanted) != (now.state, now.price, now.quantity, now.wanted)
