"""The keeper of an account lets one submit of an intent run at a time, and remembers no intent afterwards."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from qkt.bybit.ownership_keeper import OwnershipKeeper
from qkt.bybit.transport.adapter import as_transport
from qkt.testing import FakeBybitClient

DEADLINE_S = 5.0


CLIENT = as_transport(FakeBybitClient())  # a keeper holds it weakly


class PausedLock:
    """A lock at which the first thread that has to wait for it stops just before it does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_before = threading.Event()
        self.may_go_on = threading.Event()

    def locked(self) -> bool:
        return self._lock.locked()

    def __enter__(self) -> None:
        if self._lock.locked():
            self.is_before.set()
            assert self.may_go_on.wait(DEADLINE_S)
        self._lock.acquire()

    def __exit__(self, *_error: object) -> None:
        self._lock.release()


def test_an_intent_whose_submit_raises_is_not_kept() -> None:
    keeper = OwnershipKeeper(CLIENT)
    for number in range(3):
        with pytest.raises(RuntimeError), keeper.intent_lock(f"grid:{number}"):
            raise RuntimeError("refused")

    assert keeper._intent_locks == {}


def test_one_that_waits_for_an_intent_and_one_that_comes_later_do_not_run_together() -> None:
    """The waiting one has the lock at hand and not yet taken when the first submit ends."""
    keeper = OwnershipKeeper(CLIENT)
    lock = PausedLock()
    inside: list[str] = []
    together: list[str] = []
    second_is_inside, second_may_end = threading.Event(), threading.Event()

    def second() -> None:
        with keeper.intent_lock("grid:1"):
            inside.append("second")
            second_is_inside.set()
            assert second_may_end.wait(DEADLINE_S)
            inside.remove("second")

    def third() -> None:
        with keeper.intent_lock("grid:1"):
            together.extend(inside)
        lock.is_before.set()

    waiting = threading.Thread(target=second)
    later = threading.Thread(target=third)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qkt.bybit.ownership_keeper.threading", SimpleNamespace(Lock=lambda: lock))
        with keeper.intent_lock("grid:1"):
            waiting.start()
            assert lock.is_before.wait(DEADLINE_S)
    lock.is_before.clear()
    lock.may_go_on.set()
    assert second_is_inside.wait(DEADLINE_S)
    later.start()
    assert lock.is_before.wait(DEADLINE_S)  # the third waits for the same lock, or has run beside the second
    second_may_end.set()
    waiting.join(DEADLINE_S)
    later.join(DEADLINE_S)

    assert together == []
    assert keeper._intent_locks == {}
