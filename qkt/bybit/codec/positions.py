"""Position rows from the wire; REST says ``avgPrice`` where the stream says ``entryPrice``.

Source: docs v5/position/position, v5/websocket/private/position.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkt.bybit.codec.bounds import integer_from_wire, time_ms_from_wire
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.model.positions import PositionStatus
from qkt.money import decimal_from_wire, optional_from_wire, positive_from_wire
from qkt.reconcile.positions import VenuePosition

_SIGNS = {"Buy": 1, "Sell": -1, "": 0, "None": 0}
_STATUSES = {
    "": PositionStatus.NORMAL,
    "Normal": PositionStatus.NORMAL,
    "Liq": PositionStatus.LIQUIDATING,
    "Adl": PositionStatus.ADL,
}


def to_position(row: Mapping[str, Any], category: str, *, as_of_ms: int) -> VenuePosition:
    """Read one row; raises ValueError or KeyError when a key field is missing or broken."""
    size = decimal_from_wire(row["size"])
    sign = _SIGNS[str(row.get("side") or "")]
    if size and not sign:
        raise ValueError(f"size is {size} and side is {row.get('side')!r}")
    return VenuePosition(
        symbol=BybitSymbol.to_qkt(category, row["symbol"]),
        position_idx=integer_from_wire(row.get("positionIdx") or 0),
        quantity=size * sign,
        avg_price=positive_from_wire(row.get("avgPrice", row.get("entryPrice"))) if size else None,
        seq=integer_from_wire(row.get("seq", -1)),
        updated_ms=time_ms_from_wire(row.get("updatedTime")),
        as_of_ms=as_of_ms,
        mark_price=positive_from_wire(row.get("markPrice")),
        liquidation_price=positive_from_wire(row.get("liqPrice")),
        leverage=positive_from_wire(row.get("leverage")),
        initial_margin=optional_from_wire(row.get("positionIM")),
        maintenance_margin=optional_from_wire(row.get("positionMM")),
        unrealized_pnl=optional_from_wire(row.get("unrealisedPnl")),
        realized_pnl=optional_from_wire(row.get("curRealisedPnl")),
        total_realized_pnl=optional_from_wire(row.get("cumRealisedPnl")),
        status=_STATUSES.get(str(row.get("positionStatus") or ""), PositionStatus.UNKNOWN),
        is_reduce_only=row.get("isReduceOnly") is True,
        adl_rank=integer_from_wire(row.get("adlRankIndicator") or 0),
        take_profit=positive_from_wire(row.get("takeProfit")),
        stop_loss=positive_from_wire(row.get("stopLoss")),
        trailing_stop=positive_from_wire(row.get("trailingStop")),
    )
