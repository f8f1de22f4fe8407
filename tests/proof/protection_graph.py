"""Every schedule of what a broker can hear of a position and its stop, as a graph of states.

A history is what happens at the venue, moment by moment. Each moment pushes frames (position, order, execution), each
of which may arrive at any later time, more than once, or never; rounds read the venue at any time, and may be torn by
the next moment between the orders and the positions. States with the same knowledge are one. At every state the history
may be over: complete rounds must then reach the venue's truth, and a position without the stop it was to have must have
been announced.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from decimal import Decimal

import attrs

from qkt.model.protection import ProtectionKind, ProtectionState
from qkt.reconcile.exits import Carrier, Exit, ExitState
from qkt.reconcile.positions import PositionBook, VenuePosition
from qkt.reconcile.protection import ProtectionBook
from qkt.reconcile.protection_rules import CONFIRMED_AFTER_MS, Evidence

SYMBOL = "BYBIT_LINEAR:BTCUSDT"
STOP = ProtectionKind.STOP_LOSS
STEP_MS = 5_000
WAIT_MS = CONFIRMED_AFTER_MS + 500
ROUNDS_AT_THE_END = 3


@attrs.frozen(kw_only=True)
class Moment:
    """The venue after one step: size, the stop its row shows, its exit orders, and what our order has filled.

    ``owes_stop``: a stop was asked for and has neither been removed on request nor closed the position.
    """

    size: int = 0
    stop: int | None = None
    exits: tuple[Exit, ...] = ()
    filled: int = 0
    owes_stop: bool = True


@attrs.frozen(kw_only=True)
class History:
    """``request_at``: the moment at which a stop is asked for and no answer comes."""

    name: str
    moments: tuple[Moment, ...]
    carries_stop: bool = True
    request_at: int | None = None
    is_partial: bool = False


@attrs.frozen(kw_only=True)
class Knowledge:
    """What is believed, what was told last, and the time."""

    moment: int
    heard: frozenset[str]
    clock_ms: int
    positions: PositionBook
    exits: tuple[Exit, ...]
    filled: tuple[int, int]
    book: ProtectionBook
    told: ProtectionState | None = None
    losses: int = 0


@attrs.frozen(kw_only=True)
class Walked:
    """How many states, edges and ends there were, and at how many ends a loss had to be announced."""

    name: str
    states: int
    edges: int
    ends: int
    naked_ends: int


class Unannounced(AssertionError):
    """A position without its stop that the bot was not told of, or a belief that is not the venue's truth."""


