"""Works on the private stream: executions, order changes and whole lives of orders, from the socket to a handler."""

from __future__ import annotations

import time
from typing import Any

from tests.benchmarks.harness import Figure, Measured, Sample, alternate, children, column, paired, percentile, ratios
from tests.benchmarks.run import Run
from tests.benchmarks.servers import Door
from tests.benchmarks.sides import Arrivals, QktSession, pybit_stream, pybit_subscribe

FIGURES = (
    Figure(
        key="executions-one",
        title="execution frames/s, one order, to a handler",
        unit="x pybit",
        must=3.5,
        stretch=5.0,
        is_higher_better=True,
    ),
    Figure(
        key="executions-100",
        title="execution frames/s, 100 orders",
        unit="x pybit",
        must=3.5,
        stretch=5.0,
        is_higher_better=True,
    ),
    Figure(
        key="orders",
        title="order frames/s",
        unit="x pybit",
        must=4.0,
        stretch=6.0,
        is_higher_better=True,
    ),
    Figure(key="latency-p50", title="frame to handler at 1,000/s, p50", unit="x pybit", must=1.0),
    Figure(key="latency-p99", title="frame to handler at 1,000/s, p99", unit="x pybit", must=1.0, stretch=0.5),
    Figure(
        key="lives",
        title="an order opened, filled and closed in frames",
        unit="us each",
        must=180.0,
        stretch=100.0,
        is_machine_bound=True,
    ),
    Figure(key="lives-pybit", title="the same beside pybit's raw dictionaries", unit="x pybit"),
    Figure(key="lives-flat", title="the same: last tenth of all orders beside the first", unit="x first", must=1.2),
)


class QktFrames:
    """Frames of one kind through `BybitClient` and `BybitSpotBroker` to a bus handler; a fresh session per sample.

    A sample of ``fills`` or ``amends`` begins with so many orders submitted through the broker.
    """

    def __init__(self, door: Door, kind: str, orders: int, count: int, per_second: int = 0) -> None:
        self._door, self._kind, self._orders, self._count = door, kind, orders, count
        self._per_second = per_second
        self._first = 1

    def sample(self) -> Sample:
        import qkt

        door = self._door.another()
        session = QktSession(door)
        session.submit(range(self._first, self._first + self._orders))
        arrivals, stamps = Arrivals(), _Stamps()
        event = qkt.FillEvent if self._kind == "fills" else qkt.OrderModified
        session.bus.subscribe(event, stamps if self._per_second else arrivals)
        found = _receive(door, self._kind, self._first, self._orders, self._count, self._per_second, arrivals, stamps)
        session.close()
        self._first += self._orders
        return found

    def close(self) -> None:
        """Each sample closes its own session."""


class PybitFrames:
    """The same frames to a callback of pybit's private stream."""

    def __init__(self, door: Door, kind: str, orders: int, count: int, per_second: int = 0) -> None:
        self._door = door.another()
        self._kind, self._orders, self._count, self._per_second = kind, orders, count, per_second
        self._arrivals, self._stamps = Arrivals(), _Stamps()
        self._stream = pybit_stream(self._door)
        topic = "execution" if kind == "fills" else "order"
        pybit_subscribe(self._stream, **{topic: self._stamps if per_second else self._arrivals})

    def sample(self) -> Sample:
        return _receive(
            self._door, self._kind, 1, self._orders, self._count, self._per_second, self._arrivals, self._stamps
        )

    def close(self) -> None:
        self._stream.exit()


class _Stamps:
    """When each call of a handler came, in monotonic ns."""

    def __init__(self) -> None:
        self.came_ns: list[int] = []

    def __call__(self, *_arguments: object) -> None:
        self.came_ns.append(time.monotonic_ns())


def _receive(
    door: Door,
    kind: str,
    first: int,
    orders: int,
    count: int,
    per_second: int,
    arrivals: Arrivals,
    stamps: _Stamps,
) -> Sample:
    """Have the frames sent and wait for the last handler call: CPU per frame, or latencies when paced."""
    begin = {"first_fill": 1} if kind == "fills" else {"first_step": 1}
    door.render(kind, first_order=first, orders=orders, count=count, **begin)
    if per_second:
        return _latencies(door, per_second, count, stamps)
    arrivals.expect(count)
    begun = time.process_time()
    door.send()
    arrivals.wait()
    return {"us": (time.process_time() - begun) / count * 1e6}


