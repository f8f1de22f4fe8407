"""Bybit spot: `BYBIT_SPOT:BTCUSDT`.

Spot positions are deliberately not reconciled: the engine nets per pair and the wallet holds per coin, so one cannot be
made into the other without lying. What the account holds is told by `BalancesUpdated`.
"""

from __future__ import annotations

from typing import ClassVar

from qkt.broker.protocol import OrderTypeCapability
from qkt.bybit.broker import BybitBroker


class BybitSpotBroker(BybitBroker):
    """Trades Bybit spot and keeps what the bot believes equal to what the venue holds. See `BybitBroker`."""

    category: ClassVar[str] = "spot"
    source: ClassVar[str] = "BYBIT_SPOT"
    capabilities: ClassVar[frozenset[OrderTypeCapability]] = frozenset(
        {
            OrderTypeCapability.MARKET,
            OrderTypeCapability.LIMIT,
            OrderTypeCapability.STOP,
            OrderTypeCapability.STOP_LIMIT,
            OrderTypeCapability.IF_TOUCHED,
            OrderTypeCapability.MODIFY,
            OrderTypeCapability.POST_ONLY,
            OrderTypeCapability.QUOTE_SIZED,
            OrderTypeCapability.BRACKET,
            OrderTypeCapability.BATCH,
        }
    )
