"""Waiting, recording, and a server that misbehaves byte by byte."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from qkt.bybit.transport.stream_session import Timing
from qkt.net.backoff import ExponentialBackoff

SOON = 8.0  # seconds: far more than anything here needs
CALM = Timing(
    ping_interval_ms=200, pong_timeout_ms=4_000, grace_ms=4_000, answer_timeout_ms=4_000, retry_refused_ms=300
)
QUICK = Timing(ping_interval_ms=200, pong_timeout_ms=300, grace_ms=100, answer_timeout_ms=600, retry_refused_ms=300)
FAST_BACKOFF = ExponentialBackoff(initial_ms=20, max_ms=80)


def eventually(condition: Callable[[], object], what: str = "", within_s: float = SOON) -> None:
    """Wait until it holds; fail saying what never came."""
    deadline = time.monotonic() + within_s
    pause = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"never happened: {what}"
        pause.wait(0.005)


def qkt_threads() -> list[str]:
    return sorted(
        thread.name for thread in threading.enumerate() if thread.name.startswith("qkt-") and thread.name != "qkt-venue"
    )


class Recorder(list):  # type: ignore[type-arg]
    """What was heard, and on which threads."""

    def __init__(self) -> None:
        self.threads: set[Any] = set()

    def __call__(self, *heard: Any) -> None:
        self.threads.add(threading.current_thread().name)
        self.append(heard[0] if heard else None)


class RawServer:
    """Answers each connection by a script: a function of the socket. Remembers what was received."""

    def __init__(self, script: Callable[[socket.socket, bytes], None]) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: Any) -> None:
        with contextlib.suppress(OSError):
            while request := read_request(sock):
                self.requests.append(request)
                self._script(sock, request)

    def close(self) -> None:
        for sock in [*self._open, self._listener]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(2)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()


def read_request(sock: socket.socket) -> bytes:
    """One HTTP request, head and body."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
    )
    while len(body) < length:
        body += sock.recv(65536)
    return head + b"\r\n\r\n" + body


def reply(body: bytes | dict[str, Any], status: str = "200 OK", **headers: str) -> bytes:
    """The bytes of an HTTP reply."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    lines = [
        f"HTTP/1.1 {status}",
        f"Content-Length: {len(body)}",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def ok(**result: Any) -> dict[str, Any]:
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": time.time_ns() // 1_000_000}
