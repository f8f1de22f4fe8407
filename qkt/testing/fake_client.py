"""A transport that answers as you tell it, for testing a bot without a venue.

It is strict where a real venue would be: the verb must fit the path, required parameters must be there, and what it
answers is checked like a real answer, so an error envelope raises the very error a bot would meet. Reads it was not
told about are answered with valid empty pages, writes with a plain acknowledgement.
"""

from __future__ import annotations

import difflib
import inspect
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import Decimal
from types import MappingProxyType, TracebackType
from typing import Any, Self

import requests

from qkt.bybit.codec.envelope import Envelope, check_envelope, decode
from qkt.bybit.transport.permitted import PermittedRequest
from qkt.bybit.transport.protocol import BaseBybitTransport, BatchListener, FrameListener, StreamFault
from qkt.errors import InvalidRequestError, OutcomeUnknownError, QktError, VenueUnavailableError
from qkt.model.balances import CoinBalance, Wallet

Response = str | Mapping[str, Any] | Callable[..., Any] | Exception

_WRITES: dict[str, tuple[str, ...]] = {
    "/v5/order/create": ("category", "symbol", "side", "orderType", "qty"),
    "/v5/order/amend": ("category", "symbol"),
    "/v5/order/cancel": ("category", "symbol"),
    "/v5/order/cancel-all": ("category",),
    "/v5/order/create-batch": ("category", "request"),
    "/v5/order/cancel-batch": ("category", "request"),
    "/v5/order/amend-batch": ("category", "request"),
    "/v5/position/trading-stop": ("category", "symbol", "tpslMode", "positionIdx"),
    "/v5/position/set-leverage": ("category", "symbol", "buyLeverage", "sellLeverage"),
    "/v5/position/switch-mode": ("category", "mode"),
    "/v5/account/set-margin-mode": ("setMarginMode",),
}
_READS: dict[str, tuple[str, ...]] = {
    "/v5/order/realtime": ("category",),
    "/v5/order/history": ("category",),
    "/v5/execution/list": ("category",),
    "/v5/account/wallet-balance": ("accountType",),
    "/v5/position/list": ("category",),
    "/v5/market/time": (),
    "/v5/system/status": (),
    "/v5/market/instruments-info": ("category",),
    "/v5/market/tickers": ("category",),
    "/v5/account/info": (),
    "/v5/account/fee-rate": ("category",),
    "/v5/user/query-api": (),
}


class _Responses(dict[str, Response]):
    """``responses`` of a fake client: a path that the venue does not have is a typo, and an error."""

    def __init__(self, known: set[str]) -> None:
        super().__init__()
        self._known = known

    def __setitem__(self, path: str, response: Response) -> None:
        if path not in self._known:
            near = difflib.get_close_matches(path, self._known, n=1)
            hint = f"; did you mean {near[0]!r}" if near else ""
            raise InvalidRequestError(
                f"the fake client knows no path {path!r}{hint}. A path of your own is named at construction: "
                "FakeBybitClient(extra_paths=[...])"
            )
        super().__setitem__(path, response)

    def update(self, *given: Any, **named: Response) -> None:
        for path, response in dict(*given, **named).items():
            self[path] = response

    def setdefault(self, path: str, default: Any = None) -> Response:
        if path not in self:
            self[path] = default
        return self[path]

    def __ior__(self, given: Any) -> Self:  # type: ignore[override,misc]
        self.update(given)
        return self


class RecordedRequest(Mapping[str, Any]):
    """One request: ``.path`` and ``.body`` (a write) or ``.query`` (a read); also a mapping of what was sent.

    ``permitted`` is the request as a journal permitted it, with its time stamp; None for every other.
    """

    def __init__(
        self, path: str, sent: Mapping[str, Any], *, is_write: bool, permitted: PermittedRequest | None = None
    ) -> None:
        self.path = path
        self.permitted = permitted
        self.is_write = is_write
        self._sent = dict(sent)

    @property
    def body(self) -> dict[str, Any]:
        """What was posted."""
        return self._sent

    @property
    def query(self) -> dict[str, Any]:
        """What was asked."""
        return self._sent

    def __getitem__(self, name: str) -> Any:
        return self._sent[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sent)

    def __len__(self) -> int:
        return len(self._sent)

    def __repr__(self) -> str:
        return f"<{'POST' if self.is_write else 'GET'} {self.path} {self._sent}>"


