"""`CostKeeper`: what trading costs, from the executions and funding rows that frames and rounds bring."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from qkt.broker.state import BrokerState
from qkt.events import BrokerEvent, FundingPaid, Origin
from qkt.model.costs import CostStatement, FundingPayment
from qkt.orders.facts import ExecutionReported
from qkt.orders.ledger import Change
from qkt.reconcile.costs import CostBook


class CostKeeper:
    """Costs of one broker. Safe from any thread."""

    def __init__(self, state: BrokerState) -> None:
        self._state = state
        self._lock = threading.Lock()
        self._book = CostBook()

    def note(self, changes: Iterable[Change]) -> None:
        """Count the executions among what was learnt; those from before the broker's window are left out."""
        learnt = [change.fact for change in changes if change.is_news and isinstance(change.fact, ExecutionReported)]
        if learnt:
            with self._lock:
                for fact in learnt:
                    if not fact.is_historic:
                        self._book.add_execution(fact.execution)

    def note_funding(self, payments: Iterable[FundingPayment], origin: Origin) -> None:
        """Count funding payments and queue a `FundingPaid` for each new one; deliver afterwards."""
        with self._lock:
            new = [payment for payment in payments if self._book.add_funding(payment)]
            events: list[BrokerEvent] = [
                FundingPaid(
                    symbol=payment.symbol,
                    side=payment.side,
                    quantity=payment.quantity,
                    amount=payment.amount,
                    currency=payment.currency,
                    price=payment.price,
                    rate=payment.rate,
                    exec_id=payment.exec_id,
                    exec_time_ms=payment.time_ms,
                    source=self._state.source,
                    origin=origin,
                )
                for payment in new
            ]
            if events:
                self._state.publish(events)

    def statement(self, symbol: str, since_ms: int) -> CostStatement:
        """Fees, taxes and funding of one symbol."""
        with self._lock:
            return self._book.statement(symbol, since_ms)
