"""One order and one fact: the next order, and what the user is told.

`apply` first learns (joins only: a set, a maximum, an absorbing end, the latest terms), then tells what has become
tellable. Because learning is a join and telling is a function of what was learnt, any order of arrival, any duplicate
and any replay end in the same state and, per order, in the same set of events: accepted first, each execution once,
one terminal last.

Three rules are worth knowing by heart:

- Silence ends nothing. Only a final row, a refusal, or a proof of non-arrival does.
- An end waits for its executions: it is told when those seen add up to what the venue reports.
- An execution completes its order by the order size and the leaves it prints, or by a final row; never by a quantity
  remembered from the request, which an amend elsewhere may have made stale.

Pure: no I/O, no thread, no clock.
"""

from __future__ import annotations

from typing import assert_never

import attrs

from qkt.events import OrderEvent, OrderModified, OrderStatusUnknown
from qkt.model.executions import Execution
from qkt.model.orders import OrderType
from qkt.model.reports import OrderReport, VenueStatus
from qkt.orders.emission import cancel_failed, emit_events, event_fields, modify_failed
from qkt.orders.facts import (
    AgedOut,
    AnyFact,
    CancelIntended,
    CancelRefused,
    CancelUnanswered,
    CancelWithdrawn,
    ExecutionReported,
    Fact,
    LookupFoundNothing,
    ModifyIntended,
    ModifyRefused,
    ModifyUnanswered,
    ModifyWithdrawn,
    NonArrivalProved,
    OrderReported,
    StatusBecameUnknown,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitRefused,
    SubmitUnanswered,
    SubmitWithdrawn,
    TerminalReleased,
)
from qkt.orders.order import (
    AGED_OUT,
    NEVER_ARRIVED,
    CancelIntent,
    ModifyIntent,
    Order,
    Terminal,
    TerminalKind,
    Terms,
    UnansweredSubmit,
)
from qkt.orders.report_rules import is_stale, terminal_of, terms_of


def new_order(fact: SubmitIntended | OrderReported | ExecutionReported) -> Order:
    """The order a first fact is about: ours when we are about to send it, otherwise an outside one."""
    match fact:
        case SubmitIntended(request=request):
            return Order(
                client_order_id=fact.client_order_id,
                symbol=request.symbol,
                side=request.side,
                order_type=request.order_type,
                time_in_force=request.time_in_force.value,
                quote_sized=bool(getattr(request, "quote_sized", False)),
                order_filter=fact.order_filter,
                terms=Terms(
                    quantity=request.quantity,
                    limit_price=getattr(request, "limit_price", None),
                    stop_price=getattr(request, "stop_price", None) or getattr(request, "trigger_price", None),
                ),
                sent_ms=fact.sent_ms,
                created_ms=fact.at_ms,
                updated_ms=fact.at_ms,
            )
        case OrderReported(report=report):
            return Order(
                client_order_id=report.client_order_id,
                broker_order_id=report.broker_order_id,
                symbol=report.symbol,
                side=report.side,
                order_type=report.order_type,
                time_in_force=report.time_in_force,
                quote_sized=report.quote_sized,
                order_filter=report.order_filter,
                external=True,
                terms=terms_of(report, fact.as_of_ms),
                created_ms=report.created_ms or fact.at_ms,
                updated_ms=fact.at_ms,
            )
        case ExecutionReported(execution=execution):
            return Order(
                client_order_id=execution.client_order_id,
                broker_order_id=execution.broker_order_id,
                symbol=execution.symbol,
                side=execution.side,
                order_type=execution.order_type,
                external=True,
                terms=Terms(quantity=execution.order_quantity, limit_price=None, stop_price=None),
                created_ms=execution.exec_time_ms or fact.at_ms,
                updated_ms=fact.at_ms,
            )
        case _:
            assert_never(fact)


