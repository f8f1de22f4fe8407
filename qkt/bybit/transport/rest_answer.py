"""The result of one HTTP exchange: an answer of the venue or its gateway, or a failure of the network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import requests

from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.retcodes import Operation, Verdict, verdict
from qkt.errors import BybitApiError, BybitRateLimitError, QktError
from qkt.net.http import Call, Cut
from qkt.secret import Secret, printable, redact

BAN_MS = 600_000  # docs v5/rate-limit: "wait for at least 10 minutes"
_GATEWAY_REFUSALS = (400, 401, 403, 404, 405)
_ADVICE = {
    401: "check the key, the secret and the environment",
    403: "the venue refuses this address or region: regional accounts have their own host",
}


@attrs.frozen(kw_only=True)
class RestAnswer:
    """A complete HTTP reply. ``text`` is kept only when it is not a JSON object; the repr shows no content."""

    status: int
    text: bytes = attrs.field(repr=False)
    envelope: Envelope | None = attrs.field(repr=False)
    headers: Mapping[str, str] = attrs.field(repr=False)
    sent_ms: int
    received_ms: int

    @property
    def trace_id(self) -> str:
        """The venue's own id of the request, to be given to its support; "" when it has none."""
        return printable(self.headers.get("traceid", "")[:64])

    @property
    def ret_code(self) -> int | None:
        """``retCode``, or None when the reply is no envelope."""
        found = None if self.envelope is None else self.envelope.get("retCode")
        return found if isinstance(found, int) and not isinstance(found, bool) else None

    @property
    def server_ms(self) -> int | None:
        """Venue time at which the reply was made, or None when it does not say."""
        stamp = None if self.envelope is None else self.envelope.get("time")
        return stamp if isinstance(stamp, int) and not isinstance(stamp, bool) and stamp > 0 else None

    @property
    def is_throttled(self) -> bool:
        """True for retCode 10006: rate-limited, and not processed by the venue."""
        return self.ret_code is not None and verdict(self.ret_code, Operation.READ) is Verdict.THROTTLED

    def header_int(self, name: str) -> int | None:
        """A header as a number, or None when it is absent or no number."""
        text = self.headers.get(name.lower())
        return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) <= 19 else None

    def excerpt(self, secrets: Iterable[Secret]) -> str:
        """At most 120 characters of a reply that is no envelope, without secrets."""
        return redact(self.text[:4_000].decode("utf-8", "replace"), secrets, limit=120)


@attrs.frozen(kw_only=True)
class RestFailure:
    """No usable reply. ``has_left`` is False only if it is certain that no byte of the request left."""

    what: str
    has_left: bool
    was_cut: bool = False


CLOSED = RestFailure(what="the client is closed", has_left=False, was_cut=True)


def gateway_refusal(answer: RestAnswer, method: str, path: str, secrets: Iterable[Secret]) -> QktError | None:
    """The error for a status by which the gateway turns a request away before the venue reads it (docs v5/error)."""
    if answer.status not in _GATEWAY_REFUSALS or answer.ret_code is not None:
        return None
    excerpt = answer.excerpt(secrets)
    if answer.status == 403 and "frequent" in excerpt.lower():
        return BybitRateLimitError(
            f"{method} {path}: the venue has banned this address for too many requests (HTTP 403); every request "
            "stops for ten minutes",
            path=path,
            retry_after_ms=BAN_MS,
            ret_code=403,
        )
    return BybitApiError(
        answer.status,
        f"HTTP {answer.status}: {excerpt}",
        path=path,
        trace_id=answer.trace_id,
        what_to_do=_ADVICE.get(answer.status, "no such endpoint for this verb or account"),
    )


def has_left(error: Exception, call: Call) -> bool:
    """False only on proof: the connection saw no byte leave, or the error can only come before the first one."""
    if call.was_tracked or isinstance(error, Cut):
        return call.has_left
    return not isinstance(error, requests.ConnectTimeout | requests.exceptions.InvalidURL)


def cause_of(error: BaseException) -> str:
    """What happened on the network, without the exceptions that `requests` and `urllib3` wrap around it."""
    if isinstance(error.__cause__, OSError):
        error = error.__cause__
    inner = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
    reason = getattr(inner, "reason", None)
    if isinstance(reason, BaseException):
        inner = reason
    if inner is not None and isinstance(inner.__cause__, OSError):
        inner = inner.__cause__
    found = inner or error
    return f"{type(found).__name__}: {found}"
