"""Position on one symbol."""

from __future__ import annotations

from decimal import Decimal

import attrs

from qkt.money import ZERO
from qkt.plain import PlainValue


@attrs.frozen(kw_only=True)
class Position(PlainValue):
    """Signed ``quantity`` (below zero is short), its average entry price, and the profit realised so far.

    ``avg_price`` is zero when flat; ``realized_pnl`` is in quote coin, before fees unless the tracker says otherwise.
    ``as_of_ms`` is the venue time of a position that the venue reported, None for one that fills add up to.
    """

    quantity: Decimal = ZERO
    avg_price: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    as_of_ms: int | None = None
