"""Behaviour of the transport that a mutation once changed without a test noticing: one test for each."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.rate_limits import account_budget
from qkt.bybit.transport.stream_session import Lost, Phase, StreamSession, Timing
from qkt.errors import BybitRateLimitError, OutcomeUnknownError, VenueUnavailableError
from qkt.net.reconciler import PeriodicReconciler
from qkt.net.scheduler import ThreadScheduler
from qkt.testing import TickScheduler
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import RawServer, Recorder, eventually, ok, reply

WALLET, CREATE = "/v5/account/wallet-balance", "/v5/order/create"
UNIFIED = {"accountType": "UNIFIED"}
ORDER = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59000"}


def a_client_of(server: RawServer, **options: Any) -> BybitClient:
    return BybitClient("key", "secret", rest_url=server.url, ws_url="ws://127.0.0.1:1", **options)


@pytest.mark.parametrize("body", [ok(orderId="1", orderLinkId="a"), {"retCode": 170131, "retMsg": "no", "result": {}}])
def test_a_write_answered_with_5xx_is_unknown_whatever_its_body_says(body: dict[str, object]) -> None:
    def script(sock: Any, request: Any) -> None:
        is_write = request.startswith(b"POST")
        sock.sendall(reply(body if is_write else ok(), "502 Bad Gateway" if is_write else "200 OK"))

    with RawServer(script) as server, pytest.raises(OutcomeUnknownError, match="502"):
        a_client_of(server).post_signed(CREATE, ORDER)


def test_10006_closes_the_accounts_budget_for_that_endpoint_until_the_reset() -> None:
    throttled = {"retCode": 10006, "retMsg": "Too many visits!", "result": {}}

    def script(sock: Any, request: Any) -> None:
        sock.sendall(reply(throttled if b"POST" in request[:4] else ok()))

    with RawServer(script) as server:
        client = a_client_of(server, timeout_ms=200)
        with pytest.raises(BybitRateLimitError):
            client.post_signed(CREATE, ORDER)
        asked = len(server.requests)
        with pytest.raises(BybitRateLimitError, match="not sent"):
            client.post_signed(CREATE, ORDER)

    assert len(server.requests) == asked


def test_the_limit_in_the_headers_is_learnt() -> None:
    def script(sock: Any, _request: Any) -> None:
        sock.sendall(reply(ok(), X_Bapi_Limit="2", X_Bapi_Limit_Status="0"))

    with RawServer(script) as server:
        client = a_client_of(server)
        client.get_signed(WALLET, UNIFIED)
        budget = account_budget(server.url, client._signer.api_key)
        with pytest.raises(BybitRateLimitError):
            budget.acquire(WALLET, "", max_wait_ms=10, stopping=threading.Event())


@pytest.mark.parametrize("limit", ["50000000", "0", "-1", "9" * 30, "1e9"])
def test_an_absurd_limit_in_the_headers_is_ignored(limit: str) -> None:
    def script(sock: Any, _request: Any) -> None:
        sock.sendall(reply(ok(), X_Bapi_Limit=limit, X_Bapi_Limit_Status="0"))

    with RawServer(script) as server:
        client = a_client_of(server)
        for _ in range(3):
            client.get_signed(WALLET, UNIFIED)
        assert client.stats.waited_for_budget_ms == 0


def test_a_live_subscribe_returns_when_its_topic_is_answered(venue: SimulatedBybit, client: BybitClient) -> None:
    client.connect()
    venue.faults.add("control_delay", delay_ms=100)
    client.subscribe("wallet", Recorder())

    stream = client._stream
    assert stream is not None
    assert stream._link is not None
    assert stream._link.session.is_answered("wallet")


def test_a_replaced_connection_is_given_up(client: BybitClient) -> None:
    client.connect()
    stream = client._stream
    assert stream is not None
    first = stream._link

    stream._attempt()

    assert stream._link is not first
    assert first is not None
    eventually(lambda: first.has_ended and first.raw is None, "its socket is closed")
    assert (first.end_reason, client.stats.losses) == ("replaced", 0)


def test_the_clock_is_measured_anew_after_a_first_refused_login(
    make_client: Callable[..., BybitClient], venue: SimulatedBybit
) -> None:
    client = make_client()
    client.connect()
    measured: list[int] = []
    stream = client._stream
    assert stream is not None
    object.__setattr__(stream._hooks, "resynchronise", lambda: measured.append(client.stats.connections))
    venue.faults.add("auth_refused", path="/v5/private", text="Params Error", count=1)

    venue.cut_streams()

    eventually(lambda: client.is_connected and client.stats.connections >= 3, "back after the refusal")
    assert len(measured) == 1


TIMING = Timing(ping_interval_ms=100, pong_timeout_ms=100, grace_ms=1_000, answer_timeout_ms=500)


def a_session_that_waits_for_a_pong() -> StreamSession:
    session = StreamSession([], TIMING)
    session.opened(0)
    session.received({"op": "auth", "success": True}, 0)
    session.tick(100)
    return session


def test_while_bytes_wait_an_overdue_pong_is_given_grace() -> None:
    session = a_session_that_waits_for_a_pong()

    assert session.tick(1_150, unread=True) == []
    assert session.phase is Phase.OPEN
    assert isinstance(session.tick(1_250, unread=True)[0], Lost)


def test_without_waiting_bytes_an_overdue_pong_has_no_grace() -> None:
    assert isinstance(a_session_that_waits_for_a_pong().tick(250)[0], Lost)


def test_a_tick_after_stop_does_nothing() -> None:
    ran: list[int] = []
    scheduler = TickScheduler()
    reconciler = PeriodicReconciler(10, lambda: ran.append(1), scheduler=scheduler)
    reconciler.start()
    (schedule,) = scheduler.schedules
    reconciler.stop()

    schedule.action()  # a run that had been taken from the schedule before it was cancelled

    assert ran == []


def test_a_cancelled_schedule_does_not_run() -> None:
    first, second = threading.Event(), threading.Event()
    with ThreadScheduler() as scheduler:
        scheduler.schedule_once(first.set, 20).cancel()
        scheduler.schedule_once(second.set, 40)
        assert second.wait(5)

    assert not first.is_set()


def test_a_given_scheduler_is_not_closed_by_a_reconciler() -> None:
    ran = threading.Event()
    with ThreadScheduler() as scheduler:
        reconciler = PeriodicReconciler(10_000, lambda: None, scheduler=scheduler)
        reconciler.start()
        reconciler.stop()
        scheduler.schedule_once(ran.set, 0)
        assert ran.wait(5)


def test_closing_the_client_while_a_read_hangs_takes_less_than_a_second() -> None:
    hanging = threading.Event()

    def script(_sock: Any, _request: Any) -> None:
        hanging.set()

    with RawServer(script) as server:
        client = a_client_of(server)

        def read() -> None:
            with pytest.raises(VenueUnavailableError):
                client.get_signed(WALLET, UNIFIED)

        thread = threading.Thread(target=read)
        thread.start()
        assert hanging.wait(5)
        began = time.monotonic()
        client.close()
        assert time.monotonic() - began < 1
        thread.join(2)
        assert not thread.is_alive()
