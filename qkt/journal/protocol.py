"""The journal: what an account's bots may send, have sent, have learnt and have told, across crashes and hand-overs.

One journal keeps, for each account: a *lease* (which process owns it, with an epoch that only rises), *permits* (one
row for each create or amend, committed before the request is signed), *facts* (each execution once), *watermarks* (how
far a path was read) and an *outbox* (the events told, in order, for other processes to follow).

What every implementation promises:

- Each write is one transaction that never waits for its client: a process that is stopped in the middle holds no lock.
- A permit is stored only while the lease still has the writer's owner and epoch, and a takeover that commits sees
  every permit granted before it (rule P2). The same fence stands before facts, events and resolutions.
- A call that returns is durable. A call that raises `JournalUnavailableError` may or may not have been committed;
  doing it again is harmless.
- Lease times are those of the store's clock, and decide only when a takeover is tried, never whether it is safe (P10).

All methods may be called from any thread. No method may be called after a fork, except on a journal that the child
opened.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Literal, Protocol, Self, get_args, runtime_checkable

import attrs

from qkt.readonly import read_only_integers

Operation = Literal["create", "amend", "position_exits"]
OPERATIONS: tuple[str, ...] = get_args(Operation)

LEASE_ACQUIRED = "lease.acquired"
LEASE_RELEASED = "lease.released"


class PermitOutcome(enum.StrEnum):
    """What became of a permitted request. Everything but OPEN is final."""

    OPEN = "open"  # not known yet: it may have been sent, and may still arrive
    ACCEPTED = "accepted"  # the venue took it
    REFUSED = "refused"  # the venue refused it
    NEVER_SENT = "never_sent"  # its owner knows that it did not leave
    NEVER_ARRIVED = "never_arrived"  # proven after the quarantine: not at the venue, and too old to be accepted


def _one_of_operations(_: object, attribute: attrs.Attribute[str], value: str) -> None:
    if value not in OPERATIONS:
        raise ValueError(f"{attribute.name} must be one of {', '.join(OPERATIONS)}, not {value!r}")


@attrs.frozen(kw_only=True)
class Lease:
    """Who owns an account. ``epoch`` rises by at least one with every change of owner.

    ``owner`` is empty when the lease was released. ``expires_at_ms`` and ``read_at_ms`` are of the store's clock.
    """

    account: str
    epoch: int
    owner: str
    expires_at_ms: int
    read_at_ms: int

    @property
    def remaining_ms(self) -> int:
        """How long the lease ran on when it was read; 0 once it expired or was released."""
        return max(0, self.expires_at_ms - self.read_at_ms) if self.owner else 0

    @property
    def is_free(self) -> bool:
        """True when another process may take the lease: it was released or has expired."""
        return self.remaining_ms == 0


@attrs.frozen(kw_only=True)
class LeaseResult:
    """The answer to an attempt on a lease: ``granted``, and the lease as it stands afterwards."""

    granted: bool
    lease: Lease


@attrs.frozen(kw_only=True)
class PermitDraft:
    """A create or an amend that wants a permit.

    ``signed_at_ms`` is venue time, taken before the permit is asked for; exactly it and ``body`` are signed (rule P1).
    ``fingerprint`` identifies the order's terms, see `qkt.journal.intents.terms_fingerprint`. A ``create`` is unique by
    intent and attempt; an ``amend`` names the intent and the link id of the order it changes. ``body`` holds no secret.
    """

    intent: str = attrs.field(validator=attrs.validators.min_len(1))
    attempt: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    operation: Operation = attrs.field(default="create", validator=_one_of_operations)
    link_id: str = attrs.field(validator=attrs.validators.min_len(1))
    category: str = ""
    symbol: str = ""
    signed_at_ms: int = attrs.field(validator=attrs.validators.gt(0))
    recv_window_ms: int = attrs.field(validator=attrs.validators.gt(0))
    body: str
    fingerprint: str = ""


@attrs.frozen(kw_only=True)
class Permit(PermitDraft):
    """A stored permit, and what became of it. ``epoch`` and ``owner`` are those of the process that asked for it.

    ``resolved_epoch`` is the epoch of the owner that recorded the outcome, 0 while it is open; ``resolved_at_ms`` is of
    the store's clock.
    """

    seq: int
    account: str
    epoch: int
    owner: str
    token: str = attrs.field(default="", repr=False)  # identifies the call that stored it
    granted_at_ms: int
    outcome: PermitOutcome = PermitOutcome.OPEN
    broker_order_id: str = ""
    reason: str = ""
    resolved_epoch: int = 0
    resolved_at_ms: int = 0

    @property
    def accepted_until_ms(self) -> int:
        """The last moment, in venue time, at which the venue's clock accepts the request: T + recv_window."""
        return self.signed_at_ms + self.recv_window_ms

    @property
    def is_open(self) -> bool:
        """True while it is not known what became of the request."""
        return self.outcome is PermitOutcome.OPEN


