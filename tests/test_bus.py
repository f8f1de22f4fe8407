"""The bus: by type, in one order, one at a time, isolated, and never under anybody's lock."""

from __future__ import annotations

import gc
import logging
import threading

import pytest

from qkt.bus import EventBus
from qkt.clock import SystemClock
from qkt.errors import InvalidRequestError
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
)
from qkt.testing import FixedClock
from qkt.threads import library_thread

DEADLINE_S = 5


def accepted(name: str = "c1") -> OrderAccepted:
    return OrderAccepted(client_order_id=name)


def test_a_handler_on_order_events_hears_order_events_and_no_balances():
    bus, heard = EventBus(), []
    bus.subscribe(OrderEvent, heard.append)

    bus.publish(accepted())
    bus.publish(BalancesUpdated(source="BYBIT_SPOT"))

    assert [type(event) for event in heard] == [OrderAccepted]


def test_a_handler_on_broker_events_hears_all():
    bus, heard = EventBus(), []
    bus.subscribe(BrokerEvent, heard.append)

    bus.publish(accepted())
    bus.publish(BalancesUpdated(source="BYBIT_SPOT"))

    assert [type(event) for event in heard] == [OrderAccepted, BalancesUpdated]


def test_a_sibling_class_is_not_heard():
    bus, heard = EventBus(), []
    bus.subscribe(FillEvent, heard.append)

    bus.publish(accepted())

    assert heard == []


def test_handlers_are_called_in_the_order_of_subscription_across_the_hierarchy():
    bus, calls = EventBus(), []
    bus.subscribe(OrderEvent, lambda _: calls.append("second class, first subscribed"))
    bus.subscribe(OrderAccepted, lambda _: calls.append("first class, second subscribed"))
    bus.subscribe(BrokerEvent, lambda _: calls.append("root, third subscribed"))

    bus.publish(accepted())

    assert calls == ["second class, first subscribed", "first class, second subscribed", "root, third subscribed"]


def test_the_same_handler_subscribed_twice_is_called_twice():
    bus, heard = EventBus(), []
    bus.subscribe(OrderAccepted, heard.append)
    bus.subscribe(OrderAccepted, heard.append)

    bus.publish(accepted())

    assert len(heard) == 2


def test_events_are_stamped_with_one_total_order_and_the_clock():
    bus, heard = EventBus(FixedClock(42)), []
    bus.subscribe(BrokerEvent, heard.append)

    bus.publish(accepted("a"))
    bus.publish(accepted("b"))

    assert [(event.sequence_id, event.timestamp) for event in heard] == [(1, 42), (2, 42)]


def test_a_handler_that_nobody_else_holds_is_kept_alive():
    bus, heard = EventBus(), []

    class Handler:
        def __call__(self, event):
            heard.append(event)

    bus.subscribe(OrderAccepted, Handler())
    gc.collect()
    bus.publish(accepted())

    assert len(heard) == 1


