"""One contract, two transports: the fake client does what the real one does on the simulated venue."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.protocol import BybitTransport
from qkt.errors import BybitApiError, QktError
from qkt.testing import FakeBybitClient
from qkt.testing.builders import refusal

REALTIME = "/v5/order/realtime"
CREATE = "/v5/order/create"
CANCEL = "/v5/order/cancel"
ORDER = {
    "category": "spot",
    "symbol": "BTCUSDT",
    "side": "Buy",
    "orderType": "Limit",
    "qty": "0.01",
    "price": "50000",
    "orderLinkId": "c1",
}


@pytest.fixture(params=["fake", "real"])
def client(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == "fake":
        fake = FakeBybitClient()
        fake.responses[CANCEL] = refusal(170213, "Order does not exist.")
        with fake:
            yield fake
    else:
        venue = request.getfixturevalue("bybit_venue")
        with BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url) as real:
            yield real


def test_it_is_a_transport(client: Any) -> None:
    assert isinstance(client, BybitTransport)
    assert client.is_connected


def test_a_read_gives_the_decoded_envelope(client: Any) -> None:
    answer = client.get_signed(REALTIME, {"category": "spot"})
    assert (answer["retCode"], answer["result"]["list"]) == (0, [])


def test_a_write_gives_the_venues_id(client: Any) -> None:
    answer = client.post_signed(CREATE, ORDER)
    assert answer["result"]["orderLinkId"] == "c1"
    assert answer["result"]["orderId"]


def test_a_refusal_raises_with_its_code(client: Any) -> None:
    with pytest.raises(BybitApiError) as refused:
        client.post_signed(CANCEL, {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "nobody"})
    assert refused.value.ret_code == 170213


@pytest.mark.parametrize(("verb", "path"), [("get_signed", CREATE), ("post_signed", REALTIME)])
def test_the_wrong_verb_is_refused(client: Any, verb: str, path: Any) -> None:
    with pytest.raises((QktError, AssertionError)):
        getattr(client, verb)(path, ORDER)


def test_balances_and_wallet_are_for_reading_only(client: Any) -> None:
    with pytest.raises(TypeError):
        client.balances["BTC"] = 1
    with pytest.raises(TypeError):
        client.wallet["BTC"] = 1


def test_listeners_and_handlers_can_be_added_at_any_time(client: Any) -> None:
    client.subscribe("order", lambda frame: None)
    client.on_disconnect(lambda reason: None)
    client.on_reconnect(lambda: None)


def test_closing_twice_is_closing_once(client: Any) -> None:
    client.close()
    client.close()
    assert not client.is_connected
