"""What an order row says: its terms, its end, and whether it is older than what is known already. Pure."""

from __future__ import annotations

from qkt.model.orders import Side
from qkt.model.reports import OrderReport, VenueStatus
from qkt.orders.facts import OrderReported
from qkt.orders.order import Order, Terminal, TerminalKind, Terms


def terms_of(report: OrderReport, as_of_ms: int, fallback: Terms | None = None) -> Terms:
    """The row's terms; a value the row does not print leaves the known one as it is."""
    return Terms(
        quantity=report.quantity if report.quantity is not None or fallback is None else fallback.quantity,
        limit_price=report.limit_price if report.limit_price is not None or fallback is None else fallback.limit_price,
        stop_price=report.stop_price if report.stop_price is not None or fallback is None else fallback.stop_price,
        updated_ms=report.updated_ms,
        as_of_ms=as_of_ms,
    )


def terminal_of(order: Order, report: OrderReport, fact: OrderReported) -> Terminal:
    quote_sized = order.quote_sized or report.quote_sized
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
        since_ms=fact.at_ms,
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


def is_stale(order: Order, report: OrderReport) -> bool:
    """True when the order is known to be further than this row says."""
    if report.cum_quantity < order.reported_quantity or (order.terminal is not None and not report.status.is_final):
        return True
    if order.status is None:
        return False
    if report.updated_ms != order.terms.updated_ms:
        return report.updated_ms < order.terms.updated_ms
    return _RANK.get(report.status, 5) < _RANK.get(order.status, 5)
