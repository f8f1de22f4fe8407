"""Turns the body of a contract request into an order, or refuses it.

Contracts answer with other codes than spot: nearly every malformed parameter is 10001 with a text that names it
(captured), and the rules of positions, triggers and exits have codes of the 110000 range (docs v5/error).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ..accounts import Account, Order
from ..book import Book
from ..money import ZERO, is_multiple, parse
from ..retcodes import Refusal, parameter_error
from .contracts import Contract
from .margin import on_tick

Body = Mapping[str, Any]
TRIGGER_PRICES = ("LastPrice", "MarkPrice", "IndexPrice")
_LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "PostOnly", "RPI")
_MAX_ACTIVE, _MAX_CONDITIONAL = 500, 10
_TICKS, _PERCENT = (Decimal(1), Decimal(1), Decimal(10_000)), (Decimal("0.01"), Decimal("0.01"), Decimal(10))


def contract_of(book: Book) -> Contract:
    assert isinstance(book.instrument, Contract)
    return book.instrument


def contract_book(body: Body, books: Mapping[tuple[str, str], Book]) -> Book:
    """The book of the contract a request names.

    Raises:
        Refusal: 10001 when it names none, or one that is not traded.
    """
    symbol = str(body.get("symbol") or "")
    book = books.get(("linear", symbol))
    if book is None:
        raise parameter_error(f"params error: symbol invalid {symbol}".rstrip())
    return book


def reference_price(book: Book, trigger_by: str) -> Decimal:
    """The price a trigger watches."""
    if trigger_by == "MarkPrice":
        return book.mark_price
    return book.index_price if trigger_by == "IndexPrice" else book.last_price


def parse_create(body: Body, account: Account, book: Book) -> Order:
    """A create request as an order without id; whether it can be paid for is not decided here.

    Raises:
        Refusal: with the code of the first parameter that is wrong.
    """
    contract = contract_of(book)
    side = _choice(body, "side", ("Buy", "Sell"))
    order_type = _choice(body, "orderType", ("Market", "Limit"))
    trigger_price = price_of(body, "triggerPrice", contract)
    index = position_index(body, account, contract)
    reduce_only, close_on_trigger = flag(body, "reduceOnly"), flag(body, "closeOnTrigger")
    order = Order(
        order_id="",
        link_id=_link_id(body, account),
        account=account,
        instrument=contract,
        side=side,
        order_type=order_type,
        time_in_force=_time_in_force(body, order_type),
        quantity=_quantity(body, account, contract, index, side, order_type),
        price=_limit_price(body, side, book) if order_type == "Limit" else ZERO,
        is_leverage="",
        order_filter="StopOrder" if trigger_price else "Order",
        trigger_price=trigger_price,
        trigger_by=trigger_by_of(body, "triggerBy") if trigger_price else "",
        stop_kind="Stop" if trigger_price else "",
        create_type="CreateByStopOrder" if trigger_price else "CreateByUser",
        position_idx=index,
        reduce_only=reduce_only,
        close_on_trigger=close_on_trigger,
        smp_type=_choice(body, "smpType", ("None", "CancelMaker", "CancelTaker", "CancelBoth"), "None"),
    )
    if trigger_price:
        _set_trigger(order, body, book)
    elif body.get("bboSideType"):
        order.create_type = "CreateByBboOrder"
    _set_slippage(order, body)
    set_exits(order, body, book)
    check_size(order, book)
    if order_type == "Limit" and not trigger_price:
        order.price = banded(order, book)
    _check_caps(order)
    return order


def position_index(body: Body, account: Account, contract: Contract) -> int:
    """``positionIdx``, which must fit the position mode: 0 one-way, 1 or 2 in hedge mode."""
    value = str(body.get("positionIdx") or 0)
    if value not in ("0", "1", "2"):
        raise parameter_error("position idx invalid")
    if (value != "0") != account.is_hedged(contract):
        raise parameter_error("position idx not match position mode")
    return int(value)


def price_of(body: Body, name: str, contract: Contract) -> Decimal:
    """A price on the tick; zero when not given (``""`` and ``"0"`` mean unset)."""
    if not given(body, name):
        return ZERO
    value = parse(body[name])
    if value is None or value < 0 or value > contract.max_price or not is_multiple(value, contract.tick):
        raise parameter_error(f"params error: {name} invalid")
    return value


def amount_of(body: Body, name: str, contract: Contract) -> Decimal:
    """A quantity on the step; zero when not given."""
    if not given(body, name):
        return ZERO
    value = parse(body[name])
    if value is None or value < 0 or not is_multiple(value, contract.base_step):
        raise parameter_error(f"params error: {name} invalid")
    return value


def trigger_by_of(body: Body, name: str, default: str = "LastPrice") -> str:
    return _choice(body, name, TRIGGER_PRICES, default)


def given(body: Body, name: str) -> bool:
    return body.get(name) not in (None, "")


def flag(body: Body, name: str) -> bool:
    value = body.get(name)
    if value in (None, "", False, "false", "False"):
        return False
    if value in (True, "true", "True"):
        return True
    raise parameter_error(f"params error: {name} invalid")


def check_side_of_exits(
    take_profit: Decimal, stop_loss: Decimal, *, is_long: bool, base_price: Decimal, base_name: str
) -> None:
    """A take-profit lies beyond the base price in the position's favour, a stop-loss on the other side."""
    side = "Buy" if is_long else "Sell"
    for name, price, above in (("TakeProfit", take_profit, is_long), ("StopLoss", stop_loss, not is_long)):
        if price and not (price > base_price if above else price < base_price):
            relation = "higher" if above else "lower"
            raise parameter_error(
                f"{name}:{_scaled(price)} set for {side} position should be {relation} than "
                f"base_price:{_scaled(base_price)}??{base_name}"
            )


