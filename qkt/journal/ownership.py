"""The ownership of an account as a state machine: what happened goes in, the next state and what to do come out. Pure.

A coordinator keeps one `Coordination`, feeds it what it learns from the journal, the venue and the user, and carries
out the actions, whose results it feeds in again. A result that does not come (the journal is down) needs no input but
`JournalUnreachable`: the next `LeaseDue` asks again.

::

    none ─ Started ─> standby ─ LeaseGranted ─> quarantine ─ PermitsResolved ─> owner
                        ^  ^                        │                             │
                        │  └──── LeaseReleased ─────┼─────────────────────────────┤
                        │                           v                             v
                        └─────── LeaseRefused ──── lost <─ a refusal or a higher epoch

The quarantine ends when the venue's clock has passed ``max(T + recv_window) + margin`` over the open permits of earlier
epochs, and each of them was looked up (rules P5 and P6). A lease that ran out changes nothing by itself (P10): writes
are fenced by permits, and the lease is extended if it was not taken.
"""

from __future__ import annotations

from typing import Literal, TypeAlias, assert_never

import attrs

from qkt.journal.ownership_messages import (
    AcquireLease,
    Action,
    DrainWrites,
    EpochSeen,
    HandOverRequested,
    Happening,
    JournalUnreachable,
    LeaseDue,
    LeaseExpired,
    LeaseGranted,
    LeaseRefused,
    LeaseReleased,
    LeaseRenewed,
    OpenPermitsRead,
    PermitRefused,
    PermitsResolved,
    ReadOpenPermits,
    ReleaseLease,
    RenewLease,
    ResolvePermits,
    Started,
    TellJournalDegraded,
    TellJournalRestored,
    TellOwnership,
    UnknownLinkSeen,
    VenueTimeRead,
    WritesDrained,
)
from qkt.model.ownership import Ownership, OwnershipState

__all__ = ["Coordination", "Ownership", "OwnershipRules", "OwnershipState", "advance"]

HandOver = Literal["no", "draining", "releasing"]


@attrs.frozen(kw_only=True)
class OwnershipRules:
    """Durations in ms.

    ``lease_ttl_ms`` is how long a lease runs without renewal, ``renew_interval_ms`` how often it is renewed (or tried,
    by a standby). ``recv_window_ms`` is the longest that the venue honours a request of ours after its timestamp, and
    ``margin_ms`` covers how late an accepted order can be seen and how wrong the reading of the venue's clock can be.
    """

    lease_ttl_ms: int = 10_000
    renew_interval_ms: int = 3_000
    recv_window_ms: int = 2_000
    margin_ms: int = 3_000


@attrs.frozen(kw_only=True)
class Coordination:
    """All that the machine remembers. ``me`` is this process's name in leases.

    ``highest_epoch_seen`` is that of link ids at the venue. ``commits_were_lost`` is set when the venue knows of an
    epoch or an order that the journal does not (rule P9). ``acquire_after_ms``: not before then, so that a hand-over
    goes to another process.
    """

    me: str
    ownership: Ownership = attrs.field(factory=Ownership)
    highest_epoch_seen: int = 0
    is_journal_reachable: bool = True
    commits_were_lost: bool = False
    is_resolving: bool = False
    hand_over: HandOver = "no"
    acquire_after_ms: int = 0

    @property
    def may_write(self) -> bool:
        """True when creates and amends may ask for a permit."""
        return self.ownership.state == "owner" and self.is_journal_reachable and self.hand_over == "no"

    @property
    def holds_lease(self) -> bool:
        """True while the lease is taken to be ours."""
        return self.ownership.state in ("owner", "quarantine")


Step: TypeAlias = tuple[Coordination, tuple[Action, ...]]

_PROVES_JOURNAL = LeaseGranted | LeaseRenewed | LeaseRefused | OpenPermitsRead | PermitRefused | LeaseReleased


def advance(now: Coordination, happened: Happening, *, now_ms: int, rules: OwnershipRules) -> Step:
    """The state after ``happened``, and what to do about it. ``now_ms`` is this process's wall clock."""
    if isinstance(happened, _PROVES_JOURNAL) and not now.is_journal_reachable:
        after, actions = _advance(attrs.evolve(now, is_journal_reachable=True), happened, now_ms, rules)
        return after, (TellJournalRestored(), *actions)
    return _advance(now, happened, now_ms, rules)


