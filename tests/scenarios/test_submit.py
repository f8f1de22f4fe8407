"""S12-S18, S20: a submit, its answer, and what neither proves."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

from qkt import OrderAccepted, OrderFilled, OrderRejected
from qkt.broker.protocol import SubmitOutcome
from qkt.errors import (
    BybitRateLimitError,
    InvalidRequestError,
    OutcomeUnknownError,
    VenueUnavailableError,
)
from qkt.model.orders import OrderStatus
from qkt.testing.builders import a_limit_order, envelope, order_row, refusal
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
    word,
    words,
)

ARRIVAL_MS = 5_000 + 10_000  # receive window and margin: nothing signed at zero can arrive later
PROVED_MS = ARRIVAL_MS + 5_200  # and two complete lookups well apart have found nothing


def taken_and_lost(stage: Stage, *happenings: Any) -> None:
    """The next order is taken, these things happen to it, and the reply never comes."""

    def create(body: Any) -> None:
        stage.venue.create(body)
        for happening in happenings:
            happening()
        raise LOST

    stage.answers(CREATE, create)


def assert_unresolved(stage: Stage) -> None:
    view = stage.broker.order("c1")
    assert (view.status, view.is_open, view.is_unresolved) == (OrderStatus.UNRESOLVED, True, True)
    assert stage.broker.health.unresolved == ("c1",)
    assert not stage.broker.health.ok


# -- S12: timed out, and resting ---------------------------------------------------------------------------------------


def test_S12_a_submit_that_times_out_but_rests_is_found_and_accepted(stage: Stage) -> None:
    taken_and_lost(stage)
    ack = stage.submit()
    assert (ack.outcome, ack.broker_order_id, ack.accepted) == (SubmitOutcome.UNKNOWN, "", False)
    assert stage.heard == []
    assert_unresolved(stage)
    stage.pass_ms(200)
    assert stage.story() == ["accepted"]
    assert stage.said(OrderAccepted).broker_order_id == "b1"
    assert [(lookup.path, lookup["orderLinkId"]) for lookup in stage.lookups()] == [(REALTIME, "c1")]
    view = stage.broker.order("c1")
    assert (view.status, view.is_unresolved, view.external) == (OrderStatus.NEW, False, False)
    assert stage.broker.health.unresolved == ()
    stage.pass_ms(60_000)
    assert stage.story() == ["accepted"]
    assert len(stage.lookups()) == 1, "once found, nobody asks again"
    assert [post.path for post in stage.client.posts] == [CREATE], "and nothing is sent twice"
    stage.assert_settled()


def test_S12_a_row_that_lags_behind_the_submit_is_found_by_a_later_lookup(stage: Stage) -> None:
    taken_and_lost(stage)
    _ = stage.broker
    stage.venue.hidden.add("b1")
    stage.submit()
    stage.pass_ms(1_900)
    assert stage.story() == []
    assert_unresolved(stage)
    stage.venue.hidden.clear()
    stage.pass_ms(100)
    assert stage.story() == ["accepted"]
    assert len(stage.client.posts) == 1


def test_S12_a_frame_resolves_it_before_anybody_asks(stage: Stage) -> None:
    taken_and_lost(stage)
    stage.submit()
    stage.venue.push_order()
    assert stage.story() == ["accepted"]
    stage.pass_ms(20_000)
    assert stage.lookups() == []
    assert stage.story() == ["accepted"]


def test_S12_a_round_alone_finds_it(stage: Stage) -> None:
    taken_and_lost(stage)
    stage.submit()
    stage.round(after_ms=50)
    assert stage.story() == ["accepted"]
    stage.assert_settled()


def test_S12_it_is_never_rejected_while_it_may_rest(stage: Stage) -> None:
    taken_and_lost(stage)
    _ = stage.broker
    stage.venue.hidden.add("b1")
    stage.submit()
    stage.pass_ms(ARRIVAL_MS)
    for _ in range(3):
        stage.round(after_ms=0)
    assert stage.story() == []
    assert_unresolved(stage)


def test_S12_a_submit_cut_by_the_user_is_never_forgotten(stage: Stage) -> None:
    taken_and_lost(stage)

    def create(body: Any) -> None:
        stage.venue.create(body)
        raise KeyboardInterrupt

    stage.client.responses[CREATE] = create
    with pytest.raises(KeyboardInterrupt):
        stage.submit()
    assert_unresolved(stage)
    stage.round()
    assert stage.story() == ["accepted"]


# -- S13: timed out, and filled at once --------------------------------------------------------------------------------


def test_S13_a_submit_that_times_out_and_fills_is_told_accepted_filled_once(stage: Stage) -> None:
    taken_and_lost(stage, lambda: stage.venue.trades("e1", "0.4"), lambda: stage.venue.trades("e2", "0.6"))
    ack = stage.submit()
    assert ack.outcome is SubmitOutcome.UNKNOWN
    assert_unresolved(stage)
    stage.pass_ms(200)
    assert stage.story() == ["accepted", "part e1", "filled e2"]
    assert (stage.said(OrderFilled).cum_quantity, stage.said(OrderFilled).leaves_quantity) == (Decimal(1), Decimal(0))
    assert stage.lookups()[0].path == REALTIME, "closed rows are returned when asked for by id"
    assert [lookup.path for lookup in stage.lookups()] == [REALTIME, EXECUTIONS]
    assert len(stage.client.posts) == 1
    stage.venue.push_execution("e1", "e2")
    stage.venue.push_order()
    assert stage.story() == ["accepted", "part e1", "filled e2"]
    stage.assert_settled()


def test_S13_its_frames_before_the_lookup_tell_the_same_story(stage: Stage) -> None:
    taken_and_lost(stage, lambda: stage.venue.trades("e1", "1"))
    stage.submit()
    stage.venue.push_order()
    stage.venue.push_execution("e1")
    stage.pass_ms(10_000)
    assert stage.story() == ["accepted", "filled e1"]
    stage.assert_settled()


def test_S13_the_executions_that_lag_behind_the_row_are_waited_for(stage: Stage) -> None:
    taken_and_lost(stage, lambda: stage.venue.trades("e1", "1"))
    _ = stage.broker
    stage.venue.hidden.add("e1")
    stage.submit()
    stage.pass_ms(200)
    assert stage.story() == ["accepted"]
    assert stage.broker.order("c1").missing_quantity == 1
    stage.venue.hidden.clear()
    stage.pass_ms(30_000)
    assert stage.story() == ["accepted", "filled e1"]


@pytest.mark.parametrize("ret_code", [None, 10016, 170141])
def test_S13_its_execution_without_a_link_id_waits_to_learn_whose_it_is(stage: Stage, ret_code: int | None) -> None:
    """Until the order has a name nobody can say whether the fill is ours: it must not become an outside order's."""

    def create(body: Any) -> Any:
        stage.venue.create(body)
        stage.venue.trades("e1", "1", orderLinkId="")
        stage.venue.push_execution("e1")
        if ret_code is None:
            raise LOST
        return refusal(ret_code, "?")

    stage.answers(CREATE, create)
    stage.submit()
    stage.pass_ms(200)
    assert stage.story() == ["accepted", "filled e1"]
    assert not any(event.external for event in stage.heard)
    stage.assert_settled()


