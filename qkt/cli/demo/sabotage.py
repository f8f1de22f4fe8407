"""Naive rules that replace qkt's own in this process, to show that the judge of the demo can fail.

Each is a rule found in real bots. The product does not know them: a rule is patched in for the length of a ``with``
block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import attrs

from qkt.bybit import lookup, order_entry, recovery
from qkt.orders.facts import AgedOut, AnyFact, SubmitRefused
from qkt.orders.ledger import Ledger
from qkt.reconcile.plan import settled_requests
from qkt.reconcile.report import ReconcileReport
from qkt.reconcile.snapshot import Read


@attrs.frozen(kw_only=True)
class Sabotage:
    """A naive rule: its description, how it is patched in, and what it costs the bot in the demo."""

    rule: str
    price: str
    swap: Callable[[ExitStack], None]


def _absence_is_cancel(stack: ExitStack) -> None:
    def naive(ledger: Ledger, orders: Read[Any], *, at_ms: int) -> list[AnyFact]:
        listed = {row.broker_order_id for row in orders.rows}
        gone = [
            AgedOut(
                client_order_id=order.client_order_id,
                broker_order_id=order.broker_order_id,
                reason="not in the open list",
                at_ms=at_ms,
                origin="reconcile",
            )
            for order in ledger.open_orders()
            if order.broker_order_id and order.broker_order_id not in listed
        ]
        return [*settled_requests(ledger, orders, at_ms=at_ms), *gone]

    stack.enter_context(mock.patch.object(recovery, "settled_requests", naive))


def _timeout_is_reject(stack: ExitStack) -> None:
    def naive(self: Any, client_order_id: str, _error: BaseException, _sent_ms: int) -> SubmitRefused:
        return SubmitRefused(client_order_id=client_order_id, reason="timeout", **self.now())

    stack.enter_context(mock.patch.object(order_entry.OrderEntry, "unanswered_submit", naive))


def _no_reconcile(stack: ExitStack) -> None:
    honest = recovery.BybitStateRecovery._round

    def naive(self: recovery.BybitStateRecovery, trigger: str, paths: frozenset[str] | None = None) -> ReconcileReport:
        if trigger == "construction":
            return honest(self, trigger, paths)
        return ReconcileReport(source="BYBIT_SPOT", trigger=trigger, started_ms=0, duration_ms=0, paths=())

    stack.enter_context(mock.patch.object(recovery.BybitStateRecovery, "_round", naive))
    stack.enter_context(mock.patch.object(lookup.OrderLookup, "look_up", return_value=None))


RULES = {
    "absence-is-cancel": Sabotage(
        rule="an order that is not in the open list was cancelled",
        price="It was told that E is cancelled while E stood at the venue, and then E traded.",
        swap=_absence_is_cancel,
    ),
    "timeout-is-reject": Sabotage(
        rule="a submit without an answer was refused",
        price="It was told that D is refused, sent it again, and bought twice what it wanted.",
        swap=_timeout_is_reject,
    ),
    "no-reconcile": Sabotage(
        rule="the stream tells everything, so nothing else is read",
        price="It does not know that B filled and that C is gone, and will never be told.",
        swap=_no_reconcile,
    ),
}


@contextmanager
def sabotaged(name: str | None) -> Iterator[None]:
    """Patch a naive rule in for the length of the block; no patch for None."""
    with ExitStack() as stack:
        if name is not None:
            RULES[name].swap(stack)
        yield
