"""Balances are a join as well: in whatever order words arrive, the newest about each coin stands (S60, S61, S62)."""

from __future__ import annotations

from typing import Any

from tests.proof.wallet_graph import checked


def test_wallet_frames_and_reads_in_any_order_end_in_one_wallet(
    say: Any,
) -> None:
    count = checked()
    say(f"wallet: {count:,} orders of arrival of two frames, two reads and two failed reads")
