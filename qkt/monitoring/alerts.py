"""Alerts: a message once per episode and once when it is over, from a thread of its own.

Handlers on the bus only append to a bounded queue. The thread ``qkt-alerts`` looks once a second at events and state,
decides, and sends; an order, a handler or a round never waits for a webhook.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Executor
from functools import partial
from types import TracebackType
from typing import Self

import attrs

from qkt.bus import EventBus
from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError, QktError
from qkt.events import BrokerEvent
from qkt.monitoring.alert_channels import Channel, DeliveryError, channel_of
from qkt.monitoring.alert_episodes import AlertEpisodes, Notice, Outbox, notice_of
from qkt.monitoring.alert_rules import AlertRules, Condition, EventConditions, Reading, conditions_of, merged
from qkt.monitoring.observed import (
    Brokers,
    ObservedBroker,
    ObservedBrokers,
    applicable_ages,
    headroom,
    observe,
)
from qkt.monitoring.unresolved import UnresolvedSince
from qkt.net.backoff import ExponentialBackoff
from qkt.net.scheduler import Scheduler, scheduler_from

log: logging.Logger = logging.getLogger(__name__)

_LOOK_EVERY_MS = 1_000
_EVENTS_KEPT = 10_000
_UNSENT_KEPT = 200
_TRIES = 8
_KEY_EVERY_MS = 6 * 3_600_000
_HANDLER_QUIET_MS = 60_000
_CLOSE_MS, _LAST_ATTEMPTS_MS = 6_000, 3_000


@attrs.frozen(kw_only=True)
class AlertStats:
    """What `Alerts` did so far: notices sent and given up, events it was too slow to look at, open episodes."""

    sent: int
    failed: int
    dropped: int
    open_episodes: int


@attrs.define
class _Pending:
    notice: Notice
    tries: int = 0
    next_ms: int = 0


class Alerts:
    """Watches a bus, and brokers if given, and sends a notice once per episode and once when it is over.

    Args:
        bus: whose events are watched.
        urls: receivers. An http(s) URL gets a JSON POST; other schemes, and web services that apprise knows, go by
            apprise (``qkt[alerts]``).
        brokers: a broker, a composite or a list. With them ages, unresolved orders, request budget, clock, key and
            ownership are watched as well; without, what events tell.
        rules: the bounds; see `AlertRules`.
        max_per_minute: more than that is summed up in one digest.
        label: who sends, in each message; the host's name by default.
        clock, scheduler: for tests; by default the system's clock and a thread ``qkt-alerts``.

    Start it with the constructor, end it with `close`. Raises InvalidRequestError for a URL it cannot send to.
    """

    def __init__(
        self,
        bus: EventBus,
        urls: Iterable[str],
        *,
        brokers: Brokers | None = None,
        rules: AlertRules | None = None,
        max_per_minute: int = 10,
        label: str | None = None,
        clock: Clock | None = None,
        scheduler: Scheduler | Executor | None = None,
    ) -> None:
        if isinstance(urls, str):
            raise InvalidRequestError("urls is a list of URLs, not one text")
        if max_per_minute < 1:
            raise InvalidRequestError(f"max_per_minute must be at least 1, got {max_per_minute}")
        name = socket.gethostname() if label is None else label
        self._channels: list[Channel] = [channel_of(url, name) for url in urls]
        if not self._channels:
            raise InvalidRequestError("Alerts needs at least one URL to send to")
        self._bus = bus
        self._brokers = ObservedBrokers() if brokers is None else observe(brokers)
        self._rules = rules or AlertRules()
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._sending = threading.Lock()  # held while a request is under way; guards no state
        self._heard: deque[tuple[EventBus, BrokerEvent]] = deque(maxlen=_EVENTS_KEPT)
        self._heard_count = self._taken_count = 0
        self._events = EventConditions(self._rules)
        self._episodes = AlertEpisodes(self._rules.quiet_ms)
        self._outbox = Outbox(max_per_minute)
        self._unsent: dict[int, deque[_Pending]] = {
            number: deque(maxlen=_UNSENT_KEPT) for number in range(len(self._channels))
        }
        self._backoff = ExponentialBackoff(initial_ms=1_000, max_ms=60_000)
        self._unresolved = {each.name: UnresolvedSince() for each in self._brokers}
        self._handlers = [_HandlerErrors(each, self._brokers.names_on(each)) for each in self._buses]
        self._key_days: dict[str, int | None] = {}
        self._key_asked_ms: int | None = None
        self._sent = self._failed = 0
        self._is_closed = False
        self._scheduler, self._release_scheduler = scheduler_from(scheduler, "qkt-alerts")
        self._schedule = self._scheduler.schedule_at_fixed_rate(self._look, _LOOK_EVERY_MS, _LOOK_EVERY_MS)
        # Last, since a scheduler that is refused raises: no subscription may then be left on the bus.
        self._subscriptions = [each.subscribe(BrokerEvent, partial(self._hear, each)) for each in self._buses]

    @property
    def _buses(self) -> tuple[EventBus, ...]:
        return tuple({id(bus): bus for bus in (self._bus, *self._brokers.buses)}.values())

    def _hear(self, bus: EventBus, event: BrokerEvent) -> None:
        self._heard.append((bus, event))
        self._heard_count += 1  # handlers of one bus never run concurrently

    def _look(self) -> None:
        """One look at events and state, and one attempt to send what is due."""
        now_ms = self._clock.now_ms()
        with self._lock:
            if self._is_closed:
                return
            self._decide(now_ms)
            self._queue(self._outbox.take(now_ms))
        if self._sending.acquire(blocking=False):  # else another thread of a given scheduler is at it
            try:
                self._send(now_ms)
                self._ask_keys(now_ms)
            finally:
                self._sending.release()

    def _decide(self, now_ms: int) -> None:
        while self._heard:
            bus, event = self._heard.popleft()
            self._taken_count += 1
            self._events.hear(event, self._brokers.name_of(bus, event) or str(getattr(event, "source", "")))
        state: list[Condition] = []
        for each in self._brokers:
            reading = self._read(each, now_ms)
            state += conditions_of(reading, self._rules, now_ms)
            self._events.settle(reading, now_ms)
        handlers = [found for errors in self._handlers if (found := errors.look(now_ms)) is not None]
        current = merged([state, self._events.current(now_ms), handlers])
        self._outbox.add(notice_of("raised", alarm, now_ms) for alarm in self._events.take_alarms())
        self._outbox.add(self._episodes.update(current, now_ms))

    def _read(self, each: ObservedBroker, now_ms: int) -> Reading:
        stats, ownership, health = each.stats(), each.ownership(), each.health()
        return Reading(
            broker=each.name,
            health=health,
            ages_ms=applicable_ages(health),
            unresolved_since_ms=self._unresolved[each.name].look(each.open_orders(), now_ms),
            headroom=None if stats is None else headroom(stats),
            shut_out_ms=0 if stats is None else stats.shut_out_ms,
            clock_offset_ms=each.clock_offset_ms(),
            key_days_left=self._key_days.get(each.name),
            ownership="" if ownership is None else ownership.state,
            owner="" if ownership is None else ownership.owner,
        )

    def _queue(self, notices: Iterable[Notice]) -> None:
        for notice in notices:
            log.warning(
                "alert state=%s kind=%s broker=%s text=%s", notice.state, notice.kind, notice.broker, notice.line
            )
            for unsent in self._unsent.values():
                if len(unsent) == unsent.maxlen:
                    self._failed += 1
                unsent.append(_Pending(notice))

    def _send(self, now_ms: int, *, until_monotonic_ms: int | None = None) -> None:
        """Send what is due, channel by channel and in order; the caller holds `_sending`."""
        for number, channel in enumerate(self._channels):
            unsent = self._unsent[number]
            while unsent and unsent[0].next_ms <= now_ms:
                if until_monotonic_ms is not None and self._clock.monotonic_ms() > until_monotonic_ms:
                    return
                if not self._is_taken(channel, unsent[0], now_ms):
                    break
                unsent.popleft()

    def _is_taken(self, channel: Channel, pending: _Pending, now_ms: int) -> bool:
        """Try once; False when the notice is to be tried again later, True when it was sent or given up."""
        try:
            channel.send(pending.notice)
        except DeliveryError as error:
            pending.tries += 1
            if pending.tries < _TRIES:
                pending.next_ms = now_ms + self._backoff.delay_ms(pending.tries - 1)
                return False
            log.warning("alert not delivered channel=%s tries=%d error=%s", channel.name, _TRIES, error)
            self._failed += 1
        except Exception as error:  # noqa: BLE001 - a fault in a service's plug-in must not stop the others
            log.warning("alert channel failed channel=%s error=%s", channel.name, type(error).__name__)
            self._failed += 1
        else:
            self._sent += 1
        return True

    def _ask_keys(self, now_ms: int) -> None:
        """Ask the venue how long the keys live, four times a day; after sending, since the read may take seconds."""
        if self._key_asked_ms is not None and now_ms - self._key_asked_ms < _KEY_EVERY_MS:
            return
        self._key_asked_ms = now_ms
        for name, each in self._brokers.clients:
            ask = getattr(each.client, "key_days_left", None)
            if not callable(ask) or self._is_closed:
                continue
            try:
                days = ask()
            except QktError as error:
                log.debug("key not asked brokers=%s error=%s", name, error)
                continue
            self._key_days |= {other.name: days for other in self._brokers if other.client is each.client}

    @property
    def stats(self) -> AlertStats:
        """Counters so far."""
        return AlertStats(
            sent=self._sent,
            failed=self._failed,
            dropped=self._outbox.dropped + max(0, self._heard_count - self._taken_count - len(self._heard)),
            open_episodes=self._episodes.open_count,
        )

    def close(self) -> None:
        """Stop and join the thread, look once more, and send what is due in one attempt each; idempotent.

        Takes as long as a request under way, at most about five seconds, and three more for the last attempts.
        """
        for subscription in self._subscriptions:
            subscription.cancel()
        self._schedule.cancel()
        self._release_scheduler()
        now_ms = self._clock.now_ms()
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._decide(now_ms)
            self._queue(self._outbox.take(now_ms))
        if self._sending.acquire(timeout=_CLOSE_MS / 1000):
            try:
                self._send(now_ms, until_monotonic_ms=self._clock.monotonic_ms() + _LAST_ATTEMPTS_MS)
            finally:
                self._sending.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        stats = self.stats
        state = "closed" if self._is_closed else "watching"
        return (
            f"<Alerts {state} channels={','.join(channel.name for channel in self._channels)} sent={stats.sent} "
            f"failed={stats.failed} open={stats.open_episodes}>"
        )


class _HandlerErrors:
    """Whether handlers of one bus raised lately."""

    def __init__(self, bus: EventBus, name: str) -> None:
        self._bus = bus
        self._name = name
        self._count = bus.handler_errors
        self._first_ms = self._last_ms = 0

    def look(self, now_ms: int) -> Condition | None:
        """The condition, None when no handler raised in the last minute."""
        count = self._bus.handler_errors
        if count > self._count:
            self._first_ms = self._first_ms or now_ms
            self._count, self._last_ms = count, now_ms
        if not self._first_ms or now_ms - self._last_ms > _HANDLER_QUIET_MS:
            self._first_ms = 0
            return None
        text = self._bus.last_handler_error
        return Condition(kind="handler", broker=self._name, text=text, since_ms=self._first_ms)
