"""Cancels and amends that are not settled: what begins them, what ends them, and that each failure is told once."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest

from qkt.events import OrderCancelFailed, OrderModifyFailed
from qkt.model.orders import OrderModification
from qkt.orders.facts import (
    CancelIntended,
    CancelRefused,
    CancelUnanswered,
    CancelWithdrawn,
    ModifyIntended,
    ModifyRefused,
    ModifyUnanswered,
    ModifyWithdrawn,
)
from qkt.orders.machine import apply
from qkt.orders.order import Order
from qkt.orders.report_rules import new_order
from qkt.testing.builders import acknowledged, order_reported, submit_intended

D = Decimal
IDS: Any = {"client_order_id": "c1"}
CANCEL = CancelIntended(**IDS, sent_ms=50)
MODIFY = ModifyIntended(**IDS, changes=OrderModification(new_limit_price=D(90)), sent_ms=50)


def reasons(events: Iterable[Any]) -> list[tuple[type[Any], str]]:
    return [(type(event), event.reason) for event in events]


def after(*facts: Any) -> Order:
    """A standing order after some more facts."""
    order = new_order(submit_intended("c1"))
    for fact in (acknowledged(), order_reported("New", updated_ms=10), *facts):
        order, _ = apply(order, fact)
    return order


def refusal(*, of_cancel: bool = False, updated_ms: int = 60) -> Any:
    return order_reported(refusal_reason="too late", refuses_cancel=of_cancel, updated_ms=updated_ms)


@pytest.mark.parametrize(
    ("intent", "silence", "name"),
    [
        (CANCEL, CancelUnanswered(**IDS, reason="?", provable_from_ms=9), "cancel"),
        (MODIFY, ModifyUnanswered(**IDS, reason="?", provable_from_ms=9), "modify"),
    ],
)
def test_silence_is_remembered_with_the_request_if_there_is_one(intent: Any, silence: Any, name: str) -> None:
    pending = getattr(after(intent, silence), name)
    assert (pending.unanswered, pending.provable_from_ms, pending.sent_ms) == ("?", 9, 50)
    assert getattr(after(silence), name) is None


@pytest.mark.parametrize(
    ("intent", "withdrawn", "name"),
    [(CANCEL, CancelWithdrawn(**IDS), "cancel"), (MODIFY, ModifyWithdrawn(**IDS), "modify")],
)
def test_a_request_that_never_left_is_forgotten_and_nothing_is_told(intent: Any, withdrawn: Any, name: str) -> None:
    order = after(intent)
    assert getattr(order, name) is not None
    order, events = apply(order, withdrawn)
    assert (getattr(order, name), events) == (None, ())


@pytest.mark.parametrize(
    ("intent", "refused", "failure"),
    [
        (CANCEL, CancelRefused(**IDS, reason="no"), OrderCancelFailed),
        (MODIFY, ModifyRefused(**IDS, reason="no"), OrderModifyFailed),
    ],
)
def test_a_refused_request_is_told_once(intent: Any, refused: Any, failure: type[Any]) -> None:
    order, events = apply(after(intent), refused)
    assert reasons(events) == [(failure, "no")]
    assert apply(order, refused) == (order, ())


@pytest.mark.parametrize(
    ("intents", "of_cancel", "failure"),
    [
        ([CANCEL], True, OrderCancelFailed),
        ([CANCEL], False, OrderCancelFailed),
        ([MODIFY], False, OrderModifyFailed),
        ([CANCEL, MODIFY], True, OrderCancelFailed),
        ([CANCEL, MODIFY], False, OrderModifyFailed),
    ],
)
def test_a_row_that_refuses_a_request_fails_the_one_it_means(
    intents: list[Any], of_cancel: bool, failure: type[Any]
) -> None:
    order, events = apply(after(*intents), refusal(of_cancel=of_cancel))
    assert reasons(events) == [(failure, "too late")]
    left = {name for name in ("cancel", "modify") if getattr(order, name) is not None}
    assert len(left) == len(intents) - 1


def test_a_refusal_from_before_the_request_is_about_another_one() -> None:
    assert apply(after(CANCEL), refusal(of_cancel=True, updated_ms=49))[1] == ()
    assert len(apply(after(CANCEL), refusal(of_cancel=True, updated_ms=50))[1]) == 1


def test_a_refusal_without_a_request_is_nothing() -> None:
    assert apply(after(), refusal(of_cancel=True))[1] == ()
    assert apply(after(MODIFY), refusal(of_cancel=True))[1] == ()


def test_an_end_settles_what_was_asked_for_and_a_refusal_on_it_tells_no_more() -> None:
    order = after(CANCEL, MODIFY)
    filled = order_reported("Filled", updated_ms=70, refusal_reason="too late", refuses_cancel=True)
    order, events = apply(order, filled)
    told = [type(event).__name__ for event in events]
    assert told == ["OrderModifyFailed", "OrderCancelFailed", "OrderFilled"]
    assert (order.cancel, order.modify) == (None, None)


def test_a_cancel_that_is_answered_by_the_end_has_not_failed() -> None:
    _, events = apply(after(CANCEL), order_reported("Cancelled", updated_ms=70))
    assert [type(event).__name__ for event in events] == ["OrderCancelled"]


def test_an_amend_is_done_when_the_terms_show_all_it_asked_for() -> None:
    both = ModifyIntended(**IDS, changes=OrderModification(new_quantity=D(3), new_limit_price=D(90)), sent_ms=50)
    half = order_reported(updated_ms=60, limit_price=D(90))
    assert after(both, half).modify is not None
    assert after(both, half, order_reported(updated_ms=70, limit_price=D(90), quantity=D(3))).modify is None


@pytest.mark.parametrize(("intent", "failure"), [(CANCEL, OrderCancelFailed), (MODIFY, OrderModifyFailed)])
def test_a_request_after_the_end_fails_at_once(intent: Any, failure: type[Any]) -> None:
    _, events = apply(after(order_reported("Cancelled", updated_ms=40)), intent)
    assert reasons(events) == [(failure, "the order ended before: CANCELLED")]
