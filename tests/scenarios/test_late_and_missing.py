"""S49-S53, S77, S78, S80, S84, S87-S91, S94: rows that lag, vanish, come late, or say what nobody has taught us."""

from __future__ import annotations

import contextlib
import threading
from decimal import Decimal
from typing import Any

import pytest

from qkt import MarketOrder, OrderCancelled, OrderFilled, OrderRejected, Side, StopOrder, SubmitOutcome
from qkt.events import FillEvent, HealthDegraded, OrderStatusUnknown
from qkt.model.orders import OrderStatus
from qkt.testing.builders import batch_reply, envelope, execution_row, frame, order_row
from tests.support.stage import CANCEL, CREATE, DAY_MS, EXECUTIONS, HISTORY, LOST, REALTIME, Stage, ids, kinds_of

D = Decimal
HOUR_MS = 3_600_000
MINUTE_MS = 60_000


def push_row(stage: Stage, row: dict[str, Any], topic: str = "order.spot") -> None:
    stage.client.emit_ws_frame(topic, frame(topic, row, created_ms=stage.clock.now_ms()))


# -- S49: rows that lag behind the stream ------------------------------------------------------------------------------


def test_S49_a_row_older_than_the_end_is_ignored_by_round_and_lookup(stage: Stage) -> None:
    stage.has_open_order()
    stale = dict(stage.venue.orders["b1"])
    stage.clock.advance_ms(300)
    stage.venue.ends()
    stage.venue.push_order()
    stage.always(REALTIME, envelope([stale]))
    report = stage.round()
    assert stage.story() == ["cancelled"]
    assert stage.broker.order("c1").is_open is False
    assert report.discrepancies == ()
    assert stage.broker.open_orders() == []


