"""Orders, facts and venue rows in one line each, with defaults that agree with each other.

The defaults tell one story: a spot limit buy of 1 BTCUSDT at 100, client order id ``c1``, venue id ``b1``. Rows are as
the venue sends them (every number a string); facts are what qkt makes of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import LimitOrder, OrderType, Side, TimeInForce
from qkt.orders.facts import ExecutionReported, OrderReported, SubmitAcknowledged, SubmitIntended

SYMBOL = "BYBIT_SPOT:BTCUSDT"


def a_limit_order(**changes: Any) -> LimitOrder:
    """A limit buy of 1 at 100."""
    told: dict[str, Any] = {
        "symbol": SYMBOL,
        "side": Side.BUY,
        "quantity": Decimal(1),
        "limit_price": Decimal(100),
        "time_in_force": TimeInForce.GTC,
        **changes,
    }
    return LimitOrder(**told)


def submit_intended(client_order_id: str = "c1", **changes: Any) -> SubmitIntended:
    """The fact that our order is about to leave; ``changes`` are the order's."""
    sent_ms = changes.pop("sent_ms", 0)
    return SubmitIntended(
        client_order_id=client_order_id, request=a_limit_order(**changes), sent_ms=sent_ms, origin="submit"
    )


def acknowledged(client_order_id: str = "c1", broker_order_id: str = "b1") -> SubmitAcknowledged:
    """The fact that the venue has the request."""
    return SubmitAcknowledged(client_order_id=client_order_id, broker_order_id=broker_order_id, origin="submit")


def order_reported(
    status: str = "New",
    cum: Decimal | int | str = 0,
    *,
    as_of_ms: int = 0,
    at_ms: int = 0,
    origin: Any = "stream",
    **changes: Any,
) -> OrderReported:
    """An order row as a fact; an unknown status is kept raw."""
    known = {member.value: member for member in VenueStatus}
    told: dict[str, Any] = {
        "broker_order_id": "b1",
        "client_order_id": "c1",
        "symbol": SYMBOL,
        "side": Side.BUY,
        "status": known.get(status, VenueStatus.UNKNOWN),
        "venue_status": status,
        "order_type": OrderType.LIMIT,
        "time_in_force": "GTC",
        "quantity": Decimal(1),
        "limit_price": Decimal(100),
        "cum_quantity": Decimal(cum),
        **changes,
    }
    return OrderReported(
        report=OrderReport(**told),
        as_of_ms=as_of_ms,
        at_ms=at_ms,
        origin=origin,
        may_lack_client_id=origin == "stream",
    )


def execution_reported(
    exec_id: str = "e1",
    quantity: Decimal | int | str = 1,
    *,
    leaves: Decimal | int | str | None = None,
    of: Decimal | int | str | None = 1,
    at_ms: int = 0,
    origin: Any = "stream",
    is_historic: bool = False,
    **changes: Any,
) -> ExecutionReported:
    """An execution row as a fact: ``quantity`` of an order of size ``of``, after which ``leaves`` remain."""
    told: dict[str, Any] = {
        "exec_id": exec_id,
        "broker_order_id": "b1",
        "client_order_id": "c1",
        "symbol": SYMBOL,
        "side": Side.BUY,
        "price": Decimal(100),
        "quantity": Decimal(quantity),
        "order_quantity": None if of is None else Decimal(of),
        "leaves_quantity": None if leaves is None else Decimal(leaves),
        "exec_time_ms": 1,
        **changes,
    }
    return ExecutionReported(
        execution=Execution(**told),
        at_ms=at_ms,
        origin=origin,
        is_historic=is_historic,
        may_lack_client_id=origin == "stream",
    )


def order_row(**changes: Any) -> dict[str, Any]:
    """An order row as the venue sends it (docs v5/order/open-order)."""
    return {
        "category": "spot",
        "symbol": "BTCUSDT",
        "orderId": "b1",
        "orderLinkId": "c1",
        "side": "Buy",
        "orderType": "Limit",
        "orderStatus": "New",
        "cancelType": "UNKNOWN",
        "rejectReason": "EC_NoError",
        "timeInForce": "GTC",
        "price": "100",
        "qty": "1",
        "avgPrice": "",
        "leavesQty": "1",
        "cumExecQty": "0",
        "cumExecValue": "0",
        "stopOrderType": "",
        "triggerPrice": "0.00",
        "marketUnit": "",
        "createdTime": "1000",
        "updatedTime": "1000",
        **changes,
    }


def execution_row(**changes: Any) -> dict[str, Any]:
    """An execution row as the venue sends it (docs v5/order/execution)."""
    return {
        "category": "spot",
        "symbol": "BTCUSDT",
        "orderId": "b1",
        "orderLinkId": "c1",
        "side": "Buy",
        "orderType": "Limit",
        "stopOrderType": "",
        "execId": "e1",
        "execPrice": "100",
        "execQty": "1",
        "execValue": "100",
        "execFee": "0.001",
        "feeCurrency": "BTC",
        "execType": "Trade",
        "execTime": "1000",
        "isMaker": False,
        "orderPrice": "100",
        "orderQty": "1",
        "leavesQty": "0",
        "seq": 1,
        **changes,
    }


def envelope(rows: Iterable[Mapping[str, Any]] = (), *, cursor: str = "", time_ms: int = 0) -> dict[str, Any]:
    """A successful list reply."""
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"list": [dict(row) for row in rows], "nextPageCursor": cursor},
        "retExtInfo": {},
        "time": time_ms,
    }


def refusal(ret_code: int, ret_msg: str = "") -> dict[str, Any]:
    """A refusing reply with a return code."""
    return {"retCode": ret_code, "retMsg": ret_msg, "result": {}, "retExtInfo": {}, "time": 0}


def batch_reply(request: Mapping[str, Any], *codes: int, time_ms: int = 0) -> dict[str, Any]:
    """A reply to a batch request, item by item: 0 for taken, else the code of its refusal."""
    rows = [
        {
            "category": request["category"],
            "symbol": item.get("symbol", ""),
            "orderId": item.get("orderId") or ("" if code else f"batch-{item.get('orderLinkId')}"),
            "orderLinkId": item.get("orderLinkId", ""),
        }
        for item, code in zip(request["request"], codes, strict=True)
    ]
    verdicts = [{"code": code, "msg": "refused" if code else "OK"} for code in codes]
    return {
        "retCode": 0,
        "retMsg": "OK",
        "result": {"list": rows},
        "retExtInfo": {"list": verdicts},
        "time": time_ms,
    }


def wallet_envelope(**totals: str) -> dict[str, Any]:
    """A wallet reply, e.g. ``wallet_envelope(USDT="1000.5", BTC="0")``."""
    coins = [{"coin": coin, "walletBalance": total, "locked": "0"} for coin, total in totals.items()]
    return envelope([{"accountType": "UNIFIED", "coin": coins}])


def frame(topic: str, *rows: Mapping[str, Any], created_ms: int = 0) -> dict[str, Any]:
    """A stream frame."""
    return {"topic": topic, "id": "f", "creationTime": created_ms, "data": [dict(row) for row in rows]}
