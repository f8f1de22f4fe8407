"""A broker for a venue that is not Bybit, in one file, from the parts of qkt.

ACME is invented: plain REST with polling, sessions that expire, no stream. What qkt gives: the ledger that turns facts
into events (`BrokerState`), the beat (`PeriodicReconciler`), the patience (`ReconnectSupervisor`), the `EventBus`, and
the contract to hold the result to (`qkt.testing.contract.check_broker`). What you write: how ACME's rows become facts,
and which question each silence asks.

ACME's API::

    POST   /session                {"key"}                         -> {"token"}; every other call needs it, else 401
    POST   /orders                 {"ref", "symbol", "side", "size", "limit", "valid_until_ms"} -> order, or 4xx error
    DELETE /orders/<id>            {"valid_until_ms"}              -> order, or 409 when it has ended
    GET    /orders?state=working                                   -> {"orders": [...]}, all of them
    GET    /orders/<id>, GET /orders?ref=<ref>                     -> order, {"orders": [...]}, ended ones included
    GET    /trades?after=<n>                                       -> {"trades": [...]} oldest first, each with its "n"
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import TracebackType
from typing import Any, Self

import requests

from qkt import (
    EventBus,
    InvalidRequestError,
    LimitOrder,
    OrderModification,
    OrderTypeCapability,
    OrderView,
    OutcomeUnknownError,
    PeriodicReconciler,
    ReconnectSupervisor,
    Side,
    SubmitAck,
    SubmitOutcome,
    SystemClock,
    ThreadScheduler,
    TimeInForce,
    VenueUnavailableError,
    new_client_order_id,
)
from qkt.broker.state import BrokerState
from qkt.clock import Clock
from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import OrderRequest, OrderType
from qkt.money import to_wire
from qkt.net.scheduler import Scheduler
from qkt.orders.facts import (
    AnyFact,
    CancelIntended,
    CancelRefused,
    CancelUnanswered,
    CancelWithdrawn,
    ExecutionReported,
    NonArrivalProved,
    OrderReported,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitRefused,
    SubmitUnanswered,
    SubmitWithdrawn,
)
from qkt.orders.order import Order, TerminalKind

PREFIX = "ACME:"
VALID_MS = 2_000  # ACME turns away a request that arrives after its valid_until_ms ...
MARGIN_MS = 1_000  # ... by its own clock, which may differ from ours by this much
CAPABILITIES = frozenset({OrderTypeCapability.LIMIT})


# -- translation: rows become facts, and that is all that knows ACME's words -------------------------------------------


def to_report(row: Mapping[str, Any]) -> OrderReport:
    """ACME's order row."""
    done = Decimal(row["done"])
    working = VenueStatus.PARTIALLY_FILLED if done else VenueStatus.NEW
    return OrderReport(
        broker_order_id=row["id"],
        client_order_id=row["ref"],
        symbol=PREFIX + row["symbol"],
        side=Side(row["side"]),
        status={"working": working, "done": VenueStatus.FILLED, "cancelled": VenueStatus.CANCELLED}[row["state"]],
        venue_status=row["state"],
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC.value,
        quantity=Decimal(row["size"]),
        limit_price=Decimal(row["limit"]),
        cum_quantity=done,
        reason="by request" if row["state"] == "cancelled" else "",
        created_ms=row["created_ms"],
        updated_ms=row["updated_ms"],
    )


def to_execution(row: Mapping[str, Any]) -> Execution:
    """ACME's trade row."""
    return Execution(
        exec_id=row["id"],
        broker_order_id=row["order"],
        client_order_id=row["ref"],
        symbol=PREFIX + row["symbol"],
        side=Side(row["side"]),
        price=Decimal(row["price"]),
        quantity=Decimal(row["size"]),
        fee=Decimal(row["fee"]),
        fee_currency=row["fee_coin"],
        exec_time_ms=row["ms"],
        order_quantity=Decimal(row["order_size"]),  # lets the execution that completes its order say so
    )


# -- the wire: three kinds of answer, and which is which decides everything --------------------------------------------


class RefusedError(Exception):
    """ACME said no: definite."""


