"""A raw Bybit on loopback in a process of its own: canned replies and frames that were rendered beforehand.

It checks nothing and remembers nothing, so that what is measured is the client. Each *door* is a port of its own: an
address budget belongs to host and port, so a fresh door starts with a fresh budget. A benchmark steers the server
through ``/bench/...`` paths of a door: open another door, render frames, send them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import json
import multiprocessing
import selectors
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any
from urllib.parse import parse_qsl, urlencode

from tests.benchmarks import wire

_HOST = "127.0.0.1"
_WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nX-Bapi-Limit: 100000\r\n"
    b"X-Bapi-Limit-Status: 99999\r\nX-Bapi-Limit-Reset-Timestamp: 0\r\nTraceid: bench\r\nContent-Length: "
)
# pybit notes a subscription after it was sent, and fails on an acknowledgement that is quicker than that.
_ACKNOWLEDGE_AFTER_S = 0.02
_TEXT, _CLOSE, _PING, _PONG = 1, 8, 9, 10


class Door:
    """How a benchmark finds one door of the server, and steers it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.rest_url = f"http://{_HOST}:{port}"
        self.ws_url = f"ws://{_HOST}:{port}/v5/private"
        self.trade_url = f"ws://{_HOST}:{port}/v5/trade"

    def another(self) -> Door:
        """A new door of the same server."""
        return Door(int(self._ask("door")["port"]))

    def hold(self, *, orders: int, fills_each: int) -> None:
        """Answer this door's reads with so many open orders and executions."""
        self._ask("hold", orders=orders, fills_each=fills_each)

    def render(self, kind: str, **arguments: int) -> int:
        """Render frames (``fills``, ``amends`` or ``lives`` of `wire`) for the next `send`; returns how many."""
        return int(self._ask("render", kind=kind, **arguments)["frames"])

    def send(self, *, per_second: int = 0) -> list[int]:
        """Send the rendered frames, all at once or paced; with a pace, returns when each left, in monotonic ns."""
        return [int(stamp) for stamp in self._ask("send", per_second=per_second)["sent_ns"]]

    def requests(self) -> dict[str, int]:
        """Path -> how often it was asked at this door."""
        return {path: int(count) for path, count in self._ask("requests").items()}

    def _ask(self, command: str, **arguments: object) -> dict[str, Any]:
        connection = http.client.HTTPConnection(_HOST, self.port, timeout=300)
        try:
            connection.request("GET", f"/bench/{command}?{urlencode(arguments)}")
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        return answer


@contextlib.contextmanager
def running_server() -> Iterator[Door]:
    """Start the server's process; yields its first door."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield Door(int(ours.recv()))
    finally:
        ours.close()
        process.terminate()
        process.join(10)


def _serve(pipe: Connection) -> None:
    server = _Server()
    pipe.send(server.open_door())
    server.accept_forever()


class _Stream:
    """One WebSocket connection after its upgrade."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.topics: dict[str, str] = {}
        self._sending = threading.Lock()

    def send(self, data: bytes, opcode: int = _TEXT) -> None:
        self.send_raw(encoded(data, opcode))

    def send_raw(self, data: bytes) -> None:
        with self._sending:
            self.sock.sendall(data)

    def topic(self, family: str) -> str:
        """The topic as the client subscribed to it: ``order`` or ``order.spot``."""
        return self.topics.get(family, family)


class _DoorState:
    """What one door answers, and the stream connected to it."""

    def __init__(self) -> None:
        self.stream: _Stream | None = None
        self.rendered: list[bytes] = []
        self.requests: Counter[str] = Counter()
        self.pages: dict[str, list[bytes]] = {}
        self.hold(0, 0)

    def hold(self, orders: int, fills_each: int) -> None:
        self.pages = {
            "/v5/order/realtime": wire.open_order_pages(orders, fills_each),
            "/v5/execution/list": wire.execution_pages(orders, fills_each),
        }


_EMPTY = wire.envelope('{"list":[],"nextPageCursor":"","category":"spot"}')
_CANNED = {
    "/v5/account/wallet-balance": wire.wallet(),
    "/v5/market/instruments-info": wire.envelope(json.dumps({"category": "spot", "list": [wire.INSTRUMENT]})),
    "/v5/market/tickers": wire.envelope('{"category":"spot","list":[{"symbol":"BTCUSDT","lastPrice":"59000.1"}]}'),
    "/v5/user/query-api": wire.envelope('{"uta":1,"permissions":{}}'),
    "/v5/account/info": wire.envelope('{"unifiedMarginStatus":6}'),
}


