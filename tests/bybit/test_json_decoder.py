"""With and without `qkt[fast]` the same JSON gives the same values, to the last digit."""

from __future__ import annotations

import contextlib
import json
import random
from decimal import Decimal
from typing import Any

import pytest

from qkt.bybit.codec.json_decoder import decode_plain, fast_decoder
from qkt.testing.builders import execution_row, order_row, wallet_envelope

FAST = fast_decoder()
needs_fast = pytest.mark.skipif(FAST is None, reason="needs: pip install 'qkt[fast]'")

TEXTS = [
    b'{"a": 1.10, "b": 0.1E-7, "c": -0.0, "d": 1e3, "e": 1e999999999}',
    b'{"a": 123456789012345678901234567890, "b": -9223372036854775809, "c": -0}',
    b'{"a": "\\ud83d\\ude00", "b": "\\ud800", "c": "\xc3\xa9", "\\u0064": null}',
    b'{"a": {"a": [true, false, null, [], {}]}, "a": 2}',
    b'{"a": NaN}',
    b'{"a": Infinity}',
    b'{"a": 01}',
    b'{"a": 1.}',
    b'{"a": "\xff"}',
    b'{"a": "x\ny"}',
    b'{"a": 1} trailing',
    b"[" * 100_000,
    b"",
    b"\xef\xbb\xbf{}",
    b"<html>",
]


def outcome(decode: Any, text: bytes) -> object:
    """The value, with the types of its numbers, or that it was refused."""
    try:
        return repr(decode(text))
    except (ValueError, RecursionError):
        return "refused"


def test_a_fraction_is_exact_and_one_beyond_the_limits_stays_text() -> None:
    assert decode_plain(b'{"a": 1.10, "b": 1e999999999}') == {"a": Decimal("1.10"), "b": "1e999999999"}


@needs_fast
@pytest.mark.parametrize("text", TEXTS, ids=lambda text: repr(text[:30]))
def test_both_decoders_give_the_same(text: bytes) -> None:
    assert outcome(FAST, text) == outcome(decode_plain, text)


@needs_fast
def test_both_decoders_give_the_same_for_mutated_rows() -> None:
    dice = random.Random(3)
    seeds = [json.dumps(row).encode() for row in (execution_row(), order_row(), wallet_envelope(USDT="1.50"))]
    for _ in range(5_000):
        text = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(1, 4)):
            text[dice.randrange(len(text))] = dice.choice(b'0123456789eE.-+"{}[],:\\ x\xc3')
        assert outcome(FAST, bytes(text)) == outcome(decode_plain, bytes(text)), bytes(text)


def test_no_text_raises_anything_but_a_refusal() -> None:
    dice = random.Random(5)
    for _ in range(5_000):
        text = bytes(dice.choice(b'{}[]":,0123456789eE.-tfn\\u ') for _ in range(dice.randrange(30)))
        with contextlib.suppress(ValueError, RecursionError):
            decode_plain(text)
