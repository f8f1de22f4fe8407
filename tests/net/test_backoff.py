"""Pauses are pure functions of the attempt and of chance."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt.errors import InvalidRequestError
from qkt.net.backoff import ExponentialBackoff, FixedDelayBackoff


def test_each_pause_is_twice_the_last_up_to_the_greatest() -> None:
    policy = ExponentialBackoff(initial_ms=100, max_ms=1_000)
    assert [policy.delay_ms(attempt) for attempt in range(6)] == [100, 200, 400, 800, 1_000, 1_000]


def test_chance_spreads_the_pause_either_way() -> None:
    policy = ExponentialBackoff(initial_ms=1_000, max_ms=60_000, jitter=0.5)
    assert policy.delay_ms(0, jitter=0.0) == 500
    assert policy.delay_ms(0, jitter=0.999) == 1_499


def test_without_jitter_chance_changes_nothing() -> None:
    policy = ExponentialBackoff(initial_ms=1_000, max_ms=60_000, jitter=0)
    assert policy.delay_ms(2, jitter=0.1) == policy.delay_ms(2, jitter=0.9) == 4_000


@given(attempt=st.integers(0, 10**9), chance=st.floats(0, 1, exclude_max=True))
def test_after_any_number_of_failures_the_pause_is_bounded(attempt: Any, chance: Any) -> None:
    assert 0 < ExponentialBackoff(initial_ms=250, max_ms=15_000).delay_ms(attempt, jitter=chance) <= 15_000


def test_a_fixed_delay_is_fixed() -> None:
    policy = FixedDelayBackoff(700)
    assert [policy.delay_ms(attempt, jitter=0.9) for attempt in (0, 1, 99)] == [700, 700, 700]


@pytest.mark.parametrize(
    "arguments", [{"initial_ms": 0}, {"max_ms": -1}, {"multiplier": 0}, {"jitter": 1.5}, {"initial_ms": "1"}]
)
def test_a_senseless_policy_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError):
        ExponentialBackoff(**arguments)
    with pytest.raises(InvalidRequestError):
        FixedDelayBackoff(0)
