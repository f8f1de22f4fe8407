"""Brokers with a journal on the simulated venue, with real clients, threads and time: hand-over and restart."""

from __future__ import annotations

import time
from decimal import Decimal
from pathlib import Path

from qkt import BybitClient, BybitLinearBroker, BybitSpotBroker, EventBus, LimitOrder, Side, SqliteJournal
from qkt.cli import main
from qkt.venue import SimulatedBybit


def a_client(venue: SimulatedBybit) -> BybitClient:
    return BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url)


def an_order(price: str = "50000") -> LimitOrder:
    return LimitOrder(symbol="BYBIT_SPOT:BTCUSDT", side=Side.BUY, quantity=Decimal("0.01"), limit_price=Decimal(price))


def links_at(venue: SimulatedBybit) -> list[str]:
    return [order["orderLinkId"] for order in venue.truth()["orders"]]


def test_a_hand_over_is_quick_and_each_intent_is_at_the_venue_once(tmp_path: Path) -> None:
    with (
        SimulatedBybit(seed=1) as venue,
        SqliteJournal(tmp_path / "bot.db", owner="a") as first_journal,
        SqliteJournal(tmp_path / "bot.db", owner="b") as second_journal,
        a_client(venue) as first_client,
        a_client(venue) as second_client,
        BybitSpotBroker(first_client, EventBus(), journal=first_journal) as first,
        BybitSpotBroker(second_client, EventBus(), journal=second_journal) as second,
    ):
        first.wait_for_ownership(timeout_ms=2_000)
        sent = [first.submit(an_order(), intent=f"grid:{number}") for number in range(3)]
        assert second.ownership.state == "standby"

        began = time.monotonic()
        first.hand_over()
        second.wait_for_ownership(timeout_ms=5_000)
        took_s = time.monotonic() - began
        again = [second.submit(an_order(), intent=f"grid:{number}") for number in range(4)]

        assert took_s < 1.5
        assert [ack.client_order_id for ack in again[:3]] == [ack.client_order_id for ack in sent]
        assert sorted(links_at(venue)) == sorted(ack.client_order_id for ack in again)
        assert not any(second.order(ack.client_order_id).external for ack in again)


def test_a_restart_finds_its_orders_and_tells_nothing_twice(tmp_path: Path) -> None:
    with SimulatedBybit(seed=1) as venue:
        with (
            SqliteJournal(tmp_path / "bot.db") as journal,
            a_client(venue) as client,
            BybitSpotBroker(client, EventBus(), journal=journal) as spot,
            BybitLinearBroker(client, EventBus(), journal=journal) as linear,
        ):
            assert linear.ownership == spot.ownership
            market = spot.submit(an_order("61000"), intent="taken")
            spot.wait(market.client_order_id, until="closed")
        with (
            SqliteJournal(tmp_path / "bot.db") as journal,
            a_client(venue) as client,
            BybitSpotBroker(client, EventBus(), journal=journal) as spot,
        ):
            spot.wait_for_ownership(timeout_ms=2_000)
            view = spot.order(market.client_order_id)
            told = [
                event.kind for event in journal.events("BYBIT:" + account_of(client)) if event.kind == "OrderFilled"
            ]

            assert (view.external, view.is_open) == (False, False)
            assert len(told) == 1
            assert spot.submit(an_order("61000"), intent="taken").client_order_id == market.client_order_id
        assert len(links_at(venue)) == 1
        assert main(["journal", "verify", str(tmp_path / "bot.db")]) == 0


def account_of(client: BybitClient) -> str:
    return str(client.get_signed("/v5/user/query-api", {})["result"]["userID"])
