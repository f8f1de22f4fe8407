"""Funding: every interval, longs and shorts pay each other by the mark price (docs v5/market/history-fund-rate).

A payment is an execution of type ``Funding`` without an order behind it. The positions of all accounts and of the
house add up to zero, and so do the payments.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from ..accounts import Account
from ..book import Book
from ..engine import Engine
from ..executions import Execution
from ..money import ZERO, wire
from ..transactions import Transaction
from .positions import Position
from .requests import contract_of

DEFAULT_RATE = Decimal("0.0001")


@dataclass(frozen=True, slots=True)
class FundingRate:
    """One settled rate, as ``market/funding/history`` lists it."""

    time_ms: int
    rate: Decimal


class Funding:
    """Rates, schedule and payments of all contracts."""

    def __init__(self, engine: Engine, accounts: Callable[[], Iterable[Account]]) -> None:
        self._engine = engine
        self._accounts = accounts
        self.history: dict[str, list[FundingRate]] = {}

    def open(self, book: Book) -> None:
        """Start a contract's schedule; settlements lie on multiples of the interval in UTC."""
        interval_ms = contract_of(book).funding_interval_ms
        book.funding_rate = DEFAULT_RATE
        book.next_funding_ms = (self._engine.now_ms() // interval_ms + 1) * interval_ms

    def settle_due(self, books: Iterable[Book], now_ms: int) -> bool:
        """Settle whatever is due; True when anything was."""
        settled = False
        for book in books:
            while book.next_funding_ms <= now_ms:
                due_ms = book.next_funding_ms
                book.next_funding_ms = due_ms + contract_of(book).funding_interval_ms
                self.settle(book, due_ms)
                settled = True
        return settled

    def settle(self, book: Book, time_ms: int) -> None:
        """Book one funding payment on every position of a contract."""
        contract, rate = contract_of(book), book.funding_rate
        self.history.setdefault(contract.symbol, []).append(FundingRate(time_ms, rate))
        self._engine.journal.note("funding", symbol=contract.symbol, rate=wire(rate), markPrice=wire(book.mark_price))
        seq = self._engine.ids.next_seq()
        for account in self._accounts():
            for position in account.positions.values():
                if position.contract is contract and position.size:
                    self._pay(account, position, book, rate, seq, time_ms)
        house = self._engine.house
        payment = house.position(contract, 0).size * book.mark_price * rate
        house.balance(contract.settle).total -= payment

    def _pay(self, account: Account, position: Position, book: Book, rate: Decimal, seq: int, time_ms: int) -> None:
        contract = position.contract
        payment = position.size * book.mark_price * rate
        balance = account.balance(contract.settle)
        balance.total -= payment
        account.realised[contract.settle] = account.realised.get(contract.settle, ZERO) - payment
        position.current_realised -= payment
        position.total_realised -= payment
        position.updated_ms, position.seq = self._engine.now_ms(), seq
        order_id = f"{time_ms}-8-{account.uid}-{contract.symbol_id}-{position.index}"
        execution = Execution(
            exec_id=self._engine.ids.uuid(),
            number=self._engine.ids.next_execution(),
            seq=seq,
            order_id=order_id,
            link_id="",
            instrument=contract,
            side=position.side,
            order_type="UNKNOWN",
            stop_order_type="UNKNOWN",
            market_unit="",
            is_leverage="",
            order_price=ZERO,
            order_quantity=ZERO,
            leaves_quantity=ZERO,
            price=book.mark_price,
            quantity=position.quantity,
            value=position.quantity * book.mark_price,
            fee=payment,
            fee_coin=contract.settle,
            fee_rate=rate if position.is_long else -rate,
            is_maker=False,
            time_ms=self._engine.now_ms(),
            exec_type="Funding",
            create_type="",
            mark_price=book.mark_price,
            index_price=book.index_price,
        )
        account.book_execution(execution)
        account.log(
            Transaction(
                number=account.next_transaction(),
                kind="SETTLEMENT",
                category="linear",
                symbol=contract.symbol,
                base=contract.base,
                side=position.side,
                currency=contract.settle,
                time_ms=execution.time_ms,
                cash_balance=balance.total,
                funding=-payment,
                fee_rate=execution.fee_rate,
                quantity=position.quantity,
                size=position.size,
                price=book.mark_price,
                trade_id=execution.exec_id,
                order_id=order_id,
            )
        )
        self._engine.journal.note(
            "execution", account.key, execId=execution.exec_id, execType="Funding", execFee=wire(payment)
        )
        self._engine.outbox.execution(account, execution)
        self._engine.outbox.position(account, position)
        self._engine.outbox.coin(account, contract.settle)
