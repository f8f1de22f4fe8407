"""The private stream on real sockets: it never dies in silence, never storms, never runs user code."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.protocol import BybitTransport
from qkt.bybit.transport.stream_session import Timing
from qkt.clock import SystemClock
from qkt.errors import BybitConnectError, InvalidRequestError
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import QUICK, SOON, Recorder, eventually, qkt_threads

TOPICS = ("order.spot", "execution.spot", "wallet")


def listening(client: BybitClient, *topics: Any) -> tuple[Any, ...]:
    """A connected client with a recorder for each topic and each kind of news."""
    heard = {topic: Recorder() for topic in topics or TOPICS}
    for topic, recorder in heard.items():
        client.subscribe(topic, recorder)
    news = {name: Recorder() for name in ("disconnect", "reconnect", "fault", "gap")}
    client.on_disconnect(news["disconnect"])
    client.on_reconnect(news["reconnect"])
    client.on_fault(news["fault"])
    client.on_gap(news["gap"])
    client.connect()
    eventually(lambda: news["reconnect"], "the first session is ready")
    return heard, news


def trade(venue: SimulatedBybit, count: int = 1) -> None:
    for _ in range(count):
        venue.trade(symbol="BTCUSDT", side="Buy", quantity="0.001")


def exec_ids(frames: Any) -> list[Any]:
    return [row["execId"] for frame in frames for row in frame["data"]]


def venue_exec_ids(venue: SimulatedBybit) -> list[Any]:
    return [execution["execId"] for execution in venue.truth()["executions"]]


# -- the good day -----------------------------------------------------------------------------------------------------


def test_the_client_is_a_transport(client: BybitClient) -> None:
    assert isinstance(client, BybitTransport)


def test_frames_arrive_in_order_on_the_reading_thread(venue: SimulatedBybit, client: BybitClient) -> None:
    heard, _ = listening(client)
    trade(venue, 20)
    eventually(lambda: len(heard["execution.spot"]) == 20, "twenty executions")
    assert exec_ids(heard["execution.spot"]) == venue_exec_ids(venue)
    assert heard["execution.spot"].threads == {"qkt-stream"}
    eventually(lambda: client.stats.frames == 60, "its order and wallet frames too")


def test_a_topic_wanted_on_a_live_socket_is_answered_before_subscribe_returns(
    venue: SimulatedBybit, client: BybitClient
) -> None:
    _heard, news = listening(client, "wallet")
    late = Recorder()
    client.subscribe("execution.spot", late)
    trade(venue)
    eventually(lambda: late, "the first execution")
    assert len(news["reconnect"]) == 1


def test_a_listener_that_raises_costs_neither_the_others_nor_the_stream(
    venue: SimulatedBybit, client: BybitClient, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(frame: Any) -> None:
        raise RuntimeError("listener bug")

    client.subscribe("execution.spot", broken)
    heard, news = listening(client)
    trade(venue, 3)
    eventually(lambda: len(heard["execution.spot"]) == 3, "frames after the failures")
    assert client.stats.listener_errors == 3
    assert client.is_connected
    assert not news["disconnect"]
    assert "listener failed" in caplog.text


def test_two_listeners_of_a_topic_hear_the_same(venue: SimulatedBybit, client: BybitClient) -> None:
    one, two = Recorder(), Recorder()
    client.subscribe("order.spot", one)
    client.subscribe("order.spot", two)
    client.connect()
    trade(venue)
    eventually(lambda: one and two, "both hear")
    assert one == two


def test_handlers_run_on_a_link_thread_one_at_a_time(venue: SimulatedBybit, client: BybitClient) -> None:
    _heard, news = listening(client)
    venue.cut_streams()
    eventually(lambda: len(news["reconnect"]) == 2, "reconnected")
    threads = news["reconnect"].threads | news["disconnect"].threads
    assert all(name.startswith("qkt-link") for name in threads)


def test_S73_a_slow_handler_costs_neither_the_connection_nor_the_reading(
    venue: SimulatedBybit, client: BybitClient
) -> None:
    heard, news = listening(client)
    asleep, release = threading.Event(), threading.Event()
    client.on_reconnect(lambda: (asleep.set(), release.wait(SOON)))  # type: ignore[arg-type, func-returns-value]
    venue.cut_streams()
    assert asleep.wait(SOON)
    for _ in range(3):
        trade(venue)
        threading.Event().wait(QUICK.ping_interval_ms / 1000)
    assert client.is_connected
    eventually(lambda: len(heard["execution.spot"]) == 3, "frames while the handler sleeps")
    assert client.stats.losses == 1
    venue.cut_streams()
    eventually(lambda: client.stats.connections == 3, "even reconnecting does not wait for the handler")
    release.set()
    eventually(lambda: len(news["disconnect"]) == 2, "told in the end")


def test_a_connected_client_stays_as_it_is(venue: SimulatedBybit, client: BybitClient) -> None:
    client.connect()
    client.connect()
    assert client.stats.connections == 1


# -- connecting -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "secret"), [("unknown", "secret"), ("key", "wrong")])
def test_a_bad_key_is_a_connect_error_that_says_so(
    make_client: Callable[..., BybitClient], key: str, secret: str
) -> None:
    client = make_client(key, secret)
    with pytest.raises(BybitConnectError, match="ret_code=1000"):
        client.connect()
    assert client.stream_state == "closed"
    assert qkt_threads() == []


def test_an_unreachable_host_is_a_connect_error_in_time(make_client: Callable[..., BybitClient]) -> None:
    began = time.monotonic()
    with pytest.raises(BybitConnectError, match="no session with"):
        make_client(rest_url="http://127.0.0.1:1", timeout_ms=800).connect()
    assert time.monotonic() - began < 2
    assert qkt_threads() == []


@pytest.mark.timeout(30)
def test_a_name_server_that_does_not_answer_is_a_connect_error_in_time(
    make_client: Callable[..., BybitClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *asked, **more: released.wait(20) and [])
    monkeypatch.setattr("qkt.bybit.transport.client._CONNECT_MS", 300)
    began = time.monotonic()
    try:
        with pytest.raises(BybitConnectError, match="did not answer in time"):
            make_client(rest_url="https://a-host.example").connect()
        assert time.monotonic() - began < 2
    finally:
        released.set()
    eventually(lambda: qkt_threads() == [], "the thread left behind ends")


def test_a_refused_login_is_a_connect_error(venue: SimulatedBybit, client: BybitClient) -> None:
    venue.faults.add("auth_refused")
    with pytest.raises(BybitConnectError, match="refuses the login"):
        client.connect()
    assert qkt_threads() == []


def test_a_stream_host_that_is_not_there_is_a_connect_error(make_client: Callable[..., BybitClient]) -> None:
    with pytest.raises(BybitConnectError):
        make_client(ws_url="ws://127.0.0.1:1/v5/private").connect()


def test_a_stream_that_accepts_and_says_nothing_is_a_connect_error_in_time(
    venue: SimulatedBybit, quick_client: BybitClient
) -> None:
    venue.faults.add("stream_half_open")
    began = time.monotonic()
    with pytest.raises(BybitConnectError, match="no answer to the login"):
        quick_client.connect()
    assert time.monotonic() - began < 5
    assert qkt_threads() == []


def test_connecting_works_again_after_it_failed(venue: SimulatedBybit, client: BybitClient) -> None:
    venue.faults.add("auth_refused", count=1)
    with pytest.raises(BybitConnectError):
        client.connect()
    client.connect()
    assert client.is_connected


def test_a_login_refused_for_its_clock_alone_works_with_venue_time(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    class Slow(SystemClock):
        def now_ms(self) -> Any:
            return super().now_ms() - 60_000

    client = make_client(clock=Slow())
    client.connect()
    assert client.is_connected


def test_a_client_without_keys_is_refused_when_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidRequestError, match="BYBIT_API_KEY"):
        BybitClient()
    with pytest.raises(InvalidRequestError, match="BYBIT_API_SECRET"):
        BybitClient("key")


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_a_cut_stream_comes_back_subscribed_and_says_so(venue: SimulatedBybit, client: BybitClient) -> None:
    heard, news = listening(client)
    venue.cut_streams()
    eventually(lambda: len(news["reconnect"]) == 2, "reconnected")
    assert len(news["disconnect"]) == 1
    assert isinstance(news["disconnect"][0], str)
    trade(venue)
    eventually(lambda: heard["execution.spot"], "frames on the new connection")
    assert client.stats.losses == 1


def test_S39_a_half_open_connection_is_noticed_and_replaced(venue: SimulatedBybit, quick_client: BybitClient) -> None:
    _heard, news = listening(quick_client)
    venue.faults.add("stream_half_open", count=1)
    eventually(lambda: len(news["reconnect"]) == 2, "replaced")
    assert "pong" in news["disconnect"][0]


def test_S39_a_missing_pong_is_noticed_although_frames_flow(venue: SimulatedBybit, quick_client: BybitClient) -> None:
    _, news = listening(quick_client)
    venue.faults.add("missing_pong", count=1)
    deadline = time.monotonic() + SOON
    while not news["disconnect"]:
        assert time.monotonic() < deadline
        trade(venue)
        threading.Event().wait(0.02)
    assert "pong" in news["disconnect"][0]


def test_minutes_of_refused_connections_do_not_end_it(venue: SimulatedBybit, client: BybitClient) -> None:
    """pybit's private stream dies for good after 0.07 s of this, and nobody is told."""
    heard, news = listening(client)
    refusal = venue.faults.add("connection_refused", cut=True)
    eventually(lambda: news["disconnect"], "the loss is told")
    threading.Event().wait(0.5)
    assert client.stream_state in ("down", "connecting")
    assert not client.is_connected
    refusal.remove()
    eventually(lambda: len(news["reconnect"]) == 2, "back")
    trade(venue)
    eventually(lambda: heard["execution.spot"], "frames again")


