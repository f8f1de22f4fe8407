"""Many markets at once: hundreds of orders trade while a stream, a timer and several users talk about them together.

The venue is a few dictionaries behind one lock; its frames are dropped, doubled and shuffled. Per order nothing of that
may show: accepted first, each execution once, one end last; one total order of events, no handler beside another.
"""

from __future__ import annotations

import random
import threading
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from qkt import BybitSpotBroker, EventBus
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderRejected,
)
from qkt.testing import FakeBybitClient, TickScheduler
from qkt.testing.builders import a_limit_order, envelope, execution_row, frame, order_row
from qkt.threads import library_thread

MARKETS, ORDERS_PER_MARKET, USERS, FILLS = 12, 24, 3, 3
ORDERS = MARKETS * ORDERS_PER_MARKET
DEADLINE_S = 45


class BusyVenue:
    """Takes orders and fills them in three steps; every fourth is cancelled by the user before the last one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.orders: dict[str, dict] = {}  # type: ignore[type-arg]
        self.executions: list[dict] = []  # type: ignore[type-arg]
        self.frames: list[tuple[str, dict]] = []  # type: ignore[type-arg]

    def wire(self, client: FakeBybitClient) -> None:
        client.responses["/v5/order/create"] = self.create
        client.responses["/v5/order/cancel"] = self.cancel
        client.responses["/v5/order/realtime"] = lambda query: self.read(query, self.all_rows, self.open_rows)
        client.responses["/v5/order/history"] = lambda query: self.read(query, self.all_rows, self.all_rows)
        client.responses["/v5/execution/list"] = lambda query: self.read(query, self.newest_first, self.newest_first)

    def create(self, body: Any) -> dict[str, Any]:
        with self.lock:
            number = len(self.orders)
            order_id = f"b{number}"
            row = order_row(symbol=body["symbol"], orderId=order_id, orderLinkId=body["orderLinkId"], qty="3")
            self._change(row | {"leavesQty": "3"})
        return _done(order_id, body["orderLinkId"])

    def trade(self, order_id: str) -> bool:
        """One more execution; False when there is nothing left to trade."""
        with self.lock:
            row = self.orders[order_id]
            if row["orderStatus"] not in ("New", "PartiallyFilled"):
                return False
            cum = int(row["cumExecQty"]) + 1
            execution = execution_row(
                symbol=row["symbol"],
                orderId=order_id,
                orderLinkId=row["orderLinkId"] if cum != 2 else "",
                execId=f"{order_id}-{cum}",
                orderQty="3",
                leavesQty=str(FILLS - cum),
                execTime=str(1_000 + cum),
                seq=cum,
            )
            self.executions.append(execution)
            self.frames.append(("execution.spot", frame("execution.spot", execution, created_ms=1_000 + cum)))
            status = "Filled" if cum == FILLS else "PartiallyFilled"
            self._change(row | {"orderStatus": status, "cumExecQty": str(cum), "leavesQty": str(FILLS - cum)})
            return True

    def cancel(self, body: Any) -> dict[str, Any]:
        with self.lock:
            row = self.orders[body["orderId"]]
            if row["orderStatus"] not in ("New", "PartiallyFilled"):
                return {"retCode": 170213, "retMsg": "Order does not exist.", "result": {}, "retExtInfo": {}, "time": 0}
            status = "Cancelled" if row["cumExecQty"] == "0" else "PartiallyFilledCanceled"
            self._change(row | {"orderStatus": status, "cancelType": "CancelByUser", "leavesQty": "0"})
            return _done(body["orderId"], row["orderLinkId"])

    def _change(self, row: dict[str, Any]) -> None:
        version = int(self.orders.get(row["orderId"], {}).get("updatedTime", "999")) + 1
        row = row | {"updatedTime": str(version)}
        self.orders[row["orderId"]] = row
        self.frames.append(("order.spot", frame("order.spot", row, created_ms=version)))

    def open_rows(self) -> list[dict]:  # type: ignore[type-arg]
        return [row for row in self.orders.values() if row["orderStatus"] in ("New", "PartiallyFilled")]

    def all_rows(self) -> list[dict]:  # type: ignore[type-arg]
        return list(self.orders.values())

    def newest_first(self) -> list[dict]:  # type: ignore[type-arg]
        return self.executions[::-1]

    def read(self, query: Any, by_id: Any, listed: Any) -> dict[str, Any]:
        named = "orderId" if query.get("orderId") else "orderLinkId" if query.get("orderLinkId") else ""
        with self.lock:
            shown = [] if query.get("orderFilter") else by_id() if named else listed()
        if named:
            shown = [row for row in shown if row[named] == query[named]]
        begin = int(query.get("cursor") or 0)
        until = begin + int(query.get("limit", 50))
        return envelope(shown[begin:until], cursor=str(until) if until < len(shown) else "")

    def take_frames(self, chance: random.Random) -> list[tuple[str, dict]]:  # type: ignore[type-arg]
        """What the stream brings now: some lost, some twice, in any order."""
        with self.lock:
            frames, self.frames = self.frames, []
        brought = [one for one in frames for _ in range(chance.choice((0, 1, 1, 1, 1, 2)))]
        chance.shuffle(brought)
        return brought


def _done(order_id: str, link_id: str) -> dict[str, Any]:
    result = {"orderId": order_id, "orderLinkId": link_id}
    return {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 0}


class Hearer:
    """Keeps every event, and notices if it is called twice at once."""

    def __init__(self) -> None:
        self.events: list[BrokerEvent] = []
        self.overlaps = 0
        self._inside = threading.Lock()

    def __call__(self, event: BrokerEvent) -> None:
        if not self._inside.acquire(blocking=False):
            self.overlaps += 1
            return
        self.events.append(event)
        self._inside.release()

    def by_order(self) -> dict[str, list[OrderEvent]]:
        found = defaultdict(list)
        for event in self.events:
            if isinstance(event, OrderEvent):
                found[event.broker_order_id].append(event)
        return found


@pytest.mark.parametrize("seed", [1, 2])
def test_hundreds_of_orders_interleaved_across_threads_keep_every_promise_per_order(seed: int, say: Any) -> None:
    venue, client, bus, hearer = BusyVenue(), FakeBybitClient(), EventBus(), Hearer()
    venue.wire(client)
    bus.subscribe(BrokerEvent, hearer)
    trading_is_over, faults = threading.Event(), []

    with BybitSpotBroker(client, bus, poll_scheduler=TickScheduler()) as broker:

        def guarded(action: Any) -> Any:
            def run() -> None:
                try:
                    action()
                except BaseException as error:
                    faults.append(error)

            return run

        def user(number: Any) -> None:
            chance = random.Random(seed * 100 + number)
            mine = list(range(number, ORDERS, USERS))
            for index in mine:
                ack = broker.submit(a_limit_order(symbol=f"BYBIT_SPOT:M{index % MARKETS}USDT", quantity=Decimal(FILLS)))
                assert ack.accepted, ack
                cancel_before = chance.randrange(FILLS) if index % 4 == 0 else None
                for step in range(FILLS):
                    if step == cancel_before:
                        broker.cancel(ack.client_order_id)
                    venue.trade(ack.broker_order_id)
                    broker.open_orders()

        def stream() -> None:
            chance = random.Random(seed)
            while not (trading_is_over.is_set() and not venue.frames):
                for topic, told in venue.take_frames(chance):
                    client.emit_ws_frame(topic, told)

        def timer() -> None:
            while not trading_is_over.is_set():
                assert broker.reconcile().ok

        users = [threading.Thread(target=guarded(lambda n=n: user(n)), daemon=True) for n in range(USERS)]
        library = [library_thread("qkt-stream", guarded(stream)), library_thread("qkt-reconcile", guarded(timer))]
        for thread in (*library, *users):
            thread.start()
        for thread in users:
            thread.join(DEADLINE_S)
        trading_is_over.set()
        for thread in library:
            thread.join(DEADLINE_S)
        assert not any(thread.is_alive() for thread in (*users, *library)), "a thread hangs"
        assert not faults, faults

        for _ in range(2):
            assert broker.reconcile().ok
        until_here = len(hearer.events)
        assert broker.reconcile().ok
        bus.detach(object())
        loud = [event for event in hearer.events[until_here:] if not isinstance(event, BalancesUpdated)]
        assert not loud, "the round after two quiet ones tells nothing but balances"
        assert broker.open_orders() == []
        for order_id, row in venue.orders.items():
            view = broker.order(broker_order_id=order_id)
            assert (view.venue_status, str(view.cum_quantity)) == (row["orderStatus"], row["cumExecQty"])

    _check_events(hearer, venue)
    say(f"many markets: {ORDERS} orders on {MARKETS} markets, {len(hearer.events):,} events, seed {seed}")


def _check_events(hearer: Hearer, venue: BusyVenue) -> None:
    assert hearer.overlaps == 0
    numbers = [event.sequence_id for event in hearer.events]
    assert numbers == sorted(set(numbers)), "one total order"
    by_order = hearer.by_order()
    assert set(by_order) == set(venue.orders)
    for order_id, events in by_order.items():
        fills = [event for event in events if isinstance(event, FillEvent) and event.exec_id]
        ends = [event for event in events if isinstance(event, OrderFilled | OrderCancelled | OrderRejected)]
        made = [row["execId"] for row in venue.executions if row["orderId"] == order_id]
        assert isinstance(events[0], OrderAccepted), events
        assert sum(isinstance(event, OrderAccepted) for event in events) == 1, events
        assert sorted(event.exec_id for event in fills) == sorted(made), events
        assert len(ends) == 1, events
        last = max(event.sequence_id for event in (*fills, *ends))
        assert ends[0].sequence_id == last, events
        assert [event.cum_quantity for event in fills] == [Decimal(n + 1) for n in range(len(fills))], "running sums"
        assert not any(event.external for event in events)