def test_S71_a_handler_that_raises_stops_neither_the_others_nor_the_next_event(caplog):
    bus, heard = EventBus(), []
    bus.subscribe(OrderAccepted, lambda _: 1 / 0)
    bus.subscribe(OrderAccepted, heard.append)

    with caplog.at_level(logging.ERROR, logger="qkt"):
        bus.publish(accepted("a"))
        bus.publish(accepted("b"))

    assert [event.client_order_id for event in heard] == ["a", "b"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "client_order_id='a'" in caplog.records[0].getMessage()


def test_S71_the_hook_hears_the_error_the_event_and_the_handler_once():
    told = []
    bus = EventBus(on_handler_error=lambda *about: told.append(about))

    def broken(_event):
        raise ValueError("mine")

    bus.subscribe(OrderAccepted, broken)
    bus.publish(accepted("a"))

    ((error, event, handler),) = told
    assert (str(error), event.client_order_id, handler) == ("mine", "a", broken)


def test_a_hook_that_raises_stops_nothing():
    def hook(*_about):
        raise RuntimeError("the hook too")

    bus, heard = EventBus(on_handler_error=hook), []
    bus.subscribe(OrderAccepted, lambda _: 1 / 0)
    bus.subscribe(OrderAccepted, heard.append)

    bus.publish(accepted())

    assert len(heard) == 1


def test_S72_a_handler_that_publishes_is_not_entered_again():
    bus, story = EventBus(), []

    def handler(event):
        story.append(f"begin {event.client_order_id}")
        if event.client_order_id == "outer":
            bus.publish(accepted("inner"))
        story.append(f"end {event.client_order_id}")

    bus.subscribe(OrderAccepted, handler)
    bus.publish(accepted("outer"))

    assert story == ["begin outer", "end outer", "begin inner", "end inner"]


def test_what_a_handler_publishes_reaches_every_handler_after_the_current_event():
    bus, heard = EventBus(), []
    bus.subscribe(OrderAccepted, lambda _: bus.publish(OrderCancelled(client_order_id="c1")))
    bus.subscribe(OrderEvent, lambda event: heard.append(type(event).__name__))

    bus.publish(accepted())

    assert heard == ["OrderAccepted", "OrderCancelled"]


def test_a_cancelled_subscription_hears_nothing_more():
    bus, heard = EventBus(), []
    subscription = bus.subscribe(OrderAccepted, heard.append)

    subscription.cancel()
    subscription.cancel()
    bus.publish(accepted())

    assert heard == []


def test_a_handler_can_cancel_another_during_the_same_event():
    bus, heard = EventBus(), []
    bus.subscribe(OrderAccepted, lambda _: later.cancel())
    later = bus.subscribe(OrderAccepted, heard.append)

    bus.publish(accepted())

    assert heard == []


def test_subscribing_to_something_else_than_an_event_class_is_refused():
    with pytest.raises(InvalidRequestError, match="event class"):
        EventBus().subscribe(str, print)


def test_subscribing_something_that_cannot_be_called_is_refused():
    with pytest.raises(InvalidRequestError, match="callable"):
        EventBus().subscribe(OrderAccepted, "handler")


def test_on_a_users_thread_delivery_is_inline():
    bus, threads = EventBus(), []
    bus.subscribe(OrderAccepted, lambda _: threads.append(threading.current_thread()))

    bus.publish(accepted())

    assert threads == [threading.current_thread()]
    assert "qkt-events" not in {thread.name for thread in threading.enumerate()}


def test_for_a_library_thread_delivery_happens_on_qkt_events():
    bus, threads, done = EventBus(), [], threading.Event()
    owner = object()
    bus.attach(owner)

    def handler(_event):
        threads.append(threading.current_thread().name)
        done.set()

    bus.subscribe(OrderAccepted, handler)
    publisher = library_thread("qkt-test", bus.publish, accepted())
    publisher.start()
    assert done.wait(DEADLINE_S)
    publisher.join(DEADLINE_S)
    bus.detach(owner)

    assert threads == ["qkt-events"]


def test_a_slow_handler_does_not_hold_up_a_library_thread():
    bus, release, entered = EventBus(), threading.Event(), threading.Event()
    owner = object()
    bus.attach(owner)
    bus.subscribe(OrderAccepted, lambda _: (entered.set(), release.wait(DEADLINE_S)))

    publisher = library_thread("qkt-test", lambda: [bus.publish(accepted(str(number))) for number in range(100)])
    publisher.start()
    publisher.join(DEADLINE_S)

    assert not publisher.is_alive()
    assert entered.wait(DEADLINE_S)
    assert bus.queue_depth > 90
    release.set()
    assert bus.detach(owner, drain_ms=DEADLINE_S * 1000) == 0


def test_handlers_never_run_concurrently_and_sequence_ids_never_go_back():
    bus = EventBus()
    owner, inside, worst, heard = object(), [], [], []
    bus.attach(owner)

    def handler(event):
        inside.append(1)
        worst.append(len(inside))
        heard.append(event.sequence_id)
        inside.pop()

    bus.subscribe(OrderAccepted, handler)

    def publish_many():
        for _ in range(300):
            bus.publish(accepted())

    threads = [threading.Thread(target=publish_many) for _ in range(3)]
    threads += [library_thread("qkt-test", publish_many) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    left = bus.detach(owner, drain_ms=DEADLINE_S * 1000)

    assert left == 0
    assert max(worst) == 1
    assert heard == sorted(heard)
    assert len(heard) == 1_800


def test_the_last_broker_to_leave_takes_the_events_thread_with_it():
    bus, owner, heard = EventBus(), object(), threading.Event()
    bus.attach(owner)
    bus.subscribe(OrderAccepted, lambda _: heard.set())
    publisher = library_thread("qkt-test", bus.publish, accepted())
    publisher.start()
    assert heard.wait(DEADLINE_S)
    publisher.join(DEADLINE_S)

    bus.detach(owner)

    assert "qkt-events" not in {thread.name for thread in threading.enumerate()}


def test_after_detaching_no_handler_hears_that_source_and_the_rest_is_counted():
    bus, heard = EventBus(), []
    owner, other = object(), object()
    bus.attach(owner)
    bus.attach(other)

    def leave_during_the_first(event):
        heard.append(event.client_order_id)
        if event.client_order_id == "first":
            left.append(bus.detach(owner))

    left = []
    bus.subscribe(OrderAccepted, leave_during_the_first)
    bus.enqueue([accepted("first"), accepted("second")], source=owner)
    bus.enqueue([accepted("of the other")], source=other)
    bus.deliver()
    bus.enqueue([accepted("third")], source=owner)
    bus.deliver()

    assert left == [1]
    assert heard == ["first", "of the other"]


def test_a_handler_that_exits_does_not_end_delivery_on_the_events_thread():
    bus, owner, heard = EventBus(), object(), threading.Event()
    bus.attach(owner)

    def handler(event):
        if event.client_order_id == "a":
            raise SystemExit
        heard.set()

    bus.subscribe(OrderAccepted, handler)
    publisher = library_thread("qkt-test", lambda: (bus.publish(accepted("a")), bus.publish(accepted("b"))))
    publisher.start()
    publisher.join(DEADLINE_S)

    assert heard.wait(DEADLINE_S)
    bus.detach(owner)


def test_events_for_scripts_are_collected_from_the_call_on_and_end_after_the_timeout():
    bus = EventBus()
    stream = bus.events(OrderEvent, timeout_ms=1)
    bus.publish(accepted("a"))
    bus.publish(OrderFilled(client_order_id="a", symbol="s", side=None, price=None, quantity=None))

    assert [type(event).__name__ for event in stream] == ["OrderAccepted", "OrderFilled"]


def test_a_stream_that_nobody_holds_stops_collecting():
    bus = EventBus()
    bus.events(OrderEvent, timeout_ms=1)
    gc.collect()

    assert "subscriptions=0" in repr(bus)


def test_the_repr_says_what_the_bus_is_doing():
    bus = EventBus(SystemClock())
    bus.subscribe(OrderEvent, print)
    bus.enqueue([accepted()])

    assert repr(bus) == "<EventBus subscriptions=1 queued=1 most_queued=1 last_sequence_id=1>"


def test_the_bus_counts_handler_errors_and_names_the_last() -> None:
    bus = EventBus(on_handler_error=lambda error, event, handler: None)

    def sizes_the_next_order(event: BrokerEvent) -> None:
        raise KeyError("BTCUSDT")

    bus.subscribe(BrokerEvent, sizes_the_next_order)
    bus.publish(BrokerEvent())

    assert bus.handler_errors == 1
    assert bus.last_handler_error.endswith("sizes_the_next_order raised KeyError on BrokerEvent")
