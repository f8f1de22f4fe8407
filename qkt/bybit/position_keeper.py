"""`PositionKeeper`: the venue's positions of one category, kept by frames and by every round.

A position is what the venue says it is. Frames keep it up to date (`PositionUpdated`); every round reads it, and where
the two differ a `PositionReconciled` carries the old and the new. No order is invented to explain a difference.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from qkt.broker.state import BrokerState
from qkt.bybit.codec.frames import created_ms_of
from qkt.bybit.codec.positions import to_position
from qkt.bybit.codec.rows import parse_rows
from qkt.bybit.queries import BybitQueries
from qkt.errors import QktError, WaitTimeoutError
from qkt.events import PositionReconciled, PositionUpdated
from qkt.model.positions import Position
from qkt.reconcile.positions import PositionBook, VenuePosition
from qkt.reconcile.snapshot import Read

log: logging.Logger = logging.getLogger(__name__)

FLAT = Position()


class PositionKeeper:
    """Positions of one broker. Safe from any thread."""

    def __init__(self, queries: BybitQueries, state: BrokerState, *, category: str) -> None:
        self._queries = queries
        self._state = state
        self._category = category
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._book = PositionBook()
        self._has_read = False

    def on_frame(self, frame: Mapping[str, Any]) -> bool:
        """Join a position frame and queue what changed; False when it has rows that cannot be read."""
        received_ms = self._queries.venue_ms()
        as_of_ms = min(created_ms_of(frame) or received_ms, received_ms)
        data = frame.get("data")
        rows, malformed = parse_rows(
            [row for row in (data if isinstance(data, list) else []) if _is_of(row, self._category)],
            lambda row: to_position(row, self._category, as_of_ms=as_of_ms),
            "position frame",
        )
        for bad in malformed:
            log.warning("malformed frame row problem=%s row=%s", bad.problem, bad.excerpt)
        with self._lock:
            before, self._book = self._book, self._book.after_frame(rows)
            self._state.publish(
                [
                    PositionUpdated(
                        symbol=now.symbol,
                        position_idx=now.position_idx,
                        old_quantity=was.quantity,
                        new_quantity=now.quantity,
                        old_avg_price=was.avg_price,
                        new_avg_price=now.avg_price,
                        source=self._state.source,
                    )
                    for was, now in self._book.changed_from(before)
                ]
            )
            self._changed.notify_all()
        return not malformed

    def reconcile(self) -> Read[VenuePosition]:
        """Read every position; what no frame told is queued as `PositionReconciled`.

        Rows that cannot be read hide which positions they are about, so nothing is concluded from absence then.
        """
        read = self._queries.positions()
        if not read.is_complete:
            return read
        is_whole = not read.malformed
        with self._lock:
            before = self._book
            after = before.after_read(read.rows, read.begun_ms) if is_whole else before.after_frame(read.rows)
            reason = "differed from what the stream told" if self._has_read else "found at start"
            self._state.publish(
                [
                    PositionReconciled(
                        symbol=now.symbol,
                        old_quantity=was.quantity,
                        new_quantity=now.quantity,
                        old_avg_price=was.avg_price,
                        new_avg_price=now.avg_price,
                        source=self._state.source,
                        reason=reason,
                        origin="reconcile",
                    )
                    for was, now in after.changed_from(before)
                ]
            )
            self._book, self._has_read = after, True
            self._changed.notify_all()
        return read

    def position(self, symbol: str, position_idx: int) -> Position | None:
        """The position as last heard; None when the venue never mentioned it."""
        with self._lock:
            held = self._book.held.get((symbol, position_idx))
        return None if held is None else held.view()

    @property
    def held(self) -> Mapping[tuple[str, int], VenuePosition]:
        """Every position the venue told of, flat ones included."""
        with self._lock:
            return self._book.held

    def positions(self) -> dict[tuple[str, int], Position]:
        """Every position that is not flat."""
        with self._lock:
            held = dict(self._book.held)
        return {key: position.view() for key, position in held.items() if position.quantity}

    def wait(self, symbol: str, position_idx: int, until: Callable[[Position], bool], timeout_ms: int) -> Position:
        """Block until ``until(position)`` is true; a position never mentioned counts as flat."""
        deadline = time.monotonic() + timeout_ms / 1000
        while True:
            with self._lock:
                book = self._book
            held = book.held.get((symbol, position_idx))
            found = FLAT if held is None else held.view()
            if until(found):  # outside the lock: it is the user's own function
                return found
            if self._state.is_closed:
                raise QktError(f"{self._state.source} was closed while waiting for the position on {symbol}")
            with self._lock:
                left_s = deadline - time.monotonic()
                if left_s <= 0:
                    raise WaitTimeoutError(
                        f"the position on {symbol} is {found.quantity} and did not become what was waited for within "
                        f"{timeout_ms} ms",
                        view=found,
                    )
                if self._book is book:
                    self._changed.wait(left_s)

    def close(self) -> None:
        """Let waiting callers go."""
        with self._lock:
            self._changed.notify_all()


def _is_of(row: Any, category: str) -> bool:
    return not isinstance(row, dict) or row.get("category", category) == category
