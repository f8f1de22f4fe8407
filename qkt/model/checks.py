"""Checks of an order against the venue's rules, before it is sent; errors name the rule and the nearest valid value.

`check_order` and `check_changes` raise or return nothing; they never change an order. `quantize` returns an order
that fits the venue's steps and is no worse for its owner: prices of a buy never up, of a sell never down, quantities
never up. Where rules or a price are not known the order passes, and the venue decides.

Pure: no I/O, no clock. Arithmetic is exact whatever the caller's decimal context.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Context, Decimal, DivisionByZero, InvalidOperation, Overflow
from typing import Any, TypeVar

import attrs

from qkt.errors import InvalidRequestError
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderRequest,
    OrderType,
    OrderView,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)
from qkt.money import to_wire

_MOST_DIGITS = 60
_EXACT = Context(prec=2 * _MOST_DIGITS, traps=[InvalidOperation, DivisionByZero, Overflow])

# Price fields of the order itself, and of the exits attached to it, which trade on the other side.
_OWN_PRICES = ("limit_price", "stop_price", "trigger_price")
_EXIT_PRICES = ("take_profit", "stop_loss", "take_profit_limit_price", "stop_loss_limit_price")

R = TypeVar("R", bound=OrderRequest)


def check_order(request: OrderRequest, rules: InstrumentRules | None, last_price: Decimal | None = None) -> None:
    """Raise InvalidRequestError for an order that the venue would refuse or would interpret differently.

    Args:
        rules: rules of the order's symbol; without them only checks that need no rules are made.
        last_price: last traded price, where it is known. It enables the checks of a trigger that is already crossed, of
            a limit price beyond the venue's outer band, and of a market order below the minimum value.
    """
    _check_exits(request, last_price)
    trigger = trigger_price_of(request)
    if trigger is not None and last_price is not None:
        _check_trigger(request.symbol, trigger, last_price, rises=fires_rising(request), kind=type(request).__name__)
    if rules is None:
        return
    if not rules.is_trading:
        raise InvalidRequestError(f"{request.symbol} is not open for trading at the venue")
    for name, named_price in _prices_of(request):
        _check_price(rules, name, named_price, wants_down=_wants_down(request.side, name))
    if isinstance(request, MarketOrder) and request.quote_sized:
        _check_quote_size(rules, request.quantity)
        return
    _check_quantity(rules, request.quantity, *_most(rules, request))
    if type(request) is LimitOrder and last_price is not None:
        _check_band(rules, request.side, request.limit_price, last_price)
    price: Decimal | None = getattr(request, "limit_price", None) or trigger or last_price
    if (
        price is not None and not request.reduce_only
    ):  # the venue's minimum value does not apply to orders that close a position
        _check_notional(rules, request.quantity, price)


def check_changes(
    order: OrderView, changes: OrderModification, rules: InstrumentRules | None, last_price: Decimal | None = None
) -> None:
    """Raise InvalidRequestError for a modification of a term that the order does not have, or that the venue would
    refuse.

    On a venue without a direction field the side of the market on which a trigger lies is its direction, so
    ``new_stop_price`` must stay on the side of the old one.
    """
    _check_has_what_changes(order, changes)
    if changes.new_stop_price is not None and last_price is not None and order.stop_price is not None:
        rises = _rises(order, last_price)
        _check_trigger(order.symbol, changes.new_stop_price, last_price, rises=rises, kind=order.order_type.value)
    if rules is None:
        return
    side = order.side or Side.BUY
    for name, price in (("new_limit_price", changes.new_limit_price), ("new_stop_price", changes.new_stop_price)):
        if price is not None:
            _check_price(rules, name, price, wants_down=side is Side.BUY)
    if changes.new_quantity is not None and not order.quote_sized:
        is_market = order.limit_price is None
        most = rules.max_market_quantity if is_market else rules.max_limit_quantity
        _check_quantity(rules, changes.new_quantity, most, "market" if is_market else "limit")


def _check_has_what_changes(order: OrderView, changes: OrderModification) -> None:
    kind = order.order_type.value
    if order.order_type is OrderType.MARKET:
        raise InvalidRequestError("a MARKET order trades at once or not at all: there is nothing to amend")
    if changes.new_limit_price is not None and order.limit_price is None:
        raise InvalidRequestError(f"a {kind} order has no limit price to change")
    if changes.new_stop_price is not None and order.stop_price is None:
        raise InvalidRequestError(f"a {kind} order has no stop price to change")


def quantize(request: R, rules: InstrumentRules) -> R:
    """The nearest order that the venue's steps allow and that is no worse for its owner; the same object if it fits
    already.

    A buy's prices are never moved up and a sell's never down; prices of attached exits move as those of an order of the
    other side; quantities are never increased. Minimum and maximum are checked by `check_order`, not here.

    Raises:
        InvalidRequestError: the quantity or a price would become zero.
    """
    changes: dict[str, Any] = {}
    for name, price in _prices_of(request):
        if rules.tick_size is not None:
            down = _wants_down(request.side, name)
            moved = _floor(price, rules.tick_size) if down else _ceiling(price, rules.tick_size)
            if moved <= 0:
                raise InvalidRequestError(
                    f"{name} {to_wire(price)} is below one tick of {request.symbol}, which is {_w(rules.tick_size)}"
                )
            changes[name] = moved
    step = rules.quote_step if getattr(request, "quote_sized", False) else rules.quantity_step
    if step is not None:
        quantity = _floor(request.quantity, step)
        if quantity <= 0:
            raise InvalidRequestError(
                f"quantity {to_wire(request.quantity)} is below one step of {request.symbol}, which is {_w(step)}: "
                "nothing is left of it"
            )
        changes["quantity"] = quantity
    moved_any = {name: value for name, value in changes.items() if value != getattr(request, name)}
    return attrs.evolve(request, **moved_any) if moved_any else request


def trigger_price_of(request: OrderRequest) -> Decimal | None:
    """The trigger price of a conditional order; None for any other order."""
    match request:
        case StopOrder(stop_price=price) | StopLimitOrder(stop_price=price):
            return price
        case IfTouchedOrder(trigger_price=price):
            return price
        case _:
            return None


def fires_rising(request: OrderRequest) -> bool:
    """True when a conditional order triggers as the price rises to its trigger."""
    return (request.side is Side.BUY) is not isinstance(request, IfTouchedOrder)


def is_crossed(order_type: OrderType, side: Side, trigger: Decimal, last_price: Decimal) -> bool:
    """True when the last price is already beyond the trigger of an order of this kind."""
    rises = (side is Side.BUY) is not (order_type is OrderType.IF_TOUCHED)
    return not (trigger > last_price if rises else trigger < last_price)


def notional_of(request: OrderRequest, last_price: Decimal | None = None) -> Decimal | None:
    """Value of an order in quote coin at its highest price, or at ``last_price``; None when no price is known."""
    if isinstance(request, MarketOrder) and request.quote_sized:
        return request.quantity
    named = [price for name, price in _prices_of(request) if name in _OWN_PRICES]
    known = named or ([] if last_price is None else [last_price])
    return _EXACT.multiply(request.quantity, max(known)) if known else None


def _check_exits(request: OrderRequest, last_price: Decimal | None) -> None:
    """Raise unless a take profit lies beyond the entry and a stop loss short of it (docs v5/order/create-order).

    The entry is the price the order names; for a market order the last price, where it is known.
    """
    if not request.has_exits:
        return
    named = getattr(request, "limit_price", None) or trigger_price_of(request)
    entry, name = (last_price, "the last price") if named is None else (named, _entry_name(request))
    if entry is None:
        return
    is_buy = request.side is Side.BUY
    exits = (("take_profit", request.take_profit, is_buy), ("stop_loss", request.stop_loss, not is_buy))
    for exit_name, price, wants_above in exits:
        if price is not None and (price <= entry if wants_above else price >= entry):
            raise InvalidRequestError(
                f"{exit_name} {_w(price)} must be {'above' if wants_above else 'below'} {name} {_w(entry)} for a "
                f"{request.side.name.lower()}"
            )


def _entry_name(request: OrderRequest) -> str:
    return next(name for name in _OWN_PRICES if getattr(request, name, None) is not None)


def _check_trigger(symbol: str, trigger: Decimal, last_price: Decimal, *, rises: bool, kind: str) -> None:
    if trigger > last_price if rises else trigger < last_price:
        return
    raise InvalidRequestError(
        f"the trigger {_w(trigger)} of this {kind} is already crossed: {symbol} last traded at {_w(last_price)}, and "
        f"it must be {'above' if rises else 'below'} that, or it would wait for the opposite move; trade at once with "
        "a market order, or choose another trigger"
    )


def _check_price(rules: InstrumentRules, name: str, price: Decimal, *, wants_down: bool) -> None:
    tick = rules.tick_size
    if tick is not None and _remainder(price, tick):
        below, above = _floor(price, tick), _ceiling(price, tick)
        nearest = f"{_w(below)} and {_w(above)}" if below > 0 else _w(above)
        hint = below if wants_down and below > 0 else above
        raise InvalidRequestError(
            f"{name} {_w(price)} of {rules.symbol} is not a multiple of the tick size {_w(tick)}; the nearest are "
            f"{nearest} (broker.quantize gives {_w(hint)})"
        )
    if rules.min_price is not None and price < rules.min_price:
        raise InvalidRequestError(f"{name} {_w(price)} of {rules.symbol} is below the minimum, {_w(rules.min_price)}")
    if rules.max_price is not None and price > rules.max_price:
        raise InvalidRequestError(f"{name} {_w(price)} of {rules.symbol} is above the maximum, {_w(rules.max_price)}")


def _check_quantity(rules: InstrumentRules, quantity: Decimal, most: Decimal | None, kind: str) -> None:
    step, least = rules.quantity_step, rules.min_quantity
    if most is not None and quantity > most:
        raise InvalidRequestError(
            f"quantity {_w(quantity)} of {rules.symbol} is above the maximum of a {kind} order, {_w(most)}"
        )
    if least is not None and quantity < least:
        raise InvalidRequestError(
            f"quantity {_w(quantity)} of {rules.symbol} is below the minimum quantity {_w(least)}"
        )
    if step is not None and _remainder(quantity, step):
        below, above = _floor(quantity, step), _ceiling(quantity, step)
        raise InvalidRequestError(
            f"quantity {_w(quantity)} of {rules.symbol} is not a multiple of the step {_w(step)}; the nearest are "
            f"{_w(below)} and {_w(above)} (broker.quantize gives {_w(below)})"
        )


def _check_quote_size(rules: InstrumentRules, quantity: Decimal) -> None:
    step, least = rules.quote_step, rules.min_notional
    if least is not None and quantity < least:
        raise InvalidRequestError(
            f"quantity {_w(quantity)} {rules.quote_coin} of {rules.symbol} is below the minimum order value "
            f"{_w(least)} {rules.quote_coin}"
        )
    if step is not None and _remainder(quantity, step):
        below, above = _floor(quantity, step), _ceiling(quantity, step)
        raise InvalidRequestError(
            f"quantity {_w(quantity)} {rules.quote_coin} of {rules.symbol} is not a multiple of the quote step "
            f"{_w(step)}; the nearest are {_w(below)} and {_w(above)} (broker.quantize gives {_w(below)})"
        )


def _check_notional(rules: InstrumentRules, quantity: Decimal, price: Decimal) -> None:
    least = rules.min_notional
    if least is None or _EXACT.multiply(quantity, price) >= least:
        return
    advice = ""
    if rules.quantity_step is not None:
        enough = _ceiling(_EXACT.divide(least, price), rules.quantity_step)
        advice = f"; the least quantity at that price is {_w(max(enough, rules.min_quantity or enough))}"
    raise InvalidRequestError(
        f"{_w(quantity)} {rules.base_coin} at {_w(price)} is worth {_w(_EXACT.multiply(quantity, price))} "
        f"{rules.quote_coin}, below the minimum order value {_w(least)} {rules.quote_coin} of {rules.symbol}{advice}"
    )


def _check_band(rules: InstrumentRules, side: Side, price: Decimal, last_price: Decimal) -> None:
    """Raise for a limit price outside the outer band, measured from the last price in place of the venue's index."""
    ratio = rules.price_limit_ratio_y
    if ratio is None:
        return
    bound = _EXACT.multiply(last_price, 1 + ratio if side is Side.BUY else 1 - ratio)
    if rules.tick_size is not None:
        bound = _floor(bound, rules.tick_size) if side is Side.BUY else _ceiling(bound, rules.tick_size)
    if price > bound if side is Side.BUY else price < bound:
        raise InvalidRequestError(
            f"limit_price {_w(price)} of {rules.symbol} is more than {_w((ratio * 100).normalize())} % away from the "
            f"last price {_w(last_price)}: the venue takes no {side.name.lower()} "
            f"{'above' if side is Side.BUY else 'below'} about {_w(bound)}"
        )


