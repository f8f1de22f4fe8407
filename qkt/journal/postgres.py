"""A journal in PostgreSQL: for bots on more than one machine. Needs the extra ``qkt[postgres]``.

The primary must commit durably (``fsync`` and ``synchronous_commit`` on) and, where a standby may replace it, have that
standby synchronous: a failover that loses commits loses permits (rule P9). See `qkt.journal.postgres_sql` for how each
write is one statement, and `qkt.journal.postgres_session` for what a pooler in transaction mode needs.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from qkt.errors import InvalidRequestError, JournalError, JournalUnavailableError
from qkt.journal import postgres_sql, statements
from qkt.journal.protocol import EventDraft, JournalFact, Lease, OutboxEvent, Permit, PermitDraft, Resolution
from qkt.journal.schema import MIGRATIONS, Migration, steps_from
from qkt.journal.store import DuplicateError, JournalStore

if TYPE_CHECKING:
    from qkt.journal.postgres_session import Listener

_SCHEMA_NAME = re.compile(r"[a-z_][a-z0-9_]{0,40}\Z")
_RECORD_RETRIES = 5
_MIGRATION_TRIES = 20


class PostgresJournal(JournalStore):
    """A journal in the PostgreSQL database at ``dsn``.

    Args:
        dsn: a libpq connection string or URL; TLS, several hosts and password files work as in libpq.
        owner: a readable name for this process in leases; default is host and process id.
        schema: the database schema that holds the tables; created when it is not there.
        timeout_ms: how long a call waits for the database before it raises JournalUnavailableError.

    Raises:
        InvalidRequestError: psycopg is not installed, or the DSN cannot be read.
        JournalError: the tables' schema is newer than this program.
        JournalUnavailableError: the database cannot be reached, or is a replica.
    """

    _poll_interval_ms = 250

    def __init__(
        self,
        dsn: str,
        owner: str | None = None,
        *,
        schema: str = "qkt_journal",
        timeout_ms: int = 3_000,
        migrations: tuple[Migration, ...] = MIGRATIONS,
    ) -> None:
        super().__init__(owner=owner, migrations=migrations)
        if not _SCHEMA_NAME.match(schema):
            raise InvalidRequestError(f"schema {schema!r} must be a plain name in lower case")
        self._schema = schema
        self._prefix = f"{schema}."
        self._psycopg = _import_session()
        self._session = self._psycopg.PostgresSession(dsn, timeout_ms=timeout_ms)
        self._listener: Listener | None = None
        self._listener_lock = threading.Lock()
        try:
            self._prepare()
        except BaseException:
            self._session.close()
            raise

    def _prepare(self) -> None:
        """Bring the tables up to this program's schema; processes that start together take turns."""
        for _ in range(_MIGRATION_TRIES):
            version = self._version()
            missing = tuple(
                steps_from(version, self._migrations, where=f"schema {self._schema}, {self._session.where},")
            )
            if not missing:
                return
            try:
                self._migrate(version, missing[0])
            except (DuplicateError, JournalUnavailableError):
                # Another process took the same step: its version is read in the next turn.
                if self._version() == version:
                    raise
        raise JournalError(f"schema {self._schema} could not be brought to version {self.schema_version}")

    def _version(self) -> int:
        names = {"schema": self._schema}
        known = "SELECT 1 FROM information_schema.tables WHERE table_schema = :schema AND table_name = 'schema_version'"
        if not self._rows(known, names):
            return 0
        rows = self._rows("SELECT coalesce(max(version), 0) FROM {prefix}schema_version", {})
        return int(rows[0][0])

    def _migrate(self, version: int, step: Migration) -> None:
        """Take one step in one transaction; the primary key of schema_version lets only one process take it."""
        create = (
            f"CREATE SCHEMA IF NOT EXISTS {self._schema}",
            f"CREATE TABLE {self._prefix}schema_version (version bigint NOT NULL PRIMARY KEY)",
        )
        tables = tuple(text.format(prefix=self._prefix, serial=postgres_sql.SERIAL) for text in step.statements)
        stamp = f"INSERT INTO {self._prefix}schema_version VALUES ({step.version})"
        self._session.script((*(create if version == 0 else ()), stamp, *tables))

    def _rows(self, statement: str, values: Mapping[str, Any]) -> Sequence[statements.Row]:
        self._check_usable()
        rows: Sequence[statements.Row] = self._session.run(postgres_sql.in_postgres(statement, self._prefix), values)
        return rows

    def _change_lease(self, statement: str, values: Mapping[str, Any], kind: str | None) -> Lease | None:
        text = postgres_sql.lease_change(statement, with_event=kind is not None)
        rows = self._rows(text, {**values, "kind": kind, "channel": self._channel})
        if rows and kind is not None:
            self._wake_followers()
        return statements.lease_of(rows[0][:5]) if rows else None

    def _insert(
        self, account: str, epoch: int, drafts: Sequence[PermitDraft], tokens: Sequence[str]
    ) -> tuple[Permit, ...] | None:
        pairs = tuple(zip(drafts, tokens, strict=True))
        values = self._fence(account, epoch)
        for number, (draft, token) in enumerate(pairs):
            values.update((f"{name}_{number}", value) for name, value in statements.draft_values(draft, token).items())
        statement = postgres_sql.insert_permits(len(pairs))
        rows = {token: (seq, at_ms) for token, seq, at_ms, _ in self._rows(statement, values)}
        return (
            tuple(
                statements.granted(
                    draft,
                    token=token,
                    account=account,
                    epoch=epoch,
                    owner=self._owner,
                    seq=rows[token][0],
                    granted_at_ms=rows[token][1],
                )
                for draft, token in (pairs if rows else ())
            )
            or None
        )

    def _record(
        self,
        account: str,
        epoch: int,
        resolutions: Sequence[Resolution],
        facts: Sequence[JournalFact],
        events: Sequence[EventDraft],
        watermarks: Mapping[str, int],
    ) -> tuple[set[int], tuple[JournalFact, ...], tuple[OutboxEvent, ...]] | None:
        values = {
            **self._fence(account, epoch),
            "channel": self._channel,
            "resolutions": _json([_resolution_values(item) for item in resolutions]),
            "facts": _json([statements.fact_values(fact) for fact in facts]),
            "watermarks": _json([{"path": path, "time_ms": time_ms} for path, time_ms in watermarks.items()]),
            "events": _json([_event_values(number, event) for number, event in enumerate(events)]),
        }
        held, resolved, learnt, told, *_ = self._write_record(values)
        if not held:
            return None
        new_facts = tuple(_picked(row, statements.STORED_FACT_COLUMNS, statements.fact_of) for row in learnt)
        new_events = tuple(_picked(row, statements.EVENT_COLUMNS, statements.event_of) for row in told)
        return set(resolved), new_facts, new_events

    def _write_record(self, values: Mapping[str, Any]) -> statements.Row:
        for _ in range(_RECORD_RETRIES):
            try:
                return self._rows(postgres_sql.RECORD, values)[0]
            except DuplicateError as error:
                # Another thread appended the same key after this statement began: the next try sees it.
                conflict = error
        raise JournalUnavailableError(f"{self!r} could not record: {conflict}") from conflict

    def _fence(self, account: str, epoch: int) -> dict[str, Any]:
        return {"account": account, "epoch": epoch, "owner": self._owner}

    @property
    def _channel(self) -> str:
        return f"{self._schema}_news"

    def _follow(self) -> None:
        with self._listener_lock:
            if self._listener is None and not self._closed:
                self._listener = self._psycopg.Listener(self._session, self._channel, self._wake_followers)

    def _close_store(self) -> None:
        with self._listener_lock:
            if self._listener is not None:
                self._listener.close()
        self._session.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<PostgresJournal {self._session.where} schema={self._schema} owner={self._owner} {state}>"


def _import_session() -> Any:
    try:
        import_module("psycopg")
        import_module("psycopg_pool")
    except ImportError as error:
        raise InvalidRequestError(
            f"PostgresJournal needs psycopg, which is not installed ({error}): pip install 'qkt[postgres]'"
        ) from error
    return import_module("qkt.journal.postgres_session")


def _json(rows: list[dict[str, Any]]) -> str:
    text = json.dumps(rows)
    if "\\u0000" in text:
        raise InvalidRequestError("a body, key or id holds a NUL character, which the journal cannot store")
    return text


def _picked(row: Mapping[str, Any], columns: tuple[str, ...], build: Any) -> Any:
    return build([row[name] for name in columns])


def _resolution_values(resolution: Resolution) -> dict[str, Any]:
    return {
        "seq": resolution.seq,
        "outcome": resolution.outcome.value,
        "broker_order_id": resolution.broker_order_id,
        "reason": resolution.reason,
    }


def _event_values(place: int, event: EventDraft) -> dict[str, Any]:
    return {"place": place, "key": event.key, "kind": event.kind, "body": event.body}
