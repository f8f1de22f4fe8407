"""REST on real sockets: each call ends in one honest outcome."""

from __future__ import annotations

import gc
import json
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.encoding import body_text, query_string
from qkt.bybit.transport.rate_limits import account_budget
from qkt.clock import SystemClock
from qkt.errors import (
    BybitApiError,
    BybitRateLimitError,
    InvalidRequestError,
    OutcomeUnknownError,
    VenueProtocolError,
    VenueUnavailableError,
)
from qkt.net.http import Call, HttpPool
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import SOON, RawServer, eventually, ok, qkt_threads, reply

CREATE = "/v5/order/create"
REALTIME = "/v5/order/realtime"
WALLET = "/v5/account/wallet-balance"
UNIFIED = {"accountType": "UNIFIED"}


def an_order(link_id: str = "o1", **more: Any) -> Any:
    return {
        "category": "spot",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "orderType": "Limit",
        "qty": "0.01",
        "price": "10000",
        "timeInForce": "GTC",
        "orderLinkId": link_id,
    } | more


def orders_at(venue: SimulatedBybit) -> list[Any]:
    return [order["orderLinkId"] for order in venue.truth()["orders"]]


# -- reads ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("http_status", {"status": 502}),
        ("http_status", {"status": 504}),
        ("html_body", {}),
        ("empty_body", {}),
        ("truncated_json", {}),
        ("cut_response_after_bytes", {}),
        ("connection_reset_after_request", {}),
        ("connection_reset_before_request", {}),
        ("ret_code", {"code": 10016}),
        ("http_429", {}),
        ("rate_limited", {"reset_ms": 100}),
        ("rate_limited", {"reset_ms": -5_000}),
    ],
)
def test_S35_S36_S37_a_read_survives_a_transient_failure(
    venue: SimulatedBybit, client: BybitClient, fault: str, options: dict[str, Any]
) -> None:
    armed = venue.faults.add(fault, path=WALLET, count=1, **options)
    assert client.get_signed(WALLET, UNIFIED)["retCode"] == 0
    assert armed.hits == 1
    assert client.stats.retries == 1


def test_S36_a_read_that_keeps_failing_is_unavailable_within_its_time(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    client = make_client(timeout_ms=600)
    venue.faults.add("http_status", path=WALLET, status=502)
    began = time.monotonic()
    with pytest.raises(VenueUnavailableError, match="502"):
        client.get_signed(WALLET, UNIFIED)
    assert 0.3 < time.monotonic() - began < 2.0
    assert client.stats.failed_reads == 1


@pytest.mark.parametrize("fault", ["html_body", "truncated_json", "empty_body"])
def test_S37_a_read_that_is_never_json_is_never_read_as_empty(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], fault: str
) -> None:
    venue.faults.add(fault, path=WALLET)
    with pytest.raises((VenueUnavailableError, VenueProtocolError)):
        make_client(timeout_ms=400).get_signed(WALLET, UNIFIED)


def test_a_read_is_cut_when_its_time_is_up_even_if_bytes_trickle(make_client: Callable[..., BybitClient]) -> None:
    def trickle(sock: Any, request: Any) -> None:
        for byte in reply(ok()):
            sock.sendall(bytes([byte]))
            threading.Event().wait(0.05)

    with RawServer(trickle) as server:
        client = make_client(rest_url=server.url, timeout_ms=500)
        began = time.monotonic()
        with pytest.raises(VenueUnavailableError):
            client.get_signed(WALLET, UNIFIED)
        assert time.monotonic() - began < 2.0


def test_a_refused_read_is_not_repeated(venue: SimulatedBybit, client: BybitClient) -> None:
    armed = venue.faults.add("ret_code", path=WALLET, code=10005)
    with pytest.raises(BybitApiError) as caught:
        client.get_signed(WALLET, UNIFIED)
    assert (caught.value.ret_code, armed.hits) == (10005, 1)


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "400 Bad Request"])
def test_a_gateway_refusal_is_definite(make_client: Callable[..., BybitClient], status: str) -> None:
    with RawServer(lambda sock, request: sock.sendall(reply(b"nope", status))) as server:
        client = make_client(rest_url=server.url)
        with pytest.raises(BybitApiError, match=status[:3]):
            client.get_signed(WALLET, UNIFIED)
        with pytest.raises(BybitApiError, match=status[:3]):
            client.post_signed(CREATE, an_order())


