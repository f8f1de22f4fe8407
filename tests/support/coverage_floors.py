"""Fails when coverage is below its floors.

python tests/support/coverage_floors.py .coverage.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

LINES_FLOOR = 90.0
BRANCH_FLOORS = {"qkt/orders/": 98.0, "qkt/reconcile/": 98.0}


def branch_coverage(files: Mapping[str, Any], folder: str) -> float:
    """Per cent of the branches in ``folder`` that the tests took."""
    summaries = [file["summary"] for path, file in files.items() if folder in path.replace("\\", "/")]
    total = sum(summary["num_branches"] for summary in summaries)
    return 100.0 * sum(summary["covered_branches"] for summary in summaries) / total if total else 0.0


def main(report: str) -> int:
    """0 when every floor holds; prints each figure beside its floor."""
    data = json.loads(Path(report).read_text())
    figures = [("lines of qkt", float(data["totals"]["percent_covered"]), LINES_FLOOR)]
    figures += [
        (f"branches of {folder}", branch_coverage(data["files"], folder), floor)
        for folder, floor in BRANCH_FLOORS.items()
    ]
    for name, figure, floor in figures:
        print(f"{name:<28}{figure:6.2f} %  (floor {floor:.0f} %)")
    return 1 if any(figure < floor for _, figure, floor in figures) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
