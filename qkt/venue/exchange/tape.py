"""What the public saw of a market: its last trades, and its candles.

Candles are kept by the minute and put together for longer intervals when asked; a minute in which nothing traded is
flat at the last price. There is no past before the venue was opened.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal

from .money import ZERO, wire

MINUTE_MS = 60_000
_DAY_MINUTES = 1440
_EPOCH_WEEKDAY_MS = 4 * _DAY_MINUTES * MINUTE_MS  # weeks begin on Monday, time began on a Thursday
INTERVALS: dict[str, int] = {
    **{str(minutes): minutes for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": _DAY_MINUTES,
    "W": 7 * _DAY_MINUTES,
}
"""``interval`` of a kline request -> minutes; months, which differ in length, are not kept."""
_MOST_TRADES = 1000


@dataclass(slots=True)
class Candle:
    start_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    turnover: Decimal = ZERO

    def row(self) -> list[str]:
        """As ``market/kline`` lists it."""
        prices = (self.open, self.high, self.low, self.close, self.volume, self.turnover)
        return [str(self.start_ms), *(wire(value) for value in prices)]

    def add(self, later: Candle) -> None:
        self.high, self.low = max(self.high, later.high), min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume
        self.turnover += later.turnover


@dataclass(frozen=True, slots=True)
class PublicTrade:
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
        self._number = 2_100_000_000_000_000_000
        self._minutes: list[Candle] = []
        self._last = opening_price

    def trade(self, time_ms: int, side: str, price: Decimal, quantity: Decimal, seq: int) -> None:
        self._number += 1
        self.trades.append(PublicTrade(self._number, time_ms, side, price, quantity, seq))
        candle = self.price(time_ms, price)
        candle.volume += quantity
        candle.turnover += price * quantity

    def price(self, time_ms: int, price: Decimal) -> Candle:
        """The market is at a price now."""
        start_ms = time_ms - time_ms % MINUTE_MS
        if not self._minutes or self._minutes[-1].start_ms < start_ms:
            opened = self._last
            self._minutes.append(Candle(start_ms, opened, max(opened, price), min(opened, price), price))
        candle = self._minutes[-1]
        candle.high, candle.low, candle.close = max(candle.high, price), min(candle.low, price), price
        self._last = price
        return candle

    def candles(self, minutes: int, start_ms: int, end_ms: int, limit: int) -> list[Candle]:
        """Candles of an interval that begin within a span, newest first; flat ones where nothing happened."""
        length_ms = minutes * MINUTE_MS
        offset_ms = _EPOCH_WEEKDAY_MS if minutes == INTERVALS["W"] else 0
        grouped: dict[int, Candle] = {}
        for minute in self._minutes:
            begin_ms = minute.start_ms - (minute.start_ms - offset_ms) % length_ms
            if begin_ms in grouped:
                grouped[begin_ms].add(minute)
            else:
                grouped[begin_ms] = Candle(begin_ms, *_values(minute))
        if not grouped:
            return []
        first_ms = min(grouped)
        newest_ms = end_ms - (end_ms - offset_ms) % length_ms
        starts = range(max(first_ms, start_ms + (first_ms - start_ms) % length_ms), newest_ms + 1, length_ms)
        return [_candle_at(grouped, begin_ms, first_ms, length_ms) for begin_ms in reversed(starts[-limit:])]


def _values(candle: Candle) -> tuple[Decimal, Decimal, Decimal, Decimal, Decimal, Decimal]:
    return candle.open, candle.high, candle.low, candle.close, candle.volume, candle.turnover


def _candle_at(grouped: dict[int, Candle], begin_ms: int, first_ms: int, length_ms: int) -> Candle:
    if begin_ms in grouped:
        return grouped[begin_ms]
    earlier = begin_ms
    while earlier not in grouped and earlier > first_ms:
        earlier -= length_ms
    close = grouped[earlier].close
    return Candle(begin_ms, close, close, close, close)
