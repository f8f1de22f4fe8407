"""Lines that are chained by hashes: each ends with the hash of itself and of the line before it.

A line is one JSON object; its last field is ``"hash"``. Changing, removing, adding or reordering a line breaks every
hash after it. The end of a file can be cut off without a trace in the chain, so a recording ends with a line that says
so, and the last hash can be kept elsewhere. Pure.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from qkt.errors import QktError

START = "0" * 32

_TAIL = ',"hash":"'
_HASH_LENGTH = len(START)


class BrokenChainError(QktError):
    """A line is not what was written. ``line`` counts from 1."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(message)
        self.line = line


@attrs.frozen(kw_only=True)
class ChainedLine:
    """One line of a file: its number from 1, its fields, its own hash and the text it was read from."""

    number: int
    fields: dict[str, Any]
    hash: str
    text: str


class ChainWriter:
    """Makes the next line of a chain. ``last`` is the hash of the line before."""

    def __init__(self, last: str = START) -> None:
        self.last: str = last

    def line(self, fields: dict[str, Any]) -> str:
        """The text of a line, with its line break."""
        body = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)[:-1]
        self.last = _hash_of(self.last, body)
        return f'{body}{_TAIL}{self.last}"}}\n'


def read_chain(lines: Iterable[str], last: str | None = START, *, name: str = "") -> Iterator[ChainedLine]:
    """The lines of a file, checked. ``last`` is the hash before the first line; None takes it from its ``prev`` field.

    Raises BrokenChainError at the first line that was altered. The last line of a program that was killed may be
    incomplete: it is left out if it has no line break.
    """
    where = f"{name} " if name else ""
    for number, text in enumerate(lines, start=1):
        if not text.endswith("\n"):
            return
        body, tail, rest = text.rstrip("\n").rpartition(_TAIL)
        own = rest[:-2]
        if not tail or len(own) != _HASH_LENGTH or rest[-2:] != '"}':
            raise BrokenChainError(f"{where}line {number} has no hash: it was not written by a recorder", line=number)
        try:
            fields = json.loads(f"{body}}}")
        except ValueError as error:
            raise BrokenChainError(f"{where}line {number} is not JSON: it was altered", line=number) from error
        if last is None:
            last = str(fields.get("prev", START))
        if _hash_of(last, body) != own:
            raise BrokenChainError(
                f"{where}line {number} was altered, or a line before it was removed or added: its hash does not follow",
                line=number,
            )
        last = own
        yield ChainedLine(number=number, fields=fields, hash=own, text=text)


def _hash_of(last: str, body: str) -> str:
    return hashlib.sha256(f"{last}{body}".encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
