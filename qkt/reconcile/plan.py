"""From what was read to what must be asked, and from answers to verdicts.

An order that is missing from a snapshot is a question, never a cancel: the venue's open list hides closed orders, and a
fresh order may not be listed yet (docs v5/order/open-order). This room says which orders to ask for, and what it takes
before silence may be called an answer. `recovery` goes and looks. Pure: no I/O, no clock.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping

import attrs

from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import OrderType
from qkt.orders.facts import (
    AgedOut,
    AnyFact,
    CancelRefused,
    LookupFoundNothing,
    ModifyRefused,
    NonArrivalProved,
    StatusBecameUnknown,
    SubmitRefused,
    TerminalReleased,
)
from qkt.orders.ledger import Ledger
from qkt.orders.order import NEVER_ARRIVED, Order
from qkt.reconcile.snapshot import Read

ID_ALREADY_USED = "client order id already used"


@attrs.frozen(kw_only=True)
class ReconcileLimits:
    """How long silence must last before it proves something; all in ms.

    ``arrival_margin_ms`` after the signed timestamp plus receive window a request can no longer arrive;
    ``backend_timeout_ms`` where the venue itself said that it was still working on it. ``unfilled_retention_ms`` is how
    long the venue shows a closed order without fills (docs v5/order/order-list).
    """

    terminal_hold_ms: int = 60_000
    arrival_margin_ms: int = 10_000
    backend_timeout_ms: int = 60_000
    between_lookups_ms: int = 5_000
    unfilled_retention_ms: int = 24 * 3_600_000
    lookups_per_round: int = 40
    grace_ms: int = 2_000


class LookupReason(enum.IntEnum):
    """Why an order is asked for, the most pressing first."""

    SUBMIT_UNANSWERED = 0
    MISSING_FILLS = 1
    ABSENT = 2
    CONTRADICTION = 3
    UNKNOWN_STATUS = 4
    MALFORMED_ROW = 5
    LATE_FILLS = 6


@attrs.frozen(kw_only=True)
class Lookup:
    """An order to ask the venue about, by id. ``only_fills``: its executions are all that is in question."""

    order: Order
    reason: LookupReason
    only_fills: bool = False


@attrs.frozen(kw_only=True)
class LookupResult:
    """What asking by id gave, after its facts were absorbed.

    ``is_complete``: every place the order could be was read completely, down to each row. ``found``: some place knew
    it. ``is_unreadable``: the reads were complete, and rows of them could not be understood. ``held_ms``: for how long
    a known end has waited for its executions, on the monotonic clock.
    """

    begun_ms: int
    is_complete: bool
    found: bool
    is_unreadable: bool = False
    held_ms: int = 0


def absent_candidates(ledger: Ledger, fence_revision: int) -> list[Order]:
    """Open orders known to the venue by ``fence_revision`` without a fact since; compute before absorbing."""
    return list(ledger.untouched_since(fence_revision))


def plan_lookups(
    ledger: Ledger,
    *,
    orders: Read[OrderReport],
    candidates: Iterable[Order],
    malformed_ids: Collection[str],
    last_asked: Mapping[str, int],
    limits: ReconcileLimits,
    failed: Collection[str] = (),
) -> tuple[list[Lookup], int]:
    """What to ask this round, and how many lookups wait for the next.

    The oldest lookup goes first within its kind, so that hundreds are spread over rounds and none starves (S26). Those
    whose last try ``failed`` go last: a round stops asking at the first failure, and one order that cannot be asked
    about must not keep the others waiting.
    """
    listed = {row.broker_order_id for row in orders.rows} | {row.client_order_id for row in orders.rows}
    found: dict[str, Lookup] = {}

    def ask(order: Order, reason: LookupReason) -> None:
        """Several reasons are one question: as pressing as the most pressing, and as wide as the widest."""
        name, only_fills = name_of(order), reason in (LookupReason.MISSING_FILLS, LookupReason.LATE_FILLS)
        if name in found:
            reason, only_fills = min(reason, found[name].reason), only_fills and found[name].only_fills
        found[name] = Lookup(order=order, reason=reason, only_fills=only_fills)

    for order in ledger.open_orders():
        if order.unanswered_submit is not None and not order.has_evidence:
            ask(order, LookupReason.SUBMIT_UNANSWERED)
        if order.missing_quantity:
            ask(order, LookupReason.MISSING_FILLS)
        if order.has_terms_conflict:
            ask(order, LookupReason.CONTRADICTION)
        if order.status is VenueStatus.UNKNOWN:
            ask(order, LookupReason.UNKNOWN_STATUS)
        # an order of ours without an answer was no candidate before its first fill told of it
        seen_only_through_fills = order.status is None and (
            order.external or (order.has_evidence and not order.is_acknowledged)
        )
        if orders.is_complete and seen_only_through_fills and order.broker_order_id not in listed:
            ask(order, LookupReason.ABSENT)
        if order.broker_order_id in malformed_ids or order.client_order_id in malformed_ids:
            ask(order, LookupReason.MALFORMED_ROW)
    for order in ledger.unsettled():
        ask(order, LookupReason.LATE_FILLS if order.is_terminal_published else LookupReason.MISSING_FILLS)
    if orders.is_complete:
        for candidate in candidates:
            now = ledger.get(candidate.client_order_id or None, candidate.broker_order_id)
            is_listed = candidate.broker_order_id in listed or (candidate.client_order_id or None) in listed
            if now is not None and now.is_open and not is_listed:
                ask(now, LookupReason.ABSENT)

    ordered = sorted(
        found.values(),
        key=lambda lookup: (
            name_of(lookup.order) in failed,
            lookup.reason,
            last_asked.get(name_of(lookup.order), -1),
        ),
    )
    return ordered[: limits.lookups_per_round], max(0, len(ordered) - limits.lookups_per_round)


def name_of(order: Order) -> str:
    """One name for an order across rounds, whichever id it has."""
    return order.broker_order_id or order.client_order_id


def conclude(order: Order, answer: LookupResult, *, at_ms: int, limits: ReconcileLimits) -> list[AnyFact]:
    """What may be concluded from an answer about ``order`` (as it is after the answer's rows were absorbed)."""
    if not answer.is_complete:
        # an execution that cannot be read may be one that is missing: the wait for it is longer, and still bounded
        is_worth_waiting = order.terminal is not None and answer.is_unreadable
        return _release_if_due(order, answer, at_ms, limits.terminal_hold_ms * 3 // 2) if is_worth_waiting else []
    if order.terminal is not None:
        return _release_if_due(order, answer, at_ms, limits.terminal_hold_ms)
    if (
        order.unanswered_submit is not None
        and order.unanswered_submit.is_duplicate_id
        and answer.found
        and not order.has_evidence
    ):
        return [_refused_as_used(order, at_ms)]  # the id is taken, and the ledger found that its order is not ours
    if answer.found:
        return []
    nothing = LookupFoundNothing(
        client_order_id=order.client_order_id,
        broker_order_id=order.broker_order_id,
        begun_ms=answer.begun_ms,
        at_ms=at_ms,
        origin="reconcile",
    )
    lookups = (*order.empty_lookups_ms, answer.begun_ms)
    if order.unanswered_submit is not None and not order.is_acknowledged:
        return [nothing, *_judge_unanswered(order, lookups, at_ms, limits)]
    return [nothing, *_judge_absent(order, lookups, answer, at_ms, limits)]


def _judge_unanswered(order: Order, lookups: tuple[int, ...], at_ms: int, limits: ReconcileLimits) -> list[AnyFact]:
    """Non-arrival: two empty lookups well apart, both begun when the request could no longer arrive."""
    assert order.unanswered_submit is not None
    conclusive = [begun_ms for begun_ms in lookups if begun_ms > order.unanswered_submit.provable_from_ms]
    if not conclusive or conclusive[-1] - conclusive[0] < limits.between_lookups_ms:
        return []
    if _is_past_retention(order, conclusive[0], limits):
        # it may have arrived, ended unfilled, and be shown no longer: it is over, and nothing proves that it never was
        return [_aged_out(order, at_ms)]
    if order.unanswered_submit.is_duplicate_id:  # the order that has the id is too old to be shown: it is not ours
        return [_refused_as_used(order, at_ms)]
    return [
        NonArrivalProved(client_order_id=order.client_order_id, reason=NEVER_ARRIVED, at_ms=at_ms, origin="reconcile")
    ]


def _is_past_retention(order: Order, begun_ms: int, limits: ReconcileLimits) -> bool:
    """True when the venue has stopped showing what the request could have become: an order that ended unfilled."""
    sent_ms = order.sent_ms if order.sent_ms is not None else order.created_ms
    return begun_ms - sent_ms >= limits.unfilled_retention_ms


def _aged_out(order: Order, at_ms: int) -> AgedOut:
    return AgedOut(
        client_order_id=order.client_order_id,
        broker_order_id=order.broker_order_id,
        at_ms=at_ms,
        origin="reconcile",
    )


def _refused_as_used(order: Order, at_ms: int) -> SubmitRefused:
    return SubmitRefused(client_order_id=order.client_order_id, reason=ID_ALREADY_USED, at_ms=at_ms, origin="reconcile")


def _judge_absent(
    order: Order, lookups: tuple[int, ...], answer: LookupResult, at_ms: int, limits: ReconcileLimits
) -> list[AnyFact]:
    """An order the venue once had: lost after two empty rounds, aged out once its closed row cannot be shown."""
    if len(lookups) < 2:
        return []
    last_seen_ms = max(order.terms.as_of_ms, order.terms.updated_ms, order.sent_ms or 0)
    last_seen_ms = last_seen_ms or order.created_ms
    is_past_retention = answer.begun_ms - last_seen_ms >= limits.unfilled_retention_ms
    if is_past_retention and order.cum_quantity == 0:
        return [_aged_out(order, at_ms)]
    return _status_unknown(
        order, lookups, at_ms, "in no open list, and realtime, history and executions do not know it"
    )


def _status_unknown(order: Order, lookups: tuple[int, ...], at_ms: int, reason: str) -> list[AnyFact]:
    if order.is_status_unknown:
        return []
    return [
        StatusBecameUnknown(
            client_order_id=order.client_order_id,
            broker_order_id=order.broker_order_id,
            since_ms=lookups[0],
            reason=reason,
            at_ms=at_ms,
            origin="reconcile",
        )
    ]


def _release_if_due(order: Order, answer: LookupResult, at_ms: int, hold_ms: int) -> list[AnyFact]:
    if order.is_terminal_published or answer.held_ms < hold_ms:
        return []
    return [
        TerminalReleased(
            client_order_id=order.client_order_id,
            broker_order_id=order.broker_order_id,
            at_ms=at_ms,
            origin="reconcile",
        )
    ]


def settled_requests(ledger: Ledger, orders: Read[OrderReport], *, at_ms: int) -> list[AnyFact]:
    """Unanswered cancels and amends, of orders that still stand unchanged after they could have arrived (S11)."""
    standing = {row.broker_order_id for row in orders.rows}
    facts: list[AnyFact] = []
    for order in ledger.open_orders():
        if order.broker_order_id not in standing:
            continue
        if order.cancel is not None and order.cancel.unanswered and orders.begun_ms > order.cancel.provable_from_ms:
            facts.append(
                CancelRefused(
                    broker_order_id=order.broker_order_id, reason=NEVER_ARRIVED, at_ms=at_ms, origin="reconcile"
                )
            )
        if order.modify is not None and order.modify.unanswered and orders.begun_ms > order.modify.provable_from_ms:
            facts.append(
                ModifyRefused(
                    broker_order_id=order.broker_order_id, reason=NEVER_ARRIVED, at_ms=at_ms, origin="reconcile"
                )
            )
    return facts


def is_conditional(order: Order) -> bool:
    """True when the venue may list the order under another order filter than plain orders."""
    conditional_types = (OrderType.STOP, OrderType.STOP_LIMIT, OrderType.IF_TOUCHED)
    return order.order_type in conditional_types or order.order_filter not in ("", "Order")
