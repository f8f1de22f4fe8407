"""Reads that say how much they saw.

A read is `COMPLETE`, `PARTIAL` or `FAILED`; presence in any of them is knowledge, absence only in a complete one. So
the walk over a venue's pages has one job above all: never to call a walk complete that may have missed a row. It stops
at an empty page or an empty cursor (a cursor after the last row is normal: docs v5/intro, Pagination); a cursor that
expires or repeats is walked again from the start once, and then the read is partial.

No I/O: fetching a page is the caller's.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import attrs

from qkt.errors import BybitApiError, QktError, VenueProtocolError

T = TypeVar("T")

MOST_PAGES = 1_000


class Completeness(enum.Enum):
    """How much of what there is a read has seen."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    FAILED = "failed"


@attrs.frozen(kw_only=True)
class MalformedRow:
    """A row that could not be read; its redacted text, and whatever ids it did carry, so that it can be asked for."""

    path: str
    problem: str
    excerpt: str
    broker_order_id: str = ""
    client_order_id: str = ""


@attrs.frozen(kw_only=True)
class Page(Generic[T]):
    """One page: its rows, the rows that could not be read, the next cursor ("" for none), and whether it was full."""

    rows: tuple[T, ...]
    malformed: tuple[MalformedRow, ...] = ()
    cursor: str = ""
    is_full: bool = False

    @property
    def is_empty(self) -> bool:
        """True when the venue listed nothing."""
        return not self.rows and not self.malformed


@attrs.frozen(kw_only=True)
class Read(Generic[T]):
    """What one path showed. ``begun_ms`` is venue time before its first request."""

    path: str
    completeness: Completeness
    rows: tuple[T, ...] = ()
    malformed: tuple[MalformedRow, ...] = ()
    problems: tuple[str, ...] = ()
    begun_ms: int = 0
    pages: int = 0
    duration_ms: int = 0

    @property
    def is_complete(self) -> bool:
        """True when absence means absence. A malformed row hides what it was about, but not that it was there."""
        return self.completeness is Completeness.COMPLETE


def walk(
    path: str,
    fetch: Callable[[str], Page[T]],
    *,
    key: Callable[[T], Hashable],
    fuller: Callable[[T, T], T],
    begun_ms: int,
    most_pages: int = MOST_PAGES,
) -> Read[T]:
    """Read every page; rows with one ``key`` are one row, the ``fuller`` of them.

    ``fetch(cursor)`` gets "" for the first page and may raise any QktError; what was read until then is kept.
    """
    rows: dict[Hashable, T] = {}
    malformed: dict[str, MalformedRow] = {}
    problems: list[str] = []
    pages = 0

    def result(completeness: Completeness) -> Read[T]:
        return Read(
            path=path,
            completeness=completeness,
            rows=tuple(rows.values()),
            malformed=tuple(malformed.values()),
            problems=tuple(problems),
            begun_ms=begun_ms,
            pages=pages,
        )

    for _attempt in range(2):
        cursor, seen = "", {""}
        while True:
            try:
                page = fetch(cursor)
            except QktError as error:
                problems.append(f"page {pages + 1}: {error}")
                if isinstance(error, BybitApiError) and cursor:
                    break  # the cursor may have expired: from the start once more
                return result(Completeness.PARTIAL if pages else Completeness.FAILED)
            pages += 1
            for row in page.rows:
                known = rows.get(key(row))
                rows[key(row)] = row if known is None else fuller(known, row)
            malformed.update((bad.excerpt, bad) for bad in page.malformed)
            if page.is_empty or not page.cursor:
                return result(Completeness.COMPLETE)
            if page.cursor in seen:
                if not page.is_full:
                    return result(Completeness.COMPLETE)
                problems.append(f"page {pages}: the cursor repeats")
                break
            if pages >= most_pages:
                problems.append(f"gave up after {pages} pages")
                return result(Completeness.PARTIAL)
            cursor = page.cursor
            seen.add(cursor)
    return result(Completeness.PARTIAL)


def windows(start_ms: int, end_ms: int, longest_ms: int) -> list[tuple[int, int]]:
    """Explicit time windows of at most ``longest_ms`` that cover start to end, oldest first (S32)."""
    start_ms = min(start_ms, end_ms)
    found = [(start_ms, min(start_ms + longest_ms, end_ms))]
    while found[-1][1] < end_ms:
        begin = found[-1][1]
        found.append((begin, min(begin + longest_ms, end_ms)))
    return found


def merged(path: str, reads: list[Read[T]], *, key: Callable[[T], Hashable], fuller: Callable[[T, T], T]) -> Read[T]:
    """Several reads of one thing as one: complete only if all are, failed only if all are, begun with the first."""
    rows: dict[Hashable, T] = {}
    for read in reads:
        for row in read.rows:
            known = rows.get(key(row))
            rows[key(row)] = row if known is None else fuller(known, row)
    if all(read.is_complete for read in reads):
        completeness = Completeness.COMPLETE
    elif all(read.completeness is Completeness.FAILED for read in reads):
        completeness = Completeness.FAILED
    else:
        completeness = Completeness.PARTIAL
    return Read(
        path=path,
        completeness=completeness,
        rows=tuple(rows.values()),
        malformed=tuple(bad for read in reads for bad in read.malformed),
        problems=tuple(problem for read in reads for problem in read.problems),
        begun_ms=min(read.begun_ms for read in reads),
        pages=sum(read.pages for read in reads),
        duration_ms=sum(read.duration_ms for read in reads),
    )


def listed(envelope: dict[str, object], path: str) -> list[object]:
    """``result.list`` of an envelope. An answer without a list is a broken answer, never an empty one (S38)."""
    result = envelope.get("result")
    rows = result.get("list") if isinstance(result, dict) else None
    if not isinstance(rows, list):
        raise VenueProtocolError("the reply has no result.list: not taken for an empty one", path=path)
    return rows
