"""What one broker believes, guarded by one lock: facts in, events out to the bus's queue.

`absorb` decides under the lock (microseconds, no I/O) and only queues; whoever called it delivers afterwards with
`bus.deliver()`, holding nothing. `wait` watches this state, never the delivery of events, so a slow handler cannot make
it lie.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

import attrs

from qkt.bus import EventBus
from qkt.clock import Clock
from qkt.errors import InvalidRequestError, QktError, WaitTimeoutError
from qkt.events import BrokerEvent
from qkt.health import HealthEpisodes
from qkt.ids import nonce_of, run_nonce, was_issued_here
from qkt.model.checks import is_crossed
from qkt.model.executions import Execution
from qkt.model.orders import OrderView
from qkt.model.reports import OrderReport, VenueStatus
from qkt.orders.facts import AnyFact, ExecutionReported, OrderReported, SubmitIntended, SubmitWithdrawn
from qkt.orders.ledger import Change, Ledger
from qkt.orders.order import AuditEntry, Order

log = logging.getLogger(__name__)

T = TypeVar("T")

_CHANGES_KEPT = 10_000

# the lock is let go between handfuls of a long read, so that a frame or a submit waits for milliseconds at most
_FACTS_PER_LOCK = 100


class BrokerState:
    """A ledger, its lock, and the broker's episodes of ill health.

    ``source`` is the broker's name in events and alarms. Safe from any thread.
    """

    def __init__(self, *, source: str, bus: EventBus, clock: Clock) -> None:
        self.source = source
        self.bus = bus
        self._clock = clock
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._ledger = Ledger()
        self._episodes = HealthEpisodes(source)
        self._journal: deque[Change] = deque(maxlen=_CHANGES_KEPT)
        self._started_ms: int | None = None
        self._is_closed = False
        bus.attach(self)

    # -- writing -----------------------------------------------------------------------------------------------------

    def absorb(self, facts: Iterable[AnyFact]) -> list[Change]:
        """Learn facts and queue what they cause. Call ``bus.deliver()`` afterwards, holding no lock.

        A fact that cannot be taken in, which would be a fault of qkt's own, costs neither its neighbours nor the
        stream: it is logged, and told as `HealthDegraded` in the domain ``internal``.
        """
        changes: list[Change] = []
        waiting = iter(facts)
        while some := list(islice(waiting, _FACTS_PER_LOCK)):
            with self._lock:
                if self._is_closed:
                    return []
                for fact in some:
                    try:
                        changes.extend(self._absorb_one(fact))
                    except Exception as error:
                        log.exception("fact not absorbed source=%s fact=%s", self.source, type(fact).__name__)
                        self.degrade("internal", f"a {type(fact).__name__} could not be absorbed: {error!r}")
                self._changed.notify_all()
        for change in changes:
            _warn_of_unknown_words(change)
        return changes

    def _absorb_one(self, fact: AnyFact) -> list[Change]:
        """The events of a change are queued before anything else can go wrong with it."""
        changes = self._ledger.apply(fact)
        news = [change for change in changes if change.is_news or change.events]
        self._journal.extend(news)
        self._queue([event for change in news for event in change.events])
        self._queue([alarm for change in news for alarm in self._alarms(change)])
        return changes

    def begin_submit(self, fact: SubmitIntended) -> None:
        """Record an order before it is sent; raises InvalidRequestError for a reused id or a closed broker."""
        with self._lock:
            self.check_open()
            self._journal.extend(self._ledger.apply(fact))

    def begin_submits(self, facts: Sequence[SubmitIntended]) -> None:
        """`begin_submit`, for several: all are recorded, or it raises and none is."""
        with self._lock:
            self.check_open()
            changes: list[Change] = []
            for number, fact in enumerate(facts):
                try:
                    changes.extend(self._ledger.apply(fact))
                except InvalidRequestError:
                    for begun in facts[:number]:
                        self._ledger.apply(SubmitWithdrawn(client_order_id=begun.client_order_id))
                    raise
            self._journal.extend(changes)

    def publish(self, events: list[BrokerEvent]) -> None:
        """Queue events that are not about one order; deliver afterwards."""
        with self._lock:
            if not self._is_closed:
                self._queue(events)

    def degrade(self, domain: str, reason: str) -> None:
        """Begin an episode of ill health, unless one is open; deliver afterwards."""
        with self._lock:
            self.publish(self._episodes.degrade(domain, reason, self._clock.now_ms()))

    def restore(self, domain: str) -> None:
        """End an episode, if one is open; deliver afterwards."""
        with self._lock:
            self.publish(self._episodes.restore(domain, self._clock.now_ms()))

    def started(self, venue_ms: int) -> None:
        """The first round is over: an order placed later by another run is an intruder's."""
        with self._lock:
            self._started_ms = venue_ms

    def close(self, *, drain_ms: int = 1_000) -> int:
        """Stop: nothing is absorbed any more, waiting callers are let go. Returns the events left undelivered."""
        with self._lock:
            self._is_closed = True
            self._changed.notify_all()
        return self.bus.detach(self, drain_ms=drain_ms)

    def _queue(self, events: list[BrokerEvent]) -> None:
        now_ms = self._clock.now_ms()
        self.bus.enqueue([attrs.evolve(event, timestamp=now_ms) for event in events], source=self)

    def _alarms(self, change: Change) -> list[BrokerEvent]:
        """What a person should look at."""
        before, after = change.before, change.after
        at_ms = change.fact.at_ms
        who = after.client_order_id or after.broker_order_id
        alarms: list[BrokerEvent] = []
        if change.is_resurrection and before is not None and before.terminal is not None:
            alarms.append(self._episodes.alarm("resurrected", f"{who} was taken for {before.terminal.reason}", at_ms))
        if (
            after.is_terminal_published
            and after.missing_quantity
            and not (before is not None and before.is_terminal_published)
        ):
            reason = f"{who} ended with {after.missing_quantity} reported as executed and never shown"
            alarms.append(self._episodes.alarm("executions", reason, at_ms))
        if isinstance(change.fact, ExecutionReported) and change.events and change.fact.execution.is_forced:
            execution = change.fact.execution
            reason = f"{execution.exec_type} of {execution.quantity} {execution.symbol} @ {execution.price}"
            alarms.append(self._episodes.alarm("positions", reason, at_ms))
        if before is not None and isinstance(change.fact, OrderReported) and _was_crossed(before, change.fact.report):
            reason = (
                f"the market moved past the trigger {before.terms.stop_price} of {who} on the way, to "
                f"{change.fact.report.last_price_on_created}: the venue takes it for an order that waits for the "
                "opposite move; cancel it"
            )
            alarms.append(self._episodes.alarm("triggers", reason, at_ms))
        if before is None and after.external and self._is_from_foreign_run(after, change.fact):
            alarms.append(self._episodes.alarm("split_brain", f"{who} was placed by another qkt process", at_ms))
        return alarms

    def _is_from_foreign_run(self, order: Order, fact: AnyFact) -> bool:
        """An order that another run of qkt placed while we run, or one with our nonce that nobody here sent (S57)."""
        nonce = nonce_of(order.client_order_id)
        if nonce is None:
            return False
        if nonce == run_nonce():
            return not was_issued_here(order.client_order_id)
        placed_ms = fact.report.created_ms if isinstance(fact, OrderReported) else order.created_ms
        return self._started_ms is not None and placed_ms > self._started_ms

    # -- reading -----------------------------------------------------------------------------------------------------

    def ask(self, question: Callable[[Ledger], T]) -> T:
        """Answer a question about the ledger under the lock; the answer must not hold on to the ledger."""
        with self._lock:
            return question(self._ledger)

    def take_changes(self) -> list[Change]:
        """The changes since the last call, whoever caused them."""
        with self._lock:
            changes = list(self._journal)
            self._journal.clear()
            return changes

    @property
    def is_closed(self) -> bool:
        """True once `close` was called."""
        return self._is_closed

    def check_open(self) -> None:
        """Raise when the broker was closed."""
        if self._is_closed:
            raise InvalidRequestError(f"{self.source} is closed; build a new broker")

    @property
    def degraded(self) -> dict[str, str]:
        """Domain -> reason of every open episode."""
        with self._lock:
            return dict(self._episodes.reasons)

    def order(self, client_order_id: str | None, broker_order_id: str | None = None) -> Order:
        """The order with this id; raises InvalidRequestError when there is none."""
        with self._lock:
            order = self._ledger.get(client_order_id, broker_order_id)
        if order is None:
            asked = client_order_id if client_order_id is not None else broker_order_id
            raise InvalidRequestError(
                f"{self.source} knows no order {asked!r}: check the id, or whether it closed longer ago than "
                "retain_closed_ms"
            )
        return order

    def fills(self, client_order_id: str | None, broker_order_id: str | None = None) -> tuple[Execution, ...]:
        """An order's executions, oldest first."""
        order = self.order(client_order_id, broker_order_id)
        return tuple(sorted(order.fills.values(), key=lambda fill: fill.trading_order))

    def audit(self, client_order_id: str | None, broker_order_id: str | None = None) -> tuple[AuditEntry, ...]:
        """What changed an order and when qkt learnt it."""
        self.order(client_order_id, broker_order_id)
        with self._lock:
            return self._ledger.audit(client_order_id, broker_order_id)

    def open_orders(self) -> list[OrderView]:
        """Every order not known to have ended."""
        with self._lock:
            return [order.view() for order in self._ledger.open_orders()]

    def unresolved(self) -> tuple[str, ...]:
        """The orders nobody can speak for."""
        with self._lock:
            return tuple(
                order.client_order_id or order.broker_order_id
                for order in self._ledger.open_orders()
                if order.is_unresolved
            )

    def wait(
        self,
        client_order_id: str | None,
        broker_order_id: str | None,
        until: str | Callable[[OrderView], bool],
        timeout_ms: int,
    ) -> OrderView:
        """Block until the order reaches a state; returns its view, raises WaitTimeoutError with the view otherwise."""
        reached = _goal(until)
        order = self.order(client_order_id, broker_order_id)
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            with self._lock:
                order = self._ledger.get(client_order_id, broker_order_id) or order
                seen, is_closed = self._ledger.revision, self._is_closed
            if reached(order):  # outside the lock: it may be the user's own function
                return order.view()
            if is_closed:
                raise QktError(f"{self.source} was closed while waiting for {client_order_id or broker_order_id}")
            with self._changed:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    break
                if self._ledger.revision == seen and not self._is_closed:
                    self._changed.wait(left_s)
        view = order.view()
        raise WaitTimeoutError(
            f"{client_order_id or broker_order_id} did not become {until!r} within {timeout_ms} ms; it is "
            f"{view.status.value}" + (f" ({view.reason})" if view.reason else ""),
            view=view,
        )


