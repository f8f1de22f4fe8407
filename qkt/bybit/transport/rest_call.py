"""One REST call of a user: its requests, retries, waits and outcome.

A read is repeated on transport errors and 5xx until the call's time is up. A write is sent once; only a refusal that
proves that the venue read nothing of it (10002, 10006) is answered by signing and sending anew.

The signature exists only in the stack frame that sends it, and errors are raised outside of the handlers that caught
the transport's exceptions, because those objects hold the headers.
"""

from __future__ import annotations

import logging
import threading
from http.client import HTTPException

import requests
from urllib3.exceptions import HTTPError

from qkt.bybit.codec.envelope import Envelope, check_envelope, decode
from qkt.bybit.codec.retcodes import Operation, Verdict, operation_for, verdict
from qkt.bybit.transport.rate_limits import Priority
from qkt.bybit.transport.read_scope import ReadScope
from qkt.bybit.transport.rest_answer import (
    BAN_MS,
    CLOSED,
    RestAnswer,
    RestFailure,
    cause_of,
    gateway_refusal,
    has_left,
)
from qkt.bybit.transport.rest_context import RestContext
from qkt.errors import (
    BybitRateLimitError,
    OutcomeUnknownError,
    QktError,
    VenueProtocolError,
    VenueUnavailableError,
)
from qkt.net.backoff import ExponentialBackoff
from qkt.net.http import TIME_IS_UP, Call
from qkt.secret import redact

log: logging.Logger = logging.getLogger(__name__)

TIME_PATH = "/v5/market/time"
_BETWEEN_READS = ExponentialBackoff(initial_ms=100, max_ms=2_000)
_SLICE_S = 0.05
_CLOCK_TRIES = 2
_LEAST_THROTTLE_MS, _MOST_THROTTLE_MS = 50, 5_000
_UNTOLD_THROTTLE_MS = 500


