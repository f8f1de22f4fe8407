"""Order rows as reports: an unknown word is kept raw, an unset price is None however the venue prints it.

``""``, ``"0"`` and ``"0.00"`` all mean "unset" for a price. A row without its key fields raises.

Source: docs v5/order/open-order, websocket/private/order, v5/enum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkt.bybit.codec.bounds import required_text, text_from_wire, time_ms_from_wire
from qkt.bybit.codec.order_details import details_of
from qkt.bybit.codec.order_requests import CONDITIONAL, amend_body, cancel_body, create_body, order_filter_of
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import (
    OrderModification,
    OrderRequest,
    OrderType,
    Side,
)
from qkt.money import ZERO, optional_from_wire, positive_from_wire

_SIDES_FROM_WIRE = {"Buy": Side.BUY, "Sell": Side.SELL}
# `Created` and `Active` left the enum in 2024 and may still be printed (docs v5/enum, history).
_STATUSES = {status.value: status for status in VenueStatus if status.value} | {
    "Created": VenueStatus.NEW,
    "Active": VenueStatus.NEW,
}


class BybitOrderTranslator:
    """Orders to request bodies, rows to reports. Stateless."""

    @staticmethod
    def to_create_body(request: OrderRequest, client_order_id: str | None = None) -> dict[str, Any]:
        """See `create_body`."""
        return create_body(request, client_order_id)

    @staticmethod
    def to_cancel_body(
        symbol: str, *, client_order_id: str = "", broker_order_id: str = "", order_filter: str = ""
    ) -> dict[str, Any]:
        """See `cancel_body`."""
        return cancel_body(
            symbol, client_order_id=client_order_id, broker_order_id=broker_order_id, order_filter=order_filter
        )

    @staticmethod
    def to_amend_body(
        symbol: str, changes: OrderModification, *, client_order_id: str = "", broker_order_id: str = ""
    ) -> dict[str, Any]:
        """See `amend_body`."""
        return amend_body(symbol, changes, client_order_id=client_order_id, broker_order_id=broker_order_id)

    @staticmethod
    def order_filter(request: OrderRequest) -> str:
        """See `order_filter_of`."""
        return order_filter_of(request)

    @staticmethod
    def to_report(row: Mapping[str, Any], category: str) -> OrderReport:
        """Read one order row; raises ValueError or KeyError when a key field is missing or broken."""
        raw_status = required_text(row, "orderStatus")
        status = _STATUSES.get(raw_status, VenueStatus.UNKNOWN)
        cancel_type, reject_reason = text_from_wire(row, "cancelType"), text_from_wire(row, "rejectReason")
        is_market = row.get("orderType") == "Market"
        trigger_price = positive_from_wire(row.get("triggerPrice"))
        stop_order_type = text_from_wire(row, "stopOrderType")
        return OrderReport(
            broker_order_id=required_text(row, "orderId"),
            client_order_id=text_from_wire(row, "orderLinkId"),
            symbol=BybitSymbol.to_qkt(category, required_text(row, "symbol")),
            side=_SIDES_FROM_WIRE[row["side"]],
            status=status,
            venue_status=raw_status,
            order_type=_order_type(is_market=is_market, is_conditional=trigger_price is not None),
            time_in_force=text_from_wire(row, "timeInForce"),
            quantity=positive_from_wire(row.get("qty")),
            quote_sized=_is_quote_sized(row, category, is_market=is_market),
            limit_price=None if is_market else positive_from_wire(row.get("price")),
            stop_price=trigger_price,
            last_price_on_created=positive_from_wire(row.get("lastPriceOnCreated")) if category == "spot" else None,
            cum_quantity=optional_from_wire(row.get("cumExecQty")) or ZERO,
            avg_price=positive_from_wire(row.get("avgPrice")),
            reason=_reason_of(cancel_type, reject_reason, raw_status) if status.is_final else "",
            is_remainder_cancelled=reject_reason == _QUOTE_REMAINDER,
            refusal_reason=_refusal_of(status, reject_reason),
            refuses_cancel=cancel_type == "CancelByUser",
            order_filter=_FILTERS.get(stop_order_type, ""),
            details=details_of(row, is_conditional=trigger_price is not None),
            created_ms=time_ms_from_wire(row.get("createdTime")),
            updated_ms=time_ms_from_wire(row.get("updatedTime")),
        )


# A market buy sized in quote ends so whenever the last cents cannot buy one more step: that is its success
# (docs v5/order/create-order; captured: ccxt #18685).
_QUOTE_REMAINDER = "EC_CancelForNoFullFill"
_NO_REASON = ("", "EC_NoError")


def _reason_of(cancel_type: str, reject_reason: str, raw_status: str) -> str:
    """Why an order ended, in the venue's word; ``UNKNOWN`` is printed where it names no cause."""
    if cancel_type not in ("", "UNKNOWN"):
        return cancel_type
    return raw_status if reject_reason in _NO_REASON else reject_reason


def _is_quote_sized(row: Mapping[str, Any], category: str, *, is_market: bool) -> bool:
    """Spot counts a market buy in quote coin unless told otherwise (docs v5/order/create-order, marketUnit)."""
    unit = row.get("marketUnit")
    if unit:
        return bool(unit == "quoteCoin")
    return category == "spot" and is_market and row["side"] == "Buy"


def _refusal_of(status: VenueStatus, reject_reason: str) -> str:
    """The reason a cancel or amend was refused: what a reject reason means on a row that is open or filled.

    Source: docs v5/websocket/private/order (the tip on two Filled reports).
    """
    is_about_request = status is VenueStatus.FILLED or not status.is_final
    return reject_reason if is_about_request and reject_reason not in _NO_REASON else ""


# `stopOrderType` -> the `orderFilter` under which the order is listed (docs v5/enum, v5/order/cancel-order)
_FILTERS = {
    "Stop": CONDITIONAL,
    "tpslOrder": "tpslOrder",
    "OcoOrder": "OcoOrder",
    "BidirectionalTpslOrder": "BidirectionalTpslOrder",
}


def _order_type(*, is_market: bool, is_conditional: bool) -> OrderType:
    if is_conditional:
        return OrderType.STOP if is_market else OrderType.STOP_LIMIT
    return OrderType.MARKET if is_market else OrderType.LIMIT
