"""Decodes and checks REST envelopes: a successful one passes, any other raises the error that it proves.

Every REST answer is ``{"retCode", "retMsg", "result", "retExtInfo", "time"}`` (docs v5/guide) with HTTP 200 for
business errors too: only ``retCode`` decides. `BybitClient` and `FakeBybitClient` both use this module, so a test with
the fake meets the same errors as a bot at the venue.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qkt.bybit.codec.json_decoder import decode_json
from qkt.bybit.codec.retcodes import Operation, Verdict, advice, operation_for, verdict
from qkt.errors import BybitApiError, BybitRateLimitError, OutcomeUnknownError, VenueProtocolError
from qkt.secret import Secret, redact

Envelope = dict[str, Any]

_EXCERPT_BYTES = 4_096
_LOOK_IT_UP = "it may have happened: do not resend, look it up by client_order_id"


def decode(text: str | bytes, secrets: Iterable[Secret] = ()) -> Envelope:
    """Parse JSON with every fractional number as an exact Decimal; raises VenueProtocolError on anything but an object.

    Source: docs v5/guide, "Common response parameters".
    """
    try:
        decoded = decode_json(text.encode() if isinstance(text, str) else text)
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict):
        shown = text[:_EXCERPT_BYTES].decode("utf-8", "replace") if isinstance(text, bytes) else text
        # raised outside the handler: a JSONDecodeError carries the whole document, keys and all
        raise VenueProtocolError("the venue's reply is not a JSON object", excerpt=redact(shown, secrets))
    return decoded


def check_envelope(
    path: str,
    envelope: object,
    *,
    is_write: bool,
    trace_id: str = "",
    secrets: Iterable[Secret] = (),
    signed_ms: int | None = None,
    recv_window_ms: int | None = None,
    retry_after_ms: int | None = None,
) -> Envelope:
    """Pass a successful envelope through; raise what an unsuccessful one proves.

    Raises:
        BybitApiError: a definite refusal, with what to do about it.
        OutcomeUnknownError: a write whose outcome the venue does not know, or whose reply is no envelope.
        BybitRateLimitError: turned away unread; nothing was done.
        VenueProtocolError: a read whose reply is no envelope.
    """
    secrets = tuple(secrets)
    ret_code = envelope.get("retCode") if isinstance(envelope, dict) else None
    if not isinstance(envelope, dict) or not isinstance(ret_code, int) or isinstance(ret_code, bool):
        excerpt = redact(str(envelope)[:_EXCERPT_BYTES], secrets)
        if is_write:
            raise OutcomeUnknownError(
                f"POST {path} was answered with something that is no envelope ({excerpt}); {_LOOK_IT_UP}",
                path=path,
                signed_ms=signed_ms,
                recv_window_ms=recv_window_ms,
            )
        raise VenueProtocolError(f"GET {path}: the reply has no retCode", path=path, excerpt=excerpt)
    operation = _operation(path, is_write)
    found = verdict(ret_code, operation)
    if found is Verdict.OK:
        return envelope
    ret_msg = redact(str(envelope.get("retMsg", ""))[:_EXCERPT_BYTES], secrets)
    if found is Verdict.THROTTLED:
        raise BybitRateLimitError(
            f"{path} ret_code={ret_code} ret_msg={ret_msg!r}: {advice(ret_code, operation)}",
            path=path,
            retry_after_ms=retry_after_ms,
            ret_code=ret_code,
        )
    if found is Verdict.AMBIGUOUS and is_write:
        trace = f" trace_id={trace_id}" if trace_id else ""
        raise OutcomeUnknownError(
            f"POST {path} ret_code={ret_code} ret_msg={ret_msg!r}{trace}; {_LOOK_IT_UP}",
            path=path,
            signed_ms=signed_ms,
            recv_window_ms=recv_window_ms,
            ret_code=ret_code,
        )
    raise BybitApiError(ret_code, ret_msg, path=path, trace_id=trace_id, what_to_do=advice(ret_code, operation))


def vetted(path: str, envelope: Envelope, *, is_write: bool) -> Envelope:
    """What a transport returned, unless it passed an error envelope through that it should have raised."""
    is_refusal = not isinstance(envelope, dict) or envelope.get("retCode", 0) != 0
    return check_envelope(path, envelope, is_write=is_write) if is_refusal else envelope


def _operation(path: str, is_write: bool) -> Operation:
    operation = operation_for(path)
    return Operation.CONFIG if is_write and operation is Operation.READ else operation
