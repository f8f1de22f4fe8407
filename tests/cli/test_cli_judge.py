"""The demo's judge, on the record of one real night: true as it is, and no longer true after any one change."""

from __future__ import annotations

import copy
from decimal import Decimal
from typing import Any

import attrs
import pytest

from qkt.cli.demo.judge import KINDS, judge
from qkt.cli.demo.scenario import Story
from qkt.cli.demo.setup import FAST, Night
from qkt.cli.output import Screen
from qkt.events import (
    BalancesUpdated,
    FillEvent,
    OrderAccepted,
    OrderCancelled,
    OrderFilled,
    OrderRejected,
)
from qkt.model.balances import CoinBalance, Wallet
from qkt.venue import SimulatedBybit


@attrs.define
class Record:
    """What the judge is given; a test changes a copy."""

    truth: dict[str, Any]
    events: list[Any]
    views: dict[str, Any]
    wallet: Wallet
    unresolved: tuple[Any, ...] = ()

    def kinds(self) -> set[str]:
        verdict = judge(self.truth, self.events, views=self.views, wallet=self.wallet, unresolved=self.unresolved)
        assert verdict.agrees is (not verdict.differences)
        assert sum(verdict.counts.values()) == len(verdict.differences)
        return {difference.kind for difference in verdict.differences}

    def at(self, kind: Any, client_order_id: Any = None) -> int:
        """Where the first such event is."""
        return next(
            at
            for at, event in enumerate(self.events)
            if isinstance(event, kind) and client_order_id in (None, getattr(event, "client_order_id", None))
        )


@pytest.fixture(scope="module")
def a_night() -> Record:
    night = Night(Screen(is_json=True), SimulatedBybit(seed=3), FAST)
    with night:
        Story(night, 3).run()
        return Record(night.venue.truth(), list(night.ear.events), night.views(), night.client.wallet)


@pytest.fixture
def record(a_night: Any) -> Record:
    return Record(copy.deepcopy(a_night.truth), list(a_night.events), dict(a_night.views), a_night.wallet)


def test_a_true_record_has_no_difference(record: Any) -> None:
    assert record.kinds() == set()


def test_a_fill_that_was_not_told_is_lost(record: Any) -> None:
    fills = [event for event in record.events if isinstance(event, FillEvent) and event.exec_id]
    for fill in fills:
        events = [event for event in record.events if event is not fill]
        assert "fill lost" in attrs.evolve(record, events=events).kinds()


def test_a_fill_told_twice_is_duplicated(record: Any) -> None:
    at = record.at(FillEvent)
    record.events.insert(at + 1, record.events[at])
    assert "fill duplicated" in record.kinds()


def test_a_fill_that_never_happened_is_invented(record: Any) -> None:
    at = record.at(FillEvent, "B")
    record.events.insert(at, attrs.evolve(record.events[at], exec_id="never"))
    assert "fill invented" in record.kinds()


