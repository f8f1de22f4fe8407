"""What both stores of a journal share: who they are, how they answer, and how a follower waits.

A store supplies the writes (`_change_lease`, `_insert`, `_record`) and one way to read (`_rows`). What a refusal means,
which error it is, and that a repeated call changes nothing twice is decided here, so that it is the same for both.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any, Self

from qkt.clock import SystemClock
from qkt.errors import InvalidRequestError, JournalError, NotOwnerError
from qkt.journal import statements
from qkt.journal.arguments import (
    all_pages,
    check_not_anothers,
    check_same_order,
    chunks,
    first_of_each,
    require,
)
from qkt.journal.protocol import (
    LEASE_ACQUIRED,
    LEASE_RELEASED,
    EventDraft,
    IntentRecord,
    JournalFact,
    JournalSnapshot,
    Lease,
    LeaseResult,
    OutboxEvent,
    Permit,
    PermitDraft,
    PermitOutcome,
    Recorded,
    Resolution,
)
from qkt.journal.schema import MIGRATIONS, Migration, newest_version

_PAGE = 1_000
_IDS_PER_QUERY = 400
_NO_EPOCH = 2**62


class DuplicateError(Exception):
    """The store refused a row because its unique key is taken; the transaction changed nothing."""


class JournalStore(ABC):
    """Base of `SqliteJournal` and `PostgresJournal`; implements `qkt.journal.protocol.Journal`."""

    _poll_interval_ms: int

    def __init__(self, *, owner: str | None, migrations: tuple[Migration, ...] = MIGRATIONS) -> None:
        label = f"{socket.gethostname()}:{os.getpid()}" if owner is None else owner
        if not label or not label.isprintable():
            raise InvalidRequestError(f"owner {label!r} must be printable text; leave it out for host:pid")
        # Unique to this object: a process that restarts under the same label is another owner, with its own epoch.
        self._owner = f"{label}/{secrets.token_hex(4)}"
        self._migrations = migrations
        self._process = os.getpid()
        self._closed = False
        self._news = threading.Condition()
        self._news_count = 0
        self._waits = SystemClock()

    @property
    def owner(self) -> str:
        """This process's name in leases: the label and a random part, unique to this object."""
        return self._owner

    @property
    def schema_version(self) -> int:
        """The version of the schema that this program reads and writes."""
        return newest_version(self._migrations)

    def acquire(self, account: str, *, ttl_ms: int, min_epoch: int = 1) -> LeaseResult:
        """Take the lease when it is free. See `Journal.acquire`."""
        require(account, ttl_ms)
        values = {"account": account, "ttl_ms": ttl_ms, "min_epoch": min_epoch, "owner": self._owner}
        lease = self._change_lease(statements.ACQUIRE, values, LEASE_ACQUIRED)
        if lease is not None:
            return LeaseResult(granted=True, lease=lease)
        lease = self._known_lease(account)
        if lease.owner != self._owner:
            return LeaseResult(granted=False, lease=lease)
        if lease.epoch >= min_epoch:
            return self.renew(account, lease.epoch, ttl_ms=ttl_ms)
        return self._take_over(account, ttl_ms=ttl_ms, from_epoch=lease.epoch, min_epoch=min_epoch)

    def renew(self, account: str, epoch: int, *, ttl_ms: int) -> LeaseResult:
        """Extend an own lease. See `Journal.renew`."""
        require(account, ttl_ms)
        values = {"account": account, "epoch": epoch, "ttl_ms": ttl_ms, "owner": self._owner}
        lease = self._change_lease(statements.RENEW, values, None)
        granted = lease is not None
        return LeaseResult(granted=granted, lease=lease or self._known_lease(account))

    def release(self, account: str, epoch: int) -> bool:
        """Give an own lease away at once. See `Journal.release`."""
        require(account)
        values = {"account": account, "epoch": epoch, "owner": self._owner}
        if self._change_lease(statements.RELEASE, values, LEASE_RELEASED) is not None:
            return True
        lease = self._known_lease(account)
        # True after a retry whose first attempt was committed and its answer lost.
        return (lease.owner, lease.epoch) == ("", epoch)

    def take_over(self, account: str, *, ttl_ms: int, from_epoch: int) -> LeaseResult:
        """Take the lease from its holder, expired or not. See `Journal.take_over`."""
        require(account, ttl_ms)
        return self._take_over(account, ttl_ms=ttl_ms, from_epoch=from_epoch, min_epoch=1)

    def _take_over(self, account: str, *, ttl_ms: int, from_epoch: int, min_epoch: int) -> LeaseResult:
        values = {
            "account": account,
            "epoch": from_epoch,
            "ttl_ms": ttl_ms,
            "min_epoch": min_epoch,
            "owner": self._owner,
        }
        lease = self._change_lease(statements.TAKE_OVER, values, LEASE_ACQUIRED)
        if lease is not None:
            return LeaseResult(granted=True, lease=lease)
        lease = self._known_lease(account)
        # True after a retry whose first attempt was committed and its answer lost.
        mine = lease.owner == self._owner and lease.epoch >= max(from_epoch + 1, min_epoch)
        return LeaseResult(granted=mine, lease=lease)

    def lease(self, account: str) -> Lease | None:
        """The lease of an account, None when it never had one."""
        rows = self._rows(statements.READ_LEASE, {"account": account})
        return statements.lease_of(rows[0]) if rows else None

    def leases(self) -> tuple[Lease, ...]:
        """The leases of all accounts, sorted by account."""
        return tuple(statements.lease_of(row) for row in self._rows(statements.READ_LEASES, {}))

    def append(self, account: str, epoch: int, drafts: Sequence[PermitDraft]) -> tuple[Permit, ...]:
        """Store permits for these requests, all or none, while the lease is ours. See `Journal.append`."""
        require(account)
        if not drafts:
            raise InvalidRequestError("append needs at least one draft")
        self._check_drafts(account, drafts)
        tokens = [secrets.token_hex(8) for _ in drafts]
        try:
            permits = self._insert(account, epoch, drafts, tokens)
        except DuplicateError:
            return self._already_permitted(account, drafts, tokens)
        if permits is None:
            raise self._not_owner(account, epoch)
        return permits

    def _check_drafts(self, account: str, drafts: Sequence[PermitDraft]) -> None:
        creates = [draft for draft in drafts if draft.operation == "create"]
        if len({(draft.intent, draft.attempt) for draft in creates}) < len(creates):
            raise InvalidRequestError("two orders of one batch have the same intent; give each its own")
        for draft in creates:
            if draft.attempt > 1 and (known := self.intent(account, draft.intent)) is not None:
                check_same_order(draft, known.creates)

    def _already_permitted(
        self, account: str, drafts: Sequence[PermitDraft], tokens: Sequence[str]
    ) -> tuple[Permit, ...]:
        """The permits, when an earlier try of this very call stored them; else the error that says who did."""
        stored = {}
        for draft in drafts:
            record = self.intent(account, draft.intent)
            for permit in record.permits if record else ():
                if draft.operation == permit.operation == "create" and draft.attempt == permit.attempt:
                    check_not_anothers(draft, permit, tokens)
                stored[permit.token] = permit
        if all(token in stored for token in tokens):
            return tuple(stored[token] for token in tokens)
        raise JournalError(f"account {account}: a permit was refused as a duplicate, but no row of its intent is there")

    def record(
        self,
        account: str,
        epoch: int,
        *,
        resolutions: Sequence[Resolution] = (),
        facts: Sequence[JournalFact] = (),
        events: Sequence[EventDraft] = (),
        watermarks: Mapping[str, int] | None = None,
    ) -> Recorded:
        """Store what was learnt and told, in one commit, while the lease is ours. See `Journal.record`."""
        require(account)
        if any(resolution.outcome is PermitOutcome.OPEN for resolution in resolutions):
            raise InvalidRequestError("a resolution must be final; a permit is open until it has one")
        recorded = self._record(
            account, epoch, resolutions, first_of_each(facts), first_of_each(events), dict(watermarks or {})
        )
        if recorded is None:
            raise self._not_owner(account, epoch)
        resolved, new_facts, new_events = recorded
        if new_events:
            self._wake_followers()
        left = [resolution for resolution in resolutions if resolution.seq not in resolved]
        return Recorded(facts=new_facts, events=new_events, contradicted=self._contradicted(account, left))

    def _contradicted(self, account: str, left: Sequence[Resolution]) -> tuple[Permit, ...]:
        wanted = {resolution.seq: resolution.outcome for resolution in left}
        permits = self._permits_by(account, statements.read_by_seq, tuple(wanted))
        if missing := set(wanted) - {permit.seq for permit in permits}:
            raise InvalidRequestError(f"account {account} has no permit {sorted(missing)}")
        return tuple(permit for permit in permits if permit.outcome is not wanted[permit.seq])

    def open_permits(self, account: str, *, before_epoch: int | None = None) -> tuple[Permit, ...]:
        """Permits without an outcome, oldest first. See `Journal.open_permits`."""
        values = {"account": account, "before_epoch": _NO_EPOCH if before_epoch is None else before_epoch}
        return tuple(statements.permit_of(row) for row in self._rows(statements.READ_OPEN_PERMITS, values))

    def permits(self, account: str, *, after: int = 0, limit: int = _PAGE) -> tuple[Permit, ...]:
        """Permits with ``seq`` above ``after``, oldest first."""
        values = {"account": account, "after": after, "limit": limit}
        return tuple(statements.permit_of(row) for row in self._rows(statements.READ_PERMITS, values))

    def intent(self, account: str, intent: str) -> IntentRecord | None:
        """What was permitted under an intent, None for one that is not used yet."""
        rows = self._rows(statements.READ_INTENT, {"account": account, "intent": intent})
        return IntentRecord(intent=intent, permits=tuple(map(statements.permit_of, rows))) if rows else None

    def find_links(self, account: str, link_ids: Sequence[str]) -> Mapping[str, Permit]:
        """Link id -> the create that carries it, for those that the journal knows."""
        permits = self._permits_by(account, statements.read_links, tuple(dict.fromkeys(link_ids)))
        return MappingProxyType({permit.link_id: permit for permit in permits})

    def _permits_by(self, account: str, statement: Any, ids: tuple[Any, ...]) -> tuple[Permit, ...]:
        found: list[Permit] = []
        for chunk in chunks(ids, _IDS_PER_QUERY):
            values = {"account": account, **{f"id_{number}": value for number, value in enumerate(chunk)}}
            found.extend(map(statements.permit_of, self._rows(statement(len(chunk)), values)))
        return tuple(found)

    def facts(
        self, account: str, *, after: int = 0, since_ms: int | None = None, limit: int = _PAGE
    ) -> tuple[JournalFact, ...]:
        """Facts with ``seq`` above ``after``, oldest first. See `Journal.facts`."""
        since = -_NO_EPOCH if since_ms is None else since_ms
        values = {"account": account, "after": after, "since_ms": since, "limit": limit}
        return tuple(statements.fact_of(row) for row in self._rows(statements.READ_FACTS, values))

    def watermarks(self, account: str) -> Mapping[str, int]:
        """Path -> the time in ms up to which it was read completely."""
        rows = self._rows(statements.READ_WATERMARKS, {"account": account})
        return MappingProxyType({str(path): int(time_ms) for path, time_ms in rows})

    def events(
        self, account: str | None = None, *, after: int = 0, limit: int = _PAGE, timeout_ms: int = 0
    ) -> tuple[OutboxEvent, ...]:
        """Events with ``seq`` above ``after``, oldest first; waits for the first one. See `Journal.events`."""
        self._check_usable()
        self._follow()
        try:
            return self._wait_for_events(account, after, limit, timeout_ms)
        except JournalError:
            if self._closed:  # by another thread, while this one read
                return ()
            raise

    def _wait_for_events(self, account: str | None, after: int, limit: int, timeout_ms: int) -> tuple[OutboxEvent, ...]:
        deadline_ms = self._waits.monotonic_ms() + timeout_ms
        checked = False
        while True:
            seen = self._news_count
            name = self._only_account() if account is None else account
            found = self._read_events(name, after, limit) if name else ()
            remaining_ms = deadline_ms - self._waits.monotonic_ms()
            if not found and name and not checked:
                self._check_cursor(name, after)
                checked = True
            if found or remaining_ms <= 0 or self._closed:
                return found
            self._wait_for_news(seen, min(remaining_ms, self._poll_interval_ms))

    def _read_events(self, account: str, after: int, limit: int) -> tuple[OutboxEvent, ...]:
        values = {"account": account, "after": after, "limit": limit}
        return tuple(statements.event_of(row) for row in self._rows(statements.READ_EVENTS, values))

    def _check_cursor(self, account: str, after: int) -> None:
        last = self.last_event_seq(account)
        if after > last:
            raise JournalError(
                f"account {account}: the cursor {after} is ahead of the outbox, which ends at {last}: events were "
                "lost, e.g. at a failover of the database; read the venue anew and follow from last_event_seq()"
            )

    def _only_account(self) -> str | None:
        accounts = [lease.account for lease in self.leases()]
        if len(accounts) > 1:
            raise InvalidRequestError(
                f"the journal has {len(accounts)} accounts; name one of {', '.join(accounts[:5])}"
            )
        return accounts[0] if accounts else None

    def last_event_seq(self, account: str) -> int:
        """The ``seq`` of the newest event, 0 for none."""
        rows = self._rows(statements.READ_LAST_EVENT, {"account": account})
        return int(rows[0][0]) if rows else 0

    def snapshot(self, account: str) -> JournalSnapshot:
        """Everything the journal holds of the account, read page by page."""
        return JournalSnapshot(
            account=account,
            schema_version=self.schema_version,
            permits=all_pages(lambda after: self.permits(account, after=after)),
            facts=all_pages(lambda after: self.facts(account, after=after)),
            watermarks=self.watermarks(account),
            events=all_pages(lambda after: self._read_events(account, after, _PAGE)),
            # Last: an epoch that rose while the pages were read is then not below that of a row.
            lease=self.lease(account),
        )

    def close(self) -> None:
        """Close connections and wake every waiting `events`; idempotent."""
        with self._news:
            if self._closed:
                return
            self._closed = True
            self._news.notify_all()
        if os.getpid() == self._process:
            self._close_store()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _wake_followers(self) -> None:
        with self._news:
            self._news_count += 1
            self._news.notify_all()

    def _wait_for_news(self, seen: int, timeout_ms: int) -> None:
        with self._news:
            if self._news_count == seen and not self._closed:
                self._news.wait(timeout_ms / 1_000)

    def _follow(self) -> None:  # noqa: B027 - optional
        """Called before events are waited for: a store may begin to listen."""

    def _check_usable(self) -> None:
        if self._closed:
            raise JournalError(f"{self!r} is closed; open a new one")
        if os.getpid() != self._process:
            raise JournalError(f"{self!r} was opened before a fork; open a journal of its own in the child")

    def _known_lease(self, account: str) -> Lease:
        lease = self.lease(account)
        if lease is None:
            raise JournalError(f"account {account} has no lease in {self!r}: acquire it first")
        return lease

    def _not_owner(self, account: str, epoch: int) -> NotOwnerError:
        lease = self.lease(account)
        if lease is None:
            held, owner, now = "has no lease", "", 0
        elif not lease.owner:
            held, owner, now = f"was released under epoch {lease.epoch}", "", lease.epoch
        else:
            held, owner, now = f"is owned by {lease.owner} under epoch {lease.epoch}", lease.owner, lease.epoch
        return NotOwnerError(
            f"account {account} {held}, and this process ({self._owner}) asked under epoch {epoch}: nothing was sent; "
            "wait for ownership",
            account=account,
            owner=owner,
            epoch=now,
        )

    @abstractmethod
    def _rows(self, statement: str, values: Mapping[str, Any]) -> Sequence[statements.Row]:
        """All rows of a reading statement."""

    @abstractmethod
    def _change_lease(self, statement: str, values: Mapping[str, Any], kind: str | None) -> Lease | None:
        """Run one statement on the lease and, in the same commit, append an event of ``kind``; None: no row matched."""

    @abstractmethod
    def _insert(
        self, account: str, epoch: int, drafts: Sequence[PermitDraft], tokens: Sequence[str]
    ) -> tuple[Permit, ...] | None:
        """Insert permits behind the fence; None when the lease is not ours, `DuplicateError` for a used key."""

    @abstractmethod
    def _record(
        self,
        account: str,
        epoch: int,
        resolutions: Sequence[Resolution],
        facts: Sequence[JournalFact],
        events: Sequence[EventDraft],
        watermarks: Mapping[str, int],
    ) -> tuple[set[int], tuple[JournalFact, ...], tuple[OutboxEvent, ...]] | None:
        """Record behind the fence: the permits resolved, the new facts, the new events; None: the lease is not ours."""

    @abstractmethod
    def _close_store(self) -> None:
        """Close connections."""
