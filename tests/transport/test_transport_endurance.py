"""Long days, short: cycles, storms, floods, and a process that ends cleanly."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.stream_session import Timing
from qkt.events import FillEvent
from qkt.net.scheduler import ThreadScheduler
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import SOON, Recorder, eventually, qkt_threads

TOPICS = ("order.spot", "execution.spot", "wallet")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def trade(venue: SimulatedBybit, number: int = 0) -> None:
    venue.trade(symbol="BTCUSDT", side="Buy" if number % 2 else "Sell", quantity="0.001")


@pytest.fixture
def closing() -> Iterator[Any]:
    """Hand it what must be closed whatever happens; the last comes first."""
    opened = []
    yield lambda one: opened.append(one) or one  # type: ignore[func-returns-value]
    for one in reversed(opened):
        one.close()


def tell(numbers: Any) -> None:
    """For the report: `pytest -rP` shows it."""
    sys.stdout.write(numbers + "\n")


def true_fills(venue: SimulatedBybit) -> list[Any]:
    return sorted(execution["execId"] for execution in venue.truth()["executions"])


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
@pytest.mark.parametrize("cycles", [10, pytest.param(200, marks=[pytest.mark.verify, pytest.mark.timeout(300)])])
def test_threads_and_descriptors_return_to_the_baseline(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], cycles: int
) -> None:
    def cycle() -> None:
        with make_client() as client:
            client.subscribe("wallet", Recorder())
            client.get_signed("/v5/account/wallet-balance", {"accountType": "UNIFIED"})

    cycle()
    eventually(lambda: qkt_threads() == [], "no thread is left")
    baseline = (descriptors(), threading.active_count())
    for _ in range(cycles):
        cycle()
    eventually(lambda: (descriptors(), threading.active_count()) <= baseline, "back at the baseline")
    assert qkt_threads() == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_losses_and_failed_attempts_leak_nothing_either(venue: SimulatedBybit, client: BybitClient) -> None:
    client.subscribe("wallet", Recorder())
    client.connect()
    eventually(lambda: client.is_connected, "live")
    baseline = (descriptors(), threading.active_count())
    refusal = venue.faults.add("stream_refused", count=5)
    for _ in range(5):
        venue.cut_streams()
        losses = client.stats.losses
        eventually(lambda seen=losses: client.stats.losses >= max(1, seen) and client.is_connected, "back")  # type: ignore[misc]
    assert refusal.hits == 5
    eventually(lambda: descriptors() <= baseline[0] + 2, "no descriptor is left")
    assert threading.active_count() <= baseline[1] + 2  # workers of qkt-link start when they are first needed


@pytest.mark.parametrize(
    ("seconds", "asleep_s"), [(1.5, 1), pytest.param(30, 20, marks=[pytest.mark.verify, pytest.mark.timeout(180)])]
)
def test_a_thousand_frames_a_second_with_a_slow_handler_and_rounds_lose_nothing(
    seconds: Any, asleep_s: int, closing: Any
) -> None:
    fills, asleep = [], threading.Event()

    def slow_once(event: Any) -> None:
        if not asleep.is_set():
            asleep.set()
            threading.Event().wait(asleep_s)

    with SimulatedBybit(seed=1, rate_limits=False) as venue, ThreadScheduler(workers=2, name="qkt-reconcile") as pool:
        client = closing(BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url))
        client.connect()
        bus = EventBus()
        bus.subscribe(FillEvent, lambda event: event.exec_id and fills.append(event.exec_id))  # type: ignore[func-returns-value]  # a completion has none
        bus.subscribe(FillEvent, slow_once)
        broker = closing(BybitSpotBroker(client, bus, poll_interval_ms=300, poll_scheduler=pool))
        began, number = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            trade(venue, number)
            number += 1
            ahead_s = began + number / 334 - time.monotonic()
            if ahead_s > 0:
                threading.Event().wait(ahead_s)
        eventually(lambda: len(fills) >= number, "every fill", within_s=60)
        eventually(lambda: client.stats.frames >= 3 * number, "every frame", within_s=60)
        stats = client.stats
        tell(f"frames={stats.frames} per_s={stats.frames / seconds:.0f} most_lag_ms={stats.most_lag_ms}")
        broker.close()
        client.close()
        assert sorted(fills) == true_fills(venue)
        assert stats.losses == 0


@pytest.mark.parametrize(
    ("cuts", "seconds"), [(2, 1), pytest.param(20, 60, marks=[pytest.mark.verify, pytest.mark.timeout(180)])]
)
def test_S41_cuts_heal_with_every_event_once(cuts: int, seconds: int, closing: Any) -> None:
    fills, rounds = [], Recorder()
    with SimulatedBybit(seed=1, rate_limits=False) as venue:
        client = closing(BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url))
        client.on_reconnect(rounds)
        client.connect()
        bus = EventBus()
        # a market buy that does not say its unit is known to be complete only by its order row: a fill of nothing
        bus.subscribe(FillEvent, lambda event: fills.append(event.exec_id) if event.exec_id else None)
        broker = closing(BybitSpotBroker(client, bus))
        began, number, made = time.monotonic(), 0, 0
        while time.monotonic() - began < seconds:
            trade(venue, number)
            number += 1
            threading.Event().wait(0.05)
            if time.monotonic() - began > made * seconds / cuts and made < cuts:
                venue.cut_streams()
                made += 1
        eventually(lambda: len(set(fills)) >= number, "every fill", within_s=60)
        connections = client.stats.connections
        broker.close()
        client.close()
        assert sorted(fills) == true_fills(venue)
        assert made == cuts
        assert cuts / 2 < connections <= cuts + 1
        tell(f"cuts={cuts} connections={connections} fills={len(fills)} rounds={len(rounds)}")


@pytest.mark.verify
@pytest.mark.parametrize("fault", ["stream_half_open", "missing_pong"])
def test_S39_by_default_a_dead_connection_is_noticed_within_ten_seconds(
    venue: SimulatedBybit, make_client: Callable[..., BybitClient], fault: str
) -> None:
    client = make_client(timing=Timing())
    lost = Recorder()
    client.on_disconnect(lost)
    client.connect()
    venue.faults.add(fault, count=1)
    began = time.monotonic()
    eventually(lambda: lost, "the loss is noticed", within_s=15)
    took_s = time.monotonic() - began
    tell(f"{fault} noticed after {took_s:.1f} s")
    assert took_s < 10


SCRIPT = """
import sys, threading
from qkt.bybit.transport.client import BybitClient
client = BybitClient("key", "secret", rest_url=sys.argv[1], ws_url=sys.argv[2])
{body}
"""


def run_script(venue: SimulatedBybit, body: Any, interrupt: bool = False) -> tuple[Any, ...]:
    command = [sys.executable, "-c", SCRIPT.format(body=body), venue.rest_url, venue.ws_url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        if interrupt:
            assert process.stdout.readline() == "ready\n"  # type: ignore[union-attr]
            process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=SOON)
    finally:
        process.kill()
    return process.returncode, output, errors


def test_ctrl_c_in_a_script_leaves_no_traceback_and_no_thread(venue: SimulatedBybit) -> None:
    body = """
try:
    with client:
        print("ready", flush=True)
        threading.Event().wait(30)
except KeyboardInterrupt:
    print([t.name for t in threading.enumerate() if t.name.startswith("qkt-")])
"""
    assert run_script(venue, body, interrupt=True) == (0, "[]\n", "")


def test_ctrl_c_while_connecting_leaves_nothing_either(venue: SimulatedBybit) -> None:
    venue.faults.add("stream_half_open")
    body = """
threading.Timer(0.3, lambda: print("ready", flush=True)).start()
try:
    client.connect()
except KeyboardInterrupt:
    print([t.name for t in threading.enumerate() if t.name.startswith("qkt-")])
"""
    assert run_script(venue, body, interrupt=True) == (0, "[]\n", "")


def test_a_script_that_forgets_to_close_ends_cleanly(venue: SimulatedBybit) -> None:
    assert run_script(venue, "client.connect()\nclient.subscribe('wallet', print)") == (0, "", "")
