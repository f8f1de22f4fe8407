"""Orders that wait for a price (docs v5/order/create-order: StopOrder, tpslOrder, attached TP/SL)."""

from __future__ import annotations

from typing import Any

import pytest


def test_a_stop_order_waits_without_holding_funds_and_keeps_its_id(rest: Any, venue: Any) -> None:
    order_id = rest.create(side="Buy", triggerPrice="61000", price="61500", orderFilter="StopOrder", orderLinkId="s")[
        "result"
    ]["orderId"]
    row = rest.order(orderLinkId="s")
    assert (row["orderStatus"], row["stopOrderType"], row["triggerPrice"]) == ("Untriggered", "Stop", "61000.0")
    assert rest.balance("USDT")["locked"] == "0"
    venue.set_price("BTCUSDT", "60999.9")
    assert rest.order(orderLinkId="s")["orderStatus"] == "Untriggered"
    venue.set_price("BTCUSDT", "61000")
    row = rest.order(orderLinkId="s")
    assert (row["orderId"], row["orderStatus"], row["avgPrice"]) == (order_id, "Filled", "61000.1")


def test_a_trigger_price_alone_makes_an_order_conditional(rest: Any) -> None:
    rest.create(triggerPrice="58000", price="58000", orderLinkId="s")
    assert rest.order(orderLinkId="s")["orderStatus"] == "Untriggered"


def test_a_triggered_limit_order_may_rest(rest: Any, venue: Any) -> None:
    rest.create(triggerPrice="61000", price="60000", orderFilter="StopOrder", orderLinkId="s")
    venue.set_price("BTCUSDT", "61000")
    assert rest.order(orderLinkId="s")["orderStatus"] == "New"
    assert rest.balance("USDT")["locked"] == "600"
    assert rest.cancel(orderLinkId="s")["retCode"] == 0


def test_a_stop_that_cannot_be_paid_when_it_triggers_is_cancelled(rest: Any, venue: Any) -> None:
    rest.create(triggerPrice="61000", price="61000", qty="1", orderFilter="StopOrder", orderLinkId="s")
    venue.deposit("USDT", -99_000)
    venue.set_price("BTCUSDT", "61000")
    row = rest.order(orderLinkId="s")
    assert (row["orderStatus"], row["cumExecQty"]) == ("Cancelled", "0")


def test_a_tpsl_order_holds_its_funds_at_once(rest: Any, venue: Any) -> None:
    rest.create(side="Sell", triggerPrice="58000", price="57000", orderFilter="tpslOrder", orderLinkId="t", qty="2")
    row = rest.order(orderLinkId="t")
    assert (row["orderStatus"], row["stopOrderType"]) == ("Untriggered", "tpslOrder")
    assert rest.balance("BTC")["locked"] == "2"
    venue.set_price("BTCUSDT", "57500")
    assert rest.order(orderLinkId="t")["orderStatus"] == "Filled"
    assert rest.balance("BTC")["locked"] == "0"


def test_a_tpsl_order_needs_a_trigger_price(rest: Any) -> None:
    assert rest.create(orderFilter="tpslOrder")["retCode"] == 170202


def test_a_conditional_market_order_in_either_unit(rest: Any, venue: Any) -> None:
    common = {"orderType": "Market", "price": None, "orderFilter": "StopOrder", "triggerPrice": "61000"}
    rest.create(**common, qty="610", orderLinkId="quote")
    rest.create(**common, qty="0.01", marketUnit="baseCoin", orderLinkId="base")
    venue.set_price("BTCUSDT", "61000")
    assert rest.order(orderLinkId="quote")["cumExecQty"] == "0.009999"
    assert rest.order(orderLinkId="base")["orderStatus"] == "Filled"


def test_cancelling_what_has_not_triggered_needs_its_filter_and_deactivates_it(rest: Any) -> None:
    rest.create(triggerPrice="58000", price="58000", orderFilter="StopOrder", orderLinkId="s")
    assert rest.cancel(orderLinkId="s")["retCode"] == 170213
    assert rest.cancel(orderLinkId="s", orderFilter="StopOrder")["retCode"] == 0
    row = rest.order(orderLinkId="s")
    assert (row["orderStatus"], row["cancelType"]) == ("Deactivated", "CancelByUser")


def test_the_trigger_can_be_amended_singly_but_not_in_a_batch(rest: Any, venue: Any) -> None:
    rest.create(triggerPrice="61000", price="61000", orderFilter="StopOrder", orderLinkId="s")
    batch = rest.post(
        "/v5/order/amend-batch",
        category="spot",
        request=[{"symbol": "BTCUSDT", "orderLinkId": "s", "triggerPrice": "62000"}],
    )
    assert batch["retExtInfo"]["list"][0]["code"] == 170312
    assert rest.amend(orderLinkId="s", triggerPrice="62000")["retCode"] == 0
    venue.set_price("BTCUSDT", "61500")
    assert rest.order(orderLinkId="s")["orderStatus"] == "Untriggered"


