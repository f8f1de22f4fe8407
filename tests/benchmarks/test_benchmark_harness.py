"""The benchmarks' own arithmetic, and that the works still reach the code they measure."""

from __future__ import annotations

import pytest

from tests.benchmarks import wire
from tests.benchmarks.harness import (
    BenchmarkError,
    Child,
    Figure,
    Measured,
    Sample,
    cells,
    number,
    paired,
    percentile,
    plain_table,
    quartiles,
    relapses,
)
from tests.benchmarks.recorded import RATIOS
from tests.benchmarks.scaling import FactAtFills, FactAtOrders
from tests.benchmarks.servers import running_server
from tests.benchmarks.stream import QktFrames
from tests.benchmarks.table import FIGURES, WORKS

COST = Figure(key="cost", title="a cost", unit="x peer", must=1.0, stretch=0.5)
SPEED = Figure(key="speed", title="a speed", unit="x peer", must=2.0, stretch=4.0, is_higher_better=True)


def measured(*values: float, key: str = "cost") -> Measured:
    return Measured(key=key, values=list(values))


def test_a_ratio_is_taken_within_each_pair_and_the_median_is_shown() -> None:
    row = paired("cost", ours=[1.0, 20.0, 6.0], theirs=[2.0, 10.0, 6.0], unit="us")

    assert row.values == [0.5, 2.0, 1.0]
    assert (row.median, row.ours, row.theirs) == (1.0, "6.00 us", "6.00 us")


def test_a_speed_is_the_inverse_ratio_of_the_costs() -> None:
    assert paired("speed", ours=[2.0], theirs=[8.0], unit="us", speed=True).values == [4.0]


def test_the_spread_is_the_quartiles_and_the_extremes_of_few_pairs() -> None:
    assert quartiles([1.0, 2.0, 3.0, 4.0, 5.0]) == (2.0, 4.0)
    assert quartiles([3.0, 1.0]) == (1.0, 3.0)


@pytest.mark.parametrize(("percent", "expected"), [(50, 50.0), (99, 99.0), (100, 100.0), (0, 1.0)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, expected: float) -> None:
    assert percentile([float(value) for value in range(100, 0, -1)], percent) == expected


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        (COST, 0.5, "stretch"),
        (COST, 1.004, "met"),
        (COST, 1.01, "missed"),
        (SPEED, 4.0, "stretch"),
        (SPEED, 2.0, "met"),
        (SPEED, 1.9, "missed"),
        (Figure(key="none", title="no target", unit=""), 1.0, ""),
    ],
)
def test_the_verdict_compares_with_must_and_stretch(figure: Figure, value: float, verdict: str) -> None:
    assert figure.verdict(value) == verdict


@pytest.mark.parametrize(
    ("figure", "values", "is_relapse"),
    [
        (COST, (2.1, 2.2, 2.3), True),
        (COST, (1.9, 2.2, 2.3), False),
        (COST, (1.9, 1.9, 2.3), False),
        (SPEED, (0.4, 0.45, 0.49), True),
        (SPEED, (0.4, 0.45, 0.6), False),
    ],
)
def test_a_relapse_is_twice_as_bad_in_median_and_in_the_better_quartile(
    figure: Figure, values: tuple[float, ...], is_relapse: bool
) -> None:
    found = relapses({figure.key: figure}, [measured(*values, key=figure.key)], {figure.key: 1.0})

    assert bool(found) is is_relapse


def test_what_depends_on_the_machine_or_was_skipped_is_no_relapse() -> None:
    bound = Figure(key="bound", title="", unit="us", is_machine_bound=True)
    figures = {"bound": bound, "cost": COST}
    rows = [measured(9.0, key="bound"), Measured(key="cost", skipped="not there yet")]

    assert relapses(figures, rows, {"bound": 1.0, "cost": 1.0}) == []


def test_a_skipped_row_keeps_its_targets_and_says_why() -> None:
    row = cells(COST, Measured(key="cost", skipped="not there yet"))

    assert row == ("a cost", "", "", "", "", "1.00", "0.50", "skipped: not there yet")


def test_columns_are_aligned() -> None:
    assert plain_table([("1", "x")], headings=("long", "b")) == "long  b\n----  -\n1     x"


@pytest.mark.parametrize(("value", "shown"), [(0.456, "0.46"), (38.24, "38.2"), (1234.5, "1,234")])
def test_numbers_have_about_three_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_every_figure_has_one_key_and_all_but_the_prepared_ones_are_recorded() -> None:
    keys = [figure.key for work in WORKS for figure in work.FIGURES]

    assert len(set(keys)) == len(keys)
    assert set(keys) - set(RATIOS) <= {"submit-websocket"}
    assert set(RATIOS) <= set(FIGURES)


def test_pages_end_with_an_empty_cursor() -> None:
    first, second = wire.pages(["1", "2", "3"], 2)

    assert (b'"nextPageCursor":"1"' in first, b'"list":[1,2]' in first) == (True, True)
    assert (b'"nextPageCursor":""' in second, b'"list":[3]' in second) == (True, True)


class _Failing:
    """A side that cannot be built."""

    def __init__(self) -> None:
        raise RuntimeError("no such venue")

    def sample(self) -> Sample:
        return {}

    def close(self) -> None:
        """Nothing to close."""


def test_a_side_that_fails_shows_its_own_traceback() -> None:
    with pytest.raises(BenchmarkError, match="no such venue"):
        Child(_Failing)


@pytest.mark.parametrize("make", [FactAtOrders, FactAtFills])
def test_each_fact_of_the_scaling_works_makes_one_event(make: type[FactAtOrders | FactAtFills]) -> None:
    side = make(10, 5.0)

    assert side.sample()["us"] > 0  # a sample raises when an event is missing
    side.close()


@pytest.mark.parametrize("kind", ["fills", "amends"])
def test_frames_of_the_benchmark_server_reach_a_handler(kind: str) -> None:
    with running_server() as door:
        assert QktFrames(door, kind, orders=2, count=20).sample()["us"] > 0
