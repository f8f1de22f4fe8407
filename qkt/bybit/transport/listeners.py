"""Listeners of frames and handlers of connection news, and the two ways in which they are called.

Frame listeners are called on the thread that reads. Handlers are queued and called one at a time, in order, on the
client's ``qkt-link`` threads, so that a handler may take long, reconcile by REST, or close the client.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from functools import partial

import attrs

from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.transport.protocol import BatchListener, FrameListener, StreamFault
from qkt.bybit.transport.stream_session import share_of
from qkt.errors import InvalidRequestError
from qkt.net.callback_queue import CallbackQueue

log = logging.getLogger(__name__)

Handler = Callable[..., None]


@attrs.frozen(eq=False)
class Subscription:
    """One listener and its topics. A frame listener is called per frame, a batch listener with a list of frames."""

    topics: tuple[str, ...]
    listener: Callable[..., object]
    is_batch: bool


class Listeners:
    """All listeners and handlers of one client. Thread-safe; they are called under no lock.

    ``queue`` is where handlers wait; it is None while the client has no session, and handlers are then not called.
    """

    def __init__(self) -> None:
        self.queue: CallbackQueue | None = None
        self.errors = 0
        self.gaps = 0
        self._lock = threading.Lock()
        self._subscriptions: tuple[Subscription, ...] = ()
        self._handlers: dict[str, tuple[Handler, ...]] = {"lost": (), "ready": (), "fault": (), "gap": ()}

    def add(self, topic: str, listener: FrameListener) -> list[str]:
        """Add a frame listener; returns the topic if it is new."""
        return self._add(Subscription((topic,), listener, is_batch=False))

    def add_batch(self, topics: Iterable[str], listener: BatchListener) -> list[str]:
        """Add a batch listener; returns the topics that are new."""
        return self._add(Subscription(tuple(topics), listener, is_batch=True))

    def _add(self, subscription: Subscription) -> list[str]:
        for topic in subscription.topics:
            if not isinstance(topic, str) or not topic:
                raise InvalidRequestError(f"a topic is text such as 'order.spot', got {topic!r}")
        with self._lock:
            known = self.topics()
            self._subscriptions = (*self._subscriptions, subscription)
        return [topic for topic in subscription.topics if topic not in known]

    def add_handler(self, news: str, handler: Handler) -> None:
        """Add a handler of ``lost``, ``ready``, ``fault`` or ``gap``."""
        with self._lock:
            self._handlers[news] = (*self._handlers[news], handler)

    def forget(self, listener: Callable[..., object]) -> None:
        """Remove a listener or a handler wherever it is registered."""
        with self._lock:
            self._subscriptions = tuple(one for one in self._subscriptions if one.listener != listener)
            for news, handlers in self._handlers.items():
                self._handlers[news] = tuple(one for one in handlers if one != listener)

    def topics(self) -> dict[str, None]:
        """Every topic that has a listener, in order of subscription."""
        return dict.fromkeys(topic for subscription in self._subscriptions for topic in subscription.topics)

    def frame_came(self, frame: Envelope) -> None:
        """Call the listeners of a frame."""
        for subscription in self._subscriptions:
            for topic in subscription.topics:
                share = share_of(topic, frame)
                if share is not None:
                    self._hand(subscription, share, topic)

    def _hand(self, subscription: Subscription, share: Envelope, topic: str) -> None:
        try:
            subscription.listener([share] if subscription.is_batch else share)
        except Exception:
            self.errors += 1
            log.exception("listener failed topic=%s", topic)
            self.gap_noticed(f"a listener of {topic} failed")

    def stream_is_ready(self) -> None:
        """Every subscription of a session is answered."""
        self._notify("ready")

    def stream_is_lost(self, reason: str) -> None:
        """A session that was ready has ended."""
        self._notify("lost", reason)

    def fault_came(self, fault: StreamFault) -> None:
        """The venue refuses the login or a topic."""
        self._notify("fault", fault)

    def gap_noticed(self, reason: str) -> None:
        """Frames may be missing."""
        self.gaps += 1
        log.warning("gap noticed reason=%s", reason)
        self._notify("gap", reason)

    def _notify(self, news: str, *details: object) -> None:
        queue = self.queue
        if queue is not None:
            queue.put([partial(handler, *details) for handler in self._handlers[news]])
