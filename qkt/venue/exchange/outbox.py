"""What one command changed, gathered into the frames that tell it.

The engine reports changes one by one; at the end of the command they leave together: fills and orders of one match
share one frame id, several records share one frame, the wallet comes last and names only the coins that moved
(all as captured from the venue). No one listening, no frame built.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from .accounts import Account, Order
from .executions import Execution
from .rows import PriceInUsd, Row, execution_row, fast_execution_row, order_row, wallet_row


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
    coins: dict[str, None] = field(default_factory=dict)


class Outbox:
    """Collects the changes of one command and hands its frames to a sink."""

    def __init__(self, now_ms: Callable[[], int], in_usd: PriceInUsd, random: Random) -> None:
        self._now_ms = now_ms
        self._in_usd = in_usd
        self._random = random
        self._changes: dict[int, tuple[Account, _Changes]] = {}
        self.sink: Callable[[list[Frame]], None] = lambda _: None

    def order(self, order: Order) -> None:
        """The order changed; its state at the end of the command is told, once."""
        if order.account.listeners:
            orders = self._of(order.account).orders
            if not any(known is order for known in orders):
                orders.append(order)

    def order_now(self, order: Order, **changed: object) -> None:
        """Tell the present state in a record of its own, e.g. an instant the order is about to leave."""
        if order.account.listeners:
            self._of(order.account).orders.append({**order_row(order, stream=True), **changed})

    def execution(self, account: Account, execution: Execution) -> None:
        if account.listeners:
            self._of(account).executions.append(execution)

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
        frame_id = str(UUID(int=self._random.getrandbits(128), version=4))
        if changed.executions:
            last = changed.executions[-1]
            frame_id = f"{account.uid}_{last.instrument.symbol_id}_{last.seq}"
            symbol = last.instrument.symbol
            category = last.instrument.category
            fast = [fast_execution_row(execution) for execution in changed.executions]
            full = [execution_row(execution, stream=True) for execution in changed.executions]
            frames.append(Frame("execution.fast", category, account, fast, now_ms, "", symbol))
            frames.append(Frame("execution", category, account, full, now_ms, frame_id, symbol))
        if changed.orders:
            rows = [row if isinstance(row, dict) else order_row(row, stream=True) for row in changed.orders]
            frames.append(Frame("order", rows[0]["category"], account, rows, now_ms, frame_id, rows[0]["symbol"]))
        if changed.coins:
            wallet = wallet_row(account, changed.coins, self._in_usd)
            frames.append(Frame("wallet", "", account, [wallet], now_ms, f"{account.uid}_wallet_{now_ms}"))
        return frames
