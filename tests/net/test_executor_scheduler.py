"""An executor of the standard library as scheduler: its threads do the work, the timer is qkt's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import InvalidRequestError
from qkt.net.reconciler import PeriodicReconciler
from qkt.net.scheduler import ExecutorScheduler, ThreadScheduler, scheduler_from
from qkt.net.supervisor import ReconnectSupervisor
from qkt.testing import FakeBybitClient
from qkt.threads import is_library_thread
from tests.support.transport_rig import eventually


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2, thread_name_prefix="users") as pool:
        yield pool


def test_a_periodic_action_runs_on_the_executors_threads_as_qkts_own_work(executor: ThreadPoolExecutor) -> None:
    seen: list[tuple[str, bool]] = []
    reconciler = PeriodicReconciler(
        10, lambda: seen.append((threading.current_thread().name, is_library_thread())), scheduler=executor
    )

    reconciler.start()
    eventually(lambda: len(seen) >= 3, "three ticks")
    reconciler.stop()

    assert all(name.startswith("users") and is_own for name, is_own in seen)
    assert executor.submit(is_library_thread).result() is False


def test_an_executor_that_was_given_stays_open(executor: ThreadPoolExecutor) -> None:
    reconciler = PeriodicReconciler(10, lambda: None, scheduler=executor)
    reconciler.start()
    reconciler.stop()

    assert executor.submit(lambda: "still open").result() == "still open"
    assert not [thread for thread in threading.enumerate() if thread.name == "qkt-timer"]


def test_two_runs_of_one_schedule_never_overlap_on_an_executor(executor: ThreadPoolExecutor) -> None:
    running, most, ran, go_on = 0, 0, threading.Event(), threading.Event()

    def action() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        ran.set()
        go_on.wait(0.05)
        running -= 1

    scheduler = ExecutorScheduler(executor)
    schedule = scheduler.schedule_at_fixed_rate(action, 0, 5)
    assert ran.wait(5)
    go_on.wait(0.15)
    schedule.cancel()
    scheduler.close()

    assert most == 1


def test_a_cancelled_schedule_does_not_run_though_it_waits_in_the_executor() -> None:
    release, ran = threading.Event(), threading.Event()
    with ThreadPoolExecutor(1) as executor:
        executor.submit(release.wait, 5)
        scheduler = ExecutorScheduler(executor)
        schedule = scheduler.schedule_once(ran.set, 0)
        eventually(lambda: executor._work_queue.qsize() == 1, "the action waits behind another")
        schedule.cancel()
        release.set()
        scheduler.close()

    assert not ran.is_set()


def test_an_executor_that_was_shut_down_ends_the_schedule_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    scheduler = ExecutorScheduler(executor)

    scheduler.schedule_at_fixed_rate(lambda: None, 0, 5)
    eventually(lambda: "executor was shut down" in caplog.text, "the log line")
    scheduler.close()

    assert caplog.text.count("executor was shut down") == 1


def test_an_action_that_raises_does_not_stop_a_schedule_on_an_executor(executor: ThreadPoolExecutor) -> None:
    runs: list[int] = []

    def action() -> None:
        runs.append(1)
        raise SystemExit

    scheduler = ExecutorScheduler(executor)
    scheduler.schedule_at_fixed_rate(action, 0, 5)
    eventually(lambda: len(runs) >= 3, "three runs")
    scheduler.close()


def test_a_broker_reconciles_on_an_executor_shared_by_several_brokers(executor: ThreadPoolExecutor) -> None:
    client, bus = FakeBybitClient(), EventBus()
    with (
        BybitSpotBroker(client, bus, poll_interval_ms=20, poll_scheduler=executor) as first,
        BybitSpotBroker(FakeBybitClient(), bus, poll_interval_ms=20, poll_scheduler=executor) as second,
    ):
        eventually(lambda: len(first.reports) > 2 and len(second.reports) > 2, "rounds of both")

    assert executor.submit(lambda: "still open").result() == "still open"


def test_a_supervisor_attempts_on_an_executor(executor: ThreadPoolExecutor) -> None:
    names: list[str] = []
    supervisor = ReconnectSupervisor(
        lambda: names.append(threading.current_thread().name), scheduler=executor, random=lambda: 0.0
    )
    supervisor.trigger("lost")
    eventually(lambda: names, "an attempt")
    supervisor.stop()

    assert names[0].startswith("users")


def test_a_scheduler_that_was_given_is_used_as_it_is_and_not_closed() -> None:
    with ThreadScheduler() as given:
        scheduler, release = scheduler_from(given, "x")
        release()

        assert scheduler is given
        assert given.schedule_once(lambda: None, 0) is not None


@pytest.mark.parametrize("wrong", [3, "thread", ThreadPoolExecutor, object()])
def test_anything_else_is_refused_when_it_is_given(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match=r"concurrent\.futures\.Executor"):
        PeriodicReconciler(10, lambda: None, scheduler=wrong)  # type: ignore[arg-type]
