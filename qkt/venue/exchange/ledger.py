"""The protocol of settlement: the part of trading that differs between coins and contracts."""

from __future__ import annotations

from decimal import Decimal
from typing import Protocol

from .accounts import Order
from .book import Trade


class Ledger(Protocol):
    """Funds and settlement of one category; the engine matches, the ledger books the money."""

    insufficient: int
    """The retCode of an order that cannot be paid for."""

    def needs(self, order: Order) -> Decimal:
        """The amount the open remainder of an order locks, in its lock coin."""

    def spendable(self, order: Order) -> Decimal:
        """The amount of the lock coin the account can still lock."""

    def prepare(self, order: Order, /) -> bool:
        """Fit an order to the account before it matches; False when the order was closed instead."""

    def settle(self, order: Order, trade: Trade, seq: int, *, is_maker: bool) -> None:
        """Book one side of a trade: money, fee, the order's sums and the execution record."""

    def settle_house(self, order: Order, quantity: Decimal, price: Decimal) -> None:
        """Book the other side of a trade with a synthetic counterparty."""

    def fillable(self, order: Order, quantity: Decimal, /) -> Decimal:
        """How much of a quantity a resting order may still trade."""

    def after_fill(self, order: Order, /) -> None:
        """React to a fill once the order's new state is known."""

    def after_change(self, order: Order, /) -> None:
        """React to any new state of an order."""

    def cancelled_as(self, order: Order, /) -> str:
        """The status of an order that ends before it is filled."""
