"""All WebSocket connections of the venue, and the delivery of private frames to them.

A frame is sent `latency_ms` after the change it reports, in the order of the changes, to every session of the account
that subscribed to its topic, either as ``order`` or as ``order.spot``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from random import Random
from typing import Any

from aiohttp import web

from ..api.auth import authenticate_stream
from ..api.protection import DcpConnection
from ..exchange.accounts import Account
from ..exchange.exchange import Exchange
from ..exchange.json_encoder import to_json
from ..exchange.outbox import Frame
from ..faults import Faults
from .delivery import Delivery, Rows
from .session import Session

_DEFAULT_IDLE_S = 600.0

OpenSession = Callable[["StreamHub", web.WebSocketResponse, web.BaseRequest, str, float], Session]
"""Creates the session of an accepted connection: hub, socket, request, connection id, seconds of silence allowed."""


class StreamHub:
    """Registry of the connections and sender of private frames; runs on the event loop, except `emit`."""

    def __init__(
        self,
        exchange: Exchange,
        faults: Faults,
        exclusive: Callable[[], AbstractContextManager[None]],
        seed: int,
        latency_ms: int,
    ) -> None:
        self.faults = faults
        self.latency_ms = latency_ms
        self._exchange = exchange
        self.exclusive = exclusive
        self._random = Random(seed)
        self._delivery = Delivery(faults)
        self._sessions: dict[Session, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[float, Frame]] = deque()
        self._pump = threading.Lock()
        self._pumping = False
        exchange.outbox.sink = self.emit

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        with self._pump:
            self._waiting.clear()
            self._pumping = False

    def now_ms(self) -> int:
        return self._exchange.now_ms()

    @property
    def frames_sent(self) -> int:
        return self._delivery.frames_sent

    @property
    def is_idle(self) -> bool:
        return not self._waiting and all(session.is_idle for session in self._sessions)

    @property
    def sessions(self) -> list[Session]:
        """The open connections, oldest first."""
        return list(self._sessions)

    async def serve(
        self, request: web.BaseRequest, query: dict[str, str], open_session: OpenSession
    ) -> web.StreamResponse:
        """Accept a WebSocket connection and serve it until it ends."""
        ws = await _accept(request)
        session = open_session(self, ws, request, self._new_conn_id(), _idle_limit_s(query))
        self._sessions[session] = None
        try:
            await session.run()
        finally:
            self._sessions.pop(session, None)
            session.on_close()
        return ws

    def authenticate(self, arguments: object) -> Account | str:
        """The account of a login, or the reason of its refusal."""
        return authenticate_stream(self._exchange.accounts, arguments, self.now_ms())

    def dcp_connections(self) -> list[DcpConnection]:
        """The living connections that subscribed to a ``dcp`` topic."""
        return [
            DcpConnection(session.account.uid, topics, session.has_pinged)
            for session in self._sessions
            if session.account is not None and not session.half_open
            if (topics := frozenset(topic for topic in session.topics if topic.startswith("dcp")))
        ]

    def note(self, event: str, session: Session, **details: Any) -> None:
        """Write a journal entry about a connection."""
        with self.exclusive():
            self._exchange.journal.note(event, session.account.key if session.account else "", **details)

    def close_soon(self, session: Session) -> None:
        """Close a connection once its queued messages are sent."""
        assert self._loop is not None
        self._loop.call_later(0.05, session.cut)

    def cut(self, path: str, account: str | None = None) -> int:
        """Abort the connections to a path (of one account, or all); returns how many there were."""
        chosen = [
            session
            for session in self._sessions
            if session.path == path
            and (account is None or (session.account is not None and session.account.key == account))
        ]
        for session in chosen:
            session.cut()
        return len(chosen)

    def cut_idle(self) -> None:
        """Close connections without traffic for ten minutes, or for the ``max_active_time`` of their URL."""
        now = time.monotonic()
        for session in self._sessions:
            if not session.half_open and now - session.last_active > session.idle_limit_s:
                session.cut()

    def close_all(self) -> None:
        for session in self._sessions:
            session.cut()

    def emit(self, frames: list[Frame]) -> None:
        """Queue frames of the exchange; called from any thread, under the venue's lock."""
        loop = self._loop
        if loop is None:
            return
        due = time.monotonic() + self.latency_ms / 1000
        with self._pump:
            self._waiting.extend((due, frame) for frame in frames)
            asleep, self._pumping = not self._pumping, True
        if asleep:
            loop.call_soon_threadsafe(self._arm)

    def deliver(
        self, session: Session, topic: str, symbol: str, account: str, rows: Rows, encode: Callable[[Rows], str]
    ) -> None:
        """Send one frame to one session, altered by the armed faults if there are any."""
        if self.faults.armed("frame"):
            self._delivery.send(session, topic, symbol, account, rows, encode)
        else:
            self._delivery.push(session, topic, encode(rows))

    def _arm(self) -> None:
        if self._waiting and self._loop is not None:
            self._loop.call_later(max(0.0, self._waiting[0][0] - time.monotonic()), self._drain)

    def _drain(self) -> None:
        """Send the frames that are due; stop the timer only when none wait, decided under the lock of `emit`."""
        now = time.monotonic() + 0.0005
        waiting = self._waiting
        try:
            while waiting and waiting[0][0] <= now:
                self._send(waiting[0][1])
                waiting.popleft()
        finally:
            with self._pump:
                self._pumping = bool(waiting)
            if self._pumping:
                self._arm()

    def _send(self, frame: Frame) -> None:
        texts: dict[str, str] = {}
        categorised = f"{frame.topic}.{frame.category}" if frame.category else ""
        faulty = self.faults.armed("frame")
        for session in self.sessions:
            if session.account is not frame.account:
                continue
            for topic in (frame.topic, categorised):
                if topic not in session.topics:
                    continue
                if faulty:
                    account = frame.account.key
                    encode_rows = partial(encode, frame, topic)
                    self._delivery.send(session, topic, frame.symbol, account, frame.data, encode_rows)
                    continue
                text = texts.get(topic)
                if text is None:
                    text = texts[topic] = encode(frame, topic, frame.data)
                self._delivery.push(session, topic, text)

    def _new_conn_id(self) -> str:
        return f"d4al7m{self._random.getrandbits(32):08x}-{self._random.getrandbits(16):x}"


async def _accept(request: web.BaseRequest) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False, autoping=True, timeout=1.0)
    await ws.prepare(request)
    return ws


def encode(frame: Frame, topic: str, rows: Rows) -> str:
    """The text of a private frame; ``execution.fast`` has no envelope id (docs websocket/private/fast-execution)."""
    envelope: dict[str, Any] = {"id": frame.frame_id} if frame.frame_id else {}
    envelope |= {"topic": topic, "creationTime": frame.creation_ms, "data": rows}
    return to_json(envelope)


def _idle_limit_s(query: dict[str, str]) -> float:
    """Seconds of silence allowed by ``max_active_time`` of the URL, from ``30s`` to ``600s`` or in minutes."""
    text = query.get("max_active_time", "")
    digits, unit = text[:-1], text[-1:]
    if digits.isdigit() and unit in ("s", "m"):
        return float(min(600, max(30, int(digits) * (60 if unit == "m" else 1))))
    return _DEFAULT_IDLE_S
