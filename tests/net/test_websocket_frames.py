"""The WebSocket frame decoder: every split gives the same messages, and no bytes hang it or fill the memory."""

from __future__ import annotations

import contextlib
import random
import struct
import time

import pytest

from qkt.net.websocket_frames import BINARY, CLOSE, PING, TEXT, BadFrameError, FrameDecoder

LIMIT = 1_000_000


def frame(payload: bytes, opcode: int = TEXT, *, is_last: bool = True) -> bytes:
    head = bytes([(0x80 if is_last else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    if len(payload) < 65_536:
        return head + bytes([126]) + struct.pack("!H", len(payload)) + payload
    return head + bytes([127]) + struct.pack("!Q", len(payload)) + payload


CONVERSATION = (
    frame(b'{"topic":"order"}')
    + frame(b"x" * 300)
    + frame(b"part ", is_last=False)
    + frame(b"are you there?", PING)
    + frame(b"of it", 0x0)
    + frame(b"y" * 70_000, BINARY)
    + frame(b"\x03\xe8bye", CLOSE)
)
MESSAGES = [
    (TEXT, b'{"topic":"order"}'),
    (TEXT, b"x" * 300),
    (PING, b"are you there?"),
    (TEXT, b"part of it"),
    (BINARY, b"y" * 70_000),
    (CLOSE, b"\x03\xe8bye"),
]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 32_768, len(CONVERSATION)])
def test_messages_are_the_same_however_the_bytes_are_split(size: int) -> None:
    decoder = FrameDecoder(LIMIT)
    pieces = [CONVERSATION[begin : begin + size] for begin in range(0, len(CONVERSATION), size)]

    assert [message for piece in pieces for message in decoder.feed(piece)] == MESSAGES
    assert not decoder.is_partial


def test_a_message_that_has_begun_and_not_ended_is_partial() -> None:
    decoder = FrameDecoder(LIMIT)
    decoder.feed(frame(b"part", is_last=False))
    assert decoder.is_partial
    decoder.feed(frame(b"", 0x0))
    assert not decoder.is_partial


@pytest.mark.parametrize(
    "data",
    [
        b"\x81\x85aaaabbbbb",  # masked
        b"\xc1\x01a",  # compressed, which was not agreed
        b"\x83\x01a",  # an unknown opcode
        frame(b"a", 0x0),  # the rest of nothing
        frame(b"a", is_last=False) + frame(b"b"),  # a message within another
        frame(b"p" * 126, PING),
        b"\x09\x00",  # a control frame in parts
        b"\x81\x7f" + struct.pack("!Q", 2**63),
        frame(b"a" * 600_000, is_last=False) + frame(b"a" * 600_000, 0x0),
    ],
)
def test_what_no_server_may_send_ends_the_connection(data: bytes) -> None:
    with pytest.raises(BadFrameError):
        FrameDecoder(LIMIT).feed(data)


def test_a_message_of_many_reads_takes_time_linear_in_its_size() -> None:
    data = frame(b"z" * 50_000_000)
    decoder = FrameDecoder(100_000_000)
    began = time.perf_counter()
    messages = [
        message for begin in range(0, len(data), 32_768) for message in decoder.feed(data[begin : begin + 32_768])
    ]

    assert len(messages[0][1]) == 50_000_000
    assert time.perf_counter() - began < 2


def _fuzz(count: int) -> None:
    dice = random.Random(11)
    slowest_s = 0.0
    for _ in range(count):
        data = bytearray(CONVERSATION[: dice.randrange(1, 700)])
        for _ in range(dice.randrange(1, 5)):
            data[dice.randrange(len(data))] = dice.randrange(256)
        decoder = FrameDecoder(LIMIT)
        cut = dice.randrange(len(data))
        began = time.perf_counter()
        with contextlib.suppress(BadFrameError):
            for piece in (data[:cut], data[cut:]):
                decoder.feed(bytes(piece))
        slowest_s = max(slowest_s, time.perf_counter() - began)
    assert slowest_s < 0.25  # alone on a core it is a hundredth of that


def test_no_bytes_raise_anything_else_or_take_long() -> None:
    _fuzz(5_000)


@pytest.mark.verify
@pytest.mark.timeout(600)
def test_a_million_mutated_conversations_raise_nothing_else() -> None:
    _fuzz(1_000_000)
