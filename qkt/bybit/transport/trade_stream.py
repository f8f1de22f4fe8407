"""Order entry by WebSocket: requests on ``/v5/trade``, matched with their replies by id.

The connection is kept like the private stream: login, pings, reconnects. A reply becomes a REST envelope, so that it
proves the same as by REST. A connection that dies with a request out leaves its outcome unknown.

Source: docs v5/websocket/trade/guideline.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping

import attrs

from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.transport.rate_limits import AddressBudget
from qkt.bybit.transport.rest_answer import RestAnswer, RestFailure
from qkt.bybit.transport.rest_call import RestCall
from qkt.bybit.transport.rest_context import RestContext
from qkt.bybit.transport.signer import BybitSigner
from qkt.bybit.transport.stream import PrivateStream, StreamHooks, StreamStats
from qkt.bybit.transport.stream_connection import StreamAddress
from qkt.bybit.transport.stream_session import Timing
from qkt.errors import QktError
from qkt.net.backoff import BackoffPolicy
from qkt.net.scheduler import Scheduler
from qkt.net.venue_clock import VenueClock
from qkt.secret import printable, redact

log: logging.Logger = logging.getLogger(__name__)

OPERATIONS = {
    "/v5/order/create": "order.create",
    "/v5/order/amend": "order.amend",
    "/v5/order/cancel": "order.cancel",
    "/v5/order/create-batch": "order.create-batch",
    "/v5/order/amend-batch": "order.amend-batch",
    "/v5/order/cancel-batch": "order.cancel-batch",
}
_RESTARTING = 10019
_HTTP_OK = 200


class _PendingReply:
    """A request that is out. ``done`` is held until its reply, or the end of the connection."""

    __slots__ = ("done", "failure", "reply")

    def __init__(self) -> None:
        self.done = threading.Lock()
        self.done.acquire()
        self.reply: Envelope | None = None
        self.failure = ""

    def end(self, reply: Envelope | None, failure: str = "") -> None:
        self.reply, self.failure = reply, failure
        self.done.release()


@attrs.define
class TradeStats:
    """Counters of order entry by WebSocket since the client was built."""

    requests: int = 0
    fallbacks: int = 0  # writes that went by REST because the stream was down
    losses: int = 0


class TradeStream:
    """One connection for order entry, from `open` to `close`. Thread-safe; not reusable after `close`."""

    def __init__(
        self,
        address: StreamAddress,
        signer: BybitSigner,
        venue_clock: VenueClock,
        *,
        scheduler: Scheduler,
        budget: AddressBudget,
        stats: TradeStats,
        resynchronise: Callable[[], None],
        timing: Timing | None = None,
        backoff: BackoffPolicy | None = None,
    ) -> None:
        self._stats = stats
        self._secrets = signer.secrets
        self._lock = threading.Lock()
        self._pending: dict[str, _PendingReply] = {}
        self._numbers = itertools.count(1)
        hooks = StreamHooks(
            on_frames=lambda _frames: None,
            on_ready=lambda: None,
            on_lost=self._lost,
            on_fault=lambda fault: log.error("order entry stream refused reason=%s", fault.reason),
            on_malformed=lambda _reason: None,
            resynchronise=resynchronise,
            on_reply=self._replied,
        )
        self._stream = PrivateStream(
            address,
            signer,
            venue_clock,
            hooks,
            topics=(),
            scheduler=scheduler,
            budget=budget,
            stats=StreamStats(),
            timing=timing,
            backoff=backoff,
            thread_name="qkt-trade",
        )

    @property
    def is_live(self) -> bool:
        """True while requests can be sent."""
        return self._stream.state == "live"

    @property
    def state(self) -> str:
        """As `BybitClient.stream_state`."""
        return self._stream.state

    def open(self) -> None:
        """Connect and log in; when that fails, it is tried again in the background, and writes go by REST."""
        try:
            self._stream.open()
        except (OSError, QktError) as error:
            log.warning("order entry stream not open, writes go by REST error=%s", redact(str(error), self._secrets))
            self._stream.reconnect("order entry stream not open")

    def close(self) -> None:
        """End the connection; requests that are out end with an unknown outcome. Idempotent, from any thread."""
        self._stream.close()
        self._fail_all("the client was closed")

    def exchange(self, operation: str, header: Mapping[str, str], body: str, timeout_ms: int) -> Envelope | RestFailure:
        """Send one request and wait for its reply. ``body`` is the JSON text of its parameters."""
        req_id = f"t{next(self._numbers)}"
        fields = ",".join(f'"{name}":"{value}"' for name, value in header.items())
        text = f'{{"reqId":"{req_id}","header":{{{fields}}},"op":"{operation}","args":[{body}]}}'
        pending = _PendingReply()
        with self._lock:
            self._pending[req_id] = pending
        self._stats.requests += 1
        try:
            has_left, failure = self._stream.send(text)
            if failure:
                return RestFailure(what=failure, has_left=has_left)
            if not pending.done.acquire(timeout=timeout_ms / 1000):
                return RestFailure(what=f"no reply on the order entry stream in {timeout_ms} ms", has_left=True)
        finally:
            with self._lock:
                self._pending.pop(req_id, None)
        if pending.reply is None:
            return RestFailure(what=pending.failure, has_left=True)
        return pending.reply

    def _replied(self, message: Envelope) -> None:
        req_id = message.get("reqId")
        with self._lock:
            pending = self._pending.pop(req_id, None) if isinstance(req_id, str) else None
        if pending is not None:
            pending.end(message)
        if message.get("retCode") == _RESTARTING:  # this connection takes nothing more, a new one does
            self._stream.cut("the venue restarts its order entry service")

    def _lost(self, reason: str) -> None:
        self._stats.losses += 1
        self._fail_all(f"the order entry stream was lost ({reason})")

    def _fail_all(self, reason: str) -> None:
        with self._lock:
            waiting, self._pending = list(self._pending.values()), {}
        for pending in waiting:
            pending.end(None, reason)


class TradeCall(RestCall):
    """A write that goes by the order entry stream: same rate budgets, verdicts and errors as by REST."""

    def __init__(self, context: RestContext, stream: TradeStream, path: str, payload: str, category: str, units: int):
        super().__init__(context, "POST", path, payload, category, units=units)
        self._stream = stream

    def _wait_for_address(self, patience_ms: int) -> int:  # noqa: ARG002
        """The address's budget counts HTTP requests only (docs v5/rate-limit)."""
        return 0

    def _perform(self, call: object) -> RestAnswer | RestFailure:  # noqa: ARG002
        context = self._context
        began_ms, sent_ms = context.machine.monotonic_ms(), context.venue_clock.local_ms()
        self._signed_ms = context.venue_clock.now_ms()
        header = {
            "X-BAPI-TIMESTAMP": str(self._signed_ms),
            "X-BAPI-RECV-WINDOW": str(context.recv_window_ms),
            **context.signer.referer,
        }
        timeout_ms = max(1, min(context.timeouts.read_ms, self._deadline_ms - began_ms))
        observer, number = context.observer, 0
        if observer is not None:
            number = observer.requested("POST", self._path, self._payload, route="websocket")
        reply = self._stream.exchange(OPERATIONS[self._path], header, self._payload, timeout_ms)
        if isinstance(reply, RestFailure):
            if observer is not None:
                observer.failed(number, reply.what, has_left=reply.has_left)
            return reply
        if observer is not None:
            observer.answered(number, _HTTP_OK, reply)
        took_ms = context.machine.monotonic_ms() - began_ms
        answer = _answer_of(reply, sent_ms, sent_ms + took_ms)
        if answer.envelope is not None and answer.ret_code != 0:
            answer.envelope["retMsg"] = redact(str(answer.envelope["retMsg"])[:4_000], context.signer.secrets)
        self._learn_budget(answer)
        return answer


def _answer_of(reply: Envelope, sent_ms: int, received_ms: int) -> RestAnswer:
    """A reply of the order entry stream as the answer that REST would have given."""
    given = reply.get("header")
    header = {str(name).lower(): str(value) for name, value in given.items()} if isinstance(given, dict) else {}
    stamp = header.get("timenow", "")
    envelope: Envelope = {
        "retCode": reply.get("retCode"),
        "retMsg": reply.get("retMsg", ""),
        "result": reply.get("data") or {},
        "retExtInfo": reply.get("retExtInfo") or {},
        "time": int(stamp) if stamp.isascii() and stamp.isdigit() and len(stamp) <= 13 else 0,
    }
    header["traceid"] = printable(header.get("traceid", ""))
    return RestAnswer(
        status=_HTTP_OK, text=b"", envelope=envelope, headers=header, sent_ms=sent_ms, received_ms=received_ms
    )
