"""S39-S48: the stream as the broker lives through it: silent, torn, refused, repeated, reordered."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt import BybitClient, BybitLinearBroker, BybitSpotBroker, EventBus, LimitOrder, Side
from qkt.bybit.transport.protocol import StreamFault
from qkt.bybit.transport.stream_session import Timing
from qkt.errors import BybitApiError
from qkt.events import BrokerEvent, FillEvent, HealthDegraded, HealthRestored, OrderCancelled
from qkt.net.backoff import ExponentialBackoff
from qkt.orders.facts import SubmitWithdrawn
from qkt.orders.ledger import Ledger
from qkt.testing.builders import execution_reported, frame, order_reported, submit_intended
from qkt.venue import SimulatedBybit
from tests.support.stage import CREATE, EXECUTIONS, LOST, REALTIME, WALLET, Stage, assert_lawful, kinds_of, words

D = Decimal
QUICK = Timing(ping_interval_ms=200, pong_timeout_ms=300, grace_ms=100, answer_timeout_ms=600, retry_refused_ms=300)
FAST = ExponentialBackoff(initial_ms=20, max_ms=200)
SOON_S = 10.0


class Live:
    """A broker over real sockets on a simulated venue, and everything it said, to be waited for."""

    def __init__(self, venue: SimulatedBybit) -> None:
        self.venue = venue
        self.client = BybitClient(
            "key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url, timing=QUICK, backoff=FAST
        )
        self.bus = EventBus()
        self.heard: list[BrokerEvent] = []
        self._more = threading.Condition()
        self.bus.subscribe(BrokerEvent, self._hear)
        self.client.connect()
        self.broker = BybitSpotBroker(self.client, self.bus, poll_interval_ms=600_000)

    def _hear(self, event: BrokerEvent) -> None:
        with self._more:
            self.heard.append(event)
            self._more.notify_all()

    def until(self, is_so: Any, what: str) -> None:
        """Wait until it is so; looked at after every event."""
        with self._more:
            assert self._more.wait_for(is_so, SOON_S), f"never: {what}; heard {words(self.heard)}"

    def count(self, kind: type[BrokerEvent]) -> int:
        return sum(isinstance(event, kind) for event in self.heard)

    def rest_an_order(self, quantity: str = "0.01") -> str:
        """A resting order of ours, announced by the stream."""
        ack = self.broker.submit(
            LimitOrder(symbol="BYBIT_SPOT:BTCUSDT", side=Side.BUY, quantity=D(quantity), limit_price=D(50_000))
        )
        self.broker.wait(ack.client_order_id, until=lambda view: view.venue_status == "New", timeout_ms=5_000)
        return ack.client_order_id

    def close(self) -> None:
        self.broker.close()
        self.client.close()


@pytest.fixture
def live() -> Iterator[Live]:
    with SimulatedBybit(seed=1) as venue:
        on_venue = Live(venue)
        yield on_venue
        on_venue.close()
        assert_lawful(on_venue.heard)


def hang_up_faults(stage: Stage) -> dict[str, list[Any]]:
    """Give the fake client the hooks that tell of refused topics, refused logins and gaps."""
    hooks: dict[str, list[Any]] = {"fault": [], "gap": []}
    stage.client.on_fault = hooks["fault"].append  # type: ignore[assignment, method-assign]
    stage.client.on_gap = hooks["gap"].append  # type: ignore[assignment, method-assign]
    stage.client.topic_faults = {}
    return hooks


# -- S39: half open ----------------------------------------------------------------------------------------------------


def test_S39_a_fill_behind_a_half_open_stream_is_recovered_once_after_the_reconnect(live: Live) -> None:
    order = live.rest_an_order()
    live.venue.faults.add("stream_half_open", count=1)
    live.venue.faults.add("frame_drop", topic="execution", count=1)
    live.venue.faults.add("frame_drop", topic="order", count=1)
    live.venue.fill(order)
    live.until(lambda: live.count(HealthRestored) == live.count(FillEvent) == 1, "the fill, and the stream is back")
    fills = [event for event in live.heard if isinstance(event, FillEvent)]
    assert [fill.quantity for fill in fills] == [D("0.01")]
    assert fills[0].origin == "reconcile"


def test_S39_a_half_open_stream_is_one_episode_of_ill_health_and_visible_meanwhile(live: Live) -> None:
    live.rest_an_order()
    live.venue.faults.add("stream_refused", window_ms=600)
    live.venue.faults.add("stream_half_open", count=1)
    live.until(lambda: live.count(HealthDegraded) == 1, "H")
    assert live.broker.health.stream != "live"
    assert set(live.broker.health.degraded) == {"stream"}
    live.until(lambda: live.count(HealthRestored) == 1, "restored")
    alarms = [event for event in live.heard if isinstance(event, HealthDegraded | HealthRestored)]
    assert words(alarms) == ["degraded stream", "restored stream"]


def test_S39_staleness_grows_while_nothing_is_heard_and_nothing_can_be_read(stage: Stage) -> None:
    stage.has_open_order()
    stage.client.emit_disconnect("no pong")
    for path in (REALTIME, EXECUTIONS, WALLET):
        stage.always(path, LOST)
    ages: list[Any] = []
    for _ in range(3):
        stage.round(after_ms=30_000)
        ages.append(stage.broker.health.staleness_ms)
    assert ages == sorted(set(ages))
    assert ages[-1] >= 90_000
    assert stage.broker.health.stream == "down"


# -- S40: a silent topic -----------------------------------------------------------------------------------------------


def test_S40_a_dropped_fill_is_told_within_one_interval_and_its_cause_named(stage: Stage) -> None:
    stage.open(poll_interval_ms=30_000)
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")
    stage.pass_ms(30_000)
    assert stage.story() == ["part e1"]
    assert [event.origin for event in stage.heard if isinstance(event, FillEvent)] == ["reconcile"]
    report = stage.broker.reports[-1]
    assert kinds_of(report) == ["missed_fill"]
    assert report.discrepancies[0].likely_cause.startswith("ws_drop")
    assert "degraded stream" not in words(stage.heard)
    assert stage.broker.health.stream == "live"


def test_S40_an_end_whose_frame_was_dropped_is_found_by_asking_and_named(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.ends()
    report = stage.round()
    assert stage.story() == ["cancelled"]
    assert kinds_of(report) == ["missed_end"]
    assert report.discrepancies[0].likely_cause.startswith("ws_drop")
    assert stage.lookups(), "the open list alone proves nothing"
    stage.assert_settled()


def test_S40_the_heal_is_told_on_a_stream_whose_pings_are_healthy(live: Live) -> None:
    order = live.rest_an_order()
    live.venue.faults.add("stream_mute", window_ms=600_000)
    live.venue.fill(order)
    assert live.venue.wait_idle()
    assert live.broker.order(order).is_open
    live.broker.reconcile()
    assert live.broker.order(order).status.name == "FILLED"
    assert words(event for event in live.heard if isinstance(event, FillEvent))[0].startswith("filled")
    assert live.count(HealthDegraded) == 0


# -- S41: a reconnect storm --------------------------------------------------------------------------------------------


def test_S41_reconnects_during_a_pass_coalesce_into_one_more(stage: Stage) -> None:
    stage.has_open_order()
    in_pass, go_on = threading.Event(), threading.Event()
    truthful: Any = stage.client.responses[WALLET]

    def slow(request: Any) -> Any:
        in_pass.set()
        assert go_on.wait(10)
        return truthful(request)

    stage.client.responses[WALLET] = slow
    rounds = len(stage.broker.reports)
    first = threading.Thread(target=stage.client.fire_on_reconnect)
    first.start()
    assert in_pass.wait(10)
    waiting = threading.Barrier(21)

    def reconnect() -> None:
        waiting.wait(10)
        stage.client.fire_on_reconnect()

    storm = [threading.Thread(target=reconnect) for _ in range(20)]
    for thread in storm:
        thread.start()
    waiting.wait(10)
    recovery = stage.broker._recovery
    while recovery._waiting is None:  # the first of the storm has queued a round; the rest may only join it
        threading.Event().wait(0.001)
    go_on.set()
    for thread in [first, *storm]:
        thread.join(10)
        assert not thread.is_alive()
    assert len(stage.broker.reports) - rounds <= 3  # the one under way, the one queued, one for a latecomer
    assert set(words(stage.heard)) == {"balances"}


def test_S41_twenty_drops_while_orders_fill_tell_every_event_once(live: Live) -> None:
    order = live.rest_an_order("0.2")
    for _ in range(20):
        live.venue.fill(order, "0.01")
        live.venue.cut_streams()
    live.broker.wait(order, until=lambda view: view.cum_quantity == D("0.2"), timeout_ms=8_000)
    live.broker.wait(order, until="closed", timeout_ms=8_000)
    live.until(lambda: words(live.heard).count("restored stream") == live.count(HealthDegraded) > 0, "calm")
    fills = [event for event in live.heard if isinstance(event, FillEvent)]
    assert sorted(fill.exec_id for fill in fills) == sorted(
        execution["execId"] for execution in live.venue.truth()["executions"]
    )


def test_S41_a_storm_of_losses_is_one_alarm_until_the_stream_is_back(stage: Stage) -> None:
    stage.has_open_order()
    for _ in range(20):
        stage.client.emit_disconnect("cut")
    assert stage.story() == ["degraded stream"]
    stage.client.fire_on_reconnect()
    assert stage.story() == ["degraded stream", "restored stream"]


# -- S42: the key is refused -------------------------------------------------------------------------------------------


def test_S42_a_refused_login_is_its_own_fatal_alarm_though_the_stream_is_down(stage: Stage) -> None:
    hooks = hang_up_faults(stage)
    stage.has_open_order()
    stage.client.emit_disconnect("closed by the venue")
    for tell in hooks["fault"]:
        tell(StreamFault(kind="auth", reason="API key is invalid (10003)", fatal=True))
    alarms = [event for event in stage.heard if isinstance(event, HealthDegraded)]
    assert [alarm.domain for alarm in alarms] == ["stream", "auth"]
    assert "10003" in alarms[-1].reason
    assert "10003" in stage.broker.health.degraded["auth"]


def test_S42_the_alarm_ends_when_the_stream_is_back(stage: Stage) -> None:
    hooks = hang_up_faults(stage)
    stage.has_open_order()
    stage.client.emit_disconnect("closed by the venue")
    for tell in hooks["fault"]:
        tell(StreamFault(kind="auth", reason="API key has expired (33004)", fatal=True))
    stage.client.fire_on_reconnect()
    assert stage.broker.health.ok
    assert sorted(stage.story()[2:]) == ["restored auth", "restored stream"]


def test_S42_an_expired_key_ends_no_order_and_makes_the_state_visibly_stale(stage: Stage) -> None:
    stage.open(poll_interval_ms=30_000)
    stage.has_open_order()
    expired = BybitApiError(33004, "Your api key has expired.")
    for path in (REALTIME, EXECUTIONS, WALLET):
        stage.always(path, expired)
    for _ in range(4):
        stage.pass_ms(30_000)
    assert stage.broker.order("c1").is_open
    assert sorted(stage.story()) == ["degraded balances", "degraded executions", "degraded orders"]
    health = stage.broker.health
    assert not health.ok
    assert health.staleness_ms >= 120_000  # type: ignore[operator]
    assert "33004" in health.degraded["orders"]
    assert not stage.broker.reports[-1].ok


def test_S42_an_expired_key_over_sockets_is_fatal_and_nothing_is_cancelled(live: Live) -> None:
    order = live.rest_an_order()
    live.venue.expire_key()
    live.venue.cut_streams()
    live.until(lambda: "degraded auth" in words(live.heard), "H(fatal auth)")
    assert live.broker.health.stream == "auth_refused"
    assert live.broker.order(order).is_open
    assert live.count(OrderCancelled) == 0
    assert not live.broker.reconcile().ok
    assert live.broker.order(order).is_open


# -- S43: a topic is refused -------------------------------------------------------------------------------------------


def refuse_topic(stage: Stage, hooks: dict[str, list[Any]], topic: str = "execution.spot") -> None:
    """As the transport tells it: the fault first, then that every subscription is answered."""
    fault = StreamFault(kind="topic", topic=topic, reason="error:handler not found")
    stage.client.topic_faults = {topic: fault}
    for tell in hooks["fault"]:
        tell(fault)
    stage.client.fire_on_reconnect()


def test_S43_a_stream_without_its_executions_is_not_called_restored(stage: Stage) -> None:
    hooks = hang_up_faults(stage)
    stage.has_open_order()
    stage.client.emit_disconnect("cut")
    refuse_topic(stage, hooks)
    assert "restored stream" not in stage.story()
    assert any("execution.spot" in reason for reason in stage.broker.health.degraded.values())


def test_S43_while_a_topic_is_refused_rounds_come_faster(stage: Stage) -> None:
    hooks = hang_up_faults(stage)
    stage.open(poll_interval_ms=30_000)
    stage.has_open_order()
    refuse_topic(stage, hooks)
    before = len(stage.broker.reports)
    stage.pass_ms(30_000)
    assert len(stage.broker.reports) - before >= 5
    stage.venue.trades("e1", "1")
    stage.pass_ms(6_000)
    assert stage.story("c1") == ["filled e1"]


def test_S43_once_the_topic_is_acknowledged_the_pace_and_the_health_are_as_before(stage: Stage) -> None:
    hooks = hang_up_faults(stage)
    stage.open(poll_interval_ms=30_000)
    stage.has_open_order()
    refuse_topic(stage, hooks)
    stage.client.topic_faults = {}
    stage.client.fire_on_reconnect()
    stage.pass_ms(10_000)  # a round that was planned while it was refused
    before = len(stage.broker.reports)
    stage.pass_ms(90_000)
    assert len(stage.broker.reports) - before == 3
    assert stage.broker.health.ok
    assert [one for one in stage.story() if one.startswith("restored")] == ["restored topics"]


def test_S43_a_fault_of_another_brokers_topic_is_not_ours(stage: Stage) -> None:
    hooks = hang_up_faults(stage)
    stage.has_open_order()
    refuse_topic(stage, hooks, "order.linear")
    assert stage.story() == []


def test_S43_a_linear_broker_counts_its_position_topic(stage: Stage) -> None:
    hooks = hang_up_faults(stage)
    with BybitLinearBroker(stage.client, stage.bus, stage.clock, poll_scheduler=stage.scheduler) as linear:
        stage.forget()
        refuse_topic(stage, hooks, "position.linear")
        assert stage.story() == ["degraded topics"]
        assert "position.linear" in linear.health.degraded["topics"]


def test_S43_a_closed_broker_leaves_no_faster_rounds_behind(stage: Stage) -> None:
    hooks = hang_up_faults(stage)
    stage.has_open_order()
    refuse_topic(stage, hooks)
    stage.broker.close()
    gets = len(stage.client.gets)
    stage.scheduler.advance_ms(60_000)
    assert len(stage.client.gets) == gets


def test_S43_a_refused_topic_over_sockets_is_told_and_healed_by_rounds(live: Live) -> None:
    order = live.rest_an_order()
    fault = live.venue.faults.add("topic_refused", topic="execution")
    live.venue.cut_streams()
    live.until(lambda: "degraded topics" in words(live.heard), "H")
    live.venue.fill(order)
    live.broker.reconcile()
    live.broker.wait(order, until="closed", timeout_ms=5_000)
    fault.remove()
    live.until(lambda: "restored topics" in words(live.heard), "the topic is asked for again")
    live.until(lambda: live.broker.health.ok, "the account is whole again")


# -- S44: ack, then snapshot -------------------------------------------------------------------------------------------


def test_S44_a_lost_stream_alone_reads_nothing_the_acknowledgement_does(stage: Stage) -> None:
    stage.has_open_order()
    stage.client.emit_disconnect("cut")
    stage.venue.trades("e1", "1")
    assert stage.client.gets == []
    stage.clock.advance_ms(3_000)
    stage.client.fire_on_reconnect()
    assert stage.story("c1") == ["filled e1"]
    assert stage.broker.reports[-1].trigger == "reconnect"
    stage.assert_settled()


def test_S44_fills_before_the_acknowledgement_are_read_after_it(live: Live) -> None:
    order = live.rest_an_order()
    live.venue.faults.add("stream_refused", window_ms=300)
    live.venue.cut_streams()
    live.venue.fill(order)
    live.until(lambda: live.count(FillEvent) == 1, "the fill")
    (fill,) = [event for event in live.heard if isinstance(event, FillEvent)]
    assert fill.origin == "reconcile"
    live.until(lambda: live.count(HealthRestored) == 1, "restored")


# -- S45: duplicates ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topics", [("execution.spot", "execution.spot"), ("execution.spot", "execution")])
def test_S45_a_repeated_execution_frame_tells_nothing_new(stage: Stage, topics: tuple[Any, ...]) -> None:
    stage.has_open_order()
    row = stage.venue.trades("e1", "0.4")
    for topic in topics:
        stage.client.emit_ws_frame(topic, frame(topic, row, created_ms=stage.clock.now_ms()))
    assert stage.story() == ["part e1"]
    assert stage.broker.order("c1").cum_quantity == D("0.4")


def test_S45_a_repeated_order_frame_tells_nothing_new(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.ends()
    for _ in range(3):
        stage.venue.push_order()
    assert stage.story() == ["cancelled"]


def test_S45_the_same_frames_on_a_second_connection_tell_nothing_new(stage: Stage) -> None:
    stage.has_open_order()
    row = stage.venue.trades("e1", "1")
    for _connection in range(2):
        stage.venue.push_execution("e1")
        stage.client.emit_ws_frame("execution", frame("execution", row, row, created_ms=stage.clock.now_ms()))
        stage.venue.push_order()
    assert stage.story() == ["filled e1"]
    stage.assert_settled()


# -- S46: an older frame after a newer one -----------------------------------------------------------------------------


def test_S46_a_partial_fill_that_arrives_after_the_end_is_ignored(stage: Stage) -> None:
    stage.has_open_order(quantity=D(5))
    stage.venue.trades("e1", "3", orderQty="5")
    older = dict(stage.venue.orders["b1"])
    stage.clock.advance_ms(10)
    stage.venue.trades("e2", "2", orderQty="5")
    stage.venue.push_execution("e1", "e2")
    stage.venue.push_order()
    stage.venue.client.emit_ws_frame("order.spot", frame("order.spot", older, created_ms=stage.clock.now_ms()))
    assert stage.story() == ["part e1", "filled e2"]
    view = stage.broker.order("c1")
    assert (view.cum_quantity, view.is_open, view.venue_status) == (D(5), False, "Filled")
    stage.assert_settled()


def test_S46_an_older_row_takes_nothing_back_while_the_order_is_open(stage: Stage) -> None:
    stage.has_open_order(quantity=D(5))
    older = dict(stage.venue.orders["b1"])
    stage.clock.advance_ms(10)
    stage.venue.trades("e1", "3", orderQty="5")
    stage.venue.push_execution("e1")
    stage.venue.push_order()
    stage.venue.client.emit_ws_frame("order.spot", frame("order.spot", older, created_ms=stage.clock.now_ms()))
    view = stage.broker.order("c1")
    assert (view.cum_quantity, view.status.name, view.venue_status) == (D(3), "PARTIALLY_FILLED", "PartiallyFilled")
    assert stage.story() == ["part e1"]


# -- S47: one seq, several orders --------------------------------------------------------------------------------------


def test_S47_one_exec_id_on_two_symbols_is_two_fills() -> None:
    ledger = Ledger()
    ledger.apply(submit_intended("c1"))
    ledger.apply(submit_intended("c2", symbol="BYBIT_SPOT:ETHUSDT"))
    told = []
    for broker_order_id, client_order_id, symbol in (("b2", "c2", "ETHUSDT"), ("b1", "c1", "BTCUSDT")):
        fact = execution_reported(
            "e1",
            1,
            leaves=0,
            seq=7,
            broker_order_id=broker_order_id,
            client_order_id=client_order_id,
            symbol=f"BYBIT_SPOT:{symbol}",
        )
        for change in (*ledger.apply(fact), *ledger.apply(fact)):
            told += [(event.client_order_id, name) for event in change.events for name in words([event])]
    assert told == [("c2", "accepted"), ("c2", "filled e1"), ("c1", "accepted"), ("c1", "filled e1")]


def test_S47_executions_reordered_across_orders_all_count(stage: Stage) -> None:
    stage.has_open_order("c1")
    stage.has_open_order("c2")
    first = stage.venue.trades("e1", "0.5", order_id="b1", seq=9)
    second = stage.venue.trades("e2", "1", order_id="b2", seq=9)
    third = stage.venue.trades("e3", "0.5", order_id="b1", seq=9)
    for row in (third, second, first):
        stage.client.emit_ws_frame("execution.spot", frame("execution.spot", row, created_ms=stage.clock.now_ms()))
    assert stage.story("c1") == ["part e3", "filled e1"]
    assert stage.story("c2") == ["filled e2"]
    assert [fill.exec_id for fill in stage.broker.fills("c1")] == ["e1", "e3"]
    stage.assert_settled()


# -- S48: frames without a link id -------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["", None])
def test_S48_a_frame_without_a_link_id_is_about_our_order(stage: Stage, link: str | None) -> None:
    stage.has_open_order()
    row = stage.venue.trades("e1", "1")
    bare = {name: value for name, value in row.items() if name != "orderLinkId"} | (
        {} if link is None else {"orderLinkId": ""}
    )
    stage.client.emit_ws_frame("execution.spot", frame("execution.spot", bare, created_ms=stage.clock.now_ms()))
    assert stage.story("c1") == ["filled e1"]
    assert stage.said(type(stage.heard[-1])).external is False
    assert len(stage.broker._state.ask(list)) == 1


def test_S48_a_fill_without_a_link_id_before_the_acknowledgement_waits_for_it(stage: Stage) -> None:
    _ = stage.broker

    def fills_before_it_answers(body: Any) -> Any:
        reply = stage.venue.create(body)
        stage.venue.trades("e1", "1", orderLinkId="")
        stage.venue.push_execution("e1")
        return reply

    stage.answers(CREATE, fills_before_it_answers)
    stage.submit("c1")
    assert stage.story() == ["accepted", "filled e1"]
    assert {event.client_order_id for event in stage.heard} == {"c1"}
    stage.assert_settled()


def test_S48_a_fill_without_a_link_id_of_an_unanswered_submit_waits_for_the_lookup(stage: Stage) -> None:
    _ = stage.broker

    def never_answers(body: Any) -> Any:
        stage.venue.create(body)
        stage.venue.trades("e1", "1", orderLinkId="")
        stage.venue.push_execution("e1")
        return LOST

    stage.answers(CREATE, never_answers)
    assert stage.submit("c1").outcome.name == "UNKNOWN"
    assert stage.story() == []
    stage.pass_ms(300)
    assert stage.story("c1") == ["accepted", "filled e1"]
    assert stage.story() == stage.story("c1")
    stage.assert_settled()


def test_S48_what_waited_for_an_order_that_never_left_is_told_as_outside_at_once() -> None:
    ledger = Ledger()
    ledger.apply(submit_intended("c1"))
    assert ledger.apply(execution_reported("e1", 1, leaves=0, broker_order_id="x", client_order_id="")) == []
    changes = ledger.apply(SubmitWithdrawn(client_order_id="c1"))
    events = [event for change in changes for event in change.events]
    assert words(events) == ["accepted", "filled e1"]
    assert all(event.external for event in events)


def test_S48_a_row_without_a_link_id_before_the_acknowledgement_is_no_outside_order() -> None:
    ledger = Ledger()
    ledger.apply(submit_intended("c1"))
    assert ledger.apply(order_reported("New", client_order_id="")) == []
    assert len(ledger) == 1
