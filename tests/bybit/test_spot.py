"""The spot broker on fakes: the seed's recipes, and what must be refused before anything is sent."""

from __future__ import annotations

import gc
import threading
import weakref
from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.protocol import OrderTypeCapability, SubmitOutcome
from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import BybitRateLimitError, InvalidRequestError, ReconcileError, VenueUnavailableError, WaitTimeoutError
from qkt.events import BalancesUpdated, OrderAccepted, OrderCancelFailed
from qkt.model.orders import (
    IfTouchedOrder,
    MarketOrder,
    OrderModification,
    OrderStatus,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import (
    SYMBOL,
    a_limit_order,
    envelope,
    execution_row,
    frame,
    order_row,
    refusal,
    wallet_envelope,
)
from tests.bybit.conftest import Desk

WALLET = "/v5/account/wallet-balance"


# -- construction and rounds -----------------------------------------------------------------------------------------


def test_construction_reads_orders_executions_and_balances_before_it_returns(desk: Desk) -> None:
    desk.client.responses[WALLET] = wallet_envelope(USDT="1000.5")

    BybitSpotBroker(desk.client, desk.bus, desk.clock, poll_scheduler=desk.scheduler).close()

    assert {request.path for request in desk.client.gets} == {
        "/v5/order/realtime",
        "/v5/execution/list",
        WALLET,
        "/v5/market/instruments-info",
    }
    assert desk.client.balances == {"USDT": Decimal("1000.5")}


def test_construction_fails_loud_when_a_path_cannot_be_read(desk: Desk) -> None:
    desk.client.responses["/v5/order/realtime"] = refusal(10016, "Server error")

    with pytest.raises(ReconcileError, match="orders") as caught:
        desk.open()

    assert not caught.value.report.path("orders").ok
    assert caught.value.report.path("balances").ok
    assert desk.scheduler.schedules == ()


def test_a_broker_that_failed_to_open_leaves_no_thread_behind(desk: Desk) -> None:
    desk.client.responses[WALLET] = refusal(10003, "invalid key")

    with pytest.raises(ReconcileError):
        BybitSpotBroker(desk.client, desk.bus, desk.clock)

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qkt")]


def test_one_schedule_at_the_poll_interval_is_started(desk: Desk) -> None:
    desk.open(poll_interval_ms=5_000)

    (schedule,) = desk.scheduler.schedules
    assert (schedule.initial_delay_ms, schedule.interval_ms) == (5_000, 5_000)


def test_every_tick_reads_and_publishes_balances_with_their_source(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.heard.clear()
    desk.client.responses[WALLET] = wallet_envelope(USDT="7")

    desk.scheduler.fire_tick()

    (event,) = desk.heard
    assert isinstance(event, BalancesUpdated)
    assert (event.source, dict(event.balances), event.changed) == (
        "BYBIT_SPOT",
        {"USDT": Decimal(7)},
        frozenset({"USDT"}),
    )


def test_the_first_execution_window_reaches_back_by_the_recovery_window(desk: Desk) -> None:
    BybitSpotBroker(
        desk.client, desk.bus, desk.clock, poll_scheduler=desk.scheduler, recovery_window_ms=300_000
    ).close()

    (asked,) = [request.query for request in desk.client.gets if request.path == "/v5/execution/list"]
    assert (asked["startTime"], asked["endTime"]) == (700_000, 1_000_000)


def test_a_tick_that_fails_is_followed_by_one_that_succeeds(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses[WALLET] = refusal(10016)
    desk.scheduler.fire_tick()
    assert not broker.reports[-1].ok

    del desk.client.responses[WALLET]
    desk.scheduler.fire_tick()

    assert broker.reports[-1].ok


def test_no_read_is_posted(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.scheduler.fire_tick()

    assert desk.client.posts == []


@pytest.mark.parametrize("bad", [0, -1, 1.5, "30000", True])
def test_an_interval_that_is_no_positive_number_of_milliseconds_is_refused(desk: Desk, bad: Any) -> None:
    with pytest.raises(InvalidRequestError, match="poll_interval_ms"):
        desk.open(poll_interval_ms=bad)


# -- submit ----------------------------------------------------------------------------------------------------------


def test_submit_posts_only_the_create_call(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses["/v5/order/create"] = '{"retCode":0,"result":{"orderId":"abc","orderLinkId":"c1"}}'

    ack = broker.submit(a_limit_order(client_order_id="c1"))

    (post,) = desk.client.posts
    assert post.path == "/v5/order/create"
    assert post.body == {
        "category": "spot",
        "symbol": "BTCUSDT",
        "side": "Buy",
        "orderType": "Limit",
        "qty": "1",
        "price": "100",
        "timeInForce": "GTC",
        "orderLinkId": "c1",
    }
    assert (ack.client_order_id, ack.broker_order_id, ack.outcome) == ("c1", "abc", SubmitOutcome.ACCEPTED)
    assert desk.client.gets == []


def test_retcode_zero_alone_is_no_acceptance(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(a_limit_order(client_order_id="c1"))

    assert desk.told() == []
    assert broker.order("c1").status is OrderStatus.ACKNOWLEDGED


def test_a_refused_create_gives_a_rejection_alone(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses["/v5/order/create"] = refusal(170131, "Insufficient balance.")

    ack = broker.submit(a_limit_order(client_order_id="c1"))

    assert ack.outcome is SubmitOutcome.REJECTED
    assert "170131" in ack.reject_reason
    assert desk.told() == ["OrderRejected"]
    assert desk.client.gets == []


def test_an_order_gets_an_id_when_it_has_none(desk: Desk, broker: BybitSpotBroker) -> None:
    ack = broker.submit(a_limit_order())

    assert desk.client.posts[0].body["orderLinkId"] == ack.client_order_id != ""


def test_a_spent_rate_budget_raises_and_the_id_is_free_again(desk: Desk, broker: BybitSpotBroker) -> None:
    def spent() -> None:
        raise BybitRateLimitError("spent", retry_after_ms=10)

    desk.client.responses["/v5/order/create"] = spent
    with pytest.raises(BybitRateLimitError):
        broker.submit(a_limit_order(client_order_id="c1"))

    del desk.client.responses["/v5/order/create"]
    assert broker.submit(a_limit_order(client_order_id="c1")).accepted
    assert desk.told() == []


def test_a_transport_that_breaks_in_an_unknown_way_leaves_the_order_unresolved(
    desk: Desk, broker: BybitSpotBroker
) -> None:
    def broken() -> None:
        raise RuntimeError("a custom transport")

    desk.client.responses["/v5/order/create"] = broken

    assert broker.submit(a_limit_order(client_order_id="c1")).outcome is SubmitOutcome.UNKNOWN
    assert broker.health.unresolved == ("c1",)


def test_a_submit_whose_broker_is_closed_before_the_reply_is_lost_is_unknown(
    desk: Desk, broker: BybitSpotBroker
) -> None:
    def closing() -> None:
        broker.close()
        raise TimeoutError("read timed out")

    desk.client.responses["/v5/order/create"] = closing

    assert broker.submit(a_limit_order(client_order_id="c1")).outcome is SubmitOutcome.UNKNOWN


def test_an_interrupt_in_the_middle_of_a_submit_does_not_forget_the_order(desk: Desk, broker: BybitSpotBroker) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    desk.client.responses["/v5/order/create"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        broker.submit(a_limit_order(client_order_id="c1"))

    assert broker.health.unresolved == ("c1",)


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            MarketOrder(symbol=SYMBOL, side=Side.BUY, quantity=Decimal(250), quote_sized=True),
            {"orderType": "Market", "qty": "250", "marketUnit": "quoteCoin", "timeInForce": "IOC"},
        ),
        (
            MarketOrder(symbol=SYMBOL, side=Side.SELL, quantity=Decimal("0.5")),
            {"orderType": "Market", "qty": "0.5", "marketUnit": "baseCoin", "timeInForce": "IOC"},
        ),
        (
            StopOrder(symbol=SYMBOL, side=Side.SELL, quantity=Decimal(1), stop_price=Decimal(90)),
            {"orderType": "Market", "triggerPrice": "90", "orderFilter": "StopOrder", "marketUnit": "baseCoin"},
        ),
        (
            StopLimitOrder(
                symbol=SYMBOL, side=Side.SELL, quantity=Decimal(1), stop_price=Decimal(90), limit_price=Decimal(89)
            ),
            {"orderType": "Limit", "price": "89", "triggerPrice": "90", "orderFilter": "StopOrder"},
        ),
        (
            IfTouchedOrder(symbol=SYMBOL, side=Side.BUY, quantity=Decimal(1), trigger_price=Decimal(80)),
            {"orderType": "Market", "triggerPrice": "80", "orderFilter": "StopOrder"},
        ),
        (a_limit_order(time_in_force=TimeInForce.POST_ONLY), {"timeInForce": "PostOnly"}),
        (a_limit_order(time_in_force=TimeInForce.IOC), {"timeInForce": "IOC"}),
        (a_limit_order(time_in_force=TimeInForce.FOK), {"timeInForce": "FOK"}),
        (a_limit_order(quantity=Decimal("1E-8")), {"qty": "0.00000001"}),
    ],
)
def test_each_kind_of_order_has_its_own_body(
    desk: Desk, broker: BybitSpotBroker, request_: Any, expected: dict[str, Any]
) -> None:
    broker.submit(request_)

    body = desk.client.posts[0].body
    assert {name: body.get(name) for name in expected} == expected
    assert "triggerDirection" not in body


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (a_limit_order(time_in_force=TimeInForce.DAY), "DAY"),
        (a_limit_order(symbol="KRAKEN:BTCUSD"), "prefix"),
        (a_limit_order(symbol="BYBIT_LINEAR:BTCUSDT"), "does not serve"),
        (a_limit_order(symbol="BYBIT_SPOT:"), "BYBIT_SPOT"),
        (a_limit_order(symbol="BYBIT_SPOT:btcusdt"), "capitals"),
        ("buy one", "submit takes an order"),
    ],
)
def test_what_cannot_be_right_is_refused_before_anything_is_sent(
    desk: Desk, broker: BybitSpotBroker, request_: Any, told: str
) -> None:
    with pytest.raises(InvalidRequestError, match=told):
        broker.submit(request_)

    assert desk.client.posts == []
    assert broker.open_orders() == []


def test_a_reused_client_order_id_is_refused_before_anything_is_sent(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(a_limit_order(client_order_id="c1"))

    with pytest.raises(InvalidRequestError, match="used before"):
        broker.submit(a_limit_order(client_order_id="c1"))

    assert len(desk.client.posts) == 1


def test_a_submit_can_be_gated_on_the_age_of_the_state(desk: Desk) -> None:
    broker = desk.open(max_staleness_ms=10_000)
    desk.clock.advance_ms(10_001)

    with pytest.raises(VenueUnavailableError, match="10001 ms old"):
        broker.submit(a_limit_order())

    assert desk.client.posts == []


# -- frames ----------------------------------------------------------------------------------------------------------


def test_a_fill_on_the_stream_is_told_once_with_its_fee(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(a_limit_order(client_order_id="c1"))
    row = execution_row(orderId="fake-1", execQty="0.4", leavesQty="0.6", execFee="0.0004", feeCurrency="BTC")

    desk.client.emit_ws_frame("execution", frame("execution", row))
    desk.client.emit_ws_frame("execution", frame("execution", row))

    assert desk.told() == ["OrderAccepted", "OrderPartiallyFilled"]
    fill = desk.heard[-1]
    assert (fill.quantity, fill.cum_quantity, fill.leaves_quantity) == (Decimal("0.4"), Decimal("0.4"), Decimal("0.6"))
    assert (fill.fee, fill.fee_currency, fill.origin) == (Decimal("0.0004"), "BTC", "stream")


def test_frames_of_another_category_are_not_ours(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_ws_frame("order", frame("order", order_row(category="linear")))

    assert desk.told() == []


def test_the_row_decides_the_category_whatever_the_topic_says(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_ws_frame("order.spot", frame("order.spot", order_row(category="linear"), order_row(orderId="b2")))

    assert [event.broker_order_id for event in desk.heard if isinstance(event, OrderAccepted)] == ["b2"]


def test_a_funding_row_is_no_fill(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_ws_frame("execution", frame("execution", execution_row(execType="Funding")))

    assert desk.told() == []


def test_a_broken_row_costs_neither_its_neighbours_nor_the_stream(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_ws_frame("order", frame("order", {"category": "spot", "orderId": "bad"}, order_row()))

    assert desk.told() == ["OrderAccepted"]


# -- cancel and modify -----------------------------------------------------------------------------------------------


def rest(desk: Desk, broker: BybitSpotBroker, client_order_id: str = "c1") -> Any:
    """An order of ours that stands at the venue."""
    ack = broker.submit(a_limit_order(client_order_id=client_order_id))
    desk.client.emit_ws_frame(
        "order", frame("order", order_row(orderId=ack.broker_order_id, orderLinkId=client_order_id))
    )
    desk.client.posts.clear()
    desk.heard.clear()
    return ack


def test_ids_that_come_as_numbers_name_the_same_order(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses["/v5/order/create"] = {"retCode": 0, "retMsg": "OK", "result": {"orderId": 2093441180027}}
    ack = broker.submit(a_limit_order())

    row = execution_row(orderId=2093441180027, orderLinkId="", execId=2290000000123)
    desk.client.emit_ws_frame("execution", frame("execution", row))

    assert [fill.exec_id for fill in broker.fills(ack.client_order_id)] == ["2290000000123"]


@pytest.mark.parametrize("made", ["", "0.00", "soon", None])
def test_a_frame_that_does_not_say_when_it_was_made_still_counts(
    desk: Desk, broker: BybitSpotBroker, made: str | None
) -> None:
    ack = broker.submit(a_limit_order())

    for topic, rows in (
        ("order", [order_row(orderId=ack.broker_order_id, orderLinkId=ack.client_order_id)]),
        ("wallet", [{"coin": [{"coin": "USDT", "walletBalance": "1"}]}]),
    ):
        desk.client.emit_ws_frame(topic, {"topic": topic, "creationTime": made, "data": rows})

    assert broker.wait(ack.client_order_id, until="accepted", timeout_ms=0).is_open


def test_cancel_names_the_order_by_the_venues_id_alone(desk: Desk, broker: BybitSpotBroker) -> None:
    ack = rest(desk, broker)

    assert broker.cancel("c1").outcome is SubmitOutcome.ACCEPTED

    (post,) = desk.client.posts
    assert post.body == {"category": "spot", "symbol": "BTCUSDT", "orderId": ack.broker_order_id}
    assert desk.told() == []


def test_cancelling_an_unknown_id_raises_and_sends_nothing(desk: Desk, broker: BybitSpotBroker) -> None:
    with pytest.raises(InvalidRequestError, match="nosuch"):
        broker.cancel("nosuch")

    assert desk.client.posts == []


def test_cancelling_without_an_id_or_with_both_is_refused(desk: Desk, broker: BybitSpotBroker) -> None:
    with pytest.raises(InvalidRequestError, match="exactly one"):
        broker.cancel()
    with pytest.raises(InvalidRequestError, match="exactly one"):
        broker.cancel("c1", broker_order_id="b1")


def test_cancelling_a_closed_order_sends_nothing_and_says_that_it_failed(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker)
    desk.client.emit_ws_frame("order", frame("order", order_row(orderId="fake-1", orderStatus="Cancelled")))
    desk.heard.clear()

    ack = broker.cancel("c1")

    assert ack.outcome is SubmitOutcome.REJECTED
    assert [type(event) for event in desk.heard] == [OrderCancelFailed]
    assert desk.client.posts == []


def test_a_conditional_order_is_cancelled_in_its_own_drawer(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(
        StopOrder(symbol=SYMBOL, side=Side.SELL, quantity=Decimal(1), stop_price=Decimal(90), client_order_id="s1")
    )
    desk.client.posts.clear()

    broker.cancel("s1")

    assert desk.client.posts[0].body["orderFilter"] == "StopOrder"


def test_an_outside_order_is_cancelled_by_its_venue_id(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_ws_frame("order", frame("order", order_row(orderId="ui-1", orderLinkId="")))

    assert broker.cancel(broker_order_id="ui-1").accepted
    assert desk.client.posts[0].body["orderId"] == "ui-1"


def test_an_order_without_a_client_id_named_by_it_is_told_how_to_be_named(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_ws_frame("order", frame("order", order_row(orderId="b9", orderLinkId="")))
    (outside,) = broker.open_orders()
    with pytest.raises(InvalidRequestError, match="broker_order_id="):
        broker.cancel(outside.client_order_id)


def test_modify_sends_only_what_changes_in_plain_digits(desk: Desk, broker: BybitSpotBroker) -> None:
    ack = rest(desk, broker)

    assert broker.modify("c1", OrderModification(new_limit_price=Decimal("5.9E+4"))).accepted

    assert desk.client.posts[0].body == {
        "category": "spot",
        "symbol": "BTCUSDT",
        "orderId": ack.broker_order_id,
        "price": "59000",
    }


def test_a_modification_the_order_has_no_field_for_is_refused(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker)

    with pytest.raises(InvalidRequestError, match="no stop price"):
        broker.modify("c1", OrderModification(new_stop_price=Decimal(1)))


def test_a_refused_amend_tells_that_it_failed_and_the_order_stands(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker)
    desk.client.responses["/v5/order/amend"] = refusal(170313, "qty below filled")

    ack = broker.modify("c1", OrderModification(new_quantity=Decimal("0.5")))

    assert ack.outcome is SubmitOutcome.REJECTED
    assert desk.told() == ["OrderModifyFailed"]
    assert broker.order("c1").is_open


def test_cancel_all_cancels_ours_and_leaves_the_others(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker, "c1")
    rest(desk, broker, "c2")
    desk.client.emit_ws_frame("order", frame("order", order_row(orderId="ui-1", orderLinkId="")))

    acks = broker.cancel_all()

    assert [ack.client_order_id for ack in acks] == ["c1", "c2"]


# -- for blocking scripts --------------------------------------------------------------------------------------------


def test_wait_returns_the_view_of_the_state_it_waited_for(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(a_limit_order(client_order_id="c1"))
    desk.client.emit_ws_frame("execution", frame("execution", execution_row(orderId="fake-1")))

    view = broker.wait("c1", until="closed", timeout_ms=0)

    assert (view.status, view.cum_quantity, view.avg_price) == (OrderStatus.FILLED, Decimal(1), Decimal(100))


def test_wait_that_takes_too_long_raises_with_the_view(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(a_limit_order(client_order_id="c1"))

    with pytest.raises(WaitTimeoutError, match="ACKNOWLEDGED") as caught:
        broker.wait("c1", timeout_ms=1)

    assert caught.value.view.client_order_id == "c1"


def test_wait_for_a_word_it_does_not_know_is_refused(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(a_limit_order(client_order_id="c1"))

    with pytest.raises(InvalidRequestError, match="'accepted', 'resolved', 'closed'"):
        broker.wait("c1", until="done")  # type: ignore[arg-type]


def test_wait_takes_a_function_of_the_view(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker)

    assert broker.wait("c1", until=lambda view: view.status is OrderStatus.NEW, timeout_ms=0).is_open


def test_the_function_one_waits_with_runs_under_no_lock(desk: Desk, broker: BybitSpotBroker) -> None:
    ack = broker.submit(a_limit_order())
    row = order_row(orderId=ack.broker_order_id, orderLinkId=ack.client_order_id)

    def frame_came_through(_view: Any) -> bool:
        reader = threading.Thread(target=desk.client.emit_ws_frame, args=("order", frame("order", row)), daemon=True)
        reader.start()
        reader.join(5)
        return not reader.is_alive()

    assert broker.wait(ack.client_order_id, until=frame_came_through, timeout_ms=0).is_open


def test_explain_tells_when_each_fact_came_from_where_and_what_it_changed(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(a_limit_order(client_order_id="c1"))
    desk.client.emit_ws_frame("execution", frame("execution", execution_row(orderId="fake-1")))

    story = str(broker.explain("c1"))

    assert "submit    about to send LIMIT BUY 1 @ 100 GTC: unknown -> SUBMITTING" in story
    assert "stream    execution e1 1 @ 100: ACKNOWLEDGED -> FILLED; told OrderAccepted, OrderFilled" in story


def test_fills_are_listed_oldest_first(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.submit(a_limit_order(client_order_id="c1"))
    for exec_id, time_ms in (("e2", "2000"), ("e1", "1000")):
        row = execution_row(orderId="fake-1", execId=exec_id, execQty="0.1", leavesQty="0.5", execTime=time_ms)
        desk.client.emit_ws_frame("execution", frame("execution", row))

    assert [fill.exec_id for fill in broker.fills("c1")] == ["e1", "e2"]


def test_health_is_a_number_per_domain(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.clock.advance_ms(750)

    health = broker.health

    assert (health.orders, health.executions, health.balances, health.positions) == (750, 750, 750, None)
    assert (health.stream, health.unresolved, health.ok) == ("live", (), True)


def test_what_a_broker_can_do_is_told_per_symbol(broker: BybitSpotBroker) -> None:
    assert OrderTypeCapability.STOP_LIMIT in broker.capabilities_for(SYMBOL)
    assert broker.capabilities_for("PAPER:BTCUSDT") == frozenset()
    assert not broker.supports("BYBIT_LINEAR:BTCUSDT")


# -- the end ---------------------------------------------------------------------------------------------------------


def test_close_stops_the_timer_and_is_idempotent(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.close()
    broker.close()

    assert desk.scheduler.schedules == ()
    assert repr(broker) == "<BybitSpotBroker BYBIT_SPOT closed>"


def test_a_closed_broker_takes_no_orders(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.close()

    with pytest.raises(InvalidRequestError, match="closed"):
        broker.submit(a_limit_order())
    assert desk.client.posts == []


def test_frames_after_close_reach_no_handler(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.close()
    desk.heard.clear()

    desk.client.emit_ws_frame("order", frame("order", order_row()))

    assert desk.heard == []


def test_a_closed_broker_is_forgotten_by_the_client_that_outlives_it(desk: Desk) -> None:
    broker = BybitSpotBroker(desk.client, desk.bus, desk.clock, poll_scheduler=desk.scheduler)
    remembered = weakref.ref(broker)
    broker.close()
    assert desk.scheduler.schedules == ()
    del broker
    gc.collect()
    assert remembered() is None


def test_close_leaves_the_client_and_a_given_scheduler_open(desk: Desk, broker: BybitSpotBroker) -> None:
    broker.close()

    assert desk.client.is_connected
    desk.scheduler.schedule_once(lambda: None, 0)
    assert len(desk.scheduler.schedules) == 1


def test_a_handler_may_submit_cancel_reconcile_wait_and_close(desk: Desk, broker: BybitSpotBroker) -> None:
    done = []

    def handler(event: Any) -> None:
        if event.client_order_id != "c1":
            return
        broker.submit(a_limit_order(client_order_id="c2"))
        broker.cancel("c1")
        broker.reconcile()
        broker.wait("c1", until="accepted", timeout_ms=0)
        broker.close()
        done.append(True)

    desk.bus.subscribe(OrderAccepted, handler)
    broker.submit(a_limit_order(client_order_id="c1"))
    desk.client.emit_ws_frame("order", frame("order", order_row(orderId="fake-1")))

    assert done == [True]


def test_a_broker_test_needs_no_thread() -> None:
    before = threading.active_count()
    client, scheduler = FakeBybitClient(), TickScheduler()

    with BybitSpotBroker(client, EventBus(), FixedClock(0), poll_scheduler=scheduler) as broker:
        broker.submit(a_limit_order())
        scheduler.fire_tick()
        assert threading.active_count() == before


def test_by_default_the_broker_polls_on_qkts_shared_threads_and_takes_them_along() -> None:
    client = FakeBybitClient()
    client.responses["/v5/order/realtime"] = envelope()

    with BybitSpotBroker(client, EventBus()):
        assert {thread.name for thread in threading.enumerate()} & {"qkt-worker", "qkt-reconcile", "qkt-lookup"}

    assert not [thread for thread in threading.enumerate() if thread.name.startswith("qkt")]


# -- cadence ---------------------------------------------------------------------------------------------------------


def test_while_the_stream_is_dark_rounds_come_more_often(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_disconnect("cut")
    desk.scheduler.fire_tick()
    rounds = len(broker.reports)

    desk.scheduler.advance_ms(29_000)

    assert len(broker.reports) - rounds >= 5


def test_once_the_stream_is_back_rounds_come_at_the_interval_again(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_disconnect("cut")
    desk.scheduler.fire_tick()
    desk.client.fire_on_reconnect()
    desk.scheduler.advance_ms(5_000)
    rounds = len(broker.reports)

    desk.scheduler.advance_ms(20_000)

    assert len(broker.reports) == rounds


def test_a_venue_that_fails_is_not_asked_more_often(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.emit_disconnect("cut")
    desk.client.responses[WALLET] = refusal(10016)
    desk.scheduler.fire_tick()
    rounds = len(broker.reports)

    desk.scheduler.advance_ms(29_000)

    assert len(broker.reports) == rounds


# -- wallet frames ---------------------------------------------------------------------------------------------------


def wallet_row(total: Any, account_type: str = "UNIFIED") -> dict[str, Any]:
    return {"accountType": account_type, "coin": [{"coin": "USDT", "walletBalance": total, "locked": "0"}]}


def test_a_wallet_frame_without_a_date_is_as_old_as_its_arrival(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.clock.advance_ms(10)

    desk.client.emit_ws_frame("wallet", [wallet_row("7")])

    assert desk.client.balances["USDT"] == Decimal(7)


def test_the_row_of_another_account_in_a_wallet_frame_is_not_ours(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.clock.advance_ms(10)

    desk.client.emit_ws_frame("wallet", [wallet_row("7"), wallet_row("9", "FUND")])

    assert desk.client.balances["USDT"] == Decimal(7)
