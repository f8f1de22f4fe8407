"""Clients made for the real Bybit judge the venue: pybit and ccxt, unmodified, only their URLs overridden.

They come with the extra `peers`; without it these tests are skipped. Only loopback is contacted.
"""

from __future__ import annotations

import queue
from decimal import Decimal
from typing import Any

import pytest

from qkt.venue import SimulatedBybit


@pytest.fixture
def pybit_http(venue: Any) -> Any:
    unified_trading = pytest.importorskip("pybit.unified_trading", reason="extra `peers` is not installed")
    session = unified_trading.HTTP(api_key="key", api_secret="secret", testnet=True, timeout=5, logging_level=60)
    session.endpoint = venue.rest_url
    return session


ORDER = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.001", "price": "59000"}


class TestPybitOverHttp:
    def test_place_query_amend_cancel(self, venue: Any, pybit_http: Any) -> None:
        placed = pybit_http.place_order(**ORDER, orderLinkId="p-1")["result"]
        for query in (
            {"orderId": placed["orderId"]},
            {"orderLinkId": "p-1"},
            {"symbol": "BTCUSDT"},
            {"baseCoin": "BTC"},
        ):
            (row,) = pybit_http.get_open_orders(category="spot", **query)["result"]["list"]
            assert (row["orderId"], row["orderStatus"]) == (placed["orderId"], "New")
        amended = pybit_http.amend_order(
            category="spot", symbol="BTCUSDT", orderLinkId="p-1", qty="0.002", price="58000"
        )
        assert amended["result"]["orderId"] == placed["orderId"]
        pybit_http.cancel_order(category="spot", symbol="BTCUSDT", orderId=placed["orderId"])
        assert pybit_http.get_open_orders(category="spot")["result"]["list"] == []
        (row,) = pybit_http.get_order_history(category="spot", orderLinkId="p-1")["result"]["list"]
        assert (row["orderStatus"], row["qty"], row["price"]) == ("Cancelled", "0.002000", "58000.0")

    def test_pages_through_one_hundred_and_twenty_orders(self, venue: Any, pybit_http: Any) -> None:
        for number in range(120):
            pybit_http.place_order(**ORDER, orderLinkId=f"p-{number}")
        seen: list[str] = []
        cursor = ""
        while True:
            result = pybit_http.get_open_orders(category="spot", limit=50, cursor=cursor)["result"]
            if not result["list"]:
                break
            seen += [row["orderLinkId"] for row in result["list"]]
            cursor = result["nextPageCursor"]
        assert seen == [f"p-{number}" for number in reversed(range(120))]

    def test_fills_executions_and_balances(self, venue: Any, pybit_http: Any) -> None:
        pybit_http.place_order(**ORDER, orderLinkId="p-1")
        venue.fill("p-1", "0.0004")
        venue.fill("p-1")
        rows = pybit_http.get_executions(category="spot", orderLinkId="p-1")["result"]["list"]
        assert sum(Decimal(row["execQty"]) for row in rows) == Decimal("0.001")
        (account,) = pybit_http.get_wallet_balance(accountType="UNIFIED", coin="BTC,USDT")["result"]["list"]
        assert {coin["coin"]: coin["walletBalance"] for coin in account["coin"]} == {
            "BTC": "10.000999",
            "USDT": "99941",
        }

    def test_batches(self, venue: Any, pybit_http: Any) -> None:
        item = {name: value for name, value in ORDER.items() if name != "category"}
        answer = pybit_http.place_batch_order(category="spot", request=[item, item | {"qty": "0"}])
        assert [verdict["code"] for verdict in answer["retExtInfo"]["list"]] == [0, 170136]

    def test_errors_by_code(self, venue: Any, pybit_http: Any) -> None:
        exceptions = pytest.importorskip("pybit.exceptions")
        for changed, code in (({"symbol": "NOPE"}, 170121), ({"qty": "80"}, 170131), ({"side": "Hold"}, 170117)):
            with pytest.raises(exceptions.InvalidRequestError) as caught:
                pybit_http.place_order(**ORDER | changed)
            assert caught.value.status_code == code
        with pytest.raises(exceptions.InvalidRequestError) as caught:
            pybit_http.cancel_order(category="spot", symbol="BTCUSDT", orderLinkId="never-was")
        assert caught.value.status_code == 170213

    def test_market_and_account_data(self, venue: Any, pybit_http: Any) -> None:
        assert pybit_http.get_server_time()["retCode"] == 0
        (instrument,) = pybit_http.get_instruments_info(category="spot", symbol="BTCUSDT")["result"]["list"]
        assert instrument["lotSizeFilter"]["basePrecision"] == "0.000001"
        (ticker,) = pybit_http.get_tickers(category="spot", symbol="BTCUSDT")["result"]["list"]
        assert ticker["lastPrice"] == "60000.0"
        assert pybit_http.get_orderbook(category="spot", symbol="BTCUSDT", limit=5)["result"]["s"] == "BTCUSDT"
        assert (
            pybit_http.get_fee_rates(category="spot", symbol="BTCUSDT")["result"]["list"][0]["takerFeeRate"] == "0.001"
        )
        assert pybit_http.get_account_info()["result"]["unifiedMarginStatus"] in (5, 6)
        assert pybit_http.get_api_key_information()["result"]["permissions"]["Spot"] == ["SpotTrade"]


