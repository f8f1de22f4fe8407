"""A stream server under the test's hand, byte by byte: trickles, fragments, pings, goodbyes and refusals."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.rate_limits import address_budget
from qkt.errors import BybitConnectError
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import FAST_BACKOFF, QUICK, SOON, Recorder, eventually, qkt_threads, read_request

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def text_frame(text: Any, opcode: int = 0x1, fin: bool = True) -> Any:
    payload = text if isinstance(text, bytes) else text.encode()
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(payload) < 126:
        return head + bytes([len(payload)]) + payload
    return head + bytes([126]) + struct.pack("!H", len(payload)) + payload


class RawStream:
    """Accepts websockets, answers auth, subscribe and ping as the venue does, and lets a test write raw bytes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/v5/private"
        self.sockets: list[Any] = []
        self.received: list[Any] = []
        self.answers = True
        self.frame_under_way = threading.Lock()  # an answer is not written into the middle of a frame
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: Any) -> None:
        with contextlib.suppress(OSError, ValueError, IndexError):
            head = read_request(sock).split(b"\r\n")
            key = next(line.split(b":")[1].strip() for line in head if line.lower().startswith(b"sec-websocket-key"))
            accept = base64.b64encode(hashlib.sha1(key + MAGIC).digest())
            sock.sendall(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
            )
            self.sockets.append(sock)
            while True:
                self._answer(sock, *self._read_frame(sock))

    def _read_frame(self, sock: Any) -> tuple[Any, ...]:
        first, second = self._exactly(sock, 2)
        length = second & 0x7F
        if length == 126:
            length = struct.unpack("!H", self._exactly(sock, 2))[0]
        mask = self._exactly(sock, 4)
        return first & 0x0F, bytes(byte ^ mask[at % 4] for at, byte in enumerate(self._exactly(sock, length)))

    @staticmethod
    def _exactly(sock: Any, count: Any) -> Any:
        data = b""
        while len(data) < count:
            more = sock.recv(count - len(data))
            if not more:
                raise OSError("gone")
            data += more
        return data

    def _answer(self, sock: Any, opcode: Any, payload: Any) -> None:
        self.received.append((opcode, payload))
        if opcode != 1 or not self.answers:
            return
        message = json.loads(payload)
        operation = message["op"]
        answer = {"req_id": message["req_id"], "conn_id": "c"}
        if operation == "ping":
            answer |= {"op": "pong", "args": ["1"]}
        else:
            answer |= {"success": True, "ret_msg": "", "op": operation}
        with self.frame_under_way:
            sock.sendall(text_frame(json.dumps(answer)))

    def send(self, data: Any) -> None:
        self.sockets[-1].sendall(data)

    def close(self) -> None:
        for sock in [*self.sockets, self._listener]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()


@pytest.fixture
def raw() -> Iterator[Any]:
    stream = RawStream()
    yield stream
    stream.close()


@pytest.fixture
def live(venue: SimulatedBybit, raw: Any, make_client: Callable[..., BybitClient]) -> Any:
    """A client on the raw stream, its frames, and its losses."""
    return a_session(make_client(ws_url=raw.url))


@pytest.fixture
def quick(venue: SimulatedBybit, raw: Any, make_client: Callable[..., BybitClient]) -> Any:
    """The same, quick to notice."""
    return a_session(make_client(ws_url=raw.url, timing=QUICK))


def a_session(client: BybitClient) -> tuple[Any, ...]:
    frames, losses = Recorder(), Recorder()
    client.subscribe("order.spot", frames)
    client.on_disconnect(losses)
    client.connect()
    return client, frames, losses


def an_order_frame(number: int = 0) -> Any:
    return json.dumps({"topic": "order.spot", "creationTime": 1, "data": [{"category": "spot", "n": number}]})


def test_a_frame_in_fragments_is_one_frame(raw: Any, live: Any) -> None:
    _, frames, _ = live
    text = an_order_frame(7)
    raw.send(text_frame(text[:20], fin=False) + text_frame(text[20:40], 0x0, fin=False))
    raw.send(text_frame("are you there?", 0x9))  # a ping may come between fragments
    raw.send(text_frame(text[40:], 0x0))
    eventually(lambda: frames, "the frame")
    assert frames[0]["data"][0]["n"] == 7
    eventually(lambda: (0xA, b"are you there?") in raw.received, "the pong")


def test_a_frame_that_arrives_slowly_is_still_one_frame(raw: Any, live: Any) -> None:
    _client, frames, losses = live
    with raw.frame_under_way:
        for byte in text_frame(an_order_frame(8))[:40]:
            raw.send(bytes([byte]))
            threading.Event().wait(0.005)
        raw.send(text_frame(an_order_frame(8))[40:])
    eventually(lambda: frames, "the frame")
    assert not losses


