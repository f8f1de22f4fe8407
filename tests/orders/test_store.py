"""The shelf: what was put away comes back as it was, and takes little room."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from qkt.orders.ledger import Ledger
from qkt.orders.order import Order
from qkt.orders.store import OrderStore
from qkt.testing.builders import acknowledged, execution_reported, order_reported, submit_intended

D = Decimal


def a_ledger(settled_kept_active: int) -> Ledger:
    ledger = Ledger()
    ledger._orders = OrderStore(settled_kept_active)
    return ledger


def fill_whole(ledger: Ledger, number: int) -> None:
    ids: dict[str, Any] = {"client_order_id": f"c{number}", "broker_order_id": f"b{number}"}
    ledger.apply(submit_intended(f"c{number}", quantity=D(3)))
    ledger.apply(acknowledged(f"c{number}", f"b{number}"))
    for fill in range(3):
        ledger.apply(execution_reported(f"e{number}-{fill}", 1, of=3, leaves=2 - fill, exec_time_ms=number, **ids))


def cancel_empty(ledger: Ledger, number: int) -> None:
    ids: dict[str, Any] = {"client_order_id": f"c{number}", "broker_order_id": f"b{number}"}
    ledger.apply(submit_intended(f"c{number}"))
    ledger.apply(order_reported("Cancelled", reason="CancelByUser", updated_ms=number, **ids))


def reject(ledger: Ledger, number: int) -> None:
    ledger.apply(submit_intended(f"c{number}"))
    ids: dict[str, Any] = {"client_order_id": f"c{number}", "broker_order_id": f"b{number}"}
    ledger.apply(order_reported("Rejected", reason="EC_Others", **ids))


@pytest.mark.parametrize("story", [fill_whole, cancel_empty, reject])
def test_what_was_put_away_is_what_comes_back(story: Any) -> None:
    packing, keeping = a_ledger(0), a_ledger(1_000)
    for ledger in (packing, keeping):
        for number in range(5):
            story(ledger, number)
    assert len(packing._orders._compressed) == 5
    for number in range(5):
        assert packing.get(f"c{number}") == keeping.get(f"c{number}")
        assert packing.get(f"c{number}").view() == keeping.get(f"c{number}").view()  # type: ignore[union-attr]
        assert packing.audit(f"c{number}") == keeping.audit(f"c{number}") != ()
    assert sorted(order.client_order_id for order in packing) == [f"c{number}" for number in range(5)]


def test_a_repeated_execution_of_a_packed_order_is_no_news_and_leaves_it_packed() -> None:
    ledger = a_ledger(0)
    fill_whole(ledger, 1)
    ledger._orders._compressed = {ledger.find("c1"): b"not to be opened"}  # type: ignore[dict-item]
    assert ledger.apply(execution_reported("e1-0", 1, of=3, broker_order_id="b1", client_order_id="c1")) == []


def test_every_execution_of_a_packed_order_is_known_and_no_other() -> None:
    ledger = a_ledger(0)
    fill_whole(ledger, 1)
    key = ledger.find("c1")
    assert [ledger._orders.is_compressed_with(key, exec_id) for exec_id in ("e1-0", "e1-1", "e1-2")] == [True] * 3  # type: ignore[arg-type]
    assert not ledger._orders.is_compressed_with(key, "e1-3")  # type: ignore[arg-type]


def test_a_late_fill_takes_a_packed_order_out_with_its_trail_and_puts_it_back() -> None:
    ledger = a_ledger(0)
    cancel_empty(ledger, 1)
    before = ledger.audit("c1")
    (change,) = ledger.apply(execution_reported("e9", "0.3", leaves="0.7", broker_order_id="b1", client_order_id="c1"))
    assert [event.late for event in change.events] == [True]  # type: ignore[attr-defined]
    assert ledger.get("c1").cum_quantity == D("0.3")  # type: ignore[union-attr]
    assert ledger.audit("c1")[: len(before)] == before
    assert len(ledger.audit("c1")) == len(before) + 1


def test_only_the_oldest_settled_are_packed_and_never_an_open_one() -> None:
    ledger = a_ledger(2)
    ledger.apply(submit_intended("c0"))
    for number in range(1, 6):
        fill_whole(ledger, number)
    assert len(ledger._orders._compressed) == 3
    assert isinstance(ledger._orders._active[ledger.find("c0")], Order)  # type: ignore[index]
    assert len(ledger) == 6


def test_what_is_forgotten_is_gone_packed_or_not() -> None:
    ledger = a_ledger(1)
    for number in range(4):
        fill_whole(ledger, number)
    assert ledger.forget_closed(closed_before_ms=1_000, executed_before_ms=1_000) == 4
    assert (len(ledger), len(ledger._orders._compressed), len(ledger._orders._audits)) == (0, 0, 0)
    assert len(ledger._orders._marks) == 0
    assert ledger.get("c1") is None