def test_a_refused_upgrade_is_tried_again(venue: SimulatedBybit, client: BybitClient) -> None:
    _, news = listening(client)
    refusal = venue.faults.add("stream_refused", count=3)
    venue.cut_streams()
    eventually(lambda: len(news["reconnect"]) == 2, "back")
    assert refusal.hits == 3


def test_S42_a_refused_login_stops_the_hammering_and_is_reported_as_fatal(
    venue: SimulatedBybit, client: BybitClient
) -> None:
    _, news = listening(client)
    refusal = venue.faults.add("auth_refused", text="Your api key has expired.")
    venue.cut_streams()
    eventually(lambda: client.stream_state == "auth_refused", "the refusal shows")
    eventually(lambda: news["fault"], "the fault is told")
    threading.Event().wait(0.5)
    assert refusal.hits == 2  # once more after measuring the clock, then it waits
    fault = news["fault"][0]
    assert (fault.kind, fault.fatal) == ("auth", True)
    assert "expired" in fault.reason
    assert len(news["reconnect"]) == 1


def test_one_refused_login_may_be_the_clocks_fault_and_is_no_alarm(venue: SimulatedBybit, client: BybitClient) -> None:
    _, news = listening(client)
    venue.faults.add("auth_refused", count=1)
    venue.cut_streams()
    eventually(lambda: len(news["reconnect"]) == 2, "back")
    assert not news["fault"]


