"""Contract orders on the simulated venue, in one-way mode: accepted, resting, filled, amended, cancelled, refused."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from qkt.venue import SimulatedBybit

if TYPE_CHECKING:
    from .conftest import LinearRest


def test_a_resting_order_has_a_uuid_and_no_generated_link_id(linear: LinearRest) -> None:
    result = linear.create()["result"]
    row = linear.order(orderId=result["orderId"])
    assert (len(result["orderId"]), result["orderId"].count("-"), result["orderLinkId"]) == (36, 4, "")
    assert (row["orderStatus"], row["price"], row["qty"], row["leavesQty"]) == ("New", "59000", "0.1", "0.1")
    assert (row["avgPrice"], row["triggerPrice"], row["takeProfit"]) == ("", "", "")


def test_a_fill_opens_a_position_and_takes_the_fee_from_the_settle_coin(
    linear: LinearRest, venue: SimulatedBybit
) -> None:
    linear.create(orderLinkId="a")
    venue.fill("a", "0.04")
    assert linear.order(orderLinkId="a")["orderStatus"] == "PartiallyFilled"
    venue.fill("a")
    position = linear.position()
    assert (position["side"], position["size"], position["avgPrice"]) == ("Buy", "0.1", "59000")
    assert (position["unrealisedPnl"], position["curRealisedPnl"]) == ("100", "-1.18")
    assert linear.balance("USDT")["walletBalance"] == "99998.82"
    assert linear.balance("USDT")["equity"] == "100098.82"


def test_a_market_order_shows_its_protective_price_and_fills_at_the_book(linear: LinearRest) -> None:
    linear.market("Sell", orderLinkId="m")
    row = linear.order(orderLinkId="m")
    assert (row["orderStatus"], row["price"], row["avgPrice"]) == ("Filled", "57000", "59999.9")
    assert linear.position()["side"] == "Sell"


def test_an_order_of_the_other_side_closes_first_and_opens_with_the_rest(linear: LinearRest) -> None:
    linear.market("Buy", "0.1")
    linear.market("Sell", "0.3", orderLinkId="flip")
    (fill,) = linear.rows("/v5/execution/list", orderLinkId="flip")
    assert (fill["closedSize"], fill["execQty"]) == ("0.1", "0.3")
    position = linear.position()
    assert (position["side"], position["size"], position["avgPrice"]) == ("Sell", "0.2", "59999.9")


def test_a_cancelled_order_with_fills_is_cancelled_not_partially_filled_cancelled(
    linear: LinearRest, venue: SimulatedBybit
) -> None:
    linear.create(orderLinkId="a")
    venue.fill("a", "0.04")
    linear.cancel(orderLinkId="a")
    row = linear.order(orderLinkId="a")
    assert (row["orderStatus"], row["cumExecQty"], row["leavesQty"]) == ("Cancelled", "0.04", "")
    assert (row["cancelType"], row["rejectReason"]) == ("CancelByUser", "EC_PerCancelRequest")


def test_a_limit_price_beyond_the_band_is_moved_into_it(linear: LinearRest) -> None:
    limits = linear.get("/v5/market/price-limit", category="linear", symbol="BTCUSDT")["result"]
    linear.create(side="Sell", price="50000", timeInForce="PostOnly", orderLinkId="low")
    linear.create(price="70000", orderLinkId="high")
    assert linear.order(orderLinkId="low")["price"] == limits["sellLmt"]
    assert linear.order(orderLinkId="high")["price"] == limits["buyLmt"]


def test_an_account_may_ask_for_a_refusal_of_prices_beyond_the_band(linear: LinearRest) -> None:
    linear.post("/v5/account/set-limit-px-action", category="linear", modifyEnable=False)
    assert linear.create(price="70000")["retCode"] == 110003
    assert linear.get("/v5/account/user-setting-config")["result"]["lpaPerp"] is True


def test_post_only_that_would_take_is_accepted_then_cancelled(linear: LinearRest) -> None:
    assert linear.create(price="60500", timeInForce="PostOnly", orderLinkId="p")["retCode"] == 0
    row = linear.order(orderLinkId="p")
    assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")


def test_an_amend_keeps_the_id_and_needs_more_than_what_has_filled(linear: LinearRest, venue: SimulatedBybit) -> None:
    created = linear.create(orderLinkId="a")["result"]
    assert linear.amend(orderLinkId="a", price="59100", qty="0.2")["result"]["orderId"] == created["orderId"]
    venue.fill("a", "0.1")
    assert linear.amend(orderLinkId="a", qty="0.1")["retCode"] == 110064
    assert linear.amend(orderLinkId="a", qty="0.2")["retCode"] == 10001
    row = linear.order(orderLinkId="a")
    assert (row["price"], row["qty"], row["orderStatus"]) == ("59100", "0.2", "PartiallyFilled")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"symbol": "NOPEUSDT"}, 10001),
        ({"side": "Hold"}, 10001),
        ({"qty": "0.0001"}, 10001),
        ({"qty": "0.0015"}, 10001),
        ({"qty": "5000"}, 10001),
        ({"price": "59000.05"}, 10001),
        ({"price": None}, 10001),
        ({"positionIdx": 1}, 10001),
        ({"orderLinkId": "used"}, 110072),
        ({"qty": "1000"}, 110090),
        ({"reduceOnly": True}, 110017),
        ({"triggerPrice": "59500", "triggerDirection": 1}, 110092),
        ({"triggerPrice": "60500", "triggerDirection": 2}, 110093),
        ({"triggerPrice": "60500"}, 10001),
        ({"takeProfit": "58000"}, 10001),
        ({"stopLoss": "59500"}, 10001),
        ({"tpOrderType": "Limit", "takeProfit": "61000", "tpLimitPrice": "61000"}, 10001),
    ],
)
def test_a_wrong_create_is_refused_with_the_codes_of_contracts(
    linear: LinearRest, changed: dict[str, Any], code: int
) -> None:
    linear.create(orderLinkId="used")
    assert linear.create(**changed)["retCode"] == code


def test_an_order_without_the_margin_is_110007(linear: LinearRest, venue: SimulatedBybit) -> None:
    for coin in ("BTC", "ETH", "SOL"):
        venue.deposit(coin, "-" + linear.balance(coin)["walletBalance"])
    assert linear.create(qty="17")["retCode"] == 110007
    assert linear.create(qty="16")["retCode"] == 0


def test_below_the_minimum_value_is_110094(linear: LinearRest, venue: SimulatedBybit) -> None:
    venue.set_price("SOLUSDT", "10", "linear")
    assert linear.create(symbol="SOLUSDT", qty="0.1", price="10")["retCode"] == 110094


def test_unknown_and_finished_orders_are_110001(linear: LinearRest, venue: SimulatedBybit) -> None:
    linear.create(orderLinkId="a")
    venue.fill("a")
    assert linear.cancel(orderLinkId="a")["retCode"] == 110001
    assert linear.cancel(orderLinkId="never")["retCode"] == 110001
    assert linear.amend(orderLinkId="a", qty="0.2")["retCode"] == 110001


def test_a_listing_needs_symbol_base_coin_or_settle_coin(linear: LinearRest) -> None:
    linear.create(orderLinkId="a")
    assert linear.get("/v5/order/realtime", category="linear")["retCode"] == 10001
    for query in ({"symbol": "BTCUSDT"}, {"baseCoin": "BTC"}, {"settleCoin": "USDT"}):
        assert [row["orderLinkId"] for row in linear.rows("/v5/order/realtime", **query)] == ["a"]
    assert linear.rows("/v5/order/realtime", settleCoin="USDC") == []


def test_the_same_link_id_may_stand_on_spot_and_linear(linear: LinearRest) -> None:
    assert linear.create(orderLinkId="both")["retCode"] == 0
    assert linear.create(category="spot", orderLinkId="both")["retCode"] == 0
    assert len(linear.get("/v5/order/realtime", category="spot")["result"]["list"]) == 1


def test_cancel_all_takes_active_and_conditional_orders_unless_filtered(linear: LinearRest) -> None:
    linear.create(orderLinkId="active")
    linear.create(triggerPrice="61000", triggerDirection=1, orderLinkId="waits")
    assert linear.post("/v5/order/cancel-all", category="linear")["retCode"] == 10001
    linear.call("/v5/order/cancel-all", orderFilter="StopOrder")
    assert [row["orderLinkId"] for row in linear.orders()] == ["active"]
    answer = linear.call("/v5/order/cancel-all")
    assert (len(answer["result"]["list"]), answer["result"]["success"]) == (1, "1")
    assert {row["orderStatus"] for row in linear.history()} == {"Cancelled", "Deactivated"}


def test_a_batch_takes_twenty_and_answers_each_item(linear: LinearRest) -> None:
    item = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59000"}
    answer = linear.post("/v5/order/create-batch", category="linear", request=[item] * 19 + [item | {"qty": "0"}])
    assert [verdict["code"] for verdict in answer["retExtInfo"]["list"]] == [0] * 19 + [10001]
    assert {row["category"] for row in answer["result"]["list"]} == {"linear"}
    assert linear.post("/v5/order/create-batch", category="linear", request=[item] * 21)["retCode"] == 10001


def test_reads_fall_ill_with_the_same_faults_as_on_spot(linear: LinearRest, venue: SimulatedBybit) -> None:
    linear.create(orderLinkId="a")
    venue.faults.add("stale_realtime", lag_ms=60_000, count=1)
    assert linear.orders() == []
    assert len(linear.orders()) == 1


def test_a_fill_may_win_against_a_cancel(linear: LinearRest, venue: SimulatedBybit) -> None:
    linear.create(orderLinkId="a")
    venue.faults.add("fill_wins_cancel", reply="refuse", count=1)
    assert linear.cancel(orderLinkId="a")["retCode"] == 110001
    assert linear.position()["size"] == "0.1"


def test_every_coin_is_accounted_for_while_positions_are_open(linear: LinearRest, venue: SimulatedBybit) -> None:
    linear.market("Buy", "0.3")
    venue.set_price("BTCUSDT", "61234.5", "linear")
    linear.market("Sell", "0.1")
    venue.fund("BTCUSDT", "0.000123456789")
    assert venue.total("USDT") == Decimal(100_000)
