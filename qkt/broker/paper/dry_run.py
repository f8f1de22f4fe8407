"""Dry-run broker: logs each request on one line and sends nothing.

`LogBroker` accepts every order on every symbol, publishes `OrderAccepted` and keeps the order open until it is
cancelled. It never fills or expires an order, market and IOC orders included, since it knows no price. Use
`PaperBroker` for fills. Cancel, modify, `open_orders`, `wait` and their events work as at a venue.
"""

from __future__ import annotations

import enum
import logging
from decimal import Decimal

import attrs

from qkt.broker.paper.local import LocalBroker
from qkt.broker.paper.matching import FeeRates, PaperMarket
from qkt.broker.protocol import OrderTypeCapability, SubmitAck
from qkt.broker.risk import RiskLimits
from qkt.bus import EventBus
from qkt.clock import Clock
from qkt.model.orders import OrderModification, OrderRequest
from qkt.money import to_wire

log: logging.Logger = logging.getLogger(__name__)


class LogBroker(LocalBroker):
    """Logs at INFO on ``qkt.broker.paper.dry_run`` and sends nothing anywhere.

    One line per request, a stable phrase and ``key=value``: ``dry run submit``, ``dry run cancel``, ``dry run modify``.
    """

    capabilities: frozenset[OrderTypeCapability] = frozenset(OrderTypeCapability)

    def __init__(
        self, bus: EventBus, clock: Clock | None = None, *, name: str = "LOG", risk_limits: RiskLimits | None = None
    ) -> None:
        market = PaperMarket(fees=FeeRates(), coins_of=lambda _symbol: None, id_prefix=name.lower())
        super().__init__(bus, clock, market, name=name, risk_limits=risk_limits)

    def _answered(self, asked: str, ack: SubmitAck, terms: OrderRequest | OrderModification | None = None) -> None:
        log.info(
            "dry run %s source=%s client_order_id=%s broker_order_id=%s outcome=%s%s",
            asked,
            self.name,
            ack.client_order_id,
            ack.broker_order_id,
            ack.outcome.value,
            "" if terms is None else _written(terms),
        )


def _written(terms: OrderRequest | OrderModification) -> str:
    """The fields of a request that are set, as `` key=value``."""
    given = {"type": type(terms).__name__} | {
        field.name: getattr(terms, field.name) for field in attrs.fields(type(terms)) if field.name != "client_order_id"
    }
    return "".join(f" {name}={_plain(value)}" for name, value in given.items() if value not in (None, False, {}))


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return to_wire(value)
    return str(value.value) if isinstance(value, enum.Enum) else str(value)
