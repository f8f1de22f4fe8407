"""The writing statements of `PostgresJournal`. Pure.

Each is one statement, and so one round trip and one commit. The server runs it to its end without waiting for the
client: a process that is stopped in the middle leaves no lock behind.

``held`` is the fence of rule P2: the lease row, locked FOR KEY SHARE, and only if it still has the owner and epoch. A
takeover changes ``epoch``, a key column, and so waits for every such lock before it commits; a renewal does not.
"""

from __future__ import annotations

import re
from functools import lru_cache

from qkt.journal.statements import (
    DRAFT_COLUMNS,
    EVENT_COLUMNS,
    FACT_COLUMNS,
    STORED_FACT_COLUMNS,
)

SERIAL = "bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY"
NOW = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"

# An asynchronous commit is answered before it is durable: the permit of a request that was sent could be lost. The
# setting holds for the transaction it is made in, and is looked at when that commits.
_DURABLE = """CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
        THEN set_config('synchronous_commit', 'on', true) END"""

_PARAMETER = re.compile(r"(?<!:):([a-z_][a-z_0-9]*)")
_WIDE = {"occurred_at_ms"}

_HELD = """held AS (
        SELECT account, epoch, owner FROM {prefix}lease
        WHERE account = :account AND epoch = :epoch AND owner = :owner FOR KEY SHARE
    )"""


def _typed(columns: tuple[str, ...]) -> str:
    return ", ".join(f"{name} {'bigint' if name in _WIDE else 'text'}" for name in columns)


def _of(alias: str, columns: tuple[str, ...]) -> str:
    return ", ".join(f"{alias}.{name}" for name in columns)


_INSERT_PERMITS = f"""
    WITH {_HELD}
    INSERT INTO {{prefix}}permit (account, epoch, owner, {", ".join(DRAFT_COLUMNS)}, granted_at_ms,
                                  outcome, broker_order_id, reason, resolved_epoch, resolved_at_ms)
    SELECT held.account, held.epoch, held.owner, {_of("draft", DRAFT_COLUMNS)}, {{now}}, 'open', '', '', 0, 0
    FROM held, (VALUES {{drafts}}) AS draft ({", ".join(DRAFT_COLUMNS)})
    RETURNING token, seq, granted_at_ms, {_DURABLE}"""

RECORD = f"""
    WITH {_HELD}, resolved AS (
        UPDATE {{prefix}}permit AS permit SET
            outcome = item.outcome,
            broker_order_id = coalesce(nullif(item.broker_order_id, ''), permit.broker_order_id),
            reason = item.reason,
            resolved_epoch = held.epoch,
            resolved_at_ms = {{now}}
        FROM held, json_to_recordset(:resolutions) AS item(seq bigint, outcome text, broker_order_id text, reason text)
        WHERE permit.account = held.account AND permit.seq = item.seq AND permit.outcome = 'open'
        RETURNING permit.seq
    ), learnt AS (
        INSERT INTO {{prefix}}fact (account, epoch, recorded_at_ms, {", ".join(FACT_COLUMNS)})
        SELECT held.account, held.epoch, {{now}}, {_of("item", FACT_COLUMNS)}
        FROM held, json_to_recordset(:facts) AS item({_typed(FACT_COLUMNS)})
        ON CONFLICT DO NOTHING
        RETURNING {", ".join(STORED_FACT_COLUMNS)}
    ), marked AS (
        INSERT INTO {{prefix}}watermark AS mark (account, path, time_ms)
        SELECT held.account, item.path, item.time_ms
        FROM held, json_to_recordset(:watermarks) AS item(path text, time_ms bigint)
        ON CONFLICT (account, path) DO UPDATE SET time_ms = greatest(mark.time_ms, excluded.time_ms)
    ), untold AS (
        SELECT item.*, row_number() OVER (ORDER BY item.place) AS number
        FROM held, json_to_recordset(:events) AS item(place bigint, key text, kind text, body text)
        WHERE NOT EXISTS (
            SELECT 1 FROM {{prefix}}outbox AS known WHERE known.account = held.account AND known.key = item.key
        )
    ), counted AS (
        INSERT INTO {{prefix}}outbox_end AS outbox_end (account, last_seq)
        SELECT held.account, new.total FROM held, (SELECT count(*) AS total FROM untold) AS new WHERE new.total > 0
        ON CONFLICT (account) DO UPDATE SET last_seq = outbox_end.last_seq + excluded.last_seq
        RETURNING account, last_seq
    ), told AS (
        INSERT INTO {{prefix}}outbox ({", ".join(EVENT_COLUMNS)})
        SELECT held.account, counted.last_seq - (SELECT count(*) FROM untold) + untold.number, held.epoch,
               untold.key, untold.kind, untold.body, {{now}}
        FROM held, counted, untold
        RETURNING {", ".join(EVENT_COLUMNS)}
    )
    SELECT
        (SELECT count(*) FROM held),
        (SELECT coalesce(json_agg(seq), '[]') FROM resolved),
        (SELECT coalesce(json_agg(learnt ORDER BY seq), '[]') FROM learnt),
        (SELECT coalesce(json_agg(told ORDER BY seq), '[]') FROM told),
        (SELECT pg_notify(:channel, account)::text FROM counted),
        {_DURABLE}"""


@lru_cache(maxsize=64)
def insert_permits(count: int) -> str:
    """The statement that stores ``count`` permits; the columns of the second draft are ``:intent_1`` and so on."""
    # Values cost the server two thirds of what one JSON text does.
    rows = (", ".join(f":{name}_{number}" for name in DRAFT_COLUMNS) for number in range(count))
    return _INSERT_PERMITS.replace("{drafts}", ", ".join(f"({row})" for row in rows))


def lease_change(statement: str, *, with_event: bool) -> str:
    """A statement of `qkt.journal.statements` on the lease and, in the same commit, an event that tells of it."""
    if not with_event:
        return statement
    changed = statement.strip()
    return f"""
    WITH changed AS ({changed}), counted AS (
        INSERT INTO {{prefix}}outbox_end AS outbox_end (account, last_seq) SELECT account, 1 FROM changed
        ON CONFLICT (account) DO UPDATE SET last_seq = outbox_end.last_seq + 1
        RETURNING account, last_seq
    ), told AS (
        INSERT INTO {{prefix}}outbox ({", ".join(EVENT_COLUMNS)})
        SELECT changed.account, counted.last_seq, changed.epoch, :kind || ':' || changed.epoch, :kind,
               json_build_object('epoch', changed.epoch, 'owner', :owner)::text, {{now}}
        FROM changed, counted
    )
    SELECT changed.*, (SELECT pg_notify(:channel, account)::text FROM counted), {_DURABLE} FROM changed"""


@lru_cache(maxsize=256)
def in_postgres(statement: str, prefix: str) -> str:
    """A statement with its tables, its clock and its parameters spelt as PostgreSQL and psycopg want them."""
    named = _PARAMETER.sub(r"%(\1)s", statement.replace("%", "%%"))
    return named.replace("{prefix}", prefix).replace("{now}", NOW)
