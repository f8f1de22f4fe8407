"""The market endpoints: public, unsigned, the same for everybody."""

from __future__ import annotations

from ..exchange import queries
from ..exchange.book import Book
from ..exchange.exchange import Exchange
from ..exchange.money import wire
from ..exchange.queries import Query
from ..exchange.requests import category_of, price_band
from ..exchange.retcodes import parameter_error
from ..exchange.rows import Row
from ..exchange.tape import INTERVALS

_MOST_DEPTH = 200
_MOST_TRADES = 60
_MOST_CANDLES = 1000


class MarketEndpoints:
    """What anyone may ask about the markets."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def time(self, _query: Query) -> Row:
        now_ms = self._exchange.now_ms()
        return {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)}

    def instruments(self, query: Query) -> Row:
        category = category_of(query)
        status = query.get("status")
        books = books_of(self._exchange, query, category) if status in (None, "", "Trading") else []
        return {"category": category, "list": [book.instrument.row() for book in books]}

    def tickers(self, query: Query) -> Row:
        category = category_of(query)
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
        book = self._one_book(query)
        minutes = INTERVALS.get(str(query.get("interval") or ""))
        if minutes is None:
            raise parameter_error("params error: interval invalid")
        start_ms, end_ms = _stamp(query, "start", 0), _stamp(query, "end", self._exchange.now_ms())
        until_ms = min(end_ms, self._exchange.now_ms())
        candles = book.tape.candles(minutes, start_ms, until_ms, _limit(query, 200, _MOST_CANDLES))
        symbol, category = book.instrument.symbol, book.instrument.category
        return {"symbol": symbol, "category": category, "list": [candle.row() for candle in candles]}

    def price_limit(self, query: Query) -> Row:
        book = self._one_book(query)
        lowest, highest = price_band(book)
        now_ms = self._exchange.now_ms()
        return {"symbol": book.instrument.symbol, "buyLmt": wire(highest), "sellLmt": wire(lowest), "ts": str(now_ms)}

    def _one_book(self, query: Query) -> Book:
        category = category_of(query)
        if not query.get("symbol"):
            raise parameter_error("params error: symbol is required")
        return books_of(self._exchange, query, category)[0]


def books_of(exchange: Exchange, query: Query, category: str) -> list[Book]:
    """The markets a query names: one, or all of a category.

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
    if not (text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= most):
        raise parameter_error(f"params error: limit must be between 1 and {most}")
    return int(text)


def _stamp(query: Query, name: str, default: int) -> int:
    text = str(query.get(name) or default)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise parameter_error(f"params error: {name} invalid")
    return int(text)
