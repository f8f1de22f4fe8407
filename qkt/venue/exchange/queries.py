"""What clients may read, and for how long.

Filters, order, page limits, cursors and retention of ``order/realtime``, ``order/history`` and ``execution/list`` as
documented, including what the docs say only in passing: not found is an empty list; ``openOnly`` is ignored when an id
is given; an id makes ``execution/list`` ignore every other filter; a cursor comes back with the last page too.
A `View` is how reality is bent: rows as of an earlier moment, rows not indexed yet, pages cut by position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from operator import attrgetter
from typing import Any, TypeVar
from urllib.parse import quote, unquote

from .book import Book
from .money import wire
from .orders import ALL_STATUSES, CLOSED_STATUSES, Execution, Order
from .requests import category_of, order_filter_of
from .retcodes import Refusal, parameter_error
from .rows import Row, execution_row, order_row, padded
from .wallets import Account

Query = Mapping[str, str]
T = TypeVar("T")
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
_CLOCK_SLACK_MS = 3_600_000
_SHORT_LIVED = frozenset({"Cancelled", "Rejected", "Deactivated"})


@dataclass(frozen=True, slots=True)
class View:
    """How late and how shakily a reader sees the venue; the default is the plain truth."""

    lag_ms: int = 0
    """Rows are as they were this long ago; younger rows do not exist yet."""
    hides_conditionals: bool = False
    """Conditional orders are missing from a listing that does not ask for their kind."""
    purged_before_ms: int = 0
    """Rows older than this are gone."""
    page_by_position: bool = False
    """Cursors count rows instead of naming the last one, so rows shift between pages when orders come or go."""


PLAIN = View()


def realtime(account: Account, query: Query, now_ms: int, view: View = PLAIN) -> Row:
    """``GET /v5/order/realtime``: open orders, or the recently closed ones still in the cache."""
    category = category_of(query)
    _refuse_settle_coin(query)
    limit = _limit(query, 20, 50)
    order_filter = order_filter_of(query, None)
    cached = account.closed_cache.get(category, ())
    order_id, link_id = query.get("orderId"), query.get("orderLinkId")
    if order_id or link_id:
        found = account.find(category, order_id, link_id)
        candidates = [found] if found is not None and (found.is_open or found in cached) else []
    elif _integer(query, "openOnly") == 1:
        candidates = list(cached)
    else:
        candidates = list(account.open_orders.values())
        if view.lag_ms:
            candidates += list(cached)  # what closed just now is still open in a stale view
    rows = _seen(candidates, now_ms, view)
    if not (order_id or link_id):
        only_closed = _integer(query, "openOnly") == 1
        rows = [order for order in rows if order.is_open != only_closed]
        rows = [order for order in rows if _matches(order, query, order_filter)]
        if view.hides_conditionals and order_filter is None:
            rows = [order for order in rows if not order.is_conditional]
    rows.sort(key=_newest_first)
    return _page(category, rows, limit, query, view)


def history(account: Account, query: Query, now_ms: int, view: View = PLAIN) -> Row:
    """``GET /v5/order/history``: final orders, the fill-less ones for a day only, the others for two years."""
    category = category_of(query)
    _refuse_settle_coin(query)
    limit = _limit(query, 20, 50)
    order_filter = order_filter_of(query, None)
    status = query.get("orderStatus")
    if status and status not in ALL_STATUSES:
        raise Refusal(181005, text="orderStatus is wrong")
    if status and status not in CLOSED_STATUSES:
        raise Refusal(181017)
    order_id, link_id = query.get("orderId"), query.get("orderLinkId")
    start_ms, end_ms = _window(query, now_ms)
    if order_id or link_id:
        found = account.find(category, order_id, link_id)
        candidates = [found] if found is not None else []
        if not (query.get("startTime") or query.get("endTime")):
            start_ms = 0
    else:
        candidates = _since(reversed(account.orders.values()), start_ms, attrgetter("created_ms"))
    rows = [
        order
        for order in _seen(candidates, now_ms, view)
        if order.status in CLOSED_STATUSES
        and start_ms <= order.created_ms <= end_ms
        and not _aged_out(order, now_ms)
        and order.created_ms >= view.purged_before_ms
        and (not status or order.status == status)
        and (order_id or link_id or _matches(order, query, order_filter))
    ]
    rows.sort(key=_newest_first)
    return _page(category, rows, limit, query, view)


def executions(account: Account, query: Query, now_ms: int, view: View = PLAIN) -> Row:
    """``GET /v5/execution/list``: fills, newest first, at most seven days per question."""
    category = category_of(query)
    _refuse_settle_coin(query)
    limit = _limit(query, 50, 100)
    start_ms, end_ms = _window(query, now_ms)
    order_id, link_id = query.get("orderId"), query.get("orderLinkId")
    visible_until = now_ms - view.lag_ms
    if order_id or link_id:
        found = account.find(category, order_id, link_id)
        rows = list(account.executions_of.get(found.order_id, ())) if found is not None else []
    else:
        rows = _since(reversed(account.executions), start_ms, attrgetter("time_ms"))
        symbol, base, kind = query.get("symbol"), query.get("baseCoin"), query.get("execType")
        rows = [
            fill
            for fill in rows
            if fill.instrument.category == category
            and start_ms <= fill.time_ms <= end_ms
            and (not symbol or fill.instrument.symbol == symbol)
            and (bool(symbol) or not base or fill.instrument.base == base)
            and (not kind or kind == "Trade")
        ]
    rows = [fill for fill in rows if fill.time_ms <= visible_until or not view.lag_ms]
    rows = [fill for fill in rows if fill.time_ms >= view.purged_before_ms]
    rows.sort(key=_latest_execution_first)
    start = _start_of_page(query, [fill.exec_id for fill in rows], view)
    page = rows[start : start + limit]
    last = f"{start + len(page)}:{page[-1].exec_id}" if page else ""
    return {
        "nextPageCursor": quote(f"{last},{last}", safe="") if page else "",
        "category": category,
        "list": [execution_row(fill, stream=False) for fill in page],
    }


def _since(newest_first: Iterator[T], start_ms: int, time_ms_of: Callable[[T], int]) -> list[T]:
    """Rows back to a time, and an hour beyond it, because a venue's clock may have jumped."""
    return list(takewhile(lambda row: time_ms_of(row) >= start_ms - _CLOCK_SLACK_MS, newest_first))


