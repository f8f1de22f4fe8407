"""S24-S29: a list of open orders is a picture of a moment; what is missing in it is a question."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from qkt import OrderCancelled
from qkt.errors import BybitApiError, VenueUnavailableError
from qkt.model.orders import OrderStatus
from qkt.testing.builders import envelope
from tests.support.stage import EXECUTIONS, REALTIME, Stage, kinds_of, words


def while_listing(stage: Stage, *happenings: Any, takes_ms: int = 0) -> None:
    """The next open list shows the venue as it was when asked; these happen before it arrives."""

    def answer(query: Mapping[str, Any]) -> dict[str, Any]:
        picture = stage.venue.answer_realtime(query)
        stage.clock.advance_ms(takes_ms // 2)
        for happening in happenings:
            happening()
        stage.clock.advance_ms(takes_ms - takes_ms // 2)
        return picture

    stage.answers(REALTIME, answer)


def has_open_orders(stage: Stage, number: int) -> None:
    """So many outside orders, adopted at the start."""
    for n in range(number):
        stage.venue.rests(f"o{n}", f"m{n}")


def listings(stage: Stage) -> list[Mapping[str, Any]]:
    """The requests for the open list, plain orders only."""
    return [query for query in stage.asked(REALTIME) if "orderFilter" not in query and query not in stage.lookups()]


# -- S24, S25: the fence -----------------------------------------------------------------------------------------------


def test_S24_an_order_submitted_after_the_list_was_asked_for_is_not_missed_in_it(stage: Stage) -> None:
    stage.has_open_order()
    while_listing(stage, lambda: stage.submit("c2"))
    stage.broker.reconcile()
    assert stage.story() == []
    assert stage.lookups() == []
    assert stage.broker.order("c2").is_open
    stage.assert_settled()


def test_S24_an_order_accepted_by_a_frame_during_the_list_is_not_missed_in_it(stage: Stage) -> None:
    stage.has_open_order()
    while_listing(stage, lambda: stage.submit("c2"), lambda: stage.venue.push_order("b2"))
    stage.broker.reconcile()
    assert stage.story() == ["accepted"]
    assert stage.lookups() == []


@pytest.mark.parametrize("rounds", [1, 3])
def test_S24_an_order_whose_submit_is_still_under_way_is_not_asked_for(stage: Stage, rounds: int) -> None:
    """It was not acknowledged before the fence: the venue need not know it yet."""
    _ = stage.broker

    def create(body: Any) -> Any:
        for _ in range(rounds):
            stage.round()
        return stage.venue.create(body)

    stage.answers("/v5/order/create", create)
    ack = stage.submit()
    assert ack.accepted
    assert stage.story() == []
    assert stage.lookups() == []
    assert not stage.broker.order("c1").is_unresolved
    stage.venue.push_order()
    assert stage.story() == ["accepted"]
    stage.assert_settled()


def test_S24_an_acknowledged_order_not_listed_yet_is_asked_for_and_not_cancelled(stage: Stage) -> None:
    _ = stage.broker
    stage.venue.hidden.add("b1")
    stage.submit()
    stage.round(after_ms=100)
    assert stage.story() == []
    assert stage.lookups() != []
    assert stage.broker.order("c1").is_open
    stage.venue.hidden.clear()
    stage.round(after_ms=100)
    assert stage.story() == ["accepted"]
    stage.assert_settled()


def test_S25_a_list_that_takes_twelve_seconds_cancels_no_order_made_meanwhile(stage: Stage) -> None:
    stage.has_open_order()
    while_listing(stage, lambda: stage.submit("c2"), lambda: stage.venue.push_order("b2"), takes_ms=12_000)
    report = stage.broker.reconcile()
    assert stage.story() == ["accepted"]
    assert stage.lookups() == []
    assert kinds_of(report) == []
    stage.assert_settled()


def test_S25_what_the_stream_told_meanwhile_stands_against_the_old_picture(stage: Stage) -> None:
    stage.has_open_order()

    def fills_and_ends() -> None:
        stage.venue.trades("e1", "0.4")
        stage.venue.push_execution("e1")
        stage.venue.ends("b1")
        stage.venue.push_order()

    while_listing(stage, fills_and_ends, takes_ms=12_000)
    report = stage.broker.reconcile()
    assert stage.story() == ["part e1", "cancelled"]
    assert kinds_of(report) == []
    assert stage.broker.order("c1").status is OrderStatus.CANCELLED
    stage.assert_settled()


def test_S25_an_amend_told_meanwhile_is_not_taken_back_by_the_old_picture(stage: Stage) -> None:
    stage.has_open_order()

    def amends() -> None:
        stage.venue.amends("b1", price="99")
        stage.venue.push_order()

    while_listing(stage, amends, takes_ms=12_000)
    stage.broker.reconcile()
    assert stage.story() == ["modified"]
    assert stage.broker.order("c1").limit_price == 99
    stage.assert_settled()


def test_S25_an_order_a_frame_confirmed_during_the_list_without_it_is_not_asked_for(
    stage: Stage,
) -> None:
    stage.has_open_order()
    stage.venue.hidden.add("b1")
    while_listing(stage, lambda: stage.venue.push_order("b1"), takes_ms=12_000)
    stage.broker.reconcile()
    assert stage.lookups() == []
    assert stage.story() == []


# -- S26: many pages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [50, 51, 100, 500])
def test_S26_every_page_of_open_orders_is_walked_and_none_is_cancelled(stage: Stage, number: int) -> None:
    has_open_orders(stage, number)
    assert len(stage.broker.open_orders()) == number
    report = stage.round()
    assert stage.story() == []
    assert stage.lookups() == []
    assert report.path("orders").rows == number  # type: ignore[union-attr]
    assert [query.get("cursor", "") for query in listings(stage)] == [
        str(at) if at else "" for at in range(0, number, 50)
    ]
    stage.assert_settled()


def test_S26_at_the_start_all_pages_are_adopted(stage: Stage) -> None:
    has_open_orders(stage, 120)
    _ = stage.broker
    (first,) = stage.broker.reports
    assert (first.adopted, first.discrepancies) == (120, ())
    assert all(view.external for view in stage.broker.open_orders())
    assert words(stage.ever_heard) == ["accepted"] * 120 + ["balances"]


def test_S26_one_of_hundreds_that_is_gone_is_the_only_one_asked_for(stage: Stage) -> None:
    has_open_orders(stage, 300)
    _ = stage.broker
    stage.venue.ends("o177")
    stage.round()
    assert stage.story() == ["cancelled"]
    assert stage.said(OrderCancelled).broker_order_id == "o177"
    assert [lookup["orderId"] for lookup in stage.lookups()] == ["o177"]
    stage.assert_settled()


def test_S26_when_hundreds_are_gone_questions_spread_over_rounds_and_none_is_lost(stage: Stage) -> None:
    has_open_orders(stage, 130)
    _ = stage.broker
    for n in range(130):
        stage.venue.ends(f"o{n}")
    waiting = []
    while stage.broker.open_orders():
        report = stage.round()
        assert report.lookups_made <= 40
        waiting.append(stage.broker.health.lookups_waiting)
        assert report.lookups_waiting == waiting[-1]
    assert waiting == [90, 50, 10, 0]
    assert stage.story() == ["cancelled"] * 130
    stage.assert_settled()


# -- S27: a page that fails --------------------------------------------------------------------------------------------


def failing_page(stage: Stage, cursor: str, error: Exception) -> Any:
    """The page behind ``cursor`` fails until healed."""

    def answer(query: Mapping[str, Any]) -> dict[str, Any]:
        if query.get("cursor", "") == cursor and "orderFilter" not in query:
            raise error
        return stage.venue.answer_realtime(query)

    return stage.always(REALTIME, answer)


def test_S27_a_walk_that_fails_on_page_two_proves_presence_and_never_absence(stage: Stage) -> None:
    has_open_orders(stage, 130)
    _ = stage.broker
    stage.venue.amends("o3", price="99")
    stage.venue.ends("o60")
    stage.venue.ends("o110")
    heal = failing_page(stage, "50", VenueUnavailableError("HTTP 502"))
    report = stage.round()
    path = report.path("orders")
    assert (path.completeness.value, path.rows, report.ok) == ("partial", 50, False)  # type: ignore[union-attr]
    assert "502" in path.problems[0]  # type: ignore[union-attr]
    assert stage.story() == ["modified"], "page one is knowledge; nobody ended"
    assert stage.lookups() == []
    heal()
    stage.round()
    assert stage.story() == ["modified", "cancelled", "cancelled"]
    assert {lookup["orderId"] for lookup in stage.lookups()} == {"o60", "o110"}
    stage.assert_settled()


def test_S27_health_is_degraded_when_it_happens_again_once_and_restored_once(stage: Stage) -> None:
    has_open_orders(stage, 130)
    _ = stage.broker
    heal = failing_page(stage, "50", VenueUnavailableError("HTTP 502"))
    stage.round()
    assert stage.story() == []
    for _ in range(3):
        stage.round()
    assert stage.story() == ["degraded orders"]
    assert "502" in stage.broker.health.degraded["orders"]
    assert stage.broker.health.orders == 12_000, "the age grows from the last complete read"
    assert stage.broker.health.executions == 0
    heal()
    stage.round()
    assert stage.story() == ["degraded orders", "restored orders"]
    assert stage.broker.health.orders == 0


def test_S27_when_one_drawer_fails_nobody_is_missed_in_it(stage: Stage) -> None:
    """Conditionals are listed apart: without their list nobody's absence is known."""
    stage.venue.rests("s1", "cs1", stopOrderType="Stop", orderStatus="Untriggered", triggerPrice="90")
    stage.venue.rests("o1", "m1")
    _ = stage.broker
    assert len(stage.broker.open_orders()) == 2
    stage.venue.ends("o1")

    def answer(query: Mapping[str, Any]) -> dict[str, Any]:
        if query.get("orderFilter") == "StopOrder":
            raise VenueUnavailableError("502")
        return stage.venue.answer_realtime(query)

    heal = stage.always(REALTIME, answer)
    report = stage.round()
    assert report.path("orders").completeness.value == "partial"  # type: ignore[union-attr]
    assert stage.lookups() == []
    assert stage.story() == []
    heal()
    stage.round()
    assert stage.story() == ["cancelled"]
    assert [lookup["orderId"] for lookup in stage.lookups()] == ["o1"]


