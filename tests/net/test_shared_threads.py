"""Lanes on shared threads: a few threads for many owners, and none of them can stop the others."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from qkt.errors import InvalidRequestError
from qkt.net.shared_threads import SharedThreads
from tests.support.transport_rig import eventually


@pytest.fixture
def shared() -> Iterator[SharedThreads]:
    threads = SharedThreads()
    keeper = threads.lane("keeper")
    yield threads
    keeper.close()


def alive(threads: SharedThreads) -> int:
    return len(threads._alive)


def test_fifty_lanes_that_tick_need_a_handful_of_threads(shared: SharedThreads) -> None:
    lanes, runs, most = [shared.lane(f"lane-{number}") for number in range(50)], [0], [0]

    def action() -> None:
        runs[0] += 1
        most[0] = max(most[0], alive(shared))

    for lane in lanes:
        lane.schedule_at_fixed_rate(action, 0, 20)
    eventually(lambda: runs[0] > 500, "five hundred runs")
    for lane in lanes:
        lane.close()

    assert most[0] <= 6


def test_actions_that_block_do_not_stop_the_others(shared: SharedThreads) -> None:
    release, ran = threading.Event(), threading.Event()

    def block() -> None:
        release.wait(20)

    lanes = [shared.lane(f"blocked-{number}") for number in range(20)]
    for lane in lanes:
        lane.schedule_once(block, 0)
    other = shared.lane("other")

    other.schedule_once(ran.set, 0)

    assert ran.wait(5)
    release.set()
    for lane in (*lanes, other):
        lane.close()


def test_a_lane_runs_no_more_at_once_than_its_limit(shared: SharedThreads) -> None:
    lock, running, most, done = threading.Lock(), 0, 0, threading.Semaphore(0)
    pause = threading.Event()

    def action() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        pause.wait(0.01)
        with lock:
            running -= 1
        done.release()

    lane = shared.lane("two", workers=2)
    for _ in range(10):
        lane.schedule_once(action, 0)
    for _ in range(10):
        assert done.acquire(timeout=5)
    lane.close()

    assert most == 2


def test_threads_carry_the_lanes_name_while_they_run_its_action(shared: SharedThreads) -> None:
    names: list[str] = []
    lane = shared.lane("qkt-link")
    lane.schedule_once(lambda: names.append(threading.current_thread().name), 0)
    eventually(lambda: names, "the run")
    lane.close()

    assert names == ["qkt-link"]


def test_the_last_lane_takes_the_threads_with_it() -> None:
    threads, ran = SharedThreads(), threading.Event()
    lane = threads.lane("only")
    lane.schedule_once(ran.set, 0)
    assert ran.wait(5)
    lane.close()

    assert alive(threads) == 0


def test_closing_waits_for_what_runs_and_starts_nothing_more(shared: SharedThreads) -> None:
    begun, ended, later = threading.Event(), threading.Event(), threading.Event()

    def action() -> None:
        begun.set()
        threading.Event().wait(0.05)
        ended.set()

    lane = shared.lane("closing")
    lane.schedule_once(action, 0)
    lane.schedule_once(later.set, 0)
    assert begun.wait(5)
    lane.close()

    assert ended.is_set()
    assert not later.is_set()
    with pytest.raises(InvalidRequestError, match="closing is closed"):
        lane.schedule_once(later.set, 0)


def test_an_action_may_close_its_own_lane(shared: SharedThreads) -> None:
    lane, closed = shared.lane("own"), threading.Event()

    def action() -> None:
        lane.close()
        closed.set()

    lane.schedule_once(action, 0)
    assert closed.wait(5)


def test_a_cancelled_schedule_does_not_run_and_an_error_does_not_stop_one(shared: SharedThreads) -> None:
    cancelled, runs = threading.Event(), []

    def failing() -> None:
        runs.append(1)
        raise SystemExit

    lane = shared.lane("mixed")
    lane.schedule_once(cancelled.set, 30).cancel()
    lane.schedule_at_fixed_rate(failing, 0, 10)
    eventually(lambda: len(runs) > 5, "more runs")
    lane.close()

    assert not cancelled.is_set()
