"""Delivers events to handlers: by type, in one order, one at a time, and never under a lock of the publisher.

Each event class has a blinker signal, which holds the subscriptions and takes plain blinker receivers too. blinker
promises no order and stops at the first exception, so the bus calls the receivers of an event's class and its bases
itself: in the order in which they were connected, each isolated from the others' exceptions.

There is one queue and one drainer at a time. The enqueuing thread calls `deliver` once it holds no lock: a user's
thread drains inline, up to the last event it caused, so that a script with fakes is synchronous; the library's own
threads leave it to ``qkt-events``, so that a slow handler never costs a socket, a reconcile or a submit.

Python raises KeyboardInterrupt on the main thread wherever a call or a loop ends. What the bus remembers is therefore
written so that an interrupted step is completed by whichever call comes next: an event that was accepted is queued
once, and a handler that an interrupt kept from an event hears it afterwards.
"""

from __future__ import annotations

import itertools
import logging
import operator
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

import attrs
from blinker import ANY, Signal

from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError
from qkt.events import UNSTAMPED, BrokerEvent, set_sequence_id, set_timestamp
from qkt.threads import is_library_thread, library_thread

log: logging.Logger = logging.getLogger(__name__)

E = TypeVar("E", bound=BrokerEvent)
HandlerErrorHook = Callable[[BaseException, BrokerEvent, Callable[..., object]], None]


class _Receiver(Protocol):
    """What the bus calls for an event."""

    number: int

    @property
    def handler(self) -> Callable[..., object]: ...

    @property
    def receive(self) -> Callable[[BrokerEvent], object]: ...


class Subscription:
    """One handler's place on the bus; it is what blinker holds. `cancel` ends it, also from inside a handler."""

    def __init__(self, signal: EventSignal, handler: Callable[[Any], object], number: int) -> None:
        self._signal = signal
        self.event_type: type[BrokerEvent] = signal.event_type
        self.handler = handler
        self.number = number
        self.is_active: bool = True

    def cancel(self) -> None:
        """Stop hearing: no call starts after this returns; idempotent."""
        self.is_active = False
        self._signal.disconnect(self)
        self._signal.bus._drop_from_delivery(self)

    @property
    def receive(self) -> Callable[[BrokerEvent], object]:
        """What the bus calls: the handler itself, so that an interrupt comes before the call or inside the handler."""
        return self.handler

    def __call__(self, _sender: object, *, event: BrokerEvent) -> None:
        """The signature of a blinker receiver, for signals that are sent by hand."""
        if self.is_active:
            self.handler(event)

    def __repr__(self) -> str:
        state = "active" if self.is_active else "cancelled"
        return f"<Subscription {self.event_type.__name__} #{self.number} {state} handler={self.handler!r}>"


class _PlainReceiver:
    """A function that was connected to a signal directly, held as blinker holds it: weakly unless told otherwise."""

    def __init__(self, signal: EventSignal, held: object, number: int) -> None:
        self._signal = signal
        self._held = held
        self.number = number

    @property
    def handler(self) -> Callable[..., object]:
        found = self._held() if isinstance(self._held, weakref.ref) else self._held
        return found if callable(found) else _nothing

    @property
    def receive(self) -> Callable[[BrokerEvent], object]:
        return self._receive

    def _receive(self, event: BrokerEvent) -> None:
        if not self._signal.is_muted:
            self.handler(self._signal.bus, event=event)


def _nothing(*_args: object, **_named: object) -> None:
    """Stands for a receiver that was garbage collected."""


