"""Positions, and how an account holds them."""

from __future__ import annotations

import enum
from decimal import Decimal

import attrs

from qkt.model.order_kinds import PositionSide
from qkt.money import ZERO
from qkt.plain import PlainValue


class PositionStatus(enum.Enum):
    """What the venue is doing with a position; ``UNKNOWN`` for a status that qkt was not taught."""

    NORMAL = "NORMAL"
    LIQUIDATING = "LIQUIDATING"
    ADL = "ADL"
    UNKNOWN = "UNKNOWN"


class PositionMode(enum.Enum):
    """One position per symbol, or a long and a short one beside each other."""

    ONE_WAY = "ONE_WAY"
    HEDGE = "HEDGE"


class MarginMode(enum.Enum):
    """What backs a position: margin of its own, the account's balance, or the account's whole portfolio."""

    ISOLATED = "ISOLATED"
    CROSS = "CROSS"
    PORTFOLIO = "PORTFOLIO"


@attrs.frozen(kw_only=True)
class Position(PlainValue):
    """Signed ``quantity`` (below zero is short), its average entry price, and the profit realised so far.

    ``avg_price`` is zero when flat; ``realized_pnl`` is in quote coin, before fees unless the tracker says otherwise.
    On the venue's own positions it is in the settle coin, since the position was opened, after fees and funding.

    The other fields are the venue's, None where it does not print them: ``position_side`` in hedge mode;
    ``liquidation_price`` is None where no price would liquidate it; margins and profits are in the settle coin;
    ``take_profit`` and ``stop_loss`` are trigger prices and ``trailing_stop`` a distance, of exits that close the whole
    position. ``as_of_ms`` is the venue time of this knowledge.
    Source: docs v5/position/position.
    """

    quantity: Decimal = ZERO
    avg_price: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    as_of_ms: int | None = None
    position_side: PositionSide | None = None
    mark_price: Decimal | None = None
    liquidation_price: Decimal | None = None
    leverage: Decimal | None = None
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    total_realized_pnl: Decimal | None = None
    status: PositionStatus = PositionStatus.NORMAL
    is_reduce_only: bool = False
    adl_rank: int = 0
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    trailing_stop: Decimal | None = None
