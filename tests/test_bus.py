"""The bus: by type, in one order, one at a time, isolated, and never under anybody's lock."""

from __future__ import annotations

import gc
import logging
import threading
from typing import Any

import pytest
from blinker import Signal

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


def test_a_handler_on_order_events_hears_order_events_and_no_balances() -> None:
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(OrderEvent, heard.append)

    bus.publish(accepted())
    bus.publish(BalancesUpdated(source="BYBIT_SPOT"))

    assert [type(event) for event in heard] == [OrderAccepted]


def test_a_handler_on_broker_events_hears_all() -> None:
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(BrokerEvent, heard.append)

    bus.publish(accepted())
    bus.publish(BalancesUpdated(source="BYBIT_SPOT"))

    assert [type(event) for event in heard] == [OrderAccepted, BalancesUpdated]


def test_a_sibling_class_is_not_heard() -> None:
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(FillEvent, heard.append)

    bus.publish(accepted())

    assert heard == []


def test_handlers_are_called_in_the_order_of_subscription_across_the_hierarchy() -> None:
    bus, calls = EventBus(), []
    bus.subscribe(OrderEvent, lambda _: calls.append("second class, first subscribed"))
    bus.subscribe(OrderAccepted, lambda _: calls.append("first class, second subscribed"))
    bus.subscribe(BrokerEvent, lambda _: calls.append("root, third subscribed"))

    bus.publish(accepted())

    assert calls == ["second class, first subscribed", "first class, second subscribed", "root, third subscribed"]


def test_the_same_handler_subscribed_twice_is_called_twice() -> None:
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(OrderAccepted, heard.append)
    bus.subscribe(OrderAccepted, heard.append)

    bus.publish(accepted())

    assert len(heard) == 2


def test_events_are_stamped_with_one_total_order_and_the_clock() -> None:
    heard: list[Any] = []
    bus = EventBus(FixedClock(42))
    bus.subscribe(BrokerEvent, heard.append)

    bus.publish(accepted("a"))
    bus.publish(accepted("b"))

    assert [(event.sequence_id, event.timestamp) for event in heard] == [(1, 42), (2, 42)]


def test_a_handler_that_nobody_else_holds_is_kept_alive() -> None:
    bus, heard = EventBus(), []

    class Handler:
        def __call__(self, event: Any) -> None:
            heard.append(event)

    bus.subscribe(OrderAccepted, Handler())
    gc.collect()
    bus.publish(accepted())

    assert len(heard) == 1


def test_S71_a_handler_that_raises_stops_neither_the_others_nor_the_next_event(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(OrderAccepted, lambda _: 1 / 0)
    bus.subscribe(OrderAccepted, heard.append)

    with caplog.at_level(logging.ERROR, logger="qkt"):
        bus.publish(accepted("a"))
        bus.publish(accepted("b"))

    assert [event.client_order_id for event in heard] == ["a", "b"]
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
    assert "client_order_id='a'" in caplog.records[0].getMessage()


def test_S71_the_hook_hears_the_error_the_event_and_the_handler_once() -> None:
    told = []
    bus = EventBus(on_handler_error=lambda *about: told.append(about))

    def broken(_event: Any) -> None:
        raise ValueError("mine")

    bus.subscribe(OrderAccepted, broken)
    bus.publish(accepted("a"))

    ((error, event, handler),) = told
    assert (str(error), event.client_order_id, handler) == ("mine", "a", broken)


def test_a_hook_that_raises_stops_nothing() -> None:
    def hook(*_about: Any) -> None:
        raise RuntimeError("the hook too")

    heard: list[Any] = []
    bus = EventBus(on_handler_error=hook)
    bus.subscribe(OrderAccepted, lambda _: 1 / 0)
    bus.subscribe(OrderAccepted, heard.append)

    bus.publish(accepted())

    assert len(heard) == 1


def test_S72_a_handler_that_publishes_is_not_entered_again() -> None:
    bus, story = EventBus(), []

    def handler(event: Any) -> None:
        story.append(f"begin {event.client_order_id}")
        if event.client_order_id == "outer":
            bus.publish(accepted("inner"))
        story.append(f"end {event.client_order_id}")

    bus.subscribe(OrderAccepted, handler)
    bus.publish(accepted("outer"))

    assert story == ["begin outer", "end outer", "begin inner", "end inner"]


def test_what_a_handler_publishes_reaches_every_handler_after_the_current_event() -> None:
    bus, heard = EventBus(), []
    bus.subscribe(OrderAccepted, lambda _: bus.publish(OrderCancelled(client_order_id="c1")))
    bus.subscribe(OrderEvent, lambda event: heard.append(type(event).__name__))

    bus.publish(accepted())

    assert heard == ["OrderAccepted", "OrderCancelled"]


def test_a_cancelled_subscription_hears_nothing_more() -> None:
    heard: list[Any] = []
    bus = EventBus()
    subscription = bus.subscribe(OrderAccepted, heard.append)

    subscription.cancel()
    subscription.cancel()
    bus.publish(accepted())

    assert heard == []


def test_a_handler_can_cancel_another_during_the_same_event() -> None:
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(OrderAccepted, lambda _: later.cancel())
    later = bus.subscribe(OrderAccepted, heard.append)

    bus.publish(accepted())

    assert heard == []


def test_subscribing_to_something_else_than_an_event_class_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="event class"):
        EventBus().subscribe(str, print)  # type: ignore[type-var]