# -- writes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "options", "arrives"),
    [
        ("reply_lost", {"mode": "hang"}, True),
        ("reply_lost", {"mode": "reset"}, True),
        ("request_lost", {"mode": "hang"}, False),
        ("request_lost", {"mode": "reset"}, False),
        ("half_open", {}, False),
        ("http_status", {"status": 502, "accepted": True}, True),
        ("http_status", {"status": 502, "accepted": False}, False),
        ("html_body", {"accepted": True}, True),
        ("truncated_json", {}, True),
        ("empty_body", {"accepted": True}, True),
        ("cut_response_after_bytes", {}, True),
        ("http_429", {}, False),
        ("ret_code", {"code": 10016, "accepted": True}, True),
        ("ret_code", {"code": 170146, "accepted": False}, False),
        ("ret_code", {"code": 987654, "accepted": True}, True),
    ],
)
def test_S12_S17_a_write_without_an_answer_is_unknown_and_sent_once(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], fault: str, options: dict[str, Any], arrives: bool
) -> None:
    client = make_client(read_timeout_ms=300)
    client.get_signed(WALLET, UNIFIED)
    armed = venue.faults.add(fault, path=CREATE, **options)
    with pytest.raises(OutcomeUnknownError) as caught:
        client.post_signed(CREATE, an_order())
    assert armed.hits == 1
    assert caught.value.recv_window_ms == client.recv_window_ms
    assert abs(caught.value.signed_ms - venue.now_ms()) < 2_000  # type: ignore[operator]
    assert orders_at(venue) == (["o1"] if arrives else [])
    assert client.stats.unknown_writes == 1


def test_S18_a_refused_write_is_definite(venue: SimulatedBybit, client: BybitClient) -> None:
    with pytest.raises(BybitApiError) as caught:
        client.post_signed(CREATE, an_order(qty="50"))
    assert caught.value.ret_code == 170131
    assert caught.value.what_to_do


def test_S14_what_provably_never_left_is_unavailable_not_unknown(client: BybitClient, venue: SimulatedBybit) -> None:
    venue.faults.add("connection_refused")
    eventually(lambda: venue.faults.standing("connection_refused")[0].hits, "the port closes")
    with pytest.raises(VenueUnavailableError, match="nothing was sent"):
        client.post_signed(CREATE, an_order())


@pytest.mark.parametrize("host", ["no-such-host.invalid", "127.0.0.1:1"])
def test_an_unreachable_host_means_nothing_was_sent(make_client: Callable[..., BybitClient], host: str) -> None:
    client = make_client(rest_url=f"http://{host}", allow_plaintext=True)
    with pytest.raises(VenueUnavailableError, match="nothing was sent"):
        client.post_signed(CREATE, an_order())


def test_a_connect_timeout_means_nothing_was_sent(make_client: Callable[..., BybitClient]) -> None:
    listener = __import__("socket").socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    port = listener.getsockname()[1]
    fillers = []
    for _ in range(4):  # a full backlog: the kernel drops further SYNs
        filler = __import__("socket").socket()
        filler.setblocking(False)
        filler.connect_ex(("127.0.0.1", port))
        fillers.append(filler)
    try:
        client = make_client(rest_url=f"http://127.0.0.1:{port}", connect_timeout_ms=200)
        with pytest.raises(VenueUnavailableError, match="nothing was sent"):
            client.post_signed(CREATE, an_order())
    finally:
        for sock in [listener, *fillers]:
            sock.close()


def test_a_tls_failure_means_nothing_was_sent(make_client: Callable[..., BybitClient], venue: SimulatedBybit) -> None:
    client = make_client(rest_url=venue.rest_url.replace("http:", "https:"))
    with pytest.raises(VenueUnavailableError, match="nothing was sent"):
        client.post_signed(CREATE, an_order())


