"""Whatever is done to the venue, its books balance: a state machine of random commands (hypothesis).

Invariants, checked after every step, to the last digit: all coins on the venue equal what was deposited; locks are
never negative and never exceed the balance; an order's lock is what its remainder needs; cumulative quantities never
shrink; fills add up to them; a terminal order stays exactly as it ended.
"""

from __future__ import annotations

import contextlib
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qkt.venue.exchange.accounts import CLOSED_STATUSES
from qkt.venue.exchange.exchange import Exchange
from qkt.venue.exchange.instruments import instrument_for
from qkt.venue.exchange.money import CONTEXT
from qkt.venue.exchange.retcodes import Refusal
from qkt.venue.exchange.rows import order_row
from qkt.venue.market import LiveMarket

SYMBOLS = ("BTCUSDT", "ETHUSDT")
DEPOSITS = {"USDT": Decimal(400_000), "BTC": Decimal(3), "ETH": Decimal(50)}
PRICES = {"BTCUSDT": (58_500, 61_500), "ETHUSDT": (2_850, 3_150)}

accounts = st.sampled_from(["alice", "bob"])
symbols = st.sampled_from(SYMBOLS)
sides = st.sampled_from(["Buy", "Sell"])


@st.composite
def prices(draw: Any, symbol: str) -> str:
    low, high = PRICES[symbol]
    return str(draw(st.integers(low * 10, high * 10)) / Decimal(10))


@st.composite
def order_requests(draw: Any) -> dict[str, Any]:
    symbol = draw(symbols)
    order_type = draw(st.sampled_from(["Limit", "Limit", "Limit", "Market"]))
    body: dict[str, Any] = {"category": "spot", "symbol": symbol, "side": draw(sides), "orderType": order_type}
    quantity = draw(st.integers(1, 2_000)) * (Decimal("0.001") if symbol == "BTCUSDT" else Decimal("0.01"))
    body["qty"] = str(quantity)
    if order_type == "Limit":
        body["price"] = draw(prices(symbol))
        body["timeInForce"] = draw(st.sampled_from(["GTC", "GTC", "IOC", "FOK", "PostOnly"]))
    else:
        body["marketUnit"] = draw(st.sampled_from(["baseCoin", "quoteCoin"]))
        if body["marketUnit"] == "quoteCoin":
            body["qty"] = str(draw(st.integers(5, 100_000)))
    if draw(st.integers(0, 4)) == 0:
        body["triggerPrice"] = draw(prices(symbol))
        body["orderFilter"] = draw(st.sampled_from(["StopOrder", "tpslOrder"]))
    elif order_type == "Limit" and draw(st.integers(0, 4)) == 0:
        away = Decimal(draw(st.integers(1, 500)))
        up, down = str(Decimal(body["price"]) + away), str(Decimal(body["price"]) - away)
        body["takeProfit"], body["stopLoss"] = (up, down) if body["side"] == "Buy" else (down, up)
    body["smpType"] = draw(st.sampled_from(["None", "None", "CancelMaker", "CancelTaker", "CancelBoth"]))
    return body


