"""The stores that the journal's suite runs on. The PostgreSQL server is the tests' own, one for each test process."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qkt.journal.postgres_session import DeadlineConnection, PostgresSession
from qkt.journal.store import JournalStore
from tests.support.journal_stores import ACCOUNT, TTL_MS, PostgresStore, SqliteStore, Store
from tests.support.postgres_server import PostgresServer
from tests.support.transaction_pooler import TransactionPooler, pgbouncer_program


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL; a test that needs it fails where none can be found."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture(scope="session")
def pooler(postgres_server: PostgresServer) -> Iterator[TransactionPooler | None]:
    """PgBouncer before the server, None where it is not installed."""
    program = pgbouncer_program()
    pooler = TransactionPooler(postgres_server, program) if program else None
    yield pooler
    if pooler is not None:
        pooler.close()


@pytest.fixture
def postgres_store(postgres_server: PostgresServer) -> Iterator[PostgresStore]:
    """A schema of the test's own."""
    store = PostgresStore(postgres_server)
    yield store
    store.close()


@pytest.fixture
def pooled_store(
    postgres_server: PostgresServer, pooler: TransactionPooler | None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PostgresStore]:
    """A schema of the test's own behind a pooler in transaction mode, or with a new connection for each message."""
    store = PostgresStore(postgres_server, pooler=pooler)
    if pooler is None:
        keep = PostgresSession._run_once

        def run_once(session: PostgresSession, *arguments: object) -> list[tuple[object, ...]]:
            rows = keep(session, *arguments)  # type: ignore[arg-type]
            with session._pool.connection() as connection:
                connection.close()
            return rows

        monkeypatch.setattr(PostgresSession, "_run_once", run_once)
        monkeypatch.setattr(DeadlineConnection, "notifies", lambda *_, **__: iter(()))
    yield store
    store.close()


@pytest.fixture
def own_database(postgres_server: PostgresServer) -> Iterator[PostgresStore]:
    """A database of the test's own, which can be copied and put back."""
    store = PostgresStore(postgres_server, own_database=True)
    yield store
    store.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A file of the test's own, in memory where that is possible: fsync costs nothing there."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="qkt-journal-", dir=memory if os.access(memory, os.W_OK) else tmp_path))
    store = SqliteStore(folder)
    yield store
    store.close()
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgres", "pooled"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture(params=["sqlite_store", "own_database"])
def copied_store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn, in a form that can be copied and put back."""
    found: Store = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def journal(store: Store) -> JournalStore:
    """A journal that owns the account under epoch 1."""
    journal = store.open(owner="bot-a")
    assert journal.acquire(ACCOUNT, ttl_ms=TTL_MS).granted
    return journal
