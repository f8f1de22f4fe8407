"""A stage for scenarios: a venue in a dict, a broker on it, time moved by hand, and the story that was told.

`Venue` is the truth: orders and executions by id, changed by the test, and answering every read consistently, with the
venue's filters and pages. It pushes nothing by itself: a frame is sent when the test says so, so a lost frame is one
line that is not there. `Stage` holds the broker and writes down what it said, as words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from qkt import BybitSpotBroker, EventBus, ReconcileReport, SubmitAck
from qkt.events import (
    BalancesUpdated,
    BrokerEvent,
    FillEvent,
    HealthDegraded,
    HealthRestored,
    OrderAccepted,
    OrderCancelFailed,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModified,
    OrderModifyFailed,
    OrderPartiallyFilled,
    OrderRejected,
    OrderStatusUnknown,
)
from qkt.testing import FakeBybitClient, FixedClock, TickScheduler
from qkt.testing.builders import a_limit_order, envelope, execution_row, frame, order_row, refusal

NOW_MS = 1_800_000_000_000
DAY_MS = 24 * 3_600_000
CREATE, CANCEL, AMEND = "/v5/order/create", "/v5/order/cancel", "/v5/order/amend"
REALTIME, HISTORY, EXECUTIONS = "/v5/order/realtime", "/v5/order/history", "/v5/execution/list"
WALLET = "/v5/account/wallet-balance"
OPEN = ("New", "PartiallyFilled", "Untriggered", "Triggered")
LOST = TimeoutError("read timed out")
BALANCES = "balances"

_KINDS: dict[type[BrokerEvent], str] = {
    OrderAccepted: "accepted",
    OrderPartiallyFilled: "part",
    OrderFilled: "filled",
    OrderCancelled: "cancelled",
    OrderRejected: "rejected",
    OrderModified: "modified",
    OrderModifyFailed: "modify failed",
    OrderCancelFailed: "cancel failed",
    OrderStatusUnknown: "unknown",
    BalancesUpdated: BALANCES,
    HealthDegraded: "degraded",
    HealthRestored: "restored",
}


def word(event: BrokerEvent) -> str:
    """``accepted``, ``part e1``, ``filled e2`` (``filled`` when no execution is left to tell), ``degraded orders``."""
    kind = _KINDS[type(event)]
    if isinstance(event, FillEvent) and event.exec_id:
        return f"{kind} {event.exec_id}" + (" late" if event.late else "")
    if isinstance(event, HealthDegraded | HealthRestored):
        return f"{kind} {event.domain}"
    return kind


def words(events: Iterable[BrokerEvent]) -> list[str]:
    return [word(event) for event in events]


def assert_lawful(events: Iterable[BrokerEvent]) -> None:
    """Law 3 for every order: accepted before all fills, each execution once, one terminal, and nothing after it.

    What a refused create says stands alone; an order that rises from the dead starts a second life.
    """
    lives: dict[str, list[str]] = {}
    for event in events:
        if isinstance(event, OrderEvent):
            name = f"outside {event.broker_order_id}" if event.external else event.client_order_id
            lives.setdefault(name, []).append(word(event))
    for name, said in lives.items():
        if "accepted" in said and "rejected" in said[: said.index("accepted")]:
            said = said[said.index("accepted") :]
        executions = [one.split()[1] for one in said if one.startswith(("part ", "filled "))]
        assert len(executions) == len(set(executions)), f"{name} told an execution twice: {said}"
        ends = [at for at, one in enumerate(said) if one.split()[0] in ("filled", "cancelled", "rejected")]
        assert len(ends) <= 1, f"{name} ended more than once: {said}"
        assert said.count("accepted") <= 1, f"{name} was accepted more than once: {said}"
        if "accepted" in said:
            before = [one for one in said[: said.index("accepted")] if one not in ("unknown", *_ABOUT_REQUESTS)]
            assert not before, f"{name} said {before} before it was accepted: {said}"
        else:
            assert not executions, f"{name} filled and was never accepted: {said}"
        behind = said[ends[0] + 1 :] if ends else []
        after = [one for one in behind if not one.endswith(" late") and one not in _ABOUT_REQUESTS]
        assert not after, f"{name} said {after} after its end: {said}"


_ABOUT_REQUESTS = ("cancel failed", "modify failed")  # answers to the user, whatever is known of the order


class Venue:
    """What is true. Rows as the wire has them; ``page_rows`` bounds a page, ``hidden`` ids are in no read."""

    def __init__(self, clock: FixedClock) -> None:
        self.clock = clock
        self.orders: dict[str, dict[str, Any]] = {}
        self.executions: dict[str, dict[str, Any]] = {}
        self.wallet: dict[str, str] = {"USDT": "1000"}
        self.hidden: set[str] = set()
        self.page_rows = 1_000
        self.client = FakeBybitClient()
        self.client.responses.update(
            {
                REALTIME: self.answer_realtime,
                HISTORY: self.answer_history,
                EXECUTIONS: self.answer_executions,
                WALLET: self.answer_wallet,
                CREATE: self.create,
                CANCEL: self.cancel_request,
                AMEND: self.amend_request,
            }
        )

    @property
    def now(self) -> str:
        return str(self.clock.now_ms())

    # -- what happens there ------------------------------------------------------------------------------------------

    def rests(self, order_id: str = "b1", link_id: str = "c1", **row: Any) -> dict[str, Any]:
        """An order stands; by default ours of 1 at 100."""
        told = {"orderId": order_id, "orderLinkId": link_id, "createdTime": self.now, "updatedTime": self.now, **row}
        told.setdefault("leavesQty", told.get("qty", "1"))
        self.orders[order_id] = order_row(**told)
        return self.orders[order_id]

    def trades(self, exec_id: str, quantity: str, *, order_id: str = "b1", **row: Any) -> dict[str, Any]:
        """The order trades: an execution, and the order's row follows."""
        order = self.orders[order_id]
        done = Decimal(order["cumExecQty"]) + Decimal(quantity)
        leaves = Decimal(order["qty"]) - done
        order |= {
            "cumExecQty": str(done),
            "leavesQty": str(leaves),
            "orderStatus": "PartiallyFilled" if leaves else "Filled",
            "updatedTime": self.now,
        }
        self.executions[exec_id] = execution_row(
            **{
                "execId": exec_id,
                "orderId": order_id,
                "orderLinkId": order["orderLinkId"],
                "symbol": order["symbol"],
                "side": order["side"],
                "execQty": quantity,
                "orderQty": order["qty"],
                "orderPrice": order["price"],
                "leavesQty": str(leaves),
                "execTime": self.now,
                "seq": len(self.executions) + 1,
                **row,
            }
        )
        return self.executions[exec_id]

    def ends(self, order_id: str = "b1", status: str = "", **row: Any) -> dict[str, Any]:
        """The order ends without trading the rest; spot has its own word for an end with fills."""
        order = self.orders[order_id]
        filled = Decimal(order["cumExecQty"]) > 0
        status = status or ("PartiallyFilledCanceled" if filled else "Cancelled")
        order |= {"orderStatus": status, "leavesQty": "", "cancelType": "CancelByUser", "updatedTime": self.now, **row}
        return order

    def amends(self, order_id: str = "b1", **row: Any) -> dict[str, Any]:
        """Other terms."""
        order = self.orders[order_id]
        order |= {"updatedTime": self.now, **row}
        order["leavesQty"] = str(Decimal(order["qty"]) - Decimal(order["cumExecQty"]))
        return order

    def forgets(self, order_id: str) -> None:
        """Closed orders without fills are gone after a day."""
        del self.orders[order_id]

    # -- what it pushes ----------------------------------------------------------------------------------------------

    def push_order(self, order_id: str = "b1", **row: Any) -> None:
        """A frame with the order as it stands, or as ``row`` says it stood."""
        rows = frame("order.spot", {**self.orders[order_id], **row}, created_ms=self.clock.now_ms())
        self.client.emit_ws_frame("order.spot", rows)

    def push_execution(self, *exec_ids: str, **row: Any) -> None:
        """A frame with executions."""
        rows = [{**self.executions[exec_id], **row} for exec_id in exec_ids]
        self.client.emit_ws_frame("execution.spot", frame("execution.spot", *rows, created_ms=self.clock.now_ms()))

    # -- what it answers ---------------------------------------------------------------------------------------------

    def answer_realtime(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """With an id: open or closed; without: open ones of one drawer."""
        if "orderId" in query or "orderLinkId" in query:
            return self._paged(self._named(query, self.orders.values()), query)
        drawer = query.get("orderFilter", "")
        kinds = {"": "", "StopOrder": "Stop"}.get(drawer, drawer)
        rows = [row for row in self.orders.values() if row["orderStatus"] in OPEN and row["stopOrderType"] == kinds]
        return self._paged(rows, query)

    def answer_history(self, query: Mapping[str, Any]) -> dict[str, Any]:
        rows = [row for row in self.orders.values() if row["orderStatus"] not in OPEN]
        return self._paged(self._named(query, rows), query)

    def answer_executions(self, query: Mapping[str, Any]) -> dict[str, Any]:
        """With an order's id every other filter is ignored; without, a window of at most seven days, newest first."""
        rows = self.executions.values()
        if "orderId" in query or "orderLinkId" in query:
            return self._paged(self._named(query, rows), query)
        start_ms, end_ms = int(query["startTime"]), int(query["endTime"])
        assert 0 <= end_ms - start_ms <= 7 * DAY_MS, "the venue refuses windows of more than seven days"
        within = [row for row in rows if start_ms <= int(row["execTime"]) <= end_ms]
        return self._paged(sorted(within, key=lambda row: -int(row["execTime"])), query)

    def answer_wallet(self, _query: Mapping[str, Any]) -> dict[str, Any]:
        coins = [{"coin": coin, "walletBalance": total, "locked": "0"} for coin, total in self.wallet.items()]
        return envelope([{"accountType": "UNIFIED", "coin": coins}])

    @staticmethod
    def _named(query: Mapping[str, Any], rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        assert query.get("symbol"), "a question by id names the symbol as well"
        name = "orderId" if "orderId" in query else "orderLinkId"
        return [row for row in rows if row[name] == query[name]]

    def _paged(self, rows: list[dict[str, Any]], query: Mapping[str, Any]) -> dict[str, Any]:
        shown = [row for row in rows if not {row["orderId"], row.get("execId")} & self.hidden]
        begin = int(query.get("cursor") or 0)
        until = begin + min(self.page_rows, int(query.get("limit", 20)))
        return envelope(shown[begin:until], cursor=str(until) if until < len(shown) else "")

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Takes the order; it rests."""
        order_id = f"b{len(self.orders) + 1}"
        row = {name: body[name] for name in ("symbol", "side", "orderType", "qty", "timeInForce")}
        self.rests(order_id, body["orderLinkId"], **row, price=body.get("price", "0"))
        return ids(order_id, body["orderLinkId"])

    def cancel_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """Takes note; what becomes of it is the test's to tell. An order that is over is "not found"."""
        return self._is_asked(body)

    def amend_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._is_asked(body)

    def _is_asked(self, body: Mapping[str, Any]) -> dict[str, Any]:
        standing = [row for row in self._named(body, self.orders.values()) if row["orderStatus"] in OPEN]
        if not standing:
            return refusal(170213, "Order does not exist.")
        return ids(standing[0]["orderId"], standing[0]["orderLinkId"])


def ids(order_id: str, link_id: str) -> dict[str, Any]:
    """The answer to a write that was taken."""
    return {**envelope(), "result": {"orderId": order_id, "orderLinkId": link_id}}


class Stage:
    """A spot broker on a `Venue`, everything it said, and ways to let time pass."""

    def __init__(self) -> None:
        self.clock = FixedClock(NOW_MS)
        self.scheduler = TickScheduler(self.clock)
        self.venue = Venue(self.clock)
        self.client = self.venue.client
        self.bus = EventBus(self.clock)
        self.heard: list[Any] = []
        self.ever_heard: list[BrokerEvent] = []
        self.bus.subscribe(BrokerEvent, self._hear)
        self._broker: BybitSpotBroker | None = None

    def _hear(self, event: BrokerEvent) -> None:
        self.heard.append(event)
        self.ever_heard.append(event)

    # -- setting the scene -------------------------------------------------------------------------------------------

    @property
    def broker(self) -> BybitSpotBroker:
        """The broker, built when first needed, with nothing noted of its building."""
        if self._broker is None:
            self.open()
        assert self._broker is not None
        return self._broker

    def open(self, **options: Any) -> BybitSpotBroker:
        self._broker = BybitSpotBroker(self.client, self.bus, self.clock, poll_scheduler=self.scheduler, **options)
        self.forget()
        return self._broker

    def submit(self, client_order_id: str = "c1", **changes: Any) -> SubmitAck:
        return self.broker.submit(a_limit_order(client_order_id=client_order_id, **changes))

    def has_open_order(self, client_order_id: str = "c1", **changes: Any) -> str:
        """An order of ours that stands and is known to; returns the venue's id for it. Nothing of it is noted."""
        ack = self.submit(client_order_id, **changes)
        self.venue.push_order(ack.broker_order_id)
        self.pass_ms(10_000)
        self.forget()
        return ack.broker_order_id

    def forget(self) -> None:
        """Only what comes from now on is of interest."""
        self.heard.clear()
        self.client.posts.clear()
        self.client.gets.clear()

    def answers(self, path: str, *responses: Any) -> None:
        """Answer a path with these, one after the other, and truthfully afterwards.

        A callable answers for itself; `LOST` or another exception is raised.
        """
        truthful, queue = self.client.responses[path], list(responses)

        def answer(request: Mapping[str, Any]) -> Any:
            response = queue.pop(0) if queue else truthful
            return response(request) if callable(response) else response

        self.client.responses[path] = answer

    def always(self, path: str, response: Any) -> Callable[[], None]:
        """Answer a path so until the returned function is called."""
        truthful, self.client.responses[path] = self.client.responses[path], response
        return lambda: self.client.responses.update({path: truthful})

    # -- letting time pass -------------------------------------------------------------------------------------------

    def pass_ms(self, n: int) -> None:
        """Time passes, and what the broker planned for it happens."""
        _ = self.broker
        self.scheduler.advance_ms(n)
        assert not self.scheduler.errors, self.scheduler.errors

    def round(self, *, after_ms: int = 3_000) -> ReconcileReport:
        """A round, some seconds later: what happened before is no longer young."""
        self.clock.advance_ms(after_ms)
        return self.broker.reconcile()

    # -- the story ---------------------------------------------------------------------------------------------------

    def story(self, client_order_id: str | None = None) -> list[str]:
        """What was said since the scene was set, balances left out; of one order, or of everything."""
        return words(
            event
            for event in self.heard
            if not isinstance(event, BalancesUpdated)
            and client_order_id in (None, getattr(event, "client_order_id", None))
        )

    def said(self, kind: type[BrokerEvent]) -> Any:
        """The one event of a kind."""
        (event,) = [event for event in self.heard if type(event) is kind]
        return event

    def asked(self, path: str) -> list[Any]:
        """The requests sent to a path since the scene was set."""
        return [request for request in [*self.client.posts, *self.client.gets] if request.path == path]

    def lookups(self) -> list[Any]:
        """The questions by id."""
        return [request for request in self.client.gets if "orderId" in request or "orderLinkId" in request]

    def assert_settled(self) -> None:
        """After two quiet rounds local is venue, and a third publishes nothing but balances."""
        self.round()
        self.round()
        self.heard.clear()
        report = self.round()
        assert words(self.heard) == [BALANCES]
        assert report.ok
        assert not report.discrepancies
        standing = {row["orderId"]: row for row in self.venue.orders.values() if row["orderStatus"] in OPEN}
        assert {view.broker_order_id for view in self.broker.open_orders()} == set(standing)
        for order_id, row in standing.items():
            view = self.broker.order(broker_order_id=order_id)
            assert view.cum_quantity == Decimal(row["cumExecQty"])
            assert view.quantity == Decimal(row["qty"])
            assert view.limit_price == Decimal(row["price"])
        assert {coin: str(total) for coin, total in self.client.balances.items()} == self.venue.wallet


def kinds_of(report: ReconcileReport) -> list[str]:
    """The kinds of discrepancy a round healed."""
    return [discrepancy.kind for discrepancy in report.discrepancies]
