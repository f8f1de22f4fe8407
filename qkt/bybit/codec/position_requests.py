"""Requests about positions as bodies: exits, leverage, position mode, margin mode.

Source: docs v5/position/trading-stop, v5/position/leverage, v5/position/position-mode, v5/account/set-margin-mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from qkt.bybit.codec.symbol import BybitSymbol
from qkt.model.order_kinds import TriggerBy
from qkt.model.positions import MarginMode, PositionMode
from qkt.model.protection import ProtectionKind
from qkt.money import to_wire

TRADING_STOP, SET_LEVERAGE = "/v5/position/trading-stop", "/v5/position/set-leverage"
SWITCH_MODE, SET_MARGIN_MODE = "/v5/position/switch-mode", "/v5/account/set-margin-mode"

_FIELDS = {
    ProtectionKind.TAKE_PROFIT: "takeProfit",
    ProtectionKind.STOP_LOSS: "stopLoss",
    ProtectionKind.TRAILING_STOP: "trailingStop",
}
_TRIGGER_FIELDS = {ProtectionKind.TAKE_PROFIT: "tpTriggerBy", ProtectionKind.STOP_LOSS: "slTriggerBy"}
_TRIGGER_BY = {TriggerBy.LAST: "LastPrice", TriggerBy.MARK: "MarkPrice", TriggerBy.INDEX: "IndexPrice"}
_POSITION_MODES = {PositionMode.ONE_WAY: 0, PositionMode.HEDGE: 3}
_MARGIN_MODES = {
    MarginMode.ISOLATED: "ISOLATED_MARGIN",
    MarginMode.CROSS: "REGULAR_MARGIN",
    MarginMode.PORTFOLIO: "PORTFOLIO_MARGIN",
}


def trading_stop_body(
    symbol: str,
    position_idx: int,
    wanted: Mapping[ProtectionKind, Decimal],
    *,
    trigger_by: Mapping[ProtectionKind, TriggerBy],
    active_price: Decimal | None = None,
) -> dict[str, Any]:
    """The body that sets the exits of a whole position; what ``wanted`` does not name stays, zero removes."""
    parsed = BybitSymbol.parse(symbol)
    body: dict[str, Any] = {
        "category": parsed.category,
        "symbol": parsed.bare,
        "positionIdx": position_idx,
        "tpslMode": "Full",
    }
    body |= {_FIELDS[kind]: to_wire(value) for kind, value in wanted.items()}
    body |= {_TRIGGER_FIELDS[kind]: _TRIGGER_BY[by] for kind, by in trigger_by.items()}
    if active_price is not None:
        body["activePrice"] = to_wire(active_price)
    return body


def leverage_body(symbol: str, long: Decimal, short: Decimal) -> dict[str, Any]:
    """The body that sets the leverage of long and short positions."""
    parsed = BybitSymbol.parse(symbol)
    return {
        "category": parsed.category,
        "symbol": parsed.bare,
        "buyLeverage": to_wire(long),
        "sellLeverage": to_wire(short),
    }


def position_mode_body(category: str, mode: PositionMode, *, symbol: str = "", coin: str = "") -> dict[str, Any]:
    """The body that sets the position mode of one symbol (its venue name), or of a settle coin's symbols."""
    where = {"symbol": symbol} if symbol else {"coin": coin}
    return {"category": category, "mode": _POSITION_MODES[mode], **where}


def margin_mode_body(mode: MarginMode) -> dict[str, Any]:
    """The body that sets the margin mode of the account."""
    return {"setMarginMode": _MARGIN_MODES[mode]}