def test_subscribing_something_that_cannot_be_called_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="callable"):
        EventBus().subscribe(OrderAccepted, "handler")  # type: ignore[arg-type]


def test_on_a_users_thread_delivery_is_inline() -> None:
    bus, threads = EventBus(), []
    bus.subscribe(OrderAccepted, lambda _: threads.append(threading.current_thread()))

    bus.publish(accepted())

    assert threads == [threading.current_thread()]
    assert "qkt-events" not in {thread.name for thread in threading.enumerate()}


def test_for_a_library_thread_delivery_happens_on_qkt_events() -> None:
    bus, threads, done = EventBus(), [], threading.Event()
    owner = object()
    bus.attach(owner)

    def handler(_event: Any) -> None:
        threads.append(threading.current_thread().name)
        done.set()

    bus.subscribe(OrderAccepted, handler)
    publisher = library_thread("qkt-test", bus.publish, accepted())
    publisher.start()
    assert done.wait(DEADLINE_S)
    publisher.join(DEADLINE_S)
    bus.detach(owner)

    assert threads == ["qkt-events"]


def test_a_slow_handler_does_not_hold_up_a_library_thread() -> None:
    bus, release, entered = EventBus(), threading.Event(), threading.Event()
    owner = object()
    bus.attach(owner)
    bus.subscribe(OrderAccepted, lambda _: (entered.set(), release.wait(DEADLINE_S)))  # type: ignore[func-returns-value]

    publisher = library_thread("qkt-test", lambda: [bus.publish(accepted(str(number))) for number in range(100)])  # type: ignore[arg-type, func-returns-value]
    publisher.start()
    publisher.join(DEADLINE_S)

    assert not publisher.is_alive()
    assert entered.wait(DEADLINE_S)
    assert bus.queue_depth > 90
    release.set()
    assert bus.detach(owner, drain_ms=DEADLINE_S * 1000) == 0


def test_handlers_never_run_concurrently_and_sequence_ids_never_go_back() -> None:
    bus = EventBus()
    owner, inside, worst, heard = object(), [], [], []
    bus.attach(owner)

    def handler(event: Any) -> None:
        inside.append(1)
        worst.append(len(inside))
        heard.append(event.sequence_id)
        inside.pop()

    bus.subscribe(OrderAccepted, handler)

    def publish_many() -> None:
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


def test_the_last_broker_to_leave_takes_the_events_thread_with_it() -> None:
    bus, owner, heard = EventBus(), object(), threading.Event()
    bus.attach(owner)
    bus.subscribe(OrderAccepted, lambda _: heard.set())
    publisher = library_thread("qkt-test", bus.publish, accepted())
    publisher.start()
    assert heard.wait(DEADLINE_S)
    publisher.join(DEADLINE_S)

    bus.detach(owner)

    assert "qkt-events" not in {thread.name for thread in threading.enumerate()}


