"""Who owns what, and what is held back for open orders.

The venue is closed: every coin that leaves one account arrives in another, the fee pot and the counterparties' house
account included, so that the sum over all accounts equals what was ever deposited. Locks are kept per order and summed
here; a lock never exceeds the balance it is held against.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TYPE_CHECKING

from .money import ZERO
from .paging import Timeline

if TYPE_CHECKING:
    from .orders import Execution, Order

CLOSED_CACHE_SIZE = 500


@dataclass(slots=True)
class Balance:
    total: Decimal = ZERO
    locked: Decimal = ZERO

    @property
    def available(self) -> Decimal:
        return self.total - self.locked


@dataclass(slots=True, eq=False)
class Account:
    """One UID: its keys, fees, wallet, orders and executions, and the cache of what it closed lately.

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

    def deposit(self, coin: str, amount: Decimal) -> None:
        """Money from outside (negative: a withdrawal); the only way the venue's total changes."""
        self.deposits[coin] = self.deposits.get(coin, ZERO) + amount
        self.balance(coin).total += amount

    def lock(self, order: Order, amount: Decimal) -> None:
        """Set what an order holds back to exactly ``amount``."""
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
        self.links[(order.instrument.category, order.link_id)] = order
        self.order_timeline.add(order.created_ms, int(order.order_id), order)

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
