"""Events to handlers: by type, in one order, one at a time, and never under anybody's lock.

blinker signals hold the subscriptions, one signal per event class. blinker keeps weak references, promises no order
and stops at the first exception, so the bus adds what a trader needs: strong references, subscription order across
the class hierarchy, and isolation of each handler from the others' exceptions.

There is one queue and one drainer at a time. Whoever enqueues calls `deliver` once it holds no lock: a user's thread
drains inline, up to the last event it caused, so that a script with fakes is synchronous; the library's own threads
leave it to ``qkt-events``, so that a slow handler never costs a socket, a reconcile or a submit.
"""

from __future__ import annotations

import logging
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import attrs
from blinker import Signal

from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError
from qkt.events import UNSTAMPED, BrokerEvent
from qkt.threads import is_library_thread, library_thread

log = logging.getLogger(__name__)

E = TypeVar("E", bound=BrokerEvent)
HandlerErrorHook = Callable[[BaseException, BrokerEvent, Callable[[Any], object]], None]


class Subscription:
    """One handler's place on the bus; it is what blinker holds. `cancel` ends it, also from inside a handler."""

    def __init__(self, bus: EventBus, event_type: type[BrokerEvent], handler: Callable[[Any], object], number: int):
        self._bus = bus
        self.event_type = event_type
        self.handler = handler
        self.number = number
        self.is_active = True

    def cancel(self) -> None:
        """Stop hearing: no call starts after this returns; idempotent."""
        self.is_active = False
        self._bus._disconnect(self)

    def __call__(self, event: BrokerEvent) -> None:
        if self.is_active:
            self.handler(event)

    def __repr__(self) -> str:
        state = "active" if self.is_active else "cancelled"
        return f"<Subscription {self.event_type.__name__} #{self.number} {state} handler={self.handler!r}>"


@attrs.frozen
class _Waiting:
    event: BrokerEvent
    source: object


