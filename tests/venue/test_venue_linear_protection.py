"""Reduce-only orders, triggers, and the take-profits, stop-losses and trailing stops of positions."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from qkt.venue import SimulatedBybit

if TYPE_CHECKING:
    from .conftest import LinearRest


def trading_stop(linear: LinearRest, **changed: Any) -> dict[str, Any]:
    return linear.call("/v5/position/trading-stop", **{"tpslMode": "Full", "positionIdx": 0, **changed})


def kinds(linear: LinearRest) -> list[tuple[str, str, str]]:
    """Kind, trigger price and quantity of every waiting order, oldest first."""
    return [(row["stopOrderType"], row["triggerPrice"], row["qty"]) for row in linear.orders()]


class TestReduceOnly:
    def test_it_is_cut_to_the_position(self, linear: LinearRest) -> None:
        linear.market("Buy", "0.1")
        linear.create(side="Sell", price="61000", qty="0.5", reduceOnly=True, orderLinkId="out")
        assert linear.order(orderLinkId="out")["qty"] == "0.1"

    def test_it_is_refused_without_a_position_or_on_its_side(self, linear: LinearRest) -> None:
        assert linear.market("Sell", reduceOnly=True)["retCode"] == 110017
        linear.market("Buy", "0.1")
        assert linear.market("Buy", reduceOnly=True)["retCode"] == 110017

    def test_it_is_trimmed_when_the_position_shrinks_and_cancelled_when_it_is_gone(self, linear: LinearRest) -> None:
        linear.market("Buy", "0.3")
        linear.create(side="Sell", price="61000", qty="0.3", reduceOnly=True, orderLinkId="out")
        linear.market("Sell", "0.2")
        assert linear.order(orderLinkId="out")["qty"] == "0.1"
        linear.market("Sell", "0.1")
        row = linear.order(orderLinkId="out")
        assert (row["orderStatus"], row["cancelType"]) == ("Cancelled", "CancelByReduceOnly")

    def test_the_farthest_of_several_gives_way(self, linear: LinearRest) -> None:
        linear.market("Buy", "0.3")
        linear.create(side="Sell", price="61500", qty="0.2", reduceOnly=True, orderLinkId="far")
        linear.create(side="Sell", price="61000", qty="0.2", reduceOnly=True, orderLinkId="near")
        assert linear.order(orderLinkId="near")["qty"] == "0.2"
        assert linear.order(orderLinkId="far")["qty"] == "0.1"

    def test_above_the_largest_order_it_becomes_several(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        sol = {"symbol": "SOLUSDT"}
        linear.call("/v5/position/set-leverage", **sol, buyLeverage="20", sellLeverage="20")
        for _ in range(3):
            assert linear.market("Buy", "15000", **sol)["retCode"] == 0
        linear.market("Sell", "45000", **sol, reduceOnly=True, orderLinkId="first")
        closed = [row for row in linear.rows("/v5/order/history", **sol) if row["side"] == "Sell"]
        assert [(row["orderLinkId"], row["qty"]) for row in closed] == [
            ("", "14616"),
            ("", "15192"),
            ("first", "15192"),
        ]
        assert linear.position(symbol="SOLUSDT")["size"] == "0"

    def test_zero_with_both_flags_closes_everything(self, linear: LinearRest) -> None:
        linear.market("Buy", "0.37")
        linear.market("Sell", "0", reduceOnly=True, closeOnTrigger=True, orderLinkId="all")
        assert linear.order(orderLinkId="all")["cumExecQty"] == "0.37"
        assert linear.position()["size"] == "0"

    def test_close_on_trigger_makes_room_for_itself(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.market("Buy", "0.1")
        linear.create(side="Sell", price="61000", qty="0.1", reduceOnly=True, orderLinkId="rests")
        linear.market("Sell", "0.1", triggerPrice="59000", triggerDirection=2, closeOnTrigger=True, orderLinkId="stop")
        venue.set_price("BTCUSDT", "59000", "linear")
        assert linear.order(orderLinkId="rests")["cancelType"] == "CancelByReduceOnly"
        assert linear.order(orderLinkId="stop")["orderStatus"] == "Filled"


class TestTriggers:
    @pytest.mark.parametrize(("trigger_by", "command"), [("MarkPrice", "mark"), ("IndexPrice", "index")])
    def test_mark_and_index_trigger_without_a_trade(
        self, linear: LinearRest, venue: SimulatedBybit, trigger_by: str, command: str
    ) -> None:
        linear.market("Buy", triggerPrice="61000", triggerDirection=1, triggerBy=trigger_by, orderLinkId="c")
        venue.set_price("BTCUSDT", "60900", "linear")
        set_price = venue.set_mark_price if command == "mark" else venue.set_index_price
        assert linear.order(orderLinkId="c")["orderStatus"] == "Untriggered"
        set_price("BTCUSDT", "61000")
        row = linear.order(orderLinkId="c")
        assert (row["orderStatus"], row["triggerBy"], row["createType"]) == ("Filled", trigger_by, "CreateByStopOrder")

    def test_a_conditional_order_holds_no_margin_and_dies_without_it(
        self, linear: LinearRest, venue: SimulatedBybit
    ) -> None:
        linear.create(qty="30", price="60900", triggerPrice="61000", triggerDirection=1, orderLinkId="c")
        assert linear.balance("USDT")["totalOrderIM"] == "0"
        for coin in ("BTC", "ETH", "SOL"):
            venue.deposit(coin, "-" + linear.balance(coin)["walletBalance"])
        venue.set_price("BTCUSDT", "61000", "linear")
        assert linear.order(orderLinkId="c")["orderStatus"] == "Cancelled"

    def test_a_cancelled_conditional_order_is_deactivated(self, linear: LinearRest) -> None:
        linear.create(triggerPrice="61000", triggerDirection=1, orderLinkId="c")
        linear.cancel(orderLinkId="c")
        row = linear.order(orderLinkId="c")
        assert (row["orderStatus"], row["stopOrderType"], row["triggerDirection"]) == ("Deactivated", "Stop", 1)

    def test_ten_conditional_orders_per_symbol(self, linear: LinearRest) -> None:
        for _ in range(10):
            assert linear.create(triggerPrice="61000", triggerDirection=1)["retCode"] == 0
        assert linear.create(triggerPrice="61000", triggerDirection=1)["retCode"] == 110009
        assert linear.create(symbol="ETHUSDT", price="2990", triggerPrice="3100", triggerDirection=1)["retCode"] == 0

    def test_the_trigger_price_can_be_moved(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.market("Buy", triggerPrice="61000", triggerDirection=1, orderLinkId="c")
        assert linear.amend(orderLinkId="c", triggerPrice="59000")["retCode"] == 110092
        assert linear.amend(orderLinkId="c", triggerPrice="60500")["retCode"] == 0
        venue.set_price("BTCUSDT", "60500", "linear")
        assert linear.order(orderLinkId="c")["orderStatus"] == "Filled"


class TestExitsOfOrders:
    def test_they_stand_with_the_first_fill_and_name_their_parent(
        self, linear: LinearRest, venue: SimulatedBybit
    ) -> None:
        linear.create(takeProfit="62000", stopLoss="57000", slTriggerBy="MarkPrice", orderLinkId="p")
        assert len(linear.orders()) == 1
        venue.fill("p", "0.04")
        children = [row for row in linear.orders() if row["stopOrderType"]]
        assert [(row["stopOrderType"], row["qty"], row["triggerBy"]) for row in children] == [
            ("TakeProfit", "0.04", "LastPrice"),
            ("StopLoss", "0.04", "MarkPrice"),
        ]
        assert {(row["orderLinkId"], row["parentOrderLinkId"], row["side"]) for row in children} == {("", "p", "Sell")}
        assert all(row["reduceOnly"] and row["closeOnTrigger"] for row in children)
        assert (linear.position()["takeProfit"], linear.position()["stopLoss"]) == ("62000", "57000")
        venue.fill("p")
        assert {row["qty"] for row in linear.orders()} == {"0.1"}

    def test_market_orders_carry_them_too(self, linear: LinearRest) -> None:
        linear.market("Sell", takeProfit="58000", stopLoss="61000")
        assert kinds(linear) == [("TakeProfit", "58000", "0.1"), ("StopLoss", "61000", "0.1")]

    def test_one_leg_triggers_and_the_other_is_cancelled(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.market("Buy", takeProfit="62000", stopLoss="57000")
        venue.set_price("BTCUSDT", "57000", "linear")
        ends = {row["stopOrderType"]: (row["orderStatus"], row["cancelType"]) for row in linear.history()}
        assert ends["StopLoss"] == ("Filled", "UNKNOWN")
        assert ends["TakeProfit"] == ("Deactivated", "CancelByOCOTpCanceledBySlTriggered")
        assert linear.position()["size"] == "0"

    def test_partial_exits_may_be_limit_orders_and_follow_the_filled_quantity(
        self, linear: LinearRest, venue: SimulatedBybit
    ) -> None:
        terms = {"tpslMode": "Partial", "tpOrderType": "Limit", "tpLimitPrice": "62010", "takeProfit": "62000"}
        linear.create(**terms, orderLinkId="p")
        venue.fill("p", "0.06")
        (child,) = [row for row in linear.orders() if row["stopOrderType"]]
        assert (child["stopOrderType"], child["qty"], child["price"]) == ("PartialTakeProfit", "0.06", "62010")
        venue.fill("p")
        venue.set_price("BTCUSDT", "62000", "linear")
        assert linear.order(orderId=child["orderId"])["orderStatus"] == "New"
        assert linear.position()["takeProfit"] == ""

    def test_an_amend_of_the_parent_changes_them_before_the_fill(
        self, linear: LinearRest, venue: SimulatedBybit
    ) -> None:
        linear.create(takeProfit="62000", orderLinkId="p")
        assert linear.amend(orderLinkId="p", takeProfit="63000", stopLoss="57000")["retCode"] == 0
        venue.fill("p")
        assert kinds(linear) == [("TakeProfit", "63000", "0.1"), ("StopLoss", "57000", "0.1")]


class TestTradingStop:
    def test_full_exits_follow_the_size_and_end_with_the_position(self, linear: LinearRest) -> None:
        linear.market("Buy", "0.1")
        assert trading_stop(linear, takeProfit="62000", stopLoss="57000")["retCode"] == 0
        linear.market("Buy", "0.2")
        assert {row["qty"] for row in linear.orders()} == {"0.3"}
        linear.market("Sell", "0.3")
        ended = [row for row in linear.history() if row["stopOrderType"]]
        assert {(row["orderStatus"], row["cancelType"]) for row in ended} == {("Deactivated", "CancelByTpSlTsClear")}
        assert linear.position()["takeProfit"] == ""

    def test_the_same_values_again_are_34040(self, linear: LinearRest) -> None:
        linear.market("Buy")
        trading_stop(linear, takeProfit="62000")
        assert trading_stop(linear, takeProfit="62000")["retCode"] == 34040
        assert trading_stop(linear)["retCode"] == 34040

    def test_zero_removes_one_and_leaves_the_other(self, linear: LinearRest) -> None:
        linear.market("Buy")
        trading_stop(linear, takeProfit="62000", stopLoss="57000")
        assert trading_stop(linear, takeProfit="0")["retCode"] == 0
        assert kinds(linear) == [("StopLoss", "57000", "0.1")]

    def test_cancelling_one_of_a_bound_pair_cancels_both(self, linear: LinearRest) -> None:
        linear.market("Buy")
        trading_stop(linear, takeProfit="62000", stopLoss="57000")
        linear.cancel(orderId=linear.orders()[0]["orderId"])
        assert linear.orders() == []

    def test_a_one_sided_change_unbinds_the_pair(self, linear: LinearRest) -> None:
        linear.market("Buy")
        trading_stop(linear, takeProfit="62000", stopLoss="57000")
        trading_stop(linear, takeProfit="62500")
        linear.cancel(orderId=linear.orders()[0]["orderId"])
        assert kinds(linear) == [("StopLoss", "57000", "0.1")]

    def test_partial_exits_are_added_up_to_twenty(self, linear: LinearRest) -> None:
        linear.market("Buy", "0.3")
        pair = {"tpslMode": "Partial", "takeProfit": "62000", "stopLoss": "57000", "tpSize": "0.1", "slSize": "0.1"}
        for _ in range(10):
            assert trading_stop(linear, **pair)["retCode"] == 0
        assert trading_stop(linear, **pair)["retCode"] == 110061
        assert {row["stopOrderType"] for row in linear.orders()} == {"PartialTakeProfit", "PartialStopLoss"}

    @pytest.mark.parametrize(
        ("changed", "code"),
        [
            ({"takeProfit": "59000"}, 10001),
            ({"stopLoss": "61000"}, 10001),
            ({"stopLoss": "57000", "positionIdx": 1}, 10001),
            ({"tpslMode": "Half", "stopLoss": "57000"}, 10001),
            ({"tpslMode": "Partial", "stopLoss": "57000", "slSize": "1"}, 110058),
            ({"tpslMode": "Partial", "stopLoss": "57000", "takeProfit": "62000", "slSize": "0.1"}, 10001),
            ({"tpOrderType": "Limit", "takeProfit": "62000", "tpLimitPrice": "62000"}, 10001),
        ],
    )
    def test_wrong_values_are_refused(self, linear: LinearRest, changed: dict[str, Any], code: int) -> None:
        linear.market("Buy")
        assert trading_stop(linear, **changed)["retCode"] == code

    def test_without_a_position_there_is_nothing_to_protect(self, linear: LinearRest) -> None:
        answer = trading_stop(linear, stopLoss="57000")
        assert (answer["retCode"], answer["retMsg"]) == (10001, "can not set tp/sl/ts for zero position")

    def test_a_trailing_stop_follows_the_best_price(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.market("Buy")
        assert trading_stop(linear, trailingStop="500")["retCode"] == 0
        assert linear.position()["trailingStop"] == "500"
        for price in ("61000", "60501"):
            venue.set_price("BTCUSDT", price, "linear")
        (row,) = linear.orders()
        assert (row["stopOrderType"], row["createType"], row["orderStatus"]) == (
            "TrailingStop",
            "CreateByTrailingStop",
            "Untriggered",
        )
        venue.set_price("BTCUSDT", "60500", "linear")
        assert linear.position()["size"] == "0"

    @pytest.mark.parametrize(
        ("side", "active", "reach", "back"), [("Buy", "61000", "61200", "60700"), ("Sell", "59000", "58800", "59300")]
    )
    def test_an_active_price_arms_the_trailing_stop(
        self, linear: LinearRest, venue: SimulatedBybit, side: str, active: str, reach: str, back: str
    ) -> None:
        linear.market(side)
        trading_stop(linear, trailingStop="500", activePrice=active)
        assert linear.orders()[0]["triggerPrice"] == active
        away = Decimal(60_000) + (Decimal(-600) if side == "Buy" else Decimal(600))
        for price in (away, "60000"):
            venue.set_price("BTCUSDT", price, "linear")
        assert linear.position()["size"] == "0.1"
        for price in (reach, back):
            venue.set_price("BTCUSDT", price, "linear")
        assert linear.position()["size"] == "0"

    def test_moving_a_full_exit_by_amend_moves_the_positions_field(self, linear: LinearRest) -> None:
        linear.market("Buy")
        trading_stop(linear, stopLoss="57000")
        assert linear.amend(orderId=linear.orders()[0]["orderId"], triggerPrice="58000")["retCode"] == 0
        assert linear.position()["stopLoss"] == "58000"
        assert linear.amend(orderId=linear.orders()[0]["orderId"], qty="0.05")["retCode"] == 110060
