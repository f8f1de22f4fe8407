"""`ReadScope`: reads that are ended together, when the broker that waits for them closes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator

Cutter = Callable[[str], None]


class ReadScope:
    """The reads of one owner. After `cut` every read under way ends at once, and later ones end before they begin.

    Safe from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._cutters: list[Cutter] = []
        self._reason = ""
        self._stopping = threading.Event()

    @property
    def stopping(self) -> threading.Event:
        """Set by `cut`: a pause between two tries ends with it."""
        return self._stopping

    @property
    def is_cut(self) -> bool:
        """True once `cut` was called."""
        return bool(self._reason)

    @contextlib.contextmanager
    def under_way(self, cutter: Cutter) -> Iterator[None]:
        """Register a read for the time of the block; ``cutter(reason)`` ends it, from any thread."""
        with self._lock:
            self._cutters.append(cutter)
            reason = self._reason
        try:
            if reason:
                cutter(reason)
            yield
        finally:
            with self._lock:
                self._cutters.remove(cutter)

    def cut(self, reason: str) -> None:
        """End the reads under way and refuse later ones; idempotent."""
        with self._lock:
            self._reason = self._reason or reason
            cutters = list(self._cutters)
        self._stopping.set()
        for cutter in cutters:
            cutter(reason)