def test_a_frame_that_trickles_for_ever_is_ended_by_the_watch(
    raw: Any, live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _client, _, losses = live
    monkeypatch.setattr("qkt.bybit.transport.stream._STUCK_MS", 300)
    stop = threading.Event()

    def trickle() -> None:
        with contextlib.suppress(OSError):
            raw.send(bytes([0x81, 127]) + struct.pack("!Q", 10_000_000))
            while not stop.wait(0.05):
                raw.send(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        eventually(lambda: losses, "the loss")
        assert "6 s" in losses[0]
    finally:
        stop.set()
        thread.join(SOON)


def test_a_mute_middle_of_a_frame_is_a_missing_pong(raw: Any, quick: Any) -> None:
    _, _, losses = quick
    raw.answers = False
    raw.send(text_frame(an_order_frame())[:30])
    eventually(lambda: losses, "the loss")
    assert "pong" in losses[0]


def test_a_goodbye_is_told_with_its_code_and_answered_by_coming_back(raw: Any, live: Any) -> None:
    client, _, losses = live
    raw.send(text_frame(struct.pack("!H", 1001) + b"going away", 0x8))
    eventually(lambda: losses, "the loss")
    assert "1001 going away" in losses[0]
    eventually(lambda: client.is_connected, "back")


@pytest.mark.parametrize(
    "garbage", [b"\xf1\x00", b"\x83\x00", text_frame("x", 0x0)], ids=["reserved", "unknown", "stray"]
)
def test_bytes_that_are_no_websocket_end_the_connection_only(raw: Any, live: Any, garbage: Any) -> None:
    client, _, losses = live
    raw.send(garbage)
    eventually(lambda: losses, "the loss")
    eventually(lambda: client.is_connected, "back")


def test_text_that_is_no_object_calls_for_a_reconcile_and_costs_nothing_else(raw: Any, live: Any) -> None:
    client, frames, losses = live
    gaps = Recorder()
    client.on_gap(gaps)
    for text in ("null", "[1]", "{", "NaN", '"x"'):
        raw.send(text_frame(text))
    raw.send(text_frame(an_order_frame(9)))
    eventually(lambda: frames, "the frame after them")
    assert client.stats.malformed_frames == 5
    eventually(lambda: len(gaps) == 5, "each is told")
    assert not losses


def test_binary_frames_are_read_as_text(raw: Any, live: Any) -> None:
    _, frames, _ = live
    raw.send(text_frame(an_order_frame(3), 0x2))
    eventually(lambda: frames, "the frame")


def test_a_flood_of_protocol_pings_does_not_hide_a_missing_pong(raw: Any, quick: Any) -> None:
    _, _, losses = quick
    raw.answers = False
    stop = threading.Event()

    def flood() -> None:
        with contextlib.suppress(OSError):
            while not stop.wait(0.001):
                raw.send(text_frame("", 0x9))

    thread = threading.Thread(target=flood)
    thread.start()
    try:
        eventually(lambda: losses, "the loss")
        assert "pong" in losses[0]
    finally:
        stop.set()
        thread.join(SOON)


def test_an_upgrade_to_something_else_is_a_connect_error(make_client: Callable[..., BybitClient]) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with contextlib.suppress(OSError):
            sock, _ = listener.accept()
            read_request(sock)
            sock.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(BybitConnectError):
        make_client(ws_url=f"ws://127.0.0.1:{listener.getsockname()[1]}/v5/private").connect()
    listener.close()
    thread.join(SOON)
    assert qkt_threads() == []


def test_S41_the_connection_budget_is_shared_and_kept() -> None:
    with SimulatedBybit(seed=1) as venue:
        urls: dict[str, Any] = {"rest_url": venue.rest_url, "ws_url": venue.ws_url}
        budget = address_budget(venue.rest_url)
        one, other = (BybitClient("key", "secret", backoff=FAST_BACKOFF, **urls) for _ in range(2))
        one.connect()
        other.connect()
        while budget.connection_wait_ms() == 0:
            pass
        venue.cut_streams()
        eventually(lambda: one.stats.losses == other.stats.losses == 1, "both are cut")
        threading.Event().wait(0.3)
        assert (one.stats.connections, other.stats.connections) == (1, 1)
        assert one.stats.connections_in_5_min == 450
        assert not one.is_connected
        with pytest.raises(BybitConnectError, match="connection budget"):
            BybitClient("key", "secret", **urls).connect()
        one.close()
        other.close()
