"""Turns the body of a spot request into an order, or refuses it.

The parameters are checked in a fixed order and the first wrong one decides the code of the refusal (docs
``v5/error``). No state is changed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from .accounts import ORDER_FILTERS, Account, Order
from .book import Book
from .instruments import Instrument
from .linear.requests import contract_book
from .money import ZERO, is_multiple, parse
from .retcodes import Refusal, parameter_error

Body = Mapping[str, Any]
Books = Mapping[tuple[str, str], Book]

_LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "PostOnly", "RPI")
_ONE, _CENT = Decimal(1), Decimal("0.01")
_MOST_TICKS, _MOST_PERCENT = Decimal(10_000), Decimal(10)
_EXIT_PRICES = {
    "takeProfit": "take_profit",
    "stopLoss": "stop_loss",
    "tpLimitPrice": "tp_limit_price",
    "slLimitPrice": "sl_limit_price",
}
TRADED = ("spot", "linear")
_MAX_OPEN = 500
_MAX_CONDITIONAL_PER_SYMBOL = 30


@dataclass(frozen=True, slots=True)
class Amendment:
    """The values of an order after an amend."""

    quantity: Decimal
    price: Decimal
    trigger_price: Decimal
    take_profit: Decimal
    stop_loss: Decimal
    tp_limit_price: Decimal
    sl_limit_price: Decimal

    @classmethod
    def of(cls, order: Order) -> Amendment:
        """The values an order has."""
        return cls(
            order.quantity,
            order.price,
            order.trigger_price,
            order.take_profit,
            order.stop_loss,
            order.tp_limit_price,
            order.sl_limit_price,
        )


def category_of(body: Body) -> str:
    """The category of a request, which every order endpoint requires.

    Raises:
        Refusal: 10001 when missing, unknown, or not traded on this venue.
    """
    category = body.get("category")
    if not category:
        raise parameter_error("params error: Category is required")
    if category not in ("spot", "linear", "inverse", "option"):
        raise parameter_error("params error: Invalid category")
    if category not in TRADED:
        raise parameter_error(f"Illegal category: the simulated venue trades spot and linear, not {category}")
    return str(category)


def book_of(body: Body, books: Books, category: str) -> Book:
    """The spot pair or contract a request names.

    Raises:
        Refusal: 170105 or 170121 on spot, 10001 for a contract.
    """
    if category == "linear":
        return contract_book(body, books)
    symbol = body.get("symbol")
    if not symbol:
        raise Refusal(170105, "symbol")
    book = books.get((category, str(symbol)))
    if book is None:
        raise Refusal(170121)
    return book


def parse_create(body: Body, account: Account, books: Books) -> Order:
    """A create request as an order without id; `Engine.place` will check whether it can be paid.

    Raises:
        Refusal: with the code of the first parameter that is wrong.
    """
    book = book_of(body, books, category_of(body))
    instrument = book.instrument
    side, order_type = body.get("side"), body.get("orderType")
    if side not in ("Buy", "Sell"):
        raise Refusal(170117)
    if order_type not in ("Market", "Limit"):
        raise Refusal(170116)
    order_filter = _order_filter(body)
    trigger_price = _price(body, "triggerPrice", instrument)
    if trigger_price and order_filter == "Order":
        order_filter = "StopOrder"  # "if triggerPrice is set, the order becomes conditional" (docs create-order)
    if order_filter != "Order" and not trigger_price:
        raise Refusal(170202)
    time_in_force = _time_in_force(body, order_type)
    market_unit = _market_unit(body, side, order_type)
    in_quote = market_unit == "quoteCoin"
    order = Order(
        order_id="",
        link_id=_link_id(body, account, instrument.category),
        account=account,
        instrument=instrument,
        side=side,
        order_type=order_type,
        time_in_force=time_in_force,
        quantity=_quantity(body, "qty"),
        price=_limit_price(body, instrument) if order_type == "Limit" else ZERO,
        in_quote=in_quote,
        market_unit=market_unit,
        is_leverage=_is_leverage(body, account),
        order_filter=order_filter,
        trigger_price=trigger_price,
        trigger_rises=trigger_price > book.last_price,
        take_profit=_price(body, "takeProfit", instrument),
        stop_loss=_price(body, "stopLoss", instrument),
        tp_limit_price=_price(body, "tpLimitPrice", instrument),
        sl_limit_price=_price(body, "slLimitPrice", instrument),
        tp_order_type=str(body.get("tpOrderType") or ("Limit" if body.get("tpLimitPrice") else "Market")),
        sl_order_type=str(body.get("slOrderType") or ("Limit" if body.get("slLimitPrice") else "Market")),
        smp_type=_smp_type(body),
    )
    _set_slippage(order, body)
    _check_size(order, book)
    _check_tpsl(order)
    if order_type == "Limit" and not trigger_price:
        _check_band(order, book)
    _check_caps(order)
    return order


def parse_amend(body: Body, order: Order, book: Book) -> Amendment:
    """An amend request against the order it names.

    Raises:
        Refusal: with the code of the first parameter that is wrong, 10001 when nothing would change.
    """
    instrument = order.instrument
    quantity = _quantity(body, "qty") if _given(body, "qty") else order.quantity
    price = _limit_price(body, instrument) if _given(body, "price") and order.order_type == "Limit" else order.price
    trigger_price = order.trigger_price
    if _given(body, "triggerPrice") and order.is_conditional:
        trigger_price = _price(body, "triggerPrice", instrument) or order.trigger_price
    exits = {
        field: _price(body, name, instrument) if _given(body, name) else getattr(order, field)
        for name, field in _EXIT_PRICES.items()
    }
    amended = Amendment(quantity, price, trigger_price, **exits)
    if amended == Amendment.of(order):
        raise parameter_error("The order remains unchanged as the parameters entered match the existing ones.")
    if not order.in_quote and quantity < order.cum_quantity:
        raise Refusal(170313)
    probe = Order(
        order_id=order.order_id,
        link_id=order.link_id,
        account=order.account,
        instrument=instrument,
        side=order.side,
        order_type=order.order_type,
        time_in_force=order.time_in_force,
        quantity=quantity,
        price=price,
        in_quote=order.in_quote,
        trigger_price=trigger_price,
    )
    _check_size(probe, book)
    if price != order.price and not order.is_conditional:
        _check_band(probe, book)
    return amended


def order_filter_of(body: Body, default: str | None) -> str | None:
    """The ``orderFilter`` of a cancel or a query, checked."""
    value = body.get("orderFilter")
    if not value:
        return default
    if value not in ORDER_FILTERS:
        raise Refusal(170201)
    return str(value)


def _given(body: Body, name: str) -> bool:
    return body.get(name) not in (None, "")


def _order_filter(body: Body) -> str:
    value = order_filter_of(body, "Order")
    if value not in ("Order", "tpslOrder", "StopOrder"):
        raise Refusal(170201)
    return value


def _time_in_force(body: Body, order_type: str) -> str:
    value = body.get("timeInForce") or "GTC"
    if order_type == "Market":
        return "IOC"
    if value not in _TIMES_IN_FORCE:
        raise Refusal(170115)
    if value == "RPI":
        raise Refusal(170355, text="RPI orders are restricted to approved market makers only")
    return str(value)


def _market_unit(body: Body, side: str, order_type: str) -> str:
    if order_type != "Market":
        return ""
    value = body.get("marketUnit") or ("quoteCoin" if side == "Buy" else "baseCoin")
    if value not in ("baseCoin", "quoteCoin"):
        raise Refusal(170130, "marketUnit")
    return str(value)


def _is_leverage(body: Body, account: Account) -> str:
    value = str(body.get("isLeverage") or 0)
    if value not in ("0", "1"):
        raise Refusal(170130, "isLeverage")
    if value == "1" and not account.margin_enabled:
        raise Refusal(170036)
    return value


def _smp_type(body: Body) -> str:
    value = body.get("smpType") or "None"
    if value not in ("None", "CancelMaker", "CancelTaker", "CancelBoth"):
        raise Refusal(170130, "smpType")
    return str(value)


def _set_slippage(order: Order, body: Body) -> None:
    """Tolerance of a market order: 1 to 10,000 ticks, or 0.01 to 10 per cent (docs v5/order/create-order)."""
    kind = body.get("slippageToleranceType")
    if not kind:
        return
    value = parse(body.get("slippageTolerance"))
    if order.order_type != "Market" or order.order_filter != "Order" or kind not in ("TickSize", "Percent"):
        raise Refusal(170130, "slippageToleranceType")
    step, least, most = (_ONE, _ONE, _MOST_TICKS) if kind == "TickSize" else (_CENT, _CENT, _MOST_PERCENT)
    if value is None or not least <= value <= most or not is_multiple(value, step):
        raise Refusal(170130, "slippageTolerance")
    order.slippage_type, order.slippage = str(kind), value


def _link_id(body: Body, account: Account, category: str) -> str:
    value = body.get("orderLinkId")
    if value in (None, ""):
        return ""
    if not isinstance(value, str) or not _LINK_ID.fullmatch(value):
        raise Refusal(170130, "orderLinkId")
    if (category, value) in account.links:
        raise Refusal(170141)
    return value


def _quantity(body: Body, name: str) -> Decimal:
    if not _given(body, name):
        raise Refusal(170105, name)
    value = parse(body[name])
    if value is None:
        raise Refusal(170130, name)
    if value <= 0:
        raise Refusal(170136)
    return value


def _limit_price(body: Body, instrument: Instrument) -> Decimal:
    if not _given(body, "price"):
        raise Refusal(170105, "price")
    value = _price(body, "price", instrument)
    if value <= 0:
        raise Refusal(170133)
    return value


def _price(body: Body, name: str, instrument: Instrument) -> Decimal:
    """A price on the tick; zero when not given (``""`` and ``"0"`` mean unset)."""
    if not _given(body, name):
        return ZERO
    value = parse(body[name])
    if value is None:
        raise Refusal(170130, name)
    if value < 0:
        raise Refusal(170133)
    if not is_multiple(value, instrument.tick):
        raise Refusal(170134)
    if value > 10**9:
        raise Refusal(170132)
    return value


def _check_size(order: Order, book: Book) -> None:
    instrument = order.instrument
    if order.in_quote:
        if not is_multiple(order.quantity, instrument.quote_step):
            raise Refusal(170148)
        if order.quantity < instrument.min_amount:
            raise Refusal(170140)
        if order.quantity > instrument.max_amount:
            raise Refusal(170124)
        return
    if not is_multiple(order.quantity, instrument.base_step):
        raise Refusal(170137)
    if order.quantity < instrument.min_quantity:
        raise Refusal(170136)
    limited = instrument.max_limit_quantity if order.order_type == "Limit" else instrument.max_market_quantity
    if order.quantity > limited:
        raise Refusal(170381)
    if order.quantity * (order.price or order.trigger_price or book.last_price) < instrument.min_amount:
        raise Refusal(170140)


def _check_tpsl(order: Order) -> None:
    """Attached TP/SL: Limit orders only, on the right side of the entry, each limit leg with its price."""
    if not (order.take_profit or order.stop_loss):
        return
    if order.order_type != "Limit" or order.order_filter != "Order":
        raise Refusal(170130, "takeProfit")
    if order.tp_order_type == "Limit" and order.take_profit and not order.tp_limit_price:
        raise Refusal(170105, "tpLimitPrice")
    if order.sl_order_type == "Limit" and order.stop_loss and not order.sl_limit_price:
        raise Refusal(170105, "slLimitPrice")
    gain, loss = order.take_profit, order.stop_loss
    if not order.is_buy:
        gain, loss = loss, gain
    if (gain and gain <= order.price) or (loss and loss >= order.price):
        raise Refusal(170130, "takeProfit" if order.take_profit else "stopLoss")


def price_band(book: Book) -> tuple[Decimal, Decimal]:
    """The lowest sell price and the highest buy price of a spot pair.

    The real venue measures from an index; this one has none and takes the last price.
    """
    ratio, tick = book.instrument.band_y, book.instrument.tick
    lowest = -(-(book.last_price * (1 - ratio)) // tick) * tick
    return lowest, (book.last_price * (1 + ratio)) // tick * tick


def _check_band(order: Order, book: Book) -> None:
    """Spot refuses limit prices beyond the band, where derivatives would move them."""
    lowest, highest = price_band(book)
    if order.is_buy and order.price > highest:
        raise Refusal(170193, highest)
    if not order.is_buy and order.price < lowest:
        raise Refusal(170194, lowest)


def _check_caps(order: Order) -> None:
    """500 open orders in all, of which 30 conditional and 30 TP/SL per symbol (docs v5/order/create-order)."""
    open_orders = order.account.open_orders
    if len(open_orders) >= _MAX_OPEN:
        raise Refusal(170810)
    if order.order_filter == "Order" or len(open_orders) < _MAX_CONDITIONAL_PER_SYMBOL:
        return
    alike = sum(
        other.is_conditional and other.order_filter == order.order_filter and other.instrument is order.instrument
        for other in open_orders.values()
    )
    if alike >= _MAX_CONDITIONAL_PER_SYMBOL:
        raise Refusal(170810)
