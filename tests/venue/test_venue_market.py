"""A market that lives, and a clock that is stepped: deterministic from the seed, partial fills included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

import pytest

from qkt.venue import SimulatedBybit, VirtualClock

HOUR_MS = 3_600_000


def live(seed: int = 1, **options: Any) -> tuple[Any, ...]:
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


def story(seed: int) -> dict[str, Any]:
    venue, clock = live(seed)
    ladder(venue)
    for _ in range(40):
        clock.advance_ms(5_000)
    return venue.truth()  # type: ignore[no-any-return]


def test_the_same_seed_and_the_same_steps_give_the_same_market() -> None:
    assert story(1) == story(1)
    assert story(1) != story(2)


def test_how_time_is_cut_into_steps_does_not_matter() -> None:
    coarse, clock_a = live()
    fine, clock_b = live()
    clock_a.advance_ms(60_000)
    for _ in range(600):
        clock_b.advance_ms(100)
    assert coarse.last_price("BTCUSDT") == fine.last_price("BTCUSDT") != Decimal(60_000)


def test_resting_orders_fill_in_part_then_whole_over_time() -> None:
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


def test_an_order_that_outlasts_the_volume_holds_the_price() -> None:
    venue, _ = live()
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="1", price="59990", orderLinkId="wall")
    book = venue._book("BTCUSDT")
    with venue._exclusive():
        venue._exchange.move_price(book, Decimal(59_000), Decimal("0.3"))
    assert venue.last_price("BTCUSDT") == Decimal(59_990)
    (order,) = venue.truth()["orders"]
    assert (order["orderStatus"], order["cumExecQty"]) == ("PartiallyFilled", "0.3")


def test_a_still_market_stays_where_it_is(venue: Any) -> None:
    assert venue.last_price("BTCUSDT") == Decimal(60_000)
    clock = VirtualClock(0)
    still = SimulatedBybit(clock=clock)
    clock.advance_ms(HOUR_MS)
    assert still.last_price("BTCUSDT") == Decimal(60_000)


def test_a_real_clock_drives_the_market_too(connect: Any) -> None:
    with SimulatedBybit(market="live", market_speed=1000) as venue:
        stream = connect(url=venue.public_ws_url("spot"))
        stream.subscribe("tickers.BTCUSDT")
        prices = {stream.receive()["data"]["lastPrice"] for _ in range(4)}
    assert len(prices) > 1


def test_speed_is_market_time_per_venue_time() -> None:
    slow, clock_a = live()
    fast, clock_b = live(market_speed=10)
    clock_a.advance_ms(10_000)
    clock_b.advance_ms(1_000)
    assert slow._market.steps == fast._market.steps == 40


def test_live_books_balance_too() -> None:
    venue, clock = live()
    ladder(venue)
    clock.advance_ms(HOUR_MS // 4)
    assert venue.total("BTC") == 10
    assert venue.total("USDT") == 100_000


def test_a_stepped_clock_ages_the_venue(new_rest: Any) -> None:
    clock = VirtualClock(1_767_225_600_000)
    with SimulatedBybit(clock=clock) as venue:
        rest = new_rest(venue)
        rest.create(orderLinkId="a")
        rest.cancel(orderLinkId="a")
        clock.advance_ms(23 * HOUR_MS)
        assert len(rest.rows("/v5/order/history", orderLinkId="a")) == 1
        clock.advance_ms(2 * HOUR_MS)
        assert rest.rows("/v5/order/history", orderLinkId="a") == []


def test_a_clock_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="clock_jump"):
        VirtualClock(0).advance_ms(-1)


def test_arguments_that_make_no_sense_are_refused() -> None:
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


# -- what the public sees ----------------------------------------------------------------------------------------


def kline(rest: Any, **query: Any) -> Any:
    return rest.get("/v5/market/kline", category="spot", symbol="BTCUSDT", **query)["result"]["list"]


def test_candles_by_the_minute_newest_first_flat_where_nothing_happened(new_rest: Any) -> None:
    opened = 1_767_225_600_000
    clock = VirtualClock(opened)
    with SimulatedBybit(clock=clock) as venue:
        rest = new_rest(venue)
        venue.set_price("BTCUSDT", "60100")
        venue.set_price("BTCUSDT", "59900")
        clock.advance_ms(2 * 60_000)
        venue.trade(symbol="BTCUSDT", side="Buy", quantity="0.5")
        rows = kline(rest, interval=1, start=opened)
        assert [int(row[0]) - opened for row in rows] == [120_000, 60_000, 0]
        assert rows[2][1:6] == ["60000", "60100", "59900", "59900", "0"]
        assert rows[1][1:] == ["59900", "59900", "59900", "59900", "0", "0"]
        assert rows[0][1:] == ["59900", "59900.1", "59900", "59900.1", "0.5", "29950.05"]
        (five,) = kline(rest, interval=5, start=opened)
        assert five == ["1767225600000", "60000", "60100", "59900", "59900.1", "0.5", "29950.05"]
        assert kline(rest, interval=1, limit=1) == rows[:1]
        assert kline(rest, interval=1, start=opened + 1, end=1_767_225_719_999) == rows[1:2]
        assert kline(rest, interval="D")[0][1:3] == ["60000", "60100"]
        assert int(kline(rest, interval="W")[0][0]) == 1_766_966_400_000  # Monday, 29 December 2025
        assert [int(row[0]) for row in kline(rest, interval="M", limit=3)] == [
            1_767_225_600_000,  # January 2026
            1_764_547_200_000,  # December
            1_761_955_200_000,  # November 2025
        ]


class TestCandlesFromBeforeTheOpening:
    @pytest.fixture
    def opened_at_half_past(self) -> Iterator[SimulatedBybit]:
        with SimulatedBybit(clock=VirtualClock(1_767_227_455_000)) as venue:  # 00:30:55
            yield venue

    @pytest.fixture
    def ask(self, opened_at_half_past: SimulatedBybit, new_rest: Callable[..., Any]) -> Callable[..., Any]:
        return partial(kline, new_rest(opened_at_half_past))

    def test_there_are_as_many_as_asked_for_without_a_gap(self, ask: Callable[..., Any]) -> None:
        for interval, length_ms in (("1", 60_000), ("30", 1_800_000), ("60", HOUR_MS), ("D", 24 * HOUR_MS)):
            starts = [int(row[0]) for row in ask(interval=interval, limit=500)]
            assert starts == [starts[0] - at * length_ms for at in range(500)]

    def test_the_last_one_leads_to_the_opening_price(self, ask: Callable[..., Any]) -> None:
        present, before = ask(interval=1, limit=2)
        assert (present[1], before[4]) == ("60000", "60000")

    @pytest.mark.parametrize(
        ("shorter", "longer", "count"), [("1", "5", 5), ("1", "60", 60), ("15", "60", 4), ("60", "D", 24)]
    )
    def test_a_longer_candle_is_the_sum_of_the_shorter_ones(
        self, ask: Callable[..., Any], shorter: str, longer: str, count: int
    ) -> None:
        for row in ask(interval=longer, limit=30)[1:]:
            start = int(row[0])
            end = start + count * {"1": 60_000, "15": 900_000, "60": HOUR_MS}[shorter] - 1
            parts = [[Decimal(value) for value in part] for part in ask(interval=shorter, start=start, end=end)]
            assert len(parts) == count
            whole = [Decimal(value) for value in row]
            assert (whole[1], whole[4]) == (parts[-1][1], parts[0][4])
            assert whole[2] == max(part[2] for part in parts)
            assert whole[3] == min(part[3] for part in parts)
            assert whole[5:] == [sum(part[at] for part in parts) for at in (5, 6)]

    def test_prices_are_on_the_tick_and_the_high_is_the_highest(self, ask: Callable[..., Any]) -> None:
        for row in ask(interval=1, limit=1000):
            opened, high, low, close = (Decimal(price) for price in row[1:5])
            assert low <= min(opened, close) <= max(opened, close) <= high
            assert all(price % Decimal("0.1") == 0 for price in (opened, high, low, close))

    def test_the_seed_decides_them(self, new_rest: Callable[..., Any]) -> None:
        def candles(seed: int) -> list[list[str]]:
            with SimulatedBybit(seed=seed, clock=VirtualClock()) as venue:
                return kline(new_rest(venue), interval=60, limit=50)  # type: ignore[no-any-return]

        assert candles(1) == candles(1) != candles(2)

    def test_they_end_two_years_before(self, ask: Callable[..., Any]) -> None:
        assert len(ask(interval="M", limit=100)) == 25
        assert ask(interval="D", end=1_600_000_000_000) == []


@pytest.mark.parametrize("query", [{}, {"interval": "7"}, {"interval": 1, "limit": 0}, {"interval": 1, "start": "x"}])
def test_a_kline_request_needs_an_interval(rest: Any, query: dict[str, Any]) -> None:
    assert rest.get("/v5/market/kline", category="spot", symbol="BTCUSDT", **query)["retCode"] == 10001


def test_recent_trades_are_the_last_sixty_newest_first(rest: Any, venue: Any) -> None:
    for number in range(70):
        venue.trade(symbol="BTCUSDT", side="Sell" if number == 69 else "Buy", quantity="0.001")
    rows = rest.rows("/v5/market/recent-trade", symbol="BTCUSDT")
    assert len(rows) == 60
    assert (rows[0]["side"], rows[0]["price"], rows[1]["side"]) == ("Sell", "59999.9", "Buy")
    assert rest.rows("/v5/market/recent-trade", symbol="BTCUSDT", limit=1000) == rows


def test_the_order_book_has_up_to_a_thousand_levels(rest: Any) -> None:
    for limit, levels in ((1000, 1000), (5000, 1000), (200, 200)):
        book = rest.get("/v5/market/orderbook", category="spot", symbol="BTCUSDT", limit=limit)["result"]
        assert (len(book["b"]), len(book["a"])) == (levels, levels)


@pytest.mark.parametrize("category", ["inverse", "option"])
@pytest.mark.parametrize("path", ["instruments-info", "tickers"])
def test_a_category_without_markets_is_an_empty_list(rest: Any, path: str, category: str) -> None:
    assert rest.get(f"/v5/market/{path}", category=category)["result"]["list"] == []


def test_the_price_limit_is_the_band_orders_are_held_to(rest: Any) -> None:
    band = rest.get("/v5/market/price-limit", category="spot", symbol="BTCUSDT")["result"]
    assert (band["buyLmt"], band["sellLmt"]) == ("66000", "54000")
    assert rest.create(price="66000", qty="0.001")["retCode"] == 0
    assert rest.create(price="66000.1", qty="0.001")["retCode"] == 170193


def test_counterparties_of_a_living_market_trade_among_themselves() -> None:
    venue, clock = live()
    clock.advance_ms(60_000)
    trades = venue._book("BTCUSDT").tape.trades
    assert {trade.side for trade in trades} == {"Buy", "Sell"}
    assert venue.truth()["executions"] == []
