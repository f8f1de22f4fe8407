"""After `os.fork` a client works in the process that made it, and refuses in the child."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.errors import InvalidRequestError
from qkt.venue import SimulatedBybit

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs os.fork")

WALLET = "/v5/account/wallet-balance"


def in_a_child(report: Callable[[], str]) -> str:
    """What ``report()`` returns in a forked child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            text = report()
        except BaseException as error:
            text = f"raised {error!r}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(child, 0)
    return text


def refusal_of(call: Callable[[], object]) -> str:
    try:
        call()
    except InvalidRequestError as error:
        return str(error)
    return "not refused"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("verb", ["get", "post", "connect", "subscribe"])
def test_a_client_made_before_a_fork_refuses_in_the_child(client: BybitClient, verb: str) -> None:
    client.connect()
    calls: dict[str, Callable[[], object]] = {
        "get": lambda: client.get_signed(WALLET, {"accountType": "UNIFIED"}),
        "post": lambda: client.post_signed("/v5/order/cancel-all", {"category": "spot"}),
        "connect": client.connect,
        "subscribe": lambda: client.subscribe("order.spot", lambda _frame: None),
    }

    assert "build a new client" in in_a_child(lambda: refusal_of(calls[verb]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_in_the_child_the_client_says_that_it_has_no_stream(client: BybitClient) -> None:
    client.connect()

    state = in_a_child(lambda: f"{client.stream_state} {client.is_connected} {client!r}")

    assert state.startswith("closed False <BybitClient")
    assert client.is_connected


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_closing_in_the_child_takes_no_time_and_leaves_the_parents_sockets(client: BybitClient) -> None:
    client.connect()

    def close() -> str:
        began = time.monotonic()
        client.close()
        return f"{time.monotonic() - began < 0.5}"

    assert in_a_child(close) == "True"
    assert client.get_signed(WALLET, {"accountType": "UNIFIED"})["retCode"] == 0
    assert (client.is_connected, client.stats.losses) == (True, 0)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_client_built_in_the_child_works(venue: SimulatedBybit, client: BybitClient) -> None:
    client.connect()

    def report() -> str:
        with BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url) as own:
            return f"{own.is_connected} {own.get_signed(WALLET, {'accountType': 'UNIFIED'})['retCode']}"

    assert in_a_child(report) == "True 0"
    assert client.is_connected
