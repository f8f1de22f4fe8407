"""A recorded account on the simulated venue."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import attrs
import pytest

from qkt import BybitClient, BybitSpotBroker, EventBus, LimitOrder, Side
from qkt.recorder import FlightRecorder
from qkt.venue import SimulatedBybit

SYMBOL = "BYBIT_SPOT:BTCUSDT"
KEY, SECRET = "key-of-the-recorded-account", "secret-of-the-recorded-account"


@attrs.define
class Recorded:
    """The account while it is recorded; `end` closes everything and returns the run's folder."""

    venue: SimulatedBybit
    recorder: FlightRecorder
    client: BybitClient
    bus: EventBus
    broker: BybitSpotBroker

    def submit(self, price: str = "50000", side: Side = Side.BUY, name: str | None = None) -> str:
        order = LimitOrder(
            symbol=SYMBOL, side=side, quantity=Decimal("0.01"), limit_price=Decimal(price), client_order_id=name
        )
        return self.broker.submit(order).client_order_id

    def end(self) -> Path:
        self.broker.close()
        self.client.close()
        self.recorder.close()
        return self.recorder.path


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Recorded]:
    with SimulatedBybit(seed=1) as venue:
        venue.add_account(KEY, SECRET, {"USDT": 100_000, "BTC": 10})
        recorder, bus = FlightRecorder(tmp_path / "runs"), EventBus()
        client = BybitClient(KEY, SECRET, rest_url=venue.rest_url, ws_url=venue.ws_url, read_timeout_ms=300)
        recorder.attach(client, bus)
        client.connect()
        broker = BybitSpotBroker(client, bus, poll_interval_ms=60_000)
        rig = Recorded(venue, recorder, client, bus, broker)
        try:
            yield rig
        finally:
            rig.end()
