"""Every schedule of a history, as a graph of states.

A schedule is an order in which the steps happen, with messages repeated or left out and with rounds in between. There
are far too many to run one by one; but what the bot will do depends only on what it knows, what it has told and what
can still happen. So the graph has one state for each such triple, every edge is run once through the real code (the
ledger behind a real `BrokerState`, rounds by the real `BybitStateRecovery`), and every edge is held to law 3.

From every state: any step that its causes allow, any delivered message once more (a duplicate must tell nothing and
lead nowhere), a complete round, and a complete round in the middle of whose reading any step happens (the open orders
were read before it, the executions after it). Where the history is over, whatever was not delivered is lost: complete
rounds must then reach the venue's truth, and quiet ones after them tell nothing but balances.
"""

from __future__ import annotations

import copy
import enum
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import attrs

from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.bybit.recovery import BybitStateRecovery
from qkt.events import BalancesUpdated, BrokerEvent
from qkt.orders.facts import SubmitAcknowledged
from qkt.orders.ledger import Ledger
from qkt.testing import FakeBybitClient, FixedClock
from tests.proof.histories import NOW, History
from tests.proof.law import ACCEPTED, Told, Violation, check_end, learn
from tests.proof.model_venue import REALTIME, ModelVenue

QUIET_ROUNDS = 2


class Rounds(enum.Enum):
    """How rounds mix with the steps of a history."""

    AT_THE_END = "only at the end"
    BETWEEN = "between any two steps"
    TORN = "between any two steps, and with any step in the middle of one"


@attrs.frozen(kw_only=True)
class Result:
    """What was walked.

    ``states`` of the graph, ``beliefs`` among them that differ in what is known or told, ``edges`` run through the
    product, ``ends`` taken to complete and quiet rounds, and the ``schedules`` they all stand for (counted without the
    rounds in between, which have no bound).
    """

    name: str
    rounds: Rounds
    states: int
    beliefs: int
    edges: int
    schedules: int
    ends: int

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.states:,} states ({self.beliefs:,} beliefs, {self.edges:,} edges run, "
            f"{self.ends:,} ends) stand for {self.schedules:.3g} schedules, rounds {self.rounds.value}"
        )


class Heard(EventBus):
    """A bus that keeps what is queued and delivers to nobody."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock)
        self.events: list[BrokerEvent] = []  # type: ignore[assignment]

    def enqueue(self, events: Any, *, source: Any = None) -> None:
        self.events.extend(events)

    def take(self) -> list[BrokerEvent]:
        events, self.events = self.events, []
        return events


class _DirectClient(FakeBybitClient):
    """Reads go straight to the model venue: a hundred thousand rounds are read here."""

    def __init__(self, venue: ModelVenue) -> None:
        super().__init__()
        venue.wire(self)

    def get_signed(self, path: Any, query: Any) -> Any:
        response = self.responses[path]
        return response(query) if callable(response) else response


@attrs.frozen(eq=False)
class Belief:
    """A ledger as it is at one state, and what has been told by then."""

    number: int
    ledger: Ledger
    told: Told


class World:
    """The real state and the real recovery on a model venue, put at any belief and moment we like."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.clock = FixedClock(NOW)
        self.venue = ModelVenue(history.moments, page_size=history.page_size)
        self.client = _DirectClient(self.venue)
        self.bus = Heard(self.clock)
        self.state = BrokerState(source="BYBIT_SPOT", bus=self.bus, clock=self.clock)
        self.recovery = BybitStateRecovery(self.client, self.state, category="spot", clock=self.clock)
        assert self.recovery.reconcile("construction").ok
        self._recovery_at_start = _copied(vars(self.recovery))
        self._lookups_at_start = _copied(vars(self.recovery.lookups))
        self._numbers: dict[object, int] = {}
        self._names: dict[object, int] = {}
        self._beliefs: dict[object, Belief] = {}
        self.start = self._belief(self.state._ledger, Told())
        self.edges = 0

    # -- moving ------------------------------------------------------------------------------------------------------

    def put(self, belief: Belief, moment: int, clock_ms: int) -> None:
        """Believe this, at that moment of the venue."""
        self.state._ledger = copied(belief.ledger)
        self.state._journal.clear()
        vars(self.recovery).update(_copied(self._recovery_at_start))
        vars(self.recovery.lookups).update(_copied(self._lookups_at_start))
        self.venue.now = moment
        self.venue.on_read = lambda path, query: None
        self.venue.asked.clear()
        self.clock.step_wall_ms(clock_ms - self.clock.now_ms())
        self.bus.take()

    def learn(self, belief: Belief, facts: Any) -> Belief:
        """Deliver facts."""
        self.put(belief, self.venue.now, self.clock.now_ms())
        self.edges += 1
        self.state.absorb(facts)
        return self.heard(belief)

    def round(self, belief: Belief, moment: int, clock_ms: int, *, during: Any = None) -> Belief:
        """A complete round; ``during`` happens after the plain open orders were read."""
        self.put(belief, moment, clock_ms)
        self.edges += 1
        too_young: set[str] = set()
        if during is not None:
            self.venue.on_read = self._once_plain_orders_are_read(during)
            known = {order.broker_order_id for order in belief.ledger}
            acknowledged = (fact.broker_order_id for fact in during.facts if isinstance(fact, SubmitAcknowledged))
            too_young = set(acknowledged) - known
        report = self.recovery.reconcile("proof")
        if not report.ok:
            raise Violation(f"a round over a healthy venue is not ok:\n{report}")
        if young := too_young.intersection(self.venue.asked):
            raise Violation(f"asked for {young}, which the bot did not know before the snapshot was taken (S24)")
        return self.heard(belief)

    def _once_plain_orders_are_read(self, during: Any) -> Any:
        """``during`` happens before the conditional orders, and then the executions, are read."""

        def happens(path: Any, query: Any) -> None:
            if path == REALTIME and query.get("orderFilter"):
                self.venue.on_read = lambda path, query: None
                if during.moment is not None:
                    self.venue.now = during.moment
                self.state.absorb(during.facts)

        return happens

    def heard(self, belief: Belief) -> Belief:
        told = learn(belief.told, self.bus.take(), self.history)
        return self._belief(self.state._ledger, told)

    def end(self, belief: Belief, moment: int, clock_ms: int) -> Belief:
        """Whatever was not delivered is lost; complete rounds follow, then quiet ones."""
        for wait_ms in self.history.settle_ms:
            clock_ms += wait_ms
            belief = self.round(belief, moment, clock_ms)
        check_end(belief.ledger, belief.told, self.history, moment)
        quiet = belief
        for _ in range(QUIET_ROUNDS):
            clock_ms += 30_000
            self.put(quiet, moment, clock_ms)
            self.recovery.reconcile("quiet")
            loud = [event for event in self.bus.events if not isinstance(event, BalancesUpdated)]
            if loud:
                raise Violation(f"a quiet round told {loud}")
            quiet = self.heard(quiet)
        return belief

    # -- naming states -----------------------------------------------------------------------------------------------

    def _belief(self, ledger: Ledger, told: Told) -> Belief:
        key = (self._ledger_key(ledger), told)
        known = self._beliefs.get(key)
        if known is None:
            known = self._beliefs[key] = Belief(len(self._beliefs), ledger, told)
        return known

    def _ledger_key(self, ledger: Ledger) -> tuple[Any, ...]:
        orders = frozenset(
            (
                self._number(_order_key(order)),
                key in ledger._unnamed,
                key in ledger._unsettled,
                key in ledger._due_cancels,
            )
            for key, order in ledger._orders.items()
        )
        deferred = tuple(sorted(self._number(repr(fact)) for fact in ledger._deferred))
        return orders, deferred

    def _number(self, value: Any) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    @property
    def beliefs(self) -> int:
        return len(self._beliefs)


