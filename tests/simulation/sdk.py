"""Everything the simulation imports from qkt, so that a renamed module is followed in one place."""

from __future__ import annotations

from qkt import (
    BalancesUpdated,
    BrokerEvent,
    BybitApiError,
    BybitLinearBroker,
    BybitRateLimitError,
    BybitSpotBroker,
    EventBus,
    FillEvent,
    HealthDegraded,
    InvalidRequestError,
    LimitOrder,
    MarketOrder,
    OrderAccepted,
    OrderCancelFailed,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModification,
    OrderModified,
    OrderModifyFailed,
    OrderRejected,
    OrderStatusUnknown,
    OrderView,
    OutcomeUnknownError,
    PositionReconciled,
    QktError,
    ReconcileError,
    ReconcileReport,
    Side,
    StopLimitOrder,
    SubmitAck,
    SubmitOutcome,
    VenueUnavailableError,
    Wallet,
)
from qkt.bybit.transport.protocol import BaseBybitTransport
from qkt.testing import FixedClock, TickScheduler

Broker = BybitSpotBroker | BybitLinearBroker


def probe(broker: Broker) -> list[str]:
    """The rare states a broker is in that its public face does not show."""
    ledger = broker._state._ledger
    states = ["row waits for an acknowledgement"] if ledger._deferred else []
    if any(order.has_terms_conflict for order in ledger.open_orders()):
        states.append("terms question")
    if any(order.cancel is not None and order.cancel.is_remembered for order in ledger.open_orders()):
        states.append("cancel remembered")
    return states


__all__ = [
    "BalancesUpdated",
    "BaseBybitTransport",
    "Broker",
    "BrokerEvent",
    "BybitApiError",
    "BybitLinearBroker",
    "BybitRateLimitError",
    "BybitSpotBroker",
    "EventBus",
    "FillEvent",
    "FixedClock",
    "HealthDegraded",
    "InvalidRequestError",
    "LimitOrder",
    "MarketOrder",
    "OrderAccepted",
    "OrderCancelFailed",
    "OrderCancelled",
    "OrderEvent",
    "OrderFilled",
    "OrderModification",
    "OrderModified",
    "OrderModifyFailed",
    "OrderRejected",
    "OrderStatusUnknown",
    "OrderView",
    "OutcomeUnknownError",
    "PositionReconciled",
    "QktError",
    "ReconcileError",
    "ReconcileReport",
    "Side",
    "StopLimitOrder",
    "SubmitAck",
    "SubmitOutcome",
    "TickScheduler",
    "VenueUnavailableError",
    "Wallet",
    "probe",
]