def test_S43_a_refused_topic_is_a_visible_fault_and_the_others_live(venue: SimulatedBybit, client: BybitClient) -> None:
    refusal = venue.faults.add("topic_refused", topic="execution.spot")
    heard, news = listening(client)
    eventually(lambda: news["fault"], "the fault is told")
    assert client.stream_state == "degraded"
    assert not client.is_connected
    assert list(client.topic_faults) == ["execution.spot"]
    assert (news["fault"][0].kind, news["fault"][0].topic) == ("topic", "execution.spot")
    trade(venue)
    eventually(lambda: heard["order.spot"] and heard["wallet"], "the other topics")
    assert not heard["execution.spot"]
    refusal.remove()
    eventually(lambda: client.is_connected, "healed by asking again")
    assert dict(client.topic_faults) == {}
    eventually(lambda: len(news["reconnect"]) == 2, "healing calls for a snapshot too")
    trade(venue)
    eventually(lambda: heard["execution.spot"], "the healed topic")


def test_a_topic_the_venue_does_not_know_is_refused_by_name(client: BybitClient) -> None:
    _heard, news = listening(client, "order.spot", "no.such.topic")
    eventually(lambda: news["fault"], "the fault")
    assert "handler not found" in client.topic_faults["no.such.topic"].reason


