"""Requests about an order that are not settled: a cancel, an amend, or one of each.

A request is begun before it is sent. It then becomes unanswered, is refused, is withdrawn because it never left, is met
by the venue's rows, or fails because the order ended first. Pure: each function changes the draft it is given.
"""

from __future__ import annotations

import attrs

from qkt.model.order_report import OrderReport
from qkt.orders.facts import (
    CancelIntended,
    ModifyIntended,
    RequestKind,
    RequestRefused,
    RequestUnanswered,
    RequestWithdrawn,
)
from qkt.orders.news import News
from qkt.orders.order import CancelIntent, ModifyIntent, OrderDraft, Terms

RequestFact = CancelIntended | ModifyIntended | RequestUnanswered | RequestRefused | RequestWithdrawn


def join_request(order: OrderDraft, fact: RequestFact, news: News) -> None:
    """What became of a cancel or an amend."""
    match fact:
        case CancelIntended():
            if order.terminal is None:
                order.cancel = CancelIntent(sent_ms=fact.sent_ms, is_remembered=fact.is_remembered)
            elif not fact.is_again:
                news.cancel_failed = _too_late(order)
        case ModifyIntended():
            if order.terminal is None:
                order.modify = ModifyIntent(changes=fact.changes, sent_ms=fact.sent_ms)
            else:
                news.modify_failed = _too_late(order)
        case RequestUnanswered():
            intent = getattr(order, fact.request)
            if intent is not None:
                asked = attrs.evolve(intent, unanswered=fact.reason, provable_from_ms=fact.provable_from_ms)
                setattr(order, fact.request, asked)
        case RequestRefused():
            fail(order, fact.request, fact.reason, news)
        case RequestWithdrawn():
            setattr(order, fact.request, None)


def fail(order: OrderDraft, request: RequestKind, reason: str, news: News) -> None:
    """The request came to nothing. Told once per intent: the intent is gone afterwards."""
    if getattr(order, request) is None:
        return
    setattr(order, request, None)
    setattr(news, f"{request}_failed", reason)


def settle_requests(order: OrderDraft, news: News) -> None:
    """Compare pending requests with what a row taught: terms that meet an amend, a refusal of a request."""
    if news.changed_from is not None:
        news.modified = _reason_of_change(order, news.changed_from, is_first_version=news.is_first_version)
    modify = order.modify
    is_shown = news.are_terms_confirmed or news.changed_from is not None
    if modify is not None and is_shown and modify.is_met_by(order.terms) and modify.is_shown_by(order.details):
        if news.changed_from is None and modify.changes_exits:
            news.modified = ""  # the row shows the exits that were asked for, beside terms that stayed
        order.modify = None
    if news.refusal is not None:
        _join_refusal(order, news.refusal, news)


def _reason_of_change(order: OrderDraft, known: Terms, *, is_first_version: bool) -> str:
    """ "" for an amend of ours that is done; otherwise what changed the terms."""
    if order.modify is not None and order.modify.is_met_by(order.terms):
        return ""
    if is_first_version and not (known.updated_ms or order.external) and known.quantity == order.terms.quantity:
        return "venue moved price"  # into its band, before any amend can have arrived (S92)
    return "changed at the venue"


def _join_refusal(order: OrderDraft, report: OrderReport, news: News) -> None:
    """A row of an open or filled order may report that a request about it was refused."""
    if order.terminal is not None:
        return  # the terminal itself settles what was asked for
    request: RequestKind = "cancel" if report.refuses_cancel or order.modify is None else "modify"
    intent: CancelIntent | ModifyIntent | None = getattr(order, request)
    if intent is not None and report.updated_ms >= intent.sent_ms:
        fail(order, request, report.refusal_reason, news)


def _too_late(order: OrderDraft) -> str:
    assert order.terminal is not None
    return f"the order ended before: {order.terminal.kind.name}"
