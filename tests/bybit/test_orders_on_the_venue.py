"""The order surface over real sockets, against the simulated venue."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt import (
    BybitClient,
    BybitSpotBroker,
    EventBus,
    HealthDegraded,
    IfTouchedOrder,
    InvalidRequestError,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderStatus,
    RiskLimits,
    Side,
    StopOrder,
    SubmitOutcome,
)
from qkt.venue import SimulatedBybit

D = Decimal
SYMBOL = "BYBIT_SPOT:BTCUSDT"
ACCEPTED, REJECTED, UNKNOWN = SubmitOutcome.ACCEPTED, SubmitOutcome.REJECTED, SubmitOutcome.UNKNOWN


@pytest.fixture
def venue() -> Iterator[SimulatedBybit]:
    with SimulatedBybit(seed=1) as running:
        yield running


@pytest.fixture
def client(venue: SimulatedBybit) -> Iterator[BybitClient]:
    with BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url, timeout_ms=1_000) as connected:
        yield connected


@pytest.fixture
def broker(client: BybitClient) -> Iterator[BybitSpotBroker]:
    with BybitSpotBroker(client, EventBus(), risk_limits=RiskLimits(max_orders_per_minute=1_000)) as running:
        yield running


def limit(
    name: Any = None, price: int = 55_000, quantity: str = "0.001", side: Any = Side.BUY, **more: Any
) -> LimitOrder:
    return LimitOrder(
        symbol=SYMBOL, side=side, quantity=D(quantity), limit_price=D(price), client_order_id=name, **more
    )


def there(venue: SimulatedBybit) -> Counter[Any]:
    """How often each of our ids is at the venue."""
    return Counter(row["orderLinkId"] for row in venue.truth()["orders"])


def until(condition: Any, what: Any) -> None:
    deadline, pause = time.monotonic() + 8, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, what
        pause.wait(0.005)


# -- batches ---------------------------------------------------------------------------------------------------------


def test_S85_a_batch_in_which_one_order_cannot_be_paid(venue: SimulatedBybit, broker: BybitSpotBroker) -> None:
    acks = broker.submit_many([limit("c1"), limit("c2", quantity="80"), limit("c3")])

    assert [ack.outcome for ack in acks] == [ACCEPTED, REJECTED, ACCEPTED]
    assert "170131" in acks[1].reject_reason
    assert broker.wait("c1", until="accepted").status is OrderStatus.NEW
    assert broker.wait("c3", until="accepted").status is OrderStatus.NEW
    assert broker.order("c2").status is OrderStatus.REJECTED
    assert there(venue) == {"c1": 1, "c3": 1}


def test_S85_a_batch_whose_reply_is_lost_leaves_exactly_one_order_each(
    venue: SimulatedBybit, broker: BybitSpotBroker
) -> None:
    fault = venue.faults.add("reply_lost", path="/v5/order/create-batch", mode="reset")
    venue.faults.add("frame_drop", topic="order", count=10)
    names = [f"c{number}" for number in range(7)]

    acks = broker.submit_many([limit(name) for name in names])

    assert [ack.outcome for ack in acks] == [UNKNOWN] * 7
    for name in names:
        assert broker.wait(name, until="accepted", timeout_ms=8_000).status is OrderStatus.NEW
    assert there(venue) == dict.fromkeys(names, 1)
    assert fault.hits == 1
    assert broker.health.unresolved == ()


def test_a_long_batch_stays_within_the_venues_limit(venue: SimulatedBybit) -> None:
    with (
        BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url) as patient,
        BybitSpotBroker(patient, EventBus()) as broker,
    ):
        acks = broker.submit_many([limit() for _ in range(25)])

    assert [(ack.outcome, ack.reject_reason) for ack in acks] == [(ACCEPTED, "")] * 25
    assert len(there(venue)) == 25


def test_cancel_all_ends_plain_and_conditional_orders_in_few_requests(
    venue: SimulatedBybit, client: BybitClient, broker: BybitSpotBroker
) -> None:
    broker.submit_many([limit() for _ in range(6)])
    broker.submit(StopOrder(symbol=SYMBOL, side=Side.SELL, quantity=D("0.001"), stop_price=D(50_000)))
    until(lambda: all(view.venue_status for view in broker.open_orders()), "every order shows itself")
    before = client.stats.requests

    acks = broker.cancel_all()

    assert [ack.outcome for ack in acks] == [ACCEPTED] * 7
    assert client.stats.requests - before == 2
    until(lambda: not broker.open_orders(), "every order ends")
    assert {row["orderStatus"] for row in venue.truth()["orders"]} == {"Cancelled", "Deactivated"}


def test_cancels_whose_reply_is_lost_end_each_order_once(venue: SimulatedBybit, broker: BybitSpotBroker) -> None:
    broker.submit_many([limit("c1"), limit("c2")])
    for name in ("c1", "c2"):
        broker.wait(name, until="accepted")
    venue.faults.add("reply_lost", path="/v5/order/cancel-batch", mode="reset")
    venue.faults.add("frame_drop", topic="order", count=10)

    acks = broker.cancel_many(["c1", "c2"])

    assert [ack.outcome for ack in acks] == [UNKNOWN, UNKNOWN]
    for name in ("c1", "c2"):
        assert broker.wait(name, until="closed", timeout_ms=8_000).status is OrderStatus.CANCELLED


# -- rules -----------------------------------------------------------------------------------------------------------


def test_an_order_beside_the_rules_never_leaves_and_its_quantized_self_is_taken(
    venue: SimulatedBybit, client: BybitClient, broker: BybitSpotBroker
) -> None:
    order = limit("c1", price="55000.07", quantity="0.0012345678")  # type: ignore[arg-type]
    before = client.stats.requests

    with pytest.raises(InvalidRequestError, match=r"tick size 0\.1"):
        broker.submit(order)
    assert client.stats.requests == before

    assert broker.submit(broker.quantize(order)).accepted
    view = broker.wait("c1", until="accepted")
    assert (view.limit_price, view.quantity) == (D("55000.0"), D("0.001234"))
    assert client.stats.requests == before + 1


def test_a_crossed_stop_is_refused_and_one_that_waits_is_taken(venue: SimulatedBybit, broker: BybitSpotBroker) -> None:
    venue.set_price("BTCUSDT", 60_000)
    sell: dict[str, Any] = {"symbol": SYMBOL, "side": Side.SELL, "quantity": D("0.001")}

    with pytest.raises(InvalidRequestError, match="already crossed"):
        broker.submit(StopOrder(**sell, stop_price=D(60_100)))
    with pytest.raises(InvalidRequestError, match="already crossed"):
        broker.submit(IfTouchedOrder(**sell, trigger_price=D(59_900)))
    assert venue.truth()["orders"] == []

    ack = broker.submit(StopOrder(**sell, stop_price=D(59_000)))
    broker.wait(ack.client_order_id, until=lambda view: view.status is OrderStatus.UNTRIGGERED)
    with pytest.raises(InvalidRequestError, match="already crossed"):
        broker.modify(ack.client_order_id, OrderModification(new_stop_price=D(60_100)))
    venue.set_price("BTCUSDT", 59_000)
    assert broker.wait(ack.client_order_id).status is OrderStatus.FILLED


def test_the_race_that_remains_is_told(venue: SimulatedBybit, broker: BybitSpotBroker) -> None:
    """The market moves between the look at the price and the venue's taking the order: nobody can prevent it."""
    heard: list[Any] = []
    broker._bus.subscribe(HealthDegraded, heard.append)
    venue.faults.add("slow_request", path="/v5/order/create", delay_ms=150)
    falling = threading.Timer(0.05, venue.set_price, ("BTCUSDT", 58_000))
    falling.start()

    ack = broker.submit(StopOrder(symbol=SYMBOL, side=Side.SELL, quantity=D("0.001"), stop_price=D(59_000)))

    falling.join()
    assert broker.wait(ack.client_order_id, until="accepted").status is OrderStatus.UNTRIGGERED
    until(lambda: heard, "the alarm")
    assert heard[0].domain == "triggers"
    assert broker.cancel(ack.client_order_id).accepted