def test_without_a_broker_the_events_thread_ends_when_all_is_delivered() -> None:
    bus, heard = EventBus(), threading.Event()
    workers: list[threading.Thread] = []
    bus.subscribe(OrderAccepted, lambda _: workers.append(threading.current_thread()))
    bus.subscribe(OrderAccepted, lambda _: heard.set())
    publisher = library_thread("qkt-test", bus.publish, accepted())
    publisher.start()
    assert heard.wait(DEADLINE_S)

    workers[0].join(DEADLINE_S)

    assert workers[0].name == "qkt-events"
    assert not workers[0].is_alive()


def test_a_broker_that_leaves_from_a_handler_takes_the_events_thread_with_it_too() -> None:
    bus, owner, on_worker = EventBus(), object(), threading.Event()
    workers: list[threading.Thread] = []
    bus.attach(owner)

    def handler(event: Any) -> None:
        if event.client_order_id == "on the events thread":
            workers.append(threading.current_thread())
            on_worker.set()
        else:
            bus.detach(owner)
            workers[0].join(0.1)  # it looks, finds this handler at work, and goes to sleep once more

    bus.subscribe(OrderAccepted, handler)
    publisher = library_thread("qkt-test", bus.publish, accepted("on the events thread"))
    publisher.start()
    assert on_worker.wait(DEADLINE_S)
    assert bus.drain(DEADLINE_S * 1000)

    bus.publish(accepted("on this thread"))
    workers[0].join(DEADLINE_S)

    assert not workers[0].is_alive()


def test_a_broker_has_left_also_when_delivering_its_last_event_was_interrupted() -> None:
    bus, owner, heard = EventBus(), object(), []
    bus.attach(owner)

    def interrupted_once(event: Any) -> None:
        heard.append(event.client_order_id)
        if len(heard) == 1:
            raise KeyboardInterrupt

    bus.subscribe(OrderAccepted, interrupted_once)
    bus.enqueue([accepted("last")], source=owner)
    with pytest.raises(KeyboardInterrupt):
        bus.detach(owner)
    bus.enqueue([accepted("after it left")], source=owner)
    bus.deliver()

    assert heard == ["last"]


def test_after_detaching_no_handler_hears_that_source_and_the_rest_is_counted() -> None:
    bus, heard = EventBus(), []
    owner, other = object(), object()
    bus.attach(owner)
    bus.attach(other)

    def leave_during_the_first(event: Any) -> None:
        heard.append(event.client_order_id)
        if event.client_order_id == "first":
            left.append(bus.detach(owner))

    left: list[Any] = []
    bus.subscribe(OrderAccepted, leave_during_the_first)
    bus.enqueue([accepted("first"), accepted("second")], source=owner)
    bus.enqueue([accepted("of the other")], source=other)
    bus.deliver()
    bus.enqueue([accepted("third")], source=owner)
    bus.deliver()

    assert left == [1]
    assert heard == ["first", "of the other"]


def test_a_handler_that_exits_does_not_end_delivery_on_the_events_thread() -> None:
    bus, owner, heard = EventBus(), object(), threading.Event()
    bus.attach(owner)

    def handler(event: Any) -> None:
        if event.client_order_id == "a":
            raise SystemExit
        heard.set()

    bus.subscribe(OrderAccepted, handler)
    publisher = library_thread("qkt-test", lambda: (bus.publish(accepted("a")), bus.publish(accepted("b"))))  # type: ignore[arg-type, func-returns-value]
    publisher.start()
    publisher.join(DEADLINE_S)

    assert heard.wait(DEADLINE_S)
    bus.detach(owner)


def test_events_for_scripts_are_collected_from_the_call_on_and_end_after_the_timeout() -> None:
    bus = EventBus()
    stream = bus.events(OrderEvent, timeout_ms=1)
    bus.publish(accepted("a"))
    bus.publish(OrderFilled(client_order_id="a", symbol="s", side=None, price=None, quantity=None))  # type: ignore[arg-type]

    assert [type(event).__name__ for event in stream] == ["OrderAccepted", "OrderFilled"]


def test_a_stream_that_nobody_holds_stops_collecting() -> None:
    bus = EventBus()
    bus.events(OrderEvent, timeout_ms=1)
    gc.collect()

    assert "subscriptions=0" in repr(bus)


