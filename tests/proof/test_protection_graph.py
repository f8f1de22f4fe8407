"""No schedule of frames, losses, repetitions and rounds leaves a position without its stop unannounced."""

from __future__ import annotations

from decimal import Decimal

import attrs
import pytest

from qkt.reconcile.exits import Exit, ExitState
from qkt.reconcile.protection import ProtectionBook
from qkt.reconcile.protection_rules import Claim, ClaimCase
from tests.proof.protection_graph import STEP_MS, STOP, SYMBOL, History, Moment, ProtectionWalk, Unannounced


def exit_at(moment: int, state: ExitState = ExitState.WAITING, *, is_partial: bool = False, quantity: int = 1) -> Exit:
    return Exit(
        broker_order_id="x1", symbol=SYMBOL, position_idx=0, kind=STOP, is_partial=is_partial, state=state,
        price=Decimal(90), quantity=Decimal(quantity), parent_client_order_id="c1", as_of_ms=moment * STEP_MS,
    )  # fmt: skip


WAITING, GONE = (exit_at(1),), (exit_at(2, ExitState.GONE),)

REMOVED = History(
    name="a stop is removed by hand and set again",
    moments=(
        Moment(),
        Moment(size=1, stop=90, exits=WAITING, filled=1),
        Moment(size=1, exits=GONE, filled=1),
        Moment(size=1, stop=80, exits=(*GONE, attrs.evolve(exit_at(3), broker_order_id="x2")), filled=1),
    ),
)
NEVER_MADE = History(
    name="the venue never makes the stop of a filled order",
    moments=(Moment(), Moment(size=1, filled=1), Moment(size=2, filled=2)),
)
LEFT_NAKED = History(
    name="a stop is removed by hand and the position stays",
    moments=(Moment(), Moment(size=1, stop=90, exits=WAITING, filled=1), Moment(size=1, exits=GONE, filled=1)),
)
FOUND_THEN_GONE = History(
    name="a stop of nobody known is removed",
    moments=(Moment(), Moment(size=1, stop=90, exits=WAITING), Moment(size=1, exits=GONE, owes_stop=False)),
    carries_stop=False,
)
TRIGGERED = History(
    name="a stop triggers, closes, and the order fills again without one",
    moments=(
        Moment(),
        Moment(size=1, stop=90, exits=WAITING, filled=1),
        Moment(size=0, exits=(exit_at(2, ExitState.FILLED),), filled=1),
        Moment(size=1, exits=(exit_at(2, ExitState.FILLED),), filled=2),
    ),
)
CLOSED = History(
    name="a position is closed by hand",
    moments=(Moment(), Moment(size=1, stop=90, exits=WAITING, filled=1), Moment(size=0, exits=GONE, filled=1)),
)
LOST_REQUEST = History(
    name="a request for a stop without an answer, which never arrived",
    moments=(Moment(), Moment(size=1), Moment(size=1), Moment(size=1)),
    carries_stop=False,
    request_at=2,
)
LATE_REQUEST = History(
    name="a request for a stop without an answer, which arrived",
    moments=(Moment(), Moment(size=1), Moment(size=1), Moment(size=1, stop=90, exits=(exit_at(3),))),
    carries_stop=False,
    request_at=2,
)
PARTIAL = History(
    name="a partial exit grows with its order and is cancelled",
    moments=(
        Moment(),
        Moment(size=1, exits=(exit_at(1, is_partial=True),), filled=1),
        Moment(size=2, exits=(exit_at(2, is_partial=True, quantity=2),), filled=2),
        Moment(size=2, exits=(exit_at(3, ExitState.GONE, is_partial=True, quantity=2),), filled=2),
    ),
    is_partial=True,
)
HISTORIES = (
    REMOVED, NEVER_MADE, LEFT_NAKED, FOUND_THEN_GONE, TRIGGERED, CLOSED, LOST_REQUEST, LATE_REQUEST, PARTIAL,
)  # fmt: skip


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.name)
def test_no_schedule_leaves_a_naked_position_unannounced(history: History) -> None:
    walked = ProtectionWalk(history).run()

    assert walked.ends > 0
    assert walked.states > 40


def test_the_histories_have_ends_at_which_a_loss_is_announced() -> None:
    assert ProtectionWalk(LEFT_NAKED).run().naked_ends > 10


def test_the_walk_notices_a_rule_that_never_confirms(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = ClaimCase._missing

    def never(case: ClaimCase, claim: Claim, evidence_ms: int, since_ms: int, reason: str = "") -> Claim:
        return missing(case, claim, 0, since_ms)

    monkeypatch.setattr(ClaimCase, "_missing", never)

    with pytest.raises(Unannounced):
        ProtectionWalk(LEFT_NAKED).run()


def test_the_walk_notices_a_book_that_forgets_what_orders_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = ProtectionBook.judged
    monkeypatch.setattr(ProtectionBook, "judged", lambda book, seen: judged(book, attrs.evolve(seen, carriers=())))

    with pytest.raises(Unannounced):
        ProtectionWalk(NEVER_MADE).run()
