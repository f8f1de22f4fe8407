"""A permitted write goes out as it was permitted, once: no layer stamps it anew or repeats it (rule P1)."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.encoding import body_text
from qkt.bybit.transport.permitted import PermittedRequest
from qkt.clock import SystemClock
from qkt.errors import BybitApiError, BybitRateLimitError, InvalidRequestError, VenueUnavailableError
from qkt.testing import FakeBybitClient
from tests.support.transport_rig import RawServer, ok, reply

CREATE = "/v5/order/create"
BODY = {
    "category": "spot",
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderType": "Limit",
    "qty": "0.01",
    "price": "10000",
    "timeInForce": "GTC",
    "orderLinkId": "qkj-1",
}


def permitted(**changes: Any) -> PermittedRequest:
    values: dict[str, Any] = {
        "path": CREATE,
        "body": body_text(BODY),
        "signed_at_ms": SystemClock().now_ms(),
        "recv_window_ms": 2_000,
        "category": "spot",
    }
    return PermittedRequest(**{**values, **changes})


def answering(envelope: dict[str, Any]) -> Callable[[socket.socket, bytes], None]:
    """Every create gets ``envelope``; the clock is told truly."""

    def answer(sock: socket.socket, request: bytes) -> None:
        is_create = CREATE.encode() in request
        sock.sendall(reply(envelope if is_create else ok(timeNano=str(SystemClock().now_ms() * 1_000_000))))

    return answer


def creates_at(server: RawServer) -> list[bytes]:
    return [request for request in server.requests if CREATE.encode() in request]


def test_a_permitted_write_carries_its_own_stamp_window_and_body(make_client: Callable[..., BybitClient]) -> None:
    request = permitted()
    with RawServer(answering(ok(orderId="1", orderLinkId="qkj-1"))) as server:
        make_client(rest_url=server.url).post_permitted(request)

        (sent,) = creates_at(server)
    assert f"X-BAPI-TIMESTAMP: {request.signed_at_ms}".encode() in sent
    assert b"X-BAPI-RECV-WINDOW: 2000" in sent
    assert sent.endswith(request.body.encode())


@pytest.mark.parametrize(("code", "error"), [(10002, BybitApiError), (10006, BybitRateLimitError)])
def test_a_permitted_write_that_was_turned_away_is_not_sent_again(
    make_client: Callable[..., BybitClient], code: int, error: type[Exception]
) -> None:
    with RawServer(answering({"retCode": code, "retMsg": "no", "result": {}, "time": 0})) as server:
        with pytest.raises(error):
            make_client(rest_url=server.url).post_permitted(permitted())

        assert len(creates_at(server)) == 1


def test_a_permit_that_ran_out_is_not_sent(make_client: Callable[..., BybitClient]) -> None:
    with RawServer(answering(ok())) as server:
        with pytest.raises(VenueUnavailableError, match="ran out"):
            make_client(rest_url=server.url).post_permitted(permitted(signed_at_ms=SystemClock().now_ms() - 2_500))

        assert creates_at(server) == []


def test_a_transport_of_the_users_own_refuses_what_it_would_stamp_anew() -> None:
    class Stamping(FakeBybitClient):
        post_permitted = FakeBybitClient.__mro__[1].post_permitted  # type: ignore[attr-defined]

    with pytest.raises(InvalidRequestError, match="post_permitted"):
        Stamping().post_permitted(permitted())
