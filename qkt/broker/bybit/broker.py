"""A broker for one Bybit category: orders out, frames in, rounds on a timer, and what is believed for whoever asks.

Threads: yours for every call here; the transport's reading thread for frames (they only become facts); the scheduler's
for rounds and lookups. No handler, socket or request runs under a lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ClassVar, Self, TypeVar

from qkt.broker.bybit.batch import BybitBatchWrites
from qkt.broker.bybit.frames import FrameFacts, execution_facts, order_facts
from qkt.broker.bybit.gate import BybitGate
from qkt.broker.bybit.instruments import instrument_desk
from qkt.broker.bybit.recovery import BybitStateRecovery
from qkt.broker.bybit.symbol import BybitSymbol
from qkt.broker.bybit.transport import BybitTransport, Envelope
from qkt.broker.guards import GuardRail, Guards
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
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.net.reconciler import PeriodicReconciler
from qkt.net.scheduler import ThreadScheduler
from qkt.net.scheduling import Cancellable, Scheduler
from qkt.orders.order import Order
from qkt.orders.trail import OrderStory
from qkt.reconcile.plan import Limits
from qkt.reconcile.report import ReconcileReport

log = logging.getLogger(__name__)

R = TypeVar("R", bound=OrderRequest)
T = TypeVar("T")

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
        guards: limits no order of this broker may exceed; none by default.

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
        guards: Guards | None = None,
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
        self._gate = BybitGate(
            instrument_desk(client),
            GuardRail(guards, self._clock, self.source),
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
        self._owns_scheduler = poll_scheduler is None
        self._scheduler: Scheduler = poll_scheduler or ThreadScheduler(workers=1, name="qkt-reconcile")
        self._writes = BybitBatchWrites(client, self._state, self._recovery, self._scheduler, self._clock)
        self._reconciler = PeriodicReconciler(poll_interval_ms, self._tick, scheduler=self._scheduler)
        try:
            self._listen()
            report = self._recovery.reconcile("construction")
            if not report.ok:
                raise ReconcileError(f"{self.source} could not read the venue's state:\n{report}", report=report)
            self._gate.desk.refresh(self.category, self._clock)
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
        if self._gate.desk.is_due(self.category, self._clock.monotonic_ms()):
            self._soon(lambda: self._gate.desk.refresh(self.category, self._clock))
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
        finding out; never resend). Raises InvalidRequestError for what cannot be right, what the venue's rules or a
        guard forbid, and VenueUnavailableError when nothing was sent; the id is free again in both cases.
        A spot stop or if-touched order reads the last price first: spot has no direction field, so the venue would
        take a trigger that is already crossed for the opposite order. If it cannot be read the order goes out.
        Source: POST /v5/order/create (docs v5/order/create-order).
        """
        self._state.check_open()
        self._check_staleness()
        self._gate.admit([request])
        return self._writes.submit(request)

    def submit_many(self, requests: Iterable[OrderRequest]) -> list[SubmitAck]:
        """Send orders in as few requests as the venue allows; one ack per order, in the order given.

        All or none pass the checks: one that cannot be right raises as in `submit`, and nothing is sent. From then on
        each order has its own outcome: one may be REJECTED beside others that stand. When a request of the batch gets
        no answer, each of its orders is UNKNOWN and looked up. If the budget runs out, or the broker is frozen, after
        part of the orders left, the rest are REJECTED as "never sent".
        Source: POST /v5/order/create-batch (docs v5/order/batch-place).
        """
        self._state.check_open()
        orders = _several(requests, "submit_many", "orders")
        if not orders:
            return []
        self._check_staleness()
        self._gate.admit(orders)
        return self._writes.submit_many(orders, self._check_may_go_on)

    def check(self, request: OrderRequest) -> None:
        """Raise what `submit` would raise for this order, guards left out, and send nothing."""
        self._gate.check([request])

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Ask for an order's end, ours or an outside one, by exactly one of its ids.

        ACCEPTED says the venue has the cancel, not that the order ended: `OrderCancelled` or `OrderCancelFailed` tells
        which. The cancel of an unresolved order is remembered (UNKNOWN) and sent when the order appears.
        Source: POST /v5/order/cancel (docs v5/order/cancel-order).
        """
        self._state.check_open()
        return self._writes.cancel(self._named_order(client_order_id, broker_order_id))

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:
        """Cancel every open order of ours (and the outside ones, if told), each on its own evidence (S84).

        Sent as `cancel_many` sends them: the venue's own cancel-all would leave nothing to tell one order by.
        """
        self._state.check_open()
        chosen = [
            view
            for view in self._state.open_orders()
            if symbol in (None, view.symbol) and (include_external or not view.external)
        ]
        return self._writes.cancel_many(
            [self._state.order(view.client_order_id or None, view.broker_order_id) for view in chosen]
        )

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """Ask for the end of orders, in few requests; one ack per order, client ids first, in the order given.

        An unknown id, or one named twice, raises InvalidRequestError and nothing is sent. Each order has its own
        outcome, as with `cancel`; nothing is sent twice. Conditional spot orders go one by one, since the venue's
        batch cannot name their kind.
        Source: POST /v5/order/cancel-batch (docs v5/order/batch-cancel).
        """
        self._state.check_open()
        orders = [self._named_order(name, None) for name in _several(client_order_ids, "cancel_many", "ids")]
        orders += [self._named_order(None, name) for name in _several(broker_order_ids, "cancel_many", "ids")]
        if len({(order.client_order_id, order.broker_order_id) for order in orders}) < len(orders):
            raise InvalidRequestError("cancel_many names an order twice; nothing was sent")
        return self._writes.cancel_many(orders)

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
        order = self._named_order(client_order_id, broker_order_id)
        if order.is_open:
            self._gate.admit_changes(order.view(), changes)
        return self._writes.modify(order, changes)

    # -- rules and guards --------------------------------------------------------------------------------------------

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The venue's rules for a symbol as last read (at most about an hour ago); None when it did not list them."""
        return self._gate.desk.rules(symbol)

    def quantize(self, request: R) -> R:
        """The nearest order that fits the venue's steps and is no worse for you; the same object when it fits already.

        A buy's prices never go up, a sell's never down, quantities never up. Without rules (a WARNING) nothing is
        changed. Raises InvalidRequestError when nothing would be left of the quantity.
        """
        return self._gate.quantize(request)

    def freeze(self, reason: str = "asked") -> None:
        """The kill switch: refuse submits and amends until `unfreeze`; cancels pass, orders at the venue stay."""
        self._gate.rail.freeze(reason)

    def unfreeze(self) -> None:
        """Let orders pass again."""
        self._gate.rail.unfreeze()

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze`."""
        return self._gate.rail.is_frozen

    def _check_may_go_on(self) -> None:
        self._state.check_open()
        self._gate.rail.check_not_frozen()

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
            f"open_orders={len(self.open_orders())} unresolved={len(health.unresolved)}"
            f"{' frozen' if self.is_frozen else ''}>"
        )


def _several(given: Iterable[T], asked: str, what: str) -> list[T]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidRequestError(f"{asked} takes a list of {what}; got {given!r}")
    return list(given)


def _require_positive_ms(value: object, name: str) -> None:
    _require_ms(value, name)
    if value == 0:
        raise InvalidRequestError(f"{name} must be above zero")


def _require_ms(value: object, name: str) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidRequestError(f"{name} must be a whole number of milliseconds, not below zero; got {value!r}")
