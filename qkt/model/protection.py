"""Protection of a position: the exits that close it, and whether each is known to stand at the venue."""

from __future__ import annotations

import enum
from decimal import Decimal

import attrs

from qkt.model.order_kinds import PositionSide
from qkt.plain import PlainValue


class ProtectionKind(enum.Enum):
    """The three exits of a position."""

    TAKE_PROFIT = "TAKE_PROFIT"
    STOP_LOSS = "STOP_LOSS"
    TRAILING_STOP = "TRAILING_STOP"


class ProtectionState(enum.Enum):
    """What is known of an exit.

    ``STANDS`` and ``DOES_NOT_STAND`` are what the venue showed last. ``UNKNOWN``: a request has no answer or no
    evidence yet, or the exit is no longer shown and one more read has to confirm that. ``ENDED``: it is over because
    its position is, it was removed on request, or it has closed what it had to close.
    """

    STANDS = "STANDS"
    DOES_NOT_STAND = "DOES_NOT_STAND"
    UNKNOWN = "UNKNOWN"
    ENDED = "ENDED"


@attrs.frozen(kw_only=True)
class Protection(PlainValue):
    """One exit of one position.

    ``price`` is the trigger price the venue shows (the distance of a trailing stop), None while it shows none;
    ``wanted`` is what was asked for and is not shown yet. ``quantity`` is what a partial exit closes, None for an exit
    of the whole position. ``since_ms`` (venue time) is when the state was entered. ``broker_order_id`` is the venue's
    order for it and ``parent_client_order_id`` the order it was given with, each "" where there is none.
    """

    symbol: str
    position_side: PositionSide | None = None
    kind: ProtectionKind
    state: ProtectionState
    price: Decimal | None = None
    wanted: Decimal | None = None
    quantity: Decimal | None = None
    since_ms: int = 0
    reason: str = ""
    broker_order_id: str = ""
    parent_client_order_id: str = ""

    @property
    def stands(self) -> bool:
        """True when the venue is known to hold the exit."""
        return self.state is ProtectionState.STANDS

    def __str__(self) -> str:
        side = f" {self.position_side.value}" if self.position_side is not None else ""
        price = "" if self.price is None else f" at {self.price}"
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.symbol}{side} {self.kind.value}{price}: {self.state.value} since {self.since_ms}{reason}"
