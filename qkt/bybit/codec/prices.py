"""Frames of the public topics ``tickers`` and ``orderbook.1`` as prices. Pure.

Source: docs v5/websocket/public/ticker, v5/websocket/public/orderbook.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import attrs

from qkt.errors import VenueProtocolError
from qkt.money import optional_from_wire, positive_from_wire


@attrs.frozen(kw_only=True)
class PriceUpdate:
    """What one frame says about a symbol (the venue's own name); None is not said. A side of "" is empty now.

    ``bid`` and ``ask`` are ``(price, quantity)``; a price of None in it says that the side of the book is empty.
    """

    symbol: str
    at_ms: int
    last: Decimal | None = None
    bid: tuple[Decimal | None, Decimal] | None = None
    ask: tuple[Decimal | None, Decimal] | None = None


def to_price_update(frame: Mapping[str, Any]) -> PriceUpdate | None:
    """The prices in a frame, None for another topic; raises VenueProtocolError for one that cannot be read."""
    topic = str(frame.get("topic", ""))
    data = frame.get("data")
    try:
        if topic.startswith("tickers.") and isinstance(data, dict):
            last = positive_from_wire(data.get("lastPrice"))
            return PriceUpdate(symbol=topic.partition(".")[2], at_ms=_time_of(frame), last=last)
        if topic.startswith("orderbook.1.") and isinstance(data, dict):
            return PriceUpdate(
                symbol=topic.rpartition(".")[2],
                at_ms=_time_of(frame),
                bid=_best(data.get("b"), is_snapshot=frame.get("type") == "snapshot"),
                ask=_best(data.get("a"), is_snapshot=frame.get("type") == "snapshot"),
            )
    except (ValueError, TypeError, IndexError) as error:
        raise VenueProtocolError(f"frame of {topic[:60]!r} cannot be read: {error}", path=topic[:60]) from error
    return None


def _best(levels: Any, *, is_snapshot: bool) -> tuple[Decimal | None, Decimal] | None:
    """The level of one side; in a delta no level means no change, and a quantity of zero an empty side."""
    if not levels:
        return (None, Decimal(0)) if is_snapshot else None
    price, quantity = positive_from_wire(levels[-1][0]), optional_from_wire(levels[-1][1]) or Decimal(0)
    return (price, quantity) if quantity > 0 else (None, Decimal(0))


def _time_of(frame: Mapping[str, Any]) -> int:
    stamp = frame.get("ts")
    return stamp if isinstance(stamp, int) and not isinstance(stamp, bool) else 0