@attrs.frozen(kw_only=True)
class Resolution:
    """The outcome of one permit, to be recorded. The first outcome stands; a later different one is contradicted."""

    seq: int
    outcome: PermitOutcome
    broker_order_id: str = ""
    reason: str = ""


@attrs.frozen(kw_only=True)
class IntentRecord:
    """Everything that was permitted under one intent, oldest first."""

    intent: str
    permits: tuple[Permit, ...]

    @property
    def creates(self) -> tuple[Permit, ...]:
        """The attempts to enter the order, oldest first."""
        return tuple(permit for permit in self.permits if permit.operation == "create")

    @property
    def order(self) -> Permit | None:
        """The attempt that became the order, or the last one when none is known to have been accepted."""
        accepted = [permit for permit in self.creates if permit.outcome is PermitOutcome.ACCEPTED]
        return accepted[0] if accepted else (self.creates[-1] if self.creates else None)

    @property
    def next_attempt(self) -> int:
        """The number that a new attempt to enter the order takes."""
        return max((permit.attempt for permit in self.creates), default=0) + 1


@attrs.frozen(kw_only=True)
class JournalFact:
    """Something learnt from the venue that must count once, e.g. an execution.

    Unique by account, ``kind``, ``category``, ``order_id`` and ``exec_id``. ``body`` is JSON text without secrets.
    ``seq``, ``epoch`` and ``recorded_at_ms`` are set by the journal.
    """

    kind: str = "execution"
    category: str
    order_id: str
    exec_id: str
    link_id: str = ""
    occurred_at_ms: int = 0
    body: str = ""
    seq: int = attrs.field(default=0, eq=False)
    epoch: int = attrs.field(default=0, eq=False)
    recorded_at_ms: int = attrs.field(default=0, eq=False)

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What identifies the fact within its account."""
        return self.kind, self.category, self.order_id, self.exec_id


@attrs.frozen(kw_only=True)
class EventDraft:
    """An event for the outbox. A ``key`` that the account's outbox has already is not appended again."""

    key: str = attrs.field(validator=attrs.validators.min_len(1))
    kind: str
    body: str


@attrs.frozen(kw_only=True)
class OutboxEvent(EventDraft):
    """An event as followers read it. ``seq`` counts from 1 without gaps, in the order of commits, for each account."""

    account: str
    seq: int
    epoch: int
    recorded_at_ms: int


@attrs.frozen(kw_only=True)
class Recorded:
    """What a `Journal.record` changed: the facts and events that were new, and the resolutions that were not taken.

    ``contradicted`` are permits whose outcome had been recorded before, as another one.
    """

    facts: tuple[JournalFact, ...] = ()
    events: tuple[OutboxEvent, ...] = ()
    contradicted: tuple[Permit, ...] = ()


@attrs.frozen(kw_only=True)
class JournalSnapshot:
    """Everything a journal holds of one account, for `qkt.journal.verify`."""

    account: str
    schema_version: int
    lease: Lease | None = None
    permits: tuple[Permit, ...] = ()
    facts: tuple[JournalFact, ...] = ()
    watermarks: Mapping[str, int] = attrs.field(factory=dict, converter=read_only_integers)
    events: tuple[OutboxEvent, ...] = ()


