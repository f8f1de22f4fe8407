"""The asset endpoints: coins, transferable amounts, and lists of movements that never have rows here."""

from __future__ import annotations

from ..exchange.accounts import Account
from ..exchange.exchange import Exchange
from ..exchange.money import ZERO, wire
from ..exchange.queries import Query
from ..exchange.retcodes import parameter_error
from ..exchange.rows import Row

_MOST_COINS = 20


class AssetEndpoints:
    """Answers the asset endpoints; deposits and withdrawals go through the controls of the venue only."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def coins(self, _account: Account, query: Query) -> Row:
        """``GET /v5/asset/coin/query-info``: every coin of a market or a wallet, with one chain each."""
        named = query.get("coin")
        traded = {
            coin for book in self._exchange.books.values() for coin in (book.instrument.base, book.instrument.quote)
        }
        held = {coin for account in self._exchange.accounts.values() for coin in account.wallet}
        return {"rows": [_coin_row(coin) for coin in sorted(traded | held) if named in (None, "", coin)]}

    def withdrawal(self, account: Account, query: Query) -> Row:
        """``GET /v5/account/withdrawal``: what could be transferred of each named coin.

        Raises:
            Refusal: 10001 without a coin, or with more than 20.
        """
        coins = [coin for coin in str(query.get("coinName") or "").split(",") if coin]
        if not 1 <= len(coins) <= _MOST_COINS:
            raise parameter_error(f"params error: coinName needs 1 to {_MOST_COINS} coins")
        margin = self._exchange.engine.margin
        amounts = {coin: wire(max(ZERO, margin.spendable(account, coin))) for coin in coins}
        return {"availableWithdrawal": amounts[coins[0]], "availableWithdrawalMap": amounts}

    def balances(self, account: Account, query: Query) -> Row:
        """``GET /v5/asset/transfer/query-account-coins-balance``; only the unified account holds coins.

        Raises:
            Refusal: 10001 without an account type.
        """
        kind = query.get("accountType")
        if not kind:
            raise parameter_error("params error: accountType is required")
        named = [coin for coin in str(query.get("coin") or "").split(",") if coin]
        wallet = account.wallet if kind == "UNIFIED" else {}
        rows = [
            {
                "coin": coin,
                "walletBalance": wire(wallet[coin].total) if coin in wallet else "0",
                "transferBalance": wire(wallet[coin].available) if coin in wallet else "0",
                "bonus": "",
            }
            for coin in named or wallet
        ]
        return {"memberId": str(account.uid), "accountType": str(kind), "balance": rows}

    def no_rows(self, _account: Account, _query: Query) -> Row:
        """An empty list of deposits or withdrawals."""
        return {"rows": [], "nextPageCursor": ""}

    def no_list(self, _account: Account, _query: Query) -> Row:
        """An empty list of transfers."""
        return {"list": [], "nextPageCursor": ""}


def _coin_row(coin: str) -> Row:
    return {
        "name": coin,
        "coin": coin,
        "remainAmount": "10000000",
        "chains": [
            {
                "chain": coin,
                "chainType": coin,
                "confirmation": "12",
                "withdrawFee": "0.001",
                "depositMin": "0",
                "withdrawMin": "0.01",
                "withdrawMax": "-1",
                "minAccuracy": "8",
                "chainDeposit": "1",
                "chainWithdraw": "1",
                "withdrawPercentageFee": "0",
                "contractAddress": "",
                "safeConfirmNumber": "24",
            }
        ],
    }