class RestCall:
    """One call, which may take several requests. ``scope`` can cut it; ``units`` is how many orders a batch carries."""

    def __init__(
        self,
        context: RestContext,
        method: str,
        path: str,
        payload: str,
        category: str = "",
        *,
        is_signed: bool = True,
        call_ms: int | None = None,
        repeats: bool = True,
        units: int = 1,
        scope: ReadScope | None = None,
    ) -> None:
        self._context = context
        self._scope = scope
        self._stopping = context.stopping if scope is None else _EitherEvent(context.stopping, scope.stopping)
        self._method = method
        self._path = path
        self._payload = payload
        self._category = category
        self._is_signed = is_signed
        self._repeats = repeats
        self._units = units
        self._is_write = method == "POST"
        self._deadline_ms = context.machine.monotonic_ms() + (call_ms or context.timeouts.call_ms)
        self._recv_window_ms = context.recv_window_ms
        self._patience_ms = context.timeouts.write_budget_ms
        self._clock_tries = 0
        self._attempts = 0
        self._last_failure = ""
        self._signed_ms: int | None = None

    def read(self) -> Envelope:
        """Request until there is a verdict or the time is up.

        Raises:
            BybitApiError, BybitRateLimitError, VenueUnavailableError, VenueProtocolError: as `RestClient.get`.
        """
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

    def answer(self) -> RestAnswer:
        """Request until a whole reply arrives whose HTTP status is the endpoint's own."""
        while True:
            outcome = self._send()
            if isinstance(outcome, RestFailure):
                what = outcome.what
                if what == TIME_IS_UP and self._last_failure:
                    what = f"{what}; before that: {self._last_failure}"
                self._last_failure = outcome.what
                if outcome.was_cut or not self._may_repeat(what):
                    raise self._unavailable(what)
                continue
            if (refusal := self._refusal(outcome)) is not None:
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
                excerpt=outcome.excerpt(self._context.signer.secrets),
            )

    def write(self) -> Envelope:
        """Request once; again only after a refusal that proves that nothing of it was read."""
        while True:
            outcome = self._send()
            if isinstance(outcome, RestFailure):
                raise self._write_failed(outcome)
            if (refusal := self._refusal(outcome)) is not None:
                raise refusal
            if outcome.status >= 500 or outcome.envelope is None:
                raise self._unknown(f"HTTP {outcome.status} ({outcome.excerpt(self._context.signer.secrets)})")
            retry_after_ms = self._learn(outcome)
            found = Verdict.OK if outcome.ret_code is None else verdict(outcome.ret_code, operation_for(self._path))
            if found is Verdict.CLOCK and self._may_resynchronise():
                continue
            if found is Verdict.THROTTLED and self._may_wait(retry_after_ms):
                continue
            return self._checked(outcome, retry_after_ms)

    def _write_failed(self, failure: RestFailure) -> QktError:
        if not failure.has_left:
            return self._unavailable(f"{failure.what}; nothing was sent")
        return self._unknown(failure.what)

    def _send(self) -> RestAnswer | RestFailure:
        """Wait for room in the budgets, sign, send and read one request. Never raises for the network."""
        context = self._context
        self._wait_for_room()
        if self._stopping.is_set():
            return CLOSED
        self._attempts += 1
        context.stats.add(requests=1, retries=1 if self._attempts > 1 else 0)
        call = Call(self._target, self._deadline_ms)
        if self._scope is None:
            return self._perform(call)
        with self._scope.under_way(call.cut):
            return self._perform(call)

    def _perform(self, call: Call) -> RestAnswer | RestFailure:
        context = self._context
        began_ms, sent_ms = context.machine.monotonic_ms(), context.venue_clock.local_ms()
        left_ms = max(1, self._deadline_ms - began_ms)
        observer = context.observer
        number = 0 if observer is None else observer.requested(self._method, self._path, self._payload, route="rest")
        try:
            reply = context.pool.send(
                call,
                self._method,
                context.base_url,
                headers=self._headers(),
                body=self._payload.encode() if self._is_write else None,
                connect_timeout_ms=min(context.timeouts.connect_ms, left_ms),
                read_timeout_ms=context.timeouts.read_ms,
            )
        except (requests.RequestException, HTTPError, HTTPException, OSError) as error:
            failure = self._failed(error, call)
            if observer is not None:
                observer.failed(number, failure.what, has_left=failure.has_left)
            return failure
        except BaseException as error:  # noqa: BLE001 - Ctrl-C: the frames below hold the headers in their locals
            error.__context__ = None
            raise error.with_traceback(None) from None
        if observer is not None:
            observer.answered(number, reply.status, reply.body)
        took_ms = context.machine.monotonic_ms() - began_ms
        context.stats.last_round_trip_ms = took_ms
        log.debug(
            "answered verb=%s path=%s status=%d took_ms=%d attempt=%d",
            self._method,
            self._path,
            reply.status,
            took_ms,
            self._attempts,
        )
        envelope = self._decoded(reply.body)
        answer = RestAnswer(
            status=reply.status,
            text=b"" if envelope is not None else reply.body,
            envelope=envelope,
            headers=reply.headers,
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
        context = self._context
        self._signed_ms = context.venue_clock.now_ms()
        headers = context.signer.headers(self._signed_ms, self._recv_window_ms, self._payload)
        return {**headers, "Content-Type": "application/json"} if self._is_write else headers

    def _wait_for_room(self) -> None:
        context = self._context
        if self._stopping.is_set():
            return
        if self._is_signed and not context.venue_clock.is_trustworthy and context.may_measure_clock():
            self._resynchronise()
        left_ms = self._deadline_ms - context.machine.monotonic_ms()
        patience_ms = max(0, min(left_ms, self._patience_ms) if self._is_write else left_ms)
        waited_ms = 0
        if self._is_signed:
            waited_ms += context.account.acquire(
                self._path, self._category, max_wait_ms=patience_ms, stopping=self._stopping, units=self._units
            )
        waited_ms += self._wait_for_address(max(0, patience_ms - waited_ms))
        if waited_ms:
            context.stats.add(waited_for_budget_ms=waited_ms)

    def _wait_for_address(self, patience_ms: int) -> int:
        """Wait for room among the requests of this address; returns the milliseconds waited."""
        return self._context.address.acquire(
            _priority(self._path, self._is_write),
            max_wait_ms=patience_ms,
            stopping=self._stopping,
            path=self._path,
        )

    def _failed(self, error: Exception, call: Call) -> RestFailure:
        what = call.cut_reason or redact(cause_of(error), self._context.signer.secrets)
        return RestFailure(what=what, has_left=has_left(error, call), was_cut=self._stopping.is_set())

    def _decoded(self, text: bytes) -> Envelope | None:
        """The envelope, or None. A refusal's text is redacted here, because 10004 echoes the key."""
        try:
            envelope = decode(text)
        except VenueProtocolError:
            return None
        if envelope.get("retCode") != 0 and "retMsg" in envelope:
            envelope["retMsg"] = redact(str(envelope["retMsg"]), self._context.signer.secrets)
        return envelope

    def _learn(self, answer: RestAnswer) -> int | None:
        """Take over the reply's time stamp; returns after how many ms a throttled call may come back."""
        if answer.server_ms is not None:
            self._context.venue_clock.observe(answer.sent_ms, answer.received_ms, answer.server_ms)
        return self._retry_after_ms(answer)

    def _checked(self, answer: RestAnswer, retry_after_ms: int | None) -> Envelope:
        return check_envelope(
            self._path,
            answer.envelope,
            is_write=self._is_write,
            trace_id=answer.trace_id,
            secrets=self._context.signer.secrets,
            signed_ms=self._signed_ms,
            recv_window_ms=self._recv_window_ms,
            retry_after_ms=retry_after_ms,
        )

    def _retry_after_ms(self, answer: RestAnswer) -> int | None:
        """How long to wait after 10006; its reset stamp is often in the past, so the wait has a lower bound."""
        if not answer.is_throttled:
            return None
        self._context.stats.add(throttled=1)
        reset_ms = answer.header_int("X-Bapi-Limit-Reset-Timestamp")
        wait_ms = reset_ms - self._context.venue_clock.now_ms() if reset_ms is not None else 1_000
        wait_ms = min(max(wait_ms, _LEAST_THROTTLE_MS), _MOST_THROTTLE_MS)
        self._context.account.close_for(self._path, self._category, wait_ms)
        return wait_ms

    def _learn_budget(self, answer: RestAnswer) -> None:
        if answer.is_throttled:
            return  # its "0 remaining" is dated by the reset stamp, see `_retry_after_ms`
        limit = answer.header_int("X-Bapi-Limit")
        remaining = answer.header_int("X-Bapi-Limit-Status")
        if limit is not None and remaining is not None:
            self._context.account.learn(self._path, self._category, limit, remaining)

    def _refusal(self, answer: RestAnswer) -> QktError | None:
        """The gateway's refusal, if the reply is one; a ban stops every request from this address."""
        refusal = gateway_refusal(answer, self._method, self._path, self._context.signer.secrets)
        if isinstance(refusal, BybitRateLimitError):
            self._context.address.shut_out(BAN_MS, "the venue has banned this address (HTTP 403)")
            log.error("address banned path=%s for_ms=%d", self._path, BAN_MS)
        return refusal

    def _may_repeat(self, what: str) -> bool:
        """Wait a little; False when the time is up or the call was cut."""
        pause_ms = _BETWEEN_READS.delay_ms(self._attempts - 1)
        if not self._repeats or not self._pause(pause_ms):
            return False
        log.debug("read again path=%s attempt=%d because=%s", self._path, self._attempts, what)
        return True

    def _may_wait(self, retry_after_ms: int | None) -> bool:
        return self._pause(retry_after_ms if retry_after_ms is not None else _UNTOLD_THROTTLE_MS)

    def _pause(self, pause_ms: int) -> bool:
        if self._context.machine.monotonic_ms() + pause_ms >= self._deadline_ms:
            return False
        return not self._stopping.wait(pause_ms / 1000)

    def _may_resynchronise(self) -> bool:
        """After 10002 the venue read the timestamp and nothing else: measure its clock, twice at most."""
        context = self._context
        context.stats.add(clock_refusals=1)
        self._clock_tries += 1
        if self._clock_tries > _CLOCK_TRIES:
            return False
        log.warning("timestamp refused path=%s offset_ms=%d: measuring", self._path, context.venue_clock.offset_ms)
        return self._resynchronise()

    def _resynchronise(self) -> bool:
        context = self._context
        left_ms = self._deadline_ms - context.machine.monotonic_ms()
        call_ms = max(1, min(left_ms, context.timeouts.connect_ms))
        try:
            measure_clock(context, call_ms=call_ms, repeats=False)
        except QktError as error:
            context.clock_measurement_failed()
            log.warning("clock not measured error=%s", error)
            return False
        return True

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
            recv_window_ms=self._recv_window_ms,
        )


