"""Records have the shape of the real ones: field by field, type by type (captured frames and the docs' samples)."""

from __future__ import annotations

from typing import Any

import pytest

# A spot quote-sized market buy as the venue sent it, values invented (reference document, section 9.4).
GOLDEN_ORDER_FRAME = {
    "category": "spot",
    "symbol": "SOLUSDT",
    "orderId": "2093441180027461632",
    "orderLinkId": "qkt-7f3a-0002",
    "blockTradeId": "",
    "side": "Buy",
    "positionIdx": 0,
    "orderStatus": "PartiallyFilledCanceled",
    "cancelType": "UNKNOWN",
    "rejectReason": "EC_CancelForNoFullFill",
    "timeInForce": "IOC",
    "isLeverage": "0",
    "price": "0",
    "qty": "249.99000",
    "avgPrice": "171.23",
    "leavesQty": "0.000",
    "leavesValue": "0.16543",
    "cumExecQty": "1.459",
    "cumExecValue": "249.82457",
    "cumExecFee": "0.001459",
    "orderType": "Market",
    "stopOrderType": "",
    "orderIv": "",
    "triggerPrice": "0.00",
    "takeProfit": "0.00",
    "stopLoss": "0.00",
    "triggerBy": "",
    "tpTriggerBy": "",
    "slTriggerBy": "",
    "triggerDirection": 0,
    "placeType": "",
    "lastPriceOnCreated": "171.22",
    "closeOnTrigger": False,
    "reduceOnly": False,
    "smpGroup": 0,
    "smpType": "None",
    "smpOrderId": "",
    "slLimitPrice": "0.00",
    "tpLimitPrice": "0.00",
    "marketUnit": "quoteCoin",
    "createdTime": "1767225601012",
    "updatedTime": "1767225601016",
    "feeCurrency": "SOL",
    "slippageTolerance": "",
    "slippageToleranceType": "UNKNOWN",
    "cumFeeDetail": {"SOL": "0.001459"},
    "rpiTakerAccess": False,
    "rpiMatchedQty": "0",
}
LINK = "qkt-7f3a-0002"
VARYING = {"orderId", "createdTime", "updatedTime", "qty"}


def test_a_quote_sized_market_buy_is_told_as_the_real_venue_tells_it(rest: Any, venue: Any, connect: Any) -> None:
    """Last 171.22, one tick of spread: 1.459 SOL at 171.23 for 249.82457, and 0.16543 left unspent."""
    venue.set_price("SOLUSDT", "171.22")
    stream = connect("order")
    rest.create(
        symbol="SOLUSDT",
        orderType="Market",
        price=None,
        qty="249.99",
        marketUnit="quoteCoin",
        orderLinkId="qkt-7f3a-0002",
    )
    (row,) = stream.receive()["data"]
    assert {name: row[name] for name in GOLDEN_ORDER_FRAME if name not in VARYING} == {
        name: value for name, value in GOLDEN_ORDER_FRAME.items() if name not in VARYING
    }
    assert float(row["qty"]) == 249.99
    assert row["orderId"].isdigit()
    assert len(row["orderId"]) == 19
    assert "createType" not in row


EXECUTION_FIELDS = """symbol orderId orderLinkId side orderPrice orderQty leavesQty orderType stopOrderType execFee
    execId execPrice execQty execType execValue execTime feeCurrency isMaker feeRate tradeIv markIv markPrice indexPrice
    underlyingPrice blockTradeId closedSize seq extraFees"""


def test_executions_have_the_documented_fields(rest: Any, connect: Any) -> None:
    stream = connect("execution")
    rest.create(price="60500")
    (frame_row,) = stream.receive()["data"]
    (rest_row,) = rest.rows("/v5/execution/list")
    documented = set(EXECUTION_FIELDS.split())
    assert documented <= set(rest_row)
    assert documented | {"category", "isLeverage", "execPnl", "marketUnit"} <= set(frame_row)
    assert "createType" not in rest_row
    assert (rest_row["execType"], type(rest_row["seq"]), type(rest_row["isMaker"])) == ("Trade", int, bool)
    assert {name for name, value in rest_row.items() if not isinstance(value, str)} == {"seq", "isMaker"}
    assert all(rest_row[name] == frame_row[name] for name in documented)


def test_times_of_records_are_strings_and_times_of_envelopes_are_numbers(rest: Any, connect: Any) -> None:
    stream = connect("order", "wallet")
    rest.create()
    order, wallet = stream.receive(), stream.receive()
    assert isinstance(order["creationTime"], int)
    assert order["data"][0]["createdTime"].isdigit()
    assert wallet["id"].startswith("90210077_wallet_")
    assert isinstance(rest.get("/v5/account/info")["time"], int)


def test_one_record_mixes_padded_and_bare_numbers(rest: Any, venue: Any) -> None:
    """Compare decimals, not text: ``qty`` is padded to the step, ``cumExecQty`` is not (captured)."""
    rest.create(qty="0.5", orderLinkId="a", price="100")
    venue.fill("a")
    row = rest.order(orderLinkId="a")
    assert (row["qty"], row["cumExecQty"]) == ("0.500000", "0.5")


def test_price_improvement_is_left_unspent_on_a_filled_limit_buy(rest: Any) -> None:
    rest.create(price="60500", orderLinkId="a")
    row = rest.order(orderLinkId="a")
    assert (row["orderStatus"], row["leavesQty"], row["leavesValue"]) == ("Filled", "0.000000", "4.999")


@pytest.mark.parametrize("path", ["/v5/order/realtime", "/v5/order/history", "/v5/execution/list"])
def test_lists_echo_their_category_and_have_a_cursor(rest: Any, path: str) -> None:
    rest.create(price="60500")
    result = rest.get(path, category="spot", openOnly=1)["result"]
    assert set(result) == {"category", "list", "nextPageCursor"}
    assert result["category"] == "spot"
    assert "%3A" in result["nextPageCursor"]
