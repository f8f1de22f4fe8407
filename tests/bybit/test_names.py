"""Several accounts on one bus can be told apart: in events, logs, health and thread names."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt import (
    BalancesUpdated,
    BrokerEvent,
    BybitClient,
    BybitSpotBroker,
    EventBus,
    InvalidRequestError,
    LimitOrder,
    OrderCancelled,
    OrderEvent,
    OrderRejected,
    Side,
)
from qkt.testing import FakeBybitClient
from qkt.venue import SimulatedBybit

BTC = "BYBIT_SPOT:BTCUSDT"
KEYS = {"main": "key-main", "hedge": "key-hedge"}


@pytest.fixture
def venue() -> Iterator[SimulatedBybit]:
    with SimulatedBybit(seed=1) as running:
        for key in KEYS.values():
            running.add_account(key, "secret", {"USDT": 100_000})
        yield running


def a_client(venue: SimulatedBybit, name: str) -> BybitClient:
    return BybitClient(KEYS[name], "secret", rest_url=venue.rest_url, ws_url=venue.ws_url, name=name)


def an_order(price: int = 50_000) -> LimitOrder:
    return LimitOrder(symbol=BTC, side=Side.BUY, quantity=Decimal("0.01"), limit_price=Decimal(price))


def test_every_event_names_its_account_and_broker(venue: SimulatedBybit) -> None:
    bus, heard = EventBus(), list[Any]()
    bus.subscribe(BrokerEvent, heard.append)
    with (
        a_client(venue, "main") as main,
        a_client(venue, "hedge") as hedge,
        BybitSpotBroker(main, bus) as one,
        BybitSpotBroker(hedge, bus, name="hedger") as other,
    ):
        first, second = one.submit(an_order()), other.submit(an_order())
        for broker, ack in ((one, first), (other, second)):
            broker.wait(ack.client_order_id, until="accepted")
            broker.cancel(ack.client_order_id)
            broker.wait(ack.client_order_id, until="closed")

    told = {event.client_order_id: (event.account, event.source) for event in heard if isinstance(event, OrderEvent)}
    assert told == {
        first.client_order_id: ("main", "main:BYBIT_SPOT"),
        second.client_order_id: ("hedge", "hedger"),
    }
    balances = {(event.account, event.source) for event in heard if isinstance(event, BalancesUpdated)}
    assert balances == {("main", "main:BYBIT_SPOT"), ("hedge", "hedger")}


def test_an_end_names_its_symbol(venue: SimulatedBybit) -> None:
    bus, ends = EventBus(), list[Any]()
    bus.subscribe(OrderCancelled, ends.append)
    bus.subscribe(OrderRejected, ends.append)
    with a_client(venue, "main") as client, BybitSpotBroker(client, bus) as broker:
        cancelled = broker.submit(an_order()).client_order_id
        broker.wait(cancelled, until="accepted")
        broker.cancel(cancelled)
        broker.wait(cancelled, until="closed")
        broker.submit(an_order(price=100_000))

    assert [(type(event).__name__, event.symbol) for event in ends] == [("OrderCancelled", BTC), ("OrderRejected", BTC)]


def test_logs_and_threads_carry_the_name(venue: SimulatedBybit, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="qkt")
    with a_client(venue, "main") as client, BybitSpotBroker(client, EventBus()) as broker:
        broker.submit(an_order())
        threads = {thread.name for thread in threading.enumerate()}

    assert "qkt-stream-main" in threads
    line = next(record.getMessage() for record in caplog.records if record.name == "qkt.orders")
    assert "source=main:BYBIT_SPOT account=main" in line
    assert any("connected" in text and text.endswith("account=main") for text in caplog.messages)


def test_health_reports_and_repr_carry_the_name(venue: SimulatedBybit) -> None:
    with a_client(venue, "main") as client, BybitSpotBroker(client, EventBus(), name="spot-1") as broker:
        assert (broker.name, broker.account) == ("spot-1", "main")
        assert broker.health.source == broker.reports[0].source == "spot-1"
        assert "spot-1" in repr(broker)
        assert "main" in repr(client)


def test_without_names_everything_is_as_before() -> None:
    bus, heard = EventBus(), list[Any]()
    bus.subscribe(BrokerEvent, heard.append)
    with BybitSpotBroker(FakeBybitClient(), bus) as broker:
        assert (broker.name, broker.account) == ("BYBIT_SPOT", "")
    assert {event.account for event in heard} == {""}


@pytest.mark.parametrize("name", ["two words", "a\nb", "x" * 41, 7])
def test_a_name_that_could_not_be_logged_is_refused(name: Any) -> None:
    with pytest.raises(InvalidRequestError, match="name must be 1 to 40"):
        BybitSpotBroker(FakeBybitClient(), EventBus(), name=name)
    with pytest.raises(InvalidRequestError, match="name must be 1 to 40"):
        BybitClient("key", "secret", name=name)
