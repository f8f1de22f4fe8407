"""What can still be read, and for how long: filters, order, pages, cursors, retention (docs v5/order, v5/execution)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt.venue.exchange import queries
from qkt.venue.exchange.exchange import Exchange
from qkt.venue.exchange.instruments import instrument_for
from qkt.venue.exchange.paging import Cursor, Timeline
from qkt.venue.exchange.retcodes import Refusal

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


class Desk:
    """An exchange without sockets, a clock that stands, and one account."""

    def __init__(self) -> None:
        self.now_ms = 1_767_225_600_000
        symbols = ("BTCUSDT", "ETHUSDT")
        self.exchange = Exchange(
            lambda: self.now_ms, 1, [instrument_for(symbol, at) for at, symbol in enumerate(symbols)]
        )
        self.account = self.exchange.add_account("key", "secret", {"USDT": Decimal(10**9), "BTC": Decimal(100)})

    def create(self, **changed: Any) -> Any:
        body = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01"}
        return self.exchange.create(self.account, {**body, "price": "59000", **changed})

    def realtime(self, view: Any = queries.PLAIN, **query: Any) -> Any:
        return queries.realtime(self.account, {"category": "spot", **query}, self.now_ms, view)

    def history(self, **query: Any) -> Any:
        return queries.history(self.account, {"category": "spot", **query}, self.now_ms)

    def executions(self, **query: Any) -> Any:
        return queries.executions(self.account, {"category": "spot", **query}, self.now_ms)


@pytest.fixture
def desk() -> Desk:
    return Desk()


def links(answer: Any) -> list[Any]:
    return [row["orderLinkId"] for row in answer["list"]]


def walk(read: Any, **query: Any) -> Any:
    """All pages, as a careful client reads them; returns pages."""
    pages, cursor = [], ""  # type: ignore[var-annotated]
    while True:
        answer = read(**query, **({"cursor": cursor} if cursor else {}))
        if not answer["list"]:
            return pages
        pages.append(answer["list"])
        cursor = answer["nextPageCursor"]


def test_realtime_lists_open_orders_newest_first(desk: Any) -> None:
    for number in range(3):
        desk.create(orderLinkId=f"o{number}")
        desk.now_ms += 1
    assert links(desk.realtime()) == ["o2", "o1", "o0"]


def test_realtime_knows_closed_orders_by_id_and_on_request(desk: Any) -> None:
    desk.create(orderLinkId="open")
    desk.create(orderLinkId="filled", price="60500")
    assert links(desk.realtime()) == ["open"]
    assert links(desk.realtime(openOnly="1")) == ["filled"]
    assert links(desk.realtime(orderLinkId="filled")) == ["filled"]


def test_not_found_is_an_empty_list_and_no_error(desk: Any) -> None:
    answer = desk.realtime(orderLinkId="never-was")
    assert (answer["list"], answer["nextPageCursor"]) == ([], "")


def test_realtime_filters(desk: Any) -> None:
    desk.create(orderLinkId="btc")
    desk.create(orderLinkId="eth", symbol="ETHUSDT", price="2900", qty="1")
    desk.create(orderLinkId="stop", triggerPrice="58000", price="58000", orderFilter="StopOrder")
    assert links(desk.realtime(symbol="ETHUSDT")) == ["eth"]
    assert sorted(links(desk.realtime(baseCoin="BTC"))) == ["btc", "stop"]
    assert links(desk.realtime(orderFilter="StopOrder")) == ["stop"]
    assert links(desk.realtime(orderFilter="tpslOrder")) == []
    assert sorted(links(desk.realtime(orderFilter="Order"))) == ["btc", "eth"]


def test_one_hundred_and_twenty_orders_come_in_pages_without_gap_or_repeat(desk: Any) -> None:
    for number in range(120):
        desk.create(orderLinkId=f"o{number}", qty="0.001")
        desk.now_ms += number % 2
    pages = walk(desk.realtime, limit="50")
    assert [len(page) for page in pages] == [50, 50, 20]
    assert len({row["orderId"] for page in pages for row in page}) == 120
    assert [len(page) for page in walk(desk.realtime)] == [20] * 6


def test_the_last_page_has_a_cursor_too(desk: Any) -> None:
    desk.create()
    answer = desk.realtime()
    assert answer["nextPageCursor"]
    assert desk.realtime(cursor=answer["nextPageCursor"])["list"] == []


def test_a_cursor_works_raw_and_percent_encoded_once_more(desk: Any) -> None:
    for number in range(3):
        desk.create(orderLinkId=f"o{number}")
    cursor = desk.realtime(limit="1")["nextPageCursor"]
    assert "%" in cursor
    parsed = queries.parse_query(f"cursor={cursor}")["cursor"]
    again = queries.parse_query("cursor=" + cursor.replace("%", "%25"))["cursor"]
    assert links(desk.realtime(limit="1", cursor=parsed)) == links(desk.realtime(limit="1", cursor=again)) == ["o1"]


def test_orders_that_close_while_paging_leave_no_hole(desk: Any) -> None:
    for number in range(6):
        desk.create(orderLinkId=f"o{number}")
    first = desk.realtime(limit="2")
    desk.exchange.cancel(desk.account, {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "o5"})
    assert links(desk.realtime(limit="2", cursor=first["nextPageCursor"])) == ["o3", "o2"]


def test_pages_cut_by_position_shift_instead(desk: Any) -> None:
    view = queries.View(page_by_position=True)
    for number in range(6):
        desk.create(orderLinkId=f"o{number}")
    first = desk.realtime(view, limit="2")
    desk.exchange.cancel(desk.account, {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "o5"})
    assert links(desk.realtime(view, limit="2", cursor=first["nextPageCursor"])) == ["o2", "o1"]


def test_the_closed_cache_holds_five_hundred_and_a_restart_wipes_it(desk: Any) -> None:
    for number in range(510):
        desk.create(orderLinkId=f"o{number}", qty="0.001", price="60500")
    assert desk.realtime(orderLinkId="o9")["list"] == []
    assert links(desk.realtime(orderLinkId="o10")) == ["o10"]
    desk.exchange.restart()
    assert desk.realtime(orderLinkId="o509")["list"] == []
    assert links(desk.history(orderLinkId="o509")) == ["o509"]


def test_history_is_for_final_orders(desk: Any) -> None:
    desk.create(orderLinkId="open")
    desk.create(orderLinkId="filled", price="60500")
    assert links(desk.history()) == ["filled"]
    assert links(desk.history(orderStatus="Filled")) == ["filled"]
    assert links(desk.history(orderStatus="Cancelled")) == []
    with pytest.raises(Refusal, match="181017"):
        desk.history(orderStatus="New")


def test_an_unfilled_cancelled_order_disappears_after_a_day(desk: Any) -> None:
    for link, price in (("cancelled", "59000"), ("partly", "59000"), ("filled", "60500")):
        desk.create(orderLinkId=link, price=price)
    desk.exchange.fill(desk.exchange.find("partly"), Decimal("0.004"), None)
    for link in ("cancelled", "partly"):
        desk.exchange.cancel(desk.account, {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": link})
    desk.now_ms += DAY_MS - 1
    assert sorted(links(desk.history())) == ["cancelled", "filled", "partly"]
    desk.now_ms += 2
    assert sorted(links(desk.history())) == ["filled", "partly"]
    assert desk.history(orderLinkId="cancelled")["list"] == []


def test_what_was_filled_is_found_for_two_years_by_window_or_by_id(desk: Any) -> None:
    start = desk.now_ms
    desk.create(orderLinkId="filled", price="60500")
    desk.now_ms += 30 * DAY_MS
    assert desk.history()["list"] == []
    assert links(desk.history(startTime=str(start - 1))) == ["filled"]
    assert links(desk.history(orderLinkId="filled")) == ["filled"]
    desk.now_ms += 731 * DAY_MS
    assert desk.history(orderLinkId="filled")["list"] == []


@pytest.mark.parametrize(
    ("bounds", "ages_days"),
    [
        ({}, {"3"}),
        ({"startTime": -8}, {"8", "3"}),
        ({"endTime": -8}, {"15", "8"}),  # both bounds included
        ({"startTime": -7, "endTime": 0}, {"3"}),
        ({"startTime": -20}, {"15"}),
        ({"startTime": -14, "endTime": -7.5}, {"8"}),
    ],
)
def test_the_seven_day_rule_of_executions(desk: Any, bounds: dict[str, Any], ages_days: set[Any]) -> None:
    """Neither bound means the last 7 days; one bound means 7 days from it."""
    for age, wait_days in (("15", 7), ("8", 5), ("3", 3)):
        desk.create(price="60500", orderLinkId=age)
        desk.now_ms += wait_days * DAY_MS
    query = {name: str(desk.now_ms + int(days * DAY_MS)) for name, days in bounds.items()}
    assert set(links(desk.executions(**query))) == ages_days


def test_a_window_over_seven_days_is_refused(desk: Any) -> None:
    with pytest.raises(Refusal, match="10001"):
        desk.executions(startTime=str(desk.now_ms - 8 * DAY_MS), endTime=str(desk.now_ms))
    with pytest.raises(Refusal, match="10001"):
        desk.executions(startTime=str(desk.now_ms), endTime=str(desk.now_ms - 1))


def test_an_id_makes_executions_ignore_every_other_filter(desk: Any) -> None:
    desk.create(orderLinkId="old", price="60500")
    desk.now_ms += 30 * DAY_MS
    query = {"orderLinkId": "old", "symbol": "ETHUSDT", "startTime": str(desk.now_ms), "endTime": str(desk.now_ms)}
    assert len(desk.executions(**query)["list"]) == 1


def test_executions_come_newest_first_and_equal_times_in_no_helpful_order(desk: Any) -> None:
    for number in range(40):
        desk.create(price="60500", qty="0.001")
        desk.now_ms += number // 20
    rows = desk.executions()["list"]
    times = [int(row["execTime"]) for row in rows]
    assert times == sorted(times, reverse=True)
    ties = [row["execId"] for row in rows if row["execTime"] == rows[-1]["execTime"]]
    assert ties not in (sorted(ties), sorted(ties, reverse=True))
    pages = walk(desk.executions, limit="7")
    assert len({row["execId"] for page in pages for row in page}) == 40


@pytest.mark.parametrize("limit", ["0", "-1", "x", "1.5"])
def test_a_limit_that_is_no_positive_number_is_refused(desk: Any, limit: str) -> None:
    with pytest.raises(Refusal, match="10001"):
        desk.realtime(limit=limit)


def test_a_limit_above_the_maximum_is_capped(desk: Any) -> None:
    for number in range(60):
        desk.create(orderLinkId=f"a-{number}")
    assert len(desk.realtime(limit="1000")["list"]) == 50
    assert desk.executions(limit="101")["list"] == []


def test_spot_has_no_settle_coin(desk: Any) -> None:
    with pytest.raises(Refusal, match="settleCoin"):
        desk.realtime(settleCoin="USDT")


def test_a_stale_view_shows_the_past(desk: Any) -> None:
    stale = queries.View(lag_ms=1000)
    desk.create(orderLinkId="a")
    assert desk.realtime(stale)["list"] == []
    assert desk.realtime(stale, orderLinkId="a")["list"] == []
    desk.now_ms += 1000
    assert links(desk.realtime(stale)) == ["a"]
    desk.exchange.cancel(desk.account, {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "a"})
    assert links(desk.realtime()) == []
    assert [row["orderStatus"] for row in desk.realtime(stale)["list"]] == ["New"]


@given(
    times=st.lists(st.integers(0, 20), max_size=40),
    limit=st.integers(1, 7),
    start_ms=st.integers(0, 10),
    end_ms=st.integers(5, 20),
)
def test_pages_put_together_are_the_list_whatever_the_clock_did(
    times: Any, limit: Any, start_ms: Any, end_ms: Any
) -> None:
    timeline: Timeline[int] = Timeline()
    for number, time_ms in enumerate(times):
        timeline.add(time_ms, number, number)
    walked, cursor = [], None
    while True:
        rows, cursor = timeline.page(
            lambda number: number if number % 3 else None, limit=limit, cursor=cursor, start_ms=start_ms, end_ms=end_ms
        )
        if cursor is None:
            break
        assert 1 <= len(rows) <= limit
        cursor = Cursor.parse(str(cursor))
        walked += rows
    inside = [(time_ms, number) for number, time_ms in enumerate(times) if start_ms <= time_ms <= end_ms]
    assert walked == [number for _, number in sorted(inside, reverse=True) if number % 3]