def set_exits(order: Order, body: Body, book: Book) -> None:
    """Take the attached take-profit and stop-loss of a create or amend request over into the order.

    Raises:
        Refusal: 10001 for a value on the wrong side of the entry, or a limit exit outside partial mode.
    """
    contract = order.contract
    for name, attribute in EXIT_PRICES.items():
        if given(body, name):
            setattr(order, attribute, price_of(body, name, contract))
    if not (order.take_profit or order.stop_loss):
        order.tpsl_mode = order.tp_trigger_by = order.sl_trigger_by = ""
        return
    if order.reduce_only:
        raise parameter_error("TP/SL cannot be set with reduceOnly")
    order.tpsl_mode = _choice(body, "tpslMode", ("Full", "Partial"), order.tpsl_mode or "Full")
    order.tp_trigger_by = trigger_by_of(body, "tpTriggerBy", order.tp_trigger_by or "LastPrice")
    order.sl_trigger_by = trigger_by_of(body, "slTriggerBy", order.sl_trigger_by or "LastPrice")
    order.tp_order_type = _choice(body, "tpOrderType", ("Market", "Limit"), order.tp_order_type)
    order.sl_order_type = _choice(body, "slOrderType", ("Market", "Limit"), order.sl_order_type)
    check_limit_exits(order.tpsl_mode, order.tp_order_type, order.tp_limit_price, "tp", bool(order.take_profit))
    check_limit_exits(order.tpsl_mode, order.sl_order_type, order.sl_limit_price, "sl", bool(order.stop_loss))
    base = order.price or order.trigger_price or book.last_price
    name = "OrderPrice" if order.price or order.trigger_price else "LastPrice"
    check_side_of_exits(order.take_profit, order.stop_loss, is_long=order.is_buy, base_price=base, base_name=name)


EXIT_PRICES = {
    "takeProfit": "take_profit",
    "stopLoss": "stop_loss",
    "tpLimitPrice": "tp_limit_price",
    "slLimitPrice": "sl_limit_price",
}


def check_limit_exits(mode: str, order_type: str, limit_price: Decimal, leg: str, is_set: bool) -> None:
    """Limit exits exist in partial mode only and need their price."""
    if not is_set or order_type == "Market":
        return
    if mode != "Partial":
        raise parameter_error(f"{leg}OrderType Limit requires tpslMode Partial")
    if not limit_price:
        raise parameter_error(f"params error: {leg}LimitPrice is required")


def price_band(book: Book) -> tuple[Decimal, Decimal]:
    """The lowest sell price and the highest buy price of a contract (docs v5/market/order-price-limit)."""
    contract, mark, index = contract_of(book), book.mark_price, book.index_price
    premium = book.last_price - index
    highest = min(mark * (1 + contract.band_y), max(index, mark * (1 + contract.band_x) + max(ZERO, premium)))
    lowest = max(mark * (1 - contract.band_y), min(index, mark * (1 - contract.band_x) + min(ZERO, premium)))
    return on_tick(lowest, contract, up=True), on_tick(highest, contract, up=False)


def banded(order: Order, book: Book) -> Decimal:
    """The limit price the venue works with: moved to the edge of the band, unless the account wants a refusal.

    Raises:
        Refusal: 110003 when the account has turned the moving off.
    """
    lowest, highest = price_band(book)
    allowed = min(order.price, highest) if order.is_buy else max(order.price, lowest)
    if allowed != order.price and not order.account.moves_prices:
        raise Refusal(110003)
    return allowed


def check_size(order: Order, book: Book) -> None:
    """Quantity within its bounds and on its step, value above the minimum (not asked of reducing orders)."""
    contract = order.contract
    if not is_multiple(order.quantity, contract.base_step):
        raise parameter_error("Qty invalid")
    if order.quantity < contract.min_quantity:
        raise parameter_error("The number of contracts exceeds minimum limit allowed")
    most = contract.max_limit_quantity if order.order_type == "Limit" else contract.max_market_quantity
    if order.quantity > most and not order.reduce_only:
        raise parameter_error("The number of contracts exceeds maximum limit allowed: too large")
    value = order.quantity * (order.price or order.trigger_price or book.last_price)
    if value < contract.min_amount and not (order.reduce_only or order.close_on_trigger):
        raise Refusal(110094)


