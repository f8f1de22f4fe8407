"""The thread and the event loop in which the venue listens.

Started and stopped from any thread; `start` returns when the port is open. To refuse connections the listening socket
is closed, and opened again on the same port.
"""

from __future__ import annotations

import asyncio
import decimal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

from aiohttp import web

from .exchange.money import CONTEXT

_START_TIMEOUT_S = 10.0
_HOUSEKEEPING_S = 0.02


class ServerThread:
    """An HTTP server with its own event loop in a daemon thread named ``qkt-venue``."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Coroutine[Any, Any, web.StreamResponse]],
        host: str,
        port: int,
        on_loop: Callable[[asyncio.AbstractEventLoop | None], None],
        housekeeping: Callable[[], None],
    ) -> None:
        self._handler = handler
        self._host = host
        self.port: Any = port
        self._on_loop = on_loop
        self._housekeeping = housekeeping
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._stop: asyncio.Event | None = None
        self._runner: web.ServerRunner | None = None
        self._server: web.Server | None = None
        self._site: web.TCPSite | None = None

    @property
    def is_running(self) -> bool:
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return self._loop

    def start(self) -> None:
        """Open the port.

        Raises:
            OSError: the port is taken.
        """
        if self._thread is not None:
            return
        self._ready.clear()
        self._failure = None
        self._thread = threading.Thread(target=self._run, name="qkt-venue", daemon=True)
        self._thread.start()
        self._ready.wait(_START_TIMEOUT_S)
        if self._failure is not None:
            self._thread.join(_START_TIMEOUT_S)
            self._thread = None
            raise self._failure

    def stop(self) -> None:
        """Close everything; idempotent."""
        thread, loop = self._thread, self._loop
        if thread is None:
            return
        if loop is not None and self._stop is not None:
            loop.call_soon_threadsafe(self._stop.set)
        if thread is not threading.current_thread():
            thread.join(_START_TIMEOUT_S)
        self._thread = None

    def run(self, job: Callable[[], Coroutine[Any, Any, Any]], timeout_s: float = _START_TIMEOUT_S) -> None:
        """Run a coroutine on the loop and wait for its end; on the loop's own thread, start it and do not wait."""
        loop = self._loop
        if loop is None:
            return
        if threading.current_thread() is self._thread:
            self._task = loop.create_task(job())  # kept: the loop itself holds only a weak reference
            return
        asyncio.run_coroutine_threadsafe(job(), loop).result(timeout_s)

    def call(self, job: Callable[[], Any]) -> None:
        """Run a function on the loop and wait for its end; from the loop's own thread, simply run it."""
        if threading.current_thread() is self._thread:
            job()
            return

        async def run() -> None:
            job()

        self.run(run)

    async def listen(self) -> None:
        """Open the port, for the first time or again."""
        if self._site is None and self._runner is not None:
            self._site = web.TCPSite(self._runner, self._host, self.port, reuse_address=True, backlog=512)
            await self._site.start()

    async def stop_listening(self, *, cut: bool) -> None:
        """Close the port; existing connections stay open unless ``cut``."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
        if cut:
            self.abort_connections()

    def abort_connections(self) -> None:
        for connection in self._server.connections if self._server is not None else ():
            if connection.transport is not None:
                connection.transport.abort()

    def _run(self) -> None:
        decimal.setcontext(CONTEXT.copy())
        try:
            asyncio.run(self._serve())
        except BaseException as failure:  # noqa: BLE001 - handed to the thread that waits in start()
            self._failure = failure
        finally:
            self._loop = None
            self._ready.set()

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._server = web.Server(self._handler, handler_cancellation=True, access_log=None, tcp_keepalive=False)
        self._runner = web.ServerRunner(self._server, shutdown_timeout=0.2)
        await self._runner.setup()
        await self.listen()
        assert self._site is not None
        self.port = self._runner.addresses[0][1]
        self._on_loop(loop)
        self._loop = loop
        self._ready.set()
        try:
            while not self._stop.is_set():
                self._housekeeping()
                try:
                    await asyncio.wait_for(self._stop.wait(), _HOUSEKEEPING_S)
                except TimeoutError:
                    continue
        finally:
            self._on_loop(None)
            self._loop = None
            if self._site is not None:
                await self._site.stop()
                self._site = None
            self.abort_connections()
            await self._runner.cleanup()
