"""What all brokers on one transport share, found by the transport itself.

By identity, not by equality: a transport of the user's own may be a dataclass, which compares by value and has no hash.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from qkt.bybit.transport.protocol import BybitTransport

D = TypeVar("D")


class PerClient(Generic[D]):
    """Client -> its one desk, for as long as the client lives. Safe from any thread."""

    def __init__(self, create: Callable[[BybitTransport], D]) -> None:
        self._create = create
        self._lock = threading.Lock()
        self._desks: dict[int, D] = {}

    def of(self, client: BybitTransport) -> D:
        """The one desk of this client."""
        name = id(client)
        with self._lock:
            desk = self._desks.get(name)
            if desk is None:
                desk = self._desks[name] = self._create(client)
                weakref.finalize(client, self._desks.pop, name, None).atexit = False
            return desk
