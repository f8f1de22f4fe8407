"""Mistakes that trading engines are known to make, planted into the real code: nine of the proof's, and eight more.

The proof's tenth (orders noted after the snapshot instead of before it) costs requests here and breaks no promise:
every order is found by id.
"""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from qkt.bybit import queries
from qkt.bybit.order_entry import OrderEntry
from qkt.bybit.stream_handler import StreamHandler
from qkt.orders import machine, report_rules
from qkt.orders.facts import NonArrivalProved
from qkt.orders.order import NEVER_ARRIVED
from qkt.orders.report_rules import terms_of
from qkt.reconcile import plan, positions, snapshot
from qkt.reconcile.wallet import WalletBook
from tests.proof.mistakes import MISTAKES as PROVED
from tests.proof.mistakes import Plant

MISTAKES: dict[str, Plant] = {
    name: plant for name, plant in PROVED.items() if name != "known_orders_read_after_the_snapshot"
}

# Families of faults without which a mistake is found too, and later.
HASTENED_BY = {
    "last_write_wins": ("frames_replayed",),
    "stop_paging_at_a_seen_page": ("reads_paged", "frames_lost"),
    "duplicate_id_is_acceptance": ("ids_reused",),
    "completion_by_remembered_quantity": ("outside_amends", "frames_lost"),
    "error_is_empty_wallet": ("reads_fail",),
    "first_page_is_all": ("reads_paged", "frames_lost"),
    "older_balance_wins": ("frames_replayed",),
    "older_position_wins": ("frames_replayed",),
    "reconnect_reads_nothing": ("stream_lost",),
    "terms_of_any_row": ("frames_replayed",),
    "remembered_cancel_is_forgotten": ("submit_unanswered", "frames_lost"),
}


def mistake(plant: Plant) -> Plant:
    """Register a planted mistake under its name."""
    MISTAKES[plant.__name__] = plant
    return plant


@mistake
def terms_of_any_row(patch: pytest.MonkeyPatch) -> None:
    """Every row rewrites quantity and prices, whatever its version."""

    def rewrite(order: Any, report: Any, as_of_ms: int, news: Any) -> None:
        shown = terms_of(report, as_of_ms, fallback=order.terms)
        if not shown.says_the_same_as(order.terms):
            report_rules._change_terms(order, shown, news, is_first_version=False)

    patch.setattr(report_rules, "_join_terms", rewrite)


@mistake
def older_balance_wins(patch: pytest.MonkeyPatch) -> None:
    """The balance that comes last is the newest, whenever it was read or pushed."""
    patch.setattr(WalletBook, "_dated_ms", lambda _self, _coin: 0)


@mistake
def older_position_wins(patch: pytest.MonkeyPatch) -> None:
    """The position that comes last is the newest, whatever its sequence number."""
    patch.setattr(positions, "_version", lambda _position: 0)


@mistake
def first_page_is_all(patch: pytest.MonkeyPatch) -> None:
    """One page is enough: the cursor is ignored."""
    walk = snapshot.walk

    def walk_once(path: str, fetch: Any, **more: Any) -> Any:
        return walk(path, lambda cursor: attrs.evolve(fetch(cursor), cursor=""), **more)

    patch.setattr(queries, "walk", walk_once)


@mistake
def one_empty_lookup_proves(patch: pytest.MonkeyPatch) -> None:
    """The order is not there now, so it never will be."""

    def prove(order: Any, _lookups: Any, at_ms: int, _limits: Any) -> list[Any]:
        name = order.client_order_id
        return [NonArrivalProved(client_order_id=name, reason=NEVER_ARRIVED, at_ms=at_ms, origin="reconcile")]

    patch.setattr(plan, "_judge_unanswered", prove)


@mistake
def late_fills_are_dropped(patch: pytest.MonkeyPatch) -> None:
    """The order is over, so an execution of it is a mistake of the venue's."""
    join = report_rules.join_execution

    def join_while_open(order: Any, fact: Any, news: Any) -> None:
        if not order.is_terminal_published:
            join(order, fact, news)

    patch.setattr(machine, "join_execution", join_while_open)


@mistake
def remembered_cancel_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A cancel of an order in doubt is remembered, and never sent."""
    patch.setattr(OrderEntry, "send_due_cancels", lambda _self: None)


@mistake
def reconnect_reads_nothing(patch: pytest.MonkeyPatch) -> None:
    """The stream is back, so all is well: what happened meanwhile is left to the timer."""
    patch.setattr(StreamHandler, "_on_reconnect", lambda _self: None)
