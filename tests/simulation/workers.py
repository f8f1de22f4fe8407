"""A search on several cores: one process each, seeds dealt out in turn."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Iterator

from tests.simulation.failures import excused
from tests.simulation.search import Tally, search


def search_in_parallel(*, first: int, seeds: int | None, seconds: float, workers: int) -> Tally:
    """Search for ``seconds``, or until all seeds were played; the laws of open failures are not enforced."""
    jobs = [(first + number, workers, seeds, seconds) for number in range(workers)]
    if workers == 1:
        return _work(*jobs[0])
    total = Tally()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for tally in pool.starmap(_work, jobs):
            total.add(tally)
    total.failures.sort(key=lambda failure: failure.seed)
    return total


def _work(first: int, stride: int, seeds: int | None, seconds: float) -> Tally:
    numbers: Iterator[int] = itertools.count(first, stride)
    if seeds is not None:
        numbers = itertools.islice(numbers, seeds // stride)
    return search(numbers, seconds=seconds, excused=excused(), most_failures=20)
