"""What the ownership machine is told, and what it asks for. Pure values.

A `Happening` is fed into `qkt.journal.ownership.advance`; the actions that come out are carried out by a coordinator,
which feeds their results in again.
"""

from __future__ import annotations

from typing import TypeAlias

import attrs

from qkt.model.ownership import Ownership


@attrs.frozen
class Started:
    """The broker was built with a journal."""


@attrs.frozen
class LeaseDue:
    """The renewal interval has passed, or the outbox told that the lease was released."""


@attrs.frozen(kw_only=True)
class LeaseGranted:
    """`acquire` was granted under ``epoch``."""

    epoch: int


@attrs.frozen
class LeaseRenewed:
    """`renew` was granted."""


@attrs.frozen(kw_only=True)
class LeaseRefused:
    """`acquire` or `renew` was not granted: ``owner`` has the lease under ``epoch``."""

    owner: str
    epoch: int


@attrs.frozen
class LeaseExpired:
    """The lease ran out by this process's clock, without a renewal."""


@attrs.frozen(kw_only=True)
class OpenPermitsRead:
    """The open permits of earlier epochs were read.

    ``latest_until_ms`` is the latest ``T + recv_window`` of them, None where there are none. ``venue_ms`` is the
    venue's time at the reading.
    """

    latest_until_ms: int | None
    venue_ms: int


@attrs.frozen(kw_only=True)
class VenueTimeRead:
    """The venue's clock was read."""

    venue_ms: int


@attrs.frozen(kw_only=True)
class PermitsResolved:
    """The open permits of earlier epochs were looked up; ``left`` of them still have no outcome."""

    left: int


@attrs.frozen(kw_only=True)
class PermitRefused:
    """A permit was refused: ``owner`` has the lease under ``epoch`` (rule P2)."""

    owner: str
    epoch: int


@attrs.frozen(kw_only=True)
class EpochSeen:
    """A row at the venue carries a link id of ``epoch`` (rule P7)."""

    epoch: int
    link_id: str


@attrs.frozen(kw_only=True)
class UnknownLinkSeen:
    """An order at the venue carries a link id of this journal's making that the journal does not know (rule P9)."""

    link_id: str
    venue_ms: int


@attrs.frozen(kw_only=True)
class JournalUnreachable:
    """A call raised `JournalUnavailableError` (rule P8)."""

    reason: str


@attrs.frozen
class HandOverRequested:
    """The user wants to give the account away."""


@attrs.frozen
class WritesDrained:
    """No write is in flight any more and every own permit has an outcome."""


@attrs.frozen
class LeaseReleased:
    """`release` was done."""


Happening: TypeAlias = (
    Started
    | LeaseDue
    | LeaseGranted
    | LeaseRenewed
    | LeaseRefused
    | LeaseExpired
    | OpenPermitsRead
    | VenueTimeRead
    | PermitsResolved
    | PermitRefused
    | EpochSeen
    | UnknownLinkSeen
    | JournalUnreachable
    | HandOverRequested
    | WritesDrained
    | LeaseReleased
)


@attrs.frozen(kw_only=True)
class AcquireLease:
    """Call `acquire`, then feed LeaseGranted or LeaseRefused."""

    min_epoch: int = 1


@attrs.frozen(kw_only=True)
class RenewLease:
    """Call `renew`, then feed LeaseRenewed or LeaseRefused."""

    epoch: int


@attrs.frozen(kw_only=True)
class ReleaseLease:
    """Call `release`, then feed LeaseReleased."""

    epoch: int


@attrs.frozen(kw_only=True)
class ReadOpenPermits:
    """Call `open_permits`, then feed OpenPermitsRead."""

    before_epoch: int


@attrs.frozen(kw_only=True)
class ResolvePermits:
    """Look every open permit of earlier epochs up at the venue, record the outcomes, feed PermitsResolved (P6)."""

    before_epoch: int


@attrs.frozen
class DrainWrites:
    """Block new writes; when the last open write is answered, feed WritesDrained."""


@attrs.frozen(kw_only=True)
class TellOwnership:
    """Tell the change to the user."""

    before: Ownership
    after: Ownership
    reason: str


@attrs.frozen(kw_only=True)
class TellJournalDegraded:
    """Begin an episode ``HealthDegraded(domain="journal")``, or give a running one another reason."""

    reason: str


@attrs.frozen
class TellJournalRestored:
    """End the episode: the journal can be reached again."""


Action: TypeAlias = (
    AcquireLease
    | RenewLease
    | ReleaseLease
    | ReadOpenPermits
    | ResolvePermits
    | DrainWrites
    | TellOwnership
    | TellJournalDegraded
    | TellJournalRestored
)
