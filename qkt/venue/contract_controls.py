"""What a test does to the perpetual contracts of a venue: mark price, funding, liquidation, auto-deleveraging."""

from __future__ import annotations

from typing import Any

from .controls import Amount, Controls, to_amount
from .exchange.accounts import Account
from .exchange.linear.positions import Position
from .exchange.linear.requests import contract_of
from .exchange.linear.rows import position_row
from .exchange.money import wire
from .exchange.rows import order_row


class ContractControls(Controls):
    """The commands for category ``linear``; all others take ``category="linear"`` where they name a symbol."""

    def set_mark_price(self, symbol: str, price: Amount | None) -> None:
        """Set a contract's mark price: triggers by mark price fire, positions that cannot bear it are liquidated.

        Args:
            price: None lets it follow the last price again, as it does until it is set.
        """
        with self._exclusive():
            book = self._book(symbol, "linear")
            self._exchange.journal.note("mark price", symbol=symbol, price=str(price))
            mark = None if price is None else to_amount(price)
            self._exchange.pin_prices(book, mark=mark, index=book.pinned_index)

    def set_index_price(self, symbol: str, price: Amount | None) -> None:
        """Set a contract's index price: triggers by index price fire; None lets it follow the last price again."""
        with self._exclusive():
            book = self._book(symbol, "linear")
            self._exchange.journal.note("index price", symbol=symbol, price=str(price))
            index = None if price is None else to_amount(price)
            self._exchange.pin_prices(book, mark=book.pinned_mark, index=index)

    def set_funding_rate(self, symbol: str, rate: Amount) -> None:
        """Set the rate of the coming fundings of a contract; positive rates are paid by long positions."""
        with self._exclusive():
            self._book(symbol, "linear").funding_rate = to_amount(rate)

    def fund(self, symbol: str, rate: Amount | None = None) -> None:
        """Let every position of a contract pay or receive one funding now; the schedule goes on unchanged."""
        with self._exclusive():
            book = self._book(symbol, "linear")
            if rate is not None:
                book.funding_rate = to_amount(rate)
            self._exchange.fund(book)

    def liquidate(self, symbol: str, account: str = "key", *, position_idx: int | None = None) -> dict[str, Any]:
        """Take a position over at its bankruptcy price whatever its margin; returns the position's row.

        Raises:
            ValueError: there is no position.
        """
        with self._exclusive():
            owner, position = self._position(symbol, account, position_idx)
            self._exchange.liquidate(owner, position)
            return position_row(owner, position, self._exchange.engine.margin, stream=False)

    def adl(
        self,
        symbol: str,
        quantity: Amount | None = None,
        account: str = "key",
        *,
        price: Amount | None = None,
        position_idx: int | None = None,
    ) -> dict[str, Any]:
        """Close a position, or part of it, by auto-deleveraging; returns the order's row.

        Args:
            quantity: all of the position by default.
            price: the bankruptcy price of the other side; the mark price by default.

        Raises:
            ValueError: there is not that much to close.
        """
        with self._exclusive():
            owner, position = self._position(symbol, account, position_idx)
            at = self._exchange.engine.margin.mark(position.contract) if price is None else to_amount(price)
            wanted = None if quantity is None else to_amount(quantity)
            return order_row(self._exchange.deleverage(owner, position, wanted, at), stream=True)

    def add_insurance(self, coin: str, amount: Amount) -> None:
        """Add money to the insurance fund, which pays for takeovers below the bankruptcy price before ADL does."""
        with self._exclusive():
            self._exchange.linear.liquidation.insurance.deposit(coin, to_amount(amount))

    def positions(self, account: str = "key") -> list[dict[str, Any]]:
        """The open positions of an account, as ``position/list`` shows them."""
        with self._exclusive():
            owner = self._exchange.accounts[account]
            margin = self._exchange.engine.margin
            return [position_row(owner, position, margin, stream=False) for position in margin.positions(owner)]

    def funding_rate(self, symbol: str) -> str:
        """The rate of the coming funding of a contract."""
        with self._exclusive():
            return wire(self._book(symbol, "linear").funding_rate)

    def _position(self, symbol: str, account: str, index: int | None) -> tuple[Account, Position]:
        """The position named, or the only one that is open."""
        owner = self._exchange.accounts[account]
        contract = contract_of(self._book(symbol, "linear"))
        if index is None:
            held = [one for one in owner.positions.values() if one.contract is contract and one.size]
            if len(held) > 1:
                raise ValueError(f"{symbol} has a long and a short position: say position_idx")
            index = held[0].index if held else 0
        return owner, owner.position(contract, index)
