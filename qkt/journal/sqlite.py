"""A journal in one SQLite file: the embedded default, for bots on one machine.

The file is in WAL mode with ``synchronous=FULL``: a call that returns is on the disk. Several processes of one machine
may open it, e.g. a bot and its standby. A file system must be able to lock: a network share that cannot is refused when
the journal is opened. A process that is stopped in the middle of a commit holds the file's write lock until it goes on
or is killed; others then get JournalUnavailableError, and nothing is sent meanwhile.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError, JournalError, JournalUnavailableError
from qkt.journal import statements
from qkt.journal.file_lock import check_file_locks
from qkt.journal.protocol import EventDraft, JournalFact, Lease, OutboxEvent, Permit, PermitDraft, Resolution
from qkt.journal.schema import MIGRATIONS, Migration, steps_from
from qkt.journal.store import DuplicateError, JournalStore

_APPLICATION_ID = 0x716B746A  # "qktj" in the file's header: what kind of database it is
_SERIAL = "INTEGER PRIMARY KEY AUTOINCREMENT"
_OLDEST_SQLITE = (3, 35, 0)  # RETURNING

_HELD = "EXISTS (SELECT 1 FROM lease WHERE account = :account AND epoch = :epoch AND owner = :owner)"
_INSERT_PERMIT = f"""
    INSERT INTO permit (account, epoch, owner, {", ".join(statements.DRAFT_COLUMNS)}, granted_at_ms,
                        outcome, broker_order_id, reason, resolved_epoch, resolved_at_ms)
    SELECT :account, :epoch, :owner, {", ".join(f":{name}" for name in statements.DRAFT_COLUMNS)}, :now,
           'open', '', '', 0, 0
    WHERE {_HELD}
    RETURNING seq"""
_RESOLVE = """
    UPDATE permit SET outcome = :outcome, reason = :reason, resolved_epoch = :epoch, resolved_at_ms = :now,
        broker_order_id = CASE WHEN :broker_order_id <> '' THEN :broker_order_id ELSE broker_order_id END
    WHERE account = :account AND seq = :seq AND outcome = 'open' RETURNING seq"""
_INSERT_FACT = f"""
    INSERT INTO fact (account, epoch, recorded_at_ms, {", ".join(statements.FACT_COLUMNS)})
    VALUES (:account, :epoch, :now, {", ".join(f":{name}" for name in statements.FACT_COLUMNS)})
    ON CONFLICT DO NOTHING RETURNING {", ".join(statements.STORED_FACT_COLUMNS)}"""
_RAISE_WATERMARK = """
    INSERT INTO watermark (account, path, time_ms) VALUES (:account, :path, :time_ms)
    ON CONFLICT (account, path) DO UPDATE SET time_ms = max(time_ms, excluded.time_ms)"""
_NEXT_SEQ = """
    INSERT INTO outbox_end AS outbox_end (account, last_seq) VALUES (:account, 1)
    ON CONFLICT (account) DO UPDATE SET last_seq = outbox_end.last_seq + 1 RETURNING last_seq"""
_IS_TOLD = "SELECT 1 FROM outbox WHERE account = :account AND key = :key"
_INSERT_EVENT = f"""
    INSERT INTO outbox ({", ".join(statements.EVENT_COLUMNS)})
    VALUES (:account, :seq, :epoch, :key, :kind, :body, :now)"""


class SqliteJournal(JournalStore):
    """A journal in the SQLite file at ``path``, which is created when it is not there.

    Args:
        path: a file on a local disk; its folder must exist.
        owner: a readable name for this process in leases; default is host and process id.
        timeout_ms: how long a write waits for another process's commit before it raises JournalUnavailableError.
        clock: dates leases and rows; every process of one journal must use the machine's.

    Raises:
        InvalidRequestError: the path cannot hold a journal: in memory, no folder, another program's database.
        JournalError: the file system cannot lock, or the file's schema is newer than this program.
        JournalUnavailableError: the file cannot be opened or is locked for longer than ``timeout_ms``.
    """

    _poll_interval_ms = 50

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        owner: str | None = None,
        timeout_ms: int = 5_000,
        clock: Clock | None = None,
        migrations: tuple[Migration, ...] = MIGRATIONS,
    ) -> None:
        super().__init__(owner=owner, migrations=migrations)
        self._path = _checked_path(path)
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        check_file_locks(self._path)
        self._connection = self._connect(timeout_ms)
        try:
            self._prepare()
        except BaseException:
            self._connection.close()
            raise
        self._inode = self._path.stat().st_ino

    def _connect(self, timeout_ms: int) -> sqlite3.Connection:
        try:
            return sqlite3.connect(
                self._path, timeout=timeout_ms / 1_000, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _prepare(self) -> None:
        """Check what the file is, and bring its schema up to this program's."""
        with self._errors():
            # In this order: another process may create the tables in between, in one commit with the application id.
            is_empty = not self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            application = self._connection.execute("PRAGMA application_id").fetchone()[0]
            if application != _APPLICATION_ID and not is_empty:
                raise InvalidRequestError(
                    f"{self._path} is another program's database; give the journal a file of its own"
                )
            mode = self._connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            if mode != "wal":
                raise JournalError(
                    f"{self._path}: the file system does not support WAL (mode {mode!r}); use a local disk"
                )
            self._connection.execute("PRAGMA synchronous = FULL")
            if self._version() != self.schema_version:
                self._migrate()

    def _version(self) -> int:
        return int(self._connection.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        with self._transaction() as run:
            # Read again: another process may have migrated before this one had the lock.
            for step in steps_from(self._version(), self._migrations, where=str(self._path)):
                for statement in step.statements:
                    run(statement.format(prefix="", serial=_SERIAL), {})
                run(f"PRAGMA user_version = {step.version}", {})
            run(f"PRAGMA application_id = {_APPLICATION_ID}", {})

    def _rows(self, statement: str, values: Mapping[str, Any]) -> Sequence[statements.Row]:
        self._check_usable()
        with self._lock, self._errors():
            text = statement.format(prefix="", now=":now")
            return self._connection.execute(text, {**values, "now": self._clock.now_ms()}).fetchall()

    def _change_lease(self, statement: str, values: Mapping[str, Any], kind: str | None) -> Lease | None:
        self._check_usable()
        self._check_file()
        now = self._clock.now_ms()
        with self._lock, self._errors(), self._transaction() as run:
            rows = run(statement.format(prefix="", now=":now"), {**values, "now": now})
            if not rows:
                return None
            lease = statements.lease_of(rows[0])
            if kind is not None:
                body = json.dumps({"epoch": lease.epoch, "owner": values["owner"]})
                draft = EventDraft(key=f"{kind}:{lease.epoch}", kind=kind, body=body)
                _append_event(run, draft, {"account": lease.account, "epoch": lease.epoch, "now": now})
        if kind is not None:
            self._wake_followers()
        return lease

    def _insert(
        self, account: str, epoch: int, drafts: Sequence[PermitDraft], tokens: Sequence[str]
    ) -> tuple[Permit, ...] | None:
        self._check_usable()
        self._check_file()
        fence = self._fence(account, epoch)
        permits: list[Permit] = []
        with self._lock, self._errors(), self._transaction() as run:
            for draft, token in zip(drafts, tokens, strict=True):
                rows = run(_INSERT_PERMIT, {**fence, **statements.draft_values(draft, token)})
                if not rows:
                    return None
                permits.append(
                    statements.granted(
                        draft,
                        token=token,
                        account=account,
                        epoch=epoch,
                        owner=self._owner,
                        seq=rows[0][0],
                        granted_at_ms=fence["now"],
                    )
                )
        return tuple(permits)

    def _record(
        self,
        account: str,
        epoch: int,
        resolutions: Sequence[Resolution],
        facts: Sequence[JournalFact],
        events: Sequence[EventDraft],
        watermarks: Mapping[str, int],
    ) -> tuple[set[int], tuple[JournalFact, ...], tuple[OutboxEvent, ...]] | None:
        self._check_usable()
        fence = self._fence(account, epoch)
        with self._lock, self._errors(), self._transaction() as run:
            if not run(f"SELECT 1 WHERE {_HELD}", fence):
                return None
            resolved = {row[0] for item in resolutions for row in run(_RESOLVE, {**fence, **_resolution_values(item)})}
            learnt = [row for fact in facts for row in run(_INSERT_FACT, {**fence, **statements.fact_values(fact)})]
            for path, time_ms in watermarks.items():
                run(_RAISE_WATERMARK, {**fence, "path": path, "time_ms": time_ms})
            told = [event for draft in events if (event := _append_event(run, draft, fence)) is not None]
        return resolved, tuple(map(statements.fact_of, learnt)), tuple(told)

    def _fence(self, account: str, epoch: int) -> dict[str, Any]:
        return {"account": account, "epoch": epoch, "owner": self._owner, "now": self._clock.now_ms()}

    def _check_file(self) -> None:
        """Refuse to go on with a file that was moved, deleted or replaced while it was open."""
        try:
            is_same = self._path.stat().st_ino == self._inode
        except FileNotFoundError:
            is_same = False
        if not is_same:
            raise JournalUnavailableError(
                f"{self._path} was deleted or replaced while it was open; restart this process on the new file"
            )

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """One transaction that holds the write lock from its first statement; an exception rolls it back."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        try:
            yield lambda statement, values: execute(statement, values).fetchall()
            execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors as qkt's."""
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise DuplicateError(str(error)) from error
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: sqlite3.Error) -> JournalError:
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        if name in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
            return JournalError(f"{self._path} is not a journal or is damaged ({name}: {error}); restore a copy of it")
        return JournalUnavailableError(
            f"journal {self._path} cannot be used now ({name}: {error}): no permit was given and nothing was sent; "
            "is the disk full, or does another process hold the file?"
        )

    def _close_store(self) -> None:
        with self._lock:
            self._connection.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<SqliteJournal {self._path} owner={self._owner} {state}>"


