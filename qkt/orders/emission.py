"""Decides which events an order's new state allows: OrderAccepted first, each execution once, one terminal event last.

A terminal event waits until the executions seen add up to what the venue reports, or until that wait was given up
(`TerminalReleased`). Pure; called once per fact, at the end of `apply`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qkt.events import (
    OrderAccepted,
    OrderCancelFailed,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModified,
    OrderModifyFailed,
    OrderPartiallyFilled,
    OrderRejected,
    OrderStatusUnknown,
)
from qkt.model.executions import Execution
from qkt.model.orders import Side
from qkt.money import ZERO
from qkt.orders.facts import Fact
from qkt.orders.news import News
from qkt.orders.order import OrderDraft, TerminalKind
from qkt.slots import constructor

_accepted = constructor(OrderAccepted)
_partially_filled = constructor(OrderPartiallyFilled)
_filled = constructor(OrderFilled)
_cancelled = constructor(OrderCancelled)
_rejected = constructor(OrderRejected)


def emit_events(order: OrderDraft, news: News, fact: Fact) -> tuple[OrderEvent, ...]:
    """The events that ``fact`` allows, in order; the draft remembers which were published."""
    events: list[OrderEvent] = []
    if not order.is_accepted_published and (order.has_evidence or _has_ended_alive(order)):
        order.is_accepted_published = True
        events.append(
            _accepted(
                client_order_id=order.client_order_id,
                broker_order_id=order.broker_order_id,
                external=order.is_external,
                origin=fact.origin,
                symbol=order.symbol,
            )
        )
    _tell_requests(order, news, fact, events)
    terminal, fill = order.terminal, news.fill
    if terminal is None or not _may_publish_terminal(order):
        if fill is not None:
            events.append(_fill_event(_partially_filled, order, fill, fact))
        return tuple(events)

    completes = fill is not None and terminal.kind is TerminalKind.FILLED
    if fill is not None and not completes:
        events.append(_fill_event(_partially_filled, order, fill, fact))
    _fail_pending(order, terminal.kind, fact, events)
    if fill is not None and completes:
        events.append(_fill_event(_filled, order, fill, fact))
    else:
        events.append(_terminal_event(order, fact))
    order.is_terminal_published = True
    order.has_terms_conflict = False
    return tuple(events)


def _has_ended_alive(order: OrderDraft) -> bool:
    """True for an end of an order that stood, such as an acknowledged one that aged out before any row showed it."""
    return order.terminal is not None and order.terminal.kind is not TerminalKind.REJECTED


def _may_publish_terminal(order: OrderDraft) -> bool:
    if order.terminal is None or order.is_terminal_published:
        return False
    return order.reported_quantity <= order.fills.quantity or order.is_terminal_released


def _tell_requests(order: OrderDraft, news: News, fact: Fact, events: list[OrderEvent]) -> None:
    if news.modified is not None:
        events.append(
            OrderModified(
                **_order_fields(order, fact),
                reason=news.modified,
                new_quantity=order.terms.quantity,
                new_limit_price=order.terms.limit_price,
                new_stop_price=order.terms.stop_price,
            )
        )
    if news.cancel_failed is not None:
        events.append(_failed(OrderCancelFailed, order, news.cancel_failed, fact))
    if news.modify_failed is not None:
        events.append(_failed(OrderModifyFailed, order, news.modify_failed, fact))
    if news.unknown_since_ms is not None:
        events.append(
            OrderStatusUnknown(
                **_order_fields(order, fact),
                since_ms=news.unknown_since_ms,
                reason=news.unknown_reason,
            )
        )


def _fail_pending(order: OrderDraft, kind: TerminalKind, fact: Fact, events: list[OrderEvent]) -> None:
    """Requests that can no longer happen. A cancel that an OrderCancelled answers has not failed."""
    reason = f"the order ended first: {kind.name}"
    if order.modify is not None:
        events.append(_failed(OrderModifyFailed, order, reason, fact))
    if order.cancel is not None and kind is not TerminalKind.CANCELLED:
        events.append(_failed(OrderCancelFailed, order, reason, fact))
    order.modify = order.cancel = None


def _failed(
    event: type[OrderCancelFailed | OrderModifyFailed], order: OrderDraft, reason: str, fact: Fact
) -> OrderEvent:
    return event(
        **_order_fields(order, fact),
        reason=reason,
    )


def _fill_event(
    event: Callable[..., OrderPartiallyFilled | OrderFilled], order: OrderDraft, fill: Execution, fact: Fact
) -> OrderEvent:
    """The running sum and its leaves are of the executions published so far, not what the venue may know beyond."""
    cum_quantity = order.fills.quantity
    return event(
        client_order_id=order.client_order_id,
        broker_order_id=order.broker_order_id,
        external=order.is_external,
        origin=fact.origin,
        symbol=fill.symbol,
        side=fill.side,
        price=fill.price,
        quantity=fill.quantity,
        cum_quantity=cum_quantity,
        leaves_quantity=None if order.terms.quantity is None else order.leaves_after(cum_quantity),
        exec_id=fill.exec_id,
        fee=fill.fee,
        fee_currency=fill.fee_currency,
        is_maker=fill.is_maker,
        exec_time_ms=fill.exec_time_ms,
        late=order.is_terminal_published,
    )


def _terminal_event(order: OrderDraft, fact: Fact) -> OrderEvent:
    assert order.terminal is not None
    if order.terminal.kind is TerminalKind.FILLED:
        return _filled(
            **_order_fields(order, fact),
            side=order.side or Side.BUY,
            price=order.average_price or ZERO,
            quantity=ZERO,
            cum_quantity=order.cum_quantity,
            leaves_quantity=order.leaves_quantity,
        )
    ended = _cancelled if order.terminal.kind is TerminalKind.CANCELLED else _rejected
    return ended(
        **_order_fields(order, fact),
        reason=order.terminal.reason,
        cum_quantity=order.cum_quantity,
    )


def _order_fields(order: OrderDraft, fact: Fact) -> dict[str, Any]:
    """What every event says of its order. The events of the fast path, accepted and filled, are built without it."""
    return {
        "client_order_id": order.client_order_id,
        "broker_order_id": order.broker_order_id,
        "external": order.is_external,
        "origin": fact.origin,
        "symbol": order.symbol,
    }
