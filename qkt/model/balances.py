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

    Each in that coin; None where the venue did not tell.
    Source: docs v5/account/wallet-balance.
    """

    total: Decimal | None
    locked: Decimal | None = None
    available: Decimal | None = None


def _read_only(coins: Mapping[str, CoinBalance]) -> Mapping[str, CoinBalance]:
    return ReadOnlyDict(coins)


@attrs.frozen(kw_only=True)
class Wallet(PlainValue):
    """All coins at once: ``wallet["USDT"].available``; ``as_of_ms`` is venue time, None before the first read."""

    coins: Mapping[str, CoinBalance] = attrs.field(factory=dict, converter=_read_only)
    as_of_ms: int | None = None

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
