"""The order book of one market: resting orders, synthetic liquidity, and the plan of a match.

Orders rest in price-time order. Synthetic counterparties offer a fixed quantity on every tick from one tick beyond the
last price, and are refilled for every taker: in a still market an order trades at once, always at the same price.
`sweep` only plans; the engine settles the trades it returns, so a fill-or-kill order can be checked first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from .accounts import Order
from .instruments import Instrument
from .money import ZERO, floor_to_step
from .tape import Tape

_Entry = tuple[Decimal, int, Order]


@dataclass(slots=True)
class Trade:
    """A planned match; ``maker`` is None when the counterparty is synthetic."""

    price: Decimal
    quantity: Decimal
    maker: Order | None


@dataclass(slots=True)
class Sweep:
    """The plan of a match: its trades, and the effects of self-match prevention."""

    trades: list[Trade] = field(default_factory=list)
    cancelled_makers: list[Order] = field(default_factory=list)
    stopped_by: Order | None = None
    reached_limit: bool = False
    """Whether there was more on offer, but beyond the limit price."""

    @property
    def quantity(self) -> Decimal:
        return sum((trade.quantity for trade in self.trades), ZERO)

    @property
    def value(self) -> Decimal:
        return sum((trade.quantity * trade.price for trade in self.trades), ZERO)


class Book:
    """One market's resting orders and last price."""

    def __init__(self, instrument: Instrument) -> None:
        self.instrument = instrument
        self.last_price: Decimal = instrument.opening_price
        self.opening_price: Decimal = instrument.opening_price
        self.high: Decimal = instrument.opening_price
        self.low: Decimal = instrument.opening_price
        self.volume = ZERO
        self.turnover = ZERO
        self.update_id = 1
        self.tape: Tape = Tape(instrument.opening_price)
        self.spread_ticks = 1
        self.pinned_mark: Decimal | None = None
        self.pinned_index: Decimal | None = None
        self.funding_rate = ZERO
        self.next_funding_ms = 0
        self.open_interest = ZERO
        """Sum of the long positions of all clients and the house; contracts only."""
        self._bids: list[_Entry] = []
        self._asks: list[_Entry] = []

    @property
    def mark_price(self) -> Decimal:
        """The price that values positions: the last price, unless it was set."""
        return self.last_price if self.pinned_mark is None else self.pinned_mark

    @property
    def index_price(self) -> Decimal:
        return self.last_price if self.pinned_index is None else self.pinned_index

    def add(self, order: Order) -> None:
        order.is_resting = True
        insort(self._side(order), self._entry(order), key=lambda entry: entry[:2])

    def remove(self, order: Order) -> None:
        order.is_resting = False
        entries = self._side(order)
        at = bisect_left(entries, self._entry(order)[:2], key=lambda entry: entry[:2])
        if at < len(entries) and entries[at][2] is order:
            del entries[at]

    def resting(self, side: str) -> list[Order]:
        """Resting orders of one side, best first."""
        return [entry[2] for entry in (self._bids if side == "Buy" else self._asks)]

    def crossed(self, price: Decimal) -> list[Order]:
        """Resting orders at this price or better, in the order of matching."""
        bids = [entry[2] for entry in self._bids if entry[2].price >= price]
        asks = [entry[2] for entry in self._asks if entry[2].price <= price]
        return bids + asks

    def best_bid(self) -> Decimal:
        synthetic = self.last_price - self.instrument.tick * self.spread_ticks
        return max(synthetic, self._bids[0][2].price) if self._bids else synthetic

    def best_ask(self) -> Decimal:
        synthetic = self.last_price + self.instrument.tick * self.spread_ticks
        return min(synthetic, self._asks[0][2].price) if self._asks else synthetic

    def would_take(self, side: str, price: Decimal) -> bool:
        return price >= self.best_ask() if side == "Buy" else price <= self.best_bid()

    def levels(self, side: str, depth: int) -> list[tuple[Decimal, Decimal]]:
        """One side as (price, quantity), real and synthetic summed, best first."""
        sums: dict[Decimal, Decimal] = {}
        for price, quantity, _ in self._offers(side):
            if price not in sums and len(sums) == depth:
                break
            sums[price] = sums.get(price, ZERO) + quantity
        return list(sums.items())

    def sweep(self, order: Order, limit: Decimal | None, *, base: Decimal | None, quote: Decimal | None) -> Sweep:
        """Plan the trades of an order, up to a limit price and an amount of base or of quote coin."""
        plan = Sweep()
        step = self.instrument.base_step
        for price, offered, maker in self._offers("Sell" if order.is_buy else "Buy"):
            wanted = base if base is not None else floor_to_step((quote or ZERO) / price, step)
            if wanted <= 0:
                break
            if limit is not None and (price > limit if order.is_buy else price < limit):
                plan.reached_limit = True
                break
            if maker is not None and maker.account is order.account and order.smp_type != "None":
                if order.smp_type in ("CancelMaker", "CancelBoth"):
                    plan.cancelled_makers.append(maker)
                if order.smp_type in ("CancelTaker", "CancelBoth"):
                    plan.stopped_by = maker
                    break
                continue
            quantity = min(wanted, offered)
            plan.trades.append(Trade(price, quantity, maker))
            if base is not None:
                base -= quantity
            else:
                quote = (quote or ZERO) - quantity * price
        return plan

    def _offers(self, side: str) -> Iterator[tuple[Decimal, Decimal, Order | None]]:
        """All offers of one side, best first; at one price real orders come before synthetic ones."""
        entries = self._bids if side == "Buy" else self._asks
        instrument = self.instrument
        away = -instrument.tick if side == "Buy" else instrument.tick
        synthetic = self.last_price + away * self.spread_ticks
        at = 0
        for _ in range(instrument.depth_levels):
            while at < len(entries) and (
                entries[at][2].price >= synthetic if side == "Buy" else entries[at][2].price <= synthetic
            ):
                order = entries[at][2]
                yield order.price, order.leaves_quantity, order
                at += 1
            if synthetic <= 0:
                break
            yield synthetic, instrument.depth_quantity, None
            synthetic += away
        for _, _, order in entries[at:]:
            yield order.price, order.leaves_quantity, order

    def _side(self, order: Order) -> list[_Entry]:
        return self._bids if order.is_buy else self._asks

    def _entry(self, order: Order) -> _Entry:
        return (-order.price if order.is_buy else order.price, order.priority, order)
