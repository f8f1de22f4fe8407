"""pybit and ccxt, which know the real Bybit only, trade perpetual contracts on the venue unpatched.

They come with the extra `peers`; without it these tests are skipped. Only loopback is contacted.
"""

from __future__ import annotations

import queue
from decimal import Decimal
from typing import Any

import pytest

from qkt.venue import SimulatedVenue

ORDER = {
    "category": "linear",
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderType": "Limit",
    "qty": "0.1",
    "price": "59000",
}
KEY = {"category": "linear", "symbol": "BTCUSDT"}


@pytest.fixture
def pybit_http(venue: SimulatedVenue) -> Any:
    unified_trading = pytest.importorskip("pybit.unified_trading", reason="extra `peers` is not installed")
    session = unified_trading.HTTP(api_key="key", api_secret="secret", testnet=True, timeout=5, logging_level=60)
    session.endpoint = venue.rest_url
    return session


@pytest.fixture
def ccxt_bybit(venue: SimulatedVenue) -> Any:
    ccxt = pytest.importorskip("ccxt", reason="extra `peers` is not installed")
    exchange = ccxt.bybit({"apiKey": "key", "secret": "secret", "enableRateLimit": False})
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], venue.rest_url)
    exchange.options["defaultType"] = "swap"
    exchange.has["fetchCurrencies"] = False
    exchange.load_markets()
    return exchange


class TestPybit:
    def test_settings_and_their_no_change_codes(self, pybit_http: Any) -> None:
        exceptions = pytest.importorskip("pybit.exceptions")
        pybit_http.set_leverage(**KEY, buyLeverage="7", sellLeverage="7")
        pybit_http.switch_position_mode(**KEY, mode=3)
        pybit_http.set_margin_mode(setMarginMode="ISOLATED_MARGIN")
        for call, code in (
            (lambda: pybit_http.set_leverage(**KEY, buyLeverage="7", sellLeverage="7"), 110043),
            (lambda: pybit_http.switch_position_mode(**KEY, mode=3), 110025),
        ):
            with pytest.raises(exceptions.InvalidRequestError) as caught:
                call()  # type: ignore[no-untyped-call]
            assert caught.value.status_code == code
        rows = pybit_http.get_positions(**KEY)["result"]["list"]
        assert [(row["positionIdx"], row["leverage"]) for row in rows] == [(1, "7"), (2, "7")]

    def test_a_trade_from_order_to_closed_profit(self, venue: SimulatedVenue, pybit_http: Any) -> None:
        pybit_http.place_order(**ORDER, orderLinkId="p-1", takeProfit="62000", stopLoss="57000")
        pybit_http.amend_order(**KEY, orderLinkId="p-1", price="59500")
        venue.fill("p-1")
        (position,) = pybit_http.get_positions(**KEY)["result"]["list"]
        assert (position["avgPrice"], position["takeProfit"], position["stopLoss"]) == ("59500", "62000", "57000")
        pybit_http.set_trading_stop(**KEY, tpslMode="Full", positionIdx=0, stopLoss="58000", trailingStop="900")
        stops = pybit_http.get_open_orders(**KEY)["result"]["list"]
        assert {row["stopOrderType"] for row in stops} == {"TakeProfit", "StopLoss", "TrailingStop"}
        venue.set_price("BTCUSDT", "62000", "linear")
        (closed,) = pybit_http.get_closed_pnl(**KEY)["result"]["list"]
        assert Decimal(closed["closedPnl"]) > 240
        fills = pybit_http.get_executions(**KEY)["result"]["list"]
        assert {row["createType"] for row in fills} == {"CreateByUser", "CreateByTakeProfit"}
        log = pybit_http.get_transaction_log(accountType="UNIFIED", category="linear")["result"]["list"]
        assert [row["type"] for row in log] == ["TRADE", "TRADE"]
        (account,) = pybit_http.get_wallet_balance(accountType="UNIFIED", coin="USDT")["result"]["list"]
        assert Decimal(account["coin"][0]["cumRealisedPnl"]) == Decimal(account["coin"][0]["walletBalance"]) - 100_000

    def test_market_data_of_contracts(self, pybit_http: Any) -> None:
        (instrument,) = pybit_http.get_instruments_info(**KEY)["result"]["list"]
        assert (instrument["settleCoin"], instrument["leverageFilter"]["maxLeverage"]) == ("USDT", "100.00")
        (ticker,) = pybit_http.get_tickers(**KEY)["result"]["list"]
        assert (ticker["markPrice"], ticker["fundingRate"]) == ("60000.00", "0.0001")
        assert pybit_http.get_risk_limit(**KEY)["result"]["list"][0]["isLowestRisk"] == 1
        assert pybit_http.get_fee_rates(**KEY)["result"]["list"][0]["takerFeeRate"] == "0.00055"

    def test_errors_by_code(self, pybit_http: Any) -> None:
        exceptions = pytest.importorskip("pybit.exceptions")
        for changed, code in (({"qty": "1000"}, 110090), ({"reduceOnly": True}, 110017), ({"side": "Hold"}, 10001)):
            with pytest.raises(exceptions.InvalidRequestError) as caught:
                pybit_http.place_order(**ORDER | changed)
            assert caught.value.status_code == code


