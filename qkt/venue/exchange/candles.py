"""A candle, and when the candles of an interval begin."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal

from .money import ZERO, wire

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
_FIRST_MONDAY_MS = 4 * DAY_MS  # 1970-01-01 was a Thursday
_FIXED_MS: dict[str, int] = {
    **{str(minutes): minutes * MINUTE_MS for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)},
    "D": DAY_MS,
    "W": 7 * DAY_MS,
}
INTERVALS = (*_FIXED_MS, "M")
"""The ``interval`` values of a kline request."""


@dataclass(slots=True)
class Candle:
    """Prices, volume and turnover of one interval."""

    start_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    turnover: Decimal = ZERO

    def row(self) -> list[str]:
        """The candle as ``market/kline`` lists it."""
        prices = (self.open, self.high, self.low, self.close, self.volume, self.turnover)
        return [str(self.start_ms), *(wire(value) for value in prices)]

    def copy(self) -> Candle:
        return replace(self)

    def add(self, later: Candle) -> None:
        """Extend the candle by a later one."""
        self.high, self.low = max(self.high, later.high), min(self.low, later.low)
        self.close = later.close
        self.volume += later.volume
        self.turnover += later.turnover


def begin_ms(interval: str, at_ms: int) -> int:
    """When the candle of a moment begins; weeks begin on Monday, all in UTC."""
    if interval == "M":
        return at_ms - at_ms % DAY_MS - _day_of_month(at_ms // DAY_MS) * DAY_MS
    offset_ms = _FIRST_MONDAY_MS if interval == "W" else 0
    return at_ms - (at_ms - offset_ms) % _FIXED_MS[interval]


def end_ms(interval: str, begins_ms: int) -> int:
    """The last millisecond of the candle that begins then."""
    following_ms = begins_ms + (32 * DAY_MS if interval == "M" else _FIXED_MS[interval])
    return begin_ms(interval, following_ms) - 1


def is_hourly(interval: str) -> bool:
    """Whether the candles of an interval begin and end with full hours."""
    return interval == "M" or _FIXED_MS[interval] % HOUR_MS == 0


def _day_of_month(day: int) -> int:
    """The day of the month, from 0, of a day counted from 1970-01-01 (the proleptic Gregorian calendar)."""
    day_of_era = (day + 719_468) % 146_097  # an era has 400 years, which begin on March 1
    year = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    return day_of_year - (153 * month + 2) // 5
