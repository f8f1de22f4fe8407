"""Derivatives positions as joins: per symbol and position index the venue's newest word wins.

A position is what the venue says it is, never what fills add up to: liquidations, ADL and trades before our window move
it too. Frames and reads are ordered by ``seq`` and then by update time, so an older read never rolls back a frame
(S67). A flat position is not listed; it is zeroed only by a complete read started after its last word. Pure.

Source: docs v5/position/position, v5/websocket/private/position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

import attrs

from qkt.model.order_kinds import PositionSide
from qkt.model.positions import Position, PositionStatus
from qkt.money import ZERO

SIDES: dict[int, PositionSide | None] = {0: None, 1: PositionSide.LONG, 2: PositionSide.SHORT}
INDEX_OF_SIDE: dict[PositionSide | None, int] = {side: index for index, side in SIDES.items()}


@attrs.frozen(kw_only=True)
class VenuePosition:
    """One position: ``quantity`` is signed in base coin; ``position_idx`` is 0 one-way, 1 and 2 the hedge sides.

    The other fields are those of `Position`; they belong to the same version of the position as its size.
    """

    symbol: str
    position_idx: int = 0
    quantity: Decimal = ZERO
    avg_price: Decimal | None = None
    seq: int = -1
    updated_ms: int = 0
    as_of_ms: int = 0
    mark_price: Decimal | None = None
    liquidation_price: Decimal | None = None
    leverage: Decimal | None = None
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    realized_pnl: Decimal | None = None
    total_realized_pnl: Decimal | None = None
    status: PositionStatus = PositionStatus.NORMAL
    is_reduce_only: bool = False
    adl_rank: int = 0
    take_profit: Decimal | None = None
    stop_loss: Decimal | None = None
    trailing_stop: Decimal | None = None

    @property
    def key(self) -> tuple[str, int]:
        """What makes it this position: hedge sides on one symbol are two (S68)."""
        return self.symbol, self.position_idx

    def says_the_same_as(self, other: VenuePosition) -> bool:
        """True when size and entry price agree; position frames come on every order action, changed or not."""
        return (self.quantity, self.avg_price or ZERO) == (other.quantity, other.avg_price or ZERO)

    def view(self) -> Position:
        """The position as users see it."""
        return Position(
            quantity=self.quantity,
            avg_price=self.avg_price or ZERO,
            realized_pnl=self.realized_pnl or ZERO,
            as_of_ms=self.as_of_ms or None,
            position_side=SIDES.get(self.position_idx),
            mark_price=self.mark_price,
            liquidation_price=self.liquidation_price,
            leverage=self.leverage,
            initial_margin=self.initial_margin,
            maintenance_margin=self.maintenance_margin,
            unrealized_pnl=self.unrealized_pnl,
            total_realized_pnl=self.total_realized_pnl,
            status=self.status,
            is_reduce_only=self.is_reduce_only,
            adl_rank=self.adl_rank,
            take_profit=self.take_profit,
            stop_loss=self.stop_loss,
            trailing_stop=self.trailing_stop,
        )

    def flat(self, as_of_ms: int) -> VenuePosition:
        """The same position after it was closed; its leverage stays."""
        return VenuePosition(
            symbol=self.symbol,
            position_idx=self.position_idx,
            seq=self.seq,
            updated_ms=self.updated_ms,
            as_of_ms=as_of_ms,
            leverage=self.leverage,
            total_realized_pnl=self.total_realized_pnl,
        )


@attrs.frozen(kw_only=True)
class PositionBook:
    """Every position the venue ever told of."""

    held: Mapping[tuple[str, int], VenuePosition] = attrs.field(factory=dict)

    def after_frame(self, positions: Iterable[VenuePosition]) -> PositionBook:
        """Join pushed positions; those not listed stay as they are."""
        held = dict(self.held)
        for position in positions:
            known = held.get(position.key)
            if known is None or _version(position) >= _version(known):
                held[position.key] = position
        return PositionBook(held=held)

    def after_read(self, positions: Iterable[VenuePosition], begun_ms: int) -> PositionBook:
        """Join a complete read started at ``begun_ms``: what it does not list is flat."""
        listed = {position.key: position for position in positions}
        held = dict(self.after_frame(listed.values()).held)
        for key, known in self.held.items():
            if key not in listed and known.as_of_ms < begun_ms and known.quantity:
                held[key] = known.flat(begun_ms)
        return PositionBook(held=held)

    def changed_from(self, before: PositionBook) -> list[tuple[VenuePosition, VenuePosition]]:
        """Pairs (was, is) of positions whose size or entry differs; unknown before counts as flat."""
        pairs = []
        for key, position in self.held.items():
            was = before.held.get(key) or VenuePosition(symbol=position.symbol, position_idx=position.position_idx)
            if not position.says_the_same_as(was):
                pairs.append((was, position))
        return pairs


def _version(position: VenuePosition) -> tuple[int, int, int]:
    return position.seq, position.updated_ms, position.as_of_ms
