"""Who is connected, and the way of a frame from the exchange to each of them.

Frames leave a few milliseconds after the change they tell (`latency_ms`), in the order of the changes, each addressed
to every session of its account that subscribed to its topic in any form. Faults of the stream strike here, once per
frame and session.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from random import Random
from typing import Any

from aiohttp import web

from ..api.auth import authenticate_stream
from ..exchange.exchange import Exchange
from ..exchange.outbox import Frame
from ..exchange.wallets import Account
from ..faults import Fault, Faults
from .private import PrivateSession
from .session import RawBytes, Session, text_frame

_REORDER_PATIENCE_S = 0.25
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
        self._exchange = exchange
        self._exclusive = exclusive
        self._random = Random(seed)
        self.latency_ms = latency_ms
        self.sessions: dict[Session, None] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[tuple[float, Frame]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.frames_sent = 0

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop

    def now_ms(self) -> int:
        return self._exchange.now_ms()

    def new_conn_id(self) -> str:
        return f"d4al7m{self._random.getrandbits(32):08x}-{self._random.getrandbits(16):x}"

    @property
    def is_idle(self) -> bool:
        return not self._waiting and all(session.is_idle for session in self.sessions)

    # -- sessions ------------------------------------------------------------------------------------------------

    async def serve_private(self, request: web.BaseRequest, query: dict[str, str]) -> web.StreamResponse:
        ws = web.WebSocketResponse(compress=False, autoping=True, timeout=1.0)
        await ws.prepare(request)
        session = PrivateSession(self, ws, request, self.new_conn_id(), _idle_limit_s(query))
        self.sessions[session] = None
        try:
            await session.run()
        finally:
            self.sessions.pop(session, None)
            if session.account is not None:
                with self._exclusive():
                    session.account.listeners -= 1
                    self._exchange.journal.note("stream closed", session.account.key, conn_id=session.conn_id)
        return ws

    def authenticate(self, arguments: object) -> Account | str:
        return authenticate_stream(self._exchange.accounts, arguments, self.now_ms())

    def logged_in(self, session: PrivateSession) -> None:
        assert session.account is not None
        with self._exclusive():
            session.account.listeners += 1
            self._exchange.journal.note("stream opened", session.account.key, conn_id=session.conn_id)

    def subscribed(self, session: PrivateSession, topics: list[str]) -> None:
        for topic in topics:
            session.topics[topic] = None
        assert session.account is not None
        with self._exclusive():
            self._exchange.journal.note("stream subscribed", session.account.key, topics=",".join(topics))

    def close_soon(self, session: Session) -> None:
        """Close a connection after what is queued has left."""
        assert self._loop is not None
        self._loop.call_later(0.05, session.cut)

    def cut_private(self, account: str | None = None, *, with_reset: bool = False) -> int:
        """Abort the private connections (of one account, or all); returns how many there were."""
        chosen = [
            session
            for session in self.sessions
            if isinstance(session, PrivateSession)
            and (account is None or (session.account is not None and session.account.key == account))
        ]
        for session in chosen:
            session.cut(with_reset=with_reset)
        return len(chosen)

    def cut_idle(self) -> None:
        """The server ends connections without traffic (docs: ten minutes, or ``max_active_time``)."""
        now = time.monotonic()
        for session in list(self.sessions):
            if not session.half_open and now - session.last_active > session.idle_limit_s:
                session.cut()

    def close_all(self) -> None:
        for session in list(self.sessions):
            session.cut()

    # -- frames --------------------------------------------------------------------------------------------------

    def emit(self, frames: list[Frame]) -> None:
        """Take frames from the exchange; from any thread, under the venue's lock."""
        loop = self._loop
        if loop is None:
            return
        due = time.monotonic() + self.latency_ms / 1000
        waiting = self._waiting
        was_empty = not waiting
        for frame in frames:
            waiting.append((due, frame))
        if was_empty:
            loop.call_soon_threadsafe(self._arm)

    def _arm(self) -> None:
        if self._timer is None and self._waiting and self._loop is not None:
            self._timer = self._loop.call_later(max(0.0, self._waiting[0][0] - time.monotonic()), self._drain)

    def _drain(self) -> None:
        self._timer = None
        now = time.monotonic() + 0.0005
        waiting = self._waiting
        while waiting and waiting[0][0] <= now:
            self._deliver(waiting[0][1])
            waiting.popleft()
        self._arm()

    def _deliver(self, frame: Frame) -> None:
        texts: dict[str, str] = {}
        for session in list(self.sessions):
            if not isinstance(session, PrivateSession) or session.account is not frame.account:
                continue
            for topic in (frame.topic, f"{frame.topic}.{frame.category}" if frame.category else ""):
                if topic not in session.topics:
                    continue
                if self.faults.armed("frame"):
                    self._deliver_with_faults(session, frame, topic)
                    continue
                text = texts.get(topic)
                if text is None:
                    text = texts[topic] = encode(frame, topic, frame.data)
                self._send(session, topic, text)

    def _deliver_with_faults(self, session: PrivateSession, frame: Frame, topic: str) -> None:
        assert self._loop is not None
        struck = self.faults.take("frame", topic=topic, symbol=frame.symbol, account=frame.account.key)
        by_name: dict[str, Fault] = {fault.name: fault for fault in struck}
        if "stream_cut" in by_name:
            session.cut()
            return
        if "stream_mute" in by_name or "frame_drop" in by_name:
            return
        rows = _altered(frame.data, by_name)
        texts = [encode(frame, topic, rows)]
        if "frame_split" in by_name:
            texts = [encode(frame, topic, [row]) for row in rows]
        if "frame_duplicate" in by_name:
            texts *= int(by_name["frame_duplicate"]["times"])
        for text in texts:
            self._send_altered(session, topic, text, by_name)

    def _send_altered(self, session: PrivateSession, topic: str, text: str, by_name: dict[str, Fault]) -> None:
        assert self._loop is not None
        payload = text.encode()
        if "close_mid_frame" in by_name:
            session.push(RawBytes(text_frame(payload)[: len(payload) // 2], then_close=True))
        elif "invalid_utf8" in by_name:
            session.push(RawBytes(text_frame(payload[:-2] + b"\xff\xfe")))
        elif "truncated_frame" in by_name:
            session.push(text[: len(text) // 2])
        elif "frame_delay" in by_name:
            session.delayed += 1
            self._loop.call_later(by_name["frame_delay"]["delay_ms"] / 1000, self._send_late, session, topic, text)
        elif held := next((name for name in ("frame_merge", "frame_reorder", "topic_reorder") if name in by_name), ""):
            session.held.append((held, topic, text))
            self._loop.call_later(_REORDER_PATIENCE_S, self._release, session, (held, topic, text))
        else:
            self._send(session, topic, text)

    def _send_late(self, session: PrivateSession, topic: str, text: str) -> None:
        session.delayed -= 1
        self._send(session, topic, text)

    def _send(self, session: Session, topic: str, text: str) -> None:
        """Send a frame, with what was held back for it: merged into it, or just behind it."""
        held = [item for item in session.held if _released_by(item[0], item[1], topic)]
        for item in held:
            session.held.remove(item)
        for kind, _, earlier in held:
            if kind == "frame_merge":
                first, second = json.loads(earlier), json.loads(text)
                text = json.dumps({**second, "data": first["data"] + second["data"]}, separators=(",", ":"))
        session.push(text)
        self.frames_sent += 1
        for kind, _, earlier in held:
            if kind != "frame_merge":
                session.push(earlier)
                self.frames_sent += 1

    def _release(self, session: Session, item: tuple[str, str, str]) -> None:
        """Nothing came that the frame could have been put behind: let it go."""
        if item in session.held:
            session.held.remove(item)
            session.push(item[2])
            self.frames_sent += 1


def _released_by(kind: str, held_topic: str, topic: str) -> bool:
    return held_topic != topic if kind == "topic_reorder" else held_topic == topic


def encode(frame: Frame, topic: str, rows: list[dict[str, Any]]) -> str:
    envelope: dict[str, Any] = {"topic": topic, "creationTime": frame.creation_ms, "data": rows}
    if frame.frame_id:
        envelope = {"id": frame.frame_id, **envelope}
    return json.dumps(envelope, separators=(",", ":"))


def _altered(rows: list[dict[str, Any]], by_name: dict[str, Fault]) -> list[dict[str, Any]]:
    if fault := by_name.get("unknown_field"):
        rows = [{**row, str(fault["field"]): fault["value"]} for row in rows]
    if fault := by_name.get("unknown_status"):
        rows = [{**row, "orderStatus": fault["status"]} if "orderStatus" in row else row for row in rows]
    if "blank_link_id" in by_name:
        rows = [{**row, "orderLinkId": ""} if "orderLinkId" in row else row for row in rows]
    return rows


def _idle_limit_s(query: dict[str, str]) -> float:
    """``max_active_time`` of the URL: ``30s`` to ``600s``, or minutes."""
    text = query.get("max_active_time", "")
    digits, unit = text[:-1], text[-1:]
    if digits.isdigit() and unit in ("s", "m"):
        return float(min(600, max(30, int(digits) * (60 if unit == "m" else 1))))
    return _DEFAULT_IDLE_S
