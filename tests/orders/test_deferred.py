"""Rows that wait: found by what they wait for, bounded, and gone without a trace once they are placed."""

from __future__ import annotations

from typing import Any

from qkt.orders import deferred
from qkt.orders.deferred import DeferredRows
from qkt.testing.builders import execution_reported, order_reported


def row(broker_order_id: str = "b1", **changes: Any) -> Any:
    return order_reported(broker_order_id=broker_order_id, client_order_id="", **changes)


def fill(exec_id: str, broker_order_id: str = "b1") -> Any:
    return execution_reported(exec_id, 1, broker_order_id=broker_order_id, client_order_id="")


def waiting(*facts: Any, cause: str = "market") -> DeferredRows:
    rows = DeferredRows()
    for fact in facts:
        rows.add(fact, cause)
    return rows


def placed(rows: DeferredRows) -> list[Any]:
    found = []
    while (fact := rows.next_ready) is not None:
        rows.placed(fact)
        found.append(fact)
    return found


def remembers(rows: DeferredRows) -> int:
    return sum(map(len, vars(rows).values()))


def test_the_rows_of_one_order_are_released_together_and_nothing_of_them_stays() -> None:
    rows = waiting(row(), fill("e1"), row("b2"))
    rows.release("b1")
    assert len(rows) == 3
    assert placed(rows) == [row(), fill("e1")]
    rows.release("b2")
    placed(rows)
    assert (len(rows), bool(rows), remembers(rows)) == (0, False, 0)


def test_an_answer_releases_what_waits_for_it_and_nothing_else() -> None:
    rows = waiting(row("b1"), row("b2"))
    rows.add(row("b3"), "another market")
    rows.release_caused_by("market")
    assert placed(rows) == [row("b1"), row("b2")]
    assert list(rows) == [row("b3")]
    rows.release_caused_by("another market")
    placed(rows)
    assert remembers(rows) == 0


def test_one_released_order_leaves_the_others_of_its_cause_waiting() -> None:
    rows = waiting(row("b1"), row("b2"))
    rows.release("b1")
    placed(rows)
    rows.release_caused_by("market")
    assert placed(rows) == [row("b2")]


def test_the_oldest_wait_ends_first() -> None:
    rows = waiting(row("b1", at_ms=1), row("b2", at_ms=5_000))
    rows.release_overdue(deferred.DEFERRED_AT_MOST_MS)
    assert placed(rows) == []
    rows.release_overdue(deferred.DEFERRED_AT_MOST_MS + 1)
    assert placed(rows) == [row("b1", at_ms=1)]


def test_only_so_many_wait_and_one_that_waits_already_may_come_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(deferred, "_DEFERRED_AT_MOST", 2)
    rows = waiting(row("b1"))
    assert rows.has_room(row("b2"))
    rows.add(row("b2"), "market")
    assert (rows.has_room(row("b1")), rows.has_room(row("b3")), rows.has_room(fill("e1"))) == (True, False, False)
    for number in range(5):
        rows.add(fill(f"e{number}"), "market")
    assert len(rows) == 3