@pytest.mark.parametrize(
    "change",
    [
        {"price": Decimal("60000.10000001")},
        {"quantity": Decimal("0.0100000001")},
        {"fee": Decimal("0.0000100000001")},
        {"fee_currency": "ETH"},
        {"is_maker": True},
        {"exec_time_ms": 1},
        {"symbol": "BYBIT_SPOT:ETHUSDT"},
        {"cum_quantity": Decimal("0.5")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_fill_with_one_wrong_digit_is_distorted(record: Any, change: dict[str, Any]) -> None:
    at = record.at(FillEvent, "A")
    record.events[at] = attrs.evolve(record.events[at], **change)
    assert "fill distorted" in record.kinds()


@pytest.mark.parametrize(("kind", "name"), [(OrderFilled, "A"), (OrderCancelled, "C")])
def test_an_end_that_was_not_told_is_missed(record: Any, kind: Any, name: str) -> None:
    del record.events[record.at(kind, name)]
    assert "end not told" in record.kinds()


def test_another_end_than_the_venue_s_is_a_false_one(record: Any) -> None:
    ids = {"client_order_id": "B", "broker_order_id": record.events[record.at(OrderFilled, "B")].broker_order_id}
    record.events.append(OrderRejected(**ids, reason="timeout"))
    assert record.kinds() == {"order falsely ended", "told out of order"}
    assert record.kinds() == {"order falsely ended", "told out of order"}


def test_an_end_of_an_order_that_stands_is_a_false_one(record: Any) -> None:
    row = next(row for row in record.truth["orders"] if row["orderLinkId"] == "C")
    row["orderStatus"] = "New"
    assert "order falsely ended" in record.kinds()


def test_a_refusal_told_under_our_id_alone_still_counts(record: Any) -> None:
    record.events.append(OrderRejected(client_order_id="D", reason="timeout"))
    assert record.kinds() == {"order falsely ended", "told out of order"}
    assert record.kinds() == {"order falsely ended", "told out of order"}


def test_an_end_for_another_reason_or_with_another_sum_is_told_wrongly(record: Any) -> None:
    at = record.at(OrderCancelled, "C")
    event = record.events[at]
    record.events[at] = attrs.evolve(event, reason="aged_out")
    assert record.kinds() == {"end told wrongly"}
    record.events[at] = attrs.evolve(event, cum_quantity=Decimal("0.001"))
    assert record.kinds() == {"end told wrongly"}


def test_an_end_told_twice_is_told_wrongly(record: Any) -> None:
    record.events.append(record.events[record.at(OrderCancelled, "C")])
    assert "end told wrongly" in record.kinds()


def test_an_acceptance_is_told_once_and_first(record: Any) -> None:
    at = record.at(OrderAccepted, "A")
    accepted = record.events.pop(at)
    assert record.kinds() == {"order not told"}
    record.events.append(accepted)
    assert "told out of order" in record.kinds()
    record.events.insert(at, accepted)
    assert "told out of order" in record.kinds()


def test_an_order_the_venue_never_had_is_invented(record: Any) -> None:
    record.events.append(OrderAccepted(client_order_id="Z", broker_order_id="1"))
    assert record.kinds() == {"order invented"}


def test_an_order_of_ours_told_as_an_outside_one_is_noticed(record: Any) -> None:
    at = record.at(OrderAccepted, "A")
    record.events[at] = attrs.evolve(record.events[at], external=True)
    assert record.kinds() == {"owner told wrongly"}


def test_a_refusal_of_an_order_the_venue_never_had_is_the_truth(record: Any) -> None:
    record.events.append(OrderRejected(client_order_id="Z", reason="170131"))
    assert record.kinds() == set()


def test_a_balance_off_by_the_last_digit_differs(record: Any) -> None:
    held = record.wallet["BTC"]
    coins = {**record.wallet.coins, "BTC": attrs.evolve(held, total=held.total + Decimal("1e-18"))}
    record.wallet = Wallet(coins=coins)
    assert record.kinds() == {"balance differs"}


def test_a_lock_that_is_not_the_venue_s_differs(record: Any) -> None:
    coins = {**record.wallet.coins, "USDT": CoinBalance(total=record.wallet["USDT"].total, locked=Decimal(7))}
    record.wallet = Wallet(coins=coins)
    assert record.kinds() == {"balance differs"}


def test_a_balance_told_in_between_that_was_never_held_differs(record: Any) -> None:
    at = record.at(BalancesUpdated)
    event = record.events[at]
    record.events[at] = attrs.evolve(event, balances={**event.balances, "USDT": Decimal("123.45")})
    assert record.kinds() == {"balance differs"}


def test_a_belief_that_is_not_the_venue_s_differs(record: Any) -> None:
    order_id = record.events[record.at(OrderCancelled, "C")].broker_order_id
    record.views[order_id] = attrs.evolve(record.views[order_id], is_open=True)
    assert record.kinds() == {"belief differs"}
    del record.views[order_id]
    assert record.kinds() == {"belief differs"}


def test_an_order_nobody_can_speak_for_is_unresolved(record: Any) -> None:
    record.unresolved = ("D",)
    assert record.kinds() == {"unresolved"}


def test_every_kind_of_difference_is_counted_under_its_own_name() -> None:
    assert len(set(KINDS.values())) == len(KINDS)
