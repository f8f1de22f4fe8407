"""A spot broker on a fake client, with time moved by hand."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import attrs
import pytest

from qkt.bus import EventBus
from qkt.bybit.spot import BybitSpotBroker
from qkt.errors import OutcomeUnknownError
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import a_limit_order

START_MS = 1_767_225_600_000


@attrs.frozen(kw_only=True)
class Account:
    """A broker and everything it stands on."""

    client: FakeBybitClient
    bus: EventBus
    clock: FixedClock
    scheduler: TickScheduler
    broker: BybitSpotBroker

    def submit(self, client_order_id: str = "c1") -> None:
        """Send a limit buy of 1 at 100."""
        self.broker.submit(a_limit_order(client_order_id=client_order_id))

    def lose_a_submit(self, client_order_id: str = "lost") -> None:
        """Send an order that gets no answer."""
        self.client.responses["/v5/order/create"] = OutcomeUnknownError("no answer")
        self.submit(client_order_id)

    def broker_order_id(self, client_order_id: str) -> str:
        """The venue's id of an order of ours."""
        return self.broker.order(client_order_id).broker_order_id or f"b-{client_order_id}"

    def tell_order(self, status: str = "New", *, client_order_id: str = "c1", cum: str = "0") -> None:
        """A frame of the order topic."""
        now = str(self.clock.now_ms())
        row = {
            "category": "spot",
            "symbol": "BTCUSDT",
            "orderId": self.broker_order_id(client_order_id),
            "orderLinkId": client_order_id,
            "side": "Buy",
            "orderType": "Limit",
            "timeInForce": "GTC",
            "price": "100",
            "qty": "1",
            "cumExecQty": cum,
            "orderStatus": status,
            "createdTime": now,
            "updatedTime": now,
        }
        self.client.emit_ws_frame("order.spot", [row])

    def tell_fill(
        self, quantity: str = "0.4", *, client_order_id: str = "c1", exec_id: str = "e1", ago_ms: int = 0
    ) -> None:
        """A frame of the execution topic."""
        row = {
            "category": "spot",
            "symbol": "BTCUSDT",
            "orderId": self.broker_order_id(client_order_id),
            "orderLinkId": client_order_id,
            "side": "Buy",
            "orderType": "Limit",
            "execId": exec_id,
            "execPrice": "100",
            "execQty": quantity,
            "execFee": "0",
            "orderQty": "1",
            "execType": "Trade",
            "execTime": str(self.clock.now_ms() - ago_ms),
        }
        self.client.emit_ws_frame("execution.spot", [row])


def new_account(**options: Any) -> Account:
    """An account of its own."""
    client, clock, scheduler = FakeBybitClient(), FixedClock(START_MS), TickScheduler()
    client.update_balances({"USDT": Decimal(1_000)})
    bus = EventBus(clock, on_handler_error=lambda error, event, handler: None)
    broker = BybitSpotBroker(client, bus, clock, poll_scheduler=scheduler, **options)
    return Account(client=client, bus=bus, clock=clock, scheduler=scheduler, broker=broker)


@pytest.fixture
def account() -> Iterator[Account]:
    """A broker whose first round is done."""
    built = new_account()
    yield built
    built.broker.close()
