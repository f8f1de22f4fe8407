"""PositionTracker: what fills add up to, to the last digit. Covers S63 and S87 as positions see them."""

from __future__ import annotations

import random
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal, localcontext
from itertools import permutations
from typing import Any

import pytest

from qkt.bus import EventBus
from qkt.errors import InvalidRequestError
from qkt.events import FillEvent, OrderFilled, OrderPartiallyFilled, PositionReconciled
from qkt.model.orders import Side
from qkt.model.positions import Position
from qkt.positions import PositionTracker, base_coin_of

BTC = "BYBIT_SPOT:BTCUSDT"
PERP = "BYBIT_LINEAR:BTCUSDT"


def a_fill(
    side: str,
    quantity: str,
    price: str,
    *,
    exec_id: str = "",
    fee: str = "0",
    fee_currency: str = "",
    symbol: str = BTC,
    order: str = "o1",
    late: bool = False,
    external: bool = False,
) -> OrderPartiallyFilled:
    a_fill.count = getattr(a_fill, "count", 0) + 1  # type: ignore[attr-defined]
    return OrderPartiallyFilled(
        client_order_id="" if external else "c1",
        broker_order_id=order,
        external=external,
        symbol=symbol,
        side=Side(side),
        price=Decimal(price),
        quantity=Decimal(quantity),
        exec_id=exec_id or f"e{a_fill.count}",  # type: ignore[attr-defined]
        fee=Decimal(fee),
        fee_currency=fee_currency,
        late=late,
    )


def tracker_after(*fills: FillEvent) -> PositionTracker:
    tracker = PositionTracker()
    for fill in fills:
        tracker.apply_fill(fill)
    return tracker


def a_position(quantity: str, avg_price: str, realized_pnl: str) -> Position:
    return Position(quantity=Decimal(quantity), avg_price=Decimal(avg_price), realized_pnl=Decimal(realized_pnl))


@pytest.mark.parametrize(
    ("fills", "expected"),
    [
        pytest.param([("BUY", "1", "100")], ("1", "100", "0"), id="a buy opens a long"),
        pytest.param([("SELL", "1", "100")], ("-1", "100", "0"), id="a sell opens a short"),
        pytest.param([("BUY", "1", "100"), ("BUY", "3", "200")], ("4", "175", "0"), id="adding averages by quantity"),
        pytest.param([("SELL", "1", "100"), ("SELL", "1", "80")], ("-2", "90", "0"), id="adding to a short averages"),
        pytest.param([("BUY", "2", "100"), ("SELL", "1", "130")], ("1", "100", "30"), id="reducing keeps the average"),
        pytest.param([("SELL", "2", "100"), ("BUY", "1", "90")], ("-1", "100", "10"), id="a short gains when it falls"),
        pytest.param([("SELL", "2", "100"), ("BUY", "1", "110")], ("-1", "100", "-10"), id="a short loses as it rises"),
        pytest.param([("BUY", "1", "100"), ("SELL", "1", "90")], ("0", "0", "-10"), id="flat has no average"),
        pytest.param([("BUY", "1", "100"), ("SELL", "3", "110")], ("-2", "110", "10"), id="a flip opens at its price"),
        pytest.param([("SELL", "1", "100"), ("BUY", "3", "110")], ("2", "110", "-10"), id="a flip the other way"),
        pytest.param(
            [("BUY", "1", "100"), ("SELL", "1", "110"), ("BUY", "1", "300")], ("1", "300", "10"), id="profit is kept"
        ),
    ],
)
def test_fills_add_up_to_a_position(fills: list[Any], expected: tuple[Any, ...]) -> None:
    assert tracker_after(*(a_fill(*fill) for fill in fills)).position(BTC) == a_position(*expected)


def test_a_symbol_that_never_traded_has_no_position() -> None:
    assert PositionTracker().position(BTC) is None


def test_symbols_are_kept_apart() -> None:
    tracker = tracker_after(a_fill("BUY", "1", "100"), a_fill("SELL", "2", "5", symbol="BYBIT_SPOT:SOLUSDT"))
    assert {symbol: held.quantity for symbol, held in tracker.positions().items()} == {BTC: 1, "BYBIT_SPOT:SOLUSDT": -2}


def test_external_fills_count_like_ours() -> None:
    assert tracker_after(a_fill("BUY", "1", "100", external=True)).position(BTC) == a_position("1", "100", "0")


def test_a_late_fill_counts_like_any_other() -> None:
    assert tracker_after(a_fill("BUY", "1", "100", late=True)).position(BTC) == a_position("1", "100", "0")


