"""Listeners of frames and handlers of connection news, and the two ways in which they are called.

Frame listeners are called on the thread that reads. Handlers are queued and called one at a time, in order, on the
client's ``qkt-link`` threads, so that a handler may take long, reconcile by REST, or close the client.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.transport.observer import LinkNews, TransportObserver
from qkt.bybit.transport.protocol import BatchListener, FrameListener, StreamFault
from qkt.bybit.transport.stream_session import has_category, may_hear, share_of
from qkt.errors import InvalidRequestError
from qkt.net.callback_queue import CallbackQueue

log: logging.Logger = logging.getLogger(__name__)

Handler = Callable[..., None]
_MOST_KNOWN_TOPICS = 200


class Subscription:
    """One listener and its topics. A frame listener is called per frame, a batch listener with a list of frames."""

    def __init__(self, topics: tuple[str, ...], listener: Callable[..., object], *, is_batch: bool) -> None:
        self.topics = topics
        self.listener = listener
        self.is_batch = is_batch
        self._matching: dict[object, tuple[str, ...]] = {}  # frame topic -> matching topics of this subscription

    def shares_of(self, frame: Envelope) -> list[Envelope]:
        """What this subscription hears of a frame: usually the frame itself, or nothing."""
        topic = frame["topic"]
        matching = self._matching.get(topic) if isinstance(topic, str) else ()
        if matching is None:
            matching = tuple(own for own in self.topics if may_hear(own, topic))
            if len(self._matching) < _MOST_KNOWN_TOPICS:
                self._matching[topic] = matching
        if not matching:
            return []
        if len(matching) == 1 and matching[0] == topic and not has_category(topic):
            return [frame]
        return [share for own in matching if (share := share_of(own, frame)) is not None]


class Listeners:
    """All listeners and handlers of one client. Thread-safe; they are called under no lock.

    ``queue`` is where handlers wait; it is None while the client has no session, and handlers are then not called.
    """

    def __init__(self) -> None:
        self.queue: CallbackQueue | None = None
        self.observer: TransportObserver | None = None
        self.errors: int = 0
        self.gaps: int = 0
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

    def frames_came(self, frames: Sequence[Envelope]) -> None:
        """Call the listeners of the frames that one read of the socket brought, each listener in order of arrival."""
        for subscription in self._subscriptions:
            shares = [share for frame in frames for share in subscription.shares_of(frame)]
            if not shares:
                continue
            if subscription.is_batch:
                self._hand(subscription, shares)
            else:
                for share in shares:
                    self._hand(subscription, share)

    def _hand(self, subscription: Subscription, heard: object) -> None:
        try:
            subscription.listener(heard)
        except Exception:
            self.errors += 1
            topics = ",".join(subscription.topics)
            log.exception("listener failed topic=%s", topics)
            self.gap_noticed(f"a listener of {topics} failed")

    def raw_came(self, messages: Sequence[bytes]) -> None:
        """The messages that one read of the socket brought, before they are decoded."""
        if self.observer is not None:
            self.observer.frames_read(messages)

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

    def _notify(self, news: LinkNews, *details: object) -> None:
        if self.observer is not None:
            self.observer.link_changed(news, "; ".join(map(str, details)))
        queue = self.queue
        if queue is not None:
            queue.put([partial(handler, *details) for handler in self._handlers[news]])
