"""S30-S38: what was read, how completely, and what a broken answer is not."""

from __future__ import annotations

import random
from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise, permutations
from typing import Any

import pytest

from qkt import EventBus, OrderFilled, OrderRejected, ReconcileError
from qkt.broker.protocol import SubmitOutcome
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import VenueUnavailableError
from qkt.events import FillEvent
from qkt.testing.builders import envelope, execution_row, refusal
from tests.support.stage import (
    BALANCES,
    CREATE,
    DAY_MS,
    EXECUTIONS,
    HISTORY,
    LOST,
    NOW_MS,
    REALTIME,
    WALLET,
    Stage,
    kinds_of,
    words,
)


def windows_asked(stage: Stage) -> list[Mapping[str, Any]]:
    return [query for query in stage.asked(EXECUTIONS) if "startTime" in query]


# -- S30: many executions at one time ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_S30_executions_of_one_millisecond_on_several_pages_are_told_once_in_order(stage: Stage, seed: int) -> None:
    stage.has_open_order(quantity=Decimal("2.5"))
    names = [f"x{n * 77 % 251}" for n in range(250)]  # in no alphabetical order
    for name in names:
        stage.venue.trades(name, "0.01", seq=7)
    rows = [stage.venue.executions[name] for name in names]
    random.Random(seed).shuffle(rows)
    stage.venue.executions = {row["execId"]: row for row in rows}
    report = stage.round()
    assert [query.get("cursor", "") for query in windows_asked(stage)] == ["", "100", "200"]
    assert stage.story() == [f"part {name}" for name in names[:-1]] + [f"filled {names[-1]}"]
    fills = [event for event in stage.heard if isinstance(event, FillEvent)]
    assert [fill.cum_quantity for fill in fills] == [Decimal(n) / 100 for n in range(1, 251)]
    assert [fill.leaves_quantity for fill in fills] == [Decimal("2.5") - Decimal(n) / 100 for n in range(1, 251)]
    assert [fill.exec_id for fill in stage.broker.fills("c1")] == names
    assert kinds_of(report) == ["missed_fill"] * 250
    stage.assert_settled()


