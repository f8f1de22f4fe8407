"""S54-S59, S79, S83, S86: orders others placed, orders of another life, ids and numbers as they really are."""

from __future__ import annotations

import json
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest

from qkt import LimitOrder, OrderCancelled, Side, new_client_order_id
from qkt.errors import InvalidRequestError
from qkt.events import BalancesUpdated, FillEvent, HealthDegraded, OrderEvent, OrderPartiallyFilled
from qkt.ids import run_nonce
from qkt.model.orders import OrderDetails, OrderStatus
from qkt.orders.ledger import Ledger
from qkt.testing.builders import (
    acknowledged,
    execution_reported,
    execution_row,
    frame,
    order_reported,
    order_row,
    submit_intended,
)
from tests.support.stage import CANCEL, CREATE, REALTIME, Stage, kinds_of, word, words

D = Decimal
FOREIGN = "qkt-0123456789-7"


def push(stage: Stage, topic: str, *rows: dict[str, Any]) -> None:
    stage.client.emit_ws_frame(topic, frame(topic, *rows, created_ms=stage.clock.now_ms()))


def about(stage: Stage, broker_order_id: str) -> list[str]:
    """What was said of an outside order."""
    return words(
        event for event in stage.heard if isinstance(event, OrderEvent) and event.broker_order_id == broker_order_id
    )


def alarms(stage: Stage) -> list[str]:
    return [event.domain for event in stage.heard if isinstance(event, HealthDegraded)]


# -- S54: placed in the app --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_frame", [True, False])
def test_S54_several_blank_link_ids_do_not_clash(stage: Stage, by_frame: bool) -> None:
    _ = stage.broker
    for order_id in ("x1", "x2", "x3"):
        stage.venue.rests(order_id, "")
        if by_frame:
            stage.venue.push_order(order_id)
    stage.round()
    stage.clock.advance_ms(5)
    stage.venue.trades("e1", "1", order_id="x1")
    stage.venue.ends("x2")
    if by_frame:
        stage.venue.push_execution("e1")
        stage.venue.push_order("x2")
    stage.round()
    assert about(stage, "x1") == ["accepted", "filled e1"]
    assert about(stage, "x2") == ["accepted", "cancelled"]
    assert about(stage, "x3") == ["accepted"]
    assert all(event.external for event in stage.heard if isinstance(event, OrderEvent))
    assert [view.broker_order_id for view in stage.broker.open_orders()] == ["x3"]
    stage.assert_settled()


def test_S54_two_blank_orders_that_fill_in_one_frame_are_two_orders(stage: Stage) -> None:
    _ = stage.broker
    rows = []
    for order_id, exec_id in (("x1", "e1"), ("x2", "e2")):
        stage.venue.rests(order_id, "")
        rows.append(stage.venue.trades(exec_id, "1", order_id=order_id))
    push(stage, "execution.spot", *rows)
    assert about(stage, "x1") == ["accepted", "filled e1"]
    assert about(stage, "x2") == ["accepted", "filled e2"]
    stage.assert_settled()