def test_a_throttled_write_waits_and_is_signed_anew(venue: SimulatedBybit, client: BybitClient) -> None:
    armed = venue.faults.add("rate_limited", path=CREATE, count=1, reset_ms=200)
    began = time.monotonic()
    assert client.post_signed(CREATE, an_order())["retCode"] == 0
    assert time.monotonic() - began >= 0.1
    assert armed.hits == 1
    assert client.stats.throttled == 1


def test_a_write_throttled_for_too_long_says_when_there_is_room(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    venue.faults.add("rate_limited", path=CREATE, reset_ms=60_000)
    with pytest.raises(BybitRateLimitError) as caught:
        make_client(timeout_ms=1_000).post_signed(CREATE, an_order())
    assert caught.value.retry_after_ms > 0  # type: ignore[operator]


def test_waiting_for_room_happens_before_signing(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    client = make_client(recv_window_ms=300)
    client.get_signed(WALLET, UNIFIED)
    account_budget(venue.rest_url, client._signer.api_key).close_for(CREATE, "spot", 700)
    client.post_signed(CREATE, an_order())
    assert client.stats.waited_for_budget_ms >= 650
    assert client.stats.clock_refusals == 0


def test_an_error_names_endpoint_code_text_trace_and_what_to_do(make_client: Callable[..., BybitClient]) -> None:
    refusal = ok() | {"retCode": 170131, "retMsg": "Insufficient balance."}
    server = RawServer(lambda sock, request: sock.sendall(reply(refusal, Traceid="t-4711")))
    with server, pytest.raises(BybitApiError) as caught:
        make_client(rest_url=server.url).post_signed(CREATE, an_order())
    error = caught.value
    assert (error.path, error.ret_code, error.ret_msg) == (CREATE, 170131, "Insufficient balance.")
    assert (error.trace_id, error.what_to_do) == ("t-4711", "not enough available balance")
    assert all(part in str(error) for part in (CREATE, "170131", "Insufficient", "t-4711", "not enough"))


def test_S20_an_address_ban_stops_everything_and_says_so(venue: SimulatedBybit, client: BybitClient) -> None:
    armed = venue.faults.add("ip_ban", path=CREATE)
    with pytest.raises(BybitRateLimitError, match="banned"):
        client.post_signed(CREATE, an_order())
    with pytest.raises(BybitRateLimitError, match="banned") as caught:
        client.get_signed(WALLET, UNIFIED)
    assert armed.hits == 1
    assert caught.value.retry_after_ms > 500_000  # type: ignore[operator]


def test_a_region_block_is_a_refusal_and_no_ban(make_client: Callable[..., BybitClient]) -> None:
    html = b"<html>403 ERROR The request could not be satisfied</html>"
    with RawServer(lambda sock, request: sock.sendall(reply(html, "403 Forbidden"))) as server:
        client = make_client(rest_url=server.url)
        for _ in range(2):
            with pytest.raises(BybitApiError, match="403"):
                client.get_signed(WALLET, UNIFIED)


# -- signing ----------------------------------------------------------------------------------------------------------


def test_the_signed_string_is_the_sent_string(make_client: Callable[..., BybitClient]) -> None:
    with RawServer(lambda sock, request: sock.sendall(reply(ok()))) as server:
        client = make_client(rest_url=server.url)
        cursor = "1767225600%3a1767225600%2c0"
        client.get_signed(REALTIME, {"category": "spot", "cursor": cursor, "symbol": None, "limit": 50})
        wanted = f"GET {REALTIME}?category=spot&cursor={cursor}&limit=50 HTTP/1.1\r\n".encode()
        assert any(request.startswith(wanted) for request in server.requests)


def test_a_cursor_that_needs_quoting_is_quoted() -> None:
    assert query_string({"cursor": "a b&c"}) == "cursor=a%20b%26c"
    assert query_string({"cursor": "a%3Ab%2Cc"}) == "cursor=a%3Ab%2Cc"
    assert query_string({"coin": "MNT,USDT", "flag": True}) == "coin=MNT%2CUSDT&flag=true"


def test_money_goes_out_as_plain_digits_and_floats_not_at_all() -> None:
    assert body_text({"qty": Decimal("1E-8"), "n": 1, "b": True, "x": [{"p": Decimal(2)}]}) == (
        '{"qty":"0.00000001","n":1,"b":true,"x":[{"p":"2"}]}'
    )
    with pytest.raises(InvalidRequestError, match="float"):
        body_text({"qty": 0.1})
    with pytest.raises(InvalidRequestError, match="float"):
        body_text({"request": [{"qty": 0.1}]})


def test_a_read_of_every_page_by_cursor_is_signed_right(venue: SimulatedBybit, client: BybitClient) -> None:
    for number in range(7):
        client.post_signed(CREATE, an_order(f"o{number}"))
    seen, cursor = [], ""
    for _ in range(10):
        page = client.get_signed(REALTIME, {"category": "spot", "limit": 3, "cursor": cursor or None})["result"]
        seen += [row["orderLinkId"] for row in page["list"]]
        cursor = page["nextPageCursor"]
        if not page["list"] or not cursor:
            break
    assert sorted(seen) == [f"o{number}" for number in range(7)]


# -- the clock --------------------------------------------------------------------------------------------------------


class SteppedClock(SystemClock):
    """A host clock that is wrong by ``wrong_ms``."""

    def __init__(self, wrong_ms: int = 0) -> None:
        self.wrong_ms = wrong_ms

    def now_ms(self) -> Any:
        return super().now_ms() + self.wrong_ms


@pytest.mark.parametrize("wrong_ms", [8_000, -8_000])
def test_S34_a_host_clock_that_is_8_s_wrong_works(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], wrong_ms: int
) -> None:
    client = make_client(clock=SteppedClock(wrong_ms))
    client.connect()
    client.post_signed(CREATE, an_order())
    assert client.clock_offset_ms == pytest.approx(-wrong_ms, abs=300)
    assert client.stats.clock_refusals == 0


@pytest.mark.parametrize("step_ms", [8_000, -8_000, 3_600_000])
def test_S82_a_step_of_the_host_clock_is_measured_before_the_next_signature(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], step_ms: int
) -> None:
    clock = SteppedClock()
    client = make_client(clock=clock)
    client.connect()
    clock.wrong_ms = step_ms
    client.post_signed(CREATE, an_order())
    assert client.stats.clock_refusals == 0
    assert client.clock_offset_ms == pytest.approx(-step_ms, abs=300)