def _latest_execution_first(fill: Execution) -> tuple[int, int]:
    # Rows of one millisecond come back in no helpful order (docs v5/order/execution): here, shuffled by a hash.
    return (-fill.time_ms, fill.number * 2654435761 % 4294967296)


def _newest_first(order: Order) -> tuple[int, int]:
    return (-order.created_ms, -int(order.order_id))


def _seen(orders: list[Order], now_ms: int, view: View) -> list[Order]:
    if not view.lag_ms:
        return orders
    past = (order.as_of(now_ms - view.lag_ms) for order in orders)
    return [order for order in past if order is not None]


def _aged_out(order: Order, now_ms: int) -> bool:
    age_ms = now_ms - order.updated_ms
    if age_ms <= DAY_MS:
        return False
    if order.cum_quantity == 0 and (order.status in _SHORT_LIVED or age_ms > WEEK_MS):
        return True
    return age_ms > 730 * DAY_MS


def _matches(order: Order, query: Query, order_filter: str | None) -> bool:
    symbol, base = query.get("symbol"), query.get("baseCoin")
    if symbol:
        if order.instrument.symbol != symbol:
            return False
    elif base and order.instrument.base != base:
        return False
    return order_filter is None or order_filter == order.order_filter


def _refuse_settle_coin(query: Query) -> None:
    if query.get("settleCoin") and query.get("category") == "spot":
        raise parameter_error("params error: settleCoin is not supported for spot")


def _integer(query: Query, name: str) -> int | None:
    value = query.get(name)
    if value in (None, ""):
        return None
    try:
        return int(str(value))
    except ValueError:
        raise parameter_error(f"params error: {name} invalid") from None


def _limit(query: Query, default: int, most: int) -> int:
    value = _integer(query, "limit")
    if value is None:
        return default
    if not 1 <= value <= most:
        raise parameter_error(f"params error: limit must be between 1 and {most}")
    return value


def _window(query: Query, now_ms: int) -> tuple[int, int]:
    start_ms, end_ms = _integer(query, "startTime"), _integer(query, "endTime")
    if start_ms is None and end_ms is None:
        return now_ms - WEEK_MS, now_ms + DAY_MS
    if start_ms is None:
        assert end_ms is not None
        return end_ms - WEEK_MS, end_ms
    if end_ms is None:
        return start_ms, start_ms + WEEK_MS
    if start_ms > end_ms:
        raise parameter_error("params error: startTime cannot be greater than endTime")
    if end_ms - start_ms > WEEK_MS:
        raise parameter_error("The time range between startTime and endTime cannot exceed 7 days.")
    return start_ms, end_ms


def _page(category: str, rows: list[Order], limit: int, query: Query, view: View) -> Row:
    start = _start_of_page(query, [order.order_id for order in rows], view)
    page = rows[start : start + limit]
    cursor = quote(f"page_token={start + len(page)}:{page[-1].order_id}&", safe="") if page else ""
    return {
        "list": [order_row(order, stream=False) for order in page],
        "nextPageCursor": cursor,
        "category": category,
    }


def _start_of_page(query: Query, ids: list[str], view: View) -> int:
    """Where the next page begins: after the row the cursor names, wherever that row is by now."""
    cursor = query.get("cursor")
    if not cursor:
        return 0
    text = unquote(unquote(cursor)).removeprefix("page_token=").rstrip("&").split(",")[0]
    position, _, last_id = text.partition(":")
    if not position.isdigit() or not last_id.isdigit():
        raise parameter_error("params error: cursor invalid")
    if not view.page_by_position and last_id in ids:
        return ids.index(last_id) + 1
    return int(position)


def tickers(books: list[Book]) -> list[Row]:
    """Spot ticker rows (docs v5/market/tickers)."""
    return [
        {
            "symbol": book.instrument.symbol,
            "bid1Price": padded(book.best_bid(), book.instrument.tick),
            "bid1Size": wire(book.instrument.depth_quantity),
            "ask1Price": padded(book.best_ask(), book.instrument.tick),
            "ask1Size": wire(book.instrument.depth_quantity),
            "lastPrice": padded(book.last_price, book.instrument.tick),
            "prevPrice24h": padded(book.opening_price, book.instrument.tick),
            "price24hPcnt": wire(round((book.last_price - book.opening_price) / book.opening_price, 4)),
            "highPrice24h": padded(book.high, book.instrument.tick),
            "lowPrice24h": padded(book.low, book.instrument.tick),
            "turnover24h": wire(book.turnover),
            "volume24h": wire(book.volume),
            "usdIndexPrice": wire(book.last_price) if book.instrument.quote in ("USDT", "USDC") else "",
        }
        for book in books
    ]


def parse_query(raw: str) -> dict[str, Any]:
    """A query string as parameters; a ``+`` stays a plus, as signed requests need it."""
    parameters: dict[str, Any] = {}
    for part in raw.split("&"):
        if part:
            name, _, value = part.partition("=")
            parameters[unquote(name) if "%" in name else name] = unquote(value) if "%" in value else value
    return parameters
