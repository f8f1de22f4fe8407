"""An observer of a broker's state gets every input in order, with the readings and events that belong to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from qkt.broker.state import BrokerState
from qkt.broker.state_observer import Observation
from qkt.bus import EventBus
from qkt.events import BalancesUpdated, HealthDegraded, OrderAccepted
from qkt.testing import FixedClock
from qkt.testing.builders import acknowledged, order_reported, submit_intended


class Notebook:
    def __init__(self) -> None:
        self.observations: list[Observation] = []

    def observe(self, observation: Observation) -> None:
        self.observations.append(observation)


@pytest.fixture
def rig() -> Iterator[tuple[BrokerState, Notebook]]:
    clock = FixedClock(1_000)
    state, notebook = BrokerState(source="TEST", bus=EventBus(clock), clock=clock), Notebook()
    state.observe(notebook)
    yield state, notebook
    state.close()


def test_every_operation_is_observed_in_order(rig: tuple[BrokerState, Notebook]) -> None:
    state, notebook = rig
    state.begin_submit(submit_intended())
    state.absorb([acknowledged(), order_reported("New")])
    state.publish([BalancesUpdated()])
    state.degrade("stream", "lost")
    state.restore("stream")
    state.started(5)
    state.close()

    assert [seen.operation for seen in notebook.observations] == [
        "submit",
        "absorb",
        "publish",
        "degrade",
        "restore",
        "started",
        "close",
    ]


def test_inputs_changes_and_stamped_events_are_told_together(rig: tuple[BrokerState, Notebook]) -> None:
    state, notebook = rig
    facts = [order_reported("New")]
    changes = state.absorb(facts)

    seen = notebook.observations[-1]
    assert seen.inputs == tuple(facts)
    assert seen.changes == tuple(changes)
    assert [(type(event), event.timestamp, event.sequence_id) for event in seen.events] == [(OrderAccepted, 1_000, 1)]


def test_what_came_from_outside_is_told(rig: tuple[BrokerState, Notebook]) -> None:
    state, notebook = rig
    state.degrade("stream", "lost")

    seen = notebook.observations[-1]
    assert seen.inputs == ("stream", "lost")
    assert seen.readings == (1_000, 1_000)
    assert [type(event) for event in seen.events] == [HealthDegraded]


def test_a_long_read_is_observed_in_the_chunks_it_was_absorbed_in(rig: tuple[BrokerState, Notebook]) -> None:
    state, notebook = rig
    state.absorb(order_reported("New", broker_order_id=f"b{n}", client_order_id="") for n in range(250))

    assert [len(seen.inputs) for seen in notebook.observations] == [100, 100, 50]