def test_thirty_conditional_orders_per_symbol(rest: Any) -> None:
    for _ in range(30):
        assert rest.create(triggerPrice="58000", price="58000", orderFilter="StopOrder")["retCode"] == 0
    assert rest.create(triggerPrice="58000", price="58000", orderFilter="StopOrder")["retCode"] == 170810
    assert rest.create()["retCode"] == 0


@pytest.mark.parametrize(
    ("price", "by", "got"), [("62000", "OcoTriggerByTp", "61999.9"), ("58000", "OcoTriggerBySl", "57999.9")]
)
def test_a_filled_limit_order_leaves_its_two_legged_exit(rest: Any, venue: Any, price: str, by: str, got: str) -> None:
    rest.create(orderLinkId="entry", takeProfit="62000", stopLoss="58000")
    assert rest.order(orderLinkId="entry")["takeProfit"] == "62000.0"
    venue.fill("entry")
    (exit_row,) = rest.rows("/v5/order/realtime")
    assert (exit_row["stopOrderType"], exit_row["side"]) == ("BidirectionalTpslOrder", "Sell")
    assert (exit_row["qty"], exit_row["takeProfit"], exit_row["stopLoss"]) == ("0.009990", "62000.0", "58000.0")
    venue.set_price("BTCUSDT", price)
    done = rest.order(orderId=exit_row["orderId"])
    assert (done["orderStatus"], done["ocoTriggerBy"], done["avgPrice"]) == ("Filled", by, got)


def test_a_single_leg_leaves_a_tpsl_order_with_its_limit_price(rest: Any, venue: Any) -> None:
    rest.create(orderLinkId="entry", takeProfit="62000", tpLimitPrice="63000", tpOrderType="Limit")
    venue.fill("entry")
    (exit_row,) = rest.rows("/v5/order/realtime")
    assert (exit_row["stopOrderType"], exit_row["orderType"]) == ("tpslOrder", "Limit")
    venue.set_price("BTCUSDT", "62000")
    row = rest.order(orderId=exit_row["orderId"])
    assert (row["orderStatus"], row["price"]) == ("New", "63000.0")


@pytest.mark.parametrize(
    "changed",
    [
        {"orderType": "Market", "price": None, "qty": "100", "takeProfit": "62000"},
        {"takeProfit": "58000"},
        {"stopLoss": "59500"},
        {"takeProfit": "62000", "tpOrderType": "Limit"},
    ],
)
def test_attached_exits_that_make_no_sense_are_refused(rest: Any, changed: dict[str, Any]) -> None:
    assert rest.create(**changed)["retCode"] in (170130, 170105)


def test_the_frames_of_a_trigger_pass_through_triggered(rest: Any, venue: Any, connect: Any) -> None:
    stream = connect("order")
    rest.create(triggerPrice="61000", price="60000", orderFilter="StopOrder", orderLinkId="s")
    assert stream.next("order")["data"][0]["orderStatus"] == "Untriggered"
    venue.set_price("BTCUSDT", "61000")
    statuses = [row["orderStatus"] for row in stream.next("order")["data"]]
    assert statuses == ["Triggered", "New"]


def test_attached_exits_can_be_moved_and_removed_before_the_fill(rest: Any, venue: Any) -> None:
    rest.create(orderLinkId="entry", takeProfit="62000", stopLoss="58000")
    assert rest.amend(orderLinkId="entry", takeProfit="63000", tpLimitPrice="64000", stopLoss="0")["retCode"] == 0
    row = rest.order(orderLinkId="entry")
    assert (row["takeProfit"], row["tpLimitPrice"], row["stopLoss"]) == ("63000.0", "64000.0", "0.0")
    venue.fill("entry")
    (exit_row,) = rest.rows("/v5/order/realtime")
    assert (exit_row["stopOrderType"], exit_row["triggerPrice"]) == ("tpslOrder", "63000.0")


def test_a_limit_leg_of_a_two_legged_exit_rests_at_its_own_price(rest: Any, venue: Any) -> None:
    rest.create(orderLinkId="entry", takeProfit="62000", stopLoss="58000", slLimitPrice="59500", slOrderType="Limit")
    venue.fill("entry")
    (exit_row,) = rest.rows("/v5/order/realtime")
    venue.set_price("BTCUSDT", "58000")
    row = rest.order(orderId=exit_row["orderId"])
    assert (row["orderStatus"], row["price"], row["ocoTriggerBy"]) == ("New", "59500.0", "OcoTriggerBySl")


def test_a_sold_entry_is_bought_back_by_its_exit(rest: Any, venue: Any) -> None:
    rest.create(side="Sell", price="61000", orderLinkId="entry", takeProfit="58000", stopLoss="63000")
    venue.fill("entry")
    (exit_row,) = rest.rows("/v5/order/realtime")
    assert (exit_row["side"], exit_row["qty"]) == ("Buy", "0.010000")
    venue.set_price("BTCUSDT", "63000")
    row = rest.order(orderId=exit_row["orderId"])
    assert (row["orderStatus"], row["ocoTriggerBy"]) == ("Filled", "OcoTriggerBySl")
    assert rest.balance("USDT")["locked"] == "0"
