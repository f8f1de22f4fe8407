"""Small histories, told as steps that may happen in any order their causes allow.

A step is something the venue does (silent by itself), a message about it (a frame, as the facts the real translators
make of it), or one of our requests (as the facts the real `OrderEntry` absorbs). A message can be delivered in any
order once it was caused, again and again, or never: nothing but its cause holds it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import attrs

from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.bybit.codec.frames import execution_facts, order_facts
from qkt.bybit.order_entry import OrderEntry
from qkt.bybit.recovery import BybitStateRecovery
from qkt.errors import OutcomeUnknownError
from qkt.events import BrokerEvent
from qkt.model.orders import OrderModification, OrderRequest
from qkt.orders.facts import AnyFact
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import a_limit_order, execution_row, frame, order_reported, order_row, refusal
from tests.proof.model_venue import ModelVenue, Moment

T0 = 10_000_000  # when our requests are signed
NOW = T0 + 100  # when everything happens that does not wait: the venue's times lie in between

CREATE, AMEND, CANCEL = "/v5/order/create", "/v5/order/amend", "/v5/order/cancel"


@attrs.frozen(kw_only=True)
class Step:
    """One thing that may happen.

    Args:
        after: the steps that cause it. ``before``: steps after which it cannot happen any more.
        facts: what the bot learns by it. ``moment``: the venue's truth from now on. ``clock_ms``: what time it is now.
        may_repeat: a message, which can be delivered again. ``must_happen``: the history is not over without it.
    """

    name: str
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    facts: tuple[AnyFact, ...] = ()
    moment: int | None = None
    clock_ms: int | None = None
    may_repeat: bool = False
    must_happen: bool = True


@attrs.frozen(kw_only=True)
class Terminal:
    """What must be believed and have been told of one order, whatever happened on the way.

    ``is_optional``: nobody has to know it. ``terminal`` is None for an order that rests, ``fills`` its executions.
    ``notes`` are the other events that must have been told, exactly once.
    """

    is_optional: bool = False
    terminal: str | None = None
    reason: str | None = None
    fills: tuple[str, ...] = ()
    accepted: bool = True
    notes: frozenset[str] = frozenset()


@attrs.frozen(kw_only=True)
class History:
    """Steps, the venue's moments, and the end that all schedules share.

    ``names``: every id (ours, the venue's) -> the order's name in ``ends``. ``settle_ms``: the waits before each of the
    complete rounds at the end (two where silence has to prove something). ``may_resurrect``: the venue breaks its word
    about how late a request can arrive, so an order told as never arrived may be accepted after all.
    """

    name: str
    steps: tuple[Step, ...]
    moments: tuple[Moment, ...]
    names: dict[str, str]
    ends: dict[int, dict[str, Terminal]]
    settle_ms: tuple[int, ...] = (0,)
    may_resurrect: bool = False
    page_size: int = 1


class Story:
    """Tells a history, step by step."""

    def __init__(self, name: str, **ids: str) -> None:
        self.name = name
        self.names = {value: key.partition("_")[0] for key, value in ids.items()}
        self._steps: list[Step] = []
        self._moments = [Moment(orders={}, executions={})]
        self._last_event: str | None = None
        self._last_time: str | None = None

    def ours(self, name: str, facts: Sequence[AnyFact], *after: str, **more: Any) -> None:
        """One of our requests, or an answer to one."""
        self._steps.append(Step(name=name, facts=tuple(facts), after=after, **more))

    def time(self, name: str, at_ms: int, *after: str) -> None:
        """Time passes; later steps of time follow earlier ones."""
        earlier = (self._last_time,) if self._last_time else ()
        self._steps.append(Step(name=name, clock_ms=NOW + at_ms, after=(*earlier, *after)))
        self._last_time = name

    def venue(
        self,
        name: Any,
        *after: Any,
        order: Any = None,
        execution: Any = None,
        says: tuple[Any, ...] = ("order", "execution"),
        before: tuple[Any, ...] = (),
        must_happen: bool = True,
        **hides: Any,
    ) -> None:
        """The venue moves on. ``order`` and ``execution`` are rows that change; ``says`` which of them it sends."""
        truth = self._moments[-1]
        orders, executions = dict(truth.orders), dict(truth.executions)
        if order is not None:
            order = order_row(**{**orders.get(order["orderId"], {}), **order})
            orders[order["orderId"]] = order
        if execution is not None:
            execution = execution_row(**execution)
            executions[execution["execId"]] = execution
        hides = {what: frozenset(names) for what, names in hides.items()}
        self._moments.append(Moment(orders=orders, executions=executions, **hides))
        earlier = (self._last_event,) if self._last_event else ()
        self._steps.append(
            Step(
                name=name,
                after=(*earlier, *after),
                before=tuple(before),
                moment=len(self._moments) - 1,
                must_happen=must_happen,
            )
        )
        self._last_event = name
        if execution is not None and "execution" in says:
            told = frame("execution.spot", execution, created_ms=int(execution["execTime"]))
            self.message(f"{name}: execution frame", execution_facts(told, "spot", T0).facts, name)
        if order is not None and "order" in says:
            told = frame("order.spot", order, created_ms=int(order["updatedTime"]))
            self.message(f"{name}: order frame", order_facts(told, "spot", T0).facts, name)

    def message(self, name: str, facts: Sequence[AnyFact], *after: str) -> None:
        """Something the venue says, deliverable from now on: late, twice, or never."""
        self._steps.append(Step(name=name, facts=tuple(facts), after=after, may_repeat=True, must_happen=False))

    def row_from(self, moment: str) -> tuple[AnyFact, ...]:
        """The order rows as a reader of that moment saw them; delivered later they are a stale answer."""
        step = next(step for step in self._steps if step.name == moment)
        rows = self._moments[step.moment].orders.values()  # type: ignore[index]
        return order_facts(frame("order.spot", *rows, created_ms=T0 + 1), "spot", T0).facts

    def model_at(self, moment: str) -> ModelVenue:
        step = next(step for step in self._steps if step.name == moment)
        model = ModelVenue(self._moments)
        model.now = step.moment  # type: ignore[assignment]
        return model

    def told(
        self,
        ends: dict[str, Terminal],
        *,
        settle_ms: tuple[Any, ...] = (0,),
        unless: dict[str, dict[str, Terminal]] | None = None,
        may_resurrect: bool = False,
    ) -> History:
        """The history with its end; ``unless`` gives other ends for where the venue stops at an earlier moment."""
        by_moment = {len(self._moments) - 1: ends}
        for name, other in (unless or {}).items():
            step = next((step for step in self._steps if step.name == name), None)
            by_moment[0 if step is None else step.moment] = other  # type: ignore[index]
        return History(
            name=self.name,
            steps=tuple(self._steps),
            moments=tuple(self._moments),
            names=self.names,
            ends=by_moment,
            settle_ms=tuple(settle_ms),
            may_resurrect=may_resurrect,
        )


# -- what the real writes learn ---------------------------------------------------------------------------------------


class _RecordingState(BrokerState):
    """Keeps what it was asked to learn."""

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.learned: list[AnyFact] = []

    def begin_submit(self, fact: Any) -> None:
        self.learned.append(fact)
        super().begin_submit(fact)

    def absorb(self, facts: Any) -> Any:
        facts = list(facts)
        self.learned.extend(facts)
        return super().absorb(facts)


class Desk:
    """The real `OrderEntry` before a venue that answers as told: what does a request teach the bot, step by step?"""

    def __init__(self, model: ModelVenue | None = None) -> None:
        self.client, self.clock, self.scheduler = FakeBybitClient(), FixedClock(T0), TickScheduler()
        (model or ModelVenue([Moment(orders={}, executions={})])).wire(self.client)
        self.state = _RecordingState(source="BYBIT_SPOT", bus=EventBus(self.clock), clock=self.clock)
        recovery = BybitStateRecovery(self.client, self.state, category="spot", clock=self.clock)
        self.order_entry = OrderEntry(
            self.client,
            self.state,
            recovery.queries,
            recovery.lookups,
            self.scheduler,
            self.clock,
            recovery.limits,
        )
        self.heard: list[BrokerEvent] = []
        self.state.bus.subscribe(BrokerEvent, self.heard.append)  # type: ignore[attr-defined]

    def submit(self, request: OrderRequest, answer: Any) -> tuple[AnyFact, tuple[AnyFact, ...]]:
        """The intent, and what the answer proved."""
        self.client.responses[CREATE] = answer
        ack = self.order_entry.submit(request)
        assert self.state.learned, ack
        return self.state.learned[0], tuple(self.state.learned[1:])

    def standing(self, request: OrderRequest, client_order_id: str, broker_order_id: str) -> Desk:
        """An order that stands already, and is forgotten as a lesson."""
        self.submit(request, created(broker_order_id, client_order_id))
        self.state.absorb([order_reported(client_order_id=client_order_id, broker_order_id=broker_order_id)])
        self.state.learned.clear()
        return self

    def cancel(self, client_order_id: str, answer: Any = None) -> tuple[AnyFact, tuple[AnyFact, ...]]:
        if answer is not None:
            self.client.responses[CANCEL] = answer
        self.order_entry.cancel(self.state.order(client_order_id))
        return self.state.learned[0], tuple(self.state.learned[1:])

    def modify(self, client_order_id: str, changes: OrderModification, answer: Any = None) -> tuple[Any, ...]:
        if answer is not None:
            self.client.responses[AMEND] = answer
        self.order_entry.modify(self.state.order(client_order_id), changes)
        return self.state.learned[0], tuple(self.state.learned[1:])


def created(broker_order_id: str, client_order_id: str) -> dict[str, Any]:
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"orderId": broker_order_id, "orderLinkId": client_order_id},
        "retExtInfo": {},
        "time": T0,
    }


# -- the histories ----------------------------------------------------------------------------------------------------


def _three_fills(name: str) -> Story:
    """An order of 3 is amended to 4 between its first fill and its second, and a cancel is sent."""
    story = Story(name, A_ours="c1", A="b1")
    order = a_limit_order(client_order_id="c1", quantity=Decimal(3))
    sent, ack = Desk().submit(order, created("b1", "c1"))
    modify, _ = Desk().standing(order, "c1", "b1").modify("c1", OrderModification(new_quantity=Decimal(4)))
    cancel, _ = Desk().standing(order, "c1", "b1").cancel("c1")
    story.ours("submit", [sent])
    story.venue("created", "submit", order={"orderId": "b1", "qty": "3", "leavesQty": "3", **_at(1)}, unlisted=["b1"])
    story.ours("ack", ack, "created")
    story.venue(
        "fill 1",
        order={"orderId": "b1", "orderStatus": "PartiallyFilled", "cumExecQty": "1", "leavesQty": "2", **_at(2)},
        execution=_fill("e1", "1", of="3", leaves="2", at=2),
        says=("execution",),
    )
    story.ours("amend", [modify], "ack")
    story.venue("amended", "amend", order={"orderId": "b1", "qty": "4", "leavesQty": "3", **_at(3)})
    story.venue(
        "fill 2",
        order={"orderId": "b1", "cumExecQty": "2", "leavesQty": "2", **_at(4)},
        execution=_fill("e2", "1", of="4", leaves="2", at=4),
    )
    story.ours("cancel", [cancel], "amend")
    return story


def amend_then_fill_beats_cancel() -> History:
    """The third fill takes the remainder before the cancel: filled, the cancel failed, and two Filled frames."""
    story = _three_fills("three fills, amended, the fill beats the cancel")
    final = {"orderId": "b1", "orderStatus": "Filled", "cumExecQty": "4", "leavesQty": "0"}
    story.venue("fill 3", order={**final, **_at(5)}, execution=_fill("e3", "2", of="4", leaves="0", at=5))
    story.venue(
        "cancel refused",
        "cancel",
        order={"orderId": "b1", "cancelType": "CancelByUser", "rejectReason": "EC_NoEnoughQtyToFill", **_at(6)},
    )
    desk = Desk(story.model_at("cancel refused")).standing(
        a_limit_order(client_order_id="c1", quantity=Decimal(3)), "c1", "b1"
    )
    _, refused = desk.cancel("c1", refusal(170213, "Order does not exist."))
    story.ours("cancel reply", refused, "cancel refused")
    return story.told(
        {
            "A": Terminal(
                terminal="FILLED",
                fills=("e1", "e2", "e3"),
                notes=frozenset({"OrderModified", "OrderCancelFailed"}),
            )
        }
    )


def amend_then_cancel_beats_fill() -> History:
    """An order of 3, amended to 4, of which 3 trade in two steps; the cancel takes the last one."""
    story = _three_fills("three fills, amended, the cancel wins")
    story.venue(
        "fill 3",
        order={"orderId": "b1", "cumExecQty": "3", "leavesQty": "1", **_at(5)},
        execution=_fill("e3", "1", of="4", leaves="1", at=5),
        says=("execution",),
    )
    story.venue(
        "cancelled",
        "cancel",
        order={
            "orderId": "b1",
            "orderStatus": "PartiallyFilledCanceled",
            "cancelType": "CancelByUser",
            "leavesQty": "0",
            **_at(6),
        },
    )
    return story.told(
        {
            "A": Terminal(
                terminal="CANCELLED",
                reason="CancelByUser",
                fills=("e1", "e2", "e3"),
                notes=frozenset({"OrderModified"}),
            )
        }
    )


def two_orders_of_two_fills() -> History:
    """Two orders on one symbol and side: rows without link ids, lists that lag, one cancelled by somebody else."""
    story = Story("two orders, two fills each", A_ours="c1", A="b1", B_ours="c2", B="b2")
    for name, ours, theirs, size in (("A", "c1", "b1", "2"), ("B", "c2", "b2", "3")):
        order = a_limit_order(client_order_id=ours, quantity=Decimal(size))
        sent, ack = Desk().submit(order, created(theirs, ours))
        story.ours(f"submit {name}", [sent], *(["submit A"] if name == "B" else []))
        story.venue(
            f"{name} created",
            f"submit {name}",
            order={"orderId": theirs, "orderLinkId": ours, "qty": size, "leavesQty": size, **_at(1)},
            says=(),
            unlisted=[theirs],
        )
        story.ours(f"ack {name}", ack, f"{name} created")
    story.venue(
        "A 1",
        order={"orderId": "b1", "orderStatus": "PartiallyFilled", "cumExecQty": "1", "leavesQty": "1", **_at(2)},
        execution={**_fill("e1", "1", of="2", leaves="1", at=2), "orderLinkId": ""},
        says=("execution",),
    )
    story.venue(
        "B 1",
        order={"orderId": "b2", "orderStatus": "PartiallyFilled", "cumExecQty": "1", "leavesQty": "2", **_at(2)},
        execution={**_fill("e2", "1", of="3", leaves="2", at=2), "orderId": "b2", "orderLinkId": "c2"},
        says=("execution",),
        late=["e1"],
    )
    story.venue(
        "A 2",
        order={"orderId": "b1", "orderStatus": "Filled", "cumExecQty": "2", "leavesQty": "0", **_at(3)},
        execution=_fill("e3", "1", of="2", leaves="0", at=3),
        late=["e2", "e3"],
    )
    story.venue(
        "B 2",
        order={"orderId": "b2", "cumExecQty": "2", "leavesQty": "1", **_at(3)},
        execution={**_fill("e4", "1", of="3", leaves="1", at=3), "orderId": "b2", "orderLinkId": ""},
        says=("execution",),
    )
    story.venue(
        "B cancelled elsewhere",
        order={
            "orderId": "b2",
            "orderStatus": "PartiallyFilledCanceled",
            "cancelType": "CancelByUser",
            "leavesQty": "0",
            **_at(4),
        },
    )
    return story.told(
        {
            "A": Terminal(terminal="FILLED", fills=("e1", "e3")),
            "B": Terminal(terminal="CANCELLED", reason="CancelByUser", fills=("e2", "e4")),
        }
    )


def _unanswered(name: str, answer: Any) -> Story:
    story = Story(name, A_ours="c1", A="b1")
    sent, reply = Desk().submit(a_limit_order(client_order_id="c1", quantity=Decimal(2)), answer)
    story.ours("submit", [sent])
    story.ours("no answer", reply, "submit")
    return story


def _time_passes(story: Story, *after: str) -> None:
    """Past the last moment at which the request can arrive (15 s after it was signed), and on."""
    for at_ms in (6_000, 16_000, 22_000):
        story.time(f"{at_ms // 1000} s later", at_ms, "no answer", *after)


_LOST = OutcomeUnknownError("the line broke", path=CREATE, recv_window_ms=5_000)


def lost_reply() -> History:
    """The venue has the order at once and the reply is lost; it trades in two steps."""
    story = _unanswered("a submit whose reply is lost", _LOST)
    story.venue("created", "submit", order={"orderId": "b1", "qty": "2", "leavesQty": "2", **_at(1)}, unlisted=["b1"])
    _time_passes(story, "created")
    _trades(story, at=2)
    return story.told({"A": Terminal(terminal="FILLED", fills=("e1", "e2"))}, settle_ms=(0, 6_000))


def late_arrival() -> History:
    """The request reaches the venue some seconds later, or never; the bot cannot tell until it is provable."""
    story = _unanswered("a submit that arrives late, or never", _LOST)
    story.time("6 s later", 6_000, "no answer")
    story.venue(
        "arrives",
        "6 s later",
        order={"orderId": "b1", "qty": "2", "leavesQty": "2", **_at(6_001)},
        before=["16 s later"],  # type: ignore[arg-type]
        must_happen=False,
    )
    _trades(story, must_happen=False)
    for at_ms in (16_000, 22_000, 40_000):
        story.time(f"{at_ms // 1000} s later", at_ms)
    return story.told(
        {"A": Terminal(terminal="FILLED", fills=("e1", "e2"))},
        settle_ms=(0, 6_000),
        unless={
            "": {"A": Terminal(terminal="REJECTED", reason="never_arrived", accepted=False)},
            "arrives": {"A": Terminal()},
            "fill 1": {"A": Terminal(fills=("e1",))},
        },
    )


def arrival_after_the_proof() -> History:
    """The request reaches the venue after every deadline it documents: it may have been told as never arrived (S90)."""
    story = _unanswered("a submit that arrives after it was proved lost", _LOST)
    for at_ms in (16_000, 22_000):
        story.time(f"{at_ms // 1000} s later", at_ms, "no answer")
    story.venue("arrives", "22 s later", order={"orderId": "b1", "qty": "2", "leavesQty": "2", **_at(22_001)})
    _trades(story, at=22_002)
    story.time("25 s later", 25_000, "arrives")
    return story.told({"A": Terminal(terminal="FILLED", fills=("e1", "e2"))}, settle_ms=(0, 6_000), may_resurrect=True)


def _trades(story: Story, *, at: int = 6_002, **more: Any) -> None:
    story.venue(
        "fill 1",
        order={"orderId": "b1", "orderStatus": "PartiallyFilled", "cumExecQty": "1", "leavesQty": "1", **_at(at)},
        execution=_fill("e1", "1", of="2", leaves="1", at=at),
        **more,
    )
    story.venue(
        "fill 2",
        order={"orderId": "b1", "orderStatus": "Filled", "cumExecQty": "2", "leavesQty": "0", **_at(at + 1)},
        execution=_fill("e2", "1", of="2", leaves="0", at=at + 1),
        **more,
    )


def taken_id() -> History:
    """The venue answers that the id is taken: by an older order of the same size, which is not ours to touch."""
    story = Story("a submit under an id that an older order has", A="c1", old="b0")
    older = {
        "orderId": "b0",
        "orderLinkId": "c1",
        "qty": "2",
        "leavesQty": "2",
        **_at(-60_000),
        "createdTime": str(T0 - 60_000),
    }
    story.venue("before", order=older, says=(), unlisted=["b0"])
    duplicate = refusal(170141, "Duplicate clientOrderId")
    order = a_limit_order(client_order_id="c1", quantity=Decimal(2))
    sent, reply = Desk().submit(order, duplicate)
    _, found = Desk(story.model_at("before")).submit(order, duplicate)
    story.ours("submit", [sent], "before")
    story.ours("answer", reply[:1], "submit")
    story.ours("looked up", [fact for fact in found if fact not in reply[:1]], "answer")
    story.message("a row of the older order", story.row_from("before"), "answer")
    story.venue(
        "older trades",
        "answer",
        order={"orderId": "b0", "orderStatus": "PartiallyFilled", "cumExecQty": "1", "leavesQty": "1", **_at(2)},
        execution=_fill("e0", "1", of="2", leaves="1", at=2) | {"orderId": "b0", "orderLinkId": "c1"},
    )
    story.venue(
        "older is filled",
        order={"orderId": "b0", "orderStatus": "Filled", "cumExecQty": "2", "leavesQty": "0", **_at(3)},
        execution=_fill("e1", "1", of="2", leaves="0", at=3) | {"orderId": "b0", "orderLinkId": "c1"},
    )
    return story.told(
        {
            "A": Terminal(terminal="REJECTED", accepted=False),
            "old": Terminal(terminal="FILLED", fills=("e0", "e1")),
        },
        settle_ms=(0, 70_000, 6_000),
    )


def resent_id() -> History:
    """The first reply was lost on the way and the line sent the request twice: the id is taken, by our own order."""
    story = Story("a submit whose id is taken by itself", A_ours="c1", A="b1")
    duplicate = refusal(170141, "Duplicate clientOrderId")
    sent, reply = Desk().submit(a_limit_order(client_order_id="c1", quantity=Decimal(2)), duplicate)
    story.ours("submit", [sent])
    story.venue("created", "submit", order={"orderId": "b1", "qty": "2", "leavesQty": "2", **_at(1)}, unlisted=["b1"])
    story.ours("answer", reply, "created")
    _trades(story, at=2)
    return story.told({"A": Terminal(terminal="FILLED", fills=("e1", "e2"))})


def _resting(name: str) -> tuple[Story, Desk]:
    """An order of 2 that stands, and a desk before which it stands, to ask something of."""
    story = Story(name, A_ours="c1", A="b1")
    order = a_limit_order(client_order_id="c1", quantity=Decimal(2))
    sent, ack = Desk().submit(order, created("b1", "c1"))
    story.ours("submit", [sent])
    story.venue("created", "submit", order={"orderId": "b1", "qty": "2", "leavesQty": "2", **_at(1)})
    story.ours("ack", ack, "created")
    return story, Desk().standing(order, "c1", "b1")


_PRICE_101 = OrderModification(new_limit_price=Decimal(101))


def amend_that_trades_at_once() -> History:
    """A better price is asked for and taken up at once: the executions may be heard before the amend's own row."""
    story, desk = _resting("an amended price that trades at once")
    modify, _ = desk.modify("c1", _PRICE_101)
    story.ours("amend", [modify], "ack")
    story.venue("amended", "amend", order={"orderId": "b1", "price": "101", **_at(3)})
    for number, status, at in ((1, "PartiallyFilled", 4), (2, "Filled", 5)):
        story.venue(
            f"fill {number}",
            order={"orderId": "b1", "orderStatus": status, "cumExecQty": str(number), "leavesQty": str(2 - number)}
            | _at(at),
            execution=_fill(f"e{number}", "1", of="2", leaves=str(2 - number), at=at) | {"orderPrice": "101"},
        )
    story.message("a stale row", story.row_from("created"), "created")
    return story.told({"A": Terminal(terminal="FILLED", fills=("e1", "e2"), notes=frozenset({"OrderModified"}))})


def amend_too_late() -> History:
    """The fills take all before the amend arrives: refused by the reply and by a row, told once."""
    story, _ = _resting("an amend that comes too late")
    modify, _ = (
        Desk().standing(a_limit_order(client_order_id="c1", quantity=Decimal(2)), "c1", "b1").modify("c1", _PRICE_101)
    )
    story.ours("amend", [modify], "ack")
    for number, status, at in ((1, "PartiallyFilled", 4), (2, "Filled", 5)):
        story.venue(
            f"fill {number}",
            order={"orderId": "b1", "orderStatus": status, "cumExecQty": str(number), "leavesQty": str(2 - number)}
            | _at(at),
            execution=_fill(f"e{number}", "1", of="2", leaves=str(2 - number), at=at),
        )
    story.venue("refused", "amend", order={"orderId": "b1", "rejectReason": "EC_OrigClOrdIDDoesNotExist", **_at(6)})
    desk = Desk(story.model_at("refused")).standing(
        a_limit_order(client_order_id="c1", quantity=Decimal(2)), "c1", "b1"
    )
    _, reply = desk.modify("c1", _PRICE_101, refusal(170213, "Order does not exist."))
    story.ours("reply", reply, "refused")
    return story.told({"A": Terminal(terminal="FILLED", fills=("e1", "e2"), notes=frozenset({"OrderModifyFailed"}))})


_LOST_CANCEL = OutcomeUnknownError("the line broke", path=CANCEL, recv_window_ms=5_000)


def cancel_that_never_arrived() -> History:
    """Nobody answers a cancel, and it never arrived: the order rests, and the wish fails once that is provable."""
    story, desk = _resting("a cancel that never arrived")
    cancel, silence = desk.cancel("c1", _LOST_CANCEL)
    story.ours("cancel", [cancel], "ack")
    story.ours("no answer", silence, "cancel")
    story.venue(
        "fill 1",
        order={"orderId": "b1", "orderStatus": "PartiallyFilled", "cumExecQty": "1", "leavesQty": "1", **_at(4)},
        execution=_fill("e1", "1", of="2", leaves="1", at=4),
    )
    story.message("a stale row", story.row_from("created"), "created")
    _time_passes(story)
    return story.told({"A": Terminal(fills=("e1",), notes=frozenset({"OrderCancelFailed"}))})


def cancel_whose_answer_is_lost() -> History:
    """Nobody answers a cancel, and it arrived; the fill before it is shown late."""
    story, desk = _resting("a cancel whose answer is lost")
    cancel, silence = desk.cancel("c1", _LOST_CANCEL)
    story.ours("cancel", [cancel], "ack")
    story.ours("no answer", silence, "cancel")
    story.venue(
        "fill 1",
        order={"orderId": "b1", "orderStatus": "PartiallyFilled", "cumExecQty": "1", "leavesQty": "1", **_at(4)},
        execution=_fill("e1", "1", of="2", leaves="1", at=4),
        late=["e1"],
    )
    ended = {"orderId": "b1", "orderStatus": "PartiallyFilledCanceled", "cancelType": "CancelByUser", "leavesQty": "0"}
    story.venue("cancelled", "cancel", order={**ended, **_at(5)}, late=["e1"])
    story.venue("the fill is shown", order={"orderId": "b1"}, says=())
    story.message("a stale row", story.row_from("created"), "created")
    _time_passes(story, "cancelled")
    return story.told({"A": Terminal(terminal="CANCELLED", reason="CancelByUser", fills=("e1",))})


def _at(ms: int) -> dict[str, str]:
    return {"updatedTime": str(T0 + ms), **({"createdTime": str(T0 + ms)} if ms == 1 else {})}


def _fill(exec_id: str, quantity: str, *, of: str, leaves: str, at: int) -> dict[str, str]:
    return {
        "execId": exec_id,
        "orderId": "b1",
        "execQty": quantity,
        "orderQty": of,
        "leavesQty": leaves,
        "execTime": str(T0 + at),
    }


HISTORIES = (
    amend_then_fill_beats_cancel,
    amend_then_cancel_beats_fill,
    two_orders_of_two_fills,
    lost_reply,
    late_arrival,
    arrival_after_the_proof,
    taken_id,
    resent_id,
    amend_that_trades_at_once,
    amend_too_late,
    cancel_that_never_arrived,
    cancel_whose_answer_is_lost,
)
