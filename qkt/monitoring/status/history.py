"""Fills, discrepancies and degraded spells of the last while, for the time line. Bounded, safe from any thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Literal

import attrs

from qkt.bus import EventBus, Subscription
from qkt.clock import Clock, SystemClock
from qkt.events import BrokerEvent, FillEvent, HealthDegraded, HealthRestored, OrderEvent
from qkt.health import Health
from qkt.money import to_wire
from qkt.monitoring.observed import ObservedBrokers
from qkt.monitoring.status.verdict import plain_reason
from qkt.reconcile.report import ReconcileReport

MarkKind = Literal["buy", "sell", "discrepancy", "alarm"]

_MARKS_KEPT, _SPELLS_KEPT = 2_000, 500
_SETTLED_AFTER_MS = 2_000


@attrs.frozen(kw_only=True)
class Mark:
    """Something at one moment."""

    at_ms: int
    kind: MarkKind
    broker: str
    text: str
    client_order_id: str = ""
    broker_order_id: str = ""


@attrs.frozen(kw_only=True)
class Spell:
    """A domain that was degraded from ``since_ms`` to ``until_ms``, None while it lasts."""

    broker: str
    domain: str
    reason: str
    since_ms: int
    until_ms: int | None = None


class StatusHistory:
    """Listens to buses from construction on.

    Build it before the brokers, and give it to `serve_status`, to see what their first round finds.
    """

    def __init__(self, buses: Iterable[EventBus], *, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._changed = threading.Condition()
        self._version = 0
        self._is_closed = False
        self._brokers = ObservedBrokers()
        self._fills: deque[tuple[EventBus, FillEvent]] = deque(maxlen=_MARKS_KEPT)
        self._marks: deque[Mark] = deque(maxlen=_MARKS_KEPT)
        self._ended: deque[Spell] = deque(maxlen=_SPELLS_KEPT)
        self._open: dict[tuple[str, str], Spell] = {}
        self._seen_rounds_ms: dict[str, int] = {}
        self._subscriptions: dict[int, Subscription] = {}
        self.listen(buses)

    def listen(self, buses: Iterable[EventBus]) -> None:
        """Listen to these buses too."""
        for bus in buses:
            if id(bus) not in self._subscriptions:
                self._subscriptions[id(bus)] = bus.subscribe(BrokerEvent, partial(self.hear, bus))

    def name_brokers(self, brokers: ObservedBrokers) -> None:
        """Use these brokers' names from now on."""
        self._brokers = brokers
        self.listen(brokers.buses)

    def close(self) -> None:
        """Stop listening and wake all who wait; idempotent."""
        for subscription in self._subscriptions.values():
            subscription.cancel()
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    @property
    def is_closed(self) -> bool:
        """True after `close`."""
        return self._is_closed

    def wait_for_change(self, version: int, timeout_s: float) -> int:
        """Wait until an event came after ``version``, or the time is over, or `close`; returns the version now."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != version or self._is_closed, timeout_s)
            return self._version

    def hear(self, bus: EventBus, event: BrokerEvent) -> None:
        """Take over one event; called by the buses, and for events from before `listen`."""
        if not isinstance(event, OrderEvent | HealthDegraded | HealthRestored):
            return
        with self._changed:
            if isinstance(event, FillEvent) and event.exec_id:
                self._fills.append((bus, event))
            elif isinstance(event, HealthDegraded):
                self._begin(self._name_of(bus, event), event.domain, event.reason, event.since_ms or event.timestamp)
            elif isinstance(event, HealthRestored):
                self._end(self._name_of(bus, event), event.domain, event.timestamp)
            self._version += 1
            self._changed.notify_all()

    def _name_of(self, bus: EventBus, event: HealthDegraded | HealthRestored) -> str:
        return self._brokers.name_of(bus, event) or event.source

    def _begin(self, broker: str, domain: str, reason: str, since_ms: int) -> None:
        spell = Spell(broker=broker, domain=domain, reason=plain_reason(reason), since_ms=since_ms)
        self._open.setdefault((broker, domain), spell)

    def _end(self, broker: str, domain: str, until_ms: int) -> None:
        spell = self._open.pop((broker, domain), None)
        if spell is not None:
            self._ended.append(attrs.evolve(spell, until_ms=until_ms))

    def take_over(self, broker: str, health: Health, reports: Iterable[ReconcileReport]) -> None:
        """Add the discrepancies of new rounds, and the episodes that began before listening.

        A degraded domain that the health does not know, two seconds after its event, is an alarm without an end.
        """
        now_ms = self._clock.now_ms()
        with self._changed:
            for report in reports:
                if report.started_ms > self._seen_rounds_ms.get(broker, -1):
                    self._seen_rounds_ms[broker] = report.started_ms
                    self._marks.extend(_discrepancy_marks(broker, report))
            for domain, reason in health.degraded.items():
                self._begin(broker, domain, reason, now_ms)
            for key, spell in list(self._open.items()):
                is_settled = now_ms - spell.since_ms > _SETTLED_AFTER_MS
                if key[0] == broker and key[1] not in health.degraded and is_settled:
                    del self._open[key]
                    text = f"{spell.domain}: {spell.reason}"
                    self._marks.append(Mark(at_ms=spell.since_ms, kind="alarm", broker=broker, text=text))

    def since(self, begin_ms: int) -> tuple[list[Mark], list[Spell]]:
        """Marks and spells not over before ``begin_ms``, oldest first."""
        with self._changed:
            fills = list(self._fills)
            marks = list(self._marks)
            spells = [*self._ended, *self._open.values()]
        marks += [_fill_mark(self._brokers.name_of(bus, fill), fill) for bus, fill in fills]
        return (
            sorted((mark for mark in marks if mark.at_ms >= begin_ms), key=lambda mark: mark.at_ms),
            sorted(
                (spell for spell in spells if spell.until_ms is None or spell.until_ms >= begin_ms),
                key=lambda spell: spell.since_ms,
            ),
        )


def _fill_mark(broker: str, fill: FillEvent) -> Mark:
    symbol = fill.symbol.partition(":")[2] or fill.symbol
    late = " (late)" if fill.late else ""
    side = fill.side.value.lower()
    return Mark(
        at_ms=fill.exec_time_ms or fill.timestamp,
        kind="buy" if side == "buy" else "sell",
        broker=broker,
        text=f"{side} {to_wire(fill.quantity)} {symbol} @ {to_wire(fill.price)}{late}",
        client_order_id=fill.client_order_id,
        broker_order_id=fill.broker_order_id,
    )


def _discrepancy_marks(broker: str, report: ReconcileReport) -> list[Mark]:
    return [
        Mark(
            at_ms=report.started_ms,
            kind="discrepancy",
            broker=broker,
            text=f"{found.kind}: {found.what}",
            client_order_id=found.client_order_id,
            broker_order_id=found.broker_order_id,
        )
        for found in report.discrepancies
    ]
