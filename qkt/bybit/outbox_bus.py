"""`OutboxBus`: the events of a broker with a journal are appended to the journal's outbox before a handler hears them.

An event that is in the outbox is not told again after a restart, so it is recorded first. Events that wait are recorded
together, in one commit. Nothing is written under a lock of the state, and never on the thread that reads the stream.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

from qkt.bus import EventBus
from qkt.events import BrokerEvent
from qkt.threads import is_library_thread


class OutboxBus:
    """What a `BrokerState` takes for its bus. ``record`` appends events to the outbox and never raises.

    ``flush_soon`` has `flush` called on a thread that may wait for the journal.
    """

    def __init__(
        self, bus: EventBus, record: Callable[[Sequence[BrokerEvent]], None], flush_soon: Callable[[], None]
    ) -> None:
        self._bus = bus
        self._record = record
        self._flush_soon = flush_soon
        self._flushing = threading.Lock()
        self._waiting: deque[tuple[Sequence[BrokerEvent], object]] = deque()
        self._last: Sequence[BrokerEvent] | None = None

    @property
    def queue_depth(self) -> int:
        """How many events wait to be recorded or delivered."""
        return self._bus.queue_depth + sum(len(events) for events, _ in tuple(self._waiting))

    def attach(self, source: object) -> None:
        """See `EventBus.attach`."""
        self._bus.attach(source)

    def detach(self, source: object, *, drain_ms: int = 1_000) -> int:
        """Record the waiting events, then detach the source as `EventBus.detach` does."""
        self.flush()
        return self._bus.detach(source, drain_ms=drain_ms)

    def enqueue(self, events: Sequence[BrokerEvent], *, source: object = None) -> None:
        """Keep events until the next `deliver`; a repetition of the last call changes nothing."""
        if events and self._last is not events:
            self._waiting.append((events, source))
            self._last = events

    def deliver(self) -> None:
        """Record and deliver: here on a user's thread, elsewhere for a thread of the library's."""
        if not self._waiting:
            self._bus.deliver()
        elif is_library_thread():
            self._flush_soon()
        else:
            self.flush()

    def flush(self) -> None:
        """Record all events that wait in one commit, then hand them to the bus."""
        with self._flushing:
            batch = list(self._waiting)
            if batch:
                self._record([event for events, _ in batch for event in events])
            for events, source in batch:
                self._bus.enqueue(events, source=source)  # again after an interrupt: the bus queues them once
                self._waiting.popleft()
        self._bus.deliver()