def test_S27_executions_that_fail_on_page_two_tell_the_first_page_and_the_rest_later(stage: Stage) -> None:
    stage.has_open_order(quantity=Decimal(150))
    for n in range(150):
        stage.pass_ms(1)
        stage.venue.trades(f"e{n}", "1")
    stage.answers(EXECUTIONS, stage.venue.answer_executions, *[VenueUnavailableError("502")] * 2)
    stage.round()
    assert stage.story() == [f"part e{n}" for n in range(50, 150)], "the venue lists the newest first"
    view = stage.broker.order("c1")
    assert (view.is_open, view.venue_status, view.missing_quantity) == (False, "Filled", 50) or view.is_open  # type: ignore[comparison-overlap]
    stage.round()
    assert stage.story()[100:] == [f"part e{n}" for n in range(49)] + ["filled e49"]
    stage.assert_settled()


def test_S28_an_expired_cursor_among_executions_tells_nothing_twice(stage: Stage) -> None:
    stage.has_open_order(quantity=Decimal(150))
    for n in range(150):
        stage.venue.trades(f"e{n}", "1")
    stage.answers(EXECUTIONS, stage.venue.answer_executions, BybitApiError(10001, "cursor expired"))
    assert stage.round().ok
    assert stage.story() == [f"part e{n}" for n in range(149)] + ["filled e149"]


