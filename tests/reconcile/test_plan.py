"""What a round looks up, and what an empty answer proves."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import pytest

from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import LimitOrder, OrderType, Side
from qkt.orders.facts import (
    AgedOut,
    AnyFact,
    LookupFoundNothing,
    NonArrivalProved,
    OrderReported,
    StatusBecameUnknown,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitUnanswered,
)
from qkt.orders.ledger import Ledger
from qkt.reconcile.plan import LookupReason, LookupResult, ReconcileLimits, absent_candidates, conclude, plan_lookups
from qkt.reconcile.snapshot import Completeness, Read

NOW = 1_800_000_000_000
LIMITS = ReconcileLimits()
SYMBOL = "BYBIT_SPOT:BTCUSDT"


def intended(name: str = "c1", sent_ms: int = NOW) -> SubmitIntended:
    order = LimitOrder(symbol=SYMBOL, side=Side.BUY, quantity=Decimal(1), limit_price=Decimal(100))
    return SubmitIntended(client_order_id=name, request=order, sent_ms=sent_ms, at_ms=sent_ms)


def reported(name: str = "c1", broker_id: str = "b1", **fields: object) -> OrderReported:
    row = OrderReport(
        broker_order_id=broker_id,
        client_order_id=name,
        symbol=SYMBOL,
        side=Side.BUY,
        status=VenueStatus.NEW,
        venue_status="New",
        order_type=OrderType.LIMIT,
        quantity=Decimal(1),
        limit_price=Decimal(100),
        created_ms=NOW,
        updated_ms=NOW,
        **fields,  # type: ignore[arg-type]
    )
    return OrderReported(report=row, as_of_ms=NOW, at_ms=NOW)


def a_ledger(*facts: AnyFact) -> Ledger:
    ledger = Ledger()
    ledger.apply_all(facts)
    return ledger


def a_read(*rows: OrderReported, completeness: Completeness = Completeness.COMPLETE) -> Read[OrderReport]:
    return Read(path="orders", completeness=completeness, rows=tuple(row.report for row in rows), begun_ms=NOW)


def planned(ledger: Ledger, fence: int, read: Read[OrderReport], **more: object) -> list[tuple[str, LookupReason]]:
    lookups, _waiting = plan_lookups(
        ledger,
        orders=read,
        candidates=absent_candidates(ledger, fence),
        malformed_ids=(),
        last_asked=more.get("last_asked", {}),  # type: ignore[arg-type]
        limits=more.get("limits", LIMITS),  # type: ignore[arg-type]
        failed=more.get("failed", ()),  # type: ignore[arg-type]
    )
    return [(lookup.order.client_order_id, lookup.reason) for lookup in lookups]


def test_an_order_known_before_the_fence_and_absent_is_looked_up() -> None:
    ledger = a_ledger(intended(), reported())

    assert planned(ledger, ledger.revision, a_read()) == [("c1", LookupReason.ABSENT)]


def test_an_order_the_venue_got_to_know_after_the_fence_is_not_looked_up() -> None:
    ledger = a_ledger(intended())
    fence = ledger.revision
    ledger.apply(SubmitAcknowledged(client_order_id="c1", broker_order_id="b1"))

    assert planned(ledger, fence, a_read()) == []


def test_an_order_heard_of_since_the_fence_is_not_looked_up() -> None:
    ledger = a_ledger(intended(), reported())
    fence = ledger.revision
    ledger.apply(reported())

    assert planned(ledger, fence, a_read()) == []


@pytest.mark.parametrize("completeness", [Completeness.PARTIAL, Completeness.FAILED])
def test_absence_from_an_incomplete_list_asks_nothing(completeness: Completeness) -> None:
    ledger = a_ledger(intended(), reported())

    assert planned(ledger, ledger.revision, a_read(completeness=completeness)) == []


def test_lookups_are_spread_over_rounds_and_the_longest_unasked_goes_first() -> None:
    names = [f"c{number}" for number in range(6)]
    ledger = a_ledger(*_each(intended(name) for name in names), *_each(reported(name, f"b{name}") for name in names))
    limits = ReconcileLimits(lookups_per_round=2)
    last_asked: dict[str, int] = {}
    asked: list[str] = []
    for round_number in range(3):
        found = planned(ledger, ledger.revision, a_read(), limits=limits, last_asked=last_asked)
        asked += [name for name, _reason in found]
        last_asked |= {f"b{name}": round_number for name, _reason in found}

    assert sorted(asked) == names


def test_an_order_whose_lookup_failed_goes_last_whatever_its_reason() -> None:
    ledger = a_ledger(
        intended("c1"),
        SubmitUnanswered(client_order_id="c1", reason="timeout", provable_from_ms=NOW),
        intended("c2"),
        reported("c2", "b2"),
    )

    found = planned(ledger, ledger.revision, a_read(), failed={"c1"})

    assert [name for name, _reason in found] == ["c2", "c1"]


def unanswered(provable_from_ms: int = NOW + 15_000) -> Ledger:
    return a_ledger(
        intended(), SubmitUnanswered(client_order_id="c1", reason="timeout", provable_from_ms=provable_from_ms)
    )


def concluded(ledger: Ledger, *begun_ms: int) -> list[type[AnyFact]]:
    """The facts of the last of several complete lookups that found nothing."""
    facts: list[AnyFact] = []
    for begun in begun_ms:
        order = ledger.get("c1")
        assert order is not None
        result = LookupResult(begun_ms=begun, is_complete=True, found=False)
        facts = conclude(order, result, at_ms=begun, limits=LIMITS)
        ledger.apply_all(facts)
    return [type(fact) for fact in facts]


def test_two_empty_lookups_well_apart_after_the_deadline_prove_non_arrival() -> None:
    assert concluded(unanswered(), NOW + 15_001, NOW + 20_001) == [LookupFoundNothing, NonArrivalProved]


@pytest.mark.parametrize(
    "begun_ms",
    [
        pytest.param([NOW + 15_001], id="one alone"),
        pytest.param([NOW + 15_001, NOW + 20_000], id="too close together"),
        pytest.param([NOW + 1_000, NOW + 15_001], id="one from before the deadline"),
        pytest.param([NOW + 1_000, NOW + 14_000], id="both from before the deadline"),
    ],
)
def test_fewer_or_earlier_empty_lookups_prove_nothing(begun_ms: list[int]) -> None:
    assert concluded(unanswered(), *begun_ms) == [LookupFoundNothing]


def test_an_incomplete_lookup_proves_nothing() -> None:
    order = unanswered().get("c1")
    assert order is not None

    assert conclude(order, LookupResult(begun_ms=NOW, is_complete=False, found=False), at_ms=NOW, limits=LIMITS) == []


def test_silence_that_began_after_the_retention_proves_no_non_arrival() -> None:
    day = LIMITS.unfilled_retention_ms

    assert concluded(unanswered(), NOW + day, NOW + day + 6_000) == [LookupFoundNothing, AgedOut]


def test_silence_that_began_within_the_retention_proves_non_arrival_later() -> None:
    day = LIMITS.unfilled_retention_ms

    assert concluded(unanswered(), NOW + 20_000, NOW + day + 6_000) == [LookupFoundNothing, NonArrivalProved]


def test_a_known_order_in_no_place_is_unknown_first_and_aged_out_only_after_its_day() -> None:
    ledger = a_ledger(intended(), reported())

    assert concluded(ledger, NOW + 5_000, NOW + 10_000) == [LookupFoundNothing, StatusBecameUnknown]
    assert concluded(ledger, NOW + LIMITS.unfilled_retention_ms) == [LookupFoundNothing, AgedOut]


def _each(facts: Iterable[AnyFact]) -> list[AnyFact]:
    return list(facts)
