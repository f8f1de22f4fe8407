"""What margin an account needs and has: per order, per position, per coin, and in all.

Cross margin (``REGULAR_MARGIN``) pools every coin at its USD price (collateral ratio 1, no haircut) and measures
positions at the mark price; in isolated margin each position keeps what it was opened with. Initial margin is the
value divided by the leverage plus the fee to close, maintenance margin the value times the tier's rate plus the same
fee (docs v5/account/wallet-balance and v5/position/position).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from ..accounts import Account, Order
from ..book import Book
from ..money import ZERO
from .contracts import Contract
from .positions import Position

ISOLATED = "ISOLATED_MARGIN"
CROSS = "REGULAR_MARGIN"
_CENT = Decimal("0.00000001")
Books = Mapping[tuple[str, str], Book]


@dataclass(frozen=True, slots=True)
class Summary:
    """Account-wide sums in USD."""

    wallet: Decimal
    profit: Decimal
    locked: Decimal
    initial: Decimal
    maintenance: Decimal

    @property
    def balance(self) -> Decimal:
        """``totalMarginBalance``: wallet and unrealised profit."""
        return self.wallet + self.profit

    @property
    def available(self) -> Decimal:
        return self.balance - self.initial - self.locked


class Margin:
    """Margin arithmetic over the books' present prices; changes nothing."""

    def __init__(self, books: Books, in_usd: Callable[[str], Decimal]) -> None:
        self._books = books
        self.in_usd = in_usd

    def mark(self, contract: Contract) -> Decimal:
        return self._books[contract.key].mark_price

    # What a position needs and earns.

    def profit(self, position: Position) -> Decimal:
        """Unrealised profit at the mark price."""
        return position.profit_at(self.mark(position.contract))

    def value(self, account: Account, position: Position) -> Decimal:
        """The value margin is measured on: at mark in cross, at entry in isolated margin."""
        if account.margin_mode == ISOLATED:
            return abs(position.entry_value)
        return position.quantity * self.mark(position.contract)

    def initial(self, account: Account, position: Position) -> Decimal:
        value = self.value(account, position)
        return value / position.leverage + value * account.linear_taker_rate + position.extra_margin

    def maintenance(self, account: Account, position: Position) -> Decimal:
        value = self.value(account, position)
        return value * (position.contract.tier_of(value).maintenance_rate + account.linear_taker_rate)

    # What an order needs.

    def for_order(self, account: Account, order: Order, opening: Decimal) -> Decimal:
        """Initial margin and both fees for what an order may open."""
        if opening <= 0:
            return ZERO
        book = self._books[order.instrument.key]
        price = order.price or (book.best_ask() if order.is_buy else book.best_bid())
        leverage = account.position(order.contract, order.position_idx).leverage
        value = opening * price
        return (value / leverage + value * account.linear_taker_rate * 2).quantize(_CENT, rounding=ROUND_CEILING)

    # Sums.

    def positions(self, account: Account, coin: str | None = None) -> Iterator[Position]:
        """Positions that are not flat, of one settle coin or of all."""
        for position in account.positions.values():
            if position.size and (coin is None or position.contract.settle == coin):
                yield position

    def coin_profit(self, account: Account, coin: str) -> Decimal:
        return sum((self.profit(position) for position in self.positions(account, coin)), ZERO)

    def coin_initial(self, account: Account, coin: str) -> Decimal:
        return sum((self.initial(account, position) for position in self.positions(account, coin)), ZERO)

    def coin_maintenance(self, account: Account, coin: str) -> Decimal:
        return sum((self.maintenance(account, position) for position in self.positions(account, coin)), ZERO)

    def summary(self, account: Account) -> Summary:
        """Account-wide sums in USD over all coins."""
        wallet = profit = locked = initial = maintenance = ZERO
        for coin, balance in account.wallet.items():
            usd = self.in_usd(coin)
            wallet += balance.total * usd
            locked += balance.locked * usd
            initial += balance.order_margin * usd
        for position in self.positions(account):
            usd = self.in_usd(position.contract.settle)
            profit += self.profit(position) * usd
            initial += self.initial(account, position) * usd
            maintenance += self.maintenance(account, position) * usd
        return Summary(wallet, profit, locked, initial, maintenance)

    def rates_e4(self, account: Account, order: Order | None = None, needed: Decimal = ZERO) -> tuple[int, int]:
        """Initial and maintenance margin rate in ten-thousandths, as they are or with an order's margin added."""
        summary = self.summary(account)
        initial, maintenance = summary.initial, summary.maintenance
        if order is not None and order.is_linear:
            usd = self.in_usd(order.lock_coin)
            value = needed * account.position(order.contract, order.position_idx).leverage * usd
            initial += needed * usd
            maintenance += value * order.contract.tier_of(value).maintenance_rate
        if summary.balance <= 0:
            return 0, 0
        return int(initial / summary.balance * 10_000), int(maintenance / summary.balance * 10_000)

    def available(self, account: Account, coin: str) -> Decimal:
        """How much of a settle coin new orders may use as margin."""
        if account.margin_mode == ISOLATED:
            balance = account.balance(coin)
            return balance.available - balance.order_margin - self.coin_initial(account, coin)
        usd = self.in_usd(coin)
        return self.summary(account).available / usd if usd else ZERO

    def spendable(self, account: Account, coin: str) -> Decimal:
        """How much of a coin a spot order may hold: what is free in the wallet and not needed as margin."""
        free = account.available(coin)
        if not account.uses_margin:
            return free
        if account.margin_mode == ISOLATED:
            return min(free, self.available(account, coin))
        usd = self.in_usd(coin)
        return min(free, self.summary(account).available / usd) if usd else free

    # Where it ends.

    def liquidation_price(self, account: Account, position: Position) -> Decimal | None:
        """The mark price at which maintenance margin is no longer covered; None beyond the contract's prices.

        An estimate in cross margin, where every other price is taken to stand still.
        """
        mark = self.mark(position.contract)
        if account.margin_mode == ISOLATED:
            buffer = self.initial(account, position) - self.maintenance(account, position)
            price = position.average_price - (buffer / position.size)
        else:
            summary = self.summary(account)
            usd = self.in_usd(position.contract.settle)
            buffer = (summary.balance - summary.maintenance) / usd
            value = position.quantity * mark
            rate = position.contract.tier_of(value).maintenance_rate + account.linear_taker_rate
            slope = position.size - position.quantity * rate
            price = mark - buffer / slope
        if not position.contract.min_price < price < position.contract.max_price:
            return None
        return on_tick(price, position.contract, up=not position.is_long)

    def bankruptcy_price(self, account: Account, position: Position) -> Decimal:
        """The price at which closing the position, fee included, uses up the margin that stands behind it.

        After a gap it lies beyond the mark price, and the taker of the position makes a loss.
        """
        mark = self.mark(position.contract)
        if account.margin_mode == ISOLATED:
            value = abs(position.entry_value)
            price = position.average_price - (value / position.leverage + position.extra_margin) / position.size
        else:
            summary = self.summary(account)
            usd = self.in_usd(position.contract.settle)
            share = self.maintenance(account, position) * usd / summary.maintenance
            fee = position.quantity * account.linear_taker_rate
            price = (position.size * mark - summary.balance * share / usd) / (position.size - fee)
        return max(position.contract.tick, on_tick(price, position.contract, up=position.is_long))


def on_tick(price: Decimal, contract: Contract, *, up: bool) -> Decimal:
    """A price moved to the next tick above or below."""
    rounding = ROUND_CEILING if up else ROUND_FLOOR
    return (price / contract.tick).to_integral_value(rounding=rounding) * contract.tick
