"""A live market: a seeded price process and counterparties that trade with resting orders.

Each step moves every price by a random return, and a random volume trades on the way. Resting orders fill best price
first; an order larger than the volume fills in part and stops the price there. The same seed and the same steps give
the same market, whether the steps come from the real clock or from a virtual one.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from random import Random

from .exchange.book import Book
from .exchange.exchange import Exchange

_YEAR_MS = 365 * 86_400_000
_BASIS = 0.0002
"""Standard deviation of a contract's distance from its spot pair."""


class LiveMarket:
    """The price process and the counterparties of all markets.

    Args:
        volatility: annual standard deviation of returns, 0.6 = 60 %.
        step_ms: market time between two moves.
        speed: how much market time passes per venue time; 10 makes ten times the moves.
    """

    def __init__(
        self, exchange: Exchange, seed: int, *, volatility: float = 0.6, step_ms: int = 250, speed: float = 1.0
    ) -> None:
        if speed <= 0 or step_ms <= 0:
            raise ValueError("speed and step_ms are positive")
        self._exchange = exchange
        self._random = Random(f"market {seed}")
        self._contract_random = Random(f"contracts {seed}")
        self._spread = volatility * (step_ms / _YEAR_MS) ** 0.5
        self._step_ms = step_ms / speed
        self._next_ms = exchange.now_ms() + self._step_ms
        self.steps: int = 0

    def advance(self, now_ms: int, *, at_most: int | None = None) -> None:
        """Make the steps that are due; called under the venue's lock.

        Args:
            at_most: how many steps to make when the clock jumped ahead; the others are skipped.
        """
        if at_most is not None:
            self._next_ms = max(self._next_ms, now_ms - at_most * self._step_ms)
        while self._next_ms <= now_ms:
            self._next_ms += self._step_ms
            self.step()

    def step(self) -> None:
        """Make one step in every market."""
        self.steps += 1
        books = self._exchange.books
        for (category, _), book in books.items():
            if category == "spot":
                price = self._next_price(book, self._random.gauss)
                self._exchange.move_price(book, price, self._volume(book, self._random))
        for (category, _), book in books.items():
            if category == "linear":
                self._step_contract(book, books.get(("spot", f"{book.instrument.base}USDT")))

    def _step_contract(self, book: Book, spot: Book | None) -> None:
        """A contract trades a few basis points around its spot pair, or wanders by itself without one."""
        if spot is None:
            price = self._next_price(book, self._contract_random.gauss)
        else:
            basis = Decimal(self._contract_random.gauss(0.0, _BASIS))
            price = self._on_tick(spot.last_price * (1 + basis), book)
        self._exchange.move_price(book, price, self._volume(book, self._contract_random))

    def _next_price(self, book: Book, gauss: Callable[[float, float], float]) -> Decimal:
        moved = book.last_price * (1 + Decimal(gauss(0.0, self._spread)))
        return self._on_tick(moved, book)

    @staticmethod
    def _on_tick(price: Decimal, book: Book) -> Decimal:
        tick = book.instrument.tick
        return max(tick, (price / tick).to_integral_value(rounding=ROUND_HALF_EVEN) * tick)

    def _volume(self, book: Book, random: Random) -> Decimal:
        """A log-normal quantity, mostly a small part of a level's depth, sometimes more than one."""
        share = Decimal(random.lognormvariate(-4.0, 1.5))
        return self._exchange.market_quantity(book, book.instrument.depth_quantity * share)