class _Server:
    """Accepts on every door in one thread and serves each connection in a thread of its own."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def open_door(self) -> int:
        listener = socket.create_server((_HOST, 0), backlog=256)
        self._selector.register(listener, selectors.EVENT_READ, _DoorState())
        return int(listener.getsockname()[1])

    def accept_forever(self) -> None:
        while True:
            for key, _ in self._selector.select(timeout=1):
                assert isinstance(key.fileobj, socket.socket)
                sock, _ = key.fileobj.accept()
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._converse, args=(key.data, sock), daemon=True).start()

    def _converse(self, door: _DoorState, sock: socket.socket) -> None:
        with contextlib.suppress(OSError), contextlib.closing(sock):
            rest = b""
            while True:
                while b"\r\n\r\n" not in rest:
                    more = sock.recv(65536)
                    if not more:
                        return
                    rest += more
                head, _, rest = rest.partition(b"\r\n\r\n")
                method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
                path, _, query = target.partition("?")
                headers = head.lower()
                if b"upgrade: websocket" in headers:
                    self._upgrade(door, sock, head, path)
                    return
                length = _content_length(headers)
                while len(rest) < length:
                    rest += sock.recv(65536)
                body, rest = rest[:length], rest[length:]
                answer = self._answer(door, method, path, query, body)
                sock.sendall(_HEAD + str(len(answer)).encode() + b"\r\n\r\n" + answer)

    def _answer(self, door: _DoorState, method: str, path: str, query: str, body: bytes) -> bytes:
        if path.startswith("/bench/"):
            return json.dumps(self._steer(door, path.removeprefix("/bench/"), dict(parse_qsl(query)))).encode()
        door.requests[path] += 1
        return wire.stamped(self._reply(door, method, path, query, body))

    def _reply(self, door: _DoorState, method: str, path: str, query: str, body: bytes) -> bytes:
        if path == "/v5/market/time":
            now_ns = time.time_ns()
            return wire.envelope(f'{{"timeSecond":"{now_ns // 10**9}","timeNano":"{now_ns}"}}')
        if path in door.pages:
            asked = dict(parse_qsl(query))
            if asked.get("orderFilter", "Order") != "Order":
                return _EMPTY
            return door.pages[path][int(asked.get("cursor") or 0)]
        if method == "POST":
            return wire.envelope(acknowledged(_link_id(body)))
        return _CANNED.get(path, _EMPTY)

    def _steer(self, door: _DoorState, command: str, arguments: dict[str, str]) -> dict[str, Any]:
        if command == "door":
            return {"port": self.open_door()}
        if command == "hold":
            door.hold(int(arguments["orders"]), int(arguments["fills_each"]))
            return {}
        if command == "requests":
            return dict(door.requests)
        if door.stream is None:
            raise RuntimeError("no stream is connected to this door")
        if command == "render":
            door.rendered = _rendered(door.stream, arguments)
            return {"frames": len(door.rendered)}
        if command == "send":
            return {"sent_ns": _send(door.stream, door.rendered, int(arguments["per_second"]))}
        raise RuntimeError(f"the benchmark server has no command {command!r}")

    def _upgrade(self, door: _DoorState, sock: socket.socket, head: bytes, path: str) -> None:
        key = next(line.partition(b":")[2].strip() for line in head.split(b"\r\n") if _is_websocket_key(line))
        accept = base64.b64encode(hashlib.sha1(key + _WEBSOCKET_GUID, usedforsecurity=False).digest())
        sock.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        stream = _Stream(sock)
        is_trade = path.endswith("/trade")
        if not is_trade:
            door.stream = stream
        reader = sock.makefile("rb")
        while True:
            opcode, data = _read_frame(reader.read)
            if opcode == _CLOSE:
                stream.send(data, _CLOSE)
                return
            if opcode == _PING:
                stream.send(data, _PONG)
            elif opcode == _TEXT:
                (_answer_trade if is_trade else _answer_private)(stream, json.loads(data))


def encoded(data: bytes, opcode: int = _TEXT) -> bytes:
    """One unmasked WebSocket frame (RFC 6455, section 5.2)."""
    first, length = 0x80 | opcode, len(data)
    if length < 126:
        return struct.pack("!BB", first, length) + data
    if length < 65_536:
        return struct.pack("!BBH", first, 126, length) + data
    return struct.pack("!BBQ", first, 127, length) + data


def _read_frame(read: Callable[[int], bytes]) -> tuple[int, bytes]:
    """Opcode and unmasked payload of a client's frame; raises OSError at the end of the connection."""
    first, second = _exactly(read, 2)
    length = second & 0x7F
    if length == 126:
        (length,) = struct.unpack("!H", _exactly(read, 2))
    elif length == 127:
        (length,) = struct.unpack("!Q", _exactly(read, 8))
    mask, data = _exactly(read, 4), _exactly(read, length)
    return first & 0x0F, bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = read(size)
    if len(data) < size:
        raise OSError("the client is gone")
    return data


