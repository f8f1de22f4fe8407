"""The public record of one market: its last trades and its candles.

Candles are kept per minute and combined into longer intervals on request. A minute without a trade is flat at the last
price. The candles before the venue was opened come from `Past`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain

from .candle_history import Past
from .candles import MINUTE_MS, Candle, begin_ms, is_hourly

_MOST_TRADES = 1000


@dataclass(frozen=True, slots=True)
class PublicTrade:
    """One trade as the public sees it."""

    number: int
    time_ms: int
    side: str
    price: Decimal
    quantity: Decimal
    seq: int


class Tape:
    """One market's trades and candles."""

    def __init__(self, opening_price: Decimal) -> None:
        self.trades: deque[PublicTrade] = deque(maxlen=_MOST_TRADES)
        self.past: Past | None = None
        self._number = 2_100_000_000_000_000_000
        self._minutes: list[Candle] = []
        self._last = opening_price

    def trade(self, time_ms: int, side: str, price: Decimal, quantity: Decimal, seq: int) -> None:
        """Record a trade."""
        self._number += 1
        self.trades.append(PublicTrade(self._number, time_ms, side, price, quantity, seq))
        candle = self.price(time_ms, price)
        candle.volume += quantity
        candle.turnover += price * quantity

    def price(self, time_ms: int, price: Decimal) -> Candle:
        """Record the price of the market; returns the candle of the minute."""
        start_ms = time_ms - time_ms % MINUTE_MS
        if not self._minutes or self._minutes[-1].start_ms < start_ms:
            opened = self._last
            self._minutes.append(Candle(start_ms, opened, max(opened, price), min(opened, price), price))
        candle = self._minutes[-1]
        candle.high, candle.low, candle.close = max(candle.high, price), min(candle.low, price), price
        self._last = price
        return candle

    def candles(self, interval: str, start_ms: int, end_ms: int, limit: int) -> list[Candle]:
        """The newest candles that begin within a span, newest first.

        Args:
            interval: one of `INTERVALS`.
            limit: how many at most.
        """
        begins: list[int] = []
        begins_ms = begin_ms(interval, end_ms)
        while len(begins) < limit and begins_ms >= start_ms:
            begins.append(begins_ms)
            begins_ms = begin_ms(interval, begins_ms - 1)
        if not begins:
            return []
        grouped = self._grouped(interval, begins[-1])
        found: list[Candle] = []
        close = self._close_before(begins[-1])
        for begins_ms in reversed(begins):
            candle = grouped.get(begins_ms)
            if candle is None and close is not None:
                candle = Candle(begins_ms, close, close, close, close)
            if candle is not None:
                found.append(candle)
                close = candle.close
        found.reverse()
        return found

    def _grouped(self, interval: str, from_ms: int) -> dict[int, Candle]:
        """Candle by beginning, for every interval in which something happened."""
        past = self.past.candles(from_ms, hourly=is_hourly(interval)) if self.past is not None else ()
        grouped: dict[int, Candle] = {}
        for part in chain(past, self._minutes[self._index(from_ms) :]):
            begins_ms = begin_ms(interval, part.start_ms)
            if begins_ms in grouped:
                grouped[begins_ms].add(part)
            else:
                grouped[begins_ms] = part.copy()
                grouped[begins_ms].start_ms = begins_ms
        return grouped

    def _index(self, from_ms: int) -> int:
        return bisect_left(self._minutes, from_ms, key=lambda minute: minute.start_ms)

    def _close_before(self, time_ms: int) -> Decimal | None:
        """The last price before a time; None when the record begins later."""
        at = self._index(time_ms)
        if at:
            return self._minutes[at - 1].close
        return self.past.close_before(time_ms) if self.past is not None else None
