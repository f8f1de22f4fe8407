"""Progress bar on stderr for waits of more than a second; only on a terminal, removed afterwards."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from qkt.cli.output import Screen

_AFTER_S, _EVERY_S, _CELLS = 1.0, 0.1, 12


@contextmanager
def progress(screen: Screen, what: str, *, expected_s: float | None = None) -> Iterator[None]:
    """Show ``what`` with a bar and the elapsed seconds, once the block has taken a second.

    ``expected_s`` is the time at which the bar is full; without it a mark moves back and forth.
    """
    if screen.is_json or not sys.stderr.isatty():
        yield
        return
    finished = threading.Event()
    painter = threading.Thread(target=_paint, args=(finished, what, expected_s), name="qkt-progress", daemon=True)
    painter.start()
    try:
        yield
    finally:
        finished.set()
        painter.join()


def _paint(finished: threading.Event, what: str, expected_s: float | None) -> None:
    begun = time.monotonic()
    if finished.wait(_AFTER_S):
        return
    while not finished.wait(_EVERY_S):
        passed_s = time.monotonic() - begun
        sys.stderr.write(f"\r{what} [{_bar(passed_s, expected_s)}] {passed_s:.0f} s")
        sys.stderr.flush()
    sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()


def _bar(passed_s: float, expected_s: float | None) -> str:
    if expected_s:
        full = min(_CELLS, int(_CELLS * passed_s / expected_s))
        return "#" * full + "." * (_CELLS - full)
    at = int(passed_s / _EVERY_S) % (2 * _CELLS - 2)
    at = at if at < _CELLS else 2 * _CELLS - 2 - at
    return "." * at + "#" + "." * (_CELLS - 1 - at)
