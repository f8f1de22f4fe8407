"""A client of its own, so that neither the SDK nor a foreign library stands between a test and the venue."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
import websocket

from qkt.venue import SimulatedBybit


class Rest:
    """A signed HTTP client that hides nothing."""

    def __init__(self, venue: SimulatedBybit, key: str = "key", secret: str = "secret") -> None:
        self.venue = venue
        self.key, self.secret = key, secret
        self.session = requests.Session()
        self.timeout_s = 10.0

    def headers(self, payload: str, **changed: str) -> dict[str, str]:
        stamp = changed.pop("timestamp", str(self.venue.now_ms()))
        window = changed.pop("window", "5000")
        secret = changed.pop("secret", self.secret)
        signature = hmac.new(secret.encode(), f"{stamp}{self.key}{window}{payload}".encode(), hashlib.sha256)
        return {
            "X-BAPI-API-KEY": self.key,
            "X-BAPI-TIMESTAMP": stamp,
            "X-BAPI-RECV-WINDOW": window,
            "X-BAPI-SIGN": signature.hexdigest(),
            **changed,
        }

    def post_raw(self, path: str, text: str, **changed: str) -> requests.Response:
        headers = self.headers(text, **changed) | {"Content-Type": "application/json"}
        return self.session.post(self.venue.rest_url + path, data=text, headers=headers, timeout=self.timeout_s)

    def get_raw(self, path: str, query: str = "", **changed: str) -> requests.Response:
        url = self.venue.rest_url + path + (f"?{query}" if query else "")
        return self.session.get(url, headers=self.headers(query, **changed), timeout=self.timeout_s)

    def post(self, path: str, **body: Any) -> dict[str, Any]:
        return self.post_raw(path, json.dumps(body)).json()  # type: ignore[no-any-return]

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self.get_raw(path, "&".join(f"{name}={value}" for name, value in query.items())).json()  # type: ignore[no-any-return]

    def create(self, **changed: Any) -> dict[str, Any]:
        body = {
            "category": "spot",
            "symbol": "BTCUSDT",
            "side": "Buy",
            "orderType": "Limit",
            "qty": "0.01",
            "price": "59000",
            **changed,
        }
        return self.post("/v5/order/create", **{name: value for name, value in body.items() if value is not None})

    def order(self, **query: Any) -> dict[str, Any]:
        """The one order of that id, from realtime."""
        (row,) = self.get("/v5/order/realtime", category="spot", **query)["result"]["list"]
        return row  # type: ignore[no-any-return]

    def cancel(self, **body: Any) -> dict[str, Any]:
        return self.post("/v5/order/cancel", **{"category": "spot", "symbol": "BTCUSDT", **body})

    def amend(self, **body: Any) -> dict[str, Any]:
        return self.post("/v5/order/amend", **{"category": "spot", "symbol": "BTCUSDT", **body})

    def rows(self, path: str, **query: Any) -> list[dict[str, Any]]:
        return self.get(path, **{"category": "spot", **query})["result"]["list"]  # type: ignore[no-any-return]

    def balance(self, coin: str) -> dict[str, Any]:
        answer = self.get("/v5/account/wallet-balance", accountType="UNIFIED", coin=coin)
        (row,) = answer["result"]["list"][0]["coin"]
        return row  # type: ignore[no-any-return]


class LinearRest(Rest):
    """The same client, for the contract BTCUSDT."""

    def call(self, path: str, **changed: Any) -> dict[str, Any]:
        """A signed POST that names the contract."""
        return self.post(path, **{"category": "linear", "symbol": "BTCUSDT", **changed})

    def create(self, **changed: Any) -> dict[str, Any]:
        return super().create(**{"category": "linear", "qty": "0.1", **changed})

    def market(self, side: str, qty: str = "0.1", **changed: Any) -> dict[str, Any]:
        return self.create(side=side, qty=qty, orderType="Market", price=None, **changed)

    def order(self, **query: Any) -> dict[str, Any]:
        (row,) = self.rows("/v5/order/realtime", **query)
        return row

    def orders(self, **query: Any) -> list[dict[str, Any]]:
        """Open orders, oldest first."""
        return list(reversed(self.rows("/v5/order/realtime", symbol="BTCUSDT", **query)))

    def history(self, **query: Any) -> list[dict[str, Any]]:
        """Closed orders, oldest first."""
        return list(reversed(self.rows("/v5/order/history", symbol="BTCUSDT", **query)))

    def cancel(self, **body: Any) -> dict[str, Any]:
        return self.call("/v5/order/cancel", **body)

    def amend(self, **body: Any) -> dict[str, Any]:
        return self.call("/v5/order/amend", **body)

    def rows(self, path: str, **query: Any) -> list[dict[str, Any]]:
        return super().rows(path, **{"category": "linear", **query})

    def position(self, index: int = 0, symbol: str = "BTCUSDT") -> dict[str, Any]:
        rows = self.rows("/v5/position/list", symbol=symbol)
        return next(row for row in rows if row["positionIdx"] == index)

    def account(self) -> dict[str, Any]:
        """The account row of the wallet."""
        row: dict[str, Any] = self.get("/v5/account/wallet-balance", accountType="UNIFIED")["result"]["list"][0]
        return row


class Stream:
    """A WebSocket client that reads one message at a time."""

    def __init__(self, url: str, venue: SimulatedBybit) -> None:
        self.venue = venue
        self.socket = websocket.create_connection(url, timeout=10)

    def send(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def receive(self) -> dict[str, Any]:
        return json.loads(self.socket.recv())  # type: ignore[no-any-return]

    def ask(self, **message: Any) -> dict[str, Any]:
        self.send(**message)
        return self.receive()

    def login(self, key: str = "key", secret: str = "secret", expires_in_ms: int = 10_000) -> dict[str, Any]:
        expires = self.venue.now_ms() + expires_in_ms
        signature = hmac.new(secret.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
        return self.ask(op="auth", args=[key, expires, signature])

    def subscribe(self, *topics: str) -> dict[str, Any]:
        return self.ask(op="subscribe", args=list(topics), req_id="s1")

    def next(self, topic: str) -> dict[str, Any]:
        """The next frame of a topic; others are skipped."""
        while True:
            frame = self.receive()
            if frame.get("topic") == topic:
                return frame

    def quiet(self, for_s: float = 0.05) -> bool:
        """Whether nothing arrives for a moment."""
        self.socket.settimeout(for_s)
        try:
            self.receive()
        except websocket.WebSocketTimeoutException:
            return True
        finally:
            self.socket.settimeout(10)
        return False

    def close(self) -> None:
        self.socket.close(timeout=0)


TRADE_ORDER = {
    "category": "spot",
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderType": "Limit",
    "qty": "0.01",
    "price": "59000",
}


class Trade(Stream):
    """A connection to `/v5/trade`."""

    def request(self, op: str = "order.create", *, header: dict[str, str] | None = None, **message: Any) -> Any:
        self.send_request(op, header=header, **message)
        return self.receive()

    def send_request(self, op: str = "order.create", *, header: dict[str, str] | None = None, **message: Any) -> None:
        stamp = {"X-BAPI-TIMESTAMP": str(self.venue.now_ms())}
        self.send(**{"op": op, "header": stamp if header is None else header, "args": [TRADE_ORDER], **message})

    def is_cut(self) -> bool:
        try:
            while True:
                self.receive()
        except (websocket.WebSocketException, ConnectionError):
            return True


@pytest.fixture
def venue() -> Iterator[SimulatedBybit]:
    with SimulatedBybit(seed=1, rate_limits=False) as running:
        yield running


@pytest.fixture
def rest(venue: SimulatedBybit) -> Rest:
    return Rest(venue)


@pytest.fixture
def linear(venue: SimulatedBybit) -> LinearRest:
    return LinearRest(venue)


@pytest.fixture(scope="session")
def linear_rest() -> Callable[..., LinearRest]:
    return LinearRest


@pytest.fixture(scope="session")
def new_rest() -> Callable[..., Rest]:
    return Rest


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Stream]]:
    """Open private connections; logged in and subscribed when topics are named."""
    opened: list[Stream] = []

    def open_stream(*topics: str, url: str | None = None, venue: SimulatedBybit | None = None) -> Stream:
        venue = venue or request.getfixturevalue("venue")
        stream = Stream(url or venue.ws_url, venue)
        opened.append(stream)
        if topics:
            assert stream.login()["success"]
            assert stream.subscribe(*topics)["success"]
        return stream

    yield open_stream
    for stream in opened:
        stream.close()


@pytest.fixture
def open_trade(venue: SimulatedBybit) -> Iterator[Callable[..., Trade]]:
    opened: list[Trade] = []

    def open_one(venue: SimulatedBybit = venue, *, login: bool = True) -> Trade:
        trade = Trade(venue.trade_ws_url, venue)
        opened.append(trade)
        if login:
            assert trade.login()["retCode"] == 0
        return trade

    yield open_one
    for trade in opened:
        trade.close()


@pytest.fixture
def trade(open_trade: Callable[..., Trade]) -> Trade:
    return open_trade()
