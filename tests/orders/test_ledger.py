"""The books: whose a row is, what waits for an answer and how long, and that a change is whole or nothing."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qkt.errors import InvalidRequestError
from qkt.model.orders import Side
from qkt.orders.deferred import DEFERRED_AT_MOST_MS
from qkt.orders.facts import CancelIntended, SubmitRefused, SubmitUnanswered, SubmitWithdrawn
from qkt.orders.ledger import Ledger
from qkt.testing.builders import acknowledged, execution_reported, order_reported, submit_intended

D = Decimal
T0 = 1_700_000_000_000


def nameless_row(broker_order_id: str = "b1", **changes: Any) -> Any:
    return order_reported(broker_order_id=broker_order_id, client_order_id="", **changes)


def nameless_fill(exec_id: str = "e1", broker_order_id: str = "b1", **changes: Any) -> Any:
    return execution_reported(exec_id, "0.5", broker_order_id=broker_order_id, client_order_id="", **changes)


def in_doubt() -> Ledger:
    """Our submit has no answer."""
    ledger = Ledger()
    ledger.apply(submit_intended("c1", sent_ms=T0))
    return ledger


def ids(ledger: Ledger) -> set[tuple[str, str]]:
    return {(order.client_order_id, order.broker_order_id) for order in ledger}


def test_S48_a_stream_row_without_a_link_id_waits_for_the_answer_to_our_submit() -> None:
    ledger = in_doubt()
    assert ledger.apply(nameless_fill()) == []
    changes = ledger.apply(acknowledged("c1", "b1"))
    assert [type(event).__name__ for change in changes for event in change.events] == [
        "OrderAccepted",
        "OrderPartiallyFilled",
    ]
    assert ids(ledger) == {("c1", "b1")}


@pytest.mark.parametrize("make", [nameless_row, nameless_fill])
def test_a_rest_row_without_a_link_id_is_an_external_order_at_once(make: Any) -> None:
    """Ours always have one there, so a manual trade is seen beside a submit in doubt (M9)."""
    ledger = in_doubt()
    ledger.apply(make(origin="reconcile"))
    assert ids(ledger) == {("c1", ""), ("", "b1")}


def test_a_rest_row_places_the_stream_rows_of_its_order_too() -> None:
    ledger = in_doubt()
    ledger.apply(nameless_fill())
    ledger.apply(nameless_row(origin="reconcile"))
    external = ledger.get(broker_order_id="b1")
    assert external is not None
    assert (external.filled_quantity, ledger.deferred) == (D("0.5"), 0)


def test_a_waiting_row_waits_for_seconds_and_not_for_as_long_as_the_doubt() -> None:
    ledger = in_doubt()
    ledger.apply(nameless_row(at_ms=T0))
    ledger.apply(order_reported(broker_order_id="b9", client_order_id="x", at_ms=T0 + DEFERRED_AT_MOST_MS - 1))
    assert ledger.get(broker_order_id="b1") is None
    ledger.apply(order_reported(broker_order_id="b9", client_order_id="x", at_ms=T0 + DEFERRED_AT_MOST_MS))
    assert ledger.get(broker_order_id="b1") is not None


def test_what_turns_out_to_be_ours_after_all_moves_over() -> None:
    ledger = in_doubt()
    ledger.apply(nameless_row(origin="reconcile", quantity=D(1)))
    ledger.apply(acknowledged("c1", "b1"))
    order = ledger.get("c1")
    assert order is not None
    assert (len(ledger), order.broker_order_id, order.external) == (1, "b1", False)


def test_a_submit_that_never_left_releases_what_waited_for_it() -> None:
    ledger = in_doubt()
    ledger.apply(nameless_row())
    ledger.apply(SubmitWithdrawn(client_order_id="c1"))
    assert ids(ledger) == {("", "b1")}


def test_a_row_of_the_other_side_waits_for_nothing() -> None:
    ledger = in_doubt()
    ledger.apply(nameless_row(side=Side.SELL))
    assert ledger.get(broker_order_id="b1") is not None


def test_a_repeated_waiting_row_is_one_row() -> None:
    ledger = in_doubt()
    for _ in range(5):
        ledger.apply(nameless_row())
    assert ledger.deferred == 1


def test_S16_an_execution_under_a_taken_id_waits_for_the_row_that_tells_its_age() -> None:
    ledger = in_doubt()
    ledger.apply(SubmitUnanswered(client_order_id="c1", reason="taken", provable_from_ms=1, is_duplicate_id=True))
    assert ledger.apply(execution_reported("e1", "0.5", exec_time_ms=T0 + 5)) == []
    ledger.apply(order_reported("PartiallyFilled", "0.5", created_ms=T0 - 60_000, updated_ms=T0))
    assert {(order.client_order_id, order.external, order.filled_quantity) for order in ledger} == {
        ("c1", False, D(0)),
        ("c1", True, D("0.5")),
    }


def test_a_fact_that_fails_leaves_the_books_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order enters the books with its first fact applied, or not at all (H4)."""
    ledger = Ledger()

    def broken(_order: object, _fact: object) -> None:
        raise ArithmeticError("odd")

    with monkeypatch.context() as patched:
        patched.setattr("qkt.orders.ledger.apply", broken)
        for fact in (order_reported(), execution_reported()):
            with pytest.raises(ArithmeticError):
                ledger.apply(fact)
    assert (len(ledger), ledger.revision, list(ledger.open_orders())) == (0, 0, [])
    assert len(ledger.apply(order_reported())) == 1


