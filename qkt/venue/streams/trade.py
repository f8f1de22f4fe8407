"""A connection to ``/v5/trade``: order entry by WebSocket (docs websocket/trade/guideline).

The operations are those of REST and have the same effect, the same rate limits and the same answers; ``result`` is
called ``data`` here and the rate-limit headers are keys of ``header``. Faults are those of REST too: the `path` of a
request is that of its REST counterpart (``/v5/order/create``), its `method` is ``WS``.

Not documented, and assumed here: a request before the login is refused with 10007; ``reqId`` must be unique within
its connection.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from aiohttp import web

from ..api.answer import Answer
from ..api.gateway import Gateway
from ..api.limits import RateLimits
from ..clock import SkewedClock
from ..exchange.accounts import Account
from ..exchange.json_encoder import to_json
from ..exchange.retcodes import TEXTS, Refusal, parameter_error
from ..faults import Fault
from ..faults.answers import alter, replacement
from .hub import StreamHub
from .session import RawBytes, Session, decode, text_frame

OPERATIONS = {
    f"order.{verb}{batch}": f"/v5/order/{verb}{batch}"
    for verb in ("create", "amend", "cancel")
    for batch in ("", "-batch")
}
"""``op`` of a request -> the REST path with the same effect."""
_LONGEST_ID = 36
_IDS_KEPT = 100_000
_CODE_OF_STATUS = {403: 10403, 429: 10429}
_HTTP_HEADERS = ("Ret_code",)

Message = dict[str, Any]


class TradeSession(Session):
    """One order-entry connection."""

    def __init__(
        self,
        gateway: Gateway,
        limits: RateLimits,
        clock: SkewedClock,
        hub: StreamHub,
        ws: web.WebSocketResponse,
        request: web.BaseRequest,
        conn_id: str,
        idle_limit_s: float,
    ) -> None:
        super().__init__(ws, request, conn_id, idle_limit_s)
        self._gateway = gateway
        self._limits = limits
        self._clock = clock
        self._hub = hub
        self._ip = request.remote or ""
        self._seen_ids: dict[str, None] = {}
        self._under_way: set[asyncio.Task[None]] = set()
        self._restarting = False
        self._sent: deque[float] = deque()

    @property
    def is_idle(self) -> bool:
        return super().is_idle and not self._under_way

    def on_close(self) -> None:
        if self.account is not None:
            self._hub.note("trade stream closed", self, conn_id=self.conn_id)

    def on_text(self, text: str) -> None:
        if self._hub.faults.armed("control") and self._struck("control"):
            self.go_half_open()
            return
        message = decode(text)
        if message is None:
            self._answer({}, code=10001, text="params error: the message is not a JSON object")
            return
        operation = message.get("op")
        if operation == "auth":
            self._auth(message)
        elif operation == "ping":
            if not self._struck("ping"):
                self._answer(message, op="pong", data=[str(self._hub.now_ms())])
        else:
            self._order_request(message)

    def _auth(self, message: Message) -> None:
        struck = self._struck("auth")
        if self.account is not None:
            self._answer(message, code=20001, text="Repeat auth")
            return
        verdict = str(struck[0]["text"]) if struck else self._hub.authenticate(message.get("args"))
        if isinstance(verdict, Account) and not self._limits.admits_session(self._sessions_of(verdict)):
            self._answer(message, code=10003, text="Too many sessions under the same UID.")
            self._hub.close_soon(self)
        elif isinstance(verdict, Account):
            self._log_in(verdict)
            self._hub.note("trade stream opened", self, conn_id=self.conn_id)
            self._answer(message)
        else:
            self._answer(message, code=10001 if verdict == "Params Error" else 10004, text=verdict)
            if not struck or struck[0]["close"]:
                self._hub.close_soon(self)

    def _sessions_of(self, account: Account) -> int:
        return sum(isinstance(other, TradeSession) and other.account is account for other in self._hub.sessions)

    def _order_request(self, message: Message) -> None:
        """Answer an order request: at once, or in a task of its own while faults that may wait are armed."""
        faults = self._hub.faults
        try:
            path, parameters = self._checked(message)
        except Refusal as refusal:
            self._answer(message, code=refusal.code, text=refusal.text, data={}, retExtInfo={}, header=self._header())
            return
        if not any(faults.armed(where) for where in ("request", "reply", "both")):
            self._reply(message, self._carried_out(path, message, parameters))
            return
        task = asyncio.get_running_loop().create_task(self._order_request_with_faults(path, message, parameters))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _checked(self, message: Message) -> tuple[str, Any]:
        """The REST path and the parameters of a request.

        Raises:
            Refusal: with the code of the first thing wrong with it.
        """
        if self._hub.faults.armed("trade") and self._struck("trade"):
            self._restarting = True
        if self._restarting:
            raise Refusal(10019)
        if self.account is None:
            raise Refusal(10007)
        if refused := self._limits.refuses_trade_request(self._ip, self._sent):
            raise Refusal(refused)
        path = OPERATIONS.get(str(message.get("op")))
        if path is None:
            raise Refusal(10404, text=f"op type is not found: {message.get('op')}")
        self._check_id(message)
        arguments = message.get("args")
        if not isinstance(arguments, list) or len(arguments) != 1 or not isinstance(arguments[0], dict):
            raise parameter_error("params error: args must be a list of one object")
        return path, arguments[0]

    def _check_id(self, message: Message) -> None:
        request_id = message.get("reqId")
        if request_id in (None, ""):
            return
        if not isinstance(request_id, str) or len(request_id) > _LONGEST_ID:
            raise parameter_error(f"params error: reqId must be a string of at most {_LONGEST_ID} characters")
        if request_id in self._seen_ids:
            raise Refusal(20006)
        self._seen_ids[request_id] = None
        if len(self._seen_ids) > _IDS_KEPT:
            del self._seen_ids[next(iter(self._seen_ids))]

    def _carried_out(self, path: str, message: Message, parameters: Any) -> Answer:
        assert self.account is not None
        with self._hub.exclusive():
            answer = self._gateway.handle_order_entry(self.account, path, message.get("header"), parameters)
        code = answer.envelope["retCode"] if answer.envelope else ""
        self._hub.note("request", self, method="WS", path=path, status=answer.status, retCode=code)
        return answer

    async def _order_request_with_faults(self, path: str, message: Message, parameters: Any) -> None:
        assert self.account is not None
        context = {"path": path, "method": "WS", "symbol": _symbol_of(parameters), "account": self.account.key}
        instead: Answer | None = None
        for fault in self._hub.faults.take(("request", "both"), **context):
            if fault.name == "slow_request":
                await asyncio.sleep(fault["delay_ms"] / 1000)
            elif fault.name == "half_open":
                self.go_half_open()
                return
            elif fault.name in ("connection_reset_before_request", "request_lost"):
                self._lose(fault)
                return
            elif fault.name == "clock_jump":
                self._clock.jump(fault)
            elif other := replacement(fault, self._hub.now_ms()):
                if not fault.params.get("accepted"):
                    self._reply(message, other)
                    return
                instead = other
        answer = self._carried_out(path, message, parameters)
        await self._reply_with_faults(message, instead or answer, self._hub.faults.take("reply", **context))

    async def _reply_with_faults(self, message: Message, answer: Answer, struck: list[Fault]) -> None:
        for fault in struck:
            alter(answer, fault)
        payload = self._encoded(message, answer).encode()
        for fault in struck:
            match fault.name:
                case "slow_response" | "frames_before_ack":
                    await asyncio.sleep(fault["delay_ms"] / 1000)
                case "truncated_json":
                    payload = payload[: int(len(payload) * float(fault["keep"]))]
                case "connection_reset_after_request" | "reply_lost":
                    self._lose(fault)
                    return
                case "cut_response_after_bytes":
                    self.push(RawBytes(text_frame(payload)[: int(fault["bytes"])], then_close=True))
                    return
                case "stale_keep_alive":
                    asyncio.get_running_loop().call_later(max(0.002, fault["delay_ms"] / 1000), self.cut)
        self.push(payload.decode(errors="ignore"))

    def _lose(self, fault: Fault) -> None:
        """Send no answer; close the connection too, unless the fault only loses the message."""
        if fault.params.get("mode") != "hang":
            self.cut(with_reset=True)

    def _reply(self, message: Message, answer: Answer) -> None:
        self.push(self._encoded(message, answer))

    def _encoded(self, message: Message, answer: Answer) -> str:
        envelope = answer.envelope
        if envelope is None and answer.status == 200:
            return answer.text
        if envelope is None:
            code = _CODE_OF_STATUS.get(answer.status, 10016)
            envelope = {"retCode": code, "retMsg": TEXTS[code], "result": {}, "retExtInfo": {}}
        header = {name: value for name, value in answer.headers.items() if name not in _HTTP_HEADERS}
        return self._shaped(
            message,
            code=envelope["retCode"],
            text=envelope["retMsg"],
            data=envelope["result"],
            retExtInfo=envelope["retExtInfo"],
            header=header or self._header(),
        )

    def _header(self) -> dict[str, str]:
        return self._gateway.trace_headers(self._hub.now_ms())

    def _answer(self, message: Message, **fields: Any) -> None:
        text = self._shaped(message, **fields)
        delays = [int(fault["delay_ms"]) for fault in self._struck("answer")]
        if delays:
            self.push_later(text, max(delays))
        else:
            self.push(text)

    def _shaped(self, message: Message, *, code: int = 0, text: str = "OK", op: str = "", **fields: Any) -> str:
        answer: Message = {"reqId": message["reqId"]} if message.get("reqId") else {}
        answer |= {"retCode": code, "retMsg": text, "op": op or str(message.get("op", "")), **fields}
        return to_json({**answer, "connId": self.conn_id})

    def _struck(self, where: str) -> list[Fault]:
        if not self._hub.faults.armed(where):
            return []
        return self._hub.faults.take(where, path=self.path, account=self.account.key if self.account else "")


def _symbol_of(parameters: Message) -> str:
    return str(parameters.get("symbol", ""))
