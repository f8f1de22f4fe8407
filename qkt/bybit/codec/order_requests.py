"""Orders, cancels and amends as request bodies. What the venue cannot do is refused here; nothing is mapped silently.

Source: docs v5/order/create-order, amend-order, cancel-order.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from qkt.bybit.codec.symbol import BybitSymbol
from qkt.errors import InvalidRequestError
from qkt.model.orders import (
    ExitMode,
    ExtraValue,
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderRequest,
    PositionSide,
    SelfMatch,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
    TriggerBy,
)
from qkt.money import to_wire

CONDITIONAL = "StopOrder"

_SIDES = {Side.BUY: "Buy", Side.SELL: "Sell"}
LIFETIMES = {
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.POST_ONLY: "PostOnly",
}
TRIGGER_BY = {TriggerBy.LAST: "LastPrice", TriggerBy.MARK: "MarkPrice", TriggerBy.INDEX: "IndexPrice"}
EXIT_MODES = {ExitMode.FULL: "Full", ExitMode.PARTIAL: "Partial"}
SELF_MATCH = {
    SelfMatch.CANCEL_MAKER: "CancelMaker",
    SelfMatch.CANCEL_TAKER: "CancelTaker",
    SelfMatch.CANCEL_BOTH: "CancelBoth",
    SelfMatch.NONE: "None",
}
POSITION_INDEX: dict[PositionSide | None, int] = {None: 0, PositionSide.LONG: 1, PositionSide.SHORT: 2}
"""``positionIdx`` by position side; 0 is one-way mode (docs v5/enum#positionidx)."""

# Documented fields that have no argument of their own (docs v5/order/create-order, amend-order).
_CREATE_EXTRA = frozenset({"bboSideType", "bboLevel", "rpiTakerAccess", "orderFilter", "mmp", "orderIv"})
_AMEND_EXTRA = frozenset({"orderIv"})
# Fields that an argument sets: named in the error when they are given as ``extra``.
_NAMED_FIELDS = {
    "symbol": "symbol",
    "side": "side",
    "qty": "quantity",
    "price": "limit_price",
    "orderLinkId": "client_order_id",
    "timeInForce": "time_in_force",
    "triggerPrice": "stop_price",
    "triggerBy": "trigger_by",
    "reduceOnly": "reduce_only",
    "closeOnTrigger": "close_on_trigger",
    "positionIdx": "position_side",
    "takeProfit": "take_profit",
    "stopLoss": "stop_loss",
    "tpLimitPrice": "take_profit_limit_price",
    "slLimitPrice": "stop_loss_limit_price",
    "tpTriggerBy": "take_profit_trigger_by",
    "slTriggerBy": "stop_loss_trigger_by",
    "tpslMode": "exit_mode",
    "smpType": "self_match",
    "isLeverage": "is_leverage",
    "marketUnit": "quote_sized",
    "slippageTolerance": "slippage_ticks or slippage_pct",
    "slippageToleranceType": "slippage_ticks or slippage_pct",
}


def create_body(request: OrderRequest, client_order_id: str | None = None) -> dict[str, Any]:
    """The body of ``POST /v5/order/create``; raises InvalidRequestError for what the venue does not have."""
    symbol = BybitSymbol.parse(request.symbol)
    if request.time_in_force not in LIFETIMES:
        raise InvalidRequestError(
            f"Bybit has no time in force {request.time_in_force.name}; it has "
            f"{', '.join(lifetime.name for lifetime in LIFETIMES)}"
        )
    _check_category(request, symbol.category)
    body: dict[str, Any] = {
        "category": symbol.category,
        "symbol": symbol.bare,
        "side": _SIDES[request.side],
        "orderType": "Market",
        "qty": to_wire(request.quantity),
        "timeInForce": LIFETIMES[request.time_in_force],
        "orderLinkId": client_order_id or request.client_order_id,
    }
    _set_kind(body, request)
    _set_exits(body, request)
    if symbol.category == "linear":
        body |= {"positionIdx": POSITION_INDEX[request.position_side], "reduceOnly": request.reduce_only}
        if request.close_on_trigger:
            body["closeOnTrigger"] = True
    if request.is_leverage:
        body["isLeverage"] = 1
    if request.self_match is not None:
        body["smpType"] = SELF_MATCH[request.self_match]
    if body["orderType"] == "Market":
        if request.time_in_force not in (TimeInForce.IOC, TimeInForce.GTC):
            raise InvalidRequestError(
                f"{request.time_in_force.name} cannot be kept for an order that trades at market; leave it out"
            )
        body["timeInForce"] = "IOC"
    _set_extra(body, request.extra, _CREATE_EXTRA)
    return body


def cancel_body(
    symbol: str, *, client_order_id: str = "", broker_order_id: str = "", order_filter: str = ""
) -> dict[str, Any]:
    """The body of ``POST /v5/order/cancel``: the venue's id if known, else ours; never both (docs cancel-order)."""
    body = _named_order(symbol, client_order_id, broker_order_id)
    if body["category"] == "spot" and order_filter not in ("", "Order"):
        body["orderFilter"] = order_filter
    return body


def amend_body(
    symbol: str, changes: OrderModification, *, client_order_id: str = "", broker_order_id: str = ""
) -> dict[str, Any]:
    """The body of ``POST /v5/order/amend``: only what changes, in absolute values."""
    body = _named_order(symbol, client_order_id, broker_order_id)
    prices = (
        ("qty", changes.new_quantity),
        ("price", changes.new_limit_price),
        ("triggerPrice", changes.new_stop_price),
        ("takeProfit", changes.new_take_profit),
        ("stopLoss", changes.new_stop_loss),
        ("tpLimitPrice", changes.new_take_profit_limit_price),
        ("slLimitPrice", changes.new_stop_loss_limit_price),
    )
    body |= {name: to_wire(value) for name, value in prices if value is not None}
    triggers = (
        ("triggerBy", changes.new_trigger_by),
        ("tpTriggerBy", changes.new_take_profit_trigger_by),
        ("slTriggerBy", changes.new_stop_loss_trigger_by),
    )
    body |= {name: TRIGGER_BY[value] for name, value in triggers if value is not None}
    if changes.exit_mode is not None:
        body["tpslMode"] = EXIT_MODES[changes.exit_mode]
    _set_extra(body, changes.extra, _AMEND_EXTRA)
    return body


def order_filter_of(request: OrderRequest) -> str:
    """The ``orderFilter`` under which the venue lists such an order; "" for a plain one."""
    return "" if isinstance(request, MarketOrder | LimitOrder) else CONDITIONAL


def _check_category(request: OrderRequest, category: str) -> None:
    """Raise for a field that the category does not have."""
    if category == "linear":
        if request.is_leverage:
            raise InvalidRequestError("is_leverage is for spot margin; a perpetual has its leverage already")
        return
    for name, given in (
        ("reduce_only", request.reduce_only),
        ("close_on_trigger", request.close_on_trigger),
        ("position_side", request.position_side is not None),
    ):
        if given:
            raise InvalidRequestError(f"spot has no positions, so an order there cannot be {name}")
    for name in ("trigger_by", "take_profit_trigger_by", "stop_loss_trigger_by"):
        if getattr(request, name, None) is not None:
            raise InvalidRequestError(f"spot triggers by the last price alone; leave {name} out")
    if request.has_exits and not isinstance(request, LimitOrder):
        raise InvalidRequestError(
            "spot attaches take profit and stop loss to limit orders only; place a conditional order of its own"
        )
    if request.exit_mode is not None:
        raise InvalidRequestError("exit_mode is for derivatives; spot exits close what their order filled")


def _set_kind(body: dict[str, Any], request: OrderRequest) -> None:
    match request:
        case MarketOrder():
            _set_unit(body, quote_sized=request.quote_sized)
            if request.slippage_ticks is not None:
                body |= {"slippageToleranceType": "TickSize", "slippageTolerance": str(request.slippage_ticks)}
            elif request.slippage_pct is not None:
                body |= {"slippageToleranceType": "Percent", "slippageTolerance": to_wire(request.slippage_pct)}
        case LimitOrder():
            body |= {"orderType": "Limit", "price": to_wire(request.limit_price)}
        case StopOrder():
            _set_trigger(body, request.stop_price, request.trigger_by, rises=request.side is Side.BUY)
            _set_unit(body, quote_sized=False)
        case StopLimitOrder():
            _set_trigger(body, request.stop_price, request.trigger_by, rises=request.side is Side.BUY)
            body |= {"orderType": "Limit", "price": to_wire(request.limit_price)}
        case IfTouchedOrder():
            _set_trigger(body, request.trigger_price, request.trigger_by, rises=request.side is Side.SELL)
            if request.limit_price is None:
                _set_unit(body, quote_sized=False)
            else:
                body |= {"orderType": "Limit", "price": to_wire(request.limit_price)}
        case _:
            raise InvalidRequestError(f"Bybit has no order like {type(request).__name__}")


def _set_exits(body: dict[str, Any], request: OrderRequest) -> None:
    exits = (
        ("tp", "takeProfit", request.take_profit, request.take_profit_limit_price, request.take_profit_trigger_by),
        ("sl", "stopLoss", request.stop_loss, request.stop_loss_limit_price, request.stop_loss_trigger_by),
    )
    has_limit = False
    for prefix, field, price, limit_price, trigger_by in exits:
        if price is None:
            continue
        body[field] = to_wire(price)
        if limit_price is not None:
            has_limit = True
            body |= {f"{prefix}OrderType": "Limit", f"{prefix}LimitPrice": to_wire(limit_price)}
        if trigger_by is not None:
            body[f"{prefix}TriggerBy"] = TRIGGER_BY[trigger_by]
    if body["category"] == "linear" and request.has_exits:
        # limit exits need Partial (docs v5/order/create-order, tpslMode)
        mode = request.exit_mode or (ExitMode.PARTIAL if has_limit else None)
        if mode is not None:
            body["tpslMode"] = EXIT_MODES[mode]


def _set_trigger(body: dict[str, Any], price: Decimal, trigger_by: TriggerBy | None, *, rises: bool) -> None:
    """Spot has no direction field: it fires when the price reaches the trigger from where it is."""
    body["triggerPrice"] = to_wire(price)
    if body["category"] == "spot":
        body["orderFilter"] = CONDITIONAL
        return
    body["triggerDirection"] = 1 if rises else 2
    if trigger_by is not None:
        body["triggerBy"] = TRIGGER_BY[trigger_by]


def _set_unit(body: dict[str, Any], *, quote_sized: bool) -> None:
    """``marketUnit``, always sent: spot counts a market buy in quote coin by default (docs v5/order/create-order)."""
    if body["category"] == "spot":
        body["marketUnit"] = "quoteCoin" if quote_sized else "baseCoin"
    elif quote_sized:
        raise InvalidRequestError("only spot market orders can be sized in quote coin")


def _set_extra(body: dict[str, Any], extra: Mapping[str, ExtraValue], known: Iterable[str]) -> None:
    for name, value in extra.items():
        if name in _NAMED_FIELDS:
            raise InvalidRequestError(f"extra[{name!r}] has an argument of its own: use {_NAMED_FIELDS[name]}")
        if name not in known:
            near = difflib.get_close_matches(name, [*known, *_NAMED_FIELDS], n=1, cutoff=0.4)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidRequestError(
                f"extra[{name!r}] is no documented field{hint} There are: {', '.join(sorted(known))}"
            )
        if not isinstance(value, str | int | bool | Decimal):
            raise InvalidRequestError(
                f"extra[{name!r}] must be text, a whole number, a bool or a Decimal; got {value!r}"
            )
        body[name] = to_wire(value) if isinstance(value, Decimal) else value


def _named_order(symbol: str, client_order_id: str, broker_order_id: str) -> dict[str, Any]:
    parsed = BybitSymbol.parse(symbol)
    body: dict[str, Any] = {"category": parsed.category, "symbol": parsed.bare}
    if broker_order_id:
        return body | {"orderId": broker_order_id}
    if client_order_id:
        return body | {"orderLinkId": client_order_id}
    raise InvalidRequestError("an order is named by its client_order_id or its broker_order_id; both are empty")
