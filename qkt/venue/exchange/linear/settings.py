"""Leverage, position mode and margin mode of an account (docs v5/position/leverage, position-mode, set-margin-mode)."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from ..accounts import Account
from ..book import Book
from ..engine import Engine
from ..money import ZERO, is_multiple, parse
from ..retcodes import Refusal, parameter_error
from .contracts import Contract
from .margin import CROSS, ISOLATED
from .requests import Body, contract_of

Row = dict[str, object]


class Settings:
    """Changes what an account trades with, as far as its positions and orders allow."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def set_leverage(self, account: Account, body: Body, book: Book) -> None:
        """``POST /v5/position/set-leverage``.

        Raises:
            Refusal: 10001 for a value out of range or sides that differ where they must not, 110013 beyond the risk
                limit of the position, 110007 when the margin does not suffice, 110043 when nothing would change.
        """
        contract = contract_of(book)
        buy, sell = (_leverage(body, name, contract) for name in ("buyLeverage", "sellLeverage"))
        hedged = account.is_hedged(contract)
        if buy != sell and not (hedged and account.margin_mode == ISOLATED):
            raise parameter_error("buy leverage must equal sell leverage")
        positions = [account.position(contract, 1), account.position(contract, 2)] if hedged else []
        wanted = dict(zip(positions, (buy, sell), strict=False)) or {account.position(contract, 0): buy}
        before = {position: position.leverage for position in wanted}
        if wanted == before:
            raise Refusal(110043)
        for position, leverage in wanted.items():
            if abs(position.entry_value) > contract.limit_at(leverage):
                raise Refusal(110013)
            position.leverage = leverage
        if self._engine.margin.available(account, contract.settle) < 0 and account.uses_margin:
            for position, leverage in before.items():
                position.leverage = leverage
            raise Refusal(110007)
        for position in wanted:
            position.updated_ms = self._engine.now_ms()
            self._engine.outbox.position(account, position)

    def switch_mode(self, account: Account, body: Body, contracts: Iterable[Contract]) -> None:
        """``POST /v5/position/switch-mode``: one symbol, or every symbol of a settle coin that is free to switch.

        Raises:
            Refusal: 10001 without symbol and coin, 110024 or 110028 for a symbol with a position or orders, 110029
                where hedge mode is not offered, 110025 when nothing would change.
        """
        mode = str(body.get("mode") if body.get("mode") is not None else "")
        if mode not in ("0", "3"):
            raise parameter_error("params error: mode invalid")
        hedged = mode == "3"
        symbol, coin = body.get("symbol"), body.get("coin")
        if symbol:
            contract = next((one for one in contracts if one.symbol == symbol), None)
            if contract is None:
                raise parameter_error("params error: symbol invalid")
            self._switch_one(account, contract, hedged)
        elif coin:
            self._switch_coin(account, str(coin), hedged, [one for one in contracts if one.settle == coin])
        else:
            raise parameter_error("params error: symbol or coin is required")

    def set_margin_mode(self, account: Account, body: Body) -> Row:
        """``POST /v5/account/set-margin-mode``.

        Raises:
            Refusal: 10001 for an unknown mode, 3400045 for portfolio margin or while orders stand, 110026 when
                nothing would change.
        """
        mode = body.get("setMarginMode")
        if mode not in (ISOLATED, CROSS, "PORTFOLIO_MARGIN"):
            raise parameter_error("params error: setMarginMode invalid")
        if mode == "PORTFOLIO_MARGIN":
            raise Refusal(3400045, text="Set margin mode failed")
        if mode == account.margin_mode:
            raise Refusal(110026)
        before, account.margin_mode = account.margin_mode, str(mode)
        coins = {position.contract.settle for position in self._engine.margin.positions(account)}
        if any(self._engine.margin.available(account, coin) < 0 for coin in coins):
            account.margin_mode = before
            raise Refusal(3400045, text="Set margin mode failed")
        return {"reasons": []}

    def add_margin(self, account: Account, body: Body, book: Book) -> None:
        """``POST /v5/position/add-margin``: give an isolated position more margin, or take some back.

        Raises:
            Refusal: 110015 in cross margin, 110033 without a position, 110014 when too little is free, 110078 when
                more is taken back than was added.
        """
        contract = contract_of(book)
        if account.margin_mode != ISOLATED:
            raise Refusal(110015)
        amount = parse(body.get("margin"))
        if amount is None or not amount:
            raise parameter_error("params error: margin invalid")
        position = account.position(contract, int(str(body.get("positionIdx") or 0)))
        if not position.size:
            raise Refusal(110033)
        if amount > self._engine.margin.available(account, contract.settle):
            raise Refusal(110014)
        if position.extra_margin + amount < 0:
            raise Refusal(110078)
        position.extra_margin += amount
        self._engine.outbox.position(account, position)

    def _switch_one(self, account: Account, contract: Contract, hedged: bool) -> None:
        if hedged and contract.settle != "USDT":
            raise Refusal(110029)
        if account.is_hedged(contract) == hedged:
            raise Refusal(110025)
        if any(position.size for position in account.positions.values() if position.contract is contract):
            raise Refusal(110024)
        if _has_orders(account, contract):
            raise Refusal(110028)
        self._adopt(account, contract, hedged)

    def _switch_coin(self, account: Account, coin: str, hedged: bool, contracts: list[Contract]) -> None:
        """Symbols with a position or orders keep their mode; it is a success when nothing changes.

        The docs do not say what an unchanged coin answers. Inferred from freqtrade, which sends it at every start and
        does not start when it is refused.
        """
        if hedged and coin != "USDT":
            raise Refusal(110029)
        for contract in contracts:
            held = any(position.size for position in account.positions.values() if position.contract is contract)
            if held or _has_orders(account, contract):
                account.hedged[contract.symbol] = account.is_hedged(contract)
            else:
                self._adopt(account, contract, hedged)
                account.hedged.pop(contract.symbol, None)
        account.hedged[coin] = hedged

    def _adopt(self, account: Account, contract: Contract, hedged: bool) -> None:
        """Switch a contract to a mode; its leverage stays."""
        leverage = account.position(contract, 1 if account.is_hedged(contract) else 0).leverage
        account.hedged[contract.symbol] = hedged
        for index in (1, 2) if hedged else (0,):
            account.position(contract, index).leverage = leverage


def _has_orders(account: Account, contract: Contract) -> bool:
    return any(order.instrument is contract for order in account.open_orders.values())


def _leverage(body: Body, name: str, contract: Contract) -> Decimal:
    value = parse(body.get(name)) or ZERO
    if not is_multiple(value, contract.leverage_step) or not contract.min_leverage <= value <= contract.max_leverage:
        raise parameter_error(f"{'buy' if name.startswith('buy') else 'sell'} leverage invalid")
    return value
