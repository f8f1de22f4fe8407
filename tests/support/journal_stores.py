"""Both stores of a journal behind one face, so that one suite holds for both."""

from __future__ import annotations

import os
import shutil
import sqlite3
import uuid
from pathlib import Path
from typing import Any, Protocol

import psycopg

from qkt.journal import PostgresJournal, SqliteJournal
from qkt.journal.protocol import PermitDraft
from qkt.journal.store import JournalStore
from tests.support.postgres_server import PostgresServer
from tests.support.transaction_pooler import TransactionPooler

ACCOUNT = "BYBIT:7001"
TTL_MS = 10_000
SIGNED_AT_MS = 1_700_000_000_000


class Store(Protocol):
    """A place where a journal is kept: opened any number of times, copied, put back, looked into."""

    name: str

    @property
    def address(self) -> str:
        """What another process needs to open it."""
        ...

    def open(self, **options: Any) -> JournalStore:
        """A journal on this store; closed at the end of the test."""
        ...

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        """Run one SQL statement beside the journals, with ``{p}`` before each table."""
        ...

    def save_copy(self) -> None:
        """Remember everything as it is now."""
        ...

    def restore_copy(self) -> None:
        """Put the remembered state back, as a failover to a replica that lagged behind does."""
        ...


class _Opened:
    def __init__(self) -> None:
        self.journals: list[JournalStore] = []

    def keep(self, journal: JournalStore) -> JournalStore:
        self.journals.append(journal)
        return journal

    def close(self) -> None:
        for journal in self.journals:
            journal.close()


class SqliteStore(_Opened):
    """A file in a folder of the test."""

    name = "sqlite"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.path = folder / "bot.db"

    @property
    def address(self) -> str:
        return str(self.path)

    def open(self, **options: Any) -> JournalStore:
        return self.keep(SqliteJournal(self.path, **options))

    def raw(self) -> sqlite3.Connection:
        """A connection beside the journals."""
        return sqlite3.connect(self.path, isolation_level=None, timeout=5)

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        connection = self.raw()
        try:
            return connection.execute(statement.format(p="")).fetchall()
        finally:
            connection.close()

    def save_copy(self) -> None:
        connection = sqlite3.connect(self.path)
        copy = sqlite3.connect(self.path.with_suffix(".copy"))
        connection.backup(copy)
        connection.close()
        copy.close()

    def restore_copy(self) -> None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self.path}{suffix}").unlink(missing_ok=True)
        shutil.copy(self.path.with_suffix(".copy"), self.path)


class PostgresStore(_Opened):
    """A schema of its own on the tests' server, or a database of its own, which can be copied and put back."""

    name = "postgres"

    def __init__(
        self, server: PostgresServer, *, own_database: bool = False, pooler: TransactionPooler | None = None
    ) -> None:
        super().__init__()
        self.server = server
        self.pooler = pooler
        self.schema = f"t{uuid.uuid4().hex[:12]}"
        self.database = self.schema if own_database else "postgres"
        if own_database:
            self._administer(f"CREATE DATABASE {self.database} TEMPLATE template0")

    @property
    def address(self) -> str:
        return (self.pooler or self.server).dsn(self.database)

    def open(self, **options: Any) -> JournalStore:
        return self.keep(PostgresJournal(self.address, **{"schema": self.schema, **options}))

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.server.dsn(self.database), autocommit=True) as connection:
            cursor = connection.execute(statement.format(p=f"{self.schema}.").encode())
            return cursor.fetchall() if cursor.description else []

    def save_copy(self) -> None:
        self._disconnect()
        self._administer(f"CREATE DATABASE {self.database}_copy TEMPLATE {self.database}")

    def restore_copy(self) -> None:
        self._administer(f"DROP DATABASE {self.database} WITH (FORCE)")
        self._administer(f"ALTER DATABASE {self.database}_copy RENAME TO {self.database}")

    def _disconnect(self) -> None:
        self._administer(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS false")
        self._administer(
            f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{self.database}'"
        )
        self._administer(f"ALTER DATABASE {self.database} ALLOW_CONNECTIONS true")

    def _administer(self, statement: str) -> None:
        with psycopg.connect(self.server.dsn(), autocommit=True) as connection:
            connection.execute(statement.encode())


def open_at(kind: str, address: str, **options: Any) -> JournalStore:
    """A journal of a store that another process made."""
    return SqliteJournal(address, **options) if kind == "sqlite" else PostgresJournal(address, **options)


def a_draft(intent: str = "grid:42:buy", **changes: Any) -> PermitDraft:
    """A create that wants a permit."""
    values: dict[str, Any] = {
        "intent": intent,
        "link_id": f"link-{intent}-{changes.get('attempt', 1)}",
        "category": "spot",
        "symbol": "BTCUSDT",
        "signed_at_ms": SIGNED_AT_MS,
        "recv_window_ms": 2_000,
        "body": '{"symbol":"BTCUSDT","qty":"1"}',
        "fingerprint": "one bitcoin",
    }
    return PermitDraft(**{**values, **changes})


def repository_root() -> str:
    """The folder that a subprocess needs on its path."""
    return os.fspath(Path(__file__).parents[2])
