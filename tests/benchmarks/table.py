"""The whole table: which works there are, how they are run, and what is printed."""

from __future__ import annotations

import sys
import time
from types import ModuleType

from tests.benchmarks import accounts, imports, rest, rounds, scaling, stream
from tests.benchmarks.harness import Figure, Measured, cells, plain_table
from tests.benchmarks.run import Run
from tests.benchmarks.servers import running_server

WORKS: tuple[ModuleType, ...] = (imports, rest, stream, rounds, accounts, scaling)
FIGURES: dict[str, Figure] = {figure.key: figure for work in WORKS for figure in work.FIGURES}


def run_works(*, is_quick: bool, only: str = "") -> tuple[Run, list[Measured]]:
    """Run every work, or the one named; progress goes to stderr."""
    rows: list[Measured] = []
    with running_server() as door:
        run = Run(door, is_quick)
        for work in WORKS:
            name = work.__name__.rpartition(".")[2]
            if only and name != only:
                continue
            begun = time.monotonic()
            rows += work.measure(run)
            print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return run, rows


def rendered(rows: list[Measured]) -> str:
    """The table as text."""
    return plain_table([cells(FIGURES[row.key], row) for row in rows])
