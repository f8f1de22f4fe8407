"""What a `BybitClient` is told, by its caller or by the environment, checked when it is built.

Source of the hosts: docs v5/guide, v5/ws/connect and v5/demo.
"""

from __future__ import annotations

import ipaddress
import os
import re
from urllib.parse import urlsplit

from requests.utils import get_environ_proxies, select_proxy

from qkt.bybit.transport.signer import BybitSigner
from qkt.errors import InvalidRequestError
from qkt.secret import Secret

_HOSTS = {
    "mainnet": ("https://api.bybit.com", "wss://stream.bybit.com/v5/private"),
    "testnet": ("https://api-testnet.bybit.com", "wss://stream-testnet.bybit.com/v5/private"),
    "demo": ("https://api-demo.bybit.com", "wss://stream-demo.bybit.com/v5/private"),
}
# The venue's own REST hosts and their streams. Regional hosts whose page names no stream use the main one; any other
# host, whatever its name contains, has its stream beside it.
_STREAM_HOSTS = {
    "api.bybit.com": "stream.bybit.com",
    "api.bytick.com": "stream.bybit.com",
    "api-testnet.bybit.com": "stream-testnet.bybit.com",
    "api-demo.bybit.com": "stream-demo.bybit.com",
    "api.bybit.nl": "stream.bybit.com",
    "api.bybit.ae": "stream.bybit.com",
    "api.bybit.eu": "stream.bybit.eu",
    "api.bybit.tr": "stream.bybit.tr",
    "api.bybit-tr.com": "stream.bybit-tr.com",
    "api.bybit.id": "stream.bybit.id",
    "api.bybit.kz": "stream.bybit.kz",
    "api.bybitgeorgia.ge": "stream.bybitgeorgia.ge",
    "api.manepa.jp": "stream.manepa.jp",
    "api-testnet.manepa.jp": "stream-testnet.manepa.jp",
}
_REFERER = re.compile(r"[A-Za-z0-9._-]{1,64}").fullmatch
_LOOPBACK_NAMES = ("localhost", "ip6-localhost")


def signer_from(
    api_key: str | Secret | None, api_secret: str | Secret | None, referer: str | None = None
) -> BybitSigner:
    """The signer for the given key, or for that of the environment."""
    key = api_key if api_key is not None else os.environ.get("BYBIT_API_KEY")
    secret = api_secret if api_secret is not None else os.environ.get("BYBIT_API_SECRET")
    if not key or not secret:
        needed = {"api_key / BYBIT_API_KEY": key, "api_secret / BYBIT_API_SECRET": secret}
        missing = " and ".join(name for name, value in needed.items() if not value)
        raise InvalidRequestError(f"BybitClient needs {missing}: pass it, or set it in the environment")
    return BybitSigner(key, secret, referer_from(referer))


def referer_from(given: str | None) -> str:
    """The broker id, checked; "" for none. It goes into headers and JSON as it is."""
    if given is None or given == "":
        return ""
    if not isinstance(given, str) or not _REFERER(given):
        raise InvalidRequestError(
            f"referer must be up to 64 letters, digits, dots, dashes or underscores, got {given!r}"
        )
    return given


def environment_from(testnet: bool | None, demo: bool) -> str:
    """``mainnet``, ``testnet`` or ``demo``; live trading is an explicit choice.

    Raises InvalidRequestError for anything but a bool: an empty text from the environment must not mean mainnet.
    """
    for name, value in (("testnet", testnet), ("demo", demo)):
        if value is not None and not isinstance(value, bool):
            raise InvalidRequestError(
                f"{name} must be True or False, got {value!r}: only testnet=False trades live; leave testnet out to "
                "take it from BYBIT_TESTNET, which is testnet unless it says false"
            )
    if demo:
        if testnet:
            raise InvalidRequestError("demo trading lives on mainnet: give demo=True or testnet=True, not both")
        return "demo"
    if testnet is None:
        testnet = os.environ.get("BYBIT_TESTNET", "").strip().lower() not in ("false", "0", "no", "off")
    return "testnet" if testnet else "mainnet"