def test_S54_a_link_id_of_the_venues_making_is_an_outside_order_known_by_both_ids(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.venue.rests("x1", "spot-web-17")
    stage.venue.push_order("x1")
    assert stage.broker.order("spot-web-17") == stage.broker.order(broker_order_id="x1")
    assert stage.broker.order("spot-web-17").external is True
    assert stage.broker.order("c1").external is False
    assert alarms(stage) == []


def test_S54_an_outside_order_can_be_cancelled_by_the_venues_id(stage: Stage) -> None:
    _ = stage.broker
    stage.venue.rests("x1", "")
    stage.venue.push_order("x1")
    assert stage.broker.cancel(broker_order_id="x1").accepted
    assert [request["orderId"] for request in stage.asked(CANCEL)] == ["x1"]
    stage.clock.advance_ms(5)
    stage.venue.ends("x1")
    stage.venue.push_order("x1")
    assert about(stage, "x1") == ["accepted", "cancelled"]


def test_S54_an_outside_order_with_a_link_id_of_ours_is_not_taken_for_ours(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.venue.rests("x1", "c1", qty="7")
    stage.venue.push_order("x1")
    stage.venue.trades("e1", "7", order_id="x1")
    stage.venue.push_execution("e1")
    assert about(stage, "x1") == ["accepted", "filled e1"]
    assert about(stage, "b1") == []
    assert all(event.external for event in stage.heard if isinstance(event, OrderEvent))
    view = stage.broker.order("c1")
    assert (view.broker_order_id, view.is_open, view.cum_quantity) == ("b1", True, 0)  # type: ignore[comparison-overlap]


def test_S54_an_outside_order_that_came_and_went_between_two_rounds_tells_its_fill(stage: Stage) -> None:
    _ = stage.broker
    stage.venue.rests("x1", "")
    stage.venue.trades("e1", "1", order_id="x1")
    report = stage.round()
    assert about(stage, "x1") == ["accepted", "filled e1"]
    assert kinds_of(report) == ["missed_fill"]
    stage.assert_settled()


def test_S54_an_outside_order_a_round_finds_is_a_discrepancy_of_its_own(stage: Stage) -> None:
    _ = stage.broker
    stage.venue.rests("x1", "")
    report = stage.round()
    assert kinds_of(report) == ["missed_order"]
    assert report.adopted == 1


# -- S55: our order cancelled by hand ----------------------------------------------------------------------------------


def test_S55_our_order_cancelled_by_hand_is_told_with_who_did_it(stage: Stage) -> None:
    stage.open(poll_interval_ms=30_000)
    stage.has_open_order()
    stage.venue.ends(cancelType="CancelByUser", rejectReason="EC_PerCancelRequest")
    stage.pass_ms(30_000)
    assert stage.story() == ["cancelled"]
    assert stage.said(OrderCancelled).reason == "CancelByUser"
    assert stage.said(OrderCancelled).external is False
    assert kinds_of(stage.broker.reports[-1]) == ["missed_end"]
    assert [request["orderId"] for request in stage.lookups() if request.path == REALTIME] == ["b1"]
    stage.assert_settled()


# -- S56: a trade by hand ----------------------------------------------------------------------------------------------


def test_S56_a_fill_of_an_order_nobody_saw_is_external_and_touches_no_order_of_ours(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.venue.rests("x1", "")
    stage.venue.trades("e1", "1", order_id="x1")
    stage.venue.push_execution("e1")
    assert about(stage, "x1") == ["accepted", "filled e1"]
    assert all(event.external for event in stage.heard if isinstance(event, OrderEvent))
    assert stage.story("c1") == []
    assert stage.broker.order("c1").cum_quantity == 0
    stage.assert_settled()


def test_S56_its_effect_on_the_balances_is_told(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.venue.wallet = {"USDT": "900", "BTC": "1"}
    stage.round()
    (update,) = [event for event in stage.heard if isinstance(event, BalancesUpdated)]
    assert update.changed == {"USDT", "BTC"}
    assert update.balances["BTC"] == D(1)


def test_S56_a_partly_filled_unseen_order_is_asked_about_and_ends_by_the_venues_word(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.venue.rests("x1", "", qty="5")
    stage.venue.trades("e1", "2", order_id="x1")
    stage.venue.push_execution("e1")
    stage.clock.advance_ms(5)
    stage.venue.ends("x1")
    stage.round()
    assert about(stage, "x1") == ["accepted", "part e1", "cancelled"]
    view = stage.broker.order(broker_order_id="x1")
    assert (view.quantity, view.limit_price, view.leaves_quantity) == (D(5), D(100), 0)  # type: ignore[comparison-overlap]
    stage.assert_settled()


# -- S57: somebody else runs our bot -----------------------------------------------------------------------------------


@pytest.mark.parametrize("by_frame", [True, False])
@pytest.mark.parametrize("mine", [True, False])
def test_S57_another_process_of_ours_is_alarmed_once_and_its_order_is_external(
    stage: Stage, by_frame: bool, mine: bool
) -> None:
    _ = stage.broker
    stage.clock.advance_ms(60_000)
    link_id = f"qkt-{run_nonce()}-999999" if mine else FOREIGN
    stage.venue.rests("x1", link_id)
    if by_frame:
        stage.venue.push_order("x1")
    stage.round()
    assert alarms(stage) == ["split_brain"]
    assert link_id in stage.said(HealthDegraded).reason
    assert stage.broker.order(link_id).external is True
    stage.clock.advance_ms(5)
    stage.venue.trades("e1", "1", order_id="x1")
    stage.venue.push_execution("e1")
    stage.round()
    assert alarms(stage) == ["split_brain"]
    assert about(stage, "x1") == ["accepted", "filled e1"]
    stage.assert_settled()


def test_S57_a_fill_alone_betrays_the_other_process(stage: Stage) -> None:
    _ = stage.broker
    stage.clock.advance_ms(60_000)
    stage.venue.rests("x1", FOREIGN)
    stage.venue.trades("e1", "1", order_id="x1")
    stage.venue.push_execution("e1")
    assert alarms(stage) == ["split_brain"]


def test_S57_an_order_of_an_earlier_run_is_no_alarm(stage: Stage) -> None:
    stage.venue.rests("x1", FOREIGN)
    stage.clock.advance_ms(60_000)
    stage.open()
    stage.round()
    stage.venue.push_order("x1")
    assert not [event for event in stage.ever_heard if isinstance(event, HealthDegraded)]


def test_S57_an_order_another_broker_of_this_process_sent_is_no_alarm(stage: Stage) -> None:
    _ = stage.broker
    stage.clock.advance_ms(60_000)
    stage.venue.rests("x1", new_client_order_id())
    stage.venue.push_order("x1")
    assert alarms(stage) == []


# -- S58: the process died with an order in flight ---------------------------------------------------------------------


def restarted(stage: Stage, **options: Any) -> list[str]:
    """Build the broker as a new process does; what it said while starting."""
    stage.open(**options)
    return [word(event) for event in stage.ever_heard if isinstance(event, OrderEvent)]


def test_S58_an_order_of_the_last_process_is_adopted_with_view_and_events(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN)
    stage.clock.advance_ms(60_000)
    assert restarted(stage) == ["accepted"]
    view = stage.broker.order(FOREIGN)
    assert (view.broker_order_id, view.external, view.status) == ("b7", True, OrderStatus.NEW)
    assert (view.quantity, view.limit_price) == (D(1), D(100))
    report = stage.broker.reports[0]
    assert report.adopted == 1
    assert report.discrepancies == ()


def test_S58_an_adopted_order_fills_and_ends_like_any_other(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN)
    stage.clock.advance_ms(60_000)
    restarted(stage)
    stage.venue.trades("e1", "0.4", order_id="b7")
    stage.venue.push_execution("e1")
    stage.clock.advance_ms(5)
    stage.venue.trades("e2", "0.6", order_id="b7")
    stage.round()
    assert about(stage, "b7") == ["part e1", "filled e2"]
    assert stage.broker.order(FOREIGN).cum_quantity == D(1)
    stage.assert_settled()


def test_S58_an_adopted_order_can_be_cancelled_by_either_id(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN)
    stage.venue.rests("b8", "qkt-0123456789-8")
    stage.clock.advance_ms(60_000)
    restarted(stage)
    assert stage.broker.cancel(FOREIGN).accepted
    assert stage.broker.cancel(broker_order_id="b8").accepted
    assert [request["orderId"] for request in stage.asked(CANCEL)] == ["b7", "b8"]


def test_S58_an_adopted_stop_is_cancelled_in_the_drawer_it_lies_in(stage: Stage) -> None:
    stage.venue.rests(
        "b7", FOREIGN, stopOrderType="Stop", triggerPrice="90", orderStatus="Untriggered", orderType="Market", price="0"
    )
    stage.clock.advance_ms(60_000)
    assert restarted(stage) == ["accepted"]
    assert stage.broker.cancel(FOREIGN).accepted
    (request,) = stage.asked(CANCEL)
    assert (request["orderId"], request["orderFilter"]) == ("b7", "StopOrder")


def test_S58_an_order_partly_filled_before_the_window_is_adopted_with_its_whole_sum(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN)
    stage.venue.trades("e1", "0.4", order_id="b7")
    stage.clock.advance_ms(3_600_000)
    assert restarted(stage) == ["accepted"]
    view = stage.broker.order(FOREIGN)
    assert (view.cum_quantity, view.leaves_quantity, view.missing_quantity) == (D("0.4"), D("0.6"), 0)  # type: ignore[comparison-overlap]
    stage.venue.trades("e2", "0.6", order_id="b7")
    stage.venue.push_execution("e2")
    assert about(stage, "b7") == ["filled e2"]
    assert stage.heard[-1].cum_quantity == D(1)
    stage.assert_settled()


def test_S58_an_order_that_filled_while_nobody_ran_tells_its_fill_and_its_end(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN)
    stage.clock.advance_ms(60_000)
    stage.venue.trades("e1", "1", order_id="b7")
    stage.clock.advance_ms(60_000)
    assert restarted(stage) == ["accepted", "filled e1"]
    assert stage.broker.open_orders() == []
    stage.assert_settled()


def test_S58_its_client_order_id_cannot_be_used_again(stage: Stage) -> None:
    stage.venue.rests("b7", "my-own-name")
    restarted(stage)
    with pytest.raises(InvalidRequestError, match="my-own-name"):
        stage.submit("my-own-name")
    assert stage.asked(CREATE) == []


# -- S59: executions from before the start -----------------------------------------------------------------------------


def test_S59_executions_in_the_recovery_window_are_published_once(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN, qty="5")
    stage.venue.trades("e0", "1", order_id="b7")
    stage.clock.advance_ms(200_000)
    stage.venue.trades("e1", "1", order_id="b7")
    stage.clock.advance_ms(200_000)
    assert restarted(stage, recovery_window_ms=300_000) == ["accepted", "part e1"]
    (fill,) = [event for event in stage.ever_heard if isinstance(event, FillEvent)]
    assert (fill.origin, fill.exec_id, fill.quantity) == ("reconcile", "e1", D(1))
    for _ in range(3):
        stage.round()
    assert stage.story() == []
    assert stage.broker.order(FOREIGN).cum_quantity == D(2)
    stage.assert_settled()


def test_S59_without_a_window_only_newer_executions_are_published(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN, qty="5")
    stage.venue.trades("e1", "1", order_id="b7")
    stage.clock.advance_ms(1_000)
    assert restarted(stage, recovery_window_ms=0) == ["accepted"]
    stage.round()
    stage.venue.trades("e2", "1", order_id="b7")
    stage.round()
    assert stage.story() == ["part e2"]
    assert stage.said(OrderPartiallyFilled).cum_quantity == D(2)
    assert [fill.exec_id for fill in stage.broker.fills(broker_order_id="b7")] == ["e1", "e2"]
    stage.assert_settled()


def test_S59_without_a_window_an_order_over_before_the_start_is_not_told_of_at_all(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN)
    stage.venue.trades("e1", "1", order_id="b7")
    stage.clock.advance_ms(10_000)
    restarted(stage, recovery_window_ms=0)
    stage.ever_heard.clear()
    for _ in range(3):
        stage.clock.advance_ms(10_000)
        stage.round()  # the overlap of its window reaches back to before the start
    assert stage.story() == []
    assert not [event for event in stage.ever_heard if isinstance(event, OrderEvent)]


def test_S59_without_a_window_an_old_execution_the_stream_replays_is_not_published(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN, qty="5")
    stage.venue.trades("e1", "1", order_id="b7")
    stage.clock.advance_ms(1_000)
    restarted(stage, recovery_window_ms=0)
    stage.venue.push_execution("e1")
    assert stage.story() == []


def test_S59_a_new_broker_instance_publishes_them_again(stage: Stage) -> None:
    stage.venue.rests("b7", FOREIGN)
    stage.venue.trades("e1", "1", order_id="b7")
    stage.clock.advance_ms(10_000)
    first = restarted(stage)
    stage.broker.close()
    stage.ever_heard.clear()
    assert restarted(stage) == first == ["accepted", "filled e1"]


# -- S79: the venue splits one order into several ----------------------------------------------------------------------


def test_S79_the_pieces_of_a_split_order_are_tracked_and_nothing_stays_unresolved() -> None:
    ledger = Ledger()
    linear = "BYBIT_LINEAR:BTCUSDT"
    ledger.apply(submit_intended("c1", symbol=linear, quantity=D(30)))
    ledger.apply(acknowledged("c1", "b1"))
    told: dict[str, list[str]] = {}
    for broker_order_id, client_order_id, parent in (("b1", "c1", ""), ("b2", "", "c1"), ("b3", "", "c1")):
        names: dict[str, Any] = {"broker_order_id": broker_order_id, "client_order_id": client_order_id}
        names |= {"symbol": linear, "details": OrderDetails(parent_client_order_id=parent)}
        facts = (
            order_reported("New", quantity=D(10), updated_ms=1, **names),
            execution_reported(
                f"e-{broker_order_id}", 10, of=10, leaves=0, **{k: v for k, v in names.items() if k != "details"}
            ),
            order_reported("Filled", 10, quantity=D(10), updated_ms=2, **names),
        )
        for fact in facts:
            for change in ledger.apply(fact):
                told.setdefault(broker_order_id, []).extend(words(change.events))
    assert [told["b2"], told["b3"]] == [["accepted", "filled e-b2"], ["accepted", "filled e-b3"]]
    assert [name for name in told["b1"] if name != "modified"] == ["accepted", "filled e-b1"]
    assert [order.external for order in ledger] == [False, True, True]
    assert list(ledger.open_orders()) == []
    assert sum(order.cum_quantity for order in ledger) == 30


# -- S83: ids across restarts ------------------------------------------------------------------------------------------

_FIRST_IDS = """
import random, time
random.seed(0)
time.time = lambda: 1_700_000_000.0
time.time_ns = lambda: 1_700_000_000_000_000_000
from qkt import new_client_order_id
import json; print(json.dumps([new_client_order_id() for _ in range(3)]))
"""


def test_S83_two_starts_within_one_second_share_no_id() -> None:
    runs = [subprocess.Popen([sys.executable, "-c", _FIRST_IDS], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    ids = [json.loads(run.communicate(timeout=30)[0]) for run in runs]
    assert len({*ids[0], *ids[1]}) == 6


def test_S83_ids_fit_the_venue() -> None:
    ids = [new_client_order_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000
    assert all(len(one) <= 36 and one.startswith(f"qkt-{run_nonce()}-") for one in ids)


# -- S86: numbers ------------------------------------------------------------------------------------------------------

SMALLEST = "0.000000000000000001"


def test_S86_eighteen_decimals_survive_from_the_wire_to_event_view_and_sum(stage: Stage) -> None:
    stage.has_open_order(quantity=D("0.000000000000000003"), limit_price=D("0.00000001"))
    for number in range(3):
        row = stage.venue.trades(f"e{number}", SMALLEST, execPrice="1e-8", execFee="1E-18")
        push(stage, "execution.spot", row)
    fills = [event for event in stage.heard if isinstance(event, FillEvent)]
    assert [fill.quantity for fill in fills] == [D(SMALLEST)] * 3
    assert [fill.price for fill in fills] == [D("0.00000001")] * 3
    assert fills[-1].cum_quantity == D("0.000000000000000003")
    view = stage.broker.order("c1")
    assert view.fees == {"BTC": D("0.000000000000000003")}
    assert view.avg_price == D("0.00000001")
    assert stage.story() == ["part e0", "part e1", "filled e2"]


def test_S86_json_numbers_are_read_without_a_float(stage: Stage) -> None:
    stage.has_open_order()
    row = json.dumps(execution_row(execTime=stage.venue.now, execId="e1"))
    text = row.replace('"execPrice": "100"', '"execPrice": 0.1').replace('"execQty": "1"', '"execQty": 0.3')
    topic = '{"topic": "execution.spot", "creationTime": 1, "data": [%s]}'
    stage.client.emit_ws_frame("execution.spot", topic % text)
    fill = stage.said(OrderPartiallyFilled)
    assert (fill.price, fill.quantity) == (D("0.1"), D("0.3"))


@pytest.mark.parametrize("blank", ["", "0", "0.00", None])
def test_S86_blank_and_zero_prices_are_no_price(stage: Stage, blank: str | None) -> None:
    _ = stage.broker
    row = order_row(orderId="x1", orderLinkId="", price=blank, triggerPrice=blank, createdTime=stage.venue.now)
    push(stage, "order.spot", row)
    view = stage.broker.order(broker_order_id="x1")
    assert (view.limit_price, view.stop_price) == (None, None)


@pytest.mark.parametrize(
    ("quantity", "wire"), [("1E-8", "0.00000001"), ("1E+3", "1000"), (SMALLEST, SMALLEST), ("0.10", "0.10")]
)
def test_S86_quantities_go_out_as_plain_figures(stage: Stage, quantity: Any, wire: Any) -> None:
    _ = stage.broker
    stage.broker.submit(
        LimitOrder(symbol="BYBIT_SPOT:BTCUSDT", side=Side.BUY, quantity=D(quantity), limit_price=D("1E+4"))
    )
    (request,) = stage.asked(CREATE)
    assert (request["qty"], request["price"]) == (wire, "10000")


@pytest.mark.parametrize("quantity", ["", "not-a-number", "NaN", "0"])
def test_S86_a_quantity_that_is_none_fills_nothing_and_hides_nothing(stage: Stage, quantity: str) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1")
    push(stage, "execution.spot", execution_row(execId="e9", execQty=quantity), stage.venue.executions["e1"])
    assert stage.story() == ["filled e1"]
