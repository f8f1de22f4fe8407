"""The private stream: a reader thread per connection, and a supervisor that reconnects.

The thread ``qkt-stream`` reads, keeps the session's deadlines and hands data frames to the listeners; it runs library
code only. Connecting, waiting and reconnecting happen on the client's ``qkt-link`` threads, so neither a user's thread
nor a handler can keep the socket from being read. Each connection is an object of its own and only the current one
counts, so frames that a replaced connection still reads are ignored.

Source: docs v5/ws/connect.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType

import attrs
import websocket

from qkt.bybit.codec.envelope import Envelope, decode
from qkt.bybit.transport.config import shown_url
from qkt.bybit.transport.protocol import StreamFault
from qkt.bybit.transport.rate_limits import AddressBudget
from qkt.bybit.transport.signer import BybitSigner
from qkt.bybit.transport.stream_connection import StreamAddress, StreamConnection, StreamEndedError
from qkt.bybit.transport.stream_session import (
    Command,
    Deliver,
    Login,
    LoginRefused,
    Lost,
    Phase,
    Ready,
    Send,
    StreamSession,
    Timing,
    TopicRefused,
)
from qkt.clock import SystemClock
from qkt.errors import VenueProtocolError, VenueUnavailableError
from qkt.net.backoff import BackoffPolicy, ExponentialBackoff
from qkt.net.scheduler import Scheduler
from qkt.net.sockets import unread_bytes
from qkt.net.supervisor import ReconnectSupervisor
from qkt.net.venue_clock import VenueClock
from qkt.secret import redact
from qkt.threads import library_thread

log: logging.Logger = logging.getLogger(__name__)

_LOGIN_VALID_MS = 10_000  # the documentation's one second fails on the smallest skew (pybit #152)
_TURN_MS = 1_000  # the reader looks at its deadlines at least this often
_STUCK_MS = 6_000
_STABLE_AFTER_MS = 2_000  # one that lived so long is not a venue that drops whom it accepts
_JOIN_S = 0.8  # `close` promises a second
_REFUSED_AGAIN_MS = 60_000


@attrs.define
class StreamStats:
    """Counters since the client was built; ages and lag in ms."""

    frames: int = 0
    malformed: int = 0
    connections: int = 0
    losses: int = 0
    last_frame_monotonic_ms: int | None = None
    lag_ms: int | None = None
    most_lag_ms: int = 0
    last_loss: str = ""


class LoginRefusedError(ConnectionError):
    """The venue answered the login with no."""


@attrs.frozen(kw_only=True)
class StreamHooks:
    """The stream's callbacks, on ``qkt-stream`` (frames) or a ``qkt-link`` thread; they must return quickly."""

    on_frames: Callable[[list[Envelope]], None]
    on_ready: Callable[[], None]
    on_lost: Callable[[str], None]
    on_fault: Callable[[StreamFault], None]
    on_malformed: Callable[[str], None]
    resynchronise: Callable[[], None]
    on_reply: Callable[[Envelope], None] | None = None  # control frames that the session did not ask for
    on_raw: Callable[[list[bytes]], None] | None = None  # the messages of one read, before anything is made of them


class _ReconnectBackoff:
    """The pauses between attempts: those of the policy, and about a minute while the venue refuses the login."""

    def __init__(self, policy: BackoffPolicy, is_refused: Callable[[], bool], refused_ms: int) -> None:
        self._policy = policy
        self._is_refused = is_refused
        self._refused = ExponentialBackoff(initial_ms=refused_ms, max_ms=2 * refused_ms, jitter=0.2)

    def delay_ms(self, attempt: int, jitter: float = 0.5) -> int:
        if self._is_refused():
            return self._refused.delay_ms(0, jitter)
        return self._policy.delay_ms(attempt, jitter)


