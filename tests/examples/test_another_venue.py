"""The parts of qkt carry a broker for another venue: the example, on a stub of that venue, on loopback."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest

from qkt import CompositeBroker, EventBus, LimitOrder, LogBroker, OrderStatus, PositionTracker, Side, SymbolPattern
from qkt.broker.protocol import BasicBroker, SubmitOutcome
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.events import BrokerEvent, FillEvent, HealthDegraded, HealthRestored, OrderEvent
from qkt.testing import FixedClock, TickScheduler
from qkt.testing.contract import broker_checks

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "docs" / "examples" / "another_venue.py"
PAGE = ROOT / "docs" / "how-to" / "build-a-broker-for-another-venue.md"

_spec = importlib.util.spec_from_file_location("another_venue", EXAMPLE)
assert _spec is not None
assert _spec.loader is not None
example: Any = importlib.util.module_from_spec(_spec)
sys.modules["another_venue"] = example
_spec.loader.exec_module(example)


class AcmeVenue:
    """ACME as its API page says, in memory, with a few ways to go wrong.

    ``lose_replies`` and ``lose_requests`` are verbs whose next call is cut after, or before, it was worked on.
    """

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.orders: dict[str, dict[str, Any]] = {}
        self.trades: list[dict[str, Any]] = []
        self.calls: list[tuple[str, str]] = []
        self.token = 0
        self.signed_in: set[str] = set()
        self.accepts_logins = True
        self.is_down = False
        self.lose_replies: list[str] = []
        self.lose_requests: list[str] = []
        self._last_ms = 0
        venue = self

        class Door(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet

            def handle_any(self) -> None:
                sent = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.command in venue.lose_requests:
                    venue.lose_requests.remove(self.command)
                    self.close_connection = True
                    return
                url = urlsplit(self.path)
                status, reply = venue.answer(
                    self.command, url.path, dict(parse_qsl(url.query)), json.loads(sent or b"{}"), self.headers
                )
                if self.command in venue.lose_replies:
                    venue.lose_replies.remove(self.command)
                    self.close_connection = True
                    return
                body = json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
                self.wfile.flush()

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    # -- the API -----------------------------------------------------------------------------------------------------

    def answer(self, verb: str, path: str, query: dict[str, str], body: Any, headers: Any) -> tuple[int, Any]:
        with self.lock:
            self.calls.append((verb, path))
            if self.is_down:
                return 503, {"error": "down"}
            if path == "/session":
                return self.sign_in()
            if headers["Authorization"] not in self.signed_in:
                return 401, {"error": "sign in"}
            match verb, path.split("/")[1:]:
                case "POST", ["orders"]:
                    return self.create(body)
                case "DELETE", ["orders", order_id]:
                    return self.end(order_id)
                case "GET", ["orders"]:
                    return 200, {"orders": [row for row in self.orders.values() if query.items() <= row.items()]}
                case "GET", ["orders", order_id]:
                    return (200, self.orders[order_id]) if order_id in self.orders else (404, {"error": "no order"})
                case "GET", ["trades"]:
                    return 200, {"trades": self.trades[int(query["after"]) :]}
            return 404, {"error": "no such path"}

    def sign_in(self) -> tuple[int, Any]:
        if not self.accepts_logins:
            return 401, {"error": "not now"}
        self.token += 1
        self.signed_in.add(f"token-{self.token}")
        return 200, {"token": f"token-{self.token}"}

    def create(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["valid_until_ms"] < self.clock.now_ms():
            return 410, {"error": "too late"}
        if any(row["ref"] == body["ref"] for row in self.orders.values()):
            return 409, {"error": "ref taken"}
        if Decimal(body["size"]) > 1_000:
            return 422, {"error": "too big"}
        row = {name: body[name] for name in ("ref", "symbol", "side", "size", "limit")}
        row |= {"id": f"A{len(self.orders) + 1}", "state": "working", "done": "0"}
        row["created_ms"] = row["updated_ms"] = self.tick()
        self.orders[row["id"]] = row
        return 201, row

    def end(self, order_id: str) -> tuple[int, Any]:
        row = self.orders[order_id]
        if row["state"] != "working":
            return 409, {"error": f"the order is {row['state']}"}
        row |= {"state": "cancelled", "updated_ms": self.tick()}
        return 200, row

    def tick(self) -> int:
        self._last_ms = max(self.clock.now_ms(), self._last_ms + 1)
        return self._last_ms

    # -- what the test does ------------------------------------------------------------------------------------------

    def fill(self, ref: str, size: str | None = None) -> None:
        with self.lock:
            row = next(row for row in self.orders.values() if row["ref"] == ref)
            quantity = Decimal(size) if size else Decimal(row["size"]) - Decimal(row["done"])
            row["done"] = str(Decimal(row["done"]) + quantity)
            row["state"] = "done" if Decimal(row["done"]) == Decimal(row["size"]) else "working"
            row["updated_ms"] = self.tick()
            trade = {"id": f"T{len(self.trades) + 1}", "n": len(self.trades) + 1, "order": row["id"], "ms": self.tick()}
            trade |= {name: row[name] for name in ("ref", "symbol", "side")}
            trade |= {
                "size": str(quantity),
                "price": row["limit"],
                "order_size": row["size"],
                "fee": "0.1",
                "fee_coin": "USD",
            }
            self.trades.append(trade)

    def cancel(self, ref: str) -> None:
        with self.lock:
            self.end(next(row["id"] for row in self.orders.values() if row["ref"] == ref))

    def expire_sessions(self) -> None:
        with self.lock:
            self.signed_in.clear()


class Desk:
    """The broker on the stub; time passes when the test says so, and nothing runs on another thread."""

    def __init__(self) -> None:
        self.clock = FixedClock(1_000_000)
        self.venue = AcmeVenue(self.clock)
        self.scheduler = TickScheduler(self.clock)
        self.bus = EventBus(self.clock)
        self.heard: list[BrokerEvent] = []
        self.bus.subscribe(BrokerEvent, self.heard.append)
        self.broker = self.build(self.bus)

    def build(self, bus: EventBus) -> Any:
        return example.AcmeBroker(bus, self.venue.url, "key", clock=self.clock, scheduler=self.scheduler)

    def story(self, client_order_id: str) -> list[str]:
        about = [e for e in self.heard if isinstance(e, OrderEvent) and e.client_order_id == client_order_id]
        return [type(event).__name__ for event in about]


@pytest.fixture
def desk() -> Iterator[Any]:
    desk = Desk()
    yield desk
    desk.broker.close()
    desk.venue.stop()


def an_order(**changes: Any) -> LimitOrder:
    terms = {"symbol": "ACME:GOLD", "side": Side.BUY, "quantity": Decimal(2), "limit_price": Decimal(100)}
    return LimitOrder(**terms | changes)  # type: ignore[arg-type]


# -- the contract ----------------------------------------------------------------------------------------------------


class _Stage:
    """One stub for all the checks, started with the first of them."""

    venue: AcmeVenue | None = None

    def build(self, bus: EventBus) -> Any:
        if self.venue is None:
            self.venue = AcmeVenue(FixedClock(1_000_000))
        return example.AcmeBroker(
            bus, self.venue.url, "key", clock=self.venue.clock, scheduler=TickScheduler(self.venue.clock)
        )

    def trade(self, broker: Any, client_order_id: str) -> None:
        assert self.venue is not None
        self.venue.fill(client_order_id, "0.004")
        self.venue.fill(client_order_id)
        broker.reconcile()


_stage = _Stage()


@pytest.fixture(scope="module", autouse=True)
def _curtain() -> Iterator[None]:
    yield
    if _stage.venue is not None:
        _stage.venue.stop()


@pytest.mark.parametrize(
    "check",
    broker_checks(
        _stage.build,
        symbol="ACME:GOLD",
        unserved_symbol="BYBIT_SPOT:BTCUSDT",
        trade=_stage.trade,
        settle=lambda broker: broker.reconcile(),
    ),
    ids=str,
)
def test_it_keeps_the_contract_of_every_broker(check: Any) -> None:
    check()


def test_it_is_a_broker_to_the_type_checker_and_at_run_time(desk: Any) -> None:
    assert isinstance(desk.broker, BasicBroker)


# -- what the parts give it ------------------------------------------------------------------------------------------


def test_a_fill_is_found_by_the_next_beat(desk: Any) -> None:
    tracker = PositionTracker()
    desk.bus.subscribe(FillEvent, tracker.apply_fill)
    ack = desk.broker.submit(an_order())
    desk.venue.fill(ack.client_order_id, "0.5")
    desk.venue.fill(ack.client_order_id)
    desk.scheduler.fire_tick()
    assert desk.story(ack.client_order_id) == ["OrderAccepted", "OrderPartiallyFilled", "OrderFilled"]
    assert tracker.positions()["ACME:GOLD"].quantity == 2
    assert desk.broker.wait(ack.client_order_id, timeout_ms=0).status is OrderStatus.FILLED


def test_a_cancel_behind_our_back_is_found_by_asking(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    desk.venue.fill(ack.client_order_id, "0.5")
    desk.venue.cancel(ack.client_order_id)
    desk.scheduler.fire_tick()
    assert desk.story(ack.client_order_id) == ["OrderAccepted", "OrderPartiallyFilled", "OrderCancelled"]
    assert ("GET", f"/orders/{ack.broker_order_id}") in desk.venue.calls


def test_a_second_round_tells_nothing_new(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    desk.venue.fill(ack.client_order_id)
    desk.scheduler.fire_tick()
    heard = len(desk.heard)
    desk.scheduler.fire_tick()
    assert len(desk.heard) == heard


def test_a_submit_whose_reply_is_lost_is_unknown_and_then_found(desk: Any) -> None:
    desk.venue.lose_replies.append("POST")
    ack = desk.broker.submit(an_order())
    assert ack.outcome is SubmitOutcome.UNKNOWN
    assert desk.broker.order(ack.client_order_id).is_unresolved
    desk.scheduler.fire_tick()
    assert desk.story(ack.client_order_id) == ["OrderAccepted"]
    assert len(desk.venue.orders) == 1


def test_a_submit_that_never_arrived_is_rejected_only_once_it_cannot_arrive_any_more(desk: Any) -> None:
    desk.venue.lose_requests.append("POST")
    ack = desk.broker.submit(an_order())
    desk.scheduler.fire_tick()
    assert desk.broker.order(ack.client_order_id).is_unresolved
    desk.clock.advance_ms(3_001)
    desk.scheduler.fire_tick()
    assert desk.story(ack.client_order_id) == ["OrderRejected"]


def test_a_refusal_is_definite(desk: Any) -> None:
    ack = desk.broker.submit(an_order(quantity=Decimal(2_000)))
    assert (ack.outcome, ack.reject_reason) == (SubmitOutcome.REJECTED, "too big")
    assert desk.story(ack.client_order_id) == ["OrderRejected"]


def test_a_cancel_whose_reply_is_lost_is_unknown_and_then_found(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    desk.venue.lose_replies.append("DELETE")
    assert desk.broker.cancel(ack.client_order_id).outcome is SubmitOutcome.UNKNOWN
    desk.scheduler.fire_tick()
    assert desk.story(ack.client_order_id) == ["OrderAccepted", "OrderCancelled"]


def test_a_cancel_that_never_arrived_fails_and_the_order_stays(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    desk.venue.lose_requests.append("DELETE")
    desk.broker.cancel(ack.client_order_id)
    desk.clock.advance_ms(3_001)
    desk.scheduler.fire_tick()
    assert desk.story(ack.client_order_id) == ["OrderAccepted", "OrderCancelFailed"]
    assert desk.broker.order(ack.client_order_id).is_open


def test_a_cancel_that_loses_against_a_fill_is_refused(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    desk.venue.fill(ack.client_order_id)
    assert desk.broker.cancel(ack.client_order_id).reject_reason == "the order is done"
    desk.scheduler.fire_tick()
    assert desk.story(ack.client_order_id) == ["OrderAccepted", "OrderCancelFailed", "OrderFilled"]


def test_an_expired_session_sends_nothing_frees_the_id_and_is_brought_back(desk: Any) -> None:
    desk.venue.expire_sessions()
    with pytest.raises(VenueUnavailableError, match="nothing was done"):
        desk.broker.submit(an_order(client_order_id="bot-1"))
    assert "session=waiting" in repr(desk.broker)
    desk.scheduler.advance_ms(1_000)
    assert desk.broker.submit(an_order(client_order_id="bot-1")).accepted
    health = [type(event) for event in desk.heard if isinstance(event, HealthDegraded | HealthRestored)]
    assert health == [HealthDegraded, HealthRestored]


def test_the_supervisor_does_not_give_up_and_what_happened_meanwhile_is_found(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    desk.venue.accepts_logins = False
    desk.venue.expire_sessions()
    desk.venue.fill(ack.client_order_id)
    desk.scheduler.fire_tick()
    desk.scheduler.advance_ms(40_000)
    assert desk.story(ack.client_order_id) == ["OrderAccepted"]
    desk.venue.accepts_logins = True
    desk.scheduler.advance_ms(20_000)
    assert desk.story(ack.client_order_id) == ["OrderAccepted", "OrderFilled"]


def test_a_round_that_cannot_read_changes_nothing_and_the_beat_goes_on(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    desk.venue.fill(ack.client_order_id)
    desk.venue.is_down = True
    desk.scheduler.fire_tick()
    assert desk.broker.order(ack.client_order_id).is_open
    desk.venue.is_down = False
    desk.scheduler.fire_tick()
    assert desk.story(ack.client_order_id)[-1] == "OrderFilled"


def test_orders_of_others_are_adopted_when_it_starts(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    desk.broker.close()
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(OrderEvent, heard.append)
    with desk.build(bus) as second:
        assert [view.external for view in second.open_orders()] == [True]
        second.cancel(ack.client_order_id)
    assert [(type(event).__name__, event.external) for event in heard] == [
        ("OrderAccepted", True),
        ("OrderCancelled", True),
    ]


def test_construction_fails_loud_when_the_venue_cannot_be_read(desk: Any) -> None:
    desk.venue.is_down = True
    with pytest.raises(Exception, match="HTTP 503"):
        desk.build(EventBus())


def test_it_stands_behind_a_composite_like_any_other(desk: Any) -> None:
    broker = CompositeBroker([(SymbolPattern.prefix("ACME:"), desk.broker)], fallback=LogBroker(desk.bus, desk.clock))
    ack = broker.submit(an_order())
    assert broker.wait(ack.client_order_id, until="accepted", timeout_ms=0).symbol == "ACME:GOLD"
    assert broker.cancel(ack.client_order_id).accepted
    assert broker.submit(an_order(symbol="OTHER:X")).broker_order_id == "log-1"


def test_what_acme_cannot_do_is_refused_before_it_is_sent(desk: Any) -> None:
    ack = desk.broker.submit(an_order())
    calls = len(desk.venue.calls)
    with pytest.raises(InvalidRequestError, match="it can LIMIT"):
        desk.broker.submit(an_order(stop_loss=Decimal(1)))
    with pytest.raises(InvalidRequestError, match="ACME cannot MODIFY"):
        desk.broker.modify(ack.client_order_id, object())
    assert len(desk.venue.calls) == calls


def test_with_its_own_thread_the_beat_is_real(desk: Any) -> None:
    with example.AcmeBroker(desk.bus, desk.venue.url, "key", poll_interval_ms=10) as broker:
        ack = broker.submit(an_order())
        desk.venue.fill(ack.client_order_id)
        assert broker.wait(ack.client_order_id, timeout_ms=5_000).status is OrderStatus.FILLED


# -- the page --------------------------------------------------------------------------------------------------------


def test_the_page_quotes_the_example_word_for_word() -> None:
    source = re.sub(r"\s+", " ", EXAMPLE.read_text())
    quotes = re.findall(r"^```python no-run\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(quotes) >= 4
    for quote in quotes:
        assert re.sub(r"\s+", " ", quote).strip() in source, quote
