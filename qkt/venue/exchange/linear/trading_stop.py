"""``POST /v5/position/trading-stop``: the exits of a position, set, moved and removed by its owner."""

from __future__ import annotations

from decimal import Decimal

from ..accounts import Account
from ..book import Book
from ..money import ZERO
from ..retcodes import Refusal, parameter_error
from .positions import Position
from .protection import Leg, Protection, bind
from .requests import (
    Body,
    amount_of,
    check_limit_exits,
    check_side_of_exits,
    contract_of,
    given,
    position_index,
    price_of,
    trigger_by_of,
)


class TradingStop:
    """Checks a trading-stop request and carries it out."""

    def __init__(self, protection: Protection) -> None:
        self._protection = protection

    def set(self, account: Account, body: Body, book: Book) -> Position:
        """Change the exits of the position a request names.

        Raises:
            Refusal: 10001 for no position or a wrong value, 34040 when nothing would change.
        """
        contract = contract_of(book)
        mode = str(body.get("tpslMode") or "Full")
        if mode not in ("Full", "Partial"):
            raise parameter_error("params error: tpslMode invalid")
        position = account.position(contract, position_index(body, account, contract))
        if not position.size:
            raise parameter_error("can not set tp/sl/ts for zero position")
        take_profit, stop_loss = (price_of(body, name, contract) for name in ("takeProfit", "stopLoss"))
        check_side_of_exits(
            take_profit, stop_loss, is_long=position.is_long, base_price=book.last_price, base_name="LastPrice"
        )
        if mode == "Partial":
            changed = self._add_partial(account, body, position, take_profit, stop_loss)
        else:
            changed = self._set_full(account, body, position, take_profit, stop_loss)
        if self._set_trailing(account, body, book, position):
            changed = True
        if not changed:
            raise Refusal(34040)
        return position

    def _set_full(
        self, account: Account, body: Body, position: Position, take_profit: Decimal, stop_loss: Decimal
    ) -> bool:
        for leg in ("tp", "sl"):
            if body.get(f"{leg}OrderType") == "Limit":
                raise parameter_error(f"{leg}OrderType Limit requires tpslMode Partial")
        wanted: list[Leg] = []
        for name, kind, price, shown, trigger_by in (
            ("tp", "TakeProfit", take_profit, position.take_profit, position.tp_trigger_by),
            ("sl", "StopLoss", stop_loss, position.stop_loss, position.sl_trigger_by),
        ):
            given_name = "takeProfit" if name == "tp" else "stopLoss"
            by = trigger_by_of(body, f"{name}TriggerBy", trigger_by)
            if given(body, given_name) and (price != shown or (price and by != trigger_by)):
                wanted.append(Leg(kind=kind, trigger_price=price, trigger_by=by))
        if len(wanted) == 1:
            self._protection.unbind(account, position, wanted[0].kind)
        orders = [self._protection.set_full(account, position, leg) for leg in wanted]
        standing = [order for order in orders if order is not None]
        if len(standing) == 2:
            bind(*standing)
        return bool(wanted)

    def _add_partial(
        self, account: Account, body: Body, position: Position, take_profit: Decimal, stop_loss: Decimal
    ) -> bool:
        contract = position.contract
        tp_size, sl_size = amount_of(body, "tpSize", contract), amount_of(body, "slSize", contract)
        if take_profit and stop_loss and tp_size != sl_size:
            raise parameter_error("tpSize and slSize must be equal")
        legs: list[Leg] = []
        for name, kind, price in (("tp", "PartialTakeProfit", take_profit), ("sl", "PartialStopLoss", stop_loss)):
            if not price:
                continue
            order_type = str(body.get(f"{name}OrderType") or "Market")
            limit_price = price_of(body, f"{name}LimitPrice", contract)
            check_limit_exits("Partial", order_type, limit_price, name, is_set=True)
            legs.append(
                Leg(
                    kind=kind,
                    trigger_price=price,
                    trigger_by=trigger_by_of(body, f"{name}TriggerBy"),
                    limit_price=limit_price if order_type == "Limit" else ZERO,
                )
            )
        quantity = (tp_size or sl_size) if legs else ZERO
        if legs and not contract.min_quantity <= quantity <= position.quantity:
            raise Refusal(110058) if quantity > position.quantity else parameter_error("params error: tpSize invalid")
        if legs:
            self._protection.add_partial(account, position, legs, quantity)
        return bool(legs)

    def _set_trailing(self, account: Account, body: Body, book: Book, position: Position) -> bool:
        if not given(body, "trailingStop"):
            return False
        distance = price_of(body, "trailingStop", position.contract)
        active_price = price_of(body, "activePrice", position.contract)
        if distance == position.trailing_stop and not active_price:
            return False
        if active_price and (active_price <= book.last_price) == position.is_long:
            relation = "higher" if position.is_long else "lower"
            raise parameter_error(f"TrailingProfit active price should be {relation} than the last price")
        if distance >= book.last_price:
            raise parameter_error("params error: trailingStop invalid")
        self._protection.set_trailing(account, position, distance, active_price)
        return True
