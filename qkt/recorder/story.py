"""One order's story out of a recording: what was sent, what came back, what qkt concluded, each with its evidence.

The recording is replayed, so that a story is told only of what a fresh core concludes as well; beside each conclusion
stands the line of the request, reply or frame that it came from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from qkt.bybit.codec.retcodes import Operation, operation_for
from qkt.errors import InvalidRequestError
from qkt.model.orders import OrderView
from qkt.orders.facts import AboutOrder, ExecutionReported, OrderReported
from qkt.orders.ledger import Change
from qkt.orders.wording import delta_words, fact_words
from qkt.plain import PlainValue, decimal_text
from qkt.recorder.reading import Line, Recording
from qkt.recorder.replay import Replay

_WIRE = ("request", "reply", "failure", "frame")
_MOST_WIRE_LINES = 20_000


@attrs.frozen(kw_only=True)
class StoryEntry(PlainValue):
    """One thing that happened: when (ms), from where, what, what it changed, and where that can be read."""

    at_ms: int
    origin: str
    what: str
    changed: str = ""
    evidence: str = ""


@attrs.frozen(kw_only=True)
class Story(PlainValue):
    """All that is known about one order. ``order`` is what is believed at the end, None when qkt never knew it."""

    name: str
    source: str
    order: OrderView | None
    entries: tuple[StoryEntry, ...]
    remarks: tuple[str, ...] = ()

    @property
    def headline(self) -> str:
        """The order and its state in one sentence."""
        view = self.order
        if view is None:
            return f"{self.name}: not known as an order"
        side = "" if view.side is None else f" {view.side.name}"
        size = "" if view.quantity is None else f" {decimal_text(view.quantity)}"
        price = "" if view.limit_price is None else f" @ {decimal_text(view.limit_price)}"
        filled = f"{decimal_text(view.cum_quantity)} executed"
        at = "" if view.avg_price is None else f" at {decimal_text(view.avg_price)} on average"
        missing = f", {decimal_text(view.missing_quantity)} of it not shown yet" if view.missing_quantity else ""
        reason = f" ({view.reason})" if view.reason else ""
        order = f"{view.symbol} {view.order_type.name}{side}{size}{price}"
        return f"{order}: {view.status.value}{reason}, {filled}{at}{missing}"

    @property
    def deltas(self) -> tuple[str, ...]:
        """For each entry, the time since the one before; "" for the first."""
        times = [entry.at_ms for entry in self.entries]
        return tuple("" if not at else delta_words(now - times[at - 1]) for at, now in enumerate(times))


def story_of(recording: Recording, name: str) -> Story:
    """The story of the order with this client or broker order id.

    Raises InvalidRequestError when the recording does not mention it.
    """
    ids, known = {name}, set[str]()
    while ids != known:  # the venue's id is learnt on the way: tell it again from the start by both
        known = set(ids)
        replay, told = Replay(recording), list[tuple[Line, str, Change]]()
        for step in replay.steps():
            for change in step.observation.changes:
                own = {change.after.client_order_id, change.after.broker_order_id} - {""}
                if own & ids:
                    ids |= own
                    told.append((step.line, step.source, change))
    wire = _Wire(recording, ids)
    if not told and not wire.requests:
        raise InvalidRequestError(f"{recording.path} does not mention an order {name!r}: check the id")
    entries = [*wire.entries(), *_concluded(told, wire)]
    result = replay.result
    remarks = [f"the replay differs at {result.difference}"] if result.difference else []
    remarks += [result.stopped] if result.stopped else []
    return Story(
        name=name,
        source=told[0][1] if told else "",
        order=next((view for view in map(replay.view, sorted(ids)) if view is not None), None),
        entries=tuple(entry for _, entry in sorted(entries, key=lambda numbered: numbered[0])),
        remarks=tuple(remarks),
    )


def _concluded(told: Iterable[tuple[Line, str, Change]], wire: _Wire) -> Iterator[tuple[tuple[str, int], StoryEntry]]:
    for line, _source, change in told:
        if not change.is_news and not change.events:
            continue
        was = "unknown" if change.before is None else change.before.view_status.value
        now = change.after.view_status.value
        changed = now if was == now else f"{was} -> {now}"
        if change.events:
            changed += f"; told {', '.join(type(event).__name__ for event in change.events)}"
        place = (line.file, line.number)
        yield (
            place,
            StoryEntry(
                at_ms=change.fact.at_ms or line.at_ms,
                origin=change.fact.origin,
                what=fact_words(change.fact),
                changed=changed,
                evidence=wire.evidence_for(change, place) or f"conclusion, {line.place}",
            ),
        )


class _Wire:
    """The requests, replies and frames of a recording that mention an order."""

    def __init__(self, recording: Recording, ids: set[str]) -> None:
        self.requests: dict[int, Line] = {}
        self._answers: list[Line] = []
        self._mentions: list[Line] = []
        self._asked: dict[int, str] = {}
        mark = _mark_of(*ids)
        for line in recording.lines():
            if line.kind not in _WIRE:
                continue
            mentions = mark.search(line.text) is not None
            if line.kind == "request":
                self._asked[int(line.fields["id"])] = f"{line.fields['verb']} {line.fields['path']}"
                if mentions:
                    self.requests[int(line.fields["id"])] = line
                continue
            is_answer = line.kind != "frame" and int(line.fields["id"]) in self.requests
            if is_answer:
                self._answers.append(line)
            if (mentions or is_answer) and len(self._mentions) < _MOST_WIRE_LINES:
                self._mentions.append(line)

    def entries(self) -> Iterator[tuple[tuple[str, int], StoryEntry]]:
        """Writes about the order, and their answers; reads are only evidence."""
        for line in self.requests.values():
            if line.fields["verb"] != "POST":
                continue
            route = "order entry stream" if line.fields.get("route") == "websocket" else "REST"
            yield (
                (line.file, line.number),
                StoryEntry(
                    at_ms=line.at_ms,
                    origin="wire",
                    what=f"sent {_words_of(str(line.fields['path']))} by {route}",
                    evidence=f"POST {line.fields['path']}, {line.place}",
                ),
            )
        for line in self._answers:
            request = self.requests[int(line.fields["id"])]
            if request.fields["verb"] != "POST":
                continue
            took = delta_words(line.at_ms - request.at_ms)[1:]
            if line.kind == "failure":
                state = "the venue may have it" if line.fields.get("has_left") else "nothing was sent"
                what = f"no reply after {took}: {line.fields['what']}; {state}"
            else:
                what = f"answered after {took}: {_verdict_of(line)}"
            yield (
                (line.file, line.number),
                StoryEntry(at_ms=line.at_ms, origin="wire", what=what, evidence=f"reply, {line.place}"),
            )

    def evidence_for(self, change: Change, place: tuple[str, int]) -> str:
        """The last line before the conclusion that says it; "" when there is none."""
        fact, mark = change.fact, _mark_of(*_names_in(change))
        if fact.origin == "submit" and not isinstance(fact, OrderReported | ExecutionReported):
            if type(fact).__name__.endswith("Intended"):
                return ""
            kinds: tuple[str, ...] = ("reply", "failure")
        else:
            kinds = ("frame",) if fact.origin == "stream" else ("reply",)
        for line in reversed(self._mentions):
            if (line.file, line.number) > place or line.kind not in kinds:
                continue
            if mark.search(line.text) or (isinstance(fact, AboutOrder) and int(line.fields["id"]) in self.requests):
                return self._named(line)
        return ""

    def _named(self, line: Line) -> str:
        if line.kind == "frame":
            topic = _json_of(line.fields.get("text")).get("topic", "frame")
            return f"frame {topic}, {line.place}"
        asked = self._asked.get(int(line.fields["id"]), "a request")
        return f"{'no reply' if line.kind == 'failure' else 'reply'} to {asked}, {line.place}"


def _names_in(change: Change) -> list[str]:
    """Names one of which stands in the line that a fact came from."""
    fact = change.fact
    if isinstance(fact, ExecutionReported):
        return [fact.execution.exec_id]
    if isinstance(fact, OrderReported):
        return [fact.report.broker_order_id]
    return [change.after.client_order_id, change.after.broker_order_id]


def _mark_of(*names: str) -> re.Pattern[str]:
    """Finds one of these ids as a whole word: ``bot-1`` is not in ``bot-10``."""
    return re.compile(rf"(?<![\w-])(?:{'|'.join(re.escape(name) for name in names if name)})(?![\w-])")


def _words_of(path: str) -> str:
    match operation_for(path):
        case Operation.CREATE:
            return "the order"
        case Operation.CANCEL:
            return "a cancel"
        case Operation.AMEND:
            return "an amend"
        case _:
            return f"POST {path}"


def _verdict_of(line: Line) -> str:
    reply = _json_of(line.fields.get("text"))
    if "retCode" not in reply:
        return f"HTTP {line.fields.get('status')}, unreadable"
    said = f"retCode {reply['retCode']} {reply.get('retMsg', '')}".rstrip()
    status = line.fields.get("status")
    return said if status == 200 else f"HTTP {status}, {said}"


def _json_of(text: Any) -> dict[str, Any]:
    try:
        found = json.loads(str(text))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