@runtime_checkable
class Journal(Protocol):
    """What a broker needs of a journal. See the module's docstring for what all implementations promise.

    Every method raises `JournalUnavailableError` when the store cannot be reached in time.
    """

    @property
    def owner(self) -> str:
        """This process's name in leases: readable, and unique to this journal object."""
        ...

    @property
    def schema_version(self) -> int:
        """The version of the schema that this program reads and writes."""
        ...

    def acquire(self, account: str, *, ttl_ms: int, min_epoch: int = 1) -> LeaseResult:
        """Take the lease when it is free: no row yet, released, or expired. The epoch rises, to ``min_epoch`` at least.

        An own lease is renewed, unless its epoch is below ``min_epoch``: then it is taken anew.
        """
        ...

    def renew(self, account: str, epoch: int, *, ttl_ms: int) -> LeaseResult:
        """Extend an own lease, also one that expired but was not taken. Not granted: it is another owner's now."""
        ...

    def release(self, account: str, epoch: int) -> bool:
        """Give an own lease away at once; False when it was not ours any more."""
        ...

    def take_over(self, account: str, *, ttl_ms: int, from_epoch: int) -> LeaseResult:
        """Take the lease from the process that holds it under ``from_epoch``, expired or not; not granted if the
        epoch moved.
        """
        ...

    def lease(self, account: str) -> Lease | None:
        """The lease of an account, None when it never had one."""
        ...

    def leases(self) -> tuple[Lease, ...]:
        """The leases of all accounts, sorted by account."""
        ...

    def append(self, account: str, epoch: int, drafts: Sequence[PermitDraft]) -> tuple[Permit, ...]:
        """Store permits for these requests, all or none, in one commit and only while the lease is ours.

        Raises:
            NotOwnerError: the lease has another owner or epoch: freeze, nothing may be sent (rule P2).
            IntentConflictError: the intent stands for an order with another fingerprint.
            PermitExistsError: this attempt of the intent was permitted before.
        """
        ...

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
        """Store what was learnt and told, in one commit and only while the lease is ours; else NotOwnerError.

        A watermark is path -> ms and never moves back. A retry after JournalUnavailableError appends nothing twice.
        """
        ...

    def open_permits(self, account: str, *, before_epoch: int | None = None) -> tuple[Permit, ...]:
        """Permits without an outcome, oldest first; only those of epochs below ``before_epoch`` where it is given."""
        ...

    def permits(self, account: str, *, after: int = 0, limit: int = 1_000) -> tuple[Permit, ...]:
        """Permits with ``seq`` above ``after``, oldest first."""
        ...

    def intent(self, account: str, intent: str) -> IntentRecord | None:
        """What was permitted under an intent, None for one that is not used yet."""
        ...

    def find_links(self, account: str, link_ids: Sequence[str]) -> Mapping[str, Permit]:
        """Link id -> the create that carries it, for those that the journal knows."""
        ...

    def facts(
        self, account: str, *, after: int = 0, since_ms: int | None = None, limit: int = 1_000
    ) -> tuple[JournalFact, ...]:
        """Facts with ``seq`` above ``after``, oldest first; only those that occurred at or after ``since_ms``."""
        ...

    def watermarks(self, account: str) -> Mapping[str, int]:
        """Path -> the time in ms up to which it was read completely."""
        ...

    def events(
        self, account: str | None = None, *, after: int = 0, limit: int = 1_000, timeout_ms: int = 0
    ) -> tuple[OutboxEvent, ...]:
        """Events with ``seq`` above ``after``, oldest first; waits up to ``timeout_ms`` for the first one, else ``()``.

        Without ``account`` the only account of the journal is meant.

        Raises:
            InvalidRequestError: no account was named and the journal has several.
            JournalError: ``after`` is ahead of the outbox: events were lost, e.g. at a database's failover.
        """
        ...

    def last_event_seq(self, account: str) -> int:
        """The ``seq`` of the newest event, 0 for none: the cursor of a follower that wants only what comes."""
        ...

    def snapshot(self, account: str) -> JournalSnapshot:
        """Everything the journal holds of the account, read page by page."""
        ...

    def close(self) -> None:
        """Close connections and wake every waiting `events`; idempotent. A lease that is held expires by itself."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...
