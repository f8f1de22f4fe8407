"""qkt: an execution layer for Bybit V5 that knows what the venue holds, or says so.

What a trader imports, grouped by task. Inside qkt nothing imports from here.
"""

import logging

from qkt._version import __version__
from qkt.broker.composite import CompositeBroker
from qkt.broker.paper.broker import PaperBroker
from qkt.broker.paper.dry_run import LogBroker
from qkt.broker.protocol import BasicBroker, Broker, OrderTypeCapability, SubmitAck, SubmitOutcome
from qkt.broker.risk import RiskLimits
from qkt.broker.symbol_pattern import SymbolPattern
from qkt.bus import EventBus, Subscription
from qkt.bybit.linear import BybitLinearBroker
from qkt.bybit.maintenance import MaintenanceWatch
from qkt.bybit.prices import PriceFeed, Quote
from qkt.bybit.spot import BybitSpotBroker
from qkt.bybit.transport.client import BybitClient
from qkt.clock import Clock, SystemClock
from qkt.errors import (
    BybitApiError,
    BybitConnectError,
    BybitRateLimitError,
    IntentConflictError,
    InvalidRequestError,
    JournalError,
    JournalUnavailableError,
    NotOwnerError,
    OutcomeUnknownError,
    QktError,
    ReconcileError,
    StalePriceError,
    VenueProtocolError,
    VenueUnavailableError,
    WaitTimeoutError,
)
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    FundingPaid,
    HealthDegraded,
    HealthRestored,
    OrderAccepted,
    OrderCancelFailed,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModified,
    OrderModifyFailed,
    OrderPartiallyFilled,
    OrderRejected,
    OrderStatusUnknown,
    OwnershipChanged,
    PositionReconciled,
    PositionUpdated,
    ProtectionLost,
    ProtectionUpdated,
    VenueMaintenance,
)
from qkt.health import Alarm, Health
from qkt.ids import new_client_order_id
from qkt.journal.postgres import PostgresJournal
from qkt.journal.sqlite import SqliteJournal
from qkt.model.balances import AccountSummary, CoinBalance, Wallet
from qkt.model.costs import CostStatement, FundingPayment
from qkt.model.executions import Execution
from qkt.model.instruments import InstrumentRules
from qkt.model.maintenance import Maintenance
from qkt.model.orders import (
    ExitMode,
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderStatus,
    OrderView,
    PositionSide,
    SelfMatch,
    Side,
    StopKind,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
    TriggerBy,
)
from qkt.model.ownership import Ownership
from qkt.model.positions import MarginMode, Position, PositionMode, PositionStatus
from qkt.model.protection import Protection, ProtectionKind, ProtectionState
from qkt.net.backoff import ExponentialBackoff, FixedDelayBackoff
from qkt.net.reconciler import PeriodicReconciler
from qkt.net.scheduler import ThreadScheduler
from qkt.net.supervisor import ReconnectSupervisor
from qkt.positions import PositionTracker
from qkt.reconcile.report import Discrepancy, ReconcileReport

logging.getLogger(__name__).addHandler(logging.NullHandler())

__all__ = [
    "AccountSummary",
    "Alarm",
    "BalancesUpdated",
    "BasicBroker",
    "Broker",
    "BrokerEvent",
    "BybitApiError",
    "BybitClient",
    "BybitConnectError",
    "BybitLinearBroker",
    "BybitRateLimitError",
    "BybitSpotBroker",
    "Clock",
    "CoinBalance",
    "CompositeBroker",
    "CostStatement",
    "Discrepancy",
    "EventBus",
    "Execution",
    "ExitMode",
    "ExponentialBackoff",
    "FillEvent",
    "FixedDelayBackoff",
    "FundingPaid",
    "FundingPayment",
    "Health",
    "HealthDegraded",
    "HealthRestored",
    "IfTouchedOrder",
    "InstrumentRules",
    "IntentConflictError",
    "InvalidRequestError",
    "JournalError",
    "JournalUnavailableError",
    "LimitOrder",
    "LogBroker",
    "Maintenance",
    "MaintenanceWatch",
    "MarginMode",
    "MarketOrder",
    "NotOwnerError",
    "OrderAccepted",
    "OrderCancelFailed",
    "OrderCancelled",
    "OrderEvent",
    "OrderFilled",
    "OrderModification",
    "OrderModified",
    "OrderModifyFailed",
    "OrderPartiallyFilled",
    "OrderRejected",
    "OrderStatus",
    "OrderStatusUnknown",
    "OrderTypeCapability",
    "OrderView",
    "OutcomeUnknownError",
    "Ownership",
    "OwnershipChanged",
    "PaperBroker",
    "PeriodicReconciler",
    "Position",
    "PositionMode",
    "PositionReconciled",
    "PositionSide",
    "PositionStatus",
    "PositionTracker",
    "PositionUpdated",
    "PostgresJournal",
    "PriceFeed",
    "Protection",
    "ProtectionKind",
    "ProtectionLost",
    "ProtectionState",
    "ProtectionUpdated",
    "QktError",
    "Quote",
    "ReconcileError",
    "ReconcileReport",
    "ReconnectSupervisor",
    "RiskLimits",
    "SelfMatch",
    "Side",
    "SqliteJournal",
    "StalePriceError",
    "StopKind",
    "StopLimitOrder",
    "StopOrder",
    "SubmitAck",
    "SubmitOutcome",
    "Subscription",
    "SymbolPattern",
    "SystemClock",
    "ThreadScheduler",
    "TimeInForce",
    "TriggerBy",
    "VenueMaintenance",
    "VenueProtocolError",
    "VenueUnavailableError",
    "WaitTimeoutError",
    "Wallet",
    "__version__",
    "new_client_order_id",
]
