"""A recorded run as its lines, checked against their hashes while they are read."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from qkt.errors import InvalidRequestError
from qkt.recorder.chain import START, BrokenChainError, ChainedLine, read_chain

_PART = re.compile(r"(\d{4,})\.jsonl\Z")
_FORMATS = (1,)


@attrs.frozen(kw_only=True)
class Line:
    """One line of a run: the name of its file, its number there from 1, its kind, when it was written, its fields."""

    file: str
    number: int
    kind: str
    at_ms: int
    fields: dict[str, Any]
    text: str = attrs.field(repr=False)
    hash: str = ""

    @property
    def place(self) -> str:
        """Where the line stands, e.g. ``0001.jsonl:812``."""
        return f"{self.file}:{self.number}"


@attrs.frozen(kw_only=True)
class Verdict:
    """What `verify` found. ``problem`` is "" for a run in which nothing was altered.

    ``is_complete``: the last line says that the recording was closed. A program that was killed leaves none, and an
    end that was cut off cannot be told from that, but by comparing ``last_hash`` with one that was kept elsewhere.
    """

    path: Path
    files: int
    lines: int
    last_hash: str
    is_complete: bool
    problem: str = ""

    @property
    def ok(self) -> bool:
        """True when no line was altered."""
        return not self.problem


class Recording:
    """A run on disk: a folder, or one of its files, which then ends the reading.

    Raises InvalidRequestError where there is no recording.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        given = Path(path)
        self.path: Path
        if given.is_file() and _PART.search(given.name):
            parts = [part for part in _parts_of(given.parent) if part.name <= given.name]
            self.path = given.parent
        else:
            self.path = given if _parts_of(given) else _newest_run(given)
            parts = _parts_of(self.path)
        if not parts:
            raise InvalidRequestError(f"{given} is no recording: name the folder of a run, or one of its .jsonl files")
        self.parts: tuple[Path, ...] = tuple(parts)

    @property
    def begins_at_the_start(self) -> bool:
        """False when earlier files of the run are gone."""
        return self.parts[0].name == "0001.jsonl"

    def lines(self) -> Iterator[Line]:
        """Every line, oldest first; raises BrokenChainError at the first that was altered."""
        last: str | None = START if self.begins_at_the_start else None
        expected = int(self.parts[0].stem)
        for part, number in zip(self.parts, itertools.count(expected), strict=False):
            if int(part.stem) != number:
                raise BrokenChainError(f"{number:04}.jsonl is missing", line=0)
            with part.open(encoding="utf-8", errors="surrogatepass", newline="\n") as opened:
                for line in read_chain(opened, last, name=part.name):
                    last = line.hash
                    yield _line_of(part.name, line)

    def manifest(self) -> dict[str, Any]:
        """The fields of the first line: versions, start, platform."""
        return next(self.lines()).fields


def verify(recording: Recording) -> Verdict:
    """Check every hash of a run."""
    lines, last, kind, problem = 0, "", "", ""
    try:
        for line in recording.lines():
            lines, last, kind = lines + 1, line.hash, line.kind
    except BrokenChainError as error:
        problem = str(error)
    return Verdict(
        path=recording.path,
        files=len(recording.parts),
        lines=lines,
        last_hash=last,
        is_complete=kind == "end",
        problem=problem,
    )


def _line_of(file: str, line: ChainedLine) -> Line:
    fields = line.fields
    kind = str(fields.get("kind", ""))
    if kind == "run" and fields.get("format") not in _FORMATS:
        raise InvalidRequestError(f"{file} has format {fields.get('format')!r}: update qkt to read it")
    return Line(
        file=file,
        number=line.number,
        kind=kind,
        at_ms=int(fields.get("at_ms", 0)),
        fields=fields,
        text=line.text,
        hash=line.hash,
    )


def _parts_of(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _PART.search(path.name))


def _newest_run(folder: Path) -> Path:
    """The last run of a recorder's folder; the folder itself when it holds none."""
    runs = sorted(path for path in folder.iterdir() if _parts_of(path)) if folder.is_dir() else []
    return runs[-1] if runs else folder
