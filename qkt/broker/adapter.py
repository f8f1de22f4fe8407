"""Completes a broker that has only the basic members, so that it can be used wherever a `Broker` is expected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

from qkt.broker.arguments import check_one_id, list_argument
from qkt.broker.protocol import (
    BasicBroker,
    Broker,
    OrderTypeCapability,
    SubmitAck,
    SubmitOutcome,
    WaitGoal,
)
from qkt.errors import InvalidRequestError, QktError
from qkt.health import Health
from qkt.model.executions import Execution
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.orders.audit import OrderAudit
from qkt.reconcile.report import ReconcileReport

R = TypeVar("R", bound=OrderRequest)

_OPTIONAL = (
    "order",
    "fills",
    "explain",
    "wait",
    "reconcile",
    "check",
    "rules",
    "quantize",
    "submit_many",
    "cancel_many",
)


def as_broker(broker: BasicBroker) -> Broker:
    """The broker itself when it has every member of `Broker`, else an adapter that derives the missing ones."""
    return broker if isinstance(broker, Broker) else BrokerAdapter(broker)


def never_sent(request: OrderRequest, error: QktError) -> SubmitAck:
    """Ack for an order of a batch that was not sent because an earlier part of the batch failed."""
    return SubmitAck(
        client_order_id=request.client_order_id or "",
        outcome=SubmitOutcome.REJECTED,
        reject_reason=f"never sent: {error}",
    )


class BrokerAdapter:
    """A `BasicBroker` with the remaining members of `Broker` derived from its basic ones.

    Lists are sent one by one, `order` searches the open orders, the kill switch is kept here. What cannot be derived
    (fills, audit, waiting, reconciliation) raises InvalidRequestError, unless the broker has that member itself.
    """

    def __init__(self, broker: BasicBroker) -> None:
        self._basic = broker
        self._own: dict[str, Any] = {name: getattr(broker, name) for name in _OPTIONAL if hasattr(broker, name)}
        self._frozen_because: str | None = None

    @property
    def name(self) -> str:
        """Name of the broker in logs and events."""
        return self._basic.name

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send an order, unless the broker is frozen."""
        self._check_not_frozen()
        return self._basic.submit(request)

    def submit_many(self, requests: Iterable[OrderRequest]) -> list[SubmitAck]:
        """Send orders one by one; after a failure the rest is REJECTED as never sent, if an order was taken before."""
        self._check_not_frozen()
        if "submit_many" in self._own:
            acks: list[SubmitAck] = self._own["submit_many"](requests)
            return acks
        orders = list_argument(requests, "submit_many", "orders")
        acks = []
        for number, request in enumerate(orders):
            try:
                acks.append(self._basic.submit(request))
            except QktError as error:
                if not acks:
                    raise
                return acks + [never_sent(unsent, error) for unsent in orders[number:]]
        return acks

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Request the cancellation of an order, by exactly one of its ids."""
        return self._basic.cancel(client_order_id, broker_order_id=broker_order_id)

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """Request the cancellation of orders one by one; client ids first."""
        if "cancel_many" in self._own:
            acks: list[SubmitAck] = self._own["cancel_many"](client_order_ids, broker_order_ids=broker_order_ids)
            return acks
        ours = list_argument(client_order_ids, "cancel_many", "ids")
        theirs = list_argument(broker_order_ids, "cancel_many", "ids")
        return [
            *(self._basic.cancel(client_order_id) for client_order_id in ours),
            *(self._basic.cancel(broker_order_id=broker_order_id) for broker_order_id in theirs),
        ]

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:
        """Request the cancellation of every open order of ours, one by one."""
        chosen = [
            view
            for view in self._basic.open_orders()
            if symbol in (None, view.symbol) and (include_external or not view.external)
        ]
        return [
            self._basic.cancel(broker_order_id=view.broker_order_id)
            if view.broker_order_id
            else self._basic.cancel(view.client_order_id)
            for view in chosen
        ]

    def modify(
        self,
        client_order_id: str | None = None,
        changes: OrderModification | None = None,
        *,
        broker_order_id: str | None = None,
    ) -> SubmitAck:
        """Request other terms on an open order, unless the broker is frozen."""
        self._check_not_frozen()
        if broker_order_id is None:
            return self._basic.modify(client_order_id, changes)
        return self._basic.modify(client_order_id, changes, broker_order_id=broker_order_id)

    def open_orders(self) -> Sequence[OrderView]:
        """Every order that is not known to have ended."""
        return self._basic.open_orders()

    def order(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderView:
        """Current view of an open order; a closed one is unknown, unless the broker answers for it itself."""
        if "order" in self._own:
            view: OrderView = self._own["order"](client_order_id, broker_order_id=broker_order_id)
            return view
        check_one_id(client_order_id, broker_order_id)
        for view in self._basic.open_orders():
            if client_order_id == view.client_order_id or broker_order_id == view.broker_order_id:
                return view
        raise InvalidRequestError(f"{self.name} knows no open order {client_order_id or broker_order_id!r}")

    def fills(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> Sequence[Execution]:
        """Executions of one order, where the broker has them."""
        fills: Sequence[Execution] = self._optional("fills")(client_order_id, broker_order_id=broker_order_id)
        return fills

    def explain(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderAudit:
        """Audit trail of one order, where the broker has one."""
        audit: OrderAudit = self._optional("explain")(client_order_id, broker_order_id=broker_order_id)
        return audit

    def wait(
        self,
        client_order_id: str | None = None,
        *,
        broker_order_id: str | None = None,
        until: WaitGoal | Callable[[OrderView], bool] = "closed",
        timeout_ms: int = 5_000,
    ) -> OrderView:
        """Block until an order reaches a state, where the broker can."""
        view: OrderView = self._optional("wait")(
            client_order_id, broker_order_id=broker_order_id, until=until, timeout_ms=timeout_ms
        )
        return view

    def reconcile(self) -> ReconcileReport | Mapping[str, ReconcileReport]:
        """The broker's own reconciliation; an empty mapping when it has none."""
        if "reconcile" not in self._own:
            return {}
        report: ReconcileReport | Mapping[str, ReconcileReport] | None = self._own["reconcile"]()
        return {} if report is None else report

    @property
    def health(self) -> Health | Mapping[str, Health]:
        """The broker's own health; an empty mapping when it has none."""
        health: Health | Mapping[str, Health] = getattr(self._basic, "health", {})
        return health

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """Supported order types and operations on ``symbol``."""
        return self._basic.capabilities_for(symbol)

    def supports(self, symbol: str) -> bool:
        """True when the broker serves ``symbol``."""
        return self._basic.supports(symbol)

    def check(self, request: OrderRequest) -> None:
        """The broker's own check, if it has one."""
        if "check" in self._own:
            self._own["check"](request)

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The broker's own rules for a symbol, None when it has none."""
        rules: InstrumentRules | None = self._own["rules"](symbol) if "rules" in self._own else None
        return rules

    def quantize(self, request: R) -> R:
        """The order as the broker would quantize it; unchanged when it has no rules."""
        fitted: R = self._own["quantize"](request) if "quantize" in self._own else request
        return fitted

    def freeze(self, reason: str = "asked") -> None:
        """Refuse submits and modifications until `unfreeze`; cancels pass."""
        self._frozen_because = reason

    def unfreeze(self) -> None:
        """Accept submits and modifications again."""
        self._frozen_because = None

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze`."""
        return self._frozen_because is not None

    def close(self) -> None:
        """Close the broker."""
        self._basic.close()

    def __enter__(self) -> Self:
        self._basic.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._basic.__exit__(kind, error, trace)

    def _check_not_frozen(self) -> None:
        if self._frozen_because is not None:
            raise InvalidRequestError(f"not sent: {self.name} is frozen ({self._frozen_because}); cancels pass")

    def _optional(self, member: str) -> Callable[..., Any]:
        if member not in self._own:
            raise InvalidRequestError(f"{self.name} ({type(self._basic).__name__}) cannot {member}")
        method: Callable[..., Any] = self._own[member]
        return method
