"""Closed sets of an order's terms: side, lifetime, type, status, triggers, and what kind of stop an order is."""

from __future__ import annotations

import enum
from decimal import Decimal

import attrs


class Side(enum.Enum):
    """Direction of an order."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class TimeInForce(enum.Enum):
    """Time in force of an order.

    ``DAY`` exists for venues that have it; the Bybit brokers refuse it.
    """

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    POST_ONLY = "POST_ONLY"
    DAY = "DAY"


class OrderType(enum.Enum):
    """Type of an order; ``UNKNOWN`` for an external order whose type the venue did not report."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    IF_TOUCHED = "IF_TOUCHED"
    UNKNOWN = "UNKNOWN"


class OrderStatus(enum.Enum):
    """Status of an order as qkt knows it.

    ``SUBMITTING`` (sent, no answer yet), ``UNRESOLVED`` (no definite answer; being looked up), ``ACKNOWLEDGED`` (the
    venue has the request, no row seen yet); the others are the venue's statuses.
    """

    SUBMITTING = "SUBMITTING"
    UNRESOLVED = "UNRESOLVED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    UNTRIGGERED = "UNTRIGGERED"
    TRIGGERED = "TRIGGERED"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"

    @property
    def is_closed(self) -> bool:
        """True for FILLED, CANCELLED and REJECTED."""
        return self in _CLOSED


_CLOSED = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED})


class PositionSide(enum.Enum):
    """The two positions that a hedge-mode account can hold on one symbol."""

    LONG = "LONG"
    SHORT = "SHORT"


class TriggerBy(enum.Enum):
    """The price that triggers a conditional order or an exit on derivatives."""

    LAST = "LAST"
    MARK = "MARK"
    INDEX = "INDEX"


class ExitMode(enum.Enum):
    """What attached exits close: the whole position, or the filled quantity of their order."""

    FULL = "FULL"
    PARTIAL = "PARTIAL"


class SelfMatch(enum.Enum):
    """What self-match prevention cancels when an order would trade with another one of the same owner."""

    CANCEL_MAKER = "CANCEL_MAKER"
    CANCEL_TAKER = "CANCEL_TAKER"
    CANCEL_BOTH = "CANCEL_BOTH"
    NONE = "NONE"


class StopKind(enum.Enum):
    """Why a conditional or venue-made order exists; ``NONE`` for an order placed to trade at once.

    ``CONDITIONAL`` was placed with a trigger of its own. Exits of a position (``is_exit``) are created by the venue
    from a take profit, stop loss or trailing stop; the ``PARTIAL_`` ones close a part of it. ``LIQUIDATION`` and
    ``ADL`` are the venue's own closing orders.
    """

    NONE = "NONE"
    CONDITIONAL = "CONDITIONAL"
    TAKE_PROFIT = "TAKE_PROFIT"
    STOP_LOSS = "STOP_LOSS"
    TRAILING_STOP = "TRAILING_STOP"
    PARTIAL_TAKE_PROFIT = "PARTIAL_TAKE_PROFIT"
    PARTIAL_STOP_LOSS = "PARTIAL_STOP_LOSS"
    LIQUIDATION = "LIQUIDATION"
    ADL = "ADL"
    OTHER = "OTHER"

    @property
    def is_exit(self) -> bool:
        """True for the exits of a position."""
        return self in _EXITS

    @property
    def is_partial(self) -> bool:
        """True for an exit that closes a quantity of its own instead of the whole position."""
        return self in (StopKind.PARTIAL_TAKE_PROFIT, StopKind.PARTIAL_STOP_LOSS)


_EXITS = frozenset(
    {
        StopKind.TAKE_PROFIT,
        StopKind.STOP_LOSS,
        StopKind.TRAILING_STOP,
        StopKind.PARTIAL_TAKE_PROFIT,
        StopKind.PARTIAL_STOP_LOSS,
    }
)


@attrs.frozen(kw_only=True)
class OrderDetails:
    """What an order is beside its size and prices: what it may do to a position, what made it, and its exits.

    ``parent_client_order_id`` names the order whose take profit or stop loss this one is. ``take_profit`` and
    ``stop_loss`` are the trigger prices of the exits the order carries, None for none.
    """

    reduce_only: bool = False
    close_on_trigger: bool = False
    position_side: PositionSide | None = None
    stop_kind: StopKind = StopKind.NONE
    parent_client_order_id: str = ""
    trigger_by: TriggerBy | None = None
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    exit_mode: ExitMode | None = None

    @property
    def has_exits(self) -> bool:
        """True when a take profit or a stop loss is attached."""
        return self.take_profit is not None or self.stop_loss is not None

    @property
    def concerns_protection(self) -> bool:
        """True for an exit of a position, and for an order that carries exits."""
        return self.stop_kind.is_exit or self.has_exits


PLAIN = OrderDetails()
"""Details of an order that trades at once and touches no position's exits."""
