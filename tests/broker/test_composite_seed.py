"""The seed's composition: spot and paper behind one composite, the log as fallback, one bus, one tracker."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.composite import CompositeBroker
from qkt.broker.paper.broker import PaperBroker
from qkt.broker.paper.dry_run import LogBroker
from qkt.broker.symbol_pattern import SymbolPattern
from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.events import FillEvent, OrderAccepted, OrderEvent, OrderFilled
from qkt.model.orders import LimitOrder, MarketOrder, OrderModification, OrderStatus, Side
from qkt.positions import PositionTracker
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import execution_row, order_row

SPOT, PAPER, OTHER = "BYBIT_SPOT:BTCUSDT", "PAPER:BTCUSDT", "ALPACA:AAPL"


class House:
    """Everything wired as the seed wires it, on fakes."""

    def __init__(self) -> None:
        self.clock = FixedClock(1_000_000)
        self.client = FakeBybitClient()
        self.scheduler = TickScheduler(self.clock)
        self.bus = EventBus(self.clock)
        self.heard: list[OrderEvent] = []
        self.bus.subscribe(OrderEvent, self.heard.append)
        self.tracker = PositionTracker()
        self.bus.subscribe(FillEvent, self.tracker.apply_fill)
        self.spot = BybitSpotBroker(self.client, self.bus, self.clock, poll_scheduler=self.scheduler)
        self.paper = PaperBroker(self.bus, self.clock)
        self.log = LogBroker(self.bus, self.clock)
        self.broker = CompositeBroker(
            routes=[(SymbolPattern.prefix("BYBIT_SPOT:"), self.spot), (SymbolPattern.prefix("PAPER:"), self.paper)],
            fallback=self.log,
        )
        self.client.posts.clear()

    def venue_fills(self, ack_client_order_id: str, broker_order_id: str) -> None:
        ids = {"orderId": broker_order_id, "orderLinkId": ack_client_order_id}
        self.client.emit_ws_frame("order.spot", [order_row(**ids)])
        self.client.emit_ws_frame("execution.spot", [execution_row(**ids)])


@pytest.fixture
def house() -> Iterator[Any]:
    house = House()
    yield house
    house.broker.close()


def a_limit(symbol: str) -> LimitOrder:
    return LimitOrder(symbol=symbol, side=Side.BUY, quantity=Decimal(1), limit_price=Decimal(100))


def test_only_the_spot_order_reaches_the_venue(house: Any) -> None:
    for symbol in (SPOT, PAPER, OTHER):
        assert house.broker.submit(a_limit(symbol)).accepted
    assert [(post.path, post.body["symbol"]) for post in house.client.posts] == [("/v5/order/create", "BTCUSDT")]
    assert [view.symbol for view in house.broker.open_orders()] == [SPOT, PAPER, OTHER]


def test_live_and_paper_fills_reach_one_tracker_through_one_bus(house: Any) -> None:
    ack = house.broker.submit(a_limit(SPOT))
    house.venue_fills(ack.client_order_id, ack.broker_order_id)
    house.paper.on_price(PAPER, Decimal(99))
    house.broker.submit(MarketOrder(symbol=PAPER, side=Side.SELL, quantity=Decimal(2)))
    held = {symbol: (position.quantity, position.avg_price) for symbol, position in house.tracker.positions().items()}
    assert held == {SPOT: (Decimal("0.999"), 100), PAPER: (-2, 99)}  # the venue took its fee in BTC
    assert [type(event) for event in house.heard] == [OrderAccepted, OrderFilled] * 2
    assert [event.sequence_id for event in house.heard] == sorted(event.sequence_id for event in house.heard)


def test_wait_and_explain_answer_for_either_kind(house: Any) -> None:
    live = house.broker.submit(a_limit(SPOT))
    house.venue_fills(live.client_order_id, live.broker_order_id)
    house.paper.on_price(PAPER, Decimal(99))
    paper = house.broker.submit(a_limit(PAPER))
    for ack in (live, paper):
        assert house.broker.wait(ack.client_order_id, timeout_ms=0).status is OrderStatus.FILLED
        assert "told OrderFilled" in str(house.broker.explain(ack.client_order_id))


def test_modify_and_cancel_of_a_live_order_become_the_venues_requests(house: Any) -> None:
    ack = house.broker.submit(a_limit(SPOT))
    house.client.emit_ws_frame("order.spot", [order_row(orderId=ack.broker_order_id, orderLinkId=ack.client_order_id)])
    house.broker.modify(ack.client_order_id, OrderModification(new_limit_price=Decimal(99)))
    house.broker.cancel(broker_order_id=ack.broker_order_id)
    assert [post.path for post in house.client.posts] == ["/v5/order/create", "/v5/order/amend", "/v5/order/cancel"]


def test_reconcile_asks_the_live_leaf_only(house: Any) -> None:
    assert {name: report.ok for name, report in house.broker.reconcile().items()} == {"BYBIT_SPOT": True}


def test_closing_the_house_stops_the_timer_and_leaves_the_client_open(house: Any) -> None:
    house.broker.close()
    assert list(house.scheduler.schedules) == []
    assert house.client.is_connected
