"""Sends one frame to one connection, altered by the armed stream faults.

Private and public frames both pass here. A frame held back to be reordered or merged waits for the frame that releases
it, at most half a second.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from ..exchange.json_encoder import to_json
from ..faults import Fault, Faults
from .session import RawBytes, Session, text_frame

_PATIENCE_S = 0.5
_HOLDING = ("frame_merge", "frame_reorder", "topic_reorder")

Rows = list[dict[str, Any]]


class Delivery:
    """Sends frames to sessions and applies the stream faults to them."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults
        self.frames_sent: int = 0

    def send(
        self, session: Session, topic: str, symbol: str, account: str, rows: Rows, encode: Callable[[Rows], str]
    ) -> None:
        """Send one frame to one session while stream faults are armed."""
        struck = self._faults.take("frame", topic=topic, symbol=symbol, account=account)
        by_name = {fault.name: fault for fault in struck}
        if "stream_cut" in by_name:
            session.cut()
            return
        if "stream_mute" in by_name or "frame_drop" in by_name:
            return
        rows = _altered(rows, by_name)
        texts = [encode(rows)] if "frame_split" not in by_name else [encode([row]) for row in rows]
        if "frame_duplicate" in by_name:
            texts *= int(by_name["frame_duplicate"]["times"])
        for text in texts:
            self._send_broken(session, topic, text, by_name)

    def push(self, session: Session, topic: str, text: str) -> None:
        """Send a frame together with the frames it releases: merged into it, or after it."""
        if not session.held:
            session.push(text)
            self.frames_sent += 1
            return
        released = [item for item in session.held if _releases(topic, item[0], item[1])]
        for item in released:
            session.held.remove(item)
        for kind, _, earlier in released:
            if kind == "frame_merge":
                first, second = json.loads(earlier), json.loads(text)
                text = to_json({**second, "data": first["data"] + second["data"]})
        behind = [earlier for kind, _, earlier in released if kind != "frame_merge"]
        for each in (text, *behind):
            session.push(each)
            self.frames_sent += 1

    def _send_broken(self, session: Session, topic: str, text: str, by_name: dict[str, Fault]) -> None:
        payload = text.encode()
        loop = asyncio.get_running_loop()
        if "close_mid_frame" in by_name:
            session.push(RawBytes(text_frame(payload)[: len(payload) // 2], then_close=True))
        elif "invalid_utf8" in by_name:
            session.push(RawBytes(text_frame(payload[:-2] + b"\xff\xfe")))
        elif "truncated_frame" in by_name:
            session.push(text[: len(text) // 2])
        elif "frame_delay" in by_name:
            session.delayed += 1
            loop.call_later(by_name["frame_delay"]["delay_ms"] / 1000, self._send_late, session, topic, text)
        elif kind := next((name for name in _HOLDING if name in by_name), ""):
            session.held.append((kind, topic, text))
            loop.call_later(_PATIENCE_S, self._let_go, session, (kind, topic, text))
        else:
            self.push(session, topic, text)

    def _send_late(self, session: Session, topic: str, text: str) -> None:
        session.delayed -= 1
        self.push(session, topic, text)

    def _let_go(self, session: Session, item: tuple[str, str, str]) -> None:
        """Send a held-back frame that was not released in time."""
        if item in session.held:
            session.held.remove(item)
            session.push(item[2])
            self.frames_sent += 1


def _releases(topic: str, kind: str, held_topic: str) -> bool:
    return held_topic != topic if kind == "topic_reorder" else held_topic == topic


def _altered(rows: Rows, by_name: dict[str, Fault]) -> Rows:
    if fault := by_name.get("unknown_field"):
        rows = [{**row, str(fault["field"]): fault["value"]} for row in rows]
    if fault := by_name.get("unknown_status"):
        rows = [{**row, "orderStatus": fault["status"]} if "orderStatus" in row else row for row in rows]
    if "blank_link_id" in by_name:
        rows = [{**row, "orderLinkId": ""} if "orderLinkId" in row else row for row in rows]
    return rows
