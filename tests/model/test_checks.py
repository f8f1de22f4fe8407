"""The venue's rules said before sending: what is refused, with which advice, and what quantize may move."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt.errors import InvalidRequestError
from qkt.model.checks import check_changes, check_order, notional_of, quantize
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderStatus,
    OrderType,
    OrderView,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)
from qkt.venue.exchange.exchange import Exchange
from qkt.venue.exchange.instruments import CATALOGUE
from qkt.venue.exchange.retcodes import Refusal

SYMBOL = "BYBIT_SPOT:BTCUSDT"
D = Decimal
RULES = InstrumentRules(
    symbol=SYMBOL,
    base_coin="BTC",
    quote_coin="USDT",
    tick_size=D("0.1"),
    quantity_step=D("0.000001"),
    quote_step=D("0.0000001"),
    min_quantity=D("0.000011"),
    min_notional=D(5),
    max_limit_quantity=D(83),
    max_market_quantity=D("41.5"),
    max_post_only_quantity=D(60),
    price_limit_ratio_x=D("0.05"),
    price_limit_ratio_y=D("0.1"),
)


def limit(price: str = "60000", quantity: str = "0.01", side: Any = Side.BUY, **more: Any) -> LimitOrder:
    return LimitOrder(symbol=SYMBOL, side=side, quantity=D(quantity), limit_price=D(price), **more)


def market(quantity: Any, side: Any = Side.BUY, **more: Any) -> MarketOrder:
    return MarketOrder(symbol=SYMBOL, side=side, quantity=D(quantity), **more)


def stop(price: Any, side: Any = Side.SELL, quantity: str = "0.01") -> StopOrder:
    return StopOrder(symbol=SYMBOL, side=side, quantity=D(quantity), stop_price=D(price))


def touched(price: Any, side: Any = Side.BUY, **more: Any) -> IfTouchedOrder:
    return IfTouchedOrder(symbol=SYMBOL, side=side, quantity=D("0.01"), trigger_price=D(price), **more)


# -- one rule, one message -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (limit("60000.05"), "tick size 0.1; the nearest are 60000.0 and 60000.1 .broker.quantize gives 60000.0"),
        (limit("60000.05", side=Side.SELL), "broker.quantize gives 60000.1"),
        (limit("0.05"), "the nearest are 0.1"),
        (limit(quantity="0.0100005"), "the step 0.000001; the nearest are 0.010000 and 0.010001"),
        (limit(quantity="0.00001"), "below the minimum quantity 0.000011"),
        (limit(quantity="83.000001"), "above the maximum of a limit order, 83"),
        (limit(quantity="61", time_in_force=TimeInForce.POST_ONLY), "maximum of a post-only order, 60"),
        (market("42"), "maximum of a market order, 41.5"),
        (limit("1000", quantity="0.001"), "is worth 1.000 USDT, below the minimum order value 5 USDT"),
        (limit("1000", quantity="0.001"), "the least quantity at that price is 0.005$"),
        (market("4.99", quote_sized=True), "below the minimum order value 5 USDT"),
        (market("5.00000001", quote_sized=True), "quote step 0.0000001; the nearest are 5.0000000 and 5.0000001"),
        (limit(take_profit=D("61000.05")), "take_profit 61000.05"),
        (stop("59000.01"), "stop_price 59000.01"),
        (touched("59000.01"), "trigger_price 59000.01"),
        (touched("59000", limit_price=D("59000.01")), "limit_price 59000.01"),
        (limit(quantity="1E+30"), "above the maximum"),
    ],
)
def test_what_the_venue_would_refuse_is_refused_with_the_rule_and_the_nearest_value(order: Any, told: str) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        check_order(order, RULES)


@pytest.mark.parametrize(
    "order",
    [
        limit(),
        limit("60000.1", "0.000084"),
        limit(quantity="83"),
        limit(quantity="60", time_in_force=TimeInForce.POST_ONLY),
        limit(take_profit=D(61_000), stop_loss=D(59_000)),
        limit(side=Side.SELL, take_profit=D(59_000), stop_loss=D(61_000)),
        market("0.001"),
        market("5", quote_sized=True),
        stop("59000"),
        touched("59000", limit_price=D("59000.1")),
    ],
)
def test_an_order_within_the_rules_passes(order: Any) -> None:
    check_order(order, RULES)
    assert quantize(order, RULES) is order


@pytest.mark.parametrize("last_price", [None, D(60_000)])
def test_without_rules_only_what_is_wrong_by_itself_is_refused(last_price: Decimal | None) -> None:
    check_order(limit("60000.0000000001", "1E-12"), None, last_price)
    with pytest.raises(InvalidRequestError, match="take_profit 59000 must be above limit_price 60000 for a buy"):
        check_order(limit(take_profit=D(59_000)), None, last_price)


@pytest.mark.parametrize(
    "exits",
    [
        {"side": Side.BUY, "take_profit": D(60_000)},
        {"side": Side.BUY, "stop_loss": D(60_000)},
        {"side": Side.BUY, "stop_loss": D(61_000)},
        {"side": Side.SELL, "take_profit": D(61_000)},
        {"side": Side.SELL, "stop_loss": D(59_000)},
    ],
)
def test_attached_exits_lie_on_their_own_side_of_the_limit_price(exits: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"must be (above|below) limit_price 60000"):
        check_order(limit(**exits), None)


def test_a_symbol_that_is_not_trading_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="not open for trading"):
        check_order(limit(), attrs.evolve(RULES, is_trading=False))


def test_a_position_may_be_closed_however_little_it_is_worth() -> None:
    check_order(limit("1000", quantity="0.001", reduce_only=True), RULES)


def test_a_price_outside_the_instruments_bounds_is_refused() -> None:
    rules = attrs.evolve(RULES, min_price=D(1), max_price=D(100_000))
    with pytest.raises(InvalidRequestError, match="below the minimum, 1"):
        check_order(limit("0.9"), rules)
    with pytest.raises(InvalidRequestError, match="above the maximum, 100000"):
        check_order(limit("100000.1"), rules)


# -- triggers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "is_crossed_at"),
    [
        (stop("60000", Side.BUY), lambda last: last >= 60_000),
        (stop("60000", Side.SELL), lambda last: last <= 60_000),
        (touched("60000", Side.BUY), lambda last: last <= 60_000),
        (touched("60000", Side.SELL), lambda last: last >= 60_000),
        (
            StopLimitOrder(symbol=SYMBOL, side=Side.SELL, quantity=D(1), stop_price=D(60_000), limit_price=D(59_000)),
            lambda last: last <= 60_000,
        ),
    ],
)
@pytest.mark.parametrize("last", [59_999, 60_000, 60_001])
def test_a_trigger_that_is_crossed_or_touched_is_refused(order: Any, is_crossed_at: Any, last: int) -> None:
    if is_crossed_at(last):
        with pytest.raises(InvalidRequestError, match=f"already crossed: {SYMBOL} last traded at {last}"):
            check_order(order, RULES, D(last))
    else:
        check_order(order, RULES, D(last))
    check_order(order, RULES)  # nobody knows the price: the venue decides


def view(**changes: Any) -> OrderView:
    told = {
        "client_order_id": "c1",
        "broker_order_id": "b1",
        "symbol": SYMBOL,
        "side": Side.SELL,
        "order_type": OrderType.STOP,
        "time_in_force": "GTC",
        "quantity": D("0.01"),
        "limit_price": None,
        "stop_price": D(59_000),
        "status": OrderStatus.UNTRIGGERED,
        "venue_status": "Untriggered",
        "is_open": True,
        "is_unresolved": False,
        "external": False,
        **changes,
    }
    return OrderView(**told)


@pytest.mark.parametrize("external", [False, True])
def test_an_amended_trigger_stays_on_its_side_of_the_market(external: bool) -> None:
    order = view(external=external)

    check_changes(order, OrderModification(new_stop_price=D(59_900)), RULES, D(60_000))
    with pytest.raises(InvalidRequestError, match="already crossed"):
        check_changes(order, OrderModification(new_stop_price=D(60_100)), RULES, D(60_000))


def test_an_outside_if_touched_order_is_known_by_the_side_its_trigger_lies_on() -> None:
    seen_as_a_sell_stop = view(external=True, stop_price=D(61_000))

    check_changes(seen_as_a_sell_stop, OrderModification(new_stop_price=D(60_500)), RULES, D(60_000))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"new_stop_price": D("59000.01")}, "new_stop_price 59000.01"),
        ({"new_limit_price": D("59000.01")}, "new_limit_price 59000.01"),
        ({"new_quantity": D("0.0000005")}, "minimum quantity"),
        ({"new_quantity": D(50)}, "maximum of a market order"),
    ],
)
def test_an_amend_keeps_to_the_steps_too(changes: dict[str, Any], told: str) -> None:
    limit_price = D(58_900) if "new_limit_price" in changes else None

    with pytest.raises(InvalidRequestError, match=told):
        check_changes(view(limit_price=limit_price), OrderModification(**changes), RULES)


# -- quantize --------------------------------------------------------------------------------------------------------


def test_quantize_moves_every_price_to_the_traders_advantage() -> None:
    buy = limit("60000.07", "0.0100009", take_profit=D("61000.01"), stop_loss=D("59000.01"))
    sell = limit("60000.01", "0.0100009", side=Side.SELL, take_profit=D("59000.07"), stop_loss=D("61000.07"))

    bought, sold = quantize(buy, RULES), quantize(sell, RULES)

    assert (bought.limit_price, bought.quantity) == (D("60000.0"), D("0.010000"))
    assert (bought.take_profit, bought.stop_loss) == (D("61000.1"), D("59000.1"))  # exits of a buy are sells
    assert (sold.limit_price, sold.take_profit, sold.stop_loss) == (D("60000.1"), D("59000.0"), D("61000.0"))


def test_quantize_keeps_everything_else() -> None:
    order = limit("60000.07", client_order_id="mine", time_in_force=TimeInForce.FOK)

    assert quantize(order, RULES) == attrs.evolve(order, limit_price=D("60000.0"))


def test_quantize_measures_a_quote_sized_order_in_quote() -> None:
    assert quantize(market("10.00000019", quote_sized=True), RULES).quantity == D("10.0000001")


@pytest.mark.parametrize("order", [limit(quantity="0.0000009"), market("0.00000001", quote_sized=True), limit("0.09")])
def test_quantize_of_less_than_a_step_leaves_nothing_and_says_so(order: Any) -> None:
    with pytest.raises(InvalidRequestError, match=r"below one (step|tick)"):
        quantize(order, RULES)


def test_quantize_changes_nothing_that_has_no_rule() -> None:
    rules = InstrumentRules(symbol=SYMBOL, base_coin="BTC", quote_coin="USDT")
    order = limit("60000.0777", "0.0000000001")
    assert quantize(order, rules) is order


decimals = st.decimals(min_value="0.0000001", max_value=10**9, allow_nan=False, places=9).filter(bool)
steps = st.sampled_from([D("0.1"), D("0.25"), D("0.00001"), D(5), D("1E-8"), D("1E+1")])


@given(decimals, decimals, st.sampled_from(Side), steps, steps)
def test_quantize_is_side_safe_exact_and_done_at_once(
    price: Any, quantity: Any, side: Any, tick: Any, step: Any
) -> None:
    rules = InstrumentRules(symbol=SYMBOL, base_coin="B", quote_coin="Q", tick_size=tick, quantity_step=step)
    order = limit(price, quantity, side)
    with localcontext(prec=3):  # whatever the caller does with decimals
        try:
            moved = quantize(order, rules)
        except InvalidRequestError:
            assert quantity < step or price < tick
            return
        check_order(moved, rules)
        assert quantize(moved, rules) is moved
    assert moved.quantity <= quantity < moved.quantity + step
    if side is Side.BUY:
        assert moved.limit_price <= price < moved.limit_price + tick
    else:
        assert moved.limit_price - tick < price <= moved.limit_price


# -- the same verdict as the venue's ---------------------------------------------------------------------------------

_near = st.integers(-3, 3)
_MATTERS = {170130, 170134, 170136, 170137, 170140, 170148, 170193, 170194, 170381}


@st.composite
def near_the_rules(draw: Any) -> Any:
    """Orders on, just inside and just outside of every bound."""
    side = draw(st.sampled_from(Side))
    tick, step = draw(st.sampled_from([D("0.1"), D("0.05")])), draw(st.sampled_from([D("0.000001"), D("0.0000005")]))
    price = draw(st.sampled_from([D(60_000), D(66_000), D(54_000), D(50_000)])) + draw(_near) * tick
    quantity = draw(st.sampled_from([D("0.000011"), D("0.000084"), D("0.0001"), D(83), D("41.5"), D(1)]))
    quantity += draw(_near) * step
    kind = draw(st.sampled_from(["limit", "market", "quote", "bracket"]))
    if kind == "market":
        return market(quantity, side)
    if kind == "quote":
        return market(D(5) + draw(_near) * draw(st.sampled_from([D("1E-7"), D("1E-8")])), Side.BUY, quote_sized=True)
    exits = {}
    if kind == "bracket":
        exits = {"take_profit": price + draw(_near) * D(100), "stop_loss": price + draw(_near) * D(100)}
    return limit(price, quantity, side, **exits)


@given(near_the_rules())
def test_the_check_and_the_simulated_venue_come_to_the_same_verdict(order: Any) -> None:
    from qkt.bybit.codec.instruments import to_rules
    from qkt.bybit.codec.orders import BybitOrderTranslator

    exchange = Exchange(lambda: 1, 1, [CATALOGUE["BTCUSDT"]])
    exchange.add_account("key", "secret", {"USDT": D(10**9), "BTC": D(10**6)})
    rules = to_rules(CATALOGUE["BTCUSDT"].row(), "spot", as_of_ms=0)
    code = 0
    try:
        exchange.create(exchange.accounts["key"], BybitOrderTranslator.to_create_body(order, "c1"))
    except Refusal as refusal:
        code = refusal.code
    told = ""
    try:
        check_order(order, rules, D(60_000))
    except InvalidRequestError as error:
        told = str(error)
    assert bool(told) is (code in _MATTERS), (code, told)


# -- what an order is worth ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "worth"),
    [
        (limit("60000", "0.01"), 600),
        (market("250", quote_sized=True), 250),
        (market("0.01"), None),
        (stop("59000"), 590),
        (
            StopLimitOrder(symbol=SYMBOL, side=Side.SELL, quantity=D(1), stop_price=D(60_000), limit_price=D(59_000)),
            60_000,
        ),
        (limit("60000", "0.01", take_profit=D(90_000)), 600),
    ],
)
def test_an_order_is_worth_its_quantity_at_the_highest_price_it_names(order: Any, worth: int | None) -> None:
    assert notional_of(order) == worth
    assert notional_of(market("0.01"), D(60_000)) == 600


def test_a_market_order_is_not_amended() -> None:
    waiting = view(order_type=OrderType.MARKET, stop_price=None)

    with pytest.raises(InvalidRequestError, match="nothing to amend"):
        check_changes(waiting, OrderModification(new_quantity=Decimal(2)), None)
