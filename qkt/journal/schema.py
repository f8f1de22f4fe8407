"""The tables of a journal and the steps that bring an older schema up to this one. Pure.

One text serves both stores: ``{prefix}`` stands before each table's name (a PostgreSQL schema and a dot, nothing in
SQLite) and ``{serial}`` is the store's own rising primary key.

A step may only add: a bot of the previous version, which still owns an account while its standby is started with the
new one, must be able to go on with the statements it has.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from qkt.errors import JournalError


@attrs.frozen
class Migration:
    """The statements that bring the schema from ``version - 1`` to ``version``."""

    version: int
    statements: tuple[str, ...]


# A unique index over (account, epoch) makes `epoch` a key column in PostgreSQL: a statement that raises it locks the
# row FOR UPDATE, which waits for the FOR KEY SHARE of a permit that is being appended. A renewal leaves it alone and
# waits for nothing.
_FIRST = (
    """CREATE TABLE {prefix}lease (
        account text NOT NULL PRIMARY KEY,
        epoch bigint NOT NULL,
        owner text NOT NULL,
        expires_at_ms bigint NOT NULL
    )""",
    "CREATE UNIQUE INDEX lease_epoch ON {prefix}lease (account, epoch)",
    """CREATE TABLE {prefix}permit (
        seq {serial},
        account text NOT NULL,
        epoch bigint NOT NULL,
        owner text NOT NULL,
        intent text NOT NULL,
        attempt bigint NOT NULL,
        operation text NOT NULL,
        link_id text NOT NULL,
        category text NOT NULL,
        symbol text NOT NULL,
        signed_at_ms bigint NOT NULL,
        recv_window_ms bigint NOT NULL,
        body text NOT NULL,
        fingerprint text NOT NULL,
        token text NOT NULL,
        granted_at_ms bigint NOT NULL,
        outcome text NOT NULL,
        broker_order_id text NOT NULL,
        reason text NOT NULL,
        resolved_epoch bigint NOT NULL,
        resolved_at_ms bigint NOT NULL
    )""",
    "CREATE UNIQUE INDEX permit_token ON {prefix}permit (token)",
    "CREATE UNIQUE INDEX permit_create ON {prefix}permit (account, intent, attempt) WHERE operation = 'create'",
    "CREATE INDEX permit_intent ON {prefix}permit (account, intent)",
    "CREATE INDEX permit_link ON {prefix}permit (account, link_id)",
    "CREATE INDEX permit_open ON {prefix}permit (account, epoch) WHERE outcome = 'open'",
    """CREATE TABLE {prefix}fact (
        seq {serial},
        account text NOT NULL,
        epoch bigint NOT NULL,
        kind text NOT NULL,
        category text NOT NULL,
        order_id text NOT NULL,
        exec_id text NOT NULL,
        link_id text NOT NULL,
        occurred_at_ms bigint NOT NULL,
        recorded_at_ms bigint NOT NULL,
        body text NOT NULL
    )""",
    "CREATE UNIQUE INDEX fact_once ON {prefix}fact (account, kind, category, order_id, exec_id)",
    "CREATE INDEX fact_time ON {prefix}fact (account, occurred_at_ms)",
    """CREATE TABLE {prefix}watermark (
        account text NOT NULL,
        path text NOT NULL,
        time_ms bigint NOT NULL,
        PRIMARY KEY (account, path)
    )""",
    """CREATE TABLE {prefix}outbox_end (
        account text NOT NULL PRIMARY KEY,
        last_seq bigint NOT NULL
    )""",
    """CREATE TABLE {prefix}outbox (
        account text NOT NULL,
        seq bigint NOT NULL,
        epoch bigint NOT NULL,
        key text NOT NULL,
        kind text NOT NULL,
        body text NOT NULL,
        recorded_at_ms bigint NOT NULL,
        PRIMARY KEY (account, seq)
    )""",
    "CREATE UNIQUE INDEX outbox_once ON {prefix}outbox (account, key)",
)

MIGRATIONS: tuple[Migration, ...] = (Migration(1, _FIRST),)


def newest_version(migrations: tuple[Migration, ...]) -> int:
    """The version that a program with these steps reads and writes."""
    return migrations[-1].version


def steps_from(version: int, migrations: tuple[Migration, ...], *, where: str) -> Iterator[Migration]:
    """The steps that are missing; raises JournalError for a schema that is newer than this program."""
    newest = newest_version(migrations)
    if version > newest:
        raise JournalError(
            f"{where} has journal schema {version} and this program knows schema {newest} at most; "
            "start the version of qkt that wrote it, or a newer one"
        )
    return (migration for migration in migrations if migration.version > version)
