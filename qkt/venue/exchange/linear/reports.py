"""What clients read about contracts beside orders: instruments, positions, closed profit, transactions, funding.

Page sizes, windows and required parameters as documented (docs v5/position/position, v5/position/close-pnl,
v5/account/transaction-log, v5/market/history-fund-rate, v5/market/risk-limit).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote, unquote

from ..accounts import Account
from ..money import wire
from ..paging import Cursor
from ..retcodes import Refusal, parameter_error
from ..transactions import Transaction
from .closed import ClosedPnl
from .contracts import Contract
from .funding import FundingRate
from .margin import Margin
from .rows import Row, closed_row, position_row, transaction_row

Query = Mapping[str, str]
DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS


def instrument_page(rows: list[Row], query: Query) -> Row:
    """One page of ``market/instruments-info``: 500 contracts unless told otherwise, sorted by symbol."""
    limit = limit_of(query, 500, 1000)
    rows = sorted(rows, key=lambda row: str(row["symbol"]))
    base = query.get("baseCoin")
    rows = [row for row in rows if not base or row["baseCoin"] == base]
    page, cursor = _by_name(rows, query, limit, lambda row: str(row["symbol"]))
    return {"category": "linear", "list": page, "nextPageCursor": cursor}


def positions(account: Account, query: Query, contracts: list[Contract], margin: Margin) -> Row:
    """``GET /v5/position/list``: a symbol's positions even when flat, or what is open in a settle coin.

    Raises:
        Refusal: 10001 without symbol and settle coin, or for an unknown symbol.
    """
    limit = limit_of(query, 20, 200)
    symbol, settle = query.get("symbol"), query.get("settleCoin")
    if not (symbol or settle):
        raise parameter_error("params error: symbol or settleCoin is required")
    if symbol:
        contract = next((one for one in contracts if one.symbol == symbol), None)
        if contract is None:
            raise parameter_error(f"params error: symbol invalid {symbol}")
        found = [account.position(contract, index) for index in ((1, 2) if account.is_hedged(contract) else (0,))]
    else:
        found = [position for position in account.positions.values() if position.size]
        found = [position for position in found if position.contract.settle == settle]
    rows = [position_row(account, position, margin, stream=False) for position in sorted(found, key=lambda p: p.key)]
    page, cursor = _by_name(rows, query, limit, lambda row: f"{row['symbol']},{row['positionIdx']}")
    return {"category": "linear", "list": page, "nextPageCursor": cursor}


def closed_pnl(account: Account, query: Query, now_ms: int) -> Row:
    """``GET /v5/position/closed-pnl``: newest first, seven days at most per question."""
    symbol = query.get("symbol")
    start_ms, end_ms = _window(query, now_ms, WEEK_MS)

    def keep(record: ClosedPnl) -> Row | None:
        return None if symbol and record.contract.symbol != symbol else closed_row(record)

    rows, cursor = account.closed_timeline.page(
        keep,
        limit=limit_of(query, 50, 100),
        cursor=Cursor.parse(query.get("cursor")),
        start_ms=start_ms,
        end_ms=end_ms,
    )
    return {"category": "linear", "list": rows, "nextPageCursor": _token(cursor)}


def transaction_log(account: Account, query: Query, now_ms: int) -> Row:
    """``GET /v5/account/transaction-log``: newest first; a day unless both bounds are given."""
    kind = query.get("accountType")
    if kind not in (None, "", "UNIFIED"):
        raise parameter_error("accountType only support UNIFIED.")
    start_ms, end_ms = _window(query, now_ms, DAY_MS)
    filters = {
        "category": query.get("category"),
        "currency": query.get("currency"),
        "base": query.get("baseCoin"),
        "kind": query.get("type"),
    }

    def keep(transaction: Transaction) -> Row | None:
        if any(value and getattr(transaction, name) != value for name, value in filters.items()):
            return None
        return transaction_row(account, transaction)

    rows, cursor = account.transactions.page(
        keep,
        limit=limit_of(query, 20, 50),
        cursor=Cursor.parse(query.get("cursor")),
        start_ms=start_ms,
        end_ms=end_ms,
    )
    return {"list": rows, "nextPageCursor": _token(cursor)}


def funding_history(contract: Contract, rates: list[FundingRate], query: Query) -> Row:
    """``GET /v5/market/funding/history``: newest first."""
    start_ms, end_ms = integer_of(query, "startTime"), integer_of(query, "endTime")
    if start_ms is not None and end_ms is None:
        raise parameter_error("params error: endTime is required with startTime")
    rows = [
        {"symbol": contract.symbol, "fundingRate": wire(rate.rate), "fundingRateTimestamp": str(rate.time_ms)}
        for rate in reversed(rates)
        if (start_ms or 0) <= rate.time_ms and (end_ms is None or rate.time_ms <= end_ms)
    ]
    return {"category": "linear", "list": rows[: limit_of(query, 200, 200)]}


def risk_limits(contracts: list[Contract]) -> Row:
    """``GET /v5/market/risk-limit``."""
    rows = [
        {
            "id": tier.number,
            "symbol": contract.symbol,
            "riskLimitValue": wire(tier.limit_value),
            "maintenanceMargin": wire(tier.maintenance_rate),
            "initialMargin": wire(round(1 / tier.max_leverage, 6)),
            "isLowestRisk": 1 if tier.number == 1 else 0,
            "maxLeverage": format(tier.max_leverage, ".2f"),
            "mmDeduction": "",
        }
        for contract in contracts
        for tier in contract.tiers
    ]
    return {"category": "linear", "list": rows, "nextPageCursor": ""}


def limit_of(query: Query, default: int, most: int) -> int:
    """The page size; more than the maximum is taken as the maximum."""
    value = integer_of(query, "limit")
    if value is None:
        return default
    if value < 1:
        raise parameter_error("params error: limit invalid")
    return min(value, most)


def integer_of(query: Query, name: str) -> int | None:
    value = query.get(name)
    if value in (None, ""):
        return None
    text = str(value)
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise parameter_error(f"params error: {name} invalid")
    return int(text)


def _window(query: Query, now_ms: int, span_ms: int) -> tuple[int, int]:
    """The span asked for: a missing bound is ``span_ms`` from the other, two are at most seven days apart."""
    start_ms, end_ms = integer_of(query, "startTime"), integer_of(query, "endTime")
    if start_ms is None and end_ms is None:
        return now_ms - span_ms, now_ms + DAY_MS
    if start_ms is None:
        assert end_ms is not None
        return end_ms - span_ms, end_ms
    if end_ms is None:
        return start_ms, start_ms + span_ms
    if start_ms > end_ms:
        raise parameter_error("params error: startTime cannot be greater than endTime")
    if end_ms - start_ms > WEEK_MS:
        raise Refusal(10001, text="The time range between startTime and endTime cannot exceed 7 days.")
    return start_ms, end_ms


def _token(cursor: Cursor | None) -> str:
    return quote(f"{cursor},{cursor}", safe="") if cursor is not None else ""


def _by_name(rows: list[Row], query: Query, limit: int, name_of: Callable[[Row], str]) -> tuple[list[Row], str]:
    """A page of rows sorted by name; the cursor names the last row of the page before."""
    after = unquote(unquote(str(query.get("cursor") or "")))
    left = [row for row in rows if name_of(row) > after]
    page = left[:limit]
    return page, quote(name_of(page[-1]), safe="") if len(left) > len(page) else ""