class EventSignal(Signal):
    """The blinker signal of one event class, from `EventBus.signal`.

    Receivers are called as ``receiver(bus, event=event)`` for events of this class and its subclasses, in one order
    with the bus's subscriptions. ``connect`` holds them weakly unless ``weak=False``, as blinker does everywhere.
    """

    def __init__(self, bus: EventBus, event_type: type[BrokerEvent]) -> None:
        super().__init__(f"Sent for every {event_type.__name__}.")
        self.bus = bus
        self.event_type = event_type
        self._numbers: dict[object, int] = {}

    def connect(self, receiver: Any, sender: Any = ANY, weak: bool = True) -> Any:
        """Call ``receiver(bus, event=event)`` for every event; usable as a decorator."""
        self._numbers = {name: number for name, number in self._numbers.items() if name in self.receivers}
        connected = super().connect(receiver, sender, weak)
        number = receiver.number if isinstance(receiver, Subscription) else next(self.bus._numbers)
        for name in self.receivers:
            self._numbers.setdefault(name, number)
        self.bus._receivers_changed()
        return connected

    def disconnect(self, receiver: Any, sender: Any = ANY) -> None:
        """Stop calling ``receiver``."""
        super().disconnect(receiver, sender)
        self.bus._receivers_changed()

    def _ordered(self) -> list[_Receiver]:
        """What is connected for events of this bus, each with the number of its connection."""
        wanted = list(self.receivers_for(self.bus))
        found: list[_Receiver] = []
        for name, held in list(self.receivers.items()):
            number = self._numbers.get(name, 0)
            receiver = held() if isinstance(held, weakref.ref) else held
            if receiver not in wanted:
                continue
            found.append(receiver if isinstance(receiver, Subscription) else _PlainReceiver(self, held, number))
        return found


class _Route:
    """The receivers of one event class, in order, and what to call of each."""

    __slots__ = ("calls", "receivers")

    def __init__(self, receivers: Sequence[_Receiver]) -> None:
        self.receivers = receivers
        self.calls = [receiver.receive for receiver in receivers]

    def drop(self, receiver: _Receiver) -> None:
        """Call ``receiver`` no more, also in a delivery that is under way."""
        for index, each in enumerate(self.receivers):
            if each is receiver:
                self.calls[index] = _nothing


class _Delivery:
    """An event on its way: ``calls`` yields as the receivers are called, and goes on where an interrupt broke it off.

    Taking the next receiver and calling it is one step of C code, so an interrupt comes before or after it.
    """

    __slots__ = ("calls", "event", "remaining", "route", "source")

    def __init__(self, event: BrokerEvent, source: object, route: _Route) -> None:
        self.event = event
        self.source = source
        self.route = route
        self.remaining = iter(route.calls)
        self.calls = map(operator.call, self.remaining, itertools.repeat(event))

    @property
    def last_called(self) -> _Receiver:
        """The receiver that was called last."""
        receivers = self.route.receivers
        return receivers[len(receivers) - operator.length_hint(self.remaining) - 1]


class _Drainer:
    """The call that delivers now, and its thread."""

    __slots__ = ("thread",)

    def __init__(self, thread: int) -> None:
        self.thread = thread


