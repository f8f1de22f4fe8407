"""Liquidation and auto-deleveraging.

When the maintenance margin is no longer covered, the venue cancels the account's contract orders and, if that is not
enough, takes positions over at their bankruptcy price (execution of type ``BustTrade``). The insurance fund sells what
it took at the mark price and keeps the difference; when that is a loss it cannot pay, the most profitable opposite
positions are closed against the takeover instead, at the bankruptcy price (``AdlTrade``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

from ..accounts import Account, Order
from ..engine import Engine
from ..money import ZERO, wire
from .contracts import Contract
from .ledger import LinearLedger
from .margin import ISOLATED
from .positions import Position


class Liquidation:
    """Takes positions over, on demand and when the mark price requires it."""

    def __init__(self, engine: Engine, ledger: LinearLedger, accounts: Callable[[], Iterable[Account]]) -> None:
        self._engine = engine
        self._ledger = ledger
        self._accounts = accounts
        self.insurance: Account = Account("insurance", "", 2, ZERO, ZERO)

    def check(self) -> bool:
        """Liquidate every account that no longer covers its maintenance margin; True when any was touched."""
        acted = False
        for account in self._accounts():
            if any(position.size for position in account.positions.values()):
                acted |= (
                    self._check_isolated(account) if account.margin_mode == ISOLATED else self._check_cross(account)
                )
        return acted

    def take_over(self, account: Account, position: Position) -> None:
        """Close a position at its bankruptcy price, its orders cancelled before."""
        self._cancel_orders(account, position.contract)
        position.status = "Liq"
        self._engine.outbox.position_now(account, position)
        price = self._engine.margin.bankruptcy_price(account, position)
        quantity, side = position.quantity, "Sell" if position.is_long else "Buy"
        self._engine.journal.note("liquidation", account.key, symbol=position.contract.symbol, bustPrice=wire(price))
        order = self._system_order(account, position, side, quantity, price, "CreateByTakeOver_PassThrough")
        self._execute(order, quantity, price, "BustTrade")
        position.status = "Normal"
        self._absorb(position.contract, "Buy" if side == "Sell" else "Sell", quantity, price)

    def deleverage(self, account: Account, position: Position, quantity: Decimal, price: Decimal) -> Order:
        """Close part of a position as auto-deleveraging does; the house takes the other side.

        Raises:
            ValueError: there is not that much to close.
        """
        if not ZERO < quantity <= position.quantity:
            raise ValueError(f"the position holds {wire(position.quantity)}: cannot deleverage {wire(quantity)}")
        order = self._deleverage(account, position, quantity, price)
        self._ledger.settle_house(order, quantity, price)
        return order

    def _check_cross(self, account: Account) -> bool:
        margin, acted = self._engine.margin, False
        while True:
            summary = margin.summary(account)
            held = [position for position in account.positions.values() if position.size]
            if not held or summary.maintenance < summary.balance:
                return acted
            acted = True
            if self._cancel_orders(account, None):
                continue
            self.take_over(account, max(held, key=lambda position: margin.maintenance(account, position)))

    def _check_isolated(self, account: Account) -> bool:
        margin, acted = self._engine.margin, False
        for position in list(account.positions.values()):
            if not position.size:
                continue
            balance = margin.initial(account, position) + margin.profit(position)
            if balance <= margin.maintenance(account, position):
                self.take_over(account, position)
                acted = True
        return acted

    def _cancel_orders(self, account: Account, contract: Contract | None) -> int:
        """Cancel the account's contract orders before a takeover; returns how many there were."""
        chosen = [
            order
            for order in account.open_orders.values()
            if order.is_linear and (contract is None or order.instrument is contract)
        ]
        for order in chosen:
            order.pair = None
            self._engine.cancel(order, cancel_type="CancelAllBeforeLiq", reject_reason="EC_NoError")
        return len(chosen)

    def _absorb(self, contract: Contract, side: str, quantity: Decimal, price: Decimal) -> None:
        """What becomes of a position taken over: the fund's business, or that of the winners when it is a loss."""
        mark = self._engine.margin.mark(contract)
        gain = (price - mark if side == "Sell" else mark - price) * quantity
        if gain + self.insurance.balance(contract.settle).total < 0:
            quantity -= self._deleverage_winners(contract, side, quantity, price)
            gain = (price - mark if side == "Sell" else mark - price) * quantity
        if quantity:
            self._ledger.book_house(contract, side, quantity, mark)
            self.insurance.balance(contract.settle).total += gain

    def _deleverage_winners(self, contract: Contract, side: str, quantity: Decimal, price: Decimal) -> Decimal:
        """Close opposite positions in the order of their rank; returns how much of the quantity they took."""
        margin, taken = self._engine.margin, ZERO
        candidates = [
            (margin.profit(position) / abs(position.entry_value) * position.leverage, account, position)
            for account in self._accounts()
            for position in account.positions.values()
            if position.contract is contract and position.closable_by(side) and margin.profit(position) > 0
        ]
        for _, account, position in sorted(candidates, key=lambda found: found[0], reverse=True):
            part = min(position.quantity, quantity - taken)
            if part <= 0:
                break
            self._deleverage(account, position, part, price)
            taken += part
        return taken

    def _deleverage(self, account: Account, position: Position, quantity: Decimal, price: Decimal) -> Order:
        self._cancel_before_adl(account, position)
        position.status = "Adl"
        self._engine.outbox.position_now(account, position)
        side = "Sell" if position.is_long else "Buy"
        order = self._system_order(account, position, side, quantity, price, "CreateByAdl_PassThrough")
        self._execute(order, quantity, price, "AdlTrade")
        position.status = "Normal"
        return order

    def _cancel_before_adl(self, account: Account, position: Position) -> None:
        for order in list(account.open_orders.values()):
            if order.is_resting and order.instrument is position.contract and order.position_idx == position.index:
                self._engine.cancel(order, cancel_type="CancelAllBeforeAdl", reject_reason="EC_NoError")

    def _system_order(
        self, account: Account, position: Position, side: str, quantity: Decimal, price: Decimal, create_type: str
    ) -> Order:
        order = Order(
            order_id="",
            link_id="",
            account=account,
            instrument=position.contract,
            side=side,
            order_type="Limit",
            time_in_force="IOC",
            quantity=quantity,
            price=price,
            is_leverage="",
            position_idx=position.index,
            reduce_only=True,
            create_type=create_type,
            outside=True,
        )
        self._engine.register(order)
        return order

    def _execute(self, order: Order, quantity: Decimal, price: Decimal, exec_type: str) -> None:
        self._ledger.book(order, quantity, price, self._engine.ids.next_seq(), exec_type=exec_type)
        self._engine.close(order, "Filled")
