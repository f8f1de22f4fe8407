"""An explicit-state model of the permit protocol: every interleaving of a few owners, one intent and one venue.

Each owner runs the same program: take the lease over, read the permits of earlier epochs, wait, look the order up,
stamp, ask for a permit, send. Between any two of its steps it may be stopped for as long as you like. A message may be
lost, or delivered at any later time. The venue accepts a request whose timestamp is at most ``AHEAD`` before its clock
runs there and at most ``window`` old, and shows an accepted order up to ``lag`` ticks late. A host's clock is right or
ahead by as much as the venue allows. A lease may run out at any moment: the model has no expiry, so safety cannot come
from it.

Breadth first, so that a counter-example is a shortest one. Pure; nothing of the product is imported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Literal, NamedTuple

import attrs

AHEAD = 1

Operation = Literal["create", "amend"]
Waits = Literal["no", "after the takeover", "for the permits"]
Place = Literal[
    "idle", "read", "wait", "look", "check", "stamp", "permit", "commit", "send", "done", "adopted", "frozen"
]


@attrs.frozen(kw_only=True)
class Variant:
    """One protocol. The defaults are the shipped one; each ablation takes one thing away.

    ``fenced``: the permit is stored only under the current epoch, in one step with the check. ``remembers``: for how
    many ticks the venue refuses a second create with the same link id, -1 for ever, None when ids differ.
    """

    name: str
    permits: bool = True
    fenced: bool = True
    waits: Waits = "for the permits"
    margin: bool = True
    restamps: bool = False
    host_clock: bool = False
    remembers: int | None = None


@attrs.frozen(kw_only=True)
class Bounds:
    """How large the model is: owners, ticks, and the venue's window and lag in ticks."""

    owners: int = 2
    horizon: int = 10
    window: int = 2
    lag: int = 2


class Owner(NamedTuple):
    """Where an owner is in its program, and what it remembers."""

    at: Place = "idle"
    epoch: int = 0
    stamp: int = 0
    until: int = -1


class State(NamedTuple):
    """All there is. ``flying``: (epoch, timestamp); ``accepted``: (epoch, when), in the order of acceptance."""

    clock: int
    epoch: int
    owners: tuple[Owner, ...]
    permits: frozenset[tuple[int, int]]
    flying: frozenset[tuple[int, int]]
    accepted: tuple[tuple[int, int], ...]


Step = tuple[str, State]


@attrs.frozen(kw_only=True)
class Result:
    """What was searched.

    ``trace`` is a shortest way to a violation, None where there is none. ``successor_sent`` is true when some way leads
    to a request accepted from an owner that had permits of an earlier epoch to wait for: the search was not empty.
    """

    variant: str
    operation: Operation
    states: int
    successor_sent: bool
    trace: tuple[str, ...] | None

    def __str__(self) -> str:
        found = "safe" if self.trace is None else f"unsafe in {len(self.trace)} steps"
        return f"{self.operation}, {self.variant}: {found} ({self.states:,} states)"


def search(variant: Variant, operation: Operation, bounds: Bounds) -> Result:
    """Walk every reachable state, or stop at the first violation."""
    start = State(0, 0, (Owner(),) * bounds.owners, frozenset(), frozenset(), ())
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    waiting = deque([start])
    trace = None
    while waiting and trace is None:
        state = waiting.popleft()
        for label, following in steps(state, variant, operation, bounds):
            if following in came_from:
                continue
            came_from[following] = (state, label)
            if is_violated(following, operation):
                trace = _trace(came_from, following)
                break
            waiting.append(following)
    return Result(
        variant=variant.name,
        operation=operation,
        states=len(came_from),
        successor_sent=any(map(_is_sent_by_a_successor, came_from)),
        trace=trace,
    )


def _is_sent_by_a_successor(state: State) -> bool:
    first_permitted = min((epoch for epoch, _ in state.permits), default=0)
    return any(epoch > first_permitted > 0 for epoch, _ in state.accepted)


def is_violated(state: State, operation: Operation) -> bool:
    """The order stands twice, or an amend of an earlier owner landed after one of a later owner."""
    if operation == "create":
        return len(state.accepted) > 1
    epochs = [epoch for epoch, _ in state.accepted]
    return epochs != sorted(epochs)


