"""The rules a broker keeps: read once per client, refreshed when old, never in the way of an order."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

import pytest

from qkt.bybit.linear import BybitLinearBroker
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import BybitApiError, InvalidRequestError
from qkt.events import HealthDegraded
from qkt.model.orders import IfTouchedOrder, MarketOrder, OrderModification, Side, StopLimitOrder, StopOrder
from qkt.testing.builders import SYMBOL, a_limit_order, envelope, frame, order_row, refusal
from tests.bybit.conftest import Desk

INSTRUMENTS, TICKERS = "/v5/market/instruments-info", "/v5/market/tickers"
HOUR_MS = 3_600_000
D = Decimal


def instrument_row(symbol: str = "BTCUSDT", **lot: Any) -> dict[str, Any]:
    return {
        "symbol": symbol,
        "baseCoin": symbol.removesuffix("USDT"),
        "quoteCoin": "USDT",
        "status": "Trading",
        "lotSizeFilter": {
            "basePrecision": "0.000001",
            "quotePrecision": "0.0000001",
            "minOrderQty": "0.000011",
            "maxOrderQty": "71",
            "minOrderAmt": "5",
            "maxLimitOrderQty": "83",
            "maxMarketOrderQty": "41.5",
            "postOnlyMaxLimitOrderSize": "60000",
            **lot,
        },
        "priceFilter": {"tickSize": "0.1"},
        "riskParameters": {"priceLimitRatioX": "0.05", "priceLimitRatioY": "0.1"},
    }


def linear_row(symbol: str = "BTCUSDT") -> dict[str, Any]:
    return {
        "symbol": symbol,
        "baseCoin": "BTC",
        "quoteCoin": "USDT",
        "status": "Trading",
        "priceFilter": {"tickSize": "0.10", "minPrice": "0.10", "maxPrice": "1999999.80"},
        "lotSizeFilter": {
            "qtyStep": "0.001",
            "minOrderQty": "0.001",
            "maxOrderQty": "1190.000",
            "maxMktOrderQty": "500.000",
            "minNotionalValue": "5",
        },
        "riskParameters": {"priceLimitRatioX": "0.01", "priceLimitRatioY": "0.02"},
    }


def ticker(last_price: Any, symbol: str = "BTCUSDT") -> Any:
    return envelope([{"symbol": symbol, "lastPrice": last_price}])


@pytest.fixture
def listed(desk: Desk) -> Any:
    """A broker whose venue lists BTCUSDT."""
    desk.client.responses[INSTRUMENTS] = envelope([instrument_row()])
    return desk.open()


def asked(desk: Desk, path: Any = INSTRUMENTS) -> list[Any]:
    return [request for request in desk.client.gets if request.path == path]


# -- reading ---------------------------------------------------------------------------------------------------------


def test_the_rules_are_the_venues(listed: Any) -> None:
    rules = listed.rules(SYMBOL)

    assert (rules.tick_size, rules.quantity_step, rules.quote_step) == (D("0.1"), D("0.000001"), D("0.0000001"))
    assert (rules.min_quantity, rules.min_notional) == (D("0.000011"), D(5))
    assert (rules.max_limit_quantity, rules.max_market_quantity) == (D(83), D("41.5"))  # not the deprecated 71
    assert (rules.base_coin, rules.quote_coin, rules.is_trading) == ("BTC", "USDT", True)
    assert (rules.price_limit_ratio_x, rules.price_limit_ratio_y) == (D("0.05"), D("0.1"))
    assert rules.as_of_ms == 1_000_000
    assert listed.rules("BYBIT_SPOT:XRPUSDT") is None


def test_construction_reads_them_with_one_get_and_a_plain_submit_with_none(desk: Desk) -> None:
    desk.client.responses[INSTRUMENTS] = envelope([instrument_row()])
    broker = BybitSpotBroker(desk.client, desk.bus, desk.clock, poll_scheduler=desk.scheduler)
    assert [dict(request) for request in asked(desk)] == [{"category": "spot"}]

    desk.client.gets.clear()
    broker.submit(a_limit_order())

    assert (desk.client.gets, len(desk.client.posts)) == ([], 1)
    broker.close()


def test_brokers_on_one_client_share_them(desk: Desk, listed: Any) -> None:
    desk.client.gets.clear()
    with BybitSpotBroker(desk.client, desk.bus, desk.clock, poll_scheduler=desk.scheduler) as other:
        assert other.rules(SYMBOL) is listed.rules(SYMBOL)
    assert asked(desk) == []


def test_linear_rules_are_read_page_by_page(desk: Desk) -> None:
    pages = {"": envelope([linear_row()], cursor="next"), "next": envelope([linear_row("ETHUSDT")], cursor="last")}
    pages["last"] = envelope()
    desk.client.responses[INSTRUMENTS] = lambda request: pages[request.get("cursor", "")]

    with BybitLinearBroker(desk.client, desk.bus, desk.clock, poll_scheduler=desk.scheduler) as broker:
        rules = broker.rules("BYBIT_LINEAR:BTCUSDT")
        assert broker.rules("BYBIT_LINEAR:ETHUSDT") is not None

    assert (rules.quantity_step, rules.min_notional, rules.max_price) == (D("0.001"), D(5), D("1999999.80"))  # type: ignore[union-attr]
    assert (rules.max_limit_quantity, rules.max_market_quantity, rules.quote_step) == (D(1190), D(500), None)  # type: ignore[union-attr]
    assert [request["limit"] for request in asked(desk)] == [1_000] * 3


@pytest.mark.parametrize(
    "answer",
    [
        refusal(10016, "Server error"),
        envelope(),
        '{"retCode":0,"result":{}}',
        "<html>bad gateway</html>",
        RuntimeError("a transport of the user's own"),
        TimeoutError("read timed out"),
        envelope([{"symbol": "BTCUSDT"}]),
    ],
)
def test_rules_that_cannot_be_read_are_a_warning_and_stand_in_nobodys_way(
    desk: Desk, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    desk.client.responses[INSTRUMENTS] = answer
    with caplog.at_level(logging.WARNING, logger="qkt"):
        broker = desk.open()
        assert broker.submit(a_limit_order(quantity=D("1E-12"), limit_price=D("0.0000000077"))).accepted

    assert broker.rules(SYMBOL) is None
    assert "instrument rules not read category=spot" in caplog.text
    assert f"no instrument rules symbol={SYMBOL}" in caplog.text


def test_missing_rules_are_warned_of_once_per_symbol(desk: Desk, caplog: pytest.LogCaptureFixture) -> None:
    desk.client.symbols = ()
    broker = desk.open()
    with caplog.at_level(logging.WARNING, logger="qkt"):
        for _ in range(3):
            broker.submit(a_limit_order())

    assert caplog.text.count("no instrument rules") == 1


def test_a_broken_row_costs_only_its_own_symbol(desk: Desk) -> None:
    broken = instrument_row("XRPUSDT", basePrecision="a lot")
    desk.client.responses[INSTRUMENTS] = envelope([broken, instrument_row()])
    broker = desk.open()

    assert broker.rules("BYBIT_SPOT:XRPUSDT") is None
    assert broker.rules(SYMBOL) is not None


# -- age -------------------------------------------------------------------------------------------------------------


def test_old_rules_are_refreshed_in_the_background(desk: Desk, listed: Any) -> None:
    desk.client.responses[INSTRUMENTS] = envelope([instrument_row(maxLimitOrderQty="50")])
    desk.scheduler.advance_ms(HOUR_MS - 60_000)
    assert asked(desk) == []
    assert listed.rules(SYMBOL).max_limit_quantity == 83

    desk.scheduler.advance_ms(120_000)

    assert len(asked(desk)) == 1
    assert listed.rules(SYMBOL).max_limit_quantity == 50


def test_a_refresh_that_fails_keeps_the_rules_and_is_tried_again_later(desk: Desk, listed: Any) -> None:
    desk.client.responses[INSTRUMENTS] = refusal(10016)
    desk.scheduler.advance_ms(HOUR_MS + 4 * 60_000)
    assert len(asked(desk)) == 1
    assert listed.rules(SYMBOL) is not None

    desk.client.responses[INSTRUMENTS] = envelope([instrument_row(maxLimitOrderQty="50")])
    desk.scheduler.advance_ms(5 * 60_000)

    assert listed.rules(SYMBOL).max_limit_quantity == 50


# -- checks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (a_limit_order(limit_price=D("60000.05")), "tick size 0.1"),
        (a_limit_order(quantity=D(84)), "maximum of a limit order, 83"),
        (a_limit_order(quantity=D("0.01")), "minimum order value 5 USDT"),
        (a_limit_order(take_profit=D(99)), "take_profit 99 must be above limit_price 100 for a buy"),
        (MarketOrder(symbol=SYMBOL, side=Side.BUY, quantity=D(4), quote_sized=True), "minimum order value"),
    ],
)
def test_what_the_venue_would_refuse_is_refused_before_anything_is_sent(
    desk: Desk, listed: Any, order: Any, told: str
) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        listed.submit(order)
    with pytest.raises(InvalidRequestError, match=told):
        listed.check(order)

    assert (desk.client.posts, desk.client.gets, listed.open_orders()) == ([], [], [])


def test_nothing_is_changed_silently(desk: Desk, listed: Any) -> None:
    listed.submit(a_limit_order(quantity=D("0.0500000"), limit_price=D("100.000")))

    assert (desk.client.posts[0]["qty"], desk.client.posts[0]["price"]) == ("0.0500000", "100.000")


def test_quantize_makes_an_order_that_passes(desk: Desk, listed: Any) -> None:
    order = a_limit_order(quantity=D("0.0612345678"), limit_price=D("100.07"))

    fitted = listed.quantize(order)

    assert (fitted.quantity, fitted.limit_price) == (D("0.061234"), D("100.0"))
    assert listed.submit(fitted).accepted
    assert listed.quantize(a_limit_order(symbol="BYBIT_SPOT:XRPUSDT", quantity=D("1E-9"))).quantity == D("1E-9")


def test_an_amend_keeps_to_the_rules(desk: Desk, listed: Any) -> None:
    listed.submit(a_limit_order(client_order_id="c1"))
    desk.client.posts.clear()

    with pytest.raises(InvalidRequestError, match="tick size"):
        listed.modify("c1", OrderModification(new_limit_price=D("100.01")))
    assert desk.client.posts == []
    assert listed.modify("c1", OrderModification(new_limit_price=D("100.1"))).accepted


def test_what_a_broker_cannot_do_is_refused_with_what_it_can(
    desk: Desk, broker: BybitSpotBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qkt.broker.protocol import OrderTypeCapability

    linear = BybitLinearBroker(desk.client, desk.bus, desk.clock, poll_scheduler=desk.scheduler)
    order = MarketOrder(symbol="BYBIT_LINEAR:BTCUSDT", side=Side.BUY, quantity=D(4), quote_sized=True)
    with pytest.raises(InvalidRequestError, match="cannot do QUOTE_SIZED; it can do BATCH, BRACKET, IF_TOUCHED"):
        linear.submit(order)
    assert {OrderTypeCapability.BATCH, OrderTypeCapability.BRACKET} <= broker.capabilities_for(SYMBOL)
    linear.close()


# -- spot triggers ---------------------------------------------------------------------------------------------------


def a_stop(side: Any = Side.SELL, price: int = 90) -> StopOrder:
    return StopOrder(symbol=SYMBOL, side=side, quantity=D(1), stop_price=D(price))


CROSSED = [
    a_stop(Side.SELL, 101),
    a_stop(Side.SELL, 100),
    a_stop(Side.BUY, 99),
    StopLimitOrder(symbol=SYMBOL, side=Side.BUY, quantity=D(1), stop_price=D(99), limit_price=D(101)),
    IfTouchedOrder(symbol=SYMBOL, side=Side.BUY, quantity=D(1), trigger_price=D(101)),
    IfTouchedOrder(symbol=SYMBOL, side=Side.SELL, quantity=D(1), trigger_price=D(99), limit_price=D(98)),
]
WAITING = [
    a_stop(Side.SELL, 99),
    a_stop(Side.BUY, 101),
    IfTouchedOrder(symbol=SYMBOL, side=Side.BUY, quantity=D(1), trigger_price=D(99)),
    IfTouchedOrder(symbol=SYMBOL, side=Side.SELL, quantity=D(1), trigger_price=D(101)),
]


@pytest.mark.parametrize("order", CROSSED)
def test_a_crossed_spot_trigger_is_refused_since_the_venue_would_turn_it_around(
    desk: Desk, broker: BybitSpotBroker, order: Any
) -> None:
    desk.client.responses[TICKERS] = ticker("100")

    with pytest.raises(InvalidRequestError, match="already crossed"):
        broker.submit(order)

    assert [dict(request) for request in desk.client.gets] == [{"category": "spot", "symbol": "BTCUSDT"}]
    assert desk.client.posts == []


@pytest.mark.parametrize("order", WAITING)
def test_a_trigger_that_waits_goes_out_after_one_look_at_the_price(
    desk: Desk, broker: BybitSpotBroker, order: Any
) -> None:
    desk.client.responses[TICKERS] = ticker("100")

    assert broker.submit(order).accepted

    assert [request.path for request in desk.client.gets] == [TICKERS]


@pytest.mark.parametrize(
    "answer", [envelope(), refusal(10016), ticker(""), "<html>", TimeoutError("slow"), BybitApiError(10001, "")]
)
@pytest.mark.parametrize("order", CROSSED[:1])
def test_an_unknown_price_is_a_warning_and_stops_no_stop(
    desk: Desk, broker: BybitSpotBroker, caplog: pytest.LogCaptureFixture, answer: Any, order: Any
) -> None:
    desk.client.responses[TICKERS] = answer

    with caplog.at_level(logging.WARNING, logger="qkt"):
        assert broker.submit(order).accepted

    assert f"last price unknown symbol={SYMBOL}" in caplog.text


def test_an_amended_trigger_may_not_change_sides(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses[TICKERS] = ticker("100")
    ack = broker.submit(a_stop(Side.SELL, 90))
    row = order_row(orderId=ack.broker_order_id, orderStatus="Untriggered", stopOrderType="Stop", triggerPrice="90")
    desk.client.emit_ws_frame("order", frame("order", {**row, "side": "Sell", "orderLinkId": ack.client_order_id}))
    desk.client.posts.clear()

    with pytest.raises(InvalidRequestError, match="already crossed"):
        broker.modify(ack.client_order_id, OrderModification(new_stop_price=D(101)))
    assert desk.client.posts == []
    assert broker.modify(ack.client_order_id, OrderModification(new_stop_price=D(95))).accepted


@pytest.mark.parametrize(("last_price", "is_alarming"), [("100", False), ("90", True), ("89.9", True), ("", False)])
def test_a_market_that_outran_the_check_is_an_alarm_when_the_order_shows_itself(
    desk: Desk, broker: BybitSpotBroker, last_price: str, is_alarming: bool
) -> None:
    desk.client.responses[TICKERS] = ticker("100")
    ack = broker.submit(a_stop(Side.SELL, 90))
    row = order_row(
        orderId=ack.broker_order_id,
        orderLinkId=ack.client_order_id,
        side="Sell",
        orderStatus="Untriggered",
        stopOrderType="Stop",
        triggerPrice="90.00",
        lastPriceOnCreated=last_price,
    )
    desk.heard.clear()

    for later in ("1000", "1001"):
        desk.client.emit_ws_frame("order", frame("order", {**row, "updatedTime": later}))

    alarms = [event for event in desk.heard if isinstance(event, HealthDegraded)]
    assert [event.domain for event in alarms] == ["triggers"] * is_alarming
    assert all("past the trigger 90 of" in event.reason for event in alarms)


def test_an_amended_trigger_is_no_alarm(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses[TICKERS] = ticker("100")
    ack = broker.submit(a_stop(Side.SELL, 90))
    row = order_row(
        orderId=ack.broker_order_id,
        side="Sell",
        orderType="Market",
        price="0",
        orderStatus="Untriggered",
        stopOrderType="Stop",
    )
    desk.heard.clear()

    for trigger, updated in (("90", "1000"), ("105", "2000")):  # amended after the market had risen
        changes = {"triggerPrice": trigger, "updatedTime": updated, "lastPriceOnCreated": "100"}
        desk.client.emit_ws_frame("order", frame("order", {**row, "orderLinkId": ack.client_order_id, **changes}))

    assert desk.told() == ["OrderAccepted", "OrderModified"]


def test_linear_needs_no_look_since_it_has_a_direction(desk: Desk) -> None:
    with BybitLinearBroker(desk.client, desk.bus, desk.clock, poll_scheduler=desk.scheduler) as broker:
        desk.client.gets.clear()
        order = StopOrder(symbol="BYBIT_LINEAR:BTCUSDT", side=Side.SELL, quantity=D(1), stop_price=D(90))
        assert broker.submit(order).accepted

    assert asked(desk, TICKERS) == []
    assert desk.client.posts[0]["triggerDirection"] == 2
