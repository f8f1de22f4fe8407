"""S10, S11, S21, S22: a cancel and an amend are requests; only the venue's word on the order ends or changes it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qkt import OrderCancelFailed, OrderCancelled, OrderModification, OrderModified, OrderModifyFailed
from qkt.broker.protocol import SubmitOutcome
from qkt.model.orders import OrderStatus
from qkt.testing.builders import refusal
from tests.support.stage import AMEND, CANCEL, LOST, REALTIME, Stage, kinds_of

ARRIVAL_MS = 15_000
CHEAPER = OrderModification(new_limit_price=Decimal(99))


def done_and_lost(stage: Stage, path: str, *happenings: Any) -> None:
    """The next request of this kind is carried out, and its reply never comes."""

    def answer(_body: Any) -> None:
        for happening in happenings:
            happening()
        raise LOST

    stage.answers(path, answer)


# -- S10: cancelled, and the reply lost --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "tellers", [["frame"], ["lookup"], ["round"], ["frame", "lookup", "round"], ["round", "frame"]]
)
def test_S10_a_cancel_whose_reply_is_lost_is_told_once_whoever_tells_it(stage: Stage, tellers: list[str]) -> None:
    stage.has_open_order()
    done_and_lost(stage, CANCEL, lambda: stage.venue.ends("b1"))
    ack = stage.broker.cancel("c1")
    assert (ack.outcome, ack.client_order_id, ack.broker_order_id) == (SubmitOutcome.UNKNOWN, "c1", "b1")
    assert stage.story() == [], "nobody knows yet"
    assert stage.broker.order("c1").is_open
    for teller in tellers:
        {"frame": stage.venue.push_order, "lookup": lambda: stage.pass_ms(1_000), "round": stage.round}[teller]()  # type: ignore[operator]
    assert stage.story() == ["cancelled"]
    assert stage.said(OrderCancelled).reason == "CancelByUser"
    stage.pass_ms(60_000)
    assert stage.story() == ["cancelled"]
    assert [post.path for post in stage.client.posts] == [CANCEL], "it is not sent again"
    stage.assert_settled()


def test_S10_fills_before_the_lost_cancel_are_told_before_its_end(stage: Stage) -> None:
    stage.has_open_order()
    done_and_lost(stage, CANCEL, lambda: stage.venue.trades("e1", "0.3"), lambda: stage.venue.ends("b1"))
    stage.broker.cancel("c1")
    stage.pass_ms(1_000)
    assert stage.story() == ["part e1", "cancelled"]
    assert stage.said(OrderCancelled).cum_quantity == Decimal("0.3")
    stage.assert_settled()


@pytest.mark.parametrize("ret_code", [10000, 10016, 170007, 170147, 987654])
def test_S10_an_ambiguous_code_on_a_cancel_proves_nothing_either(stage: Stage, ret_code: int) -> None:
    stage.has_open_order()

    def cancel(_body: Any) -> Any:
        stage.venue.ends("b1")
        return refusal(ret_code, "timeout")

    stage.answers(CANCEL, cancel)
    assert stage.broker.cancel("c1").outcome is SubmitOutcome.UNKNOWN
    assert stage.story() == []
    stage.pass_ms(1_000)
    assert stage.story() == ["cancelled"]
    stage.assert_settled()


def test_S10_acknowledged_is_not_cancelled(stage: Stage) -> None:
    stage.has_open_order()
    assert stage.broker.cancel("c1").outcome is SubmitOutcome.ACCEPTED
    stage.pass_ms(60_000)
    assert stage.story() == []
    assert stage.broker.order("c1").is_open
    stage.venue.ends("b1")
    stage.venue.push_order()
    assert stage.story() == ["cancelled"]


# -- S11: the cancel never arrived -------------------------------------------------------------------------------------


def test_S11_a_cancel_that_never_arrived_leaves_the_order_open_and_says_so_once(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(CANCEL, LOST)
    assert stage.broker.cancel("c1").outcome is SubmitOutcome.UNKNOWN
    stage.round(after_ms=ARRIVAL_MS)
    assert stage.story() == [], "it could still arrive"
    stage.round(after_ms=1)
    assert stage.story() == ["cancel failed"]
    assert stage.said(OrderCancelFailed).reason == "never_arrived"
    view = stage.broker.order("c1")
    assert (view.is_open, view.status) == (True, OrderStatus.NEW)
    stage.pass_ms(120_000)
    assert stage.story() == ["cancel failed"]
    assert len(stage.client.posts) == 1
    stage.assert_settled()


def test_S11_it_may_be_tried_again_at_once(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(CANCEL, LOST)
    stage.broker.cancel("c1")
    assert stage.broker.cancel("c1").outcome is SubmitOutcome.ACCEPTED
    stage.venue.ends("b1")
    stage.venue.push_order()
    assert stage.story() == ["cancelled"]
    stage.pass_ms(60_000)
    assert stage.story() == ["cancelled"]
    assert [(post.path, post["orderId"]) for post in stage.client.posts] == [(CANCEL, "b1")] * 2


def test_S11_it_may_be_tried_again_after_it_failed(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(CANCEL, LOST)
    stage.broker.cancel("c1")
    stage.round(after_ms=ARRIVAL_MS + 1)
    stage.broker.cancel("c1")
    stage.venue.ends("b1")
    stage.round()
    assert stage.story() == ["cancel failed", "cancelled"]


def test_S11_a_partial_list_proves_no_failure_and_a_listed_order_does(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(CANCEL, LOST)
    stage.broker.cancel("c1")
    stage.venue.hidden.add("b1")
    stage.round(after_ms=ARRIVAL_MS + 1)
    assert "cancel failed" not in stage.story()
    stage.venue.hidden.clear()
    stage.round()
    assert stage.story() == ["cancel failed"]


def test_S11_a_list_begun_before_the_deadline_proves_nothing(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(CANCEL, LOST)
    stage.broker.cancel("c1")
    stage.clock.advance_ms(ARRIVAL_MS - 1_000)

    def slow(query: Any) -> Any:
        answer = stage.venue.answer_realtime(query)
        stage.clock.advance_ms(2_000)
        return answer

    stage.answers(REALTIME, slow)
    stage.broker.reconcile()
    assert stage.story() == []


# -- S21: the fill was faster than the amend ---------------------------------------------------------------------------


@pytest.mark.parametrize("ret_code", [170213, 110001])
def test_S21_an_amend_refused_as_the_order_filled_tells_the_fill_and_the_failure(stage: Stage, ret_code: int) -> None:
    stage.has_open_order()

    def amend(_body: Any) -> Any:
        stage.venue.trades("e1", "1")
        return refusal(ret_code, "Order does not exist.")

    stage.answers(AMEND, amend)
    ack = stage.broker.modify("c1", CHEAPER)
    assert ack.outcome is SubmitOutcome.REJECTED
    assert stage.story() == ["modify failed", "filled e1"]
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    stage.venue.push_order(cancelType="UNKNOWN", rejectReason="EC_OrigClOrdIDDoesNotExist")
    assert stage.story() == ["modify failed", "filled e1"]
    assert stage.broker.order("c1").limit_price == 100
    stage.assert_settled()


def test_S21_fills_before_the_refusal_come_through_the_stream_and_are_told_once(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.venue.push_execution("e1")

    def amend(_body: Any) -> Any:
        stage.venue.trades("e2", "0.6")
        stage.venue.push_execution("e2")
        stage.venue.push_order()
        return refusal(170213, "Order does not exist.")

    stage.answers(AMEND, amend)
    stage.broker.modify("c1", CHEAPER)
    assert stage.story() == ["part e1", "modify failed", "filled e2"]
    stage.assert_settled()


def test_S21_an_amend_the_venue_took_and_then_refused_is_told_by_the_frame(stage: Stage) -> None:
    stage.has_open_order()
    assert stage.broker.modify("c1", CHEAPER).outcome is SubmitOutcome.ACCEPTED
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    stage.venue.push_order(rejectReason="EC_TooLateToCancel")
    assert stage.story() == ["modify failed", "filled e1"]
    stage.assert_settled()


def test_S21_an_amend_without_an_answer_fails_once_when_the_order_fills_first(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(AMEND, LOST)
    stage.broker.modify("c1", CHEAPER)
    stage.venue.trades("e1", "1")
    stage.venue.push_order()
    stage.venue.push_execution("e1")
    stage.pass_ms(60_000)
    assert stage.story() == ["modify failed", "filled e1"]
    stage.assert_settled()


def test_S21_an_amend_and_a_cancel_that_both_lost_fail_once_each(stage: Stage) -> None:
    stage.has_open_order()
    stage.broker.modify("c1", CHEAPER)
    stage.broker.cancel("c1")
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    stage.venue.push_order(cancelType="CancelByUser", rejectReason="EC_OrigClOrdIDDoesNotExist")
    stage.venue.push_order(rejectReason="EC_TooLateToCancel")
    assert sorted(stage.story()) == ["cancel failed", "filled e1", "modify failed"]
    assert stage.story()[-1] == "filled e1"
    stage.assert_settled()


def test_S21_the_order_is_not_resurrected_by_a_row_from_before_its_end(stage: Stage) -> None:
    stage.has_open_order()
    before = dict(stage.venue.orders["b1"])
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    stage.venue.push_order(**before)
    stage.venue.push_order(**{**before, "price": "99"})
    stage.venue.push_order(**{**before, "price": "98", "updatedTime": str(stage.clock.now_ms() + 1)})
    stage.venue.push_order(price="97", updatedTime=str(stage.clock.now_ms() + 2))
    assert stage.story() == ["filled e1"]
    assert stage.broker.order("c1").status is OrderStatus.FILLED


def test_S21_refused_while_it_stands_is_a_failure_and_nothing_else(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(AMEND, refusal(170312, "not amendable"))
    assert stage.broker.modify("c1", CHEAPER).outcome is SubmitOutcome.REJECTED
    assert stage.story() == ["modify failed"]
    assert stage.broker.order("c1").is_open
    stage.assert_settled()


# -- S22: amended, and the reply lost ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "row"),
    [
        (CHEAPER, {"price": "99"}),
        (OrderModification(new_quantity=Decimal(2)), {"qty": "2"}),
        (OrderModification(new_quantity=Decimal(2), new_limit_price=Decimal(99)), {"qty": "2", "price": "99"}),
    ],
    ids=["price", "quantity", "both"],
)
@pytest.mark.parametrize(
    "tellers", [["frame"], ["lookup"], ["round"], ["lookup", "frame", "round"], ["round", "frame"]]
)
def test_S22_an_amend_whose_reply_is_lost_is_told_once_by_what_differs(
    stage: Stage, changes: Any, row: dict[str, Any], tellers: list[str]
) -> None:
    stage.has_open_order()
    done_and_lost(stage, AMEND, lambda: stage.venue.amends("b1", **row))
    assert stage.broker.modify("c1", changes).outcome is SubmitOutcome.UNKNOWN
    assert stage.story() == []
    for teller in tellers:
        {"frame": stage.venue.push_order, "lookup": lambda: stage.pass_ms(1_000), "round": stage.round}[teller]()  # type: ignore[operator]
    assert stage.story() == ["modified"]
    modified = stage.said(OrderModified)
    assert (str(modified.new_quantity), str(modified.new_limit_price)) == (row.get("qty", "1"), row.get("price", "100"))
    assert modified.reason == "", "it is what we asked for"
    stage.pass_ms(60_000)
    assert stage.story() == ["modified"], "and it did not fail as well"
    assert len(stage.client.posts) == 1
    stage.assert_settled()


def test_S22_an_amend_that_never_arrived_fails_once_and_changes_nothing(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(AMEND, LOST)
    stage.broker.modify("c1", CHEAPER)
    stage.round(after_ms=ARRIVAL_MS)
    assert stage.story() == []
    stage.round(after_ms=1)
    assert stage.story() == ["modify failed"]
    assert stage.said(OrderModifyFailed).reason == "never_arrived"
    assert stage.broker.order("c1").limit_price == 100
    stage.assert_settled()


def test_S22_a_fill_and_the_new_terms_in_one_row_are_both_told(stage: Stage) -> None:
    stage.has_open_order()
    done_and_lost(
        stage,
        AMEND,
        lambda: stage.venue.amends("b1", price="99"),
        lambda: stage.pass_ms(1),
        lambda: stage.venue.trades("e1", "0.4"),
    )
    stage.broker.modify("c1", CHEAPER)
    stage.pass_ms(1_000)
    assert stage.story() == ["modified", "part e1"]
    stage.assert_settled()


@pytest.mark.parametrize("body", ["<html>", "", '{"retCode":0,"res', "[]"])
@pytest.mark.parametrize("path", [CANCEL, AMEND])
def test_S37_a_cancel_or_amend_with_a_broken_reply_is_unknown_and_looked_up(stage: Stage, path: str, body: str) -> None:
    stage.has_open_order()

    def answer(_body: Any) -> Any:
        if path == CANCEL:
            stage.venue.ends("b1")
        else:
            stage.venue.amends("b1", price="99")
        return body

    stage.answers(path, answer)
    ack = stage.broker.cancel("c1") if path == CANCEL else stage.broker.modify("c1", CHEAPER)
    assert ack.outcome is SubmitOutcome.UNKNOWN
    assert stage.story() == []
    stage.pass_ms(1_000)
    assert stage.story() == (["cancelled"] if path == CANCEL else ["modified"])
    assert len(stage.client.posts) == 1
    stage.assert_settled()


def test_S22_a_change_somebody_else_made_is_not_taken_for_ours(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(AMEND, LOST)
    stage.broker.modify("c1", CHEAPER)
    stage.pass_ms(10)
    stage.venue.amends("b1", price="98")
    stage.venue.push_order()
    assert stage.story() == ["modified"]
    assert stage.said(OrderModified).reason == "changed at the venue"
    stage.round(after_ms=ARRIVAL_MS + 1)
    assert stage.story() == ["modified", "modify failed"]
    assert stage.broker.order("c1").limit_price == 98


def test_S22_an_amend_without_a_frame_is_healed_and_named(stage: Stage) -> None:
    stage.has_open_order()
    assert stage.broker.modify("c1", CHEAPER).accepted
    stage.venue.amends("b1", price="99")
    report = stage.round()
    assert stage.story() == ["modified"]
    assert kinds_of(report) == ["missed_amend"]
    stage.assert_settled()


def test_S22_a_row_from_before_the_amend_does_not_take_it_back(stage: Stage) -> None:
    stage.has_open_order()
    before = dict(stage.venue.orders["b1"])
    stage.broker.modify("c1", CHEAPER)
    stage.venue.amends("b1", price="99")
    stage.venue.push_order()
    stage.venue.push_order(**before)
    assert stage.story() == ["modified"]
    assert stage.broker.order("c1").limit_price == 99
    stage.assert_settled()


def test_S22_two_terms_with_one_update_time_are_a_question_and_the_venue_answers_it(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.orders["b1"]["price"] = "99"  # the venue moved it and did not say when
    stage.venue.push_order(updatedTime=stage.venue.orders["b1"]["updatedTime"])
    stage.round()
    assert stage.story() == ["modified"]
    assert stage.broker.order("c1").limit_price == 99
    stage.assert_settled()
