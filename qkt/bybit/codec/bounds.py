"""Limits for everything that arrives from the network, and strict readers of its numbers, times and ids.

A value beyond a limit is an error of the row or message that holds it, never a value that later code has to survive:
a 1,000,000-digit quantity, an exponent that takes minutes to expand, a date in the year 50000, an id with line breaks.
Decimals have their limits in `qkt.money`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_BODY_BYTES = 32 * 1024 * 1024
"""Size of one HTTP body, before and after decompression; the largest real page has about 100 KiB."""

MAX_MESSAGE_BYTES = 128 * 1024 * 1024
"""Size of one WebSocket message: 100,000 execution rows fit."""

MAX_BAD_ROWS = 100
"""Malformed rows of one message or page that are kept and logged one by one; further ones are counted."""

MAX_LIMIT_PER_SECOND = 10_000
"""Largest ``X-Bapi-Limit`` that is believed; the venue's largest is 400 (docs v5/rate-limit)."""

MAX_TEXT = 64
"""Length of an id, a symbol or a word such as an order status; the longest real one has 36 characters."""

_MAX_TIME_MS = 9_999_999_999_999  # the year 2286; a time in microseconds has 16 digits
_MAX_INTEGER = 2**63
_INTEGER = re.compile(r"-?[0-9]{1,19}").fullmatch
_WORD = re.compile(r"[!-~][ -~]*").fullmatch  # printable ASCII that does not begin with a space


def integer_from_wire(value: Any) -> int:
    """Read a whole number, as a JSON number or as ASCII digits, of at most 64 bits; raises ValueError."""
    if isinstance(value, str) and _INTEGER(value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"not a whole number: {_shown(value)}")
    if not -_MAX_INTEGER <= value < _MAX_INTEGER:
        raise ValueError("a whole number of more than 64 bits")
    return value


def time_ms_from_wire(value: Any) -> int:
    """Read a time in ms since 1970; 0 for None and ``""`` (not given). Raises ValueError outside 1970 to 2286."""
    if value is None or value == "":
        return 0
    time_ms = integer_from_wire(value)
    if not 0 <= time_ms <= _MAX_TIME_MS:
        raise ValueError(f"not a time in ms: {time_ms}")
    return time_ms


def text_from_wire(row: Mapping[str, Any], name: str) -> str:
    """Read an optional id or word: printable ASCII of at most 64 characters, "" when absent; raises ValueError."""
    value = row.get(name)
    if value is None or value == "":
        return ""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(integer_from_wire(value))  # spot ids are digits, and gateways may print them as numbers
    if not isinstance(value, str) or len(value) > MAX_TEXT or not _WORD(value):
        raise ValueError(f"{name} is {_shown(value)}")
    return value


def required_text(row: Mapping[str, Any], name: str) -> str:
    """Read an id or word that must be there; raises KeyError when it is absent, ValueError when it is not usable."""
    text = text_from_wire({name: row[name]}, name)
    if not text or row[name] == 0:
        raise ValueError(f"{name} is {_shown(row[name])}")
    return text


def _shown(value: object) -> str:
    """At most 64 characters of a value, for an error text; ``repr`` of a huge integer would be refused by Python."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= _MAX_INTEGER:
        return "a number of more than 64 bits"
    text = repr(value[: MAX_TEXT + 1] if isinstance(value, str) else value)
    return text if len(text) <= MAX_TEXT + 2 else f"{text[:MAX_TEXT]}..."
