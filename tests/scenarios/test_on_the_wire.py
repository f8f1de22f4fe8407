"""The scenarios that speak of sockets, on the simulated venue: S3, S12, S13, S14, S20, S34-S38."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt import BrokerEvent, BybitClient, BybitSpotBroker, EventBus, LimitOrder, Side, SubmitAck
from qkt.broker.protocol import SubmitOutcome
from qkt.errors import BybitRateLimitError, InvalidRequestError, VenueUnavailableError
from qkt.events import OrderEvent
from qkt.venue import SimulatedBybit
from tests.support.stage import BALANCES, CREATE, EXECUTIONS, REALTIME, assert_lawful, words

CROSSING, RESTING = Decimal(61_000), Decimal(50_000)


class Bot:
    """A client, a broker and what it said."""

    def __init__(self, venue: SimulatedBybit, **client_options: Any) -> None:
        self.venue = venue
        self.heard: list[BrokerEvent] = []
        self.bus = EventBus()
        self.bus.subscribe(BrokerEvent, self.heard.append)
        self.client = BybitClient(
            "key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url, timeout_ms=600, **client_options
        )
        self.client.connect()
        self.broker = BybitSpotBroker(self.client, self.bus)

    def submit(self, client_order_id: str = "c1", price: Decimal = RESTING) -> SubmitAck:
        return self.broker.submit(
            LimitOrder(
                symbol="BYBIT_SPOT:BTCUSDT",
                side=Side.BUY,
                quantity=Decimal("0.01"),
                limit_price=price,
                client_order_id=client_order_id,
            )
        )

    def story(self) -> list[str]:
        kinds = [one for one in words(self.heard) if one != BALANCES]
        return [one.split()[0] if one.split()[0] in ("part", "filled") else one for one in kinds]

    def hears(self, *told: str) -> None:
        """The story becomes this, and stays so."""
        eventually(lambda: len(self.story()) >= len(told), lambda: f"{told}, but {self.story()}")
        assert self.story() == list(told)

    def orders_there(self) -> int:
        return len(self.venue.truth()["orders"])

    def close(self) -> None:
        self.broker.close()
        self.client.close()


def eventually(condition: Callable[[], object], what: Callable[[], str], within_s: float = 5.0) -> None:
    deadline, pause = time.monotonic() + within_s, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"never: {what()}"
        pause.wait(0.005)


@pytest.fixture
def venue() -> Iterator[SimulatedBybit]:
    with SimulatedBybit(seed=1) as running:
        yield running


@pytest.fixture
def bot(venue: SimulatedBybit) -> Iterator[Bot]:
    made = Bot(venue)
    yield made
    made.close()
    assert_lawful(event for event in made.heard if isinstance(event, OrderEvent))


def test_S03_frames_overtake_a_slow_create_response(venue: SimulatedBybit, bot: Bot) -> None:
    venue.faults.add("slow_response", path=CREATE, delay_ms=300)
    submitting = threading.Thread(target=bot.submit, args=("c1", CROSSING))
    submitting.start()
    bot.hears("accepted", "filled")
    assert submitting.is_alive(), "the response is not there yet"
    submitting.join()
    assert bot.story() == ["accepted", "filled"]
    assert bot.broker.wait("c1").cum_quantity == Decimal("0.01")


LOST_REPLIES = [
    pytest.param("reply_lost", {"mode": "reset"}, id="reset"),
    pytest.param("reply_lost", {"mode": "hang"}, id="hangs"),
    pytest.param("http_status", {"status": 502, "accepted": True}, id="502"),
    pytest.param("html_body", {"accepted": True}, id="html"),
    pytest.param("truncated_json", {}, id="truncated"),
    pytest.param("empty_body", {"accepted": True}, id="empty"),
    pytest.param("cut_response_after_bytes", {"bytes": 20}, id="cut"),
    pytest.param("ret_code", {"code": 10016, "accepted": True}, id="10016"),
    pytest.param("ret_code", {"code": 170007, "accepted": True}, id="170007"),
]


@pytest.mark.parametrize(("fault", "options"), LOST_REPLIES)
def test_S12_S17_S36_S37_a_submit_whose_reply_is_lost_is_found_without_any_frame(
    venue: SimulatedBybit, bot: Bot, fault: str, options: dict[str, Any]
) -> None:
    venue.faults.add("stream_mute")
    venue.faults.add(fault, path=CREATE, count=1, **options)
    assert bot.submit().outcome is SubmitOutcome.UNKNOWN
    assert bot.story() == []
    view = bot.broker.wait("c1", until="accepted", timeout_ms=3_000)
    assert (view.is_open, view.is_unresolved) == (True, False)
    bot.hears("accepted")
    assert bot.orders_there() == 1


def test_S12_a_frame_may_find_it_before_the_lookup_does(venue: SimulatedBybit, bot: Bot) -> None:
    venue.faults.add("reply_lost", path=CREATE, count=1, mode="hang")
    bot.submit()
    bot.broker.wait("c1", until="accepted", timeout_ms=100)
    bot.broker.reconcile()
    assert bot.story() == ["accepted"]
    assert bot.orders_there() == 1


def test_S13_a_submit_whose_reply_is_lost_fills_at_once_and_is_told_whole(venue: SimulatedBybit, bot: Bot) -> None:
    venue.faults.add("stream_mute")
    venue.faults.add("reply_lost", path=CREATE, count=1, mode="reset")
    assert bot.submit(price=CROSSING).outcome is SubmitOutcome.UNKNOWN
    view = bot.broker.wait("c1", timeout_ms=3_000)
    assert (view.cum_quantity, view.missing_quantity) == (Decimal("0.01"), 0)  # type: ignore[comparison-overlap]
    bot.hears("accepted", "filled")
    assert bot.orders_there() == 1


def test_S14_a_submit_that_cannot_leave_raises_and_its_id_stays_free(venue: SimulatedBybit) -> None:
    bot = Bot(venue)
    refused = venue.faults.add("connection_refused")
    with pytest.raises(VenueUnavailableError):
        bot.submit()
    refused.remove()
    with pytest.raises(InvalidRequestError):
        bot.broker.order("c1")
    assert bot.orders_there() == 0
    assert bot.submit().accepted
    assert bot.orders_there() == 1
    bot.close()


def test_S14_a_submit_lost_on_its_way_is_unresolved_and_not_rejected_early(venue: SimulatedBybit, bot: Bot) -> None:
    venue.faults.add("connection_reset_before_request", path=CREATE, count=1)
    assert bot.submit().outcome is SubmitOutcome.UNKNOWN
    bot.broker.reconcile()
    bot.broker.reconcile()
    assert bot.story() == []
    assert bot.broker.health.unresolved == ("c1",)
    assert bot.orders_there() == 0


def test_S20_an_address_ban_freezes_every_request_and_degrades_health(venue: SimulatedBybit, bot: Bot) -> None:
    ban = venue.faults.add("ip_ban")
    with pytest.raises(BybitRateLimitError):
        bot.submit()
    assert ban.hits == 1
    for _ in range(3):
        assert not bot.broker.reconcile().ok
    assert ban.hits == 1, "nothing was asked during the ban"
    bot.hears("degraded orders", "degraded executions", "degraded balances")
    assert bot.orders_there() == 0


def test_S20_a_429_on_a_submit_leaves_the_outcome_open_and_sends_nothing_twice(venue: SimulatedBybit, bot: Bot) -> None:
    fault = venue.faults.add("http_429", path=CREATE)
    assert bot.submit().outcome is SubmitOutcome.UNKNOWN
    assert fault.hits == 1
    assert bot.story() == []


@pytest.mark.parametrize("skew_ms", [8_000, -8_000])
def test_S34_a_clock_that_is_eight_seconds_off_is_measured_and_everything_goes_on(
    venue: SimulatedBybit, bot: Bot, skew_ms: int
) -> None:
    venue.faults.add("clock_skew", ms=skew_ms)
    report = bot.broker.reconcile()
    assert report.ok
    assert bot.submit().accepted
    bot.hears("accepted")
    assert bot.client.stats.clock_refusals >= 1
    assert bot.orders_there() == 1


def test_S34_a_submit_refused_for_its_timestamp_goes_out_again_once(venue: SimulatedBybit, bot: Bot) -> None:
    venue.faults.add("clock_skew", ms=8_000)
    assert bot.submit().accepted
    bot.hears("accepted")
    assert bot.orders_there() == 1


def test_S35_a_read_turned_away_waits_for_the_reset_and_goes_on(venue: SimulatedBybit, bot: Bot) -> None:
    fault = venue.faults.add("rate_limited", path=REALTIME, count=1, reset_ms=200)
    began = time.monotonic()
    assert bot.broker.reconcile().ok
    assert fault.hits == 1
    assert time.monotonic() - began >= 0.15
    assert bot.story() == []


@pytest.mark.parametrize("path", [REALTIME, EXECUTIONS])
@pytest.mark.parametrize(
    ("fault", "options"),
    [("http_status", {"status": 502}), ("http_status", {"status": 504}), ("html_body", {}), ("truncated_json", {})],
)
def test_S36_S37_a_broken_answer_is_asked_for_again_and_never_read_as_an_empty_list(
    venue: SimulatedBybit, bot: Bot, path: str, fault: str, options: dict[str, Any]
) -> None:
    bot.submit()
    bot.hears("accepted")
    armed = venue.faults.add(fault, path=path, count=1, **options)
    report = bot.broker.reconcile()
    assert armed.hits == 1
    assert report.ok or [failure.completeness.value for failure in report.failures] == ["failed"]
    assert bot.broker.reconcile().ok
    assert bot.story() == ["accepted"]
    assert bot.broker.order("c1").is_open


@pytest.mark.parametrize("fault", ["empty_result", "null_result", "missing_list"])
@pytest.mark.parametrize("path", [REALTIME, EXECUTIONS])
def test_S38_success_without_content_is_a_failed_read(venue: SimulatedBybit, bot: Bot, path: str, fault: str) -> None:
    bot.submit()
    bot.hears("accepted")
    armed = venue.faults.add(fault, path=path)
    report = bot.broker.reconcile()
    assert [failure.completeness.value for failure in report.failures] == ["failed"]
    armed.remove()
    assert bot.broker.reconcile().ok
    assert bot.story() == ["accepted"]
    assert bot.broker.order("c1").is_open