def measure_clock(context: RestContext, samples: int = 1, *, call_ms: int | None = None, repeats: bool = True) -> None:
    """Measure the venue's clock; of several samples the one with the shortest round trip counts.

    Source: GET /v5/market/time (docs v5/market/time), envelope ``time``.
    """
    best: tuple[int, int, int] | None = None
    for _ in range(samples):
        call = RestCall(context, "GET", TIME_PATH, "", is_signed=False, call_ms=call_ms, repeats=repeats)
        answer = call.answer()
        if answer.server_ms is None:
            raise VenueProtocolError("the venue did not tell its time", path=TIME_PATH)
        round_trip_ms = answer.received_ms - answer.sent_ms
        if best is None or round_trip_ms < best[1] - best[0]:
            best = (answer.sent_ms, answer.received_ms, answer.server_ms)
    if best is not None:
        context.venue_clock.measured(*best)
        log.debug("clock measured offset_ms=%d round_trip_ms=%d", context.venue_clock.offset_ms, best[1] - best[0])


class _EitherEvent:
    """Set when one of two events is; a wait looks at the second one every 50 ms."""

    def __init__(self, first: threading.Event, second: threading.Event) -> None:
        self._first = first
        self._second = second

    def is_set(self) -> bool:
        return self._first.is_set() or self._second.is_set()

    def wait(self, timeout: float) -> bool:
        while timeout > 0 and not self.is_set():
            self._second.wait(min(timeout, _SLICE_S))
            timeout -= _SLICE_S
        return self.is_set()


def _priority(path: str, is_write: bool) -> Priority:
    if not is_write:
        return Priority.READ
    return Priority.CANCEL if operation_for(path) is Operation.CANCEL else Priority.ORDER