def test_an_execution_heard_twice_counts_once() -> None:
    fill = a_fill("BUY", "1", "100", exec_id="e-1", fee="0.001", fee_currency="BTC")
    tracker = tracker_after(fill, fill)
    assert tracker.position(BTC) == a_position("0.999", "100", "0")
    assert tracker.fees(BTC) == {"BTC": Decimal("0.001")}


def test_the_two_sides_of_a_self_trade_both_count_though_they_share_an_execution_id() -> None:
    tracker = tracker_after(
        a_fill("BUY", "1", "100", exec_id="e-1", order="o1"), a_fill("SELL", "1", "100", exec_id="e-1", order="o2")
    )
    assert tracker.position(BTC) == a_position("0", "0", "0")


def test_a_completion_without_an_execution_changes_nothing() -> None:
    done = OrderFilled(client_order_id="c1", symbol=BTC, side=Side.BUY, price=Decimal(100), quantity=Decimal(0))
    tracker = tracker_after(done)
    assert tracker.position(BTC) is None
    assert tracker_after(a_fill("BUY", "1", "100"), done).position(BTC) == a_position("1", "100", "0")


def test_only_the_latest_executions_are_remembered_so_memory_is_bounded() -> None:
    tracker = PositionTracker(remember=2)
    for exec_id in ("e-1", "e-2", "e-3"):
        tracker.apply_fill(a_fill("BUY", "1", "100", exec_id=exec_id))
    assert "executions=2" in repr(tracker)


# -- fees --------------------------------------------------------------------------------------------------------------


def test_a_fee_in_base_coin_is_coin_you_did_not_get() -> None:
    tracker = tracker_after(a_fill("BUY", "1", "100", fee="0.001", fee_currency="BTC"))
    assert tracker.position(BTC) == a_position("0.999", "100", "0")


def test_selling_all_that_was_left_after_the_fee_is_flat() -> None:
    tracker = tracker_after(
        a_fill("BUY", "1", "100", fee="0.001", fee_currency="BTC"),
        a_fill("SELL", "0.999", "110", fee="0.11", fee_currency="USDT"),
    )
    assert tracker.position(BTC) == a_position("0", "0", "9.99")


def test_profit_less_fees_at_their_price_is_the_cash_the_venue_holds() -> None:
    tracker = tracker_after(
        a_fill("BUY", "1", "100", fee="0.001", fee_currency="BTC"),
        a_fill("SELL", "0.999", "110", fee="0.11", fee_currency="USDT"),
    )
    held, fees = tracker.position(BTC), tracker.fees(BTC)
    assert held is not None
    cash = -100 + Decimal("0.999") * 110 - Decimal("0.11")
    assert held.realized_pnl - fees["USDT"] - fees["BTC"] * 100 == cash


def test_a_rebate_in_base_coin_is_coin_you_got_on_top() -> None:
    tracker = tracker_after(a_fill("SELL", "1", "100", fee="-0.001", fee_currency="BTC"))
    assert tracker.position(BTC) == a_position("-0.999", "100", "0")


def test_a_rebate_in_quote_coin_leaves_the_quantity_alone() -> None:
    tracker = tracker_after(a_fill("BUY", "1", "100", fee="-0.01", fee_currency="USDT"))
    assert tracker.position(BTC) == a_position("1", "100", "0")
    assert tracker.fees(BTC) == {"USDT": Decimal("-0.01")}


def test_a_fee_in_a_third_coin_is_kept_in_that_coin() -> None:
    tracker = tracker_after(
        a_fill("BUY", "1", "100", fee="0.2", fee_currency="MNT"),
        a_fill("SELL", "1", "100", fee="0.3", fee_currency="MNT"),
    )
    assert tracker.position(BTC) == a_position("0", "0", "0")
    assert tracker.fees(BTC) == {"MNT": Decimal("0.5")}


def test_a_base_fee_on_the_buy_that_closes_a_short_leaves_that_much_short() -> None:
    tracker = tracker_after(a_fill("SELL", "1", "100"), a_fill("BUY", "1", "90", fee="0.001", fee_currency="BTC"))
    assert tracker.position(BTC) == a_position("-0.001", "90", "10")


def test_a_derivative_is_counted_in_contracts_which_no_fee_can_shrink() -> None:
    symbol = "BYBIT_LINEAR:MNTUSDT"
    tracker = tracker_after(a_fill("BUY", "10", "1", symbol=symbol, fee="0.01", fee_currency="MNT"))
    assert tracker.position(symbol) == a_position("10", "1", "0")


