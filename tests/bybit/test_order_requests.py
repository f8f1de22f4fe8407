"""Request bodies: every term a perpetual trader can give, and what is refused before it is sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qkt.bybit.codec.order_requests import amend_body, create_body
from qkt.errors import InvalidRequestError
from qkt.model.orders import (
    ExitMode,
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
    TriggerBy,
)

SPOT, LINEAR = "BYBIT_SPOT:BTCUSDT", "BYBIT_LINEAR:BTCUSDT"


def market(symbol: str = LINEAR, **terms: Any) -> MarketOrder:
    return MarketOrder(symbol=symbol, side=Side.BUY, quantity=Decimal("0.1"), **terms)


def limit(symbol: str = LINEAR, **terms: Any) -> LimitOrder:
    return LimitOrder(symbol=symbol, side=Side.BUY, quantity=Decimal("0.1"), limit_price=Decimal(60_000), **terms)


def stop(symbol: str = LINEAR, **terms: Any) -> StopOrder:
    return StopOrder(symbol=symbol, side=Side.SELL, quantity=Decimal("0.1"), stop_price=Decimal(50_000), **terms)


def sent(order: OrderRequest) -> dict[str, Any]:
    return create_body(order, "c1")


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (market(position_side=PositionSide.LONG), {"positionIdx": 1}),
        (market(position_side=PositionSide.SHORT), {"positionIdx": 2}),
        (market(), {"positionIdx": 0, "reduceOnly": False}),
        (market(reduce_only=True, close_on_trigger=True), {"reduceOnly": True, "closeOnTrigger": True}),
        (stop(trigger_by=TriggerBy.MARK), {"triggerBy": "MarkPrice", "triggerDirection": 2}),
        (market(take_profit=Decimal(70_000)), {"takeProfit": "70000"}),
        (
            market(take_profit=Decimal(70_000), take_profit_limit_price=Decimal(69_900)),
            {"takeProfit": "70000", "tpOrderType": "Limit", "tpLimitPrice": "69900", "tpslMode": "Partial"},
        ),
        (
            limit(stop_loss=Decimal(55_000), stop_loss_trigger_by=TriggerBy.INDEX, exit_mode=ExitMode.FULL),
            {"stopLoss": "55000", "slTriggerBy": "IndexPrice", "tpslMode": "Full"},
        ),
        (stop(stop_loss=Decimal(51_000)), {"stopLoss": "51000"}),
        (market(self_match=SelfMatch.CANCEL_MAKER), {"smpType": "CancelMaker"}),
        (market(slippage_ticks=5), {"slippageToleranceType": "TickSize", "slippageTolerance": "5"}),
        (market(slippage_pct=Decimal("0.5")), {"slippageToleranceType": "Percent", "slippageTolerance": "0.5"}),
        (market(SPOT, is_leverage=True), {"isLeverage": 1}),
        (limit(extra={"bboSideType": "Queue", "bboLevel": "1"}), {"bboSideType": "Queue", "bboLevel": "1"}),
        (limit(SPOT, take_profit=Decimal(70_000)), {"takeProfit": "70000"}),
    ],
)
def test_a_term_is_sent_under_the_venues_name(order: OrderRequest, expected: dict[str, Any]) -> None:
    body = sent(order)
    assert {name: body.get(name) for name in expected} == expected


def test_a_plain_spot_order_carries_no_field_of_derivatives() -> None:
    body = sent(limit(SPOT))
    assert set(body) == {"category", "symbol", "side", "orderType", "qty", "price", "timeInForce", "orderLinkId"}


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (market(SPOT, position_side=PositionSide.LONG), "spot has no positions"),
        (market(SPOT, close_on_trigger=True), "spot has no positions"),
        (stop(SPOT, trigger_by=TriggerBy.MARK), "leave trigger_by out"),
        (market(SPOT, take_profit=Decimal(1)), "limit orders only"),
        (limit(SPOT, take_profit=Decimal(70_000), exit_mode=ExitMode.PARTIAL), "exit_mode is for derivatives"),
        (market(is_leverage=True), "is_leverage is for spot margin"),
        (market(extra={"bboSideTyp": "Queue"}), "did you mean 'bboSideType'"),
        (market(extra={"takeProfit": "1"}), "use take_profit"),
        (market(extra={"bboLevel": 1.5}), "text, a whole number, a bool or a Decimal"),
    ],
)
def test_what_the_venue_does_not_have_is_refused_before_sending(order: OrderRequest, message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        sent(order)


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"take_profit_limit_price": 1}, "needs take_profit"),
        ({"stop_loss_trigger_by": TriggerBy.MARK}, "needs stop_loss"),
        ({"exit_mode": ExitMode.FULL}, "give take_profit or stop_loss"),
        ({"reduce_only": True, "stop_loss": 1}, "reduce-only"),
        ({"stop_loss": 2, "stop_loss_limit_price": 1, "exit_mode": ExitMode.FULL}, "PARTIAL"),
        ({"position_side": "LONG"}, "PositionSide.LONG"),
        ({"slippage_ticks": 5, "slippage_pct": 1}, "not both"),
        ({"slippage_ticks": 0}, "from 1 to 10000"),
        ({"slippage_pct": 11}, "from 0.01 to 10"),
        ({"extra": [1]}, "extra must map"),
    ],
)
def test_terms_that_contradict_each_other_are_refused_when_given(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        market(**terms)


def test_a_modification_names_every_term_the_venue_lets_change() -> None:
    changes = OrderModification(
        new_take_profit=0,
        new_stop_loss=Decimal(50_000),
        new_stop_loss_limit_price=Decimal(49_900),
        new_stop_loss_trigger_by=TriggerBy.MARK,
        new_trigger_by=TriggerBy.INDEX,
        exit_mode=ExitMode.PARTIAL,
    )
    assert amend_body(LINEAR, changes, broker_order_id="v1") == {
        "category": "linear",
        "symbol": "BTCUSDT",
        "orderId": "v1",
        "takeProfit": "0",
        "stopLoss": "50000",
        "slLimitPrice": "49900",
        "slTriggerBy": "MarkPrice",
        "triggerBy": "IndexPrice",
        "tpslMode": "Partial",
    }


def test_conditional_limit_orders_keep_their_trigger_and_their_price() -> None:
    order = StopLimitOrder(symbol=LINEAR, side=Side.BUY, quantity=1, stop_price=70_000, limit_price=70_100)
    touched = IfTouchedOrder(symbol=LINEAR, side=Side.BUY, quantity=1, trigger_price=50_000, trigger_by=TriggerBy.LAST)
    assert (sent(order)["triggerDirection"], sent(order)["price"]) == (1, "70100")
    assert (sent(touched)["triggerDirection"], sent(touched)["triggerBy"]) == (2, "LastPrice")