def _append_event(run: Any, draft: EventDraft, fence: Mapping[str, Any]) -> OutboxEvent | None:
    if run(_IS_TOLD, {**fence, "key": draft.key}):
        return None
    seq = run(_NEXT_SEQ, fence)[0][0]
    event = OutboxEvent(
        account=fence["account"],
        seq=seq,
        epoch=fence["epoch"],
        key=draft.key,
        kind=draft.kind,
        body=draft.body,
        recorded_at_ms=fence["now"],
    )
    run(_INSERT_EVENT, {**fence, "seq": seq, "key": draft.key, "kind": draft.kind, "body": draft.body})
    return event


def _resolution_values(resolution: Resolution) -> dict[str, Any]:
    return {
        "seq": resolution.seq,
        "outcome": resolution.outcome.value,
        "broker_order_id": resolution.broker_order_id,
        "reason": resolution.reason,
    }


def _checked_path(path: str | os.PathLike[str]) -> Path:
    text = os.fspath(path)
    if not text or text == ":memory:" or text.startswith("file:"):
        raise InvalidRequestError(f"a journal needs a file that outlives the process, not {text!r}")
    resolved = Path(text).absolute()
    if resolved.is_dir():
        raise InvalidRequestError(f"{resolved} is a folder; name a file in it, e.g. {resolved / 'bot.db'}")
    if not resolved.parent.is_dir():
        raise InvalidRequestError(f"the folder {resolved.parent} does not exist; create it first")
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        raise InvalidRequestError(f"SQLite {sqlite3.sqlite_version} is too old for a journal: 3.35 is needed")
    return resolved
