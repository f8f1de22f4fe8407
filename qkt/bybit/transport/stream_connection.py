"""One connection of the private stream: the socket, the websocket on it, and the session spoken over it.

`websocket-client` connects, upgrades, sends and closes; `qkt.net.websocket_frames` decodes what is read. The library's
`enableTrace` must never be used: it prints the login.

Source: docs v5/ws/connect.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

import attrs
import certifi
import websocket

from qkt.bybit.codec.bounds import MAX_MESSAGE_BYTES
from qkt.bybit.transport.stream_session import Phase, StreamSession
from qkt.clock import SystemClock
from qkt.net.sockets import open_tcp, shut, wait_readable
from qkt.net.websocket_frames import BINARY, CLOSE, PING, TEXT, FrameDecoder
from qkt.secret import Secret, redact

_READ_BYTES = 32_768
_TIMEOUT_STEP_MS = 20


class StreamEndedError(ConnectionError):
    """The connection has ended, for the reason given."""


@attrs.frozen(kw_only=True)
class StreamAddress:
    """Where the stream is and how it is reached."""

    url: str
    connect_timeout_ms: int = 4_000
    proxy: str | None = attrs.field(default=None, repr=False)
    ca_bundle: str | None = None


class StreamConnection:
    """One connection, from the first SYN to the last byte. ``changed`` guards the session and reports its changes."""

    def __init__(self, session: StreamSession) -> None:
        self.session = session
        self.changed: threading.Condition = threading.Condition()
        self.reading_since_ms: int | None = None  # since when a message is incomplete
        self.refused_because = ""
        self.end_reason: str = ""
        self.was_ready = False
        self._thread: threading.Thread | None = None
        self._ws: websocket.WebSocket | None = None
        self._raw: socket.socket | None = None
        self._timeout_ms = 0
        self._machine = SystemClock()
        self._decoder = FrameDecoder(MAX_MESSAGE_BYTES)

    def connect(self, address: StreamAddress, secrets: tuple[Secret, ...]) -> None:
        """Connect and upgrade; raises OSError or StreamEndedError."""
        timeout_s = address.connect_timeout_ms / 1000
        options: dict[str, Any] = {"skip_utf8_validation": True, "suppress_origin": True, "redirect_limit": 0}
        try:
            if address.proxy:
                trusted = {"ca_certs": address.ca_bundle or certifi.where()}
                options |= {"sslopt": trusted, **_proxy_options(address.proxy)}
                ws = websocket.create_connection(address.url, timeout=timeout_s, **options)
            else:
                raw = self._open_socket(address, timeout_s)
                ws = websocket.create_connection(address.url, timeout=timeout_s, socket=raw, **options)
        except websocket.WebSocketException as error:
            what = redact(f"{type(error).__name__}: {error}", secrets)
            raise StreamEndedError(self.end_reason or what) from None
        self._ws = ws
        if ws.sock is not None:
            self._use(ws.sock)

    def _open_socket(self, address: StreamAddress, timeout_s: float) -> socket.socket:
        parts = urlsplit(address.url)
        host, is_secure = parts.hostname or "", parts.scheme == "wss"
        raw = open_tcp(host, parts.port or (443 if is_secure else 80), timeout_s, on_socket=self._use)
        if not is_secure:
            return raw
        context = ssl.create_default_context(cafile=address.ca_bundle or certifi.where())
        try:
            secured = context.wrap_socket(raw, server_hostname=host)
        except BaseException:
            raw.close()
            raise
        self._use(secured)
        return secured

    def _use(self, raw: socket.socket) -> None:
        """Set the socket that `give_up` shuts; raises when the connection was given up meanwhile."""
        with self.changed:
            self._raw = raw
            reason = self.end_reason
        if reason:
            raise StreamEndedError(reason)

    def start(self, reader: threading.Thread) -> None:
        """Start the reader thread, unless the connection was given up meanwhile: `join` waits only for what it sees."""
        with self.changed:
            if self.end_reason:
                raise StreamEndedError(self.end_reason)
            reader.start()
            self._thread = reader

    def join(self, timeout_s: float) -> None:
        """Wait for the reader thread, unless the caller is that thread."""
        with self.changed:
            reader = self._thread
        if reader is not None and reader is not threading.current_thread():
            reader.join(timeout_s)

    def wait_readable(self, timeout_ms: int) -> bool:
        """Wait until a read would not block, or the time is up."""
        return wait_readable(self._open_websocket().sock, timeout_ms)

    def receive(self, timeout_ms: int) -> list[bytes]:
        """The messages that one read of the socket brings; empty if none is whole yet or the time is up.

        Raises:
            StreamEndedError: the venue closed the connection. OSError, WebSocketException: it broke.
        """
        ws = self._open_websocket()
        self._set_timeout(ws.sock, timeout_ms)
        try:
            data = ws.sock.recv(_READ_BYTES)
        except (TimeoutError, ssl.SSLWantReadError):
            return []
        if not data:
            raise StreamEndedError("Connection to remote host was lost.")
        received = self._decoder.feed(data)
        self._note_progress(bool(received))
        messages = []
        for opcode, payload in received:
            if opcode in (TEXT, BINARY):
                messages.append(payload)
            elif opcode == PING:
                ws.pong(payload)
            elif opcode == CLOSE:
                raise StreamEndedError(f"closed by the venue ({_close_reason(payload)})")
        return messages

    def _set_timeout(self, sock: socket.socket, timeout_ms: int) -> None:
        """Set the read timeout, in steps, so that it seldom changes: each change is a system call."""
        timeout_ms = max(_TIMEOUT_STEP_MS, -(-timeout_ms // _TIMEOUT_STEP_MS) * _TIMEOUT_STEP_MS)
        if timeout_ms != self._timeout_ms:
            self._timeout_ms = timeout_ms
            sock.settimeout(timeout_ms / 1000)

    def _note_progress(self, has_ended_a_message: bool) -> None:
        if not self._decoder.is_partial:
            self.reading_since_ms = None
        elif has_ended_a_message or self.reading_since_ms is None:
            self.reading_since_ms = self._machine.monotonic_ms()

    def send(self, make_text: Callable[[], str]) -> None:
        """Send a text that no stack frame of ours keeps: a traceback with locals must not show the login."""
        ws = self._open_websocket()
        try:
            ws.send(make_text())
        except (OSError, websocket.WebSocketException) as error:
            what = f"sending failed: {type(error).__name__}"
        else:
            return
        raise StreamEndedError(what)  # outside the handler: the library's frames hold the login

    def _open_websocket(self) -> Any:
        ws = self._ws
        if ws is None or ws.sock is None:
            raise StreamEndedError("the socket is gone")
        return ws

    def give_up(self, reason: str) -> None:
        """End the connection from any thread; a wait on its socket ends with an error."""
        with self.changed:
            self.end_reason = self.end_reason or reason
            self.session.ended()
            self.changed.notify_all()
            raw = self._raw
        if raw is not None:
            shut(raw)

    def end(self) -> None:
        """Close the socket; called only by the thread that owns the connection."""
        with self.changed:
            self.session.ended()
            self.changed.notify_all()
            ws, raw = self._ws, self._raw
            self._raw = None
        if ws is not None:
            ws.shutdown()  # type: ignore[no-untyped-call]
        if raw is not None:
            with contextlib.suppress(OSError):
                raw.close()

    def next_deadline_ms(self) -> int:
        """When the session's `StreamSession.tick` is due."""
        with self.changed:
            return self.session.next_deadline_ms()

    @property
    def is_reader(self) -> bool:
        """True on the connection's reader thread."""
        return self._thread is threading.current_thread()

    @property
    def is_ready(self) -> bool:
        """True while every subscription is answered."""
        return self.session.is_ready

    @property
    def has_ended(self) -> bool:
        """True once the connection was given up or closed."""
        return self.session.phase is Phase.ENDED

    @property
    def raw(self) -> socket.socket | None:
        """The socket, None before it exists and after the end."""
        return self._raw


def _close_reason(data: bytes) -> str:
    code = int.from_bytes(data[:2], "big") if len(data) >= 2 else 1005
    return f"{code} {data[2:].decode('utf-8', 'replace')}".strip()


def _proxy_options(proxy: str) -> dict[str, Any]:
    parts = urlsplit(proxy)
    options: dict[str, Any] = {
        "http_proxy_host": parts.hostname,
        "http_proxy_port": parts.port or 80,
        "http_no_proxy": ["no-host-is-exempt.invalid"],  # the library exempts loopback otherwise
        "proxy_type": "http" if parts.scheme in ("", "http", "https") else parts.scheme,
    }
    if parts.username:
        options["http_proxy_auth"] = (unquote(parts.username), unquote(parts.password or ""))
    return options
