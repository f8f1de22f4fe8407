"""Spot settlement: coins are exchanged, fees are taken from the received coin."""

from __future__ import annotations

from decimal import Decimal

from .accounts import Account, Order
from .book import Trade
from .engine import Engine
from .money import ZERO
from .transactions import Transaction


class SpotLedger:
    """The ledger of coins."""

    insufficient = 170131

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def needs(self, order: Order) -> Decimal:
        """The amount an order locks; fees are not included, they are taken from the received coin."""
        if not order.is_buy:
            return self._engine.plan(order).quantity if order.in_quote else order.quantity - order.cum_quantity
        if order.in_quote:
            return order.quantity - order.cum_value
        if order.order_type == "Limit":
            return order.price * (order.quantity - order.cum_quantity)
        if order.trigger_price and order.order_filter != "StopOrder":
            return order.trigger_price * order.quantity
        return self._engine.plan(order).value

    def spendable(self, order: Order) -> Decimal:
        return self._engine.margin.spendable(order.account, order.lock_coin)

    def prepare(self, _order: Order, /) -> bool:
        return True

    def settle(self, order: Order, trade: Trade, seq: int, *, is_maker: bool) -> None:
        account, instrument = order.account, order.instrument
        price, quantity = trade.price, trade.quantity
        value = price * quantity
        rate = account.maker_fee_rate if is_maker else account.taker_fee_rate
        in_base = order.is_buy != (is_maker and rate < 0)
        fee = (quantity if in_base else value) * rate
        fee_coin = instrument.base if in_base else instrument.quote
        sign = 1 if order.is_buy else -1
        account.balance(instrument.base).total += sign * quantity
        account.balance(instrument.quote).total -= sign * value
        account.balance(fee_coin).total -= fee
        self._engine.fee_pot.balance(fee_coin).total += fee
        order.cum_quantity += quantity
        order.cum_value += value
        order.fees[fee_coin] = order.fees.get(fee_coin, ZERO) + fee
        execution = self._engine.record(
            order, price=price, quantity=quantity, fee=fee, fee_coin=fee_coin, rate=rate, seq=seq, is_maker=is_maker
        )
        for coin, flow in ((instrument.base, sign * quantity), (instrument.quote, -sign * value)):
            self._log(order, account, coin, flow, price, fee if coin == fee_coin else ZERO, rate, execution.exec_id)
            self._engine.outbox.coin(account, coin)

    def settle_house(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        sign = 1 if order.is_buy else -1
        house = self._engine.house
        house.balance(order.instrument.base).total -= sign * quantity
        house.balance(order.instrument.quote).total += sign * quantity * price

    def fillable(self, _order: Order, quantity: Decimal, /) -> Decimal:
        return quantity

    def after_fill(self, _order: Order, /) -> None:
        """Nothing to do on spot."""

    def after_change(self, _order: Order, /) -> None:
        """Nothing to do on spot."""

    def cancelled_as(self, order: Order, /) -> str:
        return "PartiallyFilledCanceled" if order.cum_quantity else "Cancelled"

    def _log(
        self,
        order: Order,
        account: Account,
        coin: str,
        flow: Decimal,
        price: Decimal,
        fee: Decimal,
        rate: Decimal,
        exec_id: str,
    ) -> None:
        account.log(
            Transaction(
                number=account.next_transaction(),
                kind="TRADE",
                category="spot",
                symbol=order.instrument.symbol,
                base=order.instrument.base,
                side=order.side,
                currency=coin,
                time_ms=self._engine.now_ms(),
                cash_flow=flow,
                cash_balance=account.balance(coin).total,
                fee=fee,
                fee_rate=rate,
                quantity=flow,
                price=price,
                trade_id=exec_id,
                order_id=order.order_id,
                link_id=order.link_id,
            )
        )