def apply(order: Order, fact: AnyFact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """What is known after ``fact``, and what the user is to hear of it, in order."""
    learned, fill, notes = _learn(order, fact)
    if learned is order and not notes:
        return order, ()
    return emit_events(learned, fill, notes, fact)


# -- learning --------------------------------------------------------------------------------------------------------

_Learned = tuple[Order, Execution | None, tuple[OrderEvent, ...]]


def _learn(order: Order, fact: AnyFact) -> _Learned:
    """Join one fact into the order: the order, the execution that is to be published, and plain notes."""
    match fact:
        case OrderReported(report=report):
            return _learn_report(order, report, fact)
        case ExecutionReported(execution=execution):
            return _learn_execution(order, execution, fact)
        case SubmitIntended() | SubmitWithdrawn():
            return order, None, ()  # the ledger opens and removes orders
        case SubmitAcknowledged(broker_order_id=broker_order_id):
            return _learn_acknowledgement(order, broker_order_id), None, ()
        case SubmitRefused(reason=reason):
            return _refuse(order, reason, fact), None, ()
        case NonArrivalProved(reason=reason):
            return _refuse(order, reason, fact), None, ()
        case SubmitUnanswered():
            if order.has_evidence or order.terminal is not None:
                return order, None, ()
            unanswered_submit = UnansweredSubmit(
                reason=fact.reason,
                since_ms=fact.at_ms,
                provable_from_ms=fact.provable_from_ms,
                is_duplicate_id=fact.is_duplicate_id,
            )
            return attrs.evolve(order, unanswered_submit=unanswered_submit, updated_ms=fact.at_ms), None, ()
        case CancelIntended():
            with_intent = attrs.evolve(
                order, cancel=CancelIntent(sent_ms=fact.sent_ms, is_remembered=fact.is_remembered)
            )
            if order.terminal is not None:
                return (
                    order,
                    None,
                    () if fact.is_again else cancel_failed(with_intent, _too_late(order.terminal), fact)[1],
                )
            return with_intent, None, ()
        case CancelUnanswered():
            if order.cancel is None:
                return order, None, ()
            asked = attrs.evolve(order.cancel, unanswered=fact.reason, provable_from_ms=fact.provable_from_ms)
            return attrs.evolve(order, cancel=asked), None, ()
        case CancelRefused(reason=reason):
            learned, notes = cancel_failed(order, reason, fact)
            return learned, None, notes
        case CancelWithdrawn():
            return attrs.evolve(order, cancel=None), None, ()
        case ModifyWithdrawn():
            return attrs.evolve(order, modify=None), None, ()
        case ModifyIntended(changes=changes):
            with_intent = attrs.evolve(order, modify=ModifyIntent(changes=changes, sent_ms=fact.sent_ms))
            if order.terminal is not None:
                return order, None, modify_failed(with_intent, _too_late(order.terminal), fact)[1]
            return with_intent, None, ()
        case ModifyUnanswered():
            if order.modify is None:
                return order, None, ()
            modify = attrs.evolve(order.modify, unanswered=fact.reason, provable_from_ms=fact.provable_from_ms)
            return attrs.evolve(order, modify=modify), None, ()
        case ModifyRefused(reason=reason):
            learned, notes = modify_failed(order, reason, fact)
            return learned, None, notes
        case LookupFoundNothing(begun_ms=begun_ms):
            return attrs.evolve(order, empty_lookups_ms=_kept_lookups(order, begun_ms)), None, ()
        case StatusBecameUnknown():
            return _learn_status_unknown(order, fact)
        case AgedOut(reason=reason):
            if order.terminal is not None:
                return order, None, ()
            terminal = Terminal(
                kind=TerminalKind.CANCELLED, reason=reason, quantity=order.cum_quantity, since_ms=fact.at_ms
            )
            return attrs.evolve(order, terminal=terminal, is_terminal_released=True, updated_ms=fact.at_ms), None, ()
        case TerminalReleased():
            if order.terminal is None:
                return order, None, ()
            return attrs.evolve(order, is_terminal_released=True, updated_ms=fact.at_ms), None, ()
        case _:
            assert_never(fact)


def _learn_report(order: Order, report: OrderReport, fact: OrderReported) -> _Learned:
    order = _resurrect(order, shows_open=not report.status.is_final)
    learned = _with_evidence(order, report.broker_order_id)
    learned = attrs.evolve(learned, reported_quantity=max(order.reported_quantity, report.cum_quantity))
    is_current = not is_stale(order, report)
    if is_current:
        learned = attrs.evolve(learned, status=report.status, venue_status=report.venue_status)
    if order.is_terminal_published:
        return _unless_same(order, learned), None, ()

    if report.status.is_final:
        terminal = terminal_of(order, report, fact)
        learned = attrs.evolve(learned, terminal=terminal if order.terminal is None else order.terminal.join(terminal))
    if is_current:
        learned = attrs.evolve(learned, order_filter=report.order_filter)
        if order.order_type is OrderType.UNKNOWN:
            learned = attrs.evolve(
                learned,
                order_type=report.order_type,
                quote_sized=report.quote_sized,
                time_in_force=report.time_in_force,
            )
    learned, notes = _learn_terms(learned, report, fact)
    if report.refusal_reason:
        learned, refusals = _learn_refused_request(learned, report, fact)
        notes = (*notes, *refusals)
    learned = _unless_same(order, learned)
    return (learned if learned is order else attrs.evolve(learned, updated_ms=fact.at_ms)), None, notes


def _learn_terms(order: Order, report: OrderReport, fact: OrderReported) -> tuple[Order, tuple[OrderEvent, ...]]:
    """The latest venue version of quantity and prices; two contents under one version are a question."""
    if order.order_type is OrderType.MARKET:
        return order, ()  # it cannot be amended; the venue restates its size in its own units
    known, shown = order.terms, terms_of(report, fact.as_of_ms, fallback=order.terms)
    version, shown_version = (known.updated_ms, known.as_of_ms), (shown.updated_ms, shown.as_of_ms)
    if shown.updated_ms < known.updated_ms or report.cum_quantity < order.reported_quantity:
        return order, ()
    if shown.says_the_same_as(known):
        latest = attrs.evolve(known, updated_ms=shown.updated_ms, as_of_ms=max(known.as_of_ms, shown.as_of_ms))
        return _settle_modify(attrs.evolve(order, terms=latest, has_terms_conflict=False)), ()
    if known.updated_ms and shown.updated_ms == known.updated_ms and shown_version <= version:
        return attrs.evolve(order, has_terms_conflict=True), ()
    if order.external and version == (0, 0):  # known by its fills alone: its terms are news, and no change (S56)
        return attrs.evolve(order, terms=shown), ()
    return _change_terms(order, shown, fact)


def _change_terms(order: Order, shown: Terms, fact: Fact) -> tuple[Order, tuple[OrderEvent, ...]]:
    """Other terms than were known: an amend of ours that is done, or somebody else's."""
    wanted = order.modify is not None and order.modify.is_met_by(shown)
    modified = OrderModified(
        **event_fields(order, fact),
        reason="" if wanted else _why_changed(order),
        new_quantity=shown.quantity,
        new_limit_price=shown.limit_price,
        new_stop_price=shown.stop_price,
    )
    return _settle_modify(attrs.evolve(order, terms=shown, has_terms_conflict=False)), (modified,)


def _why_changed(order: Order) -> str:
    """Before any row was seen nobody can have amended: the venue itself moved the price into its band (S92)."""
    return "venue moved price" if order.terms.updated_ms == 0 and not order.external else "changed at the venue"


def _settle_modify(order: Order) -> Order:
    """An amend whose wish the terms show is done."""
    if order.modify is not None and order.modify.is_met_by(order.terms):
        return attrs.evolve(order, modify=None)
    return order


def _learn_execution(order: Order, execution: Execution, fact: ExecutionReported) -> _Learned:
    if execution.exec_id in order.fills:
        return order, None, ()
    order = _resurrect(order, shows_open=False)
    notes: tuple[OrderEvent, ...] = ()
    learned = _with_evidence(order, execution.broker_order_id)
    quantity = learned.terms.quantity
    if order.external and quantity is None and execution.order_quantity is not None:
        learned = attrs.evolve(learned, terms=attrs.evolve(learned.terms, quantity=execution.order_quantity))
    learned = attrs.evolve(
        learned,
        fills={**order.fills, execution.exec_id: execution},
        filled_quantity=order.filled_quantity + execution.quantity,
        updated_ms=fact.at_ms,
    )
    if learned.terminal is None and _is_complete(learned):
        terminal = Terminal(
            kind=TerminalKind.FILLED,
            reason="",
            quantity=learned.filled_quantity,
            updated_ms=execution.exec_time_ms,
            since_ms=fact.at_ms,
        )
        learned = attrs.evolve(
            learned, terminal=terminal, status=VenueStatus.FILLED, venue_status=VenueStatus.FILLED.value
        )
        learned, notes = _learn_terms_from_fills(learned, fact)
    return learned, None if fact.is_historic and order.external else execution, notes


def _learn_terms_from_fills(order: Order, fact: ExecutionReported) -> tuple[Order, tuple[OrderEvent, ...]]:
    """The terms an order was filled under, when its executions say so before any row does, or instead of one (S22).

    Without this an amend that made the order trade at once would look as if it had come too late.
    """
    if order.order_type is OrderType.MARKET:
        return order, ()
    shown = attrs.evolve(order.terms, quantity=order.filled_quantity)
    price = order.modify.changes.new_limit_price if order.modify is not None else None
    if price is not None and any(fill.order_price == price for fill in order.fills.values()):
        shown = attrs.evolve(shown, limit_price=price)
    if shown.says_the_same_as(order.terms):
        return order, ()
    if order.external and not order.terms.updated_ms:  # known by its fills alone: news, and no change (S56)
        return attrs.evolve(order, terms=shown), ()
    return _change_terms(order, shown, fact)


def _is_complete(order: Order) -> bool:
    """True when the newest execution says it left nothing of an order of exactly the size that was seen to trade.

    The newest at the venue, whichever came last: an amend between two makes the older one's size stale (S23).
    """
    filled = order.filled_quantity
    if filled < order.reported_quantity:
        return False
    whole = [fill for fill in order.fills.values() if fill.order_quantity == filled and not fill.leaves_quantity]
    if not whole:
        return False  # nearly always, and found fast: an order may have thousands of fills
    newest = max((fill.exec_time_ms, fill.seq) for fill in order.fills.values())
    return any((fill.exec_time_ms, fill.seq) == newest for fill in whole)


def _kept_lookups(order: Order, begun_ms: int) -> tuple[int, ...]:
    """The first and the last lookup that can prove anything: how far apart they are is the evidence.

    Those between add nothing, and keeping the newest few would let a frequent look drive out the first one for ever.
    """
    provable_from_ms = -1 if order.unanswered_submit is None else order.unanswered_submit.provable_from_ms
    telling = sorted(begun for begun in (*order.empty_lookups_ms, begun_ms) if begun > provable_from_ms)
    return tuple(telling) if len(telling) < 2 else (telling[0], telling[-1])


def _learn_acknowledgement(order: Order, broker_order_id: str) -> Order:
    known = order.broker_order_id or broker_order_id
    return _unless_same(order, attrs.evolve(order, is_acknowledged=True, broker_order_id=known, unanswered_submit=None))


def _with_evidence(order: Order, broker_order_id: str) -> Order:
    return attrs.evolve(
        order,
        broker_order_id=order.broker_order_id or broker_order_id,
        has_evidence=True,
        unanswered_submit=None,
        empty_lookups_ms=(),
        is_status_unknown=False,
    )


def _resurrect(order: Order, *, shows_open: bool) -> Order:
    """An order we declared never to have arrived, or aged out, shows itself after all: it is managed again."""
    if order.terminal is None or order.terminal.reason not in (NEVER_ARRIVED, AGED_OUT):
        return order
    if order.terminal.reason == AGED_OUT and not shows_open:
        return order  # an execution that comes after a true end is a late fill
    return attrs.evolve(order, terminal=None, is_terminal_published=False, is_terminal_released=False)


def _refuse(order: Order, reason: str, fact: Fact) -> Order:
    if order.has_evidence or order.terminal is not None:
        return order  # it stands: what was refused was not this order
    terminal = Terminal(kind=TerminalKind.REJECTED, reason=reason, since_ms=fact.at_ms)
    return attrs.evolve(order, terminal=terminal, unanswered_submit=None, updated_ms=fact.at_ms)


def _learn_status_unknown(order: Order, fact: StatusBecameUnknown) -> _Learned:
    if order.is_status_unknown or order.terminal is not None:
        return order, None, ()
    unknown = OrderStatusUnknown(
        **event_fields(order, fact),
        since_ms=fact.since_ms,
        reason=fact.reason,
    )
    return attrs.evolve(order, is_status_unknown=True, updated_ms=fact.at_ms), None, (unknown,)


# -- requests that failed --------------------------------------------------------------------------------------------


def _learn_refused_request(
    order: Order, report: OrderReport, fact: OrderReported
) -> tuple[Order, tuple[OrderEvent, ...]]:
    if order.terminal is not None:
        return order, ()  # the end itself settles what was asked for
    is_about_cancel = report.refuses_cancel or order.modify is None
    if is_about_cancel and order.cancel is not None and report.updated_ms >= order.cancel.sent_ms:
        return cancel_failed(order, report.refusal_reason, fact)
    if not is_about_cancel and order.modify is not None and report.updated_ms >= order.modify.sent_ms:
        return modify_failed(order, report.refusal_reason, fact)
    return order, ()


# -- small things ---------------------------------------------------------------------------------------------------


def _too_late(terminal: Terminal) -> str:
    return f"the order ended before: {terminal.kind.name}"


def _unless_same(before: Order, after: Order) -> Order:
    """The very same order when nothing was learnt, so that a duplicate is visibly nothing."""
    return before if after == before else after
