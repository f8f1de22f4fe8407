"""What every broker can be asked, whichever venue stands behind it.

One protocol for the live, the paper, the logging and the composite broker, so that a bot is written once and
`qkt.testing.check_broker` can hold any of them, yours included, to the same behaviour.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import attrs

from qkt.model.orders import OrderModification, OrderRequest, OrderView


class SubmitOutcome(enum.Enum):
    """The three things a request can have become.

    ``ACCEPTED``: the venue has it (not yet: it rests, or filled). ``REJECTED``: proved refused. ``UNKNOWN``: nobody
    can say yet; qkt is finding out and the events will tell. Never resend on UNKNOWN.
    """

    ACCEPTED = "ACCEPTED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


@attrs.frozen(kw_only=True)
class SubmitAck:
    """The answer to a submit, cancel or modify. ``broker_order_id`` is "" until the venue has named the order."""

    client_order_id: str
    broker_order_id: str = ""
    outcome: SubmitOutcome
    reject_reason: str = ""

    @property
    def accepted(self) -> bool:
        """True when the venue has the request. False is not a rejection: see ``outcome``."""
        return self.outcome is SubmitOutcome.ACCEPTED


class OrderTypeCapability(enum.Enum):
    """What a broker can be asked to do, per symbol."""

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
class Broker(Protocol):
    """Submit, cancel, modify, look, close. What becomes of an order is told by events on the broker's bus."""

    @property
    def name(self) -> str:
        """Who this is in logs and events, e.g. ``BYBIT_SPOT``."""
        ...

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send an order. Raises InvalidRequestError, and sends nothing, when it cannot be right."""
        ...

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Ask for an order's end, by exactly one of its ids; an unknown id raises InvalidRequestError."""
        ...

    def modify(self, client_order_id: str, changes: OrderModification) -> SubmitAck:
        """Ask for other terms on a working order; an unknown id raises InvalidRequestError."""
        ...

    def open_orders(self) -> Sequence[OrderView]:
        """Every order that is not known to have ended, unresolved ones included."""
        ...

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """What this broker can do on ``symbol``; empty when it does not serve it."""
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
