"""Sends a `PermittedRequest`: one request, with the permitted time stamp, and no way to make a second one of it."""

from __future__ import annotations

from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.retcodes import Verdict, operation_for, verdict
from qkt.bybit.transport.permitted import PermittedRequest
from qkt.bybit.transport.rest_answer import RestAnswer, RestFailure
from qkt.bybit.transport.rest_call import RestCall
from qkt.bybit.transport.rest_context import RestContext
from qkt.net.http import Call


class PermittedCall(RestCall):
    """One permitted write. After 10002 the clock is measured for the next attempt, which needs a permit of its own."""

    def __init__(self, context: RestContext, request: PermittedRequest) -> None:
        left_ms = max(1, request.accepted_until_ms - context.venue_clock.now_ms())
        super().__init__(
            context,
            "POST",
            request.path,
            request.body,
            request.category,
            call_ms=context.timeouts.call_ms,
            units=request.units,
        )
        self._request = request
        self._recv_window_ms = request.recv_window_ms
        self._patience_ms = min(self._patience_ms, left_ms)

    def write(self) -> Envelope:
        """Send it once.

        Raises:
            VenueUnavailableError: nothing was sent, e.g. because the permit ran out while the rate budget was full.
            BybitRateLimitError, BybitApiError, OutcomeUnknownError: as `RestClient.post`.
        """
        outcome = self._send()
        if isinstance(outcome, RestFailure):
            raise self._write_failed(outcome)
        if (refusal := self._refusal(outcome)) is not None:
            raise refusal
        if outcome.status >= 500 or outcome.envelope is None:
            raise self._unknown(f"HTTP {outcome.status} ({outcome.excerpt(self._context.signer.secrets)})")
        retry_after_ms = self._learn(outcome)
        if outcome.ret_code is not None and verdict(outcome.ret_code, operation_for(self._path)) is Verdict.CLOCK:
            self._may_resynchronise()
        return self._checked(outcome, retry_after_ms)

    def _perform(self, call: Call) -> RestAnswer | RestFailure:
        if self._context.venue_clock.now_ms() > self._request.accepted_until_ms:
            return RestFailure(what="the permit ran out before the request could be sent", has_left=False)
        return super()._perform(call)

    def _headers(self) -> dict[str, str]:
        self._signed_ms = self._request.signed_at_ms
        headers = self._context.signer.headers(
            self._request.signed_at_ms, self._request.recv_window_ms, self._request.body
        )
        return {**headers, "Content-Type": "application/json"}
