"""Bad requests of every kind get the venue's own error, and the venue never crashes."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qkt.venue import SimulatedBybit

CREATE = "/v5/order/create"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"category": None}, 10001),
        ({"category": "inverse"}, 10001),
        ({"category": "nonsense"}, 10001),
        ({"symbol": None}, 170105),
        ({"symbol": "BTCUSD"}, 170121),
        ({"symbol": "btcusdt"}, 170121),
        ({"side": None}, 170117),
        ({"side": "buy"}, 170117),
        ({"orderType": None}, 170116),
        ({"orderType": "Stop"}, 170116),
        ({"timeInForce": "GTD"}, 170115),
        ({"qty": None}, 170105),
        ({"qty": ""}, 170105),
        ({"qty": "lots"}, 170130),
        ({"qty": "1e-3"}, 170130),
        ({"qty": "NaN"}, 170130),
        ({"qty": "0"}, 170136),
        ({"qty": "-1"}, 170136),
        ({"qty": "0.00001"}, 170136),
        ({"qty": "0.0100001"}, 170137),
        ({"qty": "84"}, 170381),
        ({"qty": "0.00005"}, 170140),
        ({"price": None}, 170105),
        ({"price": "cheap"}, 170130),
        ({"price": "0"}, 170133),
        ({"price": "-1"}, 170133),
        ({"price": "59000.01"}, 170134),
        ({"price": "66000.1"}, 170193),
        ({"side": "Sell", "price": "53999.9"}, 170194),
        ({"qty": "2"}, 170131),
        ({"side": "Sell", "price": "61000", "qty": "10.1"}, 170131),
        ({"orderLinkId": "x" * 37}, 170130),
        ({"orderLinkId": "no spaces"}, 170130),
        ({"orderLinkId": 7}, 170130),
        ({"orderFilter": "Sideways"}, 170201),
        ({"orderFilter": "OcoOrder"}, 170201),
        ({"orderFilter": "StopOrder"}, 170202),
        ({"isLeverage": 1}, 170036),
        ({"smpType": "CancelAll"}, 170130),
        ({"orderType": "Market", "qty": "100.00000001"}, 170148),
        ({"orderType": "Market", "qty": "4.99"}, 170140),
        ({"orderType": "Market", "qty": "8000001"}, 170124),
        ({"orderType": "Market", "qty": "100", "marketUnit": "shells"}, 170130),
        ({"orderType": "Market", "qty": "100001"}, 170131),
        ({"orderType": "Market", "qty": "42", "marketUnit": "baseCoin"}, 170381),
        ({"qty": ["0.01"]}, 10001),
        ({"price": {"amount": "1"}}, 10001),
    ],
)
def test_the_first_thing_wrong_with_a_create_decides_its_code(rest: Any, changed: dict[str, Any], code: int) -> None:
    answer = rest.create(**changed)
    assert answer["retCode"] == code
    assert answer["retMsg"]
    assert answer["result"] == {}
    assert rest.venue.truth()["orders"] == []


def test_a_used_link_id_is_170141_for_ever(rest: Any) -> None:
    rest.create(orderLinkId="once")
    assert rest.create(orderLinkId="once")["retCode"] == 170141
    rest.cancel(orderLinkId="once")
    rest.venue.restart()
    assert rest.create(orderLinkId="once")["retCode"] == 170141


def test_five_hundred_open_orders_are_enough(rest: Any, venue: Any) -> None:
    for _ in range(500):
        venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.001", price="59000")
    assert rest.create()["retCode"] == 170810


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"category": "spot", "symbol": "BTCUSDT"}, 10001),
        ({"category": "spot", "orderId": "1"}, 170105),
        ({"symbol": "BTCUSDT", "orderId": "1"}, 10001),
        ({"category": "spot", "symbol": "BTCUSDT", "orderId": "1"}, 170213),
        ({"category": "spot", "symbol": "BTCUSDT", "orderId": "1", "orderFilter": "x"}, 170201),
    ],
)
def test_a_cancel_needs_category_symbol_and_an_id(rest: Any, body: dict[str, Any], code: int) -> None:
    assert rest.post("/v5/order/cancel", **body)["retCode"] == code


def test_an_order_of_another_symbol_is_not_found(rest: Any) -> None:
    order_id = rest.create()["result"]["orderId"]
    assert rest.cancel(orderId=order_id, symbol="ETHUSDT")["retCode"] == 170213


@pytest.mark.parametrize("body", ["", "not json", "[]", '"text"', "5", "null", "{", '{"a":' * 2000, "\ud7ff", "NaN"])
def test_a_body_that_is_no_object_is_10001(rest: Any, body: Any) -> None:
    assert rest.post_raw(CREATE, body.encode().decode()).json()["retCode"] == 10001


@pytest.mark.parametrize("request_list", [None, [], "x", [1], [{}] * 11])
def test_a_batch_needs_one_to_ten_objects(rest: Any, request_list: Any) -> None:
    assert rest.post("/v5/order/create-batch", category="spot", request=request_list)["retCode"] == 10001


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v5/order/realtime", {}),
        ("/v5/order/realtime", {"category": "inverse", "symbol": "BTCUSD"}),
        ("/v5/order/realtime", {"category": "spot", "limit": "many"}),
        ("/v5/order/realtime", {"category": "spot", "openOnly": "x"}),
        ("/v5/order/realtime", {"category": "spot", "cursor": "nonsense"}),
        ("/v5/order/history", {"category": "spot", "startTime": "yesterday"}),
        ("/v5/execution/list", {"category": "spot", "limit": "0"}),
        ("/v5/account/wallet-balance", {}),
        ("/v5/account/wallet-balance", {"accountType": "SPOT"}),
        ("/v5/account/fee-rate", {"category": "spot", "symbol": "NOPE"}),
        ("/v5/market/tickers", {"category": "spot", "symbol": "NOPE"}),
        ("/v5/market/orderbook", {"category": "spot"}),
        ("/v5/market/orderbook", {"category": "spot", "symbol": "BTCUSDT", "limit": "0"}),
        ("/v5/market/instruments-info", {}),
    ],
)
def test_bad_parameters_of_reads_are_10001(rest: Any, path: str, query: dict[str, Any]) -> None:
    answer = rest.get(path, **query)
    assert answer["retCode"] == 10001
    assert answer["retMsg"]


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v5/order/create HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n{",
        b"GET /v5/order/realtime?\xff\xfe=%zz HTTP/1.1\r\nHost: x\r\nX-BAPI-API-KEY: key\r\n"
        b"X-BAPI-SIGN: \xff\r\nX-BAPI-TIMESTAMP: \xff\r\n\r\n",
        b"GET /v5/private HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n",
    ],
)
def test_bytes_that_are_no_request_do_not_hurt(venue: Any, rest: Any, wire: bytes) -> None:
    with socket.create_connection(("127.0.0.1", venue.port)) as raw:
        raw.sendall(wire)
        raw.shutdown(socket.SHUT_WR)
        raw.settimeout(1)
        raw.recv(4096)
    assert rest.create()["retCode"] == 0


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("1" * 5000)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner), max_leaves=5
)
NAMES = [
    "category",
    "symbol",
    "side",
    "orderType",
    "qty",
    "price",
    "timeInForce",
    "orderLinkId",
    "orderFilter",
    "triggerPrice",
    "marketUnit",
    "takeProfit",
    "stopLoss",
    "tpLimitPrice",
    "tpOrderType",
    "smpType",
    "isLeverage",
    "orderId",
    "request",
    "baseCoin",
    "settleCoin",
]
names = st.sampled_from(NAMES)
good = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59000"}
POSTS = [
    "/v5/order/create",
    "/v5/order/amend",
    "/v5/order/cancel",
    "/v5/order/cancel-all",
    "/v5/order/create-batch",
    "/v5/order/amend-batch",
    "/v5/order/cancel-batch",
]
GETS = [
    "/v5/order/realtime",
    "/v5/order/history",
    "/v5/execution/list",
    "/v5/account/wallet-balance",
    "/v5/account/fee-rate",
    "/v5/order/spot-borrow-check",
    "/v5/market/tickers",
    "/v5/market/orderbook",
    "/v5/market/instruments-info",
]
_FUZZ = {"deadline": None, "max_examples": 80, "suppress_health_check": list(HealthCheck)}


@pytest.fixture(scope="module")
def door(new_rest: Any) -> Iterator[Any]:
    """A signed client of a venue that lives as long as the fuzzing does."""
    with SimulatedBybit(rate_limits=False) as venue:
        yield new_rest(venue)


@given(path=st.sampled_from(POSTS), changes=st.dictionaries(names, values, max_size=4), batched=st.booleans())
@settings(**_FUZZ)  # type: ignore[arg-type]
def test_no_body_crashes_the_venue(door: Any, path: Any, changes: Any, batched: Any) -> None:
    body = {**good, **changes}
    if batched and "request" not in changes:
        body["request"] = [{**good, **changes}]
    answer = door.post_raw(path, json.dumps(body))
    assert answer.status_code == 200
    assert isinstance(answer.json()["retCode"], int)


@pytest.mark.parametrize("path", POSTS)
def test_no_type_where_a_string_belongs_crashes_the_venue(door: Any, path: Any) -> None:
    for name in NAMES:
        for value in ([], {"a": 1}, None, True, 10**400):  # type: ignore[var-annotated]
            item = {**good, name: value}
            answer = door.post_raw(path, json.dumps({**good, "request": [item]} if "batch" in path else item))
            assert answer.status_code == 200, (name, value)
            assert isinstance(answer.json()["retCode"], int)


@given(path=st.sampled_from(GETS), query=st.dictionaries(st.text(max_size=8) | names, st.text(max_size=12), max_size=4))
@settings(**_FUZZ)  # type: ignore[arg-type]
def test_no_query_crashes_the_venue(door: Any, path: Any, query: Any) -> None:
    text = "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query.items())
    for raw in (text, f"category=spot&accountType=UNIFIED&symbol=BTCUSDT&{text}"):
        answer = door.get_raw(path, raw)
        assert answer.status_code == 200
        assert isinstance(answer.json()["retCode"], int)


@given(message=values)
@settings(**_FUZZ | {"max_examples": 25})  # type: ignore[arg-type]
def test_no_control_body_crashes_the_venue(door: Any, message: Any) -> None:
    for path in ("/_venue/faults", "/_venue/price", "/_venue/fill", "/_venue/place", "/_venue/deposit"):
        body = json.dumps({"name": message, "symbol": message})
        headers = {"Content-Type": "application/json"}
        answer = requests.post(door.venue.rest_url + path, data=body, headers=headers, timeout=10)
        assert answer.status_code == 400
