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

import attrs

from qkt.events import OrderEvent
from qkt.model.orders import OrderType
from qkt.model.reports import OrderReport, VenueStatus
from qkt.orders.emission import emit_events
from qkt.orders.facts import (
    AgedOut,
    AnyFact,
    CancelIntended,
    ExecutionReported,
    LookupFoundNothing,
    ModifyIntended,
    NonArrivalProved,
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
    AGED_OUT,
    Order,
    OrderDraft,
    Terminal,
    TerminalKind,
    Terms,
    UnansweredSubmit,
    are_equal,
    draft_of,
    frozen,
)
from qkt.orders.pending import join_refusal, join_request, settle_modify, would_be_met
from qkt.orders.report_rules import dated, is_stale, printed_terms, terminal_of, terms_of

# From a row whose last update is its creation: nobody can have amended the order in between.
_SAME_MOMENT_MS = 1_000


def apply(order: Order, fact: AnyFact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """What is known after ``fact``, and the events it causes, in order; the same order when it taught nothing."""
    draft, news = draft_of(order), News()
    _join(draft, fact, news)
    events = emit_events(draft, news, fact)
    if are_equal(draft, order):
        return order, events
    if news.is_dated:
        draft.updated_ms = fact.at_ms
    return frozen(draft), events


def _join(order: OrderDraft, fact: AnyFact, news: News) -> None:
    match fact:
        case ExecutionReported():
            _join_execution(order, fact, news)
        case OrderReported():
            _join_report(order, fact, news)
        case SubmitAcknowledged():
            order.is_acknowledged = True
            order.broker_order_id = order.broker_order_id or fact.broker_order_id
            order.unanswered_submit = None
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
                order.terminal = Terminal(
                    kind=TerminalKind.CANCELLED, reason=fact.reason, quantity=order.cum_quantity, since_ms=fact.at_ms
                )
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


def _join_evidence(order: OrderDraft, broker_order_id: str) -> None:
    """The venue shows the order, so it stands or stood."""
    order.broker_order_id = order.broker_order_id or broker_order_id
    order.has_evidence = True
    order.unanswered_submit = None
    order.empty_lookups_ms = ()
    order.is_status_unknown = False


def _revive(order: OrderDraft, *, shows_open: bool) -> None:
    """An order that was refused, proved lost or aged out shows itself after all: it is managed again.

    An execution that comes after an aged-out end is a late fill: that order did end.
    """
    terminal = order.terminal
    if terminal is not None and (order.is_refused or (terminal.reason == AGED_OUT and shows_open)):
        order.terminal = None
        order.is_terminal_published = order.is_terminal_released = False


def _join_report(order: OrderDraft, fact: OrderReported, news: News) -> None:
    fact = dated(fact)
    report, status = fact.report, fact.report.status
    if order.is_refused and status is VenueStatus.REJECTED and not report.cum_quantity:
        return  # the venue's row about the refusal that is known
    _revive(order, shows_open=not status.is_final)
    is_current, is_over = not is_stale(order, report), order.is_terminal_published
    _join_evidence(order, report.broker_order_id)
    news.is_dated = True
    order.reported_quantity = max(order.reported_quantity, report.cum_quantity)
    if is_current:
        order.status, order.venue_status = status, report.venue_status
        order.details = report.details
        _join_identity(order, report)
    has_final_row = order.has_final_row
    order.has_final_row = has_final_row or status.is_final
    if is_over:
        if status.is_final and not has_final_row:
            _correct_terms(order, report, fact.as_of_ms)
        return
    if status.is_final:
        terminal = terminal_of(order, report, fact.at_ms)
        order.terminal = terminal if order.terminal is None else order.terminal.join(terminal)
    if is_current:
        order.order_filter = report.order_filter
    _join_terms(order, report, fact.as_of_ms, news)
    if report.refusal_reason:
        join_refusal(order, report, news)


def _join_identity(order: OrderDraft, report: OrderReport) -> None:
    """What an external order is, told by its first row when its executions came before."""
    if not order.external:
        return
    if order.order_type is OrderType.UNKNOWN:
        order.order_type = report.order_type
    if not order.time_in_force:
        order.time_in_force, order.quote_sized = report.time_in_force, report.quote_sized
        if not order.terms.updated_ms and order.order_type is OrderType.MARKET:
            order.terms = attrs.evolve(order.terms, quantity=report.quantity)


def _join_terms(order: OrderDraft, report: OrderReport, as_of_ms: int, news: News) -> None:
    """The latest venue version of quantity and prices; two contents under one version are a question."""
    if order.order_type is OrderType.MARKET:
        return  # it cannot be amended; the venue restates its size in its own units
    known = order.terms
    if report.updated_ms < known.updated_ms or report.cum_quantity < order.reported_quantity:
        return
    is_final = report.status.is_final
    if order.has_final_row and not is_final:
        return  # the final row has the last word, whenever it is dated
    shown = terms_of(report, as_of_ms, fallback=known)
    if shown.says_the_same_as(known):
        if shown.updated_ms != known.updated_ms or as_of_ms > known.as_of_ms:
            order.terms = attrs.evolve(known, updated_ms=shown.updated_ms, as_of_ms=max(known.as_of_ms, as_of_ms))
        order.has_terms_conflict = False
        settle_modify(order)
    elif known.updated_ms and shown.updated_ms == known.updated_ms and as_of_ms <= known.as_of_ms and not is_final:
        order.has_terms_conflict = True
    else:
        is_first_version = report.updated_ms - report.created_ms <= _SAME_MOMENT_MS
        _change_terms(order, shown, news, is_first_version=is_first_version)


def _correct_terms(order: OrderDraft, report: OrderReport, as_of_ms: int) -> None:
    """The first final row has the last word about the terms of an order that its executions closed; nothing is told."""
    if order.order_type is OrderType.MARKET or report.cum_quantity < order.reported_quantity:
        return
    shown = terms_of(report, as_of_ms, fallback=order.terms)
    if shown.updated_ms >= order.terms.updated_ms and not shown.says_the_same_as(order.terms):
        order.terms = shown


def _change_terms(order: OrderDraft, shown: Terms, news: News, *, is_first_version: bool) -> None:
    """Other terms than were known: an amend of ours that is done, or a change made elsewhere."""
    known, order.terms = order.terms, shown
    order.has_terms_conflict = False
    if order.external and not known.updated_ms:
        return  # known by its fills alone: its terms are news, and no change (S56)
    if would_be_met(order, shown):
        news.modified = ""
    elif is_first_version and not (known.updated_ms or order.external) and known.quantity == shown.quantity:
        news.modified = "venue moved price"  # into its band, before any amend can have arrived (S92)
    else:
        news.modified = "changed at the venue"
    settle_modify(order)


def _join_execution(order: OrderDraft, fact: ExecutionReported, news: News) -> None:
    execution = fact.execution
    fills = order.fills.plus(execution)
    if fills is order.fills:
        return
    _revive(order, shows_open=False)
    _join_evidence(order, execution.broker_order_id)
    order.fills = fills
    news.is_dated = True
    if not (fact.is_historic and order.external):
        news.fill = execution
    if order.terminal is not None:
        return
    if order.external and order.terms.quantity is None and not execution.may_be_quote_sized:
        order.terms = attrs.evolve(order.terms, quantity=execution.order_quantity)
    if _is_complete(order):
        order.terminal = Terminal(
            kind=TerminalKind.FILLED,
            reason="",
            quantity=fills.quantity,
            updated_ms=execution.exec_time_ms,
            since_ms=fact.at_ms,
        )
        order.status, order.venue_status = VenueStatus.FILLED, VenueStatus.FILLED.value
        _join_printed_terms(order, news)


def _join_printed_terms(order: OrderDraft, news: News) -> None:
    """The terms a completed order was filled under, when its newest execution prints them before any row does (S22).

    Without this an amend that made the order trade at once would look as if it had come too late. Where the execution
    prints the size alone, the size is taken and nothing is told: the price may have been amended with it.
    """
    known, filled = order.terms, order.fills.quantity
    if order.order_type is OrderType.MARKET or order.fills.newest is None:
        return
    shown = printed_terms(order, order.fills.newest)
    if shown is None:
        if known.quantity != filled:
            order.terms = attrs.evolve(known, quantity=filled)
    elif not shown.says_the_same_as(known) and (known.quantity != filled or shown.updated_ms >= known.updated_ms):
        _change_terms(order, shown, news, is_first_version=False)


def _is_complete(order: OrderDraft) -> bool:
    """True when the newest execution says it left nothing of an order of exactly the size that was seen to trade.

    The newest at the venue, whichever came last: an amend between two makes the older one's size stale (S23). The size
    of an external market buy may be meant in quote coin until a row says so, and proves nothing.
    """
    fills = order.fills
    if fills.quantity < order.reported_quantity or fills.quantity not in fills.complete_sizes:
        return False
    is_unit_known = order.time_in_force != "" or not order.external  # the time in force comes with the first row
    return is_unit_known or fills.newest is None or not fills.newest.may_be_quote_sized
