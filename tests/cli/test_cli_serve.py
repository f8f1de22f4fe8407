"""`qkt serve`: an address with a token, printed once; a page that changes nothing; Ctrl-C ends it."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable

import pytest
import requests

from qkt.venue import SimulatedBybit
from tests.support.cli_rig import Ended, end, start

Qkt = Callable[..., Ended]


def test_the_page_is_served_until_ctrl_c_and_shows_what_traded_before(
    venue: SimulatedBybit, venue_env: dict[str, str]
) -> None:
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000", orderLinkId="resting")
    venue.trade(symbol="BTCUSDT", side="Buy", quantity="0.01")
    process = start("serve", "--port", "0", "--json", env=venue_env)
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    page = requests.get(told["url"], timeout=10)
    process.send_signal(signal.SIGINT)
    ended = end(process)

    assert page.status_code == 200
    assert "spot and linear on" in page.text
    assert "resting" in page.text
    assert "buy 0.01 BTCUSDT" in page.text
    assert (ended.code, ended.err) == (130, "")


def test_the_token_is_printed_once(qkt: Qkt) -> None:
    ended = qkt("serve", "--port", "0", "--for-s", "0")
    assert ended.code == 0
    assert ended.out.count("token=") == 1
    assert max(map(len, ended.lines)) <= 80


def test_a_token_of_the_environment_is_not_repeated(qkt: Qkt, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QKT_STATUS_TOKEN", "a-token-of-the-test")
    ended = qkt("serve", "--port", "0", "--for-s", "0")
    assert ended.code == 0
    assert "a-token-of-the-test" not in ended.out + ended.err


def test_a_taken_port_is_one_sentence(qkt: Qkt) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended = qkt("serve", "--port", str(taken.getsockname()[1]), "--for-s", "0")
    assert ended.code == 2
    assert "name another --port" in ended.err


def test_a_public_address_without_names_is_refused(qkt: Qkt) -> None:
    ended = qkt("serve", "--port", "0", "--host", "0.0.0.0", "--for-s", "0")
    assert ended.code == 2
    assert "allowed_hosts" in ended.err
