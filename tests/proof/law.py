"""Law 3, as a check on what is told and on what is believed at the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import attrs

from qkt.events import (
    BrokerEvent,
    FillEvent,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderRejected,
    OrderStatusUnknown,
)
from qkt.orders.ledger import Ledger
from tests.proof.histories import History, Terminal

ACCEPTED = "accepted"


class Violation(AssertionError):
    """The law is broken; the message tells how, and the walk adds the shortest way there."""

    edge = ""


@attrs.frozen
class Told:
    """What was told of each order, as a set of words: ``accepted``, ``fill e1``, ``terminal FILLED``, notes."""

    of: tuple[tuple[str, frozenset[str]], ...] = ()

    def words(self, order: str) -> frozenset[str]:
        return dict(self.of).get(order, frozenset())

    def plus(self, order: str, words: frozenset[str]) -> Told:
        return Told(tuple(sorted({**dict(self.of), order: words}.items())))


def learn(told: Told, events: Iterable[BrokerEvent], history: History) -> Told:
    """What was told with ``events`` added; raises Violation where one may not come now."""
    for event in events:
        if isinstance(event, OrderEvent):
            order = _name_of(event, history)
            told = told.plus(order, _checked(told.words(order), event, history))
    return told


def _name_of(event: OrderEvent, history: History) -> str:
    by_broker, by_client = history.names.get(event.broker_order_id), history.names.get(event.client_order_id)
    name = by_broker or by_client
    if name is None:
        raise Violation(f"an event about no order of this history: {event}")
    return name


def _checked(words: frozenset[str], event: OrderEvent, history: History) -> frozenset[str]:
    is_over = any(word.startswith("terminal") for word in words)
    new: list[str] = []
    match event:
        case OrderAccepted():
            if history.may_resurrect and words == {"terminal REJECTED"}:
                return frozenset({ACCEPTED, "resurrected"})  # told as never arrived, and it arrived after all (S90)
            new = [ACCEPTED]
        case FillEvent():
            if ACCEPTED not in words:
                raise Violation(f"a fill before the acceptance: {event}")
            _check_fill(words, event, history)
            new = [f"fill {event.exec_id}"] if event.exec_id else []
            if event.late:
                raise Violation(f"a late fill, though the executions add up in this history: {event}")
            if isinstance(event, OrderFilled):
                new.append("terminal FILLED")
        case OrderCancelled():
            if ACCEPTED not in words:
                raise Violation(f"an end before the acceptance: {event}")
            new = ["terminal CANCELLED"]
        case OrderRejected():
            if ACCEPTED in words:
                raise Violation(f"rejected after it was accepted: {event}")
            new = ["terminal REJECTED"]
        case OrderStatusUnknown():
            return words | {"unknown"}
        case _:
            new = [type(event).__name__]
    if is_over and new not in (["OrderCancelFailed"], ["OrderModifyFailed"]):  # a request made after the end fails
        raise Violation(f"told after the end: {event}; before: {sorted(words)}")
    if repeated := words.intersection(new):
        raise Violation(f"told twice: {sorted(repeated)}: {event}")
    return words | set(new)


def _check_fill(words: frozenset[str], event: FillEvent, history: History) -> None:
    venue = history.moments[-1].executions
    if event.exec_id and event.exec_id not in venue:
        raise Violation(f"a fill that the venue never made: {event}")
    if event.exec_id and Decimal(venue[event.exec_id]["execQty"]) != event.quantity:
        raise Violation(f"a fill of another size than the venue's: {event}")
    told = {word.removeprefix("fill ") for word in words if word.startswith("fill ")} | {event.exec_id} - {""}
    total = sum((Decimal(venue[exec_id]["execQty"]) for exec_id in told), Decimal(0))
    if event.cum_quantity != total:
        raise Violation(f"the running sum is {event.cum_quantity}, the fills told add up to {total}: {event}")


def check_end(ledger: Ledger, told: Told, history: History, moment: int) -> None:
    """After complete rounds: what is believed is what the venue holds, and the same was told whatever happened."""
    ends: Mapping[str, Terminal] = MappingProxyType(history.ends[moment])
    if ledger.deferred:
        raise Violation(f"{ledger.deferred} rows still wait to learn whose they are")
    believed = {}
    for order in ledger:
        name = history.names.get(order.broker_order_id) or history.names.get(order.client_order_id)
        if name is None or name in believed:
            raise Violation(f"an order too many: {order}")
        believed[name] = order
    for name, end in ends.items():
        if name not in believed:
            if end.is_optional:
                continue
            raise Violation(f"{name} is not known")
        _check_order(name, believed[name], end, history, moment)
        _check_told(name, told.words(name), end)
    if extra := {name for name, words in told.of if words} - set(ends):
        raise Violation(f"events about {extra}")


def _check_order(name: Any, order: Any, end: Terminal, history: History, moment: int) -> None:
    row = history.moments[moment].orders.get(order.broker_order_id)
    view = order.view()
    held = {
        "fills": (sorted(order.fills), sorted(end.fills)),
        "missing": (view.missing_quantity, 0),
        "is_open": (view.is_open, end.terminal is None),
        "is_unresolved": (view.is_unresolved, False),
        "intents": ((order.cancel, order.modify), (None, None)),
        "terms question": (order.has_terms_conflict, False),
    }
    if end.terminal is not None:
        held["status"] = (view.status.name, end.terminal)
    if end.reason is not None:
        held["reason"] = (view.reason, end.reason)
    if row is not None:
        held["quantity"] = (view.quantity, Decimal(row["qty"]))
        if not (order.external and view.limit_price is None):  # known by its executions alone, which print no price
            held["limit price"] = (view.limit_price, Decimal(row["price"]))
        held["cum"] = (view.cum_quantity, Decimal(row["cumExecQty"]))
        held["leaves"] = (view.leaves_quantity, Decimal(row["leavesQty"]))
        held["venue status"] = (view.venue_status, row["orderStatus"])
    for what, (have, want) in held.items():
        if have != want:
            raise Violation(f"{name}: {what} is {have}, the venue's is {want}; {view}")


def _check_told(name: str, words: frozenset[str], end: Terminal) -> None:
    want = {f"fill {exec_id}" for exec_id in end.fills} | end.notes
    if end.accepted:
        want.add(ACCEPTED)
    if end.terminal is not None:
        want.add(f"terminal {end.terminal}")
    if missing := want - words:
        raise Violation(f"{name}: never told {sorted(missing)}; told {sorted(words)}")
    if extra := words - want - {"unknown", "resurrected"}:
        raise Violation(f"{name}: told {sorted(extra)} that the venue's truth does not hold")
