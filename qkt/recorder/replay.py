"""Replay: the inputs of a recording go to fresh brokers' states, which must tell the same events and believe the same.

Two things are computed again and compared. The frames of the private stream are decoded by the codec, and each fact
that the stream brought must be among what the frames say. Every operation of a state (facts, requests, alarms) is done
again, in its order and with the recorded readings of the clock, by the same state machine: its events must be equal
field for field (``sequence_id`` excepted, whose order is the order of the lines), and so must the digest of every order
it changed. The first thing that differs is named.

What is not computed again are the decisions of rounds and lookups, which depend on when they were taken: the facts they
concluded are inputs. Nothing is sent, and no thread is started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from qkt.broker.state import BrokerState
from qkt.broker.state_observer import Observation
from qkt.bus import EventBus
from qkt.bybit.codec.envelope import decode as decode_envelope
from qkt.bybit.codec.frames import execution_facts, order_facts
from qkt.bybit.journal_member import is_journal_link
from qkt.clock import SystemClock
from qkt.errors import InvalidRequestError, VenueProtocolError
from qkt.model.orders import OrderView
from qkt.orders.facts import AnyFact, ExecutionReported, OrderReported
from qkt.recorder.chain import BrokenChainError
from qkt.recorder.coding import decode, encode
from qkt.recorder.reading import Line, Recording
from qkt.recorder.recorder import after_of

_FRAMES_KEPT = 20_000


@attrs.frozen(kw_only=True)
class Difference:
    """The first thing that came out otherwise. ``place`` is the line, ``what`` the thing that was compared."""

    place: str
    what: str
    recorded: str
    replayed: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}\n  recorded {self.recorded}\n  replayed {self.replayed}"


@attrs.frozen(kw_only=True)
class ReplayResult:
    """What a replay found. ``difference`` is None when everything came out the same.

    ``stopped`` says why the replay ended early ("" when it did not): a gap in the recording, or an altered line.
    """

    lines: int = 0
    frames: int = 0
    operations: int = 0
    facts: int = 0
    events: int = 0
    orders: int = 0
    brokers: tuple[str, ...] = ()
    difference: Difference | None = None
    stopped: str = ""

    @property
    def is_identical(self) -> bool:
        """True when the whole recording came out the same."""
        return self.difference is None and not self.stopped


@attrs.frozen(kw_only=True)
class Step:
    """One operation done again: its line, the broker's name, and what it changed and told."""

    line: Line
    source: str
    observation: Observation


