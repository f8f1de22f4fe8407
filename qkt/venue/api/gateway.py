"""One request in, one answer out: verbs, authentication, limits, dispatch, envelope.

The order of the checks is the venue's: the verb and the path (400, 404), the IP (403), the key, the clock, the
signature, the UID's limit, and only then the parameters. Knows nothing of sockets; faults of the wire are played by
the HTTP shell around it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..exchange.accounts import Account
from ..exchange.exchange import Exchange
from ..exchange.queries import parse_query
from ..exchange.retcodes import Refusal, parameter_error
from ..exchange.wire import to_json
from .auth import Unauthenticated, authenticate
from .limits import Allowance, RateLimits
from .market import MarketEndpoints
from .orders import OrderEndpoints, batch_items
from .reads import ReadEndpoints

Envelope = dict[str, Any]


@dataclass(slots=True)
class Answer:
    """An HTTP answer before it becomes bytes; ``envelope`` is None when the gateway answers in plain text."""

    status: int = 200
    envelope: Envelope | None = None
    text: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json; charset=utf-8"

    def body(self) -> bytes:
        if self.envelope is None:
            return self.text.encode()
        return to_json(self.envelope).encode()


@dataclass(frozen=True, slots=True)
class Request:
    """What arrived: the query and the body exactly as sent, because that is what was signed."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    ip: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    handler: Callable[..., Any]
    signed: bool = True
    batch: bool = False
    writes: bool = False


class Gateway:
    """The REST face: routes, and what stands before each of them."""

    def __init__(self, exchange: Exchange, orders: OrderEndpoints, reads: ReadEndpoints, limits: RateLimits) -> None:
        self._exchange = exchange
        self._limits = limits
        self._trace = 0x5151 << 96
        market = MarketEndpoints(exchange)
        self.routes: dict[str, Route] = {
            "/v5/order/create": Route("POST", orders.create, writes=True),
            "/v5/order/amend": Route("POST", orders.amend, writes=True),
            "/v5/order/cancel": Route("POST", orders.cancel, writes=True),
            "/v5/order/cancel-all": Route("POST", orders.cancel_all, writes=True),
            "/v5/order/create-batch": Route("POST", orders.create_batch, batch=True, writes=True),
            "/v5/order/amend-batch": Route("POST", orders.amend_batch, batch=True, writes=True),
            "/v5/order/cancel-batch": Route("POST", orders.cancel_batch, batch=True, writes=True),
            "/v5/order/realtime": Route("GET", reads.realtime),
            "/v5/order/history": Route("GET", reads.history),
            "/v5/order/spot-borrow-check": Route("GET", reads.spot_borrow_check),
            "/v5/execution/list": Route("GET", reads.executions),
            "/v5/account/wallet-balance": Route("GET", reads.wallet),
            "/v5/account/fee-rate": Route("GET", reads.fee_rate),
            "/v5/account/info": Route("GET", reads.account_info),
            "/v5/account/instruments-info": Route("GET", reads.account_instruments),
            "/v5/user/query-api": Route("GET", reads.query_api),
            "/v5/market/time": Route("GET", market.time, signed=False),
            "/v5/market/instruments-info": Route("GET", market.instruments, signed=False),
            "/v5/market/tickers": Route("GET", market.tickers, signed=False),
            "/v5/market/orderbook": Route("GET", market.orderbook, signed=False),
            "/v5/market/recent-trade": Route("GET", market.recent_trades, signed=False),
            "/v5/market/kline": Route("GET", market.kline, signed=False),
            "/v5/market/price-limit": Route("GET", market.price_limit, signed=False),
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
        now_ms = self._exchange.now_ms()
        self._trace += 1
        headers = {"Timenow": str(now_ms), "Traceid": f"{self._trace:032x}"}
        try:
            result, extra = self._dispatch(route, request, now_ms, headers)
            code, text = 0, "OK"
        except Unauthenticated:
            return Answer(status=401, text="", content_type="text/plain")
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
        if route.writes and account.read_only:
            raise Refusal(10005)
        parameters = parse_query(request.query) if request.method == "GET" else _json_object(payload)
        if route.batch:
            return self._dispatch_batch(route, request, account, parameters, now_ms, headers)
        allowance = self._limits.take(account.uid, request.path)
        self._spend(allowance, now_ms, headers)
        return route.handler(account, parameters), {}

    def _dispatch_batch(
        self,
        route: Route,
        request: Request,
        account: Account,
        parameters: Mapping[str, Any],
        now_ms: int,
        headers: dict[str, str],
    ) -> tuple[Any, Any]:
        """A batch of n spends n units; what is beyond the limit fails item by item (docs v5/rate-limit)."""
        count = len(batch_items(parameters))
        allowance = self._limits.take(account.uid, request.path, count)
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
    return {name: _scalar(name, field) for name, field in value.items() if name != "request"} | _items(value)


def _items(value: dict[str, Any]) -> dict[str, Any]:
    """The items of a batch, if any, their fields as plain as those of a single request."""
    items = value.get("request")
    if not isinstance(items, list):
        return {} if items is None else {"request": items}
    plain = [
        {name: _scalar(name, field) for name, field in item.items()} if isinstance(item, dict) else item
        for item in items
    ]
    return {"request": plain}


def _scalar(name: str, field: Any) -> Any:
    """Parameters are strings, numbers or booleans: nothing nested.

    Raises:
        Refusal: 10001 naming the parameter.
    """
    if isinstance(field, dict | list):
        raise parameter_error(f"params error: {name} invalid")
    return field