def seen_by_the_user(belief: Belief, history: History) -> object:
    """Views, fills and what was told at an end, but for when qkt's clock learnt them and for notes of requests."""
    orders = []
    for order in belief.ledger:
        name = history.names.get(order.broker_order_id) or history.names[order.client_order_id]
        if name == "old":
            continue
        view = attrs.asdict(order.view(), filter=lambda field, _: field.name not in ("updated_ms", "created_ms"))
        core = frozenset(w for w in belief.told.words(name) if w.startswith(("fill", "terminal")) or w == ACCEPTED)
        orders.append((name, repr(view), frozenset(order.fills.items()), core))
    return tuple(sorted(orders, key=lambda order: order[0]))


def copied(ledger: Ledger) -> Ledger:
    """The same knowledge, learning on its own."""
    twin = Ledger()
    vars(twin).update(_copied(vars(ledger)))
    return twin


def _copied(fields: dict[str, Any]) -> dict:  # type: ignore[type-arg]
    """Books and stores are copied, what lies in them is frozen; audits stay behind, nothing is decided by them."""
    return {name: {} if name == "_audits" else _copy(value) for name, value in fields.items()}


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: dict(inner) if isinstance(inner, dict) else inner for name, inner in value.items()}
    if isinstance(value, set | list | deque):
        return copy.copy(value)
    if type(value).__module__.startswith("qkt.orders") and not attrs.has(type(value)):
        twin = copy.copy(value)
        vars(twin).update(_copied(vars(value)))
        return twin
    return value


_ORDER_FIELDS: tuple[str, ...] = ()


def _order_key(order: Any) -> tuple[Any, ...]:
    """All that is known of an order but when qkt's clock learnt it; the order of its fills is no knowledge."""
    return tuple(
        frozenset(value) if name == "fills" else value
        for name, value in zip(_field_names(type(order)), attrs.astuple(order, recurse=False), strict=True)
        if name != "updated_ms"
    )


def _field_names(cls) -> tuple[str, ...]:  # type: ignore[no-untyped-def]
    global _ORDER_FIELDS
    if not _ORDER_FIELDS:
        _ORDER_FIELDS = tuple(field.name for field in attrs.fields(cls))
    return _ORDER_FIELDS


# -- the walk ---------------------------------------------------------------------------------------------------------


