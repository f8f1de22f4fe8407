"""A linear broker on a venue of rows: positions, their exits, executions, and a clock that the test moves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, TypeVar

from qkt.bus import EventBus
from qkt.bybit.linear import BybitLinearBroker
from qkt.events import BrokerEvent
from qkt.model.order_kinds import Side
from qkt.model.orders import MarketOrder
from qkt.model.protection import Protection, ProtectionKind, ProtectionState
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import envelope, execution_row, frame, order_row

SYMBOL = "BYBIT_LINEAR:BTCUSDT"
NOW_MS = 1_800_000_000_000
TRADING_STOP, POSITIONS, REALTIME = "/v5/position/trading-stop", "/v5/position/list", "/v5/order/realtime"
HISTORY, EXECUTIONS, CREATE = "/v5/order/history", "/v5/execution/list", "/v5/order/create"
OPEN = ("New", "PartiallyFilled", "Untriggered")

STOP, TAKE = ProtectionKind.STOP_LOSS, ProtectionKind.TAKE_PROFIT
STANDS, ABSENT = ProtectionState.STANDS, ProtectionState.DOES_NOT_STAND
UNKNOWN, ENDED = ProtectionState.UNKNOWN, ProtectionState.ENDED

E = TypeVar("E", bound=BrokerEvent)


class PerpVenue:
    """What is true, in rows as the wire has them. Nothing is pushed unless the test says so."""

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock
        self.position = {
            "category": "linear", "positionIdx": 0, "symbol": "BTCUSDT", "side": "", "size": "0", "avgPrice": "0",
            "seq": 1, "updatedTime": str(clock.now_ms()), "takeProfit": "", "stopLoss": "", "trailingStop": "0",
        }  # fmt: skip
        self.orders: dict[str, dict[str, Any]] = {}
        self.executions: dict[str, dict[str, Any]] = {}
        self.client = FakeBybitClient()
        self.client.responses.update(
            {
                POSITIONS: self._list_positions,
                REALTIME: self._list_orders,
                HISTORY: self._list_closed,
                EXECUTIONS: self._list_executions,
                TRADING_STOP: self.set_exits,
                CREATE: self._create,
            }
        )

    @property
    def now(self) -> str:
        return str(self.clock.now_ms())

    # what happens there

    def holds(self, size: str, side: str = "Buy", **changes: str) -> None:
        """The position becomes this; a closed one loses its exits."""
        self.position |= {"side": side if Decimal(size) else "", "size": size, "avgPrice": "100", **changes}
        if not Decimal(size):
            self.position |= {"takeProfit": "", "stopLoss": "", "trailingStop": "0"}
        self.position |= {"seq": int(str(self.position["seq"])) + 1, "updatedTime": self.now}

    def set_exits(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A trading-stop request: the position shows it, and the venue keeps an order for each exit."""
        for name, kind in (("takeProfit", "TakeProfit"), ("stopLoss", "StopLoss"), ("trailingStop", "TrailingStop")):
            if name in body:
                self.exit_is(name, kind, str(body[name]))
        self.position["updatedTime"] = self.now
        return {**envelope(), "result": {}}

    def exit_is(self, name: str, kind: str, price: str, **order: Any) -> None:
        """The exit of a kind stands at a price; at zero it is gone."""
        stands = Decimal(price) != 0
        self.position[name] = price if stands else ""
        if stands:
            self.orders[kind] = self.exit_row(kind, price, **order)
        elif kind in self.orders:
            self.orders[kind] |= {
                "orderStatus": "Deactivated", "cancelType": "CancelByTpSlTsClear", "updatedTime": self.now,
            }  # fmt: skip

    def exit_row(self, kind: str, price: str, **changes: Any) -> dict[str, Any]:
        """An exit order as the venue creates it: no link id, reducing, waiting for its trigger."""
        return order_row(
            **{
                "category": "linear", "orderId": kind, "orderLinkId": "", "side": "Sell", "orderType": "Market",
                "orderStatus": "Untriggered", "timeInForce": "IOC", "price": "0", "qty": str(self.position["size"]),
                "stopOrderType": kind, "createType": f"CreateBy{kind}", "triggerPrice": price, "reduceOnly": True,
                "closeOnTrigger": True, "positionIdx": 0, "createdTime": self.now, "updatedTime": self.now, **changes,
            }
        )  # fmt: skip

    def loses_stop(self) -> None:
        """The stop loss is removed by hand in the venue's app."""
        self.exit_is("stopLoss", "StopLoss", "0")
        self.position["updatedTime"] = self.now

    def trades(self, order_id: str, exec_id: str, quantity: str, **changes: Any) -> None:
        """An order trades at 100."""
        order = self.orders[order_id]
        done = Decimal(order["cumExecQty"]) + Decimal(quantity)
        leaves = Decimal(order["qty"]) - done
        order |= {
            "cumExecQty": str(done), "leavesQty": str(leaves), "updatedTime": self.now,
            "orderStatus": "PartiallyFilled" if leaves else "Filled",
        }  # fmt: skip
        self.executions[exec_id] = execution_row(
            **{
                "category": "linear", "execId": exec_id, "orderId": order_id, "orderLinkId": order["orderLinkId"],
                "side": order["side"], "execQty": quantity, "orderQty": order["qty"], "orderPrice": order["price"],
                "leavesQty": str(leaves), "execTime": self.now, "feeCurrency": "", "execFee": "0.05", **changes,
            }
        )  # fmt: skip

    def funds(self, exec_id: str, paid: str) -> None:
        """A funding settlement."""
        self.executions[exec_id] = execution_row(
            category="linear", execId=exec_id, orderId=f"funding-{exec_id}", orderLinkId="", execType="Funding",
            execQty="1", execFee=paid, feeCurrency="", execTime=self.now, orderQty="0",
        )  # fmt: skip

    # what it pushes

    def push_position(self) -> None:
        row = {**self.position, "entryPrice": self.position["avgPrice"]}
        del row["avgPrice"]
        self.client.emit_ws_frame("position", frame("position", row, created_ms=self.clock.now_ms()))

    def push_order(self, order_id: str) -> None:
        self.client.emit_ws_frame("order", frame("order", self.orders[order_id], created_ms=self.clock.now_ms()))

    def push_execution(self, exec_id: str) -> None:
        rows = frame("execution", self.executions[exec_id], created_ms=self.clock.now_ms())
        self.client.emit_ws_frame("execution", rows)

    # what it answers

    def _list_positions(self, query: Mapping[str, Any]) -> dict[str, Any]:
        if "symbol" not in query and (query["settleCoin"] != "USDT" or not Decimal(str(self.position["size"]))):
            return envelope()
        return envelope([self.position])

    def _list_orders(self, query: Mapping[str, Any]) -> dict[str, Any]:
        if "orderId" in query or "orderLinkId" in query:
            return envelope(self._named(query))
        if query.get("settleCoin") != "USDT":
            return envelope()
        return envelope([row for row in self.orders.values() if row["orderStatus"] in OPEN])

    def _list_closed(self, query: Mapping[str, Any]) -> dict[str, Any]:
        return envelope([row for row in self._named(query) if row["orderStatus"] not in OPEN])

    def _named(self, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        name = "orderId" if "orderId" in query else "orderLinkId"
        return (row for row in self.orders.values() if row[name] == query[name])

    def _list_executions(self, query: Mapping[str, Any]) -> dict[str, Any]:
        if "orderId" in query or "orderLinkId" in query:
            name = "orderId" if "orderId" in query else "orderLinkId"
            return envelope([row for row in self.executions.values() if row[name] == query[name]])
        within = range(int(query["startTime"]), int(query["endTime"]) + 1)
        return envelope([row for row in self.executions.values() if int(row["execTime"]) in within])

    def _create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        order_id = f"b{len(self.orders) + 1}"
        kept = ("symbol", "side", "orderType", "qty", "takeProfit", "stopLoss", "tpslMode", "orderLinkId")
        self.orders[order_id] = order_row(
            category="linear", orderId=order_id, leavesQty=body["qty"], createdTime=self.now, updatedTime=self.now,
            price=body.get("price", "0"), timeInForce="IOC", **{name: body[name] for name in kept if name in body},
        )  # fmt: skip
        return {**envelope(), "result": {"orderId": order_id, "orderLinkId": body["orderLinkId"]}}


class PerpStage:
    """A broker on a `PerpVenue`, and everything it said."""

    def __init__(self) -> None:
        self.clock = FixedClock(NOW_MS)
        self.scheduler = TickScheduler(self.clock)
        self.venue = PerpVenue(self.clock)
        self.client = self.venue.client
        self.bus = EventBus(self.clock)
        self.heard: list[BrokerEvent] = []
        self.bus.subscribe(BrokerEvent, self.heard.append)
        self._broker: BybitLinearBroker | None = None

    @property
    def broker(self) -> BybitLinearBroker:
        """The broker, built when first needed."""
        if self._broker is None:
            self._broker = BybitLinearBroker(self.client, self.bus, self.clock, poll_scheduler=self.scheduler)
        return self._broker

    def restart(self) -> BybitLinearBroker:
        """A new process: nothing is remembered."""
        self.close()
        self._broker = None
        self.heard.clear()
        return self.broker

    def holds_a_long(self, *, stop: str = "") -> None:
        """A long position of 1, with a stop loss if wanted, all of it known to the broker."""
        self.venue.holds("1")
        if stop:
            self.venue.exit_is("stopLoss", "StopLoss", stop)
        self.broker.reconcile()
        self.heard.clear()

    def buys(self, quantity: str = "1", **changes: Any) -> str:
        """A market order of ours that the venue took; returns the venue's id for it."""
        order = MarketOrder(symbol=SYMBOL, side=Side.BUY, quantity=Decimal(quantity), client_order_id="c1", **changes)
        ack = self.broker.submit(order)
        self.venue.push_order(ack.broker_order_id)
        return ack.broker_order_id

    def pass_ms(self, n: int) -> None:
        """Time passes, and what the broker planned for it happens."""
        _ = self.broker
        self.scheduler.advance_ms(n)
        assert not self.scheduler.errors, self.scheduler.errors

    def said(self, kind: type[E]) -> list[E]:
        """The events of a kind, subclasses included."""
        return [event for event in self.heard if isinstance(event, kind)]

    def exits(self) -> dict[ProtectionKind, ProtectionState]:
        """Kind -> state of what `protections` lists."""
        return {one.kind: one.state for one in self.broker.protections()}

    def the_exit(self, kind: ProtectionKind = STOP) -> Protection:
        """The one exit of a kind."""
        (one,) = [one for one in self.broker.protections() if one.kind is kind]
        return one

    def close(self) -> None:
        if self._broker is not None:
            self._broker.close()
