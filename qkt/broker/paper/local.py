"""Base of the brokers whose market is in this process: answers are immediate, and no thread is started.

Rows of the paper market become the facts that frames and pages become at a live venue, and enter the same
`BrokerState`, so `wait`, `order`, `fills`, `explain` and all events come from the same code. The market runs under
this broker's lock; events are delivered after it is released, so a handler may submit, cancel, modify or close.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from qkt.broker.arguments import list_argument
from qkt.broker.capabilities import capability_names, needed_for
from qkt.broker.order_queries import OrderQueries
from qkt.broker.paper.matching import PaperMarket, RefusedByMarketError, Row
from qkt.broker.protocol import OrderTypeCapability, SubmitAck, SubmitOutcome
from qkt.broker.risk import RiskGate, RiskLimits
from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent, OrderCancelFailed, OrderModifyFailed, Origin
from qkt.health import Health
from qkt.ids import new_client_order_id
from qkt.model.checks import check_changes, quantize
from qkt.model.instruments import InstrumentRules
from qkt.model.order_report import OrderReport
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.orders.facts import (
    AnyFact,
    CancelIntended,
    CancelRefused,
    ExecutionReported,
    ModifyIntended,
    ModifyRefused,
    OrderReported,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitRefused,
)
from qkt.orders.order import Order
from qkt.reconcile.report import ReconcileReport

log: logging.Logger = logging.getLogger(__name__)

R = TypeVar("R", bound=OrderRequest)
T = TypeVar("T")

_RETAIN_CLOSED_MS = 24 * 60 * 60 * 1_000
_PURGE_EVERY_MS = 60_000


class LocalBroker(OrderQueries):
    """Shared implementation of `PaperBroker` and `LogBroker`; satisfies `Broker`.

    Closed orders can be queried for ``retain_closed_ms``; ``risk_limits`` apply as at the live brokers.
    """

    capabilities: frozenset[OrderTypeCapability] = frozenset()

    def __init__(
        self,
        bus: EventBus,
        clock: Clock | None,
        market: PaperMarket,
        *,
        name: str,
        risk_limits: RiskLimits | None = None,
        retain_closed_ms: int = _RETAIN_CLOSED_MS,
    ) -> None:
        self._name = name
        self._bus = bus
        self._clock = clock or SystemClock()
        self._market = market
        self._risk = RiskGate(risk_limits, self._clock, name)
        self._retain_closed_ms = retain_closed_ms
        self._lock = threading.Lock()
        self._purged_ms = self._clock.now_ms()
        self._state = BrokerState(source=name, bus=bus, clock=self._clock)

    @property
    def name(self) -> str:
        """Name of the broker in logs and events."""
        return self._name

    @property
    def bus(self) -> EventBus:
        """The bus that this broker's events go to."""
        return self._bus

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Accept an order; the market answers before this returns, and its events may precede the ack.

        Raises:
            InvalidRequestError: the order is invalid, exceeds a risk limit or reuses an id, or the broker is closed or
                frozen.
        """
        return self._submit_all([request])[0]

    def submit_many(self, requests: Iterable[OrderRequest]) -> list[SubmitAck]:
        """Accept several orders; one ack each, in the order given.

        All orders pass the checks or none is accepted and it raises. From then on each order has its own outcome.
        """
        return self._submit_all(list_argument(requests, "submit_many", "orders"))

    def _submit_all(self, requests: Sequence[OrderRequest]) -> list[SubmitAck]:
        self._state.check_open()
        self._prepare(requests)
        with self._lock:
            now_ms = self._clock.now_ms()
            self._forget_old_orders(now_ms)
            self._admit(requests)
            intents = [_intent(request, now_ms) for request in requests]
            self._state.begin_submits(intents)
            acks = [self._place(intent) for intent in intents]
        for ack, request in zip(acks, requests, strict=True):
            self._answered("submit", ack, request)
        self._bus.deliver()
        return acks

    def _place(self, intent: SubmitIntended) -> SubmitAck:
        about: dict[str, Any] = {
            "client_order_id": intent.client_order_id,
            "at_ms": intent.at_ms,
            "origin": intent.origin,
        }
        broker_order_id = self._market.next_broker_order_id
        try:
            rows = self._market.place(intent.request, intent.client_order_id, intent.at_ms)
        except RefusedByMarketError as error:
            self._absorb([SubmitRefused(**about, reason=str(error))])
            return _rejected(intent.client_order_id, "", str(error))
        self._absorb(
            [SubmitAcknowledged(**about, broker_order_id=broker_order_id), *_facts(rows, intent.at_ms, intent.origin)]
        )
        return _accepted(intent.client_order_id, broker_order_id)

    def check(self, request: OrderRequest) -> None:
        """Raise what `submit` would raise for this order, risk limits left out, and accept nothing."""
        self._prepare([request])
        with self._lock:
            self._check_all(request)

    def _prepare(self, requests: Sequence[OrderRequest]) -> None:
        """Fetch what the checks need; called without a lock, before the requests are validated."""

    def _admit(self, requests: Sequence[OrderRequest]) -> None:
        self._risk.check_not_frozen()
        for request in requests:
            self._check_all(request)
        fed = {request.symbol: self._risk.risk_limits.fed_price(request.symbol) for request in requests}
        known = {symbol: price for symbol, price in fed.items() if price is not None}
        self._risk.admit(requests, {**self._market.prices, **known})

    def _check_all(self, request: OrderRequest) -> None:
        if not isinstance(request, OrderRequest):
            raise InvalidRequestError(f"submit takes an order such as LimitOrder(...), got {request!r}")
        self._check_capability(request)
        self._check(request)

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Cancel an open order, named by exactly one of its ids; an unknown id raises InvalidRequestError.

        An order that has ended gives REJECTED and `OrderCancelFailed`.
        """
        self._state.check_open()
        with self._lock:
            order = self._named_order(client_order_id, broker_order_id)
            about = self._about(order)
            ack = self._ask(
                order,
                CancelIntended(**about, sent_ms=about["at_ms"]),
                lambda: self._market.cancel(order.client_order_id, about["at_ms"]),
                lambda reason: CancelRefused(**about, reason=reason),
                OrderCancelFailed,
            )
        self._answered("cancel", ack)
        self._bus.deliver()
        return ack

    def modify(
        self,
        client_order_id: str | None = None,
        changes: OrderModification | None = None,
        *,
        broker_order_id: str | None = None,
    ) -> SubmitAck:
        """Modify an open order. REJECTED when it has ended or the market refuses; an unknown id raises
        InvalidRequestError.

        Raises InvalidRequestError also for a term that this order type does not have.
        """
        self._state.check_open()
        if not isinstance(changes, OrderModification):
            raise InvalidRequestError(f"modify takes an OrderModification, got {changes!r}")
        with self._lock:
            order = self._named_order(client_order_id, broker_order_id)
            if order.terminal is None:
                self._risk.admit_changes(order.view(), changes)
                self._check_changes(order.view(), changes)
            about = self._about(order)
            ack = self._ask(
                order,
                ModifyIntended(**about, changes=changes, sent_ms=about["at_ms"]),
                lambda: self._market.amend(order.client_order_id, changes, about["at_ms"]),
                lambda reason: ModifyRefused(**about, reason=reason),
                OrderModifyFailed,
            )
        self._answered("modify", ack, changes)
        self._bus.deliver()
        return ack

    def _about(self, order: Order) -> dict[str, Any]:
        """Fields that every fact about a request on ``order`` has."""
        return {"client_order_id": order.client_order_id, "at_ms": self._clock.now_ms(), "origin": "submit"}

    def _ask(
        self,
        order: Order,
        intent: AnyFact,
        do: Callable[[], list[Row]],
        refused: Callable[[str], AnyFact],
        failed: type[OrderCancelFailed | OrderModifyFailed],
    ) -> SubmitAck:
        """Record the intent, let the market answer it, record the answer."""
        if order.terminal is not None:
            reason = f"the order ended before: {order.terminal.kind.name}"
            rejected = _rejected(order.client_order_id, order.broker_order_id, reason)
            self._publish(
                failed(
                    client_order_id=rejected.client_order_id,
                    broker_order_id=rejected.broker_order_id,
                    origin="submit",
                    reason=reason,
                )
            )
            return rejected
        self._state.absorb([intent])
        try:
            rows = do()
        except RefusedByMarketError as error:
            self._absorb([refused(str(error))])
            return _rejected(order.client_order_id, order.broker_order_id, str(error))
        self._absorb(_facts(rows, intent.at_ms, "submit"))
        return _accepted(order.client_order_id, order.broker_order_id)

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:  # noqa: ARG002
        """Cancel every open order, or those on ``symbol``: one ack each, oldest first. All orders here are ours."""
        self._state.check_open()
        return [self.cancel(view.client_order_id) for view in self.open_orders() if symbol in (None, view.symbol)]

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """Cancel several orders; one ack each, client ids first. An unknown or repeated id raises before any is
        cancelled.
        """
        self._state.check_open()
        orders = [self._named_order(name, None) for name in list_argument(client_order_ids, "cancel_many", "ids")]
        orders += [self._named_order(None, name) for name in list_argument(broker_order_ids, "cancel_many", "ids")]
        ids = [order.client_order_id for order in orders]
        if len(set(ids)) < len(ids):
            raise InvalidRequestError("cancel_many names an order twice; nothing was cancelled")
        return [self.cancel(client_order_id) for client_order_id in ids]

    def rules(self, symbol: str) -> InstrumentRules | None:  # noqa: ARG002 - the default knows none
        """The venue's rules for a symbol, None where none were given."""
        return None

    def quantize(self, request: R) -> R:
        """Nearest order that fits the rules' steps and is no worse for its owner; unchanged without rules."""
        rules = self.rules(request.symbol)
        return request if rules is None else quantize(request, rules)

    def freeze(self, reason: str = "asked") -> None:
        """Refuse submits and modifications until `unfreeze`; cancels pass."""
        self._risk.freeze(reason)

    def unfreeze(self) -> None:
        """Accept submits and modifications again."""
        self._risk.unfreeze()

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze`."""
        return self._risk.is_frozen

    def _check(self, request: OrderRequest) -> None:
        """Raise InvalidRequestError for an order that this broker does not accept; nothing has been recorded yet."""

    def _check_changes(self, order: OrderView, changes: OrderModification) -> None:
        """Raise InvalidRequestError for a modification that this broker does not accept; nothing is recorded yet."""
        check_changes(order, changes, None)

    def _answered(self, asked: str, ack: SubmitAck, terms: OrderRequest | OrderModification | None = None) -> None:
        """Hook called after a request was answered and its events are queued; no lock is held."""

    def _absorb(self, facts: Iterable[AnyFact]) -> None:
        self._state.absorb(facts)

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """Supported order types and operations on ``symbol``; empty when it is not served."""
        return self.capabilities if self.supports(symbol) else frozenset()

    def supports(self, symbol: str) -> bool:  # noqa: ARG002 - the default serves them all
        """True for every symbol, unless a subclass restricts it."""
        return True

    def _check_capability(self, request: OrderRequest) -> None:
        able = self.capabilities_for(request.symbol)
        if not able:
            raise InvalidRequestError(f"{self.name} does not serve {request.symbol!r}")
        lacking = needed_for(request) - able
        if lacking:
            raise InvalidRequestError(
                f"{self.name} cannot do {capability_names(lacking)} on {request.symbol}; "
                f"it can do {capability_names(able)}"
            )

    @property
    def health(self) -> Health:
        """Health with all ages zero: the market is in this process."""
        return Health(
            source=self.name,
            orders=0,
            executions=0,
            balances=0,
            stream="closed" if self._state.is_closed else "local",
            queue_depth=self._bus.queue_depth,
        )

    def reconcile(self) -> Mapping[str, ReconcileReport]:
        """An empty mapping: the market is in this process, so there is no venue to compare the state with."""
        return {}

    def _absorb_rows(self, rows: Iterable[Row], now_ms: int) -> None:
        self._absorb(_facts(rows, now_ms, "stream"))

    def _publish(self, event: BrokerEvent) -> None:
        self._state.publish([event])

    def _forget_old_orders(self, now_ms: int) -> None:
        if now_ms - self._purged_ms < _PURGE_EVERY_MS:
            return
        self._purged_ms = now_ms
        before_ms = now_ms - self._retain_closed_ms
        self._state.forget_closed(closed_before_ms=before_ms, executed_before_ms=before_ms)

    def close(self) -> None:
        """Stop accepting orders and deliver queued events. Idempotent, from any thread or handler."""
        if self._state.is_closed:
            return
        left = self._state.close()
        if left:
            log.warning("closed with events undelivered source=%s events=%d", self.name, left)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = " closed" if self._state.is_closed else ""
        return f"<{type(self).__name__} {self.name}{state} open_orders={len(self.open_orders())}>"


def _intent(request: OrderRequest, now_ms: int) -> SubmitIntended:
    return SubmitIntended(
        client_order_id=request.client_order_id or new_client_order_id(),
        request=request,
        sent_ms=now_ms,
        at_ms=now_ms,
        origin="submit",
    )


def _facts(rows: Iterable[Row], at_ms: int, origin: Origin) -> list[AnyFact]:
    return [
        OrderReported(report=row, as_of_ms=row.updated_ms, at_ms=at_ms, origin=origin)
        if isinstance(row, OrderReport)
        else ExecutionReported(execution=row, at_ms=at_ms, origin=origin)
        for row in rows
    ]


def _accepted(client_order_id: str, broker_order_id: str) -> SubmitAck:
    return SubmitAck(client_order_id=client_order_id, broker_order_id=broker_order_id, outcome=SubmitOutcome.ACCEPTED)


def _rejected(client_order_id: str, broker_order_id: str, reason: str) -> SubmitAck:
    return SubmitAck(
        client_order_id=client_order_id,
        broker_order_id=broker_order_id,
        outcome=SubmitOutcome.REJECTED,
        reject_reason=reason,
    )
