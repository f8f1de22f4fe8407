"""One WebSocket connection: what it may hear, and how its bytes leave.

A session never blocks the venue: frames are appended to its queue and a writer task sends them. Everything a broken
connection does (mute, half open, cut in the middle of a frame) is a property of the session, so that one client's
trouble is not another's.
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


@dataclass(slots=True)
class RawBytes:
    """Bytes for the socket itself, past the WebSocket layer: for frames no honest server would send."""

    data: bytes
    then_close: bool = False


def reset(transport: asyncio.BaseTransport | None) -> None:
    """Close a connection with RST: whatever was in flight is gone."""
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
    """A connection's queue, writer and switches."""

    def __init__(self, ws: web.WebSocketResponse, request: web.BaseRequest, conn_id: str, idle_limit_s: float) -> None:
        self.ws = ws
        self.conn_id = conn_id
        self.idle_limit_s = idle_limit_s
        self.topics: dict[str, None] = {}
        self.half_open = False
        self.last_active = time.monotonic()
        self.held: list[tuple[str, str, str]] = []
        self.delayed = 0
        self._request = request
        self._queue: deque[str | RawBytes] = deque()
        self._wake = asyncio.Event()
        self._hung = asyncio.Event()
        self._writing = False

    @property
    def is_idle(self) -> bool:
        return not self._queue and not self._writing and not self.delayed and not self.held

    @property
    def transport(self) -> asyncio.Transport | None:
        return self._request.transport

    def push(self, item: str | RawBytes) -> None:
        if not self.half_open:
            self._queue.append(item)
            self._wake.set()

    def push_later(self, item: str, delay_ms: int) -> None:
        self.delayed += 1

        def arrive() -> None:
            self.delayed -= 1
            self.push(item)

        asyncio.get_running_loop().call_later(delay_ms / 1000, arrive)

    def go_half_open(self) -> None:
        """From now on swallow everything and say nothing, but keep the connection."""
        self.half_open = True
        self._queue.clear()
        self.held.clear()

    def cut(self, *, with_reset: bool = False) -> None:
        """End the connection without a goodbye."""
        self.half_open = True
        self._queue.clear()
        self.held.clear()
        if with_reset:
            reset(self.transport)
        elif self.transport is not None:
            self.transport.abort()
        self._hung.set()

    async def run(self) -> None:
        """Read until the connection ends; subclasses say what a message means."""
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
        """What one message from the client asks for."""

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
                self.go_half_open()  # nobody is there any more; the reader will notice
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
    """A client's message as an object; None when it is not one."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
