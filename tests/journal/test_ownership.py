"""The ownership state machine: every input in the states where it matters, and a walk over all of them."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

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

RULES = OwnershipRules(lease_ttl_ms=10_000, renew_interval_ms=3_000, recv_window_ms=2_000, margin_ms=500)
NOW_MS = 1_000_000
VENUE_MS = 5_000_000


def after(*happenings: Happening, now_ms: int = NOW_MS, start: Coordination | None = None) -> Coordination:
    state = start or Coordination(me="a")
    for happened in happenings:
        state, _ = advance(state, happened, now_ms=now_ms, rules=RULES)
    return state


def actions_of(state: Coordination, happened: Happening, *, now_ms: int = NOW_MS) -> tuple[Action, ...]:
    """What is to be done about it, without what is told."""
    _, actions = advance(state, happened, now_ms=now_ms, rules=RULES)
    return tuple(action for action in actions if not isinstance(action, TellOwnership))


def nothing_open() -> OpenPermitsRead:
    return OpenPermitsRead(latest_until_ms=None, venue_ms=VENUE_MS)


def an_owner(epoch: int = 1) -> Coordination:
    return after(Started(), LeaseGranted(epoch=epoch), nothing_open())


def a_quarantine(until_ms: int | None = VENUE_MS, *, epoch: int = 2) -> Coordination:
    state = after(Started(), LeaseGranted(epoch=epoch))
    if until_ms is None:
        return state
    return after(OpenPermitsRead(latest_until_ms=until_ms, venue_ms=VENUE_MS - 5_000), start=state)


def a_standby() -> Coordination:
    return after(Started(), LeaseRefused(owner="b", epoch=4))


def test_without_a_journal_the_state_is_none_and_nothing_may_be_written_here() -> None:
    assert Coordination(me="a").ownership == Ownership(state="none", epoch=0, owner="", since_ms=0, until_ms=None)
    assert not Coordination(me="a").may_write


def test_a_start_asks_for_the_lease_as_a_standby() -> None:
    state, actions = advance(Coordination(me="a"), Started(), now_ms=NOW_MS, rules=RULES)

    assert state.ownership == Ownership(state="standby", since_ms=NOW_MS)
    assert actions[-1] == AcquireLease()


def test_a_lease_that_is_taken_leaves_a_standby_that_knows_the_owner() -> None:
    assert a_standby().ownership == Ownership(state="standby", owner="b", epoch=4, since_ms=NOW_MS)
    assert not a_standby().may_write


def test_a_refusal_that_says_nothing_new_is_not_told_again() -> None:
    again = advance(a_standby(), LeaseRefused(owner="b", epoch=4), now_ms=NOW_MS + 1, rules=RULES)

    assert again == (a_standby(), ())


def test_a_granted_lease_reads_the_open_permits_before_anything_may_be_written() -> None:
    state = a_quarantine(until_ms=None)

    assert state.ownership == Ownership(state="quarantine", epoch=2, owner="a", since_ms=NOW_MS)
    assert not state.may_write
    assert actions_of(a_standby(), LeaseGranted(epoch=5)) == (ReadOpenPermits(before_epoch=5),)


def test_without_open_permits_the_owner_writes_at_once() -> None:
    assert an_owner().ownership == Ownership(state="owner", epoch=1, owner="a", since_ms=NOW_MS)
    assert an_owner().may_write


def test_with_open_permits_the_quarantine_lasts_until_the_margin_after_the_latest() -> None:
    assert a_quarantine(VENUE_MS).ownership.until_ms == VENUE_MS + RULES.margin_ms


@pytest.mark.parametrize(("venue_ms", "is_over"), [(VENUE_MS, False), (VENUE_MS + 500, False), (VENUE_MS + 501, True)])
def test_the_quarantine_is_over_once_the_venue_s_time_has_passed_it(venue_ms: int, is_over: bool) -> None:
    expected = (ResolvePermits(before_epoch=2),) if is_over else ()

    assert actions_of(a_quarantine(VENUE_MS), VenueTimeRead(venue_ms=venue_ms)) == expected


def test_a_bound_that_has_passed_already_is_resolved_at_once() -> None:
    read = OpenPermitsRead(latest_until_ms=VENUE_MS - 20_000, venue_ms=VENUE_MS)

    assert actions_of(a_quarantine(None), read) == (ResolvePermits(before_epoch=2),)


def test_the_owner_writes_once_every_permit_is_resolved() -> None:
    resolving = after(VenueTimeRead(venue_ms=VENUE_MS + 501), start=a_quarantine(VENUE_MS))
    assert not resolving.may_write

    unfinished = after(PermitsResolved(left=1), start=resolving)
    assert unfinished.ownership.state == "quarantine"
    assert actions_of(unfinished, VenueTimeRead(venue_ms=VENUE_MS + 502)) == (ResolvePermits(before_epoch=2),)

    assert after(PermitsResolved(left=0), start=resolving).may_write


def test_permits_are_looked_up_once_at_a_time() -> None:
    resolving = after(VenueTimeRead(venue_ms=VENUE_MS + 501), start=a_quarantine(VENUE_MS))

    assert actions_of(resolving, VenueTimeRead(venue_ms=VENUE_MS + 502)) == ()


def test_a_resolution_that_was_not_asked_for_ends_no_quarantine() -> None:
    assert after(PermitsResolved(left=0), start=a_quarantine(VENUE_MS)).ownership.state == "quarantine"


@pytest.mark.parametrize("state", [an_owner(), a_quarantine()], ids=["owner", "quarantine"])
def test_a_held_lease_is_renewed_when_due_and_when_it_expired(state: Coordination) -> None:
    renew = (RenewLease(epoch=state.ownership.epoch),)

    assert actions_of(state, LeaseDue()) == renew
    assert actions_of(state, LeaseExpired()) == renew
    assert after(LeaseExpired(), start=state) == state


def test_a_standby_tries_the_lease_when_due() -> None:
    assert actions_of(a_standby(), LeaseDue()) == (AcquireLease(),)


@pytest.mark.parametrize(
    "happened",
    [
        PermitRefused(owner="b", epoch=3),
        LeaseRefused(owner="b", epoch=3),
        EpochSeen(epoch=3, link_id="qkj-3-x-1"),
    ],
    ids=["permit refused", "renewal refused", "higher epoch at the venue"],
)
@pytest.mark.parametrize("build", [an_owner, a_quarantine], ids=["owner", "quarantine"])
def test_another_owner_freezes_this_one_at_once(build: Callable[[], Coordination], happened: Happening) -> None:
    state = after(happened, start=build())

    assert (state.ownership.state, state.ownership.epoch) == ("lost", 3)
    assert not state.may_write


def test_a_late_refusal_under_an_earlier_epoch_does_not_freeze_the_owner() -> None:
    late = PermitRefused(owner="a", epoch=3)

    assert after(late, start=an_owner(3)).may_write


def test_a_row_with_our_own_or_an_older_epoch_changes_nothing() -> None:
    assert after(EpochSeen(epoch=5, link_id="l"), EpochSeen(epoch=4, link_id="l"), start=an_owner(5)).may_write


def test_a_lost_owner_becomes_a_standby_once_it_knows_who_took_the_account() -> None:
    lost = after(EpochSeen(epoch=3, link_id="l"), start=an_owner())
    assert actions_of(lost, LeaseDue()) == (AcquireLease(),)

    standby = after(LeaseRefused(owner="b", epoch=3), start=lost)

    assert (standby.ownership.state, standby.ownership.owner) == ("standby", "b")


def test_an_unreachable_journal_stops_writes_and_is_told_once() -> None:
    state, actions = advance(an_owner(), JournalUnreachable(reason="no route"), now_ms=NOW_MS, rules=RULES)

    assert (state.ownership, state.may_write) == (an_owner().ownership, False)
    assert actions == (TellJournalDegraded(reason="no route"),)
    assert actions_of(state, JournalUnreachable(reason="still")) == ()
    assert actions_of(state, LeaseDue()) == (RenewLease(epoch=1),)


def test_a_renewal_after_an_outage_lets_the_owner_write_again() -> None:
    down = after(JournalUnreachable(reason="down"), start=an_owner())

    state, actions = advance(down, LeaseRenewed(), now_ms=NOW_MS, rules=RULES)

    assert state.may_write
    assert actions == (TellJournalRestored(),)


def test_an_outage_before_the_permits_were_read_reads_them_afterwards() -> None:
    down = after(JournalUnreachable(reason="down"), start=a_quarantine(None))

    assert actions_of(down, LeaseRenewed()) == (TellJournalRestored(), ReadOpenPermits(before_epoch=2))


def test_an_outage_while_permits_are_resolved_resolves_them_again() -> None:
    resolving = after(VenueTimeRead(venue_ms=VENUE_MS + 501), start=a_quarantine(VENUE_MS))
    back = after(JournalUnreachable(reason="down"), LeaseRenewed(), start=resolving)

    assert actions_of(back, VenueTimeRead(venue_ms=VENUE_MS + 900)) == (ResolvePermits(before_epoch=2),)


def test_a_hand_over_drains_then_releases_then_stands_by() -> None:
    draining, actions = advance(an_owner(), HandOverRequested(), now_ms=NOW_MS, rules=RULES)
    assert (draining.may_write, actions) == (False, (DrainWrites(),))
    assert actions_of(draining, WritesDrained()) == (ReleaseLease(epoch=1),)

    given = after(WritesDrained(), LeaseReleased(), start=draining)

    assert given.ownership == Ownership(state="standby", epoch=1, since_ms=NOW_MS)


def test_an_owner_that_handed_over_does_not_take_the_account_back_at_once() -> None:
    given = after(HandOverRequested(), WritesDrained(), LeaseReleased(), start=an_owner())

    assert actions_of(given, LeaseDue(), now_ms=NOW_MS + RULES.lease_ttl_ms - 1) == ()
    assert actions_of(given, LeaseDue(), now_ms=NOW_MS + RULES.lease_ttl_ms) == (AcquireLease(),)


def test_a_release_that_the_journal_did_not_hear_is_repeated() -> None:
    releasing = after(HandOverRequested(), WritesDrained(), JournalUnreachable(reason="down"), start=an_owner())

    assert actions_of(releasing, LeaseDue()) == (ReleaseLease(epoch=1),)


def test_a_hand_over_without_ownership_does_nothing() -> None:
    assert advance(a_standby(), HandOverRequested(), now_ms=NOW_MS, rules=RULES) == (a_standby(), ())


def test_an_epoch_that_the_venue_has_seen_before_is_not_used_again() -> None:
    state = after(EpochSeen(epoch=7, link_id="l"), start=a_standby())

    forgotten, actions = advance(state, LeaseGranted(epoch=7), now_ms=NOW_MS, rules=RULES)

    assert forgotten.ownership.state == "standby"
    assert isinstance(actions[0], TellJournalDegraded)
    assert actions[1:] == (AcquireLease(min_epoch=8),)


def test_after_lost_commits_the_quarantine_counts_from_now() -> None:
    forgotten = after(EpochSeen(epoch=7, link_id="l"), LeaseGranted(epoch=7), LeaseGranted(epoch=8), start=a_standby())

    state = after(nothing_open(), start=forgotten)

    assert (state.ownership.state, state.ownership.until_ms) == ("quarantine", VENUE_MS + 2_500)


def test_an_order_that_the_journal_does_not_know_is_told_and_extends_a_quarantine() -> None:
    unknown = UnknownLinkSeen(link_id="qkj-1-x-1", venue_ms=VENUE_MS + 9_000)

    state, actions = advance(a_quarantine(VENUE_MS), unknown, now_ms=NOW_MS, rules=RULES)

    assert isinstance(actions[0], TellJournalDegraded)
    assert state.ownership.until_ms == VENUE_MS + 9_000 + 2_500
    assert after(unknown, start=an_owner()).may_write


def test_an_unknown_order_makes_a_resolution_under_way_worthless() -> None:
    resolving = after(VenueTimeRead(venue_ms=VENUE_MS + 501), start=a_quarantine(VENUE_MS))
    extended = after(UnknownLinkSeen(link_id="qkj-1-x-1", venue_ms=VENUE_MS + 9_000), start=resolving)

    assert after(PermitsResolved(left=0), start=extended).ownership.state == "quarantine"
    assert actions_of(extended, VenueTimeRead(venue_ms=VENUE_MS + 12_000)) == (ResolvePermits(before_epoch=2),)


def test_lost_commits_lengthen_one_quarantine_and_not_the_next() -> None:
    forgotten = after(EpochSeen(epoch=7, link_id="l"), LeaseGranted(epoch=7), LeaseGranted(epoch=8), start=a_standby())
    waited = after(nothing_open(), VenueTimeRead(venue_ms=VENUE_MS + 2_501), start=forgotten)
    owner = after(PermitsResolved(left=0), start=waited)
    assert owner.ownership.state == "owner"

    again = after(PermitRefused(owner="b", epoch=9), LeaseGranted(epoch=10), nothing_open(), start=owner)

    assert again.ownership.state == "owner"


def test_every_change_is_told_with_what_was_and_what_is() -> None:
    _, actions = advance(an_owner(), PermitRefused(owner="b", epoch=2), now_ms=NOW_MS + 5, rules=RULES)

    (told,) = actions
    assert isinstance(told, TellOwnership)
    assert (told.before, told.after.state, told.after.owner) == (an_owner().ownership, "lost", "b")


def test_no_walk_writes_without_a_quarantine_that_was_resolved_under_its_epoch() -> None:
    """Ten thousand inputs in random order: a new epoch may write only after its own permits were read and resolved."""
    chance = random.Random(7)
    choices: list[Callable[[], Happening]] = [
        Started,
        LeaseDue,
        LeaseExpired,
        LeaseRenewed,
        HandOverRequested,
        WritesDrained,
        LeaseReleased,
        lambda: LeaseGranted(epoch=chance.randint(1, 6)),
        lambda: LeaseRefused(owner="b", epoch=chance.randint(1, 6)),
        lambda: PermitRefused(owner="b", epoch=chance.randint(1, 6)),
        lambda: EpochSeen(epoch=chance.randint(1, 6), link_id="l"),
        lambda: UnknownLinkSeen(link_id="l", venue_ms=VENUE_MS),
        lambda: OpenPermitsRead(latest_until_ms=chance.choice([None, VENUE_MS]), venue_ms=VENUE_MS),
        lambda: VenueTimeRead(venue_ms=VENUE_MS + chance.randint(0, 4_000)),
        lambda: PermitsResolved(left=chance.randint(0, 1)),
        lambda: JournalUnreachable(reason="down"),
    ]
    weights = [1, 1, 1, 3, 1, 1, 1, 8, 1, 1, 1, 1, 8, 8, 8, 1]
    writing_epochs = 0
    for _ in range(200):
        state = Coordination(me="a")
        for _ in range(50):
            (happen,) = chance.choices(choices, weights)
            happened = happen()
            before, (state, actions) = state, advance(state, happened, now_ms=NOW_MS, rules=RULES)
            if state.ownership.state == "owner" and before.ownership.state != "owner":
                writing_epochs += 1
                assert isinstance(happened, OpenPermitsRead | PermitsResolved)
                assert before.ownership.state == "quarantine"
                assert state.ownership.epoch == before.ownership.epoch > 0
            if state.may_write:
                assert state.ownership.epoch >= before.ownership.epoch
            changed = [action for action in actions if isinstance(action, TellOwnership)]
            assert bool(changed) == (state.ownership != before.ownership)
    assert writing_epochs > 50