class EventBus:
    """Subscribe by event class, publish from anywhere; brokers that share a bus share one total order.

    ``on_handler_error(error, event, handler)`` is called when a handler raises; by default the failure is logged at
    ERROR with the event. The event is not delivered to that handler again.
    """

    def __init__(self, clock: Clock | None = None, *, on_handler_error: HandlerErrorHook | None = None) -> None:
        self._clock = clock or SystemClock()
        self._on_handler_error = on_handler_error or _log_handler_error
        self._signals: dict[type[BrokerEvent], Signal] = {}
        self._receivers: dict[type[BrokerEvent], tuple[Subscription, ...]] = {}
        self._subscribed = 0

        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._queue: deque[_Waiting] = deque()
        self._last_sequence_id = 0
        self._delivered_up_to = 0
        self._drainer: int | None = None  # the thread that is delivering now
        self._drain_up_to = 0
        self._current_source: object = None
        self._muted: set[int] = set()
        self._sources: dict[int, object] = {}
        self._worker: threading.Thread | None = None
        self._worker_may_stop = False
        self._high_water = 0
        self._handler_errors = 0
        self._last_handler_error = ""

    # -- subscribing -------------------------------------------------------------------------------------------------

    def subscribe(self, event_type: type[E], handler: Callable[[E], object]) -> Subscription:
        """Call ``handler(event)`` for every event of ``event_type`` and its subclasses, from now on."""
        if not (isinstance(event_type, type) and issubclass(event_type, BrokerEvent)):
            raise InvalidRequestError(f"subscribe to an event class, e.g. OrderFilled; got {event_type!r}")
        if not callable(handler):
            raise InvalidRequestError(f"the handler must be callable, got {handler!r}")
        with self._lock:
            self._subscribed += 1
            subscription = Subscription(self, event_type, handler, self._subscribed)
            self._signals.setdefault(event_type, Signal()).connect(subscription, weak=False)
            self._receivers = {}
        return subscription

    def _disconnect(self, subscription: Subscription) -> None:
        with self._lock:
            self._signals[subscription.event_type].disconnect(subscription)
            self._receivers = {}

    def _receivers_of(self, event_type: type[BrokerEvent]) -> tuple[Subscription, ...]:
        with self._lock:
            found = self._receivers.get(event_type)
            if found is None:
                signals = [self._signals[base] for base in event_type.__mro__ if base in self._signals]
                subscriptions = [cast(Subscription, held) for signal in signals for held in signal.receivers_for(None)]
                found = tuple(sorted(subscriptions, key=lambda subscription: subscription.number))
                self._receivers[event_type] = found
            return found

    def events(self, event_type: type[E], *, timeout_ms: int = 1_000) -> EventStream[E]:
        """Iterate over events as they come; the loop ends when none came for ``timeout_ms``.

        Collecting starts with this call, not with the first step of the loop. Use ``with`` or ``.close()`` to stop
        collecting; a stream that is garbage collected or ended by its timeout stops by itself.
        """
        return EventStream(self, event_type, timeout_ms)

    # -- publishing --------------------------------------------------------------------------------------------------

    def publish(self, event: BrokerEvent) -> None:
        """Stamp, queue and deliver one event; from a handler it is delivered after the current one."""
        self.enqueue([event])
        self.deliver()

    def enqueue(self, events: list[BrokerEvent], *, source: object = None) -> None:
        """Stamp and queue events without delivering: may be called under a lock. Call `deliver` after releasing it."""
        if not events:
            return
        with self._lock:
            if id(source) in self._muted:
                return
            for event in events:
                self._last_sequence_id += 1
                timestamp = event.timestamp if event.timestamp != UNSTAMPED else self._clock.now_ms()
                stamped = attrs.evolve(event, sequence_id=self._last_sequence_id, timestamp=timestamp)
                self._queue.append(_Waiting(stamped, source))
            self._high_water = max(self._high_water, len(self._queue))

    def deliver(self) -> None:
        """Hand queued events to their handlers: here if this is a user's thread, else on ``qkt-events``.

        Call it without holding a lock. Inline delivery stops at the last event queued when it was called, plus what
        its own handlers cause.
        """
        me = threading.get_ident()
        with self._lock:
            if not self._queue:
                return
            if self._drainer == me:  # a handler caused these: they follow the current event
                self._drain_up_to = self._last_sequence_id
                return
            if is_library_thread():
                self._wake_worker()
                return
            if self._drainer is not None:
                return  # whoever is delivering passes on what is left
            self._drainer, self._drain_up_to = me, self._last_sequence_id
        self._drain()

    def _drain(self) -> None:
        """Deliver up to `_drain_up_to`; the caller has made this thread the drainer."""
        try:
            while True:
                with self._lock:
                    if not self._queue or self._queue[0].event.sequence_id > self._drain_up_to:
                        break
                    waiting = self._queue.popleft()
                    self._current_source = waiting.source
                    if id(waiting.source) in self._muted:
                        continue
                self._dispatch(waiting.event)
        finally:
            with self._lock:
                self._drainer = self._current_source = None
                if self._queue:
                    self._wake_worker()
                self._changed.notify_all()

    def _dispatch(self, event: BrokerEvent) -> None:
        for receiver in self._receivers_of(type(event)):
            try:
                receiver(event)
            except Exception as error:  # noqa: BLE001 - isolation: one handler's fault is not the others'
                self._report(error, event, receiver.handler)

    def _report(self, error: Exception, event: BrokerEvent, handler: Callable[[Any], object]) -> None:
        self._handler_errors += 1  # one drainer at a time
        name = getattr(handler, "__qualname__", type(handler).__name__)
        self._last_handler_error = f"{name} raised {type(error).__name__} on {type(event).__name__}"
        try:
            self._on_handler_error(error, event, handler)
        except Exception:
            log.exception("handler error hook failed event=%r", event)

    # -- the events thread -------------------------------------------------------------------------------------------

    def _wake_worker(self) -> None:
        """Have ``qkt-events`` deliver; the caller holds the lock."""
        if self._worker is None:
            self._worker_may_stop = False
            self._worker = library_thread("qkt-events", self._work)
            self._worker.start()
        self._changed.notify_all()

    def _work(self) -> None:
        me = threading.get_ident()
        while True:
            with self._lock:
                while self._drainer is not None or not self._queue:
                    if self._worker_may_stop and not self._queue:
                        self._worker = None
                        return
                    self._changed.wait()
                self._drainer, self._drain_up_to = me, self._last_sequence_id
            try:
                self._drain()
            except BaseException:
                log.exception("handler tried to end the events thread")

    # -- brokers come and go -----------------------------------------------------------------------------------------

    def attach(self, source: object) -> None:
        """A broker announces itself; while one is attached ``qkt-events`` stays once started."""
        with self._lock:
            self._sources[id(source)] = source
            self._muted.discard(id(source))
            self._worker_may_stop = False

    def detach(self, source: object, *, drain_ms: int = 1_000) -> int:
        """Deliver what ``source`` still has queued, for at most ``drain_ms``; then no handler hears it again.

        Returns how many of its events were not delivered. The last one to leave takes ``qkt-events`` with it.
        Callable from a handler: events queued behind the one being handled are then left undelivered.
        """
        self.deliver()
        with self._lock:
            inside_handler = self._drainer == threading.get_ident()
            if not inside_handler:
                self._changed.wait_for(lambda: not self._busy_with(source), timeout=drain_ms / 1000)
            self._muted.add(id(source))
            left = sum(waiting.source is source for waiting in self._queue)
            self._queue = deque(waiting for waiting in self._queue if waiting.source is not source)
            self._sources.pop(id(source), None)
            worker = self._worker if not self._sources else None
            if worker is not None:
                self._worker_may_stop = True
                self._changed.notify_all()
        if worker is not None and worker is not threading.current_thread() and not inside_handler:
            worker.join(timeout=drain_ms / 1000)
        return left

    def _busy_with(self, source: object) -> bool:
        return self._current_source is source or any(waiting.source is source for waiting in self._queue)

    @property
    def queue_depth(self) -> int:
        """How many events wait for delivery now."""
        return len(self._queue)

    @property
    def handler_errors(self) -> int:
        """How many calls of a handler have raised so far."""
        return self._handler_errors

    @property
    def last_handler_error(self) -> str:
        """The last handler that raised, its exception's class and the event's class; "" when none has."""
        return self._last_handler_error

    def __repr__(self) -> str:
        active = sum(len(signal.receivers) for signal in self._signals.values())
        return (
            f"<EventBus subscriptions={active} queued={len(self._queue)} most_queued={self._high_water} "
            f"last_sequence_id={self._last_sequence_id}>"
        )


class EventStream(Generic[E], Iterator[E]):
    """Events collected for a plain ``for`` loop."""

    def __init__(self, bus: EventBus, event_type: type[E], timeout_ms: int) -> None:
        if timeout_ms < 0:
            raise InvalidRequestError(f"timeout_ms must not be negative, got {timeout_ms}")
        self._waiting: queue.SimpleQueue[E] = queue.SimpleQueue()
        self._timeout_s = timeout_ms / 1000
        self._subscription = bus.subscribe(event_type, self._waiting.put)
        weakref.finalize(self, self._subscription.cancel)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> E:
        try:
            return self._waiting.get(timeout=self._timeout_s)
        except queue.Empty:
            self.close()
            raise StopIteration from None

    def close(self) -> None:
        """Stop collecting; what was collected can still be read."""
        self._subscription.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _log_handler_error(error: BaseException, event: BrokerEvent, handler: Callable[[Any], object]) -> None:
    log.error("handler failed handler=%r event=%r", handler, event, exc_info=error)