def _choice(body: Body, name: str, allowed: tuple[str, ...], default: str | None = None) -> str:
    value = body.get(name) or default
    if value not in allowed:
        raise parameter_error(f"params error: {name} invalid")
    return str(value)


def _time_in_force(body: Body, order_type: str) -> str:
    if order_type == "Market":
        return "IOC"
    value = _choice(body, "timeInForce", _TIMES_IN_FORCE, "GTC")
    if value == "RPI":
        raise Refusal(110119)
    return value


def _link_id(body: Body, account: Account) -> str:
    value = body.get("orderLinkId")
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not _LINK_ID.fullmatch(value):
        raise parameter_error("params error: orderLinkId invalid")
    if ("linear", value) in account.links:
        raise Refusal(110072)
    return value


def _quantity(body: Body, account: Account, contract: Contract, index: int, side: str, order_type: str) -> Decimal:
    """The quantity in base coin; ``"0"`` with both reducing flags closes as much as one order may."""
    value = parse(body.get("qty")) if given(body, "qty") else None
    if value is None or value < 0:
        raise parameter_error("Qty invalid")
    if value == 0:
        if not (flag(body, "reduceOnly") and flag(body, "closeOnTrigger")):
            raise parameter_error("The number of contracts exceeds minimum limit allowed")
        most = contract.max_limit_quantity if order_type == "Limit" else contract.max_market_quantity
        return min(most, account.position(contract, index).closable_by(side) or most)
    return value


def _limit_price(body: Body, side: str, book: Book) -> Decimal:
    """The price given, or the level of the book a best-bid-offer order names."""
    if body.get("bboSideType"):
        kind = _choice(body, "bboSideType", ("Queue", "Counterparty"))
        level = int(_choice(body, "bboLevel", ("1", "2", "3", "4", "5")))
        other = "Sell" if side == "Buy" else "Buy"
        return book.levels(side if kind == "Queue" else other, level)[-1][0]
    value = price_of(body, "price", contract_of(book))
    if value <= 0:
        raise parameter_error("Price invalid")
    return value


def _set_trigger(order: Order, body: Body, book: Book) -> None:
    """Direction and price of a conditional order must lie ahead of the market.

    Raises:
        Refusal: 110092 or 110093 when the trigger price is already passed.
    """
    direction = str(body.get("triggerDirection") or "")
    if direction not in ("1", "2"):
        raise parameter_error("TriggerDirection invalid")
    order.trigger_rises = direction == "1"
    check_trigger(order.trigger_price, order.trigger_by, book, rises=order.trigger_rises)


def check_trigger(price: Decimal, trigger_by: str, book: Book, *, rises: bool) -> None:
    current = reference_price(book, trigger_by)
    if rises and price <= current:
        raise Refusal(110092, text=_not_ahead("Rising", price, "<=", current, trigger_by))
    if not rises and price >= current:
        raise Refusal(110093, text=_not_ahead("Falling", price, ">=", current, trigger_by))


def _not_ahead(word: str, price: Decimal, sign: str, current: Decimal, trigger_by: str) -> str:
    return f"expect {word}, but trigger_price[{_scaled(price)}] {sign} current[{_scaled(current)}]??{trigger_by}"


def _scaled(price: Decimal) -> int:
    """A price as the texts of these refusals print it: times ten thousand (captured)."""
    return int(price * 10_000)


def _set_slippage(order: Order, body: Body) -> None:
    """Tolerance of a market order: 1 to 10,000 ticks, or 0.01 to 10 per cent (docs v5/order/create-order)."""
    kind = body.get("slippageToleranceType")
    if not kind or kind == "UNKNOWN":
        return
    if order.order_type != "Market" or order.trigger_price or kind not in ("TickSize", "Percent"):
        raise parameter_error("params error: slippageToleranceType invalid")
    value = parse(body.get("slippageTolerance"))
    step, least, most = _TICKS if kind == "TickSize" else _PERCENT
    if value is None or not least <= value <= most or not is_multiple(value, step):
        raise Refusal(110108 if kind == "TickSize" else 110109)
    order.slippage_type, order.slippage = str(kind), value


def _check_caps(order: Order) -> None:
    """500 active orders and ten conditional ones per symbol, exits of positions aside (docs v5/order/create-order)."""
    alike = [other for other in order.account.open_orders.values() if other.instrument is order.instrument]
    if order.trigger_price:
        if sum(other.is_conditional and other.stop_kind == "Stop" for other in alike) >= _MAX_CONDITIONAL:
            raise Refusal(110009)
    elif len(alike) >= _MAX_ACTIVE and sum(not other.is_conditional for other in alike) >= _MAX_ACTIVE:
        raise Refusal(110020)
