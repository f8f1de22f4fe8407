"""Asks the venue about one order by id, and absorbs what it answers.

An order is asked for in realtime, then in the history back to its creation, then by its executions. What may be
concluded when none of them knows it is decided by `qkt.reconcile.plan.conclude`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection

import attrs

from qkt.broker.state import BrokerState
from qkt.bybit.queries import BybitQueries
from qkt.bybit.read_monitor import ReadMonitor
from qkt.clock import Clock
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.model.executions import Execution
from qkt.model.order_report import OrderReport
from qkt.model.orders import OrderView
from qkt.net.scheduler import Scheduler
from qkt.orders.facts import ExecutionReported, OrderReported
from qkt.orders.ledger import Ledger
from qkt.orders.order import Order
from qkt.reconcile.facts import execution_facts, order_facts
from qkt.reconcile.plan import LookupResult, ReconcileLimits, conclude, name_of, plan_lookups
from qkt.reconcile.snapshot import Read

log: logging.Logger = logging.getLogger(__name__)

# When an unanswered submit is looked up, counted from the missing answer.
LOOKUP_DELAYS_MS = (200, 500, 1_000, 2_000, 5_000)

_ROUNDS_REMEMBERED = 100


@attrs.frozen(kw_only=True)
class LookupsMade:
    """Counts of a round's lookups."""

    made: int = 0
    waiting: int = 0
    failed: int = 0


