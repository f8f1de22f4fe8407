"""Make what the bot believes what the venue holds: read everything, ask about what does not add up, tell what changed.

One round at a time, under a lock; a caller may join a round that has not started, never one under way, since that one
may have read before the caller's cause. The paths (orders, executions, balances) fail separately. Whatever was read is
absorbed as facts; whatever is missing becomes a question asked by id; only `plan.verdict` may conclude from silence.

This room does the I/O. What to ask and what to conclude is decided in `qkt.reconcile`, which cannot see a socket.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from qkt.broker.state import BrokerState
from qkt.bybit.account.wallet_cache import wallet_cache
from qkt.bybit.queries import BybitQueries
from qkt.bybit.transport.protocol import BybitTransport
from qkt.clock import Clock
from qkt.events import BalancesUpdated, Origin
from qkt.model.balances import CoinBalance
from qkt.model.executions import Execution
from qkt.model.reports import OrderReport
from qkt.net.scheduler import Scheduler
from qkt.orders.facts import ExecutionReported, OrderReported
from qkt.orders.ledger import Change
from qkt.orders.order import Order
from qkt.reconcile.plan import (
    LookupResult,
    ReconcileLimits,
    absent_candidates,
    conclude,
    name_of,
    plan_lookups,
    settled_requests,
)
from qkt.reconcile.report import PathResult, ReconcileReport, discrepancies
from qkt.reconcile.snapshot import Read, merged

log = logging.getLogger(__name__)

# How soon an unanswered submit is asked for: the first answers come while a person would still be reading the error.
LOOKUP_DELAYS_MS = (200, 500, 1_000, 2_000, 5_000)

_LEAST_OVERLAP_MS = 60_000
_FAILURES_BEFORE_ALARM = 2


@attrs.define(eq=False)
class _Round:
    """A round somebody waits for; ``report`` is set when it is over."""

    trigger: str
    report: ReconcileReport | None = None


class BybitStateRecovery:
    """Reconciles one category of one account into a `BrokerState`.

    Args:
        recovery_window_ms: how far before its construction the first execution window reaches, and the overlap of every
            later one (at least a minute, for executions the venue shows late).
        stale_after_ms: the age at which a domain is degraded.
        retain_closed_ms: how long a settled order is remembered (longer where the venue can still repeat it).
    """

    def __init__(
        self,
        client: BybitTransport,
        state: BrokerState,
        *,
        category: str,
        clock: Clock,
        recovery_window_ms: int = 300_000,
        stale_after_ms: int = 90_000,
        retain_closed_ms: int = 24 * 3_600_000,
        limits: ReconcileLimits | None = None,
        account_type: str | None = None,
    ) -> None:
        self.limits = limits or ReconcileLimits()
        self.queries = BybitQueries(client, category, clock)
        self._state = state
        self._clock = clock
        self._account_type = account_type or str(getattr(client, "account_type", "") or "UNIFIED")
        self._recovery_window_ms = recovery_window_ms
        self._stale_after_ms = stale_after_ms
        self._retain_closed_ms = retain_closed_ms

        self._one_at_a_time = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: _Round | None = None
        self._wallet_cache = wallet_cache(client)
        self._told_book = self._wallet_cache.book
        self._telling_balances = threading.Lock()

        self._more_paths: list[Callable[[], Read[Any]]] = []
        self._rounds = 0
        self._watermark_ms: int | None = None
        self._publish_from_ms = 0
        self._last_ok_ms: dict[str, int] = {}
        self._failures: dict[str, int] = {}
        self._last_asked: dict[str, int] = {}
        self._malformed_ids: set[str] = set()
        self.lookups_waiting = 0
        self.reports: deque[ReconcileReport] = deque(maxlen=50)

    # -- rounds ------------------------------------------------------------------------------------------------------

    def reconcile(self, trigger: str = "asked") -> ReconcileReport:
        """Run a round, or join one that has not started; deliver its events afterwards. Never raises for the venue."""
        with self._guard:
            if self._waiting is None:
                self._waiting = _Round(trigger)
            mine = self._waiting
        with self._one_at_a_time:
            if mine.report is None:
                with self._guard:
                    self._waiting = None  # it starts now: nobody may join any more
                mine.report = self._round(mine.trigger)
        return mine.report

    def _round(self, trigger: str) -> ReconcileReport:
        self._rounds += 1
        is_first = self._rounds == 1
        started_ms, started = self._clock.now_ms(), self._clock.monotonic_ms()
        fence_ms = self.queries.venue_ms()
        fence_revision = self._state.ask(lambda ledger: ledger.revision)

        orders = self.queries.open_orders()
        executions = self._read_executions(fence_ms)
        candidates = self._state.ask(lambda ledger: absent_candidates(ledger, fence_revision))
        self._absorb_executions(executions)
        self._absorb_rows(orders)
        self._state.absorb(self._state.ask(lambda ledger: settled_requests(ledger, orders, at_ms=self._clock.now_ms())))
        asked, failed = self._look_up_doubtful(orders, candidates)
        balances = self._reconcile_balances()
        paths: list[Read[Any]] = [orders, executions, balances, *(read() for read in self._more_paths)]
        if is_first and orders.is_complete and executions.is_complete:
            self._state.started(fence_ms)

        changes = self._state.take_changes()
        found = discrepancies(changes, now_ms=fence_ms, grace_ms=self.limits.grace_ms, is_first=is_first)
        report = ReconcileReport(
            source=self._state.source,
            trigger=trigger,
            started_ms=started_ms,
            duration_ms=self._clock.monotonic_ms() - started,
            paths=tuple(PathResult.of(read) for read in paths),
            discrepancies=tuple(found),
            adopted=sum(change.before is None and change.after.external for change in changes),
            lookups_made=asked,
            lookups_waiting=self.lookups_waiting,
            lookups_failed=failed,
            unresolved=self._state.unresolved(),
        )
        self._judge_health(report)
        self._forget_closed()
        self.reports.append(report)
        self._log(report)
        return report

    def _read_executions(self, fence_ms: int) -> Read[Execution]:
        """From the watermark, less the overlap, up to now; the watermark follows the last complete window."""
        now_ms = self.queries.venue_ms()  # not the fence: by now the transport has measured a clock that jumped (S82)
        if self._watermark_ms is None:
            start_ms = self._publish_from_ms = max(0, fence_ms - self._recovery_window_ms)
        else:
            # after a clock that ran ahead was set back, what lies between is not read yet (S82)
            self._watermark_ms = min(self._watermark_ms, now_ms)
            start_ms = self._window_start_ms()
        reads = []
        for until_ms, read in self.queries.executions(start_ms, max(now_ms, start_ms)):
            reads.append(read)
            if read.is_complete:
                self._watermark_ms = until_ms
        return merged(
            "executions",
            reads,
            key=lambda execution: (execution.broker_order_id, execution.exec_id),
            fuller=lambda first, _second: first,
        )

    def _window_start_ms(self) -> int:
        if self._watermark_ms is None:
            return 0
        return max(0, self._watermark_ms - max(self._recovery_window_ms, _LEAST_OVERLAP_MS))

    def _absorb_executions(self, read: Read[Execution]) -> list[Change]:
        self._note_malformed(read)
        overlaps_the_past = self._window_start_ms() < self._publish_from_ms
        facts = self._as_fills(read.rows, published_from_ms=self._publish_from_ms if overlaps_the_past else 0)
        # An order nobody knows, of which only the past is shown, was over before we came: it is no news (S59).
        return self._state.absorb(fact for fact in facts if not fact.is_historic or self._knows(fact))

    def _absorb_rows(self, read: Read[OrderReport]) -> list[Change]:
        self._note_malformed(read)
        return self._state.absorb(self._as_facts(read.rows, read.begun_ms))

    def _as_facts(self, rows: Iterable[OrderReport], as_of_ms: int) -> list[OrderReported]:
        at_ms = self._clock.now_ms()
        return [OrderReported(report=row, as_of_ms=as_of_ms, at_ms=at_ms, origin="reconcile") for row in rows]

    def _as_fills(self, rows: Iterable[Execution], *, published_from_ms: int) -> list[ExecutionReported]:
        at_ms = self._clock.now_ms()
        return [
            ExecutionReported(
                execution=row, is_historic=row.exec_time_ms < published_from_ms, at_ms=at_ms, origin="reconcile"
            )
            for row in rows
        ]

    def _note_malformed(self, read: Read[Execution] | Read[OrderReport]) -> None:
        for bad in read.malformed:
            log.warning("malformed row path=%s problem=%s row=%s", bad.path, bad.problem, bad.excerpt)
            self._malformed_ids.update({bad.broker_order_id, bad.client_order_id} - {""})

    # -- questions ---------------------------------------------------------------------------------------------------

    def _look_up_doubtful(self, orders: Read[OrderReport], candidates: list[Order]) -> tuple[int, int]:
        malformed, self._malformed_ids = self._malformed_ids, set()
        asked, self.lookups_waiting = self._state.ask(
            lambda ledger: plan_lookups(
                ledger,
                orders=orders,
                candidates=candidates,
                malformed_ids=malformed,
                last_asked=self._last_asked,
                limits=self.limits,
            )
        )
        failed = 0
        for question in asked:
            if self._state.is_closed:
                break
            failed += not self._ask(question.order, only_fills=question.only_fills)
        self._last_asked = {name: when for name, when in self._last_asked.items() if when > self._rounds - 100}
        return len(asked), failed

    def _ask(self, order: Order, *, only_fills: bool = False) -> bool:
        """Ask the venue about one order by id and absorb the answer; False when it could not be asked completely."""
        self._last_asked[name_of(order)] = self._rounds
        begun_ms = self.queries.venue_ms()
        is_complete, found = True, only_fills
        if not only_fills:
            answer = self.queries.order(order, with_executions=order.missing_quantity > 0)
            self._absorb_answered_executions(answer.executions)
            self._absorb_answered_rows(answer.rows)
            is_complete = answer.is_complete
            found = bool(answer.rows.rows or _is_news(answer.executions, order))
        known = self._state.ask(lambda ledger: ledger.get(order.client_order_id or None, order.broker_order_id))
        if known is None:
            return is_complete
        if known.missing_quantity:
            executions = self.queries.executions_of(known)
            self._absorb_answered_executions(executions)
            is_complete = is_complete and executions.is_complete
            known = self._state.order(known.client_order_id or None, known.broker_order_id)
        told = LookupResult(begun_ms=begun_ms, is_complete=is_complete, found=found)
        self._state.absorb(conclude(known, told, at_ms=self._clock.now_ms(), limits=self.limits))
        return is_complete

    def _absorb_answered_rows(self, read: Read[OrderReport]) -> None:
        """What was asked for, and what stands; another order that once had the same id and is over is no news (S16)."""
        self._note_malformed(read)
        facts = self._as_facts(read.rows, read.begun_ms)
        self._state.absorb(fact for fact in facts if not fact.report.status.is_final or self._knows(fact))

    def _absorb_answered_executions(self, read: Read[Execution] | None) -> None:
        if read is None:
            return
        self._note_malformed(read)
        facts = self._as_fills(read.rows, published_from_ms=self._publish_from_ms)
        self._state.absorb(fact for fact in facts if self._knows(fact))

    def _knows(self, fact: OrderReported | ExecutionReported) -> bool:
        return self._state.ask(lambda ledger: ledger.knows(fact))

    def look_up(self, client_order_id: str | None, broker_order_id: str | None = None) -> None:
        """Ask about one order now, outside the rounds. Deliver afterwards."""
        order = self._state.ask(lambda ledger: ledger.get(client_order_id, broker_order_id))
        if order is None or self._state.is_closed:
            return
        self._count("lookups", ok=self._ask(order), problem=f"cannot ask about {name_of(order)}")

    def look_up_soon(self, client_order_id: str, scheduler: Scheduler, then: Callable[[], object]) -> None:
        """Ask about an unanswered submit within seconds, and again when its arrival can be excluded.

        ``then`` is called after each answer was absorbed: what waited for the order may be sent now.
        """
        order = self._state.order(client_order_id)
        delays = list(LOOKUP_DELAYS_MS)
        if order.unanswered_submit is not None:
            until_provable_ms = max(0, order.unanswered_submit.provable_from_ms - self.queries.venue_ms())
            delays += [until_provable_ms + 100, until_provable_ms + 200 + self.limits.between_lookups_ms]

        def look() -> None:
            if self._state.is_closed or not self._is_unresolved(client_order_id):
                return
            self.look_up(client_order_id)
            then()
            self._state.bus.deliver()

        for delay_ms in delays:
            scheduler.schedule_once(look, delay_ms)

    def _is_unresolved(self, client_order_id: str) -> bool:
        order = self._state.ask(lambda ledger: ledger.get(client_order_id))
        return order is not None and order.is_unresolved

    # -- balances ----------------------------------------------------------------------------------------------------

    def _reconcile_balances(self) -> Read[tuple[str, CoinBalance]]:
        read = self._wallet_cache.read(self.queries, self._account_type, monotonic_ms=self._clock.monotonic_ms())
        if read.is_complete:
            self.tell_balances("reconcile", even_if_unchanged=True)
        return read

    def tell_balances(self, origin: Origin, *, even_if_unchanged: bool = False) -> None:
        """Queue a `BalancesUpdated` with what changed since this broker last told.

        One at a time, from looking to queueing: a frame beside a round must not be told before what it made old (S60).
        """
        with self._telling_balances:
            book = self._wallet_cache.book
            changed = book.changed_from(self._told_book)
            self._told_book = book
            if not changed and not even_if_unchanged:
                return
            wallet = book.wallet
            self._state.publish(
                [
                    BalancesUpdated(
                        balances=wallet.totals, source=self._state.source, wallet=wallet, changed=changed, origin=origin
                    )
                ]
            )

    def add_path(self, read: Callable[[], Read[Any]]) -> None:
        """One more thing to read in every round, e.g. positions; called before the first."""
        self._more_paths.append(read)

    def close(self) -> None:
        """Leave the shared wallet desk."""
        self._wallet_cache.leave()

    def absorb_wallet_frame(self, frame: Mapping[str, Any]) -> None:
        """Join a wallet frame and queue what it changed."""
        self._wallet_cache.absorb_frame(frame, self._account_type, received_ms=self.queries.venue_ms())
        self.tell_balances("stream")

    # -- health ------------------------------------------------------------------------------------------------------

    def age_ms(self, path: str) -> int | None:
        """How long ago a path was last read completely; None before the first time."""
        last = self._last_ok_ms.get(path)
        return None if last is None else self._clock.monotonic_ms() - last

    def _judge_health(self, report: ReconcileReport) -> None:
        for path in report.paths:
            self._count(path.path, ok=path.ok, problem="; ".join(path.problems) or path.completeness.value)
        if report.lookups_made or report.ok:  # nothing left to ask is as good as an answer
            self._count("lookups", ok=not report.lookups_failed, problem=f"{report.lookups_failed} lookups failed")

    def _count(self, domain: str, *, ok: bool, problem: str) -> None:
        if ok:
            self._last_ok_ms[domain] = self._clock.monotonic_ms()
            self._failures[domain] = 0
            self._state.restore(domain)
            return
        self._failures[domain] = self._failures.get(domain, 0) + 1
        age_ms = self.age_ms(domain)
        is_stale = age_ms is not None and age_ms > self._stale_after_ms
        if self._failures[domain] >= _FAILURES_BEFORE_ALARM or is_stale:
            self._state.degrade(domain, problem)

    def _forget_closed(self) -> None:
        now_ms, window_start_ms = self._clock.now_ms(), self._window_start_ms()
        self._state.ask(
            lambda ledger: ledger.forget_closed(
                closed_before_ms=now_ms - self._retain_closed_ms, executed_before_ms=window_start_ms
            )
        )

    def _log(self, report: ReconcileReport) -> None:
        if not report.ok:
            failures = "; ".join(f"{path.path} {path.completeness.value}: {path.problems}" for path in report.failures)
            log.warning(
                "reconcile incomplete source=%s trigger=%s lookups_failed=%d failures=%s",
                report.source,
                report.trigger,
                report.lookups_failed,
                failures,
            )
        for discrepancy in report.discrepancies:
            log.info("reconcile healed source=%s %s", report.source, discrepancy)
        log.debug("reconciled source=%s duration_ms=%d ok=%s", report.source, report.duration_ms, report.ok)


def _is_news(read: Read[Execution] | None, order: Order) -> bool:
    """Executions that were known already do not say what became of the order since (S52)."""
    return read is not None and any(execution.exec_id not in order.fills for execution in read.rows)
