"""What becomes of an order on the simulated venue: accepted, resting, filled, cancelled, paid for."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest


def test_a_limit_order_away_from_the_market_rests_and_holds_its_funds(rest: Any) -> None:
    created = rest.create(orderLinkId="mine-1")
    assert created["retCode"] == 0
    assert created["result"]["orderLinkId"] == "mine-1"
    row = rest.order(orderLinkId="mine-1")
    assert (row["orderStatus"], row["cumExecQty"], row["leavesQty"]) == ("New", "0", "0.010000")
    assert (row["cancelType"], row["rejectReason"]) == ("UNKNOWN", "EC_NoError")
    assert rest.balance("USDT")["locked"] == "590"


def test_without_a_link_id_spot_generates_order_id_plus_one(rest: Any) -> None:
    result = rest.create()["result"]
    assert int(result["orderLinkId"]) == int(result["orderId"]) + 1


def test_a_limit_order_through_the_market_takes_at_the_better_price(rest: Any) -> None:
    rest.create(orderLinkId="taker", price="60500")
    row = rest.order(orderLinkId="taker")
    assert (row["orderStatus"], row["avgPrice"], row["leavesQty"]) == ("Filled", "60000.1", "0.000000")
    (fill,) = rest.rows("/v5/execution/list", orderLinkId="taker")
    assert (fill["isMaker"], fill["execPrice"], fill["feeCurrency"]) == (False, "60000.1", "BTC")
    assert fill["execFee"] == "0.00001"


def test_what_is_received_is_less_the_fee(rest: Any) -> None:
    """Selling all that was bought fails: the fee came out of the coins received (docs v5/enum, spot fee currency)."""
    rest.venue.deposit("BTC", -10)
    rest.create(price="60500", qty="0.01")
    assert rest.balance("BTC")["walletBalance"] == "0.00999"
    assert rest.create(side="Sell", price="60500", qty="0.01")["retCode"] == 170131


def test_a_market_buy_is_sized_in_quote_and_ends_partially_filled_cancelled(rest: Any) -> None:
    rest.create(orderType="Market", price=None, qty="250", orderLinkId="m")
    row = rest.order(orderLinkId="m")
    assert (row["orderStatus"], row["rejectReason"]) == ("PartiallyFilledCanceled", "EC_CancelForNoFullFill")
    assert (row["cumExecQty"], row["price"], row["marketUnit"]) == ("0.004166", "0", "quoteCoin")
    assert Decimal(row["cumExecValue"]) <= 250
    (fill,) = rest.rows("/v5/execution/list", orderLinkId="m")
    assert (fill["orderQty"], fill["orderPrice"]) == ("0.000000", "0")


@pytest.mark.parametrize(
    ("side", "unit", "quantity", "traded", "price"),
    [
        ("Buy", "baseCoin", "0.5", "0.5", "60000.1"),
        ("Sell", None, "0.5", "0.5", "59999.9"),
        ("Sell", "quoteCoin", "29999.95", "0.5", "59999.9"),
    ],
)
def test_market_orders_in_either_unit(
    rest: Any, side: str, unit: str | None, quantity: str, traded: str, price: str
) -> None:
    rest.create(side=side, orderType="Market", price=None, qty=quantity, marketUnit=unit, orderLinkId="m")
    row = rest.order(orderLinkId="m")
    assert (row["orderStatus"], row["cumExecQty"], row["avgPrice"]) == ("Filled", traded, price)


def test_a_large_market_order_walks_the_book(rest: Any, venue: Any) -> None:
    venue.deposit("USDT", 10_000_000)
    rest.create(orderType="Market", price=None, qty="12", marketUnit="baseCoin", orderLinkId="big")
    fills = rest.rows("/v5/execution/list", orderLinkId="big")
    assert sorted((fill["execPrice"], fill["execQty"]) for fill in fills) == [
        ("60000.1", "5"),
        ("60000.2", "5"),
        ("60000.3", "2"),
    ]
    assert len({fill["seq"] for fill in fills}) == 1


@pytest.mark.parametrize(
    ("tolerance", "traded"), [(("TickSize", "1"), "10"), (("Percent", "0.01"), "12"), (("TickSize", "2"), "12")]
)
def test_slippage_tolerance_bounds_a_market_order(
    rest: Any, venue: Any, tolerance: tuple[Any, ...], traded: str
) -> None:
    """5 BTC stand on each tick; 0.01 % of 60,000 are sixty ticks."""
    venue.deposit("USDT", 10_000_000)
    kind, value = tolerance
    common = {"orderType": "Market", "price": None, "marketUnit": "baseCoin"}
    rest.create(**common, qty="12", slippageToleranceType=kind, slippageTolerance=value, orderLinkId="m")
    row = rest.order(orderLinkId="m")
    assert (row["cumExecQty"], row["slippageToleranceType"], row["slippageTolerance"]) == (traded, kind, value)
    assert row["rejectReason"] == ("EC_NoError" if traded == "12" else "EC_ReachRiskPriceLimit")


@pytest.mark.parametrize("tolerance", [("TickSize", "0"), ("TickSize", "1.5"), ("Percent", "11"), ("Feet", "1")])
def test_slippage_tolerance_out_of_range_is_refused(rest: Any, tolerance: tuple[Any, ...]) -> None:
    kind, value = tolerance
    common = {"orderType": "Market", "price": None, "qty": "100"}
    assert rest.create(**common, slippageToleranceType=kind, slippageTolerance=value)["retCode"] == 170130
    assert rest.create(slippageToleranceType="TickSize", slippageTolerance="1")["retCode"] == 170130


def test_post_only_that_would_take_is_accepted_then_cancelled(rest: Any) -> None:
    assert rest.create(timeInForce="PostOnly", price="60500", orderLinkId="p")["retCode"] == 0
    row = rest.order(orderLinkId="p")
    assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")
    assert row["cancelType"] == "UNKNOWN"


def test_post_only_that_rests_rests(rest: Any) -> None:
    rest.create(timeInForce="PostOnly", orderLinkId="p")
    assert rest.order(orderLinkId="p")["orderStatus"] == "New"


def test_immediate_or_cancel_takes_what_there_is(rest: Any, venue: Any) -> None:
    venue.deposit("USDT", 10_000_000)
    rest.create(timeInForce="IOC", price="60000.1", qty="7", orderLinkId="i")
    row = rest.order(orderLinkId="i")
    assert (row["orderStatus"], row["cumExecQty"]) == ("PartiallyFilledCanceled", "5")
    rest.create(timeInForce="IOC", orderLinkId="none")
    row = rest.order(orderLinkId="none")
    assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_NoImmediateQtyToFill")


def test_fill_or_kill_takes_all_or_nothing(rest: Any, venue: Any) -> None:
    venue.deposit("USDT", 10_000_000)
    rest.create(timeInForce="FOK", price="60000.1", qty="7", orderLinkId="kill")
    rest.create(timeInForce="FOK", price="60000.2", qty="7", orderLinkId="fill")
    assert rest.order(orderLinkId="kill")["orderStatus"] == "Cancelled"
    assert rest.order(orderLinkId="kill")["cumExecQty"] == "0"
    assert rest.order(orderLinkId="fill")["orderStatus"] == "Filled"


def test_two_accounts_meet_on_the_book(rest: Any, venue: Any, new_rest: Any) -> None:
    venue.add_account("other", "o", {"BTC": 1})
    rest.create(price="60000", orderLinkId="maker")
    new_rest(venue, "other", "o").create(side="Sell", price="60000", qty="0.004", orderLinkId="taker")
    maker = rest.order(orderLinkId="maker")
    assert (maker["orderStatus"], maker["cumExecQty"], maker["avgPrice"]) == ("PartiallyFilled", "0.004", "60000")
    mine, theirs = venue.truth("key")["executions"][0], venue.truth("other")["executions"][0]
    assert (mine["seq"], mine["isMaker"], theirs["isMaker"]) == (theirs["seq"], True, False)


@pytest.mark.parametrize(
    ("tag", "maker_status", "taker_status"),
    [
        ("CancelMaker", "Cancelled", "Filled"),
        ("CancelTaker", "New", "Cancelled"),
        ("CancelBoth", "Cancelled", "Cancelled"),
        ("None", "Filled", "Filled"),
    ],
)
def test_self_match_prevention_follows_the_takers_tag(
    rest: Any, tag: str, maker_status: str, taker_status: str
) -> None:
    rest.create(price="60000", orderLinkId="maker")
    rest.create(side="Sell", price="59999", qty="0.01", smpType=tag, orderLinkId="taker")
    assert rest.order(orderLinkId="maker")["orderStatus"] == maker_status
    taker = rest.order(orderLinkId="taker")
    assert taker["orderStatus"] == taker_status
    if taker_status == "Cancelled":
        assert taker["cancelType"] == "CancelBySmp"


def test_cancel_frees_the_funds_and_says_so(rest: Any) -> None:
    rest.create(orderLinkId="c")
    assert rest.cancel(orderLinkId="c")["retCode"] == 0
    row = rest.order(orderLinkId="c")
    assert (row["orderStatus"], row["cancelType"]) == ("Cancelled", "CancelByUser")
    assert (row["rejectReason"], row["leavesQty"]) == ("EC_PerCancelRequest", "")
    assert rest.balance("USDT")["locked"] == "0"


def test_a_partly_filled_order_ends_partially_filled_cancelled(rest: Any, venue: Any) -> None:
    rest.create(orderLinkId="c")
    venue.fill("c", "0.004")
    rest.cancel(orderLinkId="c")
    row = rest.order(orderLinkId="c")
    assert (row["orderStatus"], row["cumExecQty"]) == ("PartiallyFilledCanceled", "0.004")


def test_what_is_finished_or_unknown_cannot_be_cancelled_nor_amended(rest: Any) -> None:
    rest.create(orderLinkId="c", price="60500")
    for call in (rest.cancel, rest.amend):
        assert call(orderLinkId="c", qty="0.02")["retCode"] == 170213
        assert call(orderLinkId="never-was", qty="0.02")["retCode"] == 170213


def test_the_order_id_wins_over_the_link_id(rest: Any) -> None:
    first = rest.create(orderLinkId="first")["result"]["orderId"]
    rest.create(orderLinkId="second")
    rest.cancel(orderId=first, orderLinkId="second")
    assert [row["orderLinkId"] for row in rest.rows("/v5/order/realtime")] == ["second"]


def test_cancel_all_spares_conditional_orders_unless_asked(rest: Any) -> None:
    rest.create(orderLinkId="a")
    rest.create(orderLinkId="b", symbol="ETHUSDT", price="2900", qty="0.1")
    rest.create(orderLinkId="stop", triggerPrice="58000", orderFilter="StopOrder")
    answer = rest.post("/v5/order/cancel-all", category="spot")["result"]
    assert answer["success"] == "1"
    assert {row["orderLinkId"] for row in answer["list"]} == {"a", "b"}
    assert [row["orderLinkId"] for row in rest.rows("/v5/order/realtime")] == ["stop"]
    rest.post("/v5/order/cancel-all", category="spot", orderFilter="StopOrder")
    assert rest.rows("/v5/order/realtime") == []


def test_cancel_all_of_one_symbol(rest: Any) -> None:
    rest.create(orderLinkId="a")
    rest.create(orderLinkId="b", symbol="ETHUSDT", price="2900", qty="0.1")
    rest.post("/v5/order/cancel-all", category="spot", symbol="ETHUSDT")
    assert [row["orderLinkId"] for row in rest.rows("/v5/order/realtime")] == ["a"]


def test_amend_keeps_the_id_and_moves_price_quantity_and_funds(rest: Any) -> None:
    order_id = rest.create(orderLinkId="a")["result"]["orderId"]
    answer = rest.amend(orderLinkId="a", qty="0.02", price="58000")
    assert answer["result"] == {"orderId": order_id, "orderLinkId": "a"}
    row = rest.order(orderLinkId="a")
    assert (row["orderId"], row["qty"], row["price"]) == (order_id, "0.020000", "58000.0")
    assert rest.balance("USDT")["locked"] == "1160"


def test_an_amend_that_crosses_takes(rest: Any) -> None:
    rest.create(orderLinkId="a")
    rest.amend(orderLinkId="a", price="60500")
    (fill,) = rest.rows("/v5/execution/list", orderLinkId="a")
    assert (fill["isMaker"], rest.order(orderLinkId="a")["orderStatus"]) == (False, "Filled")


def test_an_amend_below_the_filled_quantity_is_170313_and_to_it_ends_the_order(rest: Any, venue: Any) -> None:
    rest.create(orderLinkId="a")
    venue.fill("a", "0.004")
    assert rest.amend(orderLinkId="a", qty="0.003")["retCode"] == 170313
    assert rest.amend(orderLinkId="a", qty="0.004")["retCode"] == 0
    assert rest.order(orderLinkId="a")["orderStatus"] == "Filled"


def test_an_amend_that_cannot_be_paid_leaves_the_order_as_it_was(rest: Any) -> None:
    rest.create(orderLinkId="a")
    assert rest.amend(orderLinkId="a", qty="50")["retCode"] == 170131
    row = rest.order(orderLinkId="a")
    assert (row["orderStatus"], row["qty"]) == ("New", "0.010000")
    assert rest.balance("USDT")["locked"] == "590"


def test_an_amend_that_changes_nothing_is_10001(rest: Any) -> None:
    rest.create(orderLinkId="a")
    assert rest.amend(orderLinkId="a", qty="0.01")["retCode"] == 10001


def test_a_price_that_touches_a_resting_order_fills_it_at_its_own_price(rest: Any, venue: Any) -> None:
    rest.create(orderLinkId="a")
    venue.set_price("BTCUSDT", "59000")
    row = rest.order(orderLinkId="a")
    assert (row["orderStatus"], row["avgPrice"]) == ("Filled", "59000")
    (fill,) = rest.rows("/v5/execution/list", orderLinkId="a")
    assert fill["isMaker"] is True


def test_a_negative_maker_rate_pays_a_rebate_in_the_other_coin(venue: Any, new_rest: Any) -> None:
    """docs v5/enum: with a negative maker rate a maker buy is charged in quote, a maker sell in base."""
    venue.add_account("mm", "m", {"USDT": 1000, "BTC": 1}, maker_fee_rate="-0.0001")
    maker = new_rest(venue, "mm", "m")
    maker.create(orderLinkId="buy")
    venue.fill("buy")
    (fill,) = maker.rows("/v5/execution/list")
    assert (fill["execFee"], fill["feeCurrency"]) == ("-0.059", "USDT")
    assert venue.truth("mm")["balances"]["USDT"]["walletBalance"] == "410.059"
    assert venue.truth("mm")["balances"]["BTC"]["walletBalance"] == "1.01"


def test_a_batch_succeeds_and_fails_item_by_item(rest: Any) -> None:
    item = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59000"}
    answer = rest.post(
        "/v5/order/create-batch",
        category="spot",
        request=[item | {"orderLinkId": "b1"}, item | {"orderLinkId": "b2", "qty": "80"}],
    )
    assert answer["retCode"] == 0
    good, bad = answer["result"]["list"]
    assert [verdict["code"] for verdict in answer["retExtInfo"]["list"]] == [0, 170131]
    assert (good["orderLinkId"], bad["orderId"], bad["orderLinkId"]) == ("b1", "", "b2")
    amended = rest.post(
        "/v5/order/amend-batch", category="spot", request=[{"symbol": "BTCUSDT", "orderLinkId": "b1", "qty": "0.02"}]
    )
    assert amended["retExtInfo"]["list"] == [{"code": 0, "msg": "OK"}]
    cancelled = rest.post(
        "/v5/order/cancel-batch",
        category="spot",
        request=[{"symbol": "BTCUSDT", "orderLinkId": "b1"}, {"symbol": "BTCUSDT", "orderLinkId": "b2"}],
    )
    assert [verdict["code"] for verdict in cancelled["retExtInfo"]["list"]] == [0, 170213]
    assert rest.rows("/v5/order/realtime") == []


def test_the_hand_of_god_refuses_nonsense(rest: Any, venue: Any) -> None:
    rest.create(orderLinkId="a")
    with pytest.raises(LookupError):
        venue.fill("no-such-order")
    with pytest.raises(ValueError, match="its limit is 59000"):
        venue.fill("a", price="59001")
    venue.cancel("a", "CancelByDCP")
    assert rest.order(orderLinkId="a")["cancelType"] == "CancelByDCP"
    with pytest.raises(ValueError, match="Cancelled"):
        venue.fill("a")


def test_outside_orders_and_trades_are_the_accounts_too(rest: Any, venue: Any) -> None:
    placed = venue.place(symbol="BTCUSDT", side="Sell", orderType="Limit", qty="0.5", price="61000")
    venue.trade(symbol="ETHUSDT", side="Buy", quantity="2")
    assert [row["orderId"] for row in rest.rows("/v5/order/realtime")] == [placed["orderId"]]
    assert rest.rows("/v5/execution/list")[0]["symbol"] == "ETHUSDT"
    assert [order["outside"] for order in venue.truth()["orders"]] == [True, True]
