"""Play seeds, count what was reached, and cut a failing schedule down to the steps that matter."""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import combinations

import attrs

from tests.simulation.oracle import Violation
from tests.simulation.schedule import make
from tests.simulation.world import Setup, Step, World


@attrs.frozen(kw_only=True)
class Failure:
    """A seed that broke a promise."""

    seed: int
    law: str
    text: str
    setup: Setup
    steps: list[Step]
    excused: frozenset[str] = frozenset()


@attrs.define
class Tally:
    """What a search did; ``seconds`` of processor time."""

    schedules: int = 0
    steps: int = 0
    seconds: float = 0.0
    families: Counter[str] = attrs.field(factory=Counter)
    pairs: Counter[str] = attrs.field(factory=Counter)
    reached: Counter[str] = attrs.field(factory=Counter)
    failures: list[Failure] = attrs.field(factory=list)

    def add(self, other: Tally) -> None:
        """Add what another search did; seconds are seconds of work."""
        self.schedules += other.schedules
        self.steps += other.steps
        self.seconds += other.seconds
        self.families += other.families
        self.pairs += other.pairs
        self.reached += other.reached
        self.failures += other.failures


def play(
    setup: Setup,
    steps: list[Step],
    excused: frozenset[str] = frozenset(),
    trace: list[str] | None = None,
    *,
    is_probed: bool = False,
) -> tuple[Violation | None, set[str]]:
    """Play one schedule; returns the violation, if any, and the rare branches that were reached.

    A violation of an excused law ends the schedule and is not returned.
    """
    world = World(setup)
    world.trace, world.is_probed = trace, is_probed
    try:
        world.play(steps)
    except Violation as violation:
        return None if violation.law in excused else violation, world.reached
    except Exception as error:
        return Violation("simulation", f"the simulation itself failed: {error!r}"), world.reached
    return None, world.reached


def search(
    seeds: Iterable[int],
    *,
    seconds: float = 1e9,
    extra: Collection[str] = (),
    excused: frozenset[str] = frozenset(),
    most_failures: int = 1_000_000,
) -> Tally:
    """Play seeds until they or the time run out, or enough of them failed."""
    tally = Tally()
    begun, begun_cpu = time.perf_counter(), time.process_time()
    with quiet():
        for seed in seeds:
            setup, steps, families = make(seed, extra)
            violation, reached = play(setup, steps, excused, is_probed=not seed % 8)
            tally.schedules += 1
            tally.steps += len(steps)
            tally.families.update(families)
            tally.pairs.update(" + ".join(pair) for pair in combinations(sorted(families), 2))
            tally.reached.update(reached)
            if violation is not None:
                tally.failures.append(
                    Failure(
                        seed=seed,
                        law=violation.law,
                        text=str(violation),
                        setup=setup,
                        steps=steps,
                        excused=excused,
                    )
                )
                if len(tally.failures) >= most_failures:
                    break
            if not tally.schedules % 2_000:
                gc.collect()
            if time.perf_counter() - begun > seconds:
                break
    tally.seconds = time.process_time() - begun_cpu
    return tally


@contextmanager
def quiet() -> Iterator[None]:
    """No log lines and no garbage collection in between: both cost more than the schedules."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        logging.disable(before)
        if was_enabled:
            gc.enable()


def shrink(failure: Failure) -> Failure:
    """The same violation with as few steps as leaving out and calming down can reach."""
    steps = list(failure.steps)
    with quiet():
        size = max(1, len(steps) // 2)
        while True:
            before = len(steps)
            place = 0
            while place < len(steps):
                fewer = steps[:place] + steps[place + size :]
                if _fails_alike(failure, fewer):
                    steps = fewer
                else:
                    place += size
            if size == 1 and len(steps) == before:
                break
            size = max(1, size // 2)
        steps = _calmed(failure, steps)
    return attrs.evolve(failure, steps=steps)


def _calmed(failure: Failure, steps: list[Step]) -> list[Step]:
    """Replace waits, frame fates and other integers by zero where the violation stays."""
    for place, step in enumerate(steps):
        for argument in range(1, len(step)):
            if isinstance(step[argument], int) and step[argument]:
                calmer = [*steps[:place], (*step[:argument], 0, *step[argument + 1 :]), *steps[place + 1 :]]
                if _fails_alike(failure, calmer):
                    steps, step = calmer, calmer[place]
    return steps


def _fails_alike(failure: Failure, steps: list[Step]) -> bool:
    violation, _reached = play(failure.setup, steps, failure.excused)
    return violation is not None and violation.law == failure.law


def explained(failure: Failure) -> str:
    """A failing schedule as a person reads it: the steps, what was told after each, and the violation."""
    trace: list[str] = []
    with quiet():
        violation, _reached = play(failure.setup, failure.steps, failure.excused, trace)
    lines = [f"seed {failure.seed}, {failure.setup}", *trace, f"    VIOLATION {violation}"]
    return "\n".join(lines)
