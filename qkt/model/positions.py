"""Position on one symbol."""

from __future__ import annotations

from decimal import Decimal

import attrs

from qkt.money import ZERO


@attrs.frozen(kw_only=True)
class Position:
    """Signed ``quantity`` (below zero is short), its average entry price, and the profit realised so far.

    ``avg_price`` is zero when flat; ``realized_pnl`` is in quote coin, before fees unless the tracker says otherwise.
    """

    quantity: Decimal = ZERO
    avg_price: Decimal = ZERO
    realized_pnl: Decimal = ZERO
