"""One order's story as the venue tells it: its rows and executions, read by id.

Source: GET /v5/order/realtime, /v5/order/history, /v5/execution/list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qkt.bybit.codec.executions import is_fill, to_execution
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.bybit.codec.rows import parse_rows
from qkt.bybit.transport.client import BybitClient
from qkt.errors import BybitApiError, InvalidRequestError
from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport
from qkt.orders.facts import ExecutionReported, OrderReported
from qkt.orders.ledger import Ledger
from qkt.plain import decimal_text
from qkt.recorder.story import Story, StoryEntry

_ORDERS = ("/v5/order/realtime", "/v5/order/history")
_EXECUTIONS = "/v5/execution/list"
_MOST_PAGES = 20


def story_from_venue(client: BybitClient, categories: Sequence[str], name: str) -> Story:
    """What the venue knows of the order with this client or broker order id.

    Raises InvalidRequestError when it knows none, and what `BybitClient.get_signed` raises.
    """
    for category in categories:
        for path in _ORDERS:
            for field in ("orderLinkId", "orderId"):
                report = _row(client, path, {"category": category, field: name})
                if report is not None:
                    return _story(client, category, name, report, path)
    raise InvalidRequestError(
        f"the venue knows no order {name!r} in {' or '.join(categories)}: check the id; orders that ended unfilled are "
        "kept for a day, and a run recorded with FlightRecorder can be asked with --recording"
    )


def _story(client: BybitClient, category: str, name: str, report: OrderReport, path: str) -> Story:
    executions = sorted(_executions(client, category, report.broker_order_id), key=lambda one: one.trading_order)
    ledger = Ledger()
    facts = [ExecutionReported(execution=one, at_ms=one.exec_time_ms, origin="reconcile") for one in executions]
    ledger.apply_all([*facts, OrderReported(report=report, at_ms=report.updated_ms, origin="reconcile")])
    order = ledger.get(None, report.broker_order_id)
    entries = [
        StoryEntry(
            at_ms=report.created_ms,
            origin="venue",
            what=f"the order was created as {report.broker_order_id}"
            + (f", client order id {report.client_order_id}" if report.client_order_id else ""),
            evidence=f"GET {path}, createdTime",
        )
    ]
    entries += [
        StoryEntry(
            at_ms=one.exec_time_ms,
            origin="venue",
            what=f"executed {decimal_text(one.quantity)} @ {decimal_text(one.price)} as "
            f"{'maker' if one.is_maker else 'taker'}, fee {decimal_text(one.fee)} {one.fee_currency}".rstrip(),
            evidence=f"GET {_EXECUTIONS}, execId {one.exec_id}",
        )
        for one in executions
    ]
    reason = report.reason or report.refusal_reason
    entries.append(
        StoryEntry(
            at_ms=report.updated_ms,
            origin="venue",
            what=f"last change: {report.venue_status}, {decimal_text(report.cum_quantity)} executed"
            + (f" ({reason})" if reason else ""),
            evidence=f"GET {path}, updatedTime",
        )
    )
    return Story(
        name=name,
        source=category,
        order=None if order is None else order.view(),
        entries=tuple(sorted(entries, key=lambda entry: entry.at_ms)),
    )


def _row(client: BybitClient, path: str, query: Mapping[str, Any]) -> OrderReport | None:
    try:
        rows = client.get_signed(path, query).get("result", {}).get("list") or []
    except BybitApiError as error:
        if error.ret_code in _NOT_FOUND:
            return None
        raise
    reports, _ = parse_rows(rows, lambda row: BybitOrderTranslator.to_report(row, str(query["category"])), path)
    return reports[0] if reports else None


_NOT_FOUND = frozenset({10001, 110001, 170213})  # an id of the other kind may be refused for its form


def _executions(client: BybitClient, category: str, broker_order_id: str) -> Iterator[Execution]:
    cursor = ""
    for _ in range(_MOST_PAGES):
        query = {"category": category, "orderId": broker_order_id, "limit": 100, "cursor": cursor or None}
        result = client.get_signed(_EXECUTIONS, query).get("result", {})
        found, _malformed = parse_rows(
            result.get("list") or [],
            lambda row: to_execution(row, category) if is_fill(row) else None,
            _EXECUTIONS,
        )
        yield from found
        cursor = str(result.get("nextPageCursor") or "")
        if not cursor:
            return
