"""The wallet: what is free, and dates that are ahead of the venue's time."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt.testing.builders import envelope, frame
from tests.support.stage import NOW_MS, WALLET, Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    staged = Stage()
    yield staged
    if staged._broker is not None:
        staged._broker.close()


def account(**coin: Any) -> dict[str, Any]:
    return {
        "accountType": "UNIFIED",
        "totalEquity": "5000",
        "totalAvailableBalance": "4200",
        "accountMMRate": "0.02",
        "coin": [{"coin": "USDT", "walletBalance": "1000", "locked": "10", **coin}],
    }


def test_available_leaves_out_what_is_locked_borrowed_and_bound_as_margin(stage: Stage) -> None:
    row = account(spotBorrow="100", totalPositionIM="200", totalOrderIM="30", bonus="5")
    stage.client.responses[WALLET] = envelope([row])

    stage.open()

    assert stage.client.wallet["USDT"].available == Decimal(655)


def test_available_is_unknown_where_the_venue_leaves_the_margin_blank(stage: Stage) -> None:
    stage.client.responses[WALLET] = envelope([account(totalPositionIM="", totalOrderIM="")])

    stage.open()

    assert stage.client.wallet["USDT"].available is None
    assert stage.client.wallet["USDT"].total == Decimal(1000)


def test_available_loses_no_digit_of_a_token_with_eighteen_decimals(stage: Stage) -> None:
    total = "98765432109.123456789012345678"
    stage.client.responses[WALLET] = envelope([account(walletBalance=total, locked="0.000000000000000001")])

    stage.open()

    assert str(stage.client.wallet["USDT"].available) == "98765432109.123456789012345677"


def test_the_account_as_a_whole_is_in_the_wallet_of_reads_and_frames(stage: Stage) -> None:
    stage.client.responses[WALLET] = envelope([account()])
    stage.open()
    assert stage.client.wallet.account.maintenance_margin_rate == Decimal("0.02")

    stage.clock.advance_ms(10)
    pushed = {**account(), "accountMMRate": "0.5"}
    stage.client.emit_ws_frame("wallet", frame("wallet", pushed, created_ms=stage.clock.now_ms()))

    assert stage.client.wallet.account.maintenance_margin_rate == Decimal("0.5")
    assert stage.client.wallet.account.equity == Decimal(5000)


def test_a_wallet_frame_dated_in_the_future_does_not_freeze_the_balance(stage: Stage) -> None:
    stage.open()
    microseconds = NOW_MS * 1_000
    stage.client.emit_ws_frame("wallet", frame("wallet", account(walletBalance="7"), created_ms=microseconds))
    assert stage.client.balances["USDT"] == Decimal(7)

    stage.venue.wallet = {"USDT": "250"}
    stage.round()

    assert stage.client.balances["USDT"] == Decimal(250)