def test_pybit_hears_orders_executions_and_wallet_over_its_private_websocket(
    venue: Any, pybit_http: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unified_trading = pytest.importorskip("pybit.unified_trading")
    monkeypatch.setattr(unified_trading, "PRIVATE_WSS", venue.ws_url)
    # pybit notes a subscription after sending it, and loses one whose acknowledgement is quicker than that.
    venue.faults.add("control_delay", delay_ms=30)
    heard: queue.Queue[tuple[str, dict]] = queue.Queue()  # type: ignore[type-arg]
    socket = unified_trading.WebSocket(
        channel_type="private", testnet=True, api_key="key", api_secret="secret", retries=2
    )
    try:
        for topic, subscribe in (
            ("order", socket.order_stream),
            ("execution", socket.execution_stream),
            ("wallet", socket.wallet_stream),
        ):
            subscribe(lambda frame, topic=topic: heard.put((topic, frame)))
        assert venue.wait_for("stream subscribed", count=3)
        pybit_http.place_order(**ORDER, orderLinkId="p-1")
        venue.fill("p-1")
        frames = [heard.get(timeout=10) for _ in range(5)]
    finally:
        socket.exit()
    assert [topic for topic, _ in frames] == ["order", "wallet", "execution", "order", "wallet"]
    statuses = [frame["data"][0]["orderStatus"] for topic, frame in frames if topic == "order"]
    assert statuses == ["New", "Filled"]


@pytest.fixture
def ccxt_bybit(venue: Any) -> Any:
    ccxt = pytest.importorskip("ccxt", reason="extra `peers` is not installed")
    exchange = ccxt.bybit({"apiKey": "key", "secret": "secret", "enableRateLimit": False})
    exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], venue.rest_url)
    exchange.options["defaultType"] = "spot"
    exchange.options["fetchMarkets"] = {"types": ["spot"]}
    exchange.has["fetchCurrencies"] = False
    exchange.enableLastJsonResponse = True
    exchange.load_markets()
    return exchange


