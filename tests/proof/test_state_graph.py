"""Law 3 over every schedule of small histories: deliver, repeat, drop, reorder, and rounds whenever they like.

`state_graph` tells how it is exhaustive without running schedules one by one, `law` what is asserted on every edge. The
fast suite leaves out rounds where they multiply the graph most; `make verify` has them all.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.proof import histories
from tests.proof.histories import HISTORIES
from tests.proof.state_graph import Rounds, walked

FAST = {
    histories.amend_then_fill_beats_cancel: Rounds.BETWEEN,
    histories.two_orders_of_two_fills: Rounds.AT_THE_END,
    histories.lost_reply: Rounds.BETWEEN,
    histories.late_arrival: Rounds.BETWEEN,
    histories.arrival_after_the_proof: Rounds.BETWEEN,
    histories.amend_too_late: Rounds.BETWEEN,
}


def _name(value: Any) -> str:
    return value.__name__ if callable(value) else value.name.lower()  # type: ignore[no-any-return]


@pytest.mark.parametrize(("make", "rounds"), [(make, FAST.get(make, Rounds.TORN)) for make in HISTORIES], ids=_name)
def test_every_schedule_ends_in_the_venues_truth_and_tells_each_thing_once(make: Any, rounds: Any, say: Any) -> None:
    result = walked(make, rounds)
    say(str(result))
    assert result.schedules > result.states > 100


@pytest.mark.verify
@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", FAST, ids=_name)
def test_every_schedule_with_any_step_in_the_middle_of_any_round_does_so_too(make: Any, say: Any) -> None:
    result = walked(make, Rounds.TORN)
    say(str(result))
    assert result.schedules > result.states > 1_000
