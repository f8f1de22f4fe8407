"""One order row as the venue reports it, whatever carried it: a frame, a page, or an answer to a question."""

from __future__ import annotations

import enum
from decimal import Decimal

import attrs

from qkt.model.orders import OrderType, Side
from qkt.money import ZERO


class VenueStatus(enum.Enum):
    """Bybit's order statuses (docs v5/enum#orderstatus) and one for words it has not taught us yet."""

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
        """True for the statuses that absorb. ``Triggered`` is listed as closed by the venue and is not."""
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
    """The venue's row about one order.

    ``quantity`` is base coin, or quote coin when ``quote_sized``. ``limit_price`` and ``stop_price`` are None when the
    venue prints none or zero. ``last_price_on_created`` is what a spot order's market last traded at when the venue
    took it, told by the stream only. Times are venue milliseconds, zero when the row has none.
    Source: docs v5/order/open-order, v5/order/order-list, v5/websocket/private/order.
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
    cancel_type: str = ""
    reject_reason: str = ""
    order_filter: str = ""
    parent_client_order_id: str = ""
    created_ms: int = 0
    updated_ms: int = 0
