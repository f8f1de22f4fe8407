"""`BybitClient`: the connection of one account, REST and private stream.

Its threads are ``qkt-stream``, which reads, and ``qkt-link``, which connect, watch, and call the handlers of
`BybitClient.on_disconnect`, `on_reconnect`, `on_fault` and `on_gap`.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType, TracebackType
from typing import Any, Self

import attrs

from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.transport.client_stats import ClientStats
from qkt.bybit.transport.config import (
    environment_ca_bundle,
    environment_from,
    environment_proxy,
    order_entry_from,
    positive_ms,
    public_url_of,
    recv_window_from,
    shown_url,
    signer_from,
    trade_url_of,
    urls_from,
)
from qkt.bybit.transport.listeners import Listeners
from qkt.bybit.transport.observer import TransportObserver
from qkt.bybit.transport.permitted import PermittedRequest
from qkt.bybit.transport.protocol import BaseBybitTransport, BatchListener, FrameListener, StreamFault
from qkt.bybit.transport.rate_limits import account_budget, address_budget
from qkt.bybit.transport.read_scope import ReadScope
from qkt.bybit.transport.rest import RestClient, Timeouts
from qkt.bybit.transport.stream import PrivateStream, PublicStream, StreamHooks, StreamStats
from qkt.bybit.transport.stream_connection import StreamAddress
from qkt.bybit.transport.stream_session import Timing
from qkt.bybit.transport.trade_stream import TradeStats, TradeStream
from qkt.clock import Clock, SystemClock
from qkt.errors import (
    BybitApiError,
    BybitConnectError,
    BybitRateLimitError,
    InvalidRequestError,
    QktError,
    VenueProtocolError,
    VenueUnavailableError,
)
from qkt.ids import validate_name
from qkt.model.balances import Wallet
from qkt.net.backoff import BackoffPolicy
from qkt.net.callback_queue import CallbackQueue
from qkt.net.fork import generation
from qkt.net.scheduler import Scheduler
from qkt.net.shared_threads import Lane, shared_lane
from qkt.net.venue_clock import GapDetector, VenueClock
from qkt.secret import Secret, redact

__all__ = ["BybitClient", "ClientStats", "StreamFault"]

log: logging.Logger = logging.getLogger(__name__)

_CONNECT_MS = 9_000  # of the promised 10 s
_GIVE_UP_MS = 500
_AT_ONCE_MS = 300
_CLOSE_MS = 800  # of the promised second
_REST_CHECK_MS = 6_000
_WATCH_MS = 1_000
_CLOCK_SAMPLES = 3
_WORKERS = 3  # one may connect and one may run a handler; one is left to watch and to cut


class BybitClient(BaseBybitTransport):
    """The transport of one account: signed REST, one private stream, a balance cache.

    Every None falls back to the environment: ``BYBIT_API_KEY``, ``BYBIT_API_SECRET``, ``BYBIT_TESTNET`` (true unless
    it says false), ``BYBIT_REST_URL``, ``BYBIT_WS_URL``, ``BYBIT_ACCOUNT_TYPE`` (``UNIFIED``),
    ``BYBIT_RECV_WINDOW_MS`` (5000). ``api_secret`` may be an RSA private key in PEM (``qkt[rsa]``). ``demo=True`` is
    the venue's demo trading. ``ws_url`` is the full private stream URL; given only ``rest_url``, it is derived.
    ``proxy`` is a URL; the environment's proxies and ``REQUESTS_CA_BUNDLE`` are used only with ``trust_env=True``.
    ``timeout_ms`` bounds one REST call as a whole. A plain ``http`` or ``ws`` URL of another machine is refused unless
    ``allow_plaintext=True``. ``order_entry="websocket"`` sends orders, amends and cancels by ``/v5/trade`` while that
    stream is live, and by REST otherwise. ``referer`` is the id of a broker, for keys that have one. A client that was
    made before ``os.fork`` refuses to work in the child.

    ``name`` (1 to 40 letters, digits, ``.``, ``_``, ``-``) tells this account from others: it is the ``account`` of
    events, and stands in logs and in the names of threads.

    Raises:
        InvalidRequestError: no key, or a senseless option.
    """

    def __init__(
        self,
        api_key: str | Secret | None = None,
        api_secret: str | Secret | None = None,
        *,
        testnet: bool | None = None,
        rest_url: str | None = None,
        ws_url: str | None = None,
        account_type: str | None = None,
        recv_window_ms: int | None = None,
        clock: Clock | None = None,
        demo: bool = False,
        proxy: str | None = None,
        trust_env: bool = False,
        timeout_ms: int = 10_000,
        connect_timeout_ms: int = 3_000,
        read_timeout_ms: int = 5_000,
        timing: Timing | None = None,
        backoff: BackoffPolicy | None = None,
        allow_plaintext: bool = False,
        order_entry: str = "rest",
        referer: str | None = None,
        name: str = "",
    ) -> None:
        self.name: str = validate_name(name) if name != "" else ""
        self._generation = generation()
        self._signer = signer_from(api_key, api_secret, referer)
        self._environment = environment_from(testnet, demo)
        self._rest_url, self._ws_url = urls_from(rest_url, ws_url, self._environment, allow_plaintext=allow_plaintext)
        self._account_type = account_type or os.environ.get("BYBIT_ACCOUNT_TYPE") or "UNIFIED"
        self._recv_window_ms = recv_window_from(recv_window_ms)
        self._by_websocket = order_entry_from(order_entry, self._environment) == "websocket"
        timeouts = Timeouts(
            connect_ms=positive_ms(connect_timeout_ms, "connect_timeout_ms"),
            read_ms=positive_ms(read_timeout_ms, "read_timeout_ms"),
            call_ms=positive_ms(timeout_ms, "timeout_ms"),
        )
        self._clock = clock or SystemClock()
        self._machine = SystemClock()
        self._venue_clock = VenueClock(self._clock)
        self._proxy = proxy or (environment_proxy(self._ws_url) if trust_env else None)
        self._ca_bundle = environment_ca_bundle() if trust_env else None
        self._timing = timing
        self._backoff = backoff
        self._address = address_budget(self._rest_url)
        self._rest = RestClient(
            self._rest_url,
            self._signer,
            self._venue_clock,
            recv_window_ms=self._recv_window_ms,
            address=self._address,
            account=account_budget(self._rest_url, self._signer.api_key),
            scheduler=self._link_scheduler,
            timeouts=timeouts,
            proxy=proxy,
            trust_env=trust_env,
            order_entry=self._live_trade_stream,
        )

        self._lock = threading.Lock()
        self._session_lock = threading.Lock()  # held through connect(); never needed by close()
        self._link: Lane | None = None
        self._stream: PrivateStream | None = None
        self._is_closed = False
        self._listeners = Listeners()
        self._stream_stats = StreamStats()
        self._trade: TradeStream | None = None
        self._trade_stats = TradeStats()
        self._gap_detector = GapDetector()

        self._balances: Mapping[str, Decimal] = MappingProxyType({})
        self._wallet = Wallet()

    def observe(self, observer: TransportObserver) -> None:
        """Tell an observer, e.g. a `FlightRecorder`, of every request, reply and frame, and of brokers built later."""
        settings = {
            "transport": type(self).__name__,
            "name": self.name,
            "rest_url": shown_url(self._rest_url),
            "ws_url": shown_url(self._ws_url),
            "environment": self._environment,
            "account_type": self._account_type,
            "recv_window_ms": self._recv_window_ms,
            "timeouts": attrs.asdict(self._rest.timeouts),
            "order_entry": "websocket" if self._by_websocket else "rest",
        }
        observer.attached(settings, self._signer.secrets)
        super().observe(observer)
        self._listeners.observer = observer
        self._rest.observe(observer)

    def connect(self) -> None:
        """Open the session: measure the venue's clock, check the key by a signed read, log the stream in.

        A connected client stays as it is; a closed one opens again.

        Raises:
            BybitConnectError: within 10 s; the host is unreachable, or the key or the login is refused.
        """
        self._check_process()
        deadline_ms = self._machine.monotonic_ms() + _CONNECT_MS
        with self._session_lock:
            if self._stream is not None:
                if not self._is_closed:
                    return
                self.close()  # another thread is closing it: wait for the end of that
            with self._lock:
                self._is_closed = False
            self._rest.reopen()
            try:
                # Not on this thread: a look-up at a name server cannot be interrupted, only left behind.
                self._on_link(lambda: self._check_rest(deadline_ms), deadline_ms)
                self._open_stream(deadline_ms)
            except BaseException as error:
                self._close(timeout_ms=_GIVE_UP_MS)
                if not isinstance(error, Exception):
                    raise
                what = str(error) if isinstance(error, QktError) else redact(str(error), self._signer.secrets)
                raise BybitConnectError(f"no session with {shown_url(self._rest_url)}: {what}") from error

    @property
    def _is_foreign(self) -> bool:
        """True in a child of `os.fork`: threads and connections are the parent's."""
        return self._generation != generation()

    def _check_process(self) -> None:
        if self._is_foreign:
            raise InvalidRequestError(
                "this BybitClient was made before os.fork() and its connections belong to the parent process: build a "
                "new client, and new brokers on it, in the child"
            )

    def _on_link(self, action: Callable[[], None], deadline_ms: int) -> None:
        """Run ``action`` on a ``qkt-link`` thread; raises what it raised, or that it took too long."""
        done = threading.Event()
        failure: list[Exception] = []

        def run() -> None:
            try:
                action()
            except Exception as error:  # noqa: BLE001 - told to the caller, on the caller's thread
                failure.append(error)
            finally:
                done.set()

        self._link_scheduler().schedule_once(run, 0)
        if not done.wait(max(0, deadline_ms - self._machine.monotonic_ms()) / 1000):
            raise BybitConnectError(f"{shown_url(self._rest_url)} did not answer in time")
        if failure:
            raise failure[0]

    def _check_rest(self, deadline_ms: int) -> None:
        """The clock first: a signature by a wrong clock is refused whatever the key."""
        check_ms = min(_REST_CHECK_MS, self._rest.timeouts.call_ms)
        try:
            self._rest.measure_clock(_CLOCK_SAMPLES, call_ms=check_ms)
        except QktError as error:
            if not _is_about_the_endpoint(error):
                raise
            log.warning("the venue does not tell its time error=%s", error)
        left_ms = max(1, min(check_ms, deadline_ms - self._machine.monotonic_ms()))
        self._rest.get("/v5/account/wallet-balance", {"accountType": self._account_type}, call_ms=left_ms)

    def _open_stream(self, deadline_ms: int) -> None:
        scheduler = self._link_scheduler()
        hooks = StreamHooks(
            on_frames=self._listeners.frames_came,
            on_ready=self._listeners.stream_is_ready,
            on_lost=self._listeners.stream_is_lost,
            on_fault=self._listeners.fault_came,
            on_malformed=lambda reason: self._listeners.gap_noticed(f"unreadable frame: {reason}"),
            resynchronise=self._resynchronise,
            on_raw=self._listeners.raw_came,
        )
        with self._lock:  # a topic wanted meanwhile is either among these, or finds the stream
            if self._is_closed:
                raise BybitConnectError("the client was closed while it connected")
            self._listeners.queue = CallbackQueue(scheduler)
            self._stream = stream = PrivateStream(
                StreamAddress(url=self._ws_url, proxy=self._proxy, ca_bundle=self._ca_bundle),
                self._signer,
                self._venue_clock,
                hooks,
                topics=self._listeners.topics(),
                scheduler=scheduler,
                budget=self._address,
                stats=self._stream_stats,
                timing=self._timing,
                backoff=self._backoff,
                thread_name=f"qkt-stream{self._suffix}",
            )
            if self._by_websocket:
                self._trade = TradeStream(
                    StreamAddress(url=trade_url_of(self._ws_url), proxy=self._proxy, ca_bundle=self._ca_bundle),
                    self._signer,
                    self._venue_clock,
                    scheduler=scheduler,
                    budget=self._address,
                    stats=self._trade_stats,
                    resynchronise=self._resynchronise,
                    timing=self._timing,
                    backoff=self._backoff,
                )
            trade = self._trade
        self._on_link(stream.open, deadline_ms)
        if trade is not None:
            self._on_link(trade.open, deadline_ms)
        if self._is_closed:  # by a handler, which was told of the session before we are
            raise BybitConnectError("the client was closed while it connected")
        self._gap_detector = GapDetector()
        self._gap_detector.look(self._clock.now_ms(), self._clock.monotonic_ms(), expected_ms=0)
        scheduler.schedule_at_fixed_rate(self._watch, _WATCH_MS, _WATCH_MS)
        log.info(
            "connected rest_url=%s clock_offset_ms=%d%s",
            shown_url(self._rest_url),
            self._venue_clock.offset_ms,
            f" account={self.name}" if self.name else "",
        )

    def public_stream(
        self, kind: str, hooks: StreamHooks, *, scheduler: Scheduler, thread_name: str = "qkt-public"
    ) -> PublicStream:
        """A public stream of the same venue, not yet open; its owner closes it. ``kind`` is the end of its URL."""
        self._check_process()
        url = public_url_of(self._ws_url, kind)
        return PublicStream(
            StreamAddress(url=url, proxy=self._proxy, ca_bundle=self._ca_bundle),
            self._signer,
            self._venue_clock,
            hooks,
            topics=(),
            scheduler=scheduler,
            budget=self._address,
            stats=StreamStats(),
            timing=self._timing,
            backoff=self._backoff,
            thread_name=thread_name,
        )

    def close(self) -> None:
        """End the session: cut what is under way, join the threads; idempotent, from any thread.

        A write under way ends as OutcomeUnknownError, a read as VenueUnavailableError.
        """
        self._close(timeout_ms=_CLOSE_MS)

    def _close(self, *, timeout_ms: int) -> None:
        """Close each part; nothing in a forked child, where all of them are the parent's.

        Each part closes idempotently, so every caller, of several at once, returns when all parts have ended.
        """
        if self._is_foreign:
            return
        with self._lock:
            self._is_closed = True
            stream, trade, link, callbacks = self._stream, self._trade, self._link, self._listeners.queue
        if callbacks is not None:
            callbacks.close()
        self._rest.close()
        for one in (trade, stream):
            if one is not None:
                one.close()
        if link is not None:
            link.close(timeout_ms)
        with self._lock:
            if self._link is link:
                self._stream = self._trade = self._link = self._listeners.queue = None

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _live_trade_stream(self) -> TradeStream | None:
        """The order entry stream while it can be used; a write that has to go by REST instead is counted."""
        trade = self._trade
        if trade is not None and trade.is_live:
            return trade
        if self._by_websocket:
            self._trade_stats.fallbacks += 1
        return None

    def _link_scheduler(self) -> Lane:
        """The scheduler of this session, made when first needed."""
        with self._lock:
            if self._is_closed:
                raise InvalidRequestError("the client is closed")
            if self._link is None:
                self._link = shared_lane(f"qkt-link{self._suffix}", _WORKERS)
            return self._link

    @property
    def _suffix(self) -> str:
        """The end of the names of this client's threads."""
        return f"-{self.name}" if self.name else ""

    @property
    def is_connected(self) -> bool:
        """True while the stream is authenticated and every topic acknowledged."""
        return self.stream_state == "live"

    @property
    def stream_state(self) -> str:
        """``closed``, ``connecting``, ``live``, ``degraded`` (a topic is refused), ``down`` or ``auth_refused``."""
        stream = self._stream
        return "closed" if stream is None or self._is_foreign else stream.state

    @property
    def topic_faults(self) -> Mapping[str, StreamFault]:
        """Topic -> fault, for each topic the venue refuses now."""
        stream = self._stream
        return MappingProxyType({}) if stream is None else stream.topic_faults

    @property
    def clock_offset_ms(self) -> int:
        """Server time minus local time."""
        return self._venue_clock.offset_ms

    def venue_ms(self) -> int | None:
        """Venue time now, by the monotonic clock; None before the first measurement."""
        return self._venue_clock.now_ms() if self._venue_clock.is_measured else None

    @property
    def recv_window_ms(self) -> int:
        """How long the venue honours a request after its timestamp."""
        return self._recv_window_ms

    @property
    def account_type(self) -> str:
        """The venue's account type, e.g. ``UNIFIED``."""
        return self._account_type

    @property
    def stats(self) -> ClientStats:
        """What the connection did and how it is, in numbers."""
        stream, counted, rest = self._stream, self._stream_stats, self._rest.stats
        trade_is_live = self._trade is not None and self._trade.is_live
        requests_used, connections_used = self._address.used()
        last_ms, callbacks = counted.last_frame_monotonic_ms, self._listeners.queue
        return ClientStats(
            frames=counted.frames,
            frame_age_ms=None if last_ms is None else self._machine.monotonic_ms() - last_ms,
            lag_ms=counted.lag_ms,
            most_lag_ms=counted.most_lag_ms,
            unread_bytes=0 if stream is None else stream.unread_bytes,
            malformed_frames=counted.malformed,
            connections=counted.connections,
            losses=counted.losses,
            last_loss=counted.last_loss,
            ping_round_trip_ms=None if stream is None else stream.round_trip_ms,
            listener_errors=self._listeners.errors,
            handlers_waiting=0 if callbacks is None else len(callbacks),
            gaps=self._listeners.gaps,
            order_entry="rest" if not self._by_websocket else "websocket" if trade_is_live else "rest (stream down)",
            websocket_writes=self._trade_stats.requests,
            websocket_fallbacks=self._trade_stats.fallbacks,
            websocket_losses=self._trade_stats.losses,
            requests=rest.requests,
            requests_under_way=self._rest.under_way,
            retries=rest.retries,
            throttled=rest.throttled,
            failed_reads=rest.failed_reads,
            unknown_writes=rest.unknown_writes,
            clock_refusals=rest.clock_refusals,
            waited_for_budget_ms=rest.waited_for_budget_ms,
            rest_round_trip_ms=rest.last_round_trip_ms,
            requests_in_5_s=requests_used,
            connections_in_5_min=connections_used,
            request_limit_in_5_s=self._address.request_limit,
            shut_out_ms=self._address.shut_out_ms,
        )

    def __repr__(self) -> str:
        if "_wallet" not in vars(self):  # __init__ raised before it finished; a debugger may still call repr()
            return "<BybitClient not built>"
        if self._is_foreign:
            return f"<BybitClient {shown_url(self._rest_url)} of the parent process>"
        stats = self.stats
        age = "" if stats.frame_age_ms is None else f" frame_age_ms={stats.frame_age_ms}"
        refused = f" refused={','.join(self.topic_faults)}" if self.topic_faults else ""
        topics = len(self._listeners.topics())
        name = f"{self.name} " if self.name else ""
        return (
            f"<BybitClient {name}{shown_url(self._rest_url)} stream={self.stream_state} topics={topics}{refused}{age} "
            f"frames={stats.frames} losses={stats.losses} requests={stats.requests} "
            f"under_way={stats.requests_under_way} clock_offset_ms={self.clock_offset_ms}>"
        )

    def get_signed(self, path: str, query: Mapping[str, Any], *, timeout_ms: int | None = None) -> Envelope:
        """Read; repeated on transport errors and 5xx within ``timeout_ms``. Values are sent as text, None is left out.

        ``timeout_ms`` is for this call alone; the default is the client's ``timeout_ms``.

        Raises:
            BybitApiError: the venue refused. VenueUnavailableError: no usable answer in time, or closed meanwhile.
            BybitRateLimitError: no room in the budget in time. VenueProtocolError: the reply is no envelope.
        """
        self._check_process()
        return self._rest.get(path, query, call_ms=timeout_ms)

    def read_once(
        self, path: str, query: Mapping[str, Any], *, timeout_ms: int, scope: ReadScope | None = None
    ) -> Envelope:
        """Read, in one try of at most ``timeout_ms``; a try that fails at once is repeated once.

        Cutting ``scope`` ends the read with VenueUnavailableError. Raises what `get_signed` raises.
        """
        self._check_process()
        call_ms, began_ms = min(timeout_ms, self._rest.timeouts.call_ms), self._machine.monotonic_ms()
        try:
            return self._rest.get(path, query, call_ms=call_ms, repeats=False, scope=scope)
        except BybitRateLimitError:
            raise
        except (VenueUnavailableError, VenueProtocolError):
            took_ms = self._machine.monotonic_ms() - began_ms
            is_over = self._is_closed or (scope is not None and scope.is_cut)
            if is_over or took_ms > min(_AT_ONCE_MS, call_ms // 2):
                raise
        return self._rest.get(path, query, call_ms=max(1, call_ms - took_ms), repeats=False, scope=scope)

    def post_signed(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """Write, once; sent anew only when the venue proved that it read nothing (10002, 10006).

        Raises:
            BybitApiError: the venue refused: nothing was done. OutcomeUnknownError: it may have been done.
            VenueUnavailableError, BybitRateLimitError: nothing was sent, or it was turned away unread.
        """
        self._check_process()
        return self._rest.post(path, body)

    def post_permitted(self, request: PermittedRequest) -> Envelope:
        """Write exactly what a journal permitted, once and by REST, whatever ``order_entry`` says.

        Nothing of it is signed anew: after 10002 or 10006 the caller asks for another permit. Raises what `post_signed`
        raises.
        """
        self._check_process()
        return self._rest.post_permitted(request)

    def key_days_left(self) -> int | None:
        """Whole days until the API key ends, None for a key without an end; one read.

        Raises what `get_signed` raises. Source: GET /v5/user/query-api, ``deadlineDay`` (docs v5/user/apikey-info).
        """
        told = self.get_signed("/v5/user/query-api", {}).get("result") or {}
        days = str(told.get("deadlineDay") or "").strip()
        return int(days) if days.isdigit() and int(days) > 0 else None

    @property
    def balances(self) -> Mapping[str, Decimal]:
        """Coin -> wallet balance as last written by `update_balances`; read-only."""
        return self._balances

    @property
    def wallet(self) -> Wallet:
        """Per coin total, locked and available, with its age."""
        return self._wallet

    def update_balances(self, snapshot: Mapping[str, Decimal], wallet: Wallet | None = None) -> None:
        """Replace the cached balances (and the wallet, when given) by a newer snapshot."""
        self._balances = MappingProxyType(dict(snapshot))
        if wallet is not None:
            self._wallet = wallet

    def subscribe(self, topic: str, listener: FrameListener) -> None:
        """Hear a topic, e.g. ``order.spot``: library code only, it is called on the thread that reads.

        On a live socket the topic is sent at once and its answer awaited, so that a snapshot read afterwards and the
        frames leave no hole between them. A refusal is told by `on_fault` and `topic_faults`.
        """
        self._subscribe(lambda: self._listeners.add(topic, listener))

    def subscribe_batch(self, topics: Iterable[str], listener: BatchListener) -> None:
        """Hear several topics with one listener, which gets all frames that one read of the socket brought.

        The frames come oldest first, across the topics; otherwise as `subscribe`.
        """
        self._subscribe(lambda: self._listeners.add_batch(topics, listener))

    def _subscribe(self, add: Callable[[], list[str]]) -> None:
        self._check_process()
        with self._lock:
            new, stream = add(), self._stream
        if stream is not None:
            for topic in new:
                stream.subscribe(topic)

    def forget(self, listener: Callable[..., object]) -> None:
        """Remove a listener or a handler wherever it is registered; an unknown one is ignored.

        Topics stay subscribed at the venue. A call that has begun on another thread is not waited for.
        """
        self._listeners.forget(listener)

    def on_disconnect(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` on ``qkt-link`` when the stream is lost, once per lost session."""
        self._listeners.add_handler("lost", handler)

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        """Call ``handler()`` on ``qkt-link`` when every subscription of a session is answered: read a snapshot then."""
        self._listeners.add_handler("ready", handler)

    def on_fault(self, handler: Callable[[StreamFault], None]) -> None:
        """Call ``handler(fault)`` on ``qkt-link`` when the venue refuses the login or a topic."""
        self._listeners.add_handler("fault", handler)

    def on_gap(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` on ``qkt-link`` when time jumped, the machine slept, or a frame was unreadable."""
        self._listeners.add_handler("gap", handler)

    def _watch(self) -> None:
        stream = self._stream
        if stream is None:
            return
        gap_ms = self._gap_detector.look(self._clock.now_ms(), self._clock.monotonic_ms(), expected_ms=_WATCH_MS)
        if gap_ms:
            self._resynchronise()
            self._listeners.gap_noticed(f"time jumped by {gap_ms} ms (suspend, or a stepped clock)")
        stream.watch()

    def _resynchronise(self) -> None:
        try:
            self._rest.measure_clock(call_ms=_REST_CHECK_MS, repeats=False)
        except QktError as error:
            log.warning("clock not measured error=%s", error)


def _is_about_the_endpoint(error: Exception) -> bool:
    """The host answers, but not to this question: no reason not to try the others."""
    return isinstance(error, VenueProtocolError | BybitApiError)
