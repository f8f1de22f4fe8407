"""Public market streams: order book, trades, tickers (docs websocket/public).

The book is sent as a snapshot on subscribing and as differences afterwards; depth 1 is snapshots only; spot tickers
are snapshots only. What changed is looked at a few times per tick of the venue's housekeeping, not on every order.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aiohttp import web

from ..api.market import book_snapshot
from ..exchange.book import Book
from ..exchange.money import wire
from ..exchange.queries import tickers
from ..exchange.wire import to_json
from .session import Session, decode

if TYPE_CHECKING:
    from .hub import StreamHub

_DEPTHS = (1, 50, 200, 1000)
_MOST_ARGUMENTS = 10
_MOST_TRADES = 1024


class PublicSession(Session):
    """One public connection; anyone may listen."""

    def __init__(
        self, hub: StreamHub, ws: web.WebSocketResponse, request: web.BaseRequest, conn_id: str, idle_limit_s: float
    ) -> None:
        super().__init__(ws, request, conn_id, idle_limit_s)
        self._hub = hub
        self.sent_books: dict[str, dict[str, dict[str, str]]] = {}
        self.sent_updates: dict[str, int] = {}

    def on_text(self, text: str) -> None:
        if self._hub.faults.armed("control") and self._hub.faults.take("control", path="/v5/public/spot"):
            self.go_half_open()
            return
        message = decode(text) or {}
        operation = message.get("op")
        if operation == "ping":
            if not self._hub.faults.take("ping", path="/v5/public/spot"):
                self._answer({"success": True, "ret_msg": "pong", "op": "ping"}, message)
        elif operation == "subscribe":
            self._subscribe(message)
        elif operation == "unsubscribe":
            self._unsubscribe(message)
        else:
            self._answer({"success": False, "ret_msg": f"unknown op:{operation}", "op": str(operation)}, message)

    def _subscribe(self, message: dict[str, Any]) -> None:
        arguments = message.get("args")
        problem = self._hub.public.problem_with(arguments)
        self._answer({"success": not problem, "ret_msg": problem or "subscribe", "op": "subscribe"}, message)
        if problem:
            return
        with self._hub.exclusive():
            for topic in arguments or []:
                self.topics[topic] = None
                self.sent_updates.pop(topic, None)
                self._hub.public.tell(self, topic)

    def _unsubscribe(self, message: dict[str, Any]) -> None:
        problem = self._hub.public.problem_with(message.get("args"))
        for topic in [] if problem else message["args"]:
            self.topics.pop(topic, None)
        self._answer({"success": not problem, "ret_msg": problem or "subscribe", "op": "unsubscribe"}, message)

    def _answer(self, answer: dict[str, Any], message: dict[str, Any]) -> None:
        answer["conn_id"] = self.conn_id
        if message.get("req_id"):
            answer["req_id"] = message["req_id"]
        self.push(to_json(answer))


class PublicFeed:
    """What public sessions hear; lives on the loop, except `on_trade`."""

    def __init__(self, hub: StreamHub, books: dict[tuple[str, str], Book], now_ms: Callable[[], int]) -> None:
        self._hub = hub
        self._books = books
        self._now_ms = now_ms
        self._trades: dict[str, list[dict[str, Any]]] = {}
        self._trade_number = 0

    def on_trade(self, book: Book, taker_side: str, price: Decimal, quantity: Decimal, seq: int) -> None:
        """A trade happened; called by the engine, under the venue's lock."""
        if not self._hub.has_public_sessions:
            return
        self._trade_number += 1
        self._trades.setdefault(book.instrument.symbol, []).append(
            {
                "T": self._now_ms(),
                "s": book.instrument.symbol,
                "S": taker_side,
                "v": wire(quantity),
                "p": wire(price),
                "L": "ZeroPlusTick",
                "i": str(2_290_000_000_000_000_000 + self._trade_number),
                "BT": False,
                "RPI": False,
                "seq": seq,
            }
        )

    def problem_with(self, arguments: object) -> str:
        """Why a subscribe request fails as a whole, or nothing."""
        if not isinstance(arguments, list) or not arguments:
            return "Params Error"
        if len(arguments) > _MOST_ARGUMENTS:
            return f"args size >{_MOST_ARGUMENTS}"
        bad = next((topic for topic in arguments if not isinstance(topic, str) or not self._known(topic)), None)
        return "" if bad is None else f"error:handler not found,topic:{bad}"

    def sweep(self) -> None:
        """Tell every public session what changed since the last time; under the venue's lock."""
        trades, self._trades = self._trades, {}
        for session in self._hub.public_sessions():
            for topic in list(session.topics):
                kind, _, rest = topic.partition(".")
                if kind == "publicTrade":
                    waiting = trades.get(rest, [])
                    for start in range(0, len(waiting), _MOST_TRADES):
                        self._send(session, topic, rest, "snapshot", waiting[start : start + _MOST_TRADES])
                else:
                    self.tell(session, topic)

    def tell(self, session: PublicSession, topic: str) -> None:
        """Bring a session up to date on one book or ticker."""
        kind, _, rest = topic.partition(".")
        if kind == "publicTrade":
            return
        symbol = rest.rpartition(".")[2]
        book = self._books[("spot", symbol)]
        if session.sent_updates.get(topic) == book.update_id:
            return
        first = topic not in session.sent_updates
        session.sent_updates[topic] = book.update_id
        if kind == "tickers":
            self._send(session, topic, symbol, "snapshot", tickers([book])[0])
        else:
            self._tell_book(session, topic, book, int(rest.partition(".")[0]), first)

    def _tell_book(self, session: PublicSession, topic: str, book: Book, depth: int, first: bool) -> None:
        now = book_snapshot(book, depth, self._now_ms())
        sides = {side: dict(now[side]) for side in ("b", "a")}
        before = session.sent_books.get(topic)
        session.sent_books[topic] = sides
        data = {"s": now["s"], "b": now["b"], "a": now["a"], "u": now["u"], "seq": now["seq"]}
        if first or depth == 1 or before is None:
            self._send(session, topic, now["s"], "snapshot", data)
            return
        for side in ("b", "a"):
            gone = [[price, "0"] for price in before[side] if price not in sides[side]]
            changed = [[price, size] for price, size in sides[side].items() if before[side].get(price) != size]
            data[side] = gone + changed
        if data["b"] or data["a"]:
            self._send(session, topic, now["s"], "delta", data)

    def _send(self, session: PublicSession, topic: str, symbol: str, kind: str, data: Any) -> None:
        now_ms = self._now_ms()
        envelope = {"topic": topic, "ts": now_ms, "type": kind}
        if topic.startswith("orderbook"):
            envelope["cts"] = now_ms
        rows = data if isinstance(data, list) else [data]

        def encode(changed: list[dict[str, Any]]) -> str:
            told = changed if isinstance(data, list) else changed[0]
            return to_json({**envelope, "data": told})

        self._hub.deliver(session, topic, symbol, "", rows, encode)

    def _known(self, topic: str) -> bool:
        kind, _, rest = topic.partition(".")
        if kind == "orderbook":
            depth, _, symbol = rest.partition(".")
            return depth.isdigit() and int(depth) in _DEPTHS and ("spot", symbol) in self._books
        return kind in ("publicTrade", "tickers") and ("spot", rest) in self._books
