"""Serves the status page from a thread of its own. Needs ``qkt[web]`` (waitress).

Loopback by default, a token always, GET and HEAD only. Nothing here can change an order, freeze a broker or end the
process.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Iterable
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError
from qkt.monitoring.extras import require
from qkt.monitoring.observed import Brokers, observe
from qkt.monitoring.status.access import Access
from qkt.monitoring.status.app import StatusApp
from qkt.monitoring.status.history import StatusHistory
from qkt.monitoring.status.model import StatusModel
from qkt.secret import Secret
from qkt.threads import library_thread

DEFAULT_PORT = 8790

_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MAX_STREAMS, _OTHER_THREADS = 8, 4
_LEAST_TOKEN = 16
_JOIN_S = 5.0


class StatusServer:
    """A running status page; see `serve_status`. Close it before its brokers."""

    def __init__(self, app: StatusApp, token: Secret, listening: socket.socket, *, host: str) -> None:
        from waitress.server import create_server

        self._app = app
        self._token = token
        self._host = host
        self._sockets: dict[int, Any] = {}
        self._is_closed = False
        self._close_lock = threading.Lock()
        self.port: int = int(listening.getsockname()[1])
        self._server: Any = create_server(
            app,
            map=self._sockets,
            sockets=[listening],
            threads=_MAX_STREAMS + _OTHER_THREADS,
            ident="",
            connection_limit=64,
            channel_timeout=60,
            cleanup_interval=10,
            max_request_header_size=16_384,
            max_request_body_size=1_024,
            clear_untrusted_proxy_headers=True,
        )
        self._thread = library_thread("qkt-status", self._server.run)
        self._thread.start()

    @property
    def token(self) -> Secret:
        """What a reader must present: ``?token=`` once, or the header ``Authorization: Bearer``."""
        return self._token

    @property
    def address(self) -> str:
        """The page's address without the token: what may be logged."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}/"

    @property
    def url(self) -> str:
        """The page's address with the token: open it once, then the browser keeps a cookie. Treat it as a secret."""
        return f"{self.address}?token={quote(self._token.reveal())}"

    def close(self) -> None:
        """End live views and connections, and join the threads; idempotent."""
        with self._close_lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._app.close()
        self._server.task_dispatcher.shutdown(timeout=_JOIN_S)
        self._server.trigger.pull_trigger(self._close_sockets)  # runs on the thread that owns the sockets
        self._thread.join(_JOIN_S)

    def _close_sockets(self) -> None:
        self._server.close()
        for channel in list(self._sockets.values()):
            channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<StatusServer {self.address} {'closed' if self._is_closed else 'serving'}>"


def serve_status(
    broker: Brokers,
    port: int = DEFAULT_PORT,
    *,
    host: str = "127.0.0.1",
    token: str | Secret | None = None,
    age_bound_ms: int = 90_000,
    allowed_hosts: Iterable[str] = (),
    label: str = "",
    clock: Clock | None = None,
    history: StatusHistory | None = None,
) -> StatusServer:
    """Serve the status page of a broker, a composite or several brokers, until `StatusServer.close`.

    Args:
        port: 0 takes a free one; ``StatusServer.port`` tells which.
        host: the address to listen on. Anything but loopback needs ``allowed_hosts``.
        token: at least 16 characters; generated when None. ``StatusServer.url`` holds it.
        age_bound_ms: ages beyond it are marked and make ``/healthz`` answer 503; at least three times the brokers'
            ``poll_interval_ms``.
        allowed_hosts: further values of the Host header to answer, with the port if it is not the scheme's own, e.g.
            ``status.example.com`` behind a reverse proxy.
        label: shown at the top, e.g. the bot's name.
        history: a `StatusHistory` that has been listening since before the brokers were built.

    Raises InvalidRequestError for what cannot work, and OSError when the port is taken.
    """
    require("waitress", "web", "the status page")
    brokers, hosts = observe(broker), frozenset(each.lower() for each in allowed_hosts)
    if host not in _LOOPBACK and not hosts:
        raise InvalidRequestError(
            f"listening on {host!r} needs allowed_hosts, the names by which browsers call the page; put TLS in front"
        )
    given = _checked_token(token)
    listening = _bound_socket(host, port)  # first: when the port is taken a given history goes on, for another try
    clock = clock or SystemClock()
    history = history or StatusHistory((), clock=clock)
    history.name_brokers(brokers)
    model = StatusModel(brokers, history, clock, age_bound_ms=age_bound_ms)
    access = Access(given, hosts, "qkt_status")
    app = StatusApp(model, access, label=label, max_streams=_MAX_STREAMS)
    try:
        server = StatusServer(app, given, listening, host=host)
    except BaseException:
        listening.close()
        app.close()
        raise
    access.allow(_own_names(host, server.port), f"qkt_status_{server.port}")
    return server


def _bound_socket(host: str, port: int) -> socket.socket:
    """A bound TCP socket; raises OSError when the address cannot be had."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except BaseException:
        listening.close()
        raise
    return listening


def _own_names(host: str, port: int) -> frozenset[str]:
    names = {"127.0.0.1", "localhost", "[::1]"} if host in _LOOPBACK else {host}
    return frozenset(f"{name}:{port}" for name in names)


def _checked_token(token: str | Secret | None) -> Secret:
    if token is None:
        return Secret(secrets.token_urlsafe(32))
    given = token if isinstance(token, Secret) else Secret(token)
    if len(given.reveal()) < _LEAST_TOKEN:
        raise InvalidRequestError(f"a token has at least {_LEAST_TOKEN} characters; leave it out to have one made")
    return given
