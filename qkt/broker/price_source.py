"""Where a broker can take market prices from."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Protocol

PriceListener = Callable[[str, Decimal], object]
"""Called with a symbol and its last traded price."""


class PriceSource(Protocol):
    """Last traded prices by symbol. `qkt.PriceFeed` is one."""

    def last(self, symbol: str) -> Decimal:
        """The last traded price; raises StalePriceError when it is not known or too old."""
        ...

    def on_price(self, listener: PriceListener) -> None:
        """Call ``listener(symbol, price)`` for each new price, on the thread that reads, and for known prices now."""
        ...
