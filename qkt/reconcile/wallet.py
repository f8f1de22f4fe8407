"""Balances as joins: per coin the newest dated word wins, and an older one never overwrites it.

A read is dated by the venue time at which it was *started*, a frame by its creation: a snapshot asked for before a push
and arriving after it must not roll the push back (S60). A coin is zeroed only when it is absent from a read started
after its last frame (the venue omits zero coins: S61); a frame lists some coins and says nothing of the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from qkt.model.balances import AccountSummary, CoinBalance, Wallet
from qkt.money import ZERO

_NOTHING = CoinBalance(total=ZERO, locked=ZERO, available=ZERO)


@attrs.frozen(kw_only=True)
class WalletBook:
    """Coin -> (dated ms, balance); ``read_ms`` is the start of the newest complete read."""

    dated: Mapping[str, tuple[int, CoinBalance]] = attrs.field(factory=dict)
    read_ms: int | None = None
    account: AccountSummary = attrs.field(factory=AccountSummary)

    def with_account(self, account: AccountSummary) -> WalletBook:
        """Join the account-level amounts of a read or a frame: the newest of them stand."""
        known_ms = self.account.as_of_ms
        if account.as_of_ms is None or (known_ms is not None and account.as_of_ms < known_ms):
            return self
        return attrs.evolve(self, account=account)

    def after_read(self, coins: Mapping[str, CoinBalance], begun_ms: int) -> WalletBook:
        """Join a complete read started at ``begun_ms``."""
        dated = dict(self.dated)
        for coin, balance in coins.items():
            if begun_ms >= self._dated_ms(coin):
                dated[coin] = (begun_ms, _kept_where_unknown(balance, dated.get(coin)))
        for coin, (dated_ms, _balance) in self.dated.items():
            if coin not in coins and begun_ms > dated_ms:
                dated[coin] = (begun_ms, _NOTHING)
        return attrs.evolve(self, dated=dated, read_ms=max(begun_ms, self.read_ms or 0))

    def after_frame(self, coins: Mapping[str, CoinBalance], creation_ms: int) -> WalletBook:
        """Join a frame's coins; the coins it does not list stay as they are."""
        dated = dict(self.dated)
        for coin, balance in coins.items():
            if creation_ms >= self._dated_ms(coin):
                dated[coin] = (creation_ms, _kept_where_unknown(balance, dated.get(coin)))
        return attrs.evolve(self, dated=dated)

    def _dated_ms(self, coin: str) -> int:
        """When the newest word about a coin was said. A complete read that does not list it is a word: zero."""
        return self.dated[coin][0] if coin in self.dated else self.read_ms or 0

    def changed_from(self, before: WalletBook) -> frozenset[str]:
        """Coins whose balance is not what it was."""
        return frozenset(
            coin
            for coin, (_, balance) in self.dated.items()
            if coin not in before.dated or before.dated[coin][1].stable != balance.stable
        )

    @property
    def wallet(self) -> Wallet:
        """What the user sees."""
        dates = [dated_ms for dated_ms, _ in self.dated.values()] + ([self.read_ms] if self.read_ms else [])
        return Wallet(
            coins={coin: balance for coin, (_, balance) in self.dated.items()},
            as_of_ms=max(dates, default=None),
            account=self.account,
        )


def _kept_where_unknown(balance: CoinBalance, known: tuple[int, CoinBalance] | None) -> CoinBalance:
    """A blank balance is unknown, not zero: the last known total stands."""
    if balance.total is None and known is not None:
        return attrs.evolve(balance, total=known[1].total)
    return balance
