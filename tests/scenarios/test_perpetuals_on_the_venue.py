"""Perpetuals on the simulated venue, over real sockets: hedge mode, liquidation, deleveraging, funding, exits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from decimal import Decimal

import pytest

from qkt import (
    BrokerEvent,
    BybitApiError,
    BybitClient,
    BybitLinearBroker,
    EventBus,
    FundingPaid,
    HealthDegraded,
    LimitOrder,
    MarginMode,
    MarketOrder,
    OrderFilled,
    OrderModification,
    OrderModified,
    PositionMode,
    PositionSide,
    ProtectionLost,
    ProtectionState,
    ProtectionUpdated,
    Side,
    StopKind,
)
from qkt.venue import SimulatedVenue

D = Decimal
SYMBOL = "BYBIT_LINEAR:BTCUSDT"
LONG, SHORT = PositionSide.LONG, PositionSide.SHORT


class Desk:
    """A venue, a broker on it, and what it said; `until` waits for state on a condition that events set."""

    def __init__(self) -> None:
        self.venue = SimulatedVenue(seed=1, rate_limits=False)
        self.venue.start()
        self.client = BybitClient("key", "secret", rest_url=self.venue.rest_url, ws_url=self.venue.ws_url)
        self.client.connect()
        self.heard: list[BrokerEvent] = []
        self._changed = threading.Condition()
        bus = EventBus()
        bus.subscribe(BrokerEvent, self._hear)
        self.broker = BybitLinearBroker(self.client, bus)

    def _hear(self, event: BrokerEvent) -> None:
        with self._changed:
            self.heard.append(event)
            self._changed.notify_all()

    def until(self, is_so: Callable[[], object]) -> None:
        with self._changed:
            assert self._changed.wait_for(is_so, timeout=5), f"heard {self.heard[-5:]}"

    def said(self, kind: type[BrokerEvent]) -> list[BrokerEvent]:
        return [event for event in self.heard if isinstance(event, kind)]

    def trades(self, side: Side = Side.BUY, quantity: str = "0.01", **changes: object) -> None:
        """A market order that fills at once, and the position it makes."""
        order = MarketOrder(symbol=SYMBOL, side=side, quantity=D(quantity), **changes)  # type: ignore[arg-type]
        ack = self.broker.submit(order)
        self.broker.wait(ack.client_order_id, until="closed")

    def stands(self, count: int) -> bool:
        return sum(one.stands for one in self.broker.protections()) == count

    def close(self) -> None:
        self.broker.close()
        self.client.close()
        self.venue.stop()


@pytest.fixture
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.close()


def test_S126_both_sides_of_a_hedged_symbol_have_their_own_stop(desk: Desk) -> None:
    desk.broker.set_position_mode(SYMBOL, PositionMode.HEDGE)
    desk.trades(position_side=LONG, stop_loss=D(50_000))
    desk.trades(Side.SELL, "0.02", position_side=SHORT, stop_loss=D(90_000))
    desk.until(lambda: desk.stands(2))

    assert {one.position_side: one.price for one in desk.broker.protections()} == {LONG: D(50_000), SHORT: D(90_000)}
    assert {key[1]: position.quantity for key, position in desk.broker.positions(fresh=True).items()} == {
        1: D("0.01"),
        2: D("-0.02"),
    }
    assert desk.broker.unprotected() == {}


def test_S127_a_hedged_side_is_closed_by_reducing_it(desk: Desk) -> None:
    desk.broker.set_position_mode("USDT", PositionMode.HEDGE)
    desk.trades(position_side=LONG, stop_loss=D(50_000))
    desk.until(lambda: desk.stands(1))
    desk.trades(Side.SELL, position_side=LONG, reduce_only=True)
    desk.until(lambda: not desk.broker.protections())

    assert desk.broker.positions(fresh=True) == {}
    assert desk.said(ProtectionLost) == []


def test_S128_a_mode_cannot_be_switched_under_a_position(desk: Desk) -> None:
    desk.trades()

    with pytest.raises(BybitApiError) as refused:
        desk.broker.set_position_mode(SYMBOL, PositionMode.HEDGE)

    assert refused.value.ret_code == 110024
    assert desk.broker.position_mode(SYMBOL) is PositionMode.ONE_WAY


def test_S129_leverage_and_margin_mode_are_set_and_shown(desk: Desk) -> None:
    for _ in range(2):
        desk.broker.set_leverage(SYMBOL, 7)
        desk.broker.set_margin_mode(MarginMode.ISOLATED)
    desk.trades()

    position = desk.broker.wait_for_position(SYMBOL)

    assert position.leverage == D(7)
    assert position.initial_margin is not None
    assert position.liquidation_price is not None
    assert position.initial_margin > position.quantity * position.avg_price / 8


def test_S130_a_liquidation_ends_the_exits_and_is_told_as_one(desk: Desk) -> None:
    desk.trades(stop_loss=D(50_000))
    desk.until(lambda: desk.stands(1))

    desk.venue.liquidate("BTCUSDT")
    desk.until(lambda: not desk.broker.protections() and len(desk.said(OrderFilled)) == 2)

    forced = desk.said(OrderFilled)[-1]
    assert isinstance(forced, OrderFilled)
    desk.broker.reconcile()
    assert desk.broker.order(broker_order_id=forced.broker_order_id).stop_kind is StopKind.LIQUIDATION
    assert desk.said(ProtectionLost) == []
    assert any(event.domain == "positions" for event in desk.said(HealthDegraded) if isinstance(event, HealthDegraded))


def test_S131_deleveraging_a_part_leaves_the_stop_on_the_rest(desk: Desk) -> None:
    desk.trades(stop_loss=D(50_000))
    desk.until(lambda: desk.stands(1))

    desk.venue.adl("BTCUSDT", "0.004")
    desk.broker.wait_for_position(SYMBOL, lambda position: position.quantity == D("0.006"))
    desk.broker.reconcile()

    assert desk.stands(1)
    (child,) = [order for order in desk.broker.open_orders() if order.stop_kind is StopKind.STOP_LOSS]
    assert child.quantity == D("0.006")


def test_S132_a_mark_price_is_read_with_the_position_and_triggers_its_stop(desk: Desk) -> None:
    desk.trades()
    desk.broker.wait_for_position(SYMBOL)
    desk.venue.set_mark_price("BTCUSDT", "59000")

    position = desk.broker.positions(fresh=True)[(SYMBOL, 0)]

    assert (position.mark_price, position.unrealized_pnl) == (D(59_000), (D(59_000) - position.avg_price) * D("0.01"))


def test_S133_funding_is_paid_on_the_stream_and_counted(desk: Desk) -> None:
    desk.trades()
    desk.venue.fund("BTCUSDT", "0.0001")
    desk.until(lambda: desk.said(FundingPaid))

    (event,) = desk.said(FundingPaid)
    assert isinstance(event, FundingPaid)
    assert (event.amount, event.rate, event.side) == (D("0.06"), D("0.0001"), Side.BUY)
    assert desk.broker.costs(SYMBOL).funding == {"USDT": event.amount}


def test_S134_exits_of_a_resting_order_stand_from_its_first_fill(desk: Desk) -> None:
    ack = desk.broker.submit(
        LimitOrder(symbol=SYMBOL, side=Side.BUY, quantity=D("0.01"), limit_price=D(57_500), stop_loss=D(50_000))
    )
    desk.venue.fill(ack.client_order_id, quantity="0.004")
    desk.until(lambda: desk.stands(1))

    (one,) = desk.broker.protections()
    assert (one.price, one.parent_client_order_id) == (D(50_000), ack.client_order_id)


def test_S135_the_exits_of_a_resting_order_are_amended(desk: Desk) -> None:
    ack = desk.broker.submit(
        LimitOrder(symbol=SYMBOL, side=Side.BUY, quantity=D("0.01"), limit_price=D(57_500), stop_loss=D(50_000))
    )
    desk.broker.wait(ack.client_order_id, until="accepted")
    desk.broker.modify(ack.client_order_id, OrderModification(new_stop_loss=D(51_000), new_take_profit=D(70_000)))
    desk.broker.wait(ack.client_order_id, until=lambda view: view.take_profit == D(70_000))
    desk.venue.fill(ack.client_order_id)
    desk.until(lambda: desk.stands(2))

    assert [event.reason for event in desk.said(OrderModified) if isinstance(event, OrderModified)] == [""]
    assert {one.price for one in desk.broker.protections()} == {D(51_000), D(70_000)}


def test_S136_a_stop_that_the_market_reaches_closes_the_position(desk: Desk) -> None:
    desk.trades(stop_loss=D(58_000))
    desk.until(lambda: desk.stands(1))

    desk.venue.set_price("BTCUSDT", "57900", category="linear")
    desk.until(lambda: not desk.broker.protections())

    assert desk.broker.positions(fresh=True) == {}
    assert desk.said(ProtectionLost) == []
    ends = [event.protection.state for event in desk.said(ProtectionUpdated) if isinstance(event, ProtectionUpdated)]
    assert ends[-1] is ProtectionState.ENDED
