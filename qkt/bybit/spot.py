"""Bybit spot: `BYBIT_SPOT:BTCUSDT`.

Spot positions are deliberately not reconciled: a position nets per pair and the wallet holds per coin, so one cannot be
derived from the other. What the account holds is in `BalancesUpdated`.
"""

from __future__ import annotations

from typing import ClassVar

from qkt.broker.protocol import OrderTypeCapability
from qkt.bybit.broker import COMMON_CAPABILITIES, BybitBroker


class BybitSpotBroker(BybitBroker):
    """Trades Bybit spot and keeps what the bot believes equal to what the venue holds. See `BybitBroker`."""

    category: ClassVar[str] = "spot"
    source: str = "BYBIT_SPOT"
    capabilities: ClassVar[frozenset[OrderTypeCapability]] = COMMON_CAPABILITIES | {OrderTypeCapability.QUOTE_SIZED}
