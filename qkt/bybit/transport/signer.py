"""Signatures of REST requests and stream logins.

The venue signs over ``timestamp + api_key + recv_window + payload`` (docs v5/guide), where the payload is the query or
the body *exactly as sent*; the private stream signs ``GET/realtime<expires>`` (docs v5/ws/connect). HMAC keys answer
in lowercase hex, RSA keys in base64. Keys are kept as `Secret` and revealed in this module only.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from importlib import import_module

from qkt.errors import InvalidRequestError
from qkt.secret import Secret

_LEAST_REDACTED = 6  # the venue's keys have 18 and 36 characters; redacting a shorter text would remove ordinary words


class BybitSigner:
    """Signs REST requests and stream logins with one key.

    ``api_secret`` is the HMAC secret, or an RSA private key in PEM text (needs ``pip install 'qkt[rsa]'``).
    ``secrets`` is what must be taken out of every text that is shown. ``referer`` is a broker's id, sent beside the
    signature and no part of it (docs v5/guide).
    """

    def __init__(self, api_key: str | Secret, api_secret: str | Secret, referer: str = "") -> None:
        self._key = _as_secret(api_key, "api_key")
        secret = _as_secret(api_secret, "api_secret")
        self.referer: dict[str, str] = {"Referer": referer} if referer else {}
        self.is_rsa: bool = "-----BEGIN" in secret.reveal()
        self._sign = _rsa(secret) if self.is_rsa else _hmac(secret)
        both = (self._key, secret)
        self.secrets: tuple[Secret, ...] = tuple(text for text in both if len(text.reveal()) >= _LEAST_REDACTED)

    @property
    def api_key(self) -> Secret:
        """The API key."""
        return self._key

    def sign(self, timestamp_ms: int, recv_window_ms: int, payload: str) -> str:
        """The signature of one request; ``payload`` is the query without ``?``, or the body, as it will be sent."""
        return self._sign(f"{timestamp_ms}{self._key.reveal()}{recv_window_ms}{payload}")

    def headers(self, timestamp_ms: int, recv_window_ms: int, payload: str) -> dict[str, str]:
        """The headers that authenticate one request. Never log them."""
        return {
            "X-BAPI-API-KEY": self._key.reveal(),
            "X-BAPI-TIMESTAMP": str(timestamp_ms),
            "X-BAPI-RECV-WINDOW": str(recv_window_ms),
            "X-BAPI-SIGN": self.sign(timestamp_ms, recv_window_ms, payload),
            **self.referer,
        }

    def sign_login(self, expires_ms: int) -> str:
        """The signature of a stream login that the venue accepts until ``expires_ms``."""
        return self._sign(f"GET/realtime{expires_ms}")

    def login_frame(self, expires_ms: int, req_id: str) -> str:
        """The text of the stream's ``auth`` request. Never log it."""
        args = [self._key.reveal(), expires_ms, self.sign_login(expires_ms)]
        return json.dumps({"req_id": req_id, "op": "auth", "args": args})

    def __repr__(self) -> str:
        return f"<BybitSigner {'RSA' if getattr(self, 'is_rsa', False) else 'HMAC'}>"


def _as_secret(value: str | Secret, name: str) -> Secret:
    secret = value if isinstance(value, Secret) else Secret(str(value).strip())
    if not secret:
        raise InvalidRequestError(f"{name} is empty")
    return secret


def _hmac(secret: Secret) -> Callable[[str], str]:
    keyed = hmac.new(secret.reveal().encode(), digestmod=hashlib.sha256)  # copied per signature: the key is set up once

    def sign(text: str) -> str:
        state = keyed.copy()
        state.update(text.encode())
        return state.hexdigest()

    return sign


def _rsa(secret: Secret) -> Callable[[str], str]:
    try:  # by name: an optional extra, which mypy need not find
        hashes = import_module("cryptography.hazmat.primitives.hashes")
        serialization = import_module("cryptography.hazmat.primitives.serialization")
        padding = import_module("cryptography.hazmat.primitives.asymmetric.padding")
        rsa = import_module("cryptography.hazmat.primitives.asymmetric.rsa")
    except ImportError:
        raise InvalidRequestError("api_secret is an RSA key; signing with it needs: pip install 'qkt[rsa]'") from None
    try:
        key = serialization.load_pem_private_key(secret.reveal().encode(), password=None)
    except (ValueError, TypeError) as error:
        # from None: the parser's own message may quote the key
        raise InvalidRequestError(f"api_secret is not a readable RSA private key ({type(error).__name__})") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise InvalidRequestError("api_secret is a private key of another kind; the venue takes RSA keys only")

    def sign(text: str) -> str:
        return base64.b64encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())).decode()

    return sign
