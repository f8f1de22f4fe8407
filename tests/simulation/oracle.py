"""The judge: what a broker says against what the venue did. Nothing here is shared with qkt but the event classes.

Every event is judged when it is heard, against the venue's books of that moment. `Oracle.compare` judges what is
believed after complete rounds. The first violation ends a schedule.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tests.simulation.sdk import (
    BalancesUpdated,
    Broker,
    BrokerEvent,
    BybitLinearBroker,
    FillEvent,
    HealthDegraded,
    InvalidRequestError,
    OrderAccepted,
    OrderCancelFailed,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModified,
    OrderModifyFailed,
    OrderRejected,
    OrderStatusUnknown,
    OrderView,
    PositionReconciled,
)
from tests.simulation.venue import DAY_MS, Venue, VenueExecution, VenueOrder

MINUTE_MS = 60_000
HOLD_MS = MINUTE_MS
RECEIVE_WINDOW_MS = 5_000
FAILED_REQUESTS = (OrderCancelFailed, OrderModifyFailed)


class Violation(Exception):
    """A promise that was broken; ``law`` names it."""

    def __init__(self, law: str, text: str) -> None:
        super().__init__(f"{law}: {text}")
        self.law = law


class Submission:
    """An order that the bot sent in one session. ``order`` is what the venue made of it, if anything."""

    def __init__(self, client_order_id: str, symbol: str, side: str, fate: str, venue: Venue) -> None:
        self.client_order_id = client_order_id
        self.symbol = symbol
        self.side = side
        self.fate = fate
        self.record = Record()
        self.is_withdrawn = False
        self.was_interrupted = self.is_unanswered = False
        self.sent_ms = venue.now_ms()
        self._venue = venue
        self._newest_before = venue.orders[-1].seq if venue.orders else 0

    @property
    def order(self) -> VenueOrder | None:
        """The venue's order, once it arrived; an older one with the same link id is another order."""
        order = self._venue.by_link.get(self.client_order_id)
        return order if order is not None and order.seq > self._newest_before else None


class Record:
    """What was told of one order in one session."""

    __slots__ = (
        "amends",
        "amends_failed",
        "cancels",
        "cancels_failed",
        "fills",
        "is_accepted",
        "late",
        "terminal",
        "terminal_reason",
        "total",
        "unknown",
    )

    def __init__(self) -> None:
        self.is_accepted = False
        self.fills: set[str] = set()
        self.total = Decimal(0)
        self.terminal = ""
        self.terminal_reason = ""
        self.unknown = self.late = 0
        self.cancels = self.cancels_failed = self.amends = self.amends_failed = 0


