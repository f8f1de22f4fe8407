"""Decides which conditions deserve an alert. Pure: readings and events in, conditions out, time from the caller."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent, HealthDegraded, HealthRestored, OrderEvent, OrderStatusUnknown
from qkt.health import DOMAINS, Health
from qkt.model.protection import Protection, ProtectionState

# Alarms without an end: a person has to look, and no later success undoes them.
_WITHOUT_END = frozenset({"split_brain", "resurrected", "triggers"})

# Domains that usually heal by themselves within seconds; others alert at once.
_SELF_HEALING = frozenset({*DOMAINS, "stream", "topics", "delivery"})

_REMEDIES = {
    "unresolved": "qkt is asking the venue. Do not send it again; look it up by its id.",
    "age": "Reads fail or do not run; broker.health names the path, `qkt doctor` the cause.",
    "stream": "qkt reconnects by itself; meanwhile rounds come more often.",
    "auth": "The venue refuses the key: it expired, was revoked, or is bound to another address.",
    "split_brain": "Another process trades with this key. Stop one of the two.",
    "protection": "The position has no stop at the venue. Set one, or close the position.",
    "ownership": "Another process owns the account now; this one must not send.",
    "ban": "The venue refuses this address until then. Send less; other programs may share the address.",
    "rate": "Send less, or use batches: at zero qkt refuses requests.",
    "clock": "Synchronise this machine's clock (NTP): the venue refuses requests outside its window.",
    "key": "Make a new key before this one ends, or bind it to an address.",
    "handler": "A handler of the bot raises; the log has its stack trace. It missed these events.",
    "maintenance": "The venue is, or will be, out of service. Missing answers are expected.",
}


@attrs.frozen(kw_only=True)
class AlertRules:
    """Bounds beyond which an alert is sent. Times in ms.

    ``unresolved_after_ms``: how long an order may be unresolved. ``age_bound_ms``: the oldest a domain of state may
    be; at least three times the broker's ``poll_interval_ms``. ``degraded_after_ms``: grace for what usually heals by
    itself, such as a lost stream. ``least_headroom``: free share of the request budget. ``clock_bound_ms``: difference
    between this machine's clock and the venue's. ``key_days``: days left to the key. ``quiet_ms``: how long a
    condition must be gone before it counts as restored, so that flapping is one episode.
    """

    unresolved_after_ms: int = 30_000
    age_bound_ms: int = 90_000
    degraded_after_ms: int = 30_000
    least_headroom: float = 0.1
    clock_bound_ms: int = 1_000
    key_days: int = 7
    quiet_ms: int = 10_000

    def __attrs_post_init__(self) -> None:
        for name in ("unresolved_after_ms", "age_bound_ms", "degraded_after_ms", "clock_bound_ms", "quiet_ms"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise InvalidRequestError(f"{name} must be a whole number of ms, not below zero; got {value!r}")
        if not 0 <= self.least_headroom < 1:
            raise InvalidRequestError(f"least_headroom is a share from 0 to below 1; got {self.least_headroom!r}")


@attrs.frozen(kw_only=True)
class Condition:
    """Something that is wrong now. ``kind``, ``broker`` and ``subject`` identify the episode.

    ``has_end`` is False for an alarm that no later success undoes.
    """

    kind: str
    broker: str
    subject: str = ""
    text: str
    since_ms: int
    has_end: bool = True

    @property
    def key(self) -> tuple[str, str, str]:
        """Identity of the episode."""
        return self.kind, self.broker, self.subject

    @property
    def remedy(self) -> str:
        """What to do, "" where there is no general advice."""
        return _REMEDIES.get(self.kind, _REMEDIES.get(self.subject, ""))


@attrs.frozen(kw_only=True)
class Reading:
    """State of one broker at one moment. None means that the broker does not tell."""

    broker: str
    health: Health
    ages_ms: Mapping[str, int | None] = attrs.field(factory=dict)
    unresolved_since_ms: Mapping[str, int] = attrs.field(factory=dict)
    headroom: float | None = None
    shut_out_ms: int = 0
    clock_offset_ms: int | None = None
    key_days_left: int | None = None
    ownership: str = ""
    owner: str = ""


def conditions_of(reading: Reading, rules: AlertRules, now_ms: int) -> list[Condition]:
    """What is wrong with one broker by its state alone."""
    name, found = reading.broker, []
    for order_id, since_ms in reading.unresolved_since_ms.items():
        if now_ms - since_ms > rules.unresolved_after_ms:
            text = f"order {order_id} is unresolved for {_s(now_ms - since_ms)}"
            found.append(Condition(kind="unresolved", broker=name, subject=order_id, text=text, since_ms=since_ms))
    for domain, age_ms in reading.ages_ms.items():
        if age_ms is not None and age_ms > rules.age_bound_ms:
            text = f"{domain} were last read {_s(age_ms)} ago (bound {_s(rules.age_bound_ms)})"
            found.append(Condition(kind="age", broker=name, subject=domain, text=text, since_ms=now_ms - age_ms))
    if reading.shut_out_ms > 0:
        text = f"the venue refuses this address for {_s(reading.shut_out_ms)} more"
        found.append(Condition(kind="ban", broker=name, text=text, since_ms=now_ms))
    elif reading.headroom is not None and reading.headroom < rules.least_headroom:
        text = f"{reading.headroom:.0%} of the request budget is left"
        found.append(Condition(kind="rate", broker=name, text=text, since_ms=now_ms))
    if reading.clock_offset_ms is not None and abs(reading.clock_offset_ms) > rules.clock_bound_ms:
        text = f"this machine's clock differs from the venue's by {reading.clock_offset_ms} ms"
        found.append(Condition(kind="clock", broker=name, text=text, since_ms=now_ms))
    if reading.key_days_left is not None and reading.key_days_left <= rules.key_days:
        text = f"the API key ends in {reading.key_days_left} days"
        found.append(Condition(kind="key", broker=name, text=text, since_ms=now_ms))
    if reading.ownership == "lost":
        text = f"the account is owned by {reading.owner or 'another process'} now"
        found.append(Condition(kind="ownership", broker=name, text=text, since_ms=now_ms))
    return found


class EventConditions:
    """Conditions that events begin and end. Not thread-safe: its owner guards it."""

    def __init__(self, rules: AlertRules) -> None:
        self._rules = rules
        self._open: dict[tuple[str, str, str], Condition] = {}
        self._confirmed: set[tuple[str, str, str]] = set()
        self._alarms: list[Condition] = []

    def hear(self, event: BrokerEvent, broker: str) -> None:
        """Take over one event of ``broker``."""
        if isinstance(event, HealthDegraded):
            self._degraded(event, broker)
        elif isinstance(event, HealthRestored):
            self._end((_kind_of(event.domain), broker, event.domain))
        elif isinstance(event, OrderStatusUnknown):
            name = event.client_order_id or event.broker_order_id
            self._begin("unresolved", broker, name, event.reason, event.since_ms or event.timestamp)
        elif isinstance(event, OrderEvent):
            name = event.client_order_id or event.broker_order_id
            for key in [key for key in self._open if key[0] == "unresolved" and key[2] == name]:
                self._end(key)  # whatever the broker is called: not every order event tells it
        self._by_name(event, broker)

    def _degraded(self, event: HealthDegraded, broker: str) -> None:
        text, since_ms = f"{event.domain}: {event.reason}", event.since_ms or event.timestamp
        if event.domain in _WITHOUT_END:
            self._alarm(event.domain, broker, event.reason, text, since_ms)
        else:
            self._begin(_kind_of(event.domain), broker, event.domain, text, since_ms)

    def _alarm(self, kind: str, broker: str, subject: str, text: str, since_ms: int) -> None:
        self._alarms.append(
            Condition(kind=kind, broker=broker, subject=subject, text=text, since_ms=since_ms, has_end=False)
        )

    def _by_name(self, event: BrokerEvent, broker: str) -> None:
        """Events of features that a broker may lack, recognised by the name of their class."""
        name = type(event).__name__
        if name.startswith("Protection"):
            self._protection(event, broker, is_lost=name == "ProtectionLost")
        elif name == "VenueMaintenance":
            subject = str(getattr(event, "id", ""))
            if str(getattr(event, "state", "")).lower() in ("completed", "canceled", "cancelled", "over", "ended"):
                self._end(("maintenance", broker, subject))
            else:
                text = str(getattr(event, "title", "") or getattr(event, "reason", "") or "maintenance of the venue")
                self._begin("maintenance", broker, subject, text, event.timestamp)

    def _protection(self, event: BrokerEvent, broker: str, *, is_lost: bool) -> None:
        """An exit of a position: lost, or standing again, or over with its position."""
        exit_ = getattr(event, "protection", None)
        if not isinstance(exit_, Protection):
            return
        subject = f"{exit_.symbol} {exit_.kind.value}"
        if is_lost:
            self._begin("protection", broker, subject, f"position without its exit: {exit_}", event.timestamp)
        elif exit_.state in (ProtectionState.STANDS, ProtectionState.ENDED):
            self._end(("protection", broker, subject))

    def _begin(self, kind: str, broker: str, subject: str, text: str, since_ms: int) -> None:
        condition = Condition(kind=kind, broker=broker, subject=subject, text=text, since_ms=since_ms)
        self._open.setdefault(condition.key, condition)

    def _end(self, key: tuple[str, str, str]) -> None:
        self._open.pop(key, None)
        self._confirmed.discard(key)

    def settle(self, reading: Reading, now_ms: int) -> None:
        """Correct the open episodes of a broker by its state: begin those it had before, drop those it has no more.

        An episode just heard of is left alone for two seconds, since state and events are read at different moments.
        A degraded domain that the state never confirmed is an alarm without an end.
        """
        degraded = reading.health.degraded
        for domain, reason in degraded.items():
            key = (_kind_of(domain), reading.broker, domain)
            self._begin(*key, f"{domain}: {reason}", now_ms)
            self._confirmed.add(key)
        for key, condition in list(self._open.items()):
            kind, broker, subject = key
            if broker != reading.broker or now_ms - condition.since_ms < 2_000:
                continue
            if kind in ("age", "degraded") and subject not in degraded:
                if key not in self._confirmed:
                    self._alarm(kind, broker, condition.text, condition.text, condition.since_ms)
                self._end(key)
            elif kind == "unresolved" and subject not in reading.unresolved_since_ms:
                self._end(key)

    def take_alarms(self) -> list[Condition]:
        """Alarms without an end, each once."""
        taken, self._alarms = self._alarms, []
        return taken

    def current(self, now_ms: int) -> list[Condition]:
        """Episodes that are open and older than their grace."""
        found = []
        unprotected = {broker for kind, broker, _ in self._open if kind == "protection"}
        for condition in self._open.values():
            if condition.kind == "degraded" and condition.subject == "protection" and condition.broker in unprotected:
                continue  # ProtectionLost says it with the position
            grace_ms = 0
            if condition.kind == "unresolved":
                grace_ms = self._rules.unresolved_after_ms
            elif condition.kind in ("age", "degraded") and condition.subject in _SELF_HEALING:
                grace_ms = self._rules.degraded_after_ms
            if now_ms - condition.since_ms >= grace_ms:
                found.append(_with_age(condition, now_ms))
        return found


def merged(groups: Iterable[Iterable[Condition]]) -> list[Condition]:
    """Each episode once, as the first group that knows it tells it."""
    found: dict[tuple[str, str, str], Condition] = {}
    for group in groups:
        for condition in group:
            found.setdefault(condition.key, condition)
    return list(found.values())


def _kind_of(domain: str) -> str:
    """A domain of state that is degraded is the same episode as its age beyond the bound."""
    return "age" if domain in DOMAINS else "degraded"


def _with_age(condition: Condition, now_ms: int) -> Condition:
    if condition.kind != "unresolved":
        return condition
    text = f"order {condition.subject} is unresolved for {_s(now_ms - condition.since_ms)}: {condition.text}"
    return attrs.evolve(condition, text=text)


def _s(span_ms: int) -> str:
    return f"{span_ms / 1000:.0f} s"
