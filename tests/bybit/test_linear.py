"""The linear broker on fakes: positions are the venue's to say."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt.bus import EventBus
from qkt.bybit.linear import BybitLinearBroker
from qkt.errors import InvalidRequestError
from qkt.events import BalancesUpdated, BrokerEvent, FillEvent, HealthDegraded, OrderModified, PositionReconciled
from qkt.model.orders import Side, StopOrder
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import a_limit_order, envelope, execution_row, frame, order_row
from tests.bybit.conftest import Desk

SYMBOL = "BYBIT_LINEAR:BTCUSDT"
POSITIONS = "/v5/position/list"


def position_row(**changes: Any) -> dict[str, Any]:
    return {
        "positionIdx": 0,
        "symbol": "BTCUSDT",
        "side": "Buy",
        "size": "2",
        "avgPrice": "100",
        "seq": 10,
        "updatedTime": "1000",
        **changes,
    }


class Rig:
    def __init__(self, **responses: Any) -> None:
        self.client, self.clock = FakeBybitClient(), FixedClock(1_000_000)
        self.client.responses.update(responses)
        self.scheduler, self.bus = TickScheduler(self.clock), EventBus(self.clock)
        self.heard: list[Any] = []
        self.bus.subscribe(BrokerEvent, self.heard.append)
        self.broker = BybitLinearBroker(self.client, self.bus, self.clock, poll_scheduler=self.scheduler)

    def told(self, kind: Any) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    def push_position(self, **changes: Any) -> None:
        row = {"category": "linear", **position_row(**changes)}
        row["entryPrice"] = row.pop("avgPrice")
        self.client.emit_ws_frame("position", frame("position", row, created_ms=int(row["updatedTime"])))


@pytest.fixture
def rig() -> Iterator[Any]:
    rig = Rig()
    yield rig
    rig.broker.close()


def test_positions_are_a_fourth_path_of_every_round(rig: Any) -> None:
    assert [path.path for path in rig.broker.reports[-1].paths] == ["orders", "executions", "balances", "positions"]
    assert rig.broker.health.positions == 0


def test_a_position_found_at_start_is_told_with_old_and_new() -> None:
    rig = Rig(**{POSITIONS: envelope([position_row()])})

    (event,) = rig.told(PositionReconciled)
    assert (event.symbol, event.old_quantity, event.new_quantity, event.new_avg_price, event.source) == (
        SYMBOL,
        Decimal(0),
        Decimal(2),
        Decimal(100),
        "BYBIT_LINEAR",
    )
    assert rig.broker.position(SYMBOL).quantity == Decimal(2)  # type: ignore[union-attr]
    rig.broker.close()


def test_S64_a_funding_row_is_no_fill_and_moves_no_position(rig: Any) -> None:
    rig.push_position()
    row = execution_row(category="linear", execType="Funding", orderType="UNKNOWN", orderQty="0", execQty="2")

    rig.client.emit_ws_frame("execution", frame("execution", row))

    assert rig.told(FillEvent) == []
    assert rig.broker.position(SYMBOL).quantity == Decimal(2)


@pytest.mark.parametrize("forced", ["AdlTrade", "BustTrade"])
def test_S65_a_forced_trade_is_an_outside_fill_with_an_alarm(rig: Any, forced: str) -> None:
    row = execution_row(category="linear", execType=forced, orderId="venue-1", orderLinkId="", orderQty="1")

    rig.client.emit_ws_frame("execution", frame("execution", row))

    (fill,) = rig.told(FillEvent)
    assert fill.external
    (alarm,) = rig.told(HealthDegraded)
    assert alarm.domain == "positions"
    assert forced in alarm.reason


def test_S65_after_a_forced_trade_the_position_is_the_venues(rig: Any) -> None:
    rig.push_position()
    rig.push_position(size="0", side="", seq=11)

    assert rig.broker.position(SYMBOL).quantity == 0
    assert rig.broker.positions() == {}


def test_S66_drift_is_told_once_with_old_and_new_and_no_order_is_invented(rig: Any) -> None:
    rig.push_position()
    rig.client.responses[POSITIONS] = envelope([position_row(size="3", avgPrice="110", seq=12)])

    rig.scheduler.fire_tick()
    rig.scheduler.fire_tick()

    (event,) = rig.told(PositionReconciled)
    assert (event.old_quantity, event.new_quantity) == (Decimal(2), Decimal(3))
    assert (event.old_avg_price, event.new_avg_price) == (Decimal(100), Decimal(110))
    assert rig.broker.open_orders() == []


def test_S66_a_position_that_is_no_longer_listed_is_flat(rig: Any) -> None:
    rig.push_position()

    rig.scheduler.fire_tick()

    (event,) = rig.told(PositionReconciled)
    assert (event.old_quantity, event.new_quantity) == (Decimal(2), Decimal(0))


def test_S67_a_fill_that_comes_after_its_position_does_not_roll_it_back(rig: Any) -> None:
    rig.push_position(size="3", seq=11)
    row = execution_row(category="linear", execQty="1", seq=10)
    rig.client.emit_ws_frame("execution", frame("execution", row))

    assert rig.broker.position(SYMBOL).quantity == Decimal(3)


def test_S67_an_older_position_frame_does_not_roll_a_newer_one_back(rig: Any) -> None:
    rig.push_position(size="3", seq=11)
    rig.push_position(size="2", seq=10)

    assert rig.broker.position(SYMBOL).quantity == Decimal(3)


def test_S68_the_two_sides_of_hedge_mode_are_two_positions(rig: Any) -> None:
    rig.push_position(positionIdx=1, size="2")
    rig.push_position(positionIdx=2, side="Sell", size="5")

    assert rig.broker.position(SYMBOL, 1).quantity == Decimal(2)
    assert rig.broker.position(SYMBOL, 2).quantity == Decimal(-5)
    assert rig.broker.position(SYMBOL) is None


def test_S92_a_price_the_venue_moved_into_its_band_is_told_once_as_the_venues_doing(rig: Any) -> None:
    rig.broker.submit(a_limit_order(symbol=SYMBOL, client_order_id="c1"))
    row = order_row(category="linear", orderId="fake-1", price="95")

    rig.client.emit_ws_frame("order", frame("order", row))
    rig.client.emit_ws_frame("order", frame("order", row))

    (event,) = rig.told(OrderModified)
    assert (event.new_limit_price, event.reason) == (Decimal(95), "venue moved price")


def test_a_failed_position_read_is_a_failed_path_and_the_last_good_state_stands(rig: Any) -> None:
    rig.push_position()
    rig.client.responses[POSITIONS] = {"retCode": 0, "retMsg": "OK", "result": {}, "time": 0}

    report = rig.broker.reconcile()

    assert not report.path("positions").ok
    assert rig.broker.position(SYMBOL).quantity == Decimal(2)


def test_a_quiet_round_tells_nothing_but_balances(rig: Any) -> None:
    rig.push_position()
    rig.client.responses[POSITIONS] = envelope([position_row()])
    rig.scheduler.fire_tick()
    rig.heard.clear()

    rig.scheduler.fire_tick()

    assert [type(event) for event in rig.heard] == [BalancesUpdated]


def test_orders_say_their_direction_and_position_side(rig: Any) -> None:
    rig.broker.submit(
        StopOrder(symbol=SYMBOL, side=Side.SELL, quantity=Decimal(1), stop_price=Decimal(90), reduce_only=True)
    )

    body = rig.client.posts[0].body
    assert (body["category"], body["triggerDirection"], body["positionIdx"], body["reduceOnly"]) == (
        "linear",
        2,
        0,
        True,
    )


def test_reduce_only_on_spot_is_refused(desk: Desk) -> None:
    broker = desk.open()

    with pytest.raises(InvalidRequestError, match="reduce_only"):
        broker.submit(a_limit_order(reduce_only=True))
    assert desk.client.posts == []


def test_what_settles_in_usdc_is_read_too_and_a_round_flattens_nothing_streamed() -> None:
    def settled_in_usdc(*rows: Any) -> Any:
        return lambda query: envelope(rows if query.get("settleCoin") == "USDC" else ())

    order = order_row(category="linear", symbol="BTCPERP", orderId="u1", orderLinkId="")
    rig = Rig(
        **{
            POSITIONS: settled_in_usdc(position_row(symbol="BTCPERP")),
            "/v5/order/realtime": settled_in_usdc(order),
        }
    )
    assert [view.symbol for view in rig.broker.open_orders()] == ["BYBIT_LINEAR:BTCPERP"]

    rig.push_position(symbol="BTCPERP", size="3", seq=11, updatedTime="1000001")
    rig.client.responses[POSITIONS] = settled_in_usdc(position_row(symbol="BTCPERP", size="3", seq=11))
    rig.clock.advance_ms(30_000)
    rig.scheduler.fire_tick()

    assert rig.broker.position("BYBIT_LINEAR:BTCPERP").quantity == Decimal(3)  # type: ignore[union-attr]
    assert [event.new_quantity for event in rig.told(PositionReconciled)] == [Decimal(2)]
    rig.broker.close()


@pytest.mark.parametrize("path", [POSITIONS, "/v5/order/realtime"])
def test_half_of_the_settle_coins_is_no_complete_picture(rig: Any, path: Any) -> None:
    rig.client.responses[path] = lambda query: (
        OSError("reset by peer") if query.get("settleCoin") == "USDC" else envelope()
    )

    (failed,) = rig.broker.reconcile().failures

    assert failed.path == {POSITIONS: "positions"}.get(path, "orders")
