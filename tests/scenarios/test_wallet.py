"""S60-S64, S81: what the account holds: dated words, zeroed coins, failed reads, fees in kind, one wallet for two."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from qkt import (
    BybitClient,
    BybitLinearBroker,
    BybitSpotBroker,
    EventBus,
    LimitOrder,
    MarketOrder,
    PositionTracker,
    Side,
)
from qkt.bybit.codec.frames import execution_facts
from qkt.errors import ReconcileError
from qkt.events import BalancesUpdated, FillEvent, OrderEvent, PositionReconciled
from qkt.model.balances import CoinBalance
from qkt.reconcile.wallet import WalletBook
from qkt.testing.builders import envelope, execution_row, frame, refusal, wallet_envelope
from qkt.venue import SimulatedBybit
from tests.support.stage import LOST, WALLET, Stage, assert_lawful, words

D = Decimal


def told(stage: Stage) -> list[dict[str, Decimal]]:
    """The balances of every BalancesUpdated, in order."""
    return [dict(event.balances) for event in stage.heard if isinstance(event, BalancesUpdated)]


def push_wallet(stage: Stage, *, created_ms: int | None = None, **totals: str) -> None:
    coins = [{"coin": coin, "walletBalance": total, "locked": "0"} for coin, total in totals.items()]
    when_ms = stage.clock.now_ms() if created_ms is None else created_ms
    row = {"accountType": "UNIFIED", "coin": coins}
    stage.client.emit_ws_frame("wallet", frame("wallet", row, created_ms=when_ms))


# -- S60: a push overtakes a read --------------------------------------------------------------------------------------


def test_S60_a_read_started_before_a_push_does_not_roll_it_back(stage: Stage) -> None:
    _ = stage.broker

    def overtaken(_request: Any) -> Any:
        stage.clock.advance_ms(50)
        push_wallet(stage, USDT="900")
        stage.clock.advance_ms(50)
        return wallet_envelope(USDT="1000", BTC="2")

    stage.answers(WALLET, overtaken)
    stage.round()
    assert [balances["USDT"] for balances in told(stage)] == [D(900), D(900)]
    assert told(stage)[-1]["BTC"] == D(2)
    assert stage.client.balances == {"USDT": D(900), "BTC": D(2)}


def test_S60_a_push_older_than_the_read_changes_nothing_and_says_nothing(stage: Stage) -> None:
    _ = stage.broker
    stage.venue.wallet = {"USDT": "900"}
    stage.round()
    stage.forget()
    push_wallet(stage, USDT="1000", created_ms=stage.clock.now_ms() - 1_000)
    assert told(stage) == []
    assert stage.client.balances == {"USDT": D(900)}


def test_S60_pushes_out_of_order_leave_the_newest(stage: Stage) -> None:
    _ = stage.broker
    now_ms = stage.clock.advance_ms(1_000).now_ms()
    push_wallet(stage, USDT="800", created_ms=now_ms)
    push_wallet(stage, USDT="900", created_ms=now_ms - 10)
    push_wallet(stage, USDT="800", created_ms=now_ms)
    assert told(stage) == [{"USDT": D(800)}]


def test_S60_the_next_read_started_after_the_push_stands(stage: Stage) -> None:
    _ = stage.broker
    stage.clock.advance_ms(1_000)
    push_wallet(stage, USDT="900")
    stage.venue.wallet = {"USDT": "850"}
    stage.round()
    assert stage.client.balances == {"USDT": D(850)}
    assert stage.client.wallet.as_of_ms == stage.clock.now_ms()


def test_S60_a_push_beside_a_round_is_not_told_before_the_balance_it_made_old(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    _ = stage.broker
    stage.clock.advance_ms(1_000)
    publish = stage.broker._state.publish
    pushing = threading.Thread(target=lambda: push_wallet(stage, USDT="900", created_ms=stage.clock.now_ms() + 1))

    def while_the_round_tells(events: Any) -> None:
        if not pushing.ident:
            pushing.start()
            pushing.join(0.3)  # it would be through long before, if nothing kept it
        publish(events)

    monkeypatch.setattr(stage.broker._state, "publish", while_the_round_tells)
    stage.round()
    pushing.join(10)
    stage.bus.deliver()
    assert [balances["USDT"] for balances in told(stage)] == [D(1000), D(900)]
    assert stage.heard[-1].changed == {"USDT"}


@pytest.mark.parametrize("read_last", [True, False])
def test_S60_in_either_order_of_arrival_the_book_is_the_same(read_last: bool) -> None:
    read = {"USDT": CoinBalance(total=D(1000)), "BTC": CoinBalance(total=D(2))}
    push = {"USDT": CoinBalance(total=D(900))}
    book = WalletBook()
    if read_last:
        book = book.after_frame(push, 20).after_read(read, 10)
    else:
        book = book.after_read(read, 10).after_frame(push, 20)
    assert book.wallet.totals == {"USDT": D(900), "BTC": D(2)}


# -- S61: a coin that is gone ------------------------------------------------------------------------------------------


def test_S61_a_coin_the_venue_no_longer_lists_is_zero(stage: Stage) -> None:
    stage.venue.wallet = {"USDT": "1000", "BTC": "2"}
    _ = stage.broker
    stage.venue.wallet = {"USDT": "1000"}
    stage.round()
    (update,) = [event for event in stage.heard if isinstance(event, BalancesUpdated)]
    assert update.balances == {"USDT": D(1000), "BTC": D(0)}
    assert update.changed == {"BTC"}
    assert update.wallet["BTC"] == CoinBalance(total=D(0), locked=D(0), available=D(0))
    assert stage.client.balances["BTC"] == 0


def test_S61_a_coin_pushed_while_the_read_was_under_way_is_not_zeroed_by_it(stage: Stage) -> None:
    _ = stage.broker

    def overtaken(_request: Any) -> Any:
        stage.clock.advance_ms(50)
        push_wallet(stage, BTC="2")
        return wallet_envelope(USDT="1000")

    stage.answers(WALLET, overtaken)
    stage.round()
    assert stage.client.balances == {"USDT": D(1000), "BTC": D(2)}


def test_S61_a_push_says_nothing_of_the_coins_it_does_not_list(stage: Stage) -> None:
    stage.venue.wallet = {"USDT": "1000", "BTC": "2"}
    _ = stage.broker
    stage.clock.advance_ms(1_000)
    push_wallet(stage, USDT="900")
    assert told(stage) == [{"USDT": D(900), "BTC": D(2)}]


def test_S61_a_coin_pushed_as_zero_is_zero_and_a_blank_one_is_unknown(stage: Stage) -> None:
    stage.venue.wallet = {"USDT": "1000", "BTC": "2"}
    _ = stage.broker
    stage.clock.advance_ms(1_000)
    push_wallet(stage, USDT="0", BTC="")
    assert stage.client.balances == {"USDT": D(0), "BTC": D(2)}


# -- S62: the wrong account, or none -----------------------------------------------------------------------------------

NOT_A_WALLET = {
    "no account listed": envelope(),
    "no list": {**envelope(), "result": {}},
    "null result": {**envelope(), "result": None},
    "account without coins": envelope([{"accountType": "UNIFIED"}]),
    "refused": refusal(10001, "accountType only support UNIFIED."),
    "unreadable coin": envelope([{"coin": [{"coin": "USDT", "walletBalance": "many"}]}]),
    "silence": LOST,
    "html": "<html>502 Bad Gateway</html>",
}


@pytest.mark.parametrize("answer", NOT_A_WALLET.values(), ids=NOT_A_WALLET)
def test_S62_what_is_no_wallet_is_a_failed_read_and_zeroes_nothing(stage: Stage, answer: Any) -> None:
    stage.venue.wallet = {"USDT": "1000", "BTC": "2"}
    _ = stage.broker
    stage.answers(WALLET, answer)
    report = stage.round()
    assert told(stage) == []
    assert stage.client.balances == {"USDT": D(1000), "BTC": D(2)}
    assert [path.path for path in report.failures] == ["balances"]
    assert stage.broker.health.balances >= 3_000  # type: ignore[operator]


def test_S62_the_message_names_the_account_type(stage: Stage) -> None:
    _ = stage.broker
    stage.answers(WALLET, envelope())
    (problem,) = stage.round().path("balances").problems  # type: ignore[union-attr]
    assert "accountType" in problem
    assert "BYBIT_ACCOUNT_TYPE" in problem


def test_S62_a_broker_does_not_start_on_it(stage: Stage) -> None:
    stage.client.responses[WALLET] = envelope()
    with pytest.raises(ReconcileError, match="BYBIT_ACCOUNT_TYPE"):
        stage.open()


def test_S62_an_account_with_an_empty_coin_list_is_empty(stage: Stage) -> None:
    stage.venue.wallet = {"USDT": "1000"}
    _ = stage.broker
    stage.venue.wallet = {}
    report = stage.round()
    assert report.ok
    assert told(stage) == [{"USDT": D(0)}]


def test_S62_one_failed_read_is_no_alarm_two_are_one_and_the_next_good_one_ends_it(stage: Stage) -> None:
    _ = stage.broker
    stage.answers(WALLET, LOST, LOST, LOST)
    for _round in range(4):
        stage.round()
    assert stage.story() == ["degraded balances", "restored balances"]


# -- S63: fees in kind -------------------------------------------------------------------------------------------------


class Account:
    """A broker over real sockets on a simulated venue, its fills, and what its wallet did."""

    def __init__(self, venue: SimulatedBybit, key: str = "key", secret: str = "secret") -> None:
        self.venue = venue
        self.client = BybitClient(key, secret, rest_url=venue.rest_url, ws_url=venue.ws_url)
        self.bus = EventBus()
        self.heard: list[Any] = []
        self.fills: list[FillEvent] = []
        self._more = threading.Condition()
        self.bus.subscribe(OrderEvent, self._hear)
        self.client.connect()
        self.broker = BybitSpotBroker(self.client, self.bus, poll_interval_ms=600_000)
        self.before = dict(self.client.balances)

    def _hear(self, event: OrderEvent) -> None:
        with self._more:
            self.heard.append(event)
            if isinstance(event, FillEvent):
                self.fills.append(event)
            self._more.notify_all()

    def fill_of(self, client_order_id: str) -> FillEvent:
        """The one fill of an order, heard."""
        self.broker.wait(client_order_id, timeout_ms=5_000)
        with self._more:
            assert self._more.wait_for(lambda: self.fills, 5)
        (fill,) = self.fills
        return fill

    def moved(self, coin: str) -> Decimal:
        """How the wallet changed, by a fresh read."""
        self.broker.reconcile()
        return self.client.balances[coin] - self.before[coin]

    def close(self) -> None:
        self.broker.close()
        self.client.close()
        assert_lawful(self.heard)


@pytest.fixture
def venue() -> Iterator[SimulatedBybit]:
    with SimulatedBybit(seed=1) as running:
        running.add_account("maker", "secret", {"USDT": 10_000, "BTC": 1}, maker_fee_rate="-0.0001")
        yield running


def test_S63_a_buy_whose_fee_is_in_base_leaves_quantity_less_fee(venue: SimulatedBybit) -> None:
    account = Account(venue)
    ack = account.broker.submit(MarketOrder(symbol="BYBIT_SPOT:BTCUSDT", side=Side.BUY, quantity=D("0.01")))
    fill = account.fill_of(ack.client_order_id)
    assert (fill.fee_currency, fill.fee) == ("BTC", D("0.00001"))
    assert account.moved("BTC") == fill.quantity - fill.fee
    assert account.moved("USDT") == -fill.quantity * fill.price
    tracker = PositionTracker()
    tracker.apply_fill(fill)
    assert tracker.position("BYBIT_SPOT:BTCUSDT").quantity == D("0.00999")  # type: ignore[union-attr]
    assert account.broker.order(ack.client_order_id).fees == {"BTC": D("0.00001")}
    account.close()


def test_S63_a_sell_pays_its_fee_in_quote(venue: SimulatedBybit) -> None:
    account = Account(venue)
    ack = account.broker.submit(MarketOrder(symbol="BYBIT_SPOT:BTCUSDT", side=Side.SELL, quantity=D("0.01")))
    fill = account.fill_of(ack.client_order_id)
    assert fill.fee_currency == "USDT"
    assert account.moved("BTC") == -fill.quantity
    assert account.moved("USDT") == fill.quantity * fill.price - fill.fee
    account.close()


def test_S63_a_rebate_on_a_buy_comes_in_quote_and_the_whole_quantity_is_held(venue: SimulatedBybit) -> None:
    account = Account(venue, "maker")
    ack = account.broker.submit(
        LimitOrder(symbol="BYBIT_SPOT:BTCUSDT", side=Side.BUY, quantity=D("0.01"), limit_price=D(50_000))
    )
    venue.fill(ack.client_order_id)
    fill = account.fill_of(ack.client_order_id)
    assert fill.is_maker
    assert fill.fee < 0
    assert fill.fee_currency == "USDT"
    assert account.moved("BTC") == fill.quantity
    assert account.moved("USDT") == -fill.quantity * fill.price - fill.fee
    tracker = PositionTracker()
    tracker.apply_fill(fill)
    assert tracker.position("BYBIT_SPOT:BTCUSDT").quantity == D("0.01")  # type: ignore[union-attr]
    account.close()


def test_S63_a_fee_in_a_third_coin_keeps_its_coin_and_costs_no_base(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "1", execFee="0.5", feeCurrency="MNT")
    stage.venue.push_execution("e1")
    (fill,) = [event for event in stage.heard if isinstance(event, FillEvent)]
    assert (fill.fee, fill.fee_currency) == (D("0.5"), "MNT")
    assert stage.broker.order("c1").fees == {"MNT": D("0.5")}
    tracker = PositionTracker()
    tracker.apply_fill(fill)
    assert tracker.position("BYBIT_SPOT:BTCUSDT").quantity == D(1)  # type: ignore[union-attr]


# -- S64: funding is not a fill ----------------------------------------------------------------------------------------


def funding_row(**changes: Any) -> dict[str, Any]:
    told = {"category": "linear", "execType": "Funding", "execId": "f1", "orderId": "funding-1", "orderLinkId": ""}
    return execution_row(
        **{**told, "orderType": "UNKNOWN", "orderQty": "0", "execQty": "5", "leavesQty": "0", **changes}
    )


@pytest.mark.parametrize("kind", ["Funding", "Settle", "Delivery", "CorporateAction"])
def test_S64_cash_rows_among_executions_are_neither_fills_nor_malformed(kind: str) -> None:
    learned = execution_facts(frame("execution.linear", funding_row(execType=kind)), "linear", 0)
    assert learned.facts == ()
    assert learned.malformed == ()


def linear_broker(stage: Stage) -> BybitLinearBroker:
    return BybitLinearBroker(stage.client, stage.bus, stage.clock, poll_scheduler=stage.scheduler)


@pytest.mark.parametrize("by_frame", [True, False])
def test_S64_funding_moves_no_order_and_no_position(stage: Stage, by_frame: bool) -> None:
    broker = linear_broker(stage)
    row = funding_row(execTime=stage.venue.now)
    if by_frame:
        stage.client.emit_ws_frame("execution.linear", frame("execution.linear", row))
    else:
        stage.client.responses["/v5/execution/list"] = envelope([row])
    stage.clock.advance_ms(3_000)
    stage.forget()
    assert broker.reconcile().ok
    assert not [event for event in stage.ever_heard if isinstance(event, OrderEvent | PositionReconciled)]
    assert broker.open_orders() == []
    broker.close()


def test_S64_a_funding_row_under_an_orders_own_id_fills_nothing(stage: Stage) -> None:
    stage.has_open_order()
    row = funding_row(category="spot", orderId="b1", orderLinkId="c1", execTime=stage.venue.now)
    stage.client.emit_ws_frame("execution.spot", frame("execution.spot", row))
    assert stage.story() == []
    assert stage.broker.order("c1").cum_quantity == 0


# -- S81: two brokers, one wallet --------------------------------------------------------------------------------------


def wallet_reads(stage: Stage) -> int:
    return sum(request.path == WALLET for request in stage.client.gets)


def test_S81_brokers_of_one_account_fetch_the_wallet_once_per_beat_and_each_tells(stage: Stage) -> None:
    stage.open(poll_interval_ms=30_000)
    linear = BybitLinearBroker(
        stage.client, stage.bus, stage.clock, poll_interval_ms=30_000, poll_scheduler=stage.scheduler
    )
    stage.forget()
    stage.pass_ms(30_000)
    assert wallet_reads(stage) == 1
    updates = [event for event in stage.heard if isinstance(event, BalancesUpdated)]
    assert sorted(update.source for update in updates) == ["BYBIT_LINEAR", "BYBIT_SPOT"]
    assert updates[0].balances == updates[1].balances == {"USDT": D(1000)}
    linear.close()


def test_S81_a_push_is_told_by_each_once_under_its_own_name(stage: Stage) -> None:
    stage.open()
    linear = linear_broker(stage)
    stage.forget()
    stage.clock.advance_ms(1_000)
    push_wallet(stage, USDT="900")
    updates = [event for event in stage.heard if isinstance(event, BalancesUpdated)]
    assert sorted(update.source for update in updates) == ["BYBIT_LINEAR", "BYBIT_SPOT"]
    assert all(update.changed == {"USDT"} for update in updates)
    linear.close()


def test_S81_neither_rolls_back_what_the_other_learnt(stage: Stage) -> None:
    stage.open()
    linear = linear_broker(stage)
    stage.clock.advance_ms(2_000)
    push_wallet(stage, USDT="900")
    stage.venue.wallet = {"USDT": "900"}
    linear.reconcile()
    stage.broker.reconcile()
    assert {str(update.balances["USDT"]) for update in stage.heard if isinstance(update, BalancesUpdated)} >= {"900"}
    assert stage.heard[-1].balances["USDT"] == D(900)
    assert stage.client.balances == {"USDT": D(900)}
    linear.close()


def test_S81_a_closed_broker_leaves_the_other_its_reads(stage: Stage) -> None:
    stage.open()
    linear_broker(stage).close()
    stage.forget()
    stage.round(after_ms=100)
    assert wallet_reads(stage) == 1
    assert words(stage.heard) == ["balances"]


def test_S81_a_failed_read_is_not_shared(stage: Stage) -> None:
    stage.open(poll_interval_ms=30_000)
    linear = BybitLinearBroker(
        stage.client, stage.bus, stage.clock, poll_interval_ms=30_000, poll_scheduler=stage.scheduler
    )
    stage.forget()
    stage.answers(WALLET, LOST)
    stage.pass_ms(30_000)
    assert wallet_reads(stage) == 2
    assert [update.source for update in stage.heard if isinstance(update, BalancesUpdated)] != []
    linear.close()
