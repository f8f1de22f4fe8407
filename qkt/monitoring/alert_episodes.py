"""Turns conditions into notices: one when an episode begins, one when it is over, at most so many a minute. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, Literal

import attrs

from qkt.monitoring.alert_rules import Condition
from qkt.secret import redact

State = Literal["raised", "restored", "digest"]

_TEXT_LIMIT = 1_000


@attrs.frozen(kw_only=True)
class Notice:
    """One message. ``state`` is ``raised``, ``restored`` or ``digest`` (several held back by the rate limit)."""

    state: State
    kind: str
    broker: str
    subject: str = ""
    text: str
    remedy: str = ""
    since_ms: int
    at_ms: int

    @property
    def title(self) -> str:
        """One line for a lock screen."""
        head = {"raised": "ALERT", "restored": "restored", "digest": "ALERTS"}[self.state]
        return redact(f"qkt {head} {self.broker} {self.kind}".replace("  ", " "), limit=120)

    @property
    def body(self) -> str:
        """What is wrong, and what to do."""
        return redact(f"{self.text}\n{self.remedy}".strip(), limit=_TEXT_LIMIT)

    @property
    def line(self) -> str:
        """What is wrong, in one line for a log."""
        return redact(self.text.replace("\n", "; "))

    def to_dict(self) -> dict[str, Any]:
        """The notice as plain JSON types, secrets removed."""
        return {
            "state": self.state,
            "kind": self.kind,
            "broker": self.broker,
            "subject": redact(self.subject),
            "title": self.title,
            "text": redact(self.text, limit=_TEXT_LIMIT),
            "remedy": self.remedy,
            "since_ms": self.since_ms,
            "at_ms": self.at_ms,
        }


class AlertEpisodes:
    """The episodes that were announced. Not thread-safe: its owner guards it."""

    def __init__(self, quiet_ms: int) -> None:
        self._quiet_ms = quiet_ms
        self._open: dict[tuple[str, str, str], Condition] = {}
        self._gone_since_ms: dict[tuple[str, str, str], int] = {}

    def update(self, conditions: Iterable[Condition], now_ms: int) -> list[Notice]:
        """Notices for what began, and for what has been gone for ``quiet_ms``."""
        current = {condition.key: condition for condition in conditions}
        notices = [notice_of("raised", each, now_ms) for key, each in current.items() if key not in self._open]
        for key, condition in list(self._open.items()):
            if key in current:
                self._gone_since_ms.pop(key, None)
                continue
            if now_ms - self._gone_since_ms.setdefault(key, now_ms) >= self._quiet_ms:
                del self._open[key], self._gone_since_ms[key]
                notices.append(notice_of("restored", condition, now_ms))
        for key, condition in current.items():
            self._open.setdefault(key, condition)
        return notices

    @property
    def open_count(self) -> int:
        """How many episodes were announced and are not over."""
        return len(self._open)


class Outbox:
    """Notices that wait for room under the rate limit. Bounded; not thread-safe: its owner guards it.

    What does not fit is not lost: it is summed up in one digest as soon as there is room.
    """

    def __init__(self, max_per_minute: int, capacity: int = 1_000) -> None:
        self._max_per_minute = max_per_minute
        self._waiting: deque[Notice] = deque(maxlen=capacity)
        self._sent_ms: deque[int] = deque()
        self.dropped: int = 0

    def add(self, notices: Iterable[Notice]) -> None:
        """Queue notices; beyond the capacity the oldest are dropped and counted."""
        for notice in notices:
            if len(self._waiting) == self._waiting.maxlen:
                self.dropped += 1
            self._waiting.append(notice)

    def take(self, now_ms: int) -> list[Notice]:
        """What may be sent now; the last one is a digest when there is more than room."""
        while self._sent_ms and self._sent_ms[0] <= now_ms - 60_000:
            self._sent_ms.popleft()
        room = self._max_per_minute - len(self._sent_ms)
        if room <= 0 or not self._waiting:
            return []
        waiting = list(self._waiting)
        self._waiting.clear()
        if len(waiting) > room:
            waiting = [*waiting[: room - 1], _digest(waiting[room - 1 :], now_ms)]
        self._sent_ms.extend([now_ms] * len(waiting))
        return waiting


def notice_of(state: State, condition: Condition, now_ms: int) -> Notice:
    """A notice about one condition."""
    lasted_s = (now_ms - condition.since_ms) / 1000
    text = condition.text if state == "raised" else f"over after {lasted_s:.0f} s: {condition.text}"
    return Notice(
        state=state,
        kind=condition.kind,
        broker=condition.broker,
        subject=condition.subject,
        text=text,
        remedy=condition.remedy if state == "raised" else "",
        since_ms=condition.since_ms,
        at_ms=now_ms,
    )


def _digest(notices: list[Notice], now_ms: int) -> Notice:
    lines = [f"{each.state} {each.broker} {each.kind} {each.subject}".rstrip() for each in notices[:10]]
    if len(notices) > len(lines):
        lines.append(f"and {len(notices) - len(lines)} more")
    return Notice(
        state="digest",
        kind="digest",
        broker=notices[0].broker if len({each.broker for each in notices}) == 1 else "",
        text=f"{len(notices)} alerts held back by the rate limit:\n" + "\n".join(lines),
        since_ms=min(each.since_ms for each in notices),
        at_ms=now_ms,
    )
