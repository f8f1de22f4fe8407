"""A maintenance of the venue is told, shown, and makes no order disappear."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import websocket

from qkt import (
    BybitClient,
    BybitSpotBroker,
    EventBus,
    InvalidRequestError,
    MaintenanceWatch,
    OrderStatusUnknown,
    VenueMaintenance,
)
from qkt.bybit.codec.maintenance import to_maintenance
from qkt.model.maintenance import Maintenance
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import a_limit_order, envelope
from qkt.venue import SimulatedBybit
from tests.support.stage import CREATE

STATUS = "/v5/system/status"
NOW_MS = 1_800_000_000_000


def a_row(**changes: Any) -> dict[str, Any]:
    row = {
        "id": "m1",
        "title": "Engine upgrade",
        "state": "ongoing",
        "begin": str(NOW_MS - 1_000),
        "end": str(NOW_MS + 60_000),
        "product": [1, 2],
        "serviceTypes": ["1", "5"],
    }
    return {**row, **changes}


class Account:
    """A broker on a fake client whose announcements the test sets."""

    def __init__(self) -> None:
        self.clock, self.scheduler = FixedClock(NOW_MS), TickScheduler()
        self.client = FakeBybitClient()
        self.bus = EventBus(self.clock)
        self.told: list[Any] = []
        self.bus.subscribe(VenueMaintenance, self.told.append)
        self.bus.subscribe(OrderStatusUnknown, self.told.append)
        self.announce()
        self.broker = BybitSpotBroker(self.client, self.bus, self.clock, poll_scheduler=self.scheduler)

    def announce(self, *rows: dict[str, Any]) -> None:
        self.client.responses[STATUS] = envelope(list(rows))

    def watch(self, **options: Any) -> MaintenanceWatch:
        return MaintenanceWatch(self.client, self.bus, clock=self.clock, **options)


@pytest.fixture
def account() -> Iterator[Account]:
    account = Account()
    yield account
    account.broker.close()


def test_an_announcement_is_told_once_and_again_when_its_state_changes(account: Account) -> None:
    account.announce(a_row(state="scheduled", begin=str(NOW_MS + 5_000)))
    with account.watch() as watch:
        watch.refresh()
        account.announce(a_row())
        watch.refresh()
        account.announce(a_row(state="completed"))
        watch.refresh()

    assert [event.maintenance.state for event in account.told] == ["scheduled", "ongoing", "completed"]


def test_what_was_over_before_the_watch_began_is_no_news(account: Account) -> None:
    account.announce(a_row(state="completed"), a_row(id="m2", state="canceled"))
    with account.watch() as watch:
        assert watch.maintenances == ()

    assert account.told == []


def test_it_is_shown_in_the_health_of_every_broker(account: Account) -> None:
    account.announce(a_row())
    with account.watch():
        shown = account.broker.health.maintenances
        assert [str(one) for one in shown] == ["Engine upgrade (ongoing)"]
        assert (shown[0].products, shown[0].services) == (("linear", "spot"), ("trading", "market data"))
        assert account.broker.health.ok
    assert account.broker.health.maintenances == ()


def test_no_absence_is_judged_while_it_runs(account: Account) -> None:
    account.client.responses[CREATE] = {"retCode": 0, "retMsg": "OK", "result": {"orderId": "b1"}, "time": NOW_MS}
    ack = account.broker.submit(a_limit_order())
    account.announce(a_row())
    with account.watch() as watch:
        for _ in range(5):  # the venue shows empty lists, and knows no such order
            account.clock.advance_ms(60_000)
            account.broker.reconcile()
        assert account.broker.order(ack.client_order_id).is_open
        assert not [event for event in account.told if isinstance(event, OrderStatusUnknown)]
        account.announce(a_row(state="completed"))
        watch.refresh()
        for _ in range(3):
            account.clock.advance_ms(60_000)
            account.broker.reconcile()
        assert [event for event in account.told if isinstance(event, OrderStatusUnknown)]


def test_orders_pass_unless_a_broker_was_named(account: Account) -> None:
    account.announce(a_row())
    with account.watch():
        account.broker.submit(a_limit_order())
    with account.watch(freeze=[account.broker]) as watch:
        with pytest.raises(InvalidRequestError, match="under maintenance: Engine upgrade"):
            account.broker.submit(a_limit_order())
        account.announce(a_row(state="completed"))
        watch.refresh()
        account.broker.submit(a_limit_order())


def test_a_broker_that_was_frozen_is_let_go_when_the_watch_is_closed(account: Account) -> None:
    account.announce(a_row())
    with account.watch(freeze=[account.broker]):
        assert account.broker.is_frozen
    assert not account.broker.is_frozen


def test_a_planned_one_runs_when_its_time_has_come(account: Account) -> None:
    account.announce(a_row(state="scheduled", begin=str(NOW_MS + 5_000)))
    with account.watch() as watch:
        assert not watch.is_running
        account.clock.advance_ms(5_000)
        assert watch.is_running
        account.clock.advance_ms(60_000)
        assert not watch.is_running


def test_a_status_that_cannot_be_read_changes_nothing(account: Account, caplog: pytest.LogCaptureFixture) -> None:
    account.announce(a_row())
    with account.watch() as watch:
        account.client.responses[STATUS] = {"retCode": 10016, "retMsg": "busy", "result": {}, "time": NOW_MS}
        watch.refresh()
        assert len(watch.maintenances) == 1
    assert "system status not read" in caplog.text


def test_a_planned_one_freezes_in_its_time_though_the_status_cannot_be_read(account: Account) -> None:
    account.announce(a_row(state="scheduled", begin=str(NOW_MS + 5_000)))
    with account.watch(freeze=[account.broker]) as watch:
        account.client.responses[STATUS] = {"retCode": 10016, "retMsg": "busy", "result": {}, "time": NOW_MS}
        watch.refresh()
        before = account.broker.is_frozen
        account.clock.advance_ms(5_000)
        watch.refresh()

        assert (before, account.broker.is_frozen) == (False, True)


def test_an_answer_that_comes_after_the_watch_was_closed_freezes_nothing(account: Account) -> None:
    watch = account.watch(freeze=[account.broker])

    def answers_late() -> dict[str, Any]:
        watch.close()
        return envelope([a_row()])

    account.client.responses[STATUS] = answers_late
    watch.refresh()

    assert not account.broker.is_frozen
    assert account.told == []


@pytest.mark.parametrize("bad", [{"state": "soon"}, {"begin": "yesterday"}, {"id": ""}])
def test_a_row_that_cannot_be_read_costs_only_itself(account: Account, bad: dict[str, Any]) -> None:
    account.announce(a_row(**bad), a_row(id="m2"))
    with account.watch() as watch:
        assert [one.maintenance_id for one in watch.maintenances] == ["m2"]


def test_times_and_names_are_read_from_the_documented_row() -> None:
    found = to_maintenance(a_row())

    assert found == Maintenance(
        maintenance_id="m1",
        title="Engine upgrade",
        state="ongoing",
        begin_ms=NOW_MS - 1_000,
        end_ms=NOW_MS + 60_000,
        products=("linear", "spot"),
        services=("trading", "market data"),
    )


def test_the_topic_of_the_venue_tells_it_without_a_read() -> None:
    heard, bus = threading.Event(), EventBus()
    bus.subscribe(VenueMaintenance, lambda _event: heard.set())
    with SimulatedBybit(seed=1) as venue:
        client = BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url)
        with client, MaintenanceWatch(client, bus, interval_ms=3_600_000) as watch:
            row = venue.announce_maintenance("Upgrade")
            assert heard.wait(5)
            assert watch.is_running
            venue.end_maintenance(row["id"])
    assert [
        one.name for one in threading.enumerate() if one.name.startswith(("qkt-status", "qkt-maint", "qkt-events"))
    ] == []


def test_what_was_announced_while_its_stream_was_down_is_read_after_the_reconnect() -> None:
    heard, bus = threading.Event(), EventBus()
    bus.subscribe(VenueMaintenance, lambda _event: heard.set())
    with (
        SimulatedBybit(seed=1) as venue,
        closing(websocket.create_connection(venue.public_ws_url("misc/status"), timeout=5)) as other,
        BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url) as client,
    ):
        other.send('{"op": "subscribe", "args": ["system.status"]}')
        dark = venue.faults.add("stream_refused")
        with MaintenanceWatch(client, bus, interval_ms=3_600_000):
            venue.announce_maintenance("Upgrade")
            while "Upgrade" not in str(other.recv()):  # at the latest now the frame was sent, and it is sent once
                pass
            assert not heard.is_set()
            dark.remove()
            assert heard.wait(10)


class Stubborn:
    """A broker of the user's own whose `freeze` and `unfreeze` fail."""

    def freeze(self, reason: str = "asked") -> None:
        raise RuntimeError(f"cannot be frozen: {reason}")

    def unfreeze(self) -> None:
        raise RuntimeError("cannot be unfrozen")


def test_a_broker_that_cannot_be_frozen_keeps_no_other_from_it(
    account: Account, caplog: pytest.LogCaptureFixture
) -> None:
    account.announce(a_row())
    with account.watch(freeze=[Stubborn(), account.broker]):
        assert account.broker.is_frozen
        assert [event.maintenance.maintenance_id for event in account.told] == ["m1"]

    assert not account.broker.is_frozen
    assert "cannot be frozen" in caplog.text
    assert "cannot be unfrozen" in caplog.text


def test_a_watch_that_could_not_be_built_leaves_the_bus_and_lets_brokers_go(account: Account) -> None:
    def leave(_event: VenueMaintenance) -> None:
        raise SystemExit

    account.announce(a_row())
    sources = dict(account.bus._sources)
    account.bus.subscribe(VenueMaintenance, leave)
    with pytest.raises(SystemExit):
        account.watch(freeze=[account.broker])

    assert account.bus._sources == sources
    assert not account.broker.is_frozen
    assert account.client.maintenances == ()
