"""Rules for reading a row: the order it opens, its terms, its end, and whether it is older than what is known. Pure."""

from __future__ import annotations

import attrs

from qkt.model.executions import Execution
from qkt.model.orders import OrderType, Side
from qkt.model.reports import OrderReport, VenueStatus
from qkt.orders.facts import ExecutionReported, OrderReported, SubmitIntended
from qkt.orders.order import Order, OrderDraft, Terminal, TerminalKind, Terms

# How far a row may be dated ahead of the venue time it was shown at. What lies beyond is a broken date, and would
# otherwise be the latest version until that day comes.
AHEAD_AT_MOST_MS = 5_000
_CLOCKS_DIFFER_AT_MOST_MS = 24 * 3_600_000


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


def dated(fact: OrderReported) -> OrderReported:
    """The fact; a date too far ahead of the venue time the row was shown at counts as that time.

    That time itself is the venue's. Where there is none, or it lies days ahead of our own clock, our clock has to do.
    """
    report, as_of_ms = fact.report, fact.as_of_ms
    if fact.at_ms and as_of_ms > fact.at_ms + _CLOCKS_DIFFER_AT_MOST_MS:
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
    """The end a final row tells. A buy sized in quote coin that left only a remainder is filled."""
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
