"""Where the works spend their time: one profile over all threads, by the CPU time of each thread.

A profiled call costs several times what it costs otherwise, so the tables show shares of the whole, not times.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.rest import QktGet, QktSubmit
from tests.benchmarks.rounds import QktReconcile
from tests.benchmarks.servers import Door, running_server
from tests.benchmarks.stream import QktFrames

_SHOWN = 30
Row = tuple[float, float, float, str]


def report() -> str:
    """A table for each work."""
    works: list[tuple[str, int, Callable[[Door], object]]] = [
        ("execution frame, 100 orders", 5_000, lambda door: QktFrames(door, "fills", 100, 5_000).sample()),
        ("order frame, 100 orders", 5_000, lambda door: QktFrames(door, "amends", 100, 5_000).sample()),
        ("submit by REST", 400, lambda door: QktSubmit(door, 400, {}).sample()),
        ("signed GET", 350, lambda door: QktGet(door, 350).sample()),
        ("reconcile round, all known", 12, lambda door: QktReconcile(door, 10).sample()),
    ]
    parts = []
    with running_server() as door:
        for title, units, work in works:
            with _all_threads() as profiles:
                work(door)
            parts.append(f"{title}\n{_table(profiles, units)}")
    return "\n\n".join(parts)


@contextmanager
def _all_threads() -> Iterator[list[cProfile.Profile]]:
    """Profile this thread and each thread started meanwhile, by the CPU time of the thread itself."""
    profiles: list[cProfile.Profile] = []

    def begin(*_event: object) -> None:
        profile = cProfile.Profile(time.thread_time)
        profiles.append(profile)
        profile.enable()

    threading.setprofile(begin)
    begin()
    try:
        yield profiles
    finally:
        threading.setprofile(None)
        sys.setprofile(None)
        for profile in profiles:
            profile.disable()


def _table(profiles: list[cProfile.Profile], units: int) -> str:
    """The dearest functions by cumulative time, those of the benchmark itself left out."""
    stats = pstats.Stats(profiles[0])
    for profile in profiles[1:]:
        if profile.getstats():
            stats.add(profile)
    rows: list[Row] = []
    whole = sum(own for _, _, own, _, _ in stats.stats.values())  # type: ignore[attr-defined]
    for (path, line, name), (_, calls, own, cumulative, _) in stats.stats.items():  # type: ignore[attr-defined]
        if "benchmarks" not in path and not path.endswith("threading.py"):
            place = f"{_short(path)}:{line}" if line else "built in"
            rows.append((cumulative / whole * 100, own / whole * 100, calls / units, f"{name} ({place})"))
    dearest = sorted(rows, reverse=True)[:_SHOWN]
    lines = [f"{cumulative:9.1f} {own:9.1f} {calls:8.2f}  {name}" for cumulative, own, calls, name in dearest]
    return "\n".join([f"{'cum %':>9} {'own %':>9} {'calls':>8}  function", *lines])


def _short(path: str) -> str:
    """The last two parts of a path."""
    return "/".join(Path(path).parts[-2:])
