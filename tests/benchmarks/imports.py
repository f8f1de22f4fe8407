"""Work: import every public name of qkt; the floor is the import of its four dependencies."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.harness import Figure, Measured, paired
from tests.benchmarks.run import Run

FIGURES = (Figure(key="import", title="import of every public name", unit="x four deps", must=1.40, stretch=1.15),)

_TIMED = "import time; begun = time.process_time(); {statement}; print(time.process_time() - begun)"
_OURS = "from qkt import *"
_FLOOR = "import requests, websocket, attrs, blinker"


def measure(run: Run) -> list[Measured]:
    """A fresh interpreter for each sample; its own start is not counted."""
    for statement in (_OURS, _FLOOR):
        _import_ms(statement)  # writes the byte code that every later sample reads
    turns = [(_import_ms(_OURS), _import_ms(_FLOOR)) for _ in range(run.pick(full=15, quick=7))]
    ours, floor = [turn[0] for turn in turns], [turn[1] for turn in turns]
    return [paired("import", ours, floor, "ms")]


def _import_ms(statement: str) -> float:
    program = _TIMED.format(statement=statement)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return float(done.stdout) * 1000
