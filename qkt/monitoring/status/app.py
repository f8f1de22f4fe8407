"""The WSGI application of the status page: GET and HEAD, read-only, strict headers on every answer."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from qkt.monitoring.extras import is_installed
from qkt.monitoring.metrics import Metrics
from qkt.monitoring.status.access import Access
from qkt.monitoring.status.model import StatusModel, StatusView
from qkt.monitoring.status.page import document, explanation_page, message_page
from qkt.secret import redact

if TYPE_CHECKING:
    from wsgiref.types import StartResponse

log: logging.Logger = logging.getLogger(__name__)

_HTML = "text/html; charset=utf-8"
_TEXT = "text/plain; charset=utf-8"
_ASSETS = {
    "/status.css": "text/css; charset=utf-8",
    "/status.js": "text/javascript; charset=utf-8",
    "/icon.svg": "image/svg+xml",
}
_HEADERS = (
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
    ("Cache-Control", "no-store"),
)
_TICK_S, _LEAST_BETWEEN_S = 1.0, 0.2

Environ = dict[str, Any]
Answer = tuple[str, str, Iterable[bytes], tuple[tuple[str, str], ...]]
"""Status, content type, body, further headers."""


class StatusApp:
    """Routes of the status page. ``max_streams`` bounds the live views, since each holds a thread of the server."""

    def __init__(self, model: StatusModel, access: Access, *, label: str, max_streams: int) -> None:
        self._model = model
        self._access = access
        self._label = label
        self._streams = threading.Semaphore(max_streams)
        self._breath = threading.Event()  # set by close: no wait outlasts the server
        self._metrics, self._registry = _metrics_of(model)
        self._routes: dict[str, Callable[[Environ], Answer]] = {
            "/": self._page,
            "/order": self._order,
            "/events": self._events,
            "/state.json": self._state,
            "/metrics": self._scrape,
            "/healthz": self._health,
        }

    def close(self) -> None:
        """End the live views and leave the metrics' registry; idempotent."""
        self._breath.set()
        self._model.history.close()
        if self._metrics is not None:
            self._metrics.close()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        decision = self._access.decide(environ)
        if decision.status:
            answer: Answer = (decision.status, _TEXT, [decision.text.encode()], decision.headers)
        else:
            answer = self._answer(environ)
        status, content_type, body, more = answer
        if environ["REQUEST_METHOD"] == "HEAD":
            _close(body)
            body = []
        headers = [("Content-Type", content_type), *_HEADERS, *more]
        if isinstance(body, list):
            headers.append(("Content-Length", str(sum(map(len, body)))))
        start_response(status, headers)
        return body

    def _answer(self, environ: Environ) -> Answer:
        path = environ.get("PATH_INFO") or "/"
        if path in _ASSETS:
            text = resources.files("qkt.monitoring.status").joinpath("assets", path[1:]).read_bytes()
            return "200 OK", _ASSETS[path], [text], ()
        route = self._routes.get(path)
        if route is None:
            return "404 Not Found", _TEXT, [b"There is no such page.\n"], ()
        try:
            return route(environ)
        except Exception as error:
            log.error("status page failed path=%s error=%s", path, redact(repr(error)), exc_info=True)
            return "500 Internal Server Error", _TEXT, [b"The page could not be made; the log says why.\n"], ()

    def _page(self, _environ: Environ) -> Answer:
        view = self._model.view()
        return "200 OK", _HTML, [document(view.sections, title=view.title, label=self._label).encode()], ()

    def _order(self, environ: Environ) -> Answer:
        query = {name: values[0] for name, values in parse_qs(environ.get("QUERY_STRING", "")).items()}
        each = self._model.broker(query.get("broker", ""))
        audit = None if each is None else each.explain(query.get("id", ""), query.get("venue_id", ""))
        if each is None or audit is None:
            text = (
                "No broker here knows this order: it is of an earlier run, or it was forgotten a day after it closed."
            )
            return "404 Not Found", _HTML, [message_page("Unknown order", text).encode()], ()
        entries = [(entry.at_ms, entry.origin, entry.fact, entry.changed) for entry in audit.entries]
        return "200 OK", _HTML, [explanation_page(each.name, audit.order, entries).encode()], ()

    def _state(self, _environ: Environ) -> Answer:
        text = json.dumps(self._model.view().to_dict(), separators=(",", ":"))
        return "200 OK", "application/json", [text.encode()], ()

    def _health(self, environ: Environ) -> Answer:
        """Without the token only the word; with it what is beyond its bound."""
        view = self._model.view()
        text = "beyond its bound" if view.is_beyond_a_bound else "ok"
        if self._access.knows(environ):
            text = "\n".join([view.verdict.sentence, *view.verdict.gaps, *view.verdict.warnings])
        status = "503 Service Unavailable" if view.is_beyond_a_bound else "200 OK"
        return status, _TEXT, [f"{text}\n".encode()], ()

    def _scrape(self, environ: Environ) -> Answer:
        if self._registry is None:
            text = b"Metrics need prometheus_client: pip install 'qkt[metrics]'\n"
            return "501 Not Implemented", _TEXT, [text], ()
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(environ.get("HTTP_ACCEPT", ""))
        return "200 OK", content_type, [encode(self._registry)], ()

    def _events(self, environ: Environ) -> Answer:
        if environ["REQUEST_METHOD"] == "HEAD":
            return "200 OK", "text/event-stream", [], ()
        if not self._streams.acquire(blocking=False):
            text = b"Too many live views are open; close one.\n"
            return "503 Service Unavailable", _TEXT, [text], (("Retry-After", "5"),)
        return (
            "200 OK",
            "text/event-stream",
            _Stream(self._live(), self._streams.release),
            (("X-Accel-Buffering", "no"),),
        )

    def _live(self) -> Iterator[bytes]:
        """Every section first, then what changed: once a second, and soon after each event."""
        sent: dict[str, str] = {}
        version = -1
        while not self._breath.is_set():
            view = self._model.view()
            changed = {name: html for name, html in view.sections.items() if sent.get(name) != html}
            sent |= changed
            yield _message(view, changed)
            if self._breath.wait(_LEAST_BETWEEN_S):
                return
            version = self._model.history.wait_for_change(version, _TICK_S - _LEAST_BETWEEN_S)


class _Stream:
    """A body that gives its place back, also when it was closed before its first step."""

    def __init__(self, parts: Iterator[bytes], release: Callable[[], None]) -> None:
        self._parts = parts
        self._release: Callable[[], None] | None = release

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        """Called by the server when the response has ended or its reader is gone."""
        release, self._release = self._release, None
        if release is not None:
            release()


def _message(view: StatusView, changed: Mapping[str, str]) -> bytes:
    at = datetime.fromtimestamp(view.snapshot.at_ms / 1000, UTC).strftime("%H:%M:%S")
    told = {
        "title": view.title,
        "level": view.verdict.level,
        "sentence": view.verdict.sentence,
        "at": at,
        "sections": changed,
    }
    return f"data: {json.dumps(told)}\n\n".encode()


def _metrics_of(model: StatusModel) -> tuple[Metrics | None, Any]:
    """Metrics in a registry of their own; None where prometheus_client is not installed."""
    if not is_installed("prometheus_client"):
        return None, None
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    return Metrics([each.broker for each in model.brokers], registry), registry


def _close(body: Iterable[bytes]) -> None:
    close = getattr(body, "close", None)
    if callable(close):
        close()
