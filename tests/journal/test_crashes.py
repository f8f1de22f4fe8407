"""A process that is killed at any statement leaves a sound journal, and a successor finds all that was granted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from qkt.journal.protocol import JournalSnapshot, PermitOutcome
from qkt.journal.verify import verify
from tests.support.journal_stores import TTL_MS, Store, repository_root


@attrs.frozen
class Crash:
    """One run: its account, whether it was killed, and what it had been told was done, oldest first."""

    account: str
    killed: bool
    done: list[tuple[str, Any]]

    def values(self, what: str) -> set[Any]:
        return {value for name, value in self.done if name == what}


def crash_at_every_statement(store: Store) -> list[Crash]:
    store.open()  # the tables exist before the first crash
    command = [sys.executable, "-m", "tests.support.journal_crash", store.name, store.address]
    done = subprocess.run(
        [*command, getattr(store, "schema", "")],
        cwd=repository_root(),
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [Crash(**json.loads(line)) for line in done.stdout.splitlines()]


def problems(crash: Crash, found: JournalSnapshot, still_open: set[int]) -> list[str]:
    """What a crash may not leave behind."""
    stored = {permit.seq: permit for permit in found.permits}
    granted = crash.values("granted")
    recorded = crash.values("recorded")
    facts, fills = len(found.facts), sum(event.kind == "OrderFilled" for event in found.events)
    resolved = {seq for seq, permit in stored.items() if permit.outcome is not PermitOutcome.OPEN}
    checks = {
        "a permit that was granted is not there": granted <= set(stored),
        "more is there than one call that was not answered": len(stored) - len(granted) in (0, 1, 2),
        "a batch is there in part": len(stored) in (0, 1, 3),
        "a permit without an outcome is not open": still_open == set(stored) - resolved,
        "facts, events, watermark and outcome are there in part": facts == fills
        and facts in (0, 2)
        and bool(facts) == bool(found.watermarks) == bool(resolved),
        "what was recorded is not there": recorded <= resolved,
    }
    findings = [str(finding) for finding in verify(found)]
    return [f"{crash.account}: {name}" for name, holds in checks.items() if not holds] + findings


@pytest.mark.parametrize("kind", ["sqlite_store", "postgres_store"])
def test_a_crash_at_any_statement_leaves_a_sound_journal(
    kind: str, request: pytest.FixtureRequest, say: Callable[[str], None]
) -> None:
    store: Store = request.getfixturevalue(kind)
    crashes = crash_at_every_statement(store)
    successor = store.open(owner="successor")
    wrong: list[str] = []
    for crash in crashes:
        store.execute("UPDATE {p}lease SET expires_at_ms = 1")
        epoch = successor.acquire(crash.account, ttl_ms=TTL_MS).lease.epoch
        still_open = {permit.seq for permit in successor.open_permits(crash.account, before_epoch=epoch)}
        wrong += problems(crash, successor.snapshot(crash.account), still_open)

    say(f"killed at every statement, {store.name}: {len(crashes) - 1} crashes, {len(wrong)} left something wrong")
    assert wrong == []
    assert len(crashes) > 15
    assert [crash.killed for crash in crashes] == [True] * (len(crashes) - 1) + [False]
    assert crashes[-1].values("released") == {True}