class Replay:
    """Replays one recording; `steps` yields each operation, and `result` says how it ended."""

    def __init__(self, recording: Recording) -> None:
        if not recording.begins_at_the_start:
            raise InvalidRequestError(
                f"{recording.path} lost its first files (keep_files): it can be verified and searched, not replayed"
            )
        self._recording = recording
        self._brokers: dict[int, _ReplayedBroker] = {}
        self._nonce = ""
        self.result: ReplayResult = ReplayResult()

    def run(self) -> ReplayResult:
        """Replay everything; returns `result`."""
        for _ in self.steps():
            pass
        return self.result

    def steps(self) -> Iterator[Step]:
        """Replay step by step, up to the first difference."""
        try:
            for line in self._recording.lines():
                self._count(lines=1)
                step = self._take(line)
                if step is not None:
                    yield step
                if self.result.difference is not None or self.result.stopped:
                    break
        except BrokenChainError as error:
            self.result = attrs.evolve(self.result, stopped=str(error))
        orders = sum(broker.state.ask(len) for broker in self._brokers.values())
        self.result = attrs.evolve(
            self.result, orders=orders, brokers=tuple(broker.state.source for broker in self._brokers.values())
        )

    def view(self, name: str) -> OrderView | None:
        """What the replayed brokers believe of an order, by either id."""
        for broker in self._brokers.values():
            order = broker.state.ask(lambda ledger: ledger.get(name) or ledger.get(None, name))
            if order is not None:
                return order.view()
        return None

    def _take(self, line: Line) -> Step | None:
        match line.kind:
            case "run":
                self._nonce = str(line.fields.get("nonce", ""))
            case "broker":
                number = int(line.fields["broker"])
                settings = line.fields.get("settings", {})
                self._brokers[number] = _ReplayedBroker(str(line.fields["source"]), settings, self._nonce)
            case "frame":
                self._count(frames=1)
                for broker in self._brokers.values():
                    broker.hear(str(line.fields["text"]))
            case "op":
                return self._repeat(line)
            case "gap":
                dropped = line.fields.get("dropped")
                self.result = attrs.evolve(
                    self.result, stopped=f"{line.place}: {dropped} entries are missing here; all before is identical"
                )
        return None

    def _repeat(self, line: Line) -> Step:
        broker = self._brokers[int(line.fields["broker"])]
        operation = str(line.fields["op"])
        recorded = line.fields.get("events", [])
        told = recorded if operation == "publish" else line.fields["inputs"]
        inputs = tuple(decode(value) for value in told)
        difference = broker.unheard(inputs, line) if operation == "absorb" else None
        observation = broker.repeat(operation, inputs, line.fields["readings"])
        if difference is None:
            difference = _compare(line, recorded, observation) or broker.misread(line)
        self._count(operations=1, facts=len(inputs), events=len(observation.events))
        self.result = attrs.evolve(self.result, difference=difference)
        return Step(line=line, source=broker.state.source, observation=observation)

    def _count(self, **more: int) -> None:
        sums = {name: getattr(self.result, name) + number for name, number in more.items()}
        self.result = attrs.evolve(self.result, **sums)


class _ReplayedBroker:
    """A fresh state, and the facts that frames have brought and no operation has used."""

    def __init__(self, source: str, settings: Mapping[str, Any], nonce: str) -> None:
        self.state = _ReplayedState(source, settings, nonce)
        self._category = str(settings.get("category", ""))
        self._heard: deque[AnyFact] = deque(maxlen=_FRAMES_KEPT)

    def hear(self, text: str) -> None:
        try:
            frame = decode_envelope(text)
        except VenueProtocolError:
            return
        family = str(frame.get("topic", "")).partition(".")[0]
        if family == "order":
            self._heard.extend(order_facts(frame, self._category, 0).facts)
        elif family == "execution":
            self._heard.extend(execution_facts(frame, self._category, 0).facts)

    def unheard(self, facts: Sequence[Any], line: Line) -> Difference | None:
        """A fact that the stream brought, says the recording, and that no frame says."""
        for fact in facts:
            if not isinstance(fact, OrderReported | ExecutionReported) or fact.origin != "stream":
                continue
            timeless = attrs.evolve(fact, at_ms=0)
            if timeless in self._heard:
                while self._heard.popleft() != timeless:
                    pass
                continue
            near = next((heard for heard in self._heard if _about(heard) == _about(fact)), None)
            return Difference(
                place=line.place,
                what=f"a fact of the stream that no frame says: {type(fact).__name__} {_about(fact)}",
                recorded=str(encode(timeless)),
                replayed="nothing" if near is None else str(encode(near)),
            )
        return None

    def repeat(self, operation: str, inputs: tuple[Any, ...], readings: Sequence[int]) -> Observation:
        return self.state.repeat(operation, inputs, readings)

    def misread(self, line: Line) -> Difference | None:
        """Readings that were recorded and not used, or used and not recorded."""
        left, missing = len(self.state.readings), self.state.missing
        if not left and not missing:
            return None
        return Difference(
            place=line.place,
            what="the number of readings of clock and queue",
            recorded=str(len(line.fields["readings"])),
            replayed=str(len(line.fields["readings"]) - left + missing),
        )


