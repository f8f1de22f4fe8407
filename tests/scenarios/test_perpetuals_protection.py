"""Protection of positions: an exit is believed to stand, or to be gone, on the venue's evidence alone."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import pytest

from qkt.errors import BybitApiError, InvalidRequestError, OutcomeUnknownError, VenueUnavailableError
from qkt.events import FillEvent, HealthDegraded, HealthRestored, OrderCancelled, ProtectionLost, ProtectionUpdated
from qkt.model.order_kinds import ExitMode, StopKind
from qkt.testing.builders import refusal
from tests.support.perp_stage import (
    ABSENT,
    ENDED,
    POSITIONS,
    STANDS,
    STOP,
    SYMBOL,
    TAKE,
    TRADING_STOP,
    UNKNOWN,
    PerpStage,
)

D = Decimal
CONFIRMING_MS = 3_000
"""Long enough for the read that confirms a missing exit."""


@pytest.fixture
def perp() -> Iterator[PerpStage]:
    stage = PerpStage()
    yield stage
    stage.close()


def protection_alarms(perp: PerpStage) -> list[HealthDegraded]:
    return [event for event in perp.said(HealthDegraded) if event.domain == "protection"]


def test_S95_an_accepted_stop_stands_once_the_position_shows_it(perp: PerpStage) -> None:
    perp.holds_a_long()

    (answered,) = perp.broker.protect(SYMBOL, stop_loss=D(90))
    perp.venue.push_position()

    assert (answered.state, answered.wanted, answered.price) == (UNKNOWN, D(90), None)
    assert (perp.the_exit().state, perp.the_exit().price) == (STANDS, D(90))
    assert [event.protection.state for event in perp.said(ProtectionUpdated)] == [STANDS]


def test_S96_a_stop_whose_answer_was_lost_stands_after_the_next_read(perp: PerpStage) -> None:
    perp.holds_a_long()

    def taken_and_silent(body: dict[str, object]) -> object:
        perp.venue.set_exits(body)
        return OutcomeUnknownError("no answer", path=TRADING_STOP)

    perp.client.responses[TRADING_STOP] = lambda body: _raise(taken_and_silent(body))
    (answered,) = perp.broker.protect(SYMBOL, stop_loss=D(90))
    perp.clock.advance_ms(1_000)
    perp.broker.reconcile()

    assert answered.state is UNKNOWN
    assert (perp.the_exit().state, perp.the_exit().price) == (STANDS, D(90))
    assert perp.said(ProtectionLost) == []


def test_S97_a_stop_that_never_arrived_is_lost_once_it_cannot_arrive_any_more(perp: PerpStage) -> None:
    perp.holds_a_long()
    perp.client.responses[TRADING_STOP] = OutcomeUnknownError("no answer", path=TRADING_STOP)

    perp.broker.protect(SYMBOL, stop_loss=D(90))
    perp.pass_ms(10_000)
    early = perp.exits()
    perp.pass_ms(6_000)

    assert early == {STOP: UNKNOWN}
    assert perp.exits() == {STOP: ABSENT}
    assert [event.protection.wanted for event in perp.said(ProtectionLost)] == [D(90)]
    assert len(protection_alarms(perp)) == 1


@pytest.mark.parametrize("error", [BybitApiError(10001, "no"), VenueUnavailableError("not sent", path=TRADING_STOP)])
def test_S98_a_refused_stop_leaves_the_exits_as_they_were(perp: PerpStage, error: Exception) -> None:
    perp.holds_a_long(stop="80")
    before = perp.broker.protections()
    refused = refusal(10001, "StopLoss should be lower") if isinstance(error, BybitApiError) else error
    perp.client.responses[TRADING_STOP] = refused

    with pytest.raises(type(error)):
        perp.broker.protect(SYMBOL, stop_loss=D(120))
    perp.pass_ms(60_000)

    assert perp.broker.protections() == before
    assert perp.said(ProtectionUpdated) == []


def test_S99_a_stop_removed_by_hand_is_lost_and_restored_when_it_is_set_again(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")

    perp.venue.loses_stop()
    perp.venue.push_order("StopLoss")
    perp.venue.push_position()
    at_once = perp.exits()
    perp.pass_ms(CONFIRMING_MS)
    lost = perp.exits()
    perp.broker.protect(SYMBOL, stop_loss=D(91))
    perp.venue.push_position()

    assert (at_once, lost, perp.exits()) == ({STOP: UNKNOWN}, {STOP: ABSENT}, {STOP: STANDS})
    assert len(perp.said(ProtectionLost)) == len(protection_alarms(perp)) == 1
    assert [event.domain for event in perp.said(HealthRestored)] == ["protection"]


def test_S100_a_stop_that_vanished_with_the_stream_down_is_lost_within_one_interval(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")
    perp.client.emit_disconnect("gone")

    perp.venue.loses_stop()
    perp.pass_ms(30_000 + CONFIRMING_MS)

    assert perp.exits() == {STOP: ABSENT}
    assert len(perp.said(ProtectionLost)) == 1


def test_S101_a_restart_finds_the_stop_that_stands_and_calls_it_no_stranger(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")

    broker = perp.restart()

    (one,) = broker.protections()
    child = broker.order(broker_order_id="StopLoss")
    assert (one.state, one.price, one.broker_order_id) == (STANDS, D(90), "StopLoss")
    assert (child.stop_kind, child.reduce_only, child.external) == (StopKind.STOP_LOSS, True, True)
    assert perp.said(HealthDegraded) == []


def test_S102_a_restart_names_the_position_that_has_no_stop(perp: PerpStage) -> None:
    perp.holds_a_long()

    broker = perp.restart()

    assert list(broker.unprotected()) == [(SYMBOL, 0)]
    assert broker.protections() == ()


def test_S103_a_partial_fill_without_its_stop_is_announced(perp: PerpStage) -> None:
    order_id = perp.buys("2", stop_loss=D(90))
    perp.venue.trades(order_id, "e1", "1")
    perp.venue.holds("1")
    perp.venue.push_execution("e1")
    perp.venue.push_position()
    at_once = perp.exits()
    perp.pass_ms(CONFIRMING_MS)

    assert (at_once, perp.exits()) == ({STOP: UNKNOWN}, {STOP: ABSENT})
    assert perp.the_exit().parent_client_order_id == "c1"
    assert len(perp.said(ProtectionLost)) == 1


def test_S104_a_partial_exit_has_to_cover_what_its_order_filled(perp: PerpStage) -> None:
    order_id = perp.buys("2", stop_loss=D(90), exit_mode=ExitMode.PARTIAL)
    child = {"parentOrderLinkId": "c1", "tpslMode": "Partial", "qty": "1"}
    perp.venue.trades(order_id, "e1", "1")
    perp.venue.holds("1")
    perp.venue.orders["x"] = perp.venue.exit_row("PartialStopLoss", "90", orderId="x", **child)
    for push in (perp.venue.push_position, lambda: perp.venue.push_execution("e1"), lambda: perp.venue.push_order("x")):
        push()
    first = perp.the_exit()
    perp.clock.advance_ms(10)
    perp.venue.trades(order_id, "e2", "1")
    perp.venue.holds("2")
    perp.venue.push_position()
    perp.venue.push_execution("e2")
    short = perp.the_exit()
    perp.venue.orders["x"] |= {"qty": "2", "updatedTime": perp.venue.now}
    perp.venue.push_order("x")

    assert (first.state, first.quantity, first.parent_client_order_id) == (STANDS, D(1), "c1")
    assert (short.state, short.reason) == (UNKNOWN, "covers 1 of 2")
    assert (perp.the_exit().state, perp.the_exit().quantity) == (STANDS, D(2))


def test_S105_a_stop_that_closes_the_position_ends_and_is_not_lost(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")

    perp.venue.orders["StopLoss"] |= {"orderStatus": "New", "updatedTime": perp.venue.now}
    perp.venue.position["stopLoss"] = ""
    perp.venue.push_order("StopLoss")
    perp.venue.push_position()
    triggered = perp.the_exit()
    perp.venue.trades("StopLoss", "e9", "1")
    perp.venue.holds("0")
    perp.venue.push_execution("e9")
    perp.venue.push_position()
    perp.pass_ms(60_000)

    assert (triggered.state, triggered.reason) == (STANDS, "triggered")
    assert perp.broker.protections() == ()
    assert [event.broker_order_id for event in perp.said(FillEvent)] == ["StopLoss"]
    assert (perp.said(ProtectionLost), protection_alarms(perp)) == ([], [])


def test_S106_a_limit_take_profit_that_triggers_leaves_the_position_without_its_stop(perp: PerpStage) -> None:
    perp.holds_a_long()
    for kind, price in (("PartialStopLoss", "90"), ("PartialTakeProfit", "110")):
        perp.venue.orders[kind] = perp.venue.exit_row(kind, price, parentOrderLinkId="c1", qty="1")
        perp.venue.push_order(kind)
    before = perp.exits()
    perp.venue.orders["PartialTakeProfit"] |= {"orderStatus": "New", "price": "110", "updatedTime": perp.venue.now}
    perp.venue.orders["PartialStopLoss"] |= {
        "orderStatus": "Cancelled", "cancelType": "CancelByOCOSlCanceledByTpTriggered", "updatedTime": perp.venue.now,
    }  # fmt: skip
    perp.venue.push_order("PartialTakeProfit")
    perp.venue.push_order("PartialStopLoss")
    perp.pass_ms(CONFIRMING_MS)

    assert before == {STOP: STANDS, TAKE: STANDS}
    assert perp.exits() == {STOP: ABSENT, TAKE: STANDS}
    assert [event.protection.kind for event in perp.said(ProtectionLost)] == [STOP]


def test_S107_a_position_closed_by_hand_ends_its_exits_quietly(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")

    perp.venue.loses_stop()
    perp.venue.holds("0")
    perp.venue.push_position()
    perp.venue.push_order("StopLoss")
    perp.pass_ms(60_000)

    assert perp.broker.protections() == ()
    assert [event.protection.state for event in perp.said(ProtectionUpdated)] == [ENDED]
    assert [event.broker_order_id for event in perp.said(OrderCancelled)] == ["StopLoss"]
    assert protection_alarms(perp) == []


def test_S108_an_exit_that_the_bot_cancels_is_not_lost(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")

    perp.broker.cancel(broker_order_id="StopLoss")
    perp.venue.loses_stop()
    perp.venue.push_order("StopLoss")
    perp.venue.push_position()
    perp.pass_ms(60_000)

    assert perp.broker.protections() == ()
    assert perp.said(ProtectionLost) == []
    assert list(perp.broker.unprotected()) == [(SYMBOL, 0)]


def test_S109_a_stop_that_is_removed_on_request_is_not_lost(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")

    (asked,) = perp.broker.protect(SYMBOL, stop_loss=0)
    perp.clock.advance_ms(50)
    perp.venue.push_position()
    perp.pass_ms(60_000)

    assert asked.state is UNKNOWN
    assert perp.broker.protections() == ()
    assert (perp.said(ProtectionLost), protection_alarms(perp)) == ([], [])


def test_S110_a_cancelled_exit_order_alone_puts_its_stop_in_question(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")
    perp.clock.advance_ms(1_000)

    perp.venue.loses_stop()
    perp.venue.push_order("StopLoss")  # and the position frame is lost
    at_once = perp.exits()
    perp.pass_ms(CONFIRMING_MS)

    assert (at_once, perp.exits()) == ({STOP: UNKNOWN}, {STOP: ABSENT})


def test_S111_while_positions_cannot_be_read_no_exit_is_believed_lost(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")
    perp.venue.loses_stop()
    perp.client.responses[POSITIONS] = VenueUnavailableError("busy", path=POSITIONS)

    perp.pass_ms(200_000)

    assert perp.exits() != {STOP: ABSENT}
    assert "positions" in perp.broker.health.degraded


def test_S112_a_stop_moved_by_hand_stands_at_its_new_price(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")
    perp.clock.advance_ms(1_000)

    perp.venue.exit_is("stopLoss", "StopLoss", "70")
    perp.venue.position["updatedTime"] = perp.venue.now
    perp.venue.push_position()

    (event,) = perp.said(ProtectionUpdated)
    assert event.old is not None
    assert (event.old.price, event.protection.price, event.protection.state) == (D(90), D(70), STANDS)


def test_S113_a_cancel_of_all_our_orders_leaves_the_exits_of_positions(perp: PerpStage) -> None:
    perp.holds_a_long(stop="90")

    assert perp.broker.cancel_all() == []
    assert [row["orderStatus"] for row in perp.venue.orders.values()] == ["Untriggered"]


def test_S114_a_stop_without_a_position_is_refused_and_claims_nothing(perp: PerpStage) -> None:
    perp.client.responses[TRADING_STOP] = refusal(10001, "can not set tp/sl/ts for zero position")

    with pytest.raises(BybitApiError):
        perp.broker.protect(SYMBOL, stop_loss=D(90))

    assert perp.broker.protections() == ()


@pytest.mark.parametrize("wrong", [{}, {"stop_loss": -1}, {"stop_loss": 1.5}, {"take_profit": "90"}])
def test_S115_a_wrong_request_for_exits_is_refused_before_it_is_sent(perp: PerpStage, wrong: dict[str, object]) -> None:
    perp.holds_a_long()
    perp.client.posts.clear()

    with pytest.raises(InvalidRequestError):
        perp.broker.protect(SYMBOL, **wrong)  # type: ignore[arg-type]

    assert perp.client.posts == []


def test_S116_of_two_fills_the_exit_of_the_first_position_does_not_cover_the_second(perp: PerpStage) -> None:
    order_id = perp.buys("2", stop_loss=D(90))
    perp.venue.trades(order_id, "e1", "1")
    perp.venue.holds("1")
    perp.venue.exit_is("stopLoss", "StopLoss", "90", parentOrderLinkId="c1")
    perp.venue.push_execution("e1")
    perp.venue.push_position()
    perp.venue.loses_stop()
    perp.venue.push_order("StopLoss")
    perp.venue.holds("0")
    perp.venue.push_position()
    closed = perp.exits()
    perp.clock.advance_ms(5_000)
    perp.venue.trades(order_id, "e2", "1")
    perp.venue.holds("1")
    perp.venue.push_execution("e2")
    perp.venue.push_position()
    perp.pass_ms(CONFIRMING_MS)

    assert closed == {}
    assert perp.exits() == {STOP: ABSENT}


def _raise(error: object) -> object:
    assert isinstance(error, Exception)
    raise error
