"""The linear broker keeps the contract too: the simulated venue is spot only, so a fake client plays a linear one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from qkt.bus import EventBus
from qkt.bybit.linear import BybitLinearBroker
from qkt.clock import SystemClock
from qkt.testing import FakeBybitClient, TickScheduler
from qkt.testing.builders import envelope, execution_row, frame, order_row, refusal
from qkt.testing.contract import broker_checks

OPEN = ("New", "PartiallyFilled")


class LinearVenue:
    """As much of a linear venue as the contract asks for: orders rest until they are amended, cancelled or filled."""

    def __init__(self) -> None:
        self.client = FakeBybitClient()
        self.orders: dict[str, dict[str, Any]] = {}
        self.executions: list[dict[str, Any]] = []
        self._waiting: list[tuple[str, dict[str, Any]]] = []
        self._numbers = itertools.count(1)
        self.client.responses.update(
            {
                "/v5/order/create": self._create,
                "/v5/order/amend": self._amend,
                "/v5/order/cancel": self._cancel,
                "/v5/order/create-batch": lambda request: self._each(self._create, request),
                "/v5/order/cancel-batch": lambda request: self._each(self._cancel, request),
                "/v5/order/realtime": self._list,
                "/v5/order/history": self._list,
                "/v5/execution/list": lambda: envelope(self.executions),
            }
        )

    def settle(self) -> None:
        """Hand out the frames that wait."""
        waiting, self._waiting = self._waiting, []
        for topic, row in waiting:
            self.client.emit_ws_frame(topic, frame(topic, row, created_ms=self._now_ms()))

    def fill(self, link_id: str) -> None:
        row = self.orders[link_id]
        half = Decimal(row["qty"]) / 2
        for part in (1, 2):
            execution = execution_row(
                category="linear", orderId=row["orderId"], orderLinkId=link_id, execId=f"{link_id}-{part}",
                execPrice=row["price"], execQty=str(half), orderQty=row["qty"], execTime=str(self._now_ms()),
                feeCurrency="USDT",
            )  # fmt: skip
            self.executions.append(execution)
            self._waiting.append(("execution", execution))
        self._change(link_id, orderStatus="Filled", cumExecQty=row["qty"], leavesQty="0")

    def _create(self, request: Any) -> Any:
        link_id = request["orderLinkId"]
        row = order_row(
            category="linear", symbol=request["symbol"], orderId=f"linear-{next(self._numbers)}", orderLinkId=link_id,
            side=request["side"], orderType=request["orderType"], timeInForce=request.get("timeInForce", "GTC"),
            price=request.get("price", "0"), qty=request["qty"], leavesQty=request["qty"],
            createdTime=str(self._now_ms()),
        )  # fmt: skip
        self.orders[link_id] = row
        self._change(link_id)
        return self._named(row)

    def _amend(self, request: Any) -> Any:
        row = self._asked_for(request)
        if row is None:
            return refusal(110001, "order not exists or too late to replace")
        terms = {name: request[name] for name in ("price", "qty") if name in request}
        self._change(row["orderLinkId"], **terms, leavesQty=terms.get("qty", row["qty"]))
        return self._named(row)

    def _cancel(self, request: Any) -> Any:
        row = self._asked_for(request)
        if row is None:
            return refusal(110001, "order not exists or too late to cancel")
        self._change(row["orderLinkId"], orderStatus="Cancelled", cancelType="CancelByUser", leavesQty="0")
        return self._named(row)

    @staticmethod
    def _each(act: Callable[[Any], Any], request: Any) -> Any:
        answers = [act(item) for item in request["request"]]
        codes = [{"code": answer["retCode"], "msg": answer["retMsg"]} for answer in answers]
        listed = {"list": [answer["result"] for answer in answers]}
        return {"retCode": 0, "retMsg": "OK", "result": listed, "retExtInfo": {"list": codes}, "time": 0}

    def _asked_for(self, request: Any) -> dict[str, Any] | None:
        """The open order a request names."""
        named = (row for row in self.orders.values() if self._is_named(row, request))
        return next((row for row in named if row["orderStatus"] in OPEN), None)

    def _list(self, request: Any) -> Any:
        by_id = "orderId" in request or "orderLinkId" in request
        rows = [row for row in self.orders.values() if not by_id or self._is_named(row, request)]
        return envelope([row for row in rows if by_id or row["orderStatus"] in OPEN])

    @staticmethod
    def _is_named(row: dict[str, Any], request: Any) -> bool:
        return row["orderId"] == request.get("orderId") or row["orderLinkId"] == request.get("orderLinkId")  # type: ignore[no-any-return]

    def _change(self, link_id: str, **changes: Any) -> None:
        row = self.orders[link_id]
        row.update(changes, updatedTime=str(max(self._now_ms(), int(row.get("updatedTime") or 0) + 1)))
        self._waiting.append(("order", dict(row)))

    @staticmethod
    def _named(row: dict[str, Any]) -> dict[str, Any]:
        ids = {"orderId": row["orderId"], "orderLinkId": row["orderLinkId"]}
        return {"retCode": 0, "retMsg": "OK", "result": ids, "retExtInfo": {}, "time": 0}

    @staticmethod
    def _now_ms() -> int:
        return SystemClock().now_ms()


class Desk:
    """A fresh venue for every broker."""

    def broker(self, bus: EventBus) -> BybitLinearBroker:
        self.venue = LinearVenue()
        return BybitLinearBroker(self.venue.client, bus, recovery_window_ms=0, poll_scheduler=TickScheduler())


desk = Desk()


@pytest.mark.parametrize(
    "check",
    broker_checks(
        desk.broker,
        symbol="BYBIT_LINEAR:BTCUSDT",
        unserved_symbol="BYBIT_SPOT:BTCUSDT",
        trade=lambda _broker, client_order_id: desk.venue.fill(client_order_id),
        settle=lambda _broker: desk.venue.settle(),
    ),
    ids=str,
)
def test_the_linear_broker_keeps_the_contract(check: Any) -> None:
    check()
