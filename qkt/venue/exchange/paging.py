"""Time-ordered records, and the pages a client walks through them.

A cursor names the last row of its page by time and tie-break, so that a walk neither repeats nor skips a row when
others come or go meanwhile; pages cut by position, which do, are a fault. Records are kept sorted as they arrive and
read from the new end, so a page costs what it shows and not what the account has ever done.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import unquote

from .retcodes import parameter_error

T = TypeVar("T")
R = TypeVar("R")


class Timeline(Generic[T]):
    """Records in order of time; nearly always appended, inserted when the venue's clock has jumped back."""

    def __init__(self, entries: Iterable[tuple[int, int, T]] = ()) -> None:
        self._entries: list[tuple[int, int, T]] = sorted(entries, key=_key)

    def add(self, time_ms: int, tie: int, record: T) -> None:
        entry = (time_ms, tie, record)
        if not self._entries or _key(self._entries[-1]) < (time_ms, tie):
            self._entries.append(entry)
        else:
            insort(self._entries, entry, key=_key)

    def __iter__(self) -> Iterator[T]:
        """All records, oldest first."""
        return (entry[2] for entry in self._entries)

    def page(
        self,
        keep: Callable[[T], R | None],
        *,
        limit: int,
        cursor: Cursor | None,
        start_ms: int = 0,
        end_ms: int | None = None,
        by_position: bool = False,
    ) -> tuple[list[R], Cursor | None]:
        """One page, newest first.

        Args:
            keep: what a reader sees of a record; None when it is filtered out.
            cursor: of the page before; None for the first.
            by_position: skip as many rows as were shown, instead of going on after the last one shown.
        Returns:
            The rows, and the cursor behind them: None only when there are none, for the last page has one too.
        """
        entries = self._entries
        at = len(entries) if end_ms is None else bisect_right(entries, end_ms, key=_time)
        skip = 0
        if cursor is not None and by_position:
            skip = cursor.position
        elif cursor is not None:
            at = min(at, bisect_left(entries, (cursor.time_ms, cursor.tie), key=_key))
        rows: list[R] = []
        last: tuple[int, int, T] | None = None
        while at > 0 and len(rows) < limit:
            at -= 1
            entry = entries[at]
            if entry[0] < start_ms:
                break
            row = keep(entry[2])
            if row is None:
                continue
            if skip:
                skip -= 1
                continue
            rows.append(row)
            last = entry
        if last is None:
            return rows, None
        shown = (cursor.position if cursor is not None else 0) + len(rows)
        return rows, Cursor(shown, last[1], last[0])


@dataclass(frozen=True, slots=True)
class Cursor:
    """The place between two pages."""

    position: int
    tie: int
    time_ms: int

    def __str__(self) -> str:
        return f"{self.position}:{self.tie}:{self.time_ms}"

    @classmethod
    def parse(cls, text: str | None) -> Cursor | None:
        """A cursor as sent: percent-encoded once or twice, since both are in use.

        Raises:
            Refusal: 10001 when it is none of ours.
        """
        if not text:
            return None
        parts = unquote(unquote(text)).removeprefix("page_token=").rstrip("&").split(",")[0].split(":")
        if len(parts) != 3 or not all(part.isascii() and part.isdigit() and len(part) < 20 for part in parts):
            raise parameter_error("params error: cursor invalid")
        return cls(*(int(part) for part in parts))


def _key(entry: tuple[int, int, object]) -> tuple[int, int]:
    return entry[:2]


def _time(entry: tuple[int, int, object]) -> int:
    return entry[0]