def test_S44_reconnect_is_told_only_after_the_acknowledgement(venue: SimulatedBybit, client: BybitClient) -> None:
    heard, news = listening(client)
    venue.faults.add("control_delay", delay_ms=150)
    venue.cut_streams()
    eventually(lambda: news["disconnect"], "lost")
    began = time.monotonic()
    eventually(lambda: len(news["reconnect"]) == 2, "back")
    assert time.monotonic() - began >= 0.3  # the login's answer and the subscription's
    trade(venue)
    eventually(lambda: heard["execution.spot"], "frames")


def test_a_lost_acknowledgement_is_a_lost_connection(venue: SimulatedBybit, quick_client: BybitClient) -> None:
    _, news = listening(quick_client)
    venue.faults.add("subscribe_ack_lost", count=1)
    venue.cut_streams()
    eventually(lambda: len(news["reconnect"]) == 2, "back at the second try")
    assert len(news["disconnect"]) == 1


@pytest.mark.parametrize("fault", ["close_mid_frame", "stream_cut"])
def test_a_connection_that_ends_in_a_frame_comes_back(venue: SimulatedBybit, client: BybitClient, fault: str) -> None:
    _, news = listening(client)
    venue.faults.add(fault, count=1)
    trade(venue)
    eventually(lambda: len(news["reconnect"]) == 2, "back")


@pytest.mark.parametrize("fault", ["invalid_utf8", "truncated_frame"])
def test_an_unreadable_frame_is_counted_and_calls_for_a_reconcile(
    venue: SimulatedBybit, client: BybitClient, fault: str
) -> None:
    heard, news = listening(client)
    venue.faults.add(fault, count=1)
    trade(venue)
    eventually(lambda: news["gap"], "the gap is told")
    assert client.stats.malformed_frames == 1
    assert client.is_connected
    trade(venue)
    eventually(lambda: len(heard["execution.spot"]) >= 1, "later frames")


def test_S41_twenty_cuts_do_not_storm_and_end_connected(venue: SimulatedBybit, client: BybitClient) -> None:
    _, news = listening(client)
    cuts = 0
    for _ in range(20):
        eventually(lambda made=cuts: client.stats.losses == made and client.is_connected, "back before the next cut")  # type: ignore[misc]
        cuts += venue.cut_streams()
    eventually(lambda: client.stats.losses == 20 and client.is_connected, "connected at last")
    assert cuts == 20
    assert client.stats.connections == 21
    eventually(lambda: len(news["reconnect"]) == len(news["disconnect"]) + 1 == 21, "each told once")
    assert sum(name == "qkt-stream" for name in qkt_threads()) == 1


def test_S45_frames_of_a_dead_connection_touch_nothing(venue: SimulatedBybit, client: BybitClient) -> None:
    _heard, news = listening(client)
    stream = client._stream
    old = stream._link  # type: ignore[union-attr]
    venue.cut_streams()
    eventually(lambda: len(news["reconnect"]) == 2, "back")
    stream._over(old, "said again")  # type: ignore[arg-type, union-attr]
    threading.Event().wait(0.1)
    assert client.is_connected
    assert len(news["disconnect"]) == 1