def _warn_of_unknown_words(change: Change) -> None:
    """The venue's list of statuses grows: a word we were not taught is kept raw, asked about, and said once (S77)."""
    before, after = change.before, change.after
    if after.status is VenueStatus.UNKNOWN and (before is None or before.venue_status != after.venue_status):
        log.warning(
            "order status unknown to qkt status=%s client_order_id=%s broker_order_id=%s",
            after.venue_status,
            after.client_order_id,
            after.broker_order_id,
        )


def _was_crossed(before: Order, report: OrderReport) -> bool:
    """The first row of our own conditional order on a venue without a direction field tells which way it waits."""
    trigger, last_price = before.terms.stop_price, report.last_price_on_created
    if before.external or before.side is None or before.terms.updated_ms:
        return False
    if trigger is None or last_price is None or report.stop_price != trigger:
        return False
    return is_crossed(before.order_type, before.side, trigger, last_price)


def _goal(until: str | Callable[[OrderView], bool]) -> Callable[[Order], bool]:
    if callable(until):
        return lambda order: until(order.view())
    if until not in _GOALS:
        raise InvalidRequestError(f"until must be one of {', '.join(map(repr, _GOALS))} or a function; got {until!r}")
    return _GOALS[until]


_GOALS: dict[str, Callable[[Order], bool]] = {
    "accepted": lambda order: order.has_evidence or order.terminal is not None,
    "resolved": lambda order: order.is_acknowledged or order.has_evidence or order.terminal is not None,
    "closed": lambda order: order.is_terminal_published,
}
