"""The text of a request, made once: it is signed and sent as it stands (docs v5/guide).

Money goes out as plain digits; a float is refused before it can lose one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from urllib.parse import quote

from qkt.errors import InvalidRequestError
from qkt.money import to_wire

_RAW_CURSOR = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%,:;=/+@!*()")


def query_string(query: Mapping[str, Any]) -> str:
    """The query as it is signed and sent. A cursor goes in verbatim: the venue made it, percent escapes included.

    Parameters that are None are left out.
    """
    return "&".join(f"{quote(name)}={_query_value(name, value)}" for name, value in query.items() if value is not None)


def _query_value(name: str, value: Any) -> str:
    text = _wire(value)
    if not isinstance(text, str | int):
        raise InvalidRequestError(f"query parameter {name} must be text, a number or a bool, got {value!r}")
    if isinstance(text, bool):
        text = "true" if text else "false"
    text = str(text)
    if name == "cursor" and all(character in _RAW_CURSOR for character in text):
        return text
    return quote(text, safe="-_.~")


def body_text(body: Mapping[str, Any]) -> str:
    """The JSON body as it is signed and sent; Decimals as plain digits in text, floats refused."""
    return json.dumps({name: _wire(value) for name, value in body.items()}, separators=(",", ":"))


def _wire(value: Any) -> Any:
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, Decimal):
        return to_wire(value)
    if isinstance(value, Mapping):
        return {str(name): _wire(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_wire(inner) for inner in value]
    raise InvalidRequestError(
        f"cannot send {value!r} ({type(value).__name__}): money is a Decimal or text, never a float"
    )
