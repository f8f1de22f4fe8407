"""The private stream's conversation, without a socket: frames in, commands out, deadlines as data.

    login -> subscribe, topic by topic answered -> ready; meanwhile pings, each owed a pong in time

One refused topic leaves the others alive and is asked for again after a while; a refused login ends the session; a
login, a subscription or a ping without an answer means that the connection is dead, even if the socket is open. Times
are milliseconds on a monotonic clock and come in from outside. The login's signature is made by the shell: no secret
ever enters this room.

Source: docs v5/ws/connect. The reply shapes of private, public and trade streams differ; all are understood.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from qkt.bybit.codec.envelope import Envelope


@attrs.frozen
class Login:
    """Send a signed ``auth`` request with this id."""

    req_id: str


@attrs.frozen
class Send:
    """Send this control frame; it holds no secret."""

    frame: dict[str, Any]


@attrs.frozen
class Deliver:
    """Deliver this data frame to its subscribers."""

    frame: Envelope


@attrs.frozen
class Ready:
    """Every subscription is answered: what happened before must be read by REST, what follows comes by frame."""

    refused: tuple[str, ...] = ()


@attrs.frozen
class TopicRefused:
    """The venue will not serve this topic; the others live on."""

    topic: str
    reason: str


@attrs.frozen
class LoginRefused:
    """The venue does not accept the key."""

    reason: str


@attrs.frozen
class Lost:
    """The connection is dead: close it."""

    reason: str


Command = Login | Send | Deliver | Ready | TopicRefused | LoginRefused | Lost


class Phase(enum.Enum):
    """How far the conversation has come."""

    NEW = "new"
    LOGGING_IN = "logging in"
    OPEN = "open"
    ENDED = "ended"


@attrs.frozen(kw_only=True)
class Timing:
    """How patient the session is. A dead connection is noticed within ping_interval + pong_timeout and a second.

    While unread bytes wait, an overdue answer may be among them, and a reader that is behind is not helped by losing
    what waits for it: then the session gives ``grace_ms`` more. A reader that keeps up finds nothing unread.
    """

    ping_interval_ms: int = 3_500
    pong_timeout_ms: int = 4_000
    grace_ms: int = 15_000
    answer_timeout_ms: int = 5_000
    retry_refused_ms: int = 60_000
    topics_per_request: int = 10


@attrs.define
class _PendingSubscribe:
    topics: tuple[str, ...]
    deadline_ms: int


class StreamSession:
    """One connection's state. Not thread-safe: the shell guards it."""

    def __init__(self, topics: Iterable[str] = (), timing: Timing | None = None, *, needs_login: bool = True) -> None:
        self._needs_login = needs_login
        self._timing = timing or Timing()
        self._wanted: dict[str, None] = dict.fromkeys(topics)
        self._acknowledged: set[str] = set()
        self._refused: dict[str, str] = {}
        self._asked: dict[str, _PendingSubscribe] = {}
        self._phase = Phase.NEW
        self._is_ready = False
        self._numbers = 0
        self._login_deadline_ms = 0
        self._login_req_id = ""
        self._next_ping_ms = 0
        self._pinged_ms: int | None = None
        self._retry_refused_at_ms: int | None = None
        self.round_trip_ms: int | None = None

    @property
    def phase(self) -> Phase:
        """How far the conversation has come."""
        return self._phase

    @property
    def is_ready(self) -> bool:
        """True once every subscription of the login has been answered."""
        return self._is_ready and self._phase is Phase.OPEN

    @property
    def refused(self) -> dict[str, str]:
        """Topic -> the venue's reason, for the topics it refuses now."""
        return dict(self._refused)

    def is_answered(self, topic: str) -> bool:
        """True when the venue has acknowledged or refused the topic."""
        return topic in self._acknowledged or topic in self._refused

    def next_deadline_ms(self) -> int:
        """When `tick` must be called next."""
        if self._phase is Phase.LOGGING_IN:
            return self._login_deadline_ms
        deadlines = [asked.deadline_ms for asked in self._asked.values()]
        if self._pinged_ms is not None:
            deadlines.append(self._pinged_ms + self._timing.pong_timeout_ms)
        else:
            deadlines.append(self._next_ping_ms)
        if self._retry_refused_at_ms is not None:
            deadlines.append(self._retry_refused_at_ms)
        return min(deadlines)

    def opened(self, now_ms: int) -> list[Command]:
        """The socket is open: log in, and send nothing else before the answer (docs v5/ws/connect).

        Public streams need no login and are subscribed at once.
        """
        if not self._needs_login:
            self._phase = Phase.OPEN
            self._next_ping_ms = now_ms + self._timing.ping_interval_ms
            return self._ask(list(self._wanted), now_ms) or self._ready()
        self._phase = Phase.LOGGING_IN
        self._login_deadline_ms = now_ms + self._timing.answer_timeout_ms
        self._login_req_id = self._new_req_id("a")
        return [Login(self._login_req_id)]

    def subscribe(self, topic: str, now_ms: int) -> list[Command]:
        """Want a topic from now on: asked for at once if the login is through."""
        if topic in self._wanted:
            return []
        self._wanted[topic] = None
        return self._ask([topic], now_ms) if self._phase is Phase.OPEN else []

    def received(self, frame: Envelope, now_ms: int) -> list[Command]:
        """A frame came."""
        if self._phase is Phase.ENDED:
            return []
        if "topic" in frame:
            return [Deliver(frame)]
        operation = frame.get("op")
        if operation == "pong" or (operation == "ping" and "ret_msg" in frame):
            return self._pong_came(now_ms)
        if self._phase is Phase.LOGGING_IN:
            return self._login_answered(frame, now_ms) if self._answers_login(frame) else []
        if operation == "subscribe":
            return self._subscription_answered(frame, now_ms)
        return []

    def tick(self, now_ms: int, *, unread: bool = False) -> list[Command]:
        """Time has passed. ``unread`` says that bytes wait to be read: an overdue answer may be among them."""
        late_ms = now_ms - (self._timing.grace_ms if unread else 0)
        if self._phase is Phase.LOGGING_IN:
            if late_ms >= self._login_deadline_ms:
                return self._learn_status_unknown(f"no answer to the login in {self._timing.answer_timeout_ms} ms")
            return []
        if self._phase is not Phase.OPEN:
            return []
        overdue = [asked for asked in self._asked.values() if late_ms >= asked.deadline_ms]
        if overdue:
            topics = ",".join(topic for asked in overdue for topic in asked.topics)
            return self._learn_status_unknown(f"no answer to subscribe {topics} in {self._timing.answer_timeout_ms} ms")
        return self._keep_alive(now_ms, unread) + self._retry_refused(now_ms)

    def ended(self) -> None:
        """The socket is gone: nothing that still arrives counts."""
        self._phase = Phase.ENDED

    def _answers_login(self, frame: Envelope) -> bool:
        """True for the answer to our ``auth`` request; other control frames during the login are not about it.

        A request that the venue could not read is refused with ``"op": ""`` and without an id.
        """
        req_id = frame.get("req_id") or frame.get("reqId")
        if req_id not in (None, "", self._login_req_id):
            return False
        if frame.get("op") == "auth":
            return True
        return not frame.get("op") and (req_id == self._login_req_id or frame.get("success") is False)

    def _login_answered(self, frame: Envelope, now_ms: int) -> list[Command]:
        if not _says_yes(frame):
            self._phase = Phase.ENDED
            return [LoginRefused(_reason(frame))]
        self._phase = Phase.OPEN
        self._next_ping_ms = now_ms + self._timing.ping_interval_ms
        return self._ask(list(self._wanted), now_ms) or self._ready()

    def _ask(self, topics: Sequence[str], now_ms: int, *, singly: bool = False) -> list[Command]:
        size = 1 if singly else self._timing.topics_per_request
        commands: list[Command] = []
        for chunk in _chunks(topics, size):
            req_id = self._new_req_id("s")
            self._asked[req_id] = _PendingSubscribe(chunk, now_ms + self._timing.answer_timeout_ms)
            commands.append(Send({"req_id": req_id, "op": "subscribe", "args": list(chunk)}))
        return commands

    def _subscription_answered(self, frame: Envelope, now_ms: int) -> list[Command]:
        asked = self._take_question(str(frame.get("req_id") or frame.get("reqId") or ""))
        if asked is None:
            return []
        if _says_yes(frame):
            healed = [topic for topic in asked.topics if self._refused.pop(topic, None) is not None]
            self._acknowledged.update(asked.topics)
            return self._ready(again=bool(healed))
        if len(asked.topics) > 1:  # one bad topic fails the whole request (pybit #333): find out which
            return self._ask(asked.topics, now_ms, singly=True)
        topic, reason = asked.topics[0], _reason(frame)
        is_news = topic not in self._refused
        self._refused[topic] = reason
        self._retry_refused_at_ms = now_ms + self._timing.retry_refused_ms
        return [*([TopicRefused(topic, reason)] if is_news else []), *self._ready()]

    def _take_question(self, req_id: str) -> _PendingSubscribe | None:
        if req_id in self._asked:
            return self._asked.pop(req_id)
        if req_id or not self._asked:
            return None
        return self._asked.pop(next(iter(self._asked)))  # no id in the reply: the oldest question

    def _ready(self, *, again: bool = False) -> list[Command]:
        if self._asked or (self._is_ready and not again):
            return []
        self._is_ready = True
        return [Ready(tuple(self._refused))]

    def _keep_alive(self, now_ms: int, unread: bool) -> list[Command]:
        if self._pinged_ms is None:
            if now_ms < self._next_ping_ms:
                return []
            self._pinged_ms = now_ms
            return [Send({"req_id": self._new_req_id("p"), "op": "ping"})]
        patience_ms = self._timing.pong_timeout_ms + (self._timing.grace_ms if unread else 0)
        if now_ms - self._pinged_ms >= patience_ms:
            return self._learn_status_unknown(f"no pong in {now_ms - self._pinged_ms} ms")
        return []

    def _pong_came(self, now_ms: int) -> list[Command]:
        if self._pinged_ms is not None:
            self.round_trip_ms = now_ms - self._pinged_ms
            self._next_ping_ms = self._pinged_ms + self._timing.ping_interval_ms
            self._pinged_ms = None
        return []

    def _retry_refused(self, now_ms: int) -> list[Command]:
        if self._retry_refused_at_ms is None or now_ms < self._retry_refused_at_ms:
            return []
        self._retry_refused_at_ms = None
        return self._ask(list(self._refused), now_ms, singly=True)

    def _learn_status_unknown(self, reason: str) -> list[Command]:
        self._phase = Phase.ENDED
        return [Lost(reason)]

    def _new_req_id(self, kind: str) -> str:
        self._numbers += 1
        return f"{kind}{self._numbers}"


