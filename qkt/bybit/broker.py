"""A broker for one Bybit category: orders out, and what is believed for whoever asks.

Threads: yours for every call here. No handler, socket or request runs under a lock. How the belief is kept is told in
`upkeep`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from qkt.broker.order_queries import OrderQueries
from qkt.broker.protocol import OrderTypeCapability, SubmitAck
from qkt.bus import EventBus
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.stream_handler import BybitUpkeep
from qkt.bybit.transport.protocol import BybitTransport
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import OrderModification, OrderRequest

R = TypeVar("R", bound=OrderRequest)
T = TypeVar("T")


class BybitBroker(OrderQueries, BybitUpkeep):
    """Everything the brokers for Bybit's categories share.

    Args:
        client: a `BybitTransport`, connected or to be connected; it is never closed by the broker.
        bus: where events go; brokers may share one.
        clock: dates events and measures ages; the system's by default.
        recovery_window_ms: how far before construction executions are read and published, and the overlap later.
        poll_interval_ms: the time between two rounds.
        poll_scheduler: runs rounds and lookups; by default a thread of the broker's own. Never closed if given.
        max_staleness_ms: refuse to submit while the state is older than this; off by default.
        retain_closed_ms: how long `order`, `fills` and `explain` know an order after it closed.
        risk_limits: limits no order of this broker may exceed; none by default.

    Raises ReconcileError when the first round could not read everything: a bot must not start on half a picture.
    """

    # -- orders ------------------------------------------------------------------------------------------------------

    def submit(self, request: OrderRequest) -> SubmitAck:
        """Send an order.

        Returns an ack whose ``outcome`` is ACCEPTED (the venue has the request), REJECTED (proved) or UNKNOWN (qkt is
        finding out; never resend). Raises InvalidRequestError for what cannot be right, what the venue's rules or a
        guard forbid, and VenueUnavailableError when nothing was sent; the id is free again in both cases.
        A spot stop or if-touched order reads the last price first: spot has no direction field, so the venue would
        take a trigger that is already crossed for the opposite order. If it cannot be read the order goes out.
        Source: POST /v5/order/create (docs v5/order/create-order).
        """
        self._state.check_open()
        self._check_staleness()
        self._checks.admit([request])
        return self._order_entry.submit(request)

    def submit_many(self, requests: Iterable[OrderRequest]) -> list[SubmitAck]:
        """Send orders in as few requests as the venue allows; one ack per order, in the order given.

        All or none pass the checks: one that cannot be right raises as in `submit`, and nothing is sent. From then on
        each order has its own outcome: one may be REJECTED beside others that stand. When a request of the batch gets
        no answer, each of its orders is UNKNOWN and looked up. If the budget runs out, or the broker is frozen, after
        part of the orders left, the rest are REJECTED as "never sent".
        Source: POST /v5/order/create-batch (docs v5/order/batch-place).
        """
        self._state.check_open()
        orders = _several(requests, "submit_many", "orders")
        if not orders:
            return []
        self._check_staleness()
        self._checks.admit(orders)
        return self._order_entry.submit_many(orders, self._check_may_go_on)

    def check(self, request: OrderRequest) -> None:
        """Raise what `submit` would raise for this order, guards left out, and send nothing."""
        self._checks.check([request])

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Ask for an order's end, ours or an outside one, by exactly one of its ids.

        ACCEPTED says the venue has the cancel, not that the order ended: `OrderCancelled` or `OrderCancelFailed` tells
        which. The cancel of an unresolved order is remembered (UNKNOWN) and sent when the order appears.
        Source: POST /v5/order/cancel (docs v5/order/cancel-order).
        """
        self._state.check_open()
        return self._order_entry.cancel(self._named_order(client_order_id, broker_order_id))

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:
        """Cancel every open order of ours (and the outside ones, if told), each on its own evidence (S84).

        Sent as `cancel_many` sends them: the venue's own cancel-all would leave nothing to tell one order by.
        """
        self._state.check_open()
        chosen = [
            view
            for view in self._state.open_orders()
            if symbol in (None, view.symbol) and (include_external or not view.external)
        ]
        return self._order_entry.cancel_many(
            [self._state.order(view.client_order_id or None, view.broker_order_id) for view in chosen]
        )

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """Ask for the end of orders, in few requests; one ack per order, client ids first, in the order given.

        An unknown id, or one named twice, raises InvalidRequestError and nothing is sent. Each order has its own
        outcome, as with `cancel`; nothing is sent twice. Conditional spot orders go one by one, since the venue's
        batch cannot name their kind.
        Source: POST /v5/order/cancel-batch (docs v5/order/batch-cancel).
        """
        self._state.check_open()
        orders = [self._named_order(name, None) for name in _several(client_order_ids, "cancel_many", "ids")]
        orders += [self._named_order(None, name) for name in _several(broker_order_ids, "cancel_many", "ids")]
        if len({(order.client_order_id, order.broker_order_id) for order in orders}) < len(orders):
            raise InvalidRequestError("cancel_many names an order twice; nothing was sent")
        return self._order_entry.cancel_many(orders)

    def modify(
        self,
        client_order_id: str | None = None,
        changes: OrderModification | None = None,
        *,
        broker_order_id: str | None = None,
    ) -> SubmitAck:
        """Ask for other terms on a working order; `OrderModified` or `OrderModifyFailed` tells what became of it.

        Source: POST /v5/order/amend (docs v5/order/amend-order).
        """
        self._state.check_open()
        if not isinstance(changes, OrderModification):
            raise InvalidRequestError(f"modify takes an OrderModification(...); got {changes!r}")
        order = self._named_order(client_order_id, broker_order_id)
        if order.is_open:
            self._checks.admit_changes(order.view(), changes)
        return self._order_entry.modify(order, changes)

    # -- rules and guards --------------------------------------------------------------------------------------------

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The venue's rules for a symbol as last read (at most about an hour ago); None when it did not list them."""
        return self._checks.instruments.rules(symbol)

    def quantize(self, request: R) -> R:
        """The nearest order that fits the venue's steps and is no worse for you; the same object when it fits already.

        A buy's prices never go up, a sell's never down, quantities never up. Without rules (a WARNING) nothing is
        changed. Raises InvalidRequestError when nothing would be left of the quantity.
        """
        return self._checks.quantize(request)

    def freeze(self, reason: str = "asked") -> None:
        """The kill switch: refuse submits and amends until `unfreeze`; cancels pass, orders at the venue stay."""
        self._checks.risk.freeze(reason)

    def unfreeze(self) -> None:
        """Let orders pass again."""
        self._checks.risk.unfreeze()

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze`."""
        return self._checks.risk.is_frozen

    def _check_may_go_on(self) -> None:
        self._state.check_open()
        self._checks.risk.check_not_frozen()

    def _check_staleness(self) -> None:
        if self._max_staleness_ms is None:
            return
        age_ms = self.health.staleness_ms
        if age_ms is None or age_ms > self._max_staleness_ms:
            raise VenueUnavailableError(
                f"nothing was sent: the state is {age_ms} ms old and max_staleness_ms is {self._max_staleness_ms}; "
                "see broker.health for what cannot be read"
            )

    # -- who it is ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The broker's name in logs and events."""
        return self.source

    @property
    def client(self) -> BybitTransport:
        """The connection this broker works on; never closed by the broker."""
        return self._client

    @property
    def bus(self) -> EventBus:
        """The bus that this broker's events go to."""
        return self._bus

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """What can be done on ``symbol``; empty when it is not served."""
        return self.capabilities if self.supports(symbol) else frozenset()

    def supports(self, symbol: str) -> bool:
        """True when ``symbol`` is of this broker's category."""
        try:
            return BybitSymbol.parse(symbol).category == self.category
        except InvalidRequestError:
            return False


def _several(given: Iterable[T], asked: str, what: str) -> list[T]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InvalidRequestError(f"{asked} takes a list of {what}; got {given!r}")
    return list(given)
