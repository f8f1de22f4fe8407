"""Who is connected, and the way of a frame from the exchange to each of them.

Frames leave a few milliseconds after the change they tell (`latency_ms`), in the order of the changes, each addressed
to every session of its account that subscribed to its topic in any form.
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
from ..exchange.accounts import Account
from ..exchange.exchange import Exchange
from ..exchange.outbox import Frame
from ..exchange.wire import to_json
from ..faults import Faults
from .delivery import Delivery, Rows
from .private import PrivateSession
from .public import PublicFeed, PublicSession
from .session import Session

_DEFAULT_IDLE_S = 600.0


class StreamHub:
    """All stream connections of a venue; lives on the event loop, except `emit`."""

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
        self.public = PublicFeed(self, exchange.books, exchange.now_ms)
        self._exchange = exchange
        self.exclusive = exclusive
        self._random = Random(seed)
        self._delivery = Delivery(faults)
        self._private: dict[PrivateSession, None] = {}
        self._public: dict[PublicSession, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[float, Frame]] = deque()
        self._pump = threading.Lock()
        self._pumping = False
        exchange.outbox.sink = self.emit
        exchange.engine.listeners.append(self.public.on_trade)

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
        return not self._waiting and all(session.is_idle for session in self._sessions())

    @property
    def has_public_sessions(self) -> bool:
        return bool(self._public)

    def public_sessions(self) -> list[PublicSession]:
        return list(self._public)

    def _sessions(self) -> list[Session]:
        return [*self._private, *self._public]

    # -- sessions ------------------------------------------------------------------------------------------------

    async def serve_private(self, request: web.BaseRequest, query: dict[str, str]) -> web.StreamResponse:
        ws = await _accept(request)
        session = PrivateSession(self, ws, request, self._new_conn_id(), _idle_limit_s(query))
        self._private[session] = None
        try:
            await session.run()
        finally:
            self._private.pop(session, None)
            if session.account is not None:
                with self.exclusive():
                    session.account.listeners -= 1
                    self._exchange.journal.note("stream closed", session.account.key, conn_id=session.conn_id)
        return ws

    async def serve_public(self, request: web.BaseRequest, query: dict[str, str]) -> web.StreamResponse:
        ws = await _accept(request)
        session = PublicSession(self, ws, request, self._new_conn_id(), _idle_limit_s(query))
        self._public[session] = None
        try:
            await session.run()
        finally:
            self._public.pop(session, None)
        return ws

    def authenticate(self, arguments: object) -> Account | str:
        return authenticate_stream(self._exchange.accounts, arguments, self.now_ms())

    def logged_in(self, session: PrivateSession) -> None:
        assert session.account is not None
        with self.exclusive():
            session.account.listeners += 1
            self._exchange.journal.note("stream opened", session.account.key, conn_id=session.conn_id)

    def subscribed(self, session: PrivateSession, topics: list[str]) -> None:
        assert session.account is not None
        for topic in topics:
            session.topics[topic] = None
        with self.exclusive():
            self._exchange.journal.note("stream subscribed", session.account.key, topics=",".join(topics))

    def close_soon(self, session: Session) -> None:
        """Close a connection after what is queued has left."""
        assert self._loop is not None
        self._loop.call_later(0.05, session.cut)

    def cut_private(self, account: str | None = None, *, with_reset: bool = False) -> int:
        """Abort the private connections (of one account, or all); returns how many there were."""
        chosen = [
            session
            for session in self._private
            if account is None or (session.account is not None and session.account.key == account)
        ]
        for session in chosen:
            session.cut(with_reset=with_reset)
        return len(chosen)

    def cut_idle(self) -> None:
        """The server ends connections without traffic (docs: ten minutes, or ``max_active_time``)."""
        now = time.monotonic()
        for session in self._sessions():
            if not session.half_open and now - session.last_active > session.idle_limit_s:
                session.cut()

    def close_all(self) -> None:
        for session in self._sessions():
            session.cut()

    # -- frames --------------------------------------------------------------------------------------------------

    def emit(self, frames: list[Frame]) -> None:
        """Take frames from the exchange; from any thread, under the venue's lock."""
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
        """Bring one frame to one session, through the armed faults if there are any."""
        if self.faults.armed("frame"):
            self._delivery.send(session, topic, symbol, account, rows, encode)
        else:
            self._delivery.push(session, topic, encode(rows))

    def _arm(self) -> None:
        if self._waiting and self._loop is not None:
            self._loop.call_later(max(0.0, self._waiting[0][0] - time.monotonic()), self._drain)

    def _drain(self) -> None:
        """Tell what is due; go to sleep only when nothing waits, decided under the lock that `emit` takes."""
        now = time.monotonic() + 0.0005
        waiting = self._waiting
        try:
            while waiting and waiting[0][0] <= now:
                self._tell(waiting[0][1])
                waiting.popleft()
        finally:
            with self._pump:
                self._pumping = bool(waiting)
            if self._pumping:
                self._arm()

    def _tell(self, frame: Frame) -> None:
        texts: dict[str, str] = {}
        categorised = f"{frame.topic}.{frame.category}" if frame.category else ""
        faulty = self.faults.armed("frame")
        for session in list(self._private):
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
    """A private frame's text; ``execution.fast`` has no envelope id (docs websocket/private/fast-execution)."""
    envelope: dict[str, Any] = {"id": frame.frame_id} if frame.frame_id else {}
    envelope |= {"topic": topic, "creationTime": frame.creation_ms, "data": rows}
    return to_json(envelope)


def _idle_limit_s(query: dict[str, str]) -> float:
    """``max_active_time`` of the URL: ``30s`` to ``600s``, or minutes."""
    text = query.get("max_active_time", "")
    digits, unit = text[:-1], text[-1:]
    if digits.isdigit() and unit in ("s", "m"):
        return float(min(600, max(30, int(digits) * (60 if unit == "m" else 1))))
    return _DEFAULT_IDLE_S
