"""Order entry by WebSocket, `/v5/trade`: shapes, codes, faults (docs websocket/trade/guideline)."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import websocket

from qkt.venue import SimulatedBybit

ORDER = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59000"}
HEADER_KEYS = {"X-Bapi-Limit", "X-Bapi-Limit-Status", "X-Bapi-Limit-Reset-Timestamp", "Traceid", "Timenow"}


def test_the_login_is_answered_in_the_shape_of_the_trade_stream(open_trade: Callable[..., Any]) -> None:
    answer = open_trade(login=False).login()
    assert answer == {"retCode": 0, "retMsg": "OK", "op": "auth", "connId": answer["connId"]}


def test_a_second_login_is_a_repeat(trade: Any) -> None:
    assert trade.login()["retCode"] == 20001


@pytest.mark.parametrize(("secret", "expires_in_ms", "code"), [("wrong", 10_000, 10004), ("secret", -1, 10001)])
def test_a_bad_login_is_refused_and_the_connection_closed(
    open_trade: Callable[..., Any], secret: str, expires_in_ms: int, code: int
) -> None:
    trade = open_trade(login=False)
    assert trade.login("key", secret, expires_in_ms)["retCode"] == code
    assert trade.is_cut()


def test_a_ping_is_answered_with_the_time_as_data(venue: SimulatedBybit, trade: Any) -> None:
    pong = trade.ask(op="ping")
    assert (pong["retCode"], pong["retMsg"], pong["op"]) == (0, "OK", "pong")
    assert abs(int(pong["data"][0]) - venue.now_ms()) < 1000


def test_create_amend_and_cancel_do_what_they_do_over_rest(venue: SimulatedBybit, trade: Any, rest: Any) -> None:
    created = trade.request(reqId="r1", args=[{**ORDER, "orderLinkId": "a"}])
    assert (created["reqId"], created["retCode"], created["retMsg"], created["op"]) == ("r1", 0, "OK", "order.create")
    assert created["data"] == {"orderId": rest.order(orderLinkId="a")["orderId"], "orderLinkId": "a"}
    assert created["retExtInfo"] == {}
    assert set(created["header"]) == HEADER_KEYS
    name = {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "a"}
    assert trade.request("order.amend", args=[{**name, "price": "58000"}])["retCode"] == 0
    assert rest.order(orderLinkId="a")["price"] == "58000.0"
    assert trade.request("order.cancel", args=[name])["data"] == created["data"]
    assert venue.truth()["orders"][0]["orderStatus"] == "Cancelled"


def test_it_trades_contracts_too(venue: SimulatedBybit, trade: Any) -> None:
    contract = {**ORDER, "category": "linear", "orderLinkId": "a"}
    created = trade.request(args=[contract])
    assert (created["retCode"], created["data"]["orderLinkId"]) == (0, "a")
    name = {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "a"}
    assert trade.request("order.amend", args=[{**name, "qty": "0.02"}])["retCode"] == 0
    assert trade.request("order.cancel", args=[name])["retCode"] == 0
    assert trade.request("order.cancel", args=[name])["retCode"] == 110001
    (row,) = venue.truth()["orders"]
    assert (row["category"], row["qty"], row["orderStatus"]) == ("linear", "0.02", "Cancelled")


def test_a_request_without_id_is_answered_without_one(trade: Any) -> None:
    assert "reqId" not in trade.request()


def test_batches_answer_item_by_item(venue: SimulatedBybit, trade: Any) -> None:
    item = {name: value for name, value in ORDER.items() if name != "category"}
    items = [{**item, "orderLinkId": "a"}, {**item, "orderLinkId": "b", "qty": "0"}]
    created = trade.request("order.create-batch", args=[{"category": "spot", "request": items}])
    assert [row["orderLinkId"] for row in created["data"]["list"]] == ["a", "b"]
    assert [verdict["code"] for verdict in created["retExtInfo"]["list"]] == [0, 170136]
    named = {"symbol": "BTCUSDT", "orderLinkId": "a"}
    amended = trade.request("order.amend-batch", args=[{"category": "spot", "request": [{**named, "qty": "0.02"}]}])
    assert amended["retExtInfo"]["list"] == [{"code": 0, "msg": "OK"}]
    cancelled = trade.request("order.cancel-batch", args=[{"category": "spot", "request": [named]}])
    assert cancelled["retExtInfo"]["list"] == [{"code": 0, "msg": "OK"}]
    assert [(row["qty"], row["orderStatus"]) for row in venue.truth()["orders"]] == [("0.020000", "Cancelled")]


def test_a_refusal_has_the_code_of_rest_and_empty_data(trade: Any) -> None:
    answer = trade.request(args=[{**ORDER, "qty": "80"}])
    assert (answer["retCode"], answer["data"], answer["retExtInfo"]) == (170131, {}, {})
    assert set(answer["header"]) == HEADER_KEYS


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ({"op": "order.unknown"}, 10404),
        ({"args": [{**ORDER, "category": "nonsense"}]}, 10404),
        ({"args": [{**ORDER, "category": "inverse"}]}, 10404),
        ({"header": {}}, 10001),
        ({"args": []}, 10001),
        ({"args": [ORDER, ORDER]}, 10001),
        ({"args": [{**ORDER, "qty": {"nested": 1}}]}, 10001),
        ({"reqId": "x" * 37}, 10001),
    ],
)
def test_a_malformed_request_is_refused(venue: SimulatedBybit, trade: Any, message: dict[str, Any], code: int) -> None:
    assert trade.request(**message)["retCode"] == code
    assert venue.truth()["orders"] == []


@pytest.mark.parametrize(
    ("offset_ms", "window", "code"), [(1200, "60000", 10002), (-3000, "2000", 10002), (500, "", 0)]
)
def test_the_timestamp_of_the_header_follows_the_clock_rule(
    venue: SimulatedBybit, trade: Any, offset_ms: int, window: str, code: int
) -> None:
    header = {"X-BAPI-TIMESTAMP": str(venue.now_ms() + offset_ms), "X-BAPI-RECV-WINDOW": window}
    assert trade.request(header=header)["retCode"] == code


def test_a_request_id_must_be_unique(venue: SimulatedBybit, trade: Any) -> None:
    assert [trade.request(reqId="same")["retCode"] for _ in range(2)] == [0, 20006]
    assert len(venue.truth()["orders"]) == 1


def test_a_request_before_the_login_is_refused(venue: SimulatedBybit, open_trade: Callable[..., Any]) -> None:
    assert open_trade(login=False).request()["retCode"] == 10007
    assert venue.truth()["orders"] == []


def test_text_that_is_not_json_is_answered_with_10001(trade: Any) -> None:
    trade.socket.send("{")
    assert trade.receive()["retCode"] == 10001
    trade.socket.send("[" * 50_000)
    assert trade.receive()["retCode"] == 10001


class TestLimits:
    @pytest.fixture
    def limited(self) -> Iterator[SimulatedBybit]:
        with SimulatedBybit(seed=1) as venue:
            yield venue

    def test_the_limit_of_an_endpoint_is_shared_with_rest(
        self, limited: SimulatedBybit, open_trade: Callable[..., Any], new_rest: Callable[..., Any]
    ) -> None:
        trade, rest = open_trade(limited), new_rest(limited)
        limited.limits.uid_limits["/v5/order/create"] = 3
        assert rest.create()["retCode"] == 0
        answers = [trade.request() for _ in range(3)]
        assert [answer["retCode"] for answer in answers] == [0, 0, 10006]
        assert [answer["header"]["X-Bapi-Limit-Status"] for answer in answers] == ["1", "0", "0"]

    def test_too_many_requests_on_one_connection_are_20003(
        self, limited: SimulatedBybit, open_trade: Callable[..., Any]
    ) -> None:
        limited.limits.session_requests = 2
        trade = open_trade(limited)
        assert [trade.request()["retCode"] for _ in range(3)] == [0, 0, 20003]
        assert open_trade(limited).request()["retCode"] == 0

    def test_too_many_connections_of_an_account_are_10003(
        self, limited: SimulatedBybit, open_trade: Callable[..., Any]
    ) -> None:
        limited.limits.trade_sessions = 1
        open_trade(limited)
        assert open_trade(limited, login=False).login()["retCode"] == 10003


class TestFaults:
    """The faults of REST strike here too; `method="WS"` limits one to this stream."""

    def test_a_lost_request_is_not_carried_out(self, venue: SimulatedBybit, trade: Any) -> None:
        venue.faults.add("request_lost", path="/v5/order/create", method="WS", count=1)
        trade.send_request(reqId="r1")
        assert trade.request(reqId="r2")["reqId"] == "r2"
        assert len(venue.truth()["orders"]) == 1

    def test_a_lost_reply_leaves_the_order_standing(self, venue: SimulatedBybit, trade: Any) -> None:
        venue.faults.add("reply_lost", path="/v5/order/create", count=1)
        trade.send_request(reqId="r1")
        assert trade.request(reqId="r2")["reqId"] == "r2"
        assert len(venue.truth()["orders"]) == 2

    def test_the_socket_can_close_with_the_request_outstanding(self, venue: SimulatedBybit, trade: Any) -> None:
        venue.faults.add("connection_reset_after_request", path="/v5/order/create", count=1)
        trade.send_request()
        assert trade.is_cut()
        assert len(venue.truth()["orders"]) == 1

    def test_the_socket_can_close_before_the_request_is_read(self, venue: SimulatedBybit, trade: Any) -> None:
        venue.faults.add("connection_reset_before_request", path="/v5/order/create", count=1)
        trade.send_request()
        assert trade.is_cut()
        assert venue.truth()["orders"] == []

    def test_a_late_request_is_carried_out_though_its_connection_is_gone(
        self, venue: SimulatedBybit, trade: Any
    ) -> None:
        venue.faults.add("slow_request", path="/v5/order/create", delay_ms=60, count=1)
        trade.send_request()
        assert venue.wait_for("fault")
        trade.close()
        assert venue.wait_for("order placed")

    def test_a_slow_reply_is_overtaken_by_the_next(self, venue: SimulatedBybit, trade: Any) -> None:
        venue.faults.add("slow_response", path="/v5/order/create", delay_ms=60, count=1)
        trade.send_request(reqId="slow")
        assert [trade.request(reqId="fast")["reqId"], trade.receive()["reqId"]] == ["fast", "slow"]

    def test_a_half_open_connection_swallows_the_request(self, venue: SimulatedBybit, trade: Any) -> None:
        venue.faults.add("half_open", path="/v5/order/create", count=1)
        trade.send_request()
        assert trade.quiet()
        assert venue.truth()["orders"] == []

    @pytest.mark.parametrize(
        ("name", "options", "code", "orders"),
        [
            ("ret_code", {"code": 10016}, 10016, 0),
            ("ret_code", {"code": 10016, "accepted": True}, 10016, 1),
            ("rate_limited", {}, 10006, 0),
            ("http_429", {}, 10429, 0),
            ("ip_ban", {}, 10403, 0),
            ("http_status", {"status": 502, "accepted": True}, 10016, 1),
        ],
    )
    def test_a_refusal_may_hide_an_order(
        self, venue: SimulatedBybit, trade: Any, name: str, options: dict[str, Any], code: int, orders: int
    ) -> None:
        venue.faults.add(name, path="/v5/order/create", count=1, **options)
        assert trade.request(reqId="r")["retCode"] == code
        assert len(venue.truth()["orders"]) == orders

    def test_a_restarting_service_takes_no_new_request_on_this_connection(
        self, venue: SimulatedBybit, trade: Any, open_trade: Callable[..., Any]
    ) -> None:
        venue.faults.add("slow_response", path="/v5/order/create", delay_ms=40, count=1)
        trade.send_request(reqId="under way")
        venue.wait_for("fault")
        venue.faults.add("trade_restarting", count=1)
        assert [trade.request(reqId=str(number))["retCode"] for number in range(2)] == [10019, 10019]
        assert (trade.receive()["reqId"], open_trade().request()["retCode"]) == ("under way", 0)

    def test_the_faults_of_streams_strike_too(self, venue: SimulatedBybit, open_trade: Callable[..., Any]) -> None:
        venue.faults.add("stream_refused", path="/v5/trade", status=503, count=1)
        with pytest.raises(websocket.WebSocketBadStatusException):
            open_trade(login=False)
        venue.faults.add("auth_refused", path="/v5/trade", text="Params Error", count=1)
        refused = open_trade(login=False)
        assert refused.login()["retCode"] == 10001
        assert refused.is_cut()
        trade = open_trade()
        venue.faults.add("missing_pong", path="/v5/trade", count=1)
        trade.send(op="ping")
        assert trade.ask(op="ping", reqId="second")["reqId"] == "second"
        venue.faults.add("stream_half_open", path="/v5/trade", count=1)
        trade.send(op="ping")
        assert trade.quiet()

    def test_cut_streams_ends_the_connections_of_a_path(self, venue: SimulatedBybit, trade: Any) -> None:
        assert venue.cut_streams(path="/v5/trade") == 1
        assert trade.is_cut()

    def test_a_fault_of_rest_alone_spares_this_stream(self, venue: SimulatedBybit, trade: Any) -> None:
        venue.faults.add("ret_code", method="POST")
        assert trade.request()["retCode"] == 0


def test_pybit_trades_over_its_trading_websocket(venue: SimulatedBybit, monkeypatch: pytest.MonkeyPatch) -> None:
    unified_trading = pytest.importorskip("pybit.unified_trading", reason="extra `peers` is not installed")
    trading = pytest.importorskip("pybit._websocket_trading")
    monkeypatch.setattr(trading, "TRADE_WSS", venue.trade_ws_url)
    # pybit registers the callback after it sent the request, and drops an answer that is faster.
    venue.faults.add("slow_response", method="WS", delay_ms=20)
    answers: queue.Queue[dict[str, Any]] = queue.Queue()
    errors: queue.Queue[dict[str, Any]] = queue.Queue()
    socket = unified_trading.WebSocketTrading(testnet=True, api_key="key", api_secret="secret", retries=2)
    try:
        deadline = time.monotonic() + 10
        while not socket.auth and time.monotonic() < deadline:
            venue.wait_for("trade stream opened", timeout_s=0.05)
        named = {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "p-1"}
        socket.place_order(answers.put, **ORDER, orderLinkId="p-1")
        assert answers.get(timeout=10)["data"]["orderLinkId"] == "p-1"
        socket.amend_order(answers.put, **named, price="58000")
        assert answers.get(timeout=10)["op"] == "order.amend"
        socket.cancel_order(answers.put, **named)
        assert answers.get(timeout=10)["retCode"] == 0
        item = {name: value for name, value in ORDER.items() if name != "category"}
        socket.place_batch_order(answers.put, category="spot", request=[item, {**item, "qty": "0"}])
        batch = answers.get(timeout=10)
        assert [verdict["code"] for verdict in batch["retExtInfo"]["list"]] == [0, 170136]
        socket.cancel_order(answers.put, errors.put, **named)
        assert errors.get(timeout=10)["retCode"] == 170213
    finally:
        socket.exit()
    assert [row["orderStatus"] for row in venue.truth()["orders"]] == ["Cancelled", "New"]
