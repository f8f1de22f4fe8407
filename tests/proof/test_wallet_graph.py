"""Balances are a join as well: in whatever order words arrive, the newest about each coin stands (S60, S61, S62)."""

from __future__ import annotations

from typing import Any

from tests.proof.wallet_graph import checked


def test_any_order_of_wallet_frames_and_reads_ends_in_the_same_wallet_and_a_failed_read_changes_nothing(
    say: Any,
) -> None:
    count = checked()
    say(f"wallet: {count:,} orders of arrival of two frames, two reads and two failed reads")
