"""Reads one HTTP/1.1 response from bytes, without a socket (RFC 9112). Every part has an upper limit.

Feed it what each read of the socket brings until it is complete. A response that is not valid, or larger than the
limits, raises `BadResponseError` at once.
"""

from __future__ import annotations

import zlib
from http.client import HTTPException

MAX_HEAD_BYTES = 65_536
_MAX_CHUNK_LINE = 1_024
_NO_BODY = (204, 304)


class BadResponseError(HTTPException):
    """The bytes are no HTTP response, or one beyond the limits."""


class ResponseReader:
    """Collects one response. ``headers`` has lower-case names; repeated ones are joined by ``, ``.

    After `is_complete`: ``status``, ``headers``, ``body`` (decompressed) and ``keep_alive``.
    """

    def __init__(self, max_body_bytes: int) -> None:
        self.status: int = 0
        self.headers: dict[str, str] = {}
        self.body: bytes = b""
        self.keep_alive: bool = False
        self.is_complete: bool = False
        self._max_body_bytes = max_body_bytes
        self._buffer = bytearray()
        self._has_head = False
        self._left: int | None = None  # bytes of the body or chunk still to come; None: until the connection ends
        self._is_chunked = False
        self._in_trailer = False
        self._parts = bytearray()

    def feed(self, data: bytes) -> bool:
        """Take bytes in; returns True when the response is complete."""
        self._buffer += data
        if not self._has_head and not self._read_head():
            return False
        if self._is_chunked:
            self._read_chunks()
        else:
            self._read_plain()
        return self.is_complete

    def end(self) -> None:
        """The connection has ended; raises BadResponseError unless that is how this response ends."""
        if self.is_complete:
            return
        if not self._has_head or self._left is not None or self._is_chunked:
            raise BadResponseError("the connection ended before the response was complete")
        self._finish()
        self.keep_alive = False

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise BadResponseError(f"a response head of more than {MAX_HEAD_BYTES} bytes")
            if not b"HTTP/1.".startswith(self._buffer[:7]):
                raise BadResponseError("not an HTTP/1.1 response")
            return False
        if end > MAX_HEAD_BYTES:
            raise BadResponseError(f"a response head of more than {MAX_HEAD_BYTES} bytes")
        head = bytes(self._buffer[:end]).decode("latin-1")
        del self._buffer[: end + 4]
        status_line, *lines = head.split("\r\n")
        self.status = _status_of(status_line)
        self.headers = _headers_of(lines)
        if 100 <= self.status < 200:  # an interim response, e.g. 103 Early Hints: the final one follows
            if self.status == 101:
                raise BadResponseError("the server switches protocols unasked")
            return self._read_head()
        self._has_head = True
        self._plan_body(status_line)
        return True

    def _plan_body(self, status_line: str) -> None:
        connection = self.headers.get("connection", "").lower()
        self.keep_alive = "close" not in connection and (
            status_line.startswith("HTTP/1.1") or "keep-alive" in connection
        )
        coding, length = self.headers.get("transfer-encoding"), self.headers.get("content-length")
        if self.status in _NO_BODY:
            self._left = 0
        elif coding is not None:
            if coding.lower() != "chunked" or length is not None:
                raise BadResponseError(f"transfer coding {coding[:40]!r} is not understood")
            self._is_chunked = True
        elif length is not None:
            if not (length.isascii() and length.isdigit()) or len(length) > 15:
                raise BadResponseError("Content-Length is not a number")
            self._left = self._allowed(int(length))
        else:
            self.keep_alive = False

    def _allowed(self, size: int) -> int:
        if size > self._max_body_bytes:
            raise BadResponseError(f"a body of more than {self._max_body_bytes} bytes")
        return size

    def _read_plain(self) -> None:
        if self._left is None:
            self._allowed(len(self._buffer))
        elif len(self._buffer) >= self._left:
            if len(self._buffer) > self._left:
                self.keep_alive = False  # bytes that no request asked for
                del self._buffer[self._left :]
            self._finish()

    def _read_chunks(self) -> None:
        while not self.is_complete:
            if self._left is None:
                line = self._line()
                if line is None:
                    return
                if self._in_trailer:
                    if not line:
                        self._buffer, rest = self._parts, self._buffer
                        self.keep_alive = self.keep_alive and not rest
                        self._finish()
                    continue
                size = line.split(b";", 1)[0].strip()
                if not size or len(size) > 12 or size.strip(b"0123456789abcdefABCDEF"):
                    raise BadResponseError("a chunk without a size")
                self._left = self._allowed(int(size, 16) + len(self._parts)) - len(self._parts)
                if not self._left:
                    self._in_trailer, self._left = True, None
                    continue
            if len(self._buffer) < self._left + 2:
                return
            if self._buffer[self._left : self._left + 2] != b"\r\n":
                raise BadResponseError("a chunk that does not end where it says")
            self._parts += self._buffer[: self._left]
            del self._buffer[: self._left + 2]
            self._left = None

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", 0, _MAX_CHUNK_LINE + 2)
        if end < 0:
            if len(self._buffer) > _MAX_CHUNK_LINE:
                raise BadResponseError("a chunk line without an end")
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    def _finish(self) -> None:
        self.body = _decompressed(
            bytes(self._buffer), self.headers.get("content-encoding", "").lower(), self._max_body_bytes
        )
        self._buffer = bytearray()
        self.is_complete = True


def _status_of(line: str) -> int:
    version, _, rest = line.partition(" ")
    status = rest[:3]
    if version not in ("HTTP/1.1", "HTTP/1.0") or not (status.isascii() and status.isdigit()) or rest[3:4].strip():
        raise BadResponseError("not an HTTP/1.1 response")
    return int(status)


def _headers_of(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadResponseError("a header line that is none")
        name, value = name.lower(), value.strip()
        if name not in headers:
            headers[name] = value
        elif name == "content-length" and headers[name] != value:
            raise BadResponseError("two different Content-Length headers")
        elif name != "content-length":
            headers[name] = f"{headers[name]}, {value}"
    return headers


def _decompressed(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("", "identity"):
        return body
    if coding not in ("gzip", "x-gzip", "deflate"):
        raise BadResponseError(f"content coding {coding[:40]!r} is not understood")
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16 if "gzip" in coding else zlib.MAX_WBITS)
    try:
        plain = decoder.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadResponseError(f"a compressed body that is broken ({error})") from None
    if len(plain) > limit:
        raise BadResponseError(f"a compressed body of more than {limit} bytes")
    if not decoder.eof:
        raise BadResponseError("a compressed body without an end")
    return plain
