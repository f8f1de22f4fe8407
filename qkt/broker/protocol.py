"""The protocol of every broker: live, paper, logging, composite, or one for another venue.

A bot written against `Broker` runs on any of them; `qkt.testing.check_broker` verifies that an implementation keeps
the promises. `BasicBroker` is the subset that `CompositeBroker` accepts from a leaf and completes.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self, TypeVar, runtime_checkable

import attrs

from qkt.health import Health
from qkt.model.executions import Execution
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.orders.audit import OrderAudit
from qkt.plain import PlainValue
from qkt.reconcile.report import ReconcileReport

R = TypeVar("R", bound=OrderRequest)

WaitGoal = Literal["accepted", "resolved", "closed"]
"""State that `Broker.wait` waits for: evidence of acceptance (or the end), a definite answer, a published terminal."""


class SubmitOutcome(enum.Enum):
    """Outcome of a request.

    ``ACCEPTED``: the venue has the request. ``REJECTED``: refusal is proved. ``UNKNOWN``: no definite answer yet; the
    order is looked up and the events report the result. Never resend on UNKNOWN.
    """

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


@attrs.frozen(kw_only=True)
class SubmitAck(PlainValue):
    """Answer to a submit, cancel or modify. ``broker_order_id`` is "" until the venue has named the order.

    An ack is true in a condition when the venue has the request: ``if broker.submit(order): ...``.
    """

    client_order_id: str
    broker_order_id: str = ""
    outcome: SubmitOutcome
    reject_reason: str = ""

    @property
    def accepted(self) -> bool:
        """True when the venue has the request. False is not a rejection: see ``outcome``."""
        return self.outcome is SubmitOutcome.ACCEPTED

    def __bool__(self) -> bool:
        return self.accepted


class OrderTypeCapability(enum.Enum):
    """Order types and operations that a broker supports on a symbol."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    IF_TOUCHED = "IF_TOUCHED"
    MODIFY = "MODIFY"
    POST_ONLY = "POST_ONLY"
    QUOTE_SIZED = "QUOTE_SIZED"
    BRACKET = "BRACKET"
    BATCH = "BATCH"


@runtime_checkable
class BasicBroker(Protocol):
    """The members that every other member of `Broker` can be derived from."""

    @property
    def name(self) -> str:
        """Name of the broker in logs and events, e.g. ``BYBIT_SPOT``."""
        ...

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send an order. Raises InvalidRequestError, and sends nothing, when it cannot be valid."""
        ...

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Request the cancellation of an order, by exactly one of its ids; an unknown id raises InvalidRequestError."""
        ...

    def modify(
        self,
        client_order_id: str | None = None,
        changes: OrderModification | None = None,
        *,
        broker_order_id: str | None = None,
    ) -> SubmitAck:
        """Request other terms on an open order; an unknown id raises InvalidRequestError."""
        ...

    def open_orders(self) -> Sequence[OrderView]:
        """Every order that is not known to have ended, unresolved ones included."""
        ...

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """Supported order types and operations on ``symbol``; empty when the symbol is not served."""
        ...

    def supports(self, symbol: str) -> bool:
        """True when this broker serves ``symbol``."""
        ...

    def close(self) -> None:
        """Release everything; idempotent. Orders at the venue stay as they are."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class Broker(BasicBroker, Protocol):
    """Submit, cancel, modify, query, reconcile, close. Events on the broker's bus report what happens to an order."""

    def submit_many(self, requests: Iterable[OrderRequest]) -> list[SubmitAck]:
        """Send orders; one ack each, in the order given. All pass the checks, or none is sent and it raises."""
        ...

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """Request the cancellation of orders; one ack each, client ids first. An unknown id raises, nothing is sent."""
        ...

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:
        """Request the cancellation of every open order of ours, optionally of one symbol, optionally external ones."""
        ...

    def order(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderView:
        """Current view of one order; an unknown id raises InvalidRequestError."""
        ...

    def fills(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> Sequence[Execution]:
        """Executions of one order, oldest first."""
        ...

    def explain(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderAudit:
        """Audit trail of one order: each fact that changed it. Printable."""
        ...

    def wait(
        self,
        client_order_id: str | None = None,
        *,
        broker_order_id: str | None = None,
        until: WaitGoal | Callable[[OrderView], bool] = "closed",
        timeout_ms: int = 5_000,
    ) -> OrderView:
        """Block until an order reaches a state; raises WaitTimeoutError, with the view, after ``timeout_ms``."""
        ...

    def reconcile(self) -> ReconcileReport | Mapping[str, ReconcileReport]:
        """Compare with the venue now; a composite returns one report per leaf."""
        ...

    @property
    def health(self) -> Health | Mapping[str, Health]:
        """Ages and open episodes; a composite returns one health per leaf."""
        ...

    def check(self, request: OrderRequest) -> None:
        """Raise what `submit` would raise for this order, risk limits left out, and send nothing."""
        ...

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The venue's rules for a symbol, None where there are none."""
        ...

    def quantize(self, request: R) -> R:
        """Nearest order that fits the venue's steps and is no worse for its owner; unchanged without rules."""
        ...

    def freeze(self, reason: str = "asked") -> None:
        """Refuse submits and modifications until `unfreeze`; cancels pass."""
        ...

    def unfreeze(self) -> None:
        """Accept submits and modifications again."""
        ...

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze`."""
        ...
