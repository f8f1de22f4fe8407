"""The statements that both stores share, and the values made of their rows. Pure.

``{prefix}`` stands before each table's name and ``{now}`` for the store's time in ms; parameters are named ``:name``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qkt.journal.protocol import JournalFact, Lease, OutboxEvent, Permit, PermitDraft, PermitOutcome

Row = Sequence[Any]

_LEASE = "account, epoch, owner, expires_at_ms, {now}"

ACQUIRE = f"""
    INSERT INTO {{prefix}}lease AS held (account, epoch, owner, expires_at_ms)
    VALUES (:account, :min_epoch, :owner, {{now}} + :ttl_ms)
    ON CONFLICT (account) DO UPDATE SET
        epoch = CASE WHEN held.epoch + 1 > excluded.epoch THEN held.epoch + 1 ELSE excluded.epoch END,
        owner = excluded.owner,
        expires_at_ms = excluded.expires_at_ms
    WHERE held.owner = '' OR held.expires_at_ms <= {{now}}
    RETURNING {_LEASE}"""

TAKE_OVER = f"""
    UPDATE {{prefix}}lease SET
        epoch = CASE WHEN epoch + 1 > :min_epoch THEN epoch + 1 ELSE :min_epoch END,
        owner = :owner,
        expires_at_ms = {{now}} + :ttl_ms
    WHERE account = :account AND epoch = :epoch
    RETURNING {_LEASE}"""

RENEW = f"""
    UPDATE {{prefix}}lease SET expires_at_ms = {{now}} + :ttl_ms
    WHERE account = :account AND epoch = :epoch AND owner = :owner
    RETURNING {_LEASE}"""

RELEASE = f"""
    UPDATE {{prefix}}lease SET owner = '', expires_at_ms = 0
    WHERE account = :account AND epoch = :epoch AND owner = :owner
    RETURNING {_LEASE}"""

READ_LEASE = f"SELECT {_LEASE} FROM {{prefix}}lease WHERE account = :account"
READ_LEASES = f"SELECT {_LEASE} FROM {{prefix}}lease ORDER BY account"

DRAFT_COLUMNS = (
    "intent",
    "attempt",
    "operation",
    "link_id",
    "category",
    "symbol",
    "signed_at_ms",
    "recv_window_ms",
    "body",
    "fingerprint",
    "token",
)
_OUTCOME_COLUMNS = ("outcome", "broker_order_id", "reason", "resolved_epoch", "resolved_at_ms")
PERMIT_COLUMNS = ("seq", "account", "epoch", "owner", *DRAFT_COLUMNS, "granted_at_ms", *_OUTCOME_COLUMNS)
_PERMIT = f"SELECT {', '.join(PERMIT_COLUMNS)} FROM {{prefix}}permit WHERE account = :account"

READ_PERMITS = f"{_PERMIT} AND seq > :after ORDER BY seq LIMIT :limit"
READ_OPEN_PERMITS = f"{_PERMIT} AND outcome = 'open' AND epoch < :before_epoch ORDER BY seq"
READ_INTENT = f"{_PERMIT} AND intent = :intent ORDER BY seq"

FACT_COLUMNS = ("kind", "category", "order_id", "exec_id", "link_id", "occurred_at_ms", "body")
STORED_FACT_COLUMNS = (*FACT_COLUMNS, "seq", "epoch", "recorded_at_ms")
READ_FACTS = f"""
    SELECT {", ".join(STORED_FACT_COLUMNS)} FROM {{prefix}}fact
    WHERE account = :account AND seq > :after AND occurred_at_ms >= :since_ms ORDER BY seq LIMIT :limit"""

READ_WATERMARKS = "SELECT path, time_ms FROM {prefix}watermark WHERE account = :account"

EVENT_COLUMNS = ("account", "seq", "epoch", "key", "kind", "body", "recorded_at_ms")
READ_EVENTS = f"""
    SELECT {", ".join(EVENT_COLUMNS)} FROM {{prefix}}outbox
    WHERE account = :account AND seq > :after ORDER BY seq LIMIT :limit"""
READ_LAST_EVENT = "SELECT last_seq FROM {prefix}outbox_end WHERE account = :account"


def read_links(count: int) -> str:
    """The statement that reads the creates of ``count`` link ids, given as ``:id_0``, ``:id_1`` and so on."""
    names = ", ".join(f":id_{number}" for number in range(count))
    return f"{_PERMIT} AND operation = 'create' AND link_id IN ({names}) ORDER BY seq"


def read_by_seq(count: int) -> str:
    """The statement that reads ``count`` permits, given as ``:id_0``, ``:id_1`` and so on."""
    names = ", ".join(f":id_{number}" for number in range(count))
    return f"{_PERMIT} AND seq IN ({names}) ORDER BY seq"


def draft_values(draft: PermitDraft, token: str) -> dict[str, Any]:
    """Column -> value of a draft."""
    values = {name: getattr(draft, name) for name in DRAFT_COLUMNS if name != "token"}
    return {**values, "token": token}


def granted(
    draft: PermitDraft, *, token: str, account: str, epoch: int, owner: str, seq: int, granted_at_ms: int
) -> Permit:
    """The permit that a draft became."""
    values = {name: getattr(draft, name) for name in DRAFT_COLUMNS if name != "token"}
    return Permit(
        **values, token=token, account=account, epoch=epoch, owner=owner, seq=seq, granted_at_ms=granted_at_ms
    )


def fact_values(fact: JournalFact) -> dict[str, Any]:
    """Column -> value of a fact that is to be stored."""
    return {name: getattr(fact, name) for name in FACT_COLUMNS}


def lease_of(row: Row) -> Lease:
    """A lease from its five columns."""
    account, epoch, owner, expires_at_ms, read_at_ms = row
    return Lease(account=account, epoch=epoch, owner=owner, expires_at_ms=expires_at_ms, read_at_ms=read_at_ms)


def permit_of(row: Row) -> Permit:
    """A permit from the columns of `PERMIT_COLUMNS`."""
    values = dict(zip(PERMIT_COLUMNS, row, strict=True))
    values["outcome"] = PermitOutcome(values["outcome"])
    return Permit(**values)


def fact_of(row: Row) -> JournalFact:
    """A fact from the columns of `STORED_FACT_COLUMNS`."""
    return JournalFact(**dict(zip(STORED_FACT_COLUMNS, row, strict=True)))


def event_of(row: Row) -> OutboxEvent:
    """An event from the columns of `EVENT_COLUMNS`."""
    return OutboxEvent(**dict(zip(EVENT_COLUMNS, row, strict=True)))
