"""Facts from typed reads: what `qkt.bybit` read becomes what the ledger learns. Pure."""

from __future__ import annotations

from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport
from qkt.orders.facts import ExecutionReported, OrderReported
from qkt.reconcile.snapshot import Read


def order_facts(read: Read[OrderReport], *, at_ms: int) -> list[OrderReported]:
    """One fact per order row, dated by the start of the read."""
    return [OrderReported(report=row, as_of_ms=read.begun_ms, at_ms=at_ms, origin="reconcile") for row in read.rows]


def execution_facts(read: Read[Execution], *, published_from_ms: int, at_ms: int) -> list[ExecutionReported]:
    """One fact per execution row; those from before ``published_from_ms`` (venue time) count and are not published."""
    return [
        ExecutionReported(
            execution=row, is_historic=row.exec_time_ms < published_from_ms, at_ms=at_ms, origin="reconcile"
        )
        for row in read.rows
    ]
