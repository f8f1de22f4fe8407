"""An order and an execution, as the matching engine knows them.

Orders are the one mutable thing on the venue: the engine changes them, and keeps a copy of each state so that a reader
can be served the past (the stale snapshots that real clients meet). Everything here is about one order; what it means
for money lies in `wallets`, what a client sees of it in `rows`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from .instruments import Instrument
from .money import ZERO

if TYPE_CHECKING:
    from .wallets import Account

OPEN_STATUSES = frozenset({"New", "PartiallyFilled", "Untriggered"})
CLOSED_STATUSES = frozenset({"Filled", "Cancelled", "PartiallyFilledCanceled", "Rejected", "Deactivated"})
ALL_STATUSES = OPEN_STATUSES | CLOSED_STATUSES | {"Triggered"}
CONDITIONAL_FILTERS = frozenset({"StopOrder", "tpslOrder", "OcoOrder", "BidirectionalTpslOrder"})
ORDER_FILTERS = CONDITIONAL_FILTERS | {"Order"}

STOP_ORDER_TYPE = {"Order": "", "StopOrder": "Stop"}
"""``orderFilter`` of the request -> ``stopOrderType`` of the record; the others carry their own name."""


@dataclass(slots=True, kw_only=True, eq=False)
class Order:
    """One order; ``quantity`` is in quote coin when ``in_quote`` is set, else in base coin."""

    order_id: str
    link_id: str
    account: Account
    instrument: Instrument
    side: str
    order_type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal
    in_quote: bool = False
    market_unit: str = ""
    is_leverage: str = "0"
    order_filter: str = "Order"
    trigger_price: Decimal = ZERO
    trigger_rises: bool = False
    take_profit: Decimal = ZERO
    stop_loss: Decimal = ZERO
    tp_limit_price: Decimal = ZERO
    sl_limit_price: Decimal = ZERO
    tp_order_type: str = "Market"
    sl_order_type: str = "Market"
    oco_trigger_by: str = ""
    smp_type: str = "None"
    slippage_type: str = "UNKNOWN"
    slippage: Decimal = ZERO
    status: str = "New"
    cancel_type: str = "UNKNOWN"
    reject_reason: str = "EC_NoError"
    cum_quantity: Decimal = ZERO
    cum_value: Decimal = ZERO
    fees: dict[str, Decimal] = field(default_factory=dict)
    locked: Decimal = ZERO
    """How much of ``lock_coin`` this order holds back in the wallet."""
    created_ms: int = 0
    updated_ms: int = 0
    closed_ms: int = 0
    priority: int = 0
    last_on_created: Decimal = ZERO
    outside: bool = False
    versions: list[tuple[int, Order]] = field(default_factory=list, repr=False)

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def is_conditional(self) -> bool:
        return self.status == "Untriggered"

    @property
    def is_buy(self) -> bool:
        return self.side == "Buy"

    @property
    def leaves_quantity(self) -> Decimal:
        """Base quantity still to trade; zero once closed. A quote-sized order has no base quantity to leave."""
        if self.in_quote or not self.is_open:
            return ZERO
        return self.quantity - self.cum_quantity

    @property
    def lock_coin(self) -> str:
        return self.instrument.quote if self.is_buy else self.instrument.base

    def remember(self, now_ms: int) -> None:
        """Keep a copy of the present state, so that `as_of` can serve it later."""
        past = object.__new__(Order)
        for name in _SLOTS:  # copy.copy() of a slotted object takes five times as long, and this is done per change
            setattr(past, name, getattr(self, name))
        past.fees = dict(self.fees)
        past.versions = []
        self.versions.append((now_ms, past))

    def as_of(self, when_ms: int) -> Order | None:
        """The state a reader saw at a past moment; None before the order existed."""
        for stamped_ms, past in reversed(self.versions):
            if stamped_ms <= when_ms:
                return past
        return None


_SLOTS: tuple[str, ...] = tuple(Order.__slots__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One fill of one order: a record, complete with everything its row must say."""

    exec_id: str
    number: int
    seq: int
    order_id: str
    link_id: str
    instrument: Instrument
    side: str
    order_type: str
    stop_order_type: str
    market_unit: str
    is_leverage: str
    order_price: Decimal
    order_quantity: Decimal
    leaves_quantity: Decimal
    price: Decimal
    quantity: Decimal
    value: Decimal
    fee: Decimal
    fee_coin: str
    fee_rate: Decimal
    is_maker: bool
    time_ms: int
