"""Facts about an order in plain words, for audits and explanations. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from decimal import Decimal

from qkt.model.orders import OrderModification, OrderRequest
from qkt.orders.facts import (
    AboutOrder,
    AgedOut,
    AnyFact,
    CancelIntended,
    CancelRefused,
    CancelUnanswered,
    CancelWithdrawn,
    ExecutionReported,
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
from qkt.plain import decimal_text

_SECOND_MS, _MINUTE_MS, _HOUR_MS = 1_000, 60_000, 3_600_000

_SENTENCES: dict[type[AboutOrder], str] = {
    SubmitAcknowledged: "the venue has the order request",
    SubmitRefused: "the venue refused the order",
    SubmitUnanswered: "no definite answer to the order request",
    SubmitWithdrawn: "the order request was not sent",
    NonArrivalProved: "the order request provably never arrived",
    CancelUnanswered: "no definite answer to the cancel",
    CancelRefused: "the cancel failed",
    CancelWithdrawn: "the cancel was not sent",
    ModifyUnanswered: "no definite answer to the amend",
    ModifyRefused: "the amend failed",
    ModifyWithdrawn: "the amend was not sent",
    LookupFoundNothing: "asked realtime, history and executions by id: none knows it",
    StatusBecameUnknown: "two rounds could not tell what became of it",
    AgedOut: "in no complete read, and a closed order's retention at the venue has passed",
    TerminalReleased: "the executions still missing did not come: the end is reported without them",
}
_WITH_REASON = (SubmitRefused, SubmitUnanswered, CancelUnanswered, CancelRefused, ModifyUnanswered, ModifyRefused)


def fact_words(fact: AnyFact) -> str:
    """What a fact says, in a clause."""
    match fact:
        case SubmitIntended():
            return f"about to send {request_words(fact.request)}"
        case CancelIntended():
            if fact.is_remembered:
                return "cancel asked for; it is sent when the order appears"
            return "about to send the cancel that waited" if fact.is_again else "about to send a cancel"
        case ModifyIntended():
            return f"about to send an amend: {changes_words(fact.changes)}"
        case OrderReported():
            report = fact.report
            reason = report.refusal_reason or report.reason
            detail = f" reason={reason}" if reason else ""
            return f"order row {report.venue_status} cum={decimal_text(report.cum_quantity)}{detail}"
        case ExecutionReported():
            execution = fact.execution
            told = f"{decimal_text(execution.quantity)} @ {decimal_text(execution.price)}"
            return f"execution {execution.exec_id} {told}"
        case _:
            reason = fact.reason if isinstance(fact, _WITH_REASON) else ""
            return _SENTENCES[type(fact)] + (f" ({reason})" if reason else "")


def request_words(request: OrderRequest) -> str:
    """``LIMIT BUY 0.001 @ 60000 GTC``."""
    parts = [request.order_type.name, request.side.name, decimal_text(request.quantity)]
    for name, mark in (("limit_price", "@"), ("stop_price", "stop"), ("trigger_price", "trigger")):
        price = getattr(request, name, None)
        if isinstance(price, Decimal):
            parts += [mark, decimal_text(price)]
    return " ".join([*parts, request.time_in_force.name, *(["reduce-only"] if request.reduce_only else [])])


def changes_words(changes: OrderModification) -> str:
    """``limit price 59000, quantity 2``."""
    named = (
        ("quantity", changes.new_quantity),
        ("limit price", changes.new_limit_price),
        ("stop price", changes.new_stop_price),
    )
    return ", ".join(f"{name} {decimal_text(value)}" for name, value in named if value is not None) or "other terms"


def delta_words(milliseconds: int) -> str:
    """``+840 ms``, ``+12.3 s``, ``+5 min 10 s``, ``+3 h 2 min``."""
    sign, rest = ("-", -milliseconds) if milliseconds < 0 else ("+", milliseconds)
    if rest < _SECOND_MS:
        return f"{sign}{rest} ms"
    if rest < _MINUTE_MS:
        return f"{sign}{rest / _SECOND_MS:.1f} s"
    if rest < _HOUR_MS:
        return f"{sign}{rest // _MINUTE_MS} min {rest % _MINUTE_MS // _SECOND_MS} s"
    return f"{sign}{rest // _HOUR_MS} h {rest % _HOUR_MS // _MINUTE_MS} min"


def moment_words(at_ms: int, zone: tzinfo | None = UTC) -> str:
    """``2026-11-25 02:25:07.828``, in UTC or in ``zone`` (None is the machine's own)."""
    try:
        moment = datetime.fromtimestamp(at_ms // 1_000, UTC).astimezone(zone)
    except (OverflowError, OSError, ValueError):
        return f"{at_ms} ms"
    return f"{moment:%Y-%m-%d %H:%M:%S}.{at_ms % 1_000:03}"