def _advance(now: Coordination, happened: Happening, now_ms: int, rules: OwnershipRules) -> Step:
    match happened:
        case Started():
            if now.ownership.state != "none":
                return now, ()
            after, told = _moved(now, Ownership(state="standby", since_ms=now_ms), "started")
            return after, (*told, AcquireLease())
        case LeaseDue() | LeaseExpired():
            return now, _lease_actions(now, now_ms)
        case LeaseGranted():
            return _granted(now, happened.epoch, now_ms)
        case LeaseRenewed():
            return now, _open_steps(now)
        case LeaseRefused():
            return _refused(now, happened.owner, happened.epoch, now_ms)
        case OpenPermitsRead():
            return _permits_read(now, happened, now_ms, rules)
        case VenueTimeRead():
            return _venue_time_read(now, happened.venue_ms)
        case PermitsResolved():
            return _resolved(now, happened.left, now_ms)
        case PermitRefused():
            return _lost(now, happened.owner, happened.epoch, now_ms, "a permit was refused")
        case EpochSeen():
            return _epoch_seen(now, happened, now_ms)
        case UnknownLinkSeen():
            return _unknown_link(now, happened, rules)
        case JournalUnreachable():
            actions = (TellJournalDegraded(reason=happened.reason),) if now.is_journal_reachable else ()
            return attrs.evolve(now, is_journal_reachable=False, is_resolving=False), actions
        case HandOverRequested():
            if not now.holds_lease or now.hand_over != "no":
                return now, ()
            return attrs.evolve(now, hand_over="draining"), (DrainWrites(),)
        case WritesDrained():
            if now.hand_over != "draining":
                return now, ()
            return attrs.evolve(now, hand_over="releasing"), (ReleaseLease(epoch=now.ownership.epoch),)
        case LeaseReleased():
            return _released(now, now_ms, rules)
        case _:
            assert_never(happened)


def _lease_actions(now: Coordination, now_ms: int) -> tuple[Action, ...]:
    if now.holds_lease:
        if now.hand_over == "releasing":
            return (ReleaseLease(epoch=now.ownership.epoch),)
        return (RenewLease(epoch=now.ownership.epoch),)
    if now.ownership.state == "none" or now_ms < now.acquire_after_ms:
        return ()
    return (AcquireLease(),)


def _open_steps(now: Coordination) -> tuple[Action, ...]:
    """What a quarantine still waits for, after its journal could not be reached for a while."""
    if now.ownership.state == "quarantine" and now.ownership.until_ms is None:
        return (ReadOpenPermits(before_epoch=now.ownership.epoch),)
    return ()


def _granted(now: Coordination, epoch: int, now_ms: int) -> Step:
    if now.ownership.state == "none" or (now.holds_lease and epoch == now.ownership.epoch):
        return now, ()
    if epoch <= now.highest_epoch_seen:
        # The venue knows an epoch that the journal has forgotten. Under this number two owners would look alike.
        reason = f"commits were lost: the journal is at epoch {epoch}, the venue has seen {now.highest_epoch_seen}"
        after = attrs.evolve(now, commits_were_lost=True)
        return after, (TellJournalDegraded(reason=reason), AcquireLease(min_epoch=now.highest_epoch_seen + 1))
    mine = Ownership(state="quarantine", epoch=epoch, owner=now.me, since_ms=now_ms)
    after, told = _moved(attrs.evolve(now, is_resolving=False, hand_over="no"), mine, "the lease was acquired")
    return after, (*told, ReadOpenPermits(before_epoch=epoch))


def _refused(now: Coordination, owner: str, epoch: int, now_ms: int) -> Step:
    if now.holds_lease:
        return _lost(now, owner, epoch, now_ms, "the lease was taken")
    if now.ownership.state == "none" or owner == now.me:
        return now, ()
    was = now.ownership
    if (was.state, was.owner, was.epoch) == ("standby", owner, epoch):
        return now, ()
    standby = Ownership(state="standby", epoch=epoch, owner=owner, since_ms=now_ms)
    return _moved(now, standby, "another process owns the account")


