"""The streams: login, subscriptions, pings, and the frames that tell what happened (docs websocket)."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from qkt.venue import SimulatedBybit


def test_login_and_subscription_are_acknowledged_in_snake_case(connect: Any) -> None:
    stream = connect()
    ack = stream.login()
    assert (ack["success"], ack["ret_msg"], ack["op"]) == (True, "", "auth")
    assert ack["conn_id"]
    ack = stream.subscribe("order", "execution", "wallet")
    assert (ack["success"], ack["op"], ack["req_id"], ack["ret_msg"]) == (True, "subscribe", "s1", "")


def test_nothing_comes_on_subscribing(rest: Any, connect: Any) -> None:
    rest.create()
    assert connect("order", "execution", "wallet", "position").quiet()


@pytest.mark.parametrize(
    ("key", "secret", "expires_in_ms", "text"),
    [
        ("key", "secret", -1, "Params Error"),
        ("key", "wrong", 10_000, "Error sign"),
        ("nobody", "secret", 10_000, "Invalid api_key"),
    ],
)
def test_a_bad_login_is_refused_and_the_connection_closed(
    connect: Any, key: str, secret: str, expires_in_ms: int, text: str
) -> None:
    stream = connect()
    ack = stream.login(key, secret, expires_in_ms)
    assert ack["success"] is False
    assert text in ack["ret_msg"]
    with pytest.raises(Exception, match=r"(?i)lost|closed|reset"):
        stream.receive()


def test_who_has_not_logged_in_cannot_subscribe(connect: Any) -> None:
    stream = connect()
    assert stream.subscribe("order")["success"] is False


def test_a_ping_is_answered_by_a_pong_with_the_time(connect: Any, venue: Any) -> None:
    stream = connect()
    pong = stream.ask(op="ping", req_id="p1")
    assert (pong["op"], pong["req_id"]) == ("pong", "p1")
    assert abs(int(pong["args"][0]) - venue.now_ms()) < 1000


@pytest.mark.parametrize(
    ("topics", "text"),
    [
        (["order", "no.such.topic"], "error:handler not found,topic:no.such.topic"),
        (["order", "order.spot"], "cannot be subscribed in one request"),
        (["order"] * 11, "args size >10"),
        ([], "Params Error"),
    ],
)
def test_one_bad_topic_fails_the_whole_request(rest: Any, connect: Any, topics: Any, text: str) -> None:
    stream = connect()
    stream.login()
    ack = stream.subscribe(*topics)
    assert ack["success"] is False
    assert text in ack["ret_msg"]
    rest.create()
    assert stream.quiet()


@pytest.mark.parametrize("message", ["not json", "[]", "null", '{"op":5}', '{"op":"auth"}', '{"op":"subscribe"}', "{}"])
def test_nonsense_is_answered_and_survived(connect: Any, message: str) -> None:
    stream = connect()
    stream.socket.send(message)
    assert stream.receive()["success"] is False


def test_a_resting_order_is_told_by_order_and_wallet(rest: Any, connect: Any) -> None:
    stream = connect("order", "execution", "wallet")
    rest.create(orderLinkId="a")
    order = stream.receive()
    assert (order["topic"], order["data"][0]["orderStatus"]) == ("order", "New")
    assert order["data"][0]["category"] == "spot"
    wallet = stream.receive()
    assert wallet["topic"] == "wallet"
    assert [coin["coin"] for coin in wallet["data"][0]["coin"]] == ["USDT"]
    assert stream.quiet()


def test_a_fill_is_told_by_execution_and_order_under_one_id(rest: Any, venue: Any, connect: Any) -> None:
    rest.create(orderLinkId="a")
    stream = connect("order", "execution", "wallet")
    venue.fill("a", "0.004")
    execution, order, wallet = stream.receive(), stream.receive(), stream.receive()
    assert execution["id"] == order["id"] != wallet["id"]
    assert (execution["data"][0]["execQty"], execution["data"][0]["leavesQty"]) == ("0.004", "0.006000")
    assert (order["data"][0]["orderStatus"], order["data"][0]["cumExecQty"]) == ("PartiallyFilled", "0.004")
    assert {coin["coin"] for coin in wallet["data"][0]["coin"]} == {"BTC", "USDT"}


def test_what_ends_at_once_is_told_by_one_final_frame(rest: Any, connect: Any) -> None:
    stream = connect("order")
    rest.create(orderLinkId="m", orderType="Market", price=None, qty="250")
    (row,) = stream.receive()["data"]
    assert row["orderStatus"] == "PartiallyFilledCanceled"
    assert (row["leavesQty"], row["lastPriceOnCreated"]) == ("0.000000", "60000")
    assert stream.quiet()


def test_several_fills_of_one_match_share_a_frame(rest: Any, venue: Any, connect: Any) -> None:
    venue.deposit("USDT", 10_000_000)
    stream = connect("execution")
    rest.create(orderType="Market", price=None, qty="12", marketUnit="baseCoin")
    frame = stream.receive()
    assert len(frame["data"]) == 3
    assert len({row["seq"] for row in frame["data"]}) == 1


def test_a_cancelled_order_leaves_zero_on_the_stream(rest: Any, connect: Any) -> None:
    stream = connect("order")
    rest.create(orderLinkId="a")
    rest.cancel(orderLinkId="a")
    assert stream.receive()["data"][0]["orderStatus"] == "New"
    row = stream.receive()["data"][0]
    assert (row["orderStatus"], row["leavesQty"], row["leavesValue"]) == ("Cancelled", "0.000000", "0")


def test_categorised_topics_carry_their_own_name(rest: Any, connect: Any) -> None:
    stream = connect("order.spot", "execution.fast.spot")
    rest.create(orderLinkId="t", price="60500")
    assert {stream.receive()["topic"] for _ in range(2)} == {"order.spot", "execution.fast.spot"}


def test_fast_executions_have_no_fee_no_envelope_id_and_no_link_id_for_makers(
    rest: Any, venue: Any, connect: Any
) -> None:
    rest.create(orderLinkId="a")
    stream = connect("execution.fast")
    venue.fill("a")
    frame = stream.receive()
    assert "id" not in frame
    assert frame["data"][0]["orderLinkId"] == ""
    assert "execFee" not in frame["data"][0]


def test_another_account_hears_nothing(venue: Any, connect: Any, new_rest: Any) -> None:
    venue.add_account("other", "o", {"USDT": 1000})
    stream = connect("order")
    new_rest(venue, "other", "o").create()
    assert stream.quiet()


def test_unsubscribed_topics_fall_silent(rest: Any, connect: Any) -> None:
    stream = connect("order", "wallet")
    assert stream.ask(op="unsubscribe", args=["order"])["success"]
    rest.create()
    assert stream.receive()["topic"] == "wallet"
    assert stream.quiet()


def test_two_connections_both_hear(rest: Any, connect: Any) -> None:
    one, two = connect("order"), connect("order")
    rest.create(orderLinkId="a")
    assert one.receive() == two.receive()


def test_cut_streams_ends_private_connections_abruptly(venue: Any, connect: Any) -> None:
    stream = connect("order")
    assert venue.cut_streams() == 1
    with pytest.raises(Exception, match=r"(?i)lost|closed|reset"):
        stream.receive()


def test_an_idle_connection_is_cut_after_max_active_time(venue: Any, connect: Any) -> None:
    stream = connect(url=venue.ws_url + "?max_active_time=30s")
    assert stream.login()["success"]
    (session,) = venue._hub.sessions
    assert session.idle_limit_s == 30
    session.idle_limit_s = 0.0  # as if the thirty seconds were over
    with pytest.raises(Exception, match=r"(?i)lost|closed|reset"):
        stream.receive()


def test_no_frame_is_left_behind_however_many_hands_are_at_work(connect: Any) -> None:
    """A frame emitted in the very moment the pump falls asleep once waited for the next one, for ever if none came."""
    with SimulatedBybit(frame_latency_ms=0) as venue:
        stream = connect("order", url=venue.ws_url, venue=venue)

        def hand() -> None:
            for _ in range(150):
                row = venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.001", price="59000")
                venue.cancel(row["orderId"])

        threads = [threading.Thread(target=hand) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert venue.wait_idle(20)
        assert sum(len(stream.receive()["data"]) for _ in range(600)) == 600


# -- public ------------------------------------------------------------------------------------------------------


def test_a_public_subscription_is_acknowledged_with_its_own_words(venue: Any, connect: Any) -> None:
    stream = connect(url=venue.public_ws_url("spot"))
    ack = stream.subscribe("tickers.BTCUSDT")
    assert (ack["success"], ack["ret_msg"], ack["op"]) == (True, "subscribe", "subscribe")
    ticker = stream.receive()
    assert (ticker["topic"], ticker["type"], ticker["data"]["lastPrice"]) == ("tickers.BTCUSDT", "snapshot", "60000.0")


def test_a_public_pong_keeps_op_ping(venue: Any, connect: Any) -> None:
    stream = connect(url=venue.public_ws_url("spot"))
    pong = stream.ask(op="ping")
    assert (pong["op"], pong["ret_msg"], pong["success"]) == ("ping", "pong", True)
    assert "req_id" not in pong
    assert stream.ask(op="ping", req_id="7")["req_id"] == "7"


@pytest.mark.parametrize(
    ("topics", "text"),
    [
        (["tickers.NOPEUSDT"], "tickers.NOPEUSDT"),
        (["orderbook.500.BTCUSDT"], "handler"),
        (["tickers.BTCUSDT"] * 11, ">10"),
    ],
)
def test_bad_public_topics_fail_the_whole_request(venue: Any, connect: Any, topics: Any, text: str) -> None:
    ack = connect(url=venue.public_ws_url("spot")).subscribe(*topics)
    assert ack["success"] is False
    assert text in ack["ret_msg"]


def test_the_book_is_a_snapshot_and_then_differences_that_lead_to_the_same_book(
    rest: Any, venue: Any, connect: Any
) -> None:
    stream = connect(url=venue.public_ws_url("spot"))
    stream.subscribe("orderbook.50.BTCUSDT")
    snapshot = stream.receive()
    assert snapshot["type"] == "snapshot"
    book = {side: dict(snapshot["data"][side]) for side in ("b", "a")}
    assert len(book["b"]) == 50
    venue.set_price("BTCUSDT", "60001")
    delta = stream.receive()
    assert delta["type"] == "delta"
    for side in ("b", "a"):
        for price, size in delta["data"][side]:
            book[side].pop(price, None)
            if size != "0":
                book[side][price] = size
    now = rest.get("/v5/market/orderbook", category="spot", symbol="BTCUSDT", limit=50)["result"]
    assert book == {side: dict(now[side]) for side in ("b", "a")}


def test_resting_orders_stand_in_the_public_book(rest: Any) -> None:
    rest.create(price="59999.9", qty="0.5")
    book = rest.get("/v5/market/orderbook", category="spot", symbol="BTCUSDT")["result"]
    assert book["b"] == [["59999.9", "5.5"]]


def test_trades_are_public_with_the_takers_side(rest: Any, venue: Any, connect: Any) -> None:
    stream = connect(url=venue.public_ws_url("spot"))
    stream.subscribe("publicTrade.BTCUSDT")
    rest.create(price="60500", qty="0.02")
    (trade,) = stream.receive()["data"]
    assert (trade["S"], trade["v"], trade["p"]) == ("Buy", "0.02", "60000.1")


@pytest.mark.parametrize(
    "message", ["nonsense", "[]", "{}", '{"op":"auth"}', '{"op":"subscribe"}', '{"op":"unsubscribe","args":[[]]}']
)
def test_nonsense_is_survived_on_the_public_stream_too(venue: Any, connect: Any, message: str) -> None:
    stream = connect(url=venue.public_ws_url("spot"))
    stream.socket.send(message)
    assert stream.receive()["success"] is False
    assert stream.ask(op="ping")["ret_msg"] == "pong"


def test_a_public_topic_falls_silent_when_unsubscribed(venue: Any, connect: Any) -> None:
    stream = connect(url=venue.public_ws_url("spot"))
    stream.subscribe("tickers.BTCUSDT")
    stream.receive()
    assert stream.ask(op="unsubscribe", args=["tickers.BTCUSDT"])["success"]
    venue.set_price("BTCUSDT", "61000")
    assert stream.quiet(0.1)


def test_faults_strike_the_public_stream_too(venue: Any, connect: Any) -> None:
    stream = connect(url=venue.public_ws_url("spot"))
    venue.faults.add("frame_drop", topic="tickers.BTCUSDT")
    venue.faults.add("missing_pong", path="/v5/public/*", count=1)
    stream.subscribe("tickers.BTCUSDT", "tickers.ETHUSDT")
    assert stream.receive()["topic"] == "tickers.ETHUSDT"
    stream.send(op="ping")
    assert stream.quiet()
    venue.faults.add("stream_half_open", path="/v5/public/*", count=1)
    stream.send(op="ping")
    assert stream.quiet()


def test_a_held_frame_is_let_go_when_nothing_follows(rest: Any, venue: Any, connect: Any) -> None:
    stream = connect("order")
    venue.faults.add("frame_reorder", count=1)
    rest.create(orderLinkId="a")
    assert stream.receive()["data"][0]["orderLinkId"] == "a"
