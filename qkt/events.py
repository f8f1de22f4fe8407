"""What a bot hears. Frozen values; subscribing to a class delivers its subclasses.

::

    BrokerEvent ─┬─ OrderEvent ─┬─ OrderAccepted, OrderRejected, OrderCancelled, OrderModified
                 │              ├─ OrderModifyFailed, OrderCancelFailed, OrderStatusUnknown
                 │              └─ FillEvent ─┬─ OrderPartiallyFilled
                 │                            └─ OrderFilled
                 ├─ BalancesUpdated, PositionReconciled, PositionUpdated, FundingPaid
                 ├─ ProtectionUpdated ─── ProtectionLost
                 ├─ HealthDegraded, HealthRestored
                 └─ OwnershipChanged

Per order: accepted first, each execution once, one terminal last. `timestamp` (ms, the broker's clock) and
`sequence_id` (one total order per bus) are stamped when the event enters the bus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Literal

import attrs

from qkt.model.balances import Wallet
from qkt.model.maintenance import Maintenance
from qkt.model.orders import Side
from qkt.model.ownership import Ownership
from qkt.model.protection import Protection
from qkt.money import ZERO
from qkt.plain import PlainValue
from qkt.readonly import read_only_decimals

Origin = Literal["stream", "reconcile", "submit"]

UNSTAMPED = -1


@attrs.frozen(kw_only=True)
class BrokerEvent(PlainValue):
    """Everything a broker says. ``origin`` is provenance to log, never to branch on.

    ``account`` is the name of the client that the broker works on, "" where the client has none.
    """

    timestamp: int = UNSTAMPED
    sequence_id: int = UNSTAMPED
    origin: Origin = "stream"
    account: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The event as plain JSON types: ``event`` is the name of its class, then its fields; Decimals are strings."""
        return {"event": type(self).__name__, **PlainValue.to_dict(self)}


# An event is stamped when it enters the bus, before anything else has seen it: a copy would cost more than the event.
set_timestamp: Callable[[BrokerEvent, int], None] = BrokerEvent.__dict__["timestamp"].__set__
set_sequence_id: Callable[[BrokerEvent, int], None] = BrokerEvent.__dict__["sequence_id"].__set__
set_account: Callable[[BrokerEvent, str], None] = BrokerEvent.__dict__["account"].__set__


@attrs.frozen(kw_only=True)
class OrderEvent(BrokerEvent):
    """About one order. ``external`` is true when the order is not ours: not sent through this broker.

    ``source`` is the broker's name.
    """

    client_order_id: str
    broker_order_id: str = ""
    external: bool = False
    source: str = ""


set_source: Callable[[OrderEvent, str], None] = OrderEvent.__dict__["source"].__set__


@attrs.frozen(kw_only=True)
class OrderAccepted(OrderEvent):
    """The order stands at the venue, on evidence: a row with its id, or a fill. Once, before any fill."""

    symbol: str = ""


@attrs.frozen(kw_only=True)
class FillEvent(OrderEvent):
    """One execution. ``quantity`` and ``price`` are this execution's; ``cum_quantity`` the order's sum so far.

    ``leaves_quantity`` is None where the order is measured in quote. ``fee`` is in ``fee_currency``, negative for a
    rebate. ``late`` marks an execution that came after the order's terminal event.
    """

    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    cum_quantity: Decimal = ZERO
    leaves_quantity: Decimal | None = None
    exec_id: str = ""
    fee: Decimal = ZERO
    fee_currency: str = ""
    is_maker: bool = False
    exec_time_ms: int = 0
    late: bool = False


@attrs.frozen(kw_only=True)
class OrderPartiallyFilled(FillEvent):
    """An execution that did not complete its order."""


@attrs.frozen(kw_only=True)
class OrderFilled(FillEvent):
    """The execution that completes the order: a terminal event.

    If completion is learnt after the last execution was published, ``quantity`` is zero and ``exec_id`` is "".
    """


@attrs.frozen(kw_only=True)
class OrderCancelled(OrderEvent):
    """The order ended without trading (all of) its quantity: a terminal event."""

    symbol: str = ""
    reason: str = ""
    cum_quantity: Decimal = ZERO


@attrs.frozen(kw_only=True)
class OrderRejected(OrderEvent):
    """The venue refused the order, or it provably never arrived: a terminal event."""

    symbol: str = ""
    reason: str = ""
    cum_quantity: Decimal = ZERO


