"""Accounts and their orders, as the matching engine knows them.

The engine changes orders in place and keeps a copy of each state, so that a query can return an earlier one (the stale
answers of the real venue). An order refers to its account and an account lists its orders, so both are in one module.
Every coin that leaves one account arrives in another, the account of collected fees and the account of the synthetic
counterparties (the house) included: the sum over all accounts equals the deposits. Locked amounts are kept per order
and summed per coin.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal

from .executions import Execution
from .instruments import Instrument
from .linear.closed import ClosedPnl
from .linear.contracts import Contract
from .linear.positions import Position
from .money import ZERO
from .paging import Timeline
from .transactions import Transaction
from .wallets import Balance

CLOSED_CACHE_SIZE = 500
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
    number: int = 0
    """Order of arrival over all accounts; ids need not sort."""
    is_resting: bool = False
    last_on_created: Decimal = ZERO
    outside: bool = False
    position_idx: int = 0
    reduce_only: bool = False
    close_on_trigger: bool = False
    trigger_by: str = ""
    tp_trigger_by: str = ""
    sl_trigger_by: str = ""
    tpsl_mode: str = ""
    create_type: str = "CreateByUser"
    stop_kind: str = ""
    """``stopOrderType`` of a contract order: ``Stop``, ``TakeProfit``, ``TrailingStop`` ..."""
    parent_link_id: str = ""
    parent_id: str = ""
    pair: Order | None = field(default=None, repr=False)
    """The other leg of a take-profit and stop-loss pair, while they are bound."""
    trailing: Decimal = ZERO
    active_price: Decimal = ZERO
    extreme: Decimal = ZERO
    """Best price seen since a trailing stop became active; zero before."""
    closed_pnl: Decimal = ZERO
    versions: list[tuple[int, Order]] = field(default_factory=list, repr=False)

    @property
    def contract(self) -> Contract:
        """The contract of a linear order."""
        assert isinstance(self.instrument, Contract)
        return self.instrument

    @property
    def is_linear(self) -> bool:
        return self.instrument.category == "linear"

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
        """Base quantity still to trade; zero once closed, and for an order sized in quote coin."""
        if self.in_quote or not self.is_open:
            return ZERO
        return self.quantity - self.cum_quantity

    @property
    def lock_coin(self) -> str:
        if self.is_linear:
            return self.contract.settle
        return self.instrument.quote if self.is_buy else self.instrument.base

    def remember(self, now_ms: int) -> None:
        """Keep a copy of the present state for `as_of`."""
        past = object.__new__(Order)
        for name in _SLOTS:  # copy.copy() of a slotted object takes five times as long, and this is done per change
            setattr(past, name, getattr(self, name))
        past.fees = dict(self.fees)
        past.versions = []
        self.versions.append((now_ms, past))

    def as_of(self, when_ms: int) -> Order | None:
        """The state at an earlier time; None before the order existed."""
        for stamped_ms, past in reversed(self.versions):
            if stamped_ms <= when_ms:
                return past
        return None


_SLOTS: tuple[str, ...] = tuple(Order.__slots__)


@dataclass(slots=True, eq=False)
class Account:
    """One UID: its key, fees, wallet, orders and executions, and the cache of its recently closed orders.

    ``closed_cache`` holds, per category, the 500 last closed orders that ``realtime`` still serves; the docs say a
    restart of the service wipes it, and then only ``order/history`` knows them.
    """

    key: str
    secret: str
    uid: int
    taker_fee_rate: Decimal
    maker_fee_rate: Decimal
    read_only: bool = False
    expired: bool = False
    margin_enabled: bool = False
    linear_taker_rate: Decimal = Decimal("0.00055")
    linear_maker_rate: Decimal = Decimal("0.0002")
    margin_mode: str = "REGULAR_MARGIN"
    hedged: dict[str, bool] = field(default_factory=dict)
    """Position mode by symbol or, for symbols not set themselves, by settle coin; True is hedge mode."""
    moves_prices: bool = True
    """Whether a contract's limit price beyond the band is moved into it instead of refused."""
    positions: dict[tuple[str, int], Position] = field(default_factory=dict)
    realised: dict[str, Decimal] = field(default_factory=dict)
    closed_of: dict[str, ClosedPnl] = field(default_factory=dict)
    closed_timeline: Timeline[ClosedPnl] = field(default_factory=Timeline)
    transactions: Timeline[Transaction] = field(default_factory=Timeline)
    transaction_count: int = 0
    deposits: dict[str, Decimal] = field(default_factory=dict)
    wallet: dict[str, Balance] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    open_orders: dict[str, Order] = field(default_factory=dict)
    links: dict[tuple[str, str], Order] = field(default_factory=dict)
    executions: list[Execution] = field(default_factory=list)
    executions_of: dict[str, Timeline[Execution]] = field(default_factory=dict)
    order_timeline: Timeline[Order] = field(default_factory=Timeline)
    execution_timeline: Timeline[Execution] = field(default_factory=Timeline)
    closed_cache: dict[str, deque[Order]] = field(default_factory=dict)
    listeners: int = 0
    """How many live private connections would hear of a change; none, and no frame is written."""

    def balance(self, coin: str) -> Balance:
        found = self.wallet.get(coin)
        if found is None:
            found = self.wallet[coin] = Balance()
        return found

    def available(self, coin: str) -> Decimal:
        found = self.wallet.get(coin)
        return found.available if found else ZERO

    @property
    def uses_margin(self) -> bool:
        """Whether positions or contract orders claim part of the wallet."""
        return any(position.size for position in self.positions.values()) or any(
            balance.order_margin for balance in self.wallet.values()
        )

    def is_hedged(self, contract: Contract) -> bool:
        """Whether the position mode of a contract is hedge mode; a symbol's own setting wins over its coin's."""
        return self.hedged.get(contract.symbol, self.hedged.get(contract.settle, False))

    def position(self, contract: Contract, index: int) -> Position:
        found = self.positions.get((contract.symbol, index))
        if found is None:
            found = self.positions[(contract.symbol, index)] = Position(contract, index)
        return found

    def log(self, transaction: Transaction) -> None:
        self.transactions.add(transaction.time_ms, transaction.number, transaction)

    def next_transaction(self) -> int:
        self.transaction_count += 1
        return self.transaction_count

    def deposit(self, coin: str, amount: Decimal) -> None:
        """Add money from outside, or withdraw a negative amount; only this changes the total of the venue."""
        self.deposits[coin] = self.deposits.get(coin, ZERO) + amount
        self.balance(coin).total += amount

    def lock(self, order: Order, amount: Decimal) -> None:
        """Set the locked amount of an order: coins on spot, margin for a contract."""
        if order.is_linear:
            self.balance(order.lock_coin).order_margin += amount - order.locked
        else:
            self.balance(order.lock_coin).locked += amount - order.locked
        order.locked = amount

    def book_execution(self, execution: Execution) -> None:
        # Rows of one millisecond come back in no helpful order (docs v5/order/execution): the tie-break is a hash.
        tie = execution.number * 2654435761 % 4294967296
        self.executions.append(execution)
        self.execution_timeline.add(execution.time_ms, tie, execution)
        self.executions_of.setdefault(execution.order_id, Timeline()).add(execution.time_ms, tie, execution)

    def book_order(self, order: Order) -> None:
        self.orders[order.order_id] = order
        self.open_orders[order.order_id] = order
        if order.link_id:
            self.links[(order.instrument.category, order.link_id)] = order
        self.order_timeline.add(order.created_ms, order.number, order)

    def cache_closed(self, order: Order) -> None:
        category = order.instrument.category
        cache = self.closed_cache.get(category)
        if cache is None:
            cache = self.closed_cache[category] = deque(maxlen=CLOSED_CACHE_SIZE)
        cache.append(order)

    def find(self, category: str, order_id: str | None, link_id: str | None) -> Order | None:
        """An order by either id; ``orderId`` wins when both are given (docs v5/order/cancel-order)."""
        if order_id:
            order = self.orders.get(order_id)
            return order if order is not None and order.instrument.category == category else None
        return self.links.get((category, link_id)) if link_id else None
