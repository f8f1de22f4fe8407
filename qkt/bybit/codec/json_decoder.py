"""Decodes JSON with exact numbers: by `msgspec` where it is installed (``qkt[fast]``), else by the standard library.

Both give the same values to the last digit: whole numbers as int, numbers with a fraction or exponent as Decimal. A
text that `msgspec` refuses is decoded by the standard library, which then decides.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from decimal import Decimal
from importlib import import_module
from typing import Any, NoReturn

from qkt.money import decimal_from_wire

Decode = Callable[[bytes], Any]


def fraction(text: str) -> Decimal | str:
    """A JSON number with a fraction or exponent; beyond the limits it stays text, which the row's reader refuses."""
    try:
        return decimal_from_wire(text)
    except ValueError:
        return text


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_plain = json.JSONDecoder(parse_float=fraction, parse_constant=_refuse_constant)


def decode_plain(text: bytes) -> Any:
    """Decode by the standard library; raises ValueError or RecursionError."""
    return _plain.decode(text.decode("utf-8"))


def fast_decoder() -> Decode | None:
    """`decode_plain` with `msgspec` in front; None where that is not installed, or ``QKT_FAST=0`` switches it off."""
    if os.environ.get("QKT_FAST") == "0":
        return None
    try:  # by name: an optional extra, which mypy need not find
        msgspec = import_module("msgspec")
        decode = msgspec.json.Decoder(float_hook=fraction).decode
        refused: tuple[type[Exception], ...] = (msgspec.MsgspecError, ValueError, RecursionError)
    except (ImportError, AttributeError, TypeError):  # msgspec is not installed, or too old to have float_hook
        return None

    def decode_fast(text: bytes) -> Any:
        try:
            return decode(text)
        except refused:
            return decode_plain(text)

    return decode_fast


decode_json: Decode = fast_decoder() or decode_plain
"""The decoder in use."""
