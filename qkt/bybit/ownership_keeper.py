"""`OwnershipKeeper`: who may send on an account. Runs the ownership machine for the brokers of one client.

It keeps the lease, waits out the quarantine, asks for permits, records what became of them, and appends what was learnt
and told to the journal. `qkt.journal.ownership` decides; here are the clock, the journal and the threads.

Threads: the scheduler's for the lease, the caller's for permits. No call of the journal, and no request, runs under the
keeper's lock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import attrs

from qkt.bybit.account.registry import PerClient
from qkt.bybit.permit_lookup import PermitLookup, venue_time_ms
from qkt.bybit.transport.protocol import CompleteTransport
from qkt.clock import Clock
from qkt.errors import (
    InvalidRequestError,
    JournalError,
    JournalUnavailableError,
    NotOwnerError,
    QktError,
    WaitTimeoutError,
)
from qkt.journal.ownership import Coordination, Ownership, OwnershipRules, advance
from qkt.journal.ownership_messages import (
    AcquireLease,
    Action,
    DrainWrites,
    EpochSeen,
    HandOverRequested,
    Happening,
    JournalUnreachable,
    LeaseDue,
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
from qkt.journal.protocol import (
    EventDraft,
    Journal,
    JournalFact,
    Permit,
    PermitDraft,
    PermitOutcome,
    Resolution,
)
from qkt.net.scheduler import Cancellable, Scheduler, ThreadScheduler

log: logging.Logger = logging.getLogger(__name__)

TICK_MS: int = 500
_HAND_OVER_MS = 5_000
_BACKLOG = 20_000


class Member(Protocol):
    """One broker, as its account's keeper sees it."""

    category: str

    def tell_ownership(self, account: str, now: Ownership, before: Ownership, reason: str) -> None: ...

    def tell_journal(self, reason: str | None) -> None: ...

    def sync(self) -> None: ...

    def question_open(self) -> None: ...

    def outcome_of(self, permit: Permit) -> Resolution | None: ...

    def learn_outcome(self, permit: Permit, resolution: Resolution) -> None: ...


@attrs.frozen(kw_only=True)
class Told:
    """Something for the outbox. ``is_shared``: another process would tell it under the same key."""

    event: EventDraft
    facts: tuple[JournalFact, ...] = ()
    is_shared: bool = True


@attrs.define
class _IntentLock:
    """The lock of one intent. ``users``: the submits that hold it or are about to wait for it."""

    lock: threading.Lock
    users: int = 0


