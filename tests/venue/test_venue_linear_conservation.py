"""Random days on spot and contracts of the same accounts: no money appears or vanishes, to the last digit (hypothesis).

After every command: all wallets plus all unrealised profits equal the deposits, the long positions of everyone equal
the short ones, every account's transaction log adds up to its wallet, its executions add up to its orders and
positions, and reducing orders never exceed their position.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from qkt.venue.exchange.accounts import Account, Order
from qkt.venue.exchange.exchange import Exchange
from qkt.venue.exchange.instruments import instrument_for
from qkt.venue.exchange.linear.contracts import contract_for
from qkt.venue.exchange.money import CONTEXT
from qkt.venue.exchange.retcodes import Refusal
from qkt.venue.exchange.rows import order_row
from qkt.venue.market import LiveMarket

DEPOSITS = {"USDT": Decimal(60_000), "USDC": Decimal(20_000), "BTC": Decimal(1)}
ACCOUNTS = ("alice", "bob", "carol")
CONTRACTS = ("BTCUSDT", "BTCPERP")

accounts = st.sampled_from(ACCOUNTS)
contracts = st.sampled_from(CONTRACTS)
sides = st.sampled_from(["Buy", "Sell"])
prices = st.integers(570_000, 630_000).map(lambda tenths: str(tenths / Decimal(10)))
quantities = st.integers(1, 3_000).map(lambda thousandths: str(thousandths / Decimal(1000)))


@st.composite
def contract_orders(draw: st.DrawFn) -> dict[str, Any]:
    body: dict[str, Any] = {
        "category": "linear",
        "symbol": draw(contracts),
        "side": draw(sides),
        "orderType": draw(st.sampled_from(["Limit", "Limit", "Market"])),
        "qty": draw(quantities),
        "positionIdx": draw(st.sampled_from([0, 0, 0, 1, 2])),
        "smpType": draw(st.sampled_from(["None", "None", "CancelMaker", "CancelBoth"])),
    }
    if body["orderType"] == "Limit":
        body["price"] = draw(prices)
        body["timeInForce"] = draw(st.sampled_from(["GTC", "GTC", "IOC", "FOK", "PostOnly"]))
    kind = draw(st.integers(0, 9))
    if kind < 2:
        body["reduceOnly"] = True
        body["closeOnTrigger"] = kind == 0
    elif kind < 4:
        body["triggerPrice"] = draw(prices)
        body["triggerDirection"] = draw(st.sampled_from([1, 2]))
        body["triggerBy"] = draw(st.sampled_from(["LastPrice", "MarkPrice"]))
    elif kind < 7:
        body["takeProfit"], body["stopLoss"] = draw(prices), draw(prices)
        body["tpslMode"] = draw(st.sampled_from(["Full", "Partial"]))
    return body


@st.composite
def spot_orders(draw: st.DrawFn) -> dict[str, Any]:
    body = {"category": "spot", "symbol": "BTCUSDT", "side": draw(sides), "qty": draw(quantities)}
    body |= {"orderType": "Limit", "price": draw(prices)}
    return body


class BothCategoriesMachine(RuleBasedStateMachine):
    """Three accounts (one isolated, one in hedge mode), and everything that may happen between them."""

    @initialize(leverage=st.sampled_from(["3", "10", "50"]))
    def open(self, leverage: str) -> None:
        self.now_ms = 1_767_225_600_000
        instruments = [instrument_for("BTCUSDT", 1), *(contract_for(symbol, 2) for symbol in CONTRACTS)]
        self.exchange = Exchange(lambda: self.now_ms, 1, instruments)
        self.deposited = {coin: amount * len(ACCOUNTS) for coin, amount in DEPOSITS.items()}
        for name in ACCOUNTS:
            self.exchange.add_account(name, "s", DEPOSITS)
            self.attempt(self.exchange.set_leverage, name, self.body(buyLeverage=leverage, sellLeverage=leverage))
        self.attempt(self.exchange.set_margin_mode, "bob", {"setMarginMode": "ISOLATED_MARGIN"})
        self.attempt(self.exchange.switch_mode, "carol", self.body(mode=3))
        self.market = LiveMarket(self.exchange, 1, volatility=20)

    def body(self, symbol: str = "BTCUSDT", **more: Any) -> dict[str, Any]:
        return {"category": "linear", "symbol": symbol, **more}

    def attempt(self, command: Callable[..., object], *arguments: Any, **options: Any) -> None:
        self.now_ms += 1
        found = [self.exchange.accounts.get(one, one) if isinstance(one, str) else one for one in arguments]
        with localcontext(CONTEXT), contextlib.suppress(Refusal, ValueError):
            command(*found, **options)

    def some_order(self, pick: int) -> Order | None:
        orders = [order for account in self.everyone() for order in account.open_orders.values()]
        return orders[pick % len(orders)] if orders else None

    def everyone(self) -> list[Account]:
        return list(self.exchange.accounts.values())

    @rule(account=accounts, body=contract_orders())
    def trade_a_contract(self, account: str, body: dict[str, Any]) -> None:
        self.attempt(self.exchange.create, account, body)

    @rule(account=accounts, body=spot_orders())
    def trade_a_coin(self, account: str, body: dict[str, Any]) -> None:
        self.attempt(self.exchange.create, account, body)

    @rule(pick=st.integers(0, 1000), price=prices, quantity=quantities)
    def amend(self, pick: int, price: str, quantity: str) -> None:
        if order := self.some_order(pick):
            key = {"category": order.instrument.category, "symbol": order.instrument.symbol}
            changed = {"triggerPrice": price} if order.is_conditional else {"price": price, "qty": quantity}
            self.attempt(self.exchange.amend, order.account, {**key, "orderId": order.order_id, **changed})

    @rule(pick=st.integers(0, 1000))
    def cancel(self, pick: int) -> None:
        if order := self.some_order(pick):
            key = {"category": order.instrument.category, "symbol": order.instrument.symbol}
            self.attempt(self.exchange.cancel, order.account, {**key, "orderId": order.order_id}, any_filter=True)

    @rule(pick=st.integers(0, 1000), quantity=quantities)
    def fill(self, pick: int, quantity: str) -> None:
        if order := self.some_order(pick):
            self.attempt(self.exchange.fill, order, Decimal(quantity), None)

    @rule(account=accounts, symbol=contracts, take=prices, stop=prices, index=st.sampled_from([0, 1, 2]))
    def protect(self, account: str, symbol: str, take: str, stop: str, index: int) -> None:
        body = self.body(symbol, tpslMode="Full", takeProfit=take, stopLoss=stop, positionIdx=index)
        self.attempt(self.exchange.set_trading_stop, account, body)

    @rule(account=accounts, symbol=contracts, distance=st.integers(10, 900), index=st.sampled_from([0, 1, 2]))
    def trail(self, account: str, symbol: str, distance: int, index: int) -> None:
        body = self.body(symbol, tpslMode="Full", trailingStop=str(distance), positionIdx=index)
        self.attempt(self.exchange.set_trading_stop, account, body)

    @rule(symbol=contracts, price=prices)
    def move_contract(self, symbol: str, price: str) -> None:
        self.attempt(self.exchange.move_price, self.exchange.books["linear", symbol], Decimal(price))

    @rule(symbol=contracts, percent=st.integers(70, 130))
    def jump_of_the_mark_price(self, symbol: str, percent: int) -> None:
        book = self.exchange.books["linear", symbol]
        mark = (book.last_price * percent / 100).quantize(Decimal("0.1"))
        self.attempt(self.exchange.pin_prices, book, mark=mark, index=None)

    @rule(symbol=contracts)
    def mark_follows_last(self, symbol: str) -> None:
        self.attempt(self.exchange.pin_prices, self.exchange.books["linear", symbol], mark=None, index=None)

    @rule(price=prices)
    def move_coin(self, price: str) -> None:
        self.attempt(self.exchange.move_price, self.exchange.books["spot", "BTCUSDT"], Decimal(price))

    @rule(symbol=contracts, rate=st.integers(-300, 300))
    def fund(self, symbol: str, rate: int) -> None:
        book = self.exchange.books["linear", symbol]
        book.funding_rate = Decimal(rate) / 100_000 + Decimal("0.000000123")
        self.attempt(self.exchange.fund, book)

    @rule(account=accounts, pick=st.integers(0, 5), quantity=quantities)
    def deleverage(self, account: str, pick: int, quantity: str) -> None:
        held = [one for one in self.exchange.accounts[account].positions.values() if one.size]
        if held:
            position = held[pick % len(held)]
            mark = self.exchange.engine.margin.mark(position.contract)
            self.attempt(self.exchange.deleverage, account, position, Decimal(quantity), mark)

    @rule(account=accounts, pick=st.integers(0, 5))
    def liquidate(self, account: str, pick: int) -> None:
        held = [one for one in self.exchange.accounts[account].positions.values() if one.size]
        if held:
            self.attempt(self.exchange.liquidate, account, held[pick % len(held)])

    @rule()
    def live(self) -> None:
        self.attempt(self.market.step)

    @rule(account=accounts, amount=st.integers(-500, 1000))
    def transfer(self, account: str, amount: int) -> None:
        self.attempt(self.exchange.deposit, account, "USDT", Decimal(amount))
        self.deposited["USDT"] += amount

    @invariant()
    def equity_in_equals_equity_out(self) -> None:
        with localcontext(CONTEXT):
            for coin, amount in self.deposited.items():
                assert self.exchange.total(coin) == amount

    @invariant()
    def longs_equal_shorts(self) -> None:
        everyone = [*self.everyone(), self.exchange.engine.house]
        for symbol in CONTRACTS:
            sizes = [one.size for who in everyone for one in who.positions.values() if one.contract.symbol == symbol]
            assert sum(sizes) == 0
            assert self.exchange.books["linear", symbol].open_interest == sum(size for size in sizes if size > 0)

    @invariant()
    def logs_add_up_to_wallets(self) -> None:
        with localcontext(CONTEXT):
            for account in self.everyone():
                sums: dict[str, Decimal] = {}
                for transaction in account.transactions:
                    sums[transaction.currency] = sums.get(transaction.currency, Decimal(0)) + transaction.change
                assert sums == {coin: balance.total for coin, balance in account.wallet.items() if coin in sums}

    @invariant()
    def executions_add_up_to_positions_and_orders(self) -> None:
        for account in self.everyone():
            filled: dict[str, Decimal] = {}
            signed: dict[str, Decimal] = {}
            for execution in account.executions:
                if execution.exec_type == "Funding" or execution.instrument.category != "linear":
                    continue
                filled[execution.order_id] = filled.get(execution.order_id, Decimal(0)) + execution.quantity
                symbol, sign = execution.instrument.symbol, 1 if execution.side == "Buy" else -1
                signed[symbol] = signed.get(symbol, Decimal(0)) + sign * execution.quantity
            for symbol in CONTRACTS:
                held = sum(one.size for one in account.positions.values() if one.contract.symbol == symbol)
                assert held == signed.get(symbol, 0)
            for order in account.orders.values():
                if order.is_linear:
                    assert order.cum_quantity == filled.get(order.order_id, 0) <= order.quantity

    @invariant()
    def reducing_orders_stay_within_their_positions(self) -> None:
        for account in self.everyone():
            for position in account.positions.values():
                for side in ("Buy", "Sell"):
                    resting = [
                        order.leaves_quantity
                        for order in account.open_orders.values()
                        if order.is_resting
                        and order.reduce_only
                        and order.side == side
                        and order.instrument is position.contract
                        and order.position_idx == position.index
                    ]
                    assert sum(resting) <= position.closable_by(side)

    @invariant()
    def exits_stand_only_with_a_position(self) -> None:
        for account in self.everyone():
            for order in account.open_orders.values():
                if order.is_conditional and order.is_linear and order.stop_kind != "Stop":
                    position = account.position(order.contract, order.position_idx)
                    assert position.closable_by(order.side) > 0
                    assert order.pair is None or order.pair.is_conditional

    @invariant()
    def order_margin_is_what_resting_orders_hold(self) -> None:
        with localcontext(CONTEXT):
            for account in self.everyone():
                for coin, balance in account.wallet.items():
                    held = [order.locked for order in account.open_orders.values() if order.lock_coin == coin]
                    linear = [
                        order.locked
                        for order in account.open_orders.values()
                        if order.is_linear and order.lock_coin == coin
                    ]
                    assert balance.order_margin == sum(linear) >= 0
                    assert balance.locked == sum(held) - sum(linear) >= 0

    @invariant()
    def no_book_is_crossed_and_rows_can_be_written(self) -> None:
        for book in self.exchange.books.values():
            bids, asks = book.resting("Buy"), book.resting("Sell")
            assert not (bids and asks) or bids[0].price < asks[0].price
            for order in bids + asks:
                assert order.is_open
                assert not order.is_conditional
                assert order_row(order, stream=True)["orderStatus"] in ("New", "PartiallyFilled")


_QUICK = settings(max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))
TestConservationOfBothCategories = BothCategoriesMachine.TestCase
TestConservationOfBothCategories.settings = _QUICK


class LongerMachine(BothCategoriesMachine):
    """The same for longer."""


TestConservationOfBothAtLength = pytest.mark.timeout(600)(pytest.mark.verify(LongerMachine.TestCase))
TestConservationOfBothAtLength.settings = settings(_QUICK, max_examples=300, stateful_step_count=80)
