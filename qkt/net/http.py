"""HTTP calls over `requests`, fast for the ordinary case.

`requests` chooses certificates, proxy and connection pool once per host; after that a request is one write to a pooled
`urllib3` connection and the response is read by `qkt.net.http_response`. A request goes through `requests` itself where
something was put in its place (an adapter faked for a test, a SOCKS proxy) and where a proxy forwards plain HTTP.
"""

from __future__ import annotations

import contextlib
import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from urllib.parse import urlsplit

import attrs
import requests
from requests.adapters import HTTPAdapter
from requests.utils import select_proxy

from qkt.clock import SystemClock
from qkt.errors import InvalidRequestError
from qkt.net.http_connection import TIME_IS_UP, Call, Cut, FreshAdapter, FreshPool
from qkt.net.http_response import BadResponseError
from qkt.net.scheduler import Scheduler

__all__ = ["TIME_IS_UP", "Call", "Cut", "HttpPool", "HttpReply"]

_DEFAULT_MAX_BODY_BYTES = 32 * 1024 * 1024
_PIECE_BYTES = 65_536
_sendable = re.compile(r"/[!-~]*").fullmatch
_adapter_send = HTTPAdapter.send  # a faked adapter replaces it on the class


@attrs.frozen
class HttpReply:
    """A whole response; header names in lower case, the body decompressed."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)


@attrs.frozen
class _Route:
    """What `requests` chose for one host. ``head`` holds the header lines that never change."""

    pool: FreshPool | None
    prefix: str
    head: str


class HttpPool:
    """A connection pool for many threads; `close` ends every call under way, `reopen` allows calls again.

    ``scheduler`` cuts calls that are not over in time while they connect, or go through `requests`.
    """

    def __init__(
        self,
        *,
        proxy: str | None = None,
        trust_env: bool = False,
        idle_limit_ms: int = 20_000,
        size: int = 32,
        scheduler: Callable[[], Scheduler] | None = None,
        max_body_bytes: int = _DEFAULT_MAX_BODY_BYTES,
    ) -> None:
        self._session = requests.Session()
        self._session.trust_env = trust_env
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))  # a jar is not safe from many threads
        self._session.headers.clear()
        self._session.headers.update({"User-Agent": "qkt", "Accept": "application/json"})
        if proxy:
            self._session.proxies = {"http": proxy, "https": proxy}
        for scheme in ("http://", "https://"):
            adapter = FreshAdapter(
                idle_limit_ms, pool_connections=4, pool_maxsize=size, pool_block=False, max_retries=0
            )
            self._session.mount(scheme, adapter)
        self._scheduler = scheduler
        self._max_body_bytes = max_body_bytes
        self._machine = SystemClock()
        self._lock = threading.Lock()
        self._routes: dict[str, _Route] = {}
        self._under_way: set[Call] = set()
        self._closed_because = ""

    def send(
        self,
        call: Call,
        method: str,
        base_url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None,
        connect_timeout_ms: int,
        read_timeout_ms: int,
    ) -> HttpReply:
        """Send ``call.target`` to ``base_url`` and read the reply, without following redirects.

        Raises:
            Cut: the call was cut, the pool is closed, or the call's time is up. InvalidRequestError: a target that
            cannot be sent. requests.RequestException, HTTPError, HTTPException, OSError: the network or the peer.
        """
        if not _sendable(call.target):
            raise InvalidRequestError(f"a path begins with '/' and holds no spaces or line breaks: {call.target!r}")
        with self._lock:
            if self._closed_because:
                raise Cut(self._closed_because)
            self._under_way.add(call)
            route = self._routes.get(base_url)
        try:
            if route is None:
                route = self._choose(base_url)
            if route.pool is None or self._is_faked(base_url):
                return self._send_by_requests(
                    call, method, base_url, headers, body, (connect_timeout_ms / 1000, read_timeout_ms / 1000)
                )
            length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
            lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            text = f"{method} {route.prefix}{call.target} HTTP/1.1\r\n{route.head}{length}{lines}\r\n"
            reply = route.pool.exchange(
                call,
                text.encode("latin-1") + (body or b""),
                connecting=self._limited(call),
                connect_timeout_ms=connect_timeout_ms,
                read_timeout_ms=read_timeout_ms,
                max_body_bytes=self._max_body_bytes,
            )
            return HttpReply(reply.status, reply.headers, reply.body)
        finally:
            with self._lock:
                self._under_way.discard(call)

    def _is_faked(self, base_url: str) -> bool:
        is_ours = isinstance(self._session.get_adapter(base_url), FreshAdapter)
        return HTTPAdapter.send is not _adapter_send or not is_ours

    def _choose(self, base_url: str) -> _Route:
        """Let `requests` choose pool, certificates and proxy for a host, and remember it."""
        prepared = self._session.prepare_request(requests.Request("GET", base_url + "/"))
        settings = self._session.merge_environment_settings(prepared.url, {}, False, None, None)
        adapter = self._session.get_adapter(base_url)
        parts = urlsplit(base_url)
        pool = None
        if isinstance(adapter, FreshAdapter) and not self._is_faked(base_url):
            proxies, verify, cert = settings["proxies"], settings["verify"], settings["cert"]
            if hasattr(adapter, "get_connection_with_tls_context"):
                chosen = adapter.get_connection_with_tls_context(prepared, verify, proxies=proxies, cert=cert)
            else:  # requests before 2.32
                chosen = adapter.get_connection(base_url + "/", proxies)
            adapter.cert_verify(chosen, prepared.url, verify, cert)  # type: ignore[no-untyped-call]
            is_forwarded = parts.scheme == "http" and select_proxy(base_url, proxies) is not None
            pool = chosen if isinstance(chosen, FreshPool) and not is_forwarded else None
        host = parts.netloc.rpartition("@")[2]
        lines = [f"Host: {host}", "Accept-Encoding: identity"]
        lines += [f"{name}: {value}" for name, value in prepared.headers.items()]
        route = _Route(pool, parts.path.rstrip("/"), "".join(f"{line}\r\n" for line in lines))
        if pool is not None:
            with self._lock:
                self._routes[base_url] = route
        return route

    def _send_by_requests(
        self,
        call: Call,
        method: str,
        base_url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout: tuple[float, float],
    ) -> HttpReply:
        url = base_url + call.target
        prepared = self._session.prepare_request(requests.Request(method, url, headers=dict(headers), data=body))
        settings = self._session.merge_environment_settings(url, {}, True, None, None)
        with self._limited(call), call.under_way():
            response = self._session.send(prepared, timeout=timeout, allow_redirects=False, **settings)
            plain = bytearray()
            for piece in response.iter_content(_PIECE_BYTES):
                plain += piece
                if len(plain) > self._max_body_bytes:
                    response.close()
                    raise BadResponseError(f"a body of more than {self._max_body_bytes} bytes")
        names = {name.lower(): value for name, value in response.headers.items()}
        return HttpReply(response.status_code, names, bytes(plain))

    @contextlib.contextmanager
    def _limited(self, call: Call) -> Iterator[None]:
        """Cut the call when its time is up, whatever it waits for."""
        if self._scheduler is None or call.deadline_ms is None:
            yield
            return
        try:
            limit = self._scheduler().schedule_once(lambda: call.cut(TIME_IS_UP), call.left_ms())
        except InvalidRequestError:  # closed in this very moment
            raise Cut("the client is closed") from None
        try:
            yield
        finally:
            limit.cancel()

    def close(self, reason: str) -> None:
        """End every call under way, let none begin, and close the pooled connections."""
        with self._lock:
            self._closed_because = reason
            calls = list(self._under_way)
            self._routes.clear()
        for call in calls:
            call.cut(reason)
        with contextlib.suppress(queue.Empty):
            self._session.close()

    def reopen(self) -> None:
        """Allow calls again."""
        with self._lock:
            self._closed_because = ""

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return len(self._under_way)
