"""What one broker believes, guarded by one lock: facts in, events out to the bus's queue.

`absorb` decides under the lock (microseconds, no I/O) and only queues; its caller delivers afterwards with
`bus.deliver()`, holding nothing. `wait` watches this state, never the delivery of events, so a slow handler cannot make
it lie.
"""

from __future__ import annotations

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Protocol, TypeVar

from qkt.broker import order_log
from qkt.broker.state_observer import ObservedOperation, StateObserver
from qkt.clock import Clock
from qkt.errors import InvalidRequestError, QktError, WaitTimeoutError
from qkt.events import BrokerEvent, HealthDegraded, HealthRestored, OrderEvent, set_account, set_source, set_timestamp
from qkt.health import Alarm, HealthEpisodes
from qkt.ids import nonce_of, run_nonce, was_issued_here
from qkt.model.checks import is_crossed
from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import OrderView
from qkt.orders.facts import (
    AnyFact,
    CancelUnanswered,
    ExecutionReported,
    ModifyUnanswered,
    OrderReported,
    SubmitIntended,
    SubmitUnanswered,
    SubmitWithdrawn,
)
from qkt.orders.ledger import Change, Commit, Ledger
from qkt.orders.order import AuditEntry, Order

log: logging.Logger = logging.getLogger(__name__)
audit_log: logging.Logger = logging.getLogger(order_log.LOGGER)

T = TypeVar("T")

QUEUE_ALARM = 10_000
_CHANGES_KEPT = 10_000
_REASON_LENGTH = 500

# the lock is let go between chunks of a long read, so that a frame or a submit waits for milliseconds at most
_FACTS_PER_LOCK = 100


class StateBus(Protocol):
    """What a `BrokerState` needs of a bus: an `EventBus`, or one that does something with events before it has them."""

    @property
    def queue_depth(self) -> int: ...

    def attach(self, source: object) -> None: ...

    def detach(self, source: object, *, drain_ms: int = 1_000) -> int: ...

    def enqueue(self, events: Sequence[BrokerEvent], *, source: object = None) -> None: ...

    def deliver(self) -> None: ...


class _Transaction:
    """Everything one step changes, decided; written by `BrokerState._finish`, as often as it takes."""

    __slots__ = ("commits", "episodes", "events", "notable")

    def __init__(
        self,
        commits: Sequence[Commit] = (),
        events: Sequence[BrokerEvent] = (),
        notable: Sequence[tuple[int, Change]] = (),
        episodes: HealthEpisodes | None = None,
    ) -> None:
        self.commits = commits
        self.events = events
        self.notable = notable
        self.episodes = episodes


