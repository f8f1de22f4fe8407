"""Audit of an order: each fact that changed it, kept as it came and rendered as text when it is read."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import attrs

from qkt.events import OrderEvent
from qkt.model.orders import OrderStatus, OrderView
from qkt.money import to_wire
from qkt.orders.facts import AnyFact
from qkt.orders.order import AuditEntry, Order
from qkt.orders.wording import delta_words, fact_words, moment_words

# Longer numbers are shown with an exponent: plain digits of 1e999999999 would fill the memory.
_MOST_DIGITS = 60


@attrs.frozen(kw_only=True)
class OrderAudit:
    """An order and how qkt came to believe what it does; ``print`` it.

    The text has a line for each fact: when qkt learnt it (UTC), how long after the line before, from where, what it
    says, what it changed, and the events it caused.
    """

    order: OrderView
    entries: tuple[AuditEntry, ...]

    def __str__(self) -> str:
        view = self.order
        name = view.client_order_id or view.broker_order_id
        state = "open" if view.is_open else "closed"
        missing = f" missing={_digits(view.missing_quantity)}" if view.missing_quantity else ""
        lines = [
            f"{name} {view.symbol} {state} {view.status.value} cum={_digits(view.cum_quantity)}{missing}"
            + (f" reason={view.reason}" if view.reason else "")
        ]
        before_ms: int | None = None
        for entry in self.entries:
            delta = "" if before_ms is None else delta_words(entry.at_ms - before_ms)
            before_ms = entry.at_ms
            lines.append(f"  {moment_words(entry.at_ms)}Z {delta:>10}  {entry.origin:<9} {entry.fact}: {entry.changed}")
        return "\n".join(lines)


class AuditRecord(NamedTuple):
    """A fact that changed an order, with what is needed to say how: its ``revision`` in the ledger orders the records.

    ``before`` is None for the fact that opened the order.
    """

    revision: int
    fact: AnyFact
    before: OrderStatus | None
    after: OrderStatus
    missing: Decimal
    events: tuple[type[OrderEvent], ...]


def record_of(
    revision: int, fact: AnyFact, before: Order | None, after: Order, events: tuple[OrderEvent, ...]
) -> AuditRecord | None:
    """The record of a fact; None when an operator would not call it a change: the row only confirms what is known."""
    was = None if before is None else before.view_status
    now = after.view_status
    if before is not None and not events and was is now and not _differs(before, after):
        return None
    return AuditRecord(revision, fact, was, now, after.missing_quantity, tuple(type(event) for event in events))


def _differs(before: Order, after: Order) -> bool:
    return (
        before.fills is not after.fills
        or before.reported_quantity != after.reported_quantity
        or before.unanswered_submit != after.unanswered_submit
        or before.cancel != after.cancel
        or before.modify != after.modify
        or before.empty_lookups_ms != after.empty_lookups_ms
    )


def rendered(record: AuditRecord | AuditEntry) -> AuditEntry:
    """The record as text."""
    if isinstance(record, AuditEntry):
        return record
    fact = record.fact
    was = "unknown" if record.before is None else record.before.value
    now = record.after.value
    change = now if was == now else f"{was} -> {now}"
    missing = f" missing={_digits(record.missing)}" if record.missing else ""
    events = f"; told {', '.join(event.__name__ for event in record.events)}" if record.events else ""
    return AuditEntry(fact.at_ms, fact.origin, fact_words(fact), f"{change}{missing}{events}")


def _digits(number: Decimal) -> str:
    return to_wire(number) if abs(number.adjusted()) <= _MOST_DIGITS else str(number)
