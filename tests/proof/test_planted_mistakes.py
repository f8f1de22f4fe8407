"""The proof of the proof: with any of ten classic mistakes planted into qkt, a check of this folder fails."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.proof import histories, wallet_graph
from tests.proof.law import Violation
from tests.proof.mistakes import MISTAKES
from tests.proof.state_graph import Rounds, walked

# Mistake -> the history whose graph finds it, and how rounds mix with it.
GRAPHS = {
    "absence_is_cancel": (histories.amend_then_cancel_beats_fill, Rounds.AT_THE_END),
    "timeout_is_reject": (histories.lost_reply, Rounds.BETWEEN),
    "last_write_wins": (histories.amend_then_cancel_beats_fill, Rounds.AT_THE_END),
    "terminal_before_fills": (histories.amend_then_cancel_beats_fill, Rounds.AT_THE_END),
    "dedupe_after_publish": (histories.amend_then_cancel_beats_fill, Rounds.AT_THE_END),
    "known_orders_read_after_the_snapshot": (histories.amend_then_cancel_beats_fill, Rounds.TORN),
    "stop_paging_at_a_seen_page": (histories.amend_then_cancel_beats_fill, Rounds.AT_THE_END),
    "duplicate_id_is_acceptance": (histories.taken_id, Rounds.TORN),
    "completion_by_remembered_quantity": (histories.amend_then_cancel_beats_fill, Rounds.AT_THE_END),
}
# ... and the one about balances, which no order knows of.
PLANTED = {name: partial(walked.__wrapped__, *graph) for name, graph in GRAPHS.items()}
PLANTED["error_is_empty_wallet"] = wallet_graph.check_every_order_of_arrival  # type: ignore[assignment]


def test_there_are_ten() -> None:
    assert len(MISTAKES) == 10
    assert set(PLANTED) == set(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name: Any, monkeypatch: pytest.MonkeyPatch, say: Any) -> None:
    MISTAKES[name](monkeypatch)
    with pytest.raises(Violation) as found:
        PLANTED[name]()
    say(f"planted {name}: {str(found.value).splitlines()[0][:160]}")


@pytest.mark.parametrize("name", MISTAKES)
def test_without_it_the_same_check_passes(name: Any) -> None:
    if name in GRAPHS:
        walked(*GRAPHS[name])
    else:
        assert wallet_graph.checked() == 2_160