def steps(state: State, variant: Variant, operation: Operation, bounds: Bounds) -> Iterator[Step]:
    """Everything that may happen next."""
    if state.clock < bounds.horizon:
        yield "a tick passes", state._replace(clock=state.clock + 1)
    yield from _venue_steps(state, variant, operation, bounds)
    for number, owner in enumerate(state.owners):
        for label, moved, after in _owner_steps(owner, state, variant, operation, bounds):
            owners = (*state.owners[:number], moved, *state.owners[number + 1 :])
            yield f"{'ABC'[number]} {label}", after._replace(owners=owners)


def _venue_steps(state: State, variant: Variant, operation: Operation, bounds: Bounds) -> Iterator[Step]:
    for message in state.flying:
        epoch, stamp = message
        gone = state._replace(flying=state.flying - {message})
        yield f"the message of epoch {epoch} is lost", gone
        is_timely = stamp <= state.clock + AHEAD and state.clock <= stamp + bounds.window
        if is_timely and not (operation == "create" and _is_remembered(state, variant)):
            accepted = (*state.accepted, (epoch, state.clock))
            yield f"the venue accepts the message of epoch {epoch}", gone._replace(accepted=accepted)


def _is_remembered(state: State, variant: Variant) -> bool:
    """True when the venue still knows the link id, which is the same for every owner."""
    if variant.remembers is None:
        return False
    return any(variant.remembers < 0 or state.clock - when <= variant.remembers for _, when in state.accepted)


def _owner_steps(
    owner: Owner, state: State, variant: Variant, operation: Operation, bounds: Bounds
) -> Iterator[tuple[str, Owner, State]]:
    begin: Place = "stamp" if variant.permits else "check"
    match owner.at:
        case "idle":
            epoch = state.epoch + 1
            yield from _take_over(owner._replace(epoch=epoch), state._replace(epoch=epoch), variant, bounds)
        case "read":
            ends = [stamp + bounds.window for epoch, stamp in state.permits if epoch < owner.epoch]
            margin = bounds.lag if variant.margin else 0
            until = max(ends) + margin if ends else -1
            yield "reads the permits", owner._replace(at="wait", until=until), state
        case "wait":
            clock = state.clock + (AHEAD if variant.host_clock else 0)
            if clock > owner.until:
                yield "has waited", owner._replace(at="look" if operation == "create" else begin), state
        case "look":
            if state.accepted:
                yield "finds the order", owner._replace(at="adopted"), state
            if not any(state.clock - when >= bounds.lag for _, when in state.accepted):
                yield "finds no order", owner._replace(at=begin), state
        case "check":
            at: Place = "stamp" if state.epoch == owner.epoch else "frozen"
            yield "checks its lease", owner._replace(at=at), state
        case "stamp":
            for ahead in (0, AHEAD):
                stamped = owner._replace(at="permit" if variant.permits else "send", stamp=state.clock + ahead)
                yield f"stamps {stamped.stamp}", stamped, state
        case "permit":
            yield from _ask_for_permit(owner, state, variant)
        case "commit":
            permits = state.permits | {(owner.epoch, owner.stamp)}
            yield "commits its permit", owner._replace(at="send"), state._replace(permits=permits)
        case "send":
            stamps = {owner.stamp} if not variant.restamps else {state.clock, state.clock + AHEAD}
            for stamp in stamps:
                flying = state.flying | {(owner.epoch, stamp)}
                yield f"sends with timestamp {stamp}", owner._replace(at="done"), state._replace(flying=flying)


def _take_over(owner: Owner, state: State, variant: Variant, bounds: Bounds) -> Iterator[tuple[str, Owner, State]]:
    if variant.waits == "for the permits":
        yield f"takes over as epoch {owner.epoch}", owner._replace(at="read"), state
    elif variant.waits == "after the takeover" and owner.epoch > 1:
        until = state.clock + bounds.window + bounds.lag
        yield f"takes over as epoch {owner.epoch}", owner._replace(at="wait", until=until), state
    else:
        yield f"takes over as epoch {owner.epoch}", owner._replace(at="wait"), state


def _ask_for_permit(owner: Owner, state: State, variant: Variant) -> Iterator[tuple[str, Owner, State]]:
    if state.epoch != owner.epoch:
        yield "is refused a permit", owner._replace(at="frozen"), state
    elif variant.fenced:
        permits = state.permits | {(owner.epoch, owner.stamp)}
        yield "is given a permit", owner._replace(at="send"), state._replace(permits=permits)
    else:
        yield "finds its epoch current", owner._replace(at="commit"), state


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels: list[str] = []
    origin = came_from[state]
    while origin is not None:
        before, label = origin
        labels.append(label)
        origin = came_from[before]
    return tuple(reversed(labels))
