"""One execution: a match of part of an order. The words execution and fill mean the same thing in qkt."""

from __future__ import annotations

from decimal import Decimal

import attrs

from qkt.model.orders import OrderType, Side
from qkt.money import ZERO
from qkt.plain import PlainValue


@attrs.frozen(kw_only=True)
class Execution(PlainValue):
    """A fill as the venue reports it, from a frame or a REST row alike.

    ``quantity`` is in base coin, ``price`` in quote per base, ``fee`` in ``fee_currency`` (negative is a rebate).
    ``order_quantity`` and ``order_price`` are the order's size and limit as this execution knew them, None when the
    venue does not say (quote-sized orders print zero); ``leaves_quantity`` is what remained after it, None when not
    told. ``seq`` orders executions of one symbol and is shared by those concluded together; ``exec_type`` is the
    venue's word for how it came about, ``is_forced`` True when the venue closed (part of) the position itself:
    auto-deleveraging or liquidation. ``may_be_quote_sized`` is True when ``order_quantity`` may be in quote coin: a
    market buy whose row does not say the unit. ``taxes`` are charged on top of the fee, as (coin, amount) pairs.
    """

    exec_id: str
    broker_order_id: str
    client_order_id: str = ""
    symbol: str
    side: Side
    price: Decimal
    quantity: Decimal
    fee: Decimal = ZERO
    fee_currency: str = ""
    is_maker: bool = False
    exec_time_ms: int = 0
    order_quantity: Decimal | None = None
    order_price: Decimal | None = None
    leaves_quantity: Decimal | None = None
    order_type: OrderType = OrderType.UNKNOWN
    seq: int = 0
    exec_type: str = "Trade"
    is_forced: bool = False
    may_be_quote_sized: bool = False
    taxes: tuple[tuple[str, Decimal], ...] = ()

    @property
    def trading_order(self) -> tuple[int, int, str, Decimal, str]:
        """Sort key by trading order, as far as the venue shows it.

        Rows with equal time and ``seq`` are not ordered by the venue; within one order the leaves quantity decreases.
        """
        leaves = self.leaves_quantity if self.leaves_quantity is not None else ZERO
        return self.exec_time_ms, self.seq, self.broker_order_id, -leaves, self.exec_id