class TestCcxt:
    def test_markets_and_ticker(self, ccxt_bybit: Any) -> None:
        market = ccxt_bybit.market("BTC/USDT")
        assert (market["precision"]["amount"], market["precision"]["price"]) == (0.000001, 0.1)
        assert ccxt_bybit.fetch_ticker("BTC/USDT")["last"] == 60000
        assert ccxt_bybit.fetch_order_book("BTC/USDT", 5)["asks"][0] == [60000.1, 5.0]
        assert abs(ccxt_bybit.fetch_time() - ccxt_bybit.milliseconds()) < 1000

    def test_public_trades_and_candles(self, venue: Any, ccxt_bybit: Any) -> None:
        venue.trade(symbol="BTCUSDT", side="Buy", quantity="0.5")
        (trade,) = ccxt_bybit.fetch_trades("BTC/USDT")
        assert (trade["side"], trade["amount"], trade["price"]) == ("buy", 0.5, 60000.1)
        candle = ccxt_bybit.fetch_ohlcv("BTC/USDT", "1m")[-1]
        assert candle[1:] == [60000, 60000.1, 60000, 60000.1, 0.5]

    def test_place_query_amend_cancel(self, venue: Any, ccxt_bybit: Any) -> None:
        order = ccxt_bybit.create_order("BTC/USDT", "limit", "buy", 0.001, 59000, {"clientOrderId": "c-1"})
        fetched = ccxt_bybit.fetch_open_order(order["id"], "BTC/USDT")
        assert (fetched["status"], fetched["clientOrderId"], fetched["remaining"]) == ("open", "c-1", 0.001)
        ccxt_bybit.edit_order(order["id"], "BTC/USDT", "limit", "buy", 0.002, 58000)
        (fetched,) = ccxt_bybit.fetch_open_orders("BTC/USDT")
        assert (fetched["amount"], fetched["price"]) == (0.002, 58000)
        ccxt_bybit.cancel_order(order["id"], "BTC/USDT")
        assert ccxt_bybit.fetch_open_orders("BTC/USDT") == []
        (closed,) = ccxt_bybit.fetch_canceled_orders("BTC/USDT")
        assert (closed["id"], closed["status"]) == (order["id"], "canceled")

    def test_a_market_buy_by_cost_and_its_trades(self, venue: Any, ccxt_bybit: Any) -> None:
        order = ccxt_bybit.create_market_buy_order_with_cost("BTC/USDT", 250)
        (trade,) = ccxt_bybit.fetch_order_trades(order["id"], "BTC/USDT")
        assert (trade["takerOrMaker"], trade["fee"]["currency"], trade["amount"]) == ("taker", "BTC", 0.004166)
        balance = ccxt_bybit.fetch_balance()
        assert balance["BTC"]["total"] == pytest.approx(10.004161834)
        assert balance["USDT"]["free"] == pytest.approx(100_000 - 249.9604166)

    def test_pages_through_one_hundred_and_twenty_orders(self, venue: Any, ccxt_bybit: Any) -> None:
        for number in range(120):
            venue.place(
                symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.001", price="59000", orderLinkId=f"c-{number}"
            )
        seen: dict[str, None] = {}
        cursor = None
        while True:
            page = ccxt_bybit.fetch_open_orders("BTC/USDT", None, 50, {"cursor": cursor} if cursor else {})
            if not page:
                break
            seen |= {order["clientOrderId"]: None for order in page}
            cursor = ccxt_bybit.last_json_response["result"]["nextPageCursor"]
        assert len(seen) == 120

    def test_errors_by_code(self, ccxt_bybit: Any) -> None:
        ccxt = pytest.importorskip("ccxt")
        with pytest.raises(ccxt.InsufficientFunds):
            ccxt_bybit.create_order("BTC/USDT", "limit", "buy", 80, 59000)
        with pytest.raises(ccxt.OrderNotFound):
            ccxt_bybit.cancel_order("1", "BTC/USDT")
        ccxt_bybit.secret = "wrong"
        with pytest.raises(ccxt.AuthenticationError):
            ccxt_bybit.fetch_balance()


