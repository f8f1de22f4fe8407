"""TCP connections that can be given up while they are still being made.

`socket.create_connection` shows its socket only when it is connected; here the socket is known before, so that
`shut` from another thread ends the waiting.
"""

from __future__ import annotations

import array
import contextlib
import select
import socket
from collections.abc import Callable

_KEEPALIVE = [
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
]


def open_tcp(
    host: str, port: int, timeout_s: float | None, *, on_socket: Callable[[socket.socket], None] | None = None
) -> socket.socket:
    """Connect to the first address of ``host`` that answers; ``on_socket`` hears each socket before it connects.

    Raises:
        socket.gaierror: no such host. TimeoutError: no answer in time. OSError: refused, or shut meanwhile.
    """
    failure: OSError = OSError(f"{host} has no address")
    for family, kind, protocol, _, address in socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM):
        sock = socket.socket(family, kind, protocol)
        try:
            for option in _KEEPALIVE:
                sock.setsockopt(*option)
            sock.settimeout(timeout_s)
            if on_socket is not None:
                on_socket(sock)
            sock.connect(address)
            return sock
        except OSError as error:
            failure = error
            sock.close()
        except BaseException:
            sock.close()
            raise
    raise failure


def shut(sock: socket.socket) -> None:
    """End the connection of ``sock``, which wakes every thread that waits on it; the descriptor stays its owner's.

    A TLS socket is shut below TLS: its own shutdown would make the waiting thread read raw bytes.
    """
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def wait_readable(sock: socket.socket, timeout_ms: int) -> bool:
    """Wait until a read would not block, or the time is up; a dead socket is readable, its read says why."""
    pending = getattr(sock, "pending", None)
    try:
        if pending is not None and pending() > 0:
            return True
        if hasattr(select, "poll"):  # select() cannot see descriptors above 1023
            poller = select.poll()
            poller.register(sock, select.POLLIN)
            return bool(poller.poll(timeout_ms))
        return bool(select.select([sock], [], [], timeout_ms / 1000)[0])
    except (OSError, ValueError):
        return True


def unread_bytes(sock: socket.socket) -> int:
    """Number of received bytes of ``sock`` that were not read yet; 0 where the platform does not report it."""
    try:
        from fcntl import ioctl
        from termios import FIONREAD

        size = array.array("i", [0])
        ioctl(sock.fileno(), FIONREAD, size)
        return size[0]
    except (ImportError, OSError, ValueError):
        return 0
