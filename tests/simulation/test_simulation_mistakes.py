"""The simulation finds what it must: each planted mistake within a bounded number of seeds."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.failures import excused
from tests.simulation.mistakes import HASTENED_BY, MISTAKES
from tests.simulation.search import search, shrink

MOST_SEEDS = 1_500


def test_there_are_more_than_eleven() -> None:
    assert len(MISTAKES) >= 11


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name: str, monkeypatch: pytest.MonkeyPatch, say: Callable[[str], None]) -> None:
    MISTAKES[name](monkeypatch)

    tally = search(range(MOST_SEEDS), extra=HASTENED_BY.get(name, ()), excused=excused(), most_failures=1)

    assert tally.failures
    shrunk = shrink(tally.failures[0])
    steps = " ".join(str(step[0]) for step in shrunk.steps)
    say(f"planted {name}: seed {shrunk.seed}, {shrunk.law} after {steps}")
