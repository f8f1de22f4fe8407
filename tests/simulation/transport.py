"""A `BybitTransport` between a broker and the simulated venue: where requests, replies, frames and reads go wrong."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from tests.simulation.sdk import (
    BaseBybitTransport,
    BybitApiError,
    BybitRateLimitError,
    FixedClock,
    OutcomeUnknownError,
    TickScheduler,
    VenueUnavailableError,
    Wallet,
)
from tests.simulation.venue import NO_FUNDS, NO_SUCH_ORDER, START_MS, SYMBOLS, Row, Venue, VenueOrder

Envelope = dict[str, Any]
Listener = Callable[[Envelope], None]

RECV_WINDOW_MS = 5_000
PATHS = {
    "/v5/order/realtime": "orders",
    "/v5/order/history": "history",
    "/v5/execution/list": "executions",
    "/v5/account/wallet-balance": "balances",
    "/v5/position/list": "positions",
}

# What becomes of a write. "stands" says whether the venue carries it out.
FATES = (
    "ok",
    "request_lost",
    "reply_lost",
    "late",
    "refused",
    "backend_code_lost",
    "backend_code_stands",
    "unsent",
    "throttled",
    "transport_raises_lost",
    "transport_raises_stands",
    "interrupted_lost",
    "interrupted_stands",
    "reply_garbled",
    "duplicate_reply",
    "refused_but_stands",
    "after_every_deadline",
    "wrong_echo",
)

READ_FAULTS = (
    "unavailable",
    "throttled",
    "api_error",
    "transport_raises",
    "no_list",
    "no_envelope",
    "second_page_fails",
    "cursor_expires",
    "cursor_repeats",
    "odd_row",
    "interrupted",
)


class SimulatedTransport(BaseBybitTransport):
    """One session's connection. ``read_hook`` is called before the read number ``read_hook_at`` is answered."""

    recv_window_ms = RECV_WINDOW_MS
    clock_offset_ms = 0
    is_connected = True

    def __init__(
        self, venue: Venue, clock: FixedClock, scheduler: TickScheduler, page_size: int, *, has_venue_clock: bool
    ) -> None:
        self._venue = venue
        self._clock = clock
        self._scheduler = scheduler
        self._page_size = page_size
        self._has_venue_clock = has_venue_clock
        self._listeners: dict[str, list[Listener]] = {}
        self._on_disconnect: list[Callable[[str], None]] = []
        self._on_reconnect: list[Callable[[], None]] = []
        self._on_gap: list[Callable[[str], None]] = []
        self.is_connected = True
        self.is_closed = False
        self.balances: Mapping[str, Decimal] = {}
        self.wallet = Wallet()
        self.clock_offset_ms = 0
        self.measure_clock()

        self.fates: deque[str] = deque()
        self.are_frames_early = False
        self.frame_fates = 0
        self.inbox: deque[tuple[str, Envelope]] = deque()
        self.held: deque[tuple[str, Envelope]] = deque()
        self.delivered: list[tuple[str, Envelope]] = []
        self.read_fault = ""
        self.read_fault_path = ""
        self.read_faults_left = 0
        self.lag_ms = 0
        self.lagging_reads = 0
        self.reads = 0
        self.read_hook_at = 0
        self.read_hook: Callable[[], None] = lambda: None
        self.has_failed = False
        self.has_interrupted = False
        self.may_interrupt = False
        self.writes = 0
        self.on_the_way: list[tuple[str, Mapping[str, Any]]] = []
        self.remembered: set[str] = set()
        self.reached: set[str] = set()
        self.bodies: list[Mapping[str, Any]] = []
        self.last_order: VenueOrder | None = None
        self.last_refusal = 0
        venue.emit = self.emit

    # The transport's contract.

    def venue_ms(self) -> int | None:
        """The venue's time, where the transport has a clock that does not step."""
        return self._venue.now_ms() if self._has_venue_clock else None

    def connect(self) -> None:
        """Open the session."""
        self.is_connected = True

    def close(self) -> None:
        """End the session: nothing is delivered any more."""
        self.is_closed = True
        self.is_connected = False

    def update_balances(self, snapshot: Mapping[str, Decimal], wallet: Wallet | None = None) -> None:
        """Keep what the broker knows of the wallet."""
        self.balances = snapshot

    def subscribe(self, topic: str, listener: Listener) -> None:
        """Hear a topic."""
        self._listeners.setdefault(topic.partition(".")[0], []).append(listener)

    def on_disconnect(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` when the stream is lost."""
        self._on_disconnect.append(handler)

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        """Call ``handler()`` when the stream is back."""
        self._on_reconnect.append(handler)

    def on_gap(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` after a suspend or a jump of the clock."""
        self._on_gap.append(handler)

    def measure_clock(self) -> None:
        """Learn the venue's time, as the real client does with every answer."""
        self.clock_offset_ms = self._venue.now_ms() - self._clock.now_ms()

    # Reads.

    def get_signed(self, path: str, query: Mapping[str, Any]) -> Envelope:
        """Answer a read, or fail it as told."""
        self.reads += 1
        self._clock.advance_ms(1)
        if self.reads == self.read_hook_at:
            self.read_hook()
        self.measure_clock()
        name = PATHS.get(path)
        if name is None:
            return self._market(path)
        fault = ""
        if self.read_faults_left and (not self.read_fault_path or self.read_fault_path == name):
            fault = self._take_read_fault(query)
        at_ms = self._venue.now_ms()
        if self.lagging_reads:
            self.lagging_reads -= 1
            self.has_failed = True
            at_ms -= self.lag_ms
        envelope = self._answer(name, query, at_ms)
        return envelope if not fault else self._spoil(fault, envelope, query)

    def _take_read_fault(self, query: Mapping[str, Any]) -> str:
        """The fault of this read; raises for the faults that give no answer."""
        fault = self.read_fault
        if fault in ("second_page_fails", "cursor_expires") and not query.get("cursor"):
            return ""
        if fault == "interrupted" and not self.may_interrupt:
            return ""  # Ctrl-C reaches the user's thread only
        self.read_faults_left -= 1
        self.has_failed = True
        self.reached.add(f"read: {fault}")
        match fault:
            case "unavailable" | "second_page_fails":
                raise VenueUnavailableError("simulated: no answer")
            case "throttled":
                raise BybitRateLimitError("simulated: too many requests", retry_after_ms=1_000, ret_code=10006)
            case "api_error":
                raise BybitApiError(10016, "simulated: server error")
            case "cursor_expires":
                raise BybitApiError(10001, "simulated: bad cursor")
            case "transport_raises":
                raise RuntimeError("simulated: a fault of the transport itself")
            case "interrupted":
                self.has_interrupted = True
                raise KeyboardInterrupt
        return fault

    def _spoil(self, fault: str, envelope: Envelope, query: Mapping[str, Any]) -> Envelope:
        match fault:
            case "no_list":
                return {"retCode": 0, "retMsg": "OK", "result": {}}
            case "no_envelope":
                return {"hello": "world"}
            case "cursor_repeats":
                envelope["result"]["nextPageCursor"] = query.get("cursor") or "again"
            case "odd_row" if envelope["result"]["list"]:
                rows = list(envelope["result"]["list"])
                rows[0] = _odd(rows[0])
                envelope["result"]["list"] = rows
        return envelope

    def _answer(self, name: str, query: Mapping[str, Any], at_ms: int) -> Envelope:
        venue = self._venue
        order_id, link_id = query.get("orderId", ""), query.get("orderLinkId", "")
        if name == "balances":
            return _envelope([venue.wallet_row(at_ms)])
        if name == "positions":
            return _envelope(venue.position_rows() if query.get("settleCoin") == "USDT" else [])
        if name == "executions":
            if order_id or link_id:
                return self._page(venue.executions_of(at_ms, order_id, link_id), query)
            return self._page(venue.execution_rows(at_ms, int(query["startTime"]), int(query["endTime"])), query)
        if order_id or link_id:
            return self._named(name, query, at_ms)
        return self._page(venue.open_rows(at_ms, query.get("orderFilter", ""), query.get("settleCoin", "USDT")), query)

    def _named(self, name: str, query: Mapping[str, Any], at_ms: int) -> Envelope:
        order_id, link_id = query.get("orderId", ""), query.get("orderLinkId", "")
        row = self._venue.named_row(at_ms, order_id, link_id, closed_only=name == "history")
        if row is not None and name == "history" and "startTime" in query:
            is_inside = int(query["startTime"]) <= int(row["createdTime"]) <= int(query["endTime"])
            row = row if is_inside else None
        return _envelope([] if row is None else [row])

    def _page(self, found: Any, query: Mapping[str, Any]) -> Envelope:
        """One page; the cursor names the last row shown, so rows that come or go shift nothing."""
        cursor = str(query.get("cursor") or "")
        after, last = int(cursor) if cursor.isdigit() else 0, 0
        rows: list[Row] = []
        for seq, row in found:
            if after and seq >= after:
                continue
            if len(rows) == self._page_size:
                return _envelope(rows, cursor=str(last))
            rows.append(row)
            last = seq
        return _envelope(rows)

    def _market(self, path: str) -> Envelope:
        if path.endswith("tickers"):
            return _envelope([{"symbol": symbol, "lastPrice": "100"} for symbol in SYMBOLS])
        return _envelope([])

    def clear_faults(self) -> None:
        """From now on reads are answered at once and in full."""
        self.read_faults_left = self.lagging_reads = self.frame_fates = 0
        self.read_hook_at = -1
        self.has_failed = False

    # Writes.

    def post_signed(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """Carry out a write, or lose it or its reply as told."""
        self.measure_clock()
        action, _, is_batch = path.removeprefix("/v5/order/").partition("-")
        fate = self.fates.popleft() if self.fates else "ok"
        if fate == "unsent":
            raise VenueUnavailableError("simulated: no connection, nothing was sent")
        if fate == "throttled":
            raise BybitRateLimitError("simulated: budget spent, nothing was sent", retry_after_ms=1_000)
        self.writes += 1
        self.bodies.append(body)
        if is_batch:
            return self._batch(action, body, fate)
        if fate == "refused":
            raise BybitApiError(NO_FUNDS[self._venue.category] if action == "create" else 10001, "simulated: refused")
        return self._single(action, body, fate)

    def _single(self, action: str, body: Mapping[str, Any], fate: str) -> Envelope:
        if fate in ("request_lost", "backend_code_lost", "transport_raises_lost", "interrupted_lost"):
            raise self._silence(fate)
        if fate in ("late", "after_every_deadline"):
            delay_ms = 3_000 if fate == "late" else 40_000
            request = (action, body)
            self.on_the_way.append(request)
            self._scheduler.schedule_once(lambda: self._arrive_late(request), delay_ms)
            raise self._silence(fate)
        code, order = self._carry_out(action, body)
        if self.are_frames_early:
            self.pump()
        if fate == "duplicate_reply" and action == "create" and not code:
            raise BybitApiError(170141 if self._venue.is_spot else 110072, "simulated: the resent request")
        if fate == "refused_but_stands" and not code:
            raise BybitApiError(
                NO_FUNDS[self._venue.category] if action == "create" else NO_SUCH_ORDER[self._venue.category],
                "simulated: refused, and carried out all the same",
            )
        if fate != "ok" and fate not in ("reply_garbled", "wrong_echo", "duplicate_reply", "refused_but_stands"):
            raise self._silence(fate)
        if code:
            raise BybitApiError(code, "simulated: refused by the venue")
        if fate == "reply_garbled":
            return {"retCode": 0, "retMsg": "OK", "result": None}
        result = {"orderId": order.order_id, "orderLinkId": order.link_id} if order is not None else {}
        if fate == "wrong_echo" and order is not None:
            result = {"orderId": "999999", "orderLinkId": "of-another-process"}
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": self._venue.now_ms()}

    def _silence(self, fate: str) -> BaseException:
        """What the caller meets when no definite answer came."""
        if fate.startswith("transport_raises"):
            return RuntimeError("simulated: the transport broke while it sent")
        if fate.startswith("interrupted"):
            self.has_interrupted = True
            return KeyboardInterrupt()
        return OutcomeUnknownError(
            "simulated: no answer",
            signed_ms=self._venue.now_ms(),
            recv_window_ms=RECV_WINDOW_MS,
            ret_code=10016 if fate.startswith("backend") else None,
        )

    def _arrive_late(self, request: tuple[str, Mapping[str, Any]]) -> None:
        if request in self.on_the_way:
            self.on_the_way.remove(request)
            self._carry_out(*request)
            self.pump()

    def arrive_all(self) -> None:
        """Whatever is on the way arrives now."""
        for request in list(self.on_the_way):
            self._arrive_late(request)

    def _carry_out(self, action: str, body: Mapping[str, Any]) -> tuple[int, VenueOrder | None]:
        """What the venue does with a request: (code of the refusal or 0, the order)."""
        venue = self._venue
        if action == "create":
            taken = venue.create(
                link_id=str(body.get("orderLinkId", "")),
                symbol=str(body["symbol"]),
                side=str(body["side"]),
                quantity=int(Decimal(body["qty"])),
                price=int(Decimal(body.get("price", 0))),
                trigger=int(Decimal(body.get("triggerPrice", 0))),
                is_market=body["orderType"] == "Market",
                quote_sized=body.get("marketUnit") == "quoteCoin",
            )
            return (taken, None) if isinstance(taken, int) else (0, taken)
        order_id, link_id = body.get("orderId", ""), body.get("orderLinkId", "")
        order = venue.by_id.get(order_id) if order_id else venue.by_link.get(link_id)
        if order is None:
            return NO_SUCH_ORDER[venue.category], None
        if action == "cancel":
            code = venue.cancel(order)
            if code:
                self.reached.add("cancel refused as gone")
            if order.link_id in self.remembered:
                self.reached.add("remembered cancel sent")
            return code, order
        return (
            venue.amend(
                order,
                quantity=int(Decimal(body.get("qty", 0))),
                price=int(Decimal(body.get("price", 0))),
                trigger=int(Decimal(body.get("triggerPrice", 0))),
            ),
            order,
        )

    def _batch(self, action: str, body: Mapping[str, Any], fate: str) -> Envelope:
        """A batch request: one answer per item (docs v5/order/batch-place)."""
        if fate in ("request_lost", "backend_code_lost", "transport_raises_lost", "interrupted_lost", "late"):
            raise self._silence(fate)
        rows: list[Row] = []
        verdicts: list[Row] = []
        for number, item in enumerate(body["request"]):
            if fate == "refused" and number % 2:
                code, order = NO_FUNDS[self._venue.category], None
            else:
                code, order = self._carry_out(action, item)
            rows.append(
                {
                    "category": self._venue.category,
                    "symbol": item["symbol"],
                    "orderId": "" if order is None else order.order_id,
                    "orderLinkId": item.get("orderLinkId", ""),
                }
            )
            verdicts.append({"code": code, "msg": "refused" if code else "OK"})
        if self.are_frames_early:
            self.pump()
        if fate not in ("ok", "refused"):
            raise self._silence("reply_lost")
        return {"retCode": 0, "retMsg": "OK", "result": {"list": rows}, "retExtInfo": {"list": verdicts}, "time": 0}

    # The stream.

    def emit(self, topic: str, rows: list[Row]) -> None:
        """A frame of the venue. Two bits of `frame_fates` say what becomes of it: sent, held, lost, sent and held."""
        if not self.is_connected:
            return
        frame: Envelope = {"topic": topic, "id": "f", "creationTime": self._venue.now_ms(), "data": rows}
        fate, self.frame_fates = self.frame_fates & 3, self.frame_fates >> 2
        if fate in (0, 3):
            self.inbox.append((topic, frame))
        if fate in (1, 3):
            self.held.append((topic, frame))

    def pump(self) -> None:
        """Deliver what was sent, in order."""
        while self.inbox:
            self.deliver(*self.inbox.popleft())

    def deliver(self, topic: str, frame: Envelope) -> None:
        """Hand one frame to its listeners."""
        if not self.is_connected:
            return
        self.delivered.append((topic, frame))
        for listener in self._listeners.get(topic, ()):
            listener(frame)

    def disconnect(self) -> None:
        """Lose the stream, and with it all frames that wait."""
        self.is_connected = False
        self.inbox.clear()
        self.held.clear()
        for handler in self._on_disconnect:
            handler("simulated: the stream was lost")

    def reconnect(self) -> None:
        """The stream is back and every subscription acknowledged."""
        self.is_connected = True
        for handler in self._on_reconnect:
            handler()

    def notice_gap(self) -> None:
        """The host slept, or its clock jumped."""
        self.measure_clock()
        for handler in self._on_gap:
            handler("simulated: a gap")


def base_ms() -> int:
    """The venue's time when a simulation begins."""
    return START_MS


def _envelope(rows: list[Row], cursor: str = "") -> Envelope:
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"list": rows, "nextPageCursor": cursor},
        "retExtInfo": {},
        "time": 0,
    }


def _odd(row: Row) -> Row:
    """A row that cannot be read, and still names its order."""
    if "coin" in row:
        return {"accountType": "UNIFIED", "coin": None}
    spoiled = dict(row)
    for name in ("side", "size", "execQty"):
        if name in spoiled:
            spoiled[name] = "?"
    return spoiled
