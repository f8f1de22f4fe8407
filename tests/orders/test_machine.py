"""One order and its facts: what each rule of the state machine lets an order believe and tell."""

from __future__ import annotations

from decimal import Decimal, getcontext, localcontext
from itertools import permutations
from typing import Any

import pytest

from qkt.events import OrderAccepted, OrderEvent, OrderFilled, OrderModified, OrderPartiallyFilled, OrderRejected
from qkt.model.orders import MarketOrder, OrderDetails, OrderModification, OrderStatus, OrderType, Side
from qkt.orders.facts import (
    AgedOut,
    AnyFact,
    CancelIntended,
    ModifyIntended,
    NonArrivalProved,
    SubmitIntended,
    SubmitRefused,
    SubmitUnanswered,
)
from qkt.orders.ledger import Ledger
from qkt.orders.order import Order
from qkt.testing.builders import SYMBOL, acknowledged, execution_reported, order_reported, submit_intended

D = Decimal
T0 = 1_700_000_000_000


class Book:
    """A ledger, and the words it told."""

    def __init__(self, *facts: AnyFact) -> None:
        self.ledger = Ledger()
        self.events: list[OrderEvent] = []
        self.learn(*facts)

    def learn(self, *facts: AnyFact) -> list[str]:
        events = [event for fact in facts for change in self.ledger.apply(fact) for event in change.events]
        self.events += events
        return [type(event).__name__ for event in events]

    def order(self, client_order_id: str = "c1") -> Order:
        order = self.ledger.get(client_order_id)
        assert order is not None
        return order

    @property
    def told(self) -> list[str]:
        return [type(event).__name__ for event in self.events]

    def last(self, kind: type[Any]) -> Any:
        return [event for event in self.events if type(event) is kind][-1]


def standing(**changes: Any) -> Book:
    """Our order of 2 at 100, acknowledged and shown."""
    return Book(
        submit_intended("c1", quantity=D(2), sent_ms=T0, **changes),
        acknowledged("c1", "b1"),
        row("New", updated_ms=T0 + 10),
    )


def row(status: str = "New", cum: str | int = 0, **changes: Any) -> AnyFact:
    told = {"quantity": D(2), "created_ms": T0 + 10, "updated_ms": T0 + 10, "as_of_ms": T0 + 20, **changes}
    return order_reported(status, cum, **told)


def fill(exec_id: str, quantity: str | int, **changes: Any) -> AnyFact:
    told = {
        "of": 2,
        "leaves": 1,
        "exec_time_ms": T0 + 30,
        "order_price": D(100),
        "order_type": OrderType.LIMIT,
        **changes,
    }
    return execution_reported(exec_id, quantity, **told)


# Completion.


def test_an_execution_that_prints_leaves_does_not_complete_its_order() -> None:
    book = standing()
    assert book.learn(fill("e1", 2, leaves=1)) == ["OrderPartiallyFilled"]
    assert book.order().is_open


def test_an_execution_completes_nothing_while_the_venue_reports_more() -> None:
    book = standing()
    book.learn(row("PartiallyFilled", 3, quantity=D(4), updated_ms=T0 + 40))
    assert book.learn(fill("e1", 2, leaves=0)) == ["OrderPartiallyFilled"]


def test_the_size_of_an_older_execution_completes_nothing() -> None:
    """An amend between the two made the older one's size stale."""
    book = standing()
    book.learn(fill("e2", 1, of=4, leaves=2, exec_time_ms=T0 + 50))
    assert book.learn(fill("e1", 1, of=2, leaves=0, exec_time_ms=T0 + 40)) == ["OrderPartiallyFilled"]


def test_a_fill_counts_once_however_often_it_comes() -> None:
    book = standing()
    book.learn(fill("e1", 1))
    before = book.order()
    assert book.learn(fill("e1", 1), fill("e1", 1)) == []
    assert book.order() is before


@pytest.mark.parametrize("arrival", list(permutations(range(4))))
def test_any_order_of_arrival_ends_in_the_same_view(arrival: tuple[int, ...]) -> None:
    facts = [
        row("New", updated_ms=T0 + 10),
        fill("e1", 1, exec_time_ms=T0 + 30),
        fill("e2", 1, leaves=0, exec_time_ms=T0 + 40),
        row("Filled", 2, updated_ms=T0 + 40),
    ]
    book = Book(submit_intended("c1", quantity=D(2), sent_ms=T0), acknowledged())
    book.learn(*(facts[number] for number in arrival))
    view = book.order().view()
    assert (view.status, view.cum_quantity, view.venue_status, view.leaves_quantity) == (
        OrderStatus.FILLED,
        D(2),
        "Filled",
        D(0),
    )
    assert sorted(book.told) == sorted(["OrderAccepted", "OrderPartiallyFilled", "OrderFilled"]) or (
        book.told.count("OrderPartiallyFilled") == 2 and book.told[-1] == "OrderFilled"
    )


