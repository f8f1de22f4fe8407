"""The HTTP response reader: what it reads, what it refuses, and that no bytes make it slow or raise otherwise."""

from __future__ import annotations

import contextlib
import gzip
import random
import time
import tracemalloc
import zlib
from collections.abc import Iterable

import pytest

from qkt.net.http_response import MAX_HEAD_BYTES, BadResponseError, ResponseReader

LIMIT = 1_000_000
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: 1\r\n\r\n"


def read(pieces: Iterable[bytes], *, end: bool = False) -> ResponseReader:
    reader = ResponseReader(LIMIT)
    for piece in pieces:
        reader.feed(piece)
    if end:
        reader.end()
    return reader


def in_bytes(data: bytes) -> list[bytes]:
    return [data[number : number + 1] for number in range(len(data))]


def compressed(body: bytes, coding: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("split", ["whole", "byte by byte"])
@pytest.mark.parametrize(("data", "body"), [(PLAIN, b"{}"), (CHUNKED, b"abcde")])
def test_a_response_is_read_however_it_is_split(data: bytes, body: bytes, split: str) -> None:
    reader = read([data] if split == "whole" else in_bytes(data))

    assert (reader.status, reader.body, reader.is_complete, reader.keep_alive) == (200, body, True, True)


def test_header_names_are_lower_case_and_repeated_ones_are_joined() -> None:
    reader = read([b"HTTP/1.1 200 OK\r\nX-Bapi-Limit:  50 \r\nVary: a\r\nvary: b\r\nContent-Length: 0\r\n\r\n"])

    assert (reader.headers["x-bapi-limit"], reader.headers["vary"]) == ("50", "a, b")


def test_an_interim_response_is_passed_over() -> None:
    assert read([b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN]).body == b"{}"


def test_a_body_without_a_length_ends_with_the_connection() -> None:
    reader = read([b"HTTP/1.0 502 Bad Gateway\r\n\r\n<html>", b"</html>"], end=True)

    assert (reader.status, reader.body, reader.keep_alive) == (502, b"<html></html>", False)


@pytest.mark.parametrize("cut", range(1, len(CHUNKED) - 1, 7))
def test_a_response_that_ends_early_is_an_error_and_not_a_short_body(cut: int) -> None:
    with pytest.raises(BadResponseError):
        read([CHUNKED[:cut]], end=True)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_compressed_body_is_unpacked(coding: str) -> None:
    packed = gzip.compress(b"{}") if coding == "gzip" else zlib.compress(b"{}")
    assert read([compressed(packed, coding)]).body == b"{}"


def test_bytes_behind_a_response_close_the_connection_and_answer_no_next_request() -> None:
    reader = read([PLAIN + b"HTTP/1.1 200 OK\r\n\r\n"])

    assert (reader.body, reader.keep_alive) == (b"{}", False)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * (MAX_HEAD_BYTES + 10),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 2_000,
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (LIMIT + 1),
        compressed(gzip.compress(b"a" * (LIMIT + 1)), "gzip"),
        compressed(b"not gzip", "gzip"),
        compressed(b"x", "br"),
    ],
    ids=lambda _data: "bytes",
)
def test_what_is_no_response_or_too_large_is_refused(data: bytes) -> None:
    with pytest.raises(BadResponseError):
        read([data])


def test_a_gzip_bomb_costs_no_more_memory_than_the_limit() -> None:
    bomb = compressed(gzip.compress(b"\0" * 50_000_000), "gzip")
    tracemalloc.start()
    with contextlib.suppress(BadResponseError):
        read([bomb])
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 5 * LIMIT


def _fuzz(count: int) -> None:
    dice = random.Random(7)
    seeds = [PLAIN, CHUNKED, compressed(gzip.compress(b'{"retCode":0}' * 20), "gzip"), b"HTTP/1.1 200 OK\r\n\r\nbody"]
    slowest_s = 0.0
    for _ in range(count):
        data = bytearray(dice.choice(seeds))
        for _ in range(dice.randrange(1, 6)):
            place = dice.randrange(len(data))
            match dice.randrange(4):
                case 0:
                    data[place] = dice.randrange(256)
                case 1:
                    del data[place : place + dice.randrange(1, 9)]
                case 2:
                    data[place:place] = dice.choice([b"\r\n", b"\r\n\r\n", b"9" * 30, b": ", b"\0" * 100, b"chunked"])
                case 3:
                    data += data[place:]
            if not data:
                break
        began = time.perf_counter()
        with contextlib.suppress(BadResponseError):
            cut = dice.randrange(len(data) + 1)
            read([bytes(data[:cut]), bytes(data[cut:])], end=True)
        slowest_s = max(slowest_s, time.perf_counter() - began)
    assert slowest_s < 0.25  # alone on a core it is a hundredth of that


def test_no_bytes_raise_anything_else_or_take_long() -> None:
    _fuzz(3_000)


@pytest.mark.verify
@pytest.mark.timeout(600)
def test_a_million_mutated_responses_raise_nothing_else() -> None:
    _fuzz(1_000_000)
