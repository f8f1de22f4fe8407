"""Venue time on a host whose clock is wrong, or jumps."""

from __future__ import annotations

from typing import Any

import pytest

from qkt.net.venue_clock import GapDetector, VenueClock


class TwoClocks:
    def __init__(self, wall: int = 1_000_000, monotonic: int = 0) -> None:
        self.wall, self.monotonic = wall, monotonic

    def now_ms(self) -> Any:
        return self.wall

    def monotonic_ms(self) -> Any:
        return self.monotonic

    def pass_ms(self, ms: Any) -> None:
        self.wall += ms
        self.monotonic += ms


def a_measured_clock(offset_ms: int = 8_000) -> tuple[Any, ...]:
    machine = TwoClocks()
    clock = VenueClock(machine)
    now = machine.wall
    clock.measured(now - 50, now + 50, now + offset_ms)
    return clock, machine


@pytest.mark.parametrize("offset_ms", [8_000, -8_000, 0])
def test_S34_half_the_round_trip_is_taken_off(offset_ms: int) -> None:
    clock, machine = a_measured_clock(offset_ms)
    assert clock.offset_ms == offset_ms
    assert clock.now_ms() == machine.wall + offset_ms
    assert clock.is_trustworthy


def test_before_the_first_measurement_it_does_not_pretend() -> None:
    clock = VenueClock(TwoClocks())
    clock.observe(0, 10, 99_999)
    assert (clock.offset_ms, clock.is_measured, clock.is_trustworthy) == (0, False, False)


def test_a_stamp_that_fits_the_guess_changes_nothing() -> None:
    clock, machine = a_measured_clock(0)
    clock.observe(machine.wall, machine.wall + 200, machine.wall + 150)
    assert clock.offset_ms == 0


def test_a_drifting_clock_is_followed() -> None:
    clock, machine = a_measured_clock(0)
    clock.observe(machine.wall, machine.wall + 20, machine.wall + 300)
    assert clock.offset_ms == pytest.approx(290, abs=2)
    assert clock.is_trustworthy


def test_a_stamp_that_is_far_off_raises_doubt_and_moves_nothing() -> None:
    clock, machine = a_measured_clock(0)
    clock.observe(machine.wall, machine.wall + 20, machine.wall - 60_000)
    assert clock.offset_ms == 0
    assert not clock.is_trustworthy


@pytest.mark.parametrize("step_ms", [8_000, -8_000, 3_600_000])
def test_S82_a_step_of_the_local_clock_is_noticed_before_anything_is_signed(step_ms: int) -> None:
    clock, machine = a_measured_clock(0)
    machine.pass_ms(5_000)
    assert clock.is_trustworthy
    machine.wall += step_ms
    assert not clock.is_trustworthy
    clock.measured(clock.local_ms(), clock.local_ms(), machine.wall - step_ms)
    assert clock.is_trustworthy
    assert clock.offset_ms == -step_ms


@pytest.mark.parametrize("step_ms", [8_000, -8_000, 3_600_000])
def test_a_step_of_the_local_clock_does_not_move_venue_time(step_ms: int) -> None:
    clock, machine = a_measured_clock(0)
    before_ms = clock.now_ms()

    machine.wall += step_ms
    machine.pass_ms(5)

    assert clock.now_ms() == before_ms + 5
    assert clock.local_ms() == before_ms + 5
    assert clock.offset_ms == -step_ms


def test_time_that_runs_as_it_should_is_no_gap() -> None:
    detector, machine = GapDetector(), TwoClocks()
    for _ in range(10):
        assert detector.look(machine.wall, machine.monotonic, expected_ms=1_000) == 0
        machine.pass_ms(1_000)


def test_S82_a_suspend_is_a_gap() -> None:
    detector, machine = GapDetector(), TwoClocks()
    detector.look(machine.wall, machine.monotonic, expected_ms=1_000)
    machine.wall += 3_600_000
    machine.monotonic += 1_000
    assert detector.look(machine.wall, machine.monotonic, expected_ms=1_000) == 3_599_000


def test_a_step_back_is_a_gap() -> None:
    detector, machine = GapDetector(), TwoClocks()
    detector.look(machine.wall, machine.monotonic, expected_ms=1_000)
    machine.pass_ms(1_000)
    machine.wall -= 5_000
    assert detector.look(machine.wall, machine.monotonic, expected_ms=1_000) == -5_000


def test_a_process_that_was_stopped_is_a_gap_even_if_both_clocks_ran() -> None:
    detector, machine = GapDetector(), TwoClocks()
    detector.look(machine.wall, machine.monotonic, expected_ms=1_000)
    machine.pass_ms(30_000)
    assert detector.look(machine.wall, machine.monotonic, expected_ms=1_000) == 30_000