# -- S28: cursors ------------------------------------------------------------------------------------------------------


def test_S28_an_expired_cursor_restarts_the_walk_once(stage: Stage) -> None:
    has_open_orders(stage, 120)
    _ = stage.broker
    stage.answers(REALTIME, stage.venue.answer_realtime, BybitApiError(10001, "cursor expired"))
    report = stage.round()
    assert report.ok
    assert [query.get("cursor", "") for query in listings(stage)] == ["", "50", "", "50", "100"]
    assert stage.story() == []
    assert stage.lookups() == []


def test_S28_a_cursor_that_always_expires_makes_the_read_partial(stage: Stage) -> None:
    has_open_orders(stage, 120)
    _ = stage.broker
    stage.venue.ends("o100")
    heal = failing_page(stage, "50", BybitApiError(10001, "cursor expired"))
    report = stage.round()
    assert report.path("orders").completeness.value == "partial"  # type: ignore[union-attr]
    assert [query.get("cursor", "") for query in listings(stage)] == ["", "50", "", "50"]
    assert stage.story() == []
    assert stage.lookups() == []
    heal()
    stage.round()
    assert stage.story() == ["cancelled"]
    stage.assert_settled()


def test_S28_a_cursor_that_repeats_itself_ends_the_walk_as_partial(stage: Stage) -> None:
    has_open_orders(stage, 120)
    _ = stage.broker
    stage.venue.ends("o100")

    def answer(query: Mapping[str, Any]) -> dict[str, Any]:
        picture = stage.venue.answer_realtime(query)
        if query.get("cursor"):
            picture["result"]["nextPageCursor"] = query["cursor"]
        return picture

    stage.always(REALTIME, answer)
    report = stage.round()
    assert report.path("orders").completeness.value == "partial"  # type: ignore[union-attr]
    assert len(listings(stage)) == 4
    assert stage.story() == []
    assert stage.lookups() == []