def _answer_private(stream: _Stream, message: dict[str, Any]) -> None:
    """Docs v5/ws/connect: login, subscription and ping."""
    operation, req_id = message.get("op"), message.get("req_id", "")
    if operation == "ping":
        stream.send(json.dumps({"req_id": req_id, "op": "pong", "args": ["0"], "conn_id": "bench"}).encode())
        return
    if operation == "subscribe":
        for topic in message["args"]:
            stream.topics[topic.split(".")[0]] = topic
        threading.Event().wait(_ACKNOWLEDGE_AFTER_S)
    answer = {"success": True, "ret_msg": "", "op": operation, "req_id": req_id, "conn_id": "bench"}
    stream.send(json.dumps(answer).encode())


def _answer_trade(stream: _Stream, message: dict[str, Any]) -> None:
    """Docs v5/websocket/trade/guideline: login, ping, and an acknowledgement for each order."""
    operation = message.get("op")
    answer: dict[str, Any] = {"retCode": 0, "retMsg": "OK", "op": operation, "connId": "bench"}
    if operation == "ping":
        answer = {**answer, "op": "pong", "data": [str(time.time_ns() // 1_000_000)]}
    elif operation != "auth":
        link_id = str(message["args"][0].get("orderLinkId", ""))
        header = {"Traceid": "bench", "Timenow": str(time.time_ns() // 1_000_000), "X-Bapi-Limit": "100000"}
        answer |= {
            "reqId": message.get("reqId", ""),
            "data": json.loads(acknowledged(link_id)),
            "retExtInfo": {},
            "header": {**header, "X-Bapi-Limit-Status": "99999", "X-Bapi-Limit-Reset-Timestamp": "0"},
        }
    stream.send(json.dumps(answer).encode())


def acknowledged(link_id: str) -> str:
    """The result of a create request."""
    return f'{{"orderId":"{wire.order_id(wire.order_number(link_id))}","orderLinkId":"{link_id}"}}'


def _rendered(stream: _Stream, arguments: dict[str, str]) -> list[bytes]:
    kind, numbers = arguments["kind"], {name: int(value) for name, value in arguments.items() if name != "kind"}
    if kind == "fills":
        frames = wire.fills(stream.topic("execution"), **numbers)
    elif kind == "amends":
        frames = wire.amends(stream.topic("order"), **numbers)
    else:
        frames = wire.lives(stream.topic("order"), stream.topic("execution"), **numbers)
    return [encoded(one) for one in frames]


def _send(stream: _Stream, frames: Sequence[bytes], per_second: int) -> list[int]:
    if not per_second:
        stream.send_raw(b"".join(frames))
        return []
    begun_ns, interval_ns = time.monotonic_ns(), 1_000_000_000 // per_second
    sent_ns = []
    for place, one in enumerate(frames):
        ahead_ns = begun_ns + place * interval_ns - time.monotonic_ns()
        if ahead_ns > 0:
            time.sleep(ahead_ns / 1e9)
        sent_ns.append(time.monotonic_ns())
        stream.send_raw(one)
    return sent_ns


def _link_id(body: bytes) -> str:
    _, _, behind = body.partition(b'"orderLinkId"')
    return behind.split(b'"', 2)[1].decode() if behind else ""


def _content_length(headers: bytes) -> int:
    _, _, behind = headers.partition(b"content-length:")
    return int(behind.split(b"\r\n", 1)[0]) if behind else 0


def _is_websocket_key(line: bytes) -> bool:
    return line.lower().startswith(b"sec-websocket-key:")
