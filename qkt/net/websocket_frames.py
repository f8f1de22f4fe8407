"""Decodes WebSocket frames from a server, without a socket (RFC 6455, no extensions). Messages have an upper limit.

Feed it what each read of the socket brings; it returns every whole message in it. `websocket-client` reads one frame
with three system calls, this one reads as many frames as a read brought.
"""

from __future__ import annotations

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
_KNOWN = frozenset({CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG})
_MAX_CONTROL_BYTES = 125


class BadFrameError(ConnectionError):
    """The bytes are no WebSocket frame of a server, or a message beyond the limit: the connection must end."""


class FrameDecoder:
    """Collects the frames of one connection. Not thread-safe."""

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._buffer = bytearray()
        self._needed = 2  # bytes before there is anything to decode
        self._fragments = bytearray()
        self._fragmented_opcode = 0

    @property
    def is_partial(self) -> bool:
        """True while a message has begun and not ended."""
        return bool(self._buffer) or bool(self._fragmented_opcode)

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take bytes in; returns the whole messages and control frames in them, as (opcode, payload), in order."""
        buffer: bytes | bytearray = data
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return []
            buffer, self._buffer = self._buffer, bytearray()
        messages: list[tuple[int, bytes]] = []
        begin, end = 0, len(buffer)
        self._needed = 2
        while end - begin >= 2:
            first, second = buffer[begin], buffer[begin + 1]
            length, body = second, begin + 2
            if second >= 126:
                if second > 127:
                    raise BadFrameError("the server masks its frames")
                width = 2 if second == 126 else 8
                body += width
                if end < body:
                    break
                length = int.from_bytes(buffer[body - width : body], "big")
            if length + len(self._fragments) > self._max_message_bytes:
                raise BadFrameError(f"a message of more than {self._max_message_bytes} bytes")
            if first != 0x81 and (first & 0x70 or first & 0x0F not in _KNOWN):
                raise BadFrameError(f"a frame with the first byte {first:#04x}")
            if end < body + length:
                self._needed = body + length - begin
                break
            payload = bytes(buffer[body : body + length])
            begin = body + length
            if first == 0x81 and not self._fragmented_opcode:
                messages.append((TEXT, payload))
            else:
                self._take(first, payload, messages)
        if begin < end:
            self._buffer = bytearray(buffer[begin:])
        return messages

    def _take(self, first: int, payload: bytes, messages: list[tuple[int, bytes]]) -> None:
        """A frame that is a control frame, a part of a message, or binary."""
        opcode, is_last = first & 0x0F, bool(first & 0x80)
        if opcode >= CLOSE:
            if not is_last or len(payload) > _MAX_CONTROL_BYTES:
                raise BadFrameError("a control frame in parts")
            messages.append((opcode, payload))
            return
        if (opcode == CONTINUATION) != bool(self._fragmented_opcode):
            raise BadFrameError("a part of a message out of place")
        if opcode != CONTINUATION:
            if is_last:
                messages.append((opcode, payload))
                return
            self._fragmented_opcode = opcode
        self._fragments += payload
        if is_last:
            messages.append((self._fragmented_opcode, bytes(self._fragments)))
            self._fragments, self._fragmented_opcode = bytearray(), 0