def test_S28_cursors_in_a_circle_end_too(stage: Stage) -> None:
    has_open_orders(stage, 120)
    _ = stage.broker
    circle = {"": "a", "a": "b", "b": "a"}

    def answer(query: Mapping[str, Any]) -> dict[str, Any]:
        rows = stage.venue.answer_realtime({**query, "cursor": "0"})["result"]["list"]
        return envelope(rows, cursor=circle[query.get("cursor", "")]) if "orderFilter" not in query else envelope()

    stage.always(REALTIME, answer)
    report = stage.round()
    assert report.path("orders").completeness.value == "partial"  # type: ignore[union-attr]
    assert len(listings(stage)) <= 6
    assert stage.story() == []


def test_S28_a_cursor_behind_the_last_row_is_no_fault(stage: Stage) -> None:
    """A non-empty cursor does not mean more rows (bybit-v5.md, 5)."""
    stage.has_open_order()
    stage.always(
        REALTIME,
        lambda query: envelope(
            [] if query.get("cursor") else stage.venue.answer_realtime(query)["result"]["list"], cursor="more"
        ),
    )
    report = stage.round()
    assert report.ok
    assert stage.story() == []


# -- S29: orders that move between pages -------------------------------------------------------------------------------


def pages(stage: Stage, *listed: list[dict[str, Any]]) -> Any:
    """The open list as told, page by page, whatever is true; by id the truth."""

    def answer(query: Mapping[str, Any]) -> dict[str, Any]:
        if "orderId" in query or "orderLinkId" in query:
            return stage.venue.answer_realtime(query)
        if "orderFilter" in query:
            return envelope()
        at = int(query.get("cursor") or 0)
        return envelope(listed[at], cursor=str(at + 1) if at + 1 < len(listed) else "")

    return stage.always(REALTIME, answer)


def test_S29_a_row_on_two_pages_is_one_order(stage: Stage) -> None:
    stage.has_open_order()
    row = dict(stage.venue.orders["b1"])
    pages(stage, [row], [row])
    report = stage.round()
    assert report.path("orders").rows == 1  # type: ignore[union-attr]
    assert stage.story() == []
    assert len(stage.broker.open_orders()) == 1


@pytest.mark.parametrize("newest_first", [True, False])
def test_S29_of_two_rows_about_one_order_the_one_that_is_further_counts(stage: Stage, newest_first: bool) -> None:
    stage.has_open_order()
    before = dict(stage.venue.orders["b1"])
    stage.venue.trades("e1", "0.4")
    after = dict(stage.venue.orders["b1"])
    pages(stage, *([[after], [before]] if newest_first else [[before], [after]]))
    stage.round()
    assert stage.story() == ["part e1"]
    view = stage.broker.order("c1")
    assert (view.venue_status, view.cum_quantity, view.missing_quantity) == ("PartiallyFilled", Decimal("0.4"), 0)  # type: ignore[comparison-overlap]


def test_S29_a_row_that_slipped_between_the_pages_is_asked_for_and_stays(stage: Stage) -> None:
    has_open_orders(stage, 3)
    _ = stage.broker
    rows = [dict(row) for row in stage.venue.orders.values()]
    heal = pages(stage, [rows[0]], [rows[2]])
    report = stage.round()
    assert report.ok
    assert [lookup["orderId"] for lookup in stage.lookups()] == ["o1"]
    assert stage.story() == []
    assert stage.broker.order(broker_order_id="o1").is_open
    heal()
    stage.assert_settled()