class BrokerState:
    """A ledger, its lock, and the broker's episodes of ill health.

    ``source`` is the broker's name in events and alarms; ``owner`` marks the orders of earlier runs that are ours. Safe
    from any thread.

    Each change is all or nothing: it is computed first, and storing it in `_pending` decides it. Writing it to the
    books and queueing its events has the same effect when it is repeated, and the next call that takes the lock
    completes what an interrupt (Ctrl-C on the main thread) broke off.
    """

    def __init__(
        self,
        *,
        source: str,
        bus: StateBus,
        clock: Clock,
        owner: str | None = None,
        is_ours: Callable[[str], bool] | None = None,
        account: str = "",
    ) -> None:
        self.source = source
        self.account: str = account
        self.bus = bus
        self._clock = clock
        # Reentrant, since a signal handler or a finalizer may ask the broker while its thread is inside.
        self._lock = threading.RLock()
        self._ledger = Ledger(owner, is_ours)
        self._episodes = HealthEpisodes(source)
        self._pending: _Transaction | None = None
        self._journal: dict[int, Change] = {}  # notable changes since the last round, by revision
        self._waiters: dict[int, list[_Waiter]] = {}  # by the key of the order they wait for
        self._held_since: dict[int, int] = {}  # ends that wait for executions: key -> monotonic time
        self._started_ms: int | None = None
        self._is_closed = False
        self._unlogged_health: deque[HealthDegraded | HealthRestored] = deque()
        self._observed: ObservedOperation | None = None
        bus.attach(self)

    def observe(self, observer: StateObserver) -> None:
        """Tell an observer of every operation from now on; call it before the first."""
        with self._lock:
            self._observed = ObservedOperation(observer)

    def absorb(self, facts: Iterable[AnyFact]) -> list[Change]:
        """Learn facts and queue what they cause. Call ``bus.deliver()`` afterwards, holding no lock.

        A fact that cannot be taken in, which would be a fault of qkt's own, changes nothing and costs neither its
        neighbours nor the stream: it is logged, and told as `HealthDegraded` in the domain ``internal``.
        """
        changes: list[Change] = []
        withdrawn: list[SubmitWithdrawn] = []
        waiting = iter(facts)
        while some := list(islice(waiting, _FACTS_PER_LOCK)):
            with self._lock:
                self._finish()
                if self._is_closed:
                    return []
                before = len(changes)
                for fact in some:
                    self._absorb_one(fact, changes)
                    if isinstance(fact, SubmitWithdrawn):
                        withdrawn.append(fact)
                self._ledger.compress_settled()
                self._judge_queue()
                if self._observed is not None:
                    self._observed.end("absorb", some, changes[before:])
        self._write_log(changes, withdrawn)
        return changes

    def _absorb_one(self, fact: AnyFact, changes: list[Change]) -> None:
        try:
            self._apply(self._ledger.prepare(fact), changes)
            while (commit := self._ledger.prepare_released()) is not None:
                self._apply(commit, changes)
        except Exception as error:
            self._pending = None
            self._ledger.drop_released()
            log.exception("fact not absorbed source=%s fact=%s", self.source, type(fact).__name__)
            self._degrade("internal", f"a {type(fact).__name__} could not be absorbed: {bounded(repr(error))}")

    def _apply(self, commit: Commit, changes: list[Change]) -> None:
        """Write one commit together with its events and alarms."""
        change = commit.change
        if change is None or not (commit.is_stored or change.events):
            self._write(_Transaction((commit,)))
            if change is not None:
                changes.append(change)
            return
        events: list[BrokerEvent] = [*change.events, *self._alarms_of(change)]
        if events:
            self._stamp(events)
        notable = ((commit.revision, change),) if _is_notable(change) else ()
        self._write(_Transaction((commit,), events, notable))
        changes.append(change)
        if change.after.status is VenueStatus.UNKNOWN:
            _warn_of_unknown_words(change)

    def _write(self, transaction: _Transaction) -> None:
        self._pending = transaction  # the one store that decides: from here on it happens, whole
        self._finish()

    def _finish(self) -> None:
        """Write the pending transaction, also one that was interrupted; the caller holds the lock."""
        pending = self._pending
        if pending is None:
            return
        for commit in pending.commits:
            self._ledger.commit(commit)
            if commit.change is not None and commit.change.after.terminal is not None:
                self._note_held(commit.key, commit.change.after)
            if self._waiters:
                self._wake(commit)
        if pending.episodes is not None:
            self._episodes = pending.episodes
        for revision, change in pending.notable:
            self._journal[revision] = change
            while len(self._journal) > _CHANGES_KEPT:
                del self._journal[next(iter(self._journal))]
        if pending.events:
            self.bus.enqueue(pending.events, source=self)
            if self._observed is not None:
                self._observed.caused(pending.events)
            for event in pending.events:
                if isinstance(event, HealthDegraded | HealthRestored):
                    self._unlogged_health.append(event)
        self._pending = None

    def _note_held(self, key: int, order: Order) -> None:
        if order.is_terminal_published:
            self._held_since.pop(key, None)
        else:
            self._held_since.setdefault(key, self._clock.monotonic_ms())

    def held_ms(self, order: Order) -> int:
        """For how long an order's end has waited for its executions, on the monotonic clock; 0 when it does not."""
        with self._lock:
            self._finish()
            key = self._ledger.find(order.client_order_id or None, order.broker_order_id or None)
            since_ms = None if key is None else self._held_since.get(key)
            return 0 if since_ms is None else self._clock.monotonic_ms() - since_ms

    def _wake(self, commit: Commit) -> None:
        for key in (commit.key, commit.forgotten):
            for waiter in self._waiters.get(-1 if key is None else key, ()):
                waiter.wake()

    def _stamp(self, events: Iterable[BrokerEvent]) -> None:
        now_ms = self._now_ms()
        for event in events:
            set_timestamp(event, now_ms)
            if isinstance(event, OrderEvent):
                set_source(event, self.source)
            if self.account and not event.account:
                set_account(event, self.account)

    def _now_ms(self) -> int:
        return self._read(self._clock.now_ms())

    def _read(self, reading: int) -> int:
        """An answer from outside, which the observer is told."""
        return reading if self._observed is None else self._observed.read(reading)

    def begin_submit(self, fact: SubmitIntended) -> None:
        """Record an order before it is sent; raises InvalidRequestError for a reused id or a closed broker."""
        self.begin_submits([fact])

    def begin_submits(self, facts: Sequence[SubmitIntended]) -> None:
        """`begin_submit`, for several: all are recorded, or it raises and none is."""
        with self._lock:
            self._finish()
            self.check_open()
            commits = self._ledger.prepare_submits(facts)
            notable = [(commit.revision, commit.change) for commit in commits if commit.change is not None]
            self._write(_Transaction(commits, notable=notable))
            if self._observed is not None:
                self._observed.end("submit", facts, [change for _, change in notable])
        self._write_log([change for _, change in notable])

    @contextmanager
    def abandoned_on_interrupt(
        self, unanswered: Callable[[BaseException], Iterable[SubmitUnanswered | CancelUnanswered | ModifyUnanswered]]
    ) -> Iterator[None]:
        """`abandon` the facts that ``unanswered`` makes of an interrupt (Ctrl-C) inside the block; it passes on."""
        try:
            yield
        except Exception:
            raise
        except BaseException as interrupt:
            self.abandon(unanswered(interrupt))
            raise

    def abandon(self, facts: Iterable[SubmitUnanswered | CancelUnanswered | ModifyUnanswered]) -> None:
        """Record silence about requests whose sending was broken off by an interrupt, if they have no answer yet.

        They may have left, so they are looked up like every other request without an answer; a request that was not
        recorded before the interrupt did not leave.
        """
        with self._lock:
            self._finish()
            self.absorb([fact for fact in facts if self._is_without_answer(fact)])

    def _is_without_answer(self, fact: SubmitUnanswered | CancelUnanswered | ModifyUnanswered) -> bool:
        order = self._ledger.get(fact.client_order_id or None, fact.broker_order_id or None)
        if order is None or order.terminal is not None:
            return False
        if isinstance(fact, SubmitUnanswered):
            return not order.is_known_to_venue and order.unanswered_submit is None
        intent = order.cancel if fact.request == "cancel" else order.modify
        return intent is not None and not intent.unanswered and not getattr(intent, "is_remembered", False)

    def recall(self, facts: Iterable[AnyFact]) -> None:
        """Learn facts of earlier runs, whose events were told then: nothing is published and no alarm is raised.

        A fact that does not fit what is known already is left out, with a line in the log.
        """
        with self._lock:
            self._finish()
            taken = []
            for fact in facts:
                try:
                    self._recall_one(fact)
                    taken.append(fact)
                except InvalidRequestError as error:
                    log.warning("fact not recalled source=%s fact=%s error=%s", self.source, type(fact).__name__, error)
            if self._observed is not None:
                self._observed.end("recall", taken)

    def _recall_one(self, fact: AnyFact) -> None:
        self._write(_Transaction((self._ledger.prepare(fact),)))
        while (commit := self._ledger.prepare_released()) is not None:
            self._write(_Transaction((commit,)))

    def publish(self, events: list[BrokerEvent]) -> None:
        """Queue new events that are not about one order, which are stamped in place; deliver afterwards."""
        with self._lock:
            self._finish()
            if events and not self._is_closed:
                self._stamp(events)
                self._write(_Transaction(events=events))
                if self._observed is not None:
                    self._observed.end("publish", events)
        self._write_health_log()

    def degrade(self, domain: str, reason: str) -> None:
        """Begin an episode of ill health, unless one is open; deliver afterwards."""
        with self._lock:
            self._degrade(domain, reason)
            if self._observed is not None:
                self._observed.end("degrade", (domain, reason))
        self._write_health_log()

    def _degrade(self, domain: str, reason: str) -> None:
        self._change_health(lambda episodes: episodes.degrade(domain, reason, self._now_ms()))

    def restore(self, domain: str) -> None:
        """End an episode, if one is open; deliver afterwards."""
        with self._lock:
            self._restore(domain)
            if self._observed is not None:
                self._observed.end("restore", (domain,))
        self._write_health_log()

    def _restore(self, domain: str) -> None:
        with self._lock:
            if domain in self._episodes.reasons:
                self._change_health(lambda episodes: episodes.restore(domain, self._now_ms()))

    def _change_health(self, change: Callable[[HealthEpisodes], list[BrokerEvent]]) -> None:
        """Episodes and the events about them change together, as everything here does."""
        with self._lock:
            self._finish()
            episodes = copy.deepcopy(self._episodes)
            events = change(episodes)
            if events and not self._is_closed:
                self._stamp(events)
                self._write(_Transaction(events=events, episodes=episodes))

    def _judge_queue(self) -> None:
        """A handler slower than the venue is told when events pile up, not when a round comes to look (S73)."""
        depth = self._read(self.bus.queue_depth)
        if depth > QUEUE_ALARM:
            if "delivery" not in self._episodes.reasons:
                self._degrade("delivery", f"{depth} events wait: a handler is slower than the venue")
        elif depth * 2 <= QUEUE_ALARM and "delivery" in self._episodes.reasons:
            self._restore("delivery")

    def _write_log(self, changes: Sequence[Change], withdrawn: Sequence[SubmitWithdrawn] = ()) -> None:
        """Write the order audit log and the alarms. Call it without the lock: a log handler may be slow."""
        if (changes or withdrawn) and audit_log.isEnabledFor(logging.INFO):
            try:
                for line in order_log.lines_of(changes, source=self.source, account=self.account):
                    audit_log.info("%s", line)
                for fact in withdrawn:
                    audit_log.info("%s", order_log.withdrawn_line(fact, source=self.source, account=self.account))
            except Exception:  # a fault in a text must not end the reader's thread
                log.exception("order log failed source=%s", self.source)
        if self._unlogged_health:
            self._write_health_log()

    def _write_health_log(self) -> None:
        while self._unlogged_health:
            try:
                event = self._unlogged_health.popleft()
            except IndexError:  # another thread writes it
                return
            if isinstance(event, HealthDegraded):
                log.warning("degraded %s", order_log.health_fields(event))
            else:
                log.info("restored %s", order_log.health_fields(event))

    def started(self, venue_ms: int) -> None:
        """The first round is over: an order placed later by another run comes from a foreign process."""
        with self._lock:
            self._started_ms = venue_ms
            if self._observed is not None:
                self._observed.end("started", (venue_ms,))

    def forget_closed(self, *, closed_before_ms: int, executed_before_ms: int) -> int:
        """Drop settled orders; see `Ledger.forget_closed`."""
        with self._lock:
            dropped = self._ledger.forget_closed(
                closed_before_ms=closed_before_ms, executed_before_ms=executed_before_ms
            )
            if dropped and self._observed is not None:
                self._observed.end("forget", (closed_before_ms, executed_before_ms))
        return dropped

    def close(self, *, drain_ms: int = 1_000) -> int:
        """Stop: nothing is absorbed any more, waiting callers are let go. Returns the events left undelivered."""
        with self._lock:
            self._finish()
            self._is_closed = True
            if self._observed is not None:
                self._observed.end("close", ())
            for waiters in self._waiters.values():
                for waiter in waiters:
                    waiter.wake()
        return self.bus.detach(self, drain_ms=drain_ms)

    def _alarms_of(self, change: Change) -> list[BrokerEvent]:
        """The alarms a change calls for; a failure here must not cost the events of the change."""
        before, after, fact = change.before, change.after, change.fact
        is_plain = (
            before is not None
            and before.is_terminal_published is after.is_terminal_published
            and not (isinstance(fact, ExecutionReported) and fact.execution.is_forced)
            and not (isinstance(fact, OrderReported) and not before.terms.updated_ms)
            and not (before.is_terminal_published and after.terminal is not before.terminal)
        )
        if is_plain:
            return []
        try:
            return self._alarms(change)
        except Exception as error:
            log.exception("alarms not judged source=%s fact=%s", self.source, type(fact).__name__)
            return self._episodes_alarm("internal", f"alarms could not be judged: {bounded(repr(error))}", fact.at_ms)

    def _episodes_alarm(self, domain: str, reason: str, at_ms: int) -> list[BrokerEvent]:
        return [self._episodes.alarm(domain, reason, at_ms)]

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

    def _run_nonce(self) -> str:
        return run_nonce()

    def _is_from_foreign_run(self, order: Order, fact: AnyFact) -> bool:
        """An order that another run of qkt placed while we run, or one with our nonce that was not sent here (S57)."""
        nonce = nonce_of(order.client_order_id)
        if nonce is None:
            return False
        if nonce == self._run_nonce():
            return not self._read(was_issued_here(order.client_order_id))
        placed_ms = fact.report.created_ms if isinstance(fact, OrderReported) else order.created_ms
        return self._started_ms is not None and placed_ms > self._started_ms

    def ask(self, question: Callable[[Ledger], T]) -> T:
        """Answer a question about the ledger under the lock; the answer must not hold on to the ledger."""
        with self._lock:
            self._finish()
            return question(self._ledger)

    def take_changes(self) -> list[Change]:
        """The notable changes since the last call: all but what the stream told in good time."""
        with self._lock:
            self._finish()
            taken, self._journal = self._journal, {}
            return list(taken.values())

    @property
    def is_closed(self) -> bool:
        """True once `close` was called."""
        return self._is_closed

    def check_open(self) -> None:
        """Raise when the broker was closed."""
        if self._is_closed:
            raise InvalidRequestError(f"{self.source} is closed; build a new broker")

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Standing alarms, oldest first."""
        with self._lock:
            return self._episodes.alarms

    def acknowledge_alarms(self) -> tuple[Alarm, ...]:
        """Take down the standing alarms and return them."""
        with self._lock:
            return self._episodes.acknowledge()

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
                f"{self.source} knows no order {asked!r}: check the id. Orders that closed longer ago than "
                "retain_closed_ms, or before this broker was built, are not remembered: lookup(), where the broker has "
                "it, asks the venue about them"
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
        """Ids of the unresolved orders."""
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
        waiter = _Waiter()
        try:
            while True:
                with self._lock:
                    self._finish()
                    order = self._ledger.get(client_order_id, broker_order_id) or order
                    is_closed = self._is_closed
                    self._let_wait(waiter, self._ledger.find(client_order_id, broker_order_id))
                if reached(order):  # outside the lock: it may be the user's own function
                    return order.view()
                if is_closed:
                    raise QktError(f"{self.source} was closed while waiting for {client_order_id or broker_order_id}")
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    break
                waiter.wait(left_s)
        finally:
            with self._lock:
                self._let_go(waiter)
        view = order.view()
        raise WaitTimeoutError(
            f"{client_order_id or broker_order_id} did not become {until!r} within {timeout_ms} ms; it is "
            f"{view.status.value}" + (f" ({view.reason})" if view.reason else ""),
            view=view,
        )

    def _let_wait(self, waiter: _Waiter, key: int | None) -> None:
        """Have changes of an order wake the waiter; the caller holds the lock."""
        waiter.arm()
        if waiter.key is None or waiter.key != key:
            self._let_go(waiter)
            waiter.key = -1 if key is None else key
            self._waiters.setdefault(waiter.key, []).append(waiter)

    def _let_go(self, waiter: _Waiter) -> None:
        """Forget a waiter; the caller holds the lock."""
        if waiter.key is None:
            return
        waiting = self._waiters.get(waiter.key, [])
        if waiter in waiting:
            waiting.remove(waiter)
        if not waiting:
            self._waiters.pop(waiter.key, None)


class _Waiter:
    """A caller that waits for one order to change. It holds no lock while it waits."""

    __slots__ = ("_lock", "key")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.key: int | None = None

    def wake(self) -> None:
        """Let the caller look again; repeating it does no harm."""
        if self._lock.locked():
            self._lock.release()

    def arm(self) -> None:
        """From now on a change wakes."""
        self._lock.acquire(blocking=False)

    def wait(self, timeout_s: float) -> None:
        """Block until `wake` or the timeout."""
        self._lock.acquire(timeout=timeout_s)


def _is_notable(change: Change) -> bool:
    """True for what a round's report may have to tell: all but what the stream told of an order that is known."""
    before, after = change.before, change.after
    if before is None or change.fact.origin != "stream" or before.is_terminal_published:
        return True
    return after.is_terminal_published and after.missing_quantity > 0


def bounded(text: str) -> str:
    """A text for logs and reasons, cut to a length that can be read."""
    return text if len(text) <= _REASON_LENGTH else f"{text[:_REASON_LENGTH]}..."


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
