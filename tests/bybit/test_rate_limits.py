"""Inside the venue's limits, orders before reads, cancels before everything."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qkt.bybit.transport.rate_limits import (
    AccountBudget,
    AddressBudget,
    Priority,
    Window,
    account_budget,
    address_budget,
    domain_of,
)
from qkt.errors import BybitRateLimitError

CREATE = "/v5/order/create"
NEVER = threading.Event()


class HandClock:
    def __init__(self) -> None:
        self.ms = 0

    def now_ms(self) -> Any:
        return self.ms

    def monotonic_ms(self) -> Any:
        return self.ms


def take_all(budget: Any, priority: Any, **more: Any) -> Any:
    """How many requests pass at once."""
    for number in range(1_000):
        try:
            budget.acquire(priority, max_wait_ms=0, stopping=NEVER, **more)
        except BybitRateLimitError:
            return number
    raise AssertionError("no limit")


@given(st.lists(st.integers(0, 400), max_size=80), st.integers(1, 10), st.integers(1, 1_000))
def test_no_window_ever_holds_more_than_its_limit(pauses: Any, limit: Any, span: Any) -> None:
    window, now, taken = Window(limit, span), 0, []
    for pause in pauses:
        now += pause
        now += window.wait_ms(now)
        assert window.wait_ms(now) == 0
        window.take(now)
        taken.append(now)
    assert all(sum(moment - span < other <= moment for other in taken) <= limit for moment in taken)


def test_the_venues_word_on_its_own_window_counts() -> None:
    window = Window(10, 1_000)
    window.learn(0, limit=20, remaining=1)
    window.take(0)
    assert window.wait_ms(0) == 1_000


def test_a_window_the_venue_closed_stays_closed_until_then() -> None:
    window = Window(10, 1_000)
    window.close_for(0, 400)
    assert (window.wait_ms(100), window.wait_ms(400)) == (300, 0)


def test_S35_reads_yield_to_orders_and_cancels_keep_a_reserve() -> None:
    budget = AddressBudget(HandClock(), requests=100)
    assert take_all(budget, Priority.READ) == 70
    assert take_all(budget, Priority.ORDER) == 20
    assert take_all(budget, Priority.CANCEL) == 10


def test_an_exhausted_budget_says_when_there_is_room() -> None:
    clock = HandClock()
    budget = AddressBudget(clock, requests=10)
    take_all(budget, Priority.CANCEL)
    clock.ms = 2_000
    with pytest.raises(BybitRateLimitError, match="not sent") as caught:
        budget.acquire(Priority.CANCEL, max_wait_ms=1_000, stopping=NEVER, path=CREATE)
    assert caught.value.retry_after_ms == 3_000


def test_S20_a_banned_address_sends_nothing_and_says_so() -> None:
    clock = HandClock()
    budget = AddressBudget(clock)
    budget.shut_out(600_000, "banned by the venue")
    with pytest.raises(BybitRateLimitError, match="banned by the venue") as caught:
        budget.acquire(Priority.CANCEL, max_wait_ms=10_000, stopping=NEVER)
    assert caught.value.retry_after_ms == 600_000
    clock.ms = 600_000
    assert budget.acquire(Priority.READ, max_wait_ms=0, stopping=NEVER) == 0


def test_waiting_is_bounded_and_real() -> None:
    budget = AccountBudget()
    budget.close_for(CREATE, "spot", 60)
    began = time.monotonic()
    assert budget.acquire(CREATE, "spot", max_wait_ms=1_000, stopping=NEVER) >= 55
    assert time.monotonic() - began < 1.0


def test_categories_and_endpoints_have_budgets_of_their_own() -> None:
    budget = AccountBudget(HandClock())
    budget.close_for(CREATE, "spot", 1_000)
    assert budget.acquire(CREATE, "linear", max_wait_ms=0, stopping=NEVER) == 0
    assert budget.acquire("/v5/order/cancel", "spot", max_wait_ms=0, stopping=NEVER) == 0


def test_a_batch_spends_a_unit_per_item() -> None:
    clock = HandClock()
    budget, batch = AccountBudget(clock), "/v5/order/create-batch"
    budget.acquire(batch, "spot", max_wait_ms=0, stopping=NEVER, units=8)
    with pytest.raises(BybitRateLimitError) as caught:
        budget.acquire(batch, "spot", max_wait_ms=0, stopping=NEVER, units=3)
    assert caught.value.retry_after_ms == 1_100  # the second, and some room for the way there
    assert budget.acquire(batch, "spot", max_wait_ms=0, stopping=NEVER, units=2) == 0
    clock.ms = 1_100
    assert budget.acquire(batch, "spot", max_wait_ms=0, stopping=NEVER, units=15) == 0


def test_market_data_has_no_account_limit() -> None:
    budget = AccountBudget(HandClock())
    for _ in range(200):
        budget.acquire("/v5/market/time", "", max_wait_ms=0, stopping=NEVER)


def test_closing_ends_the_wait() -> None:
    budget, stopping = AccountBudget(), threading.Event()
    budget.close_for(CREATE, "spot", 30_000)
    threading.Timer(0.05, stopping.set).start()
    began = time.monotonic()
    budget.acquire(CREATE, "spot", max_wait_ms=60_000, stopping=stopping)
    assert time.monotonic() - began < 5


def test_many_threads_do_not_overdraw() -> None:
    budget = AccountBudget(HandClock())
    passed = []

    def ask() -> None:
        for _ in range(20):
            try:
                budget.acquire(CREATE, "spot", max_wait_ms=0, stopping=NEVER)
                passed.append(1)
            except BybitRateLimitError:
                pass

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(passed) == 10


def test_connections_stay_below_500_in_5_minutes() -> None:
    clock = HandClock()
    budget = AddressBudget(clock)
    made = sum(budget.connection_wait_ms() == 0 for _ in range(600))
    assert made == 450
    assert budget.connection_wait_ms() == 300_000
    clock.ms = 300_000
    assert budget.connection_wait_ms() == 0


def test_all_clients_of_the_process_share_one_budget_per_venue() -> None:
    assert (
        domain_of("https://api.bybit.com") == domain_of("https://api.bybit.kz") == domain_of("https://api.bytick.com")
    )
    first = address_budget("https://api.bybit.com")
    assert address_budget("https://api-testnet.bybit.com") is first
    assert account_budget("https://api.bybit.com", "k") is account_budget("https://api.bybit.nl", "k")
    assert account_budget("https://api.bybit.com", "k") is not account_budget("https://api.bybit.com", "other")


def test_venues_on_other_hosts_have_their_own() -> None:
    one, other = address_budget("http://127.0.0.1:1111"), address_budget("http://127.0.0.1:2222")
    assert one is not other
    assert address_budget("http://127.0.0.1:1111") is one
