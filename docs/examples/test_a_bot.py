"""A bot and its unit tests: no thread, no sleep, no network. Run it with pytest, or as a script."""

from __future__ import annotations

from decimal import Decimal

from qkt import (
    BybitSpotBroker,
    EventBus,
    LimitOrder,
    OrderCancelled,
    OrderFilled,
    OrderStatus,
    Side,
)
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import envelope, execution_row, frame, order_row

BTC = "BYBIT_SPOT:BTCUSDT"


class ChasingBot:
    """Keeps one bid in the market: quotes again, one lower, when its bid was cancelled; stops when it was filled."""

    def __init__(self, broker: BybitSpotBroker, bus: EventBus, price: Decimal) -> None:
        self.broker, self.price = broker, price
        self.is_done = False
        bus.subscribe(OrderCancelled, self.on_cancelled)
        bus.subscribe(OrderFilled, self.on_filled)

    def quote(self) -> None:
        self.broker.submit(LimitOrder(symbol=BTC, side=Side.BUY, quantity=Decimal(1), limit_price=self.price))

    def on_cancelled(self, event: OrderCancelled) -> None:
        if not event.external:
            self.price -= 1
            self.quote()

    def on_filled(self, event: OrderFilled) -> None:
        self.is_done = self.is_done or not event.external


class Rig:
    def __init__(self) -> None:
        self.client, self.clock = FakeBybitClient(), FixedClock(1_000_000)
        self.scheduler, self.bus = TickScheduler(self.clock), EventBus(self.clock)
        self.broker = BybitSpotBroker(self.client, self.bus, self.clock, poll_scheduler=self.scheduler)
        self.bot = ChasingBot(self.broker, self.bus, Decimal(100))

    def prices_sent(self) -> list[str]:
        return [post.body["price"] for post in self.client.posts]


def test_it_quotes_again_one_lower_when_its_bid_was_cancelled():
    rig = Rig()
    rig.bot.quote()

    rig.client.emit_ws_frame("order", frame("order", order_row(orderId="fake-1", orderStatus="Cancelled")))

    assert rig.prices_sent() == ["100", "99"]


def test_a_bid_that_is_missing_from_a_list_is_not_quoted_again():
    rig = Rig()
    rig.bot.quote()

    rig.scheduler.fire_tick()  # a round: the list is empty, and nobody knows the order yet

    assert rig.prices_sent() == ["100"]


def test_a_timeout_does_not_make_it_quote_twice():
    rig = Rig()
    rig.client.responses["/v5/order/create"] = TimeoutError("no answer")
    rig.bot.quote()
    (view,) = rig.broker.open_orders()

    link_id = view.client_order_id
    rig.client.responses["/v5/order/realtime"] = envelope([order_row(orderLinkId=link_id)])
    rig.scheduler.advance_ms(200)

    assert rig.broker.order(link_id).status is OrderStatus.NEW
    assert len(rig.client.posts) == 1


def test_a_fill_that_only_a_round_sees_stops_it():
    rig = Rig()
    rig.bot.quote()
    (view,) = rig.broker.open_orders()
    row = execution_row(orderId=view.broker_order_id, orderLinkId=view.client_order_id, execTime="1000500")
    rig.client.responses["/v5/execution/list"] = envelope([row])

    rig.scheduler.fire_tick()

    assert rig.bot.is_done


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print("passed", name)
