"""A market that lives, and a clock that is stepped: deterministic from the seed, partial fills included."""

from __future__ import annotations

from decimal import Decimal

import pytest

from qkt.venue import SimulatedBybit, VirtualClock

HOUR_MS = 3_600_000


def live(seed: int = 1, **options):
    clock = VirtualClock(1_767_225_600_000)
    return SimulatedBybit(seed=seed, market="live", clock=clock, **options), clock


def ladder(venue: SimulatedBybit) -> None:
    """Resting orders on both sides, near enough to be met."""
    for step in range(1, 21):
        for side, away in (("Buy", -step), ("Sell", step)):
            venue.place(
                symbol="BTCUSDT",
                side=side,
                orderType="Limit",
                qty="0.05",
                price=str(60_000 + 4 * away),
                orderLinkId=f"{side}{step}",
            )


def story(seed: int) -> dict:
    venue, clock = live(seed)
    ladder(venue)
    for _ in range(40):
        clock.advance_ms(5_000)
    return venue.truth()


def test_the_same_seed_and_the_same_steps_give_the_same_market():
    assert story(1) == story(1)
    assert story(1) != story(2)


def test_how_time_is_cut_into_steps_does_not_matter():
    coarse, clock_a = live()
    fine, clock_b = live()
    clock_a.advance_ms(60_000)
    for _ in range(600):
        clock_b.advance_ms(100)
    assert coarse.last_price("BTCUSDT") == fine.last_price("BTCUSDT") != Decimal(60_000)


def test_resting_orders_fill_in_part_then_whole_over_time():
    venue, clock = live()
    ladder(venue)
    seen = set()
    for _ in range(600):
        clock.advance_ms(1_000)
        seen |= {order["orderStatus"] for order in venue.truth()["orders"]}
    truth = venue.truth()
    assert {"New", "PartiallyFilled", "Filled"} <= seen
    parts: dict[str, int] = {}
    for execution in truth["executions"]:
        assert execution["isMaker"] is True
        parts[execution["orderId"]] = parts.get(execution["orderId"], 0) + 1
    assert max(parts.values()) > 1


def test_an_order_that_outlasts_the_volume_holds_the_price():
    venue, _ = live()
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="1", price="59990", orderLinkId="wall")
    book = venue._book("BTCUSDT")
    with venue._exclusive():
        venue._exchange.move_price(book, Decimal(59_000), Decimal("0.3"))
    assert venue.last_price("BTCUSDT") == Decimal(59_990)
    (order,) = venue.truth()["orders"]
    assert (order["orderStatus"], order["cumExecQty"]) == ("PartiallyFilled", "0.3")


def test_a_still_market_stays_where_it_is(venue):
    assert venue.last_price("BTCUSDT") == Decimal(60_000)
    clock = VirtualClock(0)
    still = SimulatedBybit(clock=clock)
    clock.advance_ms(HOUR_MS)
    assert still.last_price("BTCUSDT") == Decimal(60_000)


def test_a_real_clock_drives_the_market_too(connect):
    with SimulatedBybit(market="live", market_speed=1000) as venue:
        stream = connect(url=venue.public_ws_url("spot"))
        stream.subscribe("tickers.BTCUSDT")
        prices = {stream.receive()["data"]["lastPrice"] for _ in range(4)}
    assert len(prices) > 1


def test_speed_is_market_time_per_venue_time():
    slow, clock_a = live()
    fast, clock_b = live(market_speed=10)
    clock_a.advance_ms(10_000)
    clock_b.advance_ms(1_000)
    assert slow._market.steps == fast._market.steps == 40


def test_live_books_balance_too():
    venue, clock = live()
    ladder(venue)
    clock.advance_ms(HOUR_MS // 4)
    assert venue.total("BTC") == 10
    assert venue.total("USDT") == 100_000


def test_a_stepped_clock_ages_the_venue(new_rest):
    clock = VirtualClock(1_767_225_600_000)
    with SimulatedBybit(clock=clock) as venue:
        rest = new_rest(venue)
        rest.create(orderLinkId="a")
        rest.cancel(orderLinkId="a")
        clock.advance_ms(23 * HOUR_MS)
        assert len(rest.rows("/v5/order/history", orderLinkId="a")) == 1
        clock.advance_ms(2 * HOUR_MS)
        assert rest.rows("/v5/order/history", orderLinkId="a") == []


def test_a_clock_does_not_go_back():
    with pytest.raises(ValueError, match="clock_jump"):
        VirtualClock(0).advance_ms(-1)


def test_arguments_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="still"):
        SimulatedBybit(market="wild")
    with pytest.raises(ValueError, match="BTCXYZ"):
        SimulatedBybit(symbols=("BTCXYZ",))
    with pytest.raises(ValueError, match="exists already"):
        SimulatedBybit().add_account("key", "secret")
    with pytest.raises(LookupError, match="not traded here"):
        SimulatedBybit().set_price("NOPEUSDT", 1)
    with pytest.raises(ValueError, match="positive"):
        SimulatedBybit().set_price("BTCUSDT", 0)
