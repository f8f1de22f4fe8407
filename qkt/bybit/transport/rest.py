"""Signed REST for one key: reads, writes and clock measurements, each with one definite outcome.

The outcome of a call is an answer, a refusal, "nothing was done" or "not known". Every wait has an end: connecting,
each read, room in a rate budget, and the call as a whole. The text that is signed is, byte for byte, the text that is
sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qkt.bybit.codec.bounds import MAX_BODY_BYTES
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.transport.encoding import body_text, query_string
from qkt.bybit.transport.observer import TransportObserver
from qkt.bybit.transport.permitted import PermittedRequest
from qkt.bybit.transport.permitted_call import PermittedCall
from qkt.bybit.transport.rate_limits import AccountBudget, AddressBudget
from qkt.bybit.transport.read_scope import ReadScope
from qkt.bybit.transport.rest_call import RestCall, measure_clock
from qkt.bybit.transport.rest_context import RestContext, RestStats, Timeouts
from qkt.bybit.transport.signer import BybitSigner
from qkt.bybit.transport.trade_stream import OPERATIONS, TradeCall, TradeStream
from qkt.clock import SystemClock
from qkt.errors import OutcomeUnknownError, VenueProtocolError, VenueUnavailableError
from qkt.net.http import HttpPool
from qkt.net.scheduler import Scheduler
from qkt.net.venue_clock import VenueClock

__all__ = ["RestClient", "RestStats", "Timeouts"]


class RestClient:
    """Signed REST for one key. Thread-safe; `close` cuts the calls under way, and `reopen` allows calls again."""

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
        timeouts: Timeouts | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        order_entry: Callable[[], TradeStream | None] = lambda: None,
    ) -> None:
        self._order_entry = order_entry
        self._context = RestContext(
            base_url=base_url.rstrip("/"),
            signer=signer,
            venue_clock=venue_clock,
            machine=SystemClock(),
            recv_window_ms=recv_window_ms,
            address=address,
            account=account,
            timeouts=timeouts or Timeouts(),
            pool=HttpPool(proxy=proxy, trust_env=trust_env, scheduler=scheduler, max_body_bytes=MAX_BODY_BYTES),
        )

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
        call = RestCall(self._context, "GET", path, payload, category, call_ms=call_ms, repeats=repeats, scope=scope)
        try:
            return call.read()
        except (VenueUnavailableError, VenueProtocolError):
            self.stats.add(failed_reads=1)
            raise

    def post(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """Send one write request, without retry: over the order entry stream if it is live, else over REST.

        Raises:
            BybitApiError: the venue refused: nothing was done. OutcomeUnknownError: it may have been done.
            VenueUnavailableError, BybitRateLimitError: nothing was sent, or it was turned away unread.
        """
        payload = body_text(body)
        items = body.get("request")
        units = len(items) if isinstance(items, list | tuple) else 1
        category = str(body.get("category", ""))
        stream = self._order_entry() if path in OPERATIONS else None
        if stream is not None:
            call: RestCall = TradeCall(self._context, stream, path, payload, category, units)
        else:
            call = RestCall(self._context, "POST", path, payload, category, units=units)
        try:
            return call.write()
        except OutcomeUnknownError:
            self.stats.add(unknown_writes=1)
            raise

    def post_permitted(self, request: PermittedRequest) -> Envelope:
        """Write exactly what was permitted, once, by REST; raises what `post` raises."""
        try:
            return PermittedCall(self._context, request).write()
        except OutcomeUnknownError:
            self.stats.add(unknown_writes=1)
            raise

    def measure_clock(self, samples: int = 1, *, call_ms: int | None = None, repeats: bool = True) -> None:
        """Measure the venue's clock; raises VenueUnavailableError or VenueProtocolError when that fails."""
        measure_clock(self._context, samples, call_ms=call_ms, repeats=repeats)

    def observe(self, observer: TransportObserver) -> None:
        """Tell an observer of every request and reply from now on."""
        self._context.observer = observer

    def close(self) -> None:
        """Cut every call under way and refuse new ones; idempotent, from any thread."""
        self._context.stopping.set()
        self._context.pool.close("the client was closed")

    def reopen(self) -> None:
        """Allow calls again after a `close`."""
        self._context.pool.reopen()
        self._context.stopping.clear()

    @property
    def stats(self) -> RestStats:
        """Counters since the client was built."""
        return self._context.stats

    @property
    def timeouts(self) -> Timeouts:
        """How long the calls wait."""
        return self._context.timeouts

    @property
    def under_way(self) -> int:
        """How many requests wait for an answer now."""
        return self._context.pool.under_way
