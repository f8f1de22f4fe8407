"""Writes a full run into the documentation, and into `recorded.py` for the quick runs that follow."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.benchmarks.harness import Measured, cells, markdown_table
from tests.benchmarks.table import FIGURES

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "explanation" / "performance.md"
DATA = PAGE.with_suffix(".json")
RECORDED = Path(__file__).with_name("recorded.py")
_PACKAGES = ("pybit", "ccxt", "requests", "websocket-client", "attrs", "blinker")
_TABLE = re.compile(r"(<!-- measured -->\n).*?(<!-- end of measured -->)", re.S)
_RECORDED_TEXT = '''"""Medians of the last full run, written by `make bench-page`; a quick run fails on twice as bad."""

RATIOS: dict[str, float] = {{
{lines}
}}
'''


def write(rows: Sequence[Measured], curves: Mapping[str, Sequence[tuple[int, float]]]) -> None:
    """Write the page's table, the data of its plot, and the recorded medians."""
    measured = f"{conditions()}\n\n{markdown_table([cells(FIGURES[row.key], row) for row in rows])}\n"
    text = PAGE.read_text()
    if not _TABLE.search(text):
        raise ValueError(f"{PAGE} has no place for the table: it needs the two comments around 'measured'")
    PAGE.write_text(_TABLE.sub(lambda found: f"{found[1]}{measured}{found[2]}", text))
    data = {"conditions": conditions(), "ratios": _medians(rows), "curves": curves}
    DATA.write_text(json.dumps(data, indent=1) + "\n")
    lines = "\n".join(f'    "{key}": {median:.3f},' for key, median in _medians(rows).items())
    RECORDED.write_text(_RECORDED_TEXT.format(lines=lines))


def _medians(rows: Sequence[Measured]) -> dict[str, float]:
    return {row.key: round(row.median, 3) for row in rows if not row.skipped}


def conditions() -> str:
    """Day, interpreter, cores and the versions that were compared, in a sentence."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    machine = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    return (
        f"Measured on {day} with {platform.python_implementation()} {platform.python_version()}, {machine}: {versions}."
    )
