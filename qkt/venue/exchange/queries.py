"""The queries of clients: ``order/realtime``, ``order/history`` and ``execution/list``.

Filters, sorting, page limits, cursors and retention are as documented. An order that is not found is an empty list;
``openOnly`` is ignored beside an id; ``execution/list`` ignores every other filter beside an id; the last page has a
cursor too. A `View` alters a query for a fault: rows as of an earlier time, rows not indexed yet, pages by position.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from .accounts import ALL_STATUSES, CLOSED_STATUSES, Account, Order
from .book import Book
from .executions import Execution
from .instruments import Instrument
from .linear.contracts import HOUR_MS, Contract
from .money import wire
from .paging import Cursor, Timeline
from .requests import category_of, order_filter_of
from .retcodes import Refusal, parameter_error
from .rows import Row, execution_row, order_row, padded

Query = Mapping[str, str]
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
_SHORT_LIVED = frozenset({"Cancelled", "Rejected", "Deactivated"})


@dataclass(frozen=True, slots=True)
class View:
    """How a query deviates from the true state; by default it does not."""

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
    _check_scope(query, category, required=not (query.get("orderId") or query.get("orderLinkId")))
    limit = page_limit(query, 20, 50)
    order_filter = order_filter_of(query, None)
    cached = account.closed_cache.get(category, ())
    order_id, link_id = query.get("orderId"), query.get("orderLinkId")
    if order_id or link_id:
        found = account.find(category, order_id, link_id)
        candidates = [found] if found is not None and (found.is_open or found in cached) else []
    elif integer(query, "openOnly") == 1:
        candidates = list(cached)
    else:
        candidates = list(account.open_orders.values())
        if view.lag_ms:
            candidates += list(cached)  # an order closed within the lag is still open in a stale view
    only_closed = integer(query, "openOnly") == 1
    hides = view.hides_conditionals and order_filter is None

    def keep(order: Order) -> Row | None:
        seen = _seen(order, now_ms, view)
        if seen is None:
            return None
        if not (order_id or link_id) and (
            seen.is_open == only_closed or not _matches(seen, query, order_filter) or (hides and seen.is_conditional)
        ):
            return None
        return order_row(seen, stream=False)

    timeline = Timeline((order.created_ms, order.number, order) for order in candidates)
    return _orders(category, timeline, keep, limit, query, view)


def history(account: Account, query: Query, now_ms: int, view: View = PLAIN) -> Row:
    """``GET /v5/order/history``: final orders, the fill-less ones for a day only, the others for two years."""
    category = category_of(query)
    _check_scope(query, category)
    limit = page_limit(query, 20, 50)
    order_filter = order_filter_of(query, None)
    status = query.get("orderStatus")
    if status and status not in ALL_STATUSES:
        raise Refusal(181005, text="orderStatus is wrong")
    if status and status not in CLOSED_STATUSES:
        raise Refusal(181017)
    order_id, link_id = query.get("orderId"), query.get("orderLinkId")
    start_ms, end_ms = window(query, now_ms)
    timeline = account.order_timeline
    if order_id or link_id:
        found = account.find(category, order_id, link_id)
        timeline = Timeline([(found.created_ms, 0, found)] if found is not None else [])
        if not (query.get("startTime") or query.get("endTime")):
            start_ms = 0

    def keep(order: Order) -> Row | None:
        seen = _seen(order, now_ms, view)
        if (
            seen is None
            or seen.status not in CLOSED_STATUSES
            or _aged_out(seen, now_ms)
            or seen.created_ms < view.purged_before_ms
            or (status and seen.status != status)
            or not (order_id or link_id or _matches(seen, query, order_filter))
        ):
            return None
        return order_row(seen, stream=False)

    return _orders(category, timeline, keep, limit, query, view, start_ms, end_ms)


def executions(account: Account, query: Query, now_ms: int, view: View = PLAIN) -> Row:
    """``GET /v5/execution/list``: fills, newest first, at most seven days per question."""
    category = category_of(query)
    _check_scope(query, category)
    limit = page_limit(query, 50, 100)
    start_ms, end_ms = window(query, now_ms)
    order_id, link_id = query.get("orderId"), query.get("orderLinkId")
    symbol, base, kind = query.get("symbol"), query.get("baseCoin"), query.get("execType")
    visible_until_ms = now_ms - view.lag_ms if view.lag_ms else None
    timeline = account.execution_timeline
    by_order = bool(order_id or link_id)
    if by_order:
        found = account.find(category, order_id, link_id)
        timeline = account.executions_of.get(found.order_id, Timeline()) if found is not None else Timeline()
        start_ms, end_ms = 0, now_ms + DAY_MS

    def keep(fill: Execution) -> Row | None:
        if (visible_until_ms is not None and fill.time_ms > visible_until_ms) or fill.time_ms < view.purged_before_ms:
            return None
        if not by_order and (
            fill.instrument.category != category
            or (symbol and fill.instrument.symbol != symbol)
            or (base and not symbol and fill.instrument.base != base)
            or not (symbol or base or _settles_in(fill.instrument, query.get("settleCoin")))
            or (kind and kind != fill.exec_type)
        ):
            return None
        return execution_row(fill, stream=False)

    rows, cursor = timeline.page(
        keep,
        limit=limit,
        cursor=Cursor.parse(query.get("cursor")),
        start_ms=start_ms,
        end_ms=end_ms,
        by_position=view.page_by_position,
    )
    token = quote(f"{cursor},{cursor}", safe="") if cursor is not None else ""
    return {"nextPageCursor": token, "category": category, "list": rows}


def _seen(order: Order, now_ms: int, view: View) -> Order | None:
    return order.as_of(now_ms - view.lag_ms) if view.lag_ms else order


def _aged_out(order: Order, now_ms: int) -> bool:
    age_ms = now_ms - order.updated_ms
    if age_ms <= DAY_MS:
        return False
    if order.cum_quantity == 0 and (order.status in _SHORT_LIVED or age_ms > WEEK_MS):
        return True
    return age_ms > 730 * DAY_MS


def _matches(order: Order, query: Query, order_filter: str | None) -> bool:
    symbol, base = query.get("symbol"), query.get("baseCoin")
    if order.instrument.category != query.get("category"):
        return False
    if symbol:
        if order.instrument.symbol != symbol:
            return False
    elif base:
        if order.instrument.base != base:
            return False
    elif order.is_linear and query.get("settleCoin") and order.contract.settle != query["settleCoin"]:
        return False
    return order_filter is None or order_filter == order.order_filter


def _settles_in(instrument: Instrument, coin: str | None) -> bool:
    return not coin or (isinstance(instrument, Contract) and instrument.settle == coin)


def _check_scope(query: Query, category: str, *, required: bool = False) -> None:
    """Spot knows no settle coin; a listing of contracts needs one of symbol, base coin and settle coin."""
    if category == "spot" and query.get("settleCoin"):
        raise parameter_error("params error: settleCoin is not supported for spot")
    if category == "linear" and required and not any(query.get(name) for name in ("symbol", "baseCoin", "settleCoin")):
        raise parameter_error("params error: symbol, baseCoin or settleCoin is required")


def integer(query: Query, name: str) -> int | None:
    value = query.get(name)
    if value in (None, ""):
        return None
    try:
        return int(str(value))
    except ValueError:
        raise parameter_error(f"params error: {name} invalid") from None


def page_limit(query: Query, default: int, most: int) -> int:
    value = integer(query, "limit")
    if value is None:
        return default
    if value < 1:
        raise parameter_error("params error: limit must be at least 1")
    return min(value, most)


def window(query: Query, now_ms: int) -> tuple[int, int]:
    start_ms, end_ms = integer(query, "startTime"), integer(query, "endTime")
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


def _orders(
    category: str,
    timeline: Timeline[Order],
    keep: Callable[[Order], Row | None],
    limit: int,
    query: Query,
    view: View,
    start_ms: int = 0,
    end_ms: int | None = None,
) -> Row:
    rows, cursor = timeline.page(
        keep,
        limit=limit,
        cursor=Cursor.parse(query.get("cursor")),
        start_ms=start_ms,
        end_ms=end_ms,
        by_position=view.page_by_position,
    )
    token = quote(f"page_token={cursor}&", safe="") if cursor is not None else ""
    return {"list": rows, "nextPageCursor": token, "category": category}


def tickers(books: list[Book]) -> list[Row]:
    """Ticker rows; contracts have funding and mark price in addition (docs v5/market/tickers)."""
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
            **_category_fields(book),
        }
        for book in books
    ]


def _category_fields(book: Book) -> Row:
    instrument = book.instrument
    if not isinstance(instrument, Contract):
        return {"usdIndexPrice": wire(book.last_price) if instrument.quote in ("USDT", "USDC") else ""}
    return {
        "indexPrice": padded(book.index_price, instrument.tick),
        "markPrice": padded(book.mark_price, instrument.tick),
        "prevPrice1h": padded(book.opening_price, instrument.tick),
        "openInterest": wire(book.open_interest),
        "openInterestValue": wire(book.open_interest * book.mark_price),
        "fundingRate": wire(book.funding_rate),
        "nextFundingTime": str(book.next_funding_ms),
        "fundingIntervalHour": str(instrument.funding_interval_ms // HOUR_MS),
        "fundingCap": wire(instrument.max_funding_rate),
        "predictedDeliveryPrice": "",
        "basisRate": "",
        "deliveryFeeRate": "",
        "deliveryTime": "0",
        "basis": "",
        "basisRateYear": "",
        "preOpenPrice": "",
        "preQty": "",
        "curPreListingPhase": "",
    }


def parse_query(raw: str) -> dict[str, Any]:
    """The parameters of a query string; a ``+`` is not decoded to a space, because the string is signed."""
    parameters: dict[str, Any] = {}
    for part in raw.split("&"):
        if part:
            name, _, value = part.partition("=")
            parameters[unquote(name) if "%" in name else name] = unquote(value) if "%" in value else value
    return parameters