class OrderLookup:
    """Lookups by id for one broker. Safe from any thread; call it without holding a lock, deliver afterwards.

    ``publish_from_ms`` (venue time): executions from before are counted and not published; the first round sets it.
    """

    def __init__(
        self, queries: BybitQueries, state: BrokerState, monitor: ReadMonitor, clock: Clock, limits: ReconcileLimits
    ) -> None:
        self._queries = queries
        self._state = state
        self._monitor = monitor
        self._clock = clock
        self._limits = limits
        self._lock = threading.Lock()
        self._round = 0
        self._last_asked: dict[str, int] = {}
        self._failed: set[str] = set()
        self._malformed_ids: set[str] = set()
        self.publish_from_ms = 0
        self.waiting: int = 0

    def note_malformed(self, read: Read[Execution] | Read[OrderReport]) -> None:
        """Remember the orders that unreadable rows are about: the next round looks them up."""
        for bad in read.malformed:
            log.warning("malformed row path=%s problem=%s row=%s", bad.path, bad.problem, bad.excerpt)
        with self._lock:
            for bad in read.malformed:
                self._malformed_ids.update({bad.broker_order_id, bad.client_order_id} - {""})

    # called by a reconcile round

    def make_due(self, orders: Read[OrderReport], candidates: Collection[Order]) -> LookupsMade:
        """Make the lookups that are due in a round; the first that fails ends them until the next round."""
        with self._lock:
            self._round += 1
            malformed, self._malformed_ids = self._malformed_ids, set()
            last_asked, failed_before = dict(self._last_asked), frozenset(self._failed)
        planned, waiting = self._state.ask(
            lambda ledger: plan_lookups(
                ledger,
                orders=orders,
                candidates=candidates,
                malformed_ids=malformed,
                last_asked=last_asked,
                limits=self._limits,
                failed=failed_before,
            )
        )
        made = failed = 0
        for lookup in planned:
            if self._state.is_closed or failed:
                break
            made += 1
            failed += not self.ask(lookup.order, only_fills=lookup.only_fills)
        self.waiting = waiting + len(planned) - made
        with self._lock:
            recent = self._round - _ROUNDS_REMEMBERED
            self._last_asked = {name: when for name, when in self._last_asked.items() if when > recent}
            self._failed &= self._last_asked.keys()
        return LookupsMade(made=made, waiting=self.waiting, failed=failed)

    def ask(self, order: Order, *, only_fills: bool = False) -> bool:
        """Ask about one order and absorb the answer; False when it could not be asked completely."""
        name = name_of(order)
        with self._lock:
            self._last_asked[name] = self._round
        is_complete = self._ask(self._queries, order, only_fills=only_fills)
        with self._lock:
            if is_complete:
                self._failed.discard(name)
            else:
                self._failed.add(name)
        return is_complete

    def _ask(self, queries: BybitQueries, order: Order, *, only_fills: bool) -> bool:
        begun_ms = queries.measured_venue_ms()
        is_complete, is_unreadable, found = True, False, only_fills
        if not only_fills:
            answer = queries.order(order, with_executions=order.missing_quantity > 0)
            self._absorb_executions(answer.executions)
            self._absorb_rows(answer.rows)
            found = bool(answer.rows.rows or _is_news(answer.executions, order))
            if not answer.is_read:
                return False
            is_complete, is_unreadable = answer.is_complete, not answer.is_complete
        known = self._state.ask(lambda ledger: ledger.get(order.client_order_id or None, order.broker_order_id))
        if known is None:
            return is_complete
        if known.missing_quantity:
            executions = queries.executions_of(known)
            self._absorb_executions(executions)
            is_unreadable = executions.is_complete and bool(executions.malformed)
            is_complete = executions.is_complete and not is_unreadable
            known = self._state.order(known.client_order_id or None, known.broker_order_id)
        is_evidence = is_complete and not self._queries.is_under_maintenance
        result = LookupResult(
            begun_ms=begun_ms,
            is_complete=is_evidence,
            found=found,
            is_unreadable=is_unreadable,
            held_ms=self._state.held_ms(known),
        )
        self._state.absorb(conclude(known, result, at_ms=self._clock.now_ms(), limits=self._limits))
        return is_complete or is_unreadable

    def _absorb_rows(self, read: Read[OrderReport]) -> None:
        """Absorb rows of known orders and of open ones; an ended order that only has the same id is no news (S16)."""
        self.note_malformed(read)
        facts = order_facts(read, at_ms=self._clock.now_ms())
        self._state.absorb(fact for fact in facts if not fact.report.status.is_final or self.knows(fact))

    def _absorb_executions(self, read: Read[Execution] | None) -> None:
        if read is None:
            return
        self.note_malformed(read)
        facts = execution_facts(read, published_from_ms=self.publish_from_ms, at_ms=self._clock.now_ms())
        self._state.absorb(fact for fact in facts if self.knows(fact))

    def knows(self, fact: OrderReported | ExecutionReported) -> bool:
        """True when a row is about an order that is known."""
        return self._state.ask(lambda ledger: ledger.knows(fact))

    # outside the rounds

    def look_up(self, client_order_id: str | None, broker_order_id: str | None = None) -> None:
        """Ask about one known order now."""
        order = self._state.ask(lambda ledger: ledger.get(client_order_id, broker_order_id))
        if order is None or self._state.is_closed:
            return
        self._monitor.note("lookups", ok=self.ask(order), problem=f"cannot ask about {name_of(order)}")

    def look_up_within(self, budget_ms: int, client_order_id: str | None, broker_order_id: str | None = None) -> bool:
        """Ask about one known order, for so long at most; False when that was too short or the venue fails."""
        order = self._state.ask(lambda ledger: ledger.get(client_order_id, broker_order_id))
        if order is None or self._state.is_closed:
            return False
        return self._ask(self._queries.within(budget_ms), order, only_fills=False)

    def find(self, client_order_id: str | None, broker_order_id: str | None) -> OrderView | None:
        """What the venue says of an order, known or not; None when it shows none.

        A known order is looked up, an unknown one that is open is adopted. One that has ended is read into books of its
        own: it was over before this broker came, so nothing of it is published.

        Raises VenueUnavailableError when the venue could not be asked completely.
        """
        known = self._state.ask(lambda ledger: ledger.get(client_order_id, broker_order_id))
        if known is not None:
            if not self.ask(known):
                raise VenueUnavailableError(f"the venue could not be asked about {name_of(known)}; try again")
            return self._state.order(client_order_id, broker_order_id).view()
        answer = self._queries.order_named(client_order_id, broker_order_id)
        if not answer.is_complete:
            problems = "; ".join((*answer.rows.problems, *(answer.executions.problems if answer.executions else ())))
            raise VenueUnavailableError(
                f"the venue could not be asked about {client_order_id or broker_order_id}: {problems or 'broken rows'}"
            )
        at_ms = self._clock.now_ms()
        rows = order_facts(answer.rows, at_ms=at_ms)
        executions = answer.executions
        fills = [] if executions is None else execution_facts(executions, published_from_ms=0, at_ms=at_ms)
        if any(not fact.report.status.is_final for fact in rows):
            self._state.absorb(rows)
            self._absorb_executions(executions)
            return self._state.order(client_order_id, broker_order_id).view()
        books = Ledger()
        books.apply_all([*fills, *rows])
        order = books.get(client_order_id, broker_order_id)
        return None if order is None else order.view()

    def look_up_later(
        self,
        scheduler: Scheduler,
        delay_ms: int,
        client_order_id: str | None,
        broker_order_id: str | None = None,
        *,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        """`look_up` in the background; ``then`` is called once the answer is absorbed, and events are delivered.

        A scheduler that is closed already makes no lookup: the rounds ask then.
        """

        def look() -> None:
            if self._state.is_closed:
                return
            self.look_up(client_order_id, broker_order_id)
            then()
            self._state.bus.deliver()

        self._schedule(scheduler, look, delay_ms)

    def look_up_soon(self, client_order_id: str, scheduler: Scheduler, then: Callable[[], object]) -> None:
        """Ask about an unanswered submit within seconds, and again when its arrival can be excluded.

        ``then`` is called after each answer was absorbed: what waited for the order may be sent now.
        """
        order = self._state.order(client_order_id)
        delays = list(LOOKUP_DELAYS_MS)
        if order.unanswered_submit is not None:
            until_provable_ms = max(0, order.unanswered_submit.provable_from_ms - self._queries.venue_ms())
            delays += [until_provable_ms + 100, until_provable_ms + 200 + self._limits.between_lookups_ms]

        def look() -> None:
            if self._state.is_closed or not self._is_unresolved(client_order_id):
                return
            self.look_up(client_order_id)
            then()
            self._state.bus.deliver()

        for delay_ms in delays:
            self._schedule(scheduler, look, delay_ms)

    def _is_unresolved(self, client_order_id: str) -> bool:
        order = self._state.ask(lambda ledger: ledger.get(client_order_id))
        return order is not None and order.is_unresolved

    @staticmethod
    def _schedule(scheduler: Scheduler, action: Callable[[], None], delay_ms: int) -> None:
        try:
            scheduler.schedule_once(action, delay_ms)
        except (InvalidRequestError, RuntimeError) as error:  # closed: by this broker's close(), or by its owner
            log.warning("lookup not scheduled error=%s", error)


def _is_news(read: Read[Execution] | None, order: Order) -> bool:
    """Executions that were known already do not say what became of the order since (S52)."""
    return read is not None and any(execution.exec_id not in order.fills for execution in read.rows)
