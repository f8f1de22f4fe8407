"""Pooled HTTP connections of `urllib3` that can be cut, and that know whether any byte of a request left.

A `Call` holds the socket that its request uses, so that `Call.cut` ends a read from another thread, and whether the
first byte has left, so that a failure before it is known to have changed nothing. A pooled connection that was idle for
long is opened anew.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

if TYPE_CHECKING:
    from urllib3._base_connection import BaseHTTPConnection, BaseHTTPSConnection

from qkt.clock import SystemClock
from qkt.net.http_response import ResponseReader
from qkt.net.sockets import open_tcp, shut

TIME_IS_UP = "the call's time is up"
_READ_BYTES = 65_536
_NO_DEADLINE_MS = 3_600_000
_machine = SystemClock()
_current = threading.local()


class Cut(ConnectionAbortedError):
    """The call was ended from this side."""


class Call:
    """One request under way."""

    def __init__(self, target: str = "", deadline_ms: int | None = None) -> None:
        self.target = target  # path and query, exactly as signed
        self.deadline_ms = deadline_ms  # on the monotonic clock; None: no end of its own
        self.was_tracked = False
        self.has_left = False
        self.cut_reason: str = ""
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

    def left_ms(self) -> int:
        """Time that is left, in ms; past the deadline the call is cut and this raises Cut."""
        if self.deadline_ms is None:
            return _NO_DEADLINE_MS
        left_ms = self.deadline_ms - _machine.monotonic_ms()
        if left_ms <= 0:
            self.cut(TIME_IS_UP)
            raise Cut(TIME_IS_UP)
        return left_ms

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


class FreshPool(HTTPConnectionPool):
    """A pool that closes a connection that was idle for ``idle_limit_ms``, because it may be dead without notice."""

    ConnectionCls: type[BaseHTTPConnection] | type[BaseHTTPSConnection] = _Tracked
    idle_limit_ms = 20_000

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection: Any = super()._get_conn(timeout)
        idle_since_ms = getattr(connection, "idle_since_ms", None)
        if idle_since_ms is not None and _machine.monotonic_ms() - idle_since_ms > self.idle_limit_ms:
            connection.close()  # it reconnects by itself
        return connection

    def exchange(
        self,
        call: Call,
        request: bytes,
        *,
        connecting: contextlib.AbstractContextManager[None],
        connect_timeout_ms: int,
        read_timeout_ms: int,
        max_body_bytes: int,
    ) -> ResponseReader:
        """Send a whole request in one segment and read its response.

        Connects within ``connecting`` if no pooled connection is open.

        Raises:
            Cut: the call was cut, or its time is up. OSError, HTTPException, HTTPError: as the network or peer did.
        """
        connection = self._get_conn()
        keeps = False
        try:
            if connection.sock is None:
                with connecting:
                    self._open(connection, call, connect_timeout_ms)
            else:
                call.use(connection.sock)
            reader = _exchange(connection.sock, call, request, read_timeout_ms, ResponseReader(max_body_bytes))
            keeps = reader.keep_alive
            return reader
        finally:
            call.let_go()
            if not keeps:
                connection.close()
            self._put_conn(connection)

    def _open(self, connection: Any, call: Call, connect_timeout_ms: int) -> None:
        connection.timeout = connect_timeout_ms / 1000
        with call.under_way():
            if self.proxy is not None:
                self._prepare_proxy(connection)  # a tunnel: only TLS pools come here with a proxy
            else:
                connection.connect()
        call.use(connection.sock)

    def _put_conn(self, conn: Any) -> None:
        call = _this_call()
        if call is not None:
            call.let_go()
        if conn is not None:
            conn.idle_since_ms = _machine.monotonic_ms()
        super()._put_conn(conn)


class FreshTLSPool(FreshPool, HTTPSConnectionPool):
    """`FreshPool` over TLS."""

    ConnectionCls: type[BaseHTTPSConnection] = _TrackedTLS


def _exchange(
    sock: socket.socket, call: Call, request: bytes, read_timeout_ms: int, reader: ResponseReader
) -> ResponseReader:
    call.was_tracked = True
    sock.settimeout(min(read_timeout_ms, call.left_ms()) / 1000)
    call.has_left = True
    sock.sendall(request)
    while not reader.is_complete:
        sock.settimeout(min(read_timeout_ms, call.left_ms()) / 1000)
        try:
            data = sock.recv(_READ_BYTES)
        except TimeoutError:
            call.left_ms()  # raises when it was the call's own deadline
            raise TimeoutError(f"read timed out: no answer in {read_timeout_ms} ms") from None
        if data:
            reader.feed(data)
        elif call.cut_reason:
            raise Cut(call.cut_reason)
        else:
            reader.end()
    return reader


class FreshAdapter(HTTPAdapter):
    """An adapter of `requests` whose pools are `FreshPool` and `FreshTLSPool`; SOCKS proxies keep their own pools."""

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
            "http": type("HTTPConnectionPool", (FreshPool,), limit),
            "https": type("HTTPSConnectionPool", (FreshTLSPool,), limit),
        }
