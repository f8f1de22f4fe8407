"""Bybit USDT and USDC perpetuals: `BYBIT_LINEAR:BTCUSDT`, with positions.

A position is the venue's to say. Frames keep it up to date; every round reads it, and where the two differ a
`PositionReconciled` tells the old and the new. No order is invented to explain a difference.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from qkt.broker.protocol import OrderTypeCapability
from qkt.bybit.broker import BybitBroker
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.frames import created_ms_of
from qkt.bybit.codec.positions import to_position
from qkt.bybit.codec.rows import parse_rows
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.events import PositionReconciled
from qkt.model.positions import Position
from qkt.money import ZERO
from qkt.reconcile.positions import PositionBook, VenuePosition
from qkt.reconcile.snapshot import Read

log = logging.getLogger(__name__)


class BybitLinearBroker(BybitBroker):
    """Trades Bybit USDT and USDC perpetuals and reconciles orders, fills, balances and positions. See `BybitBroker`.

    One-way and hedge mode are both read; orders are sent for one-way mode (``positionIdx`` 0).
    """

    category: ClassVar[str] = "linear"
    source: ClassVar[str] = "BYBIT_LINEAR"
    capabilities: ClassVar[frozenset[OrderTypeCapability]] = frozenset(
        {
            OrderTypeCapability.MARKET,
            OrderTypeCapability.LIMIT,
            OrderTypeCapability.STOP,
            OrderTypeCapability.STOP_LIMIT,
            OrderTypeCapability.IF_TOUCHED,
            OrderTypeCapability.MODIFY,
            OrderTypeCapability.POST_ONLY,
            OrderTypeCapability.BRACKET,
            OrderTypeCapability.BATCH,
        }
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        self._book = PositionBook()
        self._book_lock = threading.Lock()
        self._has_read_positions = False
        super().__init__(*args, **options)

    def _listen(self) -> None:
        super()._listen()
        self._recovery.add_path(self._reconcile_positions)

    @property
    def _topics(self) -> dict[str, Callable[[Envelope], None]]:
        return {**super()._topics, f"position.{self.category}": self._on_position_frame}

    def _on_position_frame(self, frame: Mapping[str, Any]) -> None:
        if self._is_closed:
            return
        as_of_ms = created_ms_of(frame)
        data = frame.get("data")
        rows, malformed = parse_rows(
            [row for row in (data if isinstance(data, list) else []) if _is_of(row, self.category)],
            lambda row: to_position(row, self.category, as_of_ms=as_of_ms),
            "position frame",
        )
        for bad in malformed:
            log.warning("malformed frame row problem=%s row=%s", bad.problem, bad.excerpt)
        with self._book_lock:
            self._book = self._book.after_frame(rows)

    def _reconcile_positions(self) -> Read[VenuePosition]:
        """Read every position; what no frame told is told as `PositionReconciled`."""
        read = self._recovery.queries.positions()
        if not read.is_complete:
            return read
        with self._book_lock:
            before, self._book = self._book, self._book.after_read(read.rows, read.begun_ms)
            differences = self._book.changed_from(before)
            is_first, self._has_read_positions = not self._has_read_positions, True
        self._state.publish(
            [
                PositionReconciled(
                    symbol=now.symbol,
                    old_quantity=was.quantity,
                    new_quantity=now.quantity,
                    old_avg_price=was.avg_price,
                    new_avg_price=now.avg_price,
                    source=self.source,
                    reason="found at start" if is_first else "differed from what the stream told",
                    origin="reconcile",
                )
                for was, now in differences
            ]
        )
        return read

    def position(self, symbol: str, position_idx: int = 0) -> Position | None:
        """The venue's position on a symbol, or None when it never told of one; realised PnL is not part of it."""
        BybitSymbol.parse(symbol)
        with self._book_lock:
            held = self._book.held.get((symbol, position_idx))
        return None if held is None else Position(quantity=held.quantity, avg_price=held.avg_price or ZERO)

    def positions(self) -> dict[tuple[str, int], Position]:
        """Every position that is not flat: (symbol, position index) -> position."""
        with self._book_lock:
            held = dict(self._book.held)
        return {
            key: Position(quantity=position.quantity, avg_price=position.avg_price or ZERO)
            for key, position in held.items()
            if position.quantity
        }


def _is_of(row: Any, category: str) -> bool:
    return not isinstance(row, dict) or row.get("category", category) == category
