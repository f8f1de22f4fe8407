"""Queries about orders, answered from a `BrokerState`; shared by the live and the local brokers."""

from __future__ import annotations

from collections.abc import Callable

from qkt.broker.arguments import check_one_id
from qkt.broker.protocol import WaitGoal
from qkt.broker.state import BrokerState
from qkt.model.executions import Execution
from qkt.model.orders import OrderView
from qkt.orders.audit import OrderAudit
from qkt.orders.order import Order


class OrderQueries:
    """Read-only order methods of every broker that keeps a `BrokerState`: from memory, safe from any thread."""

    _state: BrokerState

    def order(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderView:
        """What qkt believes of one order now; raises InvalidRequestError for an unknown id."""
        return self._named_order(client_order_id, broker_order_id).view()

    def open_orders(self) -> list[OrderView]:
        """Every order not known to have ended, oldest first: ours, unresolved ones, and outside ones (``external``)."""
        return self._state.open_orders()

    def fills(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> tuple[Execution, ...]:
        """An order's executions, oldest first."""
        self._named_order(client_order_id, broker_order_id)
        return self._state.fills(client_order_id, broker_order_id)

    def explain(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderAudit:
        """The trail of facts behind an order: when each came, from where, what it changed. Printable."""
        view = self.order(client_order_id, broker_order_id=broker_order_id)
        return OrderAudit(order=view, entries=self._state.audit(client_order_id, broker_order_id))

    def wait(
        self,
        client_order_id: str | None = None,
        *,
        broker_order_id: str | None = None,
        until: WaitGoal | Callable[[OrderView], bool] = "closed",
        timeout_ms: int = 5_000,
    ) -> OrderView:
        """Block until an order is ``"accepted"``, ``"resolved"`` or ``"closed"``, or a function of its view is true.

        ``"accepted"`` also returns when the order ended instead. Watches the state, never the delivery of events.
        Raises WaitTimeoutError, with the view, when it takes longer than ``timeout_ms``.
        """
        self._named_order(client_order_id, broker_order_id)
        return self._state.wait(client_order_id, broker_order_id, until, timeout_ms)

    def _named_order(self, client_order_id: str | None, broker_order_id: str | None) -> Order:
        check_one_id(client_order_id, broker_order_id)
        return self._state.order(client_order_id, broker_order_id)