def test_a_commit_that_is_repeated_changes_nothing_more() -> None:
    once, twice = Ledger(), Ledger()
    facts = [
        submit_intended("c1", sent_ms=T0),
        nameless_fill(of=1, leaves=0),
        acknowledged("c1", "b1"),
        execution_reported("e2", "0.5", of=1, leaves=0),
        SubmitRefused(client_order_id="c1", reason="late"),
    ]
    for fact in facts:
        once.apply(fact)
        commit = twice.prepare(fact)
        for _ in range(3):
            twice.commit(commit)
        while (released := twice.prepare_released()) is not None:
            twice.commit(released)
            twice.commit(released)
    assert list(once) == list(twice)
    assert once.audit("c1") == twice.audit("c1")
    assert (once.revision, once.deferred, list(once.open_orders())) == (
        twice.revision,
        twice.deferred,
        list(twice.open_orders()),
    )


def test_preparing_changes_nothing() -> None:
    ledger = in_doubt()
    before = list(ledger)
    ledger.prepare(order_reported())
    ledger.prepare(execution_reported(broker_order_id="b7", client_order_id="x"))
    assert (list(ledger), len(ledger), ledger.revision) == (before, 1, 1)


def test_several_submits_are_recorded_together_or_not_at_all() -> None:
    ledger = in_doubt()
    for names in (["c2", "c1"], ["c2", "c2"]):
        with pytest.raises(InvalidRequestError, match="used before"):
            ledger.prepare_submits([submit_intended(name) for name in names])
    for commit in ledger.prepare_submits([submit_intended("c2"), submit_intended("c3")]):
        ledger.commit(commit)
    assert [order.client_order_id for order in ledger] == ["c1", "c2", "c3"]


def test_the_fence_knows_when_an_order_became_known_to_the_venue() -> None:
    """An order acknowledged after the fence need not be in a list that was read before it (S24)."""
    ledger = in_doubt()
    fence = ledger.revision
    ledger.apply(acknowledged("c1", "b1"))
    assert list(ledger.untouched_since(fence)) == []
    assert [order.client_order_id for order in ledger.untouched_since(ledger.revision)] == ["c1"]


def test_an_absurd_number_is_not_written_out_in_the_audit() -> None:
    ledger = Ledger()
    ledger.apply(order_reported("PartiallyFilled", "1e999999999"))
    (entry,) = ledger.audit("c1")
    assert len(entry.fact) < 200


def test_the_venues_id_decides_whose_a_fact_is_when_two_orders_share_a_client_id() -> None:
    ledger = Ledger()
    ledger.apply(submit_intended("c1", sent_ms=T0))
    ledger.apply(SubmitUnanswered(client_order_id="c1", reason="id taken", provable_from_ms=T0, is_duplicate_id=True))
    ledger.apply(
        order_reported(broker_order_id="old", client_order_id="c1", created_ms=T0 - 60_000, origin="reconcile")
    )

    ledger.apply(CancelIntended(client_order_id="c1", broker_order_id="old", sent_ms=T0))

    ours, other = ledger.get("c1"), ledger.get("c1", "old")
    assert ours is not None
    assert other is not None
    assert (ours.cancel is None, other.cancel is None, other.broker_order_id) == (True, False, "old")
