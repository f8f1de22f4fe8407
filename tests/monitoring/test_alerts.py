"""Alerts at a real webhook: once per episode, once restored, rate-limited, redacted, and off an order's path."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import pytest

from qkt.bybit.transport.client import BybitClient
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent, HealthDegraded, HealthRestored, OrderAccepted, OrderStatusUnknown
from qkt.health import Health
from qkt.model.protection import Protection, ProtectionKind, ProtectionState
from qkt.monitoring import AlertRules, Alerts
from qkt.monitoring.alert_episodes import AlertEpisodes, Outbox, notice_of
from qkt.monitoring.alert_rules import Condition, Reading, conditions_of
from qkt.net.scheduler import ThreadScheduler
from qkt.venue import SimulatedBybit
from tests.monitoring.conftest import Account, new_account
from tests.support.webhook import Webhook

Watch = Callable[..., Alerts]


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with Webhook() as running:
        yield running


@pytest.fixture
def watch(account: Account, hook: Webhook) -> Iterator[Watch]:
    """Alerts that look whenever the account's scheduler ticks."""
    made: list[Alerts] = []

    def build(**options: Any) -> Alerts:
        options = {"brokers": account.broker, "label": "night-bot", **options}
        made.append(Alerts(account.bus, [hook.url], clock=account.clock, scheduler=account.scheduler, **options))
        return made[-1]

    yield build
    for alerts in made:
        alerts.close()


def pass_time(account: Account, seconds: int) -> None:
    """Let the alerts look once a second; the broker's timer does not run."""
    looks = [schedule for schedule in account.scheduler.schedules if "Alerts" in repr(schedule.action)]
    for _ in range(seconds):
        account.clock.advance_ms(1_000)
        for look in looks:
            look.action()


def test_an_unresolved_order_alerts_after_thirty_seconds_and_once(
    account: Account, hook: Webhook, watch: Watch
) -> None:
    watch()
    account.lose_a_submit("lost-1")

    pass_time(account, 30)
    assert hook.received == []
    pass_time(account, 20)

    assert hook.seen == [("raised", "unresolved")]
    assert hook.received[0]["subject"] == "lost-1"
    assert "Do not send it again" in hook.received[0]["remedy"]
    assert hook.received[0]["from"] == "night-bot"


def test_the_end_of_an_episode_is_told_once(account: Account, hook: Webhook, watch: Watch) -> None:
    watch()
    account.lose_a_submit("lost-1")
    pass_time(account, 40)

    account.tell_order("New", client_order_id="lost-1")
    pass_time(account, 30)

    assert hook.seen == [("raised", "unresolved"), ("restored", "unresolved")]


def test_flapping_is_one_episode(account: Account, hook: Webhook, watch: Watch) -> None:
    watch(rules=AlertRules(degraded_after_ms=0))
    for _ in range(5):
        account.client.emit_disconnect("ping timeout")
        pass_time(account, 2)
        account.client.fire_on_reconnect()
        pass_time(account, 2)

    assert hook.seen == [("raised", "degraded")]


def test_a_stream_that_heals_within_the_grace_is_no_alert(account: Account, hook: Webhook, watch: Watch) -> None:
    watch()
    account.client.emit_disconnect("ping timeout")
    pass_time(account, 20)
    account.client.fire_on_reconnect()
    pass_time(account, 60)

    assert hook.received == []


def test_an_age_beyond_the_bound_alerts_once_per_domain(account: Account, hook: Webhook, watch: Watch) -> None:
    watch(rules=AlertRules(age_bound_ms=20_000))
    pass_time(account, 40)

    assert sorted((notice["kind"], notice["subject"]) for notice in hook.received) == [
        ("age", "balances"),
        ("age", "executions"),
        ("age", "orders"),
    ]


def test_a_split_brain_alerts_at_once_and_has_no_end(account: Account, hook: Webhook, watch: Watch) -> None:
    watch()
    account.bus.publish(HealthDegraded(source="BYBIT_SPOT", domain="split_brain", reason="x was placed by another run"))
    pass_time(account, 60)

    assert hook.seen == [("raised", "split_brain")]


def test_a_failing_handler_alerts_until_it_is_quiet_for_a_minute(account: Account, hook: Webhook, watch: Watch) -> None:
    watch()

    def sizing(event: BrokerEvent) -> None:
        raise KeyError("BTCUSDT")

    subscription = account.bus.subscribe(BrokerEvent, sizing)
    account.client.emit_disconnect("ping timeout")
    subscription.cancel()
    account.client.fire_on_reconnect()
    pass_time(account, 90)

    assert hook.seen == [("raised", "handler"), ("restored", "handler")]
    assert "sizing raised KeyError" in hook.received[0]["text"]