class AcmeApi:
    """One session with ACME; ``on_lost(reason)`` hears when it has expired.

    Raises RefusedError (a definite no), VenueUnavailableError (nothing happened) or OutcomeUnknownError (who knows).
    """

    def __init__(self, url: str, key: str, on_lost: Callable[[str], None], timeout_s: float = 2.0) -> None:
        self._url = url
        self._key = key
        self._on_lost = on_lost
        self._timeout_s = timeout_s
        self._http = requests.Session()
        self._token = ""

    def log_in(self) -> None:
        """Open a session; raises when that cannot be had."""
        self._token = self._call("POST", "/session", {"key": self._key})["token"]

    def get(self, path: str, **query: Any) -> Any:
        """Read: harmless to repeat, so silence is only unavailability."""
        try:
            return self._call("GET", path, query)
        except OutcomeUnknownError as error:
            raise VenueUnavailableError(str(error), path=path) from error

    def write(self, verb: str, path: str, body: Mapping[str, Any]) -> Any:
        """Ask ACME to do something, once: silence may mean that it was done."""
        return self._call(verb, path, body)

    def _call(self, verb: str, path: str, sent: Mapping[str, Any]) -> Any:
        try:
            reply = self._http.request(
                verb,
                self._url + path,
                params=sent if verb == "GET" else None,
                json=sent if verb != "GET" else None,
                headers={"Authorization": self._token},
                timeout=self._timeout_s,
            )
        except requests.RequestException as error:
            raise OutcomeUnknownError(f"{verb} {path} got no answer: {error}", path=path) from error
        if reply.status_code == 401:
            if path != "/session":
                self._on_lost(f"{verb} {path}: the session has expired")
            raise VenueUnavailableError(f"{verb} {path}: not signed in; nothing was done", path=path)
        if reply.status_code >= 500:
            raise OutcomeUnknownError(f"{verb} {path} was answered with HTTP {reply.status_code}", path=path)
        if reply.status_code >= 400:
            raise RefusedError(reply.json()["error"])
        return reply.json()


# -- the broker ------------------------------------------------------------------------------------------------------


