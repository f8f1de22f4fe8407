"""One schedule: a venue, a broker and a bot that does what its steps say, with the oracle beside it."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import attrs

from tests.simulation import odd
from tests.simulation.oracle import Oracle, Submission, Violation
from tests.simulation.sdk import (
    BalancesUpdated,
    Broker,
    BrokerEvent,
    BybitLinearBroker,
    BybitSpotBroker,
    EventBus,
    FixedClock,
    InvalidRequestError,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderView,
    ReconcileError,
    Side,
    StopLimitOrder,
    SubmitAck,
    SubmitOutcome,
    TickScheduler,
    VenueUnavailableError,
    probe,
)
from tests.simulation.transport import READ_FAULTS, SimulatedTransport
from tests.simulation.venue import START_MS, SYMBOLS, Venue, VenueOrder

Step = tuple[Any, ...]
OrderRequest = LimitOrder | MarketOrder | StopLimitOrder

# How long to wait before each quiet round: past the receive window, a backend timeout, a hold for missing executions.
QUIET_WAITS_MS = (0, 5, 16_000, 6_000, 41_000, 6_000, 62_000, 6_000, 62_000, 6_000)
MOST_DIFFERING_ROUNDS = 3
OLDEST_REPLAY_MS = 600_000
HIDES_EXECUTION = 2  # as a frame's fate: lost


@attrs.frozen(kw_only=True)
class Setup:
    """What a schedule is played on."""

    category: str = "spot"
    page_size: int = 50
    poll_interval_ms: int = 30_000
    recovery_window_ms: int = 300_000
    lists_conditionals: bool = True
    shows_closed: bool = True
    has_venue_clock: bool = True


class World:
    """Plays steps; `play` raises Violation."""

    def __init__(self, setup: Setup) -> None:
        self.setup = setup
        self.clock = FixedClock(START_MS)
        self.scheduler = TickScheduler(self.clock)
        self.venue = Venue(
            setup.category,
            self.venue_ms,
            lists_conditionals=setup.lists_conditionals,
            shows_closed=setup.shows_closed,
        )
        self.prefix = "BYBIT_SPOT:" if setup.category == "spot" else "BYBIT_LINEAR:"
        self.sessions = 0
        self.names = 0
        self.reached: set[str] = set()
        self.used: set[str] = set()
        self.trace: list[str] | None = None
        self.is_probed = False
        self.transport: SimulatedTransport
        self.broker: Broker
        self.oracle: Oracle
        self._handler: Callable[[BrokerEvent], None]
        self._used_ids: list[str] = []
        self._parts: list[Any] = []

    def venue_ms(self) -> int:
        """The venue's time: it never steps."""
        return START_MS + self.clock.monotonic_ms()

    # Playing.

    def play(self, steps: list[Step]) -> None:
        """Start a broker, take the steps, calm down, and compare."""
        try:
            self._start()
            for step in steps:
                self._take(step)
            self._calm_down()
        finally:
            if self.sessions:
                self.reached |= self.oracle.reached | self.transport.reached
                self.broker.close()
                self._take_apart()

    def _take_apart(self) -> None:
        """Cut the references that make circles, so that no garbage collection is needed: it cost a third."""
        parts: list[Any] = [*self._parts, self.transport, self.venue, self.oracle, self.scheduler]
        for part in parts:
            if hasattr(part, "__dict__") and not isinstance(part, type):
                vars(part).clear()

    def _take(self, step: Step) -> None:
        name, wait_ms, *arguments = step
        if wait_ms:
            self.scheduler.advance_ms(wait_ms)
        if self.trace is not None:
            self.trace.append(f"{self.venue_ms() - START_MS:>8} ms  {name} {' '.join(map(str, arguments))}")
        heard = len(self.oracle.heard)
        ACTIONS[name](self, *arguments)
        if self.trace is not None:
            self.trace.extend(f"{'':>12}{_shown(event)}" for event in self.oracle.heard[heard:])
        if self.is_probed:
            self.reached.update(probe(self.broker))
        self._check()

    def _check(self) -> None:
        violation = self.oracle.violation
        if violation is not None:
            raise violation
        if self.scheduler.errors:
            raise Violation("exception", f"a scheduled action raised {self.scheduler.errors[0]!r}")

    def _call(self, what: str, call: Callable[[], Any], *, allowed: tuple[type[BaseException], ...] = ()) -> Any:
        """Call the broker; an exception that is not allowed is a violation."""
        transport, could_interrupt = self.transport, self.transport.may_interrupt
        transport.may_interrupt = True
        try:
            return call()
        except allowed as error:
            return error
        except KeyboardInterrupt:
            if not transport.has_interrupted:
                raise
            transport.has_interrupted = False
            return KeyboardInterrupt()
        except Exception as error:
            raise Violation("exception", f"{what} raised {error!r}") from error
        finally:
            transport.may_interrupt = could_interrupt

    def _start(self) -> None:
        """Build a broker on a fresh transport and bus; a refused start is tried again without faults."""
        setup = self.setup
        self.transport = SimulatedTransport(
            self.venue, self.clock, self.scheduler, setup.page_size, has_venue_clock=setup.has_venue_clock
        )
        self.sessions += 1
        for _attempt in range(2):
            bus = EventBus(self.clock)
            self._parts.append(bus)
            self.oracle = Oracle(self.venue, self.venue_ms() - setup.recovery_window_ms)
            bus.subscribe(BrokerEvent, self.oracle.hear)
            build = BybitSpotBroker if setup.category == "spot" else BybitLinearBroker
            made = self._call(
                "construction",
                functools.partial(
                    build,
                    self.transport,
                    bus,
                    self.clock,
                    poll_interval_ms=setup.poll_interval_ms,
                    recovery_window_ms=setup.recovery_window_ms,
                    poll_scheduler=self.scheduler,
                ),
                allowed=(ReconcileError,),
            )
            if not isinstance(made, BaseException):
                break
            if not self.transport.has_failed:
                raise Violation("exception", f"construction raised {made!r} though nothing failed")
            self.transport.clear_faults()
        else:
            raise Violation("exception", f"construction raised {made!r}")
        self.broker = made
        self._parts += (made, self.transport, self.oracle, *vars(made).values())

    # The bot's steps.

    def submit(self, shape: int, fate: str, frames: int) -> None:
        """Send one order."""
        request = self._request(shape)
        self._aim([fate], frames, is_early=bool(shape & 1024))
        submission = self._submission(request, fate)
        answer = self._call(
            "submit", lambda: self.broker.submit(request), allowed=(VenueUnavailableError, InvalidRequestError)
        )
        self._judge_submit(submission, answer)
        self._let_go()

    def resubmit(self, which: int, shape: int) -> None:
        """Send an order under an id that was used in an earlier session: the venue refuses it."""
        old = [name for name in self._used_ids if name not in self.oracle.submissions]
        if not old:
            return
        request = attrs.evolve(self._request(shape), client_order_id=old[which % len(old)])
        self._aim(["ok"], 0, is_early=False)
        submission = self._submission(request, "id_taken")
        answer = self._call("submit", lambda: self.broker.submit(request), allowed=(InvalidRequestError,))
        if isinstance(answer, InvalidRequestError):  # an order of that id was adopted
            del self.oracle.submissions[submission.client_order_id]
            return
        self._judge_submit(submission, answer)
        self._let_go()

    def submit_many(self, shape: int, fate: str, frames: int) -> None:
        """Send three orders in one request."""
        requests = [self._request(shape + 77 * number) for number in range(3)]
        self._aim([fate], frames, is_early=bool(shape & 1024))
        fates = [fate if fate != "refused" or number % 2 else "ok" for number in range(3)]
        submissions = [self._submission(request, one) for request, one in zip(requests, fates, strict=True)]
        answer = self._call(
            "submit_many",
            lambda: self.broker.submit_many(requests),
            allowed=(VenueUnavailableError, InvalidRequestError),
        )
        for number, submission in enumerate(submissions):
            self._judge_submit(submission, answer[number] if isinstance(answer, list) else answer)
        self._let_go()

    def cancel(self, which: int, fate: str, frames: int) -> None:
        """Cancel an order the broker believes open, or one that it knows as ended."""
        view = self._pick(which)
        if view is None:
            return
        self._aim([fate], frames, is_early=bool(which & 1024))
        self._count_intent(view, "cancels")
        call = functools.partial(self._by_id(self.broker.cancel, view))
        answer = self._call("cancel", call, allowed=(VenueUnavailableError,))
        self._judge_request("cancel", answer, fate)
        if isinstance(answer, SubmitAck) and answer.reject_reason.startswith("remembered"):
            self.transport.remembered.add(view.client_order_id)
            self.oracle.remembered.add(view.client_order_id)
        self._let_go()

    def cancel_all(self, include_external: int, fate: str, frames: int) -> None:
        """Cancel all that is believed open."""
        self._aim([fate], frames, is_early=False)
        for view in self.broker.open_orders():
            if include_external or not view.external:
                self._count_intent(view, "cancels")
        call = functools.partial(self.broker.cancel_all, include_external=bool(include_external))
        self._judge_request("cancel_all", self._call("cancel_all", call, allowed=(VenueUnavailableError,)), fate)
        self._let_go()

    def modify(self, which: int, change: int, fate: str, frames: int) -> None:
        """Ask for another price, another quantity, or both."""
        view = self._pick(which)
        if view is None or view.quantity is None or view.limit_price is None:
            return
        changes = OrderModification(
            new_quantity=view.quantity + 1 + change % 3 if change % 4 != 1 else None,
            new_limit_price=view.limit_price + 1 + change % 5 if change % 4 else None,
        )
        self._aim([fate], frames, is_early=bool(change & 1024))
        self._count_intent(view, "amends")
        call = functools.partial(self._by_id(self.broker.modify, view), changes=changes)
        answer = self._call("modify", call, allowed=(VenueUnavailableError, InvalidRequestError))
        if isinstance(answer, InvalidRequestError):
            self._count_intent(view, "amends", -1)
            if self.transport.fates and view.status.value not in ("SUBMITTING", "UNRESOLVED"):
                raise Violation("exception", f"modify of {view} raised {answer!r}")
        else:
            self._judge_request("modify", answer, fate)
        self._let_go()

    def reconcile(self) -> None:
        """Run a round, and when it was clean, compare what is believed at once."""
        begun_ms, is_clean = self._begin_round()
        report = self._call("reconcile", self.broker.reconcile)
        self._check()
        if is_clean and not isinstance(report, BaseException) and report.ok:
            self._end_round(begun_ms)

    def _begin_round(self) -> tuple[int, bool]:
        """When a round begins, and whether nothing waits to disturb it."""
        transport = self.transport
        transport.has_failed = False
        is_clean = not transport.read_faults_left and not transport.lagging_reads
        return self.venue_ms(), is_clean and transport.read_hook_at <= transport.reads

    def _end_round(self, begun_ms: int) -> None:
        if not self.transport.has_failed:
            self.oracle.compare(self.broker, self.transport.balances, is_final=False, begun_ms=begun_ms)

    def restart(self, down_ms: int) -> None:
        """End the program and start it again later."""
        self._call("close", self.broker.close)
        self._check()
        self.reached |= self.oracle.reached | self.transport.reached
        self.transport.close()
        self.scheduler.advance_ms(down_ms)
        self._used_ids.extend(self.oracle.submissions)
        self._start()

    # The venue's steps.

    def fill(self, which: int, quantity: int, frames: int) -> None:
        """Trade some or all of an order."""
        orders = [order for order in self.venue.orders if order.is_open and order.status != "Untriggered"]
        if not orders:
            return
        order = orders[which % len(orders)]
        left = order.quantity - order.cum
        self.transport.frame_fates = frames
        self.venue.fill(order, left if quantity & 1 else 1 + quantity % left, order_first=bool(quantity & 64))
        self.transport.pump()

    def end(self, which: int, how: int, frames: int) -> None:
        """Somebody else, or the venue, cancels an order."""
        orders = [order for order in self.venue.orders if order.is_open]
        if not orders:
            return
        self.transport.frame_fates = frames
        self.venue.cancel(orders[which % len(orders)], ("CancelByUser", "CancelByAdmin", "CancelByPrepareLiq")[how % 3])
        self.transport.pump()

    def outside(self, shape: int, frames: int) -> None:
        """Somebody else places an order on the account, with or without a link id, perhaps to trade at once."""
        self.transport.frame_fates = frames
        self.names += 1
        is_market = shape % 5 == 0
        self.venue.create(
            link_id=f"other{self.names}" if shape & 4 else "",
            symbol=SYMBOLS[shape & 1],
            side="Buy" if shape & 2 else "Sell",
            quantity=1 + shape % 7,
            price=0 if is_market else 95 + shape % 11,
            is_market=is_market,
        )
        self.transport.pump()

    def outside_amend(self, which: int, change: int, frames: int) -> None:
        """Somebody else amends an order, ours or not."""
        orders = [order for order in self.venue.orders if order.is_open]
        if not orders:
            return
        order = orders[which % len(orders)]
        self.transport.frame_fates = frames
        self.venue.amend(
            order,
            quantity=order.quantity + change % 3 if change % 2 else 0,
            price=order.price + 1 + change % 4 if change % 3 else 0,
        )
        self.transport.pump()

    def trigger(self, which: int, frames: int) -> None:
        """The market reaches the trigger of a conditional order."""
        orders = [order for order in self.venue.orders if order.status == "Untriggered"]
        if orders:
            self.transport.frame_fates = frames
            self.venue.trigger(orders[which % len(orders)])
            self.transport.pump()

    def deposit(self, coin: int, amount: int, frames: int) -> None:
        """Coins come or go."""
        coins = list(self.venue.balances)
        self.transport.frame_fates = frames
        self.venue.deposit(coins[coin % len(coins)], amount)
        self.transport.pump()

    def fund(self, which: int, frames: int) -> None:
        """Funding is charged."""
        self.transport.frame_fates = frames
        self.venue.fund(SYMBOLS[which & 1])
        self.transport.pump()

    # Faults of the stream, the reads and the clock.

    def deliver(self, which: int) -> None:
        """A frame that was held arrives, perhaps before older ones."""
        held = self.transport.held
        if held:
            place = which % len(held)
            topic, frame = held[place]
            del held[place]
            self.transport.deliver(topic, frame)

    def replay(self, which: int) -> None:
        """A frame arrives a second time."""
        delivered = self.transport.delivered
        if not delivered:
            return
        topic, frame = delivered[which % len(delivered)]
        if not 0 <= self.venue_ms() - frame["creationTime"] <= OLDEST_REPLAY_MS:
            return  # a date in the future counts as now, each time
        heard, before = len(self.oracle.heard), self._holdings()
        self.transport.deliver(topic, frame)
        is_ambiguous = any(
            one["creationTime"] == frame["creationTime"] and one is not frame
            for name, one in delivered
            if name == topic == "wallet"
        )
        if not is_ambiguous and (len(self.oracle.heard) > heard or self._holdings() != before):
            raise Violation("replay", f"a frame heard before taught {self.oracle.heard[heard:]}, {self._holdings()}")

    def disconnect(self) -> None:
        """The stream is lost."""
        if self.transport.is_connected:
            self._call("on_disconnect", self.transport.disconnect)

    def reconnect(self) -> None:
        """The stream is back."""
        if not self.transport.is_connected:
            begun_ms, is_clean = self._begin_round()
            answer = self._call("on_reconnect", self.transport.reconnect)
            self._check()
            if is_clean and answer is None:
                self._end_round(begun_ms)

    def odd_frame(self, kind: str, which: int) -> None:
        """A frame with something in it that is not in the documentation."""
        self.scheduler.advance_ms(1)
        made = odd.frame(self.venue, kind, which)
        if made is not None:
            self._call(f"a frame ({kind})", functools.partial(self.transport.deliver, *made))
        self.transport.pump()

    def read_fault(self, kind: int, path: str, count: int) -> None:
        """The next reads (of one path, or of all) fail."""
        self.transport.read_fault = READ_FAULTS[kind % len(READ_FAULTS)]
        self.transport.read_fault_path = path
        self.transport.read_faults_left = count

    def lag(self, lag_ms: int, count: int) -> None:
        """The next reads show an earlier time."""
        self.transport.lag_ms = lag_ms
        self.transport.lagging_reads = count

    def hide_fill(self, which: int, quantity: int, for_ms: int) -> None:
        """An order trades, its execution reaches no stream, and the execution list does not show it yet."""
        made = len(self.venue.executions)
        self.fill(which, quantity, HIDES_EXECUTION << (2 if quantity & 64 else 0))
        for execution in self.venue.executions[made:]:
            execution.hidden_until_ms = self.venue_ms() + for_ms

    def hide_order(self, for_ms: int) -> None:
        """No REST list shows the newest order yet (docs v5/order/open-order: a fresh order may be missing)."""
        if self.venue.orders:
            self.venue.orders[-1].hidden_until_ms = self.venue_ms() + for_ms

    def torn(self, after_reads: int, step: Step) -> None:
        """Something happens at the venue, or on the stream, between two reads."""
        transport = self.transport
        transport.read_hook_at = transport.reads + 1 + after_reads
        transport.read_hook = lambda: ACTIONS[step[0]](self, *step[2:])

    def step_clock(self, by_ms: int) -> None:
        """The host's wall clock jumps."""
        self.clock.step_wall_ms(by_ms)
        self.oracle.was_clock_stepped = True
        if by_ms & 1:
            self._call("on_gap", self.transport.notice_gap)

    def sleep(self, for_ms: int) -> None:
        """The host is suspended: time passes and nothing runs."""
        self.transport.disconnect()
        self.transport.arrive_all()
        self.clock.advance_ms(for_ms)

    def wake(self) -> None:
        """The host is awake again."""
        self._call("on_gap", self.transport.notice_gap)

    def wait(self, for_ms: int) -> None:
        """Time passes, timers run."""
        self.scheduler.advance_ms(for_ms)

    # The quiet after the schedule.

    def _calm_down(self) -> None:
        """Take the faults away and run rounds until all is settled; then what is believed must be the venue's books."""
        self.transport.clear_faults()
        if not self.transport.is_connected:
            self.reconnect()
            self._check()
        differed = 0
        for quiet, wait_ms in enumerate(QUIET_WAITS_MS):
            if wait_ms:
                self.scheduler.advance_ms(wait_ms)
            heard = len(self.oracle.heard)
            report = self._call("reconcile", self.broker.reconcile)
            self._check()
            if isinstance(report, BaseException) or not report.ok:
                raise Violation("round_failed", f"a quiet round: {report}")
            is_last = quiet == len(QUIET_WAITS_MS) - 1
            if not is_last and (report.unresolved or not self._is_settled()):
                continue
            try:
                self.oracle.compare(self.broker, self.transport.balances, is_final=True, begun_ms=self.venue_ms())
            except Violation:
                differed += 1
                if differed == MOST_DIFFERING_ROUNDS or is_last:
                    raise
            else:
                break
        if self.trace is not None:
            self.trace.append(f"{self.venue_ms() - START_MS:>8} ms  quiet rounds: {quiet + 1}")
        if quiet % 2:
            self._expect_silence(len(self.oracle.heard) - heard)

    def _expect_silence(self, told: int) -> None:
        """One more round, which has nothing to say about any order."""
        for _again in range(2 if told > 1 else 1):
            heard = len(self.oracle.heard)
            self._call("reconcile", self.broker.reconcile)
            self._check()
        news = [event for event in self.oracle.heard[heard:] if not isinstance(event, BalancesUpdated)]
        if news:
            raise Violation("restless", f"a round after two quiet ones told {news}")

    def _is_settled(self) -> bool:
        """True when the venue hides nothing any more and no request is still on its way."""
        now_ms = self.venue_ms()
        is_hiding = any(one.hidden_until_ms > now_ms - 1_000 for one in self.venue.executions[-8:])
        is_hiding = is_hiding or any(order.hidden_until_ms > now_ms - 1_000 for order in self.venue.orders[-8:])
        return not is_hiding and not self.transport.on_the_way

    # Helpers.

    def _holdings(self) -> tuple[Any, ...]:
        positions = self.broker.positions() if isinstance(self.broker, BybitLinearBroker) else None
        return self.transport.balances, positions

    def _request(self, shape: int) -> OrderRequest:
        self.names += 1
        name, symbol = f"own{self.names}", self.prefix + SYMBOLS[shape & 1]
        side = Side.BUY if shape & 2 else Side.SELL
        quantity, price = Decimal(1 + shape % 7), Decimal(95 + shape % 11)
        kind = shape >> 11
        if kind == 1:
            is_quote_sized = self.venue.is_spot and side is Side.BUY
            return MarketOrder(
                symbol=symbol,
                side=side,
                quantity=quantity * 100 + 50 if is_quote_sized else quantity,
                quote_sized=is_quote_sized,
                client_order_id=name,
            )
        if kind == 2:
            return StopLimitOrder(
                symbol=symbol,
                side=side,
                quantity=quantity,
                limit_price=price,
                stop_price=Decimal(110 if side is Side.BUY else 90),
                client_order_id=name,
            )
        return LimitOrder(symbol=symbol, side=side, quantity=quantity, limit_price=price, client_order_id=name)

    def _submission(self, request: OrderRequest, fate: str) -> Submission:
        name = str(request.client_order_id)
        symbol, side = request.symbol.removeprefix(self.prefix), request.side.value.capitalize()
        submission = self.oracle.submissions[name] = Submission(name, symbol, side, fate, self.venue)
        return submission

    def _judge_submit(self, submission: Submission, answer: SubmitAck | BaseException) -> None:
        name, fate = submission.client_order_id, submission.fate
        if isinstance(answer, BaseException):
            submission.was_interrupted = isinstance(answer, KeyboardInterrupt)
            submission.is_withdrawn = not submission.was_interrupted
            submission.is_unanswered = submission.was_interrupted
            if submission.is_withdrawn and fate not in ("unsent", "throttled"):
                raise Violation("exception", f"submit of {name} ({fate}) raised {answer!r}")
            return
        order = submission.order
        if answer.outcome is SubmitOutcome.ACCEPTED and order is None:
            older = self.venue.by_link.get(name)
            is_fresh = fate == "id_taken" and older is not None and submission.sent_ms - older.created_ms < 1_000
            law = "id_used_within_a_second" if is_fresh else "false_ack"
            raise Violation(law, f"{answer} and the venue has no such order")
        if answer.outcome is SubmitOutcome.REJECTED and order is not None and fate != "refused_but_stands":
            law = "false_ack_after_clock_step" if self.oracle.was_clock_stepped else "false_ack"
            raise Violation(law, f"{answer} and the venue has {order}")
        if answer.outcome is SubmitOutcome.UNKNOWN:
            submission.is_unanswered = True
            view = self.broker.order(name)
            if not view.is_unresolved and not (order is not None and self.oracle.record_of(order).is_accepted):
                raise Violation("untold_doubt", f"{answer} and the view says {view.status}")

    def _judge_request(self, what: str, answer: Any, fate: str) -> None:
        if isinstance(answer, VenueUnavailableError) and fate not in ("unsent", "throttled"):
            raise Violation("exception", f"{what} ({fate}) raised {answer!r}")

    def _aim(self, fates: list[str], frames: int, *, is_early: bool) -> None:
        self.transport.fates.extend(fates)
        self.transport.frame_fates = frames
        self.transport.are_frames_early = is_early

    def _let_go(self) -> None:
        self.transport.fates.clear()
        self.transport.pump()

    def _pick(self, which: int) -> OrderView | None:
        views = self.broker.open_orders()
        return views[which % len(views)] if views else None

    def _by_id(self, method: Callable[..., SubmitAck], view: OrderView) -> Callable[..., SubmitAck]:
        if view.client_order_id and not view.external:
            return functools.partial(method, view.client_order_id)
        return functools.partial(method, broker_order_id=view.broker_order_id)

    def _count_intent(self, view: OrderView, name: str, by: int = 1) -> None:
        order: VenueOrder | None = self.venue.by_id.get(view.broker_order_id)
        submission = self.oracle.submissions.get(view.client_order_id)
        record = self.oracle.record_of(order) if order is not None else submission and submission.record
        if record is not None:
            setattr(record, name, getattr(record, name) + by)


ACTIONS: dict[str, Callable[..., None]] = {
    name: member
    for name, member in vars(World).items()
    if isinstance(member, types.FunctionType) and not name.startswith("_") and name not in ("play", "venue_ms")
}


def _shown(event: BrokerEvent) -> str:
    """An event without its noise."""
    shown = attrs.asdict(event, recurse=False, filter=lambda attribute, value: value not in ("", None, False, -1))
    for name in ("timestamp", "sequence_id", "wallet"):
        shown.pop(name, None)
    return f"{type(event).__name__} " + " ".join(f"{name}={value}" for name, value in shown.items())