class VenueMachine(RuleBasedStateMachine):
    """Two accounts (one paid rebates), a house, a fee pot, and everything that may happen between them."""

    @initialize(maker_rate=st.sampled_from(["0.001", "0.0000123456789", "-0.00025"]))
    def open(self, maker_rate: Any) -> None:
        self.now_ms = 1_767_225_600_000
        self.exchange = Exchange(
            lambda: self.now_ms, 1, [instrument_for(symbol, at) for at, symbol in enumerate(SYMBOLS)]
        )
        for name, rate in (("alice", "0.001"), ("bob", maker_rate)):
            self.exchange.add_account(name, "s", DEPOSITS, maker_fee_rate=Decimal(rate))
        self.market = LiveMarket(self.exchange, 1, volatility=5)
        self.deposited = {coin: amount * 2 for coin, amount in DEPOSITS.items()}
        self.cumulative: dict[str, Decimal] = {}
        self.ended: dict[str, dict[str, Any]] = {}

    def attempt(self, command: Any, *arguments: Any, **options: Any) -> None:
        self.now_ms += 1
        with localcontext(CONTEXT), contextlib.suppress(Refusal, ValueError):
            command(*arguments, **options)

    def some_order(self, pick: Any) -> Any:
        """Mostly one that is open, sometimes one that is over."""
        everyone = self.exchange.accounts.values()
        orders = [order for account in everyone for order in account.open_orders.values()]
        if not orders or pick % 7 == 0:
            orders = [order for account in everyone for order in account.orders.values()]
        return orders[pick % len(orders)] if orders else None

    @rule(account=accounts, body=order_requests())
    def create(self, account: Any, body: Any) -> None:
        self.attempt(self.exchange.create, self.exchange.accounts[account], body)

    @rule(pick=st.integers(0, 1000))
    def cancel(self, pick: Any) -> None:
        if order := self.some_order(pick):
            body = {"category": "spot", "symbol": order.instrument.symbol, "orderId": order.order_id}
            self.attempt(self.exchange.cancel, order.account, body, any_filter=True)

    @rule(pick=st.integers(0, 1000), what=st.sampled_from(["qty", "price", "both"]), data=st.data())
    def amend(self, pick: Any, what: Any, data: Any) -> None:
        if order := self.some_order(pick):
            symbol = order.instrument.symbol
            body = {"category": "spot", "symbol": symbol, "orderId": order.order_id}
            if what != "price":
                body["qty"] = str(data.draw(st.integers(1, 3_000)) / Decimal(1000))
            if what != "qty":
                body["price"] = data.draw(prices(symbol))
            self.attempt(self.exchange.amend, order.account, body)

    @rule(account=accounts, order_filter=st.sampled_from(["Order", "StopOrder", "tpslOrder"]))
    def cancel_all(self, account: Any, order_filter: Any) -> None:
        body = {"category": "spot", "orderFilter": order_filter}
        self.attempt(self.exchange.cancel_all, self.exchange.accounts[account], body)

    @rule(pick=st.integers(0, 1000), quantity=st.integers(1, 5_000))
    def fill(self, pick: Any, quantity: Any) -> None:
        if order := self.some_order(pick):
            self.attempt(self.exchange.fill, order, quantity / Decimal(1000), None)

    @rule(symbol=symbols, data=st.data())
    def move_price(self, symbol: Any, data: Any) -> None:
        book = self.exchange.books[("spot", symbol)]
        self.attempt(self.exchange.move_price, book, Decimal(data.draw(prices(symbol))))

    @rule()
    def live(self) -> None:
        self.attempt(self.market.step)

    @rule(account=accounts, amount=st.integers(1, 1000))
    def deposit(self, account: Any, amount: Any) -> None:
        self.attempt(self.exchange.deposit, self.exchange.accounts[account], "USDT", Decimal(amount))
        self.deposited["USDT"] += amount

    @rule()
    def restart(self) -> None:
        self.attempt(self.exchange.restart)

    @invariant()
    def money_in_equals_money_out(self) -> None:
        with localcontext(CONTEXT):
            for coin, amount in self.deposited.items():
                assert self.exchange.total(coin) == amount

    @invariant()
    def locks_are_covered_and_belong_to_open_orders(self) -> None:
        with localcontext(CONTEXT):
            for account in self.exchange.accounts.values():
                held: dict[str, Decimal] = {}
                for order in account.open_orders.values():
                    assert order.locked >= 0
                    held[order.lock_coin] = held.get(order.lock_coin, Decimal(0)) + order.locked
                for coin, balance in account.wallet.items():
                    assert balance.locked == held.get(coin, 0)
                    assert 0 <= balance.locked <= balance.total

    @invariant()
    def a_resting_order_holds_exactly_what_its_remainder_needs(self) -> None:
        with localcontext(CONTEXT):
            for account in self.exchange.accounts.values():
                for order in account.open_orders.values():
                    if not order.is_conditional:
                        needed = order.leaves_quantity * (order.price if order.is_buy else 1)
                        assert order.locked == needed > 0

    @invariant()
    def quantities_only_grow_and_ends_are_final(self) -> None:
        with localcontext(CONTEXT):
            for account in self.exchange.accounts.values():
                filled: dict[str, Decimal] = {}
                for execution in account.executions:
                    filled[execution.order_id] = filled.get(execution.order_id, Decimal(0)) + execution.quantity
                for order in account.orders.values():
                    assert order.cum_quantity == filled.get(order.order_id, 0)
                    assert order.cum_quantity >= self.cumulative.get(order.order_id, 0)
                    assert order.in_quote or order.cum_quantity <= order.quantity
                    self.cumulative[order.order_id] = order.cum_quantity
                    assert order.is_open == (order.order_id in account.open_orders)
                    if order.status in CLOSED_STATUSES:
                        row = order_row(order, stream=True)
                        assert self.ended.setdefault(order.order_id, row) == row

    @invariant()
    def the_book_is_never_crossed(self) -> None:
        for book in self.exchange.books.values():
            bids, asks = book.resting("Buy"), book.resting("Sell")
            assert not (bids and asks) or bids[0].price < asks[0].price
            tick = book.instrument.tick
            assert not bids or bids[0].price < book.last_price + tick
            assert not asks or asks[0].price > book.last_price - tick
            assert all(order.is_open and not order.is_conditional for order in bids + asks)


_COMMON = {"deadline": None, "suppress_health_check": list(HealthCheck)}
TestConservation = VenueMachine.TestCase
TestConservation.settings = settings(max_examples=60, stateful_step_count=40, **_COMMON)  # type: ignore[arg-type]


class LongerVenueMachine(VenueMachine):
    pass


TestConservationAtLength = pytest.mark.timeout(600)(pytest.mark.verify(LongerVenueMachine.TestCase))
TestConservationAtLength.settings = settings(max_examples=300, stateful_step_count=80, **_COMMON)  # type: ignore[arg-type]
