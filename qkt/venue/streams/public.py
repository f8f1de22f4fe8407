"""Public streams: order book, trades, tickers, candles (docs websocket/public), and the system status.

The book is sent as a snapshot on subscribing and as deltas afterwards; depth 1 and spot tickers are always snapshots.
Changes are collected by a sweep every 20 ms, not sent per order.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from aiohttp import web

from ..api.market import book_snapshot
from ..api.status import SystemStatus
from ..exchange.book import Book
from ..exchange.candles import INTERVALS, Candle, begin_ms, end_ms
from ..exchange.json_encoder import to_json
from ..exchange.money import wire
from ..exchange.queries import tickers
from .hub import StreamHub
from .session import Session, decode

_DEPTHS = (1, 50, 200, 1000)
_MOST_ARGUMENTS = 10
_MOST_TRADES = 1024
_MOST_CANDLES = 1000


class PublicSession(Session):
    """One public connection; needs no login."""

    def __init__(
        self,
        feed: PublicFeed,
        hub: StreamHub,
        ws: web.WebSocketResponse,
        request: web.BaseRequest,
        conn_id: str,
        idle_limit_s: float,
    ) -> None:
        super().__init__(ws, request, conn_id, idle_limit_s)
        self._feed = feed
        feed.sessions[self] = None
        self._hub = hub
        self.category: str = self.path.rpartition("/")[2]
        self.sent_books: dict[str, dict[str, dict[str, str]]] = {}
        self.sent_updates: dict[str, int] = {}
        self.sent_candles: dict[str, Candle] = {}

    def on_text(self, text: str) -> None:
        if self._hub.faults.armed("control") and self._hub.faults.take("control", path=self.path):
            self.go_half_open()
            return
        message = decode(text) or {}
        operation = message.get("op")
        if operation == "ping":
            if not self._hub.faults.take("ping", path=self.path):
                self._answer({"success": True, "ret_msg": "pong", "op": "ping"}, message)
        elif operation == "subscribe":
            self._subscribe(message)
        elif operation == "unsubscribe":
            self._unsubscribe(message)
        else:
            self._answer({"success": False, "ret_msg": f"unknown op:{operation}", "op": str(operation)}, message)

    def on_close(self) -> None:
        self._feed.sessions.pop(self, None)

    def _subscribe(self, message: dict[str, Any]) -> None:
        arguments = message.get("args")
        problem = self._feed.problem_with(self.category, arguments)
        self._answer({"success": not problem, "ret_msg": problem or "subscribe", "op": "subscribe"}, message)
        if problem:
            return
        with self._hub.exclusive():
            for topic in arguments or []:
                self.topics[topic] = None
                self.sent_updates.pop(topic, None)
                self.sent_candles.pop(topic, None)
                self._feed.update(self, topic)

    def _unsubscribe(self, message: dict[str, Any]) -> None:
        problem = self._feed.problem_with(self.category, message.get("args"))
        for topic in [] if problem else message["args"]:
            self.topics.pop(topic, None)
        self._answer({"success": not problem, "ret_msg": problem or "subscribe", "op": "unsubscribe"}, message)

    def _answer(self, answer: dict[str, Any], message: dict[str, Any]) -> None:
        answer["conn_id"] = self.conn_id
        if message.get("req_id"):
            answer["req_id"] = message["req_id"]
        struck = self._hub.faults.take("answer", path=self.path) if self._hub.faults.armed("answer") else []
        if struck:
            self.push_later(to_json(answer), max(int(fault["delay_ms"]) for fault in struck))
        else:
            self.push(to_json(answer))


class PublicFeed:
    """Builds the frames of the public topics; runs on the event loop, except `on_trade`."""

    def __init__(
        self, hub: StreamHub, books: dict[tuple[str, str], Book], status: SystemStatus, now_ms: Callable[[], int]
    ) -> None:
        self.sessions: dict[PublicSession, None] = {}
        self._hub = hub
        self._status = status
        self._books = books
        self._now_ms = now_ms
        self._trades: dict[tuple[str, str], list[dict[str, Any]]] = {}
        self._trade_number = 0

    def on_trade(self, book: Book, taker_side: str, price: Decimal, quantity: Decimal, seq: int) -> None:
        """Keep a trade for the next sweep; called by the engine, under the venue's lock."""
        if not self.sessions:
            return
        self._trade_number += 1
        self._trades.setdefault(book.instrument.key, []).append(
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

    def problem_with(self, category: str, arguments: object) -> str:
        """Why a subscribe request fails as a whole; empty when it does not."""
        if not isinstance(arguments, list) or not arguments:
            return "Params Error"
        if len(arguments) > _MOST_ARGUMENTS:
            return f"args size >{_MOST_ARGUMENTS}"
        bad = next(
            (topic for topic in arguments if not isinstance(topic, str) or not self._is_known(category, topic)), None
        )
        return "" if bad is None else f"error:handler not found,topic:{bad}"

    def sweep(self) -> None:
        """Send every public session the changes since the last sweep; under the venue's lock."""
        trades, self._trades = self._trades, {}
        changed = self._status.changed()
        for session in list(self.sessions):
            for topic in list(session.topics):
                kind, _, rest = topic.partition(".")
                if kind == "system":
                    self._send_status(session, topic, changed)
                elif kind == "publicTrade":
                    waiting = trades.get((session.category, rest), [])
                    for start in range(0, len(waiting), _MOST_TRADES):
                        self._send(session, topic, rest, "snapshot", waiting[start : start + _MOST_TRADES])
                else:
                    self.update(session, topic)

    def update(self, session: PublicSession, topic: str) -> None:
        """Send a session the changes of one topic since its last frame."""
        kind, _, rest = topic.partition(".")
        if kind in ("publicTrade", "system"):
            return
        symbol = rest.rpartition(".")[2]
        book = self._books[(session.category, symbol)]
        if kind == "kline":
            self._update_candle(session, topic, book, rest.partition(".")[0])
            return
        if session.sent_updates.get(topic) == book.update_id:
            return
        first = topic not in session.sent_updates
        session.sent_updates[topic] = book.update_id
        if kind == "tickers":
            self._send(session, topic, symbol, "snapshot", tickers([book])[0])
        else:
            self._update_book(session, topic, book, int(rest.partition(".")[0]), first)

    def _update_candle(self, session: PublicSession, topic: str, book: Book, interval: str) -> None:
        """Send the open candle when it changed, and before a new one the closed one with ``confirm``."""
        now_ms = self._now_ms()
        before = session.sent_candles.get(topic)
        is_open = before is not None and now_ms <= end_ms(interval, before.start_ms)
        if is_open and session.sent_updates.get(topic) == book.update_id:
            return
        session.sent_updates[topic] = book.update_id
        since_ms = begin_ms(interval, now_ms) if before is None else before.start_ms
        for candle in reversed(book.tape.candles(interval, since_ms, now_ms, _MOST_CANDLES)):
            is_closed = end_ms(interval, candle.start_ms) < now_ms
            if candle == before and not is_closed:
                continue
            session.sent_candles[topic] = candle
            self._send(session, topic, book.instrument.symbol, "snapshot", [_candle_row(candle, interval, now_ms)])

    def _send_status(self, session: PublicSession, topic: str, rows: list[dict[str, Any]]) -> None:
        if rows:
            envelope = {"topic": topic, "ts": self._now_ms()}
            self._hub.deliver(session, topic, "", "", rows, lambda sent: to_json({**envelope, "data": sent}))

    def _update_book(self, session: PublicSession, topic: str, book: Book, depth: int, first: bool) -> None:
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

    def _is_known(self, category: str, topic: str) -> bool:
        kind, _, rest = topic.partition(".")
        if kind == "orderbook":
            depth, _, symbol = rest.partition(".")
            return depth.isdigit() and int(depth) in _DEPTHS and (category, symbol) in self._books
        if kind == "kline":
            interval, _, symbol = rest.partition(".")
            return interval in INTERVALS and (category, symbol) in self._books
        if category == "status":
            return topic == "system.status"
        return kind in ("publicTrade", "tickers") and (category, rest) in self._books


def _candle_row(candle: Candle, interval: str, now_ms: int) -> dict[str, Any]:
    ends_ms = end_ms(interval, candle.start_ms)
    names = ("open", "close", "high", "low", "volume", "turnover")
    return {
        "start": candle.start_ms,
        "end": ends_ms,
        "interval": interval,
        **{name: wire(getattr(candle, name)) for name in names},
        "confirm": ends_ms < now_ms,
        "timestamp": min(now_ms, ends_ms),
    }
