"""Executions of one order: versions that share one list, and sums that are kept as rows come."""

from __future__ import annotations

import pickle
from decimal import Decimal, Inexact
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt.model.executions import Execution
from qkt.orders.fills import NO_FILLS, Fills
from qkt.testing.builders import execution_reported

D = Decimal


def execution(exec_id: str, quantity: Decimal | str | int = 1, **changes: Any) -> Execution:
    return execution_reported(exec_id, quantity, **changes).execution


def test_a_version_never_changes_whatever_is_learnt_later() -> None:
    one = NO_FILLS.plus(execution("e1"))
    two = one.plus(execution("e2"))
    other = one.plus(execution("e3"))
    assert (list(NO_FILLS), list(one), list(two), list(other)) == ([], ["e1"], ["e1", "e2"], ["e1", "e3"])
    assert ("e2" in one, "e2" in two, "e2" in other, "e3" in two) == (False, True, False, False)
    with pytest.raises(KeyError):
        _ = one["e2"]


def test_the_newest_version_shares_the_list_of_the_one_before() -> None:
    one = NO_FILLS.plus(execution("e1"))
    assert one.plus(execution("e2"))._rows is one._rows
    assert one.plus(execution("e3"))._rows is not one._rows
    assert NO_FILLS.plus(execution("e9"))._rows is not NO_FILLS._rows


def test_a_repeated_execution_is_the_same_collection() -> None:
    fills = Fills.of([execution("e1"), execution("e2")])
    assert fills.plus(execution("e1", 7)) is fills


@given(
    st.lists(
        st.tuples(
            st.decimals("0.001", "1000", places=3),
            st.decimals("0.01", "100000", places=2),
            st.decimals("-1", "1", places=6),
            st.sampled_from(["USDT", "BTC", ""]),
            st.integers(0, 3),
            st.integers(0, 3),
            st.sampled_from([None, D(0), D(1)]),
        ),
        max_size=12,
    )
)
def test_the_sums_are_those_of_the_rows(given_rows: list[tuple[Any, ...]]) -> None:
    rows = [
        execution(
            f"e{number}",
            quantity,
            price=price,
            fee=fee,
            fee_currency=coin,
            exec_time_ms=at_ms,
            seq=seq,
            leaves=leaves,
            of=quantity,
        )
        for number, (quantity, price, fee, coin, at_ms, seq, leaves) in enumerate(given_rows)
    ]
    fills = Fills.of(rows)
    coins = {row.fee_currency for row in rows if row.fee_currency or row.fee}
    newest = max(((row.exec_time_ms, row.seq) for row in rows), default=None)
    assert dict(fills) == {row.exec_id: row for row in rows}
    assert fills.quantity == sum((row.quantity for row in rows), D(0))
    assert fills.value == sum((row.price * row.quantity for row in rows), D(0))
    assert fills.fees == {coin: sum((row.fee for row in rows if row.fee_currency == coin), D(0)) for coin in coins}
    assert sorted(fills.complete_sizes) == sorted(
        row.quantity for row in rows if (row.exec_time_ms, row.seq) == newest and not row.leaves_quantity
    )
    assert pickle.loads(pickle.dumps(fills)) == fills


def test_the_newest_moment_is_that_of_the_trade_and_not_of_its_arrival() -> None:
    fills = Fills.of([execution("e1", exec_time_ms=9), execution("e2", exec_time_ms=5)])
    assert (fills.newest_ms, NO_FILLS.newest_ms) == (9, 0)


def test_a_sum_that_would_lose_a_digit_is_an_error() -> None:
    with pytest.raises(Inexact):
        NO_FILLS.plus(execution("e1", D("1e300"))).plus(execution("e2", D("1e-300")))
