"""Objects that all brokers on one transport share.

They are found by the transport's identity, not by equality: a custom transport may be a dataclass, which compares by
value and has no hash.
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
                shared = self._create(client)
                # registered before it is stored: an interrupt between the two must not leave an entry for a dead id
                weakref.finalize(client, self._shared.pop, name, None).atexit = False
                self._shared[name] = shared
            return shared
