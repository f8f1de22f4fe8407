"""PaperBroker: fills on the prices you feed, and on nothing else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.paper.broker import PaperBroker, coins_of
from qkt.broker.protocol import Broker, OrderTypeCapability, SubmitOutcome
from qkt.broker.risk import RiskLimits
from qkt.bus import EventBus
from qkt.errors import InvalidRequestError, WaitTimeoutError
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModified,
    OrderModifyFailed,
    OrderPartiallyFilled,
    OrderRejected,
)
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderRequest,
    OrderStatus,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)
from qkt.positions import PositionTracker

BTC = "BYBIT_SPOT:BTCUSDT"
PERP = "BYBIT_LINEAR:BTCUSDT"


class AClock:
    def __init__(self) -> None:
        self.ms = 1_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms


class Desk:
    """A paper broker, what was heard of it, and short words for orders."""

    def __init__(self, **settings: Any) -> None:
        self.heard: list[BrokerEvent] = []
        self.bus = EventBus()
        self.bus.subscribe(BrokerEvent, self.heard.append)
        self.clock = AClock()
        self.broker = PaperBroker(self.bus, self.clock, **settings)

    def price(self, price: str, liquidity: str | None = None, symbol: str = BTC) -> None:
        self.broker.on_price(symbol, Decimal(price), None if liquidity is None else Decimal(liquidity))

    def send(self, order: OrderRequest) -> str:
        return self.broker.submit(order).client_order_id

    def about(self, client_order_id: str) -> list[OrderEvent]:
        return [e for e in self.heard if isinstance(e, OrderEvent) and e.client_order_id == client_order_id]

    def story(self, client_order_id: str) -> list[str]:
        return [type(event).__name__ for event in self.about(client_order_id)]

    def fills(self, client_order_id: str) -> list[tuple[str, str]]:
        return [(str(e.quantity), str(e.price)) for e in self.about(client_order_id) if isinstance(e, FillEvent)]

    def reason(self, client_order_id: str) -> str:
        return [e.reason for e in self.about(client_order_id) if isinstance(e, OrderCancelled | OrderRejected)][-1]


def limit(side: str, quantity: str, price: str, lifetime: str = "GTC", **fields: Any) -> LimitOrder:
    return LimitOrder(
        **{"symbol": BTC} | fields,
        side=Side(side),
        quantity=Decimal(quantity),
        limit_price=Decimal(price),
        time_in_force=TimeInForce(lifetime),
    )


def market(side: str, quantity: str, **fields: Any) -> MarketOrder:
    return MarketOrder(**{"symbol": BTC} | fields, side=Side(side), quantity=Decimal(quantity))


def stop(side: str, stop_price: str, quantity: str = "1") -> StopOrder:
    return StopOrder(symbol=BTC, side=Side(side), quantity=Decimal(quantity), stop_price=Decimal(stop_price))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_it_is_a_broker(desk: Any) -> None:
    broker: Broker = desk.broker
    assert isinstance(broker, Broker)


# -- market orders ---------------------------------------------------------------------------------------------------


def test_a_market_order_fills_at_the_last_price_before_submit_returns(desk: Any) -> None:
    desk.price("100")
    order = desk.send(market("BUY", "2"))
    assert desk.story(order) == ["OrderAccepted", "OrderFilled"]
    assert desk.fills(order) == [("2", "100")]
    assert desk.broker.order(order).status is OrderStatus.FILLED


def test_a_market_order_without_a_price_waits_for_the_first_one(desk: Any) -> None:
    order = desk.send(market("BUY", "2"))
    assert desk.story(order) == ["OrderAccepted"]
    desk.price("101")
    assert desk.fills(order) == [("2", "101")]


def test_a_market_order_takes_what_there_is_and_the_rest_is_cancelled(desk: Any) -> None:
    desk.price("100", liquidity="0.5")
    order = desk.send(market("BUY", "2"))
    assert desk.story(order) == ["OrderAccepted", "OrderPartiallyFilled", "OrderCancelled"]
    assert desk.reason(order) == "EC_NoEnoughQtyToFill"
    assert desk.about(order)[-1].cum_quantity == Decimal("0.5")


def test_a_market_order_with_nothing_to_trade_against_is_cancelled_unfilled(desk: Any) -> None:
    desk.price("100", liquidity="0")
    order = desk.send(market("BUY", "2"))
    assert (desk.story(order), desk.reason(order)) == (["OrderAccepted", "OrderCancelled"], "EC_NoImmediateQtyToFill")


def test_a_quote_sized_buy_is_filled_though_the_last_cents_buy_nothing(desk: Any) -> None:
    desk.price("30000")
    order = desk.send(market("BUY", "100", quote_sized=True))
    assert desk.story(order) == ["OrderAccepted", "OrderFilled"]
    assert desk.fills(order) == [("0.00333333", "30000")]
    assert desk.about(order)[-1].leaves_quantity is None


def test_a_quote_sized_sell_sells_that_much_worth(desk: Any) -> None:
    desk.price("200")
    order = desk.send(market("SELL", "100", quote_sized=True))
    assert desk.fills(order) == [("0.50000000", "200")]
    assert desk.story(order)[-1] == "OrderFilled"


def test_a_quote_sized_buy_of_less_than_the_smallest_step_buys_nothing(desk: Any) -> None:
    desk.price("100000000")
    order = desk.send(market("BUY", "0.5", quote_sized=True))
    assert desk.story(order) == ["OrderAccepted", "OrderCancelled"]


# -- limit orders ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("side", "rests_at", "fills_at"), [("BUY", "101", "99"), ("SELL", "99", "101")])
def test_a_resting_limit_order_fills_at_its_own_price_once_the_market_reaches_it(
    desk: Any, side: str, rests_at: str, fills_at: str
) -> None:
    desk.price(rests_at)
    order = desk.send(limit(side, "1", "100"))
    assert desk.story(order) == ["OrderAccepted"]
    desk.price(fills_at)
    assert desk.fills(order) == [("1", "100")]
    assert desk.about(order)[-1].is_maker


def test_a_touch_is_enough(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    desk.price("101")
    desk.price("100")
    assert desk.story(order)[-1] == "OrderFilled"


@pytest.mark.parametrize(("side", "price"), [("BUY", "99"), ("SELL", "101")])
def test_a_limit_order_that_crosses_takes_the_better_price_at_once(desk: Any, side: str, price: str) -> None:
    desk.price(price)
    order = desk.send(limit(side, "1", "100"))
    assert desk.fills(order) == [("1", price)]
    assert not desk.about(order)[-1].is_maker


@pytest.mark.parametrize("lifetime", ["GTC", "POST_ONLY"])
def test_a_limit_order_placed_before_the_first_price_rests_and_is_maker(desk: Any, lifetime: str) -> None:
    order = desk.send(limit("BUY", "1", "100", lifetime))
    desk.price("99")
    assert desk.fills(order) == [("1", "100")]
    assert desk.about(order)[-1].is_maker


@pytest.mark.parametrize("lifetime", ["IOC", "FOK"])
def test_an_immediate_order_placed_before_the_first_price_waits_for_it(desk: Any, lifetime: str) -> None:
    good, bad = desk.send(limit("BUY", "1", "100", lifetime)), desk.send(limit("BUY", "1", "98", lifetime))
    assert desk.broker.order(bad).is_open
    desk.price("99")
    assert desk.fills(good) == [("1", "99")]
    assert desk.story(bad) == ["OrderAccepted", "OrderCancelled"]


def test_prices_of_other_symbols_do_nothing(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    desk.price("50", symbol="BYBIT_SPOT:ETHUSDT")
    assert desk.story(order) == ["OrderAccepted"]


def test_liquidity_is_spent_best_price_first_and_older_before_younger(desk: Any) -> None:
    desk.price("110")
    low, old, young, best = (desk.send(limit("BUY", "1", price)) for price in ("100", "101", "101", "102"))
    desk.price("99", liquidity="2.5")
    assert [desk.fills(each) for each in (best, old, young, low)] == [
        [("1", "102")],
        [("1", "101")],
        [("0.5", "101")],
        [],
    ]


def test_what_one_order_took_the_next_cannot_have_until_the_next_price(desk: Any) -> None:
    desk.price("100", liquidity="1")
    desk.send(market("BUY", "0.6"))
    second = desk.send(limit("BUY", "1", "100"))
    assert desk.fills(second) == [("0.4", "100")]
    desk.price("100", liquidity="5")
    assert desk.fills(second) == [("0.4", "100"), ("0.6", "100")]
    assert desk.story(second) == ["OrderAccepted", "OrderPartiallyFilled", "OrderFilled"]


def test_partial_fills_carry_the_running_sums(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    desk.price("100", liquidity="0.3")
    desk.price("100", liquidity="0.3")
    desk.price("100")
    sums = [(str(e.cum_quantity), str(e.leaves_quantity)) for e in desk.about(order) if isinstance(e, FillEvent)]
    assert sums == [("0.3", "0.7"), ("0.6", "0.4"), ("1.0", "0")]
    assert len({e.exec_id for e in desk.about(order) if isinstance(e, FillEvent)}) == 3


# -- lifetimes -------------------------------------------------------------------------------------------------------


def test_ioc_takes_what_there_is_and_ends(desk: Any) -> None:
    desk.price("100", liquidity="0.4")
    order = desk.send(limit("BUY", "1", "100", "IOC"))
    assert desk.story(order) == ["OrderAccepted", "OrderPartiallyFilled", "OrderCancelled"]


def test_ioc_away_from_the_market_ends_unfilled(desk: Any) -> None:
    desk.price("101")
    order = desk.send(limit("BUY", "1", "100", "IOC"))
    assert desk.story(order) == ["OrderAccepted", "OrderCancelled"]


def test_fok_fills_whole_or_not_at_all(desk: Any) -> None:
    desk.price("100", liquidity="1")
    too_big = desk.send(limit("BUY", "1.1", "100", "FOK"))
    fitting = desk.send(limit("BUY", "1", "100", "FOK"))
    assert desk.story(too_big) == ["OrderAccepted", "OrderCancelled"]
    assert desk.fills(fitting) == [("1", "100")]


def test_post_only_rests_and_becomes_maker(desk: Any) -> None:
    desk.price("101")
    order = desk.send(limit("BUY", "1", "100", "POST_ONLY"))
    desk.price("100")
    assert desk.about(order)[-1].is_maker


def test_post_only_that_would_take_is_accepted_and_then_cancelled_as_on_the_venue(desk: Any) -> None:
    desk.price("100")
    order = desk.send(limit("BUY", "1", "100", "POST_ONLY"))
    assert desk.story(order) == ["OrderAccepted", "OrderCancelled"]
    assert desk.reason(order) == "EC_PostOnlyWillTakeLiquidity"


@pytest.mark.parametrize(
    "order",
    [limit("BUY", "1", "100", "DAY"), limit("BUY", "1", "100", take_profit=Decimal(110))],
    ids=["DAY", "bracket"],
)
def test_what_the_venue_or_the_paper_cannot_do_is_refused_before_anything_happens(desk: Any, order: Any) -> None:
    with pytest.raises(InvalidRequestError):
        desk.send(order)
    assert (desk.heard, desk.broker.open_orders()) == ([], [])


# -- conditional orders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "quiet", "fires"),
    [
        (stop("BUY", "105"), "104.99", "106"),
        (stop("SELL", "95"), "95.01", "94"),
        (IfTouchedOrder(symbol=BTC, side=Side.BUY, quantity=1, trigger_price=95), "95.01", "94"),
        (IfTouchedOrder(symbol=BTC, side=Side.SELL, quantity=1, trigger_price=105), "104.99", "106"),
    ],
    ids=["buy stop above", "sell stop below", "buy if touched below", "sell if touched above"],
)
def test_a_condition_fires_in_its_own_direction_and_a_gap_costs_what_it_costs(
    desk: Any, order: Any, quiet: str, fires: str
) -> None:
    desk.price("100")
    sent = desk.send(order)
    desk.price(quiet)
    assert desk.broker.order(sent).status is OrderStatus.UNTRIGGERED
    desk.price(fires)
    assert desk.fills(sent) == [("1", fires)]
    assert desk.story(sent) == ["OrderAccepted", "OrderFilled"]


def test_a_stop_that_is_reached_exactly_fires(desk: Any) -> None:
    desk.price("100")
    order = desk.send(stop("BUY", "105"))
    desk.price("105")
    assert desk.story(order)[-1] == "OrderFilled"


def test_a_stop_limit_rests_at_its_limit_once_fired(desk: Any) -> None:
    desk.price("100")
    order = desk.send(StopLimitOrder(symbol=BTC, side=Side.BUY, quantity=1, stop_price=105, limit_price=104))
    desk.price("104")
    assert desk.broker.order(order).status is OrderStatus.UNTRIGGERED
    desk.price("105")
    assert (desk.fills(order), desk.broker.order(order).is_open) == ([], True)
    desk.price("103")
    assert desk.fills(order) == [("1", "104")]


def test_a_stop_limit_beyond_a_gap_takes_at_once(desk: Any) -> None:
    desk.price("100")
    order = desk.send(StopLimitOrder(symbol=BTC, side=Side.BUY, quantity=1, stop_price=105, limit_price=110))
    desk.price("107")
    assert desk.fills(order) == [("1", "107")]


def test_if_touched_with_a_limit_price_becomes_a_limit_order(desk: Any) -> None:
    desk.price("100")
    order = desk.send(IfTouchedOrder(symbol=BTC, side=Side.BUY, quantity=1, trigger_price=95, limit_price=94))
    desk.price("95")
    assert desk.fills(order) == []
    desk.price("93")
    assert desk.fills(order) == [("1", "94")]


@pytest.mark.parametrize(
    "order",
    [stop("BUY", "100"), stop("SELL", "101"), IfTouchedOrder(symbol=BTC, side=Side.BUY, quantity=1, trigger_price=101)],
)
def test_a_condition_that_is_met_already_is_refused_with_the_price(desk: Any, order: Any) -> None:
    desk.price("100")
    with pytest.raises(InvalidRequestError, match="already crossed: BYBIT_SPOT:BTCUSDT last traded at 100"):
        desk.send(order)


def test_resting_orders_come_before_the_stops_a_price_fires(desk: Any) -> None:
    desk.price("100")
    stopped = desk.send(stop("SELL", "95"))
    resting = desk.send(limit("BUY", "1", "96"))
    desk.price("95", liquidity="1")
    assert (desk.fills(resting), desk.fills(stopped)) == ([("1", "96")], [])
    assert desk.story(stopped) == ["OrderAccepted", "OrderCancelled"]


# -- reduce only -----------------------------------------------------------------------------------------------------


def test_a_reduce_only_order_closes_what_there_is_and_the_rest_is_cancelled(desk: Any) -> None:
    desk.price("100", symbol=PERP)
    desk.send(market("BUY", "1", symbol=PERP))
    order = desk.send(limit("SELL", "3", "105", symbol=PERP, reduce_only=True))
    desk.price("105", symbol=PERP)
    assert desk.fills(order) == [("1", "105")]
    assert desk.story(order)[-1] == "OrderCancelled"
    assert desk.reason(order) == "CancelByReduceOnly"


def test_a_reduce_only_order_with_nothing_to_reduce_never_opens_a_position(desk: Any) -> None:
    desk.price("100", symbol=PERP)
    order = desk.send(market("BUY", "1", symbol=PERP, reduce_only=True))
    assert desk.story(order) == ["OrderAccepted", "OrderCancelled"]


def test_spot_has_nothing_to_reduce(desk: Any) -> None:
    with pytest.raises(InvalidRequestError, match="spot has no positions"):
        desk.send(market("SELL", "1", reduce_only=True))


# -- cancel and modify -----------------------------------------------------------------------------------------------


def test_a_cancelled_order_never_fills(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    assert desk.broker.cancel(order).accepted
    desk.price("90")
    assert desk.story(order) == ["OrderAccepted", "OrderCancelled"]
    assert desk.reason(order) == "CancelByUser"


def test_a_cancel_after_a_partial_fill_tells_how_much_had_traded(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    desk.price("100", liquidity="0.25")
    desk.broker.cancel(order)
    assert desk.about(order)[-1].cum_quantity == Decimal("0.25")


def test_cancel_works_by_the_brokers_own_id(desk: Any) -> None:
    ack = desk.broker.submit(limit("BUY", "1", "100"))
    desk.broker.cancel(broker_order_id=ack.broker_order_id)
    assert desk.broker.open_orders() == []


def test_cancelling_what_has_ended_is_refused_as_by_the_live_broker(desk: Any) -> None:
    desk.price("100")
    order = desk.send(market("BUY", "1"))
    ack = desk.broker.cancel(order)
    assert (ack.outcome, ack.reject_reason) == (SubmitOutcome.REJECTED, "the order ended before: FILLED")
    assert desk.story(order) == ["OrderAccepted", "OrderFilled", "OrderCancelFailed"]
    assert desk.broker.order(order).status is OrderStatus.FILLED


def test_cancel_all_cancels_every_open_order_or_those_of_a_symbol(desk: Any) -> None:
    desk.send(limit("BUY", "1", "100"))
    other = desk.send(limit("BUY", "1", "100", symbol="BYBIT_SPOT:ETHUSDT"))
    assert [ack.client_order_id for ack in desk.broker.cancel_all("BYBIT_SPOT:ETHUSDT")] == [other]
    assert len(desk.broker.cancel_all()) == 1
    assert desk.broker.open_orders() == []


def test_modify_moves_an_order(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    ack = desk.broker.modify(order, OrderModification(new_quantity=Decimal(2), new_limit_price=Decimal(99)))
    modified = desk.about(order)[-1]
    assert ack.accepted
    assert isinstance(modified, OrderModified)
    assert (modified.new_quantity, modified.new_limit_price, modified.reason) == (2, 99, "")  # type: ignore[comparison-overlap]
    desk.price("99")
    assert desk.fills(order) == [("2", "99")]


def test_each_of_many_modifications_is_told_though_the_clock_stands_still(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    for price in (99, 98, 99):
        desk.broker.modify(order, OrderModification(new_limit_price=Decimal(price)))
    assert [e.new_limit_price for e in desk.about(order) if isinstance(e, OrderModified)] == [99, 98, 99]


def test_an_order_moved_into_the_market_takes(desk: Any) -> None:
    desk.price("101")
    order = desk.send(limit("BUY", "1", "100"))
    desk.broker.modify(order, OrderModification(new_limit_price=Decimal(102)))
    assert desk.story(order) == ["OrderAccepted", "OrderModified", "OrderFilled"]
    assert desk.fills(order) == [("1", "101")]


def test_a_stop_can_be_moved_before_it_fires(desk: Any) -> None:
    desk.price("100")
    order = desk.send(stop("SELL", "95"))
    desk.broker.modify(order, OrderModification(new_stop_price=Decimal(90)))
    desk.price("94")
    assert desk.broker.order(order).status is OrderStatus.UNTRIGGERED
    desk.price("90")
    assert desk.story(order) == ["OrderAccepted", "OrderModified", "OrderFilled"]


def test_moving_an_order_costs_its_place_and_shrinking_it_does_not(desk: Any) -> None:
    desk.price("101")
    shrunk, moved, last = (desk.send(limit("BUY", "2", "100")) for _ in range(3))
    desk.broker.modify(shrunk, OrderModification(new_quantity=Decimal(1)))
    desk.broker.modify(moved, OrderModification(new_limit_price=Decimal(99)))
    desk.broker.modify(moved, OrderModification(new_limit_price=Decimal(100)))
    desk.price("100", liquidity="4")
    assert [desk.fills(each) for each in (shrunk, last, moved)] == [[("1", "100")], [("2", "100")], [("1", "100")]]


def test_growing_an_order_costs_its_place(desk: Any) -> None:
    desk.price("101")
    grown, other = desk.send(limit("BUY", "1", "100")), desk.send(limit("BUY", "1", "100"))
    desk.broker.modify(grown, OrderModification(new_quantity=Decimal(2)))
    desk.price("100", liquidity="1.5")
    assert [desk.fills(each) for each in (other, grown)] == [[("1", "100")], [("0.5", "100")]]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (OrderModification(new_quantity=Decimal("0.5")), "above the 0.5 already traded"),
        (OrderModification(new_limit_price=Decimal(101)), "EC_PostOnlyWillTakeLiquidity"),
    ],
)
def test_a_modification_the_market_refuses_leaves_the_order_as_it_was(
    desk: Any, changes: OrderModification, reason: str
) -> None:
    desk.price("101")
    order = desk.send(limit("BUY", "1", "100", "POST_ONLY"))
    desk.price("100", liquidity="0.5")
    desk.price("101")
    ack = desk.broker.modify(order, changes)
    assert ack.outcome is SubmitOutcome.REJECTED
    assert reason in ack.reject_reason
    assert isinstance(desk.about(order)[-1], OrderModifyFailed)
    assert desk.broker.order(order).limit_price == 100


@pytest.mark.parametrize("trigger", ["101", "100"])
def test_a_stop_moved_to_where_it_would_fire_at_once_is_refused_beforehand(desk: Any, trigger: str) -> None:
    desk.price("100")
    order = desk.send(stop("SELL", "95"))
    with pytest.raises(InvalidRequestError, match="already crossed"):
        desk.broker.modify(order, OrderModification(new_stop_price=Decimal(trigger)))
    assert desk.story(order) == ["OrderAccepted"]


def test_a_term_the_order_does_not_have_cannot_be_changed(desk: Any) -> None:
    desk.price("100")
    order = desk.send(stop("SELL", "95"))
    with pytest.raises(InvalidRequestError, match="STOP order has no limit price"):
        desk.broker.modify(order, OrderModification(new_limit_price=Decimal(90)))
    assert desk.story(order) == ["OrderAccepted"]


# -- fees ------------------------------------------------------------------------------------------------------------

RATES = {"maker_fee_rate": Decimal("0.001"), "taker_fee_rate": Decimal("0.002")}
REBATE = {"maker_fee_rate": Decimal("-0.001"), "taker_fee_rate": Decimal("0.002")}


@pytest.mark.parametrize(
    ("rates", "side", "symbol", "rests", "fee"),
    [
        (RATES, "BUY", BTC, False, ("0.004", "BTC")),
        (RATES, "SELL", BTC, False, ("0.400", "USDT")),
        (RATES, "BUY", BTC, True, ("0.002", "BTC")),
        (REBATE, "BUY", BTC, True, ("-0.200", "USDT")),
        (REBATE, "SELL", BTC, True, ("-0.002", "BTC")),
        (RATES, "BUY", PERP, False, ("0.400", "USDT")),
        ({}, "BUY", BTC, False, ("0", "")),
    ],
)
def test_fees_are_paid_in_the_coin_the_venue_would_take(
    rates: Any, side: str, symbol: Any, rests: bool, fee: tuple[Any, ...]
) -> None:
    desk = Desk(**rates)
    if not rests:
        desk.price("100", symbol=symbol)
    order = desk.send(limit(side, "2", "100", symbol=symbol))
    desk.price("100", symbol=symbol)
    fill = desk.about(order)[-1]
    assert (str(fill.fee), fill.fee_currency) == fee  # type: ignore[attr-defined]
    assert dict(desk.broker.order(order).fees) == ({fee[1]: Decimal(fee[0])} if fee[1] else {})


def test_a_tracker_on_the_same_bus_holds_what_was_bought_less_the_fee() -> None:
    desk = Desk(taker_fee_rate=Decimal("0.001"))
    tracker = PositionTracker()
    desk.bus.subscribe(FillEvent, tracker.apply_fill)
    desk.price("100")
    desk.send(market("BUY", "1"))
    held = tracker.position(BTC)
    assert held is not None
    assert held.quantity == Decimal("0.999")


def test_fees_on_a_symbol_whose_coins_cannot_be_told_need_them_named() -> None:
    order = limit("BUY", "1", "100", symbol="ACME:42")
    with pytest.raises(InvalidRequestError, match="give the paper broker coins="):
        Desk(**RATES).send(order)
    desk = Desk(**RATES, coins={"ACME:42": ("GOLD", "USD")})
    desk.price("100", symbol="ACME:42")
    assert desk.about(desk.send(order))[-1].fee_currency == "GOLD"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("symbol", "coins"),
    [(BTC, ("BTC", "USDT")), ("A:BTC-USD", ("BTC", "USD")), (PERP, ("", "USDT")), ("ACME:42", None)],
)
def test_base_and_quote_are_read_off_the_symbol(symbol: Any, coins: tuple[Any, ...] | None) -> None:
    assert coins_of(symbol) == coins


# -- balances --------------------------------------------------------------------------------------------------------


def test_without_balances_the_account_has_no_end(desk: Any) -> None:
    desk.price("100")
    assert desk.story(desk.send(market("BUY", "1000000")))[-1] == "OrderFilled"
    assert desk.broker.balances == {}


def test_fills_move_the_balances_fee_included() -> None:
    desk = Desk(balances={"USDT": Decimal(1000)}, **RATES)
    desk.price("100")
    desk.send(market("BUY", "2"))
    assert desk.broker.balances == {"USDT": Decimal(800), "BTC": Decimal("1.996")}
    desk.send(market("SELL", "1"))
    assert desk.broker.balances == {"USDT": Decimal("899.8"), "BTC": Decimal("0.996")}


def test_a_resting_order_locks_what_it_needs_and_gives_it_back() -> None:
    desk = Desk(balances={"USDT": Decimal(1000)})
    order = desk.send(limit("BUY", "2", "100"))
    desk.price("101")
    assert desk.broker.wallet["USDT"].available == 800
    desk.broker.cancel(order)
    assert desk.broker.wallet["USDT"].available == 1000


def test_what_one_resting_order_holds_back_the_next_cannot_spend() -> None:
    desk = Desk(balances={"USDT": Decimal(150), "BTC": Decimal(1)})
    desk.price("101")
    assert desk.broker.submit(limit("BUY", "1", "100")).accepted
    assert "available 50" in desk.broker.submit(limit("BUY", "1", "100")).reject_reason
    assert desk.broker.submit(limit("SELL", "1", "105")).accepted
    assert "available 0" in desk.broker.submit(market("SELL", "1")).reject_reason


@pytest.mark.parametrize(
    ("order", "needs"),
    [
        (market("BUY", "11"), "1100 USDT"),
        (limit("BUY", "11", "99"), "1089 USDT"),
        (market("BUY", "1001", quote_sized=True), "1001 USDT"),
        (market("SELL", "0.1"), "0.1 BTC"),
    ],
)
def test_what_the_account_cannot_pay_is_rejected_alone(order: Any, needs: str) -> None:
    desk = Desk(balances={"USDT": Decimal(1000)})
    desk.price("100")
    ack = desk.broker.submit(order)
    assert ack.outcome is SubmitOutcome.REJECTED
    assert needs in ack.reject_reason
    assert desk.story(ack.client_order_id) == ["OrderRejected"]


def test_a_stop_that_cannot_be_paid_when_it_fires_is_cancelled_with_the_reason() -> None:
    desk = Desk(balances={"USDT": Decimal(100)})
    desk.price("100")
    order = desk.send(stop("BUY", "105"))
    desk.price("105")
    assert desk.story(order) == ["OrderAccepted", "OrderCancelled"]
    assert "insufficient balance" in desk.reason(order)


@pytest.mark.parametrize("is_priced", [True, False], ids=["with a price", "before the first price"])
def test_growing_an_order_beyond_the_account_is_refused(is_priced: bool) -> None:
    desk = Desk(balances={"USDT": Decimal(100)})
    if is_priced:
        desk.price("101")
    order = desk.send(limit("BUY", "1", "100"))
    assert not desk.broker.modify(order, OrderModification(new_quantity=Decimal(2))).accepted
    assert desk.broker.order(order).quantity == 1


def test_every_change_of_a_balance_is_published_with_the_coins_that_moved() -> None:
    desk = Desk(balances={"USDT": Decimal(1000)})
    desk.price("100")
    desk.send(market("BUY", "1"))
    told = [event for event in desk.heard if isinstance(event, BalancesUpdated)]
    assert [sorted(event.changed) for event in told] == [["USDT"], ["BTC", "USDT"]]
    assert told[-1].source == "PAPER"
    assert told[-1].balances == {"USDT": 900, "BTC": 1}


def test_derivatives_move_no_coin_but_the_fee() -> None:
    desk = Desk(balances={"USDT": Decimal(1000)}, **RATES)
    desk.price("100", symbol=PERP)
    desk.send(market("SELL", "1", symbol=PERP))
    assert desk.broker.balances == {"USDT": Decimal("999.8")}


# -- several at once, rules and guards -------------------------------------------------------------------------------

RULES = InstrumentRules(
    symbol=BTC,
    base_coin="BTC",
    quote_coin="USDT",
    tick_size=Decimal("0.5"),
    quantity_step=Decimal("0.01"),
    min_notional=Decimal(5),
)


def test_several_orders_are_taken_in_order_with_an_outcome_each() -> None:
    desk = Desk(balances={"USDT": Decimal(150)})
    desk.price("101")
    acks = desk.broker.submit_many([limit("BUY", "1", "100"), limit("BUY", "1", "99"), limit("BUY", "0.5", "98")])
    assert [ack.accepted for ack in acks] == [True, False, True]


def test_one_order_that_cannot_be_right_stops_all_of_them(desk: Any) -> None:
    with pytest.raises(InvalidRequestError):
        desk.broker.submit_many([limit("BUY", "1", "100"), limit("BUY", "1", "100", "DAY")])
    with pytest.raises(InvalidRequestError, match="used before"):
        desk.broker.submit_many([limit("BUY", "1", "100", client_order_id="a") for _ in range(2)])
    assert (desk.heard, desk.broker.open_orders()) == ([], [])


def test_several_orders_are_cancelled_by_either_id_and_none_if_one_is_unknown(desk: Any) -> None:
    first, second, third = desk.broker.submit_many([limit("BUY", "1", "100") for _ in range(3)])
    with pytest.raises(InvalidRequestError, match="knows no order"):
        desk.broker.cancel_many([first.client_order_id, "nobody"])
    acks = desk.broker.cancel_many([first.client_order_id], broker_order_ids=[second.broker_order_id])
    assert [ack.client_order_id for ack in acks] == [first.client_order_id, second.client_order_id]
    assert [view.client_order_id for view in desk.broker.open_orders()] == [third.client_order_id]


def test_an_order_named_twice_is_refused(desk: Any) -> None:
    ack = desk.broker.submit(limit("BUY", "1", "100"))
    with pytest.raises(InvalidRequestError, match="twice"):
        desk.broker.cancel_many([ack.client_order_id], broker_order_ids=[ack.broker_order_id])


@pytest.mark.parametrize("call", [lambda broker: broker.submit_many("BUY"), lambda broker: broker.cancel_many("id")])
def test_one_is_not_several(desk: Any, call: Any) -> None:
    with pytest.raises(InvalidRequestError, match="takes a list"):
        call(desk.broker)


def test_with_the_venues_rules_it_refuses_what_the_venue_would_refuse() -> None:
    desk = Desk(rules={BTC: RULES}.get)
    with pytest.raises(InvalidRequestError, match=r"tick size 0\.5"):
        desk.send(limit("BUY", "1", "100.3"))
    with pytest.raises(InvalidRequestError, match="minimum order value"):
        desk.send(limit("BUY", "0.01", "100"))
    order = desk.send(limit("BUY", "1", "100"))
    with pytest.raises(InvalidRequestError, match=r"tick size 0\.5"):
        desk.broker.modify(order, OrderModification(new_limit_price=Decimal("99.9")))


def test_with_the_venues_rules_a_quote_sized_buy_gets_whole_steps() -> None:
    desk = Desk(rules={BTC: RULES}.get)
    desk.price("300")
    assert desk.fills(desk.send(market("BUY", "100", quote_sized=True))) == [("0.33", "300")]


def test_quantize_fits_an_order_to_the_rules_and_leaves_it_alone_without_them(desk: Any) -> None:
    order = limit("BUY", "1.005", "100.3")
    assert desk.broker.quantize(order) is order
    fitted = Desk(rules={BTC: RULES}.get).broker.quantize(order)
    assert (fitted.quantity, fitted.limit_price) == (1, 100)


def test_check_says_what_submit_would_say_and_takes_nothing(desk: Any) -> None:
    desk.broker.check(limit("BUY", "1", "100"))
    with pytest.raises(InvalidRequestError, match="DAY"):
        desk.broker.check(limit("BUY", "1", "100", "DAY"))
    assert desk.heard == []


def test_guards_hold_as_at_the_live_broker() -> None:
    desk = Desk(risk_limits=RiskLimits(max_notional=Decimal(150)))
    desk.price("100")
    order = desk.send(limit("BUY", "1", "99"))
    for call in (
        lambda: desk.send(market("BUY", "2")),
        lambda: desk.broker.modify(order, OrderModification(new_quantity=Decimal(2))),
    ):
        with pytest.raises(InvalidRequestError, match="max_notional"):
            call()


def test_frozen_it_takes_no_order_and_no_change_and_cancels_pass(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    desk.broker.freeze("the operator says so")
    assert desk.broker.is_frozen
    with pytest.raises(InvalidRequestError, match="the operator says so"):
        desk.send(limit("BUY", "1", "100"))
    with pytest.raises(InvalidRequestError, match="frozen"):
        desk.broker.modify(order, OrderModification(new_quantity=Decimal(2)))
    assert desk.broker.cancel(order).accepted
    desk.broker.unfreeze()
    assert desk.broker.submit(limit("BUY", "1", "100")).accepted


# -- what the shared state gives -------------------------------------------------------------------------------------


def test_the_story_of_an_order_can_be_asked_for(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    desk.price("100")
    assert [fill.quantity for fill in desk.broker.fills(order)] == [1]
    assert desk.broker.explain(order).entries[-1].changed.endswith("told OrderFilled")
    assert desk.broker.order(order).venue_status == "Filled"


def test_wait_returns_once_the_state_is_reached_and_else_says_where_it_stands(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    assert desk.broker.wait(order, until="accepted", timeout_ms=0).is_open
    with pytest.raises(WaitTimeoutError) as late:
        desk.broker.wait(order, timeout_ms=0)
    assert late.value.view.status is OrderStatus.NEW
    desk.price("100")
    assert desk.broker.wait(order, timeout_ms=0).status is OrderStatus.FILLED


def test_a_handler_may_submit_cancel_and_feed_prices(desk: Any) -> None:
    def chase(event: OrderFilled) -> None:
        if event.side is Side.BUY:
            sent.append(desk.send(limit("SELL", "1", "110")))
            desk.broker.on_price(BTC, Decimal(111))

    sent: list[str] = []
    desk.bus.subscribe(OrderFilled, chase)
    order = desk.send(limit("BUY", "1", "100"))
    desk.price("100")
    assert desk.story(order)[-1] == desk.story(sent[0])[-1] == "OrderFilled"


def test_the_same_calls_give_the_same_events() -> None:
    def run() -> list[BrokerEvent]:
        desk = Desk(**RATES, balances={"USDT": Decimal(10_000)})
        desk.price("100")
        for n, order in enumerate((limit("BUY", "1", "99"), market("BUY", "2"), stop("SELL", "95"))):
            desk.send(type(order)(**{**fields_of(order), "client_order_id": f"c{n}"}))
        for price in ("99", "94", "101"):
            desk.price(price, liquidity="0.7")
        return desk.heard

    assert run() == run()


def fields_of(order: OrderRequest) -> dict[str, Any]:
    return {name: getattr(order, name) for name in order.__slots__ if not name.startswith("_")} | {  # type: ignore[var-annotated]
        name: getattr(order, name) for name in ("symbol", "side", "quantity", "time_in_force")
    }


def test_prices_and_orders_from_many_threads_lose_no_fill(desk: Any) -> None:
    def run(work: Callable[[], object]) -> threading.Thread:
        thread = threading.Thread(target=lambda: [work() for _ in range(50)])
        thread.start()
        return thread

    desk.price("100")
    threads = [run(lambda: desk.send(market("BUY", "1"))) for _ in range(3)]
    threads += [run(lambda: desk.price("100"))]
    for thread in threads:
        thread.join()
    desk.broker.close()
    assert sum(e.quantity for e in desk.heard if isinstance(e, FillEvent)) == 150
    assert len([e for e in desk.heard if isinstance(e, OrderAccepted)]) == 150


def test_closed_orders_are_forgotten_after_a_day(desk: Any) -> None:
    desk.price("100")
    order = desk.send(market("BUY", "1"))
    resting = desk.send(limit("BUY", "1", "90"))
    desk.clock.ms += 25 * 60 * 60 * 1000
    desk.send(limit("BUY", "1", "90"))
    with pytest.raises(InvalidRequestError, match="knows no order"):
        desk.broker.order(order)
    assert desk.broker.order(resting).is_open


def test_its_health_is_always_good(desk: Any) -> None:
    assert desk.broker.health.ok
    assert desk.broker.health.staleness_ms == 0


# -- input and the end -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("price", [100.0, "100", Decimal(0), Decimal(-1), Decimal("NaN")])
def test_a_price_must_be_an_exact_number_above_zero(desk: Any, price: Any) -> None:
    with pytest.raises(InvalidRequestError, match="price must be"):
        desk.broker.on_price(BTC, price)


def test_liquidity_cannot_be_negative(desk: Any) -> None:
    with pytest.raises(InvalidRequestError, match="liquidity"):
        desk.broker.on_price(BTC, Decimal(1), Decimal(-1))


def test_it_serves_the_symbols_it_was_given() -> None:
    desk = Desk(serves=lambda symbol: symbol.startswith("PAPER:"))
    assert desk.broker.supports("PAPER:BTCUSDT")
    assert not desk.broker.supports(BTC)
    assert desk.broker.capabilities_for(BTC) == frozenset()
    for call in (lambda: desk.send(market("BUY", "1")), lambda: desk.price("100")):
        with pytest.raises(InvalidRequestError, match="PAPER does not serve"):
            call()


def test_what_it_can_do_is_listed_and_the_rest_refused_with_that_list(desk: Any) -> None:
    assert OrderTypeCapability.BRACKET not in desk.broker.capabilities_for(BTC)
    with pytest.raises(
        InvalidRequestError, match=r"cannot do BRACKET on BYBIT_SPOT:BTCUSDT; it can do BATCH, IF_TOUCHED, LIMIT"
    ):
        desk.send(limit("BUY", "1", "100", stop_loss=Decimal(90)))


def test_after_close_nothing_is_taken_and_prices_do_nothing(desk: Any) -> None:
    order = desk.send(limit("BUY", "1", "100"))
    desk.broker.close()
    desk.broker.close()
    desk.price("100")
    with pytest.raises(InvalidRequestError, match="PAPER is closed"):
        desk.send(limit("BUY", "1", "100"))
    assert desk.story(order) == ["OrderAccepted"]
    assert "closed" in repr(desk.broker)


def test_two_paper_brokers_on_one_bus_need_only_different_names() -> None:
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(OrderPartiallyFilled, heard.append)
    first, second = PaperBroker(bus, name="ONE"), PaperBroker(bus, name="TWO")
    assert first.submit(limit("BUY", "1", "1")).broker_order_id == "one-1"
    assert second.submit(limit("BUY", "1", "1")).broker_order_id == "two-1"


def test_the_repr_tells_what_it_is_doing(desk: Any) -> None:
    desk.price("100.5")
    desk.send(limit("BUY", "1", "100"))
    assert repr(desk.broker) == "<PaperBroker PAPER open_orders=1 prices={'BYBIT_SPOT:BTCUSDT': '100.5'}>"
