"""`PositionEntry`: requests about positions, and which position mode a symbol is in.

Each request has absolute values, so a repeated one changes nothing more; the venue's "not modified" answers are
successes (110043 leverage, 110025 position mode, 110026 margin mode, 34040 exits: docs v5/error). 3400045 is none of
them: it says that the margin mode could not be set.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from qkt.bybit.codec.envelope import vetted
from qkt.bybit.codec.position_requests import (
    SET_LEVERAGE,
    SET_MARGIN_MODE,
    SWITCH_MODE,
    TRADING_STOP,
    leverage_body,
    margin_mode_body,
    position_mode_body,
    trading_stop_body,
)
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.protection_keeper import ProtectionKeeper
from qkt.bybit.queries import BybitQueries
from qkt.bybit.transport.protocol import CompleteTransport
from qkt.errors import BybitApiError, InvalidRequestError, OutcomeUnknownError, QktError, VenueUnavailableError
from qkt.model.order_kinds import PositionSide, TriggerBy
from qkt.model.positions import MarginMode, PositionMode
from qkt.model.protection import Protection, ProtectionKind
from qkt.reconcile.plan import ReconcileLimits
from qkt.reconcile.positions import INDEX_OF_SIDE, SIDES, VenuePosition

log: logging.Logger = logging.getLogger(__name__)

Positions = Mapping[tuple[str, int], VenuePosition]


class PositionEntry:
    """Leverage, modes and exits of one broker's positions. Safe from any thread; call it without holding a lock."""

    def __init__(
        self,
        client: CompleteTransport,
        queries: BybitQueries,
        keeper: ProtectionKeeper,
        limits: ReconcileLimits,
        *,
        category: str,
        positions: Callable[[], Positions],
    ) -> None:
        self._client = client
        self._queries = queries
        self._keeper = keeper
        self._limits = limits
        self._category = category
        self._positions = positions
        self._lock = threading.Lock()
        self._modes: dict[str, PositionMode | None] = {}
        self.post_permitted: Callable[[str, Mapping[str, Any]], object] | None = None  # set where there is a journal

    # position mode

    def mode_of(self, symbol: str) -> PositionMode | None:
        """The position mode of a symbol; None when the venue could not be asked or does not say.

        An open position tells it; otherwise it is read once per symbol.
        """
        for (name, index), position in self._positions().items():
            if name == symbol and position.quantity:
                return PositionMode.HEDGE if index else PositionMode.ONE_WAY
        with self._lock:
            if symbol in self._modes:
                return self._modes[symbol]
        try:
            rows = self._queries.positions_on(symbol)
        except QktError as error:
            log.warning("position mode not read symbol=%s error=%s", symbol, error)
            return None
        mode = (
            None if not rows else PositionMode.HEDGE if any(row.position_idx for row in rows) else PositionMode.ONE_WAY
        )
        with self._lock:
            self._modes[symbol] = mode
        return mode

    def forget_mode(self, symbol: str) -> None:
        """Read the mode again before the next order: the venue refused one, which may be why."""
        with self._lock:
            self._modes.pop(symbol, None)

    def check_side(self, symbol: str, side: PositionSide | None) -> None:
        """Raise InvalidRequestError when an order or request names a position that its account mode does not have."""
        mode = self.mode_of(symbol)
        if mode is PositionMode.HEDGE and side is None:
            raise InvalidRequestError(
                f"{symbol} is in hedge mode: say PositionSide.LONG or PositionSide.SHORT (position_side of an order); "
                "nothing was sent"
            )
        if mode is PositionMode.ONE_WAY and side is not None:
            raise InvalidRequestError(
                f"{symbol} is in one-way mode: leave position_side out, or call set_position_mode first; nothing was "
                "sent"
            )

    def set_position_mode(self, where: str, mode: PositionMode) -> None:
        """See `BybitLinearBroker.set_position_mode`."""
        if ":" in where:
            body = position_mode_body(self._category, mode, symbol=BybitSymbol.parse(where).bare)
        else:
            body = position_mode_body(self._category, mode, coin=where)
        with self._lock:
            self._modes.clear()  # before it is sent: without an answer neither mode is known
        self._post(SWITCH_MODE, body)
        with self._lock:
            self._modes.clear()

    def set_leverage(self, symbol: str, long: Decimal, short: Decimal) -> None:
        """See `BybitLinearBroker.set_leverage`."""
        self._post(SET_LEVERAGE, leverage_body(symbol, long, short))

    def set_margin_mode(self, mode: MarginMode) -> None:
        """See `BybitLinearBroker.set_margin_mode`."""
        self._post(SET_MARGIN_MODE, margin_mode_body(mode))

    # exits

    def protect(
        self,
        symbol: str,
        side: PositionSide | None,
        wanted: Mapping[ProtectionKind, Decimal],
        *,
        trigger_by: Mapping[ProtectionKind, TriggerBy],
        active_price: Decimal | None,
    ) -> tuple[Protection, ...]:
        """See `BybitLinearBroker.protect`."""
        index = self._index_of(symbol, side)
        body = trading_stop_body(symbol, index, wanted, trigger_by=trigger_by, active_price=active_price)
        sent_ms = self._queries.venue_ms()
        self._keeper.requested(
            (symbol, index), wanted, sent_ms=sent_ms, settles_from_ms=self._settles_from_ms(None, sent_ms)
        )
        is_taken: bool | None = None
        try:
            self._post(TRADING_STOP, body)
            is_taken = True
        except (BybitApiError, VenueUnavailableError, InvalidRequestError):
            is_taken = False  # a definite no, or it never left
            raise
        except OutcomeUnknownError as error:
            settles_from_ms = self._settles_from_ms(error, sent_ms)
            self._keeper.requested((symbol, index), wanted, sent_ms=sent_ms, settles_from_ms=settles_from_ms)
        except Exception as error:  # noqa: BLE001 - a transport of the user's own: the request may have left
            log.warning("write failed in the transport error=%r", error)
        finally:
            if is_taken is not None:
                self._keeper.answered((symbol, index), wanted, is_taken=is_taken)
            self._keeper.judge("submit")
        place = SIDES[index]
        return tuple(
            one
            for one in self._keeper.protections
            if one.symbol == symbol and one.position_side is place and one.kind in wanted
        )

    def _index_of(self, symbol: str, side: PositionSide | None) -> int:
        """The position index of a side; in one-way mode a side must be that of the position."""
        mode = self.mode_of(symbol)
        if mode is PositionMode.HEDGE:
            if side is None:
                self.check_side(symbol, side)
            return INDEX_OF_SIDE[side]
        if mode is None and side is not None:
            return INDEX_OF_SIDE[side]
        held = self._positions().get((symbol, 0))
        quantity = held.quantity if held is not None else 0
        if side is not None and quantity and (quantity > 0) is not (side is PositionSide.LONG):
            holds = "long" if quantity > 0 else "short"
            raise InvalidRequestError(f"the position on {symbol} is {holds}, not {side.value}; nothing was sent")
        return 0

    def _settles_from_ms(self, error: OutcomeUnknownError | None, sent_ms: int) -> int:
        """When a request can no longer arrive: silence is bounded by the receive window, a busy backend is not."""
        if error is not None and error.ret_code is not None:
            return sent_ms + self._limits.backend_timeout_ms
        signed_ms = error.signed_ms if error is not None else None
        window_ms = (error.recv_window_ms if error is not None else None) or self._client.recv_window_ms
        return (signed_ms or sent_ms) + window_ms + self._limits.arrival_margin_ms

    def _post(self, path: str, body: Mapping[str, Any]) -> None:
        if self.post_permitted is not None:
            self.post_permitted(path, body)
        else:
            vetted(path, self._client.post_signed(path, body), is_write=True)
