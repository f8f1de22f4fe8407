"""TLS that is verified, proxies that are asked for, and calls that can be cut through both."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.errors import BybitConnectError, OutcomeUnknownError, VenueUnavailableError
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import SOON, Recorder, eventually, qkt_threads, read_request

CERTIFICATE = str(Path(__file__).with_name("localhost.pem"))  # for localhost only, made for these tests
WALLET = "/v5/account/wallet-balance"
UNIFIED = {"accountType": "UNIFIED"}
CREATE = "/v5/order/create"


class Relay:
    """Listens, and passes each connection on; `connections` counts them."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.connections = 0
        self.asked: list[Any] = []
        self._open = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: Any) -> None:
        with contextlib.suppress(OSError):
            sock, first = self._greet(sock)
            far = socket.create_connection(("127.0.0.1", self._port))
            self._open += [sock, far]
            far.sendall(first)
            back = threading.Thread(target=self._pump, args=(far, sock), daemon=True)
            back.start()
            self._pump(sock, far)

    def _greet(self, sock: Any) -> tuple[Any, ...]:
        return sock, b""

    @staticmethod
    def _pump(source: Any, target: Any) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        for sock in self._open:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


class TlsFront(Relay):
    """Speaks TLS, and plain to the venue behind."""

    def __init__(self, port: Any) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(CERTIFICATE)
        super().__init__(port)

    def _greet(self, sock: Any) -> tuple[Any, ...]:
        return self._context.wrap_socket(sock, server_side=True), b""

    @property
    def urls(self) -> dict[str, Any]:
        return {"rest_url": f"https://localhost:{self.port}", "ws_url": f"wss://localhost:{self.port}/v5/private"}


class Proxy(Relay):
    """An HTTP proxy: CONNECT, and absolute URLs."""

    def _greet(self, sock: Any) -> tuple[Any, ...]:
        request = read_request(sock)
        line, _, rest = request.partition(b"\r\n")
        self.asked.append(line.decode())
        method, target, version = line.split()
        if method == b"CONNECT":
            sock.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            return sock, b""
        parts = urlsplit(target.decode())
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        one_request_each = b"\r\nConnection: close\r\n"
        return sock, b" ".join([method, path.encode(), version]) + one_request_each + rest


@pytest.fixture
def tls(venue: SimulatedBybit) -> Iterator[Any]:
    with TlsFront(venue.port) as front:
        yield front


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", CERTIFICATE)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_a_certificate_nobody_vouches_for_is_refused_and_nothing_is_sent(
    venue: SimulatedBybit, tls: Any, make_client: Callable[..., BybitClient]
) -> None:
    client = make_client(**tls.urls, timeout_ms=500)
    with pytest.raises(VenueUnavailableError, match="nothing was sent"):
        client.post_signed(CREATE, {"category": "spot"})
    with pytest.raises(VenueUnavailableError, match="CERTIFICATE_VERIFY_FAILED"):
        client.get_signed(WALLET, UNIFIED)
    assert not [entry for entry in venue.truth()["journal"] if entry.get("path") == CREATE]


def test_the_streams_certificate_is_verified_too(
    venue: SimulatedBybit, tls: Any, make_client: Callable[..., BybitClient]
) -> None:
    with pytest.raises(BybitConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        make_client(ws_url=tls.urls["ws_url"]).connect()


def test_rest_and_stream_work_over_tls(
    venue: SimulatedBybit, tls: Any, make_client: Callable[..., BybitClient], trusted: None
) -> None:
    client = make_client(**tls.urls, trust_env=True)
    frames = Recorder()
    client.subscribe("execution.spot", frames)
    client.connect()
    for _ in range(20):
        venue.trade(symbol="BTCUSDT", side="Buy", quantity="0.001")
    eventually(lambda: len(frames) == 20, "twenty executions over TLS")
    eventually(lambda: client.stats.ping_round_trip_ms is not None, "a pong over TLS")
    assert client.stats.losses == 0
    client.close()
    assert qkt_threads() == []


def test_a_certificate_for_another_name_is_refused(
    venue: SimulatedBybit, tls: Any, make_client: Callable[..., BybitClient], trusted: None
) -> None:
    client = make_client(
        rest_url=tls.urls["rest_url"].replace("localhost", "127.0.0.2"), trust_env=True, timeout_ms=500
    )
    with pytest.raises(VenueUnavailableError, match="nothing was sent"):
        client.post_signed(CREATE, {"category": "spot"})


@pytest.mark.parametrize(
    ("path", "expected"), [(WALLET, VenueUnavailableError), (CREATE, OutcomeUnknownError)], ids=["read", "write"]
)
def test_close_cuts_what_is_under_way_over_tls(
    venue: SimulatedBybit, tls: Any, make_client: Callable[..., BybitClient], trusted: None, path: Any, expected: Any
) -> None:
    client = make_client(**tls.urls, trust_env=True)
    client.connect()
    venue.faults.add("request_lost", path=path, mode="hang")
    outcome = []

    def call() -> None:
        try:
            client.get_signed(path, UNIFIED) if path == WALLET else client.post_signed(path, {"category": "spot"})
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    eventually(lambda: client.stats.requests_under_way == 1, "under way")
    threading.Event().wait(0.1)
    began = time.monotonic()
    client.close()
    thread.join(SOON)
    assert time.monotonic() - began < 1.0
    assert isinstance(outcome[0], expected)
    assert qkt_threads() == []


def test_a_proxy_that_was_asked_for_carries_rest_and_stream(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    with Proxy(venue.port) as proxy:
        client = make_client(proxy=f"http://127.0.0.1:{proxy.port}")
        frames = Recorder()
        client.subscribe("execution.spot", frames)
        client.connect()
        venue.trade(symbol="BTCUSDT", side="Buy", quantity="0.001")
        eventually(lambda: frames, "a frame through the proxy")
        client.get_signed("/v5/order/realtime", {"category": "spot", "limit": 1})
        assert any(line.startswith("GET http://127.0.0.1") for line in proxy.asked)
        assert any(line.startswith("CONNECT 127.0.0.1") for line in proxy.asked)
        client.close()
    assert qkt_threads() == []


def test_tls_goes_through_a_proxy_as_a_tunnel(
    venue: SimulatedBybit, tls: Any, make_client: Callable[..., BybitClient], trusted: None
) -> None:
    with Proxy(tls.port) as proxy:
        client = make_client(**tls.urls, proxy=f"http://127.0.0.1:{proxy.port}", trust_env=True)
        client.connect()
        assert client.get_signed(WALLET, UNIFIED)["retCode"] == 0
        assert all(line.startswith("CONNECT localhost") for line in proxy.asked)


def test_the_environments_proxy_is_not_used_unless_asked(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    with Proxy(venue.port) as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        make_client().connect()
        assert proxy.connections == 0
        make_client(trust_env=True).connect()
        assert proxy.connections > 0


def test_a_dead_proxy_means_nothing_was_sent(venue: SimulatedBybit, make_client: Callable[..., BybitClient]) -> None:
    client = make_client(proxy="http://127.0.0.1:1", timeout_ms=400)
    with pytest.raises(VenueUnavailableError, match="nothing was sent"):
        client.post_signed(CREATE, {"category": "spot"})