class AcmeBroker:
    """Trades ``ACME:...`` symbols; keeps what you believe equal to what ACME holds, within one ``poll_interval_ms``."""

    name = "ACME"

    def __init__(
        self,
        bus: EventBus,
        url: str,
        key: str,
        *,
        clock: Clock | None = None,
        poll_interval_ms: int = 5_000,
        scheduler: Scheduler | None = None,
    ) -> None:
        self._bus = bus
        self._clock = clock or SystemClock()
        self._api = AcmeApi(url, key, on_lost=self._on_lost)
        self._state = BrokerState(source=self.name, bus=bus, clock=self._clock)
        self._one_round_at_a_time = threading.Lock()
        self._trades_read = 0
        self._own = ThreadScheduler() if scheduler is None else None
        timer: Scheduler = self._own or scheduler  # type: ignore[assignment]
        self._supervisor = ReconnectSupervisor(self._come_back, scheduler=timer, clock=self._clock)
        self._reconciler = PeriodicReconciler(poll_interval_ms, self.reconcile, scheduler=timer)
        try:
            self._api.log_in()
            self.reconcile()  # fails loud: a bot must not start on half a picture
        except BaseException:
            self.close()
            raise
        self._reconciler.start()

    # The session: lost by any call, brought back by the supervisor, however long it takes.

    def _on_lost(self, reason: str) -> None:
        self._state.degrade("session", reason)
        self._supervisor.trigger(reason)

    def _come_back(self) -> None:
        self._api.log_in()
        self._state.restore("session")
        self.reconcile()

    # Requests: the intent is recorded before the first byte leaves, and then what the answer proves. No more.

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send a limit order. UNKNOWN means: a round will find out; never send it again."""
        self._state.check_open()
        order = self._checked(request)
        ref = request.client_order_id or new_client_order_id()
        self._state.begin_submit(
            SubmitIntended(client_order_id=ref, request=order, sent_ms=self._clock.now_ms(), **self._now())
        )
        try:
            self._absorb(self._send(ref, order))
        except VenueUnavailableError:
            self._absorb([SubmitWithdrawn(client_order_id=ref, **self._now())])  # the id is free again
            raise
        return _ack_for(self._state.order(ref))

    def _send(self, ref: str, order: LimitOrder) -> list[AnyFact]:
        valid_until_ms = self._clock.now_ms() + VALID_MS
        body = {
            "ref": ref,
            "symbol": order.symbol.removeprefix(PREFIX),
            "side": order.side.value,
            "size": to_wire(order.quantity),
            "limit": to_wire(order.limit_price),
            "valid_until_ms": valid_until_ms,
        }
        try:
            row = self._api.write("POST", "/orders", body)
        except RefusedError as error:
            return [SubmitRefused(client_order_id=ref, reason=str(error), **self._now())]
        except OutcomeUnknownError as error:
            provable_from_ms = valid_until_ms + MARGIN_MS
            return [
                SubmitUnanswered(
                    client_order_id=ref, reason=str(error), provable_from_ms=provable_from_ms, **self._now()
                )
            ]
        return [
            SubmitAcknowledged(client_order_id=ref, broker_order_id=row["id"], **self._now()),
            self._reported(row, row["updated_ms"], "submit"),
        ]

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Ask for an order's end; `OrderCancelled` or `OrderCancelFailed` tells what became of it."""
        self._state.check_open()
        order = self._named(client_order_id, broker_order_id)
        if order.terminal is not None:
            return _ack(order, SubmitOutcome.REJECTED, f"the order ended before: {order.terminal.kind.name}")
        if not order.broker_order_id:
            raise VenueUnavailableError(f"{order.client_order_id} is not known to stand yet; nothing was sent")
        about = {"client_order_id": order.client_order_id, "broker_order_id": order.broker_order_id, **self._now()}
        self._state.absorb([CancelIntended(**about, sent_ms=about["at_ms"])])
        valid_until_ms = about["at_ms"] + VALID_MS
        try:
            row = self._api.write("DELETE", f"/orders/{order.broker_order_id}", {"valid_until_ms": valid_until_ms})
        except RefusedError as error:
            self._absorb([CancelRefused(**about, reason=str(error))])
            return _ack(order, SubmitOutcome.REJECTED, str(error))
        except VenueUnavailableError:
            self._absorb([CancelWithdrawn(**about)])
            raise
        except OutcomeUnknownError as error:
            provable_from_ms = valid_until_ms + MARGIN_MS
            self._absorb([CancelUnanswered(**about, reason=str(error), provable_from_ms=provable_from_ms)])
            return _ack(order, SubmitOutcome.UNKNOWN, str(error))
        self._absorb([self._reported(row, row["updated_ms"], "submit")])
        return _ack(order, SubmitOutcome.ACCEPTED)

    def modify(self, client_order_id: str, changes: OrderModification) -> SubmitAck:  # noqa: ARG002 - the protocol's
        """ACME cannot change an order."""
        self._state.check_open()
        self._named(client_order_id, None)
        raise InvalidRequestError(f"ACME cannot MODIFY; it can {_names(CAPABILITIES)}: cancel, and send a new order")

    def _checked(self, request: OrderRequest) -> LimitOrder:
        if not isinstance(request, OrderRequest):
            raise InvalidRequestError(f"submit takes an order such as LimitOrder(...), got {request!r}")
        if not self.supports(request.symbol):
            raise InvalidRequestError(f"ACME does not serve {request.symbol!r}")
        is_limit = isinstance(request, LimitOrder) and request.take_profit is request.stop_loss is None
        if not is_limit or request.time_in_force is not TimeInForce.GTC:
            raise InvalidRequestError(f"ACME takes plain GTC limit orders only; it can {_names(CAPABILITIES)}")
        assert isinstance(request, LimitOrder)
        return request

    # The round: read, absorb, and ask about whatever the reading does not explain.

    def reconcile(self) -> None:
        """Compare with ACME now; raises VenueUnavailableError when it cannot be read: absence then proves nothing."""
        try:
            with self._one_round_at_a_time:
                self._round()
        finally:
            self._bus.deliver()  # unlocked: a handler may call reconcile too

    def _round(self) -> None:
        self._absorb_trades()
        fence = self._state.ask(lambda ledger: ledger.revision)
        asked_ms = self._clock.now_ms()
        working = self._api.get("/orders", state="working")["orders"]
        suspects = self._state.ask(lambda ledger: list(ledger.untouched_since(fence)))
        self._state.absorb(self._reported(row, asked_ms) for row in working)
        listed = {row["id"] for row in working}
        for order in suspects:
            if order.broker_order_id not in listed:
                self._ask_about_absent(order)
        for order in self._state.ask(lambda ledger: list(ledger.open_orders())):
            self._settle_unanswered(order, asked_ms, is_listed=order.broker_order_id in listed)

    def _absorb_trades(self) -> None:
        rows = self._api.get("/trades", after=self._trades_read)["trades"]
        self._state.absorb(ExecutionReported(execution=to_execution(row), **self._now("reconcile")) for row in rows)
        self._trades_read = max([self._trades_read, *(row["n"] for row in rows)])

    def _ask_about_absent(self, order: Order) -> None:
        """An order missing from the list is a question, never a cancel: the answer is a row like any other."""
        asked_ms = self._clock.now_ms()
        try:
            row = self._api.get(f"/orders/{order.broker_order_id}")
        except RefusedError:
            return  # ACME does not know it now: it stays open here, and is asked for again
        self._state.absorb([self._reported(row, asked_ms)])

    def _settle_unanswered(self, order: Order, asked_ms: int, *, is_listed: bool) -> None:
        """A submit or cancel without an answer: found, or proved never to have arrived, or still unknown."""
        about = {"client_order_id": order.client_order_id, **self._now("reconcile")}
        if order.unanswered_submit is not None:
            begun_ms = self._clock.now_ms()
            rows = self._api.get("/orders", ref=order.client_order_id)["orders"]
            self._state.absorb(self._reported(row, begun_ms) for row in rows)
            if not rows and begun_ms > order.unanswered_submit.provable_from_ms:
                self._state.absorb([NonArrivalProved(**about)])
        cancel = order.cancel
        if cancel is not None and cancel.unanswered and is_listed and asked_ms > cancel.provable_from_ms:
            self._state.absorb([CancelRefused(**about, reason="never_arrived")])

    def _reported(self, row: Mapping[str, Any], as_of_ms: int, origin: str = "reconcile") -> OrderReported:
        return OrderReported(report=to_report(row), as_of_ms=as_of_ms, **self._now(origin))

    def _absorb(self, facts: list[AnyFact]) -> None:
        self._state.absorb(facts)
        self._bus.deliver()

    def _now(self, origin: str = "submit") -> dict[str, Any]:
        return {"at_ms": self._clock.now_ms(), "origin": origin}

    # What the shared state answers.

    def _named(self, client_order_id: str | None, broker_order_id: str | None) -> Order:
        if (client_order_id is None) == (broker_order_id is None):
            raise InvalidRequestError("name the order by exactly one of client_order_id and broker_order_id")
        return self._state.order(client_order_id, broker_order_id)

    def open_orders(self) -> list[OrderView]:
        """Every order not known to have ended."""
        return self._state.open_orders()

    def order(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderView:
        """What is believed of one order."""
        return self._named(client_order_id, broker_order_id).view()

    def fills(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> tuple[Execution, ...]:
        """An order's executions, oldest first."""
        return self._state.fills(client_order_id, broker_order_id)

    def wait(
        self,
        client_order_id: str | None = None,
        *,
        broker_order_id: str | None = None,
        until: str | Callable[[OrderView], bool] = "closed",
        timeout_ms: int = 5_000,
    ) -> OrderView:
        """Block until an order is ``"accepted"``, ``"resolved"`` or ``"closed"``."""
        return self._state.wait(client_order_id, broker_order_id, until, timeout_ms)

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """Limit orders, on ACME's symbols."""
        return CAPABILITIES if self.supports(symbol) else frozenset()

    def supports(self, symbol: str) -> bool:
        """True for ``ACME:...``."""
        return symbol.startswith(PREFIX)

    def close(self) -> None:
        """Stop the beat and the supervisor, deliver what is queued. Idempotent; orders stay at ACME."""
        self._reconciler.stop()
        self._supervisor.stop()
        if self._own is not None:
            self._own.close()
        if not self._state.is_closed:
            self._state.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._state.is_closed else self._supervisor.state
        return f"<AcmeBroker ACME session={state} open_orders={len(self.open_orders())}>"


def _ack(order: Order, outcome: SubmitOutcome, reason: str = "") -> SubmitAck:
    return SubmitAck(
        client_order_id=order.client_order_id,
        broker_order_id=order.broker_order_id,
        outcome=outcome,
        reject_reason=reason,
    )


def _ack_for(order: Order) -> SubmitAck:
    """What the ledger now knows of a submit."""
    if order.terminal is not None and order.terminal.kind is TerminalKind.REJECTED:
        return _ack(order, SubmitOutcome.REJECTED, order.terminal.reason)
    return _ack(order, SubmitOutcome.UNKNOWN if order.is_unresolved else SubmitOutcome.ACCEPTED)


def _names(capabilities: frozenset[OrderTypeCapability]) -> str:
    return ", ".join(sorted(capability.name for capability in capabilities))