def test_a_ticker_that_hangs_holds_a_stop_up_for_a_second_and_no_longer(venue: SimulatedBybit) -> None:
    with (
        BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url) as patient,
        BybitSpotBroker(patient, EventBus()) as broker,
    ):
        venue.faults.add("request_lost", path="/v5/market/tickers")
        began = time.monotonic()

        ack = broker.submit(StopOrder(symbol=SYMBOL, side=Side.SELL, quantity=D("0.001"), stop_price=D(59_000)))

        assert ack.accepted
        assert 0.9 < time.monotonic() - began < 3


# -- what spot has beyond limit orders -------------------------------------------------------------------------------


def test_a_market_buy_sized_in_quote_is_filled(venue: SimulatedBybit, broker: BybitSpotBroker) -> None:
    ack = broker.submit(MarketOrder(symbol=SYMBOL, side=Side.BUY, quantity=D(100), quote_sized=True))

    view = broker.wait(ack.client_order_id)

    assert view.status is OrderStatus.FILLED
    assert 0 < view.cum_quantity * D(60_000) <= 100


def test_attached_exits_become_an_order_of_the_venues_own_that_can_be_cancelled(
    venue: SimulatedBybit, broker: BybitSpotBroker
) -> None:
    order = limit("c1", take_profit=D(56_000), stop_loss=D(54_000))
    broker.submit(order)
    broker.wait("c1", until="accepted")

    venue.fill("c1")

    assert broker.wait("c1").status is OrderStatus.FILLED
    until(broker.open_orders, "the exit shows itself")
    (exit_,) = broker.open_orders()
    assert (exit_.external, exit_.side, exit_.status) == (True, Side.SELL, OrderStatus.UNTRIGGERED)
    assert broker.cancel_all() == []
    assert broker.cancel_all(include_external=True)[0].accepted
    until(lambda: not broker.open_orders(), "the exit ends")
