"""Measure qkt beside pybit, ccxt and its bare dependencies.

python -m tests.benchmarks            the whole table, some fifteen minutes
python -m tests.benchmarks quick      shorter runs, at most two minutes; fails on a relapse by a factor of two
python -m tests.benchmarks page       the whole table, written into the documentation and `recorded.py`
python -m tests.benchmarks profile    where each work spends its time
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ["QKT_FAST"] = "0"  # before qkt is imported, here and in the children: the table is of a plain install

from tests.benchmarks import page, profiles, table
from tests.benchmarks.harness import relapses
from tests.benchmarks.recorded import RATIOS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", nargs="?", default="full", choices=("full", "quick", "page", "profile"))
    names = [work.__name__.rpartition(".")[2] for work in table.WORKS]
    parser.add_argument("--only", default="", choices=("", *names), metavar="WORK", help=f"one of {', '.join(names)}")
    options = parser.parse_args()
    if options.mode == "profile":
        print(profiles.report())
        return 0
    run, rows = table.run_works(is_quick=options.mode == "quick", only=options.only)
    print(table.rendered(rows))
    if options.mode == "page":
        page.write(rows, run.curves)
    worse = relapses(table.FIGURES, rows, RATIOS) if options.mode == "quick" else []
    for line in worse:
        print(f"worse than recorded by more than a factor of two: {line}")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