def test_S34_10002_is_answered_by_measuring_the_clock_and_signing_anew(
    venue: SimulatedBybit, client: BybitClient
) -> None:
    client.connect()
    venue.faults.add("clock_jump", path=CREATE, count=1, ms=30_000)
    client.post_signed(CREATE, an_order())
    assert client.stats.clock_refusals == 1
    assert client.clock_offset_ms == pytest.approx(30_000, abs=300)
    assert orders_at(venue) == ["o1"]


def test_10002_for_ever_is_a_definite_refusal(venue: SimulatedBybit, client: BybitClient) -> None:
    armed = venue.faults.add("ret_code", path=CREATE, code=10002)
    with pytest.raises(BybitApiError) as caught:
        client.post_signed(CREATE, an_order())
    assert (caught.value.ret_code, armed.hits) == (10002, 3)


def test_a_stale_stamp_in_one_reply_does_not_spoil_the_clock(make_client: Callable[..., BybitClient]) -> None:
    stamps = iter([None, 1_600_000_000_000])

    def answer(sock: Any, request: Any) -> None:
        body = ok()
        if WALLET.encode() in request:
            body["time"] = next(stamps, None) or body["time"]
        sock.sendall(reply(body))

    with RawServer(answer) as server:
        client = make_client(rest_url=server.url)
        for _ in range(4):
            client.get_signed(WALLET, UNIFIED)
        assert abs(client.clock_offset_ms) < 500


