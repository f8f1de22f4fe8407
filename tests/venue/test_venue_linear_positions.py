"""Positions of the simulated venue: modes, leverage, margin, funding, liquidation, auto-deleveraging, reports."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from qkt.venue import SimulatedBybit, VirtualClock

if TYPE_CHECKING:
    from .conftest import LinearRest, Stream

HOUR_MS = 3_600_000


def only_usdt(linear: LinearRest, amount: int) -> None:
    """Leave the account with so many USDT and nothing else."""
    for coin in ("BTC", "ETH", "SOL"):
        linear.venue.deposit(coin, "-" + linear.balance(coin)["walletBalance"])
    linear.venue.deposit("USDT", amount - 100_000)


def hedge(linear: LinearRest, symbol: str = "BTCUSDT") -> None:
    answer = linear.post("/v5/position/switch-mode", category="linear", symbol=symbol, mode=3)
    assert answer["retCode"] == 0


class TestModes:
    def test_hedge_mode_holds_both_sides_at_once(self, linear: LinearRest) -> None:
        hedge(linear)
        linear.market("Buy", "0.2", positionIdx=1)
        linear.market("Sell", "0.3", positionIdx=2)
        assert [(row["side"], row["size"]) for row in (linear.position(1), linear.position(2))] == [
            ("Buy", "0.2"),
            ("Sell", "0.3"),
        ]

    def test_the_index_must_match_the_mode(self, linear: LinearRest) -> None:
        hedge(linear)
        answer = linear.create()
        assert (answer["retCode"], answer["retMsg"]) == (10001, "position idx not match position mode")

    def test_a_closing_order_of_hedge_mode_never_opens(self, linear: LinearRest) -> None:
        hedge(linear)
        assert linear.market("Sell", positionIdx=1)["retCode"] == 110017
        linear.market("Buy", "0.1", positionIdx=1)
        linear.market("Sell", "0.5", positionIdx=1, orderLinkId="close")
        assert linear.order(orderLinkId="close")["cumExecQty"] == "0.1"
        assert linear.position(1)["size"] == "0"

    def test_switching_is_refused_while_something_stands(self, linear: LinearRest) -> None:
        switch = {"category": "linear", "symbol": "BTCUSDT"}
        assert linear.post("/v5/position/switch-mode", **switch, mode=0)["retCode"] == 110025
        linear.create(orderLinkId="a")
        assert linear.post("/v5/position/switch-mode", **switch, mode=3)["retCode"] == 110028
        linear.venue.fill("a")
        assert linear.post("/v5/position/switch-mode", **switch, mode=3)["retCode"] == 110024

    def test_a_coin_switches_every_symbol_that_is_free(self, linear: LinearRest) -> None:
        linear.create()
        assert linear.post("/v5/position/switch-mode", category="linear", coin="USDT", mode=3)["retCode"] == 0
        assert [len(linear.rows("/v5/position/list", symbol=symbol)) for symbol in ("BTCUSDT", "ETHUSDT")] == [1, 2]

    def test_usdc_contracts_are_one_way_only(self, linear: LinearRest) -> None:
        assert linear.post("/v5/position/switch-mode", category="linear", symbol="BTCPERP", mode=3)["retCode"] == 110029

    def test_leverage_is_set_for_both_sides_and_once(self, linear: LinearRest) -> None:
        assert linear.call("/v5/position/set-leverage", buyLeverage="5", sellLeverage="5")["retCode"] == 0
        assert linear.call("/v5/position/set-leverage", buyLeverage="5", sellLeverage="5")["retCode"] == 110043
        assert linear.call("/v5/position/set-leverage", buyLeverage="5", sellLeverage="6")["retCode"] == 10001
        assert linear.call("/v5/position/set-leverage", buyLeverage="101", sellLeverage="101")["retCode"] == 10001
        assert linear.position()["leverage"] == "5"

    def test_the_sides_of_an_isolated_hedge_may_differ_in_leverage(self, linear: LinearRest) -> None:
        hedge(linear)
        linear.post("/v5/account/set-margin-mode", setMarginMode="ISOLATED_MARGIN")
        assert linear.call("/v5/position/set-leverage", buyLeverage="5", sellLeverage="20")["retCode"] == 0
        assert (linear.position(1)["leverage"], linear.position(2)["leverage"]) == ("5", "20")

    def test_the_margin_mode_is_told_by_the_account(self, linear: LinearRest) -> None:
        answer = linear.post("/v5/account/set-margin-mode", setMarginMode="ISOLATED_MARGIN")
        assert (answer["retCode"], answer["result"]) == (0, {"reasons": []})
        assert linear.get("/v5/account/info")["result"]["marginMode"] == "ISOLATED_MARGIN"
        assert linear.post("/v5/account/set-margin-mode", setMarginMode="ISOLATED_MARGIN")["retCode"] == 110026
        assert linear.post("/v5/account/set-margin-mode", setMarginMode="PORTFOLIO_MARGIN")["retCode"] == 3400045


class TestMargin:
    def test_an_order_and_a_position_claim_margin_in_the_wallet(self, linear: LinearRest) -> None:
        linear.market("Buy", "1")
        linear.create(qty="1", price="58000")
        coin, account = linear.balance("USDT"), linear.account()
        # 60,000 / 10 + fee to close; 58,000 / 10 + both fees
        assert (coin["totalPositionIM"], coin["totalOrderIM"]) == ("6033", "5863.8")
        assert coin["totalPositionMM"] == "333"
        assert account["totalInitialMargin"] == "11896.8"
        spare = Decimal(account["totalMarginBalance"]) - Decimal(account["totalInitialMargin"])
        assert Decimal(account["totalAvailableBalance"]) == spare
        assert account["accountIMRate"] == "0.0103"

    def test_an_order_that_closes_needs_no_margin(self, linear: LinearRest) -> None:
        linear.market("Buy", "1")
        linear.create(side="Sell", qty="1", price="61000")
        assert linear.balance("USDT")["totalOrderIM"] == "0"
        linear.create(side="Sell", qty="1", price="61000")
        assert linear.balance("USDT")["totalOrderIM"] == "6167.1"

    def test_account_wide_sums_are_empty_in_isolated_margin(self, linear: LinearRest) -> None:
        linear.post("/v5/account/set-margin-mode", setMarginMode="ISOLATED_MARGIN")
        linear.market("Buy", "1")
        account = linear.account()
        assert (account["totalAvailableBalance"], account["accountIMRate"]) == ("", "")
        assert linear.balance("USDT")["totalPositionIM"] == "6033.010055"

    def test_margin_in_use_is_not_spendable_on_spot(self, linear: LinearRest) -> None:
        only_usdt(linear, 10_000)
        linear.market("Buy", "1.5")
        assert linear.create(category="spot", qty="0.1", price="59000")["retCode"] == 170131
        assert linear.create(category="spot", qty="0.01", price="59000")["retCode"] == 0

    def test_profit_counts_as_margin_in_cross_mode(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        only_usdt(linear, 10_000)
        linear.market("Buy", "1.5")
        assert linear.create(qty="1", price="59000")["retCode"] == 110007
        venue.set_price("BTCUSDT", "65000", "linear")
        assert linear.create(qty="1", price="64000")["retCode"] == 0


class TestFunding:
    def test_longs_pay_shorts_by_the_mark_price(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.market("Buy", "0.5")
        before = Decimal(linear.balance("USDT")["walletBalance"])
        venue.set_mark_price("BTCUSDT", "60100")
        venue.fund("BTCUSDT", "0.0002")
        row = linear.rows("/v5/execution/list", execType="Funding")[0]
        assert (row["execFee"], row["execQty"], row["execPrice"], row["feeRate"]) == ("6.01", "0.5", "60100", "0.0002")
        assert (row["orderType"], row["orderQty"], row["orderLinkId"]) == ("UNKNOWN", "0", "")
        assert before - Decimal(linear.balance("USDT")["walletBalance"]) == Decimal("6.01")
        log = linear.get("/v5/account/transaction-log", category="linear", type="SETTLEMENT")["result"]["list"]
        assert [(entry["funding"], entry["change"]) for entry in log] == [("-6.01", "-6.01")]

    def test_a_short_receives_what_a_long_pays(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.market("Sell", "0.5")
        venue.fund("BTCUSDT")
        (row,) = linear.rows("/v5/execution/list", execType="Funding")
        assert (row["side"], row["execFee"], row["feeRate"]) == ("Sell", "-3", "-0.0001")

    def test_the_schedule_is_every_eight_hours_of_utc(
        self, linear_rest: Callable[[SimulatedBybit], LinearRest]
    ) -> None:
        clock = VirtualClock(start_ms=1_767_225_600_000 + HOUR_MS)
        with SimulatedBybit(clock=clock, rate_limits=False) as venue:
            linear = linear_rest(venue)
            linear.market("Buy", "0.1")
            clock.advance_ms(6 * HOUR_MS)
            assert linear.rows("/v5/execution/list", execType="Funding") == []
            clock.advance_ms(18 * HOUR_MS)
            assert len(linear.rows("/v5/execution/list", execType="Funding")) == 3
            rates = linear.get("/v5/market/funding/history", category="linear", symbol="BTCUSDT")["result"]["list"]
            stamps = [int(row["fundingRateTimestamp"]) for row in rates]
            assert stamps == [1_767_225_600_000 + hours * HOUR_MS for hours in (24, 16, 8)]

    def test_the_ticker_tells_rate_and_time(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        venue.set_funding_rate("BTCUSDT", "-0.0003")
        (row,) = linear.get("/v5/market/tickers", category="linear", symbol="BTCUSDT")["result"]["list"]
        assert (row["fundingRate"], row["fundingIntervalHour"]) == ("-0.0003", "8")
        assert int(row["nextFundingTime"]) % (8 * HOUR_MS) == 0


class TestLiquidation:
    def test_the_mark_price_liquidates_an_isolated_position(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.post("/v5/account/set-margin-mode", setMarginMode="ISOLATED_MARGIN")
        linear.market("Buy", "1")
        limit = linear.position()["liqPrice"]
        linear.create(orderLinkId="rests")
        venue.set_mark_price("BTCUSDT", str(Decimal(limit) + 10))
        assert linear.position()["size"] == "1"
        venue.set_mark_price("BTCUSDT", limit)
        assert linear.position()["size"] == "0"
        assert linear.order(orderLinkId="rests")["cancelType"] == "CancelAllBeforeLiq"
        bust = linear.rows("/v5/execution/list", execType="BustTrade")[0]
        assert bust["createType"] == "CreateByTakeOver_PassThrough"
        assert Decimal(bust["execPrice"]) < Decimal(limit)
        # what is lost is the margin of the position, and no more than that
        lost = 100_000 - Decimal(linear.balance("USDT")["walletBalance"])
        assert Decimal(6000) < lost < Decimal(6100)

    def test_an_isolated_short_is_liquidated_above_its_entry(self, linear: LinearRest) -> None:
        linear.post("/v5/account/set-margin-mode", setMarginMode="ISOLATED_MARGIN")
        linear.market("Sell", "1")
        held = linear.position()
        assert Decimal(held["liqPrice"]) > Decimal(held["avgPrice"])

    def test_a_cross_account_loses_its_position_when_maintenance_is_not_covered(
        self, linear: LinearRest, venue: SimulatedBybit
    ) -> None:
        only_usdt(linear, 7_000)
        linear.market("Buy", "1")
        limit = Decimal(linear.position()["liqPrice"])
        venue.set_price("BTCUSDT", limit + 5, "linear")
        assert linear.position()["size"] == "1"
        venue.set_price("BTCUSDT", limit - 5, "linear")
        assert linear.position()["size"] == "0"
        assert linear.rows("/v5/position/closed-pnl")[0]["execType"] == "BustTrade"
        assert venue.total("USDT") == 7_000

    def test_a_gap_through_the_bankruptcy_price_costs_no_more_than_the_account(
        self, linear: LinearRest, venue: SimulatedBybit
    ) -> None:
        only_usdt(linear, 7_000)
        linear.market("Buy", "1")
        venue.set_price("BTCUSDT", "40000", "linear")
        assert 0 <= Decimal(linear.balance("USDT")["walletBalance"]) < 1
        assert venue.total("USDT") == 7_000

    def test_winners_are_deleveraged_when_the_fund_cannot_pay(
        self, linear: LinearRest, venue: SimulatedBybit, linear_rest: Callable[..., LinearRest]
    ) -> None:
        only_usdt(linear, 7_000)
        venue.add_account("winner", "secret", {"USDT": 100_000})
        winner = linear_rest(venue, "winner")
        winner.market("Sell", "0.4")
        linear.market("Buy", "1")
        venue.set_price("BTCUSDT", "50000", "linear")
        (row,) = winner.rows("/v5/execution/list", execType="AdlTrade")
        assert (row["execQty"], row["createType"], row["side"]) == ("0.4", "CreateByAdl_PassThrough", "Buy")
        assert winner.position()["size"] == "0"
        assert venue.total("USDT") == 107_000

    def test_liquidation_on_demand_tells_status_and_orders(
        self, linear: LinearRest, venue: SimulatedBybit, connect: Callable[..., Stream]
    ) -> None:
        linear.market("Sell", "0.2")
        stream = connect("position.linear")
        venue.liquidate("BTCUSDT")
        seen = stream.next("position.linear")["data"]
        assert [(row["positionStatus"], row["size"]) for row in seen] == [("Liq", "0.2"), ("Normal", "0")]

    def test_deleveraging_on_demand_takes_a_part(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.market("Buy", "0.5")
        row = venue.adl("BTCUSDT", "0.2", price="60500")
        assert (row["createType"], row["side"], row["orderStatus"]) == ("CreateByAdl_PassThrough", "Sell", "Filled")
        assert linear.position()["size"] == "0.3"
        with pytest.raises(ValueError, match="cannot deleverage"):
            venue.adl("BTCUSDT", "1")


class TestReports:
    def test_position_list_needs_symbol_or_settle_coin(self, linear: LinearRest) -> None:
        assert linear.get("/v5/position/list", category="linear")["retCode"] == 10001
        (flat,) = linear.rows("/v5/position/list", symbol="BTCUSDT")
        assert (flat["size"], flat["side"], flat["seq"]) == ("0", "", -1)
        assert linear.rows("/v5/position/list", settleCoin="USDT") == []
        linear.market("Buy")
        assert [row["symbol"] for row in linear.rows("/v5/position/list", settleCoin="USDT")] == ["BTCUSDT"]

    def test_closed_profit_is_after_both_fees(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.create(orderLinkId="a", qty="0.2", price="60500")
        venue.set_price("BTCUSDT", "61000", "linear")
        linear.market("Sell", "0.1", orderLinkId="out")
        (row,) = linear.rows("/v5/position/closed-pnl", symbol="BTCUSDT")
        gain = (Decimal(row["avgExitPrice"]) - Decimal(row["avgEntryPrice"])) * Decimal("0.1")
        fees = Decimal(row["openFee"]) + Decimal(row["closeFee"])
        assert (row["closedSize"], row["side"], row["fillCount"]) == ("0.1", "Sell", "1")
        assert Decimal(row["closedPnl"]) == round(gain - fees, 8)
        assert round(Decimal(linear.order(orderLinkId="out")["closedPnl"]), 8) == Decimal(row["closedPnl"])

    def test_the_log_adds_up_to_the_wallet(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        linear.market("Buy", "0.3")
        venue.fund("BTCUSDT")
        linear.create(category="spot", qty="0.01", price="60500")
        linear.market("Sell", "0.3")
        rows: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = linear.get("/v5/account/transaction-log", accountType="UNIFIED", limit=2, cursor=cursor)["result"]
            if not page["list"]:
                break
            rows += page["list"]
            cursor = page["nextPageCursor"]
        changes = [Decimal(row["change"]) for row in rows if row["currency"] == "USDT"]
        assert sum(changes) == Decimal(linear.balance("USDT")["walletBalance"])
        assert {row["type"] for row in rows} == {"TRANSFER_IN", "TRADE", "SETTLEMENT"}

    def test_instruments_of_contracts_come_in_pages(self, linear: LinearRest) -> None:
        query = "category=linear&limit=3"
        first = linear.get_raw("/v5/market/instruments-info", query).json()["result"]
        rest = linear.get_raw("/v5/market/instruments-info", f"{query}&cursor={first['nextPageCursor']}").json()[
            "result"
        ]
        symbols = [row["symbol"] for row in first["list"] + rest["list"]]
        assert symbols == ["BTCPERP", "BTCUSDT", "ETHUSDT", "SOLUSDT"]
        assert rest["nextPageCursor"] == ""
        perp = first["list"][0]
        assert (perp["quoteCoin"], perp["settleCoin"], perp["contractType"]) == ("USD", "USDC", "LinearPerpetual")

    def test_a_usdc_contract_settles_in_usdc(self, linear: LinearRest, venue: SimulatedBybit) -> None:
        venue.deposit("USDC", 10_000)
        linear.market("Buy", "0.1", symbol="BTCPERP")
        venue.set_price("BTCPERP", "61000")
        linear.market("Sell", "0.1", symbol="BTCPERP")
        assert Decimal(linear.balance("USDC")["walletBalance"]) > 10_080
        assert linear.balance("USDT")["walletBalance"] == "100000"

    def test_frames_of_position_order_execution_and_wallet_follow_a_fill(
        self, linear: LinearRest, venue: SimulatedBybit, connect: Callable[..., Stream]
    ) -> None:
        stream = connect("order.linear", "execution.linear", "position.linear", "wallet")
        linear.market("Buy", orderLinkId="m")
        frames = {frame["topic"]: frame for frame in (stream.receive() for _ in range(4))}
        assert set(frames) == {"order.linear", "execution.linear", "position.linear", "wallet"}
        assert frames["order.linear"]["id"] == frames["execution.linear"]["id"]
        (position,) = frames["position.linear"]["data"]
        assert (position["entryPrice"], position["size"], position["category"]) == ("60000.1", "0.1", "linear")
        assert "avgPrice" not in position
        (coin,) = frames["wallet"]["data"][0]["coin"]
        assert coin["coin"] == "USDT"
