"""Work: fifty accounts in one process, each with its private stream, each read once a second."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import wire
from tests.benchmarks.harness import Figure, Measured, Sample, alternate, amount, children, column, paired
from tests.benchmarks.run import Run
from tests.benchmarks.servers import Door
from tests.benchmarks.sides import Arrivals, QktSession, pybit_http, pybit_stream, pybit_subscribe

ACCOUNTS = 50
FIGURES = (
    Figure(key="accounts-threads", title="50 accounts: threads", unit="threads", must=104.0, stretch=54.0),
    Figure(key="accounts-memory", title="50 accounts: memory of each", unit="KiB", must=120.0),
    Figure(key="accounts-cpu", title="50 accounts: CPU of a round", unit="x pybit", must=1.5, stretch=1.0),
)
_ORDERS, _FILLS_EACH = 5, 2


def _account_door(door: Door) -> Door:
    """A port of its own, hence an address budget of its own: as if each account had its own proxy."""
    found = door.another()
    found.hold(orders=_ORDERS, fills_each=_FILLS_EACH)
    return found


def _resident_kib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1024


def _sample(used_s: float, rounds: int, before_kib: float) -> Sample:
    kib = (_resident_kib() - before_kib) / ACCOUNTS
    return {"us": used_s / rounds * 1e6, "threads": threading.active_count(), "KiB": kib}


class QktAccounts:
    """Fifty clients and brokers that poll every second on their own timers."""

    def __init__(self, door: Door, seconds: int) -> None:
        self._seconds = seconds
        first = QktSession(_account_door(door))  # loads what every account shares
        self._before_kib = _resident_kib()
        self._doors = [_account_door(door) for _ in range(ACCOUNTS)]
        self._sessions = [QktSession(own, poll_interval_ms=1_000) for own in self._doors]
        first.close()

    def sample(self) -> Sample:
        rounds, begun = self._rounds(), time.process_time()
        time.sleep(self._seconds)
        used = time.process_time() - begun
        return _sample(used, self._rounds() - rounds, self._before_kib)

    def _rounds(self) -> int:
        """Each round reads the wallet once; the server counts, so that counting costs this process little."""
        return sum(door.requests().get("/v5/account/wallet-balance", 0) for door in self._doors)

    def close(self) -> None:
        for session in self._sessions:
            session.close()


class PybitAccounts:
    """Fifty REST sessions and private streams; one loop reads orders, executions and wallet of each every second."""

    def __init__(self, door: Door, seconds: int) -> None:
        self._seconds = seconds
        first = self._account(_account_door(door))
        self._before_kib = _resident_kib()
        self._accounts = [self._account(_account_door(door)) for _ in range(ACCOUNTS)]
        first[1].exit()

    def _account(self, door: Door) -> tuple[Any, Any]:
        session, stream, heard = pybit_http(door), pybit_stream(door), Arrivals()
        pybit_subscribe(stream, order=heard, execution=heard, wallet=heard)
        self._read(session)
        return session, stream

    def _read(self, session: Any) -> None:
        session.get_open_orders(category="spot", limit=wire.ORDER_PAGE)
        session.get_executions(category="spot", limit=wire.EXECUTION_PAGE)
        session.get_wallet_balance(accountType="UNIFIED")

    def sample(self) -> Sample:
        begun, used = time.monotonic(), time.process_time()
        for second in range(self._seconds):
            for session, _stream in self._accounts:
                self._read(session)
            time.sleep(max(0.0, begun + second + 1 - time.monotonic()))
        return _sample(time.process_time() - used, self._seconds * ACCOUNTS, self._before_kib)

    def close(self) -> None:
        for _session, stream in self._accounts:
            stream.exit()


def measure(run: Run) -> list[Measured]:
    """Only one side is alive at a time, since qkt's accounts poll by themselves."""
    seconds = run.pick(full=5, quick=3)
    turns: list[list[Sample]] = []
    for _ in range(run.pick(full=5, quick=1)):
        turn: list[Sample] = []
        for side in (QktAccounts, PybitAccounts):
            with children((side, run.door, seconds)) as (child,):
                turn += alternate([child], 1, warm_up=0)[0]
        turns.append(turn)
    rows = []
    for key, figure in (("accounts-threads", "threads"), ("accounts-memory", "KiB")):
        ours, theirs = column(turns, 0, figure), column(turns, 1, figure)
        unit = "" if figure == "threads" else figure
        rows.append(Measured(key=key, values=ours, ours=amount(ours, unit), theirs=amount(theirs, unit)))
    rows.append(paired("accounts-cpu", column(turns, 0, "us"), column(turns, 1, "us"), "us"))
    return rows
