"""`BybitLinearBroker` on the simulated venue: the contract of every broker, and positions that are the venue's."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from qkt import (
    BybitClient,
    BybitLinearBroker,
    EventBus,
    LimitOrder,
    MarketOrder,
    OrderCancelled,
    OrderFilled,
    PositionMode,
    PositionSide,
    Side,
)
from qkt.testing import broker_checks
from qkt.venue import SimulatedVenue

SYMBOL = "BYBIT_LINEAR:BTCUSDT"


class Stage:
    """A venue for the whole file, and a fresh client for every broker."""

    def __init__(self) -> None:
        self.venue = SimulatedVenue(seed=1, rate_limits=False)
        self.clients: list[BybitClient] = []

    def broker(self, bus: EventBus) -> BybitLinearBroker:
        client = BybitClient("key", "secret", rest_url=self.venue.rest_url, ws_url=self.venue.ws_url)
        self.clients.append(client)
        client.connect()
        return BybitLinearBroker(client, bus, recovery_window_ms=0)

    def fill(self, _broker: object, client_order_id: str) -> None:
        self.venue.fill(client_order_id, quantity="0.004")
        self.venue.fill(client_order_id)

    def leave(self) -> None:
        while self.clients:
            self.clients.pop().close()


stage = Stage()


@pytest.fixture(scope="module", autouse=True)
def _venue() -> Iterator[None]:
    with stage.venue:
        yield


@pytest.fixture(autouse=True)
def _clients() -> Iterator[None]:
    yield
    stage.leave()
    for position in stage.venue.positions():
        stage.venue.adl(position["symbol"])


CHECKS = broker_checks(
    stage.broker,
    symbol=SYMBOL,
    unserved_symbol="ACME:GOLD",
    resting_price=Decimal(57_500),
    far_price=Decimal(62_500),
    quantity=Decimal("0.01"),
    trade=stage.fill,
)


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_the_linear_broker_keeps_the_contract(check: Callable[[], None]) -> None:
    check()


HEDGED = "BYBIT_LINEAR:SOLUSDT"


def hedged_broker(bus: EventBus) -> BybitLinearBroker:
    broker = stage.broker(bus)
    if broker.position_mode(HEDGED) is not PositionMode.HEDGE:
        broker.set_position_mode(HEDGED, PositionMode.HEDGE)
    return broker


def fill_hedged(_broker: object, client_order_id: str) -> None:
    stage.venue.fill(client_order_id, quantity="0.4")
    stage.venue.fill(client_order_id)


HEDGE_CHECKS = broker_checks(
    hedged_broker,
    symbol=HEDGED,
    unserved_symbol="ACME:GOLD",
    resting_price=Decimal(144),
    far_price=Decimal(156),
    quantity=Decimal(1),
    trade=fill_hedged,
    terms={"position_side": PositionSide.LONG},
)


@pytest.mark.parametrize("check", HEDGE_CHECKS, ids=str)
def test_the_linear_broker_keeps_the_contract_in_hedge_mode(check: Callable[[], None]) -> None:
    check()


class Trader:
    """A broker with everything it said."""

    def __init__(self) -> None:
        self.bus = EventBus()
        self.filled: list[OrderFilled] = []
        self.has_filled = threading.Event()
        self.cancelled: queue.SimpleQueue[OrderCancelled] = queue.SimpleQueue()
        self.bus.subscribe(OrderFilled, self.on_fill)
        self.bus.subscribe(OrderCancelled, self.cancelled.put)
        self.broker = stage.broker(self.bus)

    def on_fill(self, event: OrderFilled) -> None:
        self.filled.append(event)
        self.has_filled.set()

    def buy(self, quantity: str) -> OrderFilled:
        order = MarketOrder(symbol=SYMBOL, side=Side.BUY, quantity=Decimal(quantity))
        ack = self.broker.submit(order)
        assert ack.accepted
        assert self.has_filled.wait(5)
        return self.filled[-1]


@pytest.fixture
def trader() -> Iterator[Trader]:
    made = Trader()
    yield made
    made.broker.close()


def test_a_fill_is_told_with_its_fee_and_the_position_is_known(trader: Trader) -> None:
    event = trader.buy("0.1")
    assert event.cum_quantity == Decimal("0.1")
    trader.broker.reconcile()
    ((key, position),) = trader.broker.positions().items()
    assert (key, position.quantity, position.avg_price) == ((SYMBOL, 0), Decimal("0.1"), Decimal("60000.1"))


def test_a_position_from_elsewhere_is_found(trader: Trader) -> None:
    stage.venue.trade(category="linear", symbol="ETHUSDT", side="Sell", quantity="0.5")
    trader.broker.reconcile()
    assert trader.broker.positions()["BYBIT_LINEAR:ETHUSDT", 0].quantity == Decimal("-0.5")


def test_a_liquidated_position_is_gone_after_one_round(trader: Trader) -> None:
    trader.buy("0.1")
    trader.broker.reconcile()
    stage.venue.liquidate("BTCUSDT")
    trader.broker.reconcile()
    assert (SYMBOL, 0) not in trader.broker.positions()


def test_an_order_cancelled_by_the_venue_is_told(trader: Trader) -> None:
    order = LimitOrder(symbol=SYMBOL, side=Side.BUY, quantity=Decimal("0.01"), limit_price=Decimal(59_000))
    ack = trader.broker.submit(order)
    stage.venue.cancel(ack.client_order_id, cancel_type="CancelAllBeforeLiq")
    assert trader.cancelled.get(timeout=5).client_order_id == ack.client_order_id


def test_funding_is_no_fill(trader: Trader) -> None:
    trader.buy("0.1")
    stage.venue.fund("BTCUSDT")
    trader.broker.reconcile()
    assert len(trader.filled) == 1
