"""S1-S9, S19, S23: each execution once, ends after their fills, whoever tells first."""

from __future__ import annotations

from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest

from qkt import (
    OrderAccepted,
    OrderCancelFailed,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderPartiallyFilled,
    OrderRejected,
)
from qkt.broker.protocol import SubmitOutcome
from qkt.errors import VenueUnavailableError
from qkt.model.orders import OrderStatus
from qkt.orders.ledger import Ledger
from qkt.testing.builders import acknowledged, execution_reported, order_reported, refusal, submit_intended
from tests.support.stage import CANCEL, DAY_MS, EXECUTIONS, REALTIME, Stage, assert_lawful, kinds_of, words

# -- S1, S2: one execution, two tellers --------------------------------------------------------------------------------


def test_S01_a_fill_that_a_round_saw_first_is_told_once_and_its_frame_is_silent(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    stage.round()
    assert stage.story() == ["filled e1"]
    assert stage.said(OrderFilled).origin == "reconcile"
    stage.forget()
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    assert stage.heard == []
    stage.assert_settled()


def test_S01_a_partial_fill_that_a_round_saw_first_leaves_the_order_open(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    report = stage.round()
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    assert stage.story() == ["part e1"]
    fill = stage.said(OrderPartiallyFilled)
    assert (fill.origin, fill.quantity, fill.cum_quantity, fill.leaves_quantity) == (
        "reconcile",
        Decimal("0.4"),
        Decimal("0.4"),
        Decimal("0.6"),
    )
    assert kinds_of(report) == ["missed_fill"]
    view = stage.broker.order("c1")
    assert (view.is_open, view.status, view.leaves_quantity) == (True, OrderStatus.PARTIALLY_FILLED, Decimal("0.6"))
    stage.assert_settled()


def test_S02_a_fill_told_by_the_stream_is_not_told_again_by_a_round_that_lists_it(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    assert stage.story() == ["filled e1"]
    assert stage.said(OrderFilled).origin == "stream"
    stage.forget()
    report = stage.round()
    assert words(stage.heard) == ["balances"]
    assert kinds_of(report) == []
    stage.assert_settled()


# -- S3, S4: the stream is faster than the answer ----------------------------------------------------------------------


def during_the_submit(stage: Stage, *happenings: Any) -> None:
    """The order is taken, and these happen before the answer to the submit is out."""

    def create(body: Any) -> Any:
        answer = stage.venue.create(body)
        for happening in happenings:
            happening()
        return answer

    stage.answers("/v5/order/create", create)


@pytest.mark.parametrize("link_id", ["c1", ""])
def test_S03_an_execution_before_the_create_response_is_accepted_then_filled(stage: Stage, link_id: str) -> None:
    during_the_submit(
        stage,
        lambda: stage.venue.trades("e1", "1"),
        lambda: stage.venue.push_execution("e1", orderLinkId=link_id),
    )
    ack = stage.submit()
    assert (ack.outcome, ack.broker_order_id) == (SubmitOutcome.ACCEPTED, "b1")
    assert stage.story() == ["accepted", "filled e1"]
    assert not any(event.external for event in stage.heard)
    assert len(stage.client.posts) == 1
    assert stage.broker.order("c1").status is OrderStatus.FILLED
    assert stage.broker.order(broker_order_id="b1") == stage.broker.order("c1")
    stage.assert_settled()


def test_S03_the_response_adds_nothing(stage: Stage) -> None:
    heard_before_the_answer = []
    during_the_submit(
        stage,
        lambda: stage.venue.trades("e1", "0.5"),
        lambda: stage.venue.push_execution("e1"),
        lambda: heard_before_the_answer.extend(words(stage.heard)),
    )
    stage.submit()
    assert stage.story() == heard_before_the_answer == ["accepted", "part e1"]


def test_S04_a_filled_frame_then_its_execution_then_the_ack_end_once(stage: Stage) -> None:
    during_the_submit(
        stage,
        lambda: stage.venue.trades("e1", "1"),
        lambda: stage.venue.push_order(),
        lambda: stage.venue.push_execution("e1"),
    )
    ack = stage.submit()
    assert ack.accepted
    assert stage.story() == ["accepted", "filled e1"]
    assert stage.said(OrderFilled).cum_quantity == Decimal(1)
    stage.assert_settled()


def test_S04_until_its_execution_comes_a_filled_order_is_closed_and_its_end_untold(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    stage.venue.push_order()
    view = stage.broker.order("c1")
    assert (view.is_open, view.venue_status, view.missing_quantity) == (False, "Filled", Decimal(1))
    assert stage.story() == []
    stage.venue.push_execution("e1")
    assert stage.story() == ["filled e1"]


FACTS_OF_A_FILLED_ORDER = [
    acknowledged(),
    order_reported("New", updated_ms=1),
    execution_reported("e1", "0.4", leaves="0.6"),
    order_reported("PartiallyFilled", "0.4", updated_ms=2),
    execution_reported("e2", "0.6", leaves="0"),
    order_reported("Filled", 1, updated_ms=3),
]


@pytest.mark.parametrize("arrival", list(permutations(FACTS_OF_A_FILLED_ORDER)), ids=lambda _: "")
def test_S04_any_order_of_arrival_tells_the_same_events_and_ends_in_the_same_view(arrival: Any) -> None:
    ledger = Ledger()
    changes = ledger.apply_all([submit_intended(), *arrival, *arrival])
    events = [event for change in changes for event in change.events]
    assert_lawful(events)
    told = words(events)
    assert told[0] == "accepted"
    assert {one.split()[-1] for one in told[1:]} == {"e1", "e2"}
    assert len(told) == 3
    assert told[-1].startswith("filled")
    order = ledger.get("c1")
    assert order is not None
    assert (order.view().status, order.cum_quantity, order.leaves_quantity) == (OrderStatus.FILLED, 1, 0)  # type: ignore[comparison-overlap]


# -- S5, S6, S7: ends that the stream did not tell ---------------------------------------------------------------------


def test_S05_a_cancel_at_the_venue_without_a_frame_is_told_within_one_interval(stage: Stage) -> None:
    stage.has_open_order()
    stage.pass_ms(1_000)
    stage.venue.ends("b1")
    stage.pass_ms(30_000)
    assert stage.story() == ["cancelled"]
    cancelled = stage.said(OrderCancelled)
    assert (cancelled.reason, cancelled.origin, cancelled.cum_quantity) == ("CancelByUser", "reconcile", 0)
    assert [lookup.path for lookup in stage.lookups()] == [REALTIME], "its evidence is the row asked for by id"
    stage.assert_settled()


def test_S05_the_report_says_what_was_wrong_and_for_how_long(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.ends("b1")
    report = stage.round(after_ms=20_000)
    (healed,) = report.discrepancies
    assert (healed.kind, healed.client_order_id, healed.wrong_for_ms) == ("missed_end", "c1", 20_000)
    assert "believed NEW, is CANCELLED" in healed.what
    assert "Cancelled" in healed.evidence
    assert "ws_drop" in healed.likely_cause


def test_S05_absence_alone_cancels_nothing(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.hidden.add("b1")
    stage.round()
    assert stage.broker.order("c1").is_open
    assert stage.story() == []
    stage.venue.hidden.clear()
    stage.round()
    assert stage.story() == []
    assert stage.broker.order("c1").is_open
    stage.assert_settled()


def test_S05_two_rounds_without_an_answer_say_unknown_and_the_true_event_follows(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.hidden.add("b1")
    for _ in range(4):
        stage.round()
    assert stage.story() == ["unknown"]
    assert stage.broker.health.unresolved == ("c1",)
    assert stage.broker.order("c1").is_open
    stage.venue.hidden.clear()
    stage.venue.ends("b1")
    stage.round()
    assert stage.story() == ["unknown", "cancelled"]
    assert stage.broker.health.unresolved == ()  # type: ignore[comparison-overlap]
    stage.assert_settled()


def test_S05_when_the_open_list_could_not_be_read_nobody_is_asked_and_nothing_ends(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.ends("b1")
    stage.answers(REALTIME, VenueUnavailableError("502"), VenueUnavailableError("502"), VenueUnavailableError("502"))
    report = stage.round()
    assert not report.ok
    assert stage.story() == []
    assert stage.lookups() == []
    stage.round()
    assert stage.story() == ["cancelled"]


def test_S06_a_partial_fill_and_a_cancel_both_lost_are_told_fills_first(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.2")
    stage.venue.trades("e2", "0.3")
    stage.venue.ends("b1")
    report = stage.round()
    assert stage.story() == ["part e1", "part e2", "cancelled"]
    assert stage.said(OrderCancelled).cum_quantity == Decimal("0.5")
    assert sorted(kinds_of(report)) == ["missed_end", "missed_fill", "missed_fill"]
    view = stage.broker.order("c1")
    assert (view.venue_status, view.cum_quantity, view.leaves_quantity) == (  # type: ignore[comparison-overlap]
        "PartiallyFilledCanceled",
        Decimal("0.5"),
        0,
    )
    stage.assert_settled()


def test_S06_fills_older_than_every_window_are_asked_for_by_order_before_the_cancel(stage: Stage) -> None:
    stage.has_open_order()
    stage.round()
    stage.clock.advance_ms(3_600_000)
    stage.venue.trades("e1", "0.2", execTime=str(stage.clock.now_ms() - 3_590_000))
    stage.venue.ends("b1")
    stage.round()
    stage.forget()
    assert stage.broker.order("c1").cum_quantity == Decimal("0.2")
    assert [fill.exec_id for fill in stage.broker.fills("c1")] == ["e1"]
    assert words(stage.ever_heard)[-3:-1] == ["part e1", "cancelled"]


def test_S06_never_the_cancel_alone_while_the_executions_cannot_be_read(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.2")
    stage.venue.ends("b1")
    heal = stage.always(EXECUTIONS, VenueUnavailableError("502"))
    report = stage.round()
    assert not report.ok
    assert stage.story() == []
    view = stage.broker.order("c1")
    assert (view.is_open, view.missing_quantity) == (False, Decimal("0.2"))
    heal()
    stage.round()
    assert stage.story() == ["part e1", "cancelled"]
    stage.assert_settled()


PERP = "BYBIT_LINEAR:BTCUSDT"


@pytest.mark.parametrize(
    "arrival",
    list(
        permutations(
            [
                execution_reported("e1", "0.2", leaves="0.8", symbol=PERP),
                execution_reported("e2", "0.3", leaves="0.5", symbol=PERP),
                order_reported("Cancelled", "0.5", symbol=PERP, reason="CancelByUser", updated_ms=5),
            ]
        )
    ),
    ids=lambda _: "",
)
def test_S07_a_perp_order_cancelled_with_a_quantity_has_fills_and_they_come_first(arrival: Any) -> None:
    ledger = Ledger()
    changes = ledger.apply_all([submit_intended(symbol=PERP), acknowledged(), *arrival])
    events = [event for change in changes for event in change.events]
    told = words(events)
    assert (told[0], told[-1]) == ("accepted", "cancelled")
    assert sorted(told[1:-1]) == ["part e1", "part e2"]
    assert events[-1].cum_quantity == Decimal("0.5")  # type: ignore[attr-defined]


def test_S07_a_perp_cancel_with_a_quantity_is_not_told_before_its_fills() -> None:
    ledger = Ledger()
    ledger.apply_all([submit_intended(symbol=PERP), acknowledged()])
    changes = ledger.apply(order_reported("Cancelled", "0.5", symbol=PERP, updated_ms=5))
    assert words(event for change in changes for event in change.events) == ["accepted"]
    view = changes[-1].after.view()
    assert (view.is_open, view.missing_quantity) == (False, Decimal("0.5"))


# -- S8: the end before its own execution ------------------------------------------------------------------------------


def test_S08_a_cancelled_frame_waits_for_the_execution_frame_behind_it(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.venue.ends("b1")
    stage.venue.push_order()
    assert stage.story() == []
    view = stage.broker.order("c1")
    assert (view.is_open, view.venue_status, view.missing_quantity) == (
        False,
        "PartiallyFilledCanceled",
        Decimal("0.4"),
    )
    stage.venue.push_execution("e1")
    assert stage.story() == ["part e1", "cancelled"]
    assert stage.said(OrderCancelled).cum_quantity == Decimal("0.4")
    stage.assert_settled()


def test_S08_the_end_waits_for_all_of_them(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.1")
    stage.venue.trades("e2", "0.2")
    stage.venue.trades("e3", "0.3")
    stage.venue.ends("b1")
    stage.venue.push_order()
    stage.venue.push_execution("e3")
    stage.venue.push_execution("e1")
    assert stage.story() == ["part e3", "part e1"]
    stage.venue.push_execution("e2")
    assert stage.story() == ["part e3", "part e1", "part e2", "cancelled"]
    assert stage.said(OrderCancelled).cum_quantity == Decimal("0.6")


def test_S08_an_execution_that_is_late_is_fetched_by_the_next_round(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4", execTime=str(stage.clock.now_ms() - 2 * DAY_MS))
    stage.venue.ends("b1")
    stage.venue.push_order()
    stage.round()
    assert stage.story() == ["part e1", "cancelled"]
    assert [lookup.path for lookup in stage.lookups()] == [EXECUTIONS]
    stage.assert_settled()


# -- S9: the cancel that lost ------------------------------------------------------------------------------------------

REFUSED_CANCEL = {"cancelType": "CancelByUser", "rejectReason": "EC_OrigClOrdIDDoesNotExist"}


def test_S09_a_cancel_that_lost_to_a_fill_tells_fill_end_and_failure_once(stage: Stage) -> None:
    """The HTTP reply tells it first, then both Filled frames."""
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    ack = stage.broker.cancel("c1")
    assert ack.outcome is SubmitOutcome.REJECTED
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    stage.venue.push_order(**REFUSED_CANCEL)
    assert sorted(stage.story()) == ["cancel failed", "filled e1"]
    assert [post.path for post in stage.client.posts] == [CANCEL]
    stage.assert_settled()


def test_S09_two_filled_frames_before_the_http_reply_say_it_once(stage: Stage) -> None:
    stage.has_open_order()

    def cancel(_body: Any) -> Any:
        stage.venue.trades("e1", "1")
        stage.venue.push_order()
        stage.venue.push_execution("e1")
        stage.venue.push_order(**REFUSED_CANCEL)
        return refusal(170213, "Order does not exist.")

    stage.answers(CANCEL, cancel)
    stage.broker.cancel("c1")
    assert stage.story() == ["cancel failed", "filled e1"]
    assert stage.said(OrderFilled).cum_quantity == 1
    stage.assert_settled()


def test_S09_when_the_reply_said_yes_the_second_filled_frame_tells_the_failure(stage: Stage) -> None:
    stage.has_open_order()
    assert stage.broker.cancel("c1").outcome is SubmitOutcome.ACCEPTED
    stage.venue.trades("e1", "1")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    stage.venue.push_order(**REFUSED_CANCEL)
    assert stage.story() == ["cancel failed", "filled e1"]
    stage.assert_settled()


def test_S09_a_cancel_refused_while_reads_lag_fails_once_and_the_fill_still_ends_it(stage: Stage) -> None:
    stage.has_open_order()
    stage.answers(CANCEL, refusal(170213, "Order does not exist."))
    stage.broker.cancel("c1")
    assert stage.story() == ["cancel failed"]
    assert stage.said(OrderCancelFailed).client_order_id == "c1"
    assert stage.broker.order("c1").is_open, "a refused cancel is not an end"
    stage.venue.trades("e1", "1")
    stage.venue.push_order(**REFUSED_CANCEL)
    stage.venue.push_execution("e1")
    assert stage.story() == ["cancel failed", "filled e1"]
    stage.assert_settled()


# -- S19: acknowledged, and then not -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "told", "reason"),
    [
        (
            {"orderStatus": "Cancelled", "cancelType": "UNKNOWN", "rejectReason": "EC_PostOnlyWillTakeLiquidity"},
            OrderCancelled,
            "EC_PostOnlyWillTakeLiquidity",
        ),
        (
            {"orderStatus": "Cancelled", "cancelType": "UNKNOWN", "rejectReason": "EC_NoImmediateQtyToFill"},
            OrderCancelled,
            "EC_NoImmediateQtyToFill",
        ),
        ({"orderStatus": "Cancelled", "cancelType": "CancelBySmp"}, OrderCancelled, "CancelBySmp"),
        ({"orderStatus": "Rejected", "cancelType": "UNKNOWN", "rejectReason": "EC_Others"}, OrderRejected, "EC_Others"),
    ],
)
@pytest.mark.parametrize("teller", ["stream", "reconcile"])
def test_S19_acknowledged_then_ended_by_the_venue_is_accepted_first_and_says_why(
    stage: Stage, row: dict[str, Any], told: Any, reason: str, teller: str
) -> None:
    ack = stage.submit()
    assert ack.accepted
    assert stage.story() == [], "retCode 0 alone is no acceptance"
    stage.venue.ends("b1", row["orderStatus"], **row)
    if teller == "stream":
        stage.venue.push_order()
    else:
        stage.round()
    ended = stage.said(told)
    assert [type(event) for event in stage.heard if isinstance(event, OrderEvent)] == [OrderAccepted, told]
    assert (ended.reason, ended.origin, ended.cum_quantity) == (reason, teller, 0)
    assert len(stage.client.posts) == 1
    stage.assert_settled()


def test_S19_a_rejected_order_that_traded_tells_its_fills(stage: Stage) -> None:
    stage.submit()
    stage.venue.trades("e1", "0.4")
    stage.venue.ends("b1", "Rejected", rejectReason="EC_Others", cancelType="UNKNOWN")
    stage.venue.push_order()
    assert stage.story() == ["accepted"]
    stage.venue.push_execution("e1")
    assert stage.story() == ["accepted", "part e1", "rejected"]
    assert stage.said(OrderRejected).cum_quantity == Decimal("0.4")


# -- S23: complete is what the venue says is complete ------------------------------------------------------------------


def test_S23_amended_down_to_what_is_filled_ends_by_the_venues_word(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.venue.push_execution("e1")
    stage.venue.amends("b1", qty="0.4")
    assert stage.story() == ["part e1"]
    stage.venue.ends("b1", "Filled", cancelType="UNKNOWN", leavesQty="0")
    stage.venue.push_order()
    assert stage.story() == ["part e1", "modified", "filled"]
    filled = stage.said(OrderFilled)
    assert (filled.quantity, filled.exec_id, filled.cum_quantity) == (0, "", Decimal("0.4"))
    stage.assert_settled()


@pytest.mark.parametrize("leaves", ["1", ""])
def test_S23_amended_up_elsewhere_before_the_next_fill_is_not_falsely_filled(stage: Stage, leaves: str) -> None:
    """The fills reach the remembered quantity of 1; the order is one of 2 by now, and only the execution says so."""
    stage.has_open_order()
    stage.venue.trades("e1", "0.4", leavesQty="0.6" if leaves else "")
    stage.venue.push_execution("e1")
    stage.pass_ms(5)
    stage.venue.amends("b1", qty="2")
    stage.venue.trades("e2", "0.6", leavesQty=leaves)
    stage.venue.push_execution("e2")
    assert stage.story() == ["part e1", "part e2"]
    assert stage.broker.order("c1").is_open
    stage.venue.push_order()
    stage.pass_ms(5)
    stage.venue.trades("e3", "1", leavesQty="0" if leaves else "")
    stage.venue.push_execution("e3")
    assert stage.story() == ["part e1", "part e2", "modified", "filled e3"]
    stage.assert_settled()


def test_S23_amended_down_elsewhere_completes_by_the_executions_own_order_quantity(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.venue.push_execution("e1")
    stage.pass_ms(5)
    stage.venue.amends("b1", qty="0.7")
    stage.venue.trades("e2", "0.3")
    stage.venue.push_execution("e2")
    assert stage.story() == ["part e1", "modified", "filled e2"]
    stage.assert_settled()


def test_S23_the_fills_of_an_amended_order_complete_it_in_either_order_of_arrival(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.pass_ms(5)
    stage.venue.amends("b1", qty="0.7")
    stage.venue.trades("e2", "0.3")
    stage.venue.push_execution("e2")
    assert stage.story() == ["part e2"]
    stage.venue.push_execution("e1")
    assert stage.story() == ["part e2", "modified", "filled e1"]