def _lost(now: Coordination, owner: str, epoch: int, now_ms: int, reason: str) -> Step:
    if not now.holds_lease or owner == now.me:  # a late answer to what was asked under an epoch before this one
        return now, ()
    lost = Ownership(state="lost", epoch=max(epoch, now.ownership.epoch), owner=owner, since_ms=now_ms)
    return _moved(attrs.evolve(now, is_resolving=False, hand_over="no"), lost, reason)


def _epoch_seen(now: Coordination, seen: EpochSeen, now_ms: int) -> Step:
    after = attrs.evolve(now, highest_epoch_seen=max(now.highest_epoch_seen, seen.epoch))
    if not now.holds_lease or seen.epoch <= now.ownership.epoch:
        return after, ()
    return _lost(after, "", seen.epoch, now_ms, f"{seen.link_id} carries a higher epoch")


def _permits_read(now: Coordination, read: OpenPermitsRead, now_ms: int, rules: OwnershipRules) -> Step:
    if now.ownership.state != "quarantine" or now.ownership.until_ms is not None:
        return now, ()
    bounds = [] if read.latest_until_ms is None else [read.latest_until_ms]
    if now.commits_were_lost:
        # Permits may have been lost too; each was stamped before now.
        bounds.append(read.venue_ms + rules.recv_window_ms)
    if not bounds:
        return _enter(now, now_ms, "no request of an earlier owner is open")
    quarantine = attrs.evolve(now.ownership, until_ms=max(bounds) + rules.margin_ms)
    after, told = _moved(now, quarantine, "requests of earlier owners may still arrive")
    later, actions = _venue_time_read(after, read.venue_ms)
    return later, (*told, *actions)


def _venue_time_read(now: Coordination, venue_ms: int) -> Step:
    until_ms = now.ownership.until_ms
    if now.ownership.state != "quarantine" or until_ms is None or now.is_resolving or venue_ms <= until_ms:
        return now, ()
    return attrs.evolve(now, is_resolving=True), (ResolvePermits(before_epoch=now.ownership.epoch),)


def _resolved(now: Coordination, left: int, now_ms: int) -> Step:
    if now.ownership.state != "quarantine" or not now.is_resolving:
        return now, ()
    waiting = attrs.evolve(now, is_resolving=False)
    return (waiting, ()) if left else _enter(waiting, now_ms, "every request of earlier owners is accounted for")


def _unknown_link(now: Coordination, seen: UnknownLinkSeen, rules: OwnershipRules) -> Step:
    reason = f"commits were lost: the journal does not know {seen.link_id}"
    after = attrs.evolve(now, commits_were_lost=True)
    actions = (TellJournalDegraded(reason=reason),)
    if now.ownership.state != "quarantine" or now.ownership.until_ms is None:
        return after, actions
    until_ms = max(now.ownership.until_ms, seen.venue_ms + rules.recv_window_ms + rules.margin_ms)
    quarantine = attrs.evolve(now.ownership, until_ms=until_ms)
    later, told = _moved(attrs.evolve(after, is_resolving=False), quarantine, reason)
    return later, (*actions, *told)


def _enter(now: Coordination, now_ms: int, reason: str) -> Step:
    owner = attrs.evolve(now.ownership, state="owner", since_ms=now_ms, until_ms=None)
    return _moved(attrs.evolve(now, commits_were_lost=False), owner, reason)


def _released(now: Coordination, now_ms: int, rules: OwnershipRules) -> Step:
    if now.hand_over != "releasing":
        return now, ()
    free = Ownership(state="standby", epoch=now.ownership.epoch, since_ms=now_ms)
    waiting = attrs.evolve(now, hand_over="no", acquire_after_ms=now_ms + rules.lease_ttl_ms)
    return _moved(waiting, free, "the account was handed over")


def _moved(now: Coordination, after: Ownership, reason: str) -> Step:
    if after == now.ownership:
        return now, ()
    told = TellOwnership(before=now.ownership, after=after, reason=reason)
    return attrs.evolve(now, ownership=after), (told,)
