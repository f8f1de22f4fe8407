"""`JournalMember`: one broker's part in its account's journal.

What earlier runs sent and told is recalled before the first round; what this run learns and tells is noted for the
outbox; permits that other processes were given are followed, so that their orders are known as ours.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence

from qkt.broker.state import BrokerState
from qkt.bybit.codec.journal_rows import amend_is_met, execution_of, execution_text, order_text, report_of, request_of
from qkt.bybit.lookup import OrderLookup
from qkt.bybit.ownership_keeper import OwnershipKeeper, Told
from qkt.bybit.queries import BybitQueries
from qkt.clock import Clock
from qkt.errors import JournalError, QktError
from qkt.events import (
    BrokerEvent,
    FillEvent,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderRejected,
    OwnershipChanged,
)
from qkt.journal.arguments import all_pages
from qkt.journal.intents import parse_link_id
from qkt.journal.protocol import EventDraft, JournalFact, Permit, PermitOutcome, Resolution
from qkt.model.order_report import OrderReport, VenueStatus
from qkt.model.orders import Side
from qkt.model.ownership import Ownership
from qkt.net.scheduler import Scheduler
from qkt.orders.facts import (
    AnyFact,
    ExecutionReported,
    NonArrivalProved,
    OrderRecognised,
    OrderReported,
    SubmitAcknowledged,
    SubmitIntended,
    SubmitUnanswered,
)
from qkt.orders.order import NEVER_ARRIVED, Order
from qkt.reconcile.plan import ReconcileLimits

log: logging.Logger = logging.getLogger(__name__)

_LEAST_OVERLAP_MS = 60_000
_INTENTS_KEPT = 100_000
_LIVE = (PermitOutcome.OPEN, PermitOutcome.ACCEPTED)


def is_journal_link(client_order_id: str) -> bool:
    """True for a client order id that a journal made."""
    return parse_link_id(client_order_id) is not None


class JournalMember:
    """A broker of one category at its `OwnershipKeeper`. Safe from any thread."""

    def __init__(self, keeper: OwnershipKeeper, category: str, clock: Clock) -> None:
        self.keeper: OwnershipKeeper = keeper
        self.category: str = category
        self._clock = clock
        self._read_to = 0
        self._intents: dict[str, str] = {}
        self._by_intent: dict[str, Permit] = {}
        self._live: dict[str, int] = {}  # client order id -> seq of its permit, until its end was told
        self._is_attached = False
        self.flush_soon: Callable[[], None] = lambda: None

    def attach(
        self,
        state: BrokerState,
        queries: BybitQueries,
        lookups: OrderLookup,
        background: Scheduler,
        limits: ReconcileLimits,
        then: Callable[[], object],
    ) -> None:
        """The parts of the broker, once they are built. ``then`` follows each lookup of an open permit."""
        self._state = state
        self._queries = queries
        self._lookups = lookups
        self._background = background
        self._limits = limits
        self._then = then
        self._is_attached = True

    # earlier runs

    def recall(self) -> int | None:
        """Learn what earlier runs sent and told; returns the venue time up to which they read executions, or None."""
        journal, account = self.keeper.journal, self.keeper.account
        marks = journal.watermarks(account)
        read_to = marks.get(f"permits:{self.category}", 0)
        permits = all_pages(lambda after: journal.permits(account, after=max(after, read_to)))
        self._read_to = permits[-1].seq if permits else read_to
        creates = [permit for permit in permits if permit.operation == "create" and permit.category == self.category]
        live = [permit for permit in creates if permit.outcome in _LIVE]
        executed_ms = marks.get(f"executions:{self.category}")
        since = [permit.signed_at_ms - _LEAST_OVERLAP_MS for permit in live]
        since += [] if executed_ms is None else [executed_ms - 2 * _LEAST_OVERLAP_MS]
        facts: list[AnyFact] = [fact for permit in live for fact in self._facts_of(permit)]
        if since:
            known = all_pages(lambda after: journal.facts(account, after=after, since_ms=min(since)))
            facts += [fact for one in known if one.category == self.category for fact in _recalled(one)]
        for permit in creates:
            self._remember(permit)
        self._state.recall(facts)
        for permit in live:
            order = self._state.ask(lambda ledger, name=permit.link_id: ledger.get(name))  # type: ignore[misc]
            if order is None or not order.is_terminal_published:
                self._live[permit.link_id] = permit.seq
        return executed_ms

    def _facts_of(self, permit: Permit) -> list[AnyFact]:
        request = request_of(permit.category, json.loads(permit.body))
        facts: list[AnyFact] = [
            SubmitIntended(
                client_order_id=permit.link_id,
                request=request,
                sent_ms=permit.signed_at_ms,
                order_filter=str(json.loads(permit.body).get("orderFilter", "")),
                at_ms=permit.granted_at_ms,
                origin="submit",
            )
        ]
        if permit.outcome is PermitOutcome.ACCEPTED:
            facts.append(
                SubmitAcknowledged(
                    client_order_id=permit.link_id,
                    broker_order_id=permit.broker_order_id,
                    at_ms=permit.resolved_at_ms,
                    origin="submit",
                )
            )
        return facts

    def _remember(self, permit: Permit) -> None:
        self._intents[permit.link_id] = permit.intent
        self._by_intent[permit.intent] = permit
        for known in (self._intents, self._by_intent):
            while len(known) > _INTENTS_KEPT:
                known.pop(next(iter(known)), None)

    def permit_of(self, intent: str) -> Permit | None:
        """The newest permit of an intent, as far as this process knows."""
        return self._by_intent.get(intent)

    def intent_of(self, client_order_id: str) -> str | None:
        """The intent that an order stands for, None for an order that no permit of this journal is about."""
        known = self._intents.get(client_order_id)
        if known is None:
            permit = self.keeper.journal.find_links(self.keeper.account, [client_order_id]).get(client_order_id)
            known = None if permit is None else permit.intent
        return known

    # other processes

    def sync(self) -> None:
        """Follow the permits given since the last call: their orders are ours, whichever process sent them."""
        if not self._is_attached or self._state.is_closed:
            return
        if self.keeper.ownership.state == "owner":
            return
        for permit in self.keeper.journal.permits(self.keeper.account, after=self._read_to):
            self._read_to = permit.seq
            if permit.operation != "create" or permit.category != self.category:
                continue
            self._remember(permit)
            order = self._order(permit.link_id)
            if order is not None:
                self._state.absorb([OrderRecognised(client_order_id=permit.link_id, at_ms=self._clock.now_ms())])
            elif permit.outcome in _LIVE:
                self._state.recall(self._facts_of(permit))
            self._live[permit.link_id] = permit.seq

    def question_open(self) -> None:
        """The account changes hands: orders of open permits that the venue has not shown are unanswered submits."""
        if not self._is_attached:
            return
        for permit in self.keeper.journal.open_permits(self.keeper.account):
            if permit.operation != "create" or permit.category != self.category:
                continue
            order = self._order(permit.link_id)
            is_open = order is not None and order.is_open and not order.is_known_to_venue
            if not is_open or self.keeper.is_open_here(permit) or (order and order.unanswered_submit):
                continue
            provable_from_ms = permit.accepted_until_ms + self._limits.arrival_margin_ms
            self._state.absorb(
                [
                    SubmitUnanswered(
                        client_order_id=permit.link_id,
                        reason="sent by an earlier owner, who did not record an answer",
                        provable_from_ms=provable_from_ms,
                        at_ms=self._clock.now_ms(),
                        origin="submit",
                    )
                ]
            )
            self._lookups.look_up_soon(permit.link_id, self._background, then=self._then)

    def outcome_of(self, permit: Permit) -> Resolution | None:
        """What the books have learnt of a permit of this run, None while that is nothing."""
        order = self._order(permit.link_id)
        if order is None:
            return None
        if permit.operation != "create":
            return self._amend_outcome(permit, order)
        if order.is_known_to_venue:
            return Resolution(seq=permit.seq, outcome=PermitOutcome.ACCEPTED, broker_order_id=order.broker_order_id)
        if order.terminal is None:
            return None
        is_lost = order.terminal.reason == NEVER_ARRIVED
        outcome = PermitOutcome.NEVER_ARRIVED if is_lost else PermitOutcome.REFUSED
        return Resolution(seq=permit.seq, outcome=outcome, reason=order.terminal.reason)

    def _amend_outcome(self, permit: Permit, order: Order) -> Resolution | None:
        row = OrderReport(
            broker_order_id=order.broker_order_id,
            symbol=order.symbol,
            side=order.side or Side.BUY,
            status=order.status or VenueStatus.NEW,
            venue_status="",
            quantity=order.terms.quantity,
            limit_price=order.terms.limit_price,
            stop_price=order.terms.stop_price,
        )
        if amend_is_met(json.loads(permit.body), row):
            return Resolution(seq=permit.seq, outcome=PermitOutcome.ACCEPTED, broker_order_id=order.broker_order_id)
        is_over = self._queries.venue_ms() > permit.accepted_until_ms + self._limits.arrival_margin_ms
        if not is_over or order.modify is not None:
            return None
        return Resolution(seq=permit.seq, outcome=PermitOutcome.NEVER_ARRIVED, reason=NEVER_ARRIVED)

    def learn_outcome(self, permit: Permit, resolution: Resolution) -> None:
        """Take in what the keeper found out about a permit of an earlier owner."""
        if not self._is_attached or permit.operation != "create":
            return
        order = self._order(permit.link_id)
        if order is None or not order.is_open or order.is_known_to_venue:
            return
        if resolution.outcome is PermitOutcome.NEVER_ARRIVED:
            self._state.absorb(
                [NonArrivalProved(client_order_id=permit.link_id, at_ms=self._clock.now_ms(), origin="reconcile")]
            )
        else:
            self._lookups.look_up(permit.link_id)
        self.flush_soon()

    def _order(self, client_order_id: str) -> Order | None:
        return self._state.ask(lambda ledger: ledger.get(client_order_id))

    # telling

    def tell_ownership(self, account: str, now: Ownership, before: Ownership, reason: str) -> None:
        """Publish that the ownership changed."""
        log.info("ownership account=%s state=%s epoch=%d owner=%s", account, now.state, now.epoch, now.owner)
        if self._is_attached:
            event = OwnershipChanged(
                source=self._state.source, account=account, ownership=now, before=before, reason=reason
            )
            self._state.publish([event])
            self.flush_soon()

    def tell_journal(self, reason: str | None) -> None:
        """Begin or end the episode in the domain ``journal``."""
        if not self._is_attached:
            return
        if reason is None:
            self._state.restore("journal")
        else:
            self._state.degrade("journal", reason)
        self.flush_soon()

    def record(self, events: Sequence[BrokerEvent]) -> None:
        """Note events for the outbox and append them; never raises."""
        try:
            self.keeper.note([self._told(event) for event in events], self._marks())
            for event in events:
                if isinstance(event, OrderAccepted):
                    self._check_link(event.client_order_id)
        except QktError:
            log.exception("events not noted source=%s", self._state.source)
        self.keeper.record()

    def note_executions_read(self, watermark_ms: int) -> None:
        """Executions were read completely up to this venue time."""
        self.keeper.note((), {f"executions:{self.category}": watermark_ms, **self._marks()})

    def note_sent(self, permit: Permit) -> None:
        """This run was given a permit for an order."""
        self._remember(permit)
        self._live[permit.link_id] = permit.seq

    def _marks(self) -> dict[str, int]:
        """Permits up to this one are of orders whose end was told: a restart need not read them."""
        oldest = min(self._live.values(), default=None) if self._live else None
        return {} if oldest is None else {f"permits:{self.category}": oldest - 1}

    def _check_link(self, client_order_id: str) -> None:
        parsed = parse_link_id(client_order_id)
        if parsed is None or client_order_id in self._intents:
            return
        try:
            self.keeper.link_seen(parsed.epoch, client_order_id)
        except JournalError as error:
            log.warning("link id not judged id=%s error=%s", client_order_id, error)

    def _told(self, event: BrokerEvent) -> Told:
        kind, body = type(event).__name__, event.to_json()
        key = self._key_of(event)
        if key is None or not isinstance(event, OrderEvent):
            key = self.keeper.unique_key(f"{self._state.source}:{kind}")
            return Told(event=EventDraft(key=key, kind=kind, body=body), is_shared=False)
        return Told(event=EventDraft(key=key, kind=kind, body=body), facts=tuple(self._facts_told(event)))

    def _key_of(self, event: BrokerEvent) -> str | None:
        if not isinstance(event, OrderEvent):
            return None
        name = event.broker_order_id or event.client_order_id
        if isinstance(event, FillEvent) and event.exec_id:
            return f"execution:{self.category}:{name}:{event.exec_id}"
        if isinstance(event, OrderAccepted):
            return f"accepted:{self.category}:{name}"
        if isinstance(event, OrderFilled | OrderCancelled | OrderRejected):
            return f"ended:{self.category}:{name}:{type(event).__name__}:{event.cum_quantity}"
        return None

    def _facts_told(self, event: OrderEvent) -> list[JournalFact]:
        """What a restart must know of an event: the execution, that the order was accepted, how it ended."""
        order = self._state.ask(lambda ledger: ledger.get(event.client_order_id or None, event.broker_order_id))
        has_ended = isinstance(event, OrderFilled | OrderCancelled | OrderRejected)
        if has_ended:
            self._live.pop(event.client_order_id, None)
        if order is None or not order.broker_order_id:
            return []
        facts = []
        if isinstance(event, FillEvent) and event.exec_id and (fill := order.fills.get(event.exec_id)) is not None:
            facts.append(self._fact("execution", order, event.exec_id, fill.exec_time_ms, execution_text(fill)))
        if has_ended or isinstance(event, OrderAccepted):
            part = "ended" if has_ended and order.is_terminal_published else "accepted"
            text = order_text(order, has_ended=part == "ended")
            facts.append(self._fact("order", order, part, self._queries.venue_ms(), text))
        return facts

    def _fact(self, kind: str, order: Order, exec_id: str, occurred_ms: int, body: str) -> JournalFact:
        return JournalFact(
            kind=kind,
            category=self.category,
            order_id=order.broker_order_id,
            exec_id=exec_id,
            link_id=order.client_order_id,
            occurred_at_ms=occurred_ms,
            body=body,
        )


def _recalled(fact: JournalFact) -> list[AnyFact]:
    if fact.kind == "execution":
        execution = execution_of(fact.body)
        return [ExecutionReported(execution=execution, at_ms=fact.recorded_at_ms, origin="reconcile")]
    if fact.kind == "order" and (report := report_of(fact.body)) is not None:
        return [OrderReported(report=report, as_of_ms=report.updated_ms, at_ms=fact.recorded_at_ms, origin="reconcile")]
    return []
