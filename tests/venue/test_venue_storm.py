"""Everything at once: many clients, a living market, every kind of fault; and the venue still stands and balances."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import random
import threading
from decimal import Decimal
from typing import Any

import pytest
import requests
import websocket

from qkt.venue import KINDS, SimulatedBybit

BODIES = [
    ("/v5/order/create", {"side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59990"}),
    ("/v5/order/create", {"side": "Sell", "orderType": "Limit", "qty": "0.01", "price": "60010"}),
    ("/v5/order/create", {"side": "Buy", "orderType": "Market", "qty": "250"}),
    (
        "/v5/order/create",
        {"side": "Sell", "orderType": "Limit", "qty": "0.01", "price": "59900", "triggerPrice": "59980"},
    ),
    ("/v5/order/cancel-all", {}),
]


@pytest.mark.verify
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_of_faults_leaves_the_books_balanced(
    seed: Any, new_rest: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    dice = random.Random(seed)
    with SimulatedBybit(seed=seed, market="live", market_speed=50, rate_limits=False) as venue:
        for name in KINDS:
            if name not in ("connection_refused", "ip_ban", "stale_wallet", "clock_jump", "clock_skew"):
                venue.faults.add(name, probability=0.02)
        threads = [
            threading.Thread(target=_trade, args=(new_rest(venue), dice.random(), number)) for number in range(4)
        ] + [threading.Thread(target=_listen, args=(venue, number)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
        venue.faults.clear()
        assert venue.wait_idle(10)
        assert new_rest(venue).get("/v5/order/realtime", category="spot")["retCode"] == 0
        truth = venue.truth()
    assert (venue.total("BTC"), venue.total("USDT")) == (10, 100_000)  # type: ignore[comparison-overlap]
    filled: dict[str, Decimal] = {}
    for fill in truth["executions"]:
        filled[fill["orderId"]] = filled.get(fill["orderId"], Decimal(0)) + Decimal(fill["execQty"])
    for order in truth["orders"]:
        assert Decimal(order["cumExecQty"]) == filled.get(order["orderId"], 0)
    assert [record.getMessage() for record in caplog.records] == []


def _trade(rest: Any, seed: float, number: int) -> None:
    dice = random.Random(seed)
    rest.timeout_s = 0.2
    for at in range(100):
        path, body = dice.choice(BODIES)
        body = {"category": "spot", "symbol": "BTCUSDT", **body}
        if path.endswith("create"):
            body["orderLinkId"] = f"storm-{number}-{at}"
        try:
            rest.post_raw(path, json.dumps(body))
            read = dice.choice(["/v5/order/realtime", "/v5/order/history", "/v5/execution/list"])
            rest.get_raw(read, "category=spot&limit=5")
            rest.get_raw("/v5/account/wallet-balance", "accountType=UNIFIED")
            link = f"storm-{number}-{dice.randrange(at + 1)}"
            named = {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": link}
            rest.post_raw("/v5/order/amend", json.dumps({**named, "qty": "0.02"}))
            rest.post_raw("/v5/order/cancel", json.dumps(named))
        except requests.exceptions.RequestException:
            continue


def _listen(venue: SimulatedBybit, number: int) -> None:
    """Log in, listen until something breaks, again; some only knock and run away."""
    for _ in range(20):
        try:
            socket = websocket.create_connection(venue.ws_url, timeout=0.1)
            expires = venue.now_ms() + 10_000
            signature = hmac.new(b"secret", f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
            socket.send(json.dumps({"op": "auth", "args": ["key", expires, signature]}))
            if number:
                socket.send(json.dumps({"op": "subscribe", "args": ["order", "execution", "wallet"]}))
                for _ in range(30):
                    socket.send(json.dumps({"op": "ping"}))
                    socket.recv()
            socket.sock.close()  # type: ignore[union-attr]
        except (websocket.WebSocketException, OSError, UnicodeDecodeError):
            continue
