"""Serves HTTP: the API, the upgrade to WebSocket, and the controls under ``/_venue``.

The gateway answers; this shell applies the faults of the transport before a request is carried out, after it, or
instead of it. With no fault armed it sends the gateway's answer unchanged.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from aiohttp import web

from .api.answer import Answer
from .api.gateway import Gateway, Request
from .api.limits import RateLimits
from .clock import SkewedClock
from .exchange.journal import Journal
from .exchange.queries import parse_query
from .faults import Fault, Faults
from .faults.answers import alter, replacement
from .streams.hub import OpenSession, StreamHub
from .streams.session import reset

Controls = Callable[[str, str, Mapping[str, Any], bytes, Mapping[str, str]], web.Response]
"""Answers a request to ``/_venue``: verb, path, query, body, headers."""


class HttpShell:
    """Routes a connection to the API, to a stream or to the controls."""

    def __init__(
        self,
        gateway: Gateway,
        limits: RateLimits,
        hub: StreamHub,
        streams: Mapping[str, OpenSession],
        controls: Controls,
        faults: Faults,
        clock: SkewedClock,
        journal: Journal,
        exclusive: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._gateway = gateway
        self._limits = limits
        self._hub = hub
        self._streams = streams
        self._controls = controls
        self._faults = faults
        self._clock = clock
        self._journal = journal
        self._exclusive = exclusive
        self.stopping: asyncio.Event | None = None

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        if path in self._streams or path.startswith("/v5/public/"):
            return await self._upgrade(request, path, query)
        body = await request.read() if request.body_exists else b""
        if path.startswith("/_venue"):
            return self._controls(request.method, path, parse_query(query), body, request.headers)
        asked = Request(request.method, path, query, request.headers, body, request.remote or "")
        if not self._faults.armed("request") and not self._faults.armed("reply") and not self._faults.armed("both"):
            return self._respond(self._answer(asked))
        # A client that disconnects does not revoke its request: it is carried out all the same.
        handling = asyncio.get_running_loop().create_task(self._handle_with_faults(request, asked))
        handling.add_done_callback(_ignore_failure)
        return await asyncio.shield(handling)

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

    async def _upgrade(self, request: web.BaseRequest, path: str, query: str) -> web.StreamResponse:
        for fault in self._faults.take("upgrade", path=path):
            return web.Response(status=int(fault["status"]), text="")
        if not self._limits.admits_stream(request.remote or ""):
            return web.Response(status=403, text="403, access too frequent")
        if request.headers.get("Upgrade", "").lower() != "websocket":
            return web.Response(status=404, text="404 page not found")
        open_session = self._streams.get(path)
        if open_session is None:
            return web.Response(status=404, text="404 page not found")
        return await self._hub.serve(request, parse_query(query), open_session)

    async def _handle_with_faults(self, request: web.BaseRequest, asked: Request) -> web.StreamResponse:
        context = {
            "path": asked.path,
            "method": asked.method,
            "symbol": _symbol_of(asked),
            "account": asked.headers.get("X-BAPI-API-KEY", ""),
        }
        instead_of_answer: Answer | None = None
        for fault in self._faults.take(("request", "both"), **context):
            instead = await self._before(request, fault)
            if instead is not None:
                if fault.params.get("accepted"):
                    instead_of_answer = instead
                else:
                    return self._respond(instead) if isinstance(instead, Answer) else instead
        answer = self._answer(asked)
        return await self._after(request, instead_of_answer or answer, self._faults.take("reply", **context))

    async def _before(self, request: web.BaseRequest, fault: Fault) -> Any:
        """Apply a fault that acts before the request is carried out; returns the answer it gives, or None."""
        match fault.name:
            case "clock_jump":
                self._clock.jump(fault)
            case "slow_request":
                await asyncio.sleep(fault["delay_ms"] / 1000)
            case "connection_reset_before_request":
                return self._reset(request)
            case "half_open":
                return await self._hang()
            case "request_lost":
                return self._reset(request) if fault["mode"] == "reset" else await self._hang()
        return replacement(fault, self._clock.now_ms())

    async def _after(self, request: web.BaseRequest, answer: Answer, struck: list[Fault]) -> web.StreamResponse:
        """Apply the faults of the reply: first to its content, then to its transport."""
        for fault in struck:
            alter(answer, fault)
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
        """Give no answer until the client disconnects or the venue stops."""
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


def _ignore_failure(task: asyncio.Task[web.StreamResponse]) -> None:
    """Read the exception of a request whose client disconnected, so that asyncio does not report it."""
    if not task.cancelled():
        task.exception()


def _symbol_of(asked: Request) -> str:
    if asked.method == "GET":
        return str(parse_query(asked.query).get("symbol", ""))
    try:
        body = json.loads(asked.body or b"{}")
    except (ValueError, RecursionError):
        return ""
    return str(body.get("symbol", "")) if isinstance(body, dict) else ""