class EventBus:
    """Subscribe by event class, publish from anywhere; brokers that share a bus share one total order.

    ``on_handler_error(error, event, handler)`` is called when a handler raises; by default the failure is logged at
    ERROR with the event. The event is not delivered to that handler again.
    """

    def __init__(self, clock: Clock | None = None, *, on_handler_error: HandlerErrorHook | None = None) -> None:
        self._clock = clock or SystemClock()
        self._on_handler_error = on_handler_error or _log_handler_error
        self._signals: dict[type[BrokerEvent], EventSignal] = {}
        self._routes: dict[type[BrokerEvent], _Route] = {}
        self._numbers = itertools.count(1)

        # Reentrant, since a signal handler or a finalizer may call the bus while its thread is inside.
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)  # for those who wait until something was delivered
        self._watchers = 0
        self._queue: deque[tuple[BrokerEvent, object]] = deque()
        self._unfinished: tuple[Sequence[BrokerEvent], object] | None = None  # accepted, and maybe not queued yet
        self._queued_last: dict[int, Sequence[BrokerEvent]] = {}  # by source
        self._last_sequence_id = 0
        self._current: _Delivery | None = None
        self._drainer: _Drainer | None = None
        self._drain_up_to = 0
        self._muted: set[int] = set()
        self._sources: dict[int, object] = {}
        self._worker: threading.Thread | None = None
        self._is_worker_asleep = False
        self._wake = threading.Lock()
        self._wake.acquire()
        self._high_water = 0
        self._handler_errors = 0
        self._last_handler_error = ""

    def subscribe(self, event_type: type[E], handler: Callable[[E], object]) -> Subscription:
        """Call ``handler(event)`` for every event of ``event_type`` and its subclasses, from now on."""
        if not callable(handler):
            raise InvalidRequestError(f"the handler must be callable, got {handler!r}")
        signal = self._signal(event_type, "subscribe to")
        subscription = Subscription(signal, handler, next(self._numbers))
        signal.connect(subscription, weak=False)
        return subscription

    def signal(self, event_type: type[BrokerEvent]) -> EventSignal:
        """The blinker signal of an event class, through which its events are delivered.

        ``bus.signal(OrderFilled).connect(receiver)`` calls ``receiver(bus, event=event)``, isolated and in one order
        with the subscriptions; the receiver is held weakly, as blinker users expect, unless ``weak=False``.
        """
        return self._signal(event_type, "ask for the signal of")

    def _signal(self, event_type: type[BrokerEvent], what: str) -> EventSignal:
        if not (isinstance(event_type, type) and issubclass(event_type, BrokerEvent)):
            raise InvalidRequestError(f"{what} an event class, e.g. OrderFilled; got {event_type!r}")
        with self._lock:
            signal = self._signals.get(event_type)
            if signal is None:
                signal = self._signals[event_type] = EventSignal(self, event_type)
            return signal

    def _receivers_changed(self) -> None:
        self._routes = {}

    def _drop_from_delivery(self, subscription: Subscription) -> None:
        """A cancelled subscription does not hear the event that is being delivered, if its turn has not come."""
        delivery = self._current
        if delivery is not None:
            delivery.route.drop(subscription)

    def _route_of(self, event_type: type[BrokerEvent]) -> _Route:
        known = self._routes
        found = known.get(event_type)
        if found is None:
            with self._lock:
                signals = [self._signals[base] for base in event_type.__mro__ if base in self._signals]
                connected = [receiver for signal in signals for receiver in signal._ordered()]
                found = _Route(sorted(connected, key=lambda receiver: receiver.number))
                known[event_type] = found  # into the dict that was read: a change since then has put a new one in place
        return found

    def events(self, event_type: type[E], *, timeout_ms: int = 1_000) -> EventStream[E]:
        """Iterate over events as they come; the loop ends when none came for ``timeout_ms``.

        Collecting starts with this call, not with the first step of the loop. Use ``with`` or ``.close()`` to stop
        collecting; a stream that is garbage collected or ended by its timeout stops by itself.
        """
        return EventStream(self, event_type, timeout_ms)

    def publish(self, event: BrokerEvent) -> None:
        """Stamp, queue and deliver one event; from a handler it is delivered after the current one."""
        self.enqueue([attrs.evolve(event, sequence_id=UNSTAMPED)])
        self.deliver()

    def enqueue(self, events: Sequence[BrokerEvent], *, source: object = None) -> None:
        """Stamp and queue events without delivering: may be called under a lock. Call `deliver` after releasing it.

        An event is stamped in place, so it must be new. Events that were stamped before are queued as copies, unless
        the call repeats this source's last one with the very same sequence: that is then queued once.
        """
        if not events:
            return
        with self._lock:
            self._finish_queueing()
            if self._queued_last.get(id(source)) is events or id(source) in self._muted:
                return
            for event in events:
                if event.sequence_id != UNSTAMPED:
                    events = [attrs.evolve(each, sequence_id=UNSTAMPED) for each in events]
                    break
            self._unfinished = (events, source)  # from here on these events will be queued, whatever happens
            self._finish_queueing()

    def _finish_queueing(self) -> None:
        """Queue what was accepted, also when the call that accepted it was interrupted. The caller holds the lock."""
        unfinished = self._unfinished
        if unfinished is None:
            return
        events, source = unfinished
        number = self._last_sequence_id
        for event in events:
            number += 1
            set_sequence_id(event, number)
            if event.timestamp == UNSTAMPED:
                set_timestamp(event, self._clock.now_ms())
        entries = [(event, source) for event in events]
        if not self._queue or self._queue[-1][0] is not events[-1]:
            self._queue.extend(entries)
        self._high_water = max(self._high_water, len(self._queue))
        # Plain assignments with no call between them: an interrupt cannot leave them half done.
        self._last_sequence_id = number
        self._queued_last[id(source)] = events
        self._unfinished = None

    def deliver(self) -> None:
        """Hand queued events to their handlers: here if this is a user's thread, else on ``qkt-events``.

        Call it without holding a lock. Inline delivery stops at the last event queued when it was called, plus what
        its own handlers cause.
        """
        if not self._queue and self._current is None and self._unfinished is None:
            return
        me = threading.get_ident()
        drainer: _Drainer | None = None
        try:
            with self._lock:
                self._finish_queueing()
                if self._drainer is not None and self._drainer.thread == me:
                    self._drain_up_to = self._last_sequence_id  # a handler caused these: they follow the current event
                    return
                if is_library_thread():
                    if self._queue or self._current is not None:
                        self._wake_worker()
                    return
                if self._drainer is not None:
                    return  # the current drainer wakes the worker for what is left
                drainer = _Drainer(me)
                self._drain_up_to = self._last_sequence_id
                self._drainer = drainer
            self._drain()
        finally:
            if drainer is not None and self._drainer is drainer:
                self._drainer = None  # first of all, and without a call: the role must not stay with a call that ended
                self._pass_on()

    def _pass_on(self) -> None:
        """Have the rest delivered after a drainer left, and the worker end that only waited for it."""
        with self._lock:
            may_end = self._worker is not None and not self._sources
            if self._queue or self._current is not None or may_end:
                self._wake_worker()
            if self._watchers:
                self._changed.notify_all()

    def _drain(self) -> None:
        """Deliver up to `_drain_up_to`; the caller has made this thread the drainer."""
        while True:
            delivery = self._current
            if delivery is None:
                with self._lock:
                    self._finish_queueing()
                    delivery = self._next_delivery()
                if delivery is None:
                    return
            self._dispatch(delivery)
            self._current = None

    def _next_delivery(self) -> _Delivery | None:
        """Take the next event from the queue; the caller holds the lock."""
        while self._queue:
            event, source = self._queue[0]
            if event.sequence_id > self._drain_up_to:
                return None
            if id(source) in self._muted:
                self._queue.popleft()
                continue
            delivery = _Delivery(event, source, self._route_of(type(event)))
            self._current = delivery
            self._queue.popleft()
            return delivery
        return None

    def _dispatch(self, delivery: _Delivery) -> None:
        """Call every receiver. SystemExit is raised after all were called, an interrupt at once."""
        exit_asked: SystemExit | None = None
        while True:
            try:
                for _ in delivery.calls:
                    pass
                break
            except Exception as error:  # noqa: BLE001 - isolation: one handler's fault is not the others'
                self._report(error, delivery.event, delivery.last_called.handler)
            except SystemExit as error:
                exit_asked = error
        if exit_asked is not None:
            self._current = None
            raise exit_asked

    def _report(self, error: Exception, event: BrokerEvent, handler: Callable[..., object]) -> None:
        self._handler_errors += 1  # one drainer at a time
        name = getattr(handler, "__qualname__", type(handler).__name__)
        self._last_handler_error = f"{name} raised {type(error).__name__} on {type(event).__name__}"
        try:
            self._on_handler_error(error, event, handler)
        except Exception:
            log.exception("handler error hook failed event=%r", event)

    def drain(self, timeout_ms: int = 1_000) -> bool:
        """Wait until every event queued by now was delivered, e.g. before a test asserts what its handlers heard.

        Returns False when that took longer than ``timeout_ms``, and at once inside a handler, which would wait for
        itself.
        """
        self.deliver()
        with self._lock:
            target = self._last_sequence_id
            if self._is_drainer():
                return False
            return self._wait_until(lambda: not self._is_pending(target), timeout_ms)

    def _is_drainer(self) -> bool:
        return self._drainer is not None and self._drainer.thread == threading.get_ident()

    def _is_pending(self, sequence_id: int) -> bool:
        """True while an event up to this one waits or is being delivered."""
        current = self._current
        if current is not None and current.event.sequence_id <= sequence_id:
            return True
        return bool(self._queue) and self._queue[0][0].sequence_id <= sequence_id

    def _wait_until(self, is_reached: Callable[[], bool], timeout_ms: int) -> bool:
        """Wait for a drainer to get somewhere; the caller holds the lock."""
        deadline = time.monotonic() + timeout_ms / 1000
        self._watchers += 1
        try:
            while not is_reached():
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    return False
                self._changed.wait(left_s)
            return True
        finally:
            self._watchers -= 1

    def _wake_worker(self) -> None:
        """Have ``qkt-events`` deliver; the caller holds the lock."""
        if self._worker is None:
            self._worker = library_thread("qkt-events", self._work)
            self._worker.start()
        elif self._is_worker_asleep:
            self._is_worker_asleep = False
            self._wake.release()

    def _work(self) -> None:
        drainer = _Drainer(threading.get_ident())
        while True:
            with self._lock:
                self._finish_queueing()
                has_work = bool(self._queue) or self._current is not None
                if has_work and self._drainer is None:
                    self._drain_up_to = self._last_sequence_id
                    self._drainer = drainer
                elif not self._sources and not has_work:
                    self._worker = None
                    return
                else:
                    self._is_worker_asleep = True
            if self._drainer is not drainer:
                self._wake.acquire()
                continue
            try:
                self._drain()
            except BaseException:
                log.exception("handler tried to end the events thread")
            finally:
                self._drainer = None
                if self._watchers:
                    with self._lock:
                        self._changed.notify_all()

    def attach(self, source: object) -> None:
        """A broker announces itself; while one is attached ``qkt-events`` stays once started.

        Without one it ends whenever all is delivered.
        """
        with self._lock:
            self._sources[id(source)] = source
            self._muted.discard(id(source))

    def detach(self, source: object, *, drain_ms: int = 1_000) -> int:
        """Deliver what ``source`` still has queued, for at most ``drain_ms``; then no handler hears it again.

        Returns how many of its events were not delivered. The last one to leave takes ``qkt-events`` with it.
        Callable from a handler: events queued behind the one being handled are then left undelivered.
        """
        try:
            self.deliver()
        except BaseException:  # a handler exits or was interrupted: the source leaves all the same
            self._remove(source, drain_ms=0)
            raise
        return self._remove(source, drain_ms)

    def _remove(self, source: object, drain_ms: int) -> int:
        """`detach` without delivering first."""
        with self._lock:
            inside_handler = self._is_drainer()
            if not inside_handler:
                self._wait_until(lambda: not self._busy_with(source), drain_ms)
            self._muted.add(id(source))
            left = sum(owner is source for _, owner in self._queue)
            self._queue = deque(entry for entry in self._queue if entry[1] is not source)
            self._queued_last.pop(id(source), None)
            self._sources.pop(id(source), None)
            worker = self._worker if not self._sources else None
            if worker is not None:
                self._wake_worker()
        if worker is not None and worker is not threading.current_thread() and not inside_handler:
            worker.join(timeout=drain_ms / 1000)
        return left

    def _busy_with(self, source: object) -> bool:
        current = self._current
        return (current is not None and current.source is source) or any(owner is source for _, owner in self._queue)

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


def _log_handler_error(error: BaseException, event: BrokerEvent, handler: Callable[..., object]) -> None:
    log.error("handler failed handler=%r event=%r", handler, event, exc_info=error)
