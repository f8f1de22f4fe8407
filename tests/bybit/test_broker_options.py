"""Constructor arguments are checked at the door, and a client that was never connected is connected."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from qkt import BybitLinearBroker, BybitSpotBroker, EventBus
from qkt.errors import InvalidRequestError
from qkt.events import HealthDegraded
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        ((EventBus(), FakeBybitClient()), {}, "client comes first"),
        ((FakeBybitClient(), None), {}, "EventBus"),
        ((object(), EventBus()), {}, "BybitTransport"),
        ((FakeBybitClient, EventBus()), {}, "instance"),
        ((FakeBybitClient(), EventBus(), 5), {}, "clock"),
        ((FakeBybitClient(), EventBus(), FixedClock), {}, "clock"),
        ((FakeBybitClient(), EventBus()), {"poll_scheduler": 3}, "scheduler"),
        ((FakeBybitClient(), EventBus()), {"poll_scheduler": TickScheduler}, "scheduler"),
        ((FakeBybitClient(), EventBus()), {"poll_interval_ms": 0}, "poll_interval_ms"),
        ((FakeBybitClient(), EventBus()), {"poll_interval_ms": 1.5}, "poll_interval_ms"),
        ((FakeBybitClient(), EventBus()), {"recovery_window_ms": -1}, "recovery_window_ms"),
        ((FakeBybitClient(), EventBus()), {"recovery_window_ms": True}, "recovery_window_ms"),
        ((FakeBybitClient(), EventBus()), {"poll_intervals_ms": {"orders": 0}}, "orders"),
        ((FakeBybitClient(), EventBus()), {"poll_intervals_ms": [5_000]}, "mapping"),
        ((FakeBybitClient(), EventBus()), {"max_staleness_ms": "5"}, "max_staleness_ms"),
    ],
)
@pytest.mark.parametrize("broker", [BybitSpotBroker, BybitLinearBroker])
def test_a_wrong_argument_is_named(broker: Any, arguments: tuple[Any, ...], options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequestError, match=said):
        broker(*arguments, **options)


def test_the_recovery_window_may_be_given_by_position() -> None:
    client = FakeBybitClient()
    BybitSpotBroker(client, EventBus(), FixedClock(1_000_000), 60_000, poll_scheduler=TickScheduler()).close()

    (asked,) = [request.query for request in client.gets if request.path == "/v5/execution/list"]
    assert asked["endTime"] - asked["startTime"] == 60_000


@pytest.mark.parametrize("broker", [BybitSpotBroker, BybitLinearBroker])
def test_every_constructor_argument_has_a_name_and_a_type(broker: type) -> None:
    parameters = inspect.signature(broker).parameters.values()

    assert not [one for one in parameters if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    assert not [one for one in parameters if one.annotation in (one.empty, "Any")]


class NeverConnected(FakeBybitClient):
    """A client as `BybitClient()` is before `connect`."""

    def __init__(self) -> None:
        super().__init__()
        self._is_connected = False
        self.connects = 0

    @property
    def stream_state(self) -> str:
        return "live" if self.is_connected else "closed"

    def connect(self) -> None:
        self.connects += 1
        super().connect()
        self.fire_on_reconnect()


def test_a_client_that_was_never_connected_is_connected_and_a_round_follows() -> None:
    client = NeverConnected()

    with BybitSpotBroker(client, EventBus(), FixedClock(0), poll_scheduler=TickScheduler()) as broker:
        assert client.connects == 1
        assert [report.trigger for report in broker.reports] == ["construction", "reconnect"]
        assert broker.health.ok


def test_a_connected_client_is_left_as_it_is() -> None:
    client = NeverConnected()
    client.connect()
    BybitSpotBroker(client, EventBus(), FixedClock(0), poll_scheduler=TickScheduler()).close()

    assert client.connects == 1


def test_health_is_not_ok_while_the_stream_is_closed() -> None:
    client = NeverConnected()
    with BybitSpotBroker(client, EventBus(), FixedClock(0), poll_scheduler=TickScheduler()) as broker:
        client._is_connected = False

        assert (broker.health.stream, broker.health.ok) == ("closed", False)


@pytest.mark.parametrize("broker", [BybitSpotBroker, BybitLinearBroker])
def test_a_handler_that_ends_the_program_during_close_leaves_no_listener_and_no_scheduler(broker: Any) -> None:
    def leave(_event: HealthDegraded) -> None:
        raise SystemExit

    client, bus = FakeBybitClient(), EventBus()
    opened = broker(client, bus)
    bus.subscribe(HealthDegraded, leave)
    bus.enqueue([HealthDegraded(source="test", domain="stream", reason="test")])

    with pytest.raises(SystemExit):
        opened.close()

    assert not any(client._listeners.values())
    assert not client._disconnect_handlers
    assert not client._reconnect_handlers
    for lane in opened._own_schedulers:
        with pytest.raises(InvalidRequestError, match="closed"):
            lane.schedule_once(lambda: None, 0)
