"""Keep one broker in step with the venue: frames become facts, rounds run on a timer, the end is orderly.

Threads: the transport's reading thread for frames (they only become facts); the scheduler's for rounds and lookups. No
handler, socket or request runs under a lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, ClassVar, Self

from qkt.broker.protocol import OrderTypeCapability
from qkt.broker.risk import RiskGate, RiskLimits
from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.bybit.account.instrument_cache import instrument_cache
from qkt.bybit.batch_entry import BatchEntry
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.frames import FrameFacts, execution_facts, order_facts
from qkt.bybit.pre_trade import PreTradeChecks
from qkt.bybit.recovery import BybitStateRecovery
from qkt.bybit.transport.protocol import BybitTransport
from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError, QktError, ReconcileError
from qkt.health import Health
from qkt.net.reconciler import PeriodicReconciler
from qkt.net.scheduler import Cancellable, Scheduler, scheduler_from
from qkt.reconcile.plan import ReconcileLimits
from qkt.reconcile.report import ReconcileReport

log = logging.getLogger(__name__)

_QUEUE_ALARM = 10_000

# While the stream is dark or an order is unresolved a round comes this many times as often, though not for ever.
_TIGHTENING = 6
_LEAST_BETWEEN_ROUNDS_MS = 1_000
_MOST_EXTRA_ROUNDS = 60


class _DetachableListener:
    """A listener that can be silenced: a closed broker, with all it remembers, must not live as long as its client."""

    def __init__(self, handler: Callable[..., None]) -> None:
        self.handler: Callable[..., None] | None = handler

    def __call__(self, *details: Any) -> None:
        handler = self.handler
        if handler is not None:
            handler(*details)


class BybitUpkeep:
    """The part of `BybitBroker` that works without being called."""

    category: ClassVar[str]
    source: ClassVar[str]
    capabilities: ClassVar[frozenset[OrderTypeCapability]]

    def __init__(
        self,
        client: BybitTransport,
        bus: EventBus,
        clock: Clock | None = None,
        *,
        recovery_window_ms: int = 300_000,
        poll_interval_ms: int = 30_000,
        poll_scheduler: Scheduler | Executor | None = None,
        max_staleness_ms: int | None = None,
        retain_closed_ms: int = 24 * 3_600_000,
        risk_limits: RiskLimits | None = None,
        limits: ReconcileLimits | None = None,
    ) -> None:
        _require_positive_ms(poll_interval_ms, "poll_interval_ms")
        _require_ms(recovery_window_ms, "recovery_window_ms")
        self._client = client
        self._bus = bus
        self._clock = clock or SystemClock()
        self._max_staleness_ms = max_staleness_ms
        self._poll_interval_ms = poll_interval_ms
        self._extra_round: Cancellable | None = None
        self._extra_rounds_left = _MOST_EXTRA_ROUNDS
        self._close_lock = threading.Lock()
        self._is_closed = False
        self._relays: list[_DetachableListener] = []
        self._checks = PreTradeChecks(
            instrument_cache(client),
            RiskGate(risk_limits, self._clock, self.source),
            category=self.category,
            source=self.source,
            capabilities=self.capabilities,
        )
        self._state = BrokerState(source=self.source, bus=bus, clock=self._clock)
        self._recovery = BybitStateRecovery(
            client,
            self._state,
            category=self.category,
            clock=self._clock,
            recovery_window_ms=recovery_window_ms,
            stale_after_ms=3 * poll_interval_ms,
            retain_closed_ms=retain_closed_ms,
            limits=limits,
        )
        self._scheduler, self._release_scheduler = scheduler_from(poll_scheduler, "qkt-reconcile")
        self._order_entry = BatchEntry(client, self._state, self._recovery, self._scheduler, self._clock)
        self._reconciler = PeriodicReconciler(poll_interval_ms, self._tick, scheduler=self._scheduler)
        try:
            self._listen()
            report = self._recovery.reconcile("construction")
            if not report.ok:
                raise ReconcileError(f"{self.source} could not read the venue's state:\n{report}", report=report)
            self._checks.instruments.refresh(self.category, self._clock)
            self._reconciler.start()
        except BaseException:
            self.close()
            raise
        self._bus.deliver()

    # -- frames ------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for topic, listener in self._topics.items():
            self._client.subscribe(topic, self._relayed(listener))
        self._client.on_disconnect(self._relayed(self._on_disconnect))
        self._client.on_reconnect(self._relayed(self._on_reconnect))
        for hook, handler in (("on_fault", self._on_stream_fault), ("on_gap", self._on_gap)):
            register = getattr(self._client, hook, None)
            if callable(register):
                register(self._relayed(handler))

    def _relayed(self, handler: Callable[..., None]) -> _DetachableListener:
        """What the client gets: it outlives us and has no way to forget a listener, so the relay forgets us."""
        relay = _DetachableListener(handler)
        self._relays.append(relay)
        return relay

    @property
    def _topics(self) -> dict[str, Callable[[Envelope], None]]:
        return {
            f"order.{self.category}": self._on_order_frame,
            f"execution.{self.category}": self._on_execution_frame,
            "wallet": self._on_wallet_frame,
        }

    def _on_order_frame(self, frame: Envelope) -> None:
        self._absorb_frame(order_facts(frame, self.category, self._clock.now_ms()))

    def _on_execution_frame(self, frame: Envelope) -> None:
        self._absorb_frame(execution_facts(frame, self.category, self._clock.now_ms()))

    def _absorb_frame(self, learned: FrameFacts) -> None:
        if self._is_closed:
            return
        for bad in learned.malformed:
            log.warning("malformed frame row problem=%s row=%s", bad.problem, bad.excerpt)
        self._state.absorb(learned.facts)
        if learned.malformed:
            self._soon(lambda: self._recovery.reconcile("malformed frame"))
        if self._state.ask(lambda ledger: bool(ledger.due_cancels())):
            self._soon(self._order_entry.send_due_cancels)
        self._bus.deliver()

    def _on_wallet_frame(self, frame: Envelope) -> None:
        if self._is_closed:
            return
        try:
            self._recovery.absorb_wallet_frame(frame)
        except QktError as error:
            log.warning("malformed wallet frame error=%s", error)
        self._bus.deliver()

    def _on_disconnect(self, reason: str) -> None:
        if not self._is_closed:
            self._state.degrade("stream", reason)
            self._bus.deliver()

    def _on_reconnect(self) -> None:
        """The subscriptions are acknowledged: what happened in the dark is read now (ack, then snapshot: S44)."""
        if self._is_closed:
            return
        self._state.restore("auth")
        if not self._topics.keys() & getattr(self._client, "topic_faults", {}).keys():
            self._state.restore("topics")
            self._state.restore("stream")
        self._round("reconnect")

    def _on_gap(self, *_details: object) -> None:
        if not self._is_closed:
            self._soon(lambda: self._round("suspend or clock jump"))

    def _on_stream_fault(self, fault: Any) -> None:
        """A refused login calls for a person (S42); behind a refused topic rounds must see instead (S43)."""
        topic = str(getattr(fault, "topic", ""))
        if self._is_closed or (topic and topic not in self._topics):
            return
        if topic:
            self._state.degrade("topics", f"{topic}: {fault.reason}")
            self._soon(lambda: self._round("topic refused"))
        else:
            self._state.degrade(str(fault.kind), str(fault.reason))
        self._bus.deliver()

    # -- rounds ------------------------------------------------------------------------------------------------------

    def reconcile(self) -> ReconcileReport:
        """Read the venue's whole state now and tell what differed; also runs every ``poll_interval_ms``.

        Never raises for the venue: a path that failed is in the report (``report.ok`` is False then).
        """
        self._state.check_open()
        return self._round("asked")

    def _round(self, trigger: str) -> ReconcileReport:
        report = self._recovery.reconcile(trigger)
        self._order_entry.send_due_cancels()
        depth = self._bus.queue_depth
        if depth > _QUEUE_ALARM:
            self._state.degrade("delivery", f"{depth} events wait: a handler is slower than the venue")
        else:
            self._state.restore("delivery")
        self._look_again_soon(report)
        if self._checks.instruments.is_due(self.category, self._clock.monotonic_ms()):
            self._soon(lambda: self._checks.instruments.refresh(self.category, self._clock))
        self._bus.deliver()
        return report

    def _look_again_soon(self, report: ReconcileReport) -> None:
        """Tighten the cadence while another look can settle something; a venue that fails is left alone."""
        is_dark = not {"stream", "topics"}.isdisjoint(self._state.degraded)
        wants_more = report.ok and bool(is_dark or report.unresolved or report.lookups_waiting)
        with self._close_lock:
            if not wants_more:
                self._extra_rounds_left = _MOST_EXTRA_ROUNDS
                return
            if self._is_closed or self._extra_round is not None or not self._extra_rounds_left:
                return
            self._extra_rounds_left -= 1
            delay_ms = max(_LEAST_BETWEEN_ROUNDS_MS, self._poll_interval_ms // _TIGHTENING)
            self._extra_round = self._scheduler.schedule_once(self._run_extra_round, delay_ms)

    def _run_extra_round(self) -> None:
        with self._close_lock:
            self._extra_round = None
        if not self._is_closed:
            self._round("looking again")

    def _tick(self) -> None:
        if not self._is_closed:
            self._round("timer")

    def _soon(self, action: Callable[[], object]) -> None:
        def run() -> None:
            if not self._is_closed:
                action()
                self._bus.deliver()

        self._scheduler.schedule_once(run, 0)

    # -- how it is ----------------------------------------------------------------------------------------------------

    @property
    def health(self) -> Health:
        """How old and how sure everything is."""
        stream = getattr(self._client, "stream_state", None)
        return Health(
            source=self.source,
            orders=self._recovery.age_ms("orders"),
            executions=self._recovery.age_ms("executions"),
            balances=self._recovery.age_ms("balances"),
            positions=self._recovery.age_ms("positions"),
            stream=str(stream) if stream is not None else ("live" if self._client.is_connected else "down"),
            unresolved=self._state.unresolved(),
            lookups_waiting=self._recovery.lookups_waiting,
            queue_depth=self._bus.queue_depth,
            degraded=self._state.degraded,
        )

    @property
    def reports(self) -> tuple[ReconcileReport, ...]:
        """The last rounds, oldest first."""
        return tuple(self._recovery.reports)

    # -- the end -----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop the timer and deliver what is queued, for at most a second; idempotent, from any thread or handler.

        Orders stay as they are at the venue, and the client and a given scheduler stay open. After this returns no
        handler hears from this broker; what could not be delivered is counted in one WARNING.
        """
        with self._close_lock:
            if self._is_closed:
                return
            self._is_closed = True
            if self._extra_round is not None:
                self._extra_round.cancel()
        self._reconciler.stop()
        self._release_scheduler()
        undelivered = self._state.close(drain_ms=1_000)
        self._recovery.close()
        for relay in self._relays:
            relay.handler = None
        if undelivered:
            log.warning("closed with events undelivered source=%s count=%d", self.source, undelivered)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._is_closed:
            return f"<{type(self).__name__} {self.source} closed>"
        health = self.health
        return (
            f"<{type(self).__name__} {self.source} stream={health.stream} age_ms={health.staleness_ms} "
            f"open_orders={len(self._state.open_orders())} unresolved={len(health.unresolved)}"
            f"{' frozen' if self._checks.risk.is_frozen else ''}>"
        )


def _require_positive_ms(value: object, name: str) -> None:
    _require_ms(value, name)
    if value == 0:
        raise InvalidRequestError(f"{name} must be above zero")


def _require_ms(value: object, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequestError(f"{name} must be a whole number of milliseconds, not below zero; got {value!r}")
