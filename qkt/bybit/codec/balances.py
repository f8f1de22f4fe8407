"""Wallet rows from the wire: what is blank is unknown, what is missing is an error, and only a list is an account.

Source: docs v5/account/wallet-balance, v5/websocket/private/wallet.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from qkt.bybit.codec.bounds import required_text
from qkt.bybit.codec.envelope import check_envelope, decode
from qkt.errors import VenueProtocolError
from qkt.model.balances import AccountSummary, CoinBalance
from qkt.money import ZERO, exact_difference, optional_from_wire
from qkt.readonly import ReadOnlyDict
from qkt.reconcile.snapshot import listed

PATH = "/v5/account/wallet-balance"


class BybitBalanceTranslator:
    """Reads wallet envelopes and frames. Stateless."""

    @staticmethod
    def parse(envelope: Mapping[str, Any] | str) -> Mapping[str, Decimal]:
        """Coin -> wallet balance in that coin, e.g. ``{"USDT": Decimal("1000.5")}``; blank balances are left out.

        Raises BybitApiError for an error envelope and VenueProtocolError for one without an account.
        """
        coins = BybitBalanceTranslator.coins(envelope)
        return ReadOnlyDict({coin: held.total for coin, held in coins.items() if held.total is not None})

    @staticmethod
    def coins(envelope: Mapping[str, Any] | str) -> Mapping[str, CoinBalance]:
        """Coin -> total, locked and available."""
        return BybitBalanceTranslator.coins_of(BybitBalanceTranslator.account(envelope))

    @staticmethod
    def account(envelope: Mapping[str, Any] | str) -> Mapping[str, Any]:
        """The account row of an envelope; raises as `parse` does."""
        decoded = decode(envelope) if isinstance(envelope, str) else dict(envelope)
        accounts = listed(check_envelope(PATH, decoded, is_write=False), PATH)
        if not accounts:
            raise VenueProtocolError(
                "the venue lists no account: a wrong accountType (set BYBIT_ACCOUNT_TYPE) looks like this, so it is "
                "a failed read and not an empty wallet",
                path=PATH,
            )
        row = accounts[0]
        if not isinstance(row, dict):
            raise VenueProtocolError("the account row is no object", path=PATH)
        return row

    @staticmethod
    def coins_of(account: object) -> Mapping[str, CoinBalance]:
        """Coin -> balance of one account row, from REST or a frame; raises VenueProtocolError without a coin list."""
        rows = account.get("coin") if isinstance(account, dict) else None
        if not isinstance(rows, list):
            raise VenueProtocolError("the account row has no coin list", path=PATH)
        try:
            return {required_text(row, "coin"): _balance(row) for row in rows}
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise VenueProtocolError(f"a coin row cannot be read: {error!r}", path=PATH) from None


def account_of(account: Mapping[str, Any], *, as_of_ms: int) -> AccountSummary:
    """The account-level amounts of a row, from REST or a frame; blank ones are None.

    Raises VenueProtocolError when one is no number.
    """
    try:
        amounts = {field: optional_from_wire(account.get(name)) for field, name in _ACCOUNT_FIELDS.items()}
    except (TypeError, ValueError, ArithmeticError) as error:
        raise VenueProtocolError(f"the account row cannot be read: {error!r}", path=PATH) from None
    return AccountSummary(**amounts, as_of_ms=as_of_ms)


_ACCOUNT_FIELDS = {
    "equity": "totalEquity",
    "wallet_balance": "totalWalletBalance",
    "margin_balance": "totalMarginBalance",
    "total_available": "totalAvailableBalance",
    "unrealized_pnl": "totalPerpUPL",
    "initial_margin": "totalInitialMargin",
    "maintenance_margin": "totalMaintenanceMargin",
    "initial_margin_rate": "accountIMRate",
    "maintenance_margin_rate": "accountMMRate",
}


def _balance(row: Mapping[str, Any]) -> CoinBalance:
    """``walletBalance`` includes what was borrowed since 2025-09 (docs changelog): free cash leaves that out.

    What contracts hold as initial margin is not free either (docs v5/account/wallet-balance, availableToWithdraw); in
    portfolio margin the venue leaves it blank, and what is free is not known.
    """
    total = optional_from_wire(row.get("walletBalance"))
    locked = optional_from_wire(row.get("locked"))
    borrowed = optional_from_wire(row.get("spotBorrow")) or ZERO
    position_margin = optional_from_wire(row.get("totalPositionIM"))
    order_margin = optional_from_wire(row.get("totalOrderIM"))
    bonus = optional_from_wire(row.get("bonus")) or ZERO
    available = None
    is_margin_told = "" not in (row.get("totalPositionIM"), row.get("totalOrderIM"))
    if total is not None and locked is not None and is_margin_told:
        available = total
        for bound in (borrowed, locked, position_margin or ZERO, order_margin or ZERO, bonus):
            available = exact_difference(available, bound)
    return CoinBalance(
        total=total,
        locked=locked,
        available=available,
        equity=optional_from_wire(row.get("equity")),
        unrealized_pnl=optional_from_wire(row.get("unrealisedPnl")),
        borrowed=optional_from_wire(row.get("borrowAmount")),
        interest=optional_from_wire(row.get("accruedInterest")),
        position_margin=position_margin,
        order_margin=order_margin,
        maintenance_margin=optional_from_wire(row.get("totalPositionMM")),
        usd_value=optional_from_wire(row.get("usdValue")),
    )
