"""Pairs of measurements in alternation, their statistics, and the text of a table row.

Each side of a pair runs in a child process of its own, imports only what it measures and stays alive for the whole
row. The parent asks them in turn, A B A B, so that a slow minute of the machine slows both sides of a pair. A ratio is
computed within each pair; the table shows the median ratio and the spread of all pairs.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import statistics
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Protocol, Self

Sample = dict[str, float]
_ANSWER_WITHIN_S = 600.0


class Side(Protocol):
    """One contestant of a row. Built inside the child process; ``sample`` may be called any number of times."""

    def sample(self) -> Sample:
        """Measure once; figure name -> value."""

    def close(self) -> None:
        """End threads and sockets."""


class BenchmarkError(Exception):
    """A side failed or gave no answer in time; the message carries the child's traceback."""


class Child:
    """A side in a process of its own."""

    def __init__(self, make: Callable[..., Side], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._name = getattr(make, "__name__", str(make))
        self._process = context.Process(target=_run, args=(theirs, make, arguments), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._answer()
        except BaseException:
            self._process.kill()
            raise

    def sample(self) -> Sample:
        """Measure once in the child."""
        self._pipe.send("sample")
        return self._answer()

    def _answer(self) -> Sample:
        try:
            if not self._pipe.poll(_ANSWER_WITHIN_S):
                raise BenchmarkError(f"{self._name} gave no answer in {_ANSWER_WITHIN_S:.0f} s")
            kind, value = self._pipe.recv()
        except EOFError:
            raise BenchmarkError(f"{self._name} ended without an answer") from None
        if kind == "error":
            raise BenchmarkError(f"{self._name} failed:\n{value}")
        sample: Sample = value
        return sample

    def close(self) -> None:
        """End the child; one that does not end within ten seconds is killed."""
        with contextlib.suppress(OSError):
            self._pipe.send("close")
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _run(pipe: Connection, make: Callable[..., Side], arguments: Sequence[Any]) -> None:
    """The body of the child process."""
    try:
        side = make(*arguments)
        pipe.send(("ready", {}))
        while pipe.recv() == "sample":
            gc.collect()
            pipe.send(("sample", side.sample()))
        side.close()
    except EOFError:
        return
    except BaseException:
        pipe.send(("error", traceback.format_exc()))


@contextlib.contextmanager
def children(*sides: tuple[Any, ...]) -> Iterator[list[Child]]:
    """Start one child per ``(make, *arguments)``; all of them end with the block."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Child(make, *arguments)) for make, *arguments in sides]


def alternate(sides: Sequence[Child], rounds: int, *, warm_up: int = 1) -> list[list[Sample]]:
    """Sample the sides in turn, ``rounds`` times, after ``warm_up`` turns that do not count; one list per round."""
    for _ in range(warm_up):
        for side in sides:
            side.sample()
    return [[side.sample() for side in sides] for _ in range(rounds)]


def column(turns: Sequence[Sequence[Sample]], side: int, figure: str) -> list[float]:
    """One figure of one side, in the order of the rounds."""
    return [turn[side][figure] for turn in turns]


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """The ratio within each pair."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def quartiles(values: Sequence[float]) -> tuple[float, float]:
    """Lower and upper quartile by linear interpolation; the extremes of fewer than four values."""
    if len(values) < 4:
        return min(values), max(values)
    lower, _, upper = statistics.quantiles(values, n=4, method="inclusive")
    return lower, upper


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least ``percent`` of all values do not exceed (nearest rank)."""
    ranked = sorted(values)
    rank = max(1, -(-len(ranked) * percent // 100))
    return ranked[int(rank) - 1]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table: what is compared and what it should reach.

    ``unit`` follows the figure in the table, e.g. ``x pybit``; ``is_higher_better`` is true for speeds. A figure that
    depends on the machine (``is_machine_bound``) is never compared with what another machine recorded.
    """

    key: str
    title: str
    unit: str
    must: float | None = None
    stretch: float | None = None
    is_higher_better: bool = False
    is_machine_bound: bool = False

    def reaches(self, value: float, target: float | None) -> bool:
        """True when ``value`` is as good as ``target``, to the two digits the table shows."""
        if target is None:
            return False
        return round(value, 2) >= target if self.is_higher_better else round(value, 2) <= target

    def verdict(self, value: float) -> str:
        """``stretch``, ``met`` or ``missed``; empty where there is no target."""
        if self.must is None:
            return ""
        if self.reaches(value, self.stretch):
            return "stretch"
        return "met" if self.reaches(value, self.must) else "missed"

    def worse_by(self, value: float, than: float) -> float:
        """How many times worse ``value`` is than ``than``; below 1 when it is better."""
        return than / value if self.is_higher_better else value / than


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What one run found for a figure: a value per pair, and in words what each side took."""

    key: str
    values: list[float] = field(default_factory=list)
    ours: str = ""
    theirs: str = ""
    skipped: str = ""

    @property
    def median(self) -> float:
        """The median over the pairs."""
        return statistics.median(self.values)


def paired(key: str, ours: Sequence[float], theirs: Sequence[float], unit: str, *, speed: bool = False) -> Measured:
    """A ratio of two costs; with ``speed`` the ratio of the two speeds, which is its inverse."""
    pairs = ratios(theirs, ours) if speed else ratios(ours, theirs)
    return Measured(key=key, values=pairs, ours=amount(ours, unit), theirs=amount(theirs, unit))


def amount(values: Sequence[float], unit: str) -> str:
    """The median with its unit, e.g. ``38.2 us``."""
    return f"{number(statistics.median(values))} {unit}".strip()


def number(value: float) -> str:
    """Three significant digits, whole numbers from one hundred on, thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


HEADINGS = ("work", "qkt", "peer", "ratio", "spread", "must", "stretch", "verdict")


def cells(figure: Figure, measured: Measured) -> tuple[str, ...]:
    """The cells of a table row, in the order of `HEADINGS`."""
    targets = tuple("-" if target is None else number(target) for target in (figure.must, figure.stretch))
    if measured.skipped:
        return (figure.title, "", "", "", "", *targets, f"skipped: {measured.skipped}")
    lower, upper = quartiles(measured.values)
    shown = f"{number(measured.median)} {figure.unit}".strip()
    spread = f"{number(lower)}..{number(upper)}"
    return (figure.title, measured.ours, measured.theirs, shown, spread, *targets, figure.verdict(measured.median))


def plain_table(rows: Sequence[Sequence[str]], headings: Sequence[str] = HEADINGS) -> str:
    """Columns as wide as their widest cell."""
    widths = [max(len(row[place]) for row in [headings, *rows]) for place in range(len(headings))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [headings, *rows]]
    return "\n".join(line.rstrip() for line in [lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def markdown_table(rows: Sequence[Sequence[str]], headings: Sequence[str] = HEADINGS) -> str:
    """The same as a Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in [headings, *rows]]
    return "\n".join([lines[0], "|" + "---|" * len(headings), *lines[1:]])


def relapses(
    figures: Mapping[str, Figure], measured: Sequence[Measured], recorded: Mapping[str, float], factor: float = 2.0
) -> list[str]:
    """The rows that became worse than their recorded value by ``factor``, one sentence each.

    Noise must not fail a build and a relapse shifts every pair, so both the median and the better quartile have to be
    worse.
    """
    found = []
    for row in measured:
        if row.skipped or row.key not in recorded or figures[row.key].is_machine_bound:
            continue
        figure, was = figures[row.key], recorded[row.key]
        lower, upper = quartiles(row.values)
        best = upper if figure.is_higher_better else lower
        if min(figure.worse_by(row.median, was), figure.worse_by(best, was)) > factor:
            found.append(f"{figure.title}: {number(row.median)} {figure.unit}, recorded {number(was)}")
    return found
