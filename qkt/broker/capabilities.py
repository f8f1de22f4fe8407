"""The capabilities that an order requires."""

from __future__ import annotations

from collections.abc import Iterable

from qkt.broker.protocol import OrderTypeCapability
from qkt.model.orders import MarketOrder, OrderRequest, TimeInForce


def needed_for(request: OrderRequest) -> frozenset[OrderTypeCapability]:
    """Capabilities that a broker needs to accept ``request``."""
    needed = {OrderTypeCapability[request.order_type.name]}
    if request.time_in_force is TimeInForce.POST_ONLY:
        needed.add(OrderTypeCapability.POST_ONLY)
    if isinstance(request, MarketOrder) and request.quote_sized:
        needed.add(OrderTypeCapability.QUOTE_SIZED)
    if request.has_exits:
        needed.add(OrderTypeCapability.BRACKET)
    return frozenset(needed)


def capability_names(capabilities: Iterable[OrderTypeCapability]) -> str:
    """The names of capabilities, sorted, for an error text."""
    return ", ".join(sorted(capability.name for capability in capabilities))
