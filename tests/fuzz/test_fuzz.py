"""Nothing the venue sends raises out of a public call, takes long, fills the memory or floods the log."""

from __future__ import annotations

import gc
import logging
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal

import pytest

from qkt import BybitLinearBroker, BybitSpotBroker, EventBus, LimitOrder, QktError, ReconcileError, Side
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import envelope, order_row
from tests.fuzz.mutate import NOW_MS, PATHS, Mutator

Broker = BybitSpotBroker | BybitLinearBroker

FEW, MANY = 3_000, 250_000
RENEWED_AFTER = 500
SLOWEST_MS = 50
MOST_LOGGED_BYTES = 64_000
MOST_GROWTH_KB = 40_000

CATEGORIES: dict[str, tuple[type[Broker], str]] = {
    "spot": (BybitSpotBroker, "BYBIT_SPOT:BTCUSDT"),
    "linear": (BybitLinearBroker, "BYBIT_LINEAR:BTCUSDT"),
}


class LogMeter(logging.Handler):
    """Counts the bytes that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.logged = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.logged += len(self.format(record))


@contextmanager
def metered() -> Iterator[LogMeter]:
    """A log meter on all of qkt."""
    meter, root = LogMeter(), logging.getLogger("qkt")
    was_propagating, root.propagate = root.propagate, False
    root.addHandler(meter)
    try:
        yield meter
    finally:
        root.removeHandler(meter)
        root.propagate = was_propagating


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage collection meanwhile: its pauses would count as slow inputs."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Bench:
    """A broker under fire; a new one after every few hundred inputs, so that what it may remember is bounded."""

    def __init__(self, category: str) -> None:
        self._build, self.symbol = CATEGORIES[category]
        self.category = category
        self.renew()

    def renew(self) -> None:
        """A new broker on a new client."""
        clock = FixedClock(NOW_MS)
        self.scheduler = TickScheduler(clock)
        self.client = FakeBybitClient()
        self.broker: Broker = self._build(
            self.client, EventBus(clock), clock, poll_scheduler=self.scheduler, recovery_window_ms=3_600_000
        )

    def look(self) -> None:
        """Every public call that reads what is believed."""
        broker = self.broker
        for view in broker.open_orders():
            ids = {"broker_order_id": view.broker_order_id} if view.broker_order_id else {}
            name = None if ids else view.client_order_id
            broker.order(name, **ids)
            broker.fills(name, **ids)
            broker.explain(name, **ids)
        repr(broker)
        str(broker.reports[-1])
        broker.reports[-1].to_json()
        assert broker.health.ages_ms
        if isinstance(broker, BybitLinearBroker):
            broker.positions()


def fire(count: int, bench: Bench, shoot: Callable[[Bench], None]) -> None:
    """Shoot ``count`` inputs; each is timed in processor time and its log bytes are counted."""
    grown_from = 0
    with metered() as meter, uncollected():
        for number in range(count):
            if number % RENEWED_AFTER == RENEWED_AFTER - 1:
                bench.look()
                bench.broker.close()
                bench.renew()
                gc.collect()
                if number < 20 * RENEWED_AFTER:
                    grown_from = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            logged, begun = meter.logged, time.thread_time()
            shoot(bench)
            took_ms = (time.thread_time() - begun) * 1_000
            assert took_ms < SLOWEST_MS, f"input {number} took {took_ms:.0f} ms"
            assert meter.logged - logged < MOST_LOGGED_BYTES, f"input {number} logged {meter.logged - logged} bytes"
        bench.look()
    bench.broker.close()
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown_from
    assert grown_kb < MOST_GROWTH_KB or count < 20 * RENEWED_AFTER, f"{grown_kb} kB more"


def frames(seed: int, category: str) -> Callable[[Bench], None]:
    """Hostile frames, as the transport decodes them."""
    mutator = Mutator(seed, category)

    def shoot(bench: Bench) -> None:
        topic, frame = mutator.frame()
        if isinstance(frame, dict):
            bench.client.emit_ws_frame(f"{topic}.{bench.category}" if topic != "wallet" else topic, frame)
        bench.scheduler.advance_ms(1)

    return shoot


def bodies(seed: int, category: str) -> Callable[[Bench], None]:
    """Hostile replies to one read of a round; what the others say is well formed."""
    mutator = Mutator(seed, category)

    def shoot(bench: Bench) -> None:
        path, text = mutator.body()
        bench.client.responses.clear()
        bench.client.responses[path] = text
        bench.broker.reconcile()
        bench.client.gets.clear()

    return shoot


def writes(seed: int, category: str) -> Callable[[Bench], None]:
    """Hostile replies to a submit and to a cancel."""
    mutator = Mutator(seed, category)

    def shoot(bench: Bench) -> None:
        order = LimitOrder(symbol=bench.symbol, side=Side.BUY, quantity=Decimal(1), limit_price=Decimal(100))
        bench.client.responses["/v5/order/create"] = mutator.write_reply()
        bench.client.responses["/v5/order/cancel"] = mutator.write_reply()
        ack = bench.broker.submit(order)
        bench.broker.cancel(ack.client_order_id)
        bench.client.posts.clear()

    return shoot


KINDS = {"frames": frames, "bodies": bodies, "writes": writes}


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_is_read_or_refused_fast_and_quietly(kind: str, category: str) -> None:
    fire(FEW if kind == "frames" else FEW // 3, Bench(category), KINDS[kind](1, category))


@pytest.mark.verify
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("kind", KINDS)
def test_hostile_input_by_the_million(kind: str, category: str) -> None:
    fire(MANY if kind == "frames" else MANY // 2, Bench(category), KINDS[kind](2, category))


@pytest.mark.parametrize("category", CATEGORIES)
def test_a_start_on_hostile_replies_works_or_fails_loud(category: str) -> None:
    mutator = Mutator(3, category)
    build, _symbol = CATEGORIES[category]
    for _ in range(FEW // 3):
        client, clock = FakeBybitClient(), FixedClock(NOW_MS)
        for path, text in (mutator.body() for _ in PATHS):
            client.responses[path] = text
        with suppress(ReconcileError):
            build(client, EventBus(clock), clock, poll_scheduler=TickScheduler(clock)).close()


def test_a_creation_time_long_ago_costs_few_requests() -> None:
    client, clock = FakeBybitClient(), FixedClock(NOW_MS)
    client.responses["/v5/order/realtime"] = envelope([order_row(createdTime="1000", updatedTime="1000")])
    broker = BybitSpotBroker(client, EventBus(clock), clock, poll_scheduler=TickScheduler(clock))
    client.responses.clear()
    client.gets.clear()

    broker.reconcile()

    assert len(client.gets) < 200


def test_the_fuzz_notices_an_exception_and_a_slow_input() -> None:
    def raise_out(_bench: Bench) -> None:
        raise QktError("planted")

    def dawdle(_bench: Bench) -> None:
        until = time.thread_time() + SLOWEST_MS / 1_000
        while time.thread_time() <= until:
            pass

    with pytest.raises(QktError, match="planted"):
        fire(10, Bench("spot"), raise_out)
    with pytest.raises(AssertionError, match="took"):
        fire(10, Bench("spot"), dawdle)
