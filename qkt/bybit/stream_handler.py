"""`StreamHandler`: what the private stream brings becomes facts, health, and requests for a round.

Threads: the transport's reading thread for frames, which only become facts here; its callback thread for disconnects,
reconnects, faults and gaps.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs

from qkt.broker.state import BrokerState
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.frames import FrameFacts, execution_facts, order_facts
from qkt.bybit.reconcile_loop import ReconcileLoop
from qkt.bybit.recovery import BybitStateRecovery
from qkt.bybit.transport.protocol import CompleteTransport, StreamFault
from qkt.clock import Clock
from qkt.errors import QktError
from qkt.events import Origin
from qkt.model.costs import FundingPayment
from qkt.orders.facts import AnyFact, OrderReported
from qkt.orders.ledger import Change
from qkt.orders.report_rules import CLOCKS_DIFFER_AT_MOST_MS
from qkt.secret import printable

log: logging.Logger = logging.getLogger(__name__)

_BETWEEN_ROUNDS_FOR_BAD_FRAMES_MS = 1_000


_TRANSLATORS: Mapping[str, Callable[[Envelope, str, int], FrameFacts]] = {
    "order": order_facts,
    "execution": execution_facts,
}


def _family(topic: str) -> str:
    """``order`` for ``order.spot`` and for the topic of all categories, ``order``."""
    return topic.partition(".")[0]


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
    ``on_changes`` hears what each batch of frames changed, ``on_funding`` the funding payments.
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
        on_changes: Callable[[Sequence[Change]], None],
        on_funding: Callable[[Sequence[FundingPayment], Origin], None],
    ) -> None:
        self._client = client
        self._state = state
        self._recovery = recovery
        self._loop = loop
        self._clock = clock
        self._category = category
        self._run_in_background = run_in_background
        self._send_due_cancels = send_due_cancels
        self._on_changes = on_changes
        self._on_funding = on_funding
        self._listeners: list[_DetachableListener] = []
        self._topics = [f"order.{category}", f"execution.{category}", "wallet"]
        self._listener_of: dict[str, Callable[[Envelope], bool]] = {"wallet": self._absorb_wallet}

    def add_topic(self, topic: str, listener: Callable[[Envelope], bool]) -> None:
        """Hear one more topic; ``listener`` returns False for a frame with unreadable rows. Before `attach`."""
        self._topics.append(topic)
        self._listener_of[_family(topic)] = listener

    def attach(self) -> None:
        """Subscribe to the topics and register for what happens to the stream."""
        self._client.subscribe_batch(self._topics, self._detachable(self._on_frames))
        self._client.on_disconnect(self._detachable(self._on_disconnect))
        self._client.on_reconnect(self._detachable(self._on_reconnect))
        self._client.on_fault(self._detachable(self._on_fault))
        self._client.on_gap(self._detachable(self._on_gap))

    def detach(self) -> None:
        """Remove this broker's handlers from the client, so that no more frames are delivered; idempotent."""
        for listener in self._listeners:
            listener.handler = None
            self._client.forget(listener)

    def _detachable(self, handler: Callable[..., None]) -> _DetachableListener:
        listener = _DetachableListener(handler)
        self._listeners.append(listener)
        return listener

    # frames

    def _on_frames(self, frames: Sequence[Envelope]) -> None:
        """Absorb the frames of one read of the socket under few locks, and deliver their events with one wake-up."""
        if self._state.is_closed:
            return
        at_ms = self._clock.now_ms()
        facts: list[AnyFact] = []
        for frame in frames:
            try:
                family = _family(str(frame["topic"]))
                translate = _TRANSLATORS.get(family)
                if translate is not None:
                    facts.extend(self._translated(translate(frame, self._category, at_ms)))
                    continue
                facts = self._absorb(facts)
                if family in self._listener_of and not self._listener_of[family](frame):
                    self._request_round_for_bad_frame()
            except Exception:  # a fault of qkt's own must not cost the frames beside it
                log.exception("frame not absorbed topic=%s", printable(str(frame.get("topic"))[:64]))
                self._request_round_for_bad_frame()
        self._absorb(facts)
        self._deliver()

    def _translated(self, learned: FrameFacts) -> tuple[AnyFact, ...]:
        for bad in learned.malformed:
            log.warning("malformed frame row problem=%s row=%s", bad.problem, bad.excerpt)
        if learned.malformed:
            self._request_round_for_bad_frame()
        if learned.funding:
            self._on_funding(learned.funding, "stream")
        first = learned.facts[0] if learned.facts else None
        if isinstance(first, OrderReported) and first.as_of_ms > first.at_ms + CLOCKS_DIFFER_AT_MOST_MS:
            # a broken date counts as now: by the venue's time, since the host's clock may have been stepped
            now_ms = self._recovery.queries.venue_ms()
            return tuple(
                attrs.evolve(fact, as_of_ms=now_ms) for fact in learned.facts if isinstance(fact, OrderReported)
            )
        return learned.facts

    def _absorb(self, facts: list[AnyFact]) -> list[AnyFact]:
        """Absorb facts; returns an empty list for the next ones."""
        if facts:
            self._on_changes(self._state.absorb(facts))
            if self._state.ask(lambda ledger: bool(ledger.due_cancels())):
                self._run_in_background(self._send_due_cancels)
        return []

    def _absorb_wallet(self, frame: Envelope) -> bool:
        try:
            self._recovery.absorb_wallet_frame(frame)
        except QktError as error:
            log.warning("malformed wallet frame error=%s", error)
            return False
        return True

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
        if self._client.topic_faults.keys().isdisjoint(self._topics):
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