# Terms.


def test_a_row_that_is_behind_on_the_cumulative_quantity_changes_no_terms() -> None:
    book = standing()
    book.learn(row("PartiallyFilled", 1, updated_ms=T0 + 40))
    assert book.learn(row("New", 0, limit_price=D(90), updated_ms=T0 + 50)) == []
    assert book.order().terms.limit_price == 100


def test_other_terms_under_one_version_are_a_question_and_change_nothing() -> None:
    book = standing()
    assert book.learn(row("New", limit_price=D(90))) == []
    assert (book.order().terms.limit_price, book.order().has_terms_conflict) == (D(100), True)


def test_the_question_ends_with_the_next_version() -> None:
    book = standing()
    book.learn(row("New", limit_price=D(90)), row("New", limit_price=D(90), updated_ms=T0 + 60))
    assert (book.order().terms.limit_price, book.order().has_terms_conflict) == (D(90), False)


def test_a_row_of_the_same_version_is_not_stale() -> None:
    book = standing()
    book.learn(row("PartiallyFilled", 1, updated_ms=T0 + 10))
    assert book.order().venue_status == "PartiallyFilled"


def test_an_amend_heard_with_its_fill_is_told_with_the_price_the_venue_had() -> None:
    """The execution comes before the row and prints both terms: no mixture of old and new is told (M10)."""
    book = standing()
    book.learn(fill("e1", 3, of=3, leaves=0, order_price=D(101), exec_time_ms=T0 + 50))
    modified = book.last(OrderModified)
    assert (modified.new_quantity, modified.new_limit_price) == (D(3), D(101))


def test_a_size_without_its_price_is_told_to_nobody_and_a_final_row_corrects_it() -> None:
    book = standing()
    assert book.learn(fill("e1", 3, of=3, leaves=0, order_price=None)) == ["OrderFilled"]
    assert book.learn(row("Filled", 3, quantity=D(3), limit_price=D(101), updated_ms=T0 + 50)) == []
    assert (book.order().view().quantity, book.order().view().limit_price) == (D(3), D(101))


def test_our_amend_explains_a_size_that_an_execution_prints_alone() -> None:
    book = standing()
    changes = OrderModification(new_quantity=D(3), new_limit_price=D(101))
    book.learn(ModifyIntended(client_order_id="c1", changes=changes, sent_ms=T0 + 30))
    book.learn(fill("e1", 3, of=3, leaves=0, order_price=None, exec_time_ms=T0 + 50))
    assert (book.last(OrderModified).new_limit_price, book.last(OrderModified).reason) == (D(101), "")
    assert "OrderModifyFailed" not in book.told


def test_a_price_the_venue_moved_into_its_band_is_told_so() -> None:
    book = Book(submit_intended("c1", quantity=D(2), sent_ms=T0), acknowledged())
    book.learn(row("New", limit_price=D(99)))
    assert book.last(OrderModified).reason == "venue moved price"


@pytest.mark.parametrize("changes", [{"updated_ms": T0 + 60_000}, {"quantity": D(3)}])
def test_an_amend_made_elsewhere_before_any_row_is_not_blamed_on_the_venue(changes: dict[str, Any]) -> None:
    book = Book(submit_intended("c1", quantity=D(2), sent_ms=T0), acknowledged())
    book.learn(row("New", limit_price=D(99), **{"as_of_ms": T0 + 60_000, **changes}))
    assert book.last(OrderModified).reason == "changed at the venue"


def test_the_first_final_row_has_the_last_word_about_the_terms() -> None:
    book = standing()
    book.learn(row("Cancelled", updated_ms=T0 + 40, limit_price=D(95)))
    book.learn(
        row("Cancelled", updated_ms=T0 + 50, limit_price=D(90)), row("New", updated_ms=T0 + 60, limit_price=D(80))
    )
    assert book.order().terms.limit_price == 95


# Dates.