def _latencies(door: Door, per_second: int, count: int, stamps: _Stamps) -> Sample:
    """Frames and handler calls have the same order, so the n-th call belongs to the n-th frame."""
    stamps.came_ns.clear()
    sent_ns = door.send(per_second=per_second)
    deadline = time.monotonic() + 60
    while len(stamps.came_ns) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{count - len(stamps.came_ns)} frames reached no handler in a minute")
        time.sleep(0.01)
    took_us = [(came - sent) / 1000 for came, sent in zip(stamps.came_ns, sent_ns, strict=True)]
    return {"p50": percentile(took_us, 50), "p99": percentile(took_us, 99)}


class QktLives:
    """Outside orders that live entirely in frames; each sample adds more of them to the same broker."""

    def __init__(self, door: Door, chunk: int) -> None:
        import qkt

        self._door, self._chunk, self._first = door.another(), chunk, 1
        self._session = QktSession(self._door)
        self._arrivals = Arrivals()
        self._session.bus.subscribe(qkt.OrderFilled, self._arrivals)

    def sample(self) -> Sample:
        found = _live(self._door, self._first, self._chunk, self._arrivals, expected=self._chunk)
        self._first += self._chunk
        return found

    def close(self) -> None:
        self._session.close()


class PybitLives:
    """The same frames as raw dictionaries to two callbacks."""

    def __init__(self, door: Door, chunk: int) -> None:
        self._door, self._chunk = door.another(), chunk
        self._arrivals = Arrivals()
        self._stream: Any = pybit_stream(self._door)
        pybit_subscribe(self._stream, order=self._arrivals, execution=self._arrivals)

    def sample(self) -> Sample:
        return _live(self._door, 1, self._chunk, self._arrivals, expected=3 * self._chunk)

    def close(self) -> None:
        self._stream.exit()


def _live(door: Door, first: int, chunk: int, arrivals: Arrivals, *, expected: int) -> Sample:
    door.render("lives", first_order=first, orders=chunk)
    arrivals.expect(expected)
    begun = time.process_time()
    door.send()
    arrivals.wait()
    return {"us": (time.process_time() - begun) / chunk * 1e6}


def measure(run: Run) -> list[Measured]:
    """Speeds from bursts, latencies from a paced stream, and the lives of many orders."""
    rounds = run.pick(full=9, quick=3)
    rows = []
    for key, kind, orders, count in (
        ("executions-one", "fills", 1, run.pick(full=5_000, quick=2_000)),
        ("executions-100", "fills", 100, run.pick(full=4_000, quick=2_000)),
        ("orders", "amends", 100, run.pick(full=4_000, quick=2_000)),
    ):
        arguments = (run.door, kind, orders, count)
        with children((QktFrames, *arguments), (PybitFrames, *arguments)) as sides:
            turns = alternate(sides, rounds)
        rows.append(paired(key, column(turns, 0, "us"), column(turns, 1, "us"), "us", speed=True))
    return [*rows, *_measure_latency(run), *_measure_lives(run)]


def _measure_latency(run: Run) -> list[Measured]:
    arguments = (run.door, "fills", 100, run.pick(full=5_000, quick=1_500), 1_000)
    with children((QktFrames, *arguments), (PybitFrames, *arguments)) as sides:
        turns = alternate(sides, run.pick(full=7, quick=3), warm_up=run.pick(full=1, quick=0))
    return [paired(f"latency-{rank}", column(turns, 0, rank), column(turns, 1, rank), "us") for rank in ("p50", "p99")]


def _measure_lives(run: Run) -> list[Measured]:
    """As many chunks as make all orders; flatness is the last tenth of the chunks beside the first.

    For flatness each chunk is counted in pybit's cost of the same turn, so that a machine that slows down meanwhile
    does not look like a cost that grows.
    """
    chunk, chunks = run.pick(full=2_500, quick=500), run.pick(full=40, quick=10)
    with children((QktLives, run.door, chunk), (PybitLives, run.door, chunk)) as sides:
        turns = alternate(sides, chunks, warm_up=0)
    ours, theirs = column(turns, 0, "us"), column(turns, 1, "us")
    run.curves["lives"] = [((place + 1) * chunk, us) for place, us in enumerate(ours)]
    tenth = max(1, chunks // 10)
    relative = ratios(ours, theirs)
    flat = paired("lives-flat", relative[-tenth:], relative[:tenth], "x pybit")
    cost = paired("lives-pybit", ours, theirs, "us")
    return [Measured(key="lives", values=ours, ours=cost.ours, theirs=cost.theirs), cost, flat]
