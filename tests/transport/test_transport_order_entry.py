"""`BybitClient(order_entry="websocket")`: acks, errors and proofs as by REST, and REST while the stream is down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.protocol import SubmitOutcome
from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.bybit.transport.client import BybitClient
from qkt.bybit.transport.rate_limits import account_budget
from qkt.bybit.transport.trade_stream import TradeStream
from qkt.errors import BybitApiError, BybitRateLimitError, InvalidRequestError, OutcomeUnknownError
from qkt.model.orders import LimitOrder, OrderModification, Side
from qkt.venue import SimulatedBybit
from tests.support.transport_rig import eventually

CREATE, CANCEL, AMEND = "/v5/order/create", "/v5/order/cancel", "/v5/order/amend"
ORDER = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "59000"}


@pytest.fixture
def trading(make_client: Callable[..., BybitClient]) -> BybitClient:
    """A connected client whose orders go by WebSocket."""
    client = make_client(order_entry="websocket")
    client.connect()
    assert client.stats.order_entry == "websocket"
    return client


@pytest.fixture
def broker(trading: BybitClient) -> Iterator[BybitSpotBroker]:
    with BybitSpotBroker(trading, EventBus()) as broker:
        yield broker


def a_limit(**changes: Any) -> LimitOrder:
    terms: dict[str, Any] = {
        "symbol": "BYBIT_SPOT:BTCUSDT",
        "side": Side.BUY,
        "quantity": Decimal("0.01"),
        "limit_price": Decimal(50000),
    }
    return LimitOrder(**(terms | changes))


def test_an_order_by_websocket_carries_the_referer(
    make_client: Callable[..., BybitClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Mapping[str, str]] = []
    exchange = TradeStream.exchange

    def heard(self: TradeStream, operation: str, header: Mapping[str, str], *rest: Any) -> Any:
        sent.append(header)
        return exchange(self, operation, header, *rest)

    monkeypatch.setattr(TradeStream, "exchange", heard)
    client = make_client(order_entry="websocket", referer="Acme-1")
    client.connect()
    created = client.post_signed(CREATE, ORDER)

    assert created["retCode"] == 0
    assert [header["Referer"] for header in sent] == ["Acme-1"]


def test_create_amend_and_cancel_go_by_websocket(trading: BybitClient, venue: SimulatedBybit) -> None:
    created = trading.post_signed(CREATE, {**ORDER, "orderLinkId": "a"})
    name = {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "a"}
    trading.post_signed(AMEND, {**name, "price": "58000"})
    trading.post_signed(CANCEL, name)

    assert (created["retCode"], created["result"]["orderLinkId"]) == (0, "a")
    assert venue.truth()["orders"][0]["orderStatus"] == "Cancelled"
    assert (trading.stats.websocket_writes, trading.stats.websocket_fallbacks) == (3, 0)


def test_a_broker_cannot_tell_the_two_ways_apart(broker: BybitSpotBroker, trading: BybitClient) -> None:
    ack = broker.submit(a_limit(client_order_id="one"))
    assert broker.modify("one", OrderModification(new_limit_price=Decimal(49000))).accepted
    many = broker.submit_many([a_limit(client_order_id="two"), a_limit(client_order_id="three")])
    assert broker.cancel("one").accepted
    broker.cancel_many(["two", "three"])

    assert ack.accepted
    assert ack.broker_order_id
    assert [one.accepted for one in many] == [True, True]
    for name in ("one", "two", "three"):
        assert broker.wait(name, until="closed", timeout_ms=5_000).status.value == "CANCELLED"
    assert trading.stats.websocket_writes == 5


@pytest.mark.parametrize(
    "body",
    [
        {**ORDER, "qty": "1000000"},
        {**ORDER, "symbol": "NOPEUSDT"},
        {**ORDER, "qty": "abc"},
        {**ORDER, "side": "Up"},
    ],
)
def test_a_refusal_is_the_same_error_as_by_rest(
    trading: BybitClient, make_client: Callable[..., BybitClient], body: dict[str, str]
) -> None:
    codes = []
    for client in (trading, make_client()):
        with pytest.raises(BybitApiError) as caught:
            client.post_signed(CREATE, body)
        codes.append((caught.value.ret_code, caught.value.ret_msg, caught.value.path))

    assert codes[0] == codes[1]


@pytest.mark.parametrize("fault", ["connection_reset_after_request", "connection_reset_before_request"])
def test_a_connection_that_dies_with_a_request_out_leaves_its_outcome_unknown(
    trading: BybitClient, venue: SimulatedBybit, fault: str
) -> None:
    venue.faults.add(fault, path=CREATE, method="WS", count=1)

    with pytest.raises(OutcomeUnknownError, match="order entry stream was lost") as caught:
        trading.post_signed(CREATE, {**ORDER, "orderLinkId": "a"})
    assert caught.value.signed_ms is not None
    assert caught.value.recv_window_ms == trading.recv_window_ms
    eventually(lambda: trading.stats.order_entry == "websocket", "the stream is back")
    assert (trading.stats.unknown_writes, trading.stats.websocket_losses) == (1, 1)


def test_an_order_whose_reply_was_lost_is_looked_up_and_found(broker: BybitSpotBroker, venue: SimulatedBybit) -> None:
    venue.faults.add("connection_reset_after_request", path=CREATE, method="WS", count=1)

    ack = broker.submit(a_limit(client_order_id="lost"))

    assert ack.outcome in (SubmitOutcome.UNKNOWN, SubmitOutcome.ACCEPTED)
    assert broker.wait("lost", until="accepted", timeout_ms=5_000).is_open


def test_no_reply_in_time_is_an_unknown_outcome(make_client: Callable[..., BybitClient], venue: SimulatedBybit) -> None:
    client = make_client(order_entry="websocket", read_timeout_ms=200)
    client.connect()
    venue.faults.add("request_lost", path=CREATE, method="WS", mode="hang", count=1)

    with pytest.raises(OutcomeUnknownError, match="no reply on the order entry stream in 200 ms"):
        client.post_signed(CREATE, ORDER)


def test_closing_the_client_ends_a_request_that_is_out_as_unknown(trading: BybitClient, venue: SimulatedBybit) -> None:
    venue.faults.add("request_lost", path=CREATE, method="WS", mode="hang", count=1)
    outcome: list[BaseException] = []

    def submit() -> None:
        try:
            trading.post_signed(CREATE, ORDER)
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    eventually(lambda: trading.stats.websocket_writes == 1, "the request is out")
    trading.close()
    thread.join(2)

    assert [type(error) for error in outcome] == [OutcomeUnknownError]


def test_while_the_stream_is_down_orders_go_by_rest_and_stats_say_so(
    trading: BybitClient, venue: SimulatedBybit
) -> None:
    refusal = venue.faults.add("stream_refused", path="/v5/trade", status=503, count=1_000)
    venue.cut_streams(path="/v5/trade")
    eventually(lambda: trading.stats.order_entry != "websocket", "the loss is noticed")

    assert trading.post_signed(CREATE, {**ORDER, "orderLinkId": "a"})["retCode"] == 0
    assert trading.stats.order_entry == "rest (stream down)"
    assert (trading.stats.websocket_writes, trading.stats.websocket_fallbacks) == (0, 1)
    assert trading.is_connected

    refusal.remove()
    eventually(lambda: trading.stats.order_entry == "websocket", "the stream is back")


def test_a_client_whose_order_entry_stream_cannot_be_opened_connects_all_the_same(
    make_client: Callable[..., BybitClient], venue: SimulatedBybit
) -> None:
    venue.faults.add("stream_refused", path="/v5/trade", status=503, count=1)
    client = make_client(order_entry="websocket")
    client.connect()

    assert client.is_connected
    assert client.post_signed(CREATE, ORDER)["retCode"] == 0
    eventually(lambda: client.stats.order_entry == "websocket", "it is opened later")


def test_a_restarting_service_is_left_for_a_new_connection(trading: BybitClient, venue: SimulatedBybit) -> None:
    venue.faults.add("trade_restarting", count=1)

    with pytest.raises(OutcomeUnknownError):
        trading.post_signed(CREATE, ORDER)
    eventually(lambda: trading.stats.websocket_losses == 1 and trading.stats.order_entry == "websocket", "back")
    assert trading.post_signed(CREATE, ORDER)["retCode"] == 0


def test_a_refused_timestamp_is_measured_and_sent_anew(trading: BybitClient, venue: SimulatedBybit) -> None:
    venue.faults.add("clock_jump", path=CREATE, count=1, ms=30_000)

    assert trading.post_signed(CREATE, ORDER)["retCode"] == 0


def test_the_budget_of_the_account_is_shared_with_rest(
    trading: BybitClient, venue: SimulatedBybit, make_client: Callable[..., BybitClient]
) -> None:
    account_budget(venue.rest_url, trading._signer.api_key).close_for(CREATE, "spot", 60_000)

    with pytest.raises(BybitRateLimitError):
        trading.post_signed(CREATE, ORDER)
    assert trading.stats.websocket_writes == 0


def test_what_the_stream_does_not_serve_goes_by_rest(trading: BybitClient) -> None:
    assert trading.post_signed("/v5/order/cancel-all", {"category": "spot"})["retCode"] == 0
    assert trading.stats.websocket_writes == 0


@pytest.mark.parametrize(
    "options", [{"order_entry": "carrier pigeon"}, {"order_entry": "websocket", "demo": True}, {"order_entry": None}]
)
def test_an_order_entry_that_cannot_be_is_refused_at_the_door(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="order"):
        BybitClient("k", "s", **options)


def test_no_thread_of_the_order_entry_stream_is_left_behind(trading: BybitClient) -> None:
    assert "qkt-trade" in {thread.name for thread in threading.enumerate()}
    trading.close()
    assert "qkt-trade" not in {thread.name for thread in threading.enumerate()}
