"""What the joined state of an order lets be told, and in which order."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from qkt.events import OrderEvent, OrderFilled, OrderStatusUnknown
from qkt.model.orders import Side
from qkt.orders.facts import StatusBecameUnknown, TerminalReleased
from qkt.orders.ledger import Ledger
from qkt.testing.builders import acknowledged, execution_reported, order_reported, submit_intended

D = Decimal
IDS: Any = {"client_order_id": "c1"}


def events_of(*facts: Any) -> list[OrderEvent]:
    ledger = Ledger()
    ledger.apply(submit_intended("c1", quantity=D(2)))
    ledger.apply(acknowledged())
    return [event for fact in facts for change in ledger.apply(fact) for event in change.events]


def words(*facts: Any) -> list[str]:
    return [type(event).__name__ for event in events_of(*facts)]


def test_the_fill_that_a_held_cancel_waited_for_is_told_before_the_end() -> None:
    cancelled = order_reported("Cancelled", 1, quantity=D(2), updated_ms=5)
    assert words(cancelled, execution_reported("e1", 1, of=2, leaves=1)) == [
        "OrderAccepted",
        "OrderPartiallyFilled",
        "OrderCancelled",
    ]


def test_a_cancel_without_fills_is_told_at_once() -> None:
    assert words(order_reported("Cancelled", quantity=D(2), updated_ms=5)) == ["OrderAccepted", "OrderCancelled"]


def test_completion_that_is_learnt_after_the_last_fill_is_told_without_an_execution() -> None:
    fills = [execution_reported(f"e{n}", 1, of=None, price=D(100 + n)) for n in range(2)]
    filled = events_of(*fills, order_reported("Filled", 2, quantity=D(2), updated_ms=5))[-1]
    assert isinstance(filled, OrderFilled)
    assert (filled.exec_id, filled.quantity, filled.cum_quantity, filled.price) == ("", D(0), D(2), D("100.5"))
    assert (filled.leaves_quantity, filled.side, filled.late) == (D(0), Side.BUY, False)


def test_a_sell_is_told_as_a_sell() -> None:
    ledger = Ledger()
    ledger.apply(order_reported("Filled", 1, side=Side.SELL, updated_ms=5))
    events = [event for change in ledger.apply(TerminalReleased(**IDS)) for event in change.events]
    (filled,) = (event for event in events if isinstance(event, OrderFilled))
    assert (filled.side, filled.price, filled.cum_quantity) == (Side.SELL, D(0), D(1))


def test_an_unknown_status_is_told_once_with_its_reason() -> None:
    unknown = StatusBecameUnknown(**IDS, since_ms=7, reason="nothing knows it")
    told = events_of(order_reported("New", updated_ms=5), unknown, unknown)
    assert [(event.since_ms, event.reason) for event in told if isinstance(event, OrderStatusUnknown)] == [
        (7, "nothing knows it")
    ]


def test_an_end_answers_the_question_about_the_terms() -> None:
    ledger = Ledger()
    ledger.apply(submit_intended("c1"))
    for fact in (
        order_reported("New", updated_ms=5),
        order_reported("New", updated_ms=5, limit_price=D(90)),
        order_reported("Cancelled", updated_ms=5),
    ):
        ledger.apply(fact)
    order = ledger.get("c1")
    assert order is not None
    assert not order.has_terms_conflict