def test_the_repr_says_what_the_bus_is_doing() -> None:
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


def test_a_plain_blinker_receiver_hears_the_events_of_its_class_in_order() -> None:
    bus, calls = EventBus(), []

    def plain(sender: object, *, event: OrderAccepted) -> None:
        calls.append(("plain", sender is bus, event.client_order_id))

    bus.subscribe(OrderEvent, lambda event: calls.append(("first", True, event.client_order_id)))
    bus.signal(OrderAccepted).connect(plain)
    bus.subscribe(OrderAccepted, lambda event: calls.append(("third", True, event.client_order_id)))
    bus.publish(accepted("a"))

    assert calls == [("first", True, "a"), ("plain", True, "a"), ("third", True, "a")]


def test_a_plain_receiver_is_isolated_and_can_be_disconnected() -> None:
    heard: list[Any] = []
    errors = []
    bus = EventBus(on_handler_error=lambda error, _event, handler: errors.append((str(error), handler)))

    def broken(_sender: object, *, event: OrderAccepted) -> None:
        raise ValueError("mine")

    signal = bus.signal(OrderAccepted)
    signal.connect(broken)
    bus.subscribe(OrderAccepted, heard.append)
    bus.publish(accepted())
    signal.disconnect(broken)
    bus.publish(accepted())

    assert errors == [("mine", broken)]
    assert len(heard) == 2


def test_a_plain_receiver_is_held_weakly_unless_told_otherwise() -> None:
    bus, heard = EventBus(), []

    def connect(weak: bool) -> None:
        def receiver(_sender: object, *, event: OrderAccepted) -> None:
            heard.append(weak)

        bus.signal(OrderAccepted).connect(receiver, weak=weak)

    connect(True)
    connect(False)
    gc.collect()
    bus.publish(accepted())

    assert heard == [False]


def test_a_signal_is_a_blinker_signal_and_sends_to_subscriptions_too() -> None:
    heard: list[Any] = []
    bus = EventBus()
    bus.subscribe(OrderAccepted, heard.append)
    signal = bus.signal(OrderAccepted)
    event = accepted()

    signal.send("anybody", event=event)

    assert isinstance(signal, Signal)
    assert bus.signal(OrderAccepted) is signal
    assert heard == [event]


def test_a_receiver_of_another_sender_and_a_muted_one_hear_nothing() -> None:
    bus, heard = EventBus(), []

    def receiver(_sender: object, *, event: OrderAccepted) -> None:
        heard.append(event)

    bus.signal(OrderAccepted).connect(receiver, sender="not the bus")
    bus.publish(accepted())
    bus.signal(OrderCancelled).connect(receiver)
    with bus.signal(OrderCancelled).muted():
        bus.publish(OrderCancelled(client_order_id="c1"))

    assert heard == []


def test_a_signal_of_something_else_than_an_event_class_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="event class"):
        EventBus().signal(int)  # type: ignore[arg-type]


def test_a_handler_that_exits_does_not_keep_the_event_from_the_others() -> None:
    heard: list[Any] = []
    bus = EventBus()

    def leave(_event: OrderAccepted) -> None:
        raise SystemExit(3)

    bus.subscribe(OrderAccepted, leave)
    bus.subscribe(OrderAccepted, heard.append)

    with pytest.raises(SystemExit):
        bus.publish(accepted("a"))
    bus.drain()

    assert [event.client_order_id for event in heard] == ["a"]


def test_an_interrupted_handler_is_not_called_again_and_the_others_hear_the_event() -> None:
    bus, calls = EventBus(), []

    def interrupted(_event: OrderAccepted) -> None:
        calls.append("interrupted")
        raise KeyboardInterrupt

    bus.subscribe(OrderAccepted, interrupted)
    bus.subscribe(OrderAccepted, lambda _: calls.append("other"))

    with pytest.raises(KeyboardInterrupt):
        bus.publish(accepted())
    assert bus.drain(DEADLINE_S * 1000)

    assert calls == ["interrupted", "other"]


