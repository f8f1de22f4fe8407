"""The brokers that trade on Bybit keep the contract, on the simulated venue and through the real client."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.composite import CompositeBroker
from qkt.broker.paper.broker import PaperBroker
from qkt.broker.symbol_pattern import SymbolPattern
from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.bybit.transport.client import BybitClient
from qkt.testing.contract import broker_checks
from qkt.venue import SimulatedBybit


class Stage:
    """A venue for the whole file, and a fresh client for every broker."""

    def __init__(self) -> None:
        self.venue = SimulatedBybit(seed=1, rate_limits=False)
        self.clients: list[BybitClient] = []

    def spot(self, bus: EventBus) -> BybitSpotBroker:
        client = BybitClient("key", "secret", rest_url=self.venue.rest_url, ws_url=self.venue.ws_url)
        self.clients.append(client)
        client.connect()
        return BybitSpotBroker(client, bus, recovery_window_ms=0)

    def composite(self, bus: EventBus) -> CompositeBroker:
        return CompositeBroker(
            [
                (SymbolPattern.prefix("BYBIT_SPOT:"), self.spot(bus)),
                (SymbolPattern.prefix("PAPER:"), PaperBroker(bus)),
            ]
        )

    def fill(self, _broker: object, client_order_id: str) -> None:
        self.venue.fill(client_order_id, quantity="0.0004")
        self.venue.fill(client_order_id)

    def leave(self) -> None:
        while self.clients:
            self.clients.pop().close()


stage = Stage()
BENCH = {
    "unserved_symbol": "ACME:GOLD",
    "resting_price": Decimal(55_000),
    "far_price": Decimal(65_000),
    "quantity": Decimal("0.001"),
    "trade": stage.fill,
}


@pytest.fixture(scope="module", autouse=True)
def _venue() -> Iterator[None]:
    with stage.venue:
        yield


@pytest.fixture(autouse=True)
def _clients() -> Iterator[None]:
    yield
    stage.leave()


@pytest.mark.parametrize("check", broker_checks(stage.spot, **BENCH), ids=str)
def test_the_spot_broker_keeps_the_contract(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", broker_checks(stage.composite, **BENCH), ids=str)
def test_the_composite_around_the_spot_broker_keeps_the_contract(check: Any) -> None:
    check()