class OwnershipKeeper:
    """The coordinator of one account. Safe from any thread; created with `keeper_of`."""

    def __init__(self, client: CompleteTransport) -> None:
        self._client = weakref.proxy(client)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._recording = threading.Lock()
        self._members: list[Member] = []
        self._journal: Journal | None = None
        self._reset()

    def _reset(self) -> None:
        self.rules: OwnershipRules = OwnershipRules()
        self.account: str = ""
        self._now = Coordination(me="")
        self._in_flight = 0
        self._open: dict[int, Permit] = {}
        self._resolutions: dict[int, Resolution] = {}
        self._marks: dict[str, int] = {}
        self._backlog: deque[Told] = deque(maxlen=_BACKLOG)
        self._number = 0
        self._renewed_ms = 0
        self._intent_locks: dict[str, _IntentLock] = {}
        self._timer: Cancellable | None = None
        self._own_scheduler: ThreadScheduler | None = None

    # joining

    def join(self, member: Member, journal: Journal, clock: Clock, scheduler: Scheduler | None) -> None:
        """One more broker; the first brings the journal, the clock and, where it has one, the scheduler.

        Raises InvalidRequestError for another journal than the first broker's, and for a venue without a user id.
        """
        with self._lock:
            if self._journal is not None and self._journal is not journal:
                raise InvalidRequestError("the brokers of one client share one journal: pass the same object to each")
            if self._journal is None:
                self._reset()
                self._clock = clock
                self._journal = journal
                self._own_scheduler = ThreadScheduler(name="qkt-journal") if scheduler is None else None
                self._scheduler = scheduler or self._own_scheduler
            self._members.append(member)
        try:
            if not self.account:
                self.account = self._account_name()
                self._now = Coordination(me=journal.owner)
        except BaseException:
            self.leave(member)
            raise

    def _account_name(self) -> str:
        told = self._client.get_signed("/v5/user/query-api", {}).get("result") or {}
        user_id = str(told.get("userID") or "").strip()
        if not user_id:
            raise InvalidRequestError(
                "a journal names accounts by their user id, and GET /v5/user/query-api did not tell one"
            )
        return f"BYBIT:{user_id}"

    def start(self) -> None:
        """Ask for the lease, and keep asking or renewing; nothing when it runs already."""
        with self._lock:
            if self._timer is not None:
                return
            assert self._scheduler is not None
            self._timer = self._scheduler.schedule_at_fixed_rate(self.tick, TICK_MS, TICK_MS)
        self.feed(Started())

    def leave(self, member: Member) -> None:
        """One broker fewer; the last one gives the lease away."""
        with self._lock:
            if member not in self._members:
                return
            is_last = self._members == [member]
            timer = self._timer
        if is_last and timer is not None:
            timer.cancel()
            self.feed(HandOverRequested())
        with self._lock:
            self._members.remove(member)
            if not self._members:
                self._journal, self._timer = None, None
                own, self._own_scheduler = self._own_scheduler, None
            else:
                own = None
        if own is not None:
            own.close(timeout_ms=100)

    @property
    def journal(self) -> Journal:
        """The journal of the account."""
        assert self._journal is not None
        return self._journal

    # ownership

    @property
    def ownership(self) -> Ownership:
        """How the brokers stand to the account."""
        return self._now.ownership

    def wait(self, timeout_ms: int) -> Ownership:
        """Block until the account is ours; raises WaitTimeoutError with the ownership as its view."""
        with self._lock:
            if not self._changed.wait_for(lambda: self._now.ownership.state == "owner", timeout_ms / 1000):
                now = self._now.ownership
                raise WaitTimeoutError(
                    f"account {self.account} was not ours within {timeout_ms} ms: {now.state}, owner {now.owner!r}",
                    view=now,
                )
            return self._now.ownership

    def hand_over(self) -> Ownership:
        """Let no write begin, wait for those under way, and give the lease away."""
        self.feed(HandOverRequested())
        with self._lock:
            self._changed.wait_for(lambda: self._now.hand_over == "no", _HAND_OVER_MS / 1000)
            return self._now.ownership

    def tick(self) -> None:
        """Renew, try, or wait on: runs every half second."""
        if self._journal is None:
            return
        try:
            self._tick()
        except JournalUnavailableError as error:
            self.feed(JournalUnreachable(reason=str(error)))
        except JournalError as error:
            log.warning("journal refused account=%s error=%s", self.account, error)

    def _tick(self) -> None:
        now = self._now
        is_due = self._clock.monotonic_ms() - self._renewed_ms >= self.rules.renew_interval_ms
        if not now.holds_lease or is_due or not now.is_journal_reachable:
            self.feed(LeaseDue())
        for member in self._all_members():
            member.sync()
        if self._now.ownership.state == "quarantine" and self._now.ownership.until_ms is not None:
            self._read_venue_time()
        if self._now.holds_lease:
            self._settle_open()
            self.record()

    def _all_members(self) -> list[Member]:
        with self._lock:
            return list(self._members)

    def _read_venue_time(self) -> None:
        venue_ms = venue_time_ms(self._client, self._clock)
        if venue_ms is not None:
            self.feed(VenueTimeRead(venue_ms=venue_ms))

    def feed(self, happened: Happening) -> None:
        """Tell the machine, and do what it asks for."""
        with self._lock:
            self._now, actions = advance(self._now, happened, now_ms=self._clock.now_ms(), rules=self.rules)
            self._changed.notify_all()
        for action in actions:
            self._act(action)

    def _act(self, action: Action) -> None:
        try:
            self._do(action)
        except JournalUnavailableError as error:
            self.feed(JournalUnreachable(reason=str(error)))
        except NotOwnerError as error:
            self.feed(PermitRefused(owner=error.owner, epoch=error.epoch))
        except JournalError as error:
            log.warning("journal refused account=%s error=%s", self.account, error)

    def _do(self, action: Action) -> None:
        ttl_ms = self.rules.lease_ttl_ms
        match action:
            case AcquireLease():
                asked_ms = self._clock.monotonic_ms()
                result = self.journal.acquire(self.account, ttl_ms=ttl_ms, min_epoch=action.min_epoch)
                lease = result.lease
                if result.granted:
                    self._renewed_ms = asked_ms
                    self.feed(LeaseGranted(epoch=lease.epoch))
                else:
                    self.feed(LeaseRefused(owner=lease.owner, epoch=lease.epoch))
            case RenewLease():
                asked_ms = self._clock.monotonic_ms()
                result = self.journal.renew(self.account, action.epoch, ttl_ms=ttl_ms)
                self._renewed_ms = asked_ms
                lease = result.lease
                self.feed(LeaseRenewed() if result.granted else LeaseRefused(owner=lease.owner, epoch=lease.epoch))
            case ReleaseLease():
                self.journal.release(self.account, action.epoch)
                self.feed(LeaseReleased())
            case ReadOpenPermits():
                self._read_open(action.before_epoch)
            case ResolvePermits():
                self._resolve(action.before_epoch)
            case DrainWrites():
                self._drain()
            case TellOwnership():
                for member in self._all_members():
                    member.tell_ownership(self.account, action.after, action.before, action.reason)
            case TellJournalDegraded():
                log.warning("journal degraded account=%s reason=%s", self.account, action.reason)
                for member in self._all_members():
                    member.tell_journal(action.reason)
            case TellJournalRestored():
                for member in self._all_members():
                    member.tell_journal(None)

    def _read_open(self, before_epoch: int) -> None:
        for member in self._all_members():
            member.sync()
            member.question_open()
        latest = [
            permit.accepted_until_ms for permit in self.journal.open_permits(self.account, before_epoch=before_epoch)
        ]
        venue_ms = venue_time_ms(self._client, self._clock)
        if venue_ms is not None:
            self.feed(OpenPermitsRead(latest_until_ms=max(latest, default=None), venue_ms=venue_ms))

    def _resolve(self, before_epoch: int) -> None:
        """Ask the venue about each open permit of earlier epochs; what it cannot tell now is asked again (P6)."""
        lookup = PermitLookup(self._client, self._clock)
        found: list[Resolution] = []
        left = 0
        for permit in self.journal.open_permits(self.account, before_epoch=before_epoch):
            resolution = lookup.resolve(permit)
            if resolution is None:
                left += 1
                continue
            found.append(resolution)
            for member in self._all_members():
                if member.category == permit.category:
                    member.learn_outcome(permit, resolution)
        if found:
            self.journal.record(self.account, self._now.ownership.epoch, resolutions=found)
        self.feed(PermitsResolved(left=left))

    def _drain(self) -> None:
        with self._lock:
            if self._now.hand_over != "draining" or self._in_flight:
                return
        self._settle_open()
        self.record()
        self.feed(WritesDrained())

    # permits

    def check_may_write(self) -> None:
        """Raise unless a permit may be asked for: NotOwnerError, or JournalUnavailableError (rule P8)."""
        now = self._now
        if now.may_write:
            return
        if now.ownership.state == "owner" and now.hand_over == "no":
            raise JournalUnavailableError(
                f"the journal of account {self.account} cannot be reached: nothing was sent; cancels pass"
            )
        own = now.ownership
        state = "is being handed over" if now.hand_over != "no" else f"is not ours: {own.state}"
        raise NotOwnerError(
            f"account {self.account} {state}, owner {own.owner or 'unknown'} under epoch {own.epoch}; nothing was "
            "sent: wait_for_ownership() first",
            account=self.account,
            owner=own.owner,
            epoch=own.epoch,
        )

    @contextlib.contextmanager
    def writing(self) -> Iterator[int]:
        """A write from its permit to its answer; gives the epoch. Raises as `check_may_write`."""
        with self._lock:
            self.check_may_write()
            self._in_flight += 1
            epoch = self._now.ownership.epoch
        try:
            yield epoch
        finally:
            with self._lock:
                self._in_flight -= 1
            self._drain()

    @contextlib.contextmanager
    def intent_lock(self, intent: str) -> Iterator[None]:
        """One submit of an intent at a time, so that the second finds what the first became."""
        with self._lock:
            held = self._intent_locks.setdefault(intent, _IntentLock(threading.Lock()))
            held.users += 1
        try:
            with held.lock:
                yield
        finally:
            with self._lock:
                held.users -= 1
                if not held.users and self._intent_locks.get(intent) is held:
                    del self._intent_locks[intent]

    def ask_permits(self, epoch: int, drafts: Sequence[PermitDraft]) -> tuple[Permit, ...]:
        """Permits for these requests; raises what `Journal.append` raises, and freezes when they are refused."""
        try:
            permits = self.journal.append(self.account, epoch, drafts)
        except NotOwnerError as error:
            self.feed(PermitRefused(owner=error.owner, epoch=error.epoch))
            raise
        except JournalUnavailableError as error:
            self.feed(JournalUnreachable(reason=str(error)))
            raise
        with self._lock:
            self._open.update((permit.seq, permit) for permit in permits)
        return permits

    def resolve(self, permit: Permit, outcome: PermitOutcome, *, broker_order_id: str = "", reason: str = "") -> None:
        """Note what became of a permit; it is recorded soon, in one commit with what else there is to record."""
        with self._lock:
            self._open.pop(permit.seq, None)
            self._resolutions[permit.seq] = Resolution(
                seq=permit.seq, outcome=outcome, broker_order_id=broker_order_id, reason=reason[:500]
            )

    def noted_outcome(self, permit: Permit) -> Permit:
        """The permit with an outcome that is known here and not recorded yet."""
        with self._lock:
            noted = self._resolutions.get(permit.seq)
        if noted is None or not permit.is_open:
            return permit
        return attrs.evolve(permit, outcome=noted.outcome, broker_order_id=noted.broker_order_id, reason=noted.reason)

    def is_open_here(self, permit: Permit) -> bool:
        """True while this process waits for the permit's answer."""
        with self._lock:
            return permit.seq in self._open

    def _settle_open(self) -> None:
        """Note the outcomes that the books have learnt since the answer was missed."""
        with self._lock:
            waiting = list(self._open.values())
        for permit in waiting:
            for member in self._all_members():
                if member.category == permit.category and (found := member.outcome_of(permit)) is not None:
                    with self._lock:
                        if self._open.pop(permit.seq, None) is not None:
                            self._resolutions.setdefault(permit.seq, found)

    # what was learnt and told

    def note(self, told: Sequence[Told], marks: Mapping[str, int] | None = None) -> None:
        """Keep what is to be appended. While another process owns the account only what it would tell too is kept."""
        with self._lock:
            self._marks.update(marks or {})
            for one in told:
                if one.is_shared or self._now.holds_lease:
                    self._backlog.append(one)

    def unique_key(self, kind: str) -> str:
        """A key for an event that no other process tells."""
        with self._lock:
            self._number += 1
            return f"{kind}:{self._now.me}:{self._number}"

    def record(self) -> None:
        """Append everything noted, in one commit; what the journal cannot take now is kept. Never raises."""
        with self._recording:
            with self._lock:
                if not self._now.holds_lease or self._journal is None:
                    return
                journal, epoch = self._journal, self._now.ownership.epoch
                told = list(self._backlog)
                resolutions, marks = dict(self._resolutions), dict(self._marks)
            if not (told or resolutions or marks):
                return
            try:
                journal.record(
                    self.account,
                    epoch,
                    resolutions=list(resolutions.values()),
                    facts=[fact for one in told for fact in one.facts],
                    events=[one.event for one in told],
                    watermarks=marks,
                )
            except JournalUnavailableError as error:
                self.feed(JournalUnreachable(reason=str(error)))
                return
            except NotOwnerError as error:
                self.feed(PermitRefused(owner=error.owner, epoch=error.epoch))
                return
            except QktError:
                log.exception("not recorded account=%s events=%d", self.account, len(told))
            with self._lock:
                for _ in told:
                    self._backlog.popleft()
                for seq in resolutions:
                    self._resolutions.pop(seq, None)
                self._marks = {path: at for path, at in self._marks.items() if marks.get(path) != at}

    def link_seen(self, epoch: int, link_id: str) -> None:
        """A row at the venue carries a link id of the journal's making that these brokers did not send (P7, P9)."""
        if epoch > self._now.ownership.epoch or not self._now.holds_lease:
            self.feed(EpochSeen(epoch=epoch, link_id=link_id))
            return
        try:
            is_known = link_id in self.journal.find_links(self.account, [link_id])
        except JournalError as error:
            log.warning("link id not looked up account=%s error=%s", self.account, error)
            return
        venue_ms = None if is_known else venue_time_ms(self._client, self._clock)
        if venue_ms is not None:
            self.feed(UnknownLinkSeen(link_id=link_id, venue_ms=venue_ms))


_keepers: PerClient[OwnershipKeeper] = PerClient(OwnershipKeeper)


def keeper_of(client: CompleteTransport) -> OwnershipKeeper:
    """The one keeper of this client."""
    return _keepers.of(client)
