"""Candles of the two years before the venue was opened, generated from a seed.

The same seed, symbol and opening time give the same candles. Hours are a random walk that ends at the opening price;
the minutes of an hour lead from its open to its close through its high and its low. A candle of a longer interval is
the sum of the shorter ones within it.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import pairwise
from math import exp
from random import Random

from .candles import HOUR_MS, MINUTE_MS, Candle
from .instruments import Instrument
from .money import ZERO, floor_to_step

_HOURS = 2 * 365 * 24
_HOURLY_MOVE = 0.006
"""Standard deviation of an hourly return: about 0.6 a year."""


class Past:
    """The candles of one market before it was opened.

    Args:
        seed: decides the candles, together with the instrument.
        opened_ms: when the market was opened; the last candle ends in the minute of it.
    """

    def __init__(self, seed: int, instrument: Instrument, opened_ms: int) -> None:
        self._name = f"past {seed} {instrument.category} {instrument.symbol}"
        self._instrument = instrument
        self._opened_ms = opened_ms - opened_ms % MINUTE_MS
        self._first_hour_ms = self._opened_ms - self._opened_ms % HOUR_MS
        self._hours: list[Candle] = []

    def candles(self, from_ms: int, *, hourly: bool) -> Iterator[Candle]:
        """Candles that begin at or after a time, oldest first: one per hour, or one per minute."""
        if from_ms >= self._opened_ms:
            return
        for hour in self._hours_since(from_ms):
            if hourly:
                yield hour.copy()
                continue
            yield from (minute for minute in self._minutes_of(hour) if minute.start_ms >= from_ms)

    def close_before(self, time_ms: int) -> Decimal | None:
        """The opening price, for every time after the opening; None for earlier ones."""
        return self._instrument.opening_price if time_ms >= self._opened_ms else None

    def _hours_since(self, from_ms: int) -> list[Candle]:
        if not self._hours:
            self._hours = self._walk()
        missing = (from_ms - self._hours[0].start_ms) // HOUR_MS
        return self._hours[max(0, missing) :]

    def _walk(self) -> list[Candle]:
        """All hours, walked backwards from the opening price; the last may be a part of an hour."""
        random = Random(self._name)
        close = self._instrument.opening_price
        hours: list[Candle] = []
        start_ms = self._first_hour_ms if self._first_hour_ms < self._opened_ms else self._first_hour_ms - HOUR_MS
        for _ in range(_HOURS):
            opened = self._on_tick(float(close) * exp(random.gauss(0, _HOURLY_MOVE)))
            wicks = [exp(abs(random.gauss(0, _HOURLY_MOVE / 3))) for _ in range(2)]
            high = self._on_tick(float(max(opened, close)) * wicks[0])
            low = self._on_tick(float(min(opened, close)) / wicks[1])
            share = Decimal(random.lognormvariate(-2.0, 0.7))
            volume = floor_to_step(self._instrument.depth_quantity * share, self._instrument.base_step)
            minutes = self._minutes_in(start_ms)
            if minutes < 3:  # too short for a path through a high and a low of its own
                high, low = max(opened, close), min(opened, close)
            volume, middle = volume * minutes, (opened + close) / 2
            hours.append(Candle(start_ms, opened, high, low, close, volume, volume * middle))
            close, start_ms = opened, start_ms - HOUR_MS
        hours.reverse()
        return hours

    def _minutes_in(self, hour_ms: int) -> int:
        return min(60, (self._opened_ms - hour_ms) // MINUTE_MS)

    def _minutes_of(self, hour: Candle) -> list[Candle]:
        """The minutes of an hour: a path from open to close that touches the high and the low."""
        count = self._minutes_in(hour.start_ms)
        random = Random(f"{self._name} {hour.start_ms}")
        path = [hour.open]
        for at in range(1, count):
            straight = float(hour.open) + float(hour.close - hour.open) * at / count
            price = self._on_tick(straight * exp(random.gauss(0, _HOURLY_MOVE / 6)))
            path.append(min(max(price, hour.low), hour.high))
        path.append(hour.close)
        extremes = sorted({hour.high, hour.low} - {hour.open, hour.close})
        for at, price in zip(random.sample(range(1, count), len(extremes)), extremes, strict=True):
            path[at] = price
        shares = (hour.volume / count, hour.turnover / count)
        return [
            Candle(hour.start_ms + at * MINUTE_MS, opened, max(opened, close), min(opened, close), close, *shares)
            for at, (opened, close) in enumerate(pairwise(path))
        ]

    def _on_tick(self, price: float) -> Decimal:
        tick = self._instrument.tick
        ticks = (Decimal(price) / tick).to_integral_value(rounding=ROUND_HALF_EVEN)
        return max(ticks, Decimal(1)) * tick if price > 0 else ZERO