@pytest.mark.parametrize("as_of_ms", [T0 + 1_000, 0, 1_000 * T0])
def test_a_row_dated_in_the_future_counts_as_now(as_of_ms: int) -> None:
    book = standing()
    at_ms = T0 + 1_000
    book.learn(row("New", limit_price=D(90), updated_ms=1_000 * T0, as_of_ms=as_of_ms, at_ms=at_ms))
    book.learn(row("New", limit_price=D(95), updated_ms=T0 + 9_000, as_of_ms=T0 + 9_000, at_ms=T0 + 9_000))
    assert book.order().terms.limit_price == 95


def test_a_row_dated_a_moment_ahead_keeps_its_date() -> None:
    book = standing()
    book.learn(row("New", limit_price=D(90), updated_ms=T0 + 4_000, as_of_ms=T0 + 1_000))
    assert book.order().terms.updated_ms == T0 + 4_000


# Quote-sized orders.


def quote_sized(side: Side) -> Book:
    request = MarketOrder(symbol=SYMBOL, side=side, quantity=D(300), quote_sized=True)
    return Book(SubmitIntended(client_order_id="c1", request=request, sent_ms=T0), acknowledged())


def remainder(side: Side) -> AnyFact:
    return row(
        "PartiallyFilledCanceled",
        1,
        side=side,
        order_type=OrderType.MARKET,
        quantity=D(300),
        reason="the rest is too small",
        is_remainder_cancelled=True,
    )


@pytest.mark.parametrize(("side", "end"), [(Side.BUY, "OrderFilled"), (Side.SELL, "OrderCancelled")])
def test_only_a_buy_sized_in_quote_is_filled_when_its_remainder_is_cancelled(side: Side, end: str) -> None:
    book = quote_sized(side)
    book.learn(fill("e1", 1, side=side, of=None, leaves=None, order_price=None), remainder(side))
    assert book.told[-1] == end


def test_an_adopted_buy_sized_in_quote_tells_no_leaves_in_the_wrong_unit() -> None:
    """The execution comes before the row and does not say the unit of the size it prints (B10)."""
    book = Book()
    book.learn(
        execution_reported(
            "e1",
            "0.005",
            of=300,
            leaves=None,
            order_type=OrderType.MARKET,
            may_be_quote_sized=True,
            client_order_id="x",
        )
    )
    assert (book.last(OrderPartiallyFilled).leaves_quantity, book.order("x").terms.quantity) == (None, None)
    book.learn(
        row("Filled", "0.005", order_type=OrderType.MARKET, quote_sized=True, quantity=D(300), client_order_id="x")
    )
    view = book.order("x").view()
    assert (view.quantity, view.quote_sized, view.leaves_quantity, view.status) == (
        D(300),
        True,
        None,
        OrderStatus.FILLED,
    )


def test_an_external_order_filled_at_once_gets_its_terms_from_the_row_that_follows() -> None:
    book = Book(fill("e1", 2, leaves=0, order_price=None, client_order_id="x", order_type=OrderType.UNKNOWN))
    book.learn(row("Filled", 2, client_order_id="x", limit_price=D(101), updated_ms=T0 + 30))
    view = book.order("x").view()
    assert (view.limit_price, view.time_in_force, view.order_type) == (D(101), "GTC", OrderType.LIMIT)


# Ends that were none.


def test_a_refused_order_that_stands_is_managed_again() -> None:
    book = Book(submit_intended("c1", quantity=D(2), sent_ms=T0), SubmitRefused(client_order_id="c1", reason="170131"))
    assert book.learn(row("New", origin="reconcile")) == ["OrderAccepted"]
    assert book.learn(fill("e1", 1)) == ["OrderPartiallyFilled"]
    assert [order.client_order_id for order in book.ledger.open_orders()] == ["c1"]


def test_a_fill_alone_shows_that_a_refused_order_stands() -> None:
    book = Book(submit_intended("c1", quantity=D(2), sent_ms=T0), SubmitRefused(client_order_id="c1", reason="170131"))
    assert book.learn(fill("e1", 1)) == ["OrderAccepted", "OrderPartiallyFilled"]


@pytest.mark.parametrize("changes", [{"exec_time_ms": T0 - 60_000}, {"of": 7}])
def test_a_fill_of_an_older_order_with_the_id_of_a_refused_one_is_not_ours(changes: dict[str, Any]) -> None:
    book = Book(submit_intended("c1", quantity=D(2), sent_ms=T0), SubmitRefused(client_order_id="c1", reason="170131"))
    book.learn(fill("e1", 1, **changes))
    assert (book.order().view_status, len(book.ledger)) == (OrderStatus.REJECTED, 2)


