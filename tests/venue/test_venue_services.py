"""What clients ask for beside orders: system status, disconnect protection, pre-check, coins, transferable amounts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from qkt.venue import SimulatedBybit, VirtualClock


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def stepped(clock: VirtualClock) -> Iterator[SimulatedBybit]:
    with SimulatedBybit(clock=clock, rate_limits=False) as venue:
        yield venue


@pytest.fixture
def desk(stepped: SimulatedBybit, new_rest: Callable[..., Any]) -> Any:
    return new_rest(stepped)


def statuses(venue: SimulatedBybit, **query: str) -> list[dict[str, Any]]:
    answer = requests.get(venue.rest_url + "/v5/system/status", params=query, timeout=10).json()
    return list(answer["result"]["list"])


class TestSystemStatus:
    def test_no_maintenance_is_an_empty_list(self, venue: SimulatedBybit) -> None:
        assert statuses(venue) == []

    def test_a_planned_maintenance_begins_and_ends_by_the_clock(
        self, stepped: SimulatedBybit, clock: VirtualClock
    ) -> None:
        row = stepped.announce_maintenance("Upgrade", begin_in_ms=60_000, duration_ms=30_000, product=[2])
        seen = [statuses(stepped)[0]["state"]]
        for step_ms in (60_000, 30_000):
            clock.advance_ms(step_ms)
            seen.append(statuses(stepped)[0]["state"])
        assert seen == ["scheduled", "ongoing", "completed"]
        assert statuses(stepped, id=row["id"])[0]["product"] == [2]
        assert statuses(stepped, state="ongoing") == []

    def test_a_running_one_may_end_early_and_a_planned_one_be_cancelled(
        self, stepped: SimulatedBybit, clock: VirtualClock
    ) -> None:
        running, planned = stepped.announce_maintenance(), stepped.announce_maintenance(begin_in_ms=60_000)
        clock.advance_ms(1000)
        assert stepped.end_maintenance(running["id"])["state"] == "completed"
        assert stepped.end_maintenance(planned["id"])["state"] == "canceled"
        assert statuses(stepped, id=running["id"])[0]["end"] == str(clock.now_ms())

    def test_what_makes_no_sense_is_refused(self, venue: SimulatedBybit) -> None:
        with pytest.raises(ValueError, match="no field color"):
            venue.announce_maintenance(color="red")
        with pytest.raises(ValueError, match="positive"):
            venue.announce_maintenance(duration_ms=0)
        with pytest.raises(LookupError, match="nope"):
            venue.end_maintenance("nope")

    def test_the_topic_sends_each_change_of_state(
        self, stepped: SimulatedBybit, clock: VirtualClock, connect: Callable[..., Any]
    ) -> None:
        stream = connect(url=stepped.status_ws_url, venue=stepped)
        assert stream.ask(op="subscribe", args=["system.status"])["success"]
        row = stepped.announce_maintenance(begin_in_ms=60_000)
        frame = stream.next("system.status")
        assert (set(frame), frame["data"]) == ({"topic", "ts", "data"}, [row])
        clock.advance_ms(60_000)
        assert stream.next("system.status")["data"] == [{**row, "state": "ongoing"}]

    def test_the_topic_is_on_its_own_path_only(self, venue: SimulatedBybit, connect: Callable[..., Any]) -> None:
        stream = connect(url=venue.public_ws_url(), venue=venue)
        assert not stream.ask(op="subscribe", args=["system.status"])["success"]

    def test_the_controls_announce_it_too(self, venue: SimulatedBybit) -> None:
        controls = venue.rest_url + "/_venue"
        row = requests.post(controls + "/maintenance", json={"title": "Now"}, timeout=10).json()
        assert (row["title"], row["state"]) == ("Now", "ongoing")
        ended = requests.post(controls + "/end-maintenance", json={"id": row["id"]}, timeout=10).json()
        assert ended["state"] == "completed"


class TestDisconnectProtection:
    WINDOW_S = 5

    @pytest.fixture
    def order(self, desk: Any) -> str:
        answer = desk.post("/v5/order/disconnected-cancel-all", product="SPOT", timeWindow=self.WINDOW_S)
        assert (answer["retCode"], answer["result"]) == (0, {})
        return str(desk.create()["result"]["orderId"])

    def open_ids(self, desk: Any) -> list[str]:
        return [row["orderId"] for row in desk.rows("/v5/order/realtime")]

    def protected(self, venue: SimulatedBybit, connect: Callable[..., Any], *, ping: bool = True) -> Any:
        stream = connect("dcp.spot", venue=venue)
        if ping:
            assert stream.ask(op="ping")["op"] == "pong"
        return stream

    def settle(self, venue: SimulatedBybit) -> None:
        """Let the venue look after its watches now."""
        venue._server.call(venue._housekeeping)

    def test_it_is_off_until_a_window_is_set(self, desk: Any) -> None:
        assert desk.get("/v5/account/query-dcp-info")["result"] == {"dcpInfos": []}
        desk.post("/v5/order/disconnected-cancel-all", timeWindow=40)
        assert desk.get("/v5/account/query-dcp-info")["result"]["dcpInfos"] == [
            {"product": "OPTIONS", "dcpStatus": "ON", "timeWindow": "40"}
        ]

    @pytest.mark.parametrize("body", [{}, {"timeWindow": 2}, {"timeWindow": 301}, {"timeWindow": 9, "product": "X"}])
    def test_a_window_out_of_range_is_refused(self, desk: Any, body: dict[str, Any]) -> None:
        assert desk.post("/v5/order/disconnected-cancel-all", **body)["retCode"] == 10001

    def test_it_cancels_after_the_window_when_the_connections_are_dead(
        self, stepped: SimulatedBybit, clock: VirtualClock, desk: Any, order: str, connect: Callable[..., Any]
    ) -> None:
        waiting = desk.create(triggerPrice="62000", price="62000", orderFilter="StopOrder")["result"]["orderId"]
        first, second = self.protected(stepped, connect), self.protected(stepped, connect)
        first.close()
        assert stepped.wait_for("stream closed")
        self.settle(stepped)
        clock.advance_ms(60_000)
        self.settle(stepped)
        assert order in self.open_ids(desk)  # the second connection lives
        second.close()
        assert stepped.wait_for("stream closed", count=2)
        self.settle(stepped)
        clock.advance_ms(self.WINDOW_S * 1000 - 1)
        self.settle(stepped)
        assert order in self.open_ids(desk)
        clock.advance_ms(1)
        self.settle(stepped)
        assert self.open_ids(desk) == [waiting]
        (row,) = [row for row in stepped.truth()["orders"] if row["orderId"] == order]
        assert (row["orderStatus"], row["cancelType"]) == ("Cancelled", "CancelByDCP")

    @pytest.mark.parametrize("ping", [True, False])
    def test_a_new_connection_resets_the_window_once_it_pings(
        self,
        stepped: SimulatedBybit,
        clock: VirtualClock,
        desk: Any,
        order: str,
        connect: Callable[..., Any],
        *,
        ping: bool,
    ) -> None:
        self.protected(stepped, connect)
        self.settle(stepped)
        stepped.cut_streams()
        self.settle(stepped)
        self.protected(stepped, connect, ping=ping)
        self.settle(stepped)
        clock.advance_ms(self.WINDOW_S * 1000)
        self.settle(stepped)
        assert (order in self.open_ids(desk)) is ping

    def test_each_product_has_its_own_topic_and_orders(
        self, stepped: SimulatedBybit, clock: VirtualClock, desk: Any, order: str, connect: Callable[..., Any]
    ) -> None:
        desk.post("/v5/order/disconnected-cancel-all", product="DERIVATIVES", timeWindow=self.WINDOW_S)
        assert desk.create(category="linear", price="59000")["retCode"] == 0
        connect("dcp.future", venue=stepped)
        self.settle(stepped)
        stepped.cut_streams()
        self.settle(stepped)
        clock.advance_ms(self.WINDOW_S * 1000)
        self.settle(stepped)
        assert self.open_ids(desk) == [order]
        (row,) = [row for row in stepped.truth()["orders"] if row["category"] == "linear"]
        assert row["cancelType"] == "CancelByDCP"

    def test_without_the_topic_nothing_is_cancelled(
        self, stepped: SimulatedBybit, clock: VirtualClock, desk: Any, order: str, connect: Callable[..., Any]
    ) -> None:
        connect("order", venue=stepped)
        self.settle(stepped)
        stepped.cut_streams()
        clock.advance_ms(60_000)
        self.settle(stepped)
        assert self.open_ids(desk) == [order]


ORDER = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "1", "price": "59000"}


class TestPreCheck:
    def test_it_places_nothing(self, venue: SimulatedBybit, rest: Any) -> None:
        answer = rest.post("/v5/order/pre-check", **ORDER, orderLinkId="a")
        assert (answer["retCode"], answer["result"]["orderLinkId"]) == (0, "a")
        assert {"preImrE4", "preMmrE4", "postImrE4", "postMmrE4"} < set(answer["result"])
        assert venue.truth()["orders"] == []

    @pytest.mark.parametrize(
        ("changed", "code"), [({"qty": "80"}, 170131), ({"side": "Hold"}, 170117), ({"triggerPrice": "61000"}, 10001)]
    )
    def test_it_refuses_what_a_create_would_refuse(self, rest: Any, changed: dict[str, str], code: int) -> None:
        assert rest.post("/v5/order/pre-check", **{**ORDER, **changed})["retCode"] == code


class TestContractMarketData:
    @pytest.mark.parametrize("kind", ["mark-price", "index-price", "premium-index-price"])
    def test_candles_of_derived_prices_have_no_volume(self, rest: Any, kind: str) -> None:
        rows = rest.get(f"/v5/market/{kind}-kline", symbol="BTCUSDT", interval=60, limit=30)["result"]["list"]
        assert [len(row) for row in rows] == [5] * 30
        assert rest.get(f"/v5/market/{kind}-kline", category="spot", symbol="BTCUSDT", interval=60)["retCode"] == 10001

    def test_open_interest_counts_both_sides_and_one(self, rest: Any) -> None:
        rest.create(category="linear", orderType="Market", qty="0.5", price=None)
        query = {"category": "linear", "symbol": "BTCUSDT", "intervalTime": "1h"}
        (row,) = rest.get("/v5/market/open-interest", **query)["result"]["list"]
        assert float(row["openInterest"]) == 2 * float(row["singleOpenInterest"]) >= 1

    def test_candles_are_of_contracts_when_no_category_is_named(self, rest: Any) -> None:
        assert rest.get("/v5/market/kline", symbol="BTCUSDT", interval=60)["result"]["category"] == "linear"


class TestAssets:
    def test_coins_have_their_precision_and_a_chain(self, rest: Any) -> None:
        rows = rest.get("/v5/asset/coin/query-info")["result"]["rows"]
        assert {"BTC", "ETH", "SOL", "USDT"} <= {row["coin"] for row in rows}
        (row,) = rest.get("/v5/asset/coin/query-info", coin="BTC")["result"]["rows"]
        assert row["chains"][0]["minAccuracy"] == "8"

    def test_what_is_locked_is_not_transferable(self, rest: Any) -> None:
        rest.create(qty="1", price="59000")
        answer = rest.get("/v5/account/withdrawal", coinName="USDT,BTC")["result"]
        assert answer == {
            "availableWithdrawal": "41000",
            "availableWithdrawalMap": {"USDT": "41000", "BTC": "10"},
        }
        assert rest.get("/v5/account/withdrawal")["retCode"] == 10001

    def test_what_is_needed_as_margin_is_not_transferable(self, rest: Any) -> None:
        before = rest.get("/v5/account/withdrawal", coinName="USDT")["result"]["availableWithdrawal"]
        rest.create(category="linear", orderType="Market", qty="1", price=None)
        after = rest.get("/v5/account/withdrawal", coinName="USDT")["result"]["availableWithdrawal"]
        assert 0 <= float(after) <= float(before)

    def test_balances_are_those_of_the_unified_account(self, rest: Any) -> None:
        path = "/v5/asset/transfer/query-account-coins-balance"
        (row,) = rest.get(path, accountType="UNIFIED", coin="BTC")["result"]["balance"]
        assert (row["walletBalance"], row["transferBalance"]) == ("10", "10")
        assert rest.get(path, accountType="FUND")["result"]["balance"] == []
        assert rest.get(path)["retCode"] == 10001

    @pytest.mark.parametrize(
        ("path", "name"), [("deposit/query-record", "rows"), ("transfer/query-inter-transfer-list", "list")]
    )
    def test_movements_are_empty_lists(self, rest: Any, path: str, name: str) -> None:
        assert rest.get(f"/v5/asset/{path}")["result"] == {name: [], "nextPageCursor": ""}


class TestCandleTopic:
    def test_the_open_candle_comes_first_and_then_its_changes(
        self, stepped: SimulatedBybit, clock: VirtualClock, connect: Callable[..., Any]
    ) -> None:
        topic = "kline.1.BTCUSDT"
        stream = connect(url=stepped.public_ws_url(), venue=stepped)
        assert stream.ask(op="subscribe", args=[topic])["success"]
        frame = stream.next(topic)
        (row,) = frame["data"]
        assert (frame["type"], row["start"], row["interval"]) == ("snapshot", clock.now_ms(), "1")
        assert (row["open"], row["close"], row["confirm"]) == ("60000", "60000", False)
        stepped.set_price("BTCUSDT", 60100)
        assert stream.next(topic)["data"][0]["high"] == "60100"
        clock.advance_ms(60_000)
        closed = stream.next(topic)["data"][0]
        assert (closed["start"], closed["end"], closed["confirm"]) == (row["start"], row["start"] + 59_999, True)
        opened = stream.next(topic)["data"][0]
        assert (opened["start"], opened["open"], opened["confirm"]) == (row["start"] + 60_000, "60100", False)

    @pytest.mark.parametrize("topic", ["kline.7.BTCUSDT", "kline.1.NOPE", "kline.BTCUSDT"])
    def test_an_unknown_candle_is_refused(self, venue: SimulatedBybit, connect: Callable[..., Any], topic: str) -> None:
        stream = connect(url=venue.public_ws_url(), venue=venue)
        assert not stream.ask(op="subscribe", args=[topic])["success"]
