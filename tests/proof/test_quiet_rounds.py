"""A round after two quiet rounds publishes nothing but balances, whatever went before and however much time passes.

Every end in the state graph is taken through quiet rounds as well; here each history is simply told from its beginning
to its end, so that a failure reads like one.
"""

from __future__ import annotations

from typing import Any

import pytest

from qkt.events import BalancesUpdated
from tests.proof.histories import HISTORIES, NOW
from tests.proof.state_graph import World

HOUR_MS = 3_600_000


@pytest.mark.parametrize("make", HISTORIES, ids=lambda make: make.__name__)
def test_a_round_after_two_quiet_ones_publishes_nothing_but_balances(make: Any) -> None:
    history = make()
    world = World(history)
    belief, moment, clock_ms = world.start, 0, NOW
    for step in history.steps:
        moment = step.moment if step.moment is not None else moment
        clock_ms = step.clock_ms or clock_ms
        world.put(belief, moment, clock_ms)
        belief = world.learn(belief, step.facts)
    for _ in range(2 + len(history.settle_ms)):
        clock_ms += 70_000
        belief = world.round(belief, moment, clock_ms)

    for passed_ms in (30_000, HOUR_MS):
        clock_ms += passed_ms
        world.put(belief, moment, clock_ms)
        report = world.recovery.reconcile("quiet")
        assert [type(event) for event in world.bus.take()] == [BalancesUpdated]
        assert report.ok
        assert not report.discrepancies
        assert not report.lookups_made
