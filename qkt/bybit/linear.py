"""Bybit USDT and USDC perpetuals: `BYBIT_LINEAR:BTCUSDT`, with positions."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from qkt.broker.protocol import OrderTypeCapability
from qkt.bybit.broker import COMMON_CAPABILITIES, BybitBroker
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.recovery import POSITIONS
from qkt.errors import VenueUnavailableError
from qkt.model.positions import Position


class BybitLinearBroker(BybitBroker):
    """Trades Bybit USDT and USDC perpetuals and reconciles orders, fills, balances and positions. See `BybitBroker`.

    One-way and hedge mode are both read; orders are sent for one-way mode (``positionIdx`` 0).
    """

    category: ClassVar[str] = "linear"
    source: ClassVar[str] = "BYBIT_LINEAR"
    capabilities: ClassVar[frozenset[OrderTypeCapability]] = COMMON_CAPABILITIES
    has_positions: ClassVar[bool] = True

    def position(self, symbol: str, position_idx: int = 0) -> Position | None:
        """The venue's position on a symbol as last heard, or None when the venue never mentioned it.

        Realised PnL is not part of it. A fill is heard some milliseconds before the position that it makes:
        `wait_for_position` waits for that, ``positions(fresh=True)`` reads it.
        """
        BybitSymbol.parse(symbol)
        return self._position_keeper.position(symbol, position_idx)

    def positions(self, *, fresh: bool = False) -> dict[tuple[str, int], Position]:
        """Every position that is not flat: (symbol, position index) -> position.

        ``fresh`` reads them from the venue first; raises VenueUnavailableError when that fails.
        """
        if fresh:
            self._state.check_open()
            report = self._loop.run("positions asked", (POSITIONS,))
            if not report.ok:
                raise VenueUnavailableError(f"the positions could not be read:\n{report}")
        return self._position_keeper.positions()

    def wait_for_position(
        self,
        symbol: str,
        until: Callable[[Position], bool] = lambda position: position.quantity != 0,
        *,
        position_idx: int = 0,
        timeout_ms: int = 5_000,
    ) -> Position:
        """Block until the position on ``symbol`` is what ``until`` asks for, by default not flat; returns it.

        A position that the venue never mentioned counts as flat. Raises WaitTimeoutError, with the position as its
        view, when it takes longer than ``timeout_ms``.
        """
        BybitSymbol.parse(symbol)
        return self._position_keeper.wait(symbol, position_idx, until, timeout_ms)
