"""Guard rails: off unless set, and then no byte leaves that they forbid."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.risk import RiskLimits
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.model.orders import MarketOrder, OrderModification, Side, StopOrder
from qkt.testing.builders import SYMBOL, a_limit_order, envelope, frame, order_row, refusal
from tests.bybit.conftest import Desk

D = Decimal
TICKERS = "/v5/market/tickers"
ETH = "BYBIT_SPOT:ETHUSDT"


def market(quantity: str = "1", **more: Any) -> MarketOrder:
    return MarketOrder(symbol=SYMBOL, side=Side.BUY, quantity=D(quantity), **more)


def refused(desk: Desk, broker: BybitSpotBroker, order: Any, told: Any) -> None:
    """Neither `submit` nor `submit_many` lets it out."""
    for send in (broker.submit, lambda one: broker.submit_many([one])):
        with pytest.raises(InvalidRequestError, match=told):
            send(order)
    assert desk.client.posts == []
    assert broker.open_orders() == []


def test_without_guards_everything_passes(desk: Desk, broker: BybitSpotBroker) -> None:
    for _ in range(100):
        broker.submit(a_limit_order(quantity=D(10**6), limit_price=D(10**6)))

    assert len(desk.client.posts) == 100


# -- notional --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "order",
    [
        a_limit_order(quantity=D("10.01")),
        market("1000.01", quote_sized=True),
        StopOrder(symbol=SYMBOL, side=Side.BUY, quantity=D(1), stop_price=D(1001)),
    ],
)
def test_an_order_worth_more_than_max_notional_is_refused(desk: Desk, order: Any) -> None:
    broker = desk.open(risk_limits=RiskLimits(max_notional=D(1000)))

    refused(desk, broker, order, "above max_notional 1000")


@pytest.mark.parametrize("order", [a_limit_order(quantity=D(10)), market("1000", quote_sized=True)])
def test_an_order_worth_just_max_notional_passes_without_a_look_at_the_market(desk: Desk, order: Any) -> None:
    broker = desk.open(risk_limits=RiskLimits(max_notional=1000))

    assert broker.submit(order).accepted
    assert desk.client.gets == []


def test_a_market_order_is_measured_at_the_last_price(desk: Desk) -> None:
    broker = desk.open(risk_limits=RiskLimits(max_notional=1000))
    desk.client.responses[TICKERS] = envelope([{"symbol": "BTCUSDT", "lastPrice": "100"}])

    refused(desk, broker, market("10.01"), "above max_notional")
    assert broker.submit(market("10")).accepted


def test_a_market_order_that_cannot_be_measured_is_not_sent(desk: Desk) -> None:
    broker = desk.open(risk_limits=RiskLimits(max_notional=1000))
    desk.client.responses[TICKERS] = refusal(10016)

    with pytest.raises(VenueUnavailableError, match="cannot be measured"):
        broker.submit(market())
    assert desk.client.posts == []


def test_an_amend_cannot_do_what_an_order_may_not(desk: Desk) -> None:
    broker = desk.open(risk_limits=RiskLimits(max_notional=1000))
    ack = broker.submit(a_limit_order(quantity=D(9)))
    desk.client.posts.clear()

    for changes in ({"new_quantity": D(11)}, {"new_limit_price": D(112)}):
        with pytest.raises(InvalidRequestError, match="max_notional"):
            broker.modify(ack.client_order_id, OrderModification(**changes))  # type: ignore[arg-type]
    assert desk.client.posts == []
    assert broker.modify(ack.client_order_id, OrderModification(new_limit_price=D(111))).accepted


# -- symbols ---------------------------------------------------------------------------------------------------------


def test_a_symbol_that_is_not_allowed_is_refused_with_those_that_are(desk: Desk) -> None:
    broker = desk.open(risk_limits=RiskLimits(allowed_symbols={ETH}))

    refused(desk, broker, a_limit_order(), f"BYBIT_SPOT:BTCUSDT is not among allowed_symbols .{ETH}")
    assert broker.submit(a_limit_order(symbol=ETH)).accepted


def test_an_empty_list_allows_nothing(desk: Desk) -> None:
    broker = desk.open(risk_limits=RiskLimits(allowed_symbols=()))

    refused(desk, broker, a_limit_order(), "allowed_symbols .none")


# -- orders per minute -----------------------------------------------------------------------------------------------


def test_orders_are_counted_over_the_last_sixty_seconds(desk: Desk) -> None:
    broker = desk.open(risk_limits=RiskLimits(max_orders_per_minute=3))
    broker.submit(a_limit_order())
    desk.clock.advance_ms(20_000)
    broker.submit_many([a_limit_order(), a_limit_order()])
    desk.client.posts.clear()

    with pytest.raises(InvalidRequestError, match="max_orders_per_minute is 3; there is room in 40000 ms"):
        broker.submit(a_limit_order())
    with pytest.raises(InvalidRequestError, match="there is room in 60000 ms"):
        broker.submit_many([a_limit_order(), a_limit_order()])
    assert desk.client.posts == []

    desk.clock.advance_ms(40_000)
    assert broker.submit(a_limit_order()).accepted


def test_a_batch_is_counted_whole_or_not_at_all(desk: Desk) -> None:
    broker = desk.open(risk_limits=RiskLimits(max_orders_per_minute=3))

    with pytest.raises(InvalidRequestError, match="split the batch"):
        broker.submit_many([a_limit_order() for _ in range(4)])

    assert desk.client.posts == []
    assert len(broker.submit_many([a_limit_order() for _ in range(3)])) == 3


def test_what_another_check_refused_is_not_counted(desk: Desk) -> None:
    broker = desk.open(risk_limits=RiskLimits(max_orders_per_minute=1, max_notional=100))
    for _ in range(3):
        with pytest.raises(InvalidRequestError, match="max_notional"):
            broker.submit(a_limit_order(quantity=D(2)))

    assert broker.submit(a_limit_order()).accepted


# -- the kill switch -------------------------------------------------------------------------------------------------


def test_a_frozen_broker_sends_no_orders_and_no_amends_and_every_cancel(desk: Desk, broker: BybitSpotBroker) -> None:
    acks = [broker.submit(a_limit_order()) for _ in range(3)]
    desk.client.posts.clear()

    broker.freeze("fat finger")

    assert broker.is_frozen
    assert repr(broker).endswith(" frozen>")
    for forbidden in (
        lambda: broker.submit(a_limit_order()),
        lambda: broker.submit_many([a_limit_order()]),
        lambda: broker.modify(acks[0].client_order_id, OrderModification(new_quantity=D(1))),
    ):
        with pytest.raises(InvalidRequestError, match=r"is frozen .fat finger.; cancels pass"):
            forbidden()
    assert desk.client.posts == []
    assert broker.cancel(acks[0].client_order_id).accepted
    assert broker.cancel_many([acks[1].client_order_id])[0].accepted
    assert broker.cancel_all()


def test_an_unfrozen_broker_trades_again(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.freeze()
    broker.freeze("twice is once")
    broker.unfreeze()
    broker.unfreeze()

    assert not broker.is_frozen
    assert broker.submit(a_limit_order()).accepted


def test_a_frozen_broker_still_learns(desk: Desk, broker: BybitSpotBroker) -> None:
    ack = broker.submit(a_limit_order(client_order_id="c1"))
    broker.freeze()

    desk.client.emit_ws_frame("order", frame("order", order_row(orderId=ack.broker_order_id)))
    desk.scheduler.fire_tick()

    assert desk.told() == ["OrderAccepted"]


# -- bad limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        ({"max_notional": 0}, "max_notional must be above zero"),
        ({"max_notional": 10.5}, "max_notional must be a Decimal"),
        ({"max_orders_per_minute": 0}, "max_orders_per_minute must be a whole number above zero"),
        ({"max_orders_per_minute": True}, "max_orders_per_minute"),
        ({"max_orders_per_minute": "10"}, "max_orders_per_minute"),
        ({"allowed_symbols": SYMBOL}, "a collection of symbols, not one"),
    ],
)
def test_limits_that_are_none_are_refused_at_once(limits: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        RiskLimits(**limits)


def test_guards_must_be_guards(desk: Desk) -> None:
    with pytest.raises(InvalidRequestError, match="risk_limits must be a RiskLimits"):
        desk.open(risk_limits={"max_notional": 5})