class _EachFrame:
    """A batch listener as a frame listener."""

    def __init__(self, listener: BatchListener) -> None:
        self.listener = listener

    def __call__(self, frame: Envelope) -> None:
        self.listener([frame])


class FakeBybitClient(BaseBybitTransport):
    """A `BybitTransport` in memory.

    ``responses[path]`` is JSON text, a dict (a whole envelope), an exception to raise, or a callable that returns (or
    raises) one of those; a callable may take the request, which reads like the dict that was sent. A write whose
    response raises a timeout or a connection error becomes `OutcomeUnknownError`, a read `VenueUnavailableError`, as
    with the real client. ``symbols`` are the instruments that it lists, all without limits. ``posts`` and ``gets``
    record what was sent; clear them as you like.
    """

    account_type: str = "UNIFIED"
    recv_window_ms: int = 5_000
    clock_offset_ms: int = 0
    user_id: int = 7001
    topic_faults: Mapping[str, StreamFault] = MappingProxyType({})

    def __init__(
        self,
        *,
        account_type: str = "UNIFIED",
        recv_window_ms: int = 5_000,
        clock_offset_ms: int = 0,
        extra_paths: Iterable[str] = (),
        symbols: Iterable[str] = ("BTCUSDT", "ETHUSDT", "SOLUSDT"),
    ) -> None:
        self.symbols: tuple[str, ...] = tuple(symbols)
        self.posts: list[RecordedRequest] = []
        self.gets: list[RecordedRequest] = []
        self._responses = _Responses({*_WRITES, *_READS, *extra_paths})
        self.account_type = account_type
        self.recv_window_ms = recv_window_ms
        self.clock_offset_ms = clock_offset_ms
        self._lock = threading.Lock()
        self._balances: Mapping[str, Decimal] = MappingProxyType({})
        self._wallet = Wallet()
        self._listeners: dict[str, list[FrameListener]] = {}
        self._disconnect_handlers: list[Callable[[str], None]] = []
        self._reconnect_handlers: list[Callable[[], None]] = []
        self._fault_handlers: list[Callable[[StreamFault], None]] = []
        self._gap_handlers: list[Callable[[str], None]] = []
        self._order_ids = itertools.count(1)
        self._is_connected = True

    @property
    def is_connected(self) -> bool:
        """True until `emit_disconnect` or `close`; it is connected at first."""
        return self._is_connected

    @property
    def balances(self) -> Mapping[str, Decimal]:
        """Coin -> wallet balance, as last written."""
        return self._balances

    @property
    def wallet(self) -> Wallet:
        """The wallet, as last written."""
        return self._wallet

    def connect(self) -> None:
        """Nothing to connect to."""
        self._is_connected = True

    def close(self) -> None:
        """Nothing to close."""
        self._is_connected = False

    def update_balances(self, snapshot: Mapping[str, Decimal], wallet: Wallet | None = None) -> None:
        """Replace the cached balances: tests preset them with this, the recovery writes them with this."""
        self._balances = MappingProxyType(dict(snapshot))
        self._wallet = wallet or Wallet(coins={coin: CoinBalance(total=total) for coin, total in snapshot.items()})

    def get_signed(self, path: str, query: Mapping[str, Any]) -> Envelope:
        """Answer a read."""
        return self._answer(RecordedRequest(path, query, is_write=False))

    def post_signed(self, path: str, body: Mapping[str, Any]) -> Envelope:
        """Answer a write."""
        return self._answer(RecordedRequest(path, body, is_write=True))

    def post_permitted(self, request: PermittedRequest) -> Envelope:
        """Answer a write that a journal permitted."""
        return self._answer(RecordedRequest(request.path, json.loads(request.body), is_write=True, permitted=request))

    def subscribe(self, topic: str, listener: FrameListener) -> None:
        """Subscribe to a topic."""
        self._listeners.setdefault(topic, []).append(listener)

    def subscribe_batch(self, topics: Iterable[str], listener: BatchListener) -> None:
        """Subscribe one listener to several topics; it gets each frame as a list of one."""
        each = _EachFrame(listener)
        for topic in topics:
            self.subscribe(topic, each)

    def on_disconnect(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` on `emit_disconnect`."""
        self._disconnect_handlers.append(handler)

    def on_reconnect(self, handler: Callable[[], None]) -> None:
        """Call ``handler()`` on `fire_on_reconnect`."""
        self._reconnect_handlers.append(handler)

    def forget(self, listener: Callable[..., object]) -> None:
        """Remove a listener or handler wherever it is registered."""
        registered: list[list[Any]] = [*self._listeners.values(), self._disconnect_handlers, self._reconnect_handlers]
        for callbacks in [*registered, self._fault_handlers, self._gap_handlers]:
            callbacks[:] = [one for one in callbacks if listener not in (one, getattr(one, "listener", None))]

    def on_fault(self, handler: Callable[[StreamFault], None]) -> None:
        """Call ``handler(fault)`` on `emit_fault`."""
        self._fault_handlers.append(handler)

    def on_gap(self, handler: Callable[[str], None]) -> None:
        """Call ``handler(reason)`` on `emit_gap`."""
        self._gap_handlers.append(handler)

    @property
    def responses(self) -> dict[str, Response]:
        """Path -> answer; a path that the venue does not have raises InvalidRequestError."""
        return self._responses

    @responses.setter
    def responses(self, given: Mapping[str, Response]) -> None:
        self._responses.clear()
        self._responses.update(given)

    def emit_ws_frame(self, topic: str, frame: str | Mapping[str, Any] | list[Any]) -> int:
        """Deliver a frame: the whole envelope (text or dict), or just its ``data`` list.

        A listener of ``order.spot`` hears ``order`` as well, as at the venue. Returns how many listeners heard it.
        """
        decoded: Any = decode(frame) if isinstance(frame, str) and not frame.lstrip().startswith("[") else frame
        if isinstance(decoded, str):
            decoded = json.loads(decoded, parse_float=Decimal)
        if isinstance(decoded, list):
            decoded = {"data": decoded}
        envelope = {"topic": topic, "creationTime": 0, **decoded}
        heard = 0
        for subscribed, listeners in list(self._listeners.items()):
            if _hears(subscribed, topic):
                for listener in list(listeners):
                    listener(envelope)
                    heard += 1
        return heard

    def emit_disconnect(self, reason: str = "emitted by the test") -> None:
        """The stream is lost."""
        self._is_connected = False
        for handler in list(self._disconnect_handlers):
            handler(reason)

    def emit_fault(self, fault: StreamFault) -> None:
        """Simulate a refusal of the login or of a topic."""
        if fault.topic:
            self.topic_faults = {**self.topic_faults, fault.topic: fault}
        for handler in list(self._fault_handlers):
            handler(fault)

    def emit_gap(self, reason: str = "emitted by the test") -> None:
        """Frames may be missing."""
        for handler in list(self._gap_handlers):
            handler(reason)

    def fire_on_reconnect(self) -> None:
        """The stream is back and every subscription acknowledged."""
        self._is_connected = True
        for handler in list(self._reconnect_handlers):
            handler()

    def _answer(self, request: RecordedRequest) -> Envelope:
        self._check(request)
        with self._lock:
            (self.posts if request.is_write else self.gets).append(request)
        try:
            envelope = self._decoded(self._told(request), request)
        except (QktError, AssertionError):
            raise
        except (OSError, TimeoutError, requests.RequestException) as error:
            if request.is_write:
                raise OutcomeUnknownError(
                    f"POST {request.path} got no answer ({error!r}); look it up by client_order_id, do not resend",
                    path=request.path,
                    recv_window_ms=self.recv_window_ms,
                ) from error
            raise VenueUnavailableError(f"GET {request.path} failed: {error!r}", path=request.path) from error
        return check_envelope(request.path, envelope, is_write=request.is_write, recv_window_ms=self.recv_window_ms)

    def _told(self, request: RecordedRequest) -> Any:
        if request.path not in self.responses:
            return self._default(request)
        response: Any = self.responses[request.path]
        if callable(response) and not isinstance(response, type):
            takes_request = bool(inspect.signature(response).parameters)
            response = response(request) if takes_request else response()
        if isinstance(response, BaseException):
            raise response
        return response

    def _decoded(self, response: Any, request: RecordedRequest) -> Any:
        if not isinstance(response, str | bytes):
            return response
        try:
            return decode(response)
        except QktError as error:
            if request.is_write:
                raise OutcomeUnknownError(
                    f"POST {request.path} was answered with no JSON object; look it up by client_order_id",
                    path=request.path,
                    recv_window_ms=self.recv_window_ms,
                ) from error
            raise

    def _default(self, request: RecordedRequest) -> Envelope:
        result: dict[str, Any] = {"list": [], "nextPageCursor": ""}
        if request.path == "/v5/account/wallet-balance":
            coins = [
                {"coin": coin, "walletBalance": format(total, "f"), "locked": "0"}
                for coin, total in self._balances.items()
            ]
            result = {"list": [{"accountType": self.account_type, "coin": coins}]}
        elif request.path == "/v5/market/time":
            now_ns = time.time_ns()
            result = {"timeSecond": str(now_ns // 10**9), "timeNano": str(now_ns)}
        elif request.path == "/v5/market/instruments-info":
            result["list"] = [_instrument(symbol) for symbol in self.symbols]
        elif request.path == "/v5/user/query-api":
            result = {"userID": self.user_id}
        elif request.path == "/v5/order/create":
            order_id = f"fake-{next(self._order_ids)}"
            result = {"orderId": order_id, "orderLinkId": request.get("orderLinkId", "")}
        elif request.path in ("/v5/order/create-batch", "/v5/order/cancel-batch", "/v5/order/amend-batch"):
            return self._batch(request)
        elif request.is_write:
            result = {"orderId": request.get("orderId", ""), "orderLinkId": request.get("orderLinkId", "")}
        return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 0}

    def _batch(self, request: RecordedRequest) -> Envelope:
        """Every item of a batch is taken; creates get ids (docs v5/order/batch-place)."""
        is_create = request.path.endswith("create-batch")
        rows = [
            {
                "category": request["category"],
                "symbol": item.get("symbol", ""),
                "orderId": f"fake-{next(self._order_ids)}" if is_create else item.get("orderId", ""),
                "orderLinkId": item.get("orderLinkId", ""),
            }
            for item in request["request"]
        ]
        verdicts = [{"code": 0, "msg": "OK"} for _row in rows]
        return {"retCode": 0, "retMsg": "OK", "result": {"list": rows}, "retExtInfo": {"list": verdicts}, "time": 0}

    def _check(self, request: RecordedRequest) -> None:
        """What the venue would refuse is a mistake in the code under test, so it fails loudly."""
        allowed, other = (_WRITES, _READS) if request.is_write else (_READS, _WRITES)
        verb = "POST" if request.is_write else "GET"
        if request.path in other:
            raise InvalidRequestError(f"{verb} {request.path}: the venue answers 404, this path takes the other verb")
        missing = [name for name in allowed.get(request.path, ()) if request.get(name) in (None, "")]
        if missing:
            raise InvalidRequestError(f"{verb} {request.path} lacks {', '.join(missing)}, which the venue requires")

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "connected" if self._is_connected else "disconnected"
        topics = ", ".join(sorted(self._listeners)) or "none"
        return f"<FakeBybitClient {state} posts={len(self.posts)} gets={len(self.gets)} topics={topics}>"


def _instrument(symbol: str) -> dict[str, Any]:
    """An instrument row without limits, so that every order passes the checks (docs v5/market/instrument)."""
    coins = {"baseCoin": symbol.removesuffix("USDT"), "quoteCoin": "USDT"}
    return {"symbol": symbol, "status": "Trading", **coins, "lotSizeFilter": {}, "priceFilter": {}}


def _hears(subscribed: str, topic: str) -> bool:
    """True if the topics are equal, or one is the all-category form of the other."""
    return topic == subscribed or subscribed.startswith(f"{topic}.") or topic.startswith(f"{subscribed}.")