class TestUnmodifiedCcxt:
    """Only the URLs are overridden: all markets and currencies are loaded, as its own tests do."""

    @pytest.fixture
    def whole(self, venue: SimulatedBybit) -> Any:
        ccxt = pytest.importorskip("ccxt", reason="extra `peers` is not installed")
        exchange = ccxt.bybit({"apiKey": "key", "secret": "secret", "enableRateLimit": False})
        exchange.urls["api"] = dict.fromkeys(exchange.urls["api"], venue.rest_url)
        exchange.load_markets()
        return exchange

    def test_it_loads_markets_and_currencies(self, whole: Any) -> None:
        assert {"BTC/USDT", "ETH/USDT", "SOL/USDT"} <= set(whole.markets)
        assert {"BTC", "USDT"} <= set(whole.currencies)
        assert whole.currencies["BTC"]["precision"] == 1e-8

    @pytest.mark.parametrize(
        "name", ["fetch_open_orders", "fetch_closed_orders", "fetch_canceled_orders", "fetch_my_trades"]
    )
    @pytest.mark.parametrize("symbol", [None, "BTC/USDT"])
    def test_it_reads_orders_with_and_without_a_symbol(self, whole: Any, name: str, symbol: str | None) -> None:
        assert getattr(whole, name)(symbol) == []

    @pytest.mark.parametrize(
        "name",
        ["fetch_time", "fetch_status", "fetch_balance", "fetch_deposits", "fetch_withdrawals", "fetch_transfers"],
    )
    def test_it_reads_the_account_and_the_venue(self, whole: Any, name: str) -> None:
        getattr(whole, name)()

    def test_it_reads_candles_of_every_timeframe(self, whole: Any) -> None:
        counts = {name: len(whole.fetch_ohlcv("BTC/USDT", name, limit=20)) for name in whole.timeframes}
        assert set(counts.values()) == {20}

    def test_it_reads_a_deep_book(self, whole: Any) -> None:
        assert len(whole.fetch_order_book("BTC/USDT", 1000)["bids"]) == 1000

    @pytest.mark.parametrize(
        ("kind", "side", "amount", "price", "params"),
        [
            ("market", "buy", 0.01, 60000, {}),
            ("market", "buy", 0.01, None, {"cost": 100}),
            ("market", "sell", 0.001, None, {}),
            ("limit", "buy", 0.001, 55000, {"clientOrderId": "c-1"}),
            ("limit", "buy", 0.001, 55000, {"postOnly": True}),
            ("limit", "buy", 0.001, 55000, {"timeInForce": "IOC"}),
            ("limit", "sell", 0.001, 65000, {"timeInForce": "FOK"}),
            ("limit", "buy", 0.001, 61000, {"triggerPrice": 61000}),
            ("market", "buy", 0.001, 61000, {"triggerPrice": 61000}),
            ("market", "sell", 0.001, None, {"stopLossPrice": 59000}),
            ("limit", "sell", 0.001, 62000, {"takeProfitPrice": 62000}),
            (
                "limit",
                "buy",
                0.001,
                59000,
                {"stopLoss": {"triggerPrice": 58000}, "takeProfit": {"triggerPrice": 62000, "price": 62000}},
            ),
        ],
    )
    def test_it_creates_an_order_of_every_kind(
        self,
        venue: SimulatedBybit,
        whole: Any,
        kind: str,
        side: str,
        amount: float,
        price: float,
        params: dict[str, Any],
    ) -> None:
        order = whole.create_order("BTC/USDT", kind, side, amount, price, params)
        assert order["id"] in {row["orderId"] for row in venue.truth()["orders"]}

    @pytest.mark.parametrize(
        ("kind", "side", "amount", "price", "params"),
        [
            ("market", "buy", 0.01, None, {}),
            ("limit", "buy", 0.01, 55000, {"postOnly": True}),
            ("limit", "buy", 0.01, 55000, {"timeInForce": "IOC"}),
            ("limit", "sell", 0.01, 65000, {"reduceOnly": True}),
            ("limit", "buy", 0.01, 61000, {"triggerPrice": 61000, "triggerDirection": "ascending"}),
            ("market", "sell", 0.01, None, {"triggerPrice": 59000, "triggerDirection": "descending"}),
            ("market", "sell", 0.01, None, {"stopLossPrice": 59000}),
            ("market", "sell", 0.01, None, {"takeProfitPrice": 62000}),
            ("limit", "buy", 0.01, 59000, {"stopLoss": {"triggerPrice": 58000}, "takeProfit": {"triggerPrice": 62000}}),
        ],
    )
    def test_it_creates_an_order_of_every_kind_on_a_contract(
        self,
        venue: SimulatedBybit,
        whole: Any,
        kind: str,
        side: str,
        amount: float,
        price: float,
        params: dict[str, Any],
    ) -> None:
        whole.set_leverage(5, "BTC/USDT:USDT")
        whole.create_order("BTC/USDT:USDT", "market", "buy", 0.01)
        order = whole.create_order("BTC/USDT:USDT", kind, side, amount, price, params)
        assert order["id"] in {row["orderId"] for row in venue.truth()["orders"]}
        assert whole.fetch_position("BTC/USDT:USDT")["contracts"] > 0

    @pytest.mark.parametrize(
        "name",
        [
            "fetch_ticker",
            "fetch_ohlcv",
            "fetch_mark_ohlcv",
            "fetch_index_ohlcv",
            "fetch_premium_index_ohlcv",
            "fetch_funding_rate",
            "fetch_open_interest",
            "fetch_market_leverage_tiers",
            "fetch_leverage",
            "fetch_position",
            "fetch_trading_fee",
        ],
    )
    def test_it_reads_a_contract(self, whole: Any, name: str) -> None:
        assert getattr(whole, name)("BTC/USDT:USDT")

    def test_it_creates_several_and_cancels_all(self, venue: SimulatedBybit, whole: Any) -> None:
        order = {"symbol": "BTC/USDT", "type": "limit", "side": "buy", "amount": 0.001, "price": 59000}
        assert len(whole.create_orders([order] * 3)) == 3
        assert len(whole.cancel_all_orders("BTC/USDT")) == 3
        assert {row["orderStatus"] for row in venue.truth()["orders"]} == {"Cancelled"}

    def test_it_arms_disconnect_protection(self, whole: Any) -> None:
        assert whole.cancel_all_orders_after(40_000, {"product": "SPOT"})["retCode"] == 0


