"""Works without a socket: what one more fact costs when much is known already, and what fills weigh between rounds.

Frames are handed to a broker on `FakeBybitClient`, so that only the broker's own work is measured, on one thread.
Points that take too long to reach are left out, and the row says so.
"""

from __future__ import annotations

import gc
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks import wire
from tests.benchmarks.harness import Child, Figure, Measured, Sample, alternate, children, column, number
from tests.benchmarks.run import Run

_FLAT = 1.2
FIGURES = (
    Figure(key="fact-orders", title="cost per fact at 1, 1,000, 100,000 orders", unit="x smallest", must=_FLAT),
    Figure(
        key="fact-fills", title="cost per fact at 10, 1,000, 100,000 fills of one order", unit="x smallest", must=_FLAT
    ),
    Figure(
        key="fills-memory", title="memory of 10,000 fills between rounds, each", unit="x the first 1,000", must=_FLAT
    ),
)
_FACTS = 200
_MOST_KIB = 3 * 1024 * 1024


class _FakeVenue:
    """A broker on a fake client with a scheduler that never fires, and a handler on its bus."""

    def __init__(self) -> None:
        import qkt
        from qkt.testing import FakeBybitClient, TickScheduler

        self.client = FakeBybitClient()
        self.bus = qkt.EventBus()
        self.events = 0
        self.bus.subscribe(qkt.OrderEvent, self._heard)
        self.broker = qkt.BybitSpotBroker(self.client, self.bus, poll_scheduler=TickScheduler())

    def _heard(self, _event: object) -> None:
        self.events += 1

    def emit(self, topic: str, rows: Sequence[str]) -> float:
        """Hand over one frame per row, decoded beforehand; returns the CPU seconds of it."""
        frames = [{"creationTime": time.time_ns() // 1_000_000, "data": [json.loads(row)]} for row in rows]
        begun = time.process_time()
        for one in frames:
            self.client.emit_ws_frame(topic, one)
        return time.process_time() - begun


class FactAtOrders:
    """Price changes of orders, one frame each, while ``orders`` orders are open."""

    def __init__(self, orders: int, build_within_s: float) -> None:
        self._venue = _FakeVenue()
        self._step = 0
        self._orders = _build(build_within_s, orders, self._open)
        self._begun_ms = time.time_ns() // 1_000_000

    def _open(self, first: int, count: int) -> None:
        self._venue.emit("order.spot", [wire.order_row(number) for number in range(first, first + count)])

    def sample(self) -> Sample:
        rows = []
        for place in range(_FACTS):
            self._step += 1
            number, price = 1 + place % self._orders, str(1_000 + self._step)
            rows.append(wire.order_row(number, price=price, updated_ms=self._begun_ms + self._step))
        before = self._venue.events
        used = self._venue.emit("order.spot", rows)
        if self._venue.events - before != _FACTS:
            raise RuntimeError(f"{_FACTS} price changes made {self._venue.events - before} events")
        return {"us": used / _FACTS * 1e6, "size": self._orders}

    def close(self) -> None:
        self._venue.broker.close()


class FactAtFills:
    """Executions of one order that has ``fills`` of them already."""

    def __init__(self, fills: int, build_within_s: float) -> None:
        self._venue = _FakeVenue()
        self._venue.emit("order.spot", [wire.order_row(1)])
        self._fills = _build(build_within_s, fills, self._fill)
        self._next = self._fills + 1

    def _fill(self, first: int, count: int) -> None:
        self._venue.emit("execution.spot", [wire.execution_row(1, fill) for fill in range(first, first + count)])

    def sample(self) -> Sample:
        facts = min(_FACTS, max(20, self._fills))  # the smallest point shall not outgrow itself within a sample
        rows = [wire.execution_row(1, fill) for fill in range(self._next, self._next + facts)]
        self._next += facts
        before = self._venue.events
        used = self._venue.emit("execution.spot", rows)
        if self._venue.events - before != facts:
            raise RuntimeError(f"{facts} executions made {self._venue.events - before} events")
        return {"us": used / facts * 1e6, "size": self._fills}

    def close(self) -> None:
        self._venue.broker.close()


class FillsMemory:
    """Resident memory per fill of one order, for the first ``few`` and for all ``many``, without a round between."""

    def __init__(self, few: int, many: int, build_within_s: float) -> None:
        self._few, self._many, self._within_s = few, many, build_within_s

    def sample(self) -> Sample:
        venue = _FakeVenue()
        venue.emit("order.spot", [wire.order_row(1)])
        venue.emit("execution.spot", [wire.execution_row(1, fill) for fill in range(1, 101)])
        gc.collect()
        before = _resident_kib()
        sizes: dict[int, float] = {}

        def fill(first: int, count: int) -> None:
            venue.emit("execution.spot", [wire.execution_row(1, 100 + fill) for fill in range(first, first + count)])
            if first + count - 1 == self._few:
                gc.collect()
                sizes[self._few] = _resident_kib() - before

        reached = _build(self._within_s, self._many, fill)
        gc.collect()
        weighed = _resident_kib() - before
        venue.broker.close()
        return {"few": sizes[self._few] / self._few, "many": weighed / reached, "MiB": weighed / 1024, "size": reached}

    def close(self) -> None:
        """Each sample closes its own broker."""


def _build(within_s: float, size: int, step: Any, chunk: int = 100) -> int:
    """Call ``step(first, count)`` up to ``size``, or until the time or 3 GiB are used up; returns the size reached."""
    deadline = time.monotonic() + within_s
    done = 0
    while done < size and time.monotonic() < deadline and _resident_kib() < _MOST_KIB:
        count = min(chunk, size - done)
        step(done + 1, count)
        done += count
    return done


def _resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def measure(run: Run) -> list[Measured]:
    """Each point in a process of its own, sampled in turn."""
    within_s = run.pick(full=90.0, quick=5.0)
    return [
        _flatness(
            run, "fact-orders", FactAtOrders, run.pick(full=(1, 1_000, 100_000), quick=(1, 1_000, 5_000)), within_s
        ),
        _flatness(
            run, "fact-fills", FactAtFills, run.pick(full=(10, 1_000, 100_000), quick=(10, 1_000, 5_000)), within_s
        ),
        _memory(run, within_s),
    ]


def _flatness(run: Run, key: str, make: type[Any], sizes: tuple[int, ...], within_s: float) -> Measured:
    """In each turn the dearest of the larger sizes beside the smallest size."""
    with children(*((make, size, within_s) for size in sizes)) as points:
        turns = alternate(points, run.pick(full=9, quick=5), warm_up=1)
    costs = [column(turns, place, "us") for place in range(len(sizes))]
    reached = [int(turns[0][place]["size"]) for place in range(len(sizes))]
    run.curves[key] = [(size, statistics.median(cost)) for size, cost in zip(reached, costs, strict=True)]
    worst = [max(turn[1:], key=lambda sample: sample["us"])["us"] / turn[0]["us"] for turn in turns]
    shown = ", ".join(number(statistics.median(cost)) for cost in costs)
    at = ", ".join(f"{size:,}" for size in reached)
    stopped = "" if reached[-1] == sizes[-1] else f" (stopped at {within_s:.0f} s or 3 GiB)"
    return Measured(key=key, values=worst, ours=f"{shown} us at {at}{stopped}")


def _memory(run: Run, within_s: float) -> Measured:
    few, many = run.pick(full=(1_000, 10_000), quick=(500, 2_000))
    samples: list[Sample] = []
    for _ in range(run.pick(full=3, quick=2)):  # a new process each time: memory once used is not given back
        with Child(FillsMemory, few, many, within_s) as child:
            samples.append(child.sample())
    last = samples[-1]
    run.curves["fills-memory"] = [(few, last["few"]), (int(last["size"]), last["many"])]
    shown = f"{number(last['MiB'])} MiB, {number(last['many'])} KiB each of {int(last['size']):,}"
    return Measured(key="fills-memory", values=[sample["many"] / sample["few"] for sample in samples], ours=shown)
