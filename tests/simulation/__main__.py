"""``python -m tests.simulation``: play schedules for as long as told and print what was reached and what failed."""

from __future__ import annotations

import argparse
import sys

from tests.simulation.failures import OPEN_FAILURES, excused
from tests.simulation.report import printed
from tests.simulation.search import Tally, explained, search, shrink
from tests.simulation.workers import search_in_parallel


def main() -> int:
    """Parse, search, print; 1 when a schedule failed."""
    parser = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to search (default 60)")
    parser.add_argument("--seeds", type=int, default=0, help="stop after this many schedules (default: no limit)")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--open", choices=sorted(OPEN_FAILURES), help="look for one open failure")
    parser.add_argument("--show", type=int, default=5, help="how many failing schedules to print (default 5)")
    told = parser.parse_args()
    if told.open:
        failure = OPEN_FAILURES[told.open]
        tally = search(
            range(told.first, told.first + (told.seeds or 20_000)),
            seconds=told.seconds,
            extra=failure.families,
            excused=excused(but=told.open),
            most_failures=told.show,
        )
    else:
        tally = search_in_parallel(
            first=told.first, seeds=told.seeds or None, seconds=told.seconds, workers=told.workers
        )
    _print(tally, told.show)
    return 1 if tally.failures else 0


def _print(tally: Tally, show: int) -> None:
    write = sys.stdout.write
    write(printed(tally) + "\n")
    for failure in tally.failures[:show]:
        write(f"\n{explained(shrink(failure))}\n")


if __name__ == "__main__":
    sys.exit(main())
