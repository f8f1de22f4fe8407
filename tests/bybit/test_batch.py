"""Batches on fakes: few requests, an outcome per order, and nothing sent twice."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.protocol import SubmitOutcome
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import BybitRateLimitError, InvalidRequestError, VenueUnavailableError
from qkt.events import OrderCancelFailed, OrderRejected
from qkt.model.orders import MarketOrder, OrderStatus, Side, StopOrder
from qkt.testing.builders import SYMBOL, a_limit_order, batch_reply, envelope, frame, order_row, refusal
from tests.bybit.conftest import Desk

CREATE_BATCH, CANCEL_BATCH, CANCEL = "/v5/order/create-batch", "/v5/order/cancel-batch", "/v5/order/cancel"
ACCEPTED, REJECTED, UNKNOWN = SubmitOutcome.ACCEPTED, SubmitOutcome.REJECTED, SubmitOutcome.UNKNOWN
D = Decimal


def orders(*names: Any, **changes: Any) -> list[Any]:
    return [a_limit_order(client_order_id=name, **changes) for name in names]


def outcomes(acks: Any) -> list[Any]:
    return [(ack.client_order_id, ack.outcome) for ack in acks]


def spent() -> None:
    raise BybitRateLimitError("spent", retry_after_ms=10)


def in_turn(*answers: Any) -> Any:
    """One answer after the other; the last for good."""
    left = list(answers)

    def answer(request: Any) -> Any:
        told = left.pop(0) if len(left) > 1 else left[0]
        return told(request) if callable(told) else told

    return answer


# -- submit ----------------------------------------------------------------------------------------------------------


def test_a_batch_is_one_post_and_no_get(desk: Desk, broker: BybitSpotBroker) -> None:
    acks = broker.submit_many(
        [
            *orders("c1"),
            MarketOrder(symbol=SYMBOL, side=Side.SELL, quantity=D("0.5"), client_order_id="c2"),
        ]
    )

    (post,) = desk.client.posts
    assert post.path == CREATE_BATCH
    assert post.body == {
        "category": "spot",
        "request": [
            {
                "symbol": "BTCUSDT",
                "side": "Buy",
                "orderType": "Limit",
                "qty": "1",
                "timeInForce": "GTC",
                "orderLinkId": "c1",
                "price": "100",
            },
            {
                "symbol": "BTCUSDT",
                "side": "Sell",
                "orderType": "Market",
                "qty": "0.5",
                "timeInForce": "IOC",
                "orderLinkId": "c2",
                "marketUnit": "baseCoin",
            },
        ],
    }
    assert outcomes(acks) == [("c1", ACCEPTED), ("c2", ACCEPTED)]
    assert [ack.broker_order_id for ack in acks] == ["fake-1", "fake-2"]
    assert desk.client.gets == []
    assert desk.told() == []


def test_ids_are_made_for_orders_without_and_nothing_is_sent_for_none(desk: Desk, broker: BybitSpotBroker) -> None:
    acks = broker.submit_many(a_limit_order() for _ in range(2))

    assert len({ack.client_order_id for ack in acks}) == 2
    assert broker.submit_many([]) == []
    assert len(desk.client.posts) == 1


def test_many_orders_go_ten_at_a_time_in_order(desk: Desk, broker: BybitSpotBroker) -> None:
    acks = broker.submit_many(orders(*(f"c{number}" for number in range(23))))

    assert [len(post["request"]) for post in desk.client.posts] == [10, 10, 3]
    assert [ack.client_order_id for ack in acks] == [f"c{number}" for number in range(23)]


def test_S85_each_item_has_its_own_outcome_beside_retcode_zero(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses[CREATE_BATCH] = lambda request: batch_reply(request, 0, 170131, 10006, 0, 170007)
    desk.heard.clear()

    acks = broker.submit_many(orders("c1", "c2", "c3", "c4", "c5"))

    assert outcomes(acks) == [("c1", ACCEPTED), ("c2", REJECTED), ("c3", REJECTED), ("c4", ACCEPTED), ("c5", UNKNOWN)]
    assert "170131" in acks[1].reject_reason
    assert [(event.client_order_id, type(event)) for event in desk.heard] == [
        ("c2", OrderRejected),
        ("c3", OrderRejected),
    ]
    assert broker.health.unresolved == ("c5",)
    assert len(desk.client.posts) == 1


@pytest.mark.parametrize(
    "silence",
    [
        TimeoutError("read timed out"),
        refusal(10016, "Server error"),
        "<html>502</html>",
        RuntimeError("a transport of the user's own"),
        {"retCode": 0, "result": {"list": []}, "retExtInfo": {"list": []}},
        {"retCode": 0, "result": {"list": [{}, {}]}, "retExtInfo": {}},
        {"retCode": 0, "result": {}, "retExtInfo": {"list": [{"code": 0}, {"code": 0}]}},
        {"retCode": 0, "result": {"list": [{}, {}]}, "retExtInfo": {"list": [{}, {"code": "0"}]}},
        {
            "retCode": 0,
            "result": {"list": [{"orderLinkId": "c2"}, {"orderLinkId": "c1"}]},
            "retExtInfo": {"list": [{"code": 0}, {"code": 0}]},
        },
    ],
)
def test_S85_an_answer_silent_about_its_items_leaves_each_unknown_and_looked_up(
    desk: Desk, broker: BybitSpotBroker, silence: Any
) -> None:
    desk.client.responses[CREATE_BATCH] = silence

    acks = broker.submit_many(orders("c1", "c2"))

    assert outcomes(acks) == [("c1", UNKNOWN), ("c2", UNKNOWN)]
    assert broker.health.unresolved == ("c1", "c2")
    assert desk.told() == []
    desk.scheduler.advance_ms(200)
    asked = [request.get("orderLinkId") for request in desk.client.gets if request.path == "/v5/order/realtime"]
    assert asked == ["c1", "c2"]
    assert len(desk.client.posts) == 1


def test_S85_silence_is_broken_by_what_the_lookup_finds(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses[CREATE_BATCH] = TimeoutError("read timed out")
    broker.submit_many(orders("c1", "c2"))
    desk.client.responses["/v5/order/realtime"] = lambda request: envelope(
        [order_row(orderLinkId="c1")] if request.get("orderLinkId") == "c1" else []
    )

    desk.scheduler.advance_ms(200)

    assert desk.told() == ["OrderAccepted"]
    assert broker.health.unresolved == ("c2",)


def test_a_refusal_of_the_whole_batch_is_a_refusal_of_each(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses[CREATE_BATCH] = refusal(10001, "params error")

    assert outcomes(broker.submit_many(orders("c1", "c2"))) == [("c1", REJECTED), ("c2", REJECTED)]
    assert desk.told() == ["OrderRejected", "OrderRejected"]


def test_an_item_with_a_taken_id_is_looked_up_at_once_and_the_old_order_untouched(
    desk: Desk, broker: BybitSpotBroker
) -> None:
    desk.client.responses[CREATE_BATCH] = lambda request: batch_reply(request, 170141, 0)
    old = order_row(orderId="old", orderLinkId="c1", createdTime="1", orderStatus="Filled", qty="7")
    desk.client.responses["/v5/order/realtime"] = envelope([old])

    acks = broker.submit_many(orders("c1", "c2"))

    assert outcomes(acks) == [("c1", REJECTED), ("c2", ACCEPTED)]
    assert "already used" in acks[0].reject_reason


def test_all_intents_are_recorded_before_the_first_byte_leaves(desk: Desk, broker: BybitSpotBroker) -> None:
    seen = []

    def answer(request: Any) -> Any:
        seen.append([view.status for view in broker.open_orders()])
        row = order_row(orderId="b1", orderLinkId="c12")  # a frame that overtakes its own request
        desk.client.emit_ws_frame("order", frame("order", row))
        return batch_reply(request, *[0] * len(request["request"]))

    desk.client.responses[CREATE_BATCH] = answer
    broker.submit_many(orders(*(f"c{number}" for number in range(13))))

    assert seen[0] == [OrderStatus.SUBMITTING] * 13
    assert not broker.order("c12").external
    assert desk.told() == ["OrderAccepted"]


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (a_limit_order(symbol="BYBIT_LINEAR:BTCUSDT"), "does not serve"),
        (a_limit_order(take_profit=D(1)), "take_profit"),
        (a_limit_order(client_order_id="c1"), "used before"),
        (a_limit_order(client_order_id="before"), "used before"),
        ("an order", "takes an order"),
    ],
)
def test_one_bad_item_refuses_the_whole_call_before_anything_is_sent(
    desk: Desk, broker: BybitSpotBroker, bad: Any, told: str
) -> None:
    broker.submit(a_limit_order(client_order_id="before"))
    desk.client.posts.clear()

    with pytest.raises(InvalidRequestError, match=told):
        broker.submit_many([*orders("c1"), bad])

    assert desk.client.posts == []
    assert [view.client_order_id for view in broker.open_orders()] == ["before"]
    assert broker.submit(a_limit_order(client_order_id="c1")).accepted  # the id is free


def test_one_order_is_no_list(desk: Desk, broker: BybitSpotBroker) -> None:
    for wrong in (a_limit_order(), "c1", None):
        with pytest.raises(InvalidRequestError, match="submit_many takes a list of orders"):
            broker.submit_many(wrong)  # type: ignore[arg-type]


def test_when_nothing_left_it_raises_and_every_id_is_free_again(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses[CREATE_BATCH] = spent
    with pytest.raises(BybitRateLimitError):
        broker.submit_many(orders(*(f"c{number}" for number in range(12))))

    assert broker.open_orders() == []
    assert desk.told() == []
    del desk.client.responses[CREATE_BATCH]
    assert broker.submit(a_limit_order(client_order_id="c11")).accepted


def test_when_part_left_the_rest_is_told_as_never_sent(desk: Desk, broker: BybitSpotBroker) -> None:
    desk.client.responses[CREATE_BATCH] = in_turn(lambda request: batch_reply(request, *[0] * 10), lambda _: spent())

    acks = broker.submit_many(orders(*(f"c{number}" for number in range(25))))

    assert [ack.outcome for ack in acks] == [ACCEPTED] * 10 + [REJECTED] * 15
    assert acks[-1].reject_reason.startswith("never sent: spent")
    assert desk.told() == ["OrderRejected"] * 15
    assert len(desk.client.posts) == 2


def test_a_broker_frozen_in_the_middle_sends_no_more(desk: Desk, broker: BybitSpotBroker) -> None:
    def answer(request: Any) -> Any:
        broker.freeze("stop")
        return batch_reply(request, *[0] * len(request["request"]))

    desk.client.responses[CREATE_BATCH] = answer

    acks = broker.submit_many(orders(*(f"c{number}" for number in range(12))))

    assert [ack.outcome for ack in acks] == [ACCEPTED] * 10 + [REJECTED] * 2
    assert "frozen (stop)" in acks[-1].reject_reason
    assert len(desk.client.posts) == 1


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [(lambda request: batch_reply(request, *[0] * 10), ACCEPTED), (TimeoutError("lost"), UNKNOWN)],
)
def test_a_broker_closed_in_the_middle_answers_for_what_it_knows(
    desk: Desk, broker: BybitSpotBroker, answer: Any, outcome: Any
) -> None:
    def closing(request: Any) -> Any:
        broker.close()
        return answer(request) if callable(answer) else answer

    desk.client.responses[CREATE_BATCH] = closing

    acks = broker.submit_many(orders(*(f"c{number}" for number in range(12))))

    assert [ack.outcome for ack in acks] == [outcome] * 10 + [REJECTED] * 2
    assert acks[-1].reject_reason.startswith("never sent: BYBIT_SPOT is closed")
    assert len(desk.client.posts) == 1


def test_an_interrupt_in_the_middle_forgets_no_order_that_may_have_left(desk: Desk, broker: BybitSpotBroker) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    desk.client.responses[CREATE_BATCH] = in_turn(
        lambda request: batch_reply(request, *[0] * 10), lambda _: interrupted()
    )
    with pytest.raises(KeyboardInterrupt):
        broker.submit_many(orders(*(f"c{number}" for number in range(25))))

    assert len(broker.open_orders()) == 20
    assert broker.health.unresolved == tuple(f"c{number}" for number in range(10, 20))


def test_a_handler_may_submit_a_batch(desk: Desk, broker: BybitSpotBroker) -> None:
    done = []
    desk.client.responses[CREATE_BATCH] = in_turn(
        lambda request: batch_reply(request, 170131), lambda request: batch_reply(request, 0, 0)
    )

    def handler(event: Any) -> None:
        done.extend(broker.submit_many(orders("c2", "c3")))

    desk.bus.subscribe(OrderRejected, handler)
    broker.submit_many(orders("c1"))

    assert outcomes(done) == [("c2", ACCEPTED), ("c3", ACCEPTED)]


# -- cancel ----------------------------------------------------------------------------------------------------------


def rest(desk: Desk, broker: BybitSpotBroker, *names: Any) -> None:
    """Orders of ours that stand."""
    for name in names:
        ack = broker.submit(a_limit_order(client_order_id=name))
        row = order_row(orderId=ack.broker_order_id, orderLinkId=name)
        desk.client.emit_ws_frame("order", frame("order", row))
    desk.client.posts.clear()
    desk.heard.clear()


def test_cancels_share_a_request(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker, "c1", "c2")

    acks = broker.cancel_many(["c2", "c1"])

    (post,) = desk.client.posts
    assert post.path == CANCEL_BATCH
    assert post.body == {
        "category": "spot",
        "request": [{"symbol": "BTCUSDT", "orderId": "fake-2"}, {"symbol": "BTCUSDT", "orderId": "fake-1"}],
    }
    assert outcomes(acks) == [("c2", ACCEPTED), ("c1", ACCEPTED)]
    assert desk.told() == []
    assert desk.client.gets == []


def test_one_cancel_is_no_batch(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker, "c1")

    broker.cancel_many(["c1"])
    broker.cancel_all()

    assert [post.path for post in desk.client.posts] == [CANCEL, CANCEL]


def test_outside_orders_are_named_by_the_venues_id(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker, "c1")
    desk.client.emit_ws_frame("order", frame("order", order_row(orderId="ui-1", orderLinkId="")))

    acks = broker.cancel_many(["c1"], broker_order_ids=["ui-1"])

    assert [ack.broker_order_id for ack in acks] == ["fake-1", "ui-1"]
    assert len(desk.client.posts) == 1


def test_spot_conditionals_go_one_by_one_since_a_batch_cannot_name_their_drawer(
    desk: Desk, broker: BybitSpotBroker
) -> None:
    rest(desk, broker, "c1", "c2")
    broker.submit(StopOrder(symbol=SYMBOL, side=Side.SELL, quantity=D(1), stop_price=D(90), client_order_id="s1"))
    desk.client.posts.clear()

    acks = broker.cancel_all()

    assert [post.path for post in desk.client.posts] == [CANCEL_BATCH, CANCEL]
    assert desk.client.posts[1]["orderFilter"] == "StopOrder"
    assert [ack.outcome for ack in acks] == [ACCEPTED] * 3


def test_each_cancel_has_its_own_outcome(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker, "c1", "c2", "c3")
    desk.client.responses[CANCEL_BATCH] = lambda request: batch_reply(request, 0, 170213, 170147)

    acks = broker.cancel_many(["c1", "c2", "c3"])

    assert outcomes(acks) == [("c1", ACCEPTED), ("c2", REJECTED), ("c3", UNKNOWN)]
    assert [(event.client_order_id, type(event)) for event in desk.heard] == [("c2", OrderCancelFailed)]
    assert [view.client_order_id for view in broker.open_orders()] == ["c1", "c2", "c3"]


@pytest.mark.parametrize("silence", [TimeoutError("lost"), refusal(10016), envelope(), RuntimeError("own")])
def test_a_batch_of_cancels_without_an_answer_is_asked_about_and_not_sent_again(
    desk: Desk, broker: BybitSpotBroker, silence: Any
) -> None:
    rest(desk, broker, "c1", "c2")
    desk.client.responses[CANCEL_BATCH] = silence

    assert outcomes(broker.cancel_many(["c1", "c2"])) == [("c1", UNKNOWN), ("c2", UNKNOWN)]

    desk.client.responses["/v5/order/realtime"] = lambda request: envelope(
        [order_row(orderId=request["orderId"], orderLinkId="", orderStatus="Cancelled")] if "orderId" in request else []
    )
    desk.scheduler.advance_ms(1_000)
    assert desk.told() == ["OrderCancelled", "OrderCancelled"]
    assert len(desk.client.posts) == 1


def test_ended_and_unseen_orders_are_not_sent(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker, "c1", "c2", "c3")
    desk.client.emit_ws_frame("order", frame("order", order_row(orderId="fake-1", orderStatus="Cancelled")))
    desk.client.responses["/v5/order/create"] = TimeoutError("lost")
    broker.submit(a_limit_order(client_order_id="lost"))
    desk.client.posts.clear()
    desk.heard.clear()

    acks = broker.cancel_many(["c1", "lost", "c2", "c3"])

    assert outcomes(acks) == [("c1", REJECTED), ("lost", UNKNOWN), ("c2", ACCEPTED), ("c3", ACCEPTED)]
    assert [item["orderId"] for item in desk.client.posts[0]["request"]] == ["fake-2", "fake-3"]
    assert desk.told() == ["OrderCancelFailed"]


@pytest.mark.parametrize(
    ("names", "told"),
    [(["c1", "nosuch"], "nosuch"), (["c1", "c1"], "twice"), ("c1", "list of ids"), ([None], "exactly")],
)
def test_one_bad_id_refuses_the_whole_call(desk: Desk, broker: BybitSpotBroker, names: Any, told: str) -> None:
    rest(desk, broker, "c1")

    with pytest.raises(InvalidRequestError, match=told):
        broker.cancel_many(names)
    assert desk.client.posts == []


def test_no_ids_are_no_cancels(desk: Desk, broker: BybitSpotBroker) -> None:
    assert broker.cancel_many() == broker.cancel_all() == []


def test_cancels_of_which_none_left_raise_and_can_be_asked_again(desk: Desk, broker: BybitSpotBroker) -> None:
    rest(desk, broker, "c1", "c2")
    desk.client.responses[CANCEL_BATCH] = spent
    with pytest.raises(VenueUnavailableError):
        broker.cancel_many(["c1", "c2"])

    del desk.client.responses[CANCEL_BATCH]
    assert outcomes(broker.cancel_many(["c1", "c2"])) == [("c1", ACCEPTED), ("c2", ACCEPTED)]
    assert desk.told() == []


def test_cancels_of_which_some_left_tell_of_the_rest(desk: Desk, broker: BybitSpotBroker) -> None:
    names = [f"c{number}" for number in range(22)]
    rest(desk, broker, *names)
    desk.client.responses[CANCEL_BATCH] = in_turn(
        lambda _: spent(), lambda request: batch_reply(request, *[0] * len(request["request"]))
    )

    acks = broker.cancel_many(names)

    assert [ack.outcome for ack in acks] == [REJECTED] * 10 + [ACCEPTED] * 12
    assert acks[0].reject_reason.startswith("never sent")
    assert desk.told() == ["OrderCancelFailed"] * 10
