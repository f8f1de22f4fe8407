"""Marks the threads that run qkt's own work.

The bus delivers events inline on a user's thread, and on ``qkt-events`` for those that library threads caused, because
a slow handler must delay neither the socket nor a reconcile.
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
    """A daemon thread, named and marked; not yet started."""

    def body() -> None:
        _here.is_library = True
        run(*args)

    return threading.Thread(target=body, name=name, daemon=True)


def run_as_library(action: Callable[[], None]) -> None:
    """Run ``action`` as qkt's own work on a thread that is not, for example one of a user's executor."""
    before = is_library_thread()
    _here.is_library = True
    try:
        action()
    finally:
        _here.is_library = before
