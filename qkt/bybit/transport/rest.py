"""Signed requests, each with one honest outcome: answered, refused, not done, or not known.

Reads are repeated while that can help. A write is sent once; only a refusal that proves the venue read nothing of it
(10002, 10006) is answered by signing and sending anew. What is signed is, byte for byte, what is sent. Everything a
caller may wait for has an end: connecting, each read, the room in a budget, and the call as a whole.

The request's signature exists only in the frame that sends it, and errors are raised outside of the handlers that
caught the transport's, whose objects hold the headers.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPException
from typing import Any

import attrs
import requests
from urllib3.exceptions import HTTPError

from qkt.bybit.codec.envelope import Envelope, check_envelope, decode
from qkt.bybit.codec.retcodes import Operation, Verdict, operation_for, verdict
from qkt.bybit.transport.encoding import body_text, query_string
from qkt.bybit.transport.rate_limits import AccountBudget, AddressBudget, Priority
from qkt.bybit.transport.read_scope import ReadScope
from qkt.bybit.transport.signer import BybitSigner
from qkt.clock import SystemClock
from qkt.errors import (
    BybitApiError,
    BybitRateLimitError,
    InvalidRequestError,
    OutcomeUnknownError,
    QktError,
    VenueProtocolError,
    VenueUnavailableError,
)
from qkt.net.backoff import ExponentialBackoff
from qkt.net.http import Call, Cut, HttpPool
from qkt.net.scheduler import Scheduler
from qkt.net.venue_clock import VenueClock
from qkt.secret import redact

log = logging.getLogger(__name__)

TIME_PATH = "/v5/market/time"
_BAN_MS = 600_000  # docs v5/rate-limit: "wait for at least 10 minutes"
_BETWEEN_READS = ExponentialBackoff(initial_ms=100, max_ms=2_000)
_CLOCK_TRIES = 2
_TIME_IS_UP = "the call's time is up"
_MEASURE_AGAIN_MS = 10_000
_LEAST_THROTTLE_MS = 50
_UNTOLD_THROTTLE_MS = 500


@attrs.frozen(kw_only=True)
class Timeouts:
    """How long to wait for what, in ms: connecting, one silent read, one call in all, room in a write's budget."""

    connect_ms: int = 3_000
    read_ms: int = 5_000
    call_ms: int = 10_000
    write_budget_ms: int = 2_000


@attrs.define
class RestStats:
    """Counters since the client was built."""

    requests: int = 0
    retries: int = 0
    throttled: int = 0
    failed_reads: int = 0
    unknown_writes: int = 0
    clock_refusals: int = 0
    waited_for_budget_ms: int = 0
    last_round_trip_ms: int | None = None


@attrs.frozen(kw_only=True)
class _Answer:
    """What came back over the wire; ``text`` is kept only when it is no JSON object. Its repr shows none of it."""

    status: int
    text: bytes = attrs.field(repr=False)
    envelope: Envelope | None = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    sent_ms: int
    received_ms: int

    @property
    def trace_id(self) -> str:
        return self.headers.get("Traceid", "")

    @property
    def ret_code(self) -> int | None:
        found = None if self.envelope is None else self.envelope.get("retCode")
        return found if isinstance(found, int) and not isinstance(found, bool) else None


@attrs.frozen(kw_only=True)
class _Failure:
    """Why nothing usable came back. ``has_left`` is False only if it is certain that no byte of the request left."""

    what: str
    has_left: bool
    was_cut: bool = False


_CLOSED = _Failure(what="the client is closed", has_left=False, was_cut=True)


