"""One order and one fact: the next order, and the events it causes.

`apply` joins the fact (a set, a maximum, an absorbing end, the latest terms) and then emits what the joined state
allows. Because learning is a join and emitting is a function of what was learnt, any order of arrival, any duplicate
and any replay end in the same state and, per order, in the same set of events: accepted first, each execution once,
one terminal last.

Three rules:

- Silence ends nothing. Only a final row, a refusal, or a proof of non-arrival does.
- An end waits for its executions: it is told when those seen add up to what the venue reports.
- An execution completes its order by the order size and the leaves it prints, or by a final row; never by a quantity
  remembered from the request, which an amend elsewhere may have made stale.

Pure: no I/O, no thread, no clock.
"""

from __future__ import annotations

from typing import assert_never

from qkt.events import OrderEvent
from qkt.orders.emission import emit_events
from qkt.orders.facts import (
    AgedOut,
    AnyFact,
    CancelIntended,
    ExecutionReported,
    LookupFoundNothing,
    ModifyIntended,
    NonArrivalProved,
    OrderRecognised,
    OrderReported,
    RequestRefused,
    RequestUnanswered,
    RequestWithdrawn,
    StatusBecameUnknown,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitRefused,
    SubmitUnanswered,
    SubmitWithdrawn,
    TerminalReleased,
)
from qkt.orders.news import News
from qkt.orders.order import (
    Order,
    OrderDraft,
    Terminal,
    TerminalKind,
    UnansweredSubmit,
    are_equal,
    draft_of,
    frozen,
)
from qkt.orders.pending import join_request, settle_requests
from qkt.orders.report_rules import join_execution, join_report


def apply(order: Order, fact: AnyFact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """What is known after ``fact``, and the events it causes, in order; the same order when it taught nothing."""
    draft, news = draft_of(order), News()
    _join(draft, fact, news)
    settle_requests(draft, news)
    events = emit_events(draft, news, fact)
    if are_equal(draft, order):
        return order, events
    if news.is_dated:
        draft.updated_ms = fact.at_ms
    return frozen(draft), events


def _join(order: OrderDraft, fact: AnyFact, news: News) -> None:
    match fact:
        case ExecutionReported():
            join_execution(order, fact, news)
        case OrderReported():
            join_report(order, fact, news)
        case SubmitAcknowledged():
            order.is_acknowledged = True
            order.broker_order_id = order.broker_order_id or fact.broker_order_id
            order.unanswered_submit = None
        case OrderRecognised():
            order.is_owned = True
        case SubmitRefused() | NonArrivalProved():
            _join_refusal_of_submit(order, fact, news)
        case SubmitUnanswered():
            _join_silence(order, fact, news)
        case CancelIntended() | ModifyIntended() | RequestUnanswered() | RequestRefused() | RequestWithdrawn():
            join_request(order, fact, news)
        case LookupFoundNothing():
            order.empty_lookups_ms = _kept_lookups(order, fact.begun_ms)
        case StatusBecameUnknown():
            if order.terminal is None and not order.is_status_unknown:
                order.is_status_unknown = news.is_dated = True
                news.unknown_since_ms, news.unknown_reason = fact.since_ms, fact.reason
        case AgedOut():
            if order.terminal is None:
                # without an answer or a row there is no evidence that the order was ever accepted
                kind = TerminalKind.CANCELLED if order.is_known_to_venue else TerminalKind.REJECTED
                order.terminal = Terminal(
                    kind=kind, reason=fact.reason, quantity=order.cum_quantity, since_ms=fact.at_ms
                )
                order.unanswered_submit = None
                order.is_terminal_released = news.is_dated = True
        case TerminalReleased():
            if order.terminal is not None:
                order.is_terminal_released = news.is_dated = True
        case SubmitIntended() | SubmitWithdrawn():
            pass  # the ledger opens and removes orders
        case _:
            assert_never(fact)


def _join_refusal_of_submit(order: OrderDraft, fact: SubmitRefused | NonArrivalProved, news: News) -> None:
    if order.has_evidence or order.terminal is not None:
        return  # it stands: what was refused was not this order
    order.terminal = Terminal(kind=TerminalKind.REJECTED, reason=fact.reason, since_ms=fact.at_ms)
    order.unanswered_submit = None
    news.is_dated = True


def _join_silence(order: OrderDraft, fact: SubmitUnanswered, news: News) -> None:
    if order.has_evidence or order.terminal is not None:
        return
    order.unanswered_submit = UnansweredSubmit(
        reason=fact.reason,
        since_ms=fact.at_ms,
        provable_from_ms=fact.provable_from_ms,
        is_duplicate_id=fact.is_duplicate_id,
    )
    news.is_dated = True


def _kept_lookups(order: OrderDraft, begun_ms: int) -> tuple[int, ...]:
    """The first and the last lookup that can prove anything: how far apart they are is the evidence.

    Those between add nothing, and keeping the newest few would let a frequent look drive out the first one for ever.
    """
    provable_from_ms = -1 if order.unanswered_submit is None else order.unanswered_submit.provable_from_ms
    begun = sorted(one for one in (*order.empty_lookups_ms, begun_ms) if one > provable_from_ms)
    return tuple(begun) if len(begun) < 2 else (begun[0], begun[-1])
