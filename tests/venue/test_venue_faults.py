"""Every fault strikes as its page says; and a fault strikes when, and only as often as, it was told to."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import requests
import websocket

from qkt.venue import KINDS, SimulatedBybit, VirtualClock

CREATE = "/v5/order/create"
LOST = (requests.exceptions.RequestException,)
STREAM_LOST = (websocket.WebSocketException, ConnectionError)


def links(rows: Any) -> list[Any]:
    return [row["orderLinkId"] for row in rows]


# -- TCP ---------------------------------------------------------------------------------------------------------


def case_connection_refused(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    fault = venue.faults.add("connection_refused")
    with pytest.raises(requests.exceptions.ConnectionError):
        rest.create()
    with pytest.raises(STREAM_LOST):
        stream.receive()
    fault.remove()
    assert rest.create()["retCode"] == 0


def case_connection_reset_before_request(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("connection_reset_before_request", path=CREATE, count=1)
    with pytest.raises(requests.exceptions.ConnectionError):
        rest.create(orderLinkId="a")
    assert venue.truth()["orders"] == []


def case_connection_reset_after_request(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("connection_reset_after_request", path=CREATE, count=1)
    with pytest.raises(requests.exceptions.ConnectionError):
        rest.create(orderLinkId="a")
    assert links(venue.truth()["orders"]) == ["a"]


def case_half_open(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("half_open", path=CREATE)
    rest.timeout_s = 0.1
    with pytest.raises(requests.exceptions.ReadTimeout):
        rest.create()
    assert venue.truth()["orders"] == []
    assert rest.rows("/v5/order/realtime") == []


def case_slow_response(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("slow_response", delay_ms=60, count=1)
    began = time.monotonic()
    assert rest.create()["retCode"] == 0
    assert time.monotonic() - began >= 0.06


def case_slow_request(venue: Any, rest: Any, connect: Any) -> None:
    """The order is placed although the client gave up waiting: the request was merely late."""
    venue.faults.add("slow_request", path=CREATE, delay_ms=200, count=1)
    rest.timeout_s = 0.05
    with pytest.raises(requests.exceptions.ReadTimeout):
        rest.create(orderLinkId="a")
    assert venue.truth()["orders"] == []
    assert venue.wait_for("order placed", orderLinkId="a")


def case_sliced_response(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("sliced_response", bytes=3, pause_ms=0)
    assert rest.create()["retMsg"] == "OK"


def case_cut_response_after_bytes(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("cut_response_after_bytes", path=CREATE, bytes=20, count=1)
    with pytest.raises(LOST):
        rest.create(orderLinkId="a")
    assert links(venue.truth()["orders"]) == ["a"]


def case_stale_keep_alive(venue: Any, rest: Any, connect: Any) -> None:
    """The reply promises nothing about closing, and then the connection is closed."""
    venue.faults.add("stale_keep_alive", count=1)
    with socket.create_connection(("127.0.0.1", venue.port), timeout=10) as raw:
        raw.sendall(b"GET /v5/market/time HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while chunk := raw.recv(4096):
            received += chunk
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert b"onnection: close" not in received


# -- HTTP --------------------------------------------------------------------------------------------------------


def case_request_lost(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("request_lost", path=CREATE, count=1)
    venue.faults.add("request_lost", path=CREATE, count=1, mode="reset", after=1)
    rest.timeout_s = 0.1
    with pytest.raises(requests.exceptions.ReadTimeout):
        rest.create()
    with pytest.raises(requests.exceptions.ConnectionError):
        rest.create()
    assert venue.truth()["orders"] == []


def case_reply_lost(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("reply_lost", path=CREATE, count=1)
    rest.timeout_s = 0.1
    with pytest.raises(requests.exceptions.ReadTimeout):
        rest.create(orderLinkId="a")
    assert rest.create(orderLinkId="a")["retCode"] == 170141
    venue.faults.add("reply_lost", path=CREATE, count=1, mode="reset")
    with pytest.raises(requests.exceptions.ConnectionError):
        rest.create(orderLinkId="b")
    assert links(venue.truth()["orders"]) == ["a", "b"]


def case_http_status(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("http_status", path=CREATE, count=1, status=504)
    answer = rest.post_raw(CREATE, "{}")
    assert (answer.status_code, "504" in answer.text) == (504, True)
    venue.faults.add("http_status", path=CREATE, count=1, accepted=True)
    body = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01"}
    assert rest.post_raw(CREATE, json.dumps({**body, "price": "59000"})).status_code == 502
    assert len(venue.truth()["orders"]) == 1


def case_html_body(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("html_body", count=1)
    answer = rest.get_raw("/v5/order/realtime", "category=spot")
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html")
    assert answer.text.startswith("<html>")


def case_truncated_json(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("truncated_json", path=CREATE, count=1)
    with pytest.raises(requests.exceptions.JSONDecodeError):
        rest.create(orderLinkId="a")
    assert links(venue.truth()["orders"]) == ["a"]


def case_empty_body(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("empty_body", count=1)
    assert rest.get_raw("/v5/order/realtime", "category=spot").content == b""


def case_wrong_content_type(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("wrong_content_type", content_type="text/plain", count=1)
    answer = rest.get_raw("/v5/order/realtime", "category=spot")
    assert answer.headers["Content-Type"] == "text/plain"
    assert answer.json()["retCode"] == 0


def case_ret_code(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("ret_code", path=CREATE, code=10016, count=1)
    assert rest.create(orderLinkId="a")["retCode"] == 10016
    assert venue.truth()["orders"] == []
    venue.faults.add("ret_code", path=CREATE, code=170007, count=1, accepted=True)
    answer = rest.create(orderLinkId="a")
    assert (answer["retCode"], "imeout" in answer["retMsg"]) == (170007, True)
    assert links(venue.truth()["orders"]) == ["a"]


def case_rate_limited(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("rate_limited", count=1, reset_ms=700)
    answer = rest.get_raw("/v5/order/realtime", "category=spot")
    assert answer.json()["retCode"] == 10006
    assert 0 < int(answer.headers["X-Bapi-Limit-Reset-Timestamp"]) - venue.now_ms() <= 700


def case_http_429(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("http_429", count=1)
    assert rest.get_raw("/v5/order/realtime", "category=spot").status_code == 429


def case_ip_ban(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("ip_ban")
    answer = rest.get_raw("/v5/order/realtime", "category=spot")
    assert (answer.status_code, answer.text) == (403, "403, access too frequent")


def case_empty_result(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("empty_result")
    assert rest.get("/v5/order/realtime", category="spot")["result"] == {}


def case_null_result(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("null_result")
    assert rest.get("/v5/order/realtime", category="spot")["result"] is None


def case_missing_list(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("missing_list")
    assert set(rest.get("/v5/order/realtime", category="spot")["result"]) == {"nextPageCursor", "category"}


def case_malformed_row(venue: Any, rest: Any, connect: Any) -> None:
    rest.create()
    rest.create()
    venue.faults.add("malformed_row", row=1, field="qty", value="many", count=1)
    venue.faults.add("malformed_row", field="orderId", value=None, count=1)
    first, second = rest.rows("/v5/order/realtime")
    assert (second["qty"], "orderId" in first) == ("many", False)


# -- stream ------------------------------------------------------------------------------------------------------


def case_stream_refused(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("stream_refused", status=503, count=1)
    with pytest.raises(websocket.WebSocketBadStatusException, match="503"):
        connect()
    assert connect().login()["success"]


def case_auth_refused(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("auth_refused", text="not today", count=1)
    stream = connect()
    assert stream.login()["ret_msg"] == "not today"
    with pytest.raises(STREAM_LOST):
        stream.receive()


def case_trade_restarting(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect(url=venue.trade_ws_url)
    stream.login()
    venue.faults.add("trade_restarting", count=1)
    assert stream.ask(op="order.create", reqId="r1")["retCode"] == 10019


def case_topic_refused(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("topic_refused", topic="execution")
    stream = connect()
    stream.login()
    assert stream.subscribe("order")["success"] is True
    answer = stream.subscribe("execution", "wallet")
    assert (answer["success"], "execution" in answer["ret_msg"]) == (False, True)


def case_subscribe_ack_lost(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("subscribe_ack_lost", count=1)
    stream = connect()
    stream.login()
    stream.send(op="subscribe", args=["order"])
    assert stream.quiet()
    rest.create()
    assert stream.quiet()


def case_control_delay(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("control_delay", delay_ms=300, count=1)
    stream.send(op="ping")
    rest.create()
    assert stream.receive()["topic"] == "order"
    assert stream.receive()["op"] == "pong"


def case_stream_cut(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("stream_cut", topic="order", count=1)
    rest.create()
    with pytest.raises(STREAM_LOST):
        stream.receive()


def case_stream_half_open(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("stream_half_open", count=1)
    stream.send(op="ping")
    rest.create()
    assert stream.quiet()
    stream.socket.ping()
    assert stream.quiet()


def case_stream_mute(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("stream_mute")
    rest.create()
    assert stream.quiet()
    assert stream.ask(op="ping")["op"] == "pong"


def case_missing_pong(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("missing_pong", count=1)
    stream.send(op="ping")
    assert stream.quiet()
    assert stream.ask(op="ping")["op"] == "pong"


def case_frame_drop(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order", "wallet")
    venue.faults.add("frame_drop", topic="order", count=1)
    rest.create()
    assert stream.receive()["topic"] == "wallet"


def case_frame_duplicate(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("frame_duplicate", times=3, count=1)
    rest.create()
    assert stream.receive() == stream.receive() == stream.receive()
    assert stream.quiet()


def case_frame_reorder(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("frame_reorder", topic="order", count=1)
    rest.create(orderLinkId="a")
    rest.create(orderLinkId="b")
    assert [stream.receive()["data"][0]["orderLinkId"] for _ in range(2)] == ["b", "a"]


def case_topic_reorder(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order", "execution", "wallet")
    venue.faults.add("topic_reorder", topic="execution", count=1)
    rest.create(price="60500")
    assert [stream.receive()["topic"] for _ in range(3)] == ["order", "execution", "wallet"]


def case_frame_delay(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("frame_delay", delay_ms=300, count=1)
    rest.create(orderLinkId="a")
    rest.create(orderLinkId="b")
    assert [stream.receive()["data"][0]["orderLinkId"] for _ in range(2)] == ["b", "a"]


def case_frame_split(venue: Any, rest: Any, connect: Any) -> None:
    venue.deposit("USDT", 10_000_000)
    stream = connect("execution")
    venue.faults.add("frame_split")
    rest.create(orderType="Market", price=None, qty="12", marketUnit="baseCoin")
    frames = [stream.receive() for _ in range(3)]
    assert [len(frame["data"]) for frame in frames] == [1, 1, 1]
    assert len({frame["id"] for frame in frames}) == 1


def case_frame_merge(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("frame_merge", count=1)
    rest.create(orderLinkId="a")
    rest.create(orderLinkId="b")
    assert links(stream.receive()["data"]) == ["a", "b"]


def case_frames_before_ack(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("frames_before_ack", path=CREATE, delay_ms=300)
    began = time.monotonic()
    answered: list[float] = []
    thread = threading.Thread(target=lambda: (rest.create(), answered.append(time.monotonic())))  # type: ignore[func-returns-value]
    thread.start()
    stream.receive()
    assert not answered
    thread.join()
    assert answered[0] - began >= 0.3


def case_close_mid_frame(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("close_mid_frame", count=1)
    rest.create()
    with pytest.raises(STREAM_LOST):
        stream.receive()


def case_invalid_utf8(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("invalid_utf8", count=1)
    rest.create()
    with pytest.raises((websocket.WebSocketPayloadException, UnicodeDecodeError)):
        stream.receive()


def case_truncated_frame(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("truncated_frame", count=1)
    rest.create()
    with pytest.raises(json.JSONDecodeError):
        stream.receive()


def case_unknown_field(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("unknown_field", field="mood")
    rest.create()
    assert stream.receive()["data"][0]["mood"] == {"nested": ["value"]}


def case_unknown_status(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("unknown_status", status="Pondering")
    rest.create()
    assert stream.receive()["data"][0]["orderStatus"] == "Pondering"


def case_blank_link_id(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("execution")
    venue.faults.add("blank_link_id", topic="execution")
    rest.create(price="60500", orderLinkId="a")
    assert stream.receive()["data"][0]["orderLinkId"] == ""


# -- venue -------------------------------------------------------------------------------------------------------


def case_stale_realtime(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("stale_realtime", lag_ms=60_000, count=1)
    rest.create(orderLinkId="a")
    assert rest.rows("/v5/order/realtime", orderLinkId="a") == []
    assert links(rest.rows("/v5/order/realtime", orderLinkId="a")) == ["a"]


def case_history_lag(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("history_lag", count=1)
    rest.create(price="60500")
    assert rest.rows("/v5/order/history") == []
    assert len(rest.rows("/v5/order/history")) == 1


def case_execution_lag(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("execution_lag", count=1)
    rest.create(price="60500")
    assert rest.rows("/v5/execution/list") == []
    assert len(rest.rows("/v5/execution/list")) == 1


def case_stale_wallet(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("stale_wallet")
    before = rest.balance("USDT")
    rest.create()
    assert rest.balance("USDT") == before
    venue.faults.clear()
    assert rest.balance("USDT") != before


def case_page_shift(venue: Any, rest: Any, connect: Any) -> None:
    for number in range(4):
        rest.create(orderLinkId=f"o{number}")
    venue.faults.add("page_shift")
    first = rest.get("/v5/order/realtime", category="spot", limit=2)["result"]
    rest.create(orderLinkId="new")
    second = rest.rows("/v5/order/realtime", limit=2, cursor=first["nextPageCursor"])
    assert (links(first["list"]), links(second)) == (["o3", "o2"], ["o2", "o1"])


def case_missing_row(venue: Any, rest: Any, connect: Any) -> None:
    rest.create(orderLinkId="a")
    rest.create(orderLinkId="b")
    venue.faults.add("missing_row", row=1, path="/v5/order/*")
    assert links(rest.rows("/v5/order/realtime")) == ["b"]
    venue.faults.clear()
    venue.faults.add("missing_row", field="orderLinkId", value="b")
    assert links(rest.rows("/v5/order/realtime")) == ["a"]


def case_hidden_conditionals(venue: Any, rest: Any, connect: Any) -> None:
    rest.create(orderLinkId="plain")
    rest.create(orderLinkId="stop", triggerPrice="58000", price="58000", orderFilter="StopOrder")
    venue.faults.add("hidden_conditionals")
    assert links(rest.rows("/v5/order/realtime")) == ["plain"]
    assert links(rest.rows("/v5/order/realtime", orderFilter="StopOrder")) == ["stop"]
    assert links(rest.rows("/v5/order/realtime", orderLinkId="stop")) == ["stop"]


def case_expired_history(venue: Any, rest: Any, connect: Any) -> None:
    rest.create(price="60500", orderLinkId="a")
    fault = venue.faults.add("expired_history", older_than_ms=-1000)
    assert rest.rows("/v5/order/history") == rest.rows("/v5/execution/list", orderLinkId="a") == []
    fault.remove()
    assert links(rest.rows("/v5/order/history")) == ["a"]


def case_cursor_expired(venue: Any, rest: Any, connect: Any) -> None:
    rest.create()
    cursor = rest.get("/v5/order/realtime", category="spot")["result"]["nextPageCursor"]
    fault = venue.faults.add("cursor_expired")
    assert rest.get("/v5/order/realtime", category="spot")["retCode"] == 0
    assert fault.hits == 0
    assert rest.get("/v5/order/realtime", category="spot", cursor=cursor)["retCode"] == 10001


def case_cursor_repeats(venue: Any, rest: Any, connect: Any) -> None:
    for _ in range(3):
        rest.create()
    venue.faults.add("cursor_repeats")
    first = rest.get("/v5/order/realtime", category="spot", limit=1)["result"]["nextPageCursor"]
    second = rest.get("/v5/order/realtime", category="spot", limit=1, cursor=first)["result"]["nextPageCursor"]
    third = rest.get("/v5/order/realtime", category="spot", limit=1, cursor=second)["result"]["nextPageCursor"]
    assert second == third


def case_cache_wiped(venue: Any, rest: Any, connect: Any) -> None:
    rest.create(price="60500", orderLinkId="a")
    venue.faults.add("cache_wiped", count=1)
    assert rest.rows("/v5/order/realtime", orderLinkId="a") == []
    assert links(rest.rows("/v5/order/history", orderLinkId="a")) == ["a"]


def case_fill_wins_cancel(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    rest.create(orderLinkId="a")
    stream.receive()
    venue.faults.add("fill_wins_cancel", count=1)
    assert rest.cancel(orderLinkId="a")["retCode"] == 0
    first, second = stream.receive()["data"][0], stream.receive()["data"][0]
    assert (first["orderStatus"], first["rejectReason"]) == ("Filled", "EC_NoError")
    assert (second["orderStatus"], second["cancelType"]) == ("Filled", "CancelByUser")
    assert second["rejectReason"] == "EC_OrigClOrdIDDoesNotExist"
    rest.create(orderLinkId="b")
    venue.faults.add("fill_wins_cancel", count=1, reply="refuse")
    assert rest.cancel(orderLinkId="b")["retCode"] == 170213


def case_fill_after_cancel_ack(venue: Any, rest: Any, connect: Any) -> None:
    rest.create(orderLinkId="a")
    venue.faults.add("fill_after_cancel_ack", quantity="0.004", delay_ms=300, count=1)
    assert rest.cancel(orderLinkId="a")["retCode"] == 0
    assert rest.order(orderLinkId="a")["orderStatus"] == "New"
    assert venue.wait_idle()
    row = rest.order(orderLinkId="a")
    assert (row["orderStatus"], row["cumExecQty"]) == ("PartiallyFilledCanceled", "0.004")


def case_cancel_ignored(venue: Any, rest: Any, connect: Any) -> None:
    rest.create(orderLinkId="a")
    venue.faults.add("cancel_ignored", count=1)
    assert rest.cancel(orderLinkId="a")["retCode"] == 0
    assert rest.order(orderLinkId="a")["orderStatus"] == "New"


def case_fill_wins_amend(venue: Any, rest: Any, connect: Any) -> None:
    rest.create(orderLinkId="a")
    stream = connect("order")
    venue.faults.add("fill_wins_amend", count=1)
    assert rest.amend(orderLinkId="a", qty="0.02")["retCode"] == 0
    rows = [stream.receive()["data"][0] for _ in range(2)]
    assert [(row["orderStatus"], row["rejectReason"]) for row in rows] == [
        ("Filled", "EC_NoError"),
        ("Filled", "EC_TooLateToCancel"),
    ]
    assert rest.order(orderLinkId="a")["qty"] == "0.010000"


def case_amend_refused_later(venue: Any, rest: Any, connect: Any) -> None:
    rest.create(orderLinkId="a")
    stream = connect("order")
    venue.faults.add("amend_refused_later", count=1)
    assert rest.amend(orderLinkId="a", qty="0.02")["retCode"] == 0
    row = stream.receive()["data"][0]
    assert (row["orderStatus"], row["qty"]) == ("New", "0.010000")
    assert row["rejectReason"] == "EC_OrigClOrdIDDoesNotExist"
    assert rest.order(orderLinkId="a")["rejectReason"] == "EC_NoError"


def case_reject_after_ack(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("reject_after_ack", reason="EC_InvalidSymbolStatus", count=1)
    assert rest.create(orderLinkId="a", price="60500")["retCode"] == 0
    row = rest.order(orderLinkId="a")
    assert (row["orderStatus"], row["rejectReason"]) == ("Rejected", "EC_InvalidSymbolStatus")
    assert rest.balance("USDT")["locked"] == "0"


def case_outside_fill(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("outside_fill", quantity="0.004", delay_ms=1)
    rest.create(orderLinkId="a")
    assert venue.wait_idle()
    assert rest.order(orderLinkId="a")["cumExecQty"] == "0.004"


def case_outside_order(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("outside_order", delay_ms=1, count=1)
    rest.create(orderLinkId="mine")
    assert venue.wait_idle()
    mine, twin = venue.truth()["orders"]
    assert (mine["outside"], twin["outside"], twin["price"]) == (False, True, mine["price"])
    assert int(twin["orderLinkId"]) == int(twin["orderId"]) + 1


def case_outside_cancel(venue: Any, rest: Any, connect: Any) -> None:
    venue.faults.add("outside_cancel", cancel_type="CancelBySmp", delay_ms=1)
    rest.create(orderLinkId="a")
    assert venue.wait_idle()
    assert rest.order(orderLinkId="a")["cancelType"] == "CancelBySmp"


# -- time --------------------------------------------------------------------------------------------------------


def case_clock_skew(venue: Any, rest: Any, connect: Any) -> None:
    right = venue.now_ms()
    fault = venue.faults.add("clock_skew", ms=8000)
    assert venue.now_ms() - right >= 8000
    assert rest.get_raw("/v5/order/realtime", "category=spot", timestamp=str(right)).json()["retCode"] == 10002
    fault.remove()
    assert rest.get("/v5/order/realtime", category="spot")["retCode"] == 0
    venue.faults.add("clock_skew", ms=-8000)
    stamp = str(venue.now_ms() + 8000)
    assert rest.get_raw("/v5/order/realtime", "category=spot", timestamp=stamp).json()["retCode"] == 10002


def case_clock_jump(venue: Any, rest: Any, connect: Any) -> None:
    fault = venue.faults.add("clock_jump", ms=-60_000, after=1, count=1)
    before = rest.get("/v5/market/time")["time"]
    after = rest.get("/v5/market/time")["time"]
    assert before - after > 55_000
    fault.remove()
    assert rest.get("/v5/market/time")["time"] > before - 1000


CASES: dict[str, Callable[..., None]] = {
    name.removeprefix("case_"): value for name, value in list(globals().items()) if name.startswith("case_")
}


def test_every_fault_of_the_catalogue_has_a_case_here() -> None:
    assert set(CASES) == set(KINDS)
    assert len(KINDS) >= 40


@pytest.mark.parametrize("name", sorted(KINDS))
def test_fault(name: Any, venue: Any, rest: Any, connect: Any) -> None:
    struck: list[str] = []
    venue.journal.listen(lambda entry: struck.append(entry["fault"]) if entry["event"] == "fault" else None)
    CASES[name](venue, rest, connect)
    if KINDS[name].where not in ("listen", "clock"):
        assert name in struck


# -- when a fault strikes ----------------------------------------------------------------------------------------


def test_count_after_and_hits(venue: Any, rest: Any) -> None:
    fault = venue.faults.add("ret_code", code=10016, path="/v5/order/realtime", after=1, count=2)
    codes = [rest.get("/v5/order/realtime", category="spot")["retCode"] for _ in range(5)]
    assert codes == [0, 10016, 10016, 0, 0]
    assert (fault.hits, venue.faults.active) == (2, [])


def test_filters_by_path_and_symbol(venue: Any, rest: Any) -> None:
    venue.faults.add("http_429", symbol="ETHUSDT")
    venue.faults.add("ret_code", code=10000, path="/v5/account/*")
    assert rest.create()["retCode"] == 0
    assert rest.get_raw("/v5/order/realtime", "category=spot&symbol=ETHUSDT").status_code == 429
    assert rest.get("/v5/account/info")["retCode"] == 10000


def test_a_topic_filter_means_the_topic_in_all_its_variants_but_not_its_fast_cousin(
    venue: Any, rest: Any, connect: Any
) -> None:
    stream = connect("execution.spot", "execution.fast", "order")
    venue.faults.add("frame_drop", topic="execution")
    rest.create(price="60500")
    assert [stream.receive()["topic"] for _ in range(2)] == ["execution.fast", "order"]


def test_probability_is_decided_by_the_seed() -> None:
    def hits(seed: Any) -> list[Any]:
        venue = SimulatedBybit(seed=seed)
        venue.faults.add("frame_drop", probability=0.5)
        return [bool(venue.faults.take("frame", topic="order")) for _ in range(64)]

    assert hits(1) == hits(1) != hits(2)
    assert 16 < sum(hits(1)) < 48


def test_a_window_opens_and_closes_by_the_venues_clock() -> None:
    clock = VirtualClock(1_000_000)
    venue = SimulatedBybit(clock=clock)
    venue.faults.add("frame_drop", start_ms=1000, window_ms=500)
    strikes = []
    for _ in range(4):
        strikes.append(bool(venue.faults.take("frame", topic="order")))
        clock.advance_ms(500)
    assert strikes == [False, False, True, False]


def until_connected(call: Any, timeout_s: float = 10.0) -> Any:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return call()
        except requests.exceptions.ConnectionError:
            assert time.monotonic() < deadline


def test_a_refusal_to_listen_ends_with_its_window(new_rest: Any) -> None:
    clock = VirtualClock(1_767_225_600_000)
    with SimulatedBybit(clock=clock) as venue:
        rest = new_rest(venue)
        venue.faults.add("connection_refused", window_ms=1000)
        with pytest.raises(requests.exceptions.ConnectionError):
            rest.create()
        clock.advance_ms(1000)
        assert until_connected(rest.create)["retCode"] == 0


def test_faults_compose(venue: Any, rest: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("unknown_field")
    venue.faults.add("blank_link_id")
    venue.faults.add("frame_duplicate", count=1)
    rest.create(orderLinkId="a")
    first, second = stream.receive(), stream.receive()
    assert first == second
    assert (first["data"][0]["orderLinkId"], "somethingNew" in first["data"][0]) == ("", True)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("no_such_fault", {}, "no fault is called"),
        ("frame_drop", {"lag_ms": 5}, "has no option lag_ms"),
        ("frame_drop", {"probability": 2}, "probability"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(venue: Any, name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        venue.faults.add(name, **options)


def test_faults_and_truth_over_http(venue: Any, rest: Any) -> None:
    controls = venue.rest_url + "/_venue"
    added = requests.post(controls + "/faults", json={"name": "http_429", "count": 1}, timeout=10).json()
    assert rest.get_raw("/v5/account/info").status_code == 429
    listed = requests.get(controls + "/faults", timeout=10).json()
    assert (listed["faults"], listed["kinds"]) == ([], sorted(KINDS))
    assert requests.delete(f"{controls}/faults/{added['id']}", timeout=10).json() == {"removed": added["id"]}
    assert requests.delete(f"{controls}/faults/{added['id']}", timeout=10).status_code == 400
    assert requests.post(controls + "/faults", json={"name": "nope"}, timeout=10).status_code == 400
    placed = requests.post(
        controls + "/place",
        json={"symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59000"},
        timeout=10,
    ).json()
    requests.post(controls + "/fill", json={"orderId": placed["orderId"], "quantity": "0.004"}, timeout=10)
    requests.post(controls + "/price", json={"symbol": "BTCUSDT", "price": "58999"}, timeout=10)
    truth = requests.get(controls + "/truth?account=key", timeout=10).json()
    assert [order["orderStatus"] for order in truth["orders"]] == ["Filled"]
    assert len(truth["executions"]) == 2
    assert truth == venue.truth("key")
    for path in ("/restart", "/cut"):
        assert requests.post(controls + path, json={}, timeout=10).status_code == 200
    assert requests.post(controls + "/fill", json={"orderId": "nope"}, timeout=10).status_code == 400
    assert requests.get(controls + "/nowhere", timeout=10).status_code == 404
    assert requests.get(controls, timeout=10).json()["rest_url"] == venue.rest_url


def test_a_refusal_armed_over_http_is_answered_and_ends_by_itself(venue: Any, rest: Any) -> None:
    body = {"name": "connection_refused", "window_ms": 100}
    assert requests.post(venue.rest_url + "/_venue/faults", json=body, timeout=10).status_code == 200
    assert until_connected(rest.create)["retCode"] == 0
    assert venue.faults.all[0].hits == 1
