"""The story of an order, one line per fact that changed it: for `broker.explain(id)` and for the operator at three."""

from __future__ import annotations

import attrs

from qkt.events import OrderEvent
from qkt.model.orders import OrderView
from qkt.money import to_wire
from qkt.orders.facts import AboutOrder, AnyFact, ExecutionReported, LookupFoundNothing, OrderReported
from qkt.orders.order import AuditEntry, Order


@attrs.frozen(kw_only=True)
class OrderAudit:
    """An order and how qkt came to believe what it does; ``print`` it."""

    order: OrderView
    entries: tuple[AuditEntry, ...]

    def __str__(self) -> str:
        view = self.order
        name = view.client_order_id or view.broker_order_id
        state = "open" if view.is_open else "closed"
        missing = f" missing={to_wire(view.missing_quantity)}" if view.missing_quantity else ""
        lines = [
            f"{name} {view.symbol} {state} {view.status.value} cum={to_wire(view.cum_quantity)}{missing}"
            + (f" reason={view.reason}" if view.reason else "")
        ]
        lines += [f"  {entry.at_ms} {entry.origin:<9} {entry.fact}: {entry.changed}" for entry in self.entries]
        return "\n".join(lines)


def describe(fact: AnyFact, before: Order | None, after: Order, events: tuple[OrderEvent, ...]) -> AuditEntry:
    """The line for one fact."""
    return AuditEntry(fact.at_ms, fact.origin, _what(fact), _change(before, after, events))


def _what(fact: AnyFact) -> str:
    if isinstance(fact, OrderReported):
        report = fact.report
        reason = report.refusal_reason or report.reason
        detail = f" reason={reason}" if reason else ""
        return f"order row {report.venue_status} cum={to_wire(report.cum_quantity)}{detail}"
    if isinstance(fact, ExecutionReported):
        execution = fact.execution
        return f"execution {execution.exec_id} {to_wire(execution.quantity)} @ {to_wire(execution.price)}"
    if isinstance(fact, LookupFoundNothing):
        return "asked realtime, history and executions by id: none knows it"
    assert isinstance(fact, AboutOrder)
    reason = getattr(fact, "reason", "")
    return type(fact).__name__ + (f" ({reason})" if reason else "")


def _change(before: Order | None, after: Order, events: tuple[OrderEvent, ...]) -> str:
    was = "unknown" if before is None else before.view_status.value
    now = after.view_status.value
    step = now if was == now else f"{was} -> {now}"
    missing = f" missing={to_wire(after.missing_quantity)}" if after.missing_quantity else ""
    told = ", ".join(type(event).__name__ for event in events)
    return f"{step}{missing}" + (f"; told {told}" if told else "")
