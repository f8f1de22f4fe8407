"""Answers one request: verb and path, authentication, rate limits, dispatch, envelope.

The checks are made in the order of Bybit: verb and path (400, 404), IP limit (403), key, clock, signature, UID limit,
then the parameters. No sockets here; the transports around it apply the faults.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..exchange.accounts import Account
from ..exchange.exchange import Exchange
from ..exchange.queries import parse_query
from ..exchange.retcodes import Refusal, parameter_error
from .answer import Answer
from .assets import AssetEndpoints
from .auth import Unauthenticated, authenticate, check_time
from .limits import Allowance, RateLimits
from .market import MarketEndpoints, is_traded
from .orders import OrderEndpoints, batch_items
from .positions import PositionEndpoints
from .protection import DisconnectProtection
from .reads import ReadEndpoints
from .status import SystemStatus


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request; query and body exactly as sent, because they are signed."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    ip: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: its verb, its handler and what is checked before it."""

    method: str
    handler: Callable[..., Any]
    signed: bool = True
    batch: bool = False
    writes: bool = False


class Gateway:
    """The table of endpoints, and the checks before each of them."""

    def __init__(
        self,
        exchange: Exchange,
        orders: OrderEndpoints,
        reads: ReadEndpoints,
        protection: DisconnectProtection,
        status: SystemStatus,
        limits: RateLimits,
    ) -> None:
        self._exchange = exchange
        self._limits = limits
        self._trace = 0x5151 << 96
        market = MarketEndpoints(exchange)
        assets = AssetEndpoints(exchange)
        positions = PositionEndpoints(exchange, reads.altered)
        self.routes: dict[str, Route] = {
            "/v5/order/create": Route("POST", orders.create, writes=True),
            "/v5/order/amend": Route("POST", orders.amend, writes=True),
            "/v5/order/cancel": Route("POST", orders.cancel, writes=True),
            "/v5/order/cancel-all": Route("POST", orders.cancel_all, writes=True),
            "/v5/order/create-batch": Route("POST", orders.create_batch, batch=True, writes=True),
            "/v5/order/amend-batch": Route("POST", orders.amend_batch, batch=True, writes=True),
            "/v5/order/cancel-batch": Route("POST", orders.cancel_batch, batch=True, writes=True),
            "/v5/order/pre-check": Route("POST", orders.pre_check, writes=True),
            "/v5/order/disconnected-cancel-all": Route("POST", protection.configure, writes=True),
            "/v5/order/realtime": Route("GET", reads.realtime),
            "/v5/order/history": Route("GET", reads.history),
            "/v5/order/spot-borrow-check": Route("GET", reads.spot_borrow_check),
            "/v5/execution/list": Route("GET", reads.executions),
            "/v5/account/wallet-balance": Route("GET", reads.wallet),
            "/v5/account/fee-rate": Route("GET", reads.fee_rate),
            "/v5/account/info": Route("GET", reads.account_info),
            "/v5/account/instruments-info": Route("GET", reads.account_instruments),
            "/v5/account/query-dcp-info": Route("GET", protection.info),
            "/v5/account/withdrawal": Route("GET", assets.withdrawal),
            "/v5/asset/coin/query-info": Route("GET", assets.coins),
            "/v5/asset/deposit/query-record": Route("GET", assets.no_rows),
            "/v5/asset/withdraw/query-record": Route("GET", assets.no_rows),
            "/v5/asset/transfer/query-account-coins-balance": Route("GET", assets.balances),
            "/v5/asset/transfer/query-inter-transfer-list": Route("GET", assets.no_list),
            "/v5/asset/transfer/query-universal-transfer-list": Route("GET", assets.no_list),
            "/v5/account/transaction-log": Route("GET", positions.transaction_log),
            "/v5/account/set-margin-mode": Route("POST", positions.set_margin_mode, writes=True),
            "/v5/account/user-setting-config": Route("GET", positions.user_setting),
            "/v5/account/set-limit-px-action": Route("POST", positions.set_limit_price_action, writes=True),
            "/v5/position/list": Route("GET", positions.list),
            "/v5/position/closed-pnl": Route("GET", positions.closed_pnl),
            "/v5/position/set-leverage": Route("POST", positions.set_leverage, writes=True),
            "/v5/position/switch-mode": Route("POST", positions.switch_mode, writes=True),
            "/v5/position/trading-stop": Route("POST", positions.trading_stop, writes=True),
            "/v5/position/add-margin": Route("POST", positions.add_margin, writes=True),
            "/v5/user/query-api": Route("GET", reads.query_api),
            "/v5/market/time": Route("GET", market.time, signed=False),
            "/v5/market/instruments-info": Route("GET", market.instruments, signed=False),
            "/v5/market/tickers": Route("GET", market.tickers, signed=False),
            "/v5/market/orderbook": Route("GET", market.orderbook, signed=False),
            "/v5/market/recent-trade": Route("GET", market.recent_trades, signed=False),
            "/v5/market/kline": Route("GET", market.kline, signed=False),
            "/v5/market/mark-price-kline": Route("GET", market.contract_kline, signed=False),
            "/v5/market/index-price-kline": Route("GET", market.contract_kline, signed=False),
            "/v5/market/premium-index-price-kline": Route("GET", market.premium_kline, signed=False),
            "/v5/market/open-interest": Route("GET", market.open_interest, signed=False),
            "/v5/market/account-ratio": Route("GET", market.account_ratio, signed=False),
            "/v5/market/price-limit": Route("GET", market.price_limit, signed=False),
            "/v5/market/funding/history": Route("GET", positions.funding_history, signed=False),
            "/v5/market/risk-limit": Route("GET", positions.risk_limit, signed=False),
            "/v5/announcements/index": Route("GET", market.announcements, signed=False),
            "/v5/system/status": Route("GET", status.query, signed=False),
        }

    def handle(self, request: Request) -> Answer:
        """Answer a request; never raises for anything a client can send."""
        route = self.routes.get(request.path)
        if request.method not in ("GET", "POST"):
            return Answer(status=400, text="Bad request", content_type="text/plain")
        if route is None or route.method != request.method:
            return Answer(status=404, text="404 page not found", content_type="text/plain")
        if not self._limits.admits(request.ip):
            return Answer(status=403, text="403, access too frequent", content_type="text/plain")
        if request.method == "GET" and request.body:
            return Answer(status=403, text="Forbidden", content_type="text/plain")
        try:
            return self._answer(lambda now_ms, headers: self._dispatch(route, request, now_ms, headers))
        except Unauthenticated:
            return Answer(status=401, text="", content_type="text/plain")

    def handle_order_entry(self, account: Account, path: str, header: object, parameters: dict[str, Any]) -> Answer:
        """Answer a request of a logged-in ``/v5/trade`` connection.

        Args:
            path: of the REST endpoint with the same effect.
            header: of the request, with ``X-BAPI-TIMESTAMP`` and perhaps ``X-BAPI-RECV-WINDOW``.
            parameters: the body of the REST request, not signed.
        """
        route = self.routes[path]

        def dispatch(now_ms: int, headers: dict[str, str]) -> tuple[Any, Any]:
            if not isinstance(header, dict) or not header.get("X-BAPI-TIMESTAMP"):
                raise parameter_error("params error: header.X-BAPI-TIMESTAMP is required")
            check_time(str(header["X-BAPI-TIMESTAMP"]), str(header.get("X-BAPI-RECV-WINDOW") or ""), now_ms)
            if not is_traded(self._exchange, str(parameters.get("category"))):
                raise Refusal(10404, text=f"category is not correct: {parameters.get('category')}")
            return self._perform(route, path, account, _plain(parameters), now_ms, headers)

        return self._answer(dispatch)

    def trace_headers(self, now_ms: int) -> dict[str, str]:
        """The headers every answer has: the time and the number of the request."""
        self._trace += 1
        return {"Timenow": str(now_ms), "Traceid": f"{self._trace:032x}"}

    def _answer(self, dispatch: Callable[[int, dict[str, str]], tuple[Any, Any]]) -> Answer:
        now_ms = self._exchange.now_ms()
        headers = self.trace_headers(now_ms)
        try:
            result, extra = dispatch(now_ms, headers)
            code, text = 0, "OK"
        except Refusal as refusal:
            code, text, result, extra = refusal.code, refusal.text, {}, {}
        headers["Ret_code"] = str(code)
        envelope = {"retCode": code, "retMsg": text, "result": result, "retExtInfo": extra, "time": now_ms}
        return Answer(envelope=envelope, headers=headers)

    def _dispatch(self, route: Route, request: Request, now_ms: int, headers: dict[str, str]) -> tuple[Any, Any]:
        if not route.signed:
            return route.handler(parse_query(request.query)), {}
        payload = request.query if request.method == "GET" else request.body.decode("utf-8", "replace")
        account = authenticate(self._exchange.accounts, request.headers, payload, now_ms)
        if route.writes and account.read_only:  # before the body is read
            raise Refusal(10005)
        parameters = parse_query(request.query) if request.method == "GET" else _json_object(payload)
        return self._perform(route, request.path, account, parameters, now_ms, headers)

    def _perform(
        self,
        route: Route,
        path: str,
        account: Account,
        parameters: Mapping[str, Any],
        now_ms: int,
        headers: dict[str, str],
    ) -> tuple[Any, Any]:
        if route.writes and account.read_only:
            raise Refusal(10005)
        if not route.batch:
            self._spend(self._limits.take(account.uid, path), now_ms, headers)
            return route.handler(account, parameters), {}
        # A batch of n takes n units; items beyond the limit fail one by one (docs v5/rate-limit).
        count = len(batch_items(parameters))
        allowance = self._limits.take(account.uid, path, count)
        self._spend(allowance, now_ms, headers)
        result: tuple[Any, Any] = route.handler(account, parameters, count if allowance is None else allowance.granted)
        return result

    @staticmethod
    def _spend(allowance: Allowance | None, now_ms: int, headers: dict[str, str]) -> None:
        if allowance is None:
            return
        headers.update(allowance.headers(now_ms))
        if not allowance.granted:
            raise Refusal(10006)


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise parameter_error("params error: the body is not valid JSON") from None
    if not isinstance(value, dict):
        raise parameter_error("params error: the body must be a JSON object")
    return _plain(value)


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a request, checked to be plain values.

    Raises:
        Refusal: 10001 naming the nested parameter.
    """
    return {name: _scalar(name, field) for name, field in value.items() if name != "request"} | _items(value)


def _items(value: dict[str, Any]) -> dict[str, Any]:
    """The items of a batch, if any, with plain values like those of a single request."""
    items = value.get("request")
    if not isinstance(items, list):
        return {} if items is None else {"request": items}
    plain = [
        {name: _scalar(name, field) for name, field in item.items()} if isinstance(item, dict) else item
        for item in items
    ]
    return {"request": plain}


def _scalar(name: str, field: Any) -> Any:
    """The value of a parameter, which must be a string, a number or a boolean.

    Raises:
        Refusal: 10001 naming the parameter.
    """
    if isinstance(field, dict | list):
        raise parameter_error(f"params error: {name} invalid")
    return field
