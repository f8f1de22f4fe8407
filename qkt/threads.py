"""Which threads are qkt's own.

The bus delivers inline on a user's thread and on ``qkt-events`` for the library's: a slow handler must cost neither
the socket nor a reconcile. So every thread qkt starts says so, once, when it begins.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

_here = threading.local()


def is_library_thread() -> bool:
    """True on a thread that qkt started."""
    return getattr(_here, "is_library", False)


def library_thread(name: str, run: Callable[..., None], *args: Any) -> threading.Thread:
    """A daemon thread, named and marked as qkt's own; not yet started."""

    def body() -> None:
        _here.is_library = True
        run(*args)

    return threading.Thread(target=body, name=name, daemon=True)
