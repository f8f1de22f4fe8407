"""`BybitBroker`: one Bybit category of one account. Builds its parts in `__init__` and delegates to them.

Threads: the caller's for every method here. No handler, socket or request runs under a lock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from types import TracebackType
from typing import ClassVar, Self, TypeVar

import attrs

from qkt.broker.arguments import check_one_id, list_argument
from qkt.broker.order_queries import OrderQueries
from qkt.broker.protocol import OrderTypeCapability, SubmitAck
from qkt.broker.risk import RiskGate, RiskLimits
from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.bybit.account.instrument_cache import instrument_cache
from qkt.bybit.batch_entry import BatchEntry
from qkt.bybit.broker_options import check_client_and_bus, check_clock, intervals_from, require_ms
from qkt.bybit.codec.envelope import Envelope
from qkt.bybit.codec.symbol import BybitSymbol
from qkt.bybit.cost_keeper import CostKeeper
from qkt.bybit.journal_member import is_journal_link
from qkt.bybit.journaled import BrokerJournal, JournaledBroker
from qkt.bybit.order_entry import OrderEntry
from qkt.bybit.permitted_entry import PermittedBatchEntry, PermittedEntry
from qkt.bybit.position_entry import PositionEntry
from qkt.bybit.position_keeper import PositionKeeper
from qkt.bybit.pre_trade import PreTradeChecks
from qkt.bybit.protection_keeper import ProtectionKeeper
from qkt.bybit.reconcile_loop import ReconcileLoop
from qkt.bybit.recovery import BALANCES, EXECUTIONS, ORDERS, POSITIONS, BybitStateRecovery
from qkt.bybit.stream_handler import StreamHandler
from qkt.bybit.transport.adapter import as_transport
from qkt.bybit.transport.protocol import BybitTransport
from qkt.clock import Clock, SystemClock
from qkt.errors import InvalidRequestError, ReconcileError, VenueUnavailableError
from qkt.health import Alarm, Health
from qkt.ids import validate_name, validate_owner
from qkt.journal.protocol import Journal
from qkt.model.costs import CostStatement
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import OrderModification, OrderRequest, OrderView
from qkt.net.scheduler import ExecutorScheduler, Scheduler, check_scheduler
from qkt.net.shared_threads import Lane, shared_lane
from qkt.orders.ledger import Change
from qkt.reconcile.plan import ReconcileLimits
from qkt.reconcile.report import Discrepancy, ReconcileReport

log: logging.Logger = logging.getLogger(__name__)

R = TypeVar("R", bound=OrderRequest)

_CLOSE_MS = 1_000

COMMON_CAPABILITIES = frozenset(
    {
        OrderTypeCapability.MARKET,
        OrderTypeCapability.LIMIT,
        OrderTypeCapability.STOP,
        OrderTypeCapability.STOP_LIMIT,
        OrderTypeCapability.IF_TOUCHED,
        OrderTypeCapability.MODIFY,
        OrderTypeCapability.POST_ONLY,
        OrderTypeCapability.BRACKET,
        OrderTypeCapability.BATCH,
    }
)


class BybitBroker(JournaledBroker, OrderQueries):
    """What the brokers for Bybit's categories share.

    Args:
        client: a `BybitTransport`. One whose session was never opened is connected; it is never closed by the broker.
        bus: where events go; brokers may share one.
        clock: dates events and measures ages; the system's by default.
        recovery_window_ms: how far before construction executions are read and published, and the overlap later. A bot
            that was down for longer names the time of the last fill it has seen with ``since_ms`` instead.
        poll_interval_ms: the time between two rounds.
        poll_scheduler: runs rounds and lookups: a scheduler, or a `concurrent.futures.Executor`; by default threads of
            the broker's own. Never closed if given.
        poll_intervals_ms: intervals of single paths, e.g. ``{"orders": 5_000, "balances": 60_000}``; the others
            (``orders``, ``executions``, ``balances``, ``positions``) keep ``poll_interval_ms``.
        since_ms: venue time from which executions are read and published at construction (two years back at most).
        owner: a name that stays the same over restarts, e.g. ``"grid"``. It is carried in generated client order ids,
            and orders of earlier runs that carry it are ours: not ``external``, and meant by `cancel_all`.
        name: the broker's name in events (``source``), logs, metrics and thread names; by default its category's
            prefix, e.g. ``BYBIT_SPOT``, after the client's name where that has one: ``main:BYBIT_SPOT``.
        max_staleness_ms: refuse to submit while the state is older than this; off by default.
        retain_closed_ms: how long `order`, `fills` and `explain` know an order after it closed.
        risk_limits: limits no order of this broker may exceed; none by default.
        limits: how long silence must last before it proves something.
        journal: a `SqliteJournal` or `PostgresJournal`: orders survive a restart and a hand-over, and only the process
            that owns the account sends (see `ownership`). Brokers of one client share it. None by default.

    Raises:
        InvalidRequestError: an argument cannot be right.
        ReconcileError: the first round could not read everything: a bot must not start on half a picture.
        BybitConnectError: the client had no session and none could be opened.
    """

    category: ClassVar[str]
    source: str
    capabilities: ClassVar[frozenset[OrderTypeCapability]]
    has_positions: ClassVar[bool] = False

    def __init__(
        self,
        client: BybitTransport,
        bus: EventBus,
        clock: Clock | None = None,
        recovery_window_ms: int = 300_000,
        poll_interval_ms: int = 30_000,
        poll_scheduler: Scheduler | Executor | None = None,
        *,
        poll_intervals_ms: Mapping[str, int] | None = None,
        since_ms: int | None = None,
        owner: str | None = None,
        max_staleness_ms: int | None = None,
        retain_closed_ms: int = 24 * 3_600_000,
        risk_limits: RiskLimits | None = None,
        limits: ReconcileLimits | None = None,
        journal: Journal | None = None,
        name: str | None = None,
    ) -> None:
        check_client_and_bus(client, bus)
        check_clock(clock)
        check_scheduler(poll_scheduler)
        require_ms(recovery_window_ms, "recovery_window_ms")
        require_ms(retain_closed_ms, "retain_closed_ms")
        for option, value in (("max_staleness_ms", max_staleness_ms), ("since_ms", since_ms)):
            if value is not None:
                require_ms(value, option)
        paths = (ORDERS, EXECUTIONS, BALANCES, *([POSITIONS] if self.has_positions else []))
        intervals_ms = intervals_from(poll_interval_ms, poll_intervals_ms, paths)

        self._given_client = client
        self._client = as_transport(client)
        if name is not None:
            self.source = validate_name(name)
        elif self._client.name:
            self.source = f"{self._client.name}:{type(self).source}"
        self._bus = bus
        self._clock = clock or SystemClock()
        self._max_staleness_ms = max_staleness_ms
        self._close_lock = threading.Lock()
        self._is_closed = False
        self._own_schedulers: list[Lane | ExecutorScheduler] = []
        self._scheduler = self._scheduler_for(poll_scheduler)
        self._background: Scheduler = self._scheduler
        if poll_scheduler is None:  # two at once: what watches a round must not wait for a lookup that hangs
            self._background = lane = shared_lane("qkt-lookup", workers=2)
            self._own_schedulers.append(lane)

        self._checks = PreTradeChecks(
            instrument_cache(self._client),
            RiskGate(risk_limits, self._clock, self.source),
            category=self.category,
            source=self.source,
            capabilities=self.capabilities,
        )
        owner = None if owner is None else validate_owner(owner)
        self._journal = None
        if journal is not None:
            self._journal = BrokerJournal(
                journal,
                self._client,
                bus,
                self._clock,
                self._background,
                category=self.category,
                scheduler=None if poll_scheduler is None else self._scheduler,
            )
        self._state = BrokerState(
            source=self.source,
            bus=bus if self._journal is None else self._journal.bus,
            clock=self._clock,
            owner=owner,
            is_ours=None if self._journal is None else is_journal_link,
            account=self._client.name,
        )
        if self._client.observer is not None:
            settings: dict[str, object] = {
                "broker": type(self).__name__,
                "category": self.category,
                "recovery_window_ms": recovery_window_ms,
                "since_ms": since_ms,
                "intervals_ms": dict(intervals_ms),
                "retain_closed_ms": retain_closed_ms,
                "owner": owner,
                "account": self._client.name,
                "has_journal": journal is not None,
                "limits": attrs.asdict(limits or ReconcileLimits()),
            }
            self._state.observe(self._client.observer.state_observer(self.source, settings))
        self._costs = CostKeeper(self._state)
        self._recovery = BybitStateRecovery(
            self._client,
            self._state,
            category=self.category,
            clock=self._clock,
            recovery_window_ms=recovery_window_ms,
            since_ms=since_ms,
            intervals_ms=intervals_ms,
            retain_closed_ms=retain_closed_ms,
            limits=limits,
        )
        self._recovery.queries.on_funding = lambda payment: self._costs.note_funding([payment], "reconcile")
        self._recovery.after_reads = self._after_reads
        entry = OrderEntry if self._journal is None else PermittedEntry
        self._order_entry = entry(
            self._client,
            self._state,
            self._recovery.queries,
            self._recovery.lookups,
            self._background,
            self._clock,
            self._recovery.limits,
            owner=owner,
        )
        self._batch_entry = BatchEntry(self._order_entry, self._state)
        if self._journal is not None and isinstance(self._order_entry, PermittedEntry):
            self._order_entry.member = self._journal.member
            self._batch_entry = PermittedBatchEntry(self._order_entry, self._state)
        self._loop = ReconcileLoop(
            self._recovery,
            self._state,
            self._clock,
            self._scheduler,
            self._background,
            intervals_ms=intervals_ms,
            after_round=self._after_round,
        )
        self._stream = StreamHandler(
            self._client,
            self._state,
            self._recovery,
            self._loop,
            self._clock,
            category=self.category,
            run_in_background=self._run_in_background,
            send_due_cancels=self._order_entry.send_due_cancels,
            on_changes=self._on_changes,
            on_funding=self._costs.note_funding,
        )
        self._position_keeper = PositionKeeper(self._recovery.queries, self._state, category=self.category)
        self._protection = ProtectionKeeper(
            self._state,
            positions=lambda: self._position_keeper.held,
            venue_ms=self._recovery.queries.venue_ms,
            check_in=self._check_positions_in,
        )
        self._position_entry = PositionEntry(
            self._client,
            self._recovery.queries,
            self._protection,
            self._recovery.limits,
            category=self.category,
            positions=lambda: self._position_keeper.held,
        )
        if isinstance(self._order_entry, PermittedEntry):
            self._position_entry.post_permitted = self._order_entry.post_position
        if self.has_positions:
            self._recovery.add_path(POSITIONS, self._position_keeper.reconcile)
            self._stream.add_topic(f"position.{self.category}", self._on_position_frame)
        try:
            self._start()
            self._state.bus.deliver()
        except BaseException:
            self.close()
            raise

    def _start(self) -> None:
        """Subscribe, read everything, open the session if it never was, and only then start the timers."""
        if self._journal is not None:
            self._journal.start(self._state, self._recovery, self._order_entry.send_due_cancels)
        self._stream.attach()
        report = self._recovery.reconcile("construction")
        if not report.ok:
            raise ReconcileError(f"{self.source} could not read the venue's state:\n{report}", report=report)
        self._recovery.queries.read_briefly()
        self._checks.instruments.refresh(self.category, self._clock)
        if self._client.stream_state == "closed":
            log.info("client is not connected: connecting it source=%s", self.source)
            self._client.connect()
        self._loop.start()

    def _scheduler_for(self, given: Scheduler | Executor | None) -> Scheduler:
        """The scheduler that was given, or one of our own, which `close` ends."""
        if given is not None and not isinstance(given, Executor):
            return given
        own = shared_lane(f"qkt-reconcile{self._suffix}") if given is None else ExecutorScheduler(given)
        self._own_schedulers.append(own)
        return own

    def _after_round(self) -> None:
        if self._journal is not None:
            self._journal.after_round(self._recovery)
        self._order_entry.send_due_cancels()
        if self._checks.instruments.is_due(self.category, self._clock.monotonic_ms()):
            self._run_in_background(lambda: self._checks.instruments.refresh(self.category, self._clock))

    def _on_changes(self, changes: Sequence[Change]) -> None:
        """Pass changes from stream frames to the cost and protection keepers, before their events are delivered."""
        self._costs.note(changes)
        if self.has_positions and self._protection.note(changes):
            self._protection.judge("stream")

    def _on_position_frame(self, frame: Envelope) -> bool:
        is_read = self._position_keeper.on_frame(frame)
        self._protection.judge("stream")
        return is_read

    def _after_reads(self, changes: Sequence[Change], complete: Mapping[str, int]) -> None:
        """What a round read; ``complete``: path -> venue time at which its complete read began."""
        self._costs.note(changes)
        if self.has_positions:
            self._protection.after_round(changes, complete)

    def _check_positions_in(self, delay_ms: int) -> None:
        """Read orders and positions once more, soon: something about an exit is not known."""

        def check() -> None:
            self._protection.check_begins()
            if not self._state.is_closed:
                self._loop.run("exits not known", (ORDERS, POSITIONS))

        try:
            self._scheduler.schedule_once(check, delay_ms)
        except (InvalidRequestError, RuntimeError) as error:  # the scheduler was closed: the next round does it
            self._protection.check_begins()
            log.warning("not run in the background source=%s error=%s", self.source, error)

    def _run_in_background(self, action: Callable[[], object]) -> None:
        def run() -> None:
            if not self._state.is_closed:
                action()
                self._state.bus.deliver()

        try:
            self._background.schedule_once(run, 0)
        except (InvalidRequestError, RuntimeError) as error:  # the scheduler was closed: the next round does it
            log.warning("not run in the background source=%s error=%s", self.source, error)

    # orders

    def submit(self, request: OrderRequest, *, intent: str | None = None) -> SubmitAck:
        """Send an order.

        Returns an ack whose ``outcome`` is ACCEPTED (the venue has the request), REJECTED (proved) or UNKNOWN (qkt is
        finding out; never resend). Raises InvalidRequestError for what cannot be right, what the venue's rules or a
        guard forbid, and VenueUnavailableError when nothing was sent; the id is free again in both cases.
        A spot stop or if-touched order reads the last price first: spot has no direction field, so the venue would
        take a trigger that is already crossed for the opposite order. If it cannot be read the order goes out.

        With a journal an ``intent`` names what the order is for: the same intent gives the same order back, in this
        run, after a restart and on another machine. What did nothing at the venue (never sent, proved never to have
        arrived) is entered anew by the next call. Raises IntentConflictError for another order under a used intent,
        NotOwnerError when another process owns the account, and JournalUnavailableError; nothing was sent then.
        Source: POST /v5/order/create (docs v5/order/create-order).
        """
        self._state.check_open()
        if self._journal is not None and isinstance(self._order_entry, PermittedEntry):
            self._journal.keeper.check_may_write()
            return self._order_entry.submit_intent(request, intent, lambda: self._admit([request]))
        if intent is not None:
            self._with_journal("intent=")
        self._admit([request])
        return self._order_entry.submit(request)

    def _admit(self, requests: Sequence[OrderRequest]) -> None:
        self._check_staleness()
        self._checks.admit(requests)

    def submit_many(
        self, requests: Iterable[OrderRequest], *, intents: Iterable[str | None] | None = None
    ) -> list[SubmitAck]:
        """Send orders in as few requests as the venue allows; one ack per order, in the order given.

        All or none pass the checks: one that cannot be right raises as in `submit`, and nothing is sent. From then on
        each order has its own outcome: one may be REJECTED beside others that stand. When a request of the batch gets
        no answer, each of its orders is UNKNOWN and looked up. If the budget runs out, or the broker is frozen, after
        part of the orders left, the rest are REJECTED as "never sent". ``intents`` names an intent for each order, as
        in `submit`; orders of used intents are answered from what they became.
        Source: POST /v5/order/create-batch (docs v5/order/batch-place).
        """
        self._state.check_open()
        orders = list_argument(requests, "submit_many", "orders")
        if not orders:
            return []
        named = self._intents_for(orders, intents)
        if isinstance(self._batch_entry, PermittedBatchEntry):
            return self._batch_entry.submit_intents(orders, named, self._admit, self._check_may_go_on)
        self._admit(orders)
        return self._batch_entry.submit_many(orders, self._check_may_go_on)

    def _intents_for(
        self, orders: Sequence[OrderRequest], intents: Iterable[str | None] | None
    ) -> Sequence[str | None]:
        if intents is None:
            return [None] * len(orders)
        self._with_journal("intents=")
        named = list(intents)
        given = [intent for intent in named if intent is not None]
        if len(named) != len(orders) or len(set(given)) < len(given):
            raise InvalidRequestError(
                f"submit_many got {len(orders)} orders and {len(named)} intents: one each or None, none twice"
            )
        return named

    def check(self, request: OrderRequest) -> None:
        """Raise what `submit` would raise for this order, guards left out, and send nothing."""
        self._checks.check([request])

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        """Ask for an order's end, ours or an outside one, by exactly one of its ids.

        ACCEPTED says the venue has the cancel, not that the order ended: `OrderCancelled` or `OrderCancelFailed` tells
        which. The cancel of an unresolved order is remembered (UNKNOWN) and sent when the order appears.
        Source: POST /v5/order/cancel (docs v5/order/cancel-order).
        """
        self._state.check_open()
        return self._order_entry.cancel(self._named_order(client_order_id, broker_order_id))

    def cancel_all(self, symbol: str | None = None, *, include_external: bool = False) -> list[SubmitAck]:
        """Cancel every open order of ours (with ``include_external`` those of others too), each on its own evidence.

        Ours are the orders sent by this broker, and those of earlier runs that carry its ``owner``. They are sent as in
        `cancel_many`: the venue's own cancel-all would leave nothing to report one order by.
        """
        self._state.check_open()
        chosen = [
            view
            for view in self._state.open_orders()
            if symbol in (None, view.symbol) and (include_external or not view.external)
        ]
        return self._batch_entry.cancel_many(
            [self._state.order(view.client_order_id or None, view.broker_order_id) for view in chosen]
        )

    def cancel_many(
        self, client_order_ids: Iterable[str] = (), *, broker_order_ids: Iterable[str] = ()
    ) -> list[SubmitAck]:
        """Ask for the end of orders, in few requests; one ack per order, client ids first, in the order given.

        An unknown id, or one named twice, raises InvalidRequestError and nothing is sent. Each order has its own
        outcome, as with `cancel`; nothing is sent twice. Conditional spot orders go one by one, since the venue's
        batch cannot name their kind.
        Source: POST /v5/order/cancel-batch (docs v5/order/batch-cancel).
        """
        self._state.check_open()
        orders = [self._named_order(name, None) for name in list_argument(client_order_ids, "cancel_many", "ids")]
        orders += [self._named_order(None, name) for name in list_argument(broker_order_ids, "cancel_many", "ids")]
        if len({(order.client_order_id, order.broker_order_id) for order in orders}) < len(orders):
            raise InvalidRequestError("cancel_many names an order twice; nothing was sent")
        return self._batch_entry.cancel_many(orders)

    def modify(
        self,
        client_order_id: str | None = None,
        changes: OrderModification | None = None,
        *,
        broker_order_id: str | None = None,
    ) -> SubmitAck:
        """Ask for other terms on a working order; `OrderModified` or `OrderModifyFailed` tells what became of it.

        Source: POST /v5/order/amend (docs v5/order/amend-order).
        """
        self._state.check_open()
        if not isinstance(changes, OrderModification):
            raise InvalidRequestError(f"modify takes an OrderModification(...); got {changes!r}")
        order = self._named_order(client_order_id, broker_order_id)
        if order.is_open:
            self._checks.admit_changes(order.view(), changes)
        return self._order_entry.modify(order, changes)

    # rules and risk limits

    def rules(self, symbol: str) -> InstrumentRules | None:
        """The venue's rules for a symbol as last read (at most about an hour ago); None when it did not list them."""
        return self._checks.instruments.rules(symbol)

    def quantize(self, request: R) -> R:
        """The nearest order that fits the venue's steps and is no worse for you; the same object when it fits already.

        A buy's prices never go up, a sell's never down, quantities never up. Without rules (a WARNING) nothing is
        changed. Raises InvalidRequestError when nothing would be left of the quantity.
        """
        return self._checks.quantize(request)

    def costs(self, symbol: str) -> CostStatement:
        """Fees, taxes and funding of a symbol, over the executions that this broker has read and heard.

        Its ``since_ms`` is where the first execution window began (``recovery_window_ms`` or ``since_ms``). Fills of
        orders sent elsewhere count as well: they were paid from the same account.
        """
        BybitSymbol.parse(symbol)
        return self._costs.statement(symbol, self._recovery.lookups.publish_from_ms)

    def freeze(self, reason: str = "asked") -> None:
        """The kill switch: refuse submits and amends until `unfreeze`; cancels pass, orders at the venue stay."""
        self._checks.risk.freeze(reason)

    def unfreeze(self) -> None:
        """Let orders pass again."""
        self._checks.risk.unfreeze()

    @property
    def is_frozen(self) -> bool:
        """True between `freeze` and `unfreeze`."""
        return self._checks.risk.is_frozen

    def _check_may_go_on(self) -> None:
        self._state.check_open()
        self._checks.risk.check_not_frozen()

    def _check_staleness(self) -> None:
        if self._max_staleness_ms is None:
            return
        age_ms = self.health.staleness_ms
        if age_ms is None or age_ms > self._max_staleness_ms:
            raise VenueUnavailableError(
                f"nothing was sent: the state is {age_ms} ms old and max_staleness_ms is {self._max_staleness_ms}; "
                "see broker.health for what cannot be read"
            )

    def lookup(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> OrderView | None:
        """Ask the venue about one order now, ended ones and those of other runs included; None when it shows none.

        Orders that this broker knows are brought up to date, and what that changes is published; of others the answer
        alone is returned. The venue shows unfilled closed orders for a day and filled ones for two years.
        Raises VenueUnavailableError when the venue could not be asked completely.
        Source: GET /v5/order/realtime, /v5/order/history, /v5/execution/list (docs v5/order).
        """
        self._state.check_open()
        check_one_id(client_order_id, broker_order_id)
        view = self._recovery.lookups.find(client_order_id, broker_order_id)
        self._state.bus.deliver()
        return view

    # rounds and health

    def reconcile(self) -> ReconcileReport:
        """Read the venue's whole state now and report what differed; also runs every ``poll_interval_ms``.

        Never raises for the venue: a path that failed is in the report (``report.ok`` is False then).
        """
        self._state.check_open()
        return self._loop.run("asked")

    @property
    def health(self) -> Health:
        """Ages of everything that is read, open episodes, standing alarms, and what is unresolved."""
        monitor = self._recovery.monitor
        return Health(
            source=self.source,
            orders=monitor.age_ms(ORDERS),
            executions=monitor.age_ms(EXECUTIONS),
            balances=monitor.age_ms(BALANCES),
            positions=monitor.age_ms(POSITIONS),
            domains=monitor.domains,
            stream=self._client.stream_state,
            unresolved=self._state.unresolved(),
            lookups_waiting=self._recovery.lookups.waiting,
            queue_depth=self._bus.queue_depth,
            degraded={**monitor.overdue(), **self._state.degraded},
            alarms=self._state.alarms,
            maintenances=self._client.maintenances,
        )

    def acknowledge_alarms(self) -> tuple[Alarm, ...]:
        """Take down the standing alarms, once a person has looked at them; returns them."""
        return self._state.acknowledge_alarms()

    @property
    def reports(self) -> tuple[ReconcileReport, ...]:
        """The last 50 rounds, oldest first."""
        return tuple(self._recovery.reports)

    @property
    def discrepancies(self) -> tuple[Discrepancy, ...]:
        """The last 1,000 discrepancies that rounds healed, oldest first."""
        return tuple(self._recovery.discrepancies)

    # name and end

    @property
    def _suffix(self) -> str:
        """The end of the names of this broker's threads, "" without a name of its own or of its client."""
        return "" if self.source == type(self).source else f"-{self.source}"

    @property
    def account(self) -> str:
        """The name of the client, "" where it has none."""
        return self._client.name

    @property
    def name(self) -> str:
        """The broker's name in logs and events."""
        return self.source

    @property
    def client(self) -> BybitTransport:
        """The connection this broker works on; never closed by the broker."""
        return self._given_client

    @property
    def bus(self) -> EventBus:
        """The bus that this broker's events go to."""
        return self._bus

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        """Supported order types and operations on ``symbol``; empty when it is not served."""
        return self.capabilities if self.supports(symbol) else frozenset()

    def supports(self, symbol: str) -> bool:
        """True when ``symbol`` is of this broker's category."""
        try:
            return BybitSymbol.parse(symbol).category == self.category
        except InvalidRequestError:
            return False

    def close(self) -> None:
        """Stop the timers and deliver what is queued, within about a second; idempotent, from any thread or handler.

        Reads under way are cut; a submit under way returns UNKNOWN, one that begins later raises. Orders stay as they
        are at the venue, and the client and a given scheduler stay open. After this returns no handler is called for
        this broker; events that could not be delivered are counted in one WARNING.
        """
        with self._close_lock:
            if self._is_closed:
                return
            self._is_closed = True
        deadline = time.monotonic() + _CLOSE_MS / 1000
        # From the last to the first, each also when one before it raised: Ctrl-C, or a handler that ends the program.
        with contextlib.ExitStack() as steps:
            steps.callback(self._stream.detach)
            for scheduler in reversed(self._own_schedulers):
                steps.callback(_close_until, scheduler, deadline)
            steps.callback(self._position_keeper.close)
            steps.callback(self._close_state)
            if self._journal is not None:
                steps.callback(self._journal.close)
                steps.callback(self._journal.bus.flush)
            steps.callback(self._recovery.close)
            steps.callback(self._loop.stop)

    def _close_state(self) -> None:
        undelivered = self._state.close(drain_ms=_CLOSE_MS)
        if undelivered:
            log.warning("closed with events undelivered source=%s count=%d", self.source, undelivered)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._is_closed:
            return f"<{type(self).__name__} {self.source} closed>"
        health = self.health
        return (
            f"<{type(self).__name__} {self.source} stream={health.stream} age_ms={health.staleness_ms} "
            f"open_orders={len(self._state.open_orders())} unresolved={len(health.unresolved)}"
            f"{' frozen' if self._checks.risk.is_frozen else ''}>"
        )


def _close_until(scheduler: Lane | ExecutorScheduler, deadline: float) -> None:
    """Close a scheduler, waiting for what it runs until ``deadline``, a monotonic time, or a tenth of a second."""
    scheduler.close(timeout_ms=max(100, int((deadline - time.monotonic()) * 1000)))
