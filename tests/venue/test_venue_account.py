"""Wallet, fees, account and instrument data (docs v5/account, v5/market)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from qkt.venue import SimulatedBybit


def test_the_wallet_lists_coins_with_assets_and_any_coin_by_name(rest: Any, venue: Any) -> None:
    venue.deposit("SOL", -1000)
    (account,) = rest.get("/v5/account/wallet-balance", accountType="UNIFIED")["result"]["list"]
    assert account["accountType"] == "UNIFIED"
    assert {coin["coin"] for coin in account["coin"]} == {"USDT", "BTC", "ETH"}
    assert rest.balance("SOL")["walletBalance"] == "0"
    assert rest.balance("DOGE")["walletBalance"] == "0"
    assert [coin["availableToWithdraw"] for coin in account["coin"]] == ["", "", ""]


def test_the_wallet_is_worth_what_its_coins_are(rest: Any, venue: Any) -> None:
    """100,000 USDT + 10 BTC at 60,000 + 100 ETH at 3,000 + 1,000 SOL at 150."""
    (account,) = rest.get("/v5/account/wallet-balance", accountType="UNIFIED")["result"]["list"]
    assert account["totalEquity"] == account["totalWalletBalance"] == "1150000"
    rest.create(qty="1")
    (account,) = rest.get("/v5/account/wallet-balance", accountType="UNIFIED")["result"]["list"]
    assert (account["totalEquity"], account["totalAvailableBalance"]) == ("1150000", "1091000")


def test_locks_follow_the_orders(rest: Any, venue: Any) -> None:
    rest.create(side="Sell", price="61000", qty="2", orderLinkId="a")
    rest.create(side="Sell", price="61000", qty="3", orderLinkId="b")
    assert rest.balance("BTC")["locked"] == "5"
    venue.fill("a", "0.5")
    assert rest.balance("BTC")["locked"] == "4.5"
    rest.cancel(orderLinkId="a")
    assert rest.balance("BTC")["locked"] == "3"
    assert rest.balance("BTC")["walletBalance"] == "9.5"


def test_what_is_locked_cannot_be_spent_twice(rest: Any) -> None:
    assert rest.create(qty="1")["retCode"] == 0
    assert rest.create(qty="1")["retCode"] == 170131


def test_fee_rates_are_the_accounts_own(venue: Any, new_rest: Any) -> None:
    venue.add_account("vip", "v", {}, taker_fee_rate="0.0005", maker_fee_rate="-0.0001")
    answer = new_rest(venue, "vip", "v").get("/v5/account/fee-rate", category="spot", symbol="BTCUSDT")["result"]
    assert answer == {
        "category": "spot",
        "list": [{"symbol": "BTCUSDT", "takerFeeRate": "0.0005", "makerFeeRate": "-0.0001"}],
    }


def test_the_account_is_a_unified_one_with_spot_permission(rest: Any) -> None:
    assert rest.get("/v5/account/info")["result"]["unifiedMarginStatus"] == 5
    key = rest.get("/v5/user/query-api")["result"]
    assert (key["apiKey"], key["readOnly"], key["permissions"]["Spot"], key["uta"]) == ("key", 0, ["SpotTrade"], 1)


def test_what_one_could_trade(rest: Any) -> None:
    bought = rest.get("/v5/order/spot-borrow-check", category="spot", symbol="BTCUSDT", side="Buy")["result"]
    assert (bought["spotMaxTradeAmount"], bought["spotMaxTradeQty"]) == ("100000", "1.6667")
    sold = rest.get("/v5/order/spot-borrow-check", category="spot", symbol="BTCUSDT", side="Sell")["result"]
    assert sold["spotMaxTradeQty"] == "10"


def test_instruments_tell_their_steps(rest: Any) -> None:
    answer = rest.get("/v5/market/instruments-info", category="spot")["result"]
    assert [row["symbol"] for row in answer["list"]] == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert "nextPageCursor" not in answer
    row = answer["list"][0]
    assert (row["priceFilter"]["tickSize"], row["lotSizeFilter"]["basePrecision"]) == ("0.1", "0.000001")
    assert (row["baseCoin"], row["quoteCoin"], row["status"]) == ("BTC", "USDT", "Trading")
    assert rest.get("/v5/account/instruments-info", category="spot")["result"] == answer


def test_a_ticker_follows_the_price(rest: Any, venue: Any) -> None:
    venue.set_price("BTCUSDT", "61000")
    (row,) = rest.rows("/v5/market/tickers", symbol="BTCUSDT")
    assert (row["lastPrice"], row["bid1Price"], row["ask1Price"]) == ("61000.0", "60999.9", "61000.1")
    assert (row["prevPrice24h"], row["price24hPcnt"], row["highPrice24h"]) == ("60000.0", "0.0167", "61000.0")
    assert row["usdIndexPrice"] == "61000"


def test_any_pair_can_be_traded_by_name(new_rest: Any) -> None:
    with SimulatedBybit(symbols=("PEPEUSDC",), balances={"USDC": 1000}) as venue:
        rest = new_rest(venue)
        assert rest.create(symbol="PEPEUSDC", price="99", qty="1")["retCode"] == 0
        assert venue.last_price("PEPEUSDC") == Decimal(100)


def test_a_batch_beyond_the_limit_fails_for_the_rest_only(new_rest: Any) -> None:
    """docs v5/rate-limit: a batch of n spends n units; the first ones succeed."""
    item = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.001", "price": "59000"}
    with SimulatedBybit(rate_limits=True) as venue:
        venue.limits.uid_limits["/v5/order/create-batch"] = 12
        rest = new_rest(venue)
        first = rest.post("/v5/order/create-batch", category="spot", request=[item] * 10)
        second = rest.post("/v5/order/create-batch", category="spot", request=[item] * 10)
    assert [verdict["code"] for verdict in first["retExtInfo"]["list"]] == [0] * 10
    assert [verdict["code"] for verdict in second["retExtInfo"]["list"]] == [0] * 2 + [10006] * 8