def test_S82_a_jump_of_the_clock_is_noticed_and_told(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    class Stepped(SystemClock):
        wrong_ms = 0

        def now_ms(self) -> Any:
            return super().now_ms() + self.wrong_ms

    clock = Stepped()
    client = make_client(clock=clock)
    _, news = listening(client)
    clock.wrong_ms = 3_600_000
    eventually(lambda: news["gap"], "the jump is told")
    assert "jump" in news["gap"][0]
    assert client.clock_offset_ms == pytest.approx(-3_600_000, abs=300)
    assert client.stats.gaps == 1


# -- closing ----------------------------------------------------------------------------------------------------------


def test_close_is_idempotent_and_leaves_no_thread(venue: SimulatedBybit, client: BybitClient) -> None:
    _, news = listening(client)
    assert any(name == "qkt-stream" for name in qkt_threads())
    client.close()
    client.close()
    assert qkt_threads() == []
    assert client.stream_state == "closed"
    assert not news["disconnect"]


def test_a_closed_client_opens_again(venue: SimulatedBybit, client: BybitClient) -> None:
    heard, _news = listening(client)
    client.close()
    client.connect()
    assert client.is_connected
    trade(venue)
    eventually(lambda: heard["execution.spot"], "frames again")


@pytest.mark.parametrize("registered", ["on_reconnect", "on_disconnect", "on_fault"])
def test_a_handler_may_close_the_client(venue: SimulatedBybit, client: BybitClient, registered: str) -> None:
    closed = threading.Event()
    getattr(client, registered)(lambda *heard: (client.close(), closed.set()))  # type: ignore[func-returns-value]
    if registered == "on_fault":
        venue.faults.add("topic_refused", topic="wallet")
    client.subscribe("wallet", Recorder())
    with contextlib.suppress(BybitConnectError):  # it may be closed before connect() has returned
        client.connect()
    venue.cut_streams()
    assert closed.wait(SOON)
    eventually(lambda: qkt_threads() == [], "no thread is left")


def test_a_listener_may_close_the_client(venue: SimulatedBybit, client: BybitClient) -> None:
    closed = threading.Event()
    client.subscribe("wallet", lambda frame: (client.close(), closed.set()))  # type: ignore[arg-type, func-returns-value]
    client.connect()
    trade(venue)
    assert closed.wait(SOON)
    eventually(lambda: qkt_threads() == [], "no thread is left")


def test_whoever_closes_returns_when_all_has_ended(venue: SimulatedBybit, client: BybitClient) -> None:
    listening(client)
    together, left = threading.Barrier(4), []

    def close() -> None:
        together.wait(SOON)
        client.close()
        left.append(qkt_threads())

    threads = [threading.Thread(target=close) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert left == [[]] * 4


def test_close_ends_a_connect_that_hangs(venue: SimulatedBybit, client: BybitClient) -> None:
    venue.faults.add("request_lost", path="/v5/market/time", mode="hang")
    outcome = []

    def connect() -> None:
        try:
            client.connect()
        except BybitConnectError as error:
            outcome.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    eventually(lambda: client.stats.requests_under_way, "connecting")
    began = time.monotonic()
    client.close()
    thread.join(SOON)
    assert outcome
    assert time.monotonic() - began < 1.0
    assert qkt_threads() == []


def test_close_ends_a_stream_login_that_hangs(venue: SimulatedBybit, make_client: Callable[..., BybitClient]) -> None:
    client = make_client(timing=Timing())
    venue.faults.add("stream_half_open")
    failed = threading.Event()

    def connect() -> None:
        try:
            client.connect()
        except BybitConnectError:
            failed.set()

    thread = threading.Thread(target=connect)
    thread.start()
    eventually(lambda: "qkt-stream" in qkt_threads(), "logging in")
    began = time.monotonic()
    client.close()
    assert failed.wait(SOON)
    assert time.monotonic() - began < 1.0
    thread.join(SOON)
    assert qkt_threads() == []


def test_with_connects_and_closes(venue: SimulatedBybit, make_client: Callable[..., BybitClient]) -> None:
    with make_client() as client:
        assert client.is_connected
    assert client.stream_state == "closed"


# -- how it is --------------------------------------------------------------------------------------------------------


def test_the_repr_answers_what_is_it_doing_now(venue: SimulatedBybit, client: BybitClient) -> None:
    assert "stream=closed" in repr(client)
    listening(client)
    assert "stream=live" in repr(client)
    assert "topics=3" in repr(client)


def test_lag_and_ages_are_numbers(venue: SimulatedBybit, client: BybitClient) -> None:
    heard, _ = listening(client)
    trade(venue)
    eventually(lambda: heard["wallet"], "a frame")
    stats = client.stats
    assert 0 <= stats.lag_ms < 2_000  # type: ignore[operator]
    assert 0 <= stats.frame_age_ms < 5_000  # type: ignore[operator]
    assert stats.unread_bytes >= 0
    eventually(lambda: client.stats.ping_round_trip_ms is not None, "a pong")


def test_balances_are_a_read_only_cache(client: BybitClient) -> None:
    from decimal import Decimal

    client.update_balances({"USDT": Decimal(5)})
    assert client.balances["USDT"] == Decimal(5)
    with pytest.raises(TypeError):
        client.balances["USDT"] = Decimal(6)  # type: ignore[index]


@pytest.mark.parametrize(
    ("options", "rest", "stream"),
    [
        ({}, "https://api-testnet.bybit.com", "wss://stream-testnet.bybit.com/v5/private"),
        ({"testnet": False}, "https://api.bybit.com", "wss://stream.bybit.com/v5/private"),
        ({"demo": True}, "https://api-demo.bybit.com", "wss://stream-demo.bybit.com/v5/private"),
        ({"rest_url": "https://api.bybit.kz"}, "https://api.bybit.kz", "wss://stream.bybit.kz/v5/private"),
        ({"rest_url": "https://api.bybit.nl/"}, "https://api.bybit.nl", "wss://stream.bybit.com/v5/private"),
        ({"rest_url": "http://127.0.0.1:9"}, "http://127.0.0.1:9", "ws://127.0.0.1:9/v5/private"),
    ],
)
def test_hosts_follow_the_environment(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], rest: str, stream: str
) -> None:
    for name in ("BYBIT_TESTNET", "BYBIT_REST_URL", "BYBIT_WS_URL"):
        monkeypatch.delenv(name, raising=False)
    client = BybitClient("k", "s", **options)
    assert (client._rest_url, client._ws_url) == (rest, stream)


def test_every_option_falls_back_to_the_environment(monkeypatch: pytest.MonkeyPatch, venue: SimulatedBybit) -> None:
    for name, value in {
        "BYBIT_API_KEY": "key",
        "BYBIT_API_SECRET": "secret",
        "BYBIT_REST_URL": venue.rest_url,
        "BYBIT_WS_URL": venue.ws_url,
        "BYBIT_ACCOUNT_TYPE": "UNIFIED",
        "BYBIT_RECV_WINDOW_MS": "7000",
    }.items():
        monkeypatch.setenv(name, value)
    with BybitClient() as client:
        assert client.is_connected
        assert (client.account_type, client.recv_window_ms) == ("UNIFIED", 7_000)


@pytest.mark.parametrize(
    ("text", "host"), [("false", "api."), ("0", "api."), ("true", "api-testnet."), ("", "api-testnet.")]
)
def test_live_trading_is_an_explicit_choice(monkeypatch: pytest.MonkeyPatch, text: str, host: str) -> None:
    monkeypatch.delenv("BYBIT_REST_URL", raising=False)
    monkeypatch.setenv("BYBIT_TESTNET", text)
    assert BybitClient("k", "s")._rest_url.startswith(f"https://{host}bybit")


@pytest.mark.parametrize(
    "options",
    [
        {"rest_url": "ftp://host"},
        {"ws_url": "http://host"},
        {"recv_window_ms": 0},
        {"recv_window_ms": 1.5},
        {"recv_window_ms": True},
        {"timeout_ms": -1},
        {"demo": True, "testnet": True},
    ],
)
def test_senseless_options_are_refused_when_it_is_built(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        BybitClient("k", "s", **options)


@pytest.mark.parametrize("given", ["", "no", "false", 0, 1])
def test_only_a_bool_chooses_between_testnet_and_live(given: Any) -> None:
    with pytest.raises(InvalidRequestError, match="only testnet=False trades live"):
        BybitClient("key", "secret", testnet=given)
    with pytest.raises(InvalidRequestError, match="demo must be True or False"):
        BybitClient("key", "secret", demo=given)
