"""A broker for one Bybit category: orders out, frames in, rounds on a timer, and what is believed for whoever asks.

Threads: yours for every call here; the transport's reading thread for frames (they only become facts); the scheduler's
for rounds and lookups. No handler, socket or request runs under a lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self

from qkt.broker.bybit.frames import FrameFacts, execution_facts, order_facts
from qkt.broker.bybit.recovery import BybitStateRecovery
from qkt.broker.bybit.symbol import BybitSymbol
from qkt.broker.bybit.transport import BybitTransport, Envelope
from qkt.broker.bybit.writes import BybitWrites
from qkt.broker.protocol import OrderTypeCapability, SubmitAck
from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.clock import Clock, SystemClock
from qkt.errors import (
    InvalidRequestError,
    QktError,
    ReconcileError,
    VenueUnavailableError,
)
from qkt.health import Health
from qkt.model.executions import Execution
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.net.reconciler import PeriodicReconciler
from qkt.net.scheduler import ThreadScheduler
from qkt.net.scheduling import Cancellable, Scheduler
from qkt.orders.order import Order
from qkt.orders.trail import OrderStory
from qkt.reconcile.plan import Limits
from qkt.reconcile.report import ReconcileReport

log = logging.getLogger(__name__)

_QUEUE_ALARM = 10_000

# While the stream is dark or an order is unresolved a round comes this many times as often, though not for ever.
_TIGHTENING = 6
_LEAST_BETWEEN_ROUNDS_MS = 1_000
_MOST_EXTRA_ROUNDS = 60


class BybitBroker:
    """Everything the brokers for Bybit's categories share.

    Args:
        client: a `BybitTransport`, connected or to be connected; it is never closed by the broker.
        bus: where events go; brokers may share one.
        clock: dates events and measures ages; the system's by default.
        recovery_window_ms: how far before construction executions are read and published, and the overlap later.
        poll_interval_ms: the time between two rounds.
        poll_scheduler: runs rounds and lookups; by default a thread of the broker's own. Never closed if given.
        max_staleness_ms: refuse to submit while the state is older than this; off by default.
        retain_closed_ms: how long `order`, `fills` and `explain` know an order after it closed.

    Raises ReconcileError when the first round could not read everything: a bot must not start on half a picture.
    """

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
        poll_scheduler: Scheduler | None = None,
        max_staleness_ms: int | None = None,
        retain_closed_ms: int = 24 * 3_600_000,
        limits: Limits | None = None,
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
        self._owns_scheduler = poll_scheduler is None
        self._scheduler: Scheduler = poll_scheduler or ThreadScheduler(workers=1, name="qkt-reconcile")
        self._writes = BybitWrites(client, self._state, self._recovery, self._scheduler, self._clock)
        self._reconciler = PeriodicReconciler(poll_interval_ms, self._tick, scheduler=self._scheduler)
        try:
            self._listen()
            report = self._recovery.reconcile("construction")
            if not report.ok:
                raise ReconcileError(f"{self.source} could not read the venue's state:\n{report}", report=report)
            self._reconciler.start()
        except BaseException:
            self.close()
            raise
        self._bus.deliver()

    # -- frames ------------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        for topic, listener in self._topics.items():
            self._client.subscribe(topic, listener)
        self._client.on_disconnect(self._on_disconnect)
        self._client.on_reconnect(self._on_reconnect)
        for hook, handler in (("on_fault", self._on_stream_fault), ("on_gap", self._on_gap)):
            register = getattr(self._client, hook, None)
            if callable(register):
                register(handler)

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
            self._soon(self._writes.send_due_cancels)
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
        self._writes.send_due_cancels()
        depth = self._bus.queue_depth
        if depth > _QUEUE_ALARM:
            self._state.degrade("delivery", f"{depth} events wait: a handler is slower than the venue")
        else:
            self._state.restore("delivery")
        self._look_again_soon(report)
        self._bus.deliver()
        return report

    def _look_again_soon(self, report: ReconcileReport) -> None:
        """Tighten the cadence while another look can settle something; a venue that fails is left alone."""
        is_dark = not {"stream", "topics"}.isdisjoint(self._state.degraded)
        wants_more = report.ok and bool(is_dark or report.unresolved or report.questions_waiting)
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

    # -- orders ------------------------------------------------------------------------------------------------------

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send an order.

        Returns an ack whose ``outcome`` is ACCEPTED (the venue has the request), REJECTED (proved) or UNKNOWN (qkt is
        finding out; never resend). Raises InvalidRequestError for what cannot be right and VenueUnavailableError when
        nothing was sent; the id is free again in both cases.
        Source: POST /v5/order/create (docs v5/order/create-order).
        """
        self._state.check_open()
        self._check(request)
        self._check_staleness()
        return self._writes.submit(request)

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Ask for an order's end, ours or an outside one, by exactly one of its ids.

        ACCEPTED says the venue has the cancel, not that the order ended: `OrderCancelled` or `OrderCancelFailed` tells
        which. The cancel of an unresolved order is remembered (UNKNOWN) and sent when the order appears.
        Source: POST /v5/order/cancel (docs v5/order/cancel-order).
        """
        self._state.check_open()
        return self._writes.cancel(self._named_order(client_order_id, broker_order_id))

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:
        """Cancel every open order of ours (and the outside ones, if told), each on its own evidence (S84)."""
        self._state.check_open()
        chosen = [
            view
            for view in self._state.open_orders()
            if symbol in (None, view.symbol) and (include_external or not view.external)
        ]
        return [
            self._writes.cancel(self._state.order(view.client_order_id or None, view.broker_order_id))
            for view in chosen
        ]

    def modify(
        self,
        client_order_id: str | None = None,
        changes: OrderModification | None = None,
        *,
        broker_order_id: str | None = None,
    ) -> SubmitAck:
        """Ask for other terms on a working order; `OrderModified` or `OrderModifyFailed` tells what became of it.

        Source: POST /v5/order/amend (docs v5/order/amend-order).
        """
        self._state.check_open()
        if not isinstance(changes, OrderModification):
            raise InvalidRequestError(f"modify takes an OrderModification(...); got {changes!r}")
        return self._writes.modify(self._named_order(client_order_id, broker_order_id), changes)

    # -- checks ------------------------------------------------------------------------------------------------------

    def _check(self, request: OrderRequest) -> None:
        if not isinstance(request, OrderRequest):
            raise InvalidRequestError(f"submit takes an order, e.g. LimitOrder(...); got {type(request).__name__}")
        if BybitSymbol.parse(request.symbol).category != self.category:
            raise InvalidRequestError(f"{self.source} does not serve {request.symbol!r}")

    def _check_staleness(self) -> None:
        if self._max_staleness_ms is None:
            return
        age_ms = self.health.staleness_ms
        if age_ms is None or age_ms > self._max_staleness_ms:
            raise VenueUnavailableError(
                f"nothing was sent: the state is {age_ms} ms old and max_staleness_ms is {self._max_staleness_ms}; "
                "see broker.health for what cannot be read"
            )

    def _named_order(self, client_order_id: str | None, broker_order_id: str | None) -> Order:
        if (client_order_id is None) == (broker_order_id is None):
            raise InvalidRequestError("name the order by client_order_id or by broker_order_id, exactly one of them")
        return self._state.order(client_order_id, broker_order_id)

    # -- looking -----------------------------------------------------------------------------------------------------

    def order(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderView:
        """What qkt believes of one order now; raises InvalidRequestError for an unknown id."""
        return self._named_order(client_order_id, broker_order_id).view()

    def open_orders(self) -> list[OrderView]:
        """Every order not known to have ended: ours, unresolved ones, and outside ones (``external``)."""
        return self._state.open_orders()

    def fills(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> tuple[Execution, ...]:
        """An order's executions, oldest first."""
        self._named_order(client_order_id, broker_order_id)
        return self._state.fills(client_order_id, broker_order_id)

    def explain(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderStory:
        """The trail of facts behind an order: when each came, from where, what it changed. Printable."""
        view = self.order(client_order_id, broker_order_id=broker_order_id)
        return OrderStory(order=view, entries=self._state.trail(client_order_id, broker_order_id))

    def wait(
        self,
        client_order_id: str | None = None,
        *,
        broker_order_id: str | None = None,
        until: str | Callable[[OrderView], bool] = "closed",
        timeout_ms: int = 5_000,
    ) -> OrderView:
        """Block until an order is ``"accepted"``, ``"resolved"`` or ``"closed"``, or a function of its view is true.

        ``"accepted"`` also returns when the order ended instead. Watches the state, never the delivery of events.
        Raises WaitTimeoutError, with the view, when it takes longer than ``timeout_ms``.
        """
        self._named_order(client_order_id, broker_order_id)
        return self._state.wait(client_order_id, broker_order_id, until, timeout_ms)

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
            questions_waiting=self._recovery.questions_waiting,
            queue_depth=self._bus.queue_depth,
            degraded=self._state.degraded,
        )

    @property
    def reports(self) -> tuple[ReconcileReport, ...]:
        """The last rounds, oldest first."""
        return tuple(self._recovery.reports)

    @property
    def name(self) -> str:
        """The broker's name in logs and events."""
        return self.source

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """What can be done on ``symbol``; empty when it is not served."""
        return self.capabilities if self.supports(symbol) else frozenset()

    def supports(self, symbol: str) -> bool:
        """True when ``symbol`` is of this broker's category."""
        try:
            return BybitSymbol.parse(symbol).category == self.category
        except InvalidRequestError:
            return False

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
        if self._owns_scheduler and isinstance(self._scheduler, ThreadScheduler):
            self._scheduler.close()
        undelivered = self._state.close(drain_ms=1_000)
        self._recovery.close()
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
            f"open_orders={len(self.open_orders())} unresolved={len(health.unresolved)}>"
        )


def _require_positive_ms(value: object, name: str) -> None:
    _require_ms(value, name)
    if value == 0:
        raise InvalidRequestError(f"{name} must be above zero")


def _require_ms(value: object, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequestError(f"{name} must be a whole number of milliseconds, not below zero; got {value!r}")
