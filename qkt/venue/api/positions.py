"""The endpoints of contracts beside order entry: positions, their settings and exits, the account's log and modes."""

from __future__ import annotations

from collections.abc import Callable

from ..exchange.accounts import Account
from ..exchange.exchange import Exchange
from ..exchange.linear import reports
from ..exchange.queries import Query
from ..exchange.requests import Body, category_of
from ..exchange.retcodes import parameter_error
from ..exchange.rows import Row

Bend = Callable[[str, Account, Query, Row], Row]
"""Applies the standing read faults to the answer of a path."""
_LIST, _CLOSED, _LOG = "/v5/position/list", "/v5/position/closed-pnl", "/v5/account/transaction-log"


class PositionEndpoints:
    """``/v5/position`` and what of ``/v5/account`` and ``/v5/market`` concerns contracts only."""

    def __init__(self, exchange: Exchange, bend: Bend) -> None:
        self._exchange = exchange
        self._bend = bend

    def list(self, account: Account, query: Query) -> Row:
        _require_linear(query)
        linear, margin = self._exchange.linear, self._exchange.engine.margin
        answer = reports.positions(account, query, linear.contracts(), margin)
        return self._bend(_LIST, account, query, answer)

    def closed_pnl(self, account: Account, query: Query) -> Row:
        _require_linear(query)
        answer = reports.closed_pnl(account, query, self._exchange.now_ms())
        return self._bend(_CLOSED, account, query, answer)

    def transaction_log(self, account: Account, query: Query) -> Row:
        answer = reports.transaction_log(account, query, self._exchange.now_ms())
        return self._bend(_LOG, account, query, answer)

    def set_leverage(self, account: Account, body: Body) -> Row:
        _require_linear(body)
        self._exchange.set_leverage(account, body)
        return {}

    def switch_mode(self, account: Account, body: Body) -> Row:
        _require_linear(body)
        self._exchange.switch_mode(account, body)
        return {}

    def trading_stop(self, account: Account, body: Body) -> Row:
        _require_linear(body)
        self._exchange.set_trading_stop(account, body)
        return {}

    def add_margin(self, account: Account, body: Body) -> Row:
        _require_linear(body)
        self._exchange.add_margin(account, body)
        (row,) = self.list(account, {"category": "linear", "symbol": str(body.get("symbol") or "")})["list"]
        return {"category": "linear", **row}

    def set_margin_mode(self, account: Account, body: Body) -> Row:
        return self._exchange.set_margin_mode(account, body)

    def user_setting(self, account: Account, _query: Query) -> Row:
        """``GET /v5/account/user-setting-config``; ``lpaPerp`` true means refuse, ``lpaSpot`` true means adjust."""
        return {"lpaSpot": False, "lpaPerp": not account.moves_prices, "smsef": False, "fmsef": False}

    def set_limit_price_action(self, account: Account, body: Body) -> Row:
        """``POST /v5/account/set-limit-px-action``: move limit prices beyond the band, or refuse them."""
        category, enabled = body.get("category"), body.get("modifyEnable")
        if category not in ("linear", "inverse", "spot") or not isinstance(enabled, bool):
            raise parameter_error("params error: category or modifyEnable invalid")
        if category != "spot":
            account.moves_prices = enabled
        return {}

    def funding_history(self, query: Query) -> Row:
        _require_linear(query)
        book = self._exchange.linear.book_of(query)
        contract = next(one for one in self._exchange.linear.contracts() if one is book.instrument)
        history = self._exchange.linear.funding.history.get(contract.symbol, [])
        return reports.funding_history(contract, history, query)

    def risk_limit(self, query: Query) -> Row:
        _require_linear(query)
        symbol = query.get("symbol")
        contracts = self._exchange.linear.contracts()
        return reports.risk_limits([one for one in contracts if not symbol or one.symbol == symbol])


def _require_linear(parameters: Body) -> None:
    """
    Raises:
        Refusal: 10001 for a category without positions.
    """
    if category_of(parameters) != "linear":
        raise parameter_error("params error: category only supports linear")
