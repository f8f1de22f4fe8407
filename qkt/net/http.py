"""HTTP calls over `requests` that can be cut, and that know whether any byte of the request left.

A `Call` holds the socket that its request uses, so that `Call.cut` ends a read that `Session.close` would leave
blocked, and whether the first byte has left, so that a failure before it is known to have changed nothing. A pooled
connection that was idle for long is opened anew. The request line is sent exactly as it was signed.
"""

from __future__ import annotations

import contextlib
import queue
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from qkt.clock import SystemClock
from qkt.net.sockets import open_tcp, shut

_current = threading.local()


class Cut(ConnectionAbortedError):
    """The call was ended from this side."""


class Call:
    """One request under way."""

    def __init__(self, target: str = "") -> None:
        self.target = target  # path and query, exactly as signed
        self.was_tracked = False
        self.has_left = False
        self.cut_reason = ""
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None

    def use(self, sock: socket.socket) -> None:
        """Set the socket that the call uses; raises Cut when the call has been cut already."""
        with self._lock:
            self._socket = sock
            reason = self.cut_reason
        if reason:
            raise Cut(reason)

    def cut(self, reason: str) -> None:
        """End the call, from any thread: a wait on its socket ends with an error."""
        with self._lock:
            self.cut_reason = self.cut_reason or reason
            if self._socket is not None:
                shut(self._socket)

    def let_go(self) -> None:
        """Forget the socket: another call may use it from now on."""
        with self._lock:
            self._socket = None

    @contextlib.contextmanager
    def under_way(self) -> Iterator[Call]:
        """Make this the call of the current thread; at the end it forgets its socket."""
        _current.call = self
        try:
            yield self
        finally:
            _current.call = None
            self.let_go()


def _this_call() -> Call | None:
    return getattr(_current, "call", None)


class _Tracked(HTTPConnection):
    """An HTTPConnection that reports its socket and its first byte to the current `Call`."""

    _is_connecting = False

    def _new_conn(self) -> socket.socket:
        call = _this_call()
        try:
            timeout_s = self.timeout if isinstance(self.timeout, int | float) else None
            sock = open_tcp(self._dns_host, self.port, timeout_s, on_socket=call.use if call else None)
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"connecting to {self.host} timed out after {self.timeout} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {self.host}: {error}") from error
        sys.audit("http.client.connect", self, self.host, self.port)
        return sock

    def connect(self) -> None:
        call = _this_call()
        if call is not None:
            call.was_tracked = True
        self._is_connecting = True
        try:
            super().connect()
        finally:
            self._is_connecting = False

    def request(self, method: str, url: str, *args: Any, **more: Any) -> None:
        call = _this_call()
        if call is not None:
            call.was_tracked = True
            if call.target and url.startswith("/"):  # urllib3 rewrites percent escapes, which breaks the signature
                url = call.target
            if self.sock is not None:
                call.use(self.sock)
        super().request(method, url, *args, **more)

    def send(self, data: Any) -> None:
        if self.sock is None and self.auto_open:
            self.connect()
        call = _this_call()
        if call is not None and not self._is_connecting:
            call.has_left = True
        super().send(data)


class _TrackedTLS(_Tracked, HTTPSConnection):
    """`_Tracked` over TLS: `_Tracked.connect` goes on to the handshake."""


class _FreshPool(HTTPConnectionPool):
    """A pool that closes a connection that was idle for ``idle_limit_ms``, because it may be dead without notice."""

    ConnectionCls = _Tracked
    idle_limit_ms = 20_000

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        idle_since_ms = getattr(connection, "idle_since_ms", None)
        if idle_since_ms is not None and _machine.monotonic_ms() - idle_since_ms > self.idle_limit_ms:
            connection.close()  # it reconnects by itself
        return connection

    def _put_conn(self, conn: Any) -> None:
        call = _this_call()
        if call is not None:
            call.let_go()
        if conn is not None:
            conn.idle_since_ms = _machine.monotonic_ms()
        super()._put_conn(conn)


class _FreshTLSPool(_FreshPool, HTTPSConnectionPool):
    ConnectionCls = _TrackedTLS


_machine = SystemClock()


class _Adapter(HTTPAdapter):
    def __init__(self, idle_limit_ms: int, **more: Any) -> None:
        self._idle_limit_ms = idle_limit_ms
        super().__init__(**more)

    def init_poolmanager(self, *args: Any, **more: Any) -> None:
        super().init_poolmanager(*args, **more)
        self._freshen(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **more: Any) -> Any:
        manager: Any = super().proxy_manager_for(proxy, **more)
        if not proxy.lower().startswith("socks"):
            self._freshen(manager)
        return manager

    def _freshen(self, manager: Any) -> None:
        limit = {"idle_limit_ms": self._idle_limit_ms}
        manager.pool_classes_by_scheme = {
            "http": type("HTTPConnectionPool", (_FreshPool,), limit),
            "https": type("HTTPSConnectionPool", (_FreshTLSPool,), limit),
        }


class HttpPool:
    """A connection pool for many threads; `close` ends every call under way, `reopen` allows calls again."""

    def __init__(
        self, *, proxy: str | None = None, trust_env: bool = False, idle_limit_ms: int = 20_000, size: int = 32
    ) -> None:
        self._session = requests.Session()
        self._session.trust_env = trust_env
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # a jar is not safe from many threads
        self._session.headers.clear()
        self._session.headers.update({"User-Agent": "qkt", "Accept": "application/json"})
        if proxy:
            self._session.proxies = {"http": proxy, "https": proxy}
        for scheme in ("http://", "https://"):
            self._session.mount(
                scheme, _Adapter(idle_limit_ms, pool_connections=4, pool_maxsize=size, pool_block=False, max_retries=0)
            )
        self._lock = threading.Lock()
        self._under_way: set[Call] = set()
        self._closed_because = ""

    def send(
        self,
        call: Call,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        connect_timeout_ms: int,
        read_timeout_ms: int,
    ) -> requests.Response:
        """Send and read one request, without following redirects; raises what `requests` raises, or Cut."""
        prepared = self._session.prepare_request(requests.Request(method, url, headers=dict(headers), data=body))
        settings = self._session.merge_environment_settings(url, {}, False, None, None)
        with self._lock:
            if self._closed_because:
                raise Cut(self._closed_because)
            self._under_way.add(call)
        try:
            with call.under_way():
                return self._session.send(
                    prepared,
                    timeout=(connect_timeout_ms / 1000, read_timeout_ms / 1000),
                    allow_redirects=False,
                    **settings,
                )
        finally:
            with self._lock:
                self._under_way.discard(call)

    def close(self, reason: str) -> None:
        """End every call under way, let none begin, and close the pooled connections."""
        with self._lock:
            self._closed_because = reason
            calls = list(self._under_way)
        for call in calls:
            call.cut(reason)
        with contextlib.suppress(queue.Empty):
            self._session.close()

    def reopen(self) -> None:
        """Allow calls again."""
        with self._lock:
            self._closed_because = ""

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return len(self._under_way)
