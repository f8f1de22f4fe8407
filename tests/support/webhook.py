"""A webhook on loopback that keeps what it is sent."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


class Webhook:
    """``with Webhook() as hook``: see ``hook.url`` and ``hook.received``; ``statuses`` are answered first."""

    def __init__(self, statuses: list[int] | None = None) -> None:
        self.received: list[dict[str, Any]] = []
        self.statuses = list(statuses or [])
        self._changed = threading.Condition()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(hook._take(json.loads(body)))
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Print nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook/secret-token"

    def _take(self, notice: dict[str, Any]) -> int:
        with self._changed:
            status = self.statuses.pop(0) if self.statuses else 204
            if status < 300:
                self.received.append(notice)
            self._changed.notify_all()
        return status

    def wait_for(self, count: int, timeout_s: float = 10) -> bool:
        """True when ``count`` notices came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self.received) >= count, timeout_s)

    @property
    def seen(self) -> list[tuple[str, str]]:
        """State and kind of each notice."""
        return [(notice["state"], notice["kind"]) for notice in self.received]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
