"""What an order row says beside size, prices and status: positions, exits, and what made the order.

Source: docs v5/order/open-order, v5/enum (stopordertype, createtype, positionidx).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkt.bybit.codec.bounds import text_from_wire
from qkt.model.order_kinds import PLAIN, ExitMode, OrderDetails, PositionSide, StopKind, TriggerBy
from qkt.money import positive_from_wire

_STOP_KINDS = {
    "": StopKind.NONE,
    "UNKNOWN": StopKind.NONE,
    "Stop": StopKind.CONDITIONAL,
    "TakeProfit": StopKind.TAKE_PROFIT,
    "StopLoss": StopKind.STOP_LOSS,
    "TrailingStop": StopKind.TRAILING_STOP,
    "PartialTakeProfit": StopKind.PARTIAL_TAKE_PROFIT,
    "PartialStopLoss": StopKind.PARTIAL_STOP_LOSS,
}
# orders that the venue itself creates without a stop type
_MADE_BY_VENUE = {
    "CreateByLiq": StopKind.LIQUIDATION,
    "CreateByTakeOver_PassThrough": StopKind.LIQUIDATION,
    "CreateByAdl_PassThrough": StopKind.ADL,
}
_POSITION_SIDES = {1: PositionSide.LONG, 2: PositionSide.SHORT}
_TRIGGERS = {"LastPrice": TriggerBy.LAST, "MarkPrice": TriggerBy.MARK, "IndexPrice": TriggerBy.INDEX}
_EXIT_MODES = {"Full": ExitMode.FULL, "Partial": ExitMode.PARTIAL}


def details_of(row: Mapping[str, Any], *, is_conditional: bool) -> OrderDetails:
    """The details of a row; `PLAIN` itself when there is nothing to say."""
    stop_type = text_from_wire(row, "stopOrderType")
    kind = _STOP_KINDS.get(stop_type, StopKind.OTHER)
    if kind is StopKind.NONE:
        kind = _MADE_BY_VENUE.get(text_from_wire(row, "createType"), kind)
    if kind is StopKind.OTHER and is_conditional and stop_type in ("tpslOrder", "OcoOrder", "BidirectionalTpslOrder"):
        kind = StopKind.CONDITIONAL
    take_profit, stop_loss = positive_from_wire(row.get("takeProfit")), positive_from_wire(row.get("stopLoss"))
    has_exits = take_profit is not None or stop_loss is not None
    details = OrderDetails(
        reduce_only=row.get("reduceOnly") is True,
        close_on_trigger=row.get("closeOnTrigger") is True,
        position_side=_POSITION_SIDES.get(_index(row)),
        stop_kind=kind,
        parent_client_order_id=text_from_wire(row, "parentOrderLinkId"),
        trigger_by=_TRIGGERS.get(text_from_wire(row, "triggerBy")) if kind is not StopKind.NONE else None,
        take_profit=take_profit,
        stop_loss=stop_loss,
        exit_mode=_EXIT_MODES.get(text_from_wire(row, "tpslMode")) if has_exits or kind.is_exit else None,
    )
    return PLAIN if details == PLAIN else details


def _index(row: Mapping[str, Any]) -> int:
    index = row.get("positionIdx") or 0
    return int(index) if str(index) in ("1", "2") else 0
