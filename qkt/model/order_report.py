"""One order row in neutral terms, from a stream frame, a page of a list, or a lookup by id.

The codec of a venue fills these fields; the order state machine knows no venue-specific words.
"""

from __future__ import annotations

import enum
from decimal import Decimal

import attrs

from qkt.model.order_kinds import PLAIN, OrderDetails, OrderType, Side
from qkt.money import ZERO


class VenueStatus(enum.Enum):
    """Order statuses, and ``UNKNOWN`` for a status that the codec does not know."""

    NEW = "New"
    PARTIALLY_FILLED = "PartiallyFilled"
    UNTRIGGERED = "Untriggered"
    TRIGGERED = "Triggered"
    FILLED = "Filled"
    PARTIALLY_FILLED_CANCELED = "PartiallyFilledCanceled"
    CANCELLED = "Cancelled"
    REJECTED = "Rejected"
    DEACTIVATED = "Deactivated"
    UNKNOWN = ""

    @property
    def is_final(self) -> bool:
        """True for the statuses that an order never leaves; ``TRIGGERED`` is not one of them."""
        return self in _FINAL


_FINAL = frozenset(
    {
        VenueStatus.FILLED,
        VenueStatus.PARTIALLY_FILLED_CANCELED,
        VenueStatus.CANCELLED,
        VenueStatus.REJECTED,
        VenueStatus.DEACTIVATED,
    }
)


@attrs.frozen(kw_only=True)
class OrderReport:
    """A venue's row about one order.

    ``quantity`` is base coin, or quote coin when ``quote_sized``. ``limit_price`` and ``stop_price`` are None when the
    venue prints none or zero. ``last_price_on_created`` is the last traded price of the order's market when the venue
    took the order, None where the venue does not print it. Times are venue milliseconds, zero when the row has none.

    ``venue_status`` is the venue's word for ``status``. ``reason`` says why the order ended ("" while it is open).
    ``is_remainder_cancelled`` is True when the venue cancelled a rest that could not be filled: a buy sized in quote
    coin that ends so is filled. A row of an open or filled order may tell that a request about it was refused:
    ``refusal_reason`` is then not empty, and ``refuses_cancel`` True when that request was a cancel.
    ``order_filter`` is the venue's name for the list that holds the order, "" for plain orders.
    ``details`` is what the order may do to a position, what made it, and the exits it carries.
    """

    broker_order_id: str
    client_order_id: str = ""
    symbol: str
    side: Side
    status: VenueStatus
    venue_status: str
    order_type: OrderType = OrderType.UNKNOWN
    time_in_force: str = ""
    quantity: Decimal | None = None
    quote_sized: bool = False
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    last_price_on_created: Decimal | None = None
    cum_quantity: Decimal = ZERO
    avg_price: Decimal | None = None
    reason: str = ""
    is_remainder_cancelled: bool = False
    refusal_reason: str = ""
    refuses_cancel: bool = False
    order_filter: str = ""
    details: OrderDetails = PLAIN
    created_ms: int = 0
    updated_ms: int = 0
