"""A busy day in memory: 100,000 orders with three fills each, all of them still remembered, in at most 150 MB.

Measured resident, in a process of its own, with every text made from the venue's JSON. Closed orders are kept for
``retain_closed_ms`` and longer where the venue can still repeat their executions; not a moment longer.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qkt.bybit.codec.frames import execution_facts
from tests.proof.memory_rig import T0, Rig, frames_of

MB = 1_000_000
RIG = Path(__file__).with_name("memory_rig.py")


def measured(orders: int, *more: str, seconds: int) -> dict[str, int]:
    told = subprocess.run(
        [sys.executable, str(RIG), "--orders", str(orders), *more],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds,
    )
    return json.loads(told.stdout)  # type: ignore[no-any-return]


def _line(told: dict[str, int]) -> str:
    return (
        f"memory: {told['orders']:,} orders with three fills each grow {told['grown_bytes'] / MB:.0f} MB "
        f"({told['bytes_per_order']:,} bytes each), {told['facts_per_second']:,} facts per second of processor"
    )


@pytest.mark.timeout(120)
def test_an_order_that_is_over_and_packed_costs_about_a_kilobyte(say: Any) -> None:
    """95 of 100 thousand are packed; the 5 thousand settled last lie at hand and cost five times as much."""
    told = measured(1_500, "--at-hand", "100", "--rss", seconds=110)
    say(_line(told))
    assert told["bytes_per_order"] < 2_000


@pytest.mark.verify
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_remembered_orders_grow_the_process_by_at_most_150_mb(say: Any) -> None:
    told = measured(100_000, "--rss", seconds=1_700)
    say(_line(told))
    assert told["grown_bytes"] <= 150 * MB


def test_retention_bounds_what_is_remembered() -> None:
    rig = Rig()
    most = 0
    for hour in range(8):
        rig.pass_through(range(25 * hour, 25 * (hour + 1)), ms_apart=144_000)
        now_ms = rig.clock.now_ms()
        rig.forget(closed_before_ms=now_ms - 7_200_000, executed_before_ms=now_ms - 300_000)
        most = max(most, rig.state.ask(len))
    assert most <= 52


def test_an_execution_is_remembered_as_long_as_the_venue_can_repeat_it() -> None:
    rig = Rig()
    rig.pass_through(range(50))
    told = rig.events
    far = T0 + 10**9
    assert rig.forget(closed_before_ms=far, executed_before_ms=T0) == 0
    for number in range(50):
        for text in frames_of(number, T0 + 10 * (number + 1))[1:4]:
            rig.state.absorb(execution_facts(json.loads(text), "spot", far).facts)
    rig.bus.deliver()
    assert rig.events == told
    assert rig.forget(closed_before_ms=2 * far, executed_before_ms=far) == 50
