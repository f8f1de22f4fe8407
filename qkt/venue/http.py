"""The venue's HTTP door: bytes in, bytes out, and every way in which that can fail.

Around the gateway, which is pure, this shell plays the faults of the wire: before the request is carried out, after
it, or instead of either. What it answers with nothing armed is exactly what the gateway said.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from aiohttp import web

from .admin import Admin
from .api.gateway import Answer, Gateway, Request
from .api.limits import RateLimits
from .clock import SkewedClock
from .exchange.journal import Journal
from .exchange.queries import parse_query
from .exchange.retcodes import TEXTS
from .faults import Fault, Faults
from .streams.hub import StreamHub
from .streams.session import reset

_HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>cloud front</body></html>"
_REASONS = {500: "Internal Server Error", 502: "Bad Gateway", 503: "Service Unavailable", 504: "Gateway Time-out"}


class HttpShell:
    """Routes a connection to the API, the streams or the venue's own controls."""

    def __init__(
        self,
        gateway: Gateway,
        limits: RateLimits,
        hub: StreamHub,
        admin: Admin,
        faults: Faults,
        clock: SkewedClock,
        journal: Journal,
        exclusive: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._gateway = gateway
        self._limits = limits
        self._hub = hub
        self._admin = admin
        self._faults = faults
        self._clock = clock
        self._journal = journal
        self._exclusive = exclusive
        self.stopping: asyncio.Event | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if path.startswith("/v5/private") or path.startswith("/v5/public/"):
            return await self._upgrade(request, path, query)
        body = await request.read() if request.body_exists else b""
        if path.startswith("/_venue"):
            return self._admin.handle(request.method, path, parse_query(query), body)
        asked = Request(request.method, path, query, request.headers, body, request.remote or "")
        if not self._faults.armed("request") and not self._faults.armed("reply") and not self._faults.armed("both"):
            return self._respond(self._answer(asked))
        # A client that gives up does not call its request back: what is on its way arrives without it.
        playing = asyncio.get_running_loop().create_task(self._handle_with_faults(request, asked))
        playing.add_done_callback(_look_away)
        return await asyncio.shield(playing)

    def _answer(self, asked: Request) -> Answer:
        with self._exclusive():
            answer = self._gateway.handle(asked)
            code: Any = answer.envelope["retCode"] if answer.envelope else ""
            self._journal.note(
                "request",
                asked.headers.get("X-BAPI-API-KEY", ""),
                method=asked.method,
                path=asked.path,
                status=answer.status,
                retCode=code,
            )
        return answer

    @staticmethod
    def _respond(answer: Answer) -> web.Response:
        return web.Response(
            status=answer.status,
            body=answer.body(),
            headers={**answer.headers, "Content-Type": answer.content_type},
        )

    # -- streams -------------------------------------------------------------------------------------------------

    async def _upgrade(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        for fault in self._faults.take("upgrade", path=path):
            return web.Response(status=int(fault["status"]), text="")
        if not self._limits.admits_stream(request.remote or ""):
            return web.Response(status=403, text="403, access too frequent")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=404, text="404 page not found")
        if path == "/v5/private":
            return await self._hub.serve_private(request, parse_query(query))
        if path == "/v5/public/spot":
            return await self._hub.serve_public(request, parse_query(query))
        return web.Response(status=404, text="404 page not found")

    # -- faults --------------------------------------------------------------------------------------------------

    async def _handle_with_faults(self, request: web.BaseRequest, asked: Request) -> web.StreamResponse:
        context = {
            "path": asked.path,
            "method": asked.method,
            "symbol": _symbol_of(asked),
            "account": asked.headers.get("X-BAPI-API-KEY", ""),
        }
        replacement: Answer | None = None
        for fault in self._faults.take(("request", "both"), **context):
            instead = await self._before(request, fault)
            if instead is not None:
                if fault.params.get("accepted"):
                    replacement = instead
                else:
                    return self._respond(instead) if isinstance(instead, Answer) else instead
        answer = self._answer(asked)
        if replacement is not None:
            answer = replacement
        return await self._after(request, answer, self._faults.take("reply", **context))

    async def _before(self, request: web.BaseRequest, fault: Fault) -> Any:
        """Play a fault that strikes before the request is carried out; None: go on."""
        match fault.name:
            case "clock_jump":
                self._clock.offset_ms += int(fault["ms"])
                fault.memory = (fault.memory or 0) + int(fault["ms"])
            case "slow_request":
                await asyncio.sleep(fault["delay_ms"] / 1000)
            case "connection_reset_before_request":
                return self._reset(request)
            case "half_open":
                return await self._hang()
            case "request_lost":
                return self._reset(request) if fault["mode"] == "reset" else await self._hang()
            case "rate_limited":
                headers = {
                    "X-Bapi-Limit": "20",
                    "X-Bapi-Limit-Status": "0",
                    "X-Bapi-Limit-Reset-Timestamp": str(self._clock.now_ms() + int(fault["reset_ms"])),
                }
                return self._ret_code(10006, "Too many visits. Exceeded the API Rate Limit.", headers)
            case "http_429":
                return Answer(status=429, text="Too Many Requests", content_type="text/plain")
            case "ip_ban":
                return Answer(status=403, text="403, access too frequent", content_type="text/plain")
            case "http_status":
                status = int(fault["status"])
                reason = _REASONS.get(status, "Error")
                return Answer(status=status, text=_HTML.format(f"{status} {reason}"), content_type="text/html")
            case "html_body":
                text = _HTML.format("Please wait while we check your browser")
                return Answer(status=int(fault["status"]), text=text, content_type="text/html")
            case "empty_body":
                return Answer(text="")
            case "ret_code":
                return self._ret_code(int(fault["code"]), str(fault["text"]), {})
        return None

    async def _after(self, request: web.BaseRequest, answer: Answer, struck: list[Fault]) -> web.StreamResponse:
        """Play the faults of the reply: first what it says, then how it travels."""
        for fault in struck:
            _bend(answer, fault)
        body = answer.body()
        for fault in struck:
            if fault.name == "truncated_json":
                body = body[: int(len(body) * float(fault["keep"]))]
        headers = {**answer.headers, "Content-Type": answer.content_type}
        for fault in struck:
            match fault.name:
                case "slow_response" | "frames_before_ack":
                    await asyncio.sleep(fault["delay_ms"] / 1000)
                case "connection_reset_after_request":
                    return self._reset(request)
                case "reply_lost":
                    return self._reset(request) if fault["mode"] == "reset" else await self._hang()
                case "sliced_response":
                    return await self._sliced(request, answer, body, headers, fault)
                case "cut_response_after_bytes":
                    return await self._cut_after(request, answer, body, headers, int(fault["bytes"]))
                case "stale_keep_alive":
                    asyncio.get_running_loop().call_later(
                        max(0.002, fault["delay_ms"] / 1000), self._close_quietly, request.transport
                    )
        return web.Response(status=answer.status, body=body, headers=headers)

    async def _hang(self) -> web.Response:
        """Never answer: until the client gives up, or the venue stops."""
        assert self.stopping is not None
        await self.stopping.wait()
        return web.Response(status=499)

    @staticmethod
    def _reset(request: web.BaseRequest) -> web.Response:
        reset(request.transport)
        return web.Response(status=499)

    @staticmethod
    def _close_quietly(transport: asyncio.Transport | None) -> None:
        if transport is not None:
            transport.close()

    @staticmethod
    async def _sliced(
        request: web.BaseRequest, answer: Answer, body: bytes, headers: dict[str, str], fault: Fault
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        size = max(1, int(fault["bytes"]))
        for start in range(0, len(body), size):
            await response.write(body[start : start + size])
            await asyncio.sleep(fault["pause_ms"] / 1000)
        await response.write_eof()
        return response

    @staticmethod
    async def _cut_after(
        request: web.BaseRequest, answer: Answer, body: bytes, headers: dict[str, str], keep: int
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status, headers=headers)
        response.content_length = len(body)
        await response.prepare(request)
        await response.write(body[:keep])
        if request.transport is not None:
            request.transport.close()
        return response

    def _ret_code(self, code: int, text: str, headers: dict[str, str]) -> Answer:
        envelope = {
            "retCode": code,
            "retMsg": text or TEXTS.get(code, "Error"),
            "result": {},
            "retExtInfo": {},
            "time": self._clock.now_ms(),
        }
        return Answer(envelope=envelope, headers=headers)


def _look_away(task: asyncio.Task[web.StreamResponse]) -> None:
    """Whoever would have received the answer may be gone; its failure then concerns nobody."""
    if not task.cancelled():
        task.exception()


def _bend(answer: Answer, fault: Fault) -> None:
    """Change what the reply says, keeping it well formed."""
    if fault.name == "wrong_content_type":
        answer.content_type = str(fault["content_type"])
    envelope = answer.envelope
    if envelope is None or envelope["retCode"] != 0:
        return
    result = envelope["result"]
    rows = result.get("list") if isinstance(result, dict) else None
    match fault.name:
        case "empty_result":
            envelope["result"] = {}
        case "null_result":
            envelope["result"] = None
        case "missing_list" if isinstance(result, dict):
            envelope["result"] = {name: value for name, value in result.items() if name != "list"}
        case "malformed_row" if rows and int(fault["row"]) < len(rows):
            row = dict(rows[int(fault["row"])])
            row.pop(str(fault["field"]), None)
            if fault["value"] is not None:
                row[str(fault["field"])] = fault["value"]
            at = int(fault["row"])
            envelope["result"] = {**result, "list": [*rows[:at], row, *rows[at + 1 :]]}


def _symbol_of(asked: Request) -> str:
    if asked.method == "GET":
        return str(parse_query(asked.query).get("symbol", ""))
    try:
        body = json.loads(asked.body or b"{}")
    except (ValueError, RecursionError):
        return ""
    return str(body.get("symbol", "")) if isinstance(body, dict) else ""
