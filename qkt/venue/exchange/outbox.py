"""Collects the changes of one command into frames of the private topics.

The engine reports changes one by one and the frames are built at the end of the command: fills and orders of one match
share a frame id, several records share one frame, the wallet comes last and has only the coins that changed (all as
captured from Bybit). No frames are built for an account without connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar
from uuid import UUID

from .accounts import Account, Order
from .executions import Execution
from .linear.margin import Margin
from .linear.positions import Position
from .linear.rows import position_row
from .rows import Row, execution_row, fast_execution_row, order_row, wallet_row

T = TypeVar("T")


@dataclass(slots=True)
class Frame:
    """One message of a private topic, before it is addressed to a connection."""

    topic: str
    category: str
    account: Account
    data: list[Row]
    creation_ms: int
    frame_id: str
    symbol: str = ""


@dataclass(slots=True)
class _Changes:
    executions: list[Execution] = field(default_factory=list)
    orders: list[Order | Row] = field(default_factory=list)
    positions: list[Position | Row] = field(default_factory=list)
    coins: dict[str, None] = field(default_factory=dict)


class Outbox:
    """Collects the changes of one command and hands its frames to a sink."""

    def __init__(self, now_ms: Callable[[], int], margin: Margin, random: Random) -> None:
        self._now_ms = now_ms
        self._margin = margin
        self._random = random
        self._changes: dict[int, tuple[Account, _Changes]] = {}
        self.sink: Callable[[list[Frame]], None] = lambda _: None

    def order(self, order: Order) -> None:
        """Report an order whose state at the end of the command is sent, once."""
        if order.account.listeners:
            orders = self._of(order.account).orders
            if not any(known is order for known in orders):
                orders.append(order)

    def order_now(self, order: Order, **changed: object) -> None:
        """Report the present state of an order in a record of its own, such as a status it is about to leave."""
        if order.account.listeners:
            self._of(order.account).orders.append({**order_row(order, stream=True), **changed})

    def execution(self, account: Account, execution: Execution) -> None:
        if account.listeners:
            self._of(account).executions.append(execution)

    def position(self, account: Account, position: Position) -> None:
        """Report a position whose state at the end of the command is sent, once."""
        if account.listeners:
            positions = self._of(account).positions
            if not any(known is position for known in positions):
                positions.append(position)

    def position_now(self, account: Account, position: Position) -> None:
        """Report the present state of a position in a record of its own."""
        if account.listeners:
            self._of(account).positions.append(position_row(account, position, self._margin, stream=True))

    def coin(self, account: Account, coin: str) -> None:
        if account.listeners:
            self._of(account).coins[coin] = None

    def flush(self) -> None:
        """Build and send the frames of everything collected."""
        if not self._changes:
            return
        changes, self._changes = self._changes, {}
        frames: list[Frame] = []
        for account, changed in changes.values():
            frames += self._frames(account, changed)
        self.sink(frames)

    def _of(self, account: Account) -> _Changes:
        found = self._changes.get(account.uid)
        if found is None:
            found = self._changes[account.uid] = (account, _Changes())
        return found[1]

    def _frames(self, account: Account, changed: _Changes) -> list[Frame]:
        now_ms = self._now_ms()
        frames: list[Frame] = []
        executions = _by_category(changed.executions, lambda execution: execution.instrument.category)
        rows = [row if isinstance(row, dict) else order_row(row, stream=True) for row in changed.orders]
        orders = _by_category(rows, lambda row: str(row["category"]))
        for category in {**executions, **orders}:
            frames += self._match_frames(
                account, category, executions.get(category, []), orders.get(category, []), now_ms
            )
        if changed.positions:
            told = [
                row if isinstance(row, dict) else position_row(account, row, self._margin, stream=True)
                for row in changed.positions
            ]
            frame_id = f"{account.uid}_position_{now_ms}"
            frames.append(Frame("position", "linear", account, told, now_ms, frame_id, told[0]["symbol"]))
        if changed.coins:
            wallet = wallet_row(account, changed.coins, self._margin)
            frames.append(Frame("wallet", "", account, [wallet], now_ms, f"{account.uid}_wallet_{now_ms}"))
        return frames

    def _match_frames(
        self, account: Account, category: str, executions: list[Execution], orders: list[Row], now_ms: int
    ) -> list[Frame]:
        """Executions and orders of one category, under one frame id."""
        frames: list[Frame] = []
        frame_id = str(UUID(int=self._random.getrandbits(128), version=4))
        if executions:
            last = executions[-1]
            number = last.instrument.symbol if category == "linear" else last.instrument.symbol_id
            frame_id = f"{account.uid}_{number}_{last.seq}"
            symbol = last.instrument.symbol
            fast = [fast_execution_row(fill) for fill in executions if fill.exec_type == "Trade"]
            full = [execution_row(fill, stream=True) for fill in executions]
            if fast:
                frames.append(Frame("execution.fast", category, account, fast, now_ms, "", symbol))
            frames.append(Frame("execution", category, account, full, now_ms, frame_id, symbol))
        if orders:
            frames.append(Frame("order", category, account, orders, now_ms, frame_id, orders[0]["symbol"]))
        return frames


def _by_category(records: Iterable[T], category_of: Callable[[T], str]) -> dict[str, list[T]]:
    found: dict[str, list[T]] = {}
    for record in records:
        found.setdefault(category_of(record), []).append(record)
    return found
