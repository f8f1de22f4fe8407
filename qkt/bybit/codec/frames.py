"""Stream frames as facts. Rows are routed by their own ``category``, whatever text the frame's topic carries.

Source: docs v5/websocket/private/order, execution, wallet.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from qkt.bybit.codec.bounds import time_ms_from_wire
from qkt.bybit.codec.executions import is_fill, is_funding, to_execution, to_funding
from qkt.bybit.codec.orders import BybitOrderTranslator
from qkt.bybit.codec.rows import parse_rows
from qkt.model.costs import FundingPayment
from qkt.orders.facts import AnyFact, ExecutionReported, OrderReported
from qkt.reconcile.snapshot import MalformedRow


@attrs.frozen(kw_only=True)
class FrameFacts:
    """What one frame says about one category."""

    facts: tuple[AnyFact, ...]
    malformed: tuple[MalformedRow, ...]
    funding: tuple[FundingPayment, ...] = ()


def order_facts(frame: Mapping[str, Any], category: str, at_ms: int) -> FrameFacts:
    """The order rows of a frame; several orders may share one."""
    as_of_ms = created_ms_of(frame)
    rows, malformed = parse_rows(
        _rows_of(frame, category), lambda row: BybitOrderTranslator.to_report(row, category), "order frame"
    )
    facts = tuple(
        OrderReported(report=report, as_of_ms=as_of_ms, at_ms=at_ms, may_lack_client_id=True) for report in rows
    )
    return FrameFacts(facts=facts, malformed=malformed)


def execution_facts(frame: Mapping[str, Any], category: str, at_ms: int) -> FrameFacts:
    """The fills of a frame, and its funding payments."""
    raw = _rows_of(frame, category)
    rows, malformed = parse_rows(
        raw, lambda row: to_execution(row, category) if is_fill(row) else None, "execution frame"
    )
    facts = tuple(ExecutionReported(execution=execution, at_ms=at_ms, may_lack_client_id=True) for execution in rows)
    paid = [row for row in raw if isinstance(row, dict) and is_funding(row, category)]
    if not paid:
        return FrameFacts(facts=facts, malformed=malformed)
    payments, bad = parse_rows(paid, lambda row: to_funding(row, category), "execution frame")
    return FrameFacts(facts=facts, malformed=malformed + bad, funding=payments)


def created_ms_of(frame: Mapping[str, Any]) -> int:
    """Venue time at which the frame was made; 0 when it is absent or not a time, so that its rows still count."""
    try:
        return time_ms_from_wire(frame.get("creationTime"))
    except ValueError:
        return 0


def _rows_of(frame: Mapping[str, Any], category: str) -> list[Any]:
    """The rows that belong to ``category``; a row that does not say is judged by the frame's topic, else ours."""
    data = frame.get("data")
    rows = data if isinstance(data, list) else [data] if isinstance(data, dict) else []
    topic = str(frame.get("topic") or "")
    of_topic = topic.rpartition(".")[2] if "." in topic else category
    return [row for row in rows if not isinstance(row, dict) or (row.get("category") or of_topic) == category]
