"""Output of all commands.

Lines are made of styled pieces laid out in plain characters, so that a terminal with rich, a terminal without it and a
pipe show the same text and differ in colour only. Results go to stdout; progress goes to stderr, only on a terminal,
and never with ``--json``.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

Piece = tuple[str, str]  # text, style
Line = Sequence[Piece] | str

WIDTH = 80


class Screen:
    """Writes a command's output. ``is_json`` suppresses everything but `result`."""

    def __init__(self, *, is_json: bool = False, out: TextIO | None = None) -> None:
        self.is_json = is_json
        self._out = out or sys.stdout
        self._lock = threading.Lock()
        self.console: Any = None if is_json else _rich_console(self._out)

    def line(self, line: Line = "") -> None:
        """Print one line, whole, from any thread."""
        if self.is_json:
            return
        pieces = [(line, "")] if isinstance(line, str) else list(line)
        with self._lock:
            if self.console is None:
                print("".join(text for text, _ in pieces).rstrip(), file=self._out, flush=True)
            else:
                from rich.text import Text

                self.console.print(Text.assemble(*pieces), soft_wrap=True)

    def lines(self, lines: Iterable[Line]) -> None:
        """Print several lines."""
        for line in lines:
            self.line(line)

    def result(self, document: Any) -> None:
        """Print the one JSON document of this run, with ``--json`` only."""
        if self.is_json:
            print(json.dumps(document, default=str), file=self._out, flush=True)


def complain(command: str, message: str) -> None:
    """Print an error message to stderr."""
    print(f"{command}: {message}", file=sys.stderr, flush=True)


def wrapped(text: str, indent: str = "", width: int = WIDTH) -> list[str]:
    """A paragraph in lines of at most ``width``."""
    import textwrap

    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


def _rich_console(out: TextIO) -> Any:
    """A rich console when stdout is a terminal and rich is installed; None otherwise."""
    if not out.isatty() or os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ:
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console(file=out, highlight=False, markup=False, emoji=False)
