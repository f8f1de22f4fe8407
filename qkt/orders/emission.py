"""What may be said now: acceptance before all, each execution once, the end last. Pure.

The machine learns; this room turns what was learnt into events. An end is told when the executions seen add up to
what the venue reports, or when the wait for them was called off (`EndReleased`).
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
from qkt.orders.order import EndKind, Order


def about(order: Order, fact: Fact) -> dict[str, Any]:
    """What every event about an order says: whose it is, and what taught us."""
    return {
        "client_order_id": order.client_order_id,
        "broker_order_id": order.broker_order_id,
        "external": order.external,
        "origin": fact.origin,
    }


def tell(
    order: Order, fill: Execution | None, notes: tuple[OrderEvent, ...], fact: Fact
) -> tuple[Order, tuple[OrderEvent, ...]]:
    """Everything that may be said after ``fact`` was learnt, in order, and the order with that remembered."""
    events: list[OrderEvent] = []
    if order.has_evidence and not order.is_accepted_told:
        events.append(_accepted(order, fact))
        order = attrs.evolve(order, is_accepted_told=True)
    events.extend(notes)
    if not _may_end(order):
        if fill is not None:
            events.append(_fill_event(OrderPartiallyFilled, order, fill, fact))
        return order, tuple(events)

    assert order.end is not None
    completes = fill is not None and order.end.kind is EndKind.FILLED
    if fill is not None and not completes:
        events.append(_fill_event(OrderPartiallyFilled, order, fill, fact))
    order, failures = _fail_what_is_pending(order, fact)
    events.extend(failures)
    if fill is not None and completes:
        events.append(_fill_event(OrderFilled, order, fill, fact))
    else:
        events.append(_end_event(order, fact))
    return attrs.evolve(order, is_end_told=True, has_terms_question=False), tuple(events)


def cancel_failed(order: Order, reason: str, fact: Fact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """The cancel came to nothing. Said once per intent: the intent is gone afterwards."""
    if order.cancel is None:
        return order, ()
    failed = OrderCancelFailed(
        **about(order, fact),
        reason=reason,
    )
    return attrs.evolve(order, cancel=None), (failed,)


def amend_failed(order: Order, reason: str, fact: Fact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """The amend came to nothing. Said once per intent: the intent is gone afterwards."""
    if order.amend is None:
        return order, ()
    failed = OrderModifyFailed(
        **about(order, fact),
        reason=reason,
    )
    return attrs.evolve(order, amend=None), (failed,)


def _accepted(order: Order, fact: Fact) -> OrderAccepted:
    return OrderAccepted(
        **about(order, fact),
        symbol=order.symbol,
    )


def _may_end(order: Order) -> bool:
    if order.end is None or order.is_end_told:
        return False
    return order.missing_quantity == 0 or order.is_end_released


def _fail_what_is_pending(order: Order, fact: Fact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """What was asked for and can no longer happen. A cancel that an OrderCancelled answers has not failed."""
    assert order.end is not None
    reason = f"the order ended first: {order.end.kind.name}"
    order, modify_failures = amend_failed(order, reason, fact)
    if order.end is not None and order.end.kind is EndKind.CANCELLED:
        return attrs.evolve(order, cancel=None), modify_failures
    order, cancel_failures = cancel_failed(order, reason, fact)
    return order, (*modify_failures, *cancel_failures)


def _fill_event(
    event: type[OrderPartiallyFilled | OrderFilled], order: Order, fill: Execution, fact: Fact
) -> FillEvent:
    return event(
        **about(order, fact),
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
        late=order.is_end_told,
    )


def _leaves_after(order: Order) -> Decimal | None:
    """What the fills published so far leave: the running sum, not what the venue may know beyond it."""
    if order.quote_sized or order.terms.quantity is None:
        return None
    return max(ZERO, order.terms.quantity - order.filled_quantity) if order.is_open else ZERO


def _end_event(order: Order, fact: Fact) -> OrderEvent:
    assert order.end is not None
    match order.end.kind:
        case EndKind.FILLED:
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
        case EndKind.CANCELLED:
            terminal: type[OrderCancelled | OrderRejected] = OrderCancelled
        case EndKind.REJECTED:
            terminal = OrderRejected
        case _:
            assert_never(order.end.kind)
    return terminal(
        **about(order, fact),
        reason=order.end.reason,
        cum_quantity=order.cum_quantity,
    )


def _average_price(order: Order) -> Decimal:
    if not order.filled_quantity:
        return ZERO
    return sum((fill.price * fill.quantity for fill in order.fills.values()), ZERO) / order.filled_quantity
