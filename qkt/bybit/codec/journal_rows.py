"""What a journal keeps of orders and executions, as JSON text, and back again. Pure.

An order is kept as the body of its permit, which is the request that was signed; an execution with every field; of an
order's row only what says that it was accepted, or how it ended.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from qkt.bybit.codec.order_requests import EXIT_MODES, LIFETIMES, POSITION_INDEX, SELF_MATCH, TRIGGER_BY
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderRequest,
    OrderType,
    Side,
    StopLimitOrder,
    StopOrder,
)
from qkt.money import ZERO, decimal_from_wire, positive_from_wire
from qkt.orders.order import Order, TerminalKind
from qkt.plain import to_plain

_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
_LIFETIME_OF = {word: lifetime for lifetime, word in LIFETIMES.items()}
_TRIGGER_OF = {word: trigger for trigger, word in TRIGGER_BY.items()}
_EXIT_MODE_OF = {word: mode for mode, word in EXIT_MODES.items()}
_SELF_MATCH_OF = {word: match for match, word in SELF_MATCH.items()}
_POSITION_OF = {index: side for side, index in POSITION_INDEX.items()}
_ENDS = {
    TerminalKind.FILLED: VenueStatus.FILLED,
    TerminalKind.CANCELLED: VenueStatus.CANCELLED,
    TerminalKind.REJECTED: VenueStatus.REJECTED,
}
_DECIMALS = ("price", "quantity", "fee", "order_quantity", "order_price", "leaves_quantity")


def order_terms(body: Mapping[str, Any]) -> dict[str, str]:
    """The terms of a create body, without the name it goes by: equal terms are the same order."""
    return {name: str(value) for name, value in body.items() if name != "orderLinkId"}


def request_of(category: str, body: Mapping[str, Any]) -> OrderRequest:
    """The order that a create body asks for. Spot does not say if-touched from stop; it is read as a stop."""
    side, trigger, price = _SIDES[body["side"]], positive_from_wire(body.get("triggerPrice")), body.get("price")
    common: dict[str, Any] = {
        "symbol": BybitSymbol.to_qkt(category, body["symbol"]),
        "side": side,
        "quantity": decimal_from_wire(body["qty"]),
        "client_order_id": body.get("orderLinkId") or None,
        "reduce_only": bool(body.get("reduceOnly", False)),
        "close_on_trigger": bool(body.get("closeOnTrigger", False)),
        "position_side": _POSITION_OF.get(body.get("positionIdx", 0)),
        "take_profit": positive_from_wire(body.get("takeProfit")),
        "stop_loss": positive_from_wire(body.get("stopLoss")),
        "take_profit_limit_price": positive_from_wire(body.get("tpLimitPrice")),
        "stop_loss_limit_price": positive_from_wire(body.get("slLimitPrice")),
        "take_profit_trigger_by": _TRIGGER_OF.get(str(body.get("tpTriggerBy"))),
        "stop_loss_trigger_by": _TRIGGER_OF.get(str(body.get("slTriggerBy"))),
        "exit_mode": _EXIT_MODE_OF.get(str(body.get("tpslMode"))),
        "self_match": _SELF_MATCH_OF.get(str(body.get("smpType"))),
        "is_leverage": bool(body.get("isLeverage", 0)),
    }
    is_market = body["orderType"] == "Market"
    lifetime: dict[str, Any] = {} if is_market else {"time_in_force": _LIFETIME_OF[body["timeInForce"]]}
    trigger_by = _TRIGGER_OF.get(str(body.get("triggerBy")))
    if trigger is None:
        if is_market:
            return MarketOrder(quote_sized=body.get("marketUnit") == "quoteCoin", **common)
        return LimitOrder(limit_price=decimal_from_wire(price), **lifetime, **common)
    rises = side is Side.BUY if category == "spot" else body.get("triggerDirection") == 1
    if rises is not (side is Side.BUY):
        limit_price = None if is_market else decimal_from_wire(price)
        return IfTouchedOrder(
            trigger_price=trigger, limit_price=limit_price, trigger_by=trigger_by, **lifetime, **common
        )
    if is_market:
        return StopOrder(stop_price=trigger, trigger_by=trigger_by, **common)
    return StopLimitOrder(
        stop_price=trigger, limit_price=decimal_from_wire(price), trigger_by=trigger_by, **lifetime, **common
    )


def amend_is_met(body: Mapping[str, Any], row: OrderReport) -> bool:
    """True when an order's row shows every term that an amend body asks for."""
    asked = {"qty": row.quantity, "price": row.limit_price, "triggerPrice": row.stop_price}
    return all(decimal_from_wire(body[name]) == shown for name, shown in asked.items() if name in body)


def execution_text(execution: Execution) -> str:
    """An execution with every field."""
    return execution.to_json()


def execution_of(text: str) -> Execution:
    """The execution that `execution_text` wrote."""
    row = json.loads(text)
    values: dict[str, Any] = {
        name: Decimal(value) if name in _DECIMALS and value is not None else value for name, value in row.items()
    }
    values["side"], values["order_type"] = Side(row["side"]), OrderType(row["order_type"])
    values["taxes"] = tuple((coin, Decimal(amount)) for coin, amount in row["taxes"])
    return Execution(**values)


def order_text(order: Order, *, has_ended: bool) -> str:
    """What was told of an order: that it stands, or how it ended."""
    end = order.terminal if has_ended else None
    status = VenueStatus.NEW if end is None else _ENDS[end.kind]
    return json.dumps(
        {
            "broker_order_id": order.broker_order_id,
            "client_order_id": order.client_order_id,
            "symbol": order.symbol,
            "side": None if order.side is None else to_plain(order.side),
            "order_type": to_plain(order.order_type),
            "time_in_force": order.time_in_force,
            "quote_sized": order.quote_sized,
            "status": status.value,
            "quantity": to_plain(order.terms.quantity),
            "limit_price": to_plain(order.terms.limit_price),
            "stop_price": to_plain(order.terms.stop_price),
            "cum_quantity": to_plain(ZERO if end is None else order.cum_quantity),
            "reason": "" if end is None else end.reason,
            "order_filter": order.order_filter,
            "created_ms": order.created_ms,
            "updated_ms": order.created_ms if end is None else max(order.created_ms, order.terms.updated_ms),
        },
        separators=(",", ":"),
    )


def report_of(text: str) -> OrderReport | None:
    """The row that `order_text` wrote, None for an order whose side was never known."""
    row = json.loads(text)
    if row["side"] is None or not row["broker_order_id"]:
        return None
    decimals = ("quantity", "limit_price", "stop_price", "cum_quantity")
    values: dict[str, Any] = {
        name: Decimal(value) if name in decimals and value is not None else value for name, value in row.items()
    }
    values["side"], values["order_type"] = Side(row["side"]), OrderType(row["order_type"])
    values["status"], values["venue_status"] = VenueStatus(row["status"]), row["status"]
    return OrderReport(**values)
