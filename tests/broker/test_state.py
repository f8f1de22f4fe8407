"""What one broker believes, when something in its own house goes wrong."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.events import BrokerEvent
from qkt.testing import FixedClock
from qkt.testing.builders import order_reported

DEADLINE_S = 5


@pytest.fixture
def rig() -> Iterator[tuple[Any, ...]]:
    clock = FixedClock(0)
    bus, heard = EventBus(clock), []
    bus.subscribe(BrokerEvent, lambda event: heard.append(type(event).__name__))
    state = BrokerState(source="TEST", bus=bus, clock=clock)
    yield state, bus, heard
    state.close()


def three_orders() -> list[Any]:
    return [order_reported(broker_order_id=name, client_order_id="") for name in ("b1", "b2", "b3")]


def test_a_fact_that_cannot_be_taken_in_costs_no_neighbour_and_no_event_of_theirs(
    rig: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    state, bus, heard = rig
    prepare = state._ledger.prepare

    def poisoned(fact: Any) -> Any:
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


def test_an_alarm_that_fails_does_not_swallow_the_events_of_its_change(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, bus, heard = rig

    def broken(_change: Any) -> None:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(state, "_alarms", broken)
    state.absorb(three_orders()[:1])
    bus.deliver()

    assert heard == ["OrderAccepted", "HealthDegraded"]


def test_a_long_read_lets_others_in_between_handfuls(rig: Any) -> None:
    state, _bus, _heard = rig
    came_in, absorbed_by_then = threading.Event(), []

    def somebody_else() -> None:
        state.absorb([order_reported(broker_order_id="frame", client_order_id="")])
        came_in.set()

    def a_long_read() -> Iterator[Any]:
        for number in range(250):
            if number == 150:  # the handful before is in, and nobody holds the lock, so this does not hang
                absorbed_by_then.append(len(state.open_orders()))
                threading.Thread(target=somebody_else).start()
                assert came_in.wait(DEADLINE_S)
            yield order_reported(broker_order_id=f"b{number}", client_order_id="")

    state.absorb(a_long_read())

    assert absorbed_by_then == [100]
    assert len(state.open_orders()) == 251


def test_a_change_of_one_order_wakes_those_who_wait_for_it_and_no_others(rig: Any) -> None:
    state, _bus, _heard = rig
    state.absorb(three_orders())
    looked = {"b1": 0, "b2": 0}
    ready = {name: threading.Event() for name in looked}

    def wait_for(name: str) -> None:
        def reached(view: Any) -> bool:
            looked[name] += 1
            ready[name].set()
            return not view.is_open

        state.wait(None, name, reached, DEADLINE_S * 1000)

    threads = [threading.Thread(target=wait_for, args=(name,)) for name in looked]
    for thread in threads:
        thread.start()
    assert all(event.wait(DEADLINE_S) for event in ready.values())
    before = looked["b1"]
    state.absorb([order_reported("Cancelled", broker_order_id="b2", client_order_id="", updated_ms=5)])
    threads[1].join(DEADLINE_S)
    assert not threads[1].is_alive()
    assert looked["b1"] == before
    state.absorb([order_reported("Cancelled", broker_order_id="b1", client_order_id="", updated_ms=5)])
    threads[0].join(DEADLINE_S)
    assert not threads[0].is_alive()
    assert state._waiters == {}


def test_S73_events_that_pile_up_are_told_when_they_are_queued(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state, bus, heard = rig
    monkeypatch.setattr("qkt.broker.state.QUEUE_ALARM", 2)
    state.absorb(three_orders())
    assert "delivery" in state.degraded
    bus.deliver()
    state.absorb([order_reported(broker_order_id="b9", client_order_id="")])
    bus.deliver()
    assert "delivery" not in state.degraded
    assert heard.count("HealthDegraded") == heard.count("HealthRestored") == 1


def test_what_the_stream_told_in_good_time_is_not_kept_for_the_next_round(rig: Any) -> None:
    state, _bus, _heard = rig
    state.absorb(three_orders())
    state.take_changes()
    for number in range(1, 100):
        state.absorb([order_reported("PartiallyFilled", number, broker_order_id="b1", quantity=500, updated_ms=number)])
    state.absorb([order_reported("Cancelled", 99, broker_order_id="b2", updated_ms=5, origin="reconcile")])
    assert [change.after.broker_order_id for change in state.take_changes()] == ["b2"]


@pytest.mark.parametrize("row", [order_reported(), order_reported("Filled", 5)], ids=["open", "filled"])
def test_a_row_that_cannot_be_taken_in_stops_no_later_one(rig: Any, monkeypatch: pytest.MonkeyPatch, row: Any) -> None:
    """H4: before, an order without its first fact stood in the books and every later round raised KeyError."""
    state, bus, heard = rig

    def broken(_order: object, _fact: object) -> None:
        raise ArithmeticError("odd")

    with monkeypatch.context() as patched:
        patched.setattr("qkt.orders.ledger.apply", broken)
        state.absorb([row])
    assert state.open_orders() == []
    assert state.ask(lambda ledger: list(ledger.untouched_since(10))) == []
    state.absorb([order_reported()])
    bus.deliver()
    assert heard == ["HealthDegraded", "OrderAccepted"]
