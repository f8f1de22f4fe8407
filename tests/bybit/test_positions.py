"""Linear positions: an unreadable row zeroes nothing, changes are told, and a fill can be waited out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt import BybitLinearBroker, EventBus, Position, PositionReconciled, PositionUpdated, WaitTimeoutError
from qkt.errors import QktError, VenueUnavailableError
from qkt.events import BrokerEvent
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import a_limit_order, envelope, frame, refusal

POSITIONS = "/v5/position/list"
SYMBOL = "BYBIT_LINEAR:BTCUSDT"
NOW = 1_800_000_000_000


def row(size: str = "0.02", side: str = "Buy", seq: int = 5, **fields: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "positionIdx": 0,
        "side": side,
        "size": size,
        "avgPrice": "50000",
        "seq": seq,
        "updatedTime": str(NOW),
        **fields,
    }


class Linear:
    """A linear broker on fakes, and what it published about positions."""

    def __init__(self) -> None:
        self.client, self.clock = FakeBybitClient(), FixedClock(NOW)
        self.bus, self.heard = EventBus(self.clock), list[BrokerEvent]()
        self.venue_has(row())
        self.broker = BybitLinearBroker(self.client, self.bus, self.clock, poll_scheduler=TickScheduler(self.clock))
        for kind in (PositionReconciled, PositionUpdated):
            self.bus.subscribe(kind, self.heard.append)

    def venue_has(self, *rows: dict[str, Any]) -> None:
        self.client.responses[POSITIONS] = lambda query: envelope(list(rows) if query["settleCoin"] == "USDT" else [])

    def push(self, *rows: dict[str, Any]) -> None:
        self.clock.advance_ms(10)
        pushed = frame("position.linear", *rows, created_ms=self.clock.now_ms())
        self.client.emit_ws_frame("position.linear", pushed)

    @property
    def quantity(self) -> Decimal:
        held = self.broker.position(SYMBOL)
        return Decimal(0) if held is None else held.quantity


@pytest.fixture
def linear() -> Iterator[Linear]:
    found = Linear()
    yield found
    found.broker.close()


def test_a_malformed_position_row_zeroes_nothing(linear: Linear) -> None:
    linear.clock.advance_ms(5_000)
    linear.venue_has(row(side="Both"))

    report = linear.broker.reconcile()

    assert linear.quantity == Decimal("0.02")
    assert linear.heard == []
    path = report.path("positions")
    assert path is not None
    assert path.malformed


def test_a_position_that_a_whole_read_does_not_list_is_flat(linear: Linear) -> None:
    linear.clock.advance_ms(5_000)
    linear.venue_has()

    linear.broker.reconcile()

    assert linear.quantity == 0
    assert [type(event) for event in linear.heard] == [PositionReconciled]


def test_a_change_by_the_stream_is_told_with_old_and_new(linear: Linear) -> None:
    linear.push(row("0.03", seq=6))
    linear.push(row("0.03", seq=7))

    (event,) = linear.heard
    assert isinstance(event, PositionUpdated)
    assert (event.symbol, event.old_quantity, event.new_quantity) == (SYMBOL, Decimal("0.02"), Decimal("0.03"))


def test_a_row_of_another_category_in_a_frame_is_not_about_our_positions(linear: Linear) -> None:
    linear.push(row("0.03", seq=6, category="inverse"))

    assert (linear.heard, linear.quantity) == ([], Decimal("0.02"))


def test_a_position_says_how_old_it_is(linear: Linear) -> None:
    linear.push(row("0.03", seq=6))

    held = linear.broker.position(SYMBOL)

    assert held is not None
    assert held.as_of_ms == NOW + 10


def test_a_frame_dated_ahead_of_the_venues_time_counts_as_now(linear: Linear) -> None:
    pushed = frame("position.linear", row("0.03", seq=6), created_ms=NOW + 3_600_000)
    linear.client.emit_ws_frame("position.linear", pushed)
    linear.clock.advance_ms(5_000)
    linear.venue_has()

    linear.broker.reconcile()

    assert linear.quantity == 0


def test_fresh_positions_are_read_from_the_venue(linear: Linear) -> None:
    linear.venue_has(row("0.05", seq=9))

    held = linear.broker.positions(fresh=True)

    assert held[SYMBOL, 0].quantity == Decimal("0.05")
    linear.client.responses[POSITIONS] = refusal(10016)
    with pytest.raises(VenueUnavailableError):
        linear.broker.positions(fresh=True)


def test_a_position_can_be_waited_for(linear: Linear) -> None:
    pushing = threading.Timer(0.05, lambda: linear.push(row("0.04", seq=8)))
    pushing.start()

    held = linear.broker.wait_for_position(SYMBOL, lambda position: position.quantity == Decimal("0.04"))

    assert held.quantity == Decimal("0.04")
    with pytest.raises(WaitTimeoutError, match=r"0\.04"):
        linear.broker.wait_for_position(SYMBOL, lambda position: position.quantity == 0, timeout_ms=1)


def test_closing_lets_a_caller_that_waits_for_a_position_go(linear: Linear) -> None:
    def closes(_: Position) -> bool:
        linear.broker.close()
        return False

    with pytest.raises(QktError, match="was closed while waiting"):
        linear.broker.wait_for_position(SYMBOL, closes, timeout_ms=10_000)


def test_old_positions_count_for_max_staleness(linear: Linear) -> None:
    linear.client.responses[POSITIONS] = refusal(10016)
    linear.clock.advance_ms(600_000)
    linear.broker.reconcile()
    health = linear.broker.health

    assert (health.orders, health.positions, health.staleness_ms) == (0, 600_000, 600_000)
    linear.broker._max_staleness_ms = 60_000
    with pytest.raises(VenueUnavailableError, match="600000 ms old"):
        linear.broker.submit(a_limit_order(symbol=SYMBOL))