def _most(rules: InstrumentRules, request: OrderRequest) -> tuple[Decimal | None, str]:
    if getattr(request, "limit_price", None) is None:
        return rules.max_market_quantity, "market"
    if request.time_in_force is TimeInForce.POST_ONLY and rules.max_post_only_quantity is not None:
        return rules.max_post_only_quantity, "post-only"
    return rules.max_limit_quantity, "limit"


def _prices_of(request: OrderRequest) -> Iterator[tuple[str, Decimal]]:
    for name in (*_OWN_PRICES, *_EXIT_PRICES):
        price = getattr(request, name, None)
        if price is not None:
            yield name, price


def _wants_down(side: Side, name: str) -> bool:
    """True when moving the price down is no worse for the owner: buys, and the exits of sells."""
    return (side is Side.BUY) is not (name in _EXIT_PRICES)


def _rises(order: OrderView, last_price: Decimal) -> bool:
    """Direction of an order's trigger: by type for our own orders, by the side of the market for external ones."""
    assert order.stop_price is not None
    if order.external or order.side is None:
        return order.stop_price > last_price
    return (order.side is Side.BUY) is not (order.order_type is OrderType.IF_TOUCHED)


def _remainder(value: Decimal, step: Decimal) -> Decimal:
    try:
        return _EXACT.remainder(value, step)
    except InvalidOperation:
        raise _too_long(value) from None


def _floor(value: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of ``step`` that is not above ``value``; ``value`` itself if it is a multiple."""
    if not _remainder(value, step):
        return value
    return _EXACT.multiply(_EXACT.divide_int(value, step), step)


def _ceiling(value: Decimal, step: Decimal) -> Decimal:
    below = _floor(value, step)
    return below if below == value else _EXACT.add(below, step)


def _too_long(value: Decimal) -> InvalidRequestError:
    return InvalidRequestError(f"{value!r} has more digits than any venue takes")


def _w(value: Decimal) -> str:
    return to_wire(value) if abs(value.adjusted()) <= _MOST_DIGITS else str(value)