class PrivateStream:
    """Keeps one account's private stream alive from `open` to `close`. Not reusable after `close`."""

    def __init__(
        self,
        address: StreamAddress,
        signer: BybitSigner,
        venue_clock: VenueClock,
        hooks: StreamHooks,
        *,
        topics: Iterable[str],
        scheduler: Scheduler,
        budget: AddressBudget,
        stats: StreamStats,
        timing: Timing | None = None,
        backoff: BackoffPolicy | None = None,
        refused_again_ms: int = _REFUSED_AGAIN_MS,
        thread_name: str = "qkt-stream",
    ) -> None:
        self._address = address
        self._signer = signer
        self._venue_clock = venue_clock
        self._hooks = hooks
        self._topics = dict.fromkeys(topics)
        self._scheduler = scheduler
        self._budget = budget
        self._thread_name = thread_name
        self._stats = stats
        self._timing = timing or Timing()
        self._turn_ms = min(_TURN_MS, self._timing.pong_timeout_ms // 2)
        self._machine = SystemClock()

        self._lock = threading.Lock()
        self._link: StreamConnection | None = None
        self._is_closed = False
        self._is_opening = False
        self._refusals = 0
        self._auth_fault: StreamFault | None = None
        policy = backoff or ExponentialBackoff(initial_ms=250, max_ms=15_000)
        self._supervisor = ReconnectSupervisor(
            self._attempt,
            _ReconnectBackoff(policy, lambda: self._refusals > 1, refused_again_ms),
            scheduler,
            on_error=self._log_failure,
            stable_after_ms=_STABLE_AFTER_MS,
        )

    def open(self) -> None:
        """Connect, log in and subscribe: one attempt, on the caller's thread; raises what went wrong."""
        self._is_opening = True
        try:
            self._attempt()
        finally:
            self._is_opening = False

    def reconnect(self, reason: str) -> None:
        """Connect in the background until it succeeds; for a stream whose `open` failed."""
        self._supervisor.trigger(reason)

    def send(self, text: str) -> tuple[bool, str]:
        """Send a text on the present connection; returns whether it may have left, and what failed ("": nothing)."""
        link = self._link
        if link is None or not link.is_ready:
            return False, "the stream is down"
        try:
            link.send(lambda: text)
        except ConnectionError as error:
            link.give_up(str(error))
            return True, str(error)
        return True, ""

    def close(self) -> None:
        """End it; idempotent, from any thread. Joins the reader unless it is the caller."""
        with self._lock:
            self._is_closed = True
            link = self._link
        self._supervisor.stop()
        if link is not None:
            link.give_up("closed")
            link.join(_JOIN_S)

    def subscribe(self, topic: str) -> None:
        """Subscribe a topic: at once on a live socket, whose answer is then awaited, and after every later login."""
        with self._lock:
            self._topics[topic] = None
            link = self._link
        if link is None:
            return
        with link.changed:
            is_live = link.session.phase is Phase.OPEN
            commands = link.session.subscribe(topic, self._machine.monotonic_ms())
        try:
            self._execute(link, commands)
        except Exception as error:  # noqa: BLE001 - a dead socket is the reader's business; it will subscribe again
            link.give_up(f"sending failed: {type(error).__name__}")
            return
        if is_live and not link.is_reader:
            with link.changed:
                link.changed.wait_for(
                    lambda: link.session.is_answered(topic) or link.has_ended,
                    timeout=self._timing.answer_timeout_ms / 1000,
                )

    @property
    def state(self) -> str:
        """``closed``, ``connecting``, ``live``, ``degraded`` (a topic is refused), ``down`` or ``auth_refused``."""
        link = self._link
        if self._is_closed:
            return "closed"
        if link is not None and link.is_ready:
            return "degraded" if link.session.refused else "live"
        if self._auth_fault is not None:
            return "auth_refused"
        return "connecting" if self._is_opening or self._supervisor.state == "running" else "down"

    @property
    def topic_faults(self) -> Mapping[str, StreamFault]:
        """Topic -> fault, for the topics the venue refuses on the present connection."""
        link = self._link
        if link is None or link.has_ended:
            return MappingProxyType({})
        return MappingProxyType(
            {
                topic: StreamFault(kind="topic", topic=topic, reason=reason)
                for topic, reason in link.session.refused.items()
            }
        )

    @property
    def round_trip_ms(self) -> int | None:
        """Between the last ping and its pong."""
        link = self._link
        return None if link is None else link.session.round_trip_ms

    @property
    def unread_bytes(self) -> int:
        """Bytes that wait in the machine for the reader: how far it is behind."""
        link = self._link
        raw = None if link is None else link.raw
        return 0 if raw is None else unread_bytes(raw)

    def watch(self) -> None:
        """Called every so often from another thread: ends a connection that trickles one frame forever."""
        link = self._link
        since_ms = None if link is None else link.reading_since_ms
        if link is not None and since_ms is not None and self._machine.monotonic_ms() - since_ms > _STUCK_MS:
            link.give_up("one frame took longer than 6 s")

    def cut(self, reason: str) -> None:
        """Drop the present connection; the supervisor brings a new one."""
        link = self._link
        if link is not None:
            link.give_up(reason)

    def _attempt(self) -> None:
        """Connect, log in, subscribe, and leave a reader behind; raises when that fails."""
        wait_ms = self._budget.connection_wait_ms()
        if wait_ms > 0:
            raise VenueUnavailableError(
                f"the connection budget (500 per 5 minutes) is spent; there is room in {wait_ms} ms",
                retry_after_ms=wait_ms,
            )
        if self._refusals == 1:
            self._hooks.resynchronise()
        with self._lock:
            if self._is_closed:
                raise StreamEndedError("closed")
            last, link = self._link, StreamConnection(self._new_session())
            self._link = link
        if last is not None:
            last.give_up("replaced")
        limit = self._scheduler.schedule_once(lambda: self._give_up_unless_ready(link), self._attempt_ms)
        try:
            link.connect(self._address, self._signer.secrets)
            self._stats.connections += 1
            link.start(library_thread(self._thread_name, self._read, link))
            with link.changed:
                link.changed.wait_for(lambda: link.was_ready or link.has_ended)
        except BaseException:
            link.end()
            raise
        finally:
            limit.cancel()
        self._judge(link)

    def _new_session(self) -> StreamSession:
        return StreamSession(self._topics, self._timing)

    @property
    def _attempt_ms(self) -> int:
        """How long one attempt may take: connecting, the login's answer, the subscriptions'."""
        return self._address.connect_timeout_ms + 2 * self._timing.answer_timeout_ms

    def _give_up_unless_ready(self, link: StreamConnection) -> None:
        if not link.was_ready:
            link.give_up(f"not ready within {self._attempt_ms} ms")

    def _judge(self, link: StreamConnection) -> None:
        if link.refused_because:
            self._login_was_refused(link.refused_because)
        if not link.was_ready:
            link.join(_JOIN_S)
            raise StreamEndedError(link.end_reason or "the connection ended before it was ready")
        self._refusals, self._auth_fault = 0, None

    def _login_was_refused(self, reason: str) -> None:
        self._refusals += 1
        is_certain = self._refusals > 1 or self._is_opening  # the first may be the clock's fault: it is measured anew
        if is_certain and self._auth_fault is None:
            self._auth_fault = StreamFault(kind="auth", reason=reason, fatal=True)
            log.error("stream login refused reason=%s", reason)
            self._hooks.on_fault(self._auth_fault)
        raise LoginRefusedError(f"the venue refuses the login: {reason}")

    def _log_failure(self, error: Exception) -> None:
        supervisor = self._supervisor
        log.warning(
            "stream not back yet failures=%d state=%s next_in_ms=%s error=%s",
            supervisor.failures,
            self.state,
            supervisor.next_delay_ms,
            error,
        )

    def _read(self, link: StreamConnection) -> None:
        """The body of ``qkt-stream``."""
        reason = "ended"
        try:
            self._execute(link, link.session.opened(self._machine.monotonic_ms()))
            while not link.has_ended:
                self._turn(link)
        except StreamEndedError as end:
            reason = str(end)
        except Exception as error:  # whatever ends a reader is answered by a new connection
            reason = redact(f"{type(error).__name__}: {error}", self._signer.secrets)
            if not isinstance(error, OSError | websocket.WebSocketException):
                log.exception("stream reader failed")
        self._over(link, link.end_reason or reason)

    def _turn(self, link: StreamConnection) -> None:
        """Read what the socket has, or wait for a deadline, whichever comes first."""
        wait_ms = link.next_deadline_ms() - self._machine.monotonic_ms()
        self._take(link, link.receive(max(0, min(wait_ms, self._turn_ms))))
        now_ms = self._machine.monotonic_ms()
        if now_ms >= link.next_deadline_ms():
            unread = link.wait_readable(0)
            with link.changed:
                commands = link.session.tick(now_ms, unread=unread)
            self._execute(link, commands)

    def _take(self, link: StreamConnection, received: list[bytes]) -> None:
        """Hand the data frames of one read to the listeners at once, control frames to the session, in order."""
        if received and self._hooks.on_raw is not None:
            self._hooks.on_raw(received)
        frames: list[Envelope] = []
        for data in received:
            try:
                message = decode(data, self._signer.secrets)
            except VenueProtocolError as error:
                self._deliver(link, frames)
                frames = []
                self._stats.malformed += 1
                log.warning("stream frame unreadable error=%s", error)
                self._hooks.on_malformed(str(error))
                continue
            if "topic" in message:
                frames.append(message)
                continue
            self._deliver(link, frames)
            frames = []
            with link.changed:
                commands = link.session.received(message, self._machine.monotonic_ms())
                link.changed.notify_all()
            if commands or self._hooks.on_reply is None:
                self._execute(link, commands)
            else:
                self._hooks.on_reply(message)
        self._deliver(link, frames)

    def _execute(self, link: StreamConnection, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case Deliver(frame):
                    self._deliver(link, [frame])
                case Login(req_id):
                    link.send(partial(self._login_text, req_id))
                case Send(control):
                    link.send(partial(json.dumps, control))
                case Ready():
                    self._is_ready(link)
                case TopicRefused(topic, reason):
                    self._topic_refused(topic, reason)
                case LoginRefused(reason):
                    link.refused_because = redact(reason, self._signer.secrets)
                    raise StreamEndedError("login refused")
                case Lost(reason):
                    raise StreamEndedError(reason)

    def _login_text(self, req_id: str) -> str:
        return self._signer.login_frame(self._venue_clock.now_ms() + _LOGIN_VALID_MS, req_id)

    def _deliver(self, link: StreamConnection, frames: list[Envelope]) -> None:
        if not frames or link.has_ended:
            return
        stats = self._stats
        stats.frames += len(frames)
        stats.last_frame_monotonic_ms = self._machine.monotonic_ms()
        venue_ms = self._venue_clock.now_ms()
        for frame in (frames[0], frames[-1]):
            created_ms = frame.get("creationTime")
            if isinstance(created_ms, int):
                stats.lag_ms = max(0, venue_ms - created_ms)
                stats.most_lag_ms = max(stats.most_lag_ms, stats.lag_ms)
        self._hooks.on_frames(frames)

    def _is_ready(self, link: StreamConnection) -> None:
        log.info("stream ready url=%s connections=%d", shown_url(self._address.url), self._stats.connections)
        self._hooks.on_ready()
        with link.changed:
            link.was_ready = True
            link.changed.notify_all()

    def _topic_refused(self, topic: str, reason: str) -> None:
        reason = redact(reason, self._signer.secrets)
        log.error("stream topic refused topic=%s reason=%s", topic, reason)
        self._hooks.on_fault(StreamFault(kind="topic", topic=topic, reason=reason))

    def _over(self, link: StreamConnection, reason: str) -> None:
        """Close the connection; report the loss if it was the current one and had been ready."""
        link.end_reason = link.end_reason or reason
        is_news = link.was_ready and not self._is_closed and self._link is link
        link.end()  # before the loss is reported, so that the state agrees with the report
        if is_news:
            self._stats.losses += 1
            self._stats.last_loss = reason
            log.warning("stream lost reason=%s", reason)
            self._hooks.on_lost(reason)
            self._supervisor.trigger(reason)


class PublicStream(PrivateStream):
    """A stream of public topics: the same connection, deadlines and reconnects, and no login."""

    def _new_session(self) -> StreamSession:
        return StreamSession(self._topics, self._timing, needs_login=False)
