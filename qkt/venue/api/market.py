"""The market endpoints: public and unsigned.

A category without markets on this venue is answered with an empty list, as clients that load all of them expect.
"""

from __future__ import annotations

from typing import Any

from ..exchange import queries
from ..exchange.book import Book
from ..exchange.candles import HOUR_MS, INTERVALS, Candle
from ..exchange.exchange import Exchange
from ..exchange.linear import reports
from ..exchange.linear.requests import price_band as linear_price_band
from ..exchange.money import wire
from ..exchange.queries import Query
from ..exchange.requests import price_band
from ..exchange.retcodes import parameter_error
from ..exchange.rows import Row

CATEGORIES = ("spot", "linear", "inverse", "option")
_MOST_DEPTH = 1000
_MOST_TRADES = 60
_MOST_CANDLES = 1000


class MarketEndpoints:
    """Answers the market endpoints."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def time(self, _query: Query) -> Row:
        now_ms = self._exchange.now_ms()
        return {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)}

    def instruments(self, query: Query) -> Row:
        category = market_category(query)
        status = query.get("status")
        books = books_of(self._exchange, query, category) if status in (None, "", "Trading") else []
        rows = [book.instrument.row() for book in books]
        if category == "linear":
            return reports.instrument_page(rows, query)
        answer = {"category": category, "list": rows}
        return answer if category == "spot" else {**answer, "nextPageCursor": ""}

    def tickers(self, query: Query) -> Row:
        category = market_category(query)
        return {"category": category, "list": queries.tickers(books_of(self._exchange, query, category))}

    def orderbook(self, query: Query) -> Row:
        book = self._one_book(query)
        return book_snapshot(book, _limit(query, 1, _MOST_DEPTH), self._exchange.now_ms())

    def recent_trades(self, query: Query) -> Row:
        book = self._one_book(query)
        newest_first = list(reversed(book.tape.trades))[: _limit(query, _MOST_TRADES, _MOST_TRADES)]
        rows = [
            {
                "execId": str(trade.number),
                "symbol": book.instrument.symbol,
                "price": wire(trade.price),
                "size": wire(trade.quantity),
                "side": trade.side,
                "time": str(trade.time_ms),
                "isBlockTrade": False,
                "isRPITrade": False,
                "seq": str(trade.seq),
            }
            for trade in newest_first
        ]
        return {"category": book.instrument.category, "list": rows}

    def kline(self, query: Query) -> Row:
        """``GET /v5/market/kline``: candles of the traded prices; linear by default."""
        book = self._one_book({"category": "linear", **query})
        return _candle_answer(book, [candle.row() for candle in self._candles(book, query)])

    def contract_kline(self, query: Query) -> Row:
        """``mark-price-kline`` and ``index-price-kline``: both prices follow the trades, so these are their candles.

        A mark or index price set by a test is not recorded in them.
        """
        book = self._contract_book(query)
        return _candle_answer(book, [candle.row()[:5] for candle in self._candles(book, query)])

    def premium_kline(self, query: Query) -> Row:
        """``premium-index-price-kline``: zero, because the index follows the trades."""
        book = self._contract_book(query)
        return _candle_answer(book, [[str(candle.start_ms), *["0"] * 4] for candle in self._candles(book, query)])

    def open_interest(self, query: Query) -> Row:
        """``GET /v5/market/open-interest``: the present value only; no history is kept."""
        book = self._contract_book(query)
        now_ms = self._exchange.now_ms()
        one_side = book.open_interest
        row = {
            "openInterest": wire(2 * one_side),
            "singleOpenInterest": wire(one_side),
            "timestamp": str(now_ms - now_ms % HOUR_MS),
        }
        return {**_candle_answer(book, [row]), "nextPageCursor": ""}

    def account_ratio(self, query: Query) -> Row:
        """``GET /v5/market/account-ratio``: no rows, no statistics of accounts are kept."""
        self._contract_book(query)
        return {"list": [], "nextPageCursor": ""}

    def _contract_book(self, query: Query) -> Book:
        category = market_category({"category": "linear", **query})
        if category == "spot":
            raise parameter_error("params error: Invalid category")
        return self._one_book({**query, "category": category})

    def _candles(self, book: Book, query: Query) -> list[Candle]:
        interval = str(query.get("interval") or "")
        if interval not in INTERVALS:
            raise parameter_error("params error: interval invalid")
        start_ms, end_ms = _stamp(query, "start", 0), _stamp(query, "end", self._exchange.now_ms())
        until_ms = min(end_ms, self._exchange.now_ms())
        return book.tape.candles(interval, start_ms, until_ms, _limit(query, 200, _MOST_CANDLES))

    def announcements(self, _query: Query) -> Row:
        """``GET /v5/announcements/index``; there are none."""
        return {"total": 0, "list": []}

    def price_limit(self, query: Query) -> Row:
        book = self._one_book(query)
        linear = book.instrument.category == "linear"
        lowest, highest = linear_price_band(book) if linear else price_band(book)
        now_ms = self._exchange.now_ms()
        return {"symbol": book.instrument.symbol, "buyLmt": wire(highest), "sellLmt": wire(lowest), "ts": str(now_ms)}

    def _one_book(self, query: Query) -> Book:
        category = market_category(query)
        if not query.get("symbol"):
            raise parameter_error("params error: symbol is required")
        return books_of(self._exchange, query, category)[0]


def _candle_answer(book: Book, rows: list[Any]) -> Row:
    return {"symbol": book.instrument.symbol, "category": book.instrument.category, "list": rows}


def market_category(query: Query) -> str:
    """The category of a market query, traded here or not.

    Raises:
        Refusal: 10001 when missing or unknown.
    """
    category = query.get("category")
    if not category:
        raise parameter_error("params error: Category is required")
    if category not in CATEGORIES:
        raise parameter_error("params error: Invalid category")
    return str(category)


def is_traded(exchange: Exchange, category: str) -> bool:
    """Whether the venue has a market of a category."""
    return any(kind == category for kind, _ in exchange.books)


def books_of(exchange: Exchange, query: Query, category: str) -> list[Book]:
    """The markets of a query: one, or all of a category.

    Raises:
        Refusal: 10001 for a symbol that is not traded.
    """
    symbol = query.get("symbol")
    if symbol:
        book = exchange.books.get((category, symbol))
        if book is None:
            raise parameter_error("Not supported symbols")
        return [book]
    return [book for (kind, _), book in exchange.books.items() if kind == category]


def book_snapshot(book: Book, depth: int, now_ms: int) -> Row:
    """One market's book as ``market/orderbook`` and the public stream show it."""
    return {
        "s": book.instrument.symbol,
        "b": [[wire(price), wire(quantity)] for price, quantity in book.levels("Buy", depth)],
        "a": [[wire(price), wire(quantity)] for price, quantity in book.levels("Sell", depth)],
        "ts": now_ms,
        "u": book.update_id,
        "seq": book.update_id + 1_432_604_333,
        "cts": now_ms,
    }


def _limit(query: Query, default: int, most: int) -> int:
    text = str(query.get("limit") or default)
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) >= 1):
        raise parameter_error("params error: limit must be at least 1")
    return min(int(text), most)


def _stamp(query: Query, name: str, default: int) -> int:
    text = str(query.get(name) or default)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise parameter_error(f"params error: {name} invalid")
    return int(text)
