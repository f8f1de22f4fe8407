"""Who may read: the methods, the Host and Origin headers, and the token. Pure functions of a request's headers."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlencode

import attrs

from qkt.secret import Secret

_PAGES = ("/", "/order")
_OPEN = "/healthz"


@attrs.frozen(kw_only=True)
class Decision:
    """Whether to answer: ``status`` is "" for yes, else the refusal (or the redirect that plants the cookie)."""

    status: str = ""
    text: str = ""
    headers: tuple[tuple[str, str], ...] = ()


class Access:
    """Checks requests against a token and the hosts by which the page may be called.

    The Host check defeats DNS rebinding: a foreign page whose name is made to point at this machine sends its own
    name. The cookie holds a value derived from the token, since browsers send cookies to every port of a host.
    """

    def __init__(self, token: Secret, hosts: frozenset[str], cookie_name: str) -> None:
        self._token = token
        self._hosts = hosts
        self._cookie_name = cookie_name
        self._cookie_value = hmac.new(token.reveal().encode(), b"qkt status cookie", hashlib.sha256).hexdigest()

    def allow(self, hosts: frozenset[str], cookie_name: str) -> None:
        """Answer to these hosts too, and name the cookie: both depend on the port, known once the socket is bound."""
        self._hosts |= hosts
        self._cookie_name = cookie_name

    def decide(self, environ: Mapping[str, Any]) -> Decision:
        """Judge a WSGI request."""
        host = str(environ.get("HTTP_HOST", "")).lower()
        if host not in self._hosts:
            return Decision(
                status="403 Forbidden", text="This page is not served under that name: see allowed_hosts.\n"
            )
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return Decision(
                status="405 Method Not Allowed", text="This server only reads.\n", headers=(("Allow", "GET, HEAD"),)
            )
        origin = environ.get("HTTP_ORIGIN")
        if origin is not None and str(origin).lower() not in (f"http://{host}", f"https://{host}"):
            return Decision(status="403 Forbidden", text="Requests from other sites are refused.\n")
        path = str(environ.get("PATH_INFO", "/"))
        return Decision() if path == _OPEN else self._check_token(environ, path)

    def knows(self, environ: Mapping[str, Any]) -> bool:
        """True when the request carries the token in any of its forms."""
        return self._has_header(environ) or self._has_cookie(environ) or self._has_query(environ)

    def _check_token(self, environ: Mapping[str, Any], path: str) -> Decision:
        if self._has_query(environ) and path in _PAGES:
            return self._redirect(environ, path)
        if self.knows(environ):
            return Decision()
        return Decision(
            status="401 Unauthorized",
            text="A token is needed: open the address that was printed at the start, or send Authorization: Bearer.\n",
            headers=(("WWW-Authenticate", 'Bearer realm="qkt status"'),),
        )

    def _redirect(self, environ: Mapping[str, Any], path: str) -> Decision:
        """Plant the cookie and drop the token from the address, so that it stays in no history or screenshot.

        SameSite is Lax, not Strict, so that a link in a chat opens the page; no request changes anything.
        """
        query = parse_qs(str(environ.get("QUERY_STRING", "")))
        query.pop("token", None)
        rest = urlencode(query, doseq=True)
        target = path.removeprefix("/") or "./"
        cookie = f"{self._cookie_name}={self._cookie_value}; Path=/; HttpOnly; SameSite=Lax"
        return Decision(
            status="303 See Other",
            headers=(("Location", f"{target}?{rest}" if rest else target), ("Set-Cookie", cookie)),
        )

    def _has_query(self, environ: Mapping[str, Any]) -> bool:
        given = parse_qs(str(environ.get("QUERY_STRING", ""))).get("token", [""])
        return self._is_token(given[0])

    def _has_header(self, environ: Mapping[str, Any]) -> bool:
        scheme, _, given = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
        return scheme.lower() == "bearer" and self._is_token(given.strip())

    def _has_cookie(self, environ: Mapping[str, Any]) -> bool:
        try:
            morsel = SimpleCookie(str(environ.get("HTTP_COOKIE", ""))).get(self._cookie_name)
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self._cookie_value)

    def _is_token(self, given: str) -> bool:
        return _same(given, self._token.reveal())


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())
