"""What a permit costs: one fenced durable append, beside a bare INSERT and COMMIT on the same store.

    python -m tests.benchmarks.journal [appends]

The PostgreSQL server is the tests' own. The four are measured in turns of one append each, so that a disk that is slow
for a while is slow for all. Medians and 99th percentiles in microseconds.
"""

from __future__ import annotations

import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from qkt.journal import PostgresJournal, SqliteJournal
from qkt.journal.intents import link_id
from qkt.journal.protocol import PermitDraft
from qkt.journal.store import JournalStore
from tests.support.postgres_server import PostgresServer

ACCOUNT = "BYBIT:7001"
BODY = '{"category":"spot","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.001","price":"30000"}'
WARM_UP = 50

Append = Callable[[int], None]


def permits(journal: JournalStore) -> Append:
    """Appends one permit."""
    epoch = journal.acquire(ACCOUNT, ttl_ms=600_000).lease.epoch

    def append(number: int) -> None:
        intent = f"grid:BTCUSDT:{number}:buy"
        journal.append(
            ACCOUNT,
            epoch,
            [
                PermitDraft(
                    intent=intent,
                    link_id=link_id(ACCOUNT, intent, epoch=epoch, attempt=1),
                    category="spot",
                    symbol="BTCUSDT",
                    signed_at_ms=1_700_000_000_000 + number,
                    recv_window_ms=2_000,
                    body=BODY,
                    fingerprint="f" * 32,
                )
            ],
        )

    return append


def bare_sqlite(path: Path) -> Append:
    """One INSERT in WAL mode with synchronous=FULL."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.executescript(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE bare (n INTEGER, body TEXT)"
    )

    def append(number: int) -> None:
        connection.execute("INSERT INTO bare VALUES (?, ?)", (number, BODY))

    return append


def bare_postgres(dsn: str) -> Append:
    """One INSERT on an open connection in autocommit."""
    connection = psycopg.connect(dsn, autocommit=True)
    connection.execute("CREATE TABLE bare (n bigint, body text)")

    def append(number: int) -> None:
        connection.execute("INSERT INTO bare VALUES (%s, %s)", (number, BODY))

    return append


def measure(appends: dict[str, Append], count: int) -> dict[str, list[float]]:
    """Microseconds of each append, in turns."""
    taken: dict[str, list[float]] = {name: [] for name in appends}
    for number in range(count + WARM_UP):
        for name, append in appends.items():
            began = time.perf_counter_ns()
            append(number)
            if number >= WARM_UP:
                taken[name].append((time.perf_counter_ns() - began) / 1_000)
    return taken


def run(count: int, *, on_disk: bool) -> None:
    """Print a line for each, on the disk with fsync, or in memory without."""
    server = PostgresServer(fsync=on_disk)
    memory = None if on_disk else "/dev/shm"
    try:
        with (
            tempfile.TemporaryDirectory(dir=memory) as folder,
            SqliteJournal(Path(folder) / "bot.db") as sqlite_journal,
            PostgresJournal(server.dsn()) as postgres_journal,
        ):
            appends = {
                "SQLite, bare INSERT and COMMIT": bare_sqlite(Path(folder) / "bare.db"),
                "SqliteJournal.append": permits(sqlite_journal),
                "PostgreSQL, bare INSERT and COMMIT": bare_postgres(server.dsn()),
                "PostgresJournal.append": permits(postgres_journal),
            }
            for name, taken in measure(appends, count).items():
                median, percentiles = statistics.median(taken), statistics.quantiles(taken, n=100)
                print(f"  {name:<36} median {median:7.0f} us   p99 {percentiles[98]:7.0f} us")
    finally:
        server.close()


def main(count: int) -> int:
    """Both places: a disk, where fsync is most of it, and memory, where only the work itself is left."""
    for on_disk in (True, False):
        print(f"{count} appends each, {'on the disk, with fsync' if on_disk else 'in memory, fsync costs nothing'}")
        run(count, on_disk=on_disk)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000))