# -- connections ------------------------------------------------------------------------------------------------------


def test_calls_in_a_row_share_a_connection(make_client: Callable[..., BybitClient]) -> None:
    with RawServer(lambda sock, request: sock.sendall(reply(ok()))) as server:
        client = make_client(rest_url=server.url)
        for _ in range(5):
            client.get_signed(WALLET, UNIFIED)
        assert server.connections == 1


def test_S93_a_write_never_goes_out_on_a_connection_idle_long_enough_to_be_dead() -> None:
    with RawServer(lambda sock, request: sock.sendall(reply(ok()))) as server:
        pool = HttpPool(idle_limit_ms=50)

        def post() -> None:
            pool.send(
                Call(CREATE), "POST", server.url, headers={}, body=b"{}", connect_timeout_ms=500, read_timeout_ms=500
            )

        post()
        post()
        assert server.connections == 1
        threading.Event().wait(0.08)
        post()
        assert server.connections == 2
        pool.close("done")


def test_S93_a_pooled_connection_the_far_side_closed_is_not_used(venue: SimulatedBybit, client: BybitClient) -> None:
    venue.faults.add("stale_keep_alive", path=WALLET, count=3)
    for number in range(3):
        client.get_signed(WALLET, UNIFIED)
        threading.Event().wait(0.05)
        client.post_signed(CREATE, an_order(f"o{number}"))
    assert client.stats.unknown_writes == 0
    assert len(orders_at(venue)) == 3


def test_one_pool_serves_many_threads(venue: SimulatedBybit, client: BybitClient) -> None:
    failures = []

    def ask() -> None:
        try:
            for _ in range(5):
                client.get_signed(WALLET, UNIFIED)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert failures == []


# -- closing ----------------------------------------------------------------------------------------------------------


def in_flight(client: BybitClient, call: Any) -> tuple[Any, ...]:
    """Start a call that will hang, on a thread; returns where its outcome will be."""
    outcome = []

    def run() -> None:
        try:
            outcome.append(call())
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    eventually(lambda: client.stats.requests_under_way == 1, "the call is under way")
    return thread, outcome


@pytest.mark.parametrize(
    ("path", "expected"), [(WALLET, VenueUnavailableError), (CREATE, OutcomeUnknownError)], ids=["read", "write"]
)
def test_close_cuts_what_is_under_way(venue: SimulatedBybit, client: BybitClient, path: Any, expected: Any) -> None:
    client.connect()
    venue.faults.add("request_lost", path=path, mode="hang")
    call = (
        (lambda: client.get_signed(WALLET, UNIFIED))
        if path == WALLET
        else lambda: client.post_signed(CREATE, an_order())
    )
    thread, outcome = in_flight(client, call)
    threading.Event().wait(0.05)
    began = time.monotonic()
    client.close()
    thread.join(SOON)
    assert time.monotonic() - began < 1.0
    assert isinstance(outcome[0], expected)
    assert "closed" in str(outcome[0])
    assert qkt_threads() == []


def test_a_closed_client_sends_nothing(venue: SimulatedBybit, client: BybitClient) -> None:
    client.connect()
    client.close()
    for call in (lambda: client.get_signed(WALLET, UNIFIED), lambda: client.post_signed(CREATE, an_order())):
        with pytest.raises(VenueUnavailableError, match="closed"):
            call()  # type: ignore[no-untyped-call]
    assert orders_at(venue) == []


def test_a_client_used_for_rest_alone_leaves_nothing_behind(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    client = make_client()
    client.get_signed(WALLET, UNIFIED)
    client.close()
    del client
    gc.collect()
    assert qkt_threads() == []


def test_replies_are_exact(venue: SimulatedBybit, client: BybitClient) -> None:
    envelope = client.get_signed(WALLET, UNIFIED)
    assert json.dumps(envelope)  # no Decimal where the venue sends text
    assert isinstance(envelope["result"]["list"][0]["coin"][0]["walletBalance"], str)
