"""Prometheus metrics of brokers and their connections. Needs ``qkt[metrics]``.

Gauges and most counters are read when Prometheus scrapes; fills, submits and rounds are counted from events. Event
handlers run where the bus delivers (``qkt-events`` for what the library learnt), after the state has changed: an order
never waits for a metric.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from qkt.bus import EventBus, Subscription
from qkt.clock import Clock, SystemClock
from qkt.events import (
    BalancesUpdated,
    FillEvent,
    HealthDegraded,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderRejected,
    OrderStatusUnknown,
)
from qkt.model.orders import OrderStatus
from qkt.monitoring.extras import require
from qkt.monitoring.observed import (
    Brokers,
    ConnectionStats,
    ObservedBroker,
    ObservedBrokers,
    applicable_ages,
    headroom,
    observe,
)
from qkt.monitoring.unresolved import UnresolvedSince

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

_SUBMIT_BUCKETS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_FILL_BUCKETS_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 300)
_ROUND_BUCKETS_S = (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)

_COUNTED: dict[type[OrderEvent], str] = {
    OrderAccepted: "accepted",
    OrderFilled: "filled",
    OrderCancelled: "cancelled",
    OrderRejected: "rejected",
    OrderStatusUnknown: "unknown",
}

_CONNECTION_COUNTERS: tuple[tuple[str, str, str], ...] = (
    ("qkt_stream_connections", "connections", "Sessions of the private stream that were opened"),
    ("qkt_stream_losses", "losses", "Sessions of the private stream that were lost"),
    ("qkt_listener_errors", "listener_errors", "Exceptions of the library's own frame listeners"),
    ("qkt_requests", "requests", "REST requests sent"),
    ("qkt_request_retries", "retries", "REST requests sent again"),
    ("qkt_requests_throttled", "throttled", "Requests that the venue refused as too many"),
    ("qkt_failed_reads", "failed_reads", "Reads without a usable answer"),
    ("qkt_unknown_writes", "unknown_writes", "Writes without a definite answer"),
    ("qkt_clock_refusals", "clock_refusals", "Requests that the venue refused for their timestamp"),
)


class Metrics:
    """Exports the state of one or several brokers to a Prometheus registry.

    Args:
        broker: a broker, a `CompositeBroker` or a list; each leaf is one value of the label ``broker``.
        registry: prometheus_client's default registry when None, the one that its ``start_http_server`` serves.
        clock: measures how long an order is unresolved; the system's by default.

    `close` takes the metrics out of the registry again. Raises InvalidRequestError when prometheus_client is missing,
    or when the registry exports metrics of these names already.
    """

    def __init__(
        self, broker: Brokers, registry: CollectorRegistry | None = None, *, clock: Clock | None = None
    ) -> None:
        require("prometheus_client", "metrics", "Metrics")
        from prometheus_client import REGISTRY, Histogram

        self._brokers = observe(broker)
        self._registry = registry or REGISTRY
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._unresolved = {each.name: UnresolvedSince() for each in self._brokers}
        self._orders: Counter[tuple[str, str, str]] = Counter()
        self._fills: Counter[tuple[str, str, str]] = Counter()
        self._alarms: Counter[tuple[str, str]] = Counter()
        self._rounds: Counter[tuple[str, str, str]] = Counter()
        self._discrepancies: Counter[tuple[str, str, str]] = Counter()
        self._counted_until_ms = {each.name: _last_round_ms(each) for each in self._brokers}
        histogram = partial(Histogram, registry=None)
        self._submit_latency = histogram(
            "qkt_submit_latency_seconds",
            "From submit to the first evidence of the order at the venue, by the origin of that evidence",
            ["broker", "origin"],
            buckets=_SUBMIT_BUCKETS_S,
        )
        self._fill_delay = histogram(
            "qkt_fill_delay_seconds",
            "From the execution, in venue time, to its event, by the origin of the event",
            ["broker", "origin"],
            buckets=_FILL_BUCKETS_S,
        )
        self._round_duration = histogram(
            "qkt_round_duration_seconds", "Duration of a reconcile round", ["broker"], buckets=_ROUND_BUCKETS_S
        )
        self._registry.register(self)
        self._subscriptions = [each for bus in self._brokers.buses for each in self._subscribe(bus)]

    def close(self) -> None:
        """Stop counting and leave the registry; idempotent."""
        subscriptions, self._subscriptions = self._subscriptions, []
        for subscription in subscriptions:
            subscription.cancel()
        if subscriptions or not self._brokers.buses:
            try:
                self._registry.unregister(self)
            except KeyError:
                return  # the registry's owner took it out already

    def _subscribe(self, bus: EventBus) -> list[Subscription]:
        return [
            bus.subscribe(OrderEvent, partial(self._on_order_event, bus)),
            bus.subscribe(HealthDegraded, partial(self._on_degraded, bus)),
            bus.subscribe(BalancesUpdated, self._on_balances),
        ]

    def _on_order_event(self, bus: EventBus, event: OrderEvent) -> None:
        kind = _COUNTED.get(type(event))
        if kind is None and not isinstance(event, FillEvent):
            return
        name = self._brokers.name_of(bus, event)
        if kind is not None:
            with self._lock:
                self._orders[name, kind, event.origin] += 1
        if isinstance(event, FillEvent) and event.exec_id:
            with self._lock:
                self._fills[name, event.origin, "yes" if event.late else "no"] += 1
            delay_ms = event.timestamp + self._offset_ms(name) - event.exec_time_ms
            if event.exec_time_ms:
                self._fill_delay.labels(name, event.origin).observe(max(0, delay_ms) / 1000)
        elif isinstance(event, OrderAccepted | OrderRejected) and not event.external:
            each = self._named(name)
            view = None if each is None else each.order(event.client_order_id, event.broker_order_id)
            if view is not None and view.created_ms:
                latency_ms = event.timestamp - view.created_ms
                self._submit_latency.labels(name, event.origin).observe(max(0, latency_ms) / 1000)

    def _on_degraded(self, bus: EventBus, event: HealthDegraded) -> None:
        with self._lock:
            self._alarms[self._brokers.name_of(bus, event), event.domain] += 1

    def _on_balances(self, event: BalancesUpdated) -> None:
        """A wallet read of a round ends here: count the rounds before ``reports`` forgets them."""
        if event.origin == "reconcile":
            self._count_rounds()

    def _count_rounds(self) -> None:
        for each in self._brokers:
            reports = each.reports()
            with self._lock:
                new = [report for report in reports if report.started_ms > self._counted_until_ms[each.name]]
                for report in new:
                    self._counted_until_ms[each.name] = report.started_ms
                    self._rounds[each.name, report.trigger, "yes" if report.ok else "no"] += 1
                    for found in report.discrepancies:
                        self._discrepancies[each.name, found.kind, found.likely_cause.partition(":")[0]] += 1
            for report in new:
                self._round_duration.labels(each.name).observe(report.duration_ms / 1000)

    def _named(self, name: str) -> ObservedBroker | None:
        return next((each for each in self._brokers if each.name == name), None)

    def _offset_ms(self, name: str) -> int:
        each = self._named(name)
        return 0 if each is None else each.clock_offset_ms() or 0

    def describe(self) -> list[Metric]:
        """The names that `collect` exports, for the registry's check against duplicates."""
        from prometheus_client.core import GaugeMetricFamily

        return [GaugeMetricFamily("qkt_state_age_seconds", ""), *self._submit_latency.describe()]

    def collect(self) -> Iterator[Metric]:
        """All metrics now; called by the registry when it is scraped."""
        self._count_rounds()
        with self._lock:  # two scrapes at once share the memory of what is unresolved
            gauges = list(_broker_gauges(self._brokers, self._unresolved, self._clock.now_ms()))
        yield from gauges
        yield from _connection_metrics(self._brokers)
        yield from _bus_metrics(self._brokers)
        yield from self._counters()
        for histogram in (self._submit_latency, self._fill_delay, self._round_duration):
            yield from histogram.collect()

    def _counters(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily

        with self._lock:
            counted = (
                ("qkt_order_events", "Order events", ("kind", "origin"), dict(self._orders)),
                ("qkt_fills", "Executions published", ("origin", "late"), dict(self._fills)),
                ("qkt_degradations", "Times that a domain became degraded", ("domain",), dict(self._alarms)),
                ("qkt_rounds", "Reconcile rounds", ("trigger", "complete"), dict(self._rounds)),
                ("qkt_discrepancies", "Discrepancies healed", ("kind", "cause"), dict(self._discrepancies)),
            )
        for name, help_text, labels, values in counted:
            family = CounterMetricFamily(name, help_text, labels=["broker", *labels])
            for key, value in values.items():
                family.add_metric(list(key), value)
            yield family

    def __repr__(self) -> str:
        return f"<Metrics brokers={','.join(each.name for each in self._brokers)}>"


def _broker_gauges(brokers: ObservedBrokers, unresolved: dict[str, UnresolvedSince], now_ms: int) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    age = GaugeMetricFamily(
        "qkt_state_age_seconds",
        "Age of the last complete read; absent before the first",
        labels=["broker", "domain"],
    )
    degraded = GaugeMetricFamily("qkt_degraded", "1 for each open episode", labels=["broker", "domain"])
    alarms = GaugeMetricFamily("qkt_alarms", "Alarms that are not acknowledged", labels=["broker", "domain"])
    orders = GaugeMetricFamily("qkt_open_orders", "Open orders", labels=["broker", "status"])
    count = GaugeMetricFamily("qkt_unresolved_orders", "Orders whose fate is unknown", labels=["broker"])
    seconds = GaugeMetricFamily(
        "qkt_unresolved_seconds", "How long the oldest unresolved order is unresolved", labels=["broker"]
    )
    missing = GaugeMetricFamily(
        "qkt_orders_missing_fills", "Open orders whose executions are not all known", labels=["broker"]
    )
    lookups = GaugeMetricFamily("qkt_lookups_waiting", "Lookups by id put off to the next round", labels=["broker"])
    epoch = GaugeMetricFamily("qkt_lease_epoch", "Epoch of the account's owner", labels=["broker", "owner"])
    is_owner = GaugeMetricFamily("qkt_lease_is_owner", "1 when this process may create orders", labels=["broker"])
    for each in brokers:
        health, views = each.health(), each.open_orders()
        for domain, age_ms in applicable_ages(health).items():
            if age_ms is not None:
                age.add_metric([each.name, domain], age_ms / 1000)
        for domain in health.degraded:
            degraded.add_metric([each.name, domain], 1)
        for domain, standing in Counter(alarm.domain for alarm in health.alarms).items():
            alarms.add_metric([each.name, domain], standing)
        by_status = Counter(view.status for view in views)
        for status in OrderStatus:
            if not status.is_closed:
                orders.add_metric([each.name, status.value], by_status[status])
        since_ms = unresolved[each.name].look(views, now_ms)
        count.add_metric([each.name], len(since_ms))
        seconds.add_metric([each.name], max((now_ms - begun for begun in since_ms.values()), default=0) / 1000)
        missing.add_metric([each.name], sum(view.missing_quantity > 0 for view in views))
        lookups.add_metric([each.name], health.lookups_waiting)
        ownership = each.ownership()
        if ownership is not None:
            epoch.add_metric([each.name, ownership.owner], ownership.epoch)
            is_owner.add_metric([each.name], ownership.state == "owner")
    yield from (age, degraded, alarms, orders, count, seconds, missing, lookups, epoch, is_owner)


def _connection_metrics(brokers: ObservedBrokers) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    found = [(name, each, stats) for name, each in brokers.clients if (stats := each.stats()) is not None]
    for metric, attribute, help_text in _CONNECTION_COUNTERS:
        counter = CounterMetricFamily(metric, help_text, labels=["client"])
        for name, _, stats in found:
            counter.add_metric([name], getattr(stats, attribute))
        yield counter

    def gauge(metric: str, help_text: str, read: Callable[[ConnectionStats], float | None]) -> Metric:
        family = GaugeMetricFamily(metric, help_text, labels=["client"])
        for name, _, stats in found:
            value = read(stats)
            if value is not None:
                family.add_metric([name], value)
        return family

    yield gauge("qkt_rate_headroom_ratio", "Free share of the request budget; 0 while shut out", headroom)
    yield gauge("qkt_shut_out_seconds", "How long the venue still refuses this address", _in_s("shut_out_ms"))
    yield gauge("qkt_stream_frame_age_seconds", "Age of the last frame", _in_s("frame_age_ms"))
    yield gauge("qkt_stream_lag_seconds", "Age of the last frame when it arrived", _in_s("lag_ms"))
    yield gauge("qkt_request_round_trip_seconds", "Round trip of the last request", _in_s("rest_round_trip_ms"))
    live = GaugeMetricFamily("qkt_stream_live", "1 while every topic of the stream is live", labels=["client"])
    offset = GaugeMetricFamily("qkt_clock_offset_seconds", "Venue time minus local time", labels=["client"])
    for name, each in brokers.clients:
        live.add_metric([name], each.health().stream == "live")
        offset_ms = each.clock_offset_ms()
        if offset_ms is not None:
            offset.add_metric([name], offset_ms / 1000)
    yield from (live, offset)


def _bus_metrics(brokers: ObservedBrokers) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    depth = GaugeMetricFamily("qkt_event_queue_depth", "Events that wait for delivery", labels=["bus"])
    errors = CounterMetricFamily("qkt_handler_errors", "Exceptions of event handlers", labels=["bus"])
    for bus in brokers.buses:
        name = brokers.names_on(bus)
        depth.add_metric([name], bus.queue_depth)
        errors.add_metric([name], bus.handler_errors)
    yield from (depth, errors)


def _in_s(attribute: str) -> Callable[[ConnectionStats], float | None]:
    def read(stats: ConnectionStats) -> float | None:
        value = getattr(stats, attribute)
        return None if value is None else value / 1000

    return read


def _last_round_ms(each: ObservedBroker) -> int:
    return max((report.started_ms for report in each.reports()), default=-1)