@pytest.mark.parametrize(
    ("symbol", "coin"),
    [
        (BTC, "BTC"),
        ("BTCUSDT", "BTC"),
        ("BYBIT_SPOT:ETHBTC", "ETH"),
        ("BYBIT_SPOT:USDCUSDT", "USDC"),
        ("BYBIT_SPOT:BUSDT", "B"),
        ("ACME:BTC-USD", "BTC"),
        ("ACME:DOGE/SHIB", "DOGE"),
        (PERP, None),
        ("ACME:???", None),
    ],
)
def test_the_base_coin_is_read_off_the_symbol(symbol: Any, coin: str | None) -> None:
    assert base_coin_of(symbol) == coin


def test_another_venue_names_its_own_base_coins() -> None:
    tracker = PositionTracker(base_coin_of={"ACME:42": "GOLD"}.get)
    tracker.apply_fill(a_fill("BUY", "1", "100", symbol="ACME:42", fee="0.1", fee_currency="GOLD"))
    assert tracker.position("ACME:42") == a_position("0.9", "100", "0")


# -- exactness ---------------------------------------------------------------------------------------------------------


def test_an_average_of_thirds_leaves_no_crumbs_once_flat() -> None:
    tracker = tracker_after(a_fill("BUY", "1", "100"), a_fill("BUY", "2", "101"), a_fill("SELL", "3", "102"))
    assert tracker.position(BTC) == a_position("0", "0", "4")


def test_the_arithmetic_does_not_depend_on_the_callers_decimal_context() -> None:
    fills = [a_fill("BUY", "1.23456789", "64321.123456"), a_fill("SELL", "0.23456789", "64500.5")]
    expected = tracker_after(*fills).position(BTC)
    with localcontext() as context:
        context.prec = 4
        assert tracker_after(*fills).position(BTC) == expected


def test_figures_print_plainly() -> None:
    held = tracker_after(a_fill("BUY", "1000", "100"), a_fill("BUY", "1000", "200.50")).position(BTC)
    assert held is not None
    assert (str(held.quantity), str(held.avg_price)) == ("2000", "150.25")


@pytest.mark.parametrize("arrival", list(permutations(range(4))))
def test_quantity_and_cash_do_not_depend_on_the_order_of_arrival(arrival: Any) -> None:
    fills = [a_fill("BUY", "2", "100"), a_fill("SELL", "3", "120"), a_fill("SELL", "1", "90"), a_fill("BUY", "5", "95")]
    held = tracker_after(*(fills[i] for i in arrival)).position(BTC)
    assert held is not None
    cash = -sum(fill.side.sign * fill.quantity * fill.price for fill in fills)
    assert held.quantity == 3
    assert held.realized_pnl - held.quantity * held.avg_price == pytest.approx(cash, abs=Decimal("1e-24"))


def test_profit_and_open_cost_always_equal_the_cash_over_a_long_random_walk() -> None:
    chance = random.Random(7)
    tracker, cash = PositionTracker(), Decimal(0)
    for _ in range(500):
        fill = a_fill(
            chance.choice(["BUY", "SELL"]),
            f"{chance.randint(1, 9)}.{chance.randint(0, 99)}",
            f"{chance.randint(90, 110)}.01",
        )
        tracker.apply_fill(fill)
        cash -= fill.side.sign * fill.quantity * fill.price
    held = tracker.position(BTC)
    assert held is not None
    assert abs(held.realized_pnl - held.quantity * held.avg_price - cash) < Decimal("1e-20")


# -- reset -------------------------------------------------------------------------------------------------------------


def test_reset_forgets_everything_so_that_a_replay_counts_again() -> None:
    fill = a_fill("BUY", "1", "100", fee="0.1", fee_currency="USDT")
    tracker = tracker_after(fill)
    tracker.reset()
    assert (tracker.position(BTC), tracker.fees(BTC)) == (None, {})
    tracker.apply_fill(fill)
    assert tracker.position(BTC) == a_position("1", "100", "0")


def test_reset_of_one_symbol_leaves_the_others() -> None:
    tracker = tracker_after(a_fill("BUY", "1", "100"), a_fill("BUY", "1", "100", symbol=PERP))
    tracker.reset(BTC)
    assert tracker.position(BTC) is None
    assert tracker.position(PERP) == a_position("1", "100", "0")