def test_a_clock_beyond_its_bound_alerts(account: Account, hook: Webhook, watch: Watch) -> None:
    watch()
    account.client.clock_offset_ms = -2_500
    pass_time(account, 1)

    assert hook.seen == [("raised", "clock")]
    assert "-2500 ms" in hook.received[0]["text"]


def test_a_key_that_ends_soon_alerts(
    account: Account, hook: Webhook, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(account.client), "key_days_left", lambda client: 3, raising=False)
    watch()
    pass_time(account, 2)

    assert hook.seen == [("raised", "key")]


@attrs.frozen(kw_only=True)
class ProtectionUpdated(BrokerEvent):
    """As the event of that name."""

    protection: Protection
    source: str = "BYBIT_SPOT"


@attrs.frozen(kw_only=True)
class ProtectionLost(ProtectionUpdated):
    """As the event of that name."""


STOP = Protection(symbol="BYBIT_LINEAR:BTCUSDT", kind=ProtectionKind.STOP_LOSS, state=ProtectionState.DOES_NOT_STAND)


def test_a_position_without_its_stop_alerts_once_until_it_has_one(
    account: Account, hook: Webhook, watch: Watch
) -> None:
    watch(brokers=None)
    account.bus.publish(ProtectionLost(protection=STOP))
    account.bus.publish(HealthDegraded(source="BYBIT_SPOT", domain="protection", reason="BTCUSDT lacks its stop"))
    pass_time(account, 1)
    account.bus.publish(ProtectionUpdated(protection=attrs.evolve(STOP, state=ProtectionState.STANDS)))
    account.bus.publish(HealthRestored(source="BYBIT_SPOT", domain="protection"))
    pass_time(account, 20)

    assert hook.seen == [("raised", "protection"), ("restored", "protection")]
    assert hook.received[0]["subject"] == "BYBIT_LINEAR:BTCUSDT STOP_LOSS"


def test_without_brokers_events_alone_are_enough(account: Account, hook: Webhook, watch: Watch) -> None:
    watch(brokers=None)
    account.bus.publish(
        OrderStatusUnknown(client_order_id="c9", since_ms=account.clock.now_ms(), reason="absent twice")
    )
    pass_time(account, 31)
    account.bus.publish(OrderAccepted(client_order_id="c9", symbol="BYBIT_SPOT:BTCUSDT"))
    pass_time(account, 20)

    assert hook.seen == [("raised", "unresolved"), ("restored", "unresolved")]


def test_a_flood_is_summed_up_in_one_digest(account: Account, hook: Webhook, watch: Watch) -> None:
    watch(max_per_minute=3)
    for number in range(20):
        account.bus.publish(HealthDegraded(source="BYBIT_SPOT", domain="split_brain", reason=f"order {number}"))
    pass_time(account, 30)

    assert hook.seen == [("raised", "split_brain"), ("raised", "split_brain"), ("digest", "digest")]
    assert hook.received[2]["text"].startswith("18 alerts held back")


def test_a_signature_in_a_reason_is_not_sent(account: Account, hook: Webhook, watch: Watch) -> None:
    watch()
    account.bus.publish(HealthDegraded(source="BYBIT_SPOT", domain="split_brain", reason=f"sign={'ab' * 32}"))
    pass_time(account, 1)

    assert "abab" not in json.dumps(hook.received)


def test_a_refused_notice_is_sent_again_and_arrives_once(account: Account, hook: Webhook, watch: Watch) -> None:
    hook.statuses = [500, 503]
    watch()
    account.client.clock_offset_ms = 5_000
    pass_time(account, 10)

    assert hook.seen == [("raised", "clock")]


def test_a_dead_receiver_is_given_up_without_naming_its_url(caplog: pytest.LogCaptureFixture) -> None:
    account = new_account(poll_interval_ms=3_600_000)  # nothing else is to alert meanwhile
    with Webhook() as gone:
        url = gone.url
    alerts = Alerts(
        account.bus,
        [url],
        brokers=account.broker,
        rules=AlertRules(age_bound_ms=3_600_000),
        clock=account.clock,
        scheduler=account.scheduler,
    )
    account.client.clock_offset_ms = 5_000
    with caplog.at_level(logging.DEBUG):
        pass_time(account, 400)
    alerts.close()
    account.broker.close()

    assert alerts.stats.failed == 1
    assert "secret-token" not in caplog.text
    assert "secret-token" not in repr(alerts)


