"""The record of one execution."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from .instruments import Instrument
from .money import ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One fill of one order, with all values of its row."""

    exec_id: str
    number: int
    seq: int
    order_id: str
    link_id: str
    instrument: Instrument
    side: str
    order_type: str
    stop_order_type: str
    market_unit: str
    is_leverage: str
    order_price: Decimal
    order_quantity: Decimal
    leaves_quantity: Decimal
    price: Decimal
    quantity: Decimal
    value: Decimal
    fee: Decimal
    fee_coin: str
    fee_rate: Decimal
    is_maker: bool
    time_ms: int
    exec_type: str = "Trade"
    create_type: str = "CreateByUser"
    closed_size: Decimal = ZERO
    profit: Decimal = ZERO
    mark_price: Decimal = ZERO
    index_price: Decimal = ZERO
