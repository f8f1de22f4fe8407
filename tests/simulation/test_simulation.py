"""The simulation in the fast suite: a short search over two processes, and each open failure found again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.failures import OPEN_FAILURES, excused
from tests.simulation.oracle import Oracle, Violation
from tests.simulation.report import missing
from tests.simulation.schedule import make
from tests.simulation.sdk import OrderCancelled
from tests.simulation.search import Tally, explained, play, search, shrink
from tests.simulation.workers import search_in_parallel

SECONDS = 10.0
MOST_SEEDS_FOR_AN_OPEN_FAILURE = 2_500


def shown(tally: Tally) -> str:
    """The failing schedules of a search, cut down."""
    return "\n\n".join(explained(shrink(failure)) for failure in tally.failures[:3])


def test_twenty_seconds_of_schedules_break_no_promise(say: Callable[[str], None]) -> None:
    tally = search_in_parallel(first=0, seeds=None, seconds=SECONDS, workers=2)

    say(f"simulation: {tally.schedules} schedules, {tally.schedules / tally.seconds:.0f} a second and core")
    assert not tally.failures, shown(tally)
    assert tally.schedules > 100


@pytest.mark.verify
@pytest.mark.timeout(400)
def test_minutes_of_schedules_reach_every_pair_and_rare_branch(say: Callable[[str], None]) -> None:
    tally = search_in_parallel(first=1_000_000, seeds=None, seconds=180, workers=2)

    say(f"simulation: {tally.schedules} schedules, {tally.schedules / tally.seconds:.0f} a second and core")
    assert not tally.failures, shown(tally)
    assert missing(tally) == ([], [], [])


@pytest.mark.parametrize("name", OPEN_FAILURES)
def test_an_open_failure_is_still_found(name: str, say: Callable[[str], None]) -> None:
    known = OPEN_FAILURES[name]

    tally = search(
        range(MOST_SEEDS_FOR_AN_OPEN_FAILURE), extra=known.families, excused=excused(but=name), most_failures=1
    )

    assert tally.failures, f"{name} ({known.what}) is cured: delete it from OPEN_FAILURES"
    assert tally.failures[0].law in known.laws, shown(tally)
    say(f"open failure {name} after {tally.schedules} schedules: {tally.failures[0].law}")


def test_a_seed_gives_the_same_schedule_and_the_same_events() -> None:
    setup, steps, _families = make(7)
    first: list[str] = []
    second: list[str] = []

    play(setup, steps, excused(), first)
    play(*make(7)[:2], excused(), second)

    assert first == second
    assert len(first) > len(steps)


def test_a_failing_schedule_shrinks_to_the_steps_that_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_oracle: Oracle, event: OrderCancelled, *_details: object) -> None:
        raise Violation("planted", f"no cancel is believed: {event}")

    monkeypatch.setattr(Oracle, "_judge_cancelled", deny)
    found = search(range(1_000), excused=excused(), most_failures=1).failures[0]

    shrunk = shrink(found)

    assert sorted({step[0] for step in shrunk.steps}) in (["cancel", "submit"], ["end", "submit"])
    assert len(shrunk.steps) == 2
    assert "VIOLATION planted: no cancel is believed" in explained(shrunk)
