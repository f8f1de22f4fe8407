"""Orders as a trader asks for them and as a trader sees them.

Requests are checked when they are built, so a wrong order is an error in the caller's own line and never a refusal
from the venue. `OrderView` is the answer to "what do you believe about this order?": a frozen copy, safe to keep.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import attrs

from qkt.errors import InvalidRequestError
from qkt.ids import validate_client_order_id
from qkt.money import ZERO, require_positive


class Side(enum.Enum):
    """Which way an order trades."""

    BUY = "BUY"
    SELL = "SELL"

    @property
    def sign(self) -> int:
        """+1 for a buy, -1 for a sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


class TimeInForce(enum.Enum):
    """How long an order lives.

    ``DAY`` is here because traders ask for it; Bybit has no such lifetime and the Bybit brokers refuse it.
    """

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"
    POST_ONLY = "POST_ONLY"
    DAY = "DAY"


class OrderType(enum.Enum):
    """The shape of an order; ``UNKNOWN`` for an outside order whose kind the venue did not tell."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"
    IF_TOUCHED = "IF_TOUCHED"
    UNKNOWN = "UNKNOWN"


class OrderStatus(enum.Enum):
    """What qkt believes of an order.

    ``SUBMITTING`` (sent, no answer yet), ``UNRESOLVED`` (nobody knows: being asked), ``ACKNOWLEDGED`` (the venue has
    the request, no row seen yet), then the venue's own words.
    """

    SUBMITTING = "SUBMITTING"
    UNRESOLVED = "UNRESOLVED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    UNTRIGGERED = "UNTRIGGERED"
    TRIGGERED = "TRIGGERED"
    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"

    @property
    def is_closed(self) -> bool:
        """True for the three ends."""
        return self in _CLOSED


_CLOSED = frozenset({OrderStatus.FILLED, OrderStatus.CANCELLED, OrderStatus.REJECTED})


# One named converter per field: mypy reads a caller's types from them, and the message names the field.


def _limit_price(value: Decimal | int) -> Decimal:
    return require_positive(value, "limit_price")


def _optional_limit_price(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "limit_price")


def _optional_quantity(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "quantity")


def _optional_stop_loss(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "stop_loss")


def _optional_stop_price(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "stop_price")


def _optional_take_profit(value: Decimal | int | None) -> Decimal | None:
    return None if value is None else require_positive(value, "take_profit")


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


def _symbol(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(f'symbol must be text like "BYBIT_SPOT:BTCUSDT", got {value!r}')
    return value


def _client_order_id(value: Any) -> str | None:
    return None if value is None else validate_client_order_id(value)


@attrs.frozen(kw_only=True)
class OrderRequest:
    """What every order has: symbol, side, quantity and, if you name it yourself, its client order id.

    ``reduce_only`` (derivatives) lets the order only make a position smaller.
    """

    symbol: str = attrs.field(converter=_symbol)
    side: Side = attrs.field(validator=_one_of(Side))
    quantity: Decimal = attrs.field(converter=_quantity)
    time_in_force: TimeInForce = attrs.field(default=TimeInForce.GTC, validator=_one_of(TimeInForce))
    client_order_id: str | None = attrs.field(default=None, converter=_client_order_id)
    reduce_only: bool = False

    @property
    def order_type(self) -> OrderType:
        """The shape of this order."""
        return OrderType.UNKNOWN


@attrs.frozen(kw_only=True)
class MarketOrder(OrderRequest):
    """Trade now, at what the book gives. ``quantity`` is in base coin, or in quote coin with ``quote_sized=True``.

    Always immediate-or-cancel at the venue (docs v5/order/create-order), so no other lifetime is accepted.
    """

    time_in_force: TimeInForce = attrs.field(default=TimeInForce.IOC, validator=_one_of(TimeInForce))
    quote_sized: bool = False

    def __attrs_post_init__(self) -> None:
        if self.time_in_force is not TimeInForce.IOC:
            raise InvalidRequestError(
                f"a market order is always IOC at the venue, {self.time_in_force.name} would be a promise it cannot "
                "keep; leave time_in_force out"
            )

    @property
    def order_type(self) -> OrderType:
        return OrderType.MARKET


@attrs.frozen(kw_only=True)
class LimitOrder(OrderRequest):
    """Trade at ``limit_price`` or better. ``take_profit`` / ``stop_loss`` attach exits where the venue has them."""

    limit_price: Decimal = attrs.field(converter=_limit_price)
    take_profit: Decimal | None = attrs.field(default=None, converter=_optional_take_profit)
    stop_loss: Decimal | None = attrs.field(default=None, converter=_optional_stop_loss)

    @property
    def order_type(self) -> OrderType:
        return OrderType.LIMIT


@attrs.frozen(kw_only=True)
class StopOrder(OrderRequest):
    """A market order once the price trades through ``stop_price``: above it for a buy, below it for a sell."""

    stop_price: Decimal = attrs.field(converter=_stop_price)

    @property
    def order_type(self) -> OrderType:
        return OrderType.STOP


@attrs.frozen(kw_only=True)
class StopLimitOrder(OrderRequest):
    """A limit order at ``limit_price`` once the price trades through ``stop_price``."""

    stop_price: Decimal = attrs.field(converter=_stop_price)
    limit_price: Decimal = attrs.field(converter=_limit_price)

    @property
    def order_type(self) -> OrderType:
        return OrderType.STOP_LIMIT


@attrs.frozen(kw_only=True)
class IfTouchedOrder(OrderRequest):
    """Fires when the price comes *to* ``trigger_price``: down to it for a buy, up to it for a sell.

    A market order then, or a limit order when ``limit_price`` is given.
    """

    trigger_price: Decimal = attrs.field(converter=_trigger_price)
    limit_price: Decimal | None = attrs.field(default=None, converter=_optional_limit_price)

    @property
    def order_type(self) -> OrderType:
        return OrderType.IF_TOUCHED


@attrs.frozen(kw_only=True)
class OrderModification:
    """What to change on a working order; values are absolute, None leaves as it is. At least one must be given."""

    new_quantity: Decimal | None = attrs.field(default=None, converter=_optional_quantity)
    new_limit_price: Decimal | None = attrs.field(default=None, converter=_optional_limit_price)
    new_stop_price: Decimal | None = attrs.field(default=None, converter=_optional_stop_price)

    def __attrs_post_init__(self) -> None:
        if self.new_quantity is None and self.new_limit_price is None and self.new_stop_price is None:
            raise InvalidRequestError("an OrderModification changes nothing: give at least one new value")


def read_only(mapping: Mapping[str, Decimal]) -> Mapping[str, Decimal]:
    """A private read-only copy."""
    return MappingProxyType(dict(mapping))


@attrs.frozen(kw_only=True)
class OrderView:
    """What qkt believes of one order at one moment.

    ``quantity`` is in base coin (quote coin when ``quote_sized``), None while an outside order's size is unknown;
    ``leaves_quantity`` is None when the venue measures the order in quote. ``missing_quantity`` is what the venue
    reports as executed and no execution row has shown yet. ``fees`` is coin -> amount, negative for rebates.
    ``venue_status`` is the venue's own word, kept raw.
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
    fees: Mapping[str, Decimal] = attrs.field(factory=dict, converter=read_only)
    reason: str = ""
    created_ms: int = 0
    updated_ms: int = 0
