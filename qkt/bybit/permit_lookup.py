"""What became of a permitted request whose owner is gone: asked at the venue after the quarantine (rule P6)."""

from __future__ import annotations

import json

from qkt.bybit.codec.journal_rows import amend_is_met, request_of
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.queries import BybitQueries
from qkt.bybit.transport.protocol import CompleteTransport
from qkt.clock import Clock
from qkt.errors import QktError
from qkt.journal.protocol import Permit, PermitOutcome, Resolution
from qkt.orders.facts import SubmitIntended
from qkt.orders.order import NEVER_ARRIVED, Order, Terms
from qkt.orders.report_rules import new_order

_TIME = "/v5/market/time"
_SHOWN_FOR_MS = 24 * 3_600_000  # how long the venue shows a closed order without fills (docs v5/order/order-list)


class PermitLookup:
    """Asks about permits of one account, of whichever category. The caller has waited for the quarantine to end."""

    def __init__(self, client: CompleteTransport, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._queries: dict[str, BybitQueries] = {}

    def resolve(self, permit: Permit) -> Resolution | None:
        """What became of it: realtime, history and executions are asked by id. None when they could not be read."""
        if permit.operation == "position_exits":
            # The venue does not record which request set an exit; it is enough that this request can no longer arrive.
            return Resolution(seq=permit.seq, outcome=PermitOutcome.NEVER_ARRIVED, reason="it can no longer arrive")
        queries = self._of(permit.category)
        answer = queries.order(_order_of(permit), with_executions=permit.operation == "create")
        row = answer.rows.rows[-1] if answer.rows.rows else None
        executions = answer.executions.rows if answer.executions is not None else ()
        broker_order_id = row.broker_order_id if row else executions[-1].broker_order_id if executions else ""
        if permit.operation == "create" and broker_order_id:
            return Resolution(seq=permit.seq, outcome=PermitOutcome.ACCEPTED, broker_order_id=broker_order_id)
        if permit.operation != "create" and row is not None and amend_is_met(json.loads(permit.body), row):
            return Resolution(seq=permit.seq, outcome=PermitOutcome.ACCEPTED, broker_order_id=broker_order_id)
        if not answer.is_complete:
            return None
        if permit.operation == "create" and queries.venue_ms() - permit.signed_at_ms > _SHOWN_FOR_MS:
            reason = "too long ago: an order that ended without fills is not shown any more"
            return Resolution(seq=permit.seq, outcome=PermitOutcome.ACCEPTED, reason=reason)
        return Resolution(seq=permit.seq, outcome=PermitOutcome.NEVER_ARRIVED, reason=NEVER_ARRIVED)

    def _of(self, category: str) -> BybitQueries:
        found = self._queries.get(category)
        if found is None:
            found = self._queries[category] = BybitQueries(self._client, category, self._clock)
            found.read_briefly()
        return found


def _order_of(permit: Permit) -> Order:
    """The order a permit is about, as far as it has to be known to ask for it."""
    body = json.loads(permit.body)
    if permit.operation == "create":
        request = request_of(permit.category, body)
        order_filter = str(body.get("orderFilter", ""))
        return new_order(
            SubmitIntended(
                client_order_id=permit.link_id,
                request=request,
                sent_ms=permit.signed_at_ms,
                order_filter=order_filter,
                at_ms=permit.granted_at_ms,
            )
        )
    has_name = not permit.link_id.startswith(BROKER_ID)
    return Order(
        client_order_id=permit.link_id if has_name else "",
        broker_order_id="" if has_name else permit.link_id.removeprefix(BROKER_ID),
        symbol=BybitSymbol.to_qkt(permit.category, permit.symbol),
        side=None,
        terms=Terms(quantity=None, limit_price=None, stop_price=None),
        sent_ms=permit.signed_at_ms,
    )


BROKER_ID = "broker-id:"
"""Stands before the venue's order id where an amended order has no client order id of its own."""


def venue_time_ms(client: CompleteTransport, clock: Clock) -> int | None:
    """Venue time, as the venue itself tells it now, or the earlier reckoning of it; None when it does not answer."""
    reckoned_ms = BybitQueries(client, "spot", clock).venue_ms()
    try:
        told = client.get_signed(_TIME, {}).get("result") or {}
        return min(reckoned_ms, int(told.get("timeNano", "")) // 1_000_000)
    except (QktError, ValueError):
        return None
