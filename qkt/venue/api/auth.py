"""Checks the signature of REST requests and of WebSocket logins (docs v5/guide).

``HMAC_SHA256(secret, timestamp + key + recv_window + payload)``, where the payload is the query string or the body
exactly as sent. The clock rule is ``server - recv_window <= timestamp < server + 1000``: a wider window does not admit
a clock that is ahead. As at Bybit, the text of a refusal contains the values that were checked.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256

from ..exchange.accounts import Account
from ..exchange.retcodes import Refusal

_DEFAULT_WINDOW_MS = 5000
_FUTURE_MS = 1000


class Unauthenticated(Exception):
    """Raised when an authentication header is missing; answered with HTTP 401, not with a retCode."""


def sign(secret: str, text: str) -> str:
    return hmac.digest(secret.encode(), text.encode(), "sha256").hex()


def authenticate(accounts: Mapping[str, Account], headers: Mapping[str, str], payload: str, server_ms: int) -> Account:
    """The account a signed request belongs to.

    Raises:
        Unauthenticated: a header is missing.
        Refusal: 10003 unknown key, 10002 outside the window, 10004 wrong signature, 33004 expired key.
    """
    key = headers.get("X-BAPI-API-KEY")
    signature = headers.get("X-BAPI-SIGN")
    timestamp = headers.get("X-BAPI-TIMESTAMP")
    if not key or not signature or not timestamp:
        raise Unauthenticated
    account = accounts.get(key)
    if account is None:
        raise Refusal(10003)
    if account.expired:
        raise Refusal(33004)
    window = headers.get("X-BAPI-RECV-WINDOW", "")
    check_time(timestamp, window, server_ms)
    signed_text = f"{timestamp}{key}{window}{payload}"
    expected = sign(account.secret, signed_text)
    if not hmac.compare_digest(expected, signature.lower() if signature.isascii() else ""):
        raise Refusal(10004, text=f"error sign! origin_string[{signed_text}]")
    return account


def check_time(timestamp: str, window: str, server_ms: int) -> None:
    """Check the clock rule.

    Raises:
        Refusal: 10002 when the timestamp is outside the window, or one of the two is not a number.
    """
    digits = timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 20
    window_digits = not window or (window.isascii() and window.isdigit() and len(window) < 12)
    window_ms = int(window) if window and window_digits else _DEFAULT_WINDOW_MS
    if not digits or not window_digits or not server_ms - window_ms <= int(timestamp) < server_ms + _FUTURE_MS:
        raise Refusal(
            10002,
            text="invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{timestamp}],server_timestamp[{server_ms}],recv_window[{window or _DEFAULT_WINDOW_MS}]",
        )


def authenticate_stream(accounts: Mapping[str, Account], arguments: object, server_ms: int) -> Account | str:
    """The account of a stream login, or the text of its refusal.

    The docs give no texts for a wrong key or signature; ``Params Error`` for a late ``expires`` is captured.
    """
    if not isinstance(arguments, list) or len(arguments) < 3:
        return "Params Error"
    key, expires, signature = arguments[:3]
    if not isinstance(key, str) or not isinstance(signature, str):
        return "Params Error"
    try:
        expires_ms = int(expires)
    except (TypeError, ValueError):
        return "Params Error"
    if expires_ms <= server_ms:
        return "Params Error"
    account = accounts.get(key)
    if account is None or account.expired:
        return "Invalid api_key" if account is None else "Your api key has expired."
    expected = hmac.new(account.secret.encode(), f"GET/realtime{expires}".encode(), sha256).hexdigest()
    if not signature.isascii() or not hmac.compare_digest(expected, signature.lower()):
        return "Error sign, please check your signature generation algorithm."
    return account
