"""Protection as a join: what stands, what does not, and what is not known, on evidence alone."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import attrs
import pytest

from qkt.model.order_kinds import PositionSide
from qkt.model.protection import ProtectionKind, ProtectionState
from qkt.reconcile.exits import Carrier, Exit, ExitState
from qkt.reconcile.positions import VenuePosition
from qkt.reconcile.protection import Judgement, ProtectionBook
from qkt.reconcile.protection_rules import Evidence

D = Decimal
SYMBOL = "BYBIT_LINEAR:BTCUSDT"
HERE = (SYMBOL, 0)
STOP, TAKE = ProtectionKind.STOP_LOSS, ProtectionKind.TAKE_PROFIT
STANDS, ABSENT = ProtectionState.STANDS, ProtectionState.DOES_NOT_STAND
UNKNOWN, ENDED = ProtectionState.UNKNOWN, ProtectionState.ENDED


def a_position(
    quantity: int = 1, *, at: int = 1_000, stop: int | None = None, take: int | None = None
) -> VenuePosition:
    return VenuePosition(
        symbol=SYMBOL, quantity=D(quantity), as_of_ms=at,
        stop_loss=None if stop is None else D(stop), take_profit=None if take is None else D(take),
    )  # fmt: skip


def an_exit(
    state: ExitState = ExitState.WAITING, *, at: int = 1_000, kind: ProtectionKind = STOP, **changes: object
) -> Exit:
    base = Exit(
        broker_order_id="x1", symbol=SYMBOL, position_idx=0, kind=kind, is_partial=False, state=state, price=D(90),
        quantity=D(1), as_of_ms=at,
    )  # fmt: skip
    return attrs.evolve(base, **changes)  # type: ignore[arg-type]


def a_carrier(*, filled: int = 1, at: int = 1_000, is_partial: bool = False, is_long: bool = True) -> Carrier:
    return Carrier(
        client_order_id="c1", symbol=SYMBOL, position_idx=0, is_long=is_long, is_partial=is_partial,
        exits={STOP: D(90)}, filled=D(filled), filled_ms=at,
    )  # fmt: skip


def judge(
    book: ProtectionBook,
    *positions: VenuePosition,
    exits: Iterable[Exit] = (),
    carriers: Iterable[Carrier] = (),
    at: int = 1_000,
    orders_read: int = 0,
    positions_read: int = 0,
) -> Judgement:
    evidence = Evidence(
        positions={one.key: one for one in positions}, exits=tuple(exits), carriers=tuple(carriers), now_ms=at,
        orders_read_ms=orders_read, positions_read_ms=positions_read,
    )  # fmt: skip
    return book.judged(evidence)


def states(book: ProtectionBook) -> dict[ProtectionKind, ProtectionState]:
    return {one.kind: one.state for one in book.protections}


def protected() -> ProtectionBook:
    """A long position whose row shows a stop at 90."""
    return judge(ProtectionBook(), a_position(stop=90)).book


def asked(book: ProtectionBook, value: int, *, sent: int = 2_000) -> ProtectionBook:
    return book.requested(HERE, {STOP: D(value)}, sent_ms=sent, settles_from_ms=sent + 15_000)


def test_a_stop_on_the_position_row_stands() -> None:
    judgement = judge(ProtectionBook(), a_position(stop=90))

    (one,) = judgement.book.protections
    assert (one.state, one.price, one.kind) == (STANDS, D(90), STOP)
    assert [change.now for change in judgement.changes] == [one]


def test_a_position_without_exits_claims_nothing() -> None:
    assert judge(ProtectionBook(), a_position()).book.protections == ()


def test_an_exit_order_that_waits_is_linked_to_its_position_and_its_parent() -> None:
    child = an_exit(parent_client_order_id="c1")

    (one,) = judge(ProtectionBook(), a_position(stop=90), exits=[child]).book.protections

    assert (one.broker_order_id, one.parent_client_order_id) == ("x1", "c1")


def test_the_first_row_without_the_stop_makes_it_unknown_and_a_newer_one_lost() -> None:
    first = judge(protected(), a_position(at=2_000))
    second = judge(first.book, a_position(at=3_999))
    third = judge(second.book, a_position(at=4_000))

    assert [states(one.book)[STOP] for one in (first, second, third)] == [UNKNOWN, UNKNOWN, ABSENT]
    assert [change.is_loss for one in (first, second, third) for change in one.changes] == [False, True]
    assert third.book.protections[0].wanted == D(90)
    assert third.book.lost == third.book.protections


def test_a_lost_stop_is_told_once_and_stands_again_when_it_is_shown() -> None:
    lost = judge(judge(protected(), a_position(at=2_000)).book, a_position(at=4_000)).book

    again = judge(lost, a_position(at=9_000))
    back = judge(again.book, a_position(at=10_000, stop=95))

    assert again.changes == ()
    assert states(back.book) == {STOP: STANDS}
    assert back.book.lost == ()


def test_a_closed_position_ends_its_exits_without_a_loss() -> None:
    judgement = judge(protected(), a_position(0, at=2_000))

    assert judgement.book.protections == ()
    assert [(change.now.state, change.is_loss) for change in judgement.changes] == [(ENDED, False)]


def test_a_position_that_turned_round_starts_over_with_its_own_stop() -> None:
    judgement = judge(protected(), a_position(-1, at=2_000, stop=110))

    assert [(change.now.state, change.now.price) for change in judgement.changes] == [(ENDED, D(90)), (STANDS, D(110))]


def test_a_cancelled_exit_order_is_a_sign_before_the_position_row_says_so() -> None:
    gone = an_exit(ExitState.GONE, at=1_500)

    judgement = judge(protected(), a_position(stop=90, at=1_000), exits=[gone])
    later = judge(judgement.book, a_position(stop=90, at=2_000), exits=[gone])

    assert states(judgement.book) == {STOP: UNKNOWN}
    assert states(later.book) == {STOP: STANDS}


def test_an_exit_that_the_user_cancels_ends_without_a_loss() -> None:
    book = judge(ProtectionBook(), a_position(stop=90), exits=[an_exit()]).book.released("x1")

    judgement = judge(book, a_position(at=2_000), exits=[an_exit(ExitState.GONE, at=2_000)])

    assert [(change.now.state, change.now.reason) for change in judgement.changes] == [(ENDED, "cancelled on request")]


def test_a_triggered_exit_is_at_work_and_not_lost() -> None:
    working = an_exit(ExitState.WORKING, at=2_000)

    judgement = judge(protected(), a_position(at=2_000), exits=[working])

    (one,) = judgement.book.protections
    assert (one.state, one.reason) == (STANDS, "triggered")


def test_what_a_row_and_a_waiting_order_disagree_about_is_unknown() -> None:
    judgement = judge(protected(), a_position(at=9_000), exits=[an_exit(at=1_000)])
    still = judge(judgement.book, a_position(at=90_000), exits=[an_exit(at=1_000)])

    assert states(judgement.book) == states(still.book) == {STOP: UNKNOWN}


def test_a_request_is_unknown_until_a_row_shows_it() -> None:
    book = asked(ProtectionBook(), 90)
    before = judge(book, a_position(at=1_500))
    after = judge(before.book, a_position(at=2_500, stop=90))

    assert states(before.book) == {STOP: UNKNOWN}
    assert before.book.protections[0].wanted == D(90)
    assert states(after.book) == {STOP: STANDS}
    assert after.book.protections[0].wanted is None


def test_an_unanswered_request_is_disproved_by_a_row_from_after_it_could_arrive() -> None:
    book = asked(ProtectionBook(), 90)

    early, late = judge(book, a_position(at=16_999)), judge(book, a_position(at=17_000))

    assert states(early.book) == {STOP: UNKNOWN}
    assert states(late.book) == {STOP: ABSENT}
    assert [change.is_loss for change in late.changes] == [True]


def test_an_answered_request_is_disproved_two_seconds_after_the_answer() -> None:
    book = asked(ProtectionBook(), 90).answered(HERE, [STOP], 2_100)

    assert states(judge(book, a_position(at=4_099)).book) == {STOP: UNKNOWN}
    assert states(judge(book, a_position(at=4_100)).book) == {STOP: ABSENT}


def test_a_request_without_effect_leaves_the_stop_that_stands() -> None:
    judgement = judge(asked(protected(), 95), a_position(at=17_000, stop=90))

    (one,) = judgement.book.protections
    assert (one.state, one.price, one.wanted) == (STANDS, D(90), None)


def test_a_refused_request_leaves_what_was_known() -> None:
    assert asked(protected(), 95).refused(HERE, [STOP]).protections == protected().protections
    assert asked(ProtectionBook(), 95).refused(HERE, [STOP]).protections == ()


def test_a_removal_ends_the_exit_once_the_row_shows_none() -> None:
    book = asked(protected(), 0)

    stale, fresh = judge(book, a_position(at=1_900)), judge(book, a_position(at=2_001))

    assert states(stale.book) == {STOP: UNKNOWN}
    assert [(change.now.state, change.is_loss) for change in fresh.changes] == [(ENDED, False)]


def test_an_order_that_carries_a_stop_and_fills_owes_it_to_its_position() -> None:
    carriers = [a_carrier(at=1_000)]
    heard = judge(ProtectionBook(), carriers=carriers)
    shown = judge(heard.book, a_position(at=1_100), carriers=carriers)
    lost = judge(shown.book, a_position(at=3_100), carriers=carriers)

    assert [states(one.book) for one in (heard, shown, lost)] == [{STOP: UNKNOWN}, {STOP: UNKNOWN}, {STOP: ABSENT}]
    assert lost.book.lost[0].parent_client_order_id == "c1"


def test_an_order_that_closed_a_position_owes_no_exits() -> None:
    judgement = judge(ProtectionBook(), a_position(-1), carriers=[a_carrier()])

    assert (judgement.book.protections, judgement.changes) == ((), ())


def test_a_carrier_is_settled_once_its_position_closed_until_it_fills_again() -> None:
    book = judge(ProtectionBook(), a_position(stop=90), carriers=[a_carrier()]).book
    closed = judge(book, a_position(0, at=2_000), carriers=[a_carrier()])
    quiet = judge(closed.book, a_position(0, at=2_000), carriers=[a_carrier()])
    again = judge(quiet.book, a_position(1, at=5_000), carriers=[a_carrier(filled=2, at=5_000)])

    assert (closed.book.protections, quiet.changes) == ((), ())
    assert states(again.book) == {STOP: UNKNOWN}


def test_an_order_heard_again_after_its_stop_was_removed_owes_nothing() -> None:
    book = judge(ProtectionBook(), a_position(stop=90), carriers=[a_carrier()]).book
    removed = judge(asked(book, 0), a_position(at=2_500)).book

    again = judge(removed, a_position(at=9_000), carriers=[a_carrier()])

    assert (again.book.protections, again.changes) == ((), ())


def test_a_partial_exit_stands_when_it_covers_what_its_order_filled() -> None:
    child = an_exit(is_partial=True, parent_client_order_id="c1")
    grown = attrs.evolve(child, quantity=D(2))

    whole = judge(ProtectionBook(), a_position(), exits=[child], carriers=[a_carrier(is_partial=True)])
    short = judge(whole.book, a_position(2), exits=[child], carriers=[a_carrier(filled=2, is_partial=True)], at=2_000)
    full = judge(short.book, a_position(2), exits=[grown], carriers=[a_carrier(filled=2, is_partial=True)], at=2_100)

    assert [states(one.book) for one in (whole, short, full)] == [{STOP: STANDS}, {STOP: UNKNOWN}, {STOP: STANDS}]
    assert short.book.protections[0].reason == "covers 1 of 2"
    assert full.book.protections[0].quantity == D(2)


def test_a_partial_exit_that_vanishes_is_lost_after_a_newer_read_of_the_orders() -> None:
    child = an_exit(is_partial=True)
    gone = attrs.evolve(child, state=ExitState.GONE)
    book = judge(ProtectionBook(), a_position(), exits=[child]).book

    first = judge(book, a_position(), exits=[gone], at=2_000, orders_read=1_900)
    second = judge(first.book, a_position(), exits=[gone], at=4_100, orders_read=4_000)

    assert (states(first.book), states(second.book)) == ({STOP: UNKNOWN}, {STOP: ABSENT})


@pytest.mark.parametrize("filled", [STOP, TAKE])
def test_a_partial_pair_is_over_when_one_of_it_has_filled(filled: ProtectionKind) -> None:
    pair = [
        an_exit(is_partial=True, parent_client_order_id="c1", kind=kind, broker_order_id=kind.value)
        for kind in (STOP, TAKE)
    ]
    after = [attrs.evolve(one, state=ExitState.FILLED if one.kind is filled else ExitState.GONE) for one in pair]

    judgement = judge(judge(ProtectionBook(), a_position(2), exits=pair).book, a_position(1), exits=after)

    assert judgement.book.protections == ()
    assert not any(change.is_loss for change in judgement.changes)


def test_hedge_sides_are_protected_apart() -> None:
    long, short = (
        VenuePosition(symbol=SYMBOL, position_idx=index, quantity=D(quantity), stop_loss=stop, as_of_ms=1)
        for index, quantity, stop in ((1, 1, D(90)), (2, -1, None))
    )

    (one,) = judge(ProtectionBook(), long, short).book.protections

    assert one.position_side is PositionSide.LONG


def test_a_request_for_a_position_that_never_opened_ends_after_a_complete_read() -> None:
    book = asked(ProtectionBook(), 90)

    assert states(judge(book, positions_read=16_000).book) == {STOP: UNKNOWN}
    assert judge(book, positions_read=17_000).book.protections == ()


def test_the_next_look_is_due_when_it_can_settle_something() -> None:
    assert protected().next_check_ms() is None
    assert asked(protected(), 95).next_check_ms() == 17_000
    assert judge(protected(), a_position(at=2_000)).book.next_check_ms() == 4_000
