"""The private reading endpoints: orders, executions, wallet, account.

Answers are true unless a read fault alters them: stale rows, missing rows, shifted pages, an expired cursor. The faults
change rows here, so a client sees answers that are well-formed and wrong. A category without markets on this venue has
empty lists.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote, unquote

from ..exchange import queries
from ..exchange.accounts import Account
from ..exchange.exchange import Exchange
from ..exchange.money import wire
from ..exchange.queries import Query, View
from ..exchange.requests import category_of
from ..exchange.retcodes import Refusal, parameter_error
from ..exchange.rows import Row, wallet_row
from ..faults import Fault, Faults
from .market import MarketEndpoints, books_of, is_traded, market_category

_REALTIME, _HISTORY, _EXECUTIONS = "/v5/order/realtime", "/v5/order/history", "/v5/execution/list"
_WALLET = "/v5/account/wallet-balance"
_ALTERED_BY = {
    _REALTIME: {"lag": "stale_realtime", "hide": "hidden_conditionals"},
    _HISTORY: {"lag": "history_lag", "purge": "expired_history"},
    _EXECUTIONS: {"lag": "execution_lag", "purge": "expired_history"},
}
"""Path -> which fault alters its list, by kind of alteration."""


class ReadEndpoints:
    """Answers the private endpoints that change nothing."""

    def __init__(self, exchange: Exchange, faults: Faults) -> None:
        self._exchange = exchange
        self._faults = faults

    def realtime(self, account: Account, query: Query) -> Row:
        if self._struck(_REALTIME, account, query, "cache_wiped"):
            self._exchange.restart()
        return self._list(_REALTIME, queries.realtime, account, query)

    def history(self, account: Account, query: Query) -> Row:
        return self._list(_HISTORY, queries.history, account, query)

    def executions(self, account: Account, query: Query) -> Row:
        return self._list(_EXECUTIONS, queries.executions, account, query)

    def wallet(self, account: Account, query: Query) -> Row:
        """The whole wallet, or the coins asked for; a coin worth nothing is left out unless named."""
        kind = query.get("accountType")
        if not kind:
            raise parameter_error("params error: accountType is required")
        if kind != "UNIFIED":
            raise parameter_error("accountType only support UNIFIED.")
        named = [coin for coin in str(query.get("coin") or "").split(",") if coin]
        coins = named or [coin for coin, balance in account.wallet.items() if balance.total or balance.locked]
        answer: Row = {"list": [wallet_row(account, coins, self._exchange.engine.margin)]}
        for fault in self._struck(_WALLET, account, query, "stale_wallet"):
            fault.memory = fault.memory or answer
            return dict(fault.memory)
        return self.altered(_WALLET, account, query, answer)

    def fee_rate(self, account: Account, query: Query) -> Row:
        """``GET /v5/account/fee-rate``; without a category, as in the example of the docs, it is linear."""
        category = market_category({"category": "linear", **query})
        linear = category == "linear"
        taker = account.linear_taker_rate if linear else account.taker_fee_rate
        maker = account.linear_maker_rate if linear else account.maker_fee_rate
        rates = {"takerFeeRate": wire(taker), "makerFeeRate": wire(maker)}
        books = books_of(self._exchange, query, category)
        return {"category": category, "list": [{"symbol": book.instrument.symbol, **rates} for book in books]}

    def account_info(self, account: Account, _query: Query) -> Row:
        return {
            "unifiedMarginStatus": 5,
            "marginMode": account.margin_mode,
            "isMasterTrader": False,
            "spotHedgingStatus": "OFF",
            "updatedTime": str(self._exchange.now_ms() - queries.DAY_MS),
            "dcpStatus": "OFF",
            "timeWindow": 10,
            "smpGroup": 0,
        }

    def query_api(self, account: Account, _query: Query) -> Row:
        return {
            "id": str(account.uid),
            "note": "simulated",
            "apiKey": account.key,
            "readOnly": int(account.read_only),
            "secret": "",
            "permissions": {
                "ContractTrade": ["Order", "Position"],
                "Spot": ["SpotTrade"],
                "Wallet": ["AccountTransfer"],
                "Options": [],
                "Derivatives": ["DerivativesTrade"],
                "Exchange": ["ExchangeHistory"],
            },
            "ips": ["*"],
            "type": 1,
            "deadlineDay": 90,
            "expiredAt": "2036-01-01T00:00:00Z",
            "createdAt": "2026-01-01T00:00:00Z",
            "unified": 0,
            "uta": 1,
            "userID": account.uid,
            "inviterID": 0,
            "vipLevel": "No VIP",
            "mktMakerLevel": "0",
            "affiliateID": 0,
            "rsaPublicKey": "",
            "isMaster": True,
            "parentUid": "0",
            "kycLevel": "LEVEL_1",
            "kycRegion": "",
        }

    def spot_borrow_check(self, account: Account, query: Query) -> Row:
        """``GET /v5/order/spot-borrow-check``: the amounts without borrowing, which the venue does not offer."""
        category = category_of(query)
        side = query.get("side")
        if side not in ("Buy", "Sell"):
            raise Refusal(170117)
        books = books_of(self._exchange, query, category)
        if not query.get("symbol"):
            raise Refusal(170105, "symbol")
        book = books[0]
        instrument = book.instrument
        if side == "Buy":
            amount = account.available(instrument.quote)
            quantity = amount / book.best_ask()
        else:
            quantity = account.available(instrument.base)
            amount = quantity * book.best_bid()
        shown = {"q": wire(round(quantity, 4)), "a": wire(round(amount, 8))}
        return {
            "symbol": instrument.symbol,
            "side": side,
            "maxTradeQty": shown["q"],
            "maxTradeAmount": shown["a"],
            "spotMaxTradeQty": shown["q"],
            "spotMaxTradeAmount": shown["a"],
            "borrowCoin": instrument.quote if side == "Buy" else instrument.base,
        }

    def account_instruments(self, _account: Account, query: Query) -> Row:
        return MarketEndpoints(self._exchange).instruments(query)

    def _list(self, path: str, read: Callable[[Account, Query, int, View], Row], account: Account, query: Query) -> Row:
        if not query.get("symbol") and not is_traded(self._exchange, market_category(query)):
            return {"category": query["category"], "list": [], "nextPageCursor": ""}
        view = self._view(path, account, query)
        return self.altered(path, account, query, read(account, query, self._exchange.now_ms(), view))

    def _struck(self, path: str, account: Account, query: Query, *names: str) -> list[Fault]:
        if not names or not self._faults.armed("read"):
            return []
        symbol = str(query.get("symbol") or "")
        return self._faults.take("read", names, path=path, symbol=symbol, account=account.key)

    def _view(self, path: str, account: Account, query: Query) -> View:
        if not self._faults.armed("read"):
            return queries.PLAIN
        if query.get("cursor") and self._struck(path, account, query, "cursor_expired"):
            raise parameter_error("params error: cursor invalid")
        alterations = _ALTERED_BY[path]

        def struck(kind: str) -> list[Fault]:
            return self._struck(path, account, query, alterations[kind]) if kind in alterations else []

        lags = [int(fault["lag_ms"]) for fault in struck("lag")]
        purges = [int(fault["older_than_ms"]) for fault in struck("purge")]
        return View(
            lag_ms=max(lags, default=0),
            page_by_position=bool(self._struck(path, account, query, "page_shift")),
            hides_conditionals=bool(struck("hide")),
            purged_before_ms=self._exchange.now_ms() - min(purges) if purges else 0,
        )

    def altered(self, path: str, account: Account, query: Query, answer: Row) -> Row:
        """The answer of a list endpoint as the armed read faults alter it."""
        for fault in self._struck(path, account, query, "missing_row"):
            answer = {**answer, "list": _without(answer["list"], fault)}
        if query.get("cursor") and self._struck(path, account, query, "cursor_repeats"):
            answer = {**answer, "nextPageCursor": quote(unquote(query["cursor"]), safe="")}
        return answer


def _without(rows: list[Row], fault: Fault) -> list[Row]:
    """The rows without the one at an index, or without those in which a field has a value."""
    name = str(fault["field"])
    if name:
        return [row for row in rows if str(row.get(name)) != str(fault["value"])]
    return [row for at, row in enumerate(rows) if at != int(fault["row"])]
