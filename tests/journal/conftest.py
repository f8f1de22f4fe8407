"""The stores that the journal's suite runs on. The PostgreSQL server is the tests' own, one for each test process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qkt.journal.store import JournalStore
from tests.support.journal_stores import ACCOUNT, TTL_MS, PostgresStore, SqliteStore, Store
from tests.support.postgres_server import PostgresServer


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A running PostgreSQL; a test that needs it fails where none can be found."""
    server = PostgresServer()
    yield server
    server.close()


@pytest.fixture
def postgres_store(postgres_server: PostgresServer) -> Iterator[PostgresStore]:
    """A database of the test's own."""
    store = PostgresStore(postgres_server)
    yield store
    store.close()


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[SqliteStore]:
    """A file of the test's own."""
    store = SqliteStore(tmp_path)
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """Each store in turn."""
    found: Store = request.getfixturevalue(f"{request.param}_store")
    return found


@pytest.fixture
def journal(store: Store) -> JournalStore:
    """A journal that owns the account under epoch 1."""
    journal = store.open(owner="bot-a")
    assert journal.acquire(ACCOUNT, ttl_ms=TTL_MS).granted
    return journal
