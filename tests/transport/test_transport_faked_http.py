"""REST is `requests` all the way: where a trader's tests fake HTTP with `responses`, qkt's calls are seen too."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import responses

from qkt import BybitClient
from qkt.errors import BybitApiError, OutcomeUnknownError

REALTIME = "/v5/order/realtime"
CREATE = "/v5/order/create"
TIME = "/v5/market/time"


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    for name in ("BYBIT_TESTNET", "BYBIT_REST_URL", "BYBIT_WS_URL"):
        monkeypatch.delenv(name, raising=False)
    with responses.RequestsMock(assert_all_requests_are_fired=False) as faked:
        yield faked


def ok(**result: Any) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "time": 1_767_225_600_000}


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ({}, "https://api-testnet.bybit.com"),
        ({"testnet": False}, "https://api.bybit.com"),
        ({"demo": True}, "https://api-demo.bybit.com"),
        ({"rest_url": "https://api.bybit.nl"}, "https://api.bybit.nl"),
    ],
    ids=["by default testnet", "live", "demo trading", "a regional host"],
)
def test_a_signed_read_goes_to_the_host_that_was_asked_for(wire: Any, options: dict[str, Any], host: str) -> None:
    wire.get(host + TIME, json=ok(timeSecond="1767225600", timeNano="1767225600000000000"))
    wire.get(host + REALTIME, json=ok(list=[]))
    client = BybitClient("key", "secret", **options)
    try:
        assert client.get_signed(REALTIME, {"category": "spot"})["result"] == {"list": []}
    finally:
        client.close()
    request = wire.calls[-1].request
    assert request.url == f"{host}{REALTIME}?category=spot"
    assert request.headers["X-BAPI-API-KEY"] == "key"
    assert len(request.headers["X-BAPI-SIGN"]) == 64


def test_a_write_sends_exactly_the_body_it_signed_and_a_refusal_is_an_error(wire: Any) -> None:
    host = "https://api-testnet.bybit.com"
    wire.get(host + TIME, json=ok(timeSecond="1767225600", timeNano="1767225600000000000"))
    wire.post(host + CREATE, json={"retCode": 170131, "retMsg": "Insufficient balance.", "result": {}, "time": 1})
    wire.post(host + CREATE, body="<html>502</html>", status=502)
    client = BybitClient("key", "secret")
    try:
        with pytest.raises(BybitApiError, match="170131"):
            client.post_signed(CREATE, {"category": "spot", "symbol": "BTCUSDT"})
        with pytest.raises(OutcomeUnknownError):
            client.post_signed(CREATE, {"category": "spot", "symbol": "BTCUSDT"})
    finally:
        client.close()
    sent = [call.request for call in wire.calls if call.request.method == "POST"]
    assert len(sent) == 2  # and none is sent twice
    assert json.loads(sent[0].body) == {"category": "spot", "symbol": "BTCUSDT"}


def test_a_referer_is_sent_with_every_signed_request(wire: Any) -> None:
    host = "https://api-testnet.bybit.com"
    wire.get(host + TIME, json=ok(timeSecond="1767225600", timeNano="1767225600000000000"))
    wire.get(host + REALTIME, json=ok(list=[]))
    client = BybitClient("key", "secret", referer="Acme-1")
    try:
        client.get_signed(REALTIME, {"category": "spot"})
    finally:
        client.close()
    assert wire.calls[-1].request.headers["Referer"] == "Acme-1"