def test_a_replay_after_the_reset_of_one_symbol_counts_there_and_nowhere_else() -> None:
    fills = [a_fill("BUY", "1", "100", exec_id="e-1"), a_fill("BUY", "1", "100", exec_id="e-1", symbol=PERP)]
    tracker = tracker_after(*fills)
    tracker.reset(BTC)
    for fill in fills:
        tracker.apply_fill(fill)
    assert [tracker.position(symbol) for symbol in (BTC, PERP)] == [a_position("1", "100", "0")] * 2


def test_reset_to_a_known_position_keeps_the_profit_and_the_executions_heard() -> None:
    fill = a_fill("BUY", "1", "100")
    tracker = tracker_after(a_fill("BUY", "1", "90"), a_fill("SELL", "1", "95"), fill)
    tracker.reset(BTC, quantity=Decimal("2.5"), avg_price=Decimal(98))
    tracker.apply_fill(fill)
    assert tracker.position(BTC) == a_position("2.5", "98", "5")


def test_reset_to_zero_is_flat() -> None:
    tracker = tracker_after(a_fill("BUY", "1", "100"))
    tracker.reset(BTC, quantity=Decimal(0))
    assert tracker.position(BTC) == a_position("0", "0", "0")


def test_reset_to_another_quantity_keeps_the_average_that_was_held() -> None:
    tracker = tracker_after(a_fill("BUY", "1", "100"))
    tracker.reset(BTC, quantity=Decimal("0.5"))
    assert tracker.position(BTC) == a_position("0.5", "100", "0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"quantity": Decimal(1)}, "needs the symbol"),
        ({"symbol": BTC, "avg_price": Decimal(1)}, "needs the quantity"),
        ({"symbol": BTC, "quantity": Decimal(1)}, "needs its avg_price"),
        ({"symbol": BTC, "quantity": 1.5, "avg_price": Decimal(1)}, "must be a Decimal"),
        ({"symbol": BTC, "quantity": Decimal(1), "avg_price": Decimal(-1)}, "above zero"),
    ],
)
def test_a_reset_that_cannot_be_meant_is_refused(arguments: dict[str, Any], message: str) -> None:
    tracker = PositionTracker()
    with pytest.raises(InvalidRequestError, match=message):
        tracker.reset(**arguments)
    assert tracker.position(BTC) is None


def test_the_venues_word_about_a_derivative_replaces_ours() -> None:
    bus = EventBus()
    tracker = tracker_after(a_fill("BUY", "1", "100", symbol=PERP))
    bus.subscribe(PositionReconciled, tracker.apply_reconciliation)
    bus.publish(
        PositionReconciled(
            symbol=PERP,
            old_quantity=Decimal(1),
            new_quantity=Decimal(-2),
            new_avg_price=Decimal(105),
            source="BYBIT_LINEAR",
        )
    )
    assert tracker.position(PERP) == a_position("-2", "105", "0")


# -- on the bus, from many threads -------------------------------------------------------------------------------------


def test_one_subscription_to_fill_event_feeds_it() -> None:
    bus = EventBus()
    tracker = PositionTracker()
    bus.subscribe(FillEvent, tracker.apply_fill)
    bus.publish(a_fill("BUY", "1", "100"))
    bus.publish(
        OrderFilled(
            client_order_id="c", symbol=BTC, side=Side.BUY, price=Decimal(110), quantity=Decimal(1), exec_id="x"
        )
    )
    assert tracker.position(BTC) == a_position("2", "105", "0")


@pytest.fixture
def hurried_threads() -> Iterator[None]:
    """Threads take turns far more often than usual, so that a missing lock shows."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval_s)


@pytest.mark.usefixtures("hurried_threads")
def test_fills_from_many_threads_are_each_counted_once() -> None:
    tracker = PositionTracker()
    fills = [a_fill("BUY", "1", "100", exec_id=f"e-{n}", fee="1", fee_currency="USDT") for n in range(6_000)]

    def apply(share: list[OrderPartiallyFilled]) -> None:
        for fill in share:
            tracker.apply_fill(fill)

    threads = [threading.Thread(target=apply, args=(fills[start::4] + fills[:20],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tracker.position(BTC) == a_position("6000", "100", "0")
    assert tracker.fees(BTC) == {"USDT": 6_000}


def test_the_repr_tells_what_is_held() -> None:
    assert repr(tracker_after(a_fill("BUY", "1.5", "100"))) == (
        "<PositionTracker open={'BYBIT_SPOT:BTCUSDT': '1.5'} symbols=1 executions=1>"
    )