class Oracle:
    """Judges one session of one broker."""

    def __init__(self, venue: Venue, publish_from_ms: int) -> None:
        self._venue = venue
        self.publish_from_ms = publish_from_ms
        self.started_ms = venue.now_ms()
        self.records: dict[VenueOrder, Record] = {}
        self.submissions: dict[str, Submission] = {}
        self.heard: list[BrokerEvent] = []
        self.violation: Violation | None = None
        self.reached: set[str] = set()
        self.was_clock_stepped = False
        self.remembered: set[str] = set()
        self._executions: dict[str, VenueExecution] = {}
        self._last_sequence_id = 0
        self._open_at_start = {order for order in venue.orders if order.is_open}

    # Events.

    def hear(self, event: BrokerEvent) -> None:
        """Judge one event; the first violation is kept."""
        self.heard.append(event)
        if self.violation is not None:
            return
        try:
            self._judge(event)
        except Violation as violation:
            self.violation = violation

    def _judge(self, event: BrokerEvent) -> None:
        if event.sequence_id <= self._last_sequence_id:
            raise Violation("sequence", f"{event} after {self._last_sequence_id}")
        self._last_sequence_id = event.sequence_id
        if isinstance(event, OrderEvent):
            order, record = self._find(event)
            self._judge_order(event, order, record)
        elif isinstance(event, BalancesUpdated):
            self._judge_balances(event)
        elif isinstance(event, PositionReconciled):
            history = self._venue.position_history.get(event.symbol.partition(":")[2], set())
            if event.new_quantity not in history:
                raise Violation("invented_position", f"{event}; the venue had {sorted(history)}")
        elif isinstance(event, HealthDegraded):
            self.reached.add(f"degraded {event.domain}")

    def _find(self, event: OrderEvent) -> tuple[VenueOrder | None, Record]:
        """The venue's order an event is about, and what was told of it."""
        order = self._venue.by_id.get(event.broker_order_id)
        if event.broker_order_id and order is None:
            raise Violation("invented_order", f"the venue has no such order: {event}")
        if order is None:
            submission = self.submissions.get(event.client_order_id)
            if submission is None:
                raise Violation("invented_order", f"nobody sent this: {event}")
            return submission.order, submission.record
        return order, self.record_of(order)

    def record_of(self, order: VenueOrder) -> Record:
        """What was told of an order of the venue's."""
        record = self.records.get(order)
        if record is None:
            submission = self.submission_of(order)
            record = self.records[order] = Record() if submission is None else submission.record
        return record

    def submission_of(self, order: VenueOrder) -> Submission | None:
        """Our submission that made an order; None for an outside order."""
        submission = self.submissions.get(order.link_id)
        return submission if submission is not None and submission.order is order else None

    def _is_external(self, order: VenueOrder, told: bool) -> bool:
        """Whether an order is an outside one; two kinds of ours may be told as either.

        One that was settled and forgotten for a day; one that was refused, stands all the same, and was given another
        quantity elsewhere before any row showed it.
        """
        submission = self.submission_of(order)
        if submission is None:
            return True
        if (
            submission.fate == "refused_but_stands"
            and len({quantity for quantity, _price, _trigger in order.terms}) > 1
        ):
            return told
        return told if self._venue.now_ms() - submission.sent_ms > DAY_MS - MINUTE_MS else False

    def _judge_order(self, event: OrderEvent, order: VenueOrder | None, record: Record) -> None:
        if order is not None and event.external != self._is_external(order, event.external):
            law = "external_after_clock_step" if self.was_clock_stepped else "external"
            raise Violation(law, f"{event} about {order}")
        if record.terminal:
            self._judge_after_end(event, order, record)
        match event:
            case OrderAccepted():
                if record.is_accepted:
                    raise Violation("accepted_twice", str(event))
                if order is None:
                    raise Violation("accepted_and_never_arrived", str(event))
                record.is_accepted = True
            case FillEvent():
                self._judge_fill(event, order, record)
            case OrderCancelled():
                self._judge_cancelled(event, order, record)
            case OrderRejected():
                self._judge_rejected(event, order, record)
            case OrderModified():
                self._judge_modified(event, order)
            case OrderCancelFailed():
                record.cancels_failed += 1
                if record.cancels_failed > record.cancels:
                    raise Violation(self._law_of_surplus(event), f"{record.cancels} cancels were asked for: {event}")
            case OrderModifyFailed():
                record.amends_failed += 1
                if record.amends_failed > record.amends:
                    raise Violation(self._law_of_surplus(event), f"{record.amends} amends were asked for: {event}")
            case OrderStatusUnknown():
                record.unknown += 1
                self.reached.add("status unknown told")

    def _law_of_surplus(self, event: OrderEvent) -> str:
        """A failure nobody asked for; of its own kind when the venue has another order of the same link id."""
        older = self._venue.by_link.get(event.client_order_id)
        is_shared = older is not None and event.client_order_id in self.submissions and not event.broker_order_id
        return "two_orders_of_one_id" if is_shared else "failed_twice"

    def _judge_after_end(self, event: OrderEvent, order: VenueOrder | None, record: Record) -> None:
        """After a terminal only a late fill may come, or that a request came to nothing, or a resurrection."""
        if isinstance(event, FAILED_REQUESTS):
            return
        if isinstance(event, FillEvent) and event.late and event.exec_id:
            self.reached.add("late fill")
            return
        was_wrong = record.terminal == "REJECTED" or record.terminal_reason == "aged_out"
        if isinstance(event, OrderAccepted) and was_wrong and order is not None:
            self.reached.add("resurrection")
            record.terminal = record.terminal_reason = ""
            record.is_accepted = False
            return
        raise Violation("after_the_end", f"{record.terminal} was told before {event}")

    def _judge_fill(self, event: FillEvent, order: VenueOrder | None, record: Record) -> None:
        if not record.is_accepted:
            raise Violation("fill_before_accepted", str(event))
        if event.exec_id:
            execution = self._execution(event.exec_id)
            if execution is None or execution.order is not order:
                raise Violation("invented_fill", f"the venue made no such execution: {event}")
            made: tuple[object, ...] = (execution.quantity, execution.price, Decimal(execution.fee))
            if (event.quantity, event.price, event.fee) != made:
                raise Violation("invented_fill", f"{event} for {execution.row}")
            if event.exec_id in record.fills:
                raise Violation("fill_twice", str(event))
            if execution.ms < self.publish_from_ms - 1:
                raise Violation("old_fill", f"from before the recovery window: {event}")
            record.fills.add(event.exec_id)
            record.total += event.quantity
            self._judge_sum(event, order, record)
        if isinstance(event, OrderFilled):
            self._end(event, order, record, "FILLED")
            if order is None or not _is_filled(order):
                raise Violation("false_end", f"filled, and the venue has {order}: {event}")

    def _judge_sum(self, event: FillEvent, order: VenueOrder | None, record: Record) -> None:
        assert order is not None
        is_partly_old = any(one.ms < self.publish_from_ms + 2 for one in order.executions)
        if event.cum_quantity < record.total or event.cum_quantity > order.cum:
            raise Violation("running_sum", f"{record.total} was told, the venue has {order.cum}: {event}")
        if event.cum_quantity != record.total and not is_partly_old:
            raise Violation("running_sum", f"{record.total} was told: {event}")

    def _judge_cancelled(self, event: OrderCancelled, order: VenueOrder | None, record: Record) -> None:
        self._end(event, order, record, "CANCELLED")
        if order is None or order.is_open or _is_filled(order):
            raise Violation("false_end", f"cancelled, and the venue has {order}: {event}")
        record.terminal_reason = event.reason
        if event.reason == "aged_out":
            self.reached.add("aged_out")
            if order.cum or self._venue.now_ms() - order.ended_ms < DAY_MS:
                raise Violation("false_end", f"aged out, and the venue has {order}: {event}")
        elif event.cum_quantity != order.cum:
            raise Violation("end_quantity", f"the venue has {order}: {event}")

    def _judge_rejected(self, event: OrderRejected, order: VenueOrder | None, record: Record) -> None:
        record.terminal, record.terminal_reason = "REJECTED", event.reason
        submission = self.submissions.get(event.client_order_id)
        if submission is None:
            raise Violation("false_end", f"an order nobody sent was rejected: {event}")
        if event.reason == "never_arrived":
            self.reached.add("non-arrival proof")
            if self._venue.now_ms() - submission.sent_ms < RECEIVE_WINDOW_MS:
                law = "proved_too_soon_after_clock_step" if self.was_clock_stepped else "proved_too_soon"
                raise Violation(law, f"{event}, and it may still arrive")
        if event.reason == "aged_out":
            self.reached.add("aged_out")
            if self._venue.now_ms() - submission.sent_ms < DAY_MS - MINUTE_MS:
                raise Violation("false_end", f"aged out within a day: {event}")
            if order is not None and not self._is_purged(order):
                raise Violation("false_end", f"aged out, and the venue has {order}: {event}")
            return
        if order is None:
            return
        if submission.fate != "refused_but_stands":
            is_purged = event.reason == "never_arrived" and self._is_purged(order)
            law = "never_arrived_after_purge" if is_purged else "false_end"
            raise Violation(law, f"rejected, and the venue has {order}: {event}")
        self.reached.add("refused and stands")

    def _is_purged(self, order: VenueOrder) -> bool:
        """True when the venue shows an order no more, or soon will not (docs v5/order/order-list)."""
        return not order.is_open and not order.cum and self._venue.now_ms() - order.ended_ms > DAY_MS - MINUTE_MS

    def _end(self, event: OrderEvent, order: VenueOrder | None, record: Record, terminal: str) -> None:
        """What holds for every end: accepted before, all executions told before, or a hold that ran out."""
        record.terminal = terminal
        if not record.is_accepted:
            is_aged_out = isinstance(event, OrderCancelled) and event.reason == "aged_out"
            raise Violation("aged_out_before_accepted" if is_aged_out else "end_before_accepted", str(event))
        if order is None:
            return
        missing = [
            one for one in order.executions if one.exec_id not in record.fills and one.ms >= self.publish_from_ms + 2
        ]
        if not missing:
            return
        self.reached.add("terminal released without fills")
        was_hidden = all(one.hidden_until_ms for one in missing)
        if not was_hidden or self._venue.now_ms() - order.ended_ms < HOLD_MS:
            law = "hold_cut_by_clock_step" if was_hidden and self.was_clock_stepped else "end_before_fills"
            raise Violation(law, f"{[one.exec_id for one in missing]} were not told: {event}")

    def _judge_modified(self, event: OrderModified, order: VenueOrder | None) -> None:
        terms = (event.new_quantity or 0, event.new_limit_price or 0, event.new_stop_price or 0)
        if order is None or terms not in order.terms:
            had = sorted(order.terms) if order is not None else None
            law = "terms_of_the_end" if order is not None and order.status == "Filled" else "terms_never_had"
            raise Violation(law, f"{event}; the venue had {had}")

    def _judge_balances(self, event: BalancesUpdated) -> None:
        for coin, total in event.balances.items():
            history = self._venue.balance_history.get(coin)
            if history is None or int(total * 1000) not in history:
                raise Violation("invented_balance", f"{coin} {total}; the venue had {history and sorted(history)}")

    def _execution(self, exec_id: str) -> VenueExecution | None:
        for execution in self._venue.executions[len(self._executions) :]:
            self._executions[execution.exec_id] = execution
        return self._executions.get(exec_id)

    def _is_beside_doubt(self, order: VenueOrder) -> bool:
        """True for an outside order without a link id beside an unanswered submit of ours that it could be."""
        if order.link_id:
            return False
        return any(
            (one.symbol, one.side) == (order.symbol, order.side) and one.order is None and not one.record.terminal
            for one in self.submissions.values()
        )

    # Beliefs.

    def compare(self, broker: Broker, balances: Any, *, is_final: bool, begun_ms: int) -> None:
        """Compare all that is believed with the venue's books, right after a complete round. Raises Violation.

        ``begun_ms``: when the round began; what ended since then may be news to it.

        ``is_final``: the last of several quiet rounds, after which nothing may be open to question.
        """
        views = {view.broker_order_id or view.client_order_id: view for view in broker.open_orders()}
        now_ms = self._venue.now_ms()
        for order in self._venue.orders:
            is_news = order.hidden_until_ms > now_ms - 1_000 or order.ended_ms >= begun_ms
            if is_news and not is_final:
                views.pop(order.order_id if order.order_id in views else order.link_id, None)
            elif not is_final and order.is_open and self._is_beside_doubt(order) and order.order_id not in views:
                raise Violation("unseen_beside_doubt", f"{order} is not seen while a submit is in doubt")
            elif order.is_open:
                self._compare_open(order, views.pop(order.order_id, None), is_final=is_final)
            else:
                self._compare_closed(order, broker, views.pop(order.order_id, None), is_final=is_final)
            if is_final and order.is_open and order.link_id in self.remembered:
                self._compare_remembered(order)
        for name, view in views.items():
            self._compare_unplaced(name, view, is_final=is_final)
        if is_final:
            for submission in self.submissions.values():
                if submission.order is None:
                    self._compare_refused(submission, broker)
        self._compare_balances(balances)
        if isinstance(broker, BybitLinearBroker):
            self._compare_positions(broker)

    def _compare_remembered(self, order: VenueOrder) -> None:
        """A cancel that waited for its order was sent, or told as failed."""
        submission = self.submission_of(order)
        if submission is not None and not submission.record.cancels_failed:
            raise Violation("forgotten_cancel", f"{order} was to be cancelled as soon as it appeared")

    def _compare_open(self, order: VenueOrder, view: OrderView | None, *, is_final: bool) -> None:
        submission = self.submission_of(order)
        if view is None and not is_final and submission is not None and submission.record.terminal == "REJECTED":
            return  # refused and stands: the rounds find it
        if view is None:
            law = "unseen_outside_order" if submission is None else "lost_order"
            raise Violation(law, f"the venue has {order}, the broker has no open order of it")
        record = self.record_of(order)
        if not record.is_accepted:
            raise Violation("never_accepted", f"{order} is in the books and was never told as accepted")
        if record.terminal:
            raise Violation("false_end", f"{record.terminal} was told and the venue has {order}")
        self._compare_fills(order, record)
        if not is_final:
            return
        believed: tuple[object, ...] = (view.quantity, view.limit_price or 0, view.stop_price or 0)
        if not order.is_market and believed != (order.quantity, order.price, order.trigger):
            law = "terms_after_clock_step" if self.was_clock_stepped else "terms"
            raise Violation(law, f"{believed} are believed of {order} at {order.price}, trigger {order.trigger}")
        if view.cum_quantity != order.cum or view.missing_quantity:
            raise Violation("cum", f"{view.cum_quantity}, missing {view.missing_quantity}, of {order}")
        if view.is_unresolved or view.venue_status != order.status:
            raise Violation("status", f"{view.status}, {view.venue_status!r} is believed of {order}")
        if view.external != self._is_external(order, view.external):
            raise Violation("external", f"external={view.external} of {order}")

    def _compare_closed(self, order: VenueOrder, broker: Broker, view: OrderView | None, *, is_final: bool) -> None:
        record = self.records.get(order)
        submission = self.submission_of(order)
        if record is None and submission is not None:
            record = submission.record
        is_hidden = any(one.hidden_until_ms > self._venue.now_ms() for one in order.executions)
        if view is not None:
            if submission is not None and submission.is_unanswered and not is_final and order.executions:
                raise Violation("end_seen_a_round_late", f"believed open ({view.status}) and the venue has {order}")
            if is_final or not self._is_purged(order):
                raise Violation("phantom", f"believed open ({view.status}) and the venue has {order}")
            return
        if not is_final and submission is not None and self._is_purged(order):
            return  # still in doubt, and told so
        if order in self._open_at_start or submission is not None:
            if record is None or (not record.terminal and not is_hidden):
                raise Violation("untold_end", f"the end of {order} was not told")
        elif record is not None and record.is_accepted and not record.terminal and not is_hidden:
            raise Violation("untold_end", f"the end of {order} was not told")
        if is_hidden or (record is not None and record.terminal_reason == "aged_out"):
            return
        if record is None:
            record = self.record_of(order)
        if submission is not None and record.terminal == "REJECTED" and not is_final:
            return
        self._compare_fills(order, record)
        if record.terminal:
            expected = "FILLED" if _is_filled(order) else "CANCELLED"
            stood_all_the_same = submission is not None and submission.fate == "refused_but_stands"
            if (record.terminal_reason == "never_arrived" or stood_all_the_same) and not order.cum:
                return  # it came after every documented deadline, or was refused, and was gone before a round saw it
            if record.terminal != expected:
                raise Violation("false_end", f"{record.terminal} was told and the venue has {order}")
            if is_final:
                self._compare_closed_view(order, broker)

    def _compare_closed_view(self, order: VenueOrder, broker: Broker) -> None:
        try:
            view = broker.order(broker_order_id=order.order_id)
        except InvalidRequestError:
            return  # settled long ago and forgotten
        believed: tuple[object, ...] = (view.quantity, view.limit_price or 0, view.stop_price or 0)
        # an order known by its executions alone has no row: they print no trigger
        is_comparable = not order.is_market and bool(view.time_in_force)
        if is_comparable and believed != (order.quantity, order.price, order.trigger):
            raise Violation("terms_of_the_end", f"{believed} are believed of {order} at {order.price}")
        if view.is_open or view.cum_quantity != order.cum or view.missing_quantity:
            raise Violation("cum", f"{view.status} {view.cum_quantity}, missing {view.missing_quantity}, of {order}")

    def _compare_fills(self, order: VenueOrder, record: Record) -> None:
        """Every execution that the broker must have published was told."""
        now_ms = self._venue.now_ms()
        for execution in order.executions:
            if execution.exec_id in record.fills or execution.ms < self.publish_from_ms + 2:
                continue
            if execution.hidden_until_ms > now_ms - 1_000:
                continue
            raise Violation("untold_fill", f"{execution.exec_id} of {order} was not told")

    def _compare_unplaced(self, name: str, view: OrderView, *, is_final: bool) -> None:
        """A believed order that the venue has not: a submit still in doubt, or an invention."""
        submission = self.submissions.get(name)
        order = None if submission is None else submission.order
        is_ours = submission is not None and view.is_unresolved and (order is None or self._is_purged(order))
        if is_ours and is_final:
            law = "doubt_too_long_after_clock_step" if self.was_clock_stepped else "doubt_too_long"
            raise Violation(law, f"{name} is still in doubt: {view.reason}")
        if not is_ours:
            raise Violation("phantom", f"{view.status} is believed of {name}, which the venue has not")

    def _compare_refused(self, submission: Submission, broker: Broker) -> None:
        record, name = submission.record, submission.client_order_id
        try:
            view = broker.order(name)
        except InvalidRequestError:
            if not submission.is_withdrawn and not submission.was_interrupted and not record.terminal:
                raise Violation("lost_order", f"{name} was sent and is not known") from None
            return
        if submission.is_withdrawn:
            raise Violation("phantom", f"{name} was never sent and {view.status} is believed")
        if view.is_unresolved:
            return  # judged above
        if record.terminal != "REJECTED":
            raise Violation("untold_end", f"{name} never arrived, {record.terminal or 'nothing'} was told")

    def _compare_balances(self, balances: Any) -> None:
        for coin, amount in self._venue.balances.items():
            if balances.get(coin, 0) * 1000 != amount:
                raise Violation("balances", f"{coin} {balances.get(coin)} is believed, the venue has {amount / 1000}")

    def _compare_positions(self, broker: BybitLinearBroker) -> None:
        held = {key[0].partition(":")[2]: position.quantity for key, position in broker.positions().items()}
        truth = {symbol: quantity for symbol, quantity in self._venue.positions.items() if quantity}
        if held != truth:
            raise Violation("positions", f"{held} is believed, the venue has {truth}")


def _is_filled(order: VenueOrder) -> bool:
    return order.status == "Filled" or order.reject_reason == "EC_CancelForNoFullFill"