class TestPybitExamples:
    """The calls of pybit's own examples, on the markets of this venue."""

    def test_over_http(self, venue: SimulatedBybit, pybit_http: Any) -> None:
        assert pybit_http.get_orderbook(category="spot", symbol="BTCUSDT")["retCode"] == 0
        assert pybit_http.get_wallet_balance(accountType="UNIFIED")["retCode"] == 0
        market = {"category": "spot", "symbol": "ETHUSDT", "orderType": "Market"}
        pybit_http.place_order(**market, side="Buy", qty="100")
        pybit_http.place_order(**market, side="Sell", qty="0.1", timeInForce="GTC")
        assert pybit_http.get_open_orders(category="inverse")["result"]["list"] == []
        assert pybit_http.get_instruments_info(category="option")["result"]["list"] == []
        assert len(pybit_http.get_kline(category="spot", symbol="BTCUSDT", interval=60)["result"]["list"]) == 200
        assert pybit_http.cancel_all_orders(category="spot", symbol="ETHUSDT")["result"]["success"] == "1"
        assert pybit_http.get_order_history(category="spot", limit=1000)["retCode"] == 0
        assert [row["orderStatus"] for row in venue.truth()["orders"]] == ["PartiallyFilledCanceled", "Filled"]

    def test_over_http_on_contracts(self, venue: SimulatedBybit, pybit_http: Any) -> None:
        assert pybit_http.get_orderbook(category="linear", symbol="BTCUSDT")["result"]["s"] == "BTCUSDT"
        market = {"category": "linear", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.001"}
        order_id = pybit_http.place_order(**market)["result"]["orderId"]
        (instrument,) = pybit_http.get_instruments_info(category="linear", symbol="BTCUSDT")["result"]["list"]
        assert float(instrument["leverageFilter"]["maxLeverage"]) > 1
        assert len(pybit_http.get_kline(category="linear", symbol="BTCUSDT", interval=60)["result"]["list"]) == 200
        assert pybit_http.get_open_orders(category="linear", symbol="ETHUSDT")["result"]["list"] == []
        assert pybit_http.get_positions(category="linear", symbol="BTCUSDT")["result"]["list"][0]["size"] == "0.001"
        assert [row["orderId"] for row in venue.truth()["orders"]] == [order_id]

    @pytest.mark.parametrize("category", ["spot", "linear"])
    def test_over_the_public_streams(
        self, venue: SimulatedBybit, monkeypatch: pytest.MonkeyPatch, category: str
    ) -> None:
        unified_trading = pytest.importorskip("pybit.unified_trading")
        monkeypatch.setattr(unified_trading, "PUBLIC_WSS", venue.public_ws_url("{CHANNEL_TYPE}"))
        # pybit registers a subscription after sending it, and fails on what arrives sooner.
        for name in ("control_delay", "frame_delay"):
            venue.faults.add(name, delay_ms=30)
        heard: queue.Queue[dict[str, Any]] = queue.Queue()
        socket = unified_trading.WebSocket(testnet=True, channel_type=category, retries=2)
        try:
            socket.orderbook_stream(50, "BTCUSDT", heard.put)
            socket.ticker_stream("BTCUSDT", heard.put)
            socket.kline_stream(1, "BTCUSDT", heard.put)
            topics = {heard.get(timeout=10)["topic"] for _ in range(3)}
        finally:
            socket.exit()
        assert topics == {"orderbook.50.BTCUSDT", "tickers.BTCUSDT", "kline.1.BTCUSDT"}
