"""What is believed, for whoever asks: the same looks at a `BrokerState`, whichever venue feeds it."""

from __future__ import annotations

from collections.abc import Callable

from qkt.broker.state import BrokerState
from qkt.errors import InvalidRequestError
from qkt.model.executions import Execution
from qkt.model.orders import OrderView
from qkt.orders.audit import OrderAudit
from qkt.orders.order import Order


class OrderQueries:
    """The looking half of every broker that keeps a `BrokerState`; from memory, from any thread."""

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
        until: str | Callable[[OrderView], bool] = "closed",
        timeout_ms: int = 5_000,
    ) -> OrderView:
        """Block until an order is ``"accepted"``, ``"resolved"`` or ``"closed"``, or a function of its view is true.

        ``"accepted"`` also returns when the order ended instead. Watches the state, never the delivery of events.
        Raises WaitTimeoutError, with the view, when it takes longer than ``timeout_ms``.
        """
        self._named_order(client_order_id, broker_order_id)
        return self._state.wait(client_order_id, broker_order_id, until, timeout_ms)

    def _named_order(self, client_order_id: str | None, broker_order_id: str | None) -> Order:
        if (client_order_id is None) == (broker_order_id is None):
            raise InvalidRequestError("name the order by client_order_id or by broker_order_id, exactly one of them")
        if client_order_id == "":
            raise InvalidRequestError(
                "the client_order_id is empty, as is that of an order placed without one: name it by broker_order_id="
            )
        return self._state.order(client_order_id, broker_order_id)
