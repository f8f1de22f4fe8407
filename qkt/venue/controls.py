"""The commands of a test: accounts, money, prices, fills and cancels from outside the API, and the true state."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal, localcontext
from typing import Any

from .api.status import SystemStatus
from .exchange.book import Book
from .exchange.exchange import Exchange
from .exchange.money import CONTEXT, parse, wire
from .exchange.rows import order_row

Amount = str | int | float | Decimal


class Controls:
    """Base of `SimulatedBybit`: the commands that no client can give through the API.

    Every command may be called from any thread and takes effect before it returns.
    """

    def __init__(self, exchange: Exchange, status: SystemStatus) -> None:
        self._exchange = exchange
        self._status = status
        self._lock = threading.RLock()

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Hold the venue's lock, with a decimal context of enough digits."""
        with self._lock, localcontext(CONTEXT):
            yield

    def add_account(
        self,
        key: str,
        secret: str,
        balances: Mapping[str, Amount] | None = None,
        *,
        taker_fee_rate: Amount = "0.001",
        maker_fee_rate: Amount = "0.001",
        linear_taker_fee_rate: Amount = "0.00055",
        linear_maker_fee_rate: Amount = "0.0002",
        read_only: bool = False,
    ) -> None:
        """Open an account; a negative maker rate pays rebates, in the other coin (docs v5/enum, spot fee currency)."""
        with self._exclusive():
            self._exchange.add_account(
                key,
                secret,
                {coin: to_amount(amount) for coin, amount in (balances or {}).items()},
                taker_fee_rate=to_amount(taker_fee_rate),
                maker_fee_rate=to_amount(maker_fee_rate),
                linear_taker_fee_rate=to_amount(linear_taker_fee_rate),
                linear_maker_fee_rate=to_amount(linear_maker_fee_rate),
                read_only=read_only,
            )

    def expire_key(self, account: str = "key", *, expired: bool = True) -> None:
        """Expire an API key (33004 from then on), or renew it."""
        with self._exclusive():
            self._exchange.accounts[account].expired = expired

    def truth(self, account: str = "key") -> dict[str, Any]:
        """All orders, executions and balances of an account, including what the API no longer shows.

        Returns:
            ``{"orders": [...], "executions": [...], "positions": [...], "balances": {coin: {...}}, "journal":
            [...]}``, JSON-able, with the venue's field names and decimals as strings.
        """
        with self._exclusive():
            return self._exchange.truth(self._exchange.accounts[account])

    def total(self, coin: str) -> Decimal:
        """The sum of a coin over all accounts, the counterparties and the collected fees; equals the deposits.

        Unrealised profits count, so that it holds while contracts are open.
        """
        with self._exclusive():
            return self._exchange.total(coin)

    def set_price(self, symbol: str, price: Amount, category: str | None = None) -> None:
        """Move the market to a price: resting orders it reaches fill at their own price, conditional orders trigger.

        Args:
            category: ``spot`` or ``linear``; by default spot, unless the symbol is a contract only.
        """
        with self._exclusive():
            book = self._book(symbol, category)
            details = {"category": "linear"} if book.instrument.category == "linear" else {}
            self._exchange.journal.note("price", symbol=symbol, price=str(price), **details)
            self._exchange.move_price(book, to_amount(price))

    def last_price(self, symbol: str, category: str | None = None) -> Decimal:
        """The last price of a pair or contract; ``category`` as for `set_price`."""
        with self._exclusive():
            return self._book(symbol, category).last_price

    def fill(self, order: str, quantity: Amount | None = None, price: Amount | None = None) -> dict[str, Any]:
        """Fill a resting order, all of it by default; returns the order's row.

        Raises:
            LookupError: there is no such order.
            ValueError: it is not resting, or would not trade at that price.
        """
        with self._exclusive():
            found = self._exchange.find(order)
            self._exchange.fill(
                found, None if quantity is None else to_amount(quantity), None if price is None else to_amount(price)
            )
            return order_row(found, stream=True)

    def cancel(self, order: str, cancel_type: str = "CancelByUser") -> dict[str, Any]:
        """Cancel an order from outside the API, as the app, self-match prevention or the venue would do.

        Raises:
            LookupError: there is no such order.
            ValueError: it is closed already.
        """
        with self._exclusive():
            found = self._exchange.find(order)
            self._exchange.cancel_outside(found, cancel_type)
            return order_row(found, stream=True)

    def place(self, account: str = "key", **create_params: Any) -> dict[str, Any]:
        """Place an order from outside the API (the app, another program), with the parameters of ``order/create``.

        Raises:
            Refusal: the venue refuses it, with ``code`` and ``text``.
        """
        body = {"category": "spot", **{name: _text(value) for name, value in create_params.items()}}
        with self._exclusive():
            order = self._exchange.create(self._exchange.accounts[account], body, outside=True)
            return order_row(order, stream=True)

    def trade(self, account: str = "key", *, symbol: str, side: str, quantity: Amount, **more: Any) -> dict[str, Any]:
        """Place a market order from outside the API, sized in base coin.

        Args:
            **more: other parameters of ``order/create``, such as ``category="linear"`` and ``reduceOnly=True``.
        """
        terms = {"orderType": "Market", "marketUnit": "baseCoin", **more}
        return self.place(account, symbol=symbol, side=side, qty=quantity, **terms)

    def deposit(self, coin: str, amount: Amount, account: str = "key") -> None:
        """Add money to an account; a negative amount is a withdrawal."""
        with self._exclusive():
            self._exchange.deposit(self._exchange.accounts[account], coin, to_amount(amount))

    def announce_maintenance(
        self, title: str = "Scheduled maintenance", *, begin_in_ms: int = 0, duration_ms: int = 600_000, **options: Any
    ) -> dict[str, Any]:
        """Announce a maintenance at ``/v5/system/status`` and on the topic ``system.status``; returns its row.

        The row is ``scheduled`` until it begins, ``ongoing`` until it ends, then ``completed``. It announces only:
        to interrupt the service arm a fault.

        Args:
            begin_in_ms: 0 begins it now.
            duration_ms: from its beginning to its expected end.
            **options: other fields of the row (docs v5/system-status): ``serviceTypes``, ``product``, ``uidSuffix``,
                ``maintainType``, ``env``, ``href``.

        Raises:
            ValueError: an unknown field, or a duration that is not positive.
        """
        with self._exclusive():
            row = self._status.announce(title, begin_in_ms, duration_ms, options)
            self._exchange.journal.note("maintenance", id=row["id"], state=row["state"], title=title)
            return row

    def end_maintenance(self, id: str) -> dict[str, Any]:
        """End a maintenance now: ``completed`` when it had begun, else ``canceled``; returns its row.

        Raises:
            LookupError: there is none with this id.
        """
        with self._exclusive():
            row = self._status.end(id)
            self._exchange.journal.note("maintenance", id=row["id"], state=row["state"], title=row["title"])
            return row

    def _book(self, symbol: str, category: str | None = None) -> Book:
        categories = (category,) if category else ("spot", "linear")
        for name in categories:
            book = self._exchange.books.get((name, symbol))
            if book is not None:
                return book
        known = ", ".join(other for name, other in self._exchange.books if name in categories)
        raise LookupError(f"{symbol!r} is not traded here; there are: {known}")


def to_amount(value: Amount) -> Decimal:
    amount = value if isinstance(value, Decimal) else parse(value)
    if amount is None or not amount.is_finite():
        raise ValueError(f"{value!r} is not an amount")
    return amount


def _text(value: Any) -> Any:
    return wire(value) if isinstance(value, Decimal) else str(value) if isinstance(value, float) else value
