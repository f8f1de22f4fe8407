"""Joins a row of the venue into what is known of an order: an order row or an execution. Pure.

Evidence, status, quantities, terms and the terminal are taken from the row unless something newer is known. Whether a
change of terms answers a pending amend is decided afterwards, in `pending`.
"""

from __future__ import annotations

import attrs

from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import OrderType, Side
from qkt.orders.facts import ExecutionReported, OrderReported, SubmitIntended
from qkt.orders.news import News
from qkt.orders.order import AGED_OUT, Order, OrderDraft, Terminal, TerminalKind, Terms

# From a row whose last update is its creation: no amend can have happened in between.
_SAME_MOMENT_MS = 1_000

# How far a row may be dated ahead of the venue time it was shown at. What lies beyond is a broken date, and would
# otherwise be the latest version until that day comes.
AHEAD_AT_MOST_MS = 5_000
CLOCKS_DIFFER_AT_MOST_MS = 24 * 3_600_000


def new_order(fact: SubmitIntended | OrderReported | ExecutionReported) -> Order:
    """The order a first fact is about: ours when we are about to send it, otherwise an external one."""
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
                details=request.details,
                terms=Terms(
                    quantity=request.quantity,
                    limit_price=getattr(request, "limit_price", None),
                    stop_price=getattr(request, "stop_price", None) or getattr(request, "trigger_price", None),
                ),
                sent_ms=fact.sent_ms,
                created_ms=fact.at_ms,
                updated_ms=fact.at_ms,
            )
        case OrderReported():
            fact = dated(fact)
            report = fact.report
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
                details=report.details,
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
                terms=Terms(quantity=None, limit_price=None, stop_price=None),
                created_ms=execution.exec_time_ms or fact.at_ms,
                updated_ms=fact.at_ms,
            )


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


def join_report(order: OrderDraft, fact: OrderReported, news: News) -> None:
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
        news.refusal = report


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
        news.are_terms_confirmed = True
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
    """Take over terms that differ from the known ones; `pending` decides whose change it was."""
    known, order.terms = order.terms, shown
    order.has_terms_conflict = False
    if order.external and not known.updated_ms:
        return  # known by its fills alone: its terms are news, and no change (S56)
    news.changed_from, news.is_first_version = known, is_first_version


def join_execution(order: OrderDraft, fact: ExecutionReported, news: News) -> None:
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


def dated(fact: OrderReported) -> OrderReported:
    """The fact; a date too far ahead of the venue time the row was shown at counts as that time.

    That time itself is the venue's. Where there is none, or it lies days ahead of our own clock, our clock has to do.
    """
    report, as_of_ms = fact.report, fact.as_of_ms
    if fact.at_ms and as_of_ms > fact.at_ms + CLOCKS_DIFFER_AT_MOST_MS:
        as_of_ms = fact.at_ms
    latest_ms = (as_of_ms or fact.at_ms) + AHEAD_AT_MOST_MS
    if report.updated_ms > latest_ms > AHEAD_AT_MOST_MS:
        report = attrs.evolve(report, updated_ms=as_of_ms or fact.at_ms)
    elif as_of_ms == fact.as_of_ms:
        return fact
    return attrs.evolve(fact, report=report, as_of_ms=as_of_ms)


def terms_of(report: OrderReport, as_of_ms: int, fallback: Terms | None = None) -> Terms:
    """The row's terms; a value the row does not print leaves the known one as it is."""
    return Terms(
        quantity=report.quantity if report.quantity is not None or fallback is None else fallback.quantity,
        limit_price=report.limit_price if report.limit_price is not None or fallback is None else fallback.limit_price,
        stop_price=report.stop_price if report.stop_price is not None or fallback is None else fallback.stop_price,
        updated_ms=report.updated_ms,
        as_of_ms=as_of_ms,
    )


def printed_terms(order: OrderDraft, execution: Execution) -> Terms | None:
    """The terms an execution prints of its order, dated by its trade; None when it does not print all of them.

    A price from one source and a quantity from another may be terms the order never had. An execution that prints the
    quantity alone speaks for the price only where a pending amend of ours asked for that very quantity. Orders that
    trade at market have no terms to change: what a venue prints as their price is a bound of its own.
    """
    known = order.terms
    if order.quote_sized or execution.order_quantity is None or not _has_limit(order):
        return None
    price = execution.order_price
    if price is None:
        wanted = None if order.modify is None else order.modify.changes
        if wanted is None or wanted.new_quantity != execution.order_quantity:
            return None
        price = wanted.new_limit_price or known.limit_price
    return attrs.evolve(
        known,
        quantity=execution.order_quantity,
        limit_price=price,
        updated_ms=execution.exec_time_ms,
        as_of_ms=0,
    )


def _has_limit(order: OrderDraft) -> bool:
    if order.external and order.order_type is OrderType.LIMIT:
        return True
    return order.terms.limit_price is not None


def terminal_of(order: OrderDraft, report: OrderReport, since_ms: int) -> Terminal:
    """The terminal state that a final row means. A buy sized in quote coin that left only a remainder is filled."""
    quote_sized = order.quote_sized if order.sent_ms is not None else order.quote_sized or report.quote_sized
    kind = _TERMINAL_KINDS[report.status]
    if (
        report.status is VenueStatus.PARTIALLY_FILLED_CANCELED
        and quote_sized
        and report.side is Side.BUY
        and report.is_remainder_cancelled
    ):
        kind = TerminalKind.FILLED
    return Terminal(
        kind=kind,
        reason="" if kind is TerminalKind.FILLED else report.reason or report.venue_status,
        quantity=report.cum_quantity,
        updated_ms=report.updated_ms,
        since_ms=since_ms,
    )


_TERMINAL_KINDS = {
    VenueStatus.FILLED: TerminalKind.FILLED,
    VenueStatus.PARTIALLY_FILLED_CANCELED: TerminalKind.CANCELLED,
    VenueStatus.CANCELLED: TerminalKind.CANCELLED,
    VenueStatus.DEACTIVATED: TerminalKind.CANCELLED,
    VenueStatus.REJECTED: TerminalKind.REJECTED,
}

_RANK = {
    VenueStatus.UNKNOWN: 0,
    VenueStatus.UNTRIGGERED: 1,
    VenueStatus.TRIGGERED: 2,
    VenueStatus.NEW: 3,
    VenueStatus.PARTIALLY_FILLED: 4,
}


def is_stale(order: OrderDraft, report: OrderReport) -> bool:
    """True when the order is known to be further than this row says."""
    if report.cum_quantity < order.reported_quantity or (order.terminal is not None and not report.status.is_final):
        return True
    if order.status is None:
        return False
    if report.updated_ms != order.terms.updated_ms:
        return report.updated_ms < order.terms.updated_ms
    return _RANK.get(report.status, 5) < _RANK.get(order.status, 5)
