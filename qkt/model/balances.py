"""Balances of the account: per coin, with the time they were read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

import attrs

from qkt.plain import PlainValue
from qkt.readonly import ReadOnlyDict


@attrs.frozen(kw_only=True)
class CoinBalance(PlainValue):
    """One coin: ``total`` is the wallet balance, ``locked`` what open spot orders hold, ``available`` what is free.

    ``available`` leaves out what was borrowed and what positions and orders of contracts hold as initial margin
    (``position_margin``, ``order_margin``). ``equity`` is the balance with unrealised profit, ``borrowed`` the debt and
    ``interest`` what has accrued on it. Each in that coin; None where the venue did not tell.
    Source: docs v5/account/wallet-balance.
    """

    total: Decimal | None
    locked: Decimal | None = None
    available: Decimal | None = None
    equity: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    borrowed: Decimal | None = None
    interest: Decimal | None = None
    position_margin: Decimal | None = None
    order_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    usd_value: Decimal | None = None

    @property
    def stable(self) -> tuple[Decimal | None, ...]:
        """The amounts that change by trading, transfers and borrowing, and not with each tick of a price."""
        return self.total, self.locked, self.available, self.borrowed


@attrs.frozen(kw_only=True)
class AccountSummary(PlainValue):
    """The account as one, in USD; None where the venue prints nothing (in isolated margin it prints none of them).

    ``initial_margin_rate`` and ``maintenance_margin_rate`` are parts of ``margin_balance``: at a maintenance rate of 1
    the account is liquidated. ``total_available`` is what new orders may use in cross margin.
    Source: docs v5/account/wallet-balance.
    """

    equity: Decimal | None = None
    wallet_balance: Decimal | None = None
    margin_balance: Decimal | None = None
    total_available: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    initial_margin_rate: Decimal | None = None
    maintenance_margin_rate: Decimal | None = None
    as_of_ms: int | None = None


def _read_only(coins: Mapping[str, CoinBalance]) -> Mapping[str, CoinBalance]:
    return ReadOnlyDict(coins)


@attrs.frozen(kw_only=True)
class Wallet(PlainValue):
    """All coins at once: ``wallet["USDT"].available``; ``as_of_ms`` is venue time, None before the first read.

    ``account`` is the account as one, with its margin rates.
    """

    coins: Mapping[str, CoinBalance] = attrs.field(factory=dict, converter=_read_only)
    as_of_ms: int | None = None
    account: AccountSummary = attrs.field(factory=AccountSummary)

    def __getitem__(self, coin: str) -> CoinBalance:
        return self.coins[coin]

    def __contains__(self, coin: object) -> bool:
        return coin in self.coins

    def __iter__(self) -> Iterator[str]:
        return iter(self.coins)

    def __len__(self) -> int:
        return len(self.coins)

    def get(self, coin: str) -> CoinBalance | None:
        """The coin's balance, or None when the venue never listed the coin."""
        return self.coins.get(coin)

    @property
    def totals(self) -> Mapping[str, Decimal]:
        """Coin -> wallet balance, coins with an unknown balance left out."""
        return ReadOnlyDict({coin: held.total for coin, held in self.coins.items() if held.total is not None})