def test_a_handler_thread_never_waits_for_the_receiver(account: Account, hook: Webhook) -> None:
    senders: set[str] = set()
    told = threading.Event()

    class Slow:
        name = "slow"

        def send(self, notice: object) -> None:
            senders.add(threading.current_thread().name)
            told.set()

    alerts = Alerts(account.bus, [hook.url], brokers=account.broker, rules=AlertRules(unresolved_after_ms=0))
    alerts._channels = [Slow()]
    account.client.clock_offset_ms = 5_000
    account.bus.publish(HealthDegraded(source="BYBIT_SPOT", domain="auth", reason="refused"))
    assert told.wait(10)
    alerts.close()

    assert senders == {"qkt-alerts"}
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("qkt-alerts")] == []


def test_close_sends_what_was_just_noticed(account: Account, hook: Webhook, watch: Watch) -> None:
    alerts = watch()
    account.client.clock_offset_ms = 5_000

    alerts.close()
    alerts.close()

    assert hook.seen == [("raised", "clock")]


@pytest.mark.parametrize("url", ["hooks.example.com/x", "nosuchscheme://token"])
def test_a_url_that_cannot_be_sent_to_is_refused_at_once(account: Account, url: str) -> None:
    with pytest.raises(InvalidRequestError):
        Alerts(account.bus, [url])


def test_a_service_of_apprise_gets_title_and_body(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    import apprise

    told: list[dict[str, str]] = []

    class Service:
        def notify(self, **message: str) -> bool:
            told.append(message)
            return True

    monkeypatch.setattr(apprise.Apprise, "instantiate", lambda url: Service())
    alerts = Alerts(
        account.bus,
        ["tgram://123/456"],
        brokers=account.broker,
        label="bot",
        clock=account.clock,
        scheduler=account.scheduler,
    )
    account.client.clock_offset_ms = 5_000
    alerts.close()

    assert told[0]["title"] == "qkt ALERT BYBIT_SPOT clock (bot)"
    assert "NTP" in told[0]["body"]


READING = Reading(broker="B", health=Health(source="B"))


@pytest.mark.parametrize(
    ("reading", "kind"),
    [
        (attrs.evolve(READING, headroom=0.09), "rate"),
        (attrs.evolve(READING, headroom=0.0, shut_out_ms=60_000), "ban"),
        (attrs.evolve(READING, clock_offset_ms=1_001), "clock"),
        (attrs.evolve(READING, key_days_left=7), "key"),
        (attrs.evolve(READING, ownership="lost", owner="host-b"), "ownership"),
        (attrs.evolve(READING, ages_ms={"orders": 90_001}), "age"),
        (attrs.evolve(READING, unresolved_since_ms={"c1": 69_999}), "unresolved"),
    ],
)
def test_each_bound_has_its_condition(reading: Reading, kind: str) -> None:
    assert [found.kind for found in conditions_of(reading, AlertRules(), now_ms=100_000)] == [kind]


def test_a_reading_within_all_bounds_has_no_condition() -> None:
    reading = attrs.evolve(
        READING, headroom=0.1, clock_offset_ms=-1_000, key_days_left=8, ownership="owner", ages_ms={"orders": 90_000}
    )
    assert conditions_of(reading, AlertRules(), now_ms=100_000) == []


def test_an_episode_that_returns_after_its_end_is_raised_again() -> None:
    episodes, down = AlertEpisodes(quiet_ms=10), Condition(kind="rate", broker="B", text="5 %", since_ms=0)
    states = [
        [notice.state for notice in episodes.update(conditions, now_ms)]
        for now_ms, conditions in enumerate([[down], [], [down], *[[]] * 12, [down]])
    ]
    assert [state for turn in states for state in turn] == ["raised", "restored", "raised"]


def test_the_outbox_counts_what_does_not_fit() -> None:
    outbox = Outbox(max_per_minute=1, capacity=2)
    condition = Condition(kind="rate", broker="B", text="5 %", since_ms=0)
    outbox.add(notice_of("raised", condition, at) for at in range(3))

    assert outbox.dropped == 1


def test_a_client_tells_the_days_left_to_its_key(bybit_venue: SimulatedBybit) -> None:
    with BybitClient("key", "secret", rest_url=bybit_venue.rest_url, ws_url=bybit_venue.ws_url) as client:
        assert client.key_days_left() == 90


def test_alerts_that_could_not_be_built_leave_no_subscription(account: Account, hook: Webhook) -> None:
    before = repr(account.bus)
    closed = ThreadScheduler()
    closed.close()

    for scheduler in (object(), closed):
        with pytest.raises(InvalidRequestError):
            Alerts(account.bus, [hook.url], brokers=account.broker, scheduler=scheduler)  # type: ignore[arg-type]

    assert repr(account.bus) == before