def test_S30_executions_of_two_orders_at_one_time_keep_each_orders_own_order(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.has_open_order("c2")
    for n in range(10):
        stage.venue.trades(f"a{9 - n}", "0.1", order_id="b1", seq=7)
        stage.venue.trades(f"b{9 - n}", "0.1", order_id="b2", seq=7)
    stage.round()
    for client_order_id, name in (("c1", "a"), ("c2", "b")):
        told = [f"part {name}{9 - n}" for n in range(9)] + [f"filled {name}0"]
        assert stage.story(client_order_id) == told


def test_S30_where_the_leaves_do_not_tell_the_execution_id_decides(stage: Stage) -> None:
    stage.has_open_order()
    for exec_id in ("e3", "e1", "e2"):
        stage.venue.trades(exec_id, "0.2", seq=7, leavesQty="")
    stage.round()
    assert stage.story() == ["part e1", "part e2", "part e3"]


@pytest.mark.parametrize("order", list(permutations(["e1", "e2", "e3"])))
def test_S30_one_frame_with_several_executions_tells_each_once(stage: Stage, order: Any) -> None:
    stage.has_open_order()
    for exec_id in ("e1", "e2", "e3"):
        stage.venue.trades(exec_id, "0.2")
    stage.venue.push_execution(*order)
    stage.round()
    assert stage.story() == [f"part {exec_id}" for exec_id in order]


# -- S31: page one is known already ------------------------------------------------------------------------------------


def test_S31_a_page_of_known_executions_does_not_end_the_walk(stage: Stage) -> None:
    stage.has_open_order(quantity=Decimal(200))
    stage.venue.trades("missed", "1")
    stage.pass_ms(1_000)
    for n in range(150):
        stage.venue.trades(f"e{n}", "1")
        stage.venue.push_execution(f"e{n}")
    stage.forget()
    report = stage.round()
    assert stage.story() == ["part missed"]
    assert kinds_of(report) == ["missed_fill"]
    assert report.path("executions").pages == 2  # type: ignore[union-attr]
    stage.assert_settled()


# -- S32: more than seven days -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("days", [6.9, 8, 15, 40])
def test_S32_a_long_gap_is_read_in_explicit_windows_up_to_now(stage: Stage, days: float) -> None:
    stage.has_open_order(quantity=Decimal(1000))
    stage.broker.reconcile()
    stage.forget()
    began_ms = stage.clock.now_ms()
    told = []
    for n in range(20):
        stage.clock.advance_ms(int(days * DAY_MS / 20))
        stage.venue.trades(f"e{n}", "1")
        told.append(f"part e{n}")
    stage.round(after_ms=60_000)
    assert stage.story() == told
    asked = sorted((int(query["startTime"]), int(query["endTime"])) for query in windows_asked(stage))
    assert asked[0][0] <= began_ms - 60_000, "the overlap"
    assert asked[-1][1] == stage.clock.now_ms()
    assert all(until - begin <= 7 * DAY_MS for begin, until in asked)
    assert all(until >= begin for (_, until), (begin, _) in pairwise(asked)), "no hole"
    assert len(asked) == int(days // 7) + 1
    stage.assert_settled()


def test_S32_behind_a_window_that_failed_everything_is_read_again(stage: Stage) -> None:
    stage.has_open_order(quantity=Decimal(1000))
    stage.broker.reconcile()
    stage.forget()
    for n in range(20):
        stage.clock.advance_ms(DAY_MS)
        stage.venue.trades(f"e{n}", "1")
    stage.answers(EXECUTIONS, stage.venue.answer_executions, VenueUnavailableError("502"))
    report = stage.round()
    assert not report.ok
    assert len(windows_asked(stage)) == 2, "what lies behind a hole is not read now"
    stage.round()
    assert {one for one in stage.story() if one.startswith("part")} == {f"part e{n}" for n in range(20)}
    stage.assert_settled()


# -- S33: shown late ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"recovery_window_ms": 0}, {"recovery_window_ms": 3_600_000}])
def test_S33_an_execution_that_shows_behind_the_watermark_is_told_once(stage: Stage, options: dict[str, int]) -> None:
    stage.open(**options)
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    before = dict(stage.venue.orders["b1"])
    stage.venue.hidden.add("e1")
    stage.venue.orders["b1"] |= {"cumExecQty": "0", "orderStatus": "New"}  # the row lags as well
    stage.round()
    stage.round(after_ms=40_000)
    assert stage.story() == []
    stage.venue.hidden.clear()
    stage.venue.orders["b1"] = before
    stage.round()
    stage.round()
    assert stage.story() == ["part e1"]
    stage.assert_settled()


def test_S33_later_than_every_overlap_the_orders_own_sum_fetches_it(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.venue.hidden.add("e1")
    stage.round()
    stage.round(after_ms=3_600_000)
    assert stage.story() == []
    assert stage.broker.order("c1").missing_quantity == Decimal("0.4")
    stage.venue.hidden.clear()
    stage.round()
    assert stage.story() == ["part e1"]
    assert stage.broker.order("c1").missing_quantity == 0
    stage.assert_settled()


def test_S33_the_watermark_is_the_venues_time_and_follows_complete_windows_only(stage: Stage) -> None:
    stage.client.clock_offset_ms = 8_000
    stage.has_open_order()
    heal = stage.always(EXECUTIONS, VenueUnavailableError("502"))
    for _ in range(3):
        stage.round(after_ms=600_000)
    heal()
    stage.forget()
    stage.round(after_ms=0)
    (window,) = windows_asked(stage)
    assert int(window["endTime"]) == stage.clock.now_ms() + 8_000
    assert int(window["endTime"]) - int(window["startTime"]) >= 3 * 600_000, "back to the last complete window"


# -- S34: the clock ----------------------------------------------------------------------------------------------------


def test_S34_a_submit_refused_for_its_timestamp_is_a_definite_rejection(stage: Stage) -> None:
    stage.answers(CREATE, refusal(10002, "invalid request, please check your server timestamp"))
    ack = stage.submit()
    assert ack.outcome is SubmitOutcome.REJECTED
    assert words(stage.heard) == ["rejected"]
    assert "10002" in stage.said(OrderRejected).reason
    stage.pass_ms(90_000)
    assert stage.lookups() == []
    assert stage.story() == ["rejected"]


@pytest.mark.parametrize("path", [REALTIME, EXECUTIONS, WALLET])
def test_S34_a_read_refused_for_its_timestamp_is_a_failed_read(stage: Stage, path: str) -> None:
    stage.has_open_order()
    stage.always(path, refusal(10002))
    report = stage.round()
    assert len(report.failures) == 1
    assert stage.story() == []
    assert stage.broker.order("c1").is_open


@pytest.mark.parametrize("offset_ms", [8_000, -8_000])
def test_S34_non_arrival_is_judged_by_the_venues_clock(stage: Stage, offset_ms: int) -> None:
    stage.client.clock_offset_ms = offset_ms
    stage.answers(CREATE, LOST)
    stage.submit()
    stage.pass_ms(20_199)
    assert stage.story() == []
    stage.pass_ms(1)
    assert stage.story() == ["rejected"]


# -- S35: asked too often (that the client waits and keeps a reserve is shown on the wire) -----------------------------


@pytest.mark.parametrize("path", [REALTIME, EXECUTIONS, WALLET])
def test_S35_a_read_turned_away_is_a_failed_read_and_the_next_one_heals(stage: Stage, path: str) -> None:
    stage.has_open_order()
    stage.venue.ends("b1")
    heal = stage.always(path, refusal(10006, "Too many visits!"))
    assert len(stage.round().failures) == 1
    heal()
    stage.round()
    assert stage.story() == ["cancelled"]
    stage.assert_settled()


# -- S36, S37, S38: broken answers -------------------------------------------------------------------------------------

NOT_JSON = {
    "html": "<html><body><h1>502 Bad Gateway</h1></body></html>",
    "empty": "",
    "truncated": '{"retCode":0,"retMsg":"OK","result":{"list":[{"orderId":"b1","or',
    "null": "null",
    "list": "[]",
    "number": "0",
}
NO_LIST = {
    "empty result": {**envelope(), "result": {}},
    "null result": {**envelope(), "result": None},
    "no result": {"retCode": 0, "retMsg": "OK"},
    "result is a list": {**envelope(), "result": []},
    "null list": {**envelope(), "result": {"list": None, "nextPageCursor": ""}},
    "list is an object": {**envelope(), "result": {"list": {}, "nextPageCursor": ""}},
    "list is text": {**envelope(), "result": {"list": "[]"}},
    "no retCode": {"retMsg": "OK", "result": {"list": []}},
    "retCode is text": {"retCode": "0", "result": {"list": []}},
}
FAILED = {"gone": VenueUnavailableError("HTTP 502"), "reset": ConnectionResetError()}
BROKEN = [pytest.param(body, id=name) for name, body in {**NOT_JSON, **NO_LIST, **FAILED}.items()]
DOMAINS = {REALTIME: "orders", EXECUTIONS: "executions", WALLET: "balances"}


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("path", DOMAINS)
def test_S36_S37_S38_a_broken_answer_is_a_failed_read_and_never_an_empty_one(
    stage: Stage, path: str, body: Any
) -> None:
    stage.has_open_order()
    domain = DOMAINS[path]
    stage.broker.reconcile()
    stage.forget()
    heal = stage.always(path, body)
    report = stage.round()
    assert [(failure.path, failure.completeness.value) for failure in report.failures] == [(domain, "failed")]
    assert report.path(domain).problems  # type: ignore[union-attr]
    assert stage.story() == []
    assert stage.lookups() == []
    assert stage.broker.order("c1").is_open
    assert stage.client.balances == {"USDT": Decimal(1000)}
    assert (BALANCES in words(stage.heard)) is (path != WALLET), "the paths fail separately"
    stage.round()
    stage.round()
    assert stage.story() == [f"degraded {domain}"]
    assert getattr(stage.broker.health, domain) == 9_000
    heal()
    stage.round()
    assert stage.story() == [f"degraded {domain}", f"restored {domain}"]
    stage.assert_settled()


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("path", DOMAINS)
def test_S36_S37_S38_a_broken_answer_at_the_start_fails_loud(stage: Stage, path: str, body: Any) -> None:
    stage.client.responses[path] = body
    with pytest.raises(ReconcileError) as raised:
        BybitSpotBroker(stage.client, EventBus(), stage.clock, poll_scheduler=stage.scheduler)
    assert [failure.path for failure in raised.value.report.failures] == [DOMAINS[path]]
    assert DOMAINS[path] in str(raised.value)
    assert stage.scheduler.schedules == ()


@pytest.mark.parametrize("body", BROKEN)
@pytest.mark.parametrize("path", [REALTIME, HISTORY, EXECUTIONS])
def test_S36_S37_S38_a_broken_answer_by_id_proves_nothing(stage: Stage, path: str, body: Any) -> None:
    stage.answers(CREATE, LOST)
    _ = stage.broker
    truthful: Any = stage.client.responses[path]

    def answer(query: Mapping[str, Any]) -> Any:
        if "orderLinkId" not in query:
            return truthful(query)
        if isinstance(body, Exception):
            raise body
        return body

    stage.client.responses[path] = answer
    stage.submit()
    stage.pass_ms(90_000)
    assert stage.story() == ["degraded lookups"]
    assert stage.broker.health.unresolved == ("c1",)


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in NOT_JSON.items()])
def test_S37_a_create_with_a_broken_reply_is_unresolved_and_then_found(stage: Stage, body: str) -> None:
    def create(request: Any) -> Any:
        stage.venue.create(request)
        return body

    stage.answers(CREATE, create)
    assert stage.submit().outcome is SubmitOutcome.UNKNOWN
    assert stage.heard == []
    assert stage.broker.health.unresolved == ("c1",)
    stage.pass_ms(200)
    assert stage.story() == ["accepted"]
    assert len(stage.client.posts) == 1
    stage.assert_settled()


@pytest.mark.parametrize("body", [pytest.param(body, id=name) for name, body in NOT_JSON.items()])
def test_S37_a_create_with_a_broken_reply_is_rejected_once_its_absence_is_proved(stage: Stage, body: str) -> None:
    stage.answers(CREATE, body)
    stage.submit()
    stage.pass_ms(15_000)
    assert stage.story() == []
    stage.pass_ms(5_200)
    assert stage.story() == ["rejected"]
    assert stage.said(OrderRejected).reason == "never_arrived"


def test_S37_an_answer_without_an_order_id_names_the_order_by_ours(stage: Stage) -> None:
    def create(request: Any) -> dict[str, Any]:
        stage.venue.create(request)
        return {**envelope(), "result": {}}

    stage.answers(CREATE, create)
    stage.submit()
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    assert stage.story() == ["accepted", "filled e1"]
    assert not stage.said(OrderFilled).external
    stage.assert_settled()


def test_S38_one_broken_row_is_reported_and_asked_for_and_the_others_stand(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.has_open_order("c2")
    stage.venue.amends("b2", price="99")
    healthy = dict(stage.venue.orders["b1"])
    stage.venue.orders["b1"]["cumExecQty"] = "not-a-number"
    report = stage.round()
    (bad,) = report.path("orders").malformed  # type: ignore[union-attr]
    assert (bad.broker_order_id, "cumExecQty" in bad.excerpt) == ("b1", True)
    assert stage.story() == ["modified"]
    assert {lookup["orderId"] for lookup in stage.lookups()} == {"b1"}
    assert stage.broker.order("c1").is_open
    stage.venue.orders["b1"] = healthy
    stage.round()
    assert stage.story("c1") == []
    stage.assert_settled()


def test_S38_one_broken_execution_is_reported_and_the_others_are_told(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.venue.trades("e2", "0.3")
    healthy = dict(stage.venue.executions["e1"])
    stage.venue.executions["e1"]["execQty"] = None
    report = stage.round()
    assert [bad.broker_order_id for bad in report.path("executions").malformed] == ["b1"]  # type: ignore[union-attr]
    assert stage.story() == ["part e2"]
    assert stage.broker.order("c1").missing_quantity == Decimal("0.4")
    stage.venue.executions["e1"] = healthy
    stage.round()
    assert stage.story() == ["part e2", "part e1"]
    stage.assert_settled()


def test_S38_a_row_that_is_no_object_is_reported_too(stage: Stage) -> None:
    stage.has_open_order()
    row = dict(stage.venue.orders["b1"])
    stage.answers(REALTIME, envelope() | {"result": {"list": ["junk", None, 7, row], "nextPageCursor": ""}})
    report = stage.round()
    assert len(report.path("orders").malformed) == 3  # type: ignore[union-attr]
    assert stage.story() == []


def test_S38_an_account_without_coins_is_empty_and_one_without_a_list_is_not(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.wallet = {}
    stage.round()
    assert stage.client.balances == {"USDT": 0}
    stage.always(WALLET, envelope([{"accountType": "UNIFIED"}]))
    assert not stage.round().ok


def test_the_stages_rows_are_what_the_venue_sends() -> None:
    """A guard of this file: a broken builder row would make every test above vacuous."""
    assert {"execId", "orderId", "execQty", "orderQty", "leavesQty", "execTime"} <= set(execution_row())
    assert NOW_MS > 0