_MOST_REASON = 1_000


def _says_yes(frame: Envelope) -> bool:
    """True for a positive answer: ``success`` on private and public streams, ``retCode`` 0 on the trade stream."""
    if "success" in frame:
        return frame["success"] is True
    return frame.get("retCode") == 0


def _reason(frame: Envelope) -> str:
    text = str(frame.get("ret_msg") or frame.get("retMsg") or "no reason given")[:_MOST_REASON]
    code = frame.get("retCode") or frame.get("ret_code")
    return f"{text} ({code})" if code else text


def _chunks(topics: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """Requests of at most ``size`` topics, `order` never beside `order.spot` (docs v5/ws/private)."""
    chunks: list[list[str]] = []
    for topic in topics:
        for chunk in chunks:
            if len(chunk) < size and not any(_family(topic) == _family(other) for other in chunk):
                chunk.append(topic)
                break
        else:
            chunks.append([topic])
    return [tuple(chunk) for chunk in chunks]


@functools.lru_cache(maxsize=512)
def _cached_split(topic: str) -> tuple[str, str | None]:
    family, _, last = topic.rpartition(".")
    return (family, last) if family and last in _CATEGORIES else (topic, None)


_CATEGORIES = frozenset({"spot", "linear", "inverse", "option"})


def _split(topic: str) -> tuple[str, str | None]:
    """``order.spot`` is ``("order", "spot")``, ``execution.fast`` is ``("execution.fast", None)``."""
    return _cached_split(topic[:128])


def _family(topic: str) -> str:
    return _split(topic)[0]


def may_hear(subscribed: str, topic: str) -> bool:
    """True when frames of ``topic`` can hold something for a subscription; `share_of` decides by their rows."""
    return _split(subscribed)[0] == _split(topic)[0]


def has_category(topic: str) -> bool:
    """True for ``order.spot``, False for ``wallet`` and ``order``."""
    return _split(topic)[1] is not None


def share_of(topic: str, frame: Envelope) -> Envelope | None:
    """What a subscription to ``topic`` hears of a frame: the frame, its rows of that category, or None.

    Rows are told apart by their own ``category``, whatever the frame's topic says; a row without one has the
    category of the frame's topic, or belongs to every category.
    """
    family, category = _split(topic)
    frame_family, frame_category = _split(str(frame.get("topic", "")))
    if family != frame_family:
        return None
    rows = frame.get("data")
    if category is None or not isinstance(rows, list):
        return frame if category in (None, frame_category) or frame_category is None else None
    for row in rows:
        if not (isinstance(row, dict) and row.get("category") == category):
            break
    else:
        return frame
    mine = [row for row in rows if _category_of(row, frame_category) in (category, None)]
    if len(mine) == len(rows):
        return frame
    return {**frame, "data": mine} if mine else None


def _category_of(row: object, otherwise: str | None) -> str | None:
    found = row.get("category") if isinstance(row, dict) else None
    return found if isinstance(found, str) and found else otherwise