def test_events_of_handlers_are_delivered_breadth_first() -> None:
    bus, story = EventBus(), []

    def handler(event: OrderAccepted) -> None:
        story.append(event.client_order_id)
        if len(event.client_order_id) < 3:
            bus.publish(accepted(event.client_order_id + "1"))
            bus.publish(accepted(event.client_order_id + "2"))

    bus.subscribe(OrderAccepted, handler)
    bus.publish(accepted("a"))

    assert story == ["a", "a1", "a2", "a11", "a12", "a21", "a22"]


def test_inline_delivery_ends_with_what_its_caller_caused() -> None:
    """Another thread that publishes without end keeps nobody else in delivery."""
    bus, stop, entered = EventBus(), threading.Event(), threading.Event()
    owner, heard = object(), []
    bus.attach(owner)

    def handler(event: OrderAccepted) -> None:
        heard.append(event.client_order_id)
        if event.client_order_id == "mine":
            flood.start()
            assert entered.wait(DEADLINE_S)

    def publish_without_end() -> None:
        bus.enqueue([accepted("of the flood") for _ in range(1_000)])
        entered.set()

    flood = library_thread("qkt-test", publish_without_end)
    bus.subscribe(OrderAccepted, handler)
    bus.publish(accepted("mine"))
    inline = len(heard)
    flood.join(DEADLINE_S)
    stop.set()

    assert inline < 1_001
    assert bus.drain(DEADLINE_S * 1000)
    assert len(heard) == 1_001
    bus.detach(owner)


def test_nothing_of_a_source_that_left_is_delivered() -> None:
    heard: list[Any] = []
    bus = EventBus()
    owner = object()
    bus.attach(owner)
    bus.subscribe(OrderAccepted, heard.append)
    bus.detach(owner)
    bus.enqueue([accepted()], source=owner)
    bus.deliver()

    assert (heard, bus.queue_depth) == ([], 0)


def test_detaching_waits_for_the_handler_that_hears_the_source_now() -> None:
    bus, entered, release, left = EventBus(), threading.Event(), threading.Event(), []
    owner = object()
    bus.attach(owner)
    bus.subscribe(OrderAccepted, lambda _: (entered.set(), release.wait(DEADLINE_S)))  # type: ignore[func-returns-value]
    bus.enqueue([accepted()], source=owner)
    library_thread("qkt-test", bus.deliver).start()
    assert entered.wait(DEADLINE_S)

    leaving = threading.Thread(target=lambda: left.append(bus.detach(owner, drain_ms=DEADLINE_S * 1000)))
    leaving.start()
    assert not left
    release.set()
    leaving.join(DEADLINE_S)

    assert left == [0]


def test_draining_waits_for_what_is_queued_now_and_says_so() -> None:
    bus, began, release = EventBus(), threading.Event(), threading.Event()
    heard: list[OrderAccepted] = []

    def slow(event: OrderAccepted) -> None:
        began.set()
        release.wait(DEADLINE_S)
        heard.append(event)

    owner = object()
    bus.attach(owner)
    bus.subscribe(OrderAccepted, slow)
    library_thread("qkt-test", bus.publish, accepted()).start()
    assert began.wait(DEADLINE_S)

    assert not bus.drain(timeout_ms=1)
    release.set()
    assert bus.drain(timeout_ms=DEADLINE_S * 1000)
    assert len(heard) == 1
    bus.detach(owner)


def test_draining_inside_a_handler_does_not_wait_for_itself() -> None:
    bus, drained = EventBus(), []
    bus.subscribe(OrderAccepted, lambda _: drained.append(bus.drain(timeout_ms=DEADLINE_S * 1000)))
    bus.publish(accepted())

    assert drained == [False]


def test_an_enqueue_that_is_repeated_queues_once_and_a_stamped_event_as_a_copy() -> None:
    bus, owner = EventBus(), object()
    events = [accepted("a"), accepted("b")]
    bus.enqueue(events, source=owner)
    bus.enqueue(events, source=owner)
    assert bus.queue_depth == 2
    bus.enqueue(list(events))
    heard: list[BrokerEvent] = []
    bus.subscribe(BrokerEvent, heard.append)
    bus.deliver()

    assert [event.sequence_id for event in heard] == [1, 2, 3, 4]
    assert [event.sequence_id for event in events] == [1, 2]
