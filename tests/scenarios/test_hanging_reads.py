"""Reads that hang or fail, on real sockets: orders, cancels, alarms and `close` do not wait for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from decimal import Decimal

import pytest

from qkt import (
    BybitClient,
    BybitSpotBroker,
    EventBus,
    HealthDegraded,
    LimitOrder,
    OrderFilled,
    Side,
    SubmitOutcome,
    VenueUnavailableError,
)
from qkt.bybit.transport.read_scope import ReadScope
from qkt.venue import SimulatedBybit
from tests.support.stage import EXECUTIONS, HISTORY, REALTIME, WALLET

POLL_MS = 200
HANGS = {"delay_ms": 20_000}


class Bot:
    """A bot with one resting order, whose stream is silent from then on."""

    def __init__(self, venue: SimulatedBybit) -> None:
        self.venue, self.bus = venue, EventBus()
        self.client = BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url)
        self.client.connect()
        self.broker = BybitSpotBroker(self.client, self.bus, poll_interval_ms=POLL_MS)
        order = LimitOrder(
            symbol="BYBIT_SPOT:BTCUSDT", side=Side.BUY, quantity=Decimal("0.01"), limit_price=Decimal(50_000)
        )
        self.order_id = self.broker.submit(order).client_order_id
        self.broker.wait(self.order_id, until="accepted")
        venue.faults.add("stream_mute")

    def close(self) -> None:
        self.broker.close()
        self.client.close()


@pytest.fixture
def bot() -> Iterator[Bot]:
    with SimulatedBybit(seed=1) as venue:
        made = Bot(venue)
        yield made
        made.close()


@pytest.mark.parametrize(("fault", "options"), [("http_status", {"status": 502}), ("slow_response", HANGS)])
def test_a_lost_fill_is_told_soon_whatever_the_wallet_read_does(bot: Bot, fault: str, options: dict[str, int]) -> None:
    filled, degraded = threading.Event(), threading.Event()
    bot.bus.subscribe(OrderFilled, lambda _event: filled.set())
    bot.bus.subscribe(HealthDegraded, lambda event: degraded.set() if event.domain == "balances" else None)
    bot.venue.faults.add(fault, path=WALLET, **options)
    assert degraded.wait(5)

    bot.venue.fill(bot.order_id, "0.01")

    assert filled.wait(4.5)


def test_a_cancel_of_an_order_that_filled_unseen_does_not_wait_for_reads(bot: Bot) -> None:
    bot.venue.fill(bot.order_id, "0.01")
    for path in (REALTIME, HISTORY, EXECUTIONS):
        bot.venue.faults.add("slow_response", path=path, **HANGS)
    began = time.monotonic()

    ack = bot.broker.cancel(bot.order_id)

    assert time.monotonic() - began < 1
    assert ack.outcome is SubmitOutcome.REJECTED


def test_darkness_is_told_after_three_intervals_while_the_round_is_under_way(bot: Bot) -> None:
    told = threading.Event()
    bot.bus.subscribe(HealthDegraded, lambda event: told.set() if event.domain == "orders" else None)
    for path in (REALTIME, HISTORY, EXECUTIONS, WALLET):
        bot.venue.faults.add("slow_response", path=path, **HANGS)

    assert told.wait(2.5)  # a single read would end only after three seconds


def test_close_cuts_the_read_of_the_round_under_way(bot: Bot) -> None:
    fault = bot.venue.faults.add("slow_response", path=REALTIME, **HANGS)
    deadline, pause = time.monotonic() + 5, threading.Event()
    while not fault.hits and time.monotonic() < deadline:
        pause.wait(0.01)
    began = time.monotonic()

    bot.broker.close()

    assert fault.hits
    assert time.monotonic() - began < 1


def test_one_read_takes_no_longer_than_it_was_given(bot: Bot) -> None:
    bot.venue.faults.add("slow_response", path="/v5/account/info", **HANGS)
    began = time.monotonic()

    with pytest.raises(VenueUnavailableError):
        bot.client.read_once("/v5/account/info", {}, timeout_ms=100, scope=ReadScope())

    assert time.monotonic() - began < 1
