"""Bybit USDT and USDC perpetuals: `BYBIT_LINEAR:BTCUSDT`, with positions, their exits and their settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any, ClassVar

from qkt.broker.arguments import list_argument
from qkt.broker.protocol import OrderTypeCapability, SubmitAck, SubmitOutcome
from qkt.bybit.broker import COMMON_CAPABILITIES, BybitBroker
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.recovery import POSITIONS
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.model.order_kinds import PositionSide, Side, TriggerBy
from qkt.model.orders import OrderRequest
from qkt.model.positions import MarginMode, Position, PositionMode
from qkt.model.protection import Protection, ProtectionKind
from qkt.money import ZERO, require_positive

PROTECTING = frozenset({ProtectionKind.STOP_LOSS, ProtectionKind.TRAILING_STOP})


class BybitLinearBroker(BybitBroker):
    """Trades Bybit USDT and USDC perpetuals and reconciles orders, fills, balances and positions. See `BybitBroker`.

    One-way and hedge mode. In hedge mode an order names its position with ``position_side``; the mode of a symbol is
    read before its first order, and an order that does not fit it raises InvalidRequestError before it is sent.
    The exits of positions are reconciled like orders: see `protect` and `protections`.
    """

    category: ClassVar[str] = "linear"
    source: str = "BYBIT_LINEAR"
    capabilities: ClassVar[frozenset[OrderTypeCapability]] = COMMON_CAPABILITIES
    has_positions: ClassVar[bool] = True

    def position(self, symbol: str, position_idx: int = 0) -> Position | None:
        """The venue's position on a symbol as last heard, or None when the venue never mentioned it.

        A fill is heard some milliseconds before the position that it makes:
        `wait_for_position` waits for that, ``positions(fresh=True)`` reads it.
        """
        BybitSymbol.parse(symbol)
        return self._position_keeper.position(symbol, position_idx)

    def positions(self, *, fresh: bool = False) -> dict[tuple[str, int], Position]:
        """Every position that is not flat: (symbol, position index) -> position.

        ``fresh`` reads them from the venue first; raises VenueUnavailableError when that fails.
        """
        if fresh:
            self._state.check_open()
            report = self._loop.run("positions asked", (POSITIONS,))
            if not report.ok:
                raise VenueUnavailableError(f"the positions could not be read:\n{report}")
        return self._position_keeper.positions()

    def wait_for_position(
        self,
        symbol: str,
        until: Callable[[Position], bool] = lambda position: position.quantity != 0,
        *,
        position_idx: int = 0,
        timeout_ms: int = 5_000,
    ) -> Position:
        """Block until the position on ``symbol`` is what ``until`` asks for, by default not flat; returns it.

        A position that the venue never mentioned counts as flat. Raises WaitTimeoutError, with the position as its
        view, when it takes longer than ``timeout_ms``.
        """
        BybitSymbol.parse(symbol)
        return self._position_keeper.wait(symbol, position_idx, until, timeout_ms)

    # orders

    def submit(self, request: OrderRequest, *, intent: str | None = None) -> SubmitAck:
        """See `BybitBroker.submit`; an order whose ``position_side`` its symbol's mode does not have raises."""
        self._state.check_open()
        self._check_sides([request])
        ack = super().submit(request, intent=intent)
        if ack.outcome is SubmitOutcome.REJECTED:
            self._position_entry.forget_mode(request.symbol)
        return ack

    def submit_many(
        self, requests: Iterable[OrderRequest], *, intents: Iterable[str | None] | None = None
    ) -> list[SubmitAck]:
        """See `BybitBroker.submit_many` and `submit`."""
        self._state.check_open()
        orders = list_argument(requests, "submit_many", "orders")
        self._check_sides(orders)
        return super().submit_many(orders, intents=intents)

    def check(self, request: OrderRequest) -> None:
        """Raise what `submit` would raise for this order, guards left out, and send nothing."""
        super().check(request)
        self._check_sides([request])

    def _check_sides(self, requests: Iterable[OrderRequest]) -> None:
        for request in requests:
            if isinstance(request, OrderRequest) and self.supports(request.symbol):
                self._position_entry.check_side(request.symbol, request.position_side)

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """See `BybitBroker.cancel`. The exit of a position that is cancelled here ends without `ProtectionLost`."""
        self._release_exits([broker_order_id] if broker_order_id else [])
        return super().cancel(client_order_id, broker_order_id=broker_order_id)

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """See `BybitBroker.cancel_many` and `cancel`."""
        named = list_argument(broker_order_ids, "cancel_many", "ids")
        self._release_exits(named)
        return super().cancel_many(client_order_ids, broker_order_ids=named)

    def _release_exits(self, broker_order_ids: Iterable[str]) -> None:
        for broker_order_id in broker_order_ids:
            self._protection.released(broker_order_id)

    # exits

    def protect(
        self,
        symbol: str,
        side: PositionSide | Side | None = None,
        *,
        take_profit: Decimal | int | None = None,
        stop_loss: Decimal | int | None = None,
        trailing: Decimal | int | None = None,
        take_profit_trigger_by: TriggerBy | None = None,
        stop_loss_trigger_by: TriggerBy | None = None,
        active_price: Decimal | int | None = None,
    ) -> tuple[Protection, ...]:
        """Set the exits of a whole open position; they follow its size and end with it.

        Args:
            side: the position in hedge mode; in one-way mode it may be left out.
            take_profit, stop_loss: trigger prices; 0 removes the exit, None leaves it as it is.
            trailing: distance of a trailing stop in quote; 0 removes it, None leaves it as it is.
            take_profit_trigger_by, stop_loss_trigger_by: the price that triggers; the last price when None.
            active_price: the price from which the trailing stop follows; at once when None.

        Returns what is known of each exit afterwards. An exit stands once the venue shows it, some milliseconds later
        by the stream: until then, and when the answer was lost, its state is UNKNOWN. `protections` has the newest.
        Exits of a part of a position are given with the order that opens it (``exit_mode=ExitMode.PARTIAL``).

        Raises InvalidRequestError for what cannot be right, BybitApiError when the venue refuses, and
        VenueUnavailableError when nothing was sent; in each case the exits are as they were.
        Source: POST /v5/position/trading-stop (docs v5/position/trading-stop).
        """
        self._state.check_open()
        self._require_own(symbol)
        values = {
            ProtectionKind.TAKE_PROFIT: _exit_value(take_profit, "take_profit"),
            ProtectionKind.STOP_LOSS: _exit_value(stop_loss, "stop_loss"),
            ProtectionKind.TRAILING_STOP: _exit_value(trailing, "trailing"),
        }
        wanted = {kind: value for kind, value in values.items() if value is not None}
        if not wanted:
            raise InvalidRequestError("protect changes nothing: give take_profit, stop_loss or trailing")
        triggers = {
            ProtectionKind.TAKE_PROFIT: take_profit_trigger_by,
            ProtectionKind.STOP_LOSS: stop_loss_trigger_by,
        }
        found = self._position_entry.protect(
            symbol,
            _position_side(side),
            wanted,
            trigger_by={kind: by for kind, by in triggers.items() if by is not None and kind in wanted},
            active_price=None if active_price is None else require_positive(active_price, "active_price"),
        )
        self._state.bus.deliver()
        return found

    def protections(self, symbol: str | None = None) -> tuple[Protection, ...]:
        """Every exit of an open position that stands, is wanted or is lost, of one symbol or of all.

        Exits set elsewhere and in earlier runs are found at the venue. An exit that is not shown any more is UNKNOWN
        until one more read confirms that it is gone, then DOES_NOT_STAND until it stands again or its position ends.
        """
        return tuple(one for one in self._protection.protections if symbol in (None, one.symbol))

    def unprotected(self) -> dict[tuple[str, int], Position]:
        """Open positions without a stop loss or trailing stop that is known to stand: (symbol, index) -> position.

        Stop orders that the user sent as orders of their own are not counted.
        """
        guarded = {
            (one.symbol, one.position_side)
            for one in self._protection.protections
            if one.stands and one.kind in PROTECTING
        }
        return {
            key: position
            for key, position in self._position_keeper.positions().items()
            if (key[0], position.position_side) not in guarded
        }

    # settings

    def position_mode(self, symbol: str) -> PositionMode | None:
        """The position mode of a symbol, read from the venue once; None when the venue does not say."""
        self._require_own(symbol)
        return self._position_entry.mode_of(symbol)

    def set_position_mode(self, where: str, mode: PositionMode) -> None:
        """Switch a symbol, or all symbols of a settle coin, to one-way or hedge mode; as it is already is a success.

        ``where``: ``"BYBIT_LINEAR:BTCUSDT"``, or ``"USDT"``. The venue refuses (BybitApiError) while a symbol has
        positions or orders, and has no hedge mode for USDC contracts. OutcomeUnknownError: call it again.
        Source: POST /v5/position/switch-mode (docs v5/position/position-mode).
        """
        self._state.check_open()
        _require(mode, PositionMode, "mode")
        if ":" in where:
            self._require_own(where)
        self._position_entry.set_position_mode(where, mode)

    def set_leverage(
        self, symbol: str, leverage: Decimal | int, *, short_leverage: Decimal | int | None = None
    ) -> None:
        """Set the leverage of a symbol; as it is already is a success.

        ``short_leverage``: of the short side where it may differ (hedge mode with isolated margin).
        Raises BybitApiError when the venue refuses; OutcomeUnknownError: call it again.
        Source: POST /v5/position/set-leverage (docs v5/position/leverage).
        """
        self._state.check_open()
        self._require_own(symbol)
        long = require_positive(leverage, "leverage")
        short = long if short_leverage is None else require_positive(short_leverage, "short_leverage")
        self._position_entry.set_leverage(symbol, long, short)

    def set_margin_mode(self, mode: MarginMode) -> None:
        """Set the margin mode of the account, all its symbols at once; as it is already is a success.

        Raises BybitApiError when the venue refuses; OutcomeUnknownError: call it again.
        Source: POST /v5/account/set-margin-mode (docs v5/account/set-margin-mode).
        """
        self._state.check_open()
        _require(mode, MarginMode, "mode")
        self._position_entry.set_margin_mode(mode)

    def _require_own(self, symbol: str) -> None:
        if BybitSymbol.parse(symbol).category != self.category:
            raise InvalidRequestError(f"{symbol} has no positions on {self.source}; use a BYBIT_LINEAR: symbol")


def _exit_value(value: Decimal | int | None, name: str) -> Decimal | None:
    """A price or distance, zero to remove it, None to leave it."""
    return value if value is None else ZERO if value == 0 else require_positive(value, name)


def _position_side(side: object) -> PositionSide | None:
    if side is None or isinstance(side, PositionSide):
        return side
    if isinstance(side, Side):
        return PositionSide.LONG if side is Side.BUY else PositionSide.SHORT
    raise InvalidRequestError(f"side must be PositionSide.LONG or PositionSide.SHORT, got {side!r}")


def _require(value: Any, kind: type[PositionMode] | type[MarginMode], name: str) -> None:
    if not isinstance(value, kind):
        raise InvalidRequestError(f"{name} must be one of {', '.join(map(str, kind))}; got {value!r}")