class RestClient:
    """Signed REST for one key. Thread-safe; `close` cuts what is under way, and `reopen` lets calls pass again."""

    def __init__(
        self,
        base_url: str,
        signer: BybitSigner,
        venue_clock: VenueClock,
        *,
        recv_window_ms: int,
        address: AddressBudget,
        account: AccountBudget,
        scheduler: Callable[[], Scheduler],
        patience: Timeouts | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.signer = signer
        self.venue_clock = venue_clock
        self.recv_window_ms = recv_window_ms
        self.address = address
        self.account = account
        self.scheduler = scheduler
        self.machine = SystemClock()  # waits and deadlines are real, whatever clock dates the requests
        self.patience = patience or Timeouts()
        self.pool = HttpPool(proxy=proxy, trust_env=trust_env)
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._measure_again_at_ms = 0
        self.stats = RestStats()

    # -- the three kinds of call ---------------------------------------------------------------------------------------

    def get(
        self,
        path: str,
        query: Mapping[str, Any],
        *,
        call_ms: int | None = None,
        repeats: bool = True,
        scope: ReadScope | None = None,
    ) -> Envelope:
        """Read; unless ``repeats`` is False, again on transport errors and 5xx until the call's time is up.

        Cutting ``scope`` ends the call with VenueUnavailableError.

        Raises:
            BybitApiError: the venue refused. VenueUnavailableError: no usable answer in time.
            BybitRateLimitError: the budget has no room in time. VenueProtocolError: the reply is no envelope.
        """
        payload = query_string(query)
        category = str(query.get("category", ""))
        exchange = _RestCall(self, "GET", path, payload, category, call_ms=call_ms, repeats=repeats, scope=scope)
        try:
            return exchange.read()
        except (VenueUnavailableError, VenueProtocolError):
            self.count(failed_reads=1)
            raise

    def post(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """Write, once.

        Raises:
            BybitApiError: the venue refused: nothing was done. OutcomeUnknownError: it may have been done.
            VenueUnavailableError, BybitRateLimitError: nothing was sent, or it was turned away unread.
        """
        payload = body_text(body)
        items = body.get("request")
        units = len(items) if isinstance(items, list | tuple) else 1
        exchange = _RestCall(self, "POST", path, payload, str(body.get("category", "")), units=units)
        try:
            return exchange.write()
        except OutcomeUnknownError:
            self.count(unknown_writes=1)
            raise

    def measure_clock(self, samples: int = 1, *, call_ms: int | None = None, repeats: bool = True) -> None:
        """Ask the venue for its time, and keep the sample with the shortest round trip.

        Source: GET /v5/market/time (docs v5/market/time), envelope ``time``.
        """
        best: tuple[int, int, int] | None = None
        for _ in range(samples):
            exchange = _RestCall(self, "GET", TIME_PATH, "", "", is_signed=False, call_ms=call_ms, repeats=repeats)
            answer = exchange.answer()
            server_ms = _stamp(answer.envelope)
            if server_ms is None:
                raise VenueProtocolError("the venue did not tell its time", path=TIME_PATH)
            round_trip_ms = answer.received_ms - answer.sent_ms
            if best is None or round_trip_ms < best[1] - best[0]:
                best = (answer.sent_ms, answer.received_ms, server_ms)
        if best is not None:
            self.venue_clock.measured(*best)
            log.debug("clock measured offset_ms=%d round_trip_ms=%d", self.venue_clock.offset_ms, best[1] - best[0])

    def may_measure_again(self) -> bool:
        """False for a while after a measurement failed: a venue that does not tell its time must not cost each call."""
        return self.machine.monotonic_ms() >= self._measure_again_at_ms

    def clock_measurement_failed(self) -> None:
        """Remember not to try at once."""
        self._measure_again_at_ms = self.machine.monotonic_ms() + _MEASURE_AGAIN_MS

    # -- opening and closing -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cut every call under way and refuse new ones; idempotent, from any thread."""
        self.stopping.set()
        self.pool.close("the client was closed")

    def reopen(self) -> None:
        """Let calls pass again after a `close`."""
        self.pool.reopen()
        self.stopping.clear()

    @property
    def is_closed(self) -> bool:
        """True between `close` and `reopen`."""
        return self.stopping.is_set()

    @property
    def under_way(self) -> int:
        """How many requests wait for an answer now."""
        return self.pool.under_way

    def count(self, **more: int) -> None:
        """Add to the counters."""
        with self._lock:
            for name, number in more.items():
                setattr(self.stats, name, getattr(self.stats, name) + number)


class _RestCall:
    """One call of a user, which may take several requests."""

    def __init__(
        self,
        rest: RestClient,
        method: str,
        path: str,
        payload: str,
        category: str,
        *,
        is_signed: bool = True,
        call_ms: int | None = None,
        repeats: bool = True,
        units: int = 1,
        scope: ReadScope | None = None,
    ) -> None:
        self._rest = rest
        self._scope = scope or ReadScope()
        self._units = units
        self._repeats = repeats
        self._method = method
        self._path = path
        self._payload = payload
        self._category = category
        self._is_signed = is_signed
        self._is_write = method == "POST"
        self._deadline_ms = rest.machine.monotonic_ms() + (call_ms or rest.patience.call_ms)
        self._clock_tries = 0
        self._attempts = 0
        self._last_failure = ""
        self._signed_ms: int | None = None

    # -- reading -------------------------------------------------------------------------------------------------------

    def read(self) -> Envelope:
        """Until there is a verdict, or the time is up."""
        while True:
            answer = self.answer()
            retry_after_ms = self._learn(answer)
            found = Verdict.OK if answer.ret_code is None else verdict(answer.ret_code, Operation.READ)
            if found is Verdict.CLOCK and self._may_resynchronise():
                continue
            if found is Verdict.THROTTLED and self._may_wait(retry_after_ms):
                continue
            if found is Verdict.AMBIGUOUS and self._may_repeat(f"ret_code={answer.ret_code}"):
                continue
            return self._checked(answer, retry_after_ms)

    def answer(self) -> _Answer:
        """An answer that came through whole, with an HTTP status that is the endpoint's own."""
        while True:
            outcome = self._send()
            if isinstance(outcome, _Failure):
                what = outcome.what
                if what == _TIME_IS_UP and self._last_failure:
                    what = f"{what}; before that: {self._last_failure}"
                self._last_failure = outcome.what
                if outcome.was_cut or not self._may_repeat(what):
                    raise self._unavailable(what)
                continue
            if (refusal := self._http_refusal(outcome)) is not None:
                raise refusal
            what = f"HTTP {outcome.status}"
            if outcome.status == 429 and outcome.ret_code is None:
                if self._may_wait(None):
                    continue
                raise self._throttled(what, None)
            if outcome.status < 500 and outcome.envelope is not None:
                return outcome
            if self._may_repeat(what):
                continue
            if outcome.status >= 500:
                raise self._unavailable(what)
            raise VenueProtocolError(
                f"GET {self._path}: {what} with something that is no JSON object",
                path=self._path,
                excerpt=self._excerpt(outcome),
            )

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self) -> Envelope:
        """Once; again only after a refusal that proves nothing of it was read."""
        while True:
            outcome = self._send()
            if isinstance(outcome, _Failure):
                raise self._write_failed(outcome)
            if (refusal := self._http_refusal(outcome)) is not None:
                raise refusal
            if outcome.status >= 500 or outcome.envelope is None:
                raise self._unknown(f"HTTP {outcome.status} ({self._excerpt(outcome)})")
            retry_after_ms = self._learn(outcome)
            found = Verdict.OK if outcome.ret_code is None else verdict(outcome.ret_code, operation_for(self._path))
            if found is Verdict.CLOCK and self._may_resynchronise():
                continue
            if found is Verdict.THROTTLED and self._may_wait(retry_after_ms):
                continue
            return self._checked(outcome, retry_after_ms)

    def _write_failed(self, failure: _Failure) -> QktError:
        if not failure.has_left:
            return self._unavailable(f"{failure.what}; nothing was sent")
        return self._unknown(failure.what)

    # -- one request ---------------------------------------------------------------------------------------------------

    def _send(self) -> _Answer | _Failure:
        """Wait for room, sign, send, read. Never raises for what the network does."""
        rest = self._rest
        self._wait_for_room()
        if rest.is_closed:
            return _CLOSED
        self._attempts += 1
        rest.count(requests=1, retries=1 if self._attempts > 1 else 0)
        call = Call(self._target)
        left_ms = max(1, self._deadline_ms - rest.machine.monotonic_ms())
        try:
            limit = rest.scheduler().schedule_once(lambda: call.cut(_TIME_IS_UP), left_ms)
        except InvalidRequestError:  # closed in this very moment
            return _CLOSED
        try:
            with self._scope.under_way(call.cut):
                return self._perform(call, left_ms)
        finally:
            limit.cancel()

    def _perform(self, call: Call, left_ms: int) -> _Answer | _Failure:
        rest = self._rest
        began_ms, sent_ms = rest.machine.monotonic_ms(), rest.venue_clock.local_ms()
        try:
            response = rest.pool.send(
                call,
                self._method,
                rest.base_url + self._target,
                headers=self._headers(),
                body=self._payload.encode() if self._is_write else None,
                connect_timeout_ms=min(rest.patience.connect_ms, left_ms),
                read_timeout_ms=min(rest.patience.read_ms, left_ms),
            )
        except (requests.RequestException, HTTPError, HTTPException, OSError) as error:
            return self._failed(error, call)
        took_ms = rest.machine.monotonic_ms() - began_ms
        rest.stats.last_round_trip_ms = took_ms
        status = response.status_code
        log.debug(
            "answered verb=%s path=%s status=%d took_ms=%d attempt=%d",
            self._method,
            self._path,
            status,
            took_ms,
            self._attempts,
        )
        envelope = self._decoded(response.content)
        answer = _Answer(
            status=status,
            text=b"" if envelope is not None else response.content,
            envelope=envelope,
            headers=response.headers,
            sent_ms=sent_ms,
            received_ms=sent_ms + took_ms,
        )
        self._learn_budget(answer)
        return answer

    @property
    def _target(self) -> str:
        return f"{self._path}?{self._payload}" if self._payload and not self._is_write else self._path

    def _headers(self) -> dict[str, str]:
        if not self._is_signed:
            return {}
        rest = self._rest
        self._signed_ms = rest.venue_clock.now_ms()
        headers = rest.signer.headers(self._signed_ms, rest.recv_window_ms, self._payload)
        return {**headers, "Content-Type": "application/json"} if self._is_write else headers

    def _wait_for_room(self) -> None:
        rest = self._rest
        if rest.is_closed:
            return
        if self._is_signed and not rest.venue_clock.is_trustworthy and rest.may_measure_again():
            self._resynchronise()
        left_ms = self._deadline_ms - rest.machine.monotonic_ms()
        patience_ms = max(0, min(left_ms, rest.patience.write_budget_ms) if self._is_write else left_ms)
        waited_ms = 0
        if self._is_signed:
            waited_ms += rest.account.acquire(
                self._path, self._category, max_wait_ms=patience_ms, stopping=rest.stopping, units=self._units
            )
        waited_ms += rest.address.acquire(
            _priority(self._path, self._is_write),
            max_wait_ms=max(0, patience_ms - waited_ms),
            stopping=rest.stopping,
            path=self._path,
        )
        if waited_ms:
            rest.count(waited_for_budget_ms=waited_ms)

    def _failed(self, error: Exception, call: Call) -> _Failure:
        what = call.cut_reason or redact(_cause_of(error), self._rest.signer.secrets)
        return _Failure(what=what, has_left=_has_left(error, call), was_cut=self._rest.is_closed or self._scope.is_cut)

    # -- what an answer says -------------------------------------------------------------------------------------------

    def _decoded(self, text: bytes) -> Envelope | None:
        """The envelope, None when it is none. A refusal's text is redacted here: 10004 echoes the key."""
        try:
            envelope = decode(text)
        except VenueProtocolError:
            return None
        if envelope.get("retCode") != 0 and "retMsg" in envelope:
            envelope["retMsg"] = redact(str(envelope["retMsg"]), self._rest.signer.secrets)
        return envelope

    def _learn(self, answer: _Answer) -> int | None:
        """Take over the reply's time stamp; returns after how long a throttled call may come back."""
        server_ms = _stamp(answer.envelope)
        if server_ms is not None:
            self._rest.venue_clock.observe(answer.sent_ms, answer.received_ms, server_ms)
        return self._retry_after_ms(answer)

    def _checked(self, answer: _Answer, retry_after_ms: int | None) -> Envelope:
        return check_envelope(
            self._path,
            answer.envelope,
            is_write=self._is_write,
            trace_id=answer.trace_id,
            secrets=self._rest.signer.secrets,
            signed_ms=self._signed_ms,
            recv_window_ms=self._rest.recv_window_ms,
            retry_after_ms=retry_after_ms,
        )

    def _retry_after_ms(self, answer: _Answer) -> int | None:
        """How long the venue asks to wait on 10006; its reset stamp lies in the past as often as not."""
        if answer.ret_code is None or verdict(answer.ret_code, Operation.READ) is not Verdict.THROTTLED:
            return None
        self._rest.count(throttled=1)
        reset_ms = _int_of(answer.headers.get("X-Bapi-Limit-Reset-Timestamp"))
        wait_ms = reset_ms - self._rest.venue_clock.now_ms() if reset_ms is not None else 1_000
        wait_ms = min(max(wait_ms, _LEAST_THROTTLE_MS), 5_000)
        self._rest.account.close_for(self._path, self._category, wait_ms)
        return wait_ms

    def _learn_budget(self, answer: _Answer) -> None:
        if answer.ret_code is not None and verdict(answer.ret_code, Operation.READ) is Verdict.THROTTLED:
            return  # its "0 remaining" is dated by the reset stamp, see `_retry_after_ms`
        limit = _int_of(answer.headers.get("X-Bapi-Limit"))
        remaining = _int_of(answer.headers.get("X-Bapi-Limit-Status"))
        if limit is not None and remaining is not None:
            self._rest.account.learn(self._path, self._category, limit, remaining)

    def _http_refusal(self, answer: _Answer) -> QktError | None:
        """The statuses by which the gateway turns a request away before anything reads it (docs v5/error)."""
        if answer.status not in (400, 401, 403, 404, 405) or answer.ret_code is not None:
            return None
        excerpt = self._excerpt(answer)
        if answer.status == 403 and "frequent" in excerpt.lower():
            because = "the venue has banned this address for asking too often (HTTP 403)"
            self._rest.address.shut_out(_BAN_MS, because)
            log.error("address banned path=%s for_ms=%d", self._path, _BAN_MS)
            return BybitRateLimitError(
                f"{self._method} {self._path}: {because}; every request stops for ten minutes",
                path=self._path,
                retry_after_ms=_BAN_MS,
                ret_code=403,
            )
        advice = {
            401: "check the key, the secret and the environment",
            403: "the venue refuses this address or region: regional accounts have their own host",
        }.get(answer.status, "no such endpoint for this verb or account")
        return BybitApiError(
            answer.status,
            f"HTTP {answer.status}: {excerpt}",
            path=self._path,
            trace_id=answer.trace_id,
            what_to_do=advice,
        )

    def _excerpt(self, answer: _Answer) -> str:
        return redact(answer.text.decode("utf-8", "replace"), self._rest.signer.secrets, limit=120)

    # -- may it be tried again? ----------------------------------------------------------------------------------------

    def _may_repeat(self, what: str) -> bool:
        """Wait a little; False when the time is up or the client was closed."""
        pause_ms = _BETWEEN_READS.delay_ms(self._attempts - 1)
        if not self._repeats or not self._pause(pause_ms):
            return False
        log.debug("read again path=%s attempt=%d because=%s", self._path, self._attempts, what)
        return True

    def _may_wait(self, retry_after_ms: int | None) -> bool:
        return self._pause(retry_after_ms if retry_after_ms is not None else _UNTOLD_THROTTLE_MS)

    def _pause(self, pause_ms: int) -> bool:
        rest = self._rest
        limit_ms = self._deadline_ms
        if rest.machine.monotonic_ms() + pause_ms >= limit_ms:
            return False
        return not rest.stopping.wait(pause_ms / 1000)

    def _may_resynchronise(self) -> bool:
        """10002: the venue read the timestamp and nothing else. Measure its clock, a couple of times at most."""
        self._rest.count(clock_refusals=1)
        self._clock_tries += 1
        if self._clock_tries > _CLOCK_TRIES:
            return False
        log.warning(
            "timestamp refused path=%s offset_ms=%d: measuring the clock", self._path, self._rest.venue_clock.offset_ms
        )
        return self._resynchronise()

    def _resynchronise(self) -> bool:
        left_ms = self._deadline_ms - self._rest.machine.monotonic_ms()
        try:
            self._rest.measure_clock(call_ms=max(1, min(left_ms, self._rest.patience.connect_ms)), repeats=False)
        except QktError as error:
            self._rest.clock_measurement_failed()
            log.warning("clock not measured error=%s", error)
            return False
        return True

    # -- errors --------------------------------------------------------------------------------------------------------

    def _unavailable(self, what: str) -> VenueUnavailableError:
        tries = f" after {self._attempts} attempts" if self._attempts > 1 else ""
        return VenueUnavailableError(f"{self._method} {self._path} failed{tries}: {what}", path=self._path)

    def _throttled(self, what: str, retry_after_ms: int | None) -> BybitRateLimitError:
        return BybitRateLimitError(
            f"{self._method} {self._path}: {what}, asked too often; wait",
            path=self._path,
            retry_after_ms=retry_after_ms,
        )

    def _unknown(self, what: str) -> OutcomeUnknownError:
        return OutcomeUnknownError(
            f"POST {self._path} was sent and got no definite answer: {what}; it may have happened: do not resend, look "
            "it up by client_order_id",
            path=self._path,
            signed_ms=self._signed_ms,
            recv_window_ms=self._rest.recv_window_ms,
        )


# -- small questions --------------------------------------------------------------------------------------------------


def _priority(path: str, is_write: bool) -> Priority:
    if not is_write:
        return Priority.READ
    return Priority.CANCEL if operation_for(path) is Operation.CANCEL else Priority.ORDER


def _has_left(error: Exception, call: Call) -> bool:
    """False only on proof: our own connection saw no byte go, or the error can only come before the first one."""
    if call.was_tracked or isinstance(error, Cut):
        return call.has_left
    return not isinstance(error, requests.ConnectTimeout | requests.exceptions.InvalidURL)


def _cause_of(error: BaseException) -> str:
    """What happened on the wire, out of the wrappings of `requests` and `urllib3`."""
    inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
    reason = getattr(inner, "reason", None)
    if isinstance(reason, BaseException):
        inner = reason
    if inner is not None and isinstance(inner.__cause__, OSError):
        inner = inner.__cause__
    found = inner or error
    return f"{type(found).__name__}: {found}"


def _stamp(envelope: Envelope | None) -> int | None:
    stamp = None if envelope is None else envelope.get("time")
    return stamp if isinstance(stamp, int) and not isinstance(stamp, bool) and stamp > 0 else None


def _int_of(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None