def test_S49_an_open_row_with_the_very_time_of_the_end_does_not_reopen_it(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.ends()
    stage.venue.push_order()
    push_row(stage, {**stage.venue.orders["b1"], "orderStatus": "New"})
    assert stage.story() == ["cancelled"]
    assert stage.broker.order("c1").status is OrderStatus.CANCELLED


def test_S49_what_a_row_says_after_the_end_changes_no_terms(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.ends()
    stage.venue.push_order()
    stage.clock.advance_ms(300)
    push_row(stage, {**stage.venue.orders["b1"], "price": "90", "qty": "7", "updatedTime": stage.venue.now})
    assert stage.story() == ["cancelled"]
    assert (stage.broker.order("c1").limit_price, stage.broker.order("c1").quantity) == (D(100), D(1))


# -- S50: not found is provisional -------------------------------------------------------------------------------------


def test_S50_an_order_in_no_read_is_neither_cancelled_nor_forgotten(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    stage.venue.hidden.add("b1")
    stage.round()
    assert stage.story() == []
    assert stage.broker.order("c1").is_open
    asked = [request.path for request in stage.lookups()]
    assert {REALTIME, HISTORY, EXECUTIONS} <= set(asked)
    assert all(request["symbol"] == "BTCUSDT" for request in stage.lookups())


def test_S50_two_rounds_without_an_answer_say_so_once_and_the_true_event_follows(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    stage.venue.hidden.add("b1")
    for _ in range(4):
        stage.round()
    assert stage.story() == ["unknown"]
    assert stage.said(OrderStatusUnknown).client_order_id == "c1"
    assert stage.broker.order("c1").is_unresolved
    assert stage.broker.health.unresolved == ("c1",)
    stage.venue.hidden.clear()
    stage.round()
    assert stage.story() == ["unknown", "filled e1"]
    stage.assert_settled()


def test_S50_executions_alone_decide_when_realtime_and_history_do_not_know_the_order(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    stage.always(REALTIME, envelope())
    stage.always(HISTORY, envelope())
    stage.round()
    assert stage.story() == ["filled e1"]
    assert stage.broker.order("c1").cum_quantity == D(1)


# -- S51: the venue restarts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("filled", ["", "0.4"])
def test_S51_history_gives_the_verdict_when_realtime_was_wiped(stage: Stage, filled: str) -> None:
    stage.has_open_order()
    if filled:
        stage.venue.trades("e1", filled)
    stage.venue.ends()
    truthful: Any = stage.client.responses[REALTIME]

    def wiped(query: Any) -> Any:
        answer = truthful(query)
        rows = [row for row in answer["result"]["list"] if row["orderStatus"] in ("New", "PartiallyFilled")]
        return envelope(rows)

    stage.always(REALTIME, wiped)
    stage.round()
    assert stage.story() == (["part e1", "cancelled"] if filled else ["cancelled"])
    assert stage.said(OrderCancelled).reason == "CancelByUser"
    assert stage.said(OrderCancelled).cum_quantity == D(filled or 0)
    assert stage.asked(HISTORY)
    stage.assert_settled()


# -- S52: purged -------------------------------------------------------------------------------------------------------


def offline(stage: Stage, for_ms: int) -> None:
    """Time passes and no round is run: the machine slept."""
    stage.clock.advance_ms(for_ms)


def test_S52_an_unfilled_order_gone_for_a_day_ends_as_aged_out_once(stage: Stage) -> None:
    stage.has_open_order()
    offline(stage, DAY_MS + MINUTE_MS)
    stage.venue.forgets("b1")
    reports = [stage.round() for _ in range(3)]
    assert stage.story() == ["cancelled"]
    assert stage.said(OrderCancelled).reason == "aged_out"
    assert stage.said(OrderCancelled).cum_quantity == 0
    assert [kind for report in reports for kind in kinds_of(report)] == ["aged_out"]
    stage.assert_settled()


def test_S52_one_round_alone_never_ages_an_order_out(stage: Stage) -> None:
    stage.has_open_order()
    offline(stage, DAY_MS + MINUTE_MS)
    stage.venue.forgets("b1")
    stage.round()
    assert stage.story() == []


def test_S52_before_its_day_has_passed_it_is_unknown_and_not_over(stage: Stage) -> None:
    stage.has_open_order()
    offline(stage, DAY_MS - HOUR_MS)
    stage.venue.forgets("b1")
    for _ in range(5):
        stage.round()
    assert stage.story() == ["unknown"]
    assert stage.broker.order("c1").is_open


def test_S52_an_order_with_fills_never_ages_out(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.venue.push_execution("e1")
    offline(stage, 2 * DAY_MS)
    stage.venue.forgets("b1")
    for _ in range(3):
        stage.round()
    assert stage.story() == ["part e1", "unknown"]
    assert stage.broker.order("c1").is_open


def test_S52_a_failed_question_is_no_evidence_of_age(stage: Stage) -> None:
    stage.has_open_order()
    offline(stage, DAY_MS + MINUTE_MS)
    stage.venue.forgets("b1")
    stage.always(HISTORY, LOST)
    for _ in range(3):
        report = stage.round()
    assert "cancelled" not in stage.story()
    assert stage.broker.order("c1").is_open
    assert not report.ok


# -- S53: conditional orders -------------------------------------------------------------------------------------------


def has_stop_order(stage: Stage) -> None:
    """A stop of ours, waiting for its trigger: ``c1`` / ``b1``."""
    _ = stage.broker
    stop = {"stopOrderType": "Stop", "triggerPrice": "90", "orderStatus": "Untriggered", "orderType": "Market"}

    def create(body: Any) -> Any:
        assert body["orderFilter"] == "StopOrder"
        stage.venue.rests("b1", "c1", side="Sell", price="0", **stop)
        return ids("b1", "c1")

    stage.answers(CREATE, create)
    order = StopOrder(
        symbol="BYBIT_SPOT:BTCUSDT", side=Side.SELL, quantity=D(1), stop_price=D(90), client_order_id="c1"
    )
    assert stage.broker.submit(order).accepted
    stage.venue.push_order()
    assert stage.story() == ["accepted"]
    stage.pass_ms(10_000)
    stage.forget()


def test_S53_a_waiting_stop_is_open_and_no_absent_order(stage: Stage) -> None:
    has_stop_order(stage)
    stage.round()
    assert stage.story() == []
    assert stage.lookups() == []
    assert stage.broker.order("c1").status is OrderStatus.UNTRIGGERED


def test_S53_untriggered_triggered_new_filled_is_one_order_with_one_end(stage: Stage) -> None:
    has_stop_order(stage)
    for status in ("Triggered", "New"):
        stage.clock.advance_ms(5)
        stage.venue.orders["b1"] |= {"orderStatus": status, "updatedTime": stage.venue.now, "stopOrderType": ""}
        stage.venue.push_order()
        assert stage.broker.order("c1").is_open
    stage.clock.advance_ms(5)
    stage.venue.trades("e1", "1", side="Sell")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    assert stage.story() == ["filled e1"]
    assert len(stage.broker._state.ask(list)) == 1
    stage.assert_settled()


@pytest.mark.parametrize("status", ["Deactivated", "Cancelled"])
@pytest.mark.parametrize("is_told", [True, False])
def test_S53_a_stop_removed_before_its_trigger_is_cancelled(stage: Stage, status: str, is_told: bool) -> None:
    has_stop_order(stage)
    stage.clock.advance_ms(5)
    stage.venue.ends(status=status)
    if is_told:
        stage.venue.push_order()
    stage.round()
    assert stage.story() == ["cancelled"]
    assert stage.broker.order("c1").venue_status == status
    stage.assert_settled()


def test_S53_triggered_is_not_an_end_although_the_venue_lists_it_as_closed(stage: Stage) -> None:
    has_stop_order(stage)
    stage.clock.advance_ms(5)
    stage.venue.orders["b1"] |= {"orderStatus": "Triggered", "updatedTime": stage.venue.now}
    stage.venue.push_order()
    assert stage.story() == []
    assert stage.broker.order("c1").status is OrderStatus.TRIGGERED


# -- S77: words nobody has taught us -----------------------------------------------------------------------------------


def test_S77_an_unknown_status_is_kept_raw_concludes_nothing_and_is_asked_about(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.has_open_order()
    stage.clock.advance_ms(5)
    row = stage.venue.orders["b1"]
    row |= {"updatedTime": stage.venue.now, "orderStatus": "PendingSomethingNew", "somethingNew": {"nested": ["value"]}}
    stage.always(REALTIME, envelope([row]))
    stage.venue.push_order()
    assert stage.story() == []
    view = stage.broker.order("c1")
    assert (view.is_open, view.venue_status) == (True, "PendingSomethingNew")
    assert [record.levelname for record in caplog.records if "PendingSomethingNew" in record.getMessage()] == [
        "WARNING"
    ]
    report = stage.round()
    assert stage.story() == []
    assert report.lookups_made == 1
    assert {request["orderId"] for request in stage.lookups()} == {"b1"}
    assert stage.broker.order("c1").is_open


def test_S77_an_unknown_status_ends_when_the_venue_says_a_known_word(stage: Stage) -> None:
    stage.has_open_order()
    stage.clock.advance_ms(5)
    stage.venue.orders["b1"] |= {"updatedTime": stage.venue.now}
    stage.venue.push_order(orderStatus="PendingSomethingNew")
    stage.clock.advance_ms(5)
    stage.venue.ends()
    stage.venue.push_order()
    assert stage.story() == ["cancelled"]
    stage.assert_settled()


def test_S77_an_outside_order_with_an_unknown_status_crashes_nothing(stage: Stage) -> None:
    stage.has_open_order()
    push_row(stage, order_row(orderId="x1", orderLinkId="", orderStatus="Whatever", createdTime=stage.venue.now))
    assert stage.broker.order(broker_order_id="x1").venue_status == "Whatever"
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    assert stage.story("c1") == ["filled e1"]


def test_S77_a_row_nobody_can_read_is_reported_and_its_neighbours_stand(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    bad = execution_row(execId="e9", side="Sideways", execTime=stage.venue.now)
    stage.client.emit_ws_frame(
        "execution.spot", frame("execution.spot", bad, stage.venue.executions["e1"], created_ms=stage.clock.now_ms())
    )
    assert stage.story() == ["filled e1"]


def test_S77_an_exec_type_that_is_no_trade_fills_nothing(stage: Stage) -> None:
    stage.has_open_order()
    row = execution_row(execId="e9", execType="SomethingNew", execTime=stage.venue.now)
    push_row(stage, row, "execution.spot")
    stage.venue.executions["e9"] = row
    stage.round()
    assert stage.story() == []
    assert stage.broker.order("c1").cum_quantity == 0


# -- S78: sized in quote, or trimmed -----------------------------------------------------------------------------------


def buys_for_quote(stage: Stage) -> None:
    """A market buy for 250 USDT, acknowledged."""
    _ = stage.broker
    stage.answers(CREATE, ids("b1", "c1"))
    order = MarketOrder(
        symbol="BYBIT_SPOT:BTCUSDT", side=Side.BUY, quantity=D(250), quote_sized=True, client_order_id="c1"
    )
    assert stage.broker.submit(order).accepted
    stage.venue.rests("b1", "c1", qty="250.00000", price="0", orderType="Market", marketUnit="quoteCoin", leavesQty="0")


def quote_execution(stage: Stage, exec_id: str, quantity: str) -> dict[str, Any]:
    row = execution_row(
        execId=exec_id,
        execQty=quantity,
        orderQty="0.000",
        orderPrice="0",
        leavesQty="0.000",
        marketUnit="quoteCoin",
        orderType="Market",
        execTime=stage.venue.now,
    )
    stage.venue.executions[exec_id] = row
    return row


@pytest.mark.parametrize("order_first", [True, False])
@pytest.mark.parametrize(
    "status", [("PartiallyFilledCanceled", "EC_CancelForNoFullFill", "UNKNOWN"), ("Filled", "EC_NoError", "UNKNOWN")]
)
def test_S78_a_market_buy_by_quote_that_spent_what_it_could_is_filled(
    stage: Stage, order_first: bool, status: tuple[Any, ...]
) -> None:
    buys_for_quote(stage)
    quote_execution(stage, "e1", "1.4")
    quote_execution(stage, "e2", "0.059")
    word, reason, cancel = status
    stage.venue.orders["b1"] |= {
        "orderStatus": word,
        "rejectReason": reason,
        "cancelType": cancel,
        "cumExecQty": "1.459",
        "updatedTime": stage.venue.now,
    }
    steps = [stage.venue.push_order, lambda: stage.venue.push_execution("e1", "e2")]
    for step in steps if order_first else steps[::-1]:
        step()  # type: ignore[no-untyped-call]
    told = stage.story()
    assert told[0] == "accepted"
    assert told[1:] in (["part e1", "filled e2"], ["part e1", "part e2", "filled"])
    end = stage.said(OrderFilled)
    assert (end.cum_quantity, end.leaves_quantity) == (D("1.459"), None)
    assert all(event.leaves_quantity is None for event in stage.heard if isinstance(event, FillEvent))
    view = stage.broker.order("c1")
    assert (view.status, view.cum_quantity, view.missing_quantity) == (OrderStatus.FILLED, D("1.459"), 0)  # type: ignore[comparison-overlap]
    stage.assert_settled()


def test_S78_a_lot_the_venue_trimmed_is_filled_with_less_than_was_asked(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.9", orderQty="0.9", leavesQty="0")
    stage.venue.orders["b1"] |= {"orderStatus": "Filled", "leavesQty": "0"}
    stage.venue.push_order()
    stage.venue.push_execution("e1")
    assert stage.story() == ["filled e1"]
    assert stage.said(OrderFilled).cum_quantity == D("0.9")
    stage.assert_settled()


def test_S78_a_user_cancel_of_a_limit_buy_with_fills_is_a_cancel(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.venue.ends(rejectReason="EC_PerCancelRequest")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    assert stage.story() == ["part e1", "cancelled"]


# -- S80: who ended it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cause",
    ["CancelBySmp", "CancelByDCP", "CancelByReduceOnly", "CancelByPrepareLiq", "CancelByAdmin", "CancelNewWord"],
)
@pytest.mark.parametrize("is_told", [True, False])
def test_S80_a_cancel_by_the_venue_is_told_once_with_its_cause(stage: Stage, cause: str, is_told: bool) -> None:
    stage.has_open_order()
    stage.clock.advance_ms(5)
    stage.venue.ends(cancelType=cause)
    if is_told:
        stage.venue.push_order()
    stage.round()
    assert stage.story() == ["cancelled"]
    assert stage.said(OrderCancelled).reason == cause
    assert stage.broker.order("c1").reason == cause


# -- S84: cancel-all races a submit ------------------------------------------------------------------------------------


def test_S84_an_order_under_way_during_cancel_all_is_cancelled_when_it_appears(stage: Stage) -> None:
    stage.has_open_order("c1")

    def cancel_all_meanwhile(body: Any) -> Any:
        acks = stage.broker.cancel_all()
        assert {ack.client_order_id: ack.outcome for ack in acks} == {
            "c1": SubmitOutcome.ACCEPTED,
            "c2": SubmitOutcome.UNKNOWN,
        }
        return stage.venue.create(body)

    stage.answers(CREATE, cancel_all_meanwhile)
    assert stage.submit("c2").accepted
    stage.venue.push_order("b2")
    stage.pass_ms(10)
    assert [request.get("orderId") for request in stage.asked(CANCEL)] == ["b1", "b2"]
    for order in ("b1", "b2"):
        stage.clock.advance_ms(5)
        stage.venue.ends(order)
        stage.venue.push_order(order)
    assert stage.story("c1") == ["cancelled"]
    assert stage.story("c2") == ["accepted", "cancelled"]
    stage.assert_settled()


def test_S84_each_order_of_a_cancel_all_ends_on_its_own_evidence(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.has_open_order("c2")
    stage.has_open_order("c3")
    stage.client.responses["/v5/order/cancel-batch"] = lambda request: batch_reply(request, 0, 170213, 170147)
    stage.venue.trades("e2", "1", order_id="b2")
    stage.broker.cancel_all()
    assert stage.story("c2") == ["cancel failed", "filled e2"]
    assert stage.story("c1") == stage.story("c3") == []
    stage.clock.advance_ms(5)
    stage.venue.ends("b1")
    stage.pass_ms(120_000)
    assert stage.story("c1") == ["cancelled"]
    assert stage.story("c3") == ["cancel failed"]
    assert stage.broker.order("c3").is_open
    stage.assert_settled()


def test_S84_cancel_all_leaves_outside_orders_alone_unless_told(stage: Stage) -> None:
    stage.has_open_order("c1")
    push_row(stage, stage.venue.rests("x1", "from-the-app"))
    assert [ack.client_order_id for ack in stage.broker.cancel_all()] == ["c1"]
    assert len(stage.broker.cancel_all(include_external=True)) == 2


# -- S87: a fill after the end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_frame", [True, False])
def test_S87_an_execution_shown_after_the_end_is_told_once_as_late(stage: Stage, by_frame: bool) -> None:
    stage.has_open_order()
    stage.venue.ends(status="Cancelled")
    stage.venue.push_order()
    assert stage.story() == ["cancelled"]
    stage.venue.executions["e1"] = execution_row(execId="e1", execQty="0.3", leavesQty="0.7", execTime=stage.venue.now)
    if by_frame:
        stage.venue.push_execution("e1")
        stage.venue.push_execution("e1")
    report = stage.round()
    assert stage.story() == ["cancelled", "part e1 late"]
    assert kinds_of(report) == ["late_fill"]
    view = stage.broker.order("c1")
    assert (view.is_open, view.status, view.cum_quantity) == (False, OrderStatus.CANCELLED, D("0.3"))
    assert [fill.exec_id for fill in stage.broker.fills("c1")] == ["e1"]
    stage.assert_settled()


def test_S87_a_malformed_row_that_is_repaired_is_told_late(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    whole = stage.venue.executions["e1"]
    stage.venue.executions["e1"] = {**whole, "execQty": "not-a-number"}
    stage.venue.push_order()
    stage.pass_ms(130_000)  # the wait for the missing execution is bounded
    assert stage.story("c1") == ["filled"]
    stage.venue.executions["e1"] = whole
    report = stage.round()
    assert stage.story("c1") == ["filled", "filled e1 late"] or stage.story("c1") == ["filled", "part e1 late"]
    assert "late_fill" in kinds_of(report)
    assert stage.broker.order("c1").missing_quantity == 0
    stage.assert_settled()


# -- S88: executions that never come -----------------------------------------------------------------------------------


def ends_with_missing_fills(stage: Stage, status: str = "Filled") -> None:
    """Of five, three are seen; the venue says the order is over with all five."""
    stage.has_open_order(quantity=D(5))
    stage.venue.trades("e1", "3", orderQty="5", leavesQty="2")
    stage.venue.push_execution("e1")
    stage.clock.advance_ms(5)
    stage.venue.orders["b1"] |= {"orderStatus": status, "cumExecQty": "5", "updatedTime": stage.venue.now}
    stage.venue.push_order()


def test_S88_the_view_shows_the_end_and_what_is_missing_at_once(stage: Stage) -> None:
    ends_with_missing_fills(stage)
    view = stage.broker.order("c1")
    assert (view.is_open, view.venue_status, view.missing_quantity) == (False, "Filled", D(2))
    assert stage.story() == ["part e1"]


@pytest.mark.parametrize(
    ("status", "end", "kind"), [("Filled", "filled", OrderFilled), ("Cancelled", "cancelled", OrderCancelled)]
)
def test_S88_after_the_hold_the_end_is_told_once_with_venue_quantity_and_an_alarm(
    stage: Stage, status: str, end: str, kind: Any
) -> None:
    ends_with_missing_fills(stage, status)
    stage.pass_ms(59_000)
    assert stage.story("c1") == ["part e1"]
    stage.pass_ms(91_000)
    assert stage.story("c1") == ["part e1", end]
    assert stage.said(kind).cum_quantity == D(5)
    if kind is OrderFilled:
        assert (stage.said(kind).quantity, stage.said(kind).exec_id) == (0, "")
    assert [event.domain for event in stage.heard if isinstance(event, HealthDegraded)] == ["executions"]
    assert [kind for report in stage.broker.reports for kind in kinds_of(report)].count("missing_fills") == 1
    assert stage.broker.order("c1").missing_quantity == D(2)


def test_S88_without_a_complete_read_by_id_the_end_waits_on(stage: Stage) -> None:
    ends_with_missing_fills(stage)
    truthful: Any = stage.client.responses[EXECUTIONS]

    def fails_by_id(query: Any) -> Any:
        return LOST if "orderId" in query else truthful(query)

    heal = stage.always(EXECUTIONS, fails_by_id)
    stage.pass_ms(300_000)
    assert stage.story("c1") == ["part e1"]
    heal()
    stage.pass_ms(30_000)
    assert stage.story("c1") == ["part e1", "filled"]


def test_S88_executions_that_come_within_the_hold_are_told_before_the_end(stage: Stage) -> None:
    ends_with_missing_fills(stage)
    stage.venue.executions["e2"] = execution_row(
        execId="e2", execQty="2", orderQty="5", leavesQty="0", execTime=stage.venue.now
    )
    stage.pass_ms(30_000)
    assert stage.story() == ["part e1", "filled e2"]
    assert stage.broker.order("c1").missing_quantity == 0
    stage.assert_settled()


def test_S88_executions_that_come_after_the_hold_are_late(stage: Stage) -> None:
    ends_with_missing_fills(stage)
    stage.pass_ms(150_000)
    stage.venue.executions["e2"] = execution_row(
        execId="e2", execQty="2", orderQty="5", leavesQty="0", execTime=stage.venue.now
    )
    stage.pass_ms(30_000)
    told = stage.story("c1")
    assert told[:2] == ["part e1", "filled"]
    assert told[2:] in (["part e2 late"], ["filled e2 late"])
    assert stage.broker.order("c1").missing_quantity == 0
    stage.assert_settled()


# -- S89: a cancel of an order nobody can see --------------------------------------------------------------------------


def test_S89_the_cancel_of_an_unresolved_order_is_sent_when_the_order_appears(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    assert stage.submit("c1").outcome is SubmitOutcome.UNKNOWN
    assert stage.broker.cancel("c1").outcome is SubmitOutcome.UNKNOWN
    assert stage.asked(CANCEL) == []
    stage.venue.rests("b1", "c1")
    stage.pass_ms(10_000)
    assert [request["orderId"] for request in stage.asked(CANCEL)] == ["b1"]
    assert stage.story() == ["accepted"]
    stage.venue.ends()
    stage.venue.push_order()
    assert stage.story() == ["accepted", "cancelled"]
    stage.assert_settled()
    assert len(stage.asked(CANCEL)) == 1


def test_S89_the_cancel_is_sent_once_when_a_frame_shows_the_order_first(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit("c1")
    stage.broker.cancel("c1")
    stage.venue.rests("b1", "c1")
    stage.venue.push_order()
    stage.venue.push_order()
    stage.pass_ms(60_000)
    assert len(stage.asked(CANCEL)) == 1


def test_S89_two_threads_that_find_the_order_at_once_send_one_cancel(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.answers(CREATE, LOST)
    stage.submit("c1")
    stage.broker.cancel("c1")
    both = threading.Barrier(2)
    ask = stage.broker._state.ask

    def meet(question: Any) -> Any:
        answer = ask(question)
        if isinstance(answer, tuple) and any(getattr(order, "client_order_id", "") == "c1" for order in answer):
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.3)
        return answer

    monkeypatch.setattr(stage.broker._state, "ask", meet)
    stage.venue.rests("b1", "c1")
    stage.venue.push_order()
    threads = [threading.Thread(target=stage.broker._order_entry.send_due_cancels) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(stage.asked(CANCEL)) == 1


def test_S89_an_order_that_appears_filled_fails_the_cancel_and_nothing_is_sent(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit("c1")
    stage.broker.cancel("c1")
    stage.venue.rests("b1", "c1")
    stage.venue.trades("e1", "1")
    stage.pass_ms(10_000)
    assert stage.story() == ["accepted", "cancel failed", "filled e1"]
    assert stage.asked(CANCEL) == []
    stage.assert_settled()


def test_S89_an_order_that_never_arrived_fails_the_cancel_and_is_rejected(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit("c1")
    stage.broker.cancel("c1")
    stage.pass_ms(120_000)
    assert sorted(stage.story()) == ["cancel failed", "rejected"]
    assert stage.asked(CANCEL) == []


def test_S89_not_found_about_an_acknowledged_order_means_not_visible_yet(stage: Stage) -> None:
    _ = stage.broker
    stage.answers(CREATE, ids("b1", "c1"))
    stage.submit("c1")
    ack = stage.broker.cancel("c1")
    assert stage.story() == []
    assert ack.outcome is SubmitOutcome.UNKNOWN
    stage.venue.rests("b1", "c1")
    stage.pass_ms(40_000)
    assert stage.story() == ["accepted"]
    assert len(stage.asked(CANCEL)) == 2
    stage.venue.ends()
    stage.venue.push_order()
    assert stage.story() == ["accepted", "cancelled"]


def test_S89_a_remembered_cancel_that_cannot_be_sent_is_remembered_on(stage: Stage) -> None:
    from qkt.errors import VenueUnavailableError

    stage.answers(CREATE, LOST)
    stage.submit("c1")
    stage.broker.cancel("c1")
    stage.answers(CANCEL, VenueUnavailableError("no connection"))
    stage.venue.rests("b1", "c1")
    stage.pass_ms(60_000)
    assert len(stage.asked(CANCEL)) == 2
    assert stage.story() == ["accepted"]


# -- S90: back from the dead -------------------------------------------------------------------------------------------


def never_arrives(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit("c1")
    stage.pass_ms(120_000)
    assert stage.story() == ["rejected"]
    assert stage.said(OrderRejected).reason == "never_arrived"


def test_S90_an_order_that_appears_after_all_is_accepted_alarmed_and_managed(stage: Stage) -> None:
    never_arrives(stage)
    stage.clock.advance_ms(HOUR_MS)
    stage.forget()
    stage.venue.rests("b1", "c1")
    report = stage.round()
    assert stage.story("c1") == ["accepted"]
    assert [event.domain for event in stage.heard if isinstance(event, HealthDegraded)] == ["resurrected"]
    assert kinds_of(report) == ["resurrected"]
    view = stage.broker.order("c1")
    assert (view.is_open, view.external, view.status) == (True, False, OrderStatus.NEW)
    assert stage.broker.cancel("c1").accepted
    assert stage.asked(CANCEL)[0]["orderId"] == "b1"


@pytest.mark.parametrize("by_frame", [True, False])
def test_S90_its_fills_count(stage: Stage, by_frame: bool) -> None:
    never_arrives(stage)
    stage.clock.advance_ms(HOUR_MS)
    stage.forget()
    stage.venue.rests("b1", "c1")
    stage.venue.trades("e1", "1")
    if by_frame:
        stage.venue.push_execution("e1")
        stage.venue.push_order()
    report = stage.round()
    assert stage.story("c1") == ["accepted", "filled e1"]
    assert all(not event.late for event in stage.heard if isinstance(event, FillEvent))
    assert stage.broker.order("c1").cum_quantity == D(1)
    assert [event.domain for event in stage.heard if isinstance(event, HealthDegraded)] == ["resurrected"]
    assert kinds_of(report).count("resurrected") == 1
    stage.assert_settled()


# -- S91: the protective price of a triggered market order -------------------------------------------------------------


def test_S91_a_triggered_market_order_is_not_modified_by_its_protective_price(stage: Stage) -> None:
    has_stop_order(stage)
    for status in ("Triggered", "New"):
        stage.clock.advance_ms(5)
        stage.venue.orders["b1"] |= {"orderStatus": status, "price": "85.5", "updatedTime": stage.venue.now}
        stage.venue.push_order()
    stage.round()
    assert stage.story() == []
    assert stage.broker.order("c1").limit_price is None


def test_S91_nor_when_the_trigger_price_is_no_longer_printed(stage: Stage) -> None:
    has_stop_order(stage)
    stage.clock.advance_ms(5)
    stage.venue.orders["b1"] |= {
        "orderStatus": "New",
        "price": "85.5",
        "triggerPrice": "0.00",
        "stopOrderType": "",
        "updatedTime": stage.venue.now,
    }
    stage.venue.push_order()
    assert stage.story() == []
    assert stage.broker.order("c1").stop_price == D(90)


# -- S94: a round a moment ahead of the stream -------------------------------------------------------------------------


def test_S94_a_fill_a_round_sees_before_its_frame_is_told_once_and_is_no_discrepancy(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    report = stage.round(after_ms=30)
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    assert stage.story() == ["part e1"]
    assert report.discrepancies == ()
    stage.assert_settled()


def test_S94_an_end_a_round_sees_before_its_frame_is_no_discrepancy(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.ends()
    report = stage.round(after_ms=30)
    stage.venue.push_order()
    assert stage.story() == ["cancelled"]
    assert report.discrepancies == ()


def test_S94_what_the_stream_owed_for_longer_is_a_discrepancy(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    report = stage.round(after_ms=2_000)
    assert kinds_of(report) == ["missed_fill"]
    assert report.discrepancies[0].wrong_for_ms == 2_000
