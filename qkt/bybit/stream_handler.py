"""`StreamHandler`: what the private stream brings becomes facts, health, and requests for a round.

Threads: the transport's reading thread for frames, which only become facts here; its callback thread for disconnects,
reconnects, faults and gaps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from qkt.broker.state import BrokerState
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.frames import FrameFacts, execution_facts, order_facts
from qkt.bybit.reconcile_loop import ReconcileLoop
from qkt.bybit.recovery import BybitStateRecovery
from qkt.bybit.transport.protocol import CompleteTransport, StreamFault
from qkt.clock import Clock
from qkt.errors import QktError

log = logging.getLogger(__name__)

_BETWEEN_ROUNDS_FOR_BAD_FRAMES_MS = 1_000


class _DetachableListener:
    """A listener that can be detached: the client outlives the broker, and may be unable to forget a listener."""

    def __init__(self, handler: Callable[..., None]) -> None:
        self.handler: Callable[..., None] | None = handler

    def __call__(self, *details: Any) -> None:
        handler = self.handler
        if handler is not None:
            handler(*details)


class StreamHandler:
    """Hears the stream for one broker until `detach`.

    ``send_due_cancels`` is called in the background when a frame shows an order whose cancel was waiting for it.
    """

    def __init__(
        self,
        client: CompleteTransport,
        state: BrokerState,
        recovery: BybitStateRecovery,
        loop: ReconcileLoop,
        clock: Clock,
        *,
        category: str,
        run_in_background: Callable[[Callable[[], object]], None],
        send_due_cancels: Callable[[], None],
    ) -> None:
        self._client = client
        self._state = state
        self._recovery = recovery
        self._loop = loop
        self._clock = clock
        self._category = category
        self._run_in_background = run_in_background
        self._send_due_cancels = send_due_cancels
        self._listeners: list[_DetachableListener] = []
        self._topics: dict[str, Callable[[Envelope], None]] = {
            f"order.{category}": self._on_order_frame,
            f"execution.{category}": self._on_execution_frame,
            "wallet": self._on_wallet_frame,
        }

    def add_topic(self, topic: str, listener: Callable[[Envelope], bool]) -> None:
        """Hear one more topic; ``listener`` returns False for a frame with unreadable rows. Before `attach`."""

        def on_frame(frame: Envelope) -> None:
            if self._state.is_closed:
                return
            if not listener(frame):
                self._request_round_for_bad_frame()
            self._deliver()

        self._topics[topic] = on_frame

    def attach(self) -> None:
        """Subscribe to the topics and register for what happens to the stream."""
        for topic, listener in self._topics.items():
            self._client.subscribe(topic, self._detachable(listener))
        self._client.on_disconnect(self._detachable(self._on_disconnect))
        self._client.on_reconnect(self._detachable(self._on_reconnect))
        self._client.on_fault(self._detachable(self._on_fault))
        self._client.on_gap(self._detachable(self._on_gap))

    def detach(self) -> None:
        """Hear nothing more, and let the client forget this broker; idempotent."""
        for listener in self._listeners:
            listener.handler = None
            self._client.forget(listener)

    def _detachable(self, handler: Callable[..., None]) -> _DetachableListener:
        listener = _DetachableListener(handler)
        self._listeners.append(listener)
        return listener

    # frames

    def _on_order_frame(self, frame: Envelope) -> None:
        self._absorb(order_facts(frame, self._category, self._clock.now_ms()))

    def _on_execution_frame(self, frame: Envelope) -> None:
        self._absorb(execution_facts(frame, self._category, self._clock.now_ms()))

    def _absorb(self, learned: FrameFacts) -> None:
        if self._state.is_closed:
            return
        for bad in learned.malformed:
            log.warning("malformed frame row problem=%s row=%s", bad.problem, bad.excerpt)
        self._state.absorb(learned.facts)
        if learned.malformed:
            self._request_round_for_bad_frame()
        if self._state.ask(lambda ledger: bool(ledger.due_cancels())):
            self._run_in_background(self._send_due_cancels)
        self._deliver()

    def _on_wallet_frame(self, frame: Envelope) -> None:
        if self._state.is_closed:
            return
        try:
            self._recovery.absorb_wallet_frame(frame)
        except QktError as error:
            log.warning("malformed wallet frame error=%s", error)
            self._request_round_for_bad_frame()
        self._deliver()

    def _request_round_for_bad_frame(self) -> None:
        self._loop.request("malformed frame", least_apart_ms=_BETWEEN_ROUNDS_FOR_BAD_FRAMES_MS)

    def _deliver(self) -> None:
        self._state.bus.deliver()

    # the stream itself

    def _on_disconnect(self, reason: str) -> None:
        if not self._state.is_closed:
            self._state.degrade("stream", reason)
            self._deliver()

    def _on_reconnect(self) -> None:
        """The subscriptions are acknowledged: read what happened meanwhile (acknowledgement before snapshot: S44)."""
        if not self._state.is_closed:
            self._loop.run("reconnect", then=self._restore_stream)

    def _restore_stream(self) -> None:
        """The stream is healthy again once it is subscribed and what it missed was read."""
        self._state.restore("auth")
        if not self._topics.keys() & self._client.topic_faults.keys():
            self._state.restore("topics")
            if self._client.is_connected:
                self._state.restore("stream")

    def _on_gap(self, *_details: object) -> None:
        if not self._state.is_closed:
            self._loop.request("suspend or clock jump")

    def _on_fault(self, fault: StreamFault) -> None:
        """A refused login calls for a person (S42); behind a refused topic rounds must see instead (S43)."""
        if self._state.is_closed or (fault.topic and fault.topic not in self._topics):
            return
        if fault.topic:
            self._state.degrade("topics", f"{fault.topic}: {fault.reason}")
            self._loop.request("topic refused")
        else:
            self._state.degrade(fault.kind, fault.reason)
        self._deliver()


def rows_of_category(frame: Mapping[str, Any], category: str) -> list[Any]:
    """The rows of a frame's ``data`` that are of ``category``, or that do not say."""
    data = frame.get("data")
    rows = data if isinstance(data, list) else []
    return [row for row in rows if not isinstance(row, dict) or row.get("category", category) == category]
