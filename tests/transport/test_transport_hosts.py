"""Where keys go: which stream belongs to which host, and no key in plain text over a network."""

from __future__ import annotations

from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.config import is_loopback, signer_from, trade_url_of, urls_from
from qkt.bybit.transport.rate_limits import domain_of
from qkt.errors import InvalidRequestError

PRIVATE = "/v5/private"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BYBIT_TESTNET", "BYBIT_REST_URL", "BYBIT_WS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("rest_url", "stream"),
    [
        ("https://api.bybit.com", "wss://stream.bybit.com"),
        ("https://api.bytick.com", "wss://stream.bybit.com"),
        ("https://api.bybit.eu", "wss://stream.bybit.eu"),
        ("https://api.bybit.tr", "wss://stream.bybit.tr"),
        ("https://api.bybit.nl", "wss://stream.bybit.com"),
        ("https://api-testnet.manepa.jp", "wss://stream-testnet.manepa.jp"),
        ("https://bybit-proxy.mycorp.example", "wss://bybit-proxy.mycorp.example"),
        ("https://api.bybit.com.evil.example", "wss://api.bybit.com.evil.example"),
        ("https://api.bybit.com:8443", "wss://stream.bybit.com"),
        ("http://127.0.0.1:9000", "ws://127.0.0.1:9000"),
    ],
)
def test_only_the_venues_own_hosts_get_its_stream(rest_url: str, stream: str) -> None:
    assert urls_from(rest_url, None, "mainnet")[1] == stream + PRIVATE


@pytest.mark.parametrize(
    "options",
    [
        {"rest_url": "http://bybit-mock:9000"},
        {"rest_url": "http://10.0.0.7:9000"},
        {"rest_url": "https://mock.example", "ws_url": "ws://mock.example/v5/private"},
        {"rest_url": "http://api.bybit.com"},
    ],
)
def test_a_key_is_not_sent_unencrypted_over_a_network_unless_that_is_allowed(options: dict[str, str]) -> None:
    with pytest.raises(InvalidRequestError, match="allow_plaintext=True"):
        BybitClient("k", "s", **options)  # type: ignore[arg-type]

    assert BybitClient("k", "s", allow_plaintext=True, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1"])
def test_this_machine_may_be_reached_in_plain_text(host: str) -> None:
    assert is_loopback(host)


def test_a_password_in_the_url_is_shown_nowhere() -> None:
    client = BybitClient("key123456", "secret123456", rest_url="https://user:hunter2@mock.example")

    with pytest.raises(InvalidRequestError) as caught:
        BybitClient("k", "s", rest_url="ftp://user:hunter2@mock.example")
    assert "hunter2" not in f"{client!r} {caught.value}"


def test_budgets_are_shared_by_the_venues_domains_and_by_no_look_alike() -> None:
    assert domain_of("https://api.bybit.eu") == domain_of("https://api.bybit.com")
    assert domain_of("https://bybit-mock.example") != domain_of("https://api.bybit.com")


def test_order_entry_stands_beside_the_private_stream() -> None:
    assert trade_url_of("wss://stream.bybit.com/v5/private") == "wss://stream.bybit.com/v5/trade"


def test_the_repr_of_a_client_that_was_not_built_does_not_raise() -> None:
    assert repr(BybitClient.__new__(BybitClient)) == "<BybitClient not built>"


@pytest.mark.parametrize("wrong", ["a b", "x\r\nY: z", 'q"', "x" * 65, 7])
def test_a_referer_that_could_forge_a_header_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidRequestError, match="referer"):
        signer_from("key", "secret", wrong)


def test_a_referer_goes_beside_the_signature_and_is_not_part_of_it() -> None:
    plain, named = signer_from("key", "secret"), signer_from("key", "secret", "Acme-1")

    assert named.headers(1, 5_000, "") == {**plain.headers(1, 5_000, ""), "Referer": "Acme-1"}
