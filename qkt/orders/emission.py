"""What may be said now: acceptance before all, each execution once, the end last. Pure.

The machine learns; this room turns what was learnt into events. An end is told when the executions seen add up to
what the venue reports, or when the wait for them was called off (`TerminalReleased`).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, assert_never

import attrs

from qkt.events import (
    FillEvent,
    OrderAccepted,
    OrderCancelFailed,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModifyFailed,
    OrderPartiallyFilled,
    OrderRejected,
)
from qkt.model.executions import Execution
from qkt.model.orders import Side
from qkt.money import ZERO
from qkt.orders.facts import Fact
from qkt.orders.order import Order, TerminalKind


def event_fields(order: Order, fact: Fact) -> dict[str, Any]:
    """What every event about an order says: whose it is, and what taught us."""
    return {
        "client_order_id": order.client_order_id,
        "broker_order_id": order.broker_order_id,
        "external": order.external,
        "origin": fact.origin,
    }


def emit_events(
    order: Order, fill: Execution | None, notes: tuple[OrderEvent, ...], fact: Fact
) -> tuple[Order, tuple[OrderEvent, ...]]:
    """Everything that may be said after ``fact`` was learnt, in order, and the order with that remembered."""
    events: list[OrderEvent] = []
    if order.has_evidence and not order.is_accepted_published:
        events.append(_accepted(order, fact))
        order = attrs.evolve(order, is_accepted_published=True)
    events.extend(notes)
    if not _may_publish_terminal(order):
        if fill is not None:
            events.append(_fill_event(OrderPartiallyFilled, order, fill, fact))
        return order, tuple(events)

    assert order.terminal is not None
    completes = fill is not None and order.terminal.kind is TerminalKind.FILLED
    if fill is not None and not completes:
        events.append(_fill_event(OrderPartiallyFilled, order, fill, fact))
    order, failures = _fail_what_is_pending(order, fact)
    events.extend(failures)
    if fill is not None and completes:
        events.append(_fill_event(OrderFilled, order, fill, fact))
    else:
        events.append(_terminal_event(order, fact))
    return attrs.evolve(order, is_terminal_published=True, has_terms_conflict=False), tuple(events)


def cancel_failed(order: Order, reason: str, fact: Fact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """The cancel came to nothing. Said once per intent: the intent is gone afterwards."""
    if order.cancel is None:
        return order, ()
    failed = OrderCancelFailed(
        **event_fields(order, fact),
        reason=reason,
    )
    return attrs.evolve(order, cancel=None), (failed,)


def modify_failed(order: Order, reason: str, fact: Fact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """The amend came to nothing. Said once per intent: the intent is gone afterwards."""
    if order.modify is None:
        return order, ()
    failed = OrderModifyFailed(
        **event_fields(order, fact),
        reason=reason,
    )
    return attrs.evolve(order, modify=None), (failed,)


def _accepted(order: Order, fact: Fact) -> OrderAccepted:
    return OrderAccepted(
        **event_fields(order, fact),
        symbol=order.symbol,
    )


def _may_publish_terminal(order: Order) -> bool:
    if order.terminal is None or order.is_terminal_published:
        return False
    return order.missing_quantity == 0 or order.is_terminal_released


def _fail_what_is_pending(order: Order, fact: Fact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """What was asked for and can no longer happen. A cancel that an OrderCancelled answers has not failed."""
    assert order.terminal is not None
    reason = f"the order ended first: {order.terminal.kind.name}"
    order, modify_failures = modify_failed(order, reason, fact)
    if order.terminal is not None and order.terminal.kind is TerminalKind.CANCELLED:
        return attrs.evolve(order, cancel=None), modify_failures
    order, cancel_failures = cancel_failed(order, reason, fact)
    return order, (*modify_failures, *cancel_failures)


def _fill_event(
    event: type[OrderPartiallyFilled | OrderFilled], order: Order, fill: Execution, fact: Fact
) -> FillEvent:
    return event(
        **event_fields(order, fact),
        symbol=fill.symbol,
        side=fill.side,
        price=fill.price,
        quantity=fill.quantity,
        cum_quantity=order.filled_quantity,
        leaves_quantity=_leaves_after(order),
        exec_id=fill.exec_id,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        is_maker=fill.is_maker,
        exec_time_ms=fill.exec_time_ms,
        late=order.is_terminal_published,
    )


def _leaves_after(order: Order) -> Decimal | None:
    """What the fills published so far leave: the running sum, not what the venue may know beyond it."""
    if order.quote_sized or order.terms.quantity is None:
        return None
    return max(ZERO, order.terms.quantity - order.filled_quantity) if order.is_open else ZERO


def _terminal_event(order: Order, fact: Fact) -> OrderEvent:
    assert order.terminal is not None
    match order.terminal.kind:
        case TerminalKind.FILLED:
            return OrderFilled(
                client_order_id=order.client_order_id,
                broker_order_id=order.broker_order_id,
                external=order.external,
                origin=fact.origin,
                symbol=order.symbol,
                side=order.side or Side.BUY,
                price=_average_price(order),
                quantity=ZERO,
                cum_quantity=order.cum_quantity,
                leaves_quantity=order.leaves_quantity,
                exec_id="",
            )
        case TerminalKind.CANCELLED:
            terminal: type[OrderCancelled | OrderRejected] = OrderCancelled
        case TerminalKind.REJECTED:
            terminal = OrderRejected
        case _:
            assert_never(order.terminal.kind)
    return terminal(
        **event_fields(order, fact),
        reason=order.terminal.reason,
        cum_quantity=order.cum_quantity,
    )


def _average_price(order: Order) -> Decimal:
    if not order.filled_quantity:
        return ZERO
    return sum((fill.price * fill.quantity for fill in order.fills.values()), ZERO) / order.filled_quantity