@attrs.frozen(kw_only=True)
class OrderModified(OrderEvent):
    """The venue now shows other terms. The new values; None where the order has no such term."""

    symbol: str = ""
    reason: str = ""
    new_quantity: Decimal | None = None
    new_limit_price: Decimal | None = None
    new_stop_price: Decimal | None = None


@attrs.frozen(kw_only=True)
class OrderModifyFailed(OrderEvent):
    """An amend was refused or came too late; the order is as it was."""

    symbol: str = ""
    reason: str = ""


@attrs.frozen(kw_only=True)
class OrderCancelFailed(OrderEvent):
    """A cancel was refused or came too late; it never ends the order. Once per intent."""

    symbol: str = ""
    reason: str = ""


@attrs.frozen(kw_only=True)
class OrderStatusUnknown(OrderEvent):
    """The order's state has been unknown since ``since_ms``; it stays tracked, and the true event follows."""

    symbol: str = ""
    since_ms: int = 0
    reason: str = ""


@attrs.frozen(kw_only=True)
class BalancesUpdated(BrokerEvent):
    """What the account holds now. ``source`` is the broker's prefix, ``changed`` the coins that moved."""

    balances: Mapping[str, Decimal] = attrs.field(factory=dict, converter=read_only_decimals)
    source: str = ""
    wallet: Wallet = attrs.field(factory=Wallet)
    changed: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class PositionReconciled(BrokerEvent):
    """The venue's position differed from ours and ours was corrected."""

    symbol: str
    old_quantity: Decimal
    new_quantity: Decimal
    old_avg_price: Decimal | None = None
    new_avg_price: Decimal | None = None
    source: str = ""
    reason: str = ""


@attrs.frozen(kw_only=True)
class PositionUpdated(BrokerEvent):
    """A position frame of the stream changed the size or the entry price of a position. Quantities are signed."""

    symbol: str
    position_idx: int = 0
    old_quantity: Decimal
    new_quantity: Decimal
    old_avg_price: Decimal | None = None
    new_avg_price: Decimal | None = None
    source: str = ""


@attrs.frozen(kw_only=True)
class ProtectionUpdated(BrokerEvent):
    """An exit of a position changed: its state, its price, the quantity it closes, or what is asked for.

    ``old`` is what was known before, None for an exit that was not known. In state ``ENDED`` it is over, with its
    position or on request, and no longer listed by `protections`.
    """

    protection: Protection
    old: Protection | None = None
    source: str = ""


@attrs.frozen(kw_only=True)
class ProtectionLost(ProtectionUpdated):
    """A position stands without an exit that it had or was to have; ``protection.reason`` says what is known.

    With it comes `HealthDegraded` in the domain ``protection``, restored when no position lacks an exit any more.
    """


@attrs.frozen(kw_only=True)
class FundingPaid(BrokerEvent):
    """One funding of one position, once per ``exec_id``; ``amount`` below zero was received.

    ``side`` is the position's (BUY is long), ``quantity`` its size, ``price`` the mark price of the settlement.
    """

    symbol: str
    side: Side | None
    quantity: Decimal
    amount: Decimal
    currency: str
    price: Decimal | None = None
    rate: Decimal | None = None
    exec_id: str = ""
    exec_time_ms: int = 0
    source: str = ""


@attrs.frozen(kw_only=True)
class HealthDegraded(BrokerEvent):
    """Something is not as it should be in ``domain`` since ``since_ms``. One per episode."""

    source: str
    domain: str
    reason: str = ""
    since_ms: int = 0


@attrs.frozen(kw_only=True)
class HealthRestored(BrokerEvent):
    """The episode that began at ``since_ms`` is over."""

    source: str
    domain: str
    reason: str = ""
    since_ms: int = 0


@attrs.frozen(kw_only=True)
class VenueMaintenance(BrokerEvent):
    """The venue announced a maintenance, or its state changed: scheduled, ongoing, completed, canceled."""

    maintenance: Maintenance


@attrs.frozen(kw_only=True)
class OwnershipChanged(BrokerEvent):
    """A broker with a journal stands to its account in another way: ``ownership`` now, ``before`` until now."""

    source: str
    account: str
    ownership: Ownership
    before: Ownership
    reason: str = ""