def test_S14_rows_that_waited_for_an_order_that_never_arrived_are_an_outside_orders(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit()
    stage.venue.rests("m1", "")
    stage.venue.push_order("m1")
    stage.venue.trades("e1", "0.5", order_id="m1")
    stage.venue.push_execution("e1")
    stage.pass_ms(PROVED_MS)
    assert stage.story("c1") == ["rejected"]
    assert stage.story("") == ["accepted", "part e1"]
    assert all(event.external for event in stage.heard if getattr(event, "client_order_id", None) == "")
    stage.assert_settled()


def test_S14_rows_held_for_a_submit_that_provably_never_left_are_an_outside_orders(stage: Stage) -> None:
    def create(_body: Any) -> None:
        stage.venue.rests("m1", "")
        stage.venue.push_order("m1")
        raise VenueUnavailableError("nothing was sent")

    stage.answers(CREATE, create)
    with pytest.raises(VenueUnavailableError):
        stage.submit()
    assert stage.story() == ["accepted"]
    assert stage.heard[0].external


# -- S14: never arrived ------------------------------------------------------------------------------------------------


def test_S14_a_submit_that_never_arrived_is_rejected_once_when_that_is_proved(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    ack = stage.submit()
    assert ack.outcome is SubmitOutcome.UNKNOWN
    stage.pass_ms(PROVED_MS - 1)
    assert stage.story() == []
    assert_unresolved(stage)
    stage.pass_ms(1)
    assert stage.story() == ["rejected"]
    assert stage.said(OrderRejected).reason == "never_arrived"
    assert {lookup.path for lookup in stage.lookups()} == {REALTIME, HISTORY, EXECUTIONS}
    assert all(lookup["orderLinkId"] == "c1" for lookup in stage.lookups())
    assert stage.broker.order("c1").status is OrderStatus.REJECTED
    asked = len(stage.lookups())
    stage.pass_ms(90_000)
    assert stage.story() == ["rejected"]
    assert len(stage.lookups()) == asked
    assert len(stage.client.posts) == 1
    stage.assert_settled()


def test_S14_rounds_prove_it_too_two_of_them_five_seconds_apart(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit()
    stage.round(after_ms=ARRIVAL_MS + 1)
    stage.round(after_ms=4_999)
    assert stage.story() == []
    stage.round(after_ms=1)
    assert stage.story() == ["rejected"]


@pytest.mark.parametrize("every_ms", [300, 700, 1_000, 1_249])
def test_S14_looking_often_proves_it_no_later(stage: Stage, every_ms: int) -> None:
    stage.answers(CREATE, LOST)
    stage.submit()
    for _ in range((ARRIVAL_MS + 5_000) // every_ms + 2):
        stage.round(after_ms=every_ms)
    assert stage.story() == ["rejected"]


def test_S14_lookups_begun_while_it_could_still_arrive_prove_nothing(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit()
    stage.round(after_ms=8_000)
    stage.round(after_ms=ARRIVAL_MS - 8_000)
    stage.round(after_ms=5_000)
    assert stage.story() == [], "only one of them began after the deadline"
    stage.round(after_ms=5_000)
    assert stage.story() == ["rejected"]


def test_S14_a_lookup_begun_before_the_deadline_and_ended_after_it_proves_nothing(stage: Stage) -> None:
    stage.answers(CREATE, LOST)
    stage.submit()
    stage.clock.advance_ms(ARRIVAL_MS - 1_000)

    def slow_by_id(query: Any) -> Any:
        stage.clock.advance_ms(4_000 if "orderLinkId" in query else 0)
        return stage.venue.answer_realtime(query)

    heal = stage.always(REALTIME, slow_by_id)
    stage.broker.reconcile()
    heal()
    stage.round(after_ms=5_000)
    first = stage.story()
    stage.round(after_ms=5_000)
    assert first == []
    assert stage.story() == ["rejected"]


def test_S14_a_request_that_provably_never_left_raises_and_its_id_is_free(stage: Stage) -> None:
    stage.answers(CREATE, VenueUnavailableError("connection refused; nothing was sent"))
    with pytest.raises(VenueUnavailableError):
        stage.submit()
    assert stage.heard == []
    assert stage.broker.health.unresolved == ()
    with pytest.raises(InvalidRequestError):
        stage.broker.order("c1")
    assert stage.submit().accepted


# -- S15: and nobody can be asked --------------------------------------------------------------------------------------


def failing_by_id(stage: Stage, path: str) -> Any:
    """The path fails whenever it is asked by id."""
    truthful: Any = stage.client.responses[path]

    def answer(query: Mapping[str, Any]) -> Any:
        if "orderLinkId" in query or "orderId" in query:
            raise VenueUnavailableError("502")
        return truthful(query)

    return stage.always(path, answer)


@pytest.mark.parametrize("path", [REALTIME, HISTORY, EXECUTIONS])
def test_S15_while_one_of_three_reads_fails_it_stays_unresolved_and_health_says_so(stage: Stage, path: str) -> None:
    stage.answers(CREATE, LOST)
    _ = stage.broker
    heal = failing_by_id(stage, path)
    stage.submit()
    stage.pass_ms(600_000)
    assert stage.story() == ["degraded lookups"]
    assert_unresolved(stage)
    assert "lookups" in stage.broker.health.degraded
    assert not stage.broker.reports[-1].ok
    assert stage.broker.reports[-1].unresolved == ("c1",)
    heal()
    stage.pass_ms(60_000)
    assert stage.story() == ["degraded lookups", "restored lookups", "rejected"]
    assert stage.said(OrderRejected).reason == "never_arrived"
    assert len(stage.client.posts) == 1
    stage.assert_settled()


def test_S15_it_may_turn_out_to_stand_once_somebody_can_be_asked(stage: Stage) -> None:
    taken_and_lost(stage)
    _ = stage.broker
    stage.venue.hidden.add("b1")
    heal = failing_by_id(stage, HISTORY)
    stage.submit()
    stage.pass_ms(120_000)
    assert stage.story() == ["degraded lookups"]
    heal()
    stage.venue.hidden.clear()
    stage.pass_ms(30_000)
    assert stage.story() == ["degraded lookups", "accepted", "restored lookups"]
    assert stage.broker.health.ok
    stage.assert_settled()


@pytest.mark.parametrize("path", [REALTIME, HISTORY, EXECUTIONS])
def test_S15_a_row_about_it_that_cannot_be_read_is_no_absence(stage: Stage, path: str) -> None:
    stage.answers(CREATE, LOST)
    _ = stage.broker
    truthful: Any = stage.client.responses[path]
    broken = envelope([{"orderId": "b1", "orderLinkId": "c1", "symbol": "BTCUSDT"}])
    stage.client.responses[path] = lambda query: broken if "orderLinkId" in query else truthful(query)
    stage.submit()
    stage.pass_ms(120_000)
    assert "rejected" not in stage.story()
    assert_unresolved(stage)


# -- S16: "that id was used before" ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ret_code", [170141, 110072])
def test_S16_a_duplicate_reply_about_our_own_order_is_an_acceptance(stage: Stage, ret_code: int) -> None:
    def create(body: Any) -> Any:
        stage.venue.create(body)
        return refusal(ret_code, "Duplicate clientOrderId.")

    stage.answers(CREATE, create)
    ack = stage.submit()
    assert (ack.outcome, ack.broker_order_id) == (SubmitOutcome.ACCEPTED, "b1")
    assert stage.story() == ["accepted"]
    assert not stage.said(OrderAccepted).external
    assert len(stage.client.posts) == 1
    stage.assert_settled()


@pytest.mark.parametrize("ret_code", [170141, 110072])
@pytest.mark.parametrize(
    "other",
    [
        {"createdTime": str(NOW_MS - DAY_MS)},
        {"qty": "2", "leavesQty": "2"},
        {"side": "Sell"},
        {"symbol": "ETHUSDT"},
    ],
    ids=["older", "other quantity", "other side", "other symbol"],
)
@pytest.mark.parametrize("status", ["New", "Filled", "Cancelled"])
def test_S16_a_duplicate_reply_about_another_order_rejects_and_leaves_that_one_alone(
    stage: Stage, ret_code: int, other: dict[str, str], status: str
) -> None:
    stage.broker.reconcile()
    stage.forget()
    stage.venue.rests("old", "c1", **other)
    if status == "Filled":
        stage.venue.trades("e0", stage.venue.orders["old"]["qty"], order_id="old", execTime=str(NOW_MS - DAY_MS))
    elif status == "Cancelled":
        stage.venue.ends("old")
    if "createdTime" in other:
        stage.venue.orders["old"]["updatedTime"] = other["createdTime"]
    before = dict(stage.venue.orders["old"])
    stage.answers(CREATE, refusal(ret_code, "Duplicate clientOrderId."))
    ack = stage.submit()
    assert (ack.outcome, ack.reject_reason) == (SubmitOutcome.REJECTED, "client order id already used")
    ours = [event for event in stage.heard if not getattr(event, "external", False)]
    assert words(ours) == ["rejected"]
    assert ours[0].reason == "client order id already used"
    assert stage.broker.order("c1").cum_quantity == 0
    assert stage.broker.order("c1").broker_order_id == ""
    stage.pass_ms(120_000)
    assert [post.path for post in stage.client.posts] == [CREATE]
    assert stage.venue.orders["old"] == before
    assert words(
        event for event in stage.heard if not getattr(event, "external", False) if word(event) != BALANCES
    ) == ["rejected"]
    stage.assert_settled()


@pytest.mark.parametrize("status", ["Filled", "Cancelled"])
def test_S16_of_an_old_order_that_is_over_nothing_is_told(stage: Stage, status: str) -> None:
    """It ended before this broker lived: a bot would take its acceptance under our id for our order's."""
    long_ago = str(NOW_MS - 3 * DAY_MS)
    stage.venue.rests("old", "c1", createdTime=long_ago)
    if status == "Filled":
        stage.venue.trades("e0", "1", order_id="old", execTime=long_ago)
    else:
        stage.venue.ends("old")
    stage.venue.orders["old"]["updatedTime"] = long_ago
    _ = stage.broker
    stage.answers(CREATE, refusal(170141, "Duplicate clientOrderId."))
    stage.submit()
    stage.pass_ms(90_000)
    assert stage.story() == ["rejected"]
    assert not stage.said(OrderRejected).external


def test_S16_ours_that_is_not_visible_yet_is_looked_for_again(stage: Stage) -> None:
    def create(body: Any) -> Any:
        stage.venue.create(body)
        return refusal(170141, "Duplicate clientOrderId.")

    stage.answers(CREATE, create)
    _ = stage.broker
    stage.venue.hidden.add("b1")
    assert stage.submit().outcome is SubmitOutcome.UNKNOWN
    assert_unresolved(stage)
    stage.venue.hidden.clear()
    stage.pass_ms(200)
    assert stage.story() == ["accepted"]


def test_S16_an_id_of_an_order_too_old_to_show_is_rejected_as_used_after_a_deadline(stage: Stage) -> None:
    stage.answers(CREATE, refusal(170141, "Duplicate clientOrderId."))
    assert stage.submit().outcome is SubmitOutcome.UNKNOWN
    stage.pass_ms(60_000)
    assert stage.story() == []
    stage.pass_ms(6_000)
    assert stage.story() == ["rejected"]
    assert stage.said(OrderRejected).reason == "client order id already used"


# -- S17: the venue itself does not know -------------------------------------------------------------------------------

AMBIGUOUS = [10000, 10016, 170007, 170146]


@pytest.mark.parametrize("ret_code", AMBIGUOUS)
def test_S17_an_ambiguous_code_is_resolved_by_looking(stage: Stage, ret_code: int) -> None:
    def create(body: Any) -> Any:
        stage.venue.create(body)
        return refusal(ret_code, "timeout")

    stage.answers(CREATE, create)
    assert stage.submit().outcome is SubmitOutcome.UNKNOWN
    assert stage.heard == []
    assert_unresolved(stage)
    stage.pass_ms(200)
    assert stage.story() == ["accepted"]
    assert len(stage.client.posts) == 1
    stage.assert_settled()


@pytest.mark.parametrize("ret_code", AMBIGUOUS)
def test_S17_a_backend_that_timed_out_may_still_act_for_a_minute(stage: Stage, ret_code: int) -> None:
    stage.answers(CREATE, refusal(ret_code, "timeout"))
    stage.submit()
    stage.pass_ms(60_000)
    assert stage.story() == []
    assert_unresolved(stage)
    stage.pass_ms(6_000)
    assert stage.story() == ["rejected"]
    assert stage.said(OrderRejected).reason == "never_arrived"
    assert len(stage.client.posts) == 1


@pytest.mark.parametrize("ret_code", [987654, 170005, 10429])
def test_S17_a_code_nobody_listed_proves_nothing(stage: Stage, ret_code: int) -> None:
    stage.answers(CREATE, refusal(ret_code, "?"))
    assert stage.submit().outcome is SubmitOutcome.UNKNOWN
    assert stage.story() == []


# -- S18: a definite no ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ret_code", [110007, 170131, 110003, 10001, 170210])
def test_S18_a_definite_refusal_is_one_rejection_and_no_question(stage: Stage, ret_code: int) -> None:
    stage.answers(CREATE, refusal(ret_code, "Insufficient balance."))
    ack = stage.submit()
    assert ack.outcome is SubmitOutcome.REJECTED
    assert f"ret_code={ret_code}" in ack.reject_reason
    assert words(stage.heard) == ["rejected"], "alone: no acceptance before it"
    assert stage.said(OrderRejected).reason == ack.reject_reason
    assert stage.client.gets == []
    stage.pass_ms(120_000)
    assert stage.story() == ["rejected"]
    assert stage.lookups() == []
    assert len(stage.client.posts) == 1
    assert stage.broker.order("c1").status is OrderStatus.REJECTED
    stage.assert_settled()


def test_S18_a_refusal_of_an_order_that_was_seen_to_stand_is_not_believed(stage: Stage) -> None:
    def create(body: Any) -> Any:
        stage.venue.create(body)
        stage.venue.push_order()
        return refusal(170131, "Insufficient balance.")

    stage.answers(CREATE, create)
    stage.submit()
    assert stage.story() == ["accepted"]
    assert stage.broker.order("c1").is_open
    stage.assert_settled()


# -- S20: turned away --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ret_code", [10006, 10018])
def test_S20_a_submit_turned_away_unread_raises_and_leaves_no_order(stage: Stage, ret_code: int) -> None:
    stage.answers(CREATE, refusal(ret_code, "Too many visits!"))
    with pytest.raises(BybitRateLimitError):
        stage.submit()
    assert stage.heard == []
    with pytest.raises(InvalidRequestError):
        stage.broker.order("c1")
    stage.pass_ms(90_000)
    assert stage.story() == []
    assert stage.submit().accepted, "the id is free: nothing happened"


def test_S20_a_429_on_a_submit_is_no_certain_refusal(stage: Stage) -> None:
    """The gateway may have passed it on before it complained (bybit-v5.md, 12.2)."""
    taken_and_lost(stage)
    stage.client.responses[CREATE] = lambda body: [stage.venue.create(body), refusal(429, "Too Many Requests")][1]
    assert stage.submit().outcome is SubmitOutcome.UNKNOWN
    stage.pass_ms(200)
    assert stage.story() == ["accepted"]
    assert len(stage.client.posts) == 1


def test_S20_an_address_that_is_shut_out_degrades_health_once_and_touches_nothing(stage: Stage) -> None:
    stage.has_open_order()
    banned = BybitRateLimitError("access too frequent", retry_after_ms=600_000, ret_code=403)
    heal = [stage.always(path, banned) for path in (REALTIME, EXECUTIONS, WALLET, HISTORY)]
    for _ in range(5):
        assert not stage.round().ok
    assert stage.story() == ["degraded orders", "degraded executions", "degraded balances"]
    assert stage.broker.order("c1").is_open
    assert stage.client.balances == {"USDT": Decimal(1000)}
    for healed in heal:
        healed()
    stage.round()
    assert stage.story()[3:] == ["restored orders", "restored executions", "restored balances"]
    stage.assert_settled()


def test_a_client_order_id_is_used_once(stage: Stage) -> None:
    stage.has_open_order()
    with pytest.raises(InvalidRequestError, match="used before"):
        stage.broker.submit(a_limit_order(client_order_id="c1"))
    assert stage.client.posts == []


def test_the_errors_of_the_fake_are_those_of_the_venue(stage: Stage) -> None:
    """What the scenarios above rest on: a lost reply is an unknown outcome, whoever the transport is."""
    stage.answers(CREATE, LOST)
    with pytest.raises(OutcomeUnknownError):
        stage.client.post_signed(CREATE, {**order_row(), "category": "spot"})