class Walk:
    """All schedules of one history.

    ``rounds``: whether rounds may come in between, and whether steps may happen in the middle of one.
    """

    def __init__(self, history: History, *, rounds: Rounds = Rounds.TORN) -> None:
        self.history = history
        self.world = World(history)
        self.steps = history.steps
        bit = {step.name: 1 << index for index, step in enumerate(self.steps)}
        self._after = [sum(bit[name] for name in step.after) for step in self.steps]
        self._before = [sum(bit[name] for name in step.before) for step in self.steps]
        self._must = sum(bit[step.name] for step in self.steps if step.must_happen)
        self._rounds = rounds
        self._memo: dict[object, Belief] = {}

    def run(self) -> Result:
        world = self.world
        first = (0, world.start)
        came: dict[tuple[int, Belief], tuple[tuple[int, Belief] | None, str]] = {first: (None, "")}
        queue = deque([first])
        ends: dict[int, dict[object, Belief]] = {}
        while queue:
            here = queue.popleft()
            done, belief = here
            label = ""
            try:
                for label, target in self._edges(done, belief):
                    if target not in came:
                        came[target] = (here, label)
                        queue.append(target)
                if done & self._must == self._must:
                    label = "the end"
                    moment, clock_ms = self._when(done)
                    end = self._run_once(("end", belief, moment, clock_ms), world.end, belief, moment, clock_ms)
                    alike = ends.setdefault(moment, {})
                    alike[seen_by_the_user(end, self.history)] = end
                    if len(alike) > 1:
                        raise Violation("\n  ".join(["the end depends on the schedule:", *map(str, alike)]))
            except Violation as broken:
                raise Violation(
                    f"{self.history.name}: {broken}\n  after: {_story(came, here)}, then {broken.edge or label}"
                ) from None
        return Result(
            name=self.history.name,
            rounds=self._rounds,
            states=len(came),
            beliefs=world.beliefs,
            edges=world.edges,
            schedules=self.count_schedules(),
            ends=sum(key[0] == "end" for key in self._memo),  # type: ignore[index]
        )

    def _edges(self, done: int, belief: Belief) -> Iterable[tuple[str, tuple[int, Belief]]]:
        moment, clock_ms = self._when(done)
        world = self.world
        for index, step in enumerate(self.steps):
            if done >> index & 1:
                if step.may_repeat:
                    again = self._act(f"{step.name} (again)", ("learn", belief, index), world.learn, belief, step.facts)
                    yield f"{step.name} (again)", (done, again)
                continue
            if not self._may(index, done):
                continue
            then = belief
            if step.facts:
                then = self._act(step.name, ("learn", belief, index), world.learn, belief, step.facts)
            yield step.name, (done | 1 << index, then)
            if self._rounds is Rounds.TORN and step.clock_ms is None:
                label = f"a round during which: {step.name}"
                key = ("round", belief, moment, clock_ms, index)
                then = self._act(label, key, world.round, belief, moment, clock_ms, during=step)
                yield label, (done | 1 << index, then)
        if self._rounds is not Rounds.AT_THE_END:
            key = ("round", belief, moment, clock_ms)  # type: ignore[assignment]
            yield "a round", (done, self._act("a round", key, world.round, belief, moment, clock_ms))

    def _act(self, label: Any, key: Any, action: Any, *args: Any, **more: Any) -> Belief:
        try:
            return self._run_once(key, action, *args, **more)
        except Violation as broken:
            broken.edge = label
            raise

    def _run_once(self, key: Any, action: Any, *args: Any, **more: Any) -> Belief:
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = action(*args, **more)
        return found

    def _may(self, index: int, done: int) -> bool:
        return done & self._after[index] == self._after[index] and not done & self._before[index]

    def _when(self, done: int) -> tuple[int, int]:
        """The venue's moment and the time after these steps."""
        happened = [step for index, step in enumerate(self.steps) if done >> index & 1]
        moment = max((step.moment for step in happened if step.moment is not None), default=0)
        return moment, max((step.clock_ms for step in happened if step.clock_ms is not None), default=NOW)

    # -- counting ----------------------------------------------------------------------------------------------------

    def count_schedules(self) -> int:
        """How many different sequences: each message delivered, repeated once at any later time, or left out.

        Rounds in between are not counted (with them there is no bound); each schedule ends with the complete ones.
        """
        memo: dict[tuple[int, int], int] = {}
        steps = range(len(self.steps))

        def ways(done: int, again: int) -> int:
            key = (done, again)
            if key not in memo:
                total = int(done & self._must == self._must)
                for index in steps:
                    bit = 1 << index
                    if not done & bit:
                        if self._may(index, done):
                            total += ways(done | bit, again)
                    elif self.steps[index].may_repeat and not again & bit:
                        total += ways(done, again | bit)
                memo[key] = total
            return memo[key]

        return ways(0, 0)


def _story(came: Any, here: Any) -> str:
    labels = []
    while here is not None:
        here, label = came[here]
        labels.append(label)
    return ", ".join(reversed(labels[:-1])) or "the start"


@cache
def walked(make: Callable[[], History], rounds: Rounds) -> Result:
    """Walk a history, once for all who ask; never with a mistake planted."""
    return Walk(make(), rounds=rounds).run()
