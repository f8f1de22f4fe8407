"""What all brokers on one transport share, found by the transport itself.

By identity, not by equality: a transport of the user's own may be a dataclass, which compares by value and has no hash.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

from qkt.bybit.transport.protocol import CompleteTransport

S = TypeVar("S")


class PerClient(Generic[S]):
    """Client -> its one shared object, for as long as the client lives. Safe from any thread."""

    def __init__(self, create: Callable[[CompleteTransport], S]) -> None:
        self._create = create
        self._lock = threading.Lock()
        self._shared: dict[int, S] = {}

    def of(self, client: CompleteTransport) -> S:
        """The one object of this client, created when first asked for."""
        name = id(client)
        with self._lock:
            shared = self._shared.get(name)
            if shared is None:
                shared = self._shared[name] = self._create(client)
                weakref.finalize(client, self._shared.pop, name, None).atexit = False
            return shared
