"""Prices by the public stream: with their age, and never as if they were current when they are not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt import (
    BybitClient,
    BybitSpotBroker,
    EventBus,
    InvalidRequestError,
    LimitOrder,
    MarketOrder,
    PaperBroker,
    PriceFeed,
    RiskLimits,
    Side,
    StalePriceError,
)
from qkt.bybit.codec.prices import to_price_update
from qkt.bybit.transport.config import public_url_of
from qkt.bybit.transport.stream import PublicStream
from qkt.errors import VenueProtocolError
from qkt.testing import FixedClock
from qkt.venue import SimulatedBybit

BTC, ETH, PERP = "BYBIT_SPOT:BTCUSDT", "BYBIT_SPOT:ETHUSDT", "BYBIT_LINEAR:BTCUSDT"
DEADLINE_S = 5.0


@pytest.fixture
def venue() -> Iterator[SimulatedBybit]:
    with SimulatedBybit(seed=1) as running:
        yield running


@pytest.fixture
def client(venue: SimulatedBybit) -> Iterator[BybitClient]:
    client = BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url)
    yield client
    client.close()


class Heard:
    """Prices a listener was told, and a wait for one of them."""

    def __init__(self) -> None:
        self.prices: list[tuple[str, Decimal]] = []
        self._changed = threading.Condition()

    def __call__(self, symbol: str, price: Decimal) -> None:
        with self._changed:
            self.prices.append((symbol, price))
            self._changed.notify_all()

    def wait_for(self, symbol: str, price: str) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: (symbol, Decimal(price)) in self.prices, timeout=DEADLINE_S)


def test_last_price_and_quote_come_with_their_ages(client: BybitClient) -> None:
    with PriceFeed(client, [BTC, PERP]) as feed:
        assert feed.wait(BTC) == Decimal(60_000)
        feed.wait(PERP)
        quote = feed.quote(BTC)
        assert quote.is_live
        assert quote.last_age_ms is not None
        assert quote.last_age_ms < 5_000
        assert set(feed.symbols) == {BTC, PERP}
        assert feed.is_live


def test_bid_and_ask_follow_the_book(venue: SimulatedBybit, client: BybitClient) -> None:
    with PriceFeed(client, [BTC]) as feed:
        heard = Heard()
        feed.wait(BTC)
        feed.on_price(heard)
        venue.set_price("BTCUSDT", 61_000)
        heard.wait_for(BTC, "61000")
        quote = feed.quote(BTC)
        assert quote.bid is None or quote.ask is None or quote.bid < quote.ask


def test_a_price_that_is_too_old_is_not_given(client: BybitClient) -> None:
    clock = FixedClock(1_000)
    with PriceFeed(client, [BTC], clock=clock, max_age_ms=2_000) as feed:
        feed.wait(BTC)
        clock.advance_ms(2_001)
        with pytest.raises(StalePriceError, match="is 2001 ms old and 2000 are allowed"):
            feed.last(BTC)
        assert feed.last(BTC, max_age_ms=10_000) == Decimal(60_000)
        assert feed.quote(BTC).last_age_ms == 2_001


def test_a_price_from_before_a_lost_connection_is_stale_until_the_next(
    venue: SimulatedBybit, client: BybitClient
) -> None:
    with PriceFeed(client, [BTC]) as feed:
        heard = Heard()
        feed.wait(BTC)
        feed._lost("spot")
        with pytest.raises(StalePriceError, match="connection was lost"):
            feed.last(BTC)
        feed.on_price(heard)
        assert heard.prices == []
        venue.set_price("BTCUSDT", 62_000)
        heard.wait_for(BTC, "62000")
        assert feed.last(BTC) == Decimal(62_000)


def test_a_lost_connection_is_opened_and_subscribed_again(venue: SimulatedBybit, client: BybitClient) -> None:
    with PriceFeed(client, [BTC]) as feed:
        heard = Heard()
        feed.wait(BTC)
        feed._streams["spot"].cut("test")
        feed.on_price(heard)
        venue.set_price("BTCUSDT", 63_000)
        heard.wait_for(BTC, "63000")
        assert feed.last(BTC) == Decimal(63_000)


def test_no_price_yet_is_an_error_and_not_a_zero(client: BybitClient) -> None:
    with PriceFeed(client, [BTC]) as feed:
        feed.follow("BYBIT_SPOT:NOSUCHCOIN")
        with pytest.raises(StalePriceError, match="no price of BYBIT_SPOT:NOSUCHCOIN yet"):
            feed.last("BYBIT_SPOT:NOSUCHCOIN")
        assert feed.wait(BTC) > 0  # the refused topic costs the others nothing


def test_a_symbol_that_is_not_followed_is_named(client: BybitClient) -> None:
    with PriceFeed(client, [BTC]) as feed, pytest.raises(InvalidRequestError, match="not followed"):
        feed.last(ETH)


def test_after_close_prices_are_stale_and_no_thread_is_left(client: BybitClient) -> None:
    feed = PriceFeed(client, [BTC])
    feed.wait(BTC)
    feed.close()
    feed.close()

    with pytest.raises(StalePriceError):
        feed.last(BTC)
    with pytest.raises(InvalidRequestError, match="closed"):
        feed.follow(ETH)
    assert [one.name for one in threading.enumerate() if one.name.startswith("qkt-prices")] == []
    assert repr(feed) == "<PriceFeed closed>"


def test_a_venue_that_cannot_be_reached_gives_no_price() -> None:
    client = BybitClient("key", "secret", rest_url="http://127.0.0.1:9", ws_url="ws://127.0.0.1:9/v5/private")
    with PriceFeed(client, [BTC]) as feed, pytest.raises(StalePriceError, match="no price"):
        feed.last(BTC)


def test_a_paper_broker_trades_at_the_prices_of_the_feed(venue: SimulatedBybit, client: BybitClient) -> None:
    with PriceFeed(client, [BTC]) as feed, PaperBroker(EventBus()) as paper:
        paper.follow(feed)
        feed.wait(BTC)
        order = LimitOrder(symbol=BTC, side=Side.BUY, quantity=Decimal(1), limit_price=Decimal(59_000))
        ack = paper.submit(order)
        venue.set_price("BTCUSDT", 58_000)
        paper.wait(ack.client_order_id, until="closed", timeout_ms=5_000)
        assert paper.order(ack.client_order_id).status.name == "FILLED"


def test_risk_limits_measure_at_the_price_of_the_feed(venue: SimulatedBybit, client: BybitClient) -> None:
    venue.faults.add("request_lost", path="/v5/market/tickers", count=50)
    with PriceFeed(client, [BTC]) as feed, client:
        feed.wait(BTC)
        limits = RiskLimits(max_notional=Decimal(1_000), prices=feed)
        with BybitSpotBroker(client, EventBus(), risk_limits=limits) as broker:
            with pytest.raises(InvalidRequestError, match="max_notional"):
                broker.submit(MarketOrder(symbol=BTC, side=Side.BUY, quantity=Decimal(1)))
            assert broker.submit(MarketOrder(symbol=BTC, side=Side.BUY, quantity=Decimal("0.01"))).accepted


def test_a_stale_feed_leaves_the_measuring_to_a_ticker() -> None:
    class Stale:
        def last(self, symbol: str) -> Decimal:
            raise StalePriceError(symbol)

        def on_price(self, listener: object) -> None:
            """Not used."""

    assert RiskLimits(prices=Stale()).fed_price(BTC) is None


@pytest.mark.parametrize(
    ("ws_url", "expected"),
    [
        ("wss://stream.bybit.com/v5/private", "wss://stream.bybit.com/v5/public/spot"),
        ("wss://stream-testnet.bybit.com/v5/private", "wss://stream-testnet.bybit.com/v5/public/spot"),
        ("wss://stream-demo.bybit.com/v5/private", "wss://stream.bybit.com/v5/public/spot"),
        ("ws://127.0.0.1:1/v5/private?max_active_time=10m", "ws://127.0.0.1:1/v5/public/spot"),
    ],
)
def test_the_public_stream_stands_beside_the_private_one(ws_url: str, expected: str) -> None:
    assert public_url_of(ws_url, "spot") == expected


def test_a_delta_changes_only_what_it_names() -> None:
    frame = {"topic": "orderbook.1.BTCUSDT", "type": "delta", "ts": 5, "data": {"b": [["10", "2"]], "a": []}}
    update = to_price_update(frame)

    assert update is not None
    assert (update.bid, update.ask) == ((Decimal(10), Decimal(2)), None)


def test_an_emptied_side_has_no_price() -> None:
    frame = {"topic": "orderbook.1.BTCUSDT", "type": "delta", "ts": 5, "data": {"b": [["10", "0"]], "a": []}}
    update = to_price_update(frame)

    assert update is not None
    assert update.bid == (None, Decimal(0))


@pytest.mark.parametrize("data", [{"b": [["x", "1"]]}, {"b": "?"}, {"a": [[]]}])
def test_a_frame_that_cannot_be_read_is_an_error(data: dict[str, object]) -> None:
    with pytest.raises(VenueProtocolError):
        to_price_update({"topic": "orderbook.1.BTCUSDT", "type": "snapshot", "data": data})


def test_a_feed_that_is_closed_while_it_begins_to_follow_leaves_no_connection(
    client: BybitClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = PriceFeed(client)
    build, built = client.public_stream, []

    def close_and_build(*given: Any, **options: Any) -> PublicStream:
        feed.close()
        built.append(build(*given, **options))
        return built[-1]

    monkeypatch.setattr(client, "public_stream", close_and_build)
    with pytest.raises(InvalidRequestError, match="closed"):
        feed.follow(BTC)

    assert [stream.state for stream in built] == ["closed"]
