"""A spot broker on fakes: synchronous, no thread, no sleep."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.events import BalancesUpdated, BrokerEvent
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler


@attrs.define
class Desk:
    """Everything a test of the broker touches."""

    client: FakeBybitClient
    bus: EventBus
    clock: FixedClock
    scheduler: TickScheduler
    heard: list[Any]
    broker: BybitSpotBroker | None = None

    def open(self, **options: Any) -> BybitSpotBroker:
        self.broker = BybitSpotBroker(self.client, self.bus, self.clock, poll_scheduler=self.scheduler, **options)
        self.client.posts.clear()
        self.client.gets.clear()
        return self.broker

    def told(self, *, balances: bool = False) -> list[str]:
        """The names of the events heard so far."""
        return [type(event).__name__ for event in self.heard if balances or not isinstance(event, BalancesUpdated)]


@pytest.fixture
def desk() -> Iterator[Desk]:
    clock = FixedClock(1_000_000)
    bus = EventBus(clock)
    heard: list[Any] = []
    bus.subscribe(BrokerEvent, heard.append)
    desk = Desk(client=FakeBybitClient(), bus=bus, clock=clock, scheduler=TickScheduler(clock), heard=heard)
    yield desk
    if desk.broker is not None:
        desk.broker.close()


@pytest.fixture
def broker(desk: Desk) -> BybitSpotBroker:
    return desk.open()
