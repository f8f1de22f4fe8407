"""Rules of protection: what the venue's rows prove about one exit of one position.

An exit stands only on evidence: the position row shows it, or the venue's order for it waits. It is lost only on
evidence too: after the first sign (`UNKNOWN`) a version of the position (of the open orders, for a partial exit) that
is at least two seconds newer must still show the position and not the exit. What a request asked for is settled by a
row that shows it, or by one read after the request can no longer arrive. Pure: no I/O, the caller passes venue times.

Source: docs v5/position/trading-stop, v5/position/position, v5/order/create-order (tpslMode).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import attrs

from qkt.model.protection import Protection, ProtectionKind, ProtectionState
from qkt.money import ZERO, to_wire
from qkt.reconcile.exits import Carrier, Exit, ExitState
from qkt.reconcile.positions import SIDES, VenuePosition

CONFIRMED_AFTER_MS = 2_000
"""How much newer than the first sign of a missing exit the row must be that confirms it."""

Key = tuple[str, int, ProtectionKind, str]
"""Symbol, position index, kind, and the name of a partial exit ("" for the exit of the whole position)."""

PositionKey = tuple[str, int]


@attrs.frozen(kw_only=True)
class Request:
    """An exit asked for (zero removes it); rows from ``settles_from_ms`` on that do not show it disprove it.

    ``before`` is what was known when it was sent.
    """

    value: Decimal
    sent_ms: int
    settles_from_ms: int
    before: Protection | None = None


@attrs.frozen(kw_only=True)
class Claim:
    """What is known of one exit. ``missing_since_ms`` is the first sign that it is gone."""

    protection: Protection
    request: Request | None = None
    missing_since_ms: int | None = None
    due_from_ms: int = 0
    needed: Decimal = ZERO
    was_open: bool = False
    is_long: bool | None = None
    is_released: bool = False


@attrs.frozen(kw_only=True)
class Evidence:
    """What the venue shows: positions, exit orders and carriers.

    ``orders_read_ms`` and ``positions_read_ms`` are when the last complete reads of both began: what they did not list
    was not there.
    """

    positions: Mapping[PositionKey, VenuePosition]
    exits: tuple[Exit, ...] = ()
    carriers: tuple[Carrier, ...] = ()
    orders_read_ms: int = 0
    positions_read_ms: int = 0
    now_ms: int = 0


class ClaimCase:
    """One exit, and the evidence about it."""

    def __init__(self, key: Key, claim: Claim | None, evidence: Evidence, due: Iterable[Carrier]) -> None:
        symbol, index, self._kind, name = key
        self._evidence = evidence
        self._is_partial = name != ""
        self._position = evidence.positions.get((symbol, index))
        self._exits = [one for one in evidence.exits if key_of(one) == key]
        self._pair = [one for one in evidence.exits if self._is_partial and one.name == name]
        self._carriers = [one for one in due if is_owed_by(one, key)]
        self._claim = claim or new_claim(key, self._first_sign_ms())
        self._is_new = claim is None

    def judge(self) -> Claim | None:
        """The claim as it is now; None when there is nothing to claim."""
        claim = self._with_carriers()
        position = self._position
        if position is None or not position.quantity:
            return self._without_position(claim, position)
        is_long = position.quantity > 0
        if claim.is_long is not None and claim.is_long != is_long:
            return self._ended(claim, "the position is on the other side now")
        if self._is_new and any(carrier.is_long != is_long for carrier in self._carriers):
            return self._ended(claim, "the order closed a position of the other side")
        claim = attrs.evolve(claim, was_open=True, is_long=is_long)
        if claim.request is not None:
            settled = self._settle_request(claim, claim.request, position)
            if settled is not None:
                return settled
            claim = attrs.evolve(claim, request=None, missing_since_ms=claim.request.sent_ms)
        return self._judge_partial(claim, position) if self._is_partial else self._judge_full(claim, position)

    def _first_sign_ms(self) -> int:
        if self._carriers:
            return max(one.filled_ms for one in self._carriers)
        return self._position.as_of_ms if self._position is not None else self._evidence.now_ms

    def _with_carriers(self) -> Claim:
        """The claim, with what orders that carry exits ask for."""
        claim = self._claim
        if not self._carriers:
            return claim
        newest = max(self._carriers, key=lambda one: one.filled_ms)
        protection = attrs.evolve(claim.protection, parent_client_order_id=newest.client_order_id)
        if claim.protection.price is None and claim.request is None:
            protection = attrs.evolve(protection, wanted=newest.exits.get(self._kind))
        due_from_ms = max(claim.due_from_ms, newest.filled_ms)
        return attrs.evolve(claim, protection=protection, due_from_ms=due_from_ms, needed=newest.filled)

    def _without_position(self, claim: Claim, position: VenuePosition | None) -> Claim | None:
        """A closed position needs no exits; one that was not shown yet may still come."""
        if self._is_new and not self._carriers:
            return None
        flat_ms = max(position.as_of_ms if position is not None else 0, self._evidence.positions_read_ms)
        request = claim.request
        if request is not None and not claim.was_open and flat_ms < request.settles_from_ms:
            return claim
        grace_ms = 0 if claim.was_open else CONFIRMED_AFTER_MS
        if flat_ms >= claim.due_from_ms + grace_ms:
            return self._ended(claim, "the position is closed")
        since_ms = claim.due_from_ms
        return attrs.evolve(
            claim,
            missing_since_ms=since_ms,
            protection=in_state(claim.protection, ProtectionState.UNKNOWN, since_ms, "the position is not shown yet"),
        )

    def _settle_request(self, claim: Claim, request: Request, position: VenuePosition) -> Claim | None:
        """The claim while its request is open, or settled by what it asked for; None when it had no effect."""
        shown = shown_on(position, self._kind)
        if request.value and shown == request.value:
            return self._standing(attrs.evolve(claim, request=None), shown, position.as_of_ms)
        is_newer = position.as_of_ms >= request.sent_ms
        if not request.value and shown is None and is_newer and not self._waiting():
            return self._ended(claim, "removed on request")
        return claim if position.as_of_ms < request.settles_from_ms else None

    def _judge_full(self, claim: Claim, position: VenuePosition) -> Claim | None:
        shown, waiting = shown_on(position, self._kind), self._waiting()
        gone_ms = max((one.as_of_ms for one in self._exits if one.state is ExitState.GONE), default=0)
        is_outdated = not waiting and gone_ms > position.as_of_ms
        if shown is not None and not is_outdated:
            return self._standing(claim, shown, position.as_of_ms)
        if waiting and position.as_of_ms >= waiting[0].as_of_ms + CONFIRMED_AFTER_MS:
            said = "the position does not show it, and its order waits"
            protection = in_state(claim.protection, ProtectionState.UNKNOWN, position.as_of_ms, said)
            return attrs.evolve(claim, protection=protection, missing_since_ms=position.as_of_ms)
        if waiting:
            return self._standing(claim, waiting[0].price, position.as_of_ms)
        if any(one.state is ExitState.WORKING for one in self._exits):
            return self._standing(claim, claim.protection.price, position.as_of_ms, "triggered")
        if self._is_new and not self._carriers:
            return None
        return self._missing(claim, 0 if shown is not None else position.as_of_ms, gone_ms or position.as_of_ms)

    def _judge_partial(self, claim: Claim, position: VenuePosition) -> Claim | None:
        if any(one.state is ExitState.FILLED for one in self._pair):
            return self._ended(claim, "it has closed its quantity")
        waiting = self._waiting()
        covered = sum((one.quantity for one in waiting), ZERO)
        needed = min(claim.needed or covered, abs(position.quantity))
        if waiting and covered >= needed:
            kept = attrs.evolve(claim, needed=claim.needed or covered)
            return self._standing(kept, waiting[0].price, self._evidence.now_ms, quantity=covered)
        if any(one.state is ExitState.WORKING for one in self._exits):
            return self._standing(claim, claim.protection.price, self._evidence.now_ms, "triggered")
        if self._is_new and not self._carriers:
            return None
        reason = f"covers {to_wire(covered)} of {to_wire(needed)}" if covered else ""
        return self._missing(claim, self._evidence.orders_read_ms, self._evidence.now_ms, reason)

    def _waiting(self) -> list[Exit]:
        return [one for one in self._exits if one.state is ExitState.WAITING]

    def _standing(
        self, claim: Claim, price: Decimal | None, at_ms: int, reason: str = "", quantity: Decimal | None = None
    ) -> Claim:
        newest = max(self._exits, key=lambda one: one.as_of_ms, default=None)
        protection = attrs.evolve(
            in_state(claim.protection, ProtectionState.STANDS, at_ms, reason),
            price=price,
            wanted=None,
            quantity=quantity,
            broker_order_id=newest.broker_order_id if newest is not None else claim.protection.broker_order_id,
            parent_client_order_id=(
                (newest.parent_client_order_id if newest is not None else "") or claim.protection.parent_client_order_id
            ),
        )
        return attrs.evolve(claim, protection=protection, missing_since_ms=None)

    def _missing(self, claim: Claim, evidence_ms: int, since_ms: int, reason: str = "") -> Claim:
        """An exit that is not shown: unknown at first, lost once newer evidence confirms it."""
        if claim.is_released:
            return self._ended(claim, "cancelled on request")
        first_ms = since_ms if claim.missing_since_ms is None else claim.missing_since_ms
        wanted = claim.protection.wanted or claim.protection.price
        protection = attrs.evolve(claim.protection, price=None, wanted=wanted)
        is_known = claim.protection.state is ProtectionState.DOES_NOT_STAND
        if is_known or evidence_ms >= first_ms + CONFIRMED_AFTER_MS:
            said = reason or "the venue does not show it"
            protection = in_state(protection, ProtectionState.DOES_NOT_STAND, first_ms, said)
        else:
            said = reason or "not shown; one more read confirms it"
            protection = in_state(protection, ProtectionState.UNKNOWN, first_ms, said)
        return attrs.evolve(claim, protection=protection, missing_since_ms=first_ms)

    def _ended(self, claim: Claim, reason: str) -> Claim:
        protection = in_state(claim.protection, ProtectionState.ENDED, self._evidence.now_ms, reason)
        return attrs.evolve(claim, protection=attrs.evolve(protection, wanted=None), request=None)


def is_owed_by(carrier: Carrier, key: Key) -> bool:
    return (carrier.symbol, carrier.position_idx, carrier.name) == (key[0], key[1], key[3]) and key[2] in carrier.exits


def key_of(one: Exit) -> Key:
    return one.symbol, one.position_idx, one.kind, one.name


def shown_on(position: VenuePosition, kind: ProtectionKind) -> Decimal | None:
    """The exit of the whole position that its row shows; a closed position shows none."""
    if not position.quantity:
        return None
    match kind:
        case ProtectionKind.TAKE_PROFIT:
            return position.take_profit
        case ProtectionKind.STOP_LOSS:
            return position.stop_loss
        case ProtectionKind.TRAILING_STOP:
            return position.trailing_stop


def new_claim(key: Key, since_ms: int) -> Claim:
    symbol, index, kind, _name = key
    protection = Protection(
        symbol=symbol, position_side=SIDES[index], kind=kind, state=ProtectionState.UNKNOWN, since_ms=since_ms
    )
    return Claim(protection=protection, due_from_ms=since_ms)


def in_state(protection: Protection, state: ProtectionState, since_ms: int, reason: str) -> Protection:
    """The protection in a state; one that it was in already keeps its ``since_ms``."""
    since_ms = protection.since_ms if protection.state is state else since_ms
    return attrs.evolve(protection, state=state, since_ms=since_ms, reason=reason)
