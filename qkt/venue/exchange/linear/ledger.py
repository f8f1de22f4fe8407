"""Settlement of contracts: trades change positions, profit and fees change the wallet of the settle coin."""

from __future__ import annotations

from decimal import Decimal

from ..accounts import Account, Order
from ..book import Trade
from ..engine import Engine
from ..executions import Execution
from ..money import ZERO
from ..transactions import Transaction
from .closed import ClosedPnl
from .contracts import Contract
from .margin import on_tick
from .positions import Change, Position
from .reduction import Reduction

_KINDS = {"Trade": "TRADE", "BustTrade": "LIQUIDATION", "AdlTrade": "ADL"}


class LinearLedger:
    """The ledger of contracts."""

    insufficient = 110007

    def __init__(self, engine: Engine, reduction: Reduction) -> None:
        self._engine = engine
        self._reduction = reduction
        self.touched: dict[tuple[int, str, int], tuple[Account, Position]] = {}
        """Positions that trades changed since the last `Linear.settle_down`."""
        self.filled: dict[str, Order] = {}
        """Orders with attached exits that filled, wholly or in part, since then."""
        self._closed = 0

    def needs(self, order: Order) -> Decimal:
        """Initial margin of what the order may open; zero for what only closes."""
        return self._engine.margin.for_order(order.account, order, self._reduction.opening(order))

    def spendable(self, order: Order) -> Decimal:
        return self._engine.margin.available(order.account, order.lock_coin)

    def prepare(self, order: Order, /) -> bool:
        """Trim a reducing order to its position, and give a market order its protective price."""
        if self._reduction.only_reduces(order):
            self.touch(order.account, order.account.position(order.contract, order.position_idx))
            if not self._reduction.trim(order):
                return False
        if order.order_type == "Market":
            limit = self._engine.protective_price(order)
            order.price = max(order.instrument.tick, on_tick(limit, order.contract, up=not order.is_buy))
        return True

    def settle(self, order: Order, trade: Trade, seq: int, *, is_maker: bool) -> None:
        self.book(order, trade.quantity, trade.price, seq, is_maker=is_maker)

    def book(
        self,
        order: Order,
        quantity: Decimal,
        price: Decimal,
        seq: int,
        *,
        is_maker: bool = False,
        exec_type: str = "Trade",
    ) -> Execution:
        """Book one side of a trade on position, wallet and records."""
        account, contract = order.account, order.contract
        position = account.position(contract, order.position_idx)
        long_before = max(ZERO, position.size)
        change = position.apply(order.side, quantity, price)
        self._engine.books[contract.key].open_interest += max(ZERO, position.size) - long_before
        rate = account.linear_maker_rate if is_maker else account.linear_taker_rate
        fee = quantity * price * rate
        opening_fee = fee if not change.closed else fee * change.opened / quantity if change.opened else ZERO
        position.open_fees += opening_fee
        order.cum_quantity += quantity
        order.cum_value += quantity * price
        order.fees[contract.settle] = order.fees.get(contract.settle, ZERO) + fee
        self._pay(account, position, change.profit, fee)
        self._stamp(position, change, seq, change.profit - fee)
        execution = self._engine.record(
            order,
            price=price,
            quantity=quantity,
            fee=fee,
            fee_coin=contract.settle,
            rate=rate,
            seq=seq,
            is_maker=is_maker,
            exec_type=exec_type,
            closed_size=change.closed,
            profit=change.profit,
        )
        if change.closed:
            self._book_closed(order, position, change, price, fee - opening_fee, exec_type)
        self._log(order, position, execution, change.profit)
        self.touch(account, position)
        if order.take_profit or order.stop_loss:
            self.filled[order.order_id] = order
        return execution

    def settle_house(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        self.book_house(order.contract, "Sell" if order.is_buy else "Buy", quantity, price)

    def book_house(self, contract: Contract, side: str, quantity: Decimal, price: Decimal) -> None:
        """The house takes the other side: a position and its profit, no fee."""
        house = self._engine.house
        position = house.position(contract, 0)
        long_before = max(ZERO, position.size)
        change = position.apply(side, quantity, price)
        self._engine.books[contract.key].open_interest += max(ZERO, position.size) - long_before
        house.balance(contract.settle).total += change.profit

    def fillable(self, order: Order, quantity: Decimal, /) -> Decimal:
        return self._reduction.fillable(order, quantity)

    def after_fill(self, order: Order, /) -> None:
        self._reduction.rebalance(order.account, order.contract, order.position_idx)

    def after_change(self, order: Order, /) -> None:
        """A position frame goes out with every order action, even when nothing about the position changed."""
        position = order.account.position(order.contract, order.position_idx)
        self._engine.outbox.position(order.account, position)

    def cancelled_as(self, _order: Order, /) -> str:
        return "Cancelled"

    def touch(self, account: Account, position: Position) -> None:
        """Note that a position changed; what depends on it is brought up to date at the end of the command."""
        self.touched[(account.uid, *position.key)] = (account, position)

    def _pay(self, account: Account, position: Position, profit: Decimal, fee: Decimal) -> None:
        coin = position.contract.settle
        account.balance(coin).total += profit - fee
        account.realised[coin] = account.realised.get(coin, ZERO) + profit - fee
        self._engine.fee_pot.balance(coin).total += fee
        self._engine.outbox.coin(account, coin)

    def _stamp(self, position: Position, change: Change, seq: int, realised: Decimal) -> None:
        now_ms = self._engine.now_ms()
        if change.opened and position.quantity == change.opened:
            position.opened_ms = now_ms
            position.current_realised = ZERO
        position.current_realised += realised
        position.total_realised += realised
        position.created_ms = position.created_ms or now_ms
        position.updated_ms = now_ms
        position.seq = seq

    def _book_closed(
        self, order: Order, position: Position, change: Change, price: Decimal, fee: Decimal, exec_type: str
    ) -> None:
        account, now_ms = order.account, self._engine.now_ms()
        record = account.closed_of.get(order.order_id)
        if record is None:
            self._closed += 1
            record = account.closed_of[order.order_id] = ClosedPnl(
                number=self._closed,
                order_id=order.order_id,
                contract=order.contract,
                side=order.side,
                order_type=order.order_type,
                execution_kind=exec_type,
                order_price=order.price,
                order_quantity=order.quantity,
                leverage=position.leverage,
                created_ms=now_ms,
                updated_ms=now_ms,
            )
            account.closed_timeline.add(now_ms, record.number, record)
        record.closed += change.closed
        record.entry_value += change.entry_value
        record.exit_value += change.closed * price
        record.open_fee += change.open_fee
        record.close_fee += fee
        record.fills += 1
        record.updated_ms = now_ms
        order.closed_pnl = record.profit

    def _log(self, order: Order, position: Position, execution: Execution, profit: Decimal) -> None:
        account, contract = order.account, order.contract
        account.log(
            Transaction(
                number=account.next_transaction(),
                kind=_KINDS[execution.exec_type],
                category="linear",
                symbol=contract.symbol,
                base=contract.base,
                side=order.side,
                currency=contract.settle,
                time_ms=execution.time_ms,
                cash_flow=profit,
                cash_balance=account.balance(contract.settle).total,
                fee=execution.fee,
                fee_rate=execution.fee_rate,
                quantity=execution.quantity,
                size=position.size,
                price=execution.price,
                trade_id=execution.exec_id,
                order_id=order.order_id,
                link_id=order.link_id,
            )
        )
