"""Ten mistakes that trading engines are known to make, each planted into the real code by one small patch.

They are here to prove the proof: the checks of this folder must fail with any of them in (`test_planted_mistakes.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from qkt.bybit import order_entry, queries, recovery
from qkt.bybit.codec.retcodes import Operation, Verdict
from qkt.bybit.lookup import OrderLookup
from qkt.bybit.order_entry import OrderEntry
from qkt.bybit.queries import BybitQueries
from qkt.bybit.recovery import BybitStateRecovery
from qkt.orders import emission, machine, report_rules
from qkt.orders.facts import AgedOut, SubmitAcknowledged, SubmitRefused
from qkt.orders.order import Order
from qkt.orders.report_rules import terminal_of, terms_of
from qkt.reconcile.snapshot import Completeness, Read

Plant = Callable[[pytest.MonkeyPatch], None]

MISTAKES: dict[str, Plant] = {}


def mistake(plant: Plant) -> Plant:
    MISTAKES[plant.__name__] = plant
    return plant


@mistake
def absence_is_cancel(patch: pytest.MonkeyPatch) -> None:
    """What is missing from the open list has been cancelled: why ask?"""
    ask = OrderLookup.ask

    def conclude(self, order: Order, *, only_fills: bool = False) -> bool:  # type: ignore[no-untyped-def]
        if only_fills or not (order.is_acknowledged or order.has_evidence):
            return ask(self, order, only_fills=only_fills)
        ids = {"client_order_id": order.client_order_id, "broker_order_id": order.broker_order_id}
        self._state.absorb([AgedOut(**ids, origin="reconcile")])  # type: ignore[arg-type]
        return True

    patch.setattr(OrderLookup, "ask", conclude)


@mistake
def timeout_is_reject(patch: pytest.MonkeyPatch) -> None:
    """Nobody answered, so it did not work."""

    def refused(self, client_order_id: Any, error: Any, sent_ms: Any) -> SubmitRefused:  # type: ignore[no-untyped-def]
        return SubmitRefused(client_order_id=client_order_id, reason=str(error), origin="submit")

    patch.setattr(OrderEntry, "unanswered_submit", refused)


@mistake
def last_write_wins(patch: pytest.MonkeyPatch) -> None:
    """The row that came last is the truth."""

    def overwrite(order: Any, fact: Any, news: Any) -> None:
        report = fact.report
        report_rules._join_evidence(order, report.broker_order_id)
        order.reported_quantity = report.cum_quantity
        order.status, order.venue_status = report.status, report.venue_status
        order.terms = terms_of(report, fact.as_of_ms)
        order.terminal = terminal_of(order, report, fact.at_ms) if report.status.is_final else None

    patch.setattr(machine, "join_report", overwrite)


@mistake
def terminal_before_fills(patch: pytest.MonkeyPatch) -> None:
    """The order says it is over: tell it at once, the executions will come."""
    patch.setattr(
        emission, "_may_publish_terminal", lambda order: order.terminal is not None and not order.is_terminal_published
    )


@mistake
def dedupe_after_publish(patch: pytest.MonkeyPatch) -> None:
    """Publish the execution, then notice that it is known."""
    learn = report_rules.join_execution

    def publish_first(order: Any, fact: Any, news: Any) -> None:
        if fact.execution.exec_id in order.fills:
            news.fill = fact.execution
            return
        learn(order, fact, news)

    patch.setattr(machine, "join_execution", publish_first)


@mistake
def known_orders_read_after_the_snapshot(patch: pytest.MonkeyPatch) -> None:
    """Compare the list with what is known now, not with what was known when it was asked for."""
    patch.setattr(
        recovery,
        "absent_candidates",
        lambda ledger, _fence: [order for order in ledger.open_orders() if order.is_acknowledged or order.has_evidence],
    )


@mistake
def stop_paging_at_a_seen_page(patch: pytest.MonkeyPatch) -> None:
    """Executions come newest first, so a page of known ones means that the rest is known too."""
    build, walk = BybitStateRecovery.__init__, queries.walk  # type: ignore[attr-defined]
    known: list[Callable[[str], bool]] = []

    def build_and_listen(self, client: Any, state: Any, **more: Any) -> None:  # type: ignore[no-untyped-def]
        build(self, client, state, **more)
        known[:] = [lambda exec_id: any(exec_id in order.fills for order in state._ledger)]

    def walk_lazily(path: Any, fetch: Any, **more: Any) -> Any:
        def fetch_unless_seen(cursor: Any) -> Any:
            page = fetch(cursor)
            if path == "executions" and page.rows and all(known[0](row.exec_id) for row in page.rows):
                return attrs.evolve(page, cursor="")
            return page

        return walk(path, fetch_unless_seen, **more)

    patch.setattr(BybitStateRecovery, "__init__", build_and_listen)
    patch.setattr(queries, "walk", walk_lazily)


@mistake
def error_is_empty_wallet(patch: pytest.MonkeyPatch) -> None:
    """The wallet could not be read, so there is nothing in it."""
    read_wallet = BybitQueries.wallet

    def read_or_nothing(self, account_type: Any) -> Any:  # type: ignore[no-untyped-def]
        read = read_wallet(self, account_type)
        if read.is_complete:
            return read
        return Read(path="balances", completeness=Completeness.COMPLETE, begun_ms=read.begun_ms, pages=1)

    patch.setattr(BybitQueries, "wallet", read_or_nothing)


@mistake
def duplicate_id_is_acceptance(patch: pytest.MonkeyPatch) -> None:
    """The venue has an order under this id, so it must be the one we sent."""
    refused = OrderEntry.refused_submit

    def accepted(self, client_order_id: Any, error: Any, sent_ms: Any) -> Any:  # type: ignore[no-untyped-def]
        if order_entry.verdict(error.ret_code, Operation.CREATE) is Verdict.DUPLICATE_ID:  # type: ignore[attr-defined]
            return SubmitAcknowledged(client_order_id=client_order_id, origin="submit")
        return refused(self, client_order_id, error, sent_ms)

    patch.setattr(OrderEntry, "refused_submit", accepted)


@mistake
def completion_by_remembered_quantity(patch: pytest.MonkeyPatch) -> None:
    """It is filled when the fills add up to what was asked for."""
    patch.setattr(report_rules, "_is_complete", lambda order: order.filled_quantity == order.terms.quantity)
