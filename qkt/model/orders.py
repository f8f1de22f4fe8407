"""Order requests, modifications, and the view of an order.

Requests are validated when they are built, so an invalid order raises in the caller's own line. `OrderView` is a
frozen copy of what is known about an order at one moment.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import attrs

from qkt.errors import InvalidRequestError
from qkt.ids import validate_client_order_id
from qkt.model.order_kinds import (
    PLAIN,
    ExitMode,
    OrderDetails,
    OrderStatus,
    OrderType,
    PositionSide,
    SelfMatch,
    Side,
    StopKind,
    TimeInForce,
    TriggerBy,
)
from qkt.money import ZERO, require_positive
from qkt.plain import PlainValue
from qkt.readonly import read_only_decimals

__all__ = [
    "PLAIN",
    "ExitMode",
    "ExtraValue",
    "IfTouchedOrder",
    "LimitOrder",
    "MarketOrder",
    "OrderDetails",
    "OrderModification",
    "OrderRequest",
    "OrderStatus",
    "OrderType",
    "OrderView",
    "PositionSide",
    "SelfMatch",
    "Side",
    "StopKind",
    "StopLimitOrder",
    "StopOrder",
    "TimeInForce",
    "TriggerBy",
]

ExtraValue = str | int | bool | Decimal
"""Value of a field in ``extra``; a Decimal is sent as text, exactly."""


# One named converter per field: mypy reads a caller's types from them, and the message names the field.


def _limit_price(value: Decimal | int) -> Decimal:
    return require_positive(value, "limit_price")


def _optional_limit_price(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "limit_price")


def _optional_quantity(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "quantity")


def _optional_stop_loss(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "stop_loss")


def _optional_stop_loss_limit(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "stop_loss_limit_price")


def _optional_stop_price(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "stop_price")


def _optional_take_profit(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "take_profit")


def _optional_take_profit_limit(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "take_profit_limit_price")


def _new_take_profit(value: Decimal | int | None) -> Decimal | None:
    """0 removes the exit, None leaves it as it is."""
    return value if value is None else ZERO if value == 0 else require_positive(value, "new_take_profit")


def _new_stop_loss(value: Decimal | int | None) -> Decimal | None:
    """0 removes the exit, None leaves it as it is."""
    return value if value is None else ZERO if value == 0 else require_positive(value, "new_stop_loss")


def _optional_slippage_pct(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "slippage_pct")


def _quantity(value: Decimal | int) -> Decimal:
    return require_positive(value, "quantity")


def _stop_price(value: Decimal | int) -> Decimal:
    return require_positive(value, "stop_price")


def _trigger_price(value: Decimal | int) -> Decimal:
    return require_positive(value, "trigger_price")


def _one_of(kind: type[enum.Enum]) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    def check(_instance: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if not isinstance(value, kind):
            choices = ", ".join(f"{kind.__name__}.{member.name}" for member in kind)
            raise InvalidRequestError(f"{attribute.name} must be one of {choices}; got {value!r}")

    return check


def _optional_one_of(kind: type[enum.Enum]) -> Callable[[Any, attrs.Attribute[Any], Any], None]:
    check = _one_of(kind)
    return lambda instance, attribute, value: None if value is None else check(instance, attribute, value)


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f'symbol must be text like "BYBIT_SPOT:BTCUSDT", got {value!r}')
    return value


def _client_order_id(value: Any) -> str | None:
    return None if value is None else validate_client_order_id(value)


def _extra(value: Mapping[str, ExtraValue]) -> Mapping[str, ExtraValue]:
    if not isinstance(value, Mapping) or not all(isinstance(name, str) for name in value):
        raise InvalidRequestError(f"extra must map the venue's field names to values, got {value!r}")
    return dict(value)


@attrs.frozen(kw_only=True)
class OrderRequest(PlainValue):
    """Fields that every order has.

    Args:
        symbol: with the broker's prefix, e.g. ``BYBIT_LINEAR:BTCUSDT``.
        quantity: in base coin.
        client_order_id: your name for the order; generated when None.
        reduce_only: the order may only make a position smaller (derivatives).
        close_on_trigger: the venue may cancel or shrink other orders so that this one can close a position
            (derivatives).
        position_side: the position of a hedge-mode account that the order trades; None in one-way mode.
        take_profit, stop_loss: trigger prices of exits attached to the order. Spot attaches them to limit orders only.
        take_profit_limit_price, stop_loss_limit_price: limit prices of the exits; market exits when None.
        take_profit_trigger_by, stop_loss_trigger_by: the price that triggers an exit; the last price when None.
        exit_mode: whether exits close the whole position or the filled quantity of this order; the venue's default
            when None, ``PARTIAL`` where an exit has a limit price.
        self_match: self-match prevention of this order as a taker; the account's default when None.
        is_leverage: borrow for this order (spot margin).
        extra: documented fields of the venue that have no argument here; checked by name, sent as they are.

    Source: docs v5/order/create-order.
    """

    symbol: str = attrs.field(converter=_symbol)
    side: Side = attrs.field(validator=_one_of(Side))
    quantity: Decimal = attrs.field(converter=_quantity)
    time_in_force: TimeInForce = attrs.field(default=TimeInForce.GTC, validator=_one_of(TimeInForce))
    client_order_id: str | None = attrs.field(default=None, converter=_client_order_id)
    reduce_only: bool = False
    close_on_trigger: bool = False
    position_side: PositionSide | None = attrs.field(default=None, validator=_optional_one_of(PositionSide))
    take_profit: Decimal | None = attrs.field(default=None, converter=_optional_take_profit)
    stop_loss: Decimal | None = attrs.field(default=None, converter=_optional_stop_loss)
    take_profit_limit_price: Decimal | None = attrs.field(default=None, converter=_optional_take_profit_limit)
    stop_loss_limit_price: Decimal | None = attrs.field(default=None, converter=_optional_stop_loss_limit)
    take_profit_trigger_by: TriggerBy | None = attrs.field(default=None, validator=_optional_one_of(TriggerBy))
    stop_loss_trigger_by: TriggerBy | None = attrs.field(default=None, validator=_optional_one_of(TriggerBy))
    exit_mode: ExitMode | None = attrs.field(default=None, validator=_optional_one_of(ExitMode))
    self_match: SelfMatch | None = attrs.field(default=None, validator=_optional_one_of(SelfMatch))
    is_leverage: bool = False
    extra: Mapping[str, ExtraValue] = attrs.field(factory=dict, converter=_extra, hash=False)

    def __attrs_post_init__(self) -> None:
        for exit_name in ("take_profit", "stop_loss"):
            for suffix in ("_limit_price", "_trigger_by"):
                if getattr(self, exit_name) is None and getattr(self, exit_name + suffix) is not None:
                    raise InvalidRequestError(
                        f"{exit_name}{suffix} needs {exit_name}, the price that triggers the exit"
                    )
        if not self.has_exits:
            if self.exit_mode is not None:
                raise InvalidRequestError("exit_mode says how exits close: give take_profit or stop_loss")
            return
        if self.reduce_only:
            raise InvalidRequestError("the venue attaches no take profit or stop loss to a reduce-only order")
        has_limit_exit = self.take_profit_limit_price is not None or self.stop_loss_limit_price is not None
        if has_limit_exit and self.exit_mode is ExitMode.FULL:
            raise InvalidRequestError("an exit with a limit price is PARTIAL at the venue; leave exit_mode out")

    @property
    def order_type(self) -> OrderType:
        """The type of this order."""
        return OrderType.UNKNOWN

    @property
    def has_exits(self) -> bool:
        """True when a take profit or a stop loss is attached."""
        return self.take_profit is not None or self.stop_loss is not None

    @property
    def details(self) -> OrderDetails:
        """What the order is beside its size and prices."""
        is_plain = self.order_type in (OrderType.MARKET, OrderType.LIMIT)
        if is_plain and not (self.reduce_only or self.close_on_trigger or self.has_exits or self.position_side):
            return PLAIN
        return OrderDetails(
            reduce_only=self.reduce_only,
            close_on_trigger=self.close_on_trigger,
            position_side=self.position_side,
            stop_kind=StopKind.NONE if is_plain else StopKind.CONDITIONAL,
            trigger_by=getattr(self, "trigger_by", None),
            take_profit=self.take_profit,
            stop_loss=self.stop_loss,
            exit_mode=self.exit_mode,
        )


@attrs.frozen(kw_only=True)
class MarketOrder(OrderRequest):
    """Trades at once at the prices of the book. ``quantity`` is in quote coin with ``quote_sized=True`` (spot).

    ``slippage_ticks`` or ``slippage_pct`` bounds how far from the best price it may trade; the rest is cancelled.
    A market order is always immediate-or-cancel at the venue, so no other time in force is accepted.
    Source: docs v5/order/create-order (``slippageToleranceType``).
    """

    time_in_force: TimeInForce = attrs.field(default=TimeInForce.IOC, validator=_one_of(TimeInForce))
    quote_sized: bool = False
    slippage_ticks: int | None = None
    slippage_pct: Decimal | None = attrs.field(default=None, converter=_optional_slippage_pct)

    def __attrs_post_init__(self) -> None:
        OrderRequest.__attrs_post_init__(self)
        if self.time_in_force is not TimeInForce.IOC:
            raise InvalidRequestError(
                f"a market order is always IOC at the venue, {self.time_in_force.name} would be a promise it cannot "
                "keep; leave time_in_force out"
            )
        ticks, pct = self.slippage_ticks, self.slippage_pct
        if ticks is not None and pct is not None:
            raise InvalidRequestError("give slippage_ticks or slippage_pct, not both")
        if ticks is not None and (isinstance(ticks, bool) or not isinstance(ticks, int) or not 1 <= ticks <= 10_000):
            raise InvalidRequestError(f"slippage_ticks is a whole number from 1 to 10000, got {ticks!r}")
        if pct is not None and not Decimal("0.01") <= pct <= 10:
            raise InvalidRequestError(f"slippage_pct is a per cent from 0.01 to 10, got {pct}")

    @property
    def order_type(self) -> OrderType:
        return OrderType.MARKET


@attrs.frozen(kw_only=True)
class LimitOrder(OrderRequest):
    """Trades at ``limit_price`` or better."""

    limit_price: Decimal = attrs.field(converter=_limit_price)

    @property
    def order_type(self) -> OrderType:
        return OrderType.LIMIT


@attrs.frozen(kw_only=True)
class StopOrder(OrderRequest):
    """A market order once the price trades through ``stop_price``: above it for a buy, below it for a sell.

    ``trigger_by`` is the price that triggers it; the last price when None (derivatives).
    """

    stop_price: Decimal = attrs.field(converter=_stop_price)
    trigger_by: TriggerBy | None = attrs.field(default=None, validator=_optional_one_of(TriggerBy))

    @property
    def order_type(self) -> OrderType:
        return OrderType.STOP


@attrs.frozen(kw_only=True)
class StopLimitOrder(OrderRequest):
    """A limit order at ``limit_price`` once the price trades through ``stop_price``; see `StopOrder`."""

    stop_price: Decimal = attrs.field(converter=_stop_price)
    limit_price: Decimal = attrs.field(converter=_limit_price)
    trigger_by: TriggerBy | None = attrs.field(default=None, validator=_optional_one_of(TriggerBy))

    @property
    def order_type(self) -> OrderType:
        return OrderType.STOP_LIMIT


@attrs.frozen(kw_only=True)
class IfTouchedOrder(OrderRequest):
    """Triggers when the price comes *to* ``trigger_price``: down to it for a buy, up to it for a sell.

    A market order then, or a limit order when ``limit_price`` is given.
    """

    trigger_price: Decimal = attrs.field(converter=_trigger_price)
    limit_price: Decimal | None = attrs.field(default=None, converter=_optional_limit_price)
    trigger_by: TriggerBy | None = attrs.field(default=None, validator=_optional_one_of(TriggerBy))

    @property
    def order_type(self) -> OrderType:
        return OrderType.IF_TOUCHED


@attrs.frozen(kw_only=True)
class OrderModification(PlainValue):
    """Changes to an open order; values are absolute, None leaves a term as it is. At least one must be given.

    ``new_take_profit`` and ``new_stop_loss`` of 0 remove the exit. ``extra`` as in `OrderRequest`.
    Source: docs v5/order/amend-order.
    """

    new_quantity: Decimal | None = attrs.field(default=None, converter=_optional_quantity)
    new_limit_price: Decimal | None = attrs.field(default=None, converter=_optional_limit_price)
    new_stop_price: Decimal | None = attrs.field(default=None, converter=_optional_stop_price)
    new_trigger_by: TriggerBy | None = attrs.field(default=None, validator=_optional_one_of(TriggerBy))
    new_take_profit: Decimal | None = attrs.field(default=None, converter=_new_take_profit)
    new_stop_loss: Decimal | None = attrs.field(default=None, converter=_new_stop_loss)
    new_take_profit_limit_price: Decimal | None = attrs.field(default=None, converter=_optional_take_profit_limit)
    new_stop_loss_limit_price: Decimal | None = attrs.field(default=None, converter=_optional_stop_loss_limit)
    new_take_profit_trigger_by: TriggerBy | None = attrs.field(default=None, validator=_optional_one_of(TriggerBy))
    new_stop_loss_trigger_by: TriggerBy | None = attrs.field(default=None, validator=_optional_one_of(TriggerBy))
    exit_mode: ExitMode | None = attrs.field(default=None, validator=_optional_one_of(ExitMode))
    extra: Mapping[str, ExtraValue] = attrs.field(factory=dict, converter=_extra, hash=False)

    def __attrs_post_init__(self) -> None:
        changes = [field.name for field in attrs.fields(type(self)) if field.name != "extra"]
        if not self.extra and all(getattr(self, name) is None for name in changes):
            raise InvalidRequestError("an OrderModification changes nothing: give at least one new value")


@attrs.frozen(kw_only=True)
class OrderView(PlainValue):
    """What is known about one order at one moment.

    ``quantity`` is in base coin (quote coin when ``quote_sized``), None while an external order's size is unknown;
    ``leaves_quantity`` is None when the venue measures the order in quote. ``missing_quantity`` is the executed
    quantity that the venue reports and no execution row has shown yet. ``fees`` is coin -> amount, negative for
    rebates. ``venue_status`` is the venue's own status text.

    On derivatives ``position_side`` is the hedge-mode position the order trades and ``stop_kind`` tells the exits that
    the venue creates (take profit, stop loss, trailing stop), liquidation and auto-deleveraging from other orders. Such
    orders have no client order id; ``parent_client_order_id`` names the order whose exit one is. ``take_profit`` and
    ``stop_loss`` are the triggers of the exits an order carries.
    """

    client_order_id: str
    broker_order_id: str
    symbol: str
    side: Side | None
    order_type: OrderType
    time_in_force: str
    quantity: Decimal | None
    quote_sized: bool = False
    limit_price: Decimal | None
    stop_price: Decimal | None
    status: OrderStatus
    venue_status: str
    is_open: bool
    is_unresolved: bool
    external: bool
    cum_quantity: Decimal = ZERO
    leaves_quantity: Decimal | None = None
    avg_price: Decimal | None = None
    missing_quantity: Decimal = ZERO
    fees: Mapping[str, Decimal] = attrs.field(factory=dict, converter=read_only_decimals)
    reason: str = ""
    reduce_only: bool = False
    close_on_trigger: bool = False
    position_side: PositionSide | None = None
    stop_kind: StopKind = StopKind.NONE
    parent_client_order_id: str = ""
    trigger_by: TriggerBy | None = None
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    exit_mode: ExitMode | None = None
    created_ms: int = 0
    updated_ms: int = 0
