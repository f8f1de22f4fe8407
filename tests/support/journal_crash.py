"""Runs one story on a journal again and again, and kills the process (SIGKILL) one statement later each time.

python -m tests.support.journal_crash sqlite|postgres ADDRESS SCHEMA

Each run is a forked child with an account of its own, ``crash-<point>``. A point is reached before and after every
statement, and in PostgreSQL also whenever the client has sent something and waits for the answer. Prints a JSON
line for each run: its account, whether it was killed, and what it had been told was done.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from qkt.journal.protocol import EventDraft, JournalFact, PermitOutcome, Resolution
from qkt.journal.store import JournalStore
from tests.support.journal_stores import TTL_MS, a_draft, open_at

MOST_POINTS = 400


class Points:
    """Counts the points reached, and kills this process at the one chosen."""

    def __init__(self, last: int) -> None:
        self._last = last
        self._reached = 0
        self.is_armed = False

    def reach(self, *_: object) -> None:
        if self.is_armed:
            self._reached += 1
            if self._reached == self._last:
                os.kill(os.getpid(), signal.SIGKILL)


def watch(kind: str, journal: JournalStore, points: Points) -> None:
    """Reach a point before and after each statement."""
    if kind == "sqlite":
        journal._connection.set_trace_callback(points.reach)  # type: ignore[attr-defined]
        return
    from qkt.journal import postgres_session

    def around(run: Callable[..., Any]) -> Callable[..., Any]:
        def run_between(*arguments: Any) -> Any:
            points.reach()
            result = run(*arguments)
            points.reach()
            return result

        return run_between

    def waiting(gen: Any, deadline_s: float | None) -> Any:
        try:
            wanted = next(gen)
            while True:
                points.reach()
                wanted = gen.send((yield wanted))
        except StopIteration as stop:
            return stop.value

    postgres_session.PostgresSession._run_once = around(postgres_session.PostgresSession._run_once)  # type: ignore[method-assign]
    postgres_session._until = waiting


def play(journal: JournalStore, account: str, told: Callable[[str, Any], None]) -> None:
    """Permits, a batch, outcomes with facts and events, a renewal, a hand-over. ``told`` hears what is done."""
    epoch = journal.acquire(account, ttl_ms=TTL_MS).lease.epoch
    told("epoch", epoch)
    (first,) = journal.append(account, epoch, [a_draft("first")])
    told("granted", first.seq)
    batch = journal.append(account, epoch, [a_draft("second"), a_draft("third")])
    for permit in batch:
        told("granted", permit.seq)
    journal.record(
        account,
        epoch,
        resolutions=[Resolution(seq=first.seq, outcome=PermitOutcome.ACCEPTED, broker_order_id="9001")],
        facts=[JournalFact(category="spot", order_id="9001", exec_id=str(number), body="{}") for number in range(2)],
        events=[EventDraft(key=f"fill:{number}", kind="OrderFilled", body="{}") for number in range(2)],
        watermarks={"executions": 5},
    )
    told("recorded", first.seq)
    journal.renew(account, epoch, ttl_ms=TTL_MS)
    journal.release(account, epoch)
    told("released", True)


def run_to(point: int, kind: str, address: str, options: dict[str, str]) -> dict[str, Any]:
    """Fork a child that is killed at ``point``; what it had been told when it died."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        points = Points(point)
        journal = open_at(kind, address, **options)
        watch(kind, journal, points)
        points.is_armed = True
        play(journal, f"crash-{point}", lambda what, value: _write(writing, what, value))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        done = [json.loads(line) for line in pipe]
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    assert killed or status == 0, status
    return {"account": f"crash-{point}", "killed": killed, "done": done}


def _write(pipe: int, what: str, value: Any) -> None:
    os.write(pipe, (json.dumps([what, value]) + "\n").encode())


def main(kind: str, address: str, schema: str) -> int:
    """0 once a run reached its end."""
    options = {"schema": schema} if schema else {}
    for point in range(1, MOST_POINTS):
        report = run_to(point, kind, address, options)
        print(json.dumps(report), flush=True)
        if not report["killed"]:
            return 0
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:4]))