class ProtectionWalk:
    """All schedules of one history."""

    def __init__(self, history: History) -> None:
        self.history = history

    def run(self) -> Walked:
        start = Knowledge(
            moment=0, heard=frozenset(), clock_ms=0, positions=PositionBook(), exits=(), filled=(0, 0),
            book=ProtectionBook(),
        )  # fmt: skip
        seen, queue = {_key(start)}, deque([start])
        edges = ends = naked = 0
        while queue:
            here = queue.popleft()
            for there in self._edges(here):
                edges += 1
                if _key(there) not in seen:
                    seen.add(_key(there))
                    queue.append(there)
            if here.moment == len(self.history.moments) - 1:
                ends += 1
                naked += self._end(here)
        return Walked(name=self.history.name, states=len(seen), edges=edges, ends=ends, naked_ends=naked)

    # edges

    def _edges(self, here: Knowledge) -> Iterator[Knowledge]:
        last = len(self.history.moments) - 1
        if here.moment < last:
            yield self._step(here)
            yield self._round(here, torn=True)
        for name in self._messages(here.moment):
            yield self._hear(here, name)
        yield self._round(here)
        latest_ms = here.moment * STEP_MS + (2 * WAIT_MS if here.moment == last else STEP_MS - WAIT_MS)
        if here.clock_ms < latest_ms:
            yield attrs.evolve(here, clock_ms=here.clock_ms + WAIT_MS)

    def _step(self, here: Knowledge) -> Knowledge:
        moment = here.moment + 1
        there = attrs.evolve(here, moment=moment, clock_ms=max(here.clock_ms, moment * STEP_MS))
        if moment == self.history.request_at:
            sent_ms = there.clock_ms
            book = there.book.requested(
                (SYMBOL, 0), {STOP: Decimal(90)}, sent_ms=sent_ms, settles_from_ms=sent_ms + CONFIRMED_AFTER_MS
            )
            there = attrs.evolve(there, book=book, told=ProtectionState.UNKNOWN)
        return there

    def _messages(self, moment: int) -> Iterator[str]:
        """Frames pushed up to a moment that say something new."""
        for at in range(1, moment + 1):
            now, before = self.history.moments[at], self.history.moments[at - 1]
            if (now.size, now.stop) != (before.size, before.stop):
                yield f"position {at}"
            if now.filled != before.filled:
                yield f"execution {at}"
            for index, one in enumerate(now.exits):
                if one not in before.exits:
                    yield f"order {at} {index}"

    def _hear(self, here: Knowledge, name: str) -> Knowledge:
        kind, at, *index = name.split()
        moment = self.history.moments[int(at)]
        there = attrs.evolve(here, heard=here.heard | {name})
        if kind == "position":
            row = self._row(int(at), int(at) * STEP_MS)
            there = attrs.evolve(there, positions=there.positions.after_frame([row]))
        elif kind == "execution":
            there = attrs.evolve(there, filled=max(there.filled, (moment.filled, int(at) * STEP_MS)))
        else:
            there = attrs.evolve(there, exits=_joined(there.exits, [moment.exits[int(index[0])]]))
        return self._judged(there, 0, 0)

    def _round(self, here: Knowledge, *, torn: bool = False) -> Knowledge:
        """Orders and executions are read before the positions; ``torn``: the next moment happens in between."""
        orders_ms, moment = here.clock_ms, self.history.moments[here.moment]
        there = attrs.evolve(
            here,
            exits=_joined(here.exits, moment.exits),
            filled=max(here.filled, (moment.filled, self._filled_at(here.moment))),
        )
        if torn:
            there = self._step(there)
        begun_ms = there.clock_ms
        now = self.history.moments[there.moment]
        rows = [self._row(there.moment, begun_ms)] if now.size else []
        there = attrs.evolve(there, positions=there.positions.after_read(rows, begun_ms))
        return self._judged(there, orders_ms, begun_ms)

    def _row(self, moment: int, as_of_ms: int) -> VenuePosition:
        shown = self.history.moments[moment]
        versions = [at for at in range(moment + 1) if at == 0 or self._changes_position(at)]
        return VenuePosition(
            symbol=SYMBOL, quantity=Decimal(shown.size), seq=versions[-1], as_of_ms=as_of_ms,
            stop_loss=None if shown.stop is None else Decimal(shown.stop),
        )  # fmt: skip

    def _changes_position(self, at: int) -> bool:
        now, before = self.history.moments[at], self.history.moments[at - 1]
        return (now.size, now.stop) != (before.size, before.stop)

    def _filled_at(self, moment: int) -> int:
        filled = self.history.moments[moment].filled
        return next(at for at in range(moment + 1) if self.history.moments[at].filled == filled) * STEP_MS

    def _judged(self, there: Knowledge, orders_ms: int, positions_ms: int) -> Knowledge:
        filled, filled_ms = there.filled
        carriers = ()
        if filled and self.history.carries_stop:
            carrier = Carrier(
                client_order_id="c1", symbol=SYMBOL, position_idx=0, is_long=True, exits={STOP: Decimal(90)},
                is_partial=self.history.is_partial, filled=Decimal(filled), filled_ms=filled_ms,
            )  # fmt: skip
            carriers = (carrier,)  # type: ignore[assignment]
        judgement = there.book.judged(
            Evidence(
                positions=there.positions.held, exits=there.exits, carriers=carriers, now_ms=there.clock_ms,
                orders_read_ms=orders_ms, positions_read_ms=positions_ms,
            )
        )  # fmt: skip
        for change in judgement.changes:
            there = attrs.evolve(there, told=change.now.state, losses=min(2, there.losses + change.is_loss))
        return attrs.evolve(there, book=judgement.book)

    # ends

    def _end(self, here: Knowledge) -> bool:
        """What was not heard is lost; rounds follow. True when a loss had to be told, and was."""
        there = here
        for _ in range(ROUNDS_AT_THE_END):
            there = self._round(attrs.evolve(there, clock_ms=there.clock_ms + WAIT_MS))
        truth = self.history.moments[-1]
        states = [one.state for one in there.book.protections]
        stands = any(one.state is ExitState.WAITING for one in truth.exits) or truth.stop is not None
        if not truth.size:
            expected: list[list[ProtectionState]] = [[]]
        elif stands:
            expected = [[ProtectionState.STANDS]]
        elif truth.owes_stop:
            expected = [[ProtectionState.DOES_NOT_STAND]]
        else:
            # what was seen to stand is lost; of what was never seen there is nothing to tell
            expected = [[], [ProtectionState.DOES_NOT_STAND]]
        if states not in expected:
            raise Unannounced(
                f"{self.history.name}: {states} at the end, expected {expected}; heard {sorted(here.heard)}"
            )
        if states == [ProtectionState.DOES_NOT_STAND] and there.told is not ProtectionState.DOES_NOT_STAND:
            raise Unannounced(f"{self.history.name}: a lost stop was not told; heard {sorted(here.heard)}")
        quiet = self._round(attrs.evolve(there, clock_ms=there.clock_ms + WAIT_MS))
        if (quiet.told, quiet.losses, quiet.book.protections) != (there.told, there.losses, there.book.protections):
            raise Unannounced(f"{self.history.name}: a quiet round told something")
        return states == [ProtectionState.DOES_NOT_STAND]


def _joined(known: tuple[Exit, ...], shown: list[Exit] | tuple[Exit, ...]) -> tuple[Exit, ...]:
    """Exit orders as the ledger joins them: the newest version of each, and an end is final."""
    newest = {one.broker_order_id: one for one in known}
    for one in shown:
        held = newest.get(one.broker_order_id)
        is_over = held is not None and held.state in (ExitState.GONE, ExitState.FILLED)
        if held is None or (one.as_of_ms >= held.as_of_ms and not is_over):
            newest[one.broker_order_id] = one
    return tuple(sorted(newest.values(), key=lambda one: one.broker_order_id))


def _key(here: Knowledge) -> Hashable:
    """What the future depends on: all but the names of what was heard."""
    book = here.book
    return (
        here.moment, here.clock_ms, frozenset(here.positions.held.values()), here.exits, here.filled,
        frozenset(book.claims.items()), frozenset(book.settled.items()), here.told, here.losses,
    )  # fmt: skip