def test_a_row_about_the_refusal_itself_revives_nothing() -> None:
    book = Book(submit_intended("c1", quantity=D(2), sent_ms=T0), SubmitRefused(client_order_id="c1", reason="170131"))
    assert book.learn(row("Rejected")) == []
    assert book.told == ["OrderRejected"]


def test_an_aged_out_order_that_is_listed_again_is_managed_again() -> None:
    book = standing()
    book.learn(AgedOut(client_order_id="c1"))
    assert not book.order().is_open
    book.learn(row("New", updated_ms=T0 + 90))
    assert book.order().is_open


def test_an_acknowledged_order_that_ages_out_unseen_was_accepted_first() -> None:
    book = Book(submit_intended("c1", sent_ms=T0), acknowledged())
    assert book.learn(AgedOut(client_order_id="c1")) == ["OrderAccepted", "OrderCancelled"]


def test_an_unanswered_submit_that_ages_out_was_never_accepted() -> None:
    book = Book(
        submit_intended("c1", sent_ms=T0), SubmitUnanswered(client_order_id="c1", reason="timeout", provable_from_ms=T0)
    )
    assert book.learn(AgedOut(client_order_id="c1")) == ["OrderRejected"]
    assert (book.order().view_status, book.order().view().reason) == (OrderStatus.REJECTED, "aged_out")


def test_an_unanswered_submit_that_aged_out_and_is_shown_later_was_ours() -> None:
    book = Book(
        submit_intended("c1", sent_ms=T0), SubmitUnanswered(client_order_id="c1", reason="timeout", provable_from_ms=T0)
    )
    book.learn(AgedOut(client_order_id="c1"))
    told = book.learn(row("Cancelled"))
    assert (told[0], told[-1], len(book.ledger)) == ("OrderAccepted", "OrderCancelled", 1)


def test_silence_after_evidence_raises_no_doubt() -> None:
    book = standing()
    book.learn(SubmitUnanswered(client_order_id="c1", reason="?", provable_from_ms=1))
    assert not book.order().is_unresolved


def test_a_lost_submit_that_shows_itself_rises_again() -> None:
    book = Book(submit_intended("c1", quantity=D(2), sent_ms=T0))
    book.learn(SubmitUnanswered(client_order_id="c1", reason="?", provable_from_ms=1))
    book.learn(NonArrivalProved(client_order_id="c1"))
    assert book.learn(row("New")) == ["OrderAccepted"]
    assert [type(event) for event in book.events] == [OrderRejected, OrderAccepted]


def test_a_cancel_after_the_end_fails_once_and_a_repeated_one_says_nothing() -> None:
    book = standing()
    book.learn(row("Cancelled", updated_ms=T0 + 40))
    assert book.learn(CancelIntended(client_order_id="c1")) == ["OrderCancelFailed"]
    assert book.learn(CancelIntended(client_order_id="c1", is_again=True)) == []


# Arithmetic.


@pytest.mark.parametrize("digits", [3, 6, 8])
def test_the_decimal_context_of_the_calling_thread_changes_no_sum(digits: int) -> None:
    with localcontext() as context:
        context.prec = digits
        book = Book(submit_intended("c1", quantity=D("2469134.25"), sent_ms=T0), acknowledged())
        book.learn(fill("e1", "1234567.25", of="2469134.25"), fill("e2", "1234567.00", of="2469134.25", leaves=0))
        filled = book.last(OrderFilled)
        assert (filled.cum_quantity, filled.leaves_quantity) == (D("2469134.25"), D(0))
        assert (book.order().view().cum_quantity, book.order().view().missing_quantity) == (D("2469134.25"), D(0))
        assert book.order().view().avg_price == 100
    assert getcontext().prec != digits


def test_an_amend_of_the_exits_alone_is_done_when_the_row_shows_them() -> None:
    ledger = Ledger()
    ledger.apply(submit_intended("c1", stop_loss=Decimal(80)))
    ledger.apply(acknowledged("c1", "b1"))
    before = OrderDetails(stop_loss=Decimal(80))
    ledger.apply(order_reported("New", details=before, updated_ms=1))
    ledger.apply(
        ModifyIntended(client_order_id="c1", changes=OrderModification(new_stop_loss=Decimal(85)), sent_ms=2, at_ms=2)
    )

    (old,) = ledger.apply(order_reported("New", details=before, updated_ms=1, as_of_ms=3))
    (new,) = ledger.apply(order_reported("New", details=OrderDetails(stop_loss=Decimal(85)), updated_ms=4))

    assert [type(event).__name__ for event in old.events] == []
    assert [type(event).__name__ for event in new.events] == ["OrderModified"]
    assert new.after.modify is None
