"""One WebSocket connection: its account, its topics, its queue of outgoing messages.

Sending never blocks the venue: messages are appended to a queue and a writer task sends them. The state of a faulty
connection (silent, half open, cut in the middle of a frame) is kept per session, so a fault on one connection does
not change another.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from typing import Any

from aiohttp import WSMsgType, web

from ..exchange.accounts import Account


@dataclass(slots=True)
class RawBytes:
    """Bytes written to the socket directly, without WebSocket framing; used to send malformed frames."""

    data: bytes
    then_close: bool = False


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Close a connection with RST; bytes not yet sent are discarded."""
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            return
    if isinstance(transport, asyncio.Transport):
        transport.abort()


def text_frame(payload: bytes) -> bytes:
    """A server's WebSocket text frame around any bytes, valid or not."""
    size = len(payload)
    if size < 126:
        header = struct.pack("!BB", 0x81, size)
    elif size < 65536:
        header = struct.pack("!BBH", 0x81, 126, size)
    else:
        header = struct.pack("!BBQ", 0x81, 127, size)
    return header + payload


class Session(ABC):
    """Base class of the connections: reads messages, queues and writes answers.

    Attributes:
        path: the path of the URL the client connected to, for example ``/v5/private``.
        account: whose connection it is; None before the login and on public streams.
        has_pinged: whether the client sent a ping on this connection.
        topics: the subscribed topics, as the client wrote them.
        half_open: True once the connection ignores input and sends nothing more.
    """

    account: Account | None = None
    has_pinged = False

    def __init__(self, ws: web.WebSocketResponse, request: web.BaseRequest, conn_id: str, idle_limit_s: float) -> None:
        self.ws = ws
        self.path: str = request.path
        self.conn_id = conn_id
        self.idle_limit_s = idle_limit_s
        self.topics: dict[str, None] = {}
        self.half_open: bool = False
        self.last_active: float = time.monotonic()
        self.held: list[tuple[str, str, str]] = []
        self.delayed: int = 0
        self._request = request
        self._queue: deque[str | RawBytes] = deque()
        self._wake = asyncio.Event()
        self._hung = asyncio.Event()
        self._writing = False

    def _log_in(self, account: Account) -> None:
        self.account = account

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._writing and not self.delayed and not self.held

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._request.transport

    def push(self, item: str | RawBytes) -> None:
        """Queue a message; a half-open connection drops it."""
        if not self.half_open:
            self._queue.append(item)
            self._wake.set()

    def push_later(self, item: str | RawBytes, delay_ms: int) -> None:
        """Queue a message after a delay."""
        self.delayed += 1

        def arrive() -> None:
            self.delayed -= 1
            self.push(item)

        asyncio.get_running_loop().call_later(delay_ms / 1000, arrive)

    def go_half_open(self) -> None:
        """Keep the connection open but ignore all input and send nothing more."""
        self.half_open = True
        self._queue.clear()
        self.held.clear()

    def cut(self, *, with_reset: bool = False) -> None:
        """Close the connection without a WebSocket close frame."""
        self.half_open = True
        self._queue.clear()
        self.held.clear()
        if with_reset:
            reset(self.transport)
        elif self.transport is not None:
            self.transport.abort()
        self._hung.set()

    async def run(self) -> None:
        """Read messages until the connection ends."""
        writer = asyncio.create_task(self._write())
        try:
            while not self.ws.closed:
                message = await self.ws.receive()
                if message.type is WSMsgType.TEXT:
                    self.last_active = time.monotonic()
                    self.on_text(message.data)
                elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                    break
                if self.half_open:
                    await self._hung.wait()
                    break
        finally:
            writer.cancel()

    @abstractmethod
    def on_text(self, text: str) -> None:
        """Handle one text message of the client."""

    @abstractmethod
    def on_close(self) -> None:
        """Called once, after the connection ended."""

    async def _write(self) -> None:
        queue, wake = self._queue, self._wake
        while True:
            await wake.wait()
            wake.clear()
            self._writing = True
            try:
                while queue:
                    item = queue.popleft()
                    if isinstance(item, str):
                        await self.ws.send_str(item)
                        self.last_active = time.monotonic()
                    else:
                        self._write_raw(item)
            except (ConnectionError, RuntimeError):
                self.go_half_open()  # the peer is gone; the read loop ends by itself
                return
            finally:
                self._writing = False

    def _write_raw(self, item: RawBytes) -> None:
        transport = self.transport
        if transport is None:
            return
        transport.write(item.data)
        if item.then_close:
            self.half_open = True
            transport.close()
            self._hung.set()


def decode(text: str) -> dict[str, Any] | None:
    """The JSON object of a message; None when the text is not JSON or not an object."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
