"""What one broker believes, when something in its own house goes wrong."""

from __future__ import annotations

import logging
import threading

import pytest

from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.events import BrokerEvent
from qkt.testing import FixedClock
from qkt.testing.builders import order_reported

DEADLINE_S = 5


@pytest.fixture
def rig():
    clock = FixedClock(0)
    bus, heard = EventBus(clock), []
    bus.subscribe(BrokerEvent, lambda event: heard.append(type(event).__name__))
    state = BrokerState(source="TEST", bus=bus, clock=clock)
    yield state, bus, heard
    state.close()


def three_orders():
    return [order_reported(broker_order_id=name, client_order_id="") for name in ("b1", "b2", "b3")]


def test_a_fact_that_cannot_be_taken_in_costs_neither_its_neighbours_nor_their_events(rig, monkeypatch, caplog):
    state, bus, heard = rig
    prepare = state._ledger.prepare

    def poisoned(fact):
        if fact.report.broker_order_id == "b2":
            raise RuntimeError("a fault of our own")
        return prepare(fact)

    monkeypatch.setattr(state._ledger, "prepare", poisoned)
    with caplog.at_level(logging.ERROR, logger="qkt"):
        state.absorb(three_orders())
    bus.deliver()

    assert heard == ["OrderAccepted", "HealthDegraded", "OrderAccepted"]
    assert "fact not absorbed source=TEST fact=OrderReported" in caplog.text
    assert "a fault of our own" in state.degraded["internal"]


def test_an_alarm_that_fails_does_not_swallow_the_events_of_its_change(rig, monkeypatch):
    state, bus, heard = rig

    def broken(_change):
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(state, "_alarms", broken)
    state.absorb(three_orders()[:1])
    bus.deliver()

    assert heard == ["OrderAccepted", "HealthDegraded"]


def test_a_long_read_lets_others_in_between_handfuls(rig):
    state, _bus, _heard = rig
    came_in, absorbed_by_then = threading.Event(), []

    def somebody_else():
        state.absorb([order_reported(broker_order_id="frame", client_order_id="")])
        came_in.set()

    def a_long_read():
        for number in range(250):
            if number == 150:  # the handful before is in, and nobody holds the lock, so this does not hang
                absorbed_by_then.append(len(state.open_orders()))
                threading.Thread(target=somebody_else).start()
                assert came_in.wait(DEADLINE_S)
            yield order_reported(broker_order_id=f"b{number}", client_order_id="")

    state.absorb(a_long_read())

    assert absorbed_by_then == [100]
    assert len(state.open_orders()) == 251
