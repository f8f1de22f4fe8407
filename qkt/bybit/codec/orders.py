"""Orders to the wire and order rows from it.

Going out: nothing is mapped silently; what the venue has not is refused here. Coming in: an unknown word is kept raw,
an unset price is None however the venue prints it (`""`, `"0"`, `"0.00"`), and a row without its key fields raises.

Source: docs v5/order/create-order, amend-order, cancel-order, open-order, websocket/private/order, v5/enum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qkt.bybit.codec.symbol import BybitSymbol
from qkt.errors import InvalidRequestError
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderRequest,
    OrderType,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)
from qkt.model.reports import OrderReport, VenueStatus
from qkt.money import ZERO, optional_from_wire, positive_from_wire, to_wire

_SIDES = {Side.BUY: "Buy", Side.SELL: "Sell"}
_SIDES_FROM_WIRE = {wire: side for side, wire in _SIDES.items()}
_LIFETIMES = {
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.POST_ONLY: "PostOnly",
}
# `Created` and `Active` left the enum in 2024 and may still be printed (docs v5/enum, history).
_STATUSES = {status.value: status for status in VenueStatus if status.value} | {
    "Created": VenueStatus.NEW,
    "Active": VenueStatus.NEW,
}
CONDITIONAL = "StopOrder"


class BybitOrderTranslator:
    """Orders to request bodies, rows to reports. Stateless."""

    @staticmethod
    def to_create_body(request: OrderRequest, client_order_id: str | None = None) -> dict[str, Any]:
        """The body of ``POST /v5/order/create``; raises InvalidRequestError for what the venue has not."""
        symbol = BybitSymbol.parse(request.symbol)
        if request.time_in_force not in _LIFETIMES:
            raise InvalidRequestError(
                f"Bybit has no time in force {request.time_in_force.name}; it has "
                f"{', '.join(lifetime.name for lifetime in _LIFETIMES)}"
            )
        if request.reduce_only and symbol.category == "spot":
            raise InvalidRequestError("spot has no positions, so an order there cannot be reduce_only")
        body: dict[str, Any] = {
            "category": symbol.category,
            "symbol": symbol.bare,
            "side": _SIDES[request.side],
            "orderType": "Market",
            "qty": to_wire(request.quantity),
            "timeInForce": _LIFETIMES[request.time_in_force],
            "orderLinkId": client_order_id or request.client_order_id,
        }
        match request:
            case MarketOrder(quote_sized=quote_sized):
                _set_unit(body, quote_sized=quote_sized)
            case LimitOrder():
                body |= {"orderType": "Limit", "price": to_wire(request.limit_price)}
                for name, price in (("takeProfit", request.take_profit), ("stopLoss", request.stop_loss)):
                    if price is not None:
                        body[name] = to_wire(price)
            case StopOrder(stop_price=stop_price):
                _set_trigger(body, stop_price, rises=request.side is Side.BUY)
                _set_unit(body, quote_sized=False)
            case StopLimitOrder(stop_price=stop_price, limit_price=limit_price):
                _set_trigger(body, stop_price, rises=request.side is Side.BUY)
                body |= {"orderType": "Limit", "price": to_wire(limit_price)}
            case IfTouchedOrder(trigger_price=trigger_price, limit_price=limit_price):
                _set_trigger(body, trigger_price, rises=request.side is Side.SELL)
                if limit_price is None:
                    _set_unit(body, quote_sized=False)
                else:
                    body |= {"orderType": "Limit", "price": to_wire(limit_price)}
            case _:
                raise InvalidRequestError(f"Bybit has no order like {type(request).__name__}")
        if symbol.category == "linear":
            body |= {"positionIdx": 0, "reduceOnly": request.reduce_only}
        if body["orderType"] == "Market":
            if request.time_in_force not in (TimeInForce.IOC, TimeInForce.GTC):
                raise InvalidRequestError(
                    f"{request.time_in_force.name} cannot be kept for an order that trades at market; leave it out"
                )
            body["timeInForce"] = "IOC"
        return body

    @staticmethod
    def to_cancel_body(
        symbol: str, *, client_order_id: str = "", broker_order_id: str = "", order_filter: str = ""
    ) -> dict[str, Any]:
        """The body of ``POST /v5/order/cancel``: the venue's id if known, else ours; never both (docs cancel-order)."""
        parsed = BybitSymbol.parse(symbol)
        body: dict[str, Any] = {"category": parsed.category, "symbol": parsed.bare}
        body |= _one_id(client_order_id, broker_order_id)
        if parsed.category == "spot" and order_filter not in ("", "Order"):
            body["orderFilter"] = order_filter
        return body

    @staticmethod
    def to_amend_body(
        symbol: str, changes: OrderModification, *, client_order_id: str = "", broker_order_id: str = ""
    ) -> dict[str, Any]:
        """The body of ``POST /v5/order/amend``: only what changes, in absolute values."""
        parsed = BybitSymbol.parse(symbol)
        body: dict[str, Any] = {"category": parsed.category, "symbol": parsed.bare}
        body |= _one_id(client_order_id, broker_order_id)
        for name, value in (
            ("qty", changes.new_quantity),
            ("price", changes.new_limit_price),
            ("triggerPrice", changes.new_stop_price),
        ):
            if value is not None:
                body[name] = to_wire(value)
        return body

    @staticmethod
    def order_filter(request: OrderRequest) -> str:
        """The drawer the venue keeps such an order in."""
        return "" if isinstance(request, MarketOrder | LimitOrder) else CONDITIONAL

    @staticmethod
    def to_report(row: Mapping[str, Any], category: str) -> OrderReport:
        """Read one order row; raises ValueError or KeyError when a key field is missing or broken."""
        raw_status = str(row["orderStatus"])
        status = _STATUSES.get(raw_status, VenueStatus.UNKNOWN)
        cancel_type, reject_reason = str(row.get("cancelType") or ""), str(row.get("rejectReason") or "")
        is_market = row.get("orderType") == "Market"
        trigger_price = positive_from_wire(row.get("triggerPrice"))
        stop_order_type = str(row.get("stopOrderType") or "")
        return OrderReport(
            broker_order_id=required_text(row, "orderId"),
            client_order_id=str(row.get("orderLinkId") or ""),
            symbol=BybitSymbol.to_qkt(category, required_text(row, "symbol")),
            side=_SIDES_FROM_WIRE[row["side"]],
            status=status,
            venue_status=raw_status,
            order_type=_order_type(is_market=is_market, is_conditional=trigger_price is not None),
            time_in_force=str(row.get("timeInForce") or ""),
            quantity=positive_from_wire(row.get("qty")),
            quote_sized=row.get("marketUnit") == "quoteCoin",
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
            parent_client_order_id=str(row.get("parentOrderLinkId") or ""),
            created_ms=int(row.get("createdTime") or 0),
            updated_ms=int(row.get("updatedTime") or 0),
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


def _refusal_of(status: VenueStatus, reject_reason: str) -> str:
    """The reason a cancel or amend was refused: what a reject reason means on a row that is open or filled.

    Source: docs v5/websocket/private/order (the tip on two Filled reports).
    """
    is_about_request = status is VenueStatus.FILLED or not status.is_final
    return reject_reason if is_about_request and reject_reason not in _NO_REASON else ""


# what `stopOrderType` says about the drawer an order lies in (docs v5/enum, v5/order/cancel-order)
_FILTERS = {
    "Stop": CONDITIONAL,
    "tpslOrder": "tpslOrder",
    "OcoOrder": "OcoOrder",
    "BidirectionalTpslOrder": "BidirectionalTpslOrder",
}


def _set_trigger(body: dict[str, Any], price: Any, *, rises: bool) -> None:
    """Spot has no direction field: it fires when the price reaches the trigger from where it is."""
    body["triggerPrice"] = to_wire(price)
    if body["category"] == "spot":
        body["orderFilter"] = CONDITIONAL
    else:
        body["triggerDirection"] = 1 if rises else 2


def _set_unit(body: dict[str, Any], *, quote_sized: bool) -> None:
    """Always said: spot counts a market buy in quote coin unless told (docs v5/order/create-order, marketUnit)."""
    if body["category"] == "spot":
        body["marketUnit"] = "quoteCoin" if quote_sized else "baseCoin"
    elif quote_sized:
        raise InvalidRequestError("only spot market orders can be sized in quote coin")


def _one_id(client_order_id: str, broker_order_id: str) -> dict[str, str]:
    if broker_order_id:
        return {"orderId": broker_order_id}
    if client_order_id:
        return {"orderLinkId": client_order_id}
    raise InvalidRequestError("an order is named by its client_order_id or its broker_order_id; both are empty")


def _order_type(*, is_market: bool, is_conditional: bool) -> OrderType:
    if is_conditional:
        return OrderType.STOP if is_market else OrderType.STOP_LIMIT
    return OrderType.MARKET if is_market else OrderType.LIMIT


def required_text(row: Mapping[str, Any], name: str) -> str:
    """A key field as text; spot ids are digits (docs v5/order/create-order), and gateways may print them as numbers."""
    value = row[name]
    if isinstance(value, bool) or not isinstance(value, str | int) or not value:
        raise ValueError(f"{name} is {value!r}")
    return str(value)