def test_pybit_hears_a_contract_over_its_private_websocket(
    venue: SimulatedVenue, pybit_http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unified_trading = pytest.importorskip("pybit.unified_trading")
    monkeypatch.setattr(unified_trading, "PRIVATE_WSS", venue.ws_url)
    # pybit notes a subscription after sending it, and loses one whose acknowledgement is quicker than that.
    venue.faults.add("control_delay", delay_ms=30)
    heard: queue.Queue[tuple[str, dict[str, Any]]] = queue.Queue()
    socket = unified_trading.WebSocket(
        channel_type="private", testnet=True, api_key="key", api_secret="secret", retries=2
    )
    topics = {
        "order": socket.order_stream,
        "execution": socket.execution_stream,
        "position": socket.position_stream,
        "wallet": socket.wallet_stream,
    }
    try:
        for topic, subscribe in topics.items():
            subscribe(lambda frame, topic=topic: heard.put((topic, frame)))
        assert venue.wait_for("stream subscribed", count=4)
        pybit_http.place_order(**ORDER | {"orderType": "Market"}, orderLinkId="p-1")
        frames = dict(heard.get(timeout=10) for _ in range(4))
        venue.fund("BTCUSDT")
        funding = dict(heard.get(timeout=10) for _ in range(3))
    finally:
        socket.exit()
    assert set(frames) == set(topics)
    assert frames["order"]["data"][0]["orderStatus"] == "Filled"
    assert frames["position"]["data"][0]["size"] == "0.1"
    assert funding["execution"]["data"][0]["execType"] == "Funding"


class TestCcxt:
    def test_markets_of_both_settle_coins(self, ccxt_bybit: Any) -> None:
        market = ccxt_bybit.market("BTC/USDT:USDT")
        assert (market["swap"], market["linear"], market["precision"]["amount"]) == (True, True, 0.001)
        (perp,) = ccxt_bybit.markets_by_id["BTCPERP"]
        assert (perp["quote"], perp["settle"]) == ("USD", "USDC")
        assert ccxt_bybit.fetch_ticker("BTC/USDT:USDT")["last"] == 60000
        assert ccxt_bybit.fetch_funding_rate("BTC/USDT:USDT")["fundingRate"] == 0.0001

    def test_an_order_with_exits_becomes_a_position(self, venue: SimulatedVenue, ccxt_bybit: Any) -> None:
        symbol = "BTC/USDT:USDT"
        ccxt_bybit.set_leverage(5, symbol)
        params = {"clientOrderId": "c-1", "takeProfit": {"triggerPrice": 62000}, "stopLoss": {"triggerPrice": 57000}}
        order = ccxt_bybit.create_order(symbol, "limit", "buy", 0.1, 59000, params)
        assert ccxt_bybit.fetch_open_order(order["id"], symbol)["clientOrderId"] == "c-1"
        venue.fill("c-1")
        (position,) = ccxt_bybit.fetch_positions([symbol])
        assert (position["side"], position["contracts"], position["leverage"]) == ("long", 0.1, 5)
        assert len(ccxt_bybit.fetch_open_orders(symbol)) == 2
        ccxt_bybit.create_order(symbol, "market", "sell", 0.1, None, {"reduceOnly": True})
        assert ccxt_bybit.fetch_open_orders(symbol) == []
        assert [trade["takerOrMaker"] for trade in ccxt_bybit.fetch_my_trades(symbol)] == ["maker", "taker"]

    def test_errors_by_code(self, ccxt_bybit: Any) -> None:
        ccxt = pytest.importorskip("ccxt")
        with pytest.raises(ccxt.OrderNotFound):
            ccxt_bybit.cancel_order("1", "BTC/USDT:USDT")
        with pytest.raises(ccxt.InvalidOrder):
            ccxt_bybit.create_order("BTC/USDT:USDT", "market", "sell", 0.1, None, {"reduceOnly": True})