def urls_from(
    rest_url: str | None, ws_url: str | None, environment: str, *, allow_plaintext: bool = False
) -> tuple[str, str]:
    """REST and private stream URL: given, from the environment, or those of ``environment``.

    Raises InvalidRequestError for a URL that is none, or that would send the key in plain text over a network.
    """
    rest_url = rest_url or os.environ.get("BYBIT_REST_URL") or None
    ws_url = ws_url or os.environ.get("BYBIT_WS_URL") or None
    rest_default, ws_default = _HOSTS[environment]
    rest = (rest_url or rest_default).rstrip("/")
    _check_url(rest, "rest_url", ("http", "https"), allow_plaintext)
    ws = ws_url or (_stream_of(rest) if rest_url else ws_default)
    _check_url(ws, "ws_url", ("ws", "wss"), allow_plaintext)
    return rest, ws


def _stream_of(rest_url: str) -> str:
    """The private stream that belongs to a REST host."""
    parts = urlsplit(rest_url)
    stream_host = _STREAM_HOSTS.get((parts.hostname or "").rstrip("."))
    if stream_host is not None and parts.scheme == "https":
        return f"wss://{stream_host}/v5/private"
    scheme = "wss" if parts.scheme == "https" else "ws"
    return f"{scheme}://{parts.netloc}/v5/private"


def order_entry_from(given: str, environment: str) -> str:
    """``rest`` or ``websocket``, checked."""
    if given not in ("rest", "websocket"):
        raise InvalidRequestError(f"order_entry must be 'rest' or 'websocket', got {given!r}")
    if given == "websocket" and environment == "demo":
        raise InvalidRequestError("demo trading has no order entry by WebSocket: leave order_entry at 'rest'")
    return given


def trade_url_of(ws_url: str) -> str:
    """The order entry stream beside a private stream (docs v5/websocket/trade/guideline)."""
    base, _, last = ws_url.partition("?")[0].rstrip("/").rpartition("/")
    return f"{base}/trade" if last == "private" else f"{ws_url.rstrip('/')}/v5/trade"


def public_url_of(ws_url: str, kind: str) -> str:
    """A public stream beside a private stream: ``spot``, ``linear``, ``misc/status`` (docs v5/ws/connect).

    Demo trading has the prices of the live venue and no public stream of its own (docs v5/demo).
    """
    parts = urlsplit(ws_url)
    host = parts.netloc.replace("stream-demo.", "stream.", 1)
    base = parts.path.rstrip("/").rpartition("/")[0] if parts.path.rstrip("/").endswith("/private") else "/v5"
    return f"{parts.scheme}://{host}{base}/public/{kind}"


def shown_url(url: str) -> str:
    """The URL for logs, errors and reprs: without user, password and query."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_url(url: str, name: str, schemes: tuple[str, ...], allow_plaintext: bool) -> None:
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _port = parts.port
    except ValueError as error:
        raise InvalidRequestError(f"{name} is not a URL ({error})") from None
    if parts.scheme not in schemes or not host:
        raise InvalidRequestError(f"{name} must be a {' or '.join(schemes)} URL, got {shown_url(url)!r}")
    if parts.scheme in ("http", "ws") and not allow_plaintext and not is_loopback(host):
        raise InvalidRequestError(
            f"{name} {shown_url(url)!r} would send the key unencrypted over the network; use {parts.scheme}s, or pass "
            "allow_plaintext=True for a network you trust"
        )


def is_loopback(host: str) -> bool:
    """True for this machine: ``localhost``, 127.0.0.0/8 and ``::1``."""
    if host.lower() in _LOOPBACK_NAMES:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def recv_window_from(given: int | None) -> int:
    """How long the venue shall honour a request, in ms."""
    if given is None:
        text = os.environ.get("BYBIT_RECV_WINDOW_MS", "").strip() or "5000"
        if not text.isdigit():
            raise InvalidRequestError(f"BYBIT_RECV_WINDOW_MS must be a number of milliseconds, got {text!r}")
        given = int(text)
    return positive_ms(given, "recv_window_ms")


def positive_ms(value: int, name: str) -> int:
    """A number of milliseconds above zero."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise InvalidRequestError(f"{name} must be a positive int (milliseconds), got {value!r}")
    return value


def environment_proxy(url: str) -> str | None:
    """The proxy that the environment names for a stream URL."""
    as_http = url.replace("wss://", "https://").replace("ws://", "http://")
    return select_proxy(as_http, get_environ_proxies(as_http, no_proxy=None))


def environment_ca_bundle() -> str | None:
    """Whom `requests` would trust by the environment; the stream trusts the same."""
    return os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or None
