"""`BybitStateRecovery`: one round of reading the venue's whole state, and what follows from it.

A round reads its paths (orders, executions, balances, positions) one after the other. Each path fails separately, and
what it found is absorbed before the next one begins. Orders that do not add up are looked up by id; only
`qkt.reconcile.plan.conclude` may conclude from silence.

Rounds run one at a time. A caller may join a round that has not started, never one under way, since that one may have
read before the caller's cause.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from qkt.broker.state import BrokerState
from qkt.bybit.account.wallet_cache import wallet_cache
from qkt.bybit.lookup import LookupsMade, OrderLookup
from qkt.bybit.queries import BybitQueries
from qkt.bybit.read_monitor import ReadMonitor
from qkt.bybit.transport.adapter import as_transport
from qkt.bybit.transport.protocol import BybitTransport
from qkt.clock import Clock
from qkt.events import BalancesUpdated, Origin
from qkt.model.balances import CoinBalance
from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport
from qkt.orders.ledger import Change
from qkt.orders.order import Order
from qkt.reconcile.facts import execution_facts, order_facts
from qkt.reconcile.plan import ReconcileLimits, absent_candidates, settled_requests
from qkt.reconcile.report import Discrepancy, PathResult, ReconcileReport, discrepancies, taken_in
from qkt.reconcile.snapshot import Completeness, Read, merged
from qkt.threads import is_library_thread

log: logging.Logger = logging.getLogger(__name__)

ORDERS, EXECUTIONS, BALANCES, POSITIONS = "orders", "executions", "balances", "positions"

_LEAST_OVERLAP_MS = 60_000
_REPORTS_KEPT = 50
_DISCREPANCIES_KEPT = 1_000


@attrs.define(eq=False)
class _PendingRound:
    """A round that callers wait for; ``paths`` None is all of them, ``report`` is set when it is over."""

    trigger: str
    paths: frozenset[str] | None
    report: ReconcileReport | None = None

    def widen(self, paths: frozenset[str] | None) -> None:
        self.paths = None if self.paths is None or paths is None else self.paths | paths


@attrs.define
class _Round:
    """The round under way. Times are venue time at its start; ``candidates`` are the orders whose absence counts."""

    fence_ms: int
    fence_revision: int
    reads: list[Read[Any]] = attrs.field(factory=list)
    orders: Read[OrderReport] | None = None
    candidates: list[Order] = attrs.field(factory=list)


class BybitStateRecovery:
    """Reconciles one category of one account into a `BrokerState`.

    Args:
        recovery_window_ms: how far before its construction the first execution window reaches, and the overlap of every
            later one (at least a minute, for executions the venue shows late).
        since_ms: venue time from which the first execution window reads instead.
        intervals_ms: path -> time between two of its reads; the unit of health. 30 s by default.
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
        since_ms: int | None = None,
        intervals_ms: Mapping[str, int] | None = None,
        retain_closed_ms: int = 24 * 3_600_000,
        limits: ReconcileLimits | None = None,
    ) -> None:
        transport = as_transport(client)
        self.limits: ReconcileLimits = limits or ReconcileLimits()
        self.queries: BybitQueries = BybitQueries(transport, category, clock)
        paths = (ORDERS, EXECUTIONS, BALANCES)
        self.monitor: ReadMonitor = ReadMonitor(state, clock, intervals_ms or dict.fromkeys(paths, 30_000))
        self.lookups: OrderLookup = OrderLookup(self.queries, state, self.monitor, clock, self.limits)
        self._state = state
        self._clock = clock
        self._account_type = transport.account_type
        self._recovery_window_ms = recovery_window_ms
        self._since_ms = since_ms
        self._retain_closed_ms = retain_closed_ms

        self._one_at_a_time = threading.Lock()
        self._guard = threading.Lock()
        self._waiting: _PendingRound | None = None
        self._wallet_cache = wallet_cache(transport)
        self._told_book = self._wallet_cache.book
        self._telling_balances = threading.Lock()

        self._paths: dict[str, Callable[[_Round], Read[Any]]] = {
            ORDERS: self._reconcile_orders,
            EXECUTIONS: self._reconcile_executions,
            BALANCES: lambda _round: self._reconcile_balances(),
        }
        self._has_started = False
        self._watermark_ms: int | None = None
        self._resume_ms: int | None = None
        self._failing: frozenset[str] = frozenset()
        self.after_reads: Callable[[Sequence[Change], Mapping[str, int]], None] = lambda _changes, _complete: None
        self.reports: deque[ReconcileReport] = deque(maxlen=_REPORTS_KEPT)
        self.discrepancies: deque[Discrepancy] = deque(maxlen=_DISCREPANCIES_KEPT)

    def resume_from(self, read_to_ms: int) -> None:
        """Have the first execution window begin where an earlier run stopped reading, if that is longer ago."""
        self._resume_ms = max(0, read_to_ms - max(self._recovery_window_ms, _LEAST_OVERLAP_MS))

    @property
    def executions_read_to_ms(self) -> int | None:
        """The venue time up to which executions were read completely."""
        return self._watermark_ms

    def add_path(self, name: str, read: Callable[[], Read[Any]]) -> None:
        """One more path to read in every round, e.g. positions; called before the first."""
        self._paths[name] = lambda _round: read()

    # rounds

    def reconcile(self, trigger: str = "asked", paths: Collection[str] | None = None) -> ReconcileReport:
        """Run a round over ``paths`` (None: all), or join one that has not started. Never raises for the venue.

        Events are queued: deliver afterwards. On a library thread what each path found is delivered at once.
        """
        wanted = None if paths is None else frozenset(paths)
        with self._guard:
            if self._waiting is None:
                self._waiting = _PendingRound(trigger, wanted)
            else:
                self._waiting.widen(wanted)
            mine = self._waiting
        with self._one_at_a_time:
            if mine.report is None:
                with self._guard:
                    if self._waiting is mine:
                        self._waiting = None  # it starts now: no caller may join any more
                mine.report = self._round(mine.trigger, mine.paths)
        return mine.report

    def _round(self, trigger: str, paths: frozenset[str] | None) -> ReconcileReport:
        started_ms, started = self._clock.now_ms(), self._clock.monotonic_ms()
        fence_ms = self.queries.measured_venue_ms()
        current = _Round(fence_ms=fence_ms, fence_revision=self._state.ask(lambda ledger: ledger.revision))
        is_first = not self._has_started
        lookups = LookupsMade(waiting=self.lookups.waiting)
        names = [name for name in self._paths if paths is None or name in paths]
        for name in names:
            self._read(name, current)
            if name == EXECUTIONS or (name == ORDERS and EXECUTIONS not in names):
                lookups = self._make_lookups(current)
        if is_first and all(read.is_complete for read in current.reads):
            self._has_started = True
            self._state.started(fence_ms)

        changes = self._state.take_changes()
        self.after_reads(changes, {read.path: read.begun_ms for read in current.reads if read.is_complete})
        grace_ms = self.limits.grace_ms
        found = discrepancies(changes, now_ms=fence_ms, grace_ms=grace_ms, is_first=is_first)
        report = ReconcileReport(
            source=self._state.source,
            trigger=trigger,
            started_ms=started_ms,
            duration_ms=self._clock.monotonic_ms() - started,
            paths=tuple(PathResult.of(read) for read in current.reads),
            discrepancies=tuple(found),
            taken_in=0 if is_first else taken_in(changes, now_ms=fence_ms, grace_ms=grace_ms),
            adopted=sum(change.before is None and change.after.external for change in changes),
            lookups_made=lookups.made,
            lookups_waiting=lookups.waiting,
            lookups_failed=lookups.failed,
            unresolved=self._state.unresolved(),
        )
        self._note_lookups(report)
        self._forget_closed()
        self.reports.append(report)
        self.discrepancies.extend(found)
        self._log(report)
        return report

    def _read(self, name: str, current: _Round) -> None:
        """Read one path, absorb what it found, judge it. Whatever goes wrong in it is that path FAILED."""
        begun_ms, started = self.queries.venue_ms(), self._clock.monotonic_ms()
        try:
            self._state.check_open()
            read = self._paths[name](current)
        except Exception as error:
            if not self._state.is_closed:
                log.exception("path failed source=%s path=%s", self._state.source, name)
            read = Read(
                path=name,
                completeness=Completeness.FAILED,
                problems=(f"{type(error).__name__}: {error}",),
                begun_ms=begun_ms,
                duration_ms=self._clock.monotonic_ms() - started,
            )
        current.reads.append(read)
        if not self._state.is_closed:
            self.monitor.note(
                name,
                ok=read.is_complete,
                problem="; ".join(read.problems) or read.completeness.value,
                took_ms=self._clock.monotonic_ms() - started,
            )
        self._deliver_found()

    def _deliver_found(self) -> None:
        """Pass on what was found so far; on a user's thread the caller delivers, once no lock is held."""
        if is_library_thread():
            self._state.bus.deliver()

    def _reconcile_orders(self, current: _Round) -> Read[OrderReport]:
        read = self.queries.open_orders()
        # before anything of this read is absorbed: an order that it lists is not absent
        if not self.queries.is_under_maintenance:
            current.candidates = self._state.ask(lambda ledger: absent_candidates(ledger, current.fence_revision))
        current.orders = read
        self.lookups.note_malformed(read)
        self._state.absorb(order_facts(read, at_ms=self._clock.now_ms()))
        self._state.absorb(self._state.ask(lambda ledger: settled_requests(ledger, read, at_ms=self._clock.now_ms())))
        return read

    def _reconcile_executions(self, current: _Round) -> Read[Execution]:
        """From the watermark, less the overlap, up to now; the watermark follows what was absorbed."""
        now_ms = (
            self.queries.measured_venue_ms()
        )  # not the fence: by now the transport has measured a clock that jumped (S82)
        if self._watermark_ms is None:
            start_ms = self._since_ms if self._since_ms is not None else current.fence_ms - self._recovery_window_ms
            if self._resume_ms is not None:
                start_ms = min(start_ms, self._resume_ms)
            start_ms = self.lookups.publish_from_ms = self.queries.oldest_ms(start_ms)
        else:
            # after a clock that ran ahead was set back, what lies between is not read yet (S82)
            self._watermark_ms = min(self._watermark_ms, now_ms)
            start_ms = self._window_start_ms()
        reads, watermark_ms = [], self._watermark_ms
        for until_ms, read in self.queries.executions(start_ms, max(now_ms, start_ms)):
            reads.append(read)
            if read.is_complete:
                watermark_ms = until_ms
        read = merged(
            EXECUTIONS,
            reads,
            key=lambda execution: (execution.broker_order_id, execution.exec_id),
            fuller=lambda first, _second: first,
        )
        self._absorb_executions(read, start_ms)
        self._watermark_ms = watermark_ms
        return read

    def _absorb_executions(self, read: Read[Execution], start_ms: int) -> None:
        """Absorb a window that began at ``start_ms``: what it shows from before our own time is not published."""
        self.lookups.note_malformed(read)
        publish_from_ms = self.lookups.publish_from_ms
        overlaps_the_past = start_ms < publish_from_ms
        facts = execution_facts(
            read, published_from_ms=publish_from_ms if overlaps_the_past else 0, at_ms=self._clock.now_ms()
        )
        # An unknown order of which only executions from before our window are shown had ended before: no news (S59).
        self._state.absorb(fact for fact in facts if not fact.is_historic or self.lookups.knows(fact))

    def _window_start_ms(self) -> int:
        if self._watermark_ms is None:
            return 0
        return max(0, self._watermark_ms - max(self._recovery_window_ms, _LEAST_OVERLAP_MS))

    def _make_lookups(self, current: _Round) -> LookupsMade:
        """Look up what does not add up. Without a read of the open list nothing is looked up for its absence."""
        orders = current.orders or Read(path=ORDERS, completeness=Completeness.FAILED, begun_ms=current.fence_ms)
        try:
            made = self.lookups.make_due(orders, current.candidates)
        except Exception:
            log.exception("lookups failed source=%s", self._state.source)
            made = LookupsMade(made=1, waiting=self.lookups.waiting, failed=1)
        self._deliver_found()
        return made

    # balances

    def _reconcile_balances(self) -> Read[tuple[str, CoinBalance]]:
        read = self._wallet_cache.read(self.queries, self._account_type, monotonic_ms=self._clock.monotonic_ms())
        if read.is_complete:
            self.tell_balances("reconcile", even_if_unchanged=True)
        return read

    def tell_balances(self, origin: Origin, *, even_if_unchanged: bool = False) -> None:
        """Queue a `BalancesUpdated` with what changed since this broker last published one.

        The lock is held from compare to enqueue, so that a newer event is never queued before an older one (S60).
        """
        with self._telling_balances:
            book = self._wallet_cache.book
            changed = book.changed_from(self._told_book)
            wallet = book.wallet
            if changed or even_if_unchanged:
                self._state.publish(
                    [
                        BalancesUpdated(
                            balances=wallet.totals,
                            source=self._state.source,
                            wallet=wallet,
                            changed=changed,
                            origin=origin,
                        )
                    ]
                )
            self._told_book = book

    def absorb_wallet_frame(self, frame: Mapping[str, Any]) -> None:
        """Join a wallet frame and queue what it changed; raises VenueProtocolError when it cannot be read."""
        self._wallet_cache.absorb_frame(frame, self._account_type, received_ms=self.queries.venue_ms())
        self.tell_balances("stream")

    def close(self) -> None:
        """End the reads under way and leave the shared wallet cache."""
        self.queries.cut("the broker was closed")
        self._wallet_cache.leave()

    # afterwards

    def _note_lookups(self, report: ReconcileReport) -> None:
        if not self._state.is_closed and (
            report.lookups_made or report.ok
        ):  # with no lookups due the domain is healthy
            problem = f"{report.lookups_failed} lookups failed"
            self.monitor.note("lookups", ok=not report.lookups_failed, problem=problem)

    def _forget_closed(self) -> None:
        now_ms, window_start_ms = self._clock.now_ms(), self._window_start_ms()
        self._state.forget_closed(closed_before_ms=now_ms - self._retain_closed_ms, executed_before_ms=window_start_ms)

    def _log(self, report: ReconcileReport) -> None:
        """One line per episode: rounds that go on failing in the same paths are logged at DEBUG."""
        if self._state.is_closed:
            return
        read = {path.path for path in report.paths}
        failing = frozenset(path.path for path in report.failures) | (self._failing - read)
        if report.lookups_failed:
            failing |= {"lookups"}
        if not report.ok:
            failures = "; ".join(f"{path.path} {path.completeness.value}: {path.problems}" for path in report.failures)
            details = (report.source, report.trigger, report.lookups_failed, failures)
            if failing <= self._failing:
                log.debug("reconcile still incomplete source=%s trigger=%s lookups_failed=%d failures=%s", *details)
            else:
                log.warning("reconcile incomplete source=%s trigger=%s lookups_failed=%d failures=%s", *details)
        elif self._failing and not failing:
            log.info("reconcile complete again source=%s trigger=%s", report.source, report.trigger)
        self._failing = failing
        for discrepancy in report.discrepancies:
            log.info("reconcile healed source=%s %s", report.source, discrepancy)
        log.debug("reconciled source=%s duration_ms=%d ok=%s", report.source, report.duration_ms, report.ok)