class _ReplayedState(BrokerState):
    """A state whose answers from outside are those of the recording."""

    def __init__(self, source: str, settings: Mapping[str, Any], nonce: str) -> None:
        super().__init__(
            source=source,
            bus=EventBus(),
            clock=SystemClock(),
            owner=settings.get("owner"),
            is_ours=is_journal_link if settings.get("has_journal") else None,
            account=str(settings.get("account", "")),
        )
        self._replayed_nonce = nonce
        self.readings: deque[int] = deque()
        self.missing = 0
        self._collector = _Collector()
        self.observe(self._collector)

    def repeat(self, operation: str, inputs: tuple[Any, ...], readings: Sequence[int]) -> Observation:
        """Do an operation again; returns what it changed and told."""
        self.readings, self.missing = deque(readings), 0
        self._collector.last = None
        match operation:
            case "absorb":
                self.absorb(inputs)
            case "submit":
                self.begin_submits(inputs)
            case "publish":
                self.publish(list(inputs))
            case "degrade":
                self.degrade(*inputs)
            case "restore":
                self.restore(*inputs)
            case "started":
                self.started(*inputs)
            case "forget":
                self.forget_closed(closed_before_ms=inputs[0], executed_before_ms=inputs[1])
            case "close":
                self.close(drain_ms=0)
            case _:
                raise InvalidRequestError(f"the recording has an operation {operation!r}: update qkt to replay it")
        self.bus.deliver()
        nothing = Observation(operation="absorb", inputs=inputs, readings=(), changes=(), events=())
        return self._collector.last or nothing

    def _read(self, reading: int) -> int:
        if self.readings:
            return super()._read(self.readings.popleft())
        self.missing += 1
        return super()._read(reading)

    def _run_nonce(self) -> str:
        return self._replayed_nonce

    def _write_log(self, *_changes: object, **_named: object) -> None:
        """A replay logs nothing."""
        self._unlogged_health.clear()

    def _write_health_log(self) -> None:
        self._unlogged_health.clear()


class _Collector:
    """Keeps the last operation of a replayed state."""

    def __init__(self) -> None:
        self.last: Observation | None = None

    def observe(self, observation: Observation) -> None:
        self.last = observation


def _compare(line: Line, recorded: Sequence[dict[str, Any]], observation: Observation) -> Difference | None:
    replayed = [encode(event) for event in observation.events]
    for number, (was, now) in enumerate(zip(recorded, replayed, strict=False), start=1):
        was, now = ({name: value for name, value in event.items() if name != "sequence_id"} for event in (was, now))
        if was != now:
            return Difference(
                place=line.place,
                what=f"event {number}, {was.get('_')}: {', '.join(_differing(was, now))}",
                recorded=str(was),
                replayed=str(now),
            )
    if len(recorded) != len(replayed):
        return Difference(
            place=line.place,
            what="the number of events",
            recorded=", ".join(str(event["_"]) for event in recorded) or "none",
            replayed=", ".join(str(event["_"]) for event in replayed) or "none",
        )
    was_after, now_after = line.fields.get("after", []), after_of(observation.changes)
    if was_after != now_after:
        name = next((one for one in was_after if one not in now_after), (now_after or [["?"]])[0])
        return Difference(
            place=line.place,
            what=f"what is believed of {name[0] or name[1]}",
            recorded=str(was_after),
            replayed=str(now_after) + _views(observation),
        )
    return None


def _differing(was: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name in {**was, **now} if was.get(name) != now.get(name)]


def _views(observation: Observation) -> str:
    return "".join(f"\n           {change.after.view().to_json()}" for change in observation.changes if change.is_news)


def _about(fact: AnyFact) -> str:
    if isinstance(fact, ExecutionReported):
        return f"{fact.execution.broker_order_id} {fact.execution.exec_id}"
    if isinstance(fact, OrderReported):
        return f"{fact.report.broker_order_id} {fact.report.venue_status}"
    return ""
