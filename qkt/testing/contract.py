"""One contract for every broker: live, paper, log, composite, and the one you write.

`check_broker` asks a broker the questions a bot will ask it and raises AssertionError that names each promise it broke.
It needs no test framework; under pytest `broker_checks` gives one case per promise::

    check_broker(lambda bus: MyBroker(bus, url=stub.url), symbol="ACME:GOLD", trade=stub.fill)

    @pytest.mark.parametrize("check", broker_checks(lambda bus: MyBroker(bus)), ids=str)
    def test_my_broker_keeps_the_contract(check):
        check()

Every check builds a broker of its own on a bus of its own, uses it only through `qkt.broker.protocol.BasicBroker` and
the events on that bus, and closes it. Nothing here waits longer than ``patience_ms`` for an event.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any, NoReturn, TypeVar

import attrs

from qkt.broker.protocol import BasicBroker, OrderTypeCapability, SubmitAck, SubmitOutcome
from qkt.bus import EventBus
from qkt.clock import SystemClock
from qkt.errors import InvalidRequestError, QktError, WaitTimeoutError
from qkt.events import (
    BrokerEvent,
    FillEvent,
    OrderAccepted,
    OrderCancelled,
    OrderEvent,
    OrderFilled,
    OrderModified,
    OrderRejected,
)
from qkt.ids import MAX_CLIENT_ORDER_ID_LENGTH, new_client_order_id
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderRequest,
    OrderView,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)

E = TypeVar("E", bound=BrokerEvent)

_TERMINAL = (OrderFilled, OrderCancelled, OrderRejected)
_POLL_MS = 10


@attrs.frozen(kw_only=True)
class Bench:
    """How to build the broker under test, and what it needs to be asked sensible things.

    Args:
        make_broker: builds a fresh broker on the given bus.
        symbol: one it serves.
        unserved_symbol: one it does not serve; None if it serves all.
        resting_price: a buy limit here is accepted and does not trade.
        far_price: a price the market is nowhere near and below; by default ten times ``resting_price``.
        quantity: what to order, in base coin.
        trade: ``trade(broker, client_order_id)`` makes the venue fill that order completely; None if it never fills.
        settle: ``settle(broker)`` lets the venue's answers arrive, where nothing else does (a fake's frames).
        patience_ms: how long an event may take.
        terms: fields that every order is given, e.g. ``{"position_side": PositionSide.LONG}`` in hedge mode.
    """

    make_broker: Callable[[EventBus], BasicBroker]
    symbol: str = "BYBIT_SPOT:BTCUSDT"
    unserved_symbol: str | None = None
    resting_price: Decimal = Decimal(10_000)
    far_price: Decimal | None = None
    quantity: Decimal = Decimal("0.01")
    trade: Callable[[Any, str], object] | None = None
    settle: Callable[[Any], object] | None = None
    patience_ms: int = 2_000
    terms: Mapping[str, Any] = attrs.field(factory=dict)

    def limit_order(self, client_order_id: str | None = None, **terms: Any) -> LimitOrder:
        """A buy that rests."""
        given: dict[str, Any] = {"limit_price": self.resting_price, "quantity": self.quantity, **self.terms} | terms
        return LimitOrder(symbol=self.symbol, side=Side.BUY, client_order_id=client_order_id, **given)


class Session:
    """One broker, everything heard of it, and ways to ask that wait for the answer."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.bus: EventBus = EventBus()
        self.heard: list[BrokerEvent] = []
        self.bus.subscribe(BrokerEvent, self.heard.append)
        self.broker: BasicBroker = bench.make_broker(self.bus)

    def submit(self, order: OrderRequest) -> SubmitAck:
        """Submit, and wait until the order is announced."""
        ack = self.broker.submit(order)
        _expect(isinstance(ack, SubmitAck), f"submit returned {ack!r}, not a SubmitAck")
        if ack.outcome is not SubmitOutcome.REJECTED:
            self.hear(ack.client_order_id, OrderEvent)
        return ack

    def rest(self) -> SubmitAck:
        """A resting order, announced."""
        ack = self.submit(self.bench.limit_order())
        _expect(ack.accepted, f"a plain limit order was not accepted: {ack!r}")
        self.hear(ack.client_order_id, OrderAccepted)
        return ack

    def about(self, client_order_id: str) -> list[OrderEvent]:
        """What was heard of one order."""
        return [
            event
            for event in list(self.heard)
            if isinstance(event, OrderEvent) and event.client_order_id == client_order_id
        ]

    def hear(self, client_order_id: str, kind: type[E]) -> E:
        """The first event of ``kind`` about an order; fails when none comes."""

        def found() -> E | None:
            return next((event for event in self.about(client_order_id) if isinstance(event, kind)), None)

        self.until(lambda: found() is not None)
        event = found()
        if event is None:
            heard = [type(other).__name__ for other in self.about(client_order_id)] or "nothing"
            _fail(f"no {kind.__name__} for {client_order_id} within {self.bench.patience_ms} ms; heard {heard}")
        return event

    def until(self, is_so: Callable[[], bool]) -> bool:
        """Wait for something, letting the venue's answers arrive; returns whether it came."""
        clock = SystemClock()
        give_up_ms = clock.monotonic_ms() + self.bench.patience_ms
        pause = threading.Event()
        while not is_so():
            if self.bench.settle is not None:
                self.bench.settle(self.broker)
                if is_so():
                    return True
            if clock.monotonic_ms() >= give_up_ms:
                return False
            pause.wait(_POLL_MS / 1000)
        return True

    def view(self, client_order_id: str) -> OrderView | None:
        """The order among the open ones."""
        return next((view for view in self.broker.open_orders() if view.client_order_id == client_order_id), None)

    def in_time(self, act: Callable[[], object]) -> bool:
        """Do something on another thread; False when it is still not done long after it should be."""
        worker = threading.Thread(target=act, name="contract-check", daemon=True)
        worker.start()
        worker.join(timeout=2 * self.bench.patience_ms / 1000)
        return not worker.is_alive()

    def end(self) -> None:
        """Leave nothing behind at a venue that outlives the check; a broker that hangs is left hanging."""
        self.in_time(self._clean_up)

    def _clean_up(self) -> None:
        with suppress(Exception):
            for view in self.broker.open_orders():
                if not view.external:
                    self.broker.cancel(view.client_order_id)
        with suppress(Exception):
            self.broker.close()


@attrs.frozen
class BrokerCheck:
    """One promise, to be called. It raises AssertionError when the broker breaks it."""

    promise: str
    bench: Bench
    _check: Callable[[Session], None]

    def __call__(self) -> None:
        try:
            session = Session(self.bench)
            try:
                self._check(session)
            finally:
                session.end()
        except AssertionError:
            raise
        except Exception as error:
            raise AssertionError(f"it raised {type(error).__name__}: {error}") from error

    def __str__(self) -> str:
        return self.promise.replace(" ", "-")


def check_broker(make_broker: Callable[[EventBus], BasicBroker], **bench: Any) -> tuple[str, ...]:
    """Hold a broker to the contract; returns the promises it keeps.

    The keywords are those of `Bench`: ``symbol``, ``trade``, ``settle``, ``resting_price`` and so on. Raises one
    AssertionError that lists every broken promise and how it was broken.
    """
    checks = broker_checks(make_broker, **bench)
    broken: list[tuple[str, AssertionError]] = []
    for check in checks:
        try:
            check()
        except AssertionError as error:
            broken.append((check.promise, error))
    if broken:
        listed = "".join(f"\n- {promise}: {error}" for promise, error in broken)
        raise AssertionError(f"the broker breaks {len(broken)} of {len(checks)} promises:{listed}") from broken[0][1]
    return tuple(check.promise for check in checks)


def broker_checks(make_broker: Callable[[EventBus], BasicBroker], **bench: Any) -> list[BrokerCheck]:
    """The contract as a list of cases, for ``pytest.mark.parametrize``. Keywords as in `check_broker`.

    Without ``trade`` the checks about fills are left out, without ``unserved_symbol`` those about symbols not served.
    """
    settings = Bench(make_broker=make_broker, **bench)
    return [
        BrokerCheck(promise, settings, check)
        for promise, check in _CHECKS.items()
        if not (check in _NEED_TRADE and settings.trade is None)
        and not (check in _NEED_UNSERVED and settings.unserved_symbol is None)
    ]


_CHECKS: dict[str, Callable[[Session], None]] = {}
_NEED_TRADE: set[Callable[[Session], None]] = set()
_NEED_UNSERVED: set[Callable[[Session], None]] = set()


def _promise(text: str) -> Callable[[Callable[[Session], None]], Callable[[Session], None]]:
    def keep(check: Callable[[Session], None]) -> Callable[[Session], None]:
        _CHECKS[text] = check
        return check

    return keep


def _expect(is_so: bool, otherwise: str) -> None:
    if not is_so:
        _fail(otherwise)


def _fail(message: str) -> NoReturn:
    raise AssertionError(message)


@contextmanager
def _refused(what: str, kind: type[Exception] = InvalidRequestError) -> Iterator[None]:
    try:
        yield
    except kind as error:
        _expect(bool(str(error)), f"{what} was refused without a message")
        return
    except Exception as error:  # noqa: BLE001 - any other error is the wrong one
        _fail(f"{what} raised {type(error).__name__} ({error}), not {kind.__name__}")
    _fail(f"{what} was not refused with {kind.__name__}")


@contextmanager
def _nothing_happens(session: Session) -> Iterator[None]:
    """What is refused leaves no event and no order."""
    heard, before = len(session.heard), _open_ids(session)
    yield
    said = [repr(event) for event in session.heard[heard:] if isinstance(event, OrderEvent)]
    _expect(not said, f"a refused call caused events: {said}")
    _expect(_open_ids(session) == before, "a refused call changed the open orders")


def _open_ids(session: Session) -> list[tuple[str, str]]:
    return [(view.client_order_id, view.broker_order_id) for view in session.broker.open_orders()]


@_promise("has every member of the Broker protocol and a name")
def _is_a_broker(session: Session) -> None:
    missing = [name for name in _MEMBERS if not hasattr(session.broker, name)]
    _expect(not missing, f"it lacks {', '.join(missing)}")
    _expect(isinstance(session.broker.name, str) and bool(session.broker.name), "its name must be text")


_MEMBERS = (
    *("name", "submit", "cancel", "modify", "open_orders", "capabilities_for", "supports", "close"),
    *("__enter__", "__exit__"),
)


@_promise("serves its symbol and says what it can do on it")
def _serves(session: Session) -> None:
    able = session.broker.capabilities_for(session.bench.symbol)
    _expect(session.broker.supports(session.bench.symbol) is True, f"supports({session.bench.symbol!r}) is not True")
    _expect(isinstance(able, frozenset), f"capabilities_for returned {type(able).__name__}, not a frozenset")
    _expect(all(isinstance(each, OrderTypeCapability) for each in able), f"not OrderTypeCapability: {able}")
    _expect(OrderTypeCapability.LIMIT in able, "a broker without LIMIT cannot be checked")


@_promise("claims nothing on a symbol it does not serve and refuses orders for it")
def _does_not_serve(session: Session) -> None:
    unserved = session.bench.unserved_symbol or ""
    _expect(session.broker.supports(unserved) is False, f"supports({unserved!r}) is not False")
    _expect(not session.broker.capabilities_for(unserved), f"it claims capabilities on {unserved!r}")
    with _nothing_happens(session), _refused(f"an order for {unserved!r}"):
        session.broker.submit(attrs.evolve(session.bench.limit_order(), symbol=unserved))


_NEED_UNSERVED.add(_does_not_serve)


@_promise("takes every kind of order it claims and refuses the others")
def _capabilities_are_true(session: Session) -> None:
    able = session.broker.capabilities_for(session.bench.symbol)
    for capability, order in _samples(session.bench).items():
        if capability in able:
            ack = session.broker.submit(order)
            _expect(isinstance(ack, SubmitAck), f"{capability.name} is claimed and gave {ack!r}")
        else:
            with _nothing_happens(session), _refused(f"{capability.name}, which is not claimed,"):
                session.broker.submit(order)


def _samples(bench: Bench) -> dict[OrderTypeCapability, OrderRequest]:
    """An order that needs each capability and no other but its own type."""
    near, far = bench.resting_price, bench.far_price or bench.resting_price * 10
    common: dict[str, Any] = {"symbol": bench.symbol, "side": Side.BUY, "quantity": bench.quantity, **bench.terms}
    worth = {**common, "quantity": bench.quantity * near}
    return {
        OrderTypeCapability.LIMIT: bench.limit_order(),
        OrderTypeCapability.POST_ONLY: bench.limit_order(time_in_force=TimeInForce.POST_ONLY),
        OrderTypeCapability.BRACKET: bench.limit_order(take_profit=far, stop_loss=near / 2),
        OrderTypeCapability.MARKET: MarketOrder(**common),
        OrderTypeCapability.QUOTE_SIZED: MarketOrder(**worth, quote_sized=True),
        OrderTypeCapability.STOP: StopOrder(**common, stop_price=far),
        OrderTypeCapability.STOP_LIMIT: StopLimitOrder(**common, stop_price=far, limit_price=far),
        OrderTypeCapability.IF_TOUCHED: IfTouchedOrder(**common, trigger_price=near),
    }


@_promise("answers a submit with an ack and shows the order among the open ones")
def _submits(session: Session) -> None:
    ack = session.rest()
    view = session.view(ack.client_order_id)
    if view is None:
        _fail("the order is not among open_orders()")
    shown = (view.symbol, view.side, view.quantity, view.limit_price, view.is_open, view.external)
    asked = (session.bench.symbol, Side.BUY, session.bench.quantity, session.bench.resting_price, True, False)
    _expect(shown == asked, f"asked for {asked}, open_orders() shows {shown}")


@_promise("names an order that has no client order id, never twice the same")
def _generates_ids(session: Session) -> None:
    ids = [session.rest().client_order_id for _ in range(3)]
    _expect(len(set(ids)) == 3, f"generated ids repeat: {ids}")
    for each in ids:
        _expect(0 < len(each) <= MAX_CLIENT_ORDER_ID_LENGTH, f"a venue takes 1 to 36 characters, not {each!r}")


@_promise("keeps the client order id it is given")
def _keeps_ids(session: Session) -> None:
    mine = new_client_order_id()
    ack = session.submit(session.bench.limit_order(mine))
    _expect(ack.client_order_id == mine, f"the ack names {ack.client_order_id!r}, not {mine!r}")
    _expect(session.view(mine) is not None, "open_orders() does not show it by that id")


@_promise("refuses a client order id that was used before, and sends nothing")
def _refuses_reuse(session: Session) -> None:
    ack = session.rest()
    with _nothing_happens(session), _refused("a reused client_order_id"):
        session.broker.submit(session.bench.limit_order(ack.client_order_id))
    session.broker.cancel(ack.client_order_id)
    session.hear(ack.client_order_id, OrderCancelled)
    with _nothing_happens(session), _refused("the client_order_id of a closed order"):
        session.broker.submit(session.bench.limit_order(ack.client_order_id))


@_promise("refuses what is not an order or a modification, and sends nothing")
def _refuses_junk(session: Session) -> None:
    ack = session.rest()
    broker: Any = session.broker
    for junk in (None, {"symbol": session.bench.symbol}, "BUY"):
        with _nothing_happens(session), _refused(f"submit({junk!r})"):
            broker.submit(junk)
    with _nothing_happens(session), _refused("modify with a dict"):
        broker.modify(ack.client_order_id, {"new_quantity": 1})


@_promise("announces an order once, before anything else about it")
def _accepts_first(session: Session) -> None:
    ack = session.rest()
    session.broker.cancel(ack.client_order_id)
    session.hear(ack.client_order_id, OrderCancelled)
    events = session.about(ack.client_order_id)
    accepted = [event for event in events if isinstance(event, OrderAccepted)]
    _expect(len(accepted) == 1, f"OrderAccepted came {len(accepted)} times")
    _expect(events[0] is accepted[0], f"{type(events[0]).__name__} came before OrderAccepted")
    _expect(accepted[0].symbol == session.bench.symbol, f"OrderAccepted names symbol {accepted[0].symbol!r}")
    _expect(not accepted[0].external, "our own order is announced as external")
    _expect(bool(accepted[0].broker_order_id), "OrderAccepted carries no broker_order_id")


@_promise("ends a cancelled order with one OrderCancelled, by either id")
def _cancels(session: Session) -> None:
    for by_broker_id in (False, True):
        ack = session.rest()
        accepted = session.hear(ack.client_order_id, OrderAccepted)
        if by_broker_id:
            answer = session.broker.cancel(broker_order_id=accepted.broker_order_id)
        else:
            answer = session.broker.cancel(ack.client_order_id)
        _expect(isinstance(answer, SubmitAck), f"cancel returned {answer!r}, not a SubmitAck")
        _expect(answer.outcome is not SubmitOutcome.REJECTED, f"the cancel of a resting order was rejected: {answer!r}")
        session.hear(ack.client_order_id, OrderCancelled)
        _expect_one_terminal(session, ack.client_order_id)
        _expect(session.view(ack.client_order_id) is None, "a cancelled order is still among open_orders()")


@_promise("does not end a closed order a second time")
def _cancels_once(session: Session) -> None:
    ack = session.rest()
    session.broker.cancel(ack.client_order_id)
    session.hear(ack.client_order_id, OrderCancelled)
    answer = session.broker.cancel(ack.client_order_id)
    _expect(not answer.accepted, "the cancel of a closed order was accepted")
    _expect_one_terminal(session, ack.client_order_id)


def _expect_one_terminal(session: Session, client_order_id: str) -> None:
    ends = [type(event).__name__ for event in session.about(client_order_id) if isinstance(event, _TERMINAL)]
    _expect(len(ends) == 1, f"an order ends once, heard {ends}")


@_promise("refuses an id it does not know")
def _refuses_unknown_ids(session: Session) -> None:
    with _nothing_happens(session):
        with _refused("cancel of an unknown client_order_id"):
            session.broker.cancel("qkt-nobody-0")
        with _refused("cancel of an unknown broker_order_id"):
            session.broker.cancel(broker_order_id="qkt-nobody-0")
        with _refused("modify of an unknown client_order_id"):
            session.broker.modify("qkt-nobody-0", OrderModification(new_quantity=session.bench.quantity))


@_promise("cancels by exactly one id")
def _cancels_by_one_id(session: Session) -> None:
    ack = session.rest()
    with _nothing_happens(session):
        with _refused("cancel() without an id"):
            session.broker.cancel()
        with _refused("cancel() with both ids"):
            session.broker.cancel(ack.client_order_id, broker_order_id="x")


@_promise("modifies an order and tells the new terms, if it claims MODIFY")
def _modifies(session: Session) -> None:
    ack = session.rest()
    lower = session.bench.resting_price - 1
    changes = OrderModification(new_limit_price=lower, new_quantity=session.bench.quantity * 2)
    if OrderTypeCapability.MODIFY not in session.broker.capabilities_for(session.bench.symbol):
        with _nothing_happens(session), _refused("MODIFY, which is not claimed,"):
            session.broker.modify(ack.client_order_id, changes)
        return
    answer = session.broker.modify(ack.client_order_id, changes)
    _expect(answer.outcome is not SubmitOutcome.REJECTED, f"the change of a resting order was rejected: {answer!r}")
    told = session.hear(ack.client_order_id, OrderModified)
    _expect(
        (told.new_limit_price, told.new_quantity) == (lower, session.bench.quantity * 2),
        f"OrderModified tells {told.new_quantity} @ {told.new_limit_price}, not {session.bench.quantity * 2} @ {lower}",
    )
    view = session.view(ack.client_order_id)
    _expect(view is not None and view.limit_price == lower, "open_orders() does not show the new price")


@_promise("submits and cancels several at once, all or none of them, if it claims BATCH")
def _batches(session: Session) -> None:
    if OrderTypeCapability.BATCH not in session.broker.capabilities_for(session.bench.symbol):
        return
    broker: Any = session.broker
    missing = [name for name in ("submit_many", "cancel_many") if not hasattr(broker, name)]
    _expect(not missing, f"BATCH is claimed and {', '.join(missing)} missing")
    good = session.bench.limit_order(new_client_order_id())
    with _nothing_happens(session):
        with _refused("a batch with something that is not an order"):
            broker.submit_many([good, None])
        with _refused("a batch with the same client_order_id twice"):
            broker.submit_many([good, good])
    ids = [new_client_order_id() for _ in range(3)]
    acks = broker.submit_many([session.bench.limit_order(each) for each in ids])
    _expect([ack.client_order_id for ack in acks] == ids, f"the acks of a batch are not in the order given: {acks}")
    for each in ids:
        session.hear(each, OrderAccepted)
    with _nothing_happens(session), _refused("a batch of cancels with an unknown id"):
        broker.cancel_many([ids[0], "qkt-nobody-0"])
    done = broker.cancel_many(ids[::-1])
    _expect(
        [ack.client_order_id for ack in done] == ids[::-1], f"the acks of cancels are not in the order given: {done}"
    )
    for each in ids:
        session.hear(each, OrderCancelled)
        _expect_one_terminal(session, each)


@_promise("answers order() and wait() about an order, where it has them")
def _answers(session: Session) -> None:
    broker: Any = session.broker
    ack = session.rest()
    if hasattr(broker, "order"):
        shown = broker.order(ack.client_order_id)
        _expect(shown == session.view(ack.client_order_id), "order() and open_orders() disagree about an order")
        with _refused("order() of an unknown id"):
            broker.order("qkt-nobody-0")
    if hasattr(broker, "wait"):
        broker.wait(ack.client_order_id, until="accepted", timeout_ms=session.bench.patience_ms)
        with _refused("wait() of an unknown id"):
            broker.wait("qkt-nobody-0", timeout_ms=0)
        with _refused("wait() for the end of a resting order", WaitTimeoutError):
            broker.wait(ack.client_order_id, until="closed", timeout_ms=0)
        broker.cancel(ack.client_order_id)
        session.hear(ack.client_order_id, OrderCancelled)
        ended = broker.wait(ack.client_order_id, until="closed", timeout_ms=session.bench.patience_ms)
        _expect(not ended.is_open, "wait() for the end returned an open order")


@_promise("tells each execution once and the end last, and they add up")
def _fills(session: Session) -> None:
    ack = session.rest()
    assert session.bench.trade is not None
    session.bench.trade(session.broker, ack.client_order_id)
    session.hear(ack.client_order_id, OrderFilled)
    events = session.about(ack.client_order_id)
    fills = [event for event in events if isinstance(event, FillEvent) and event.quantity]
    _expect(isinstance(events[0], OrderAccepted), f"{type(events[0]).__name__} came before OrderAccepted")
    _expect(isinstance(events[-1], OrderFilled), f"{type(events[-1]).__name__} came after OrderFilled")
    _expect_one_terminal(session, ack.client_order_id)
    ids = [fill.exec_id for fill in fills]
    _expect(all(ids) and len(set(ids)) == len(ids), f"executions need an id each, once: {ids}")
    total = sum((fill.quantity for fill in fills), Decimal(0))
    _expect(total == session.bench.quantity, f"{session.bench.quantity} ordered and filled, {total} told")
    _expect(
        all(fill.side is Side.BUY and fill.symbol == session.bench.symbol for fill in fills), "side or symbol is off"
    )
    sums = [fill.cum_quantity for fill in fills]
    _expect(sums == sorted(sums) and sums[-1] == total, f"cum_quantity does not run up to {total}: {sums}")
    _expect(session.view(ack.client_order_id) is None, "a filled order is still among open_orders()")


_NEED_TRADE.add(_fills)


@_promise("refuses to cancel a filled order and leaves it filled")
def _cancels_too_late(session: Session) -> None:
    ack = session.rest()
    assert session.bench.trade is not None
    session.bench.trade(session.broker, ack.client_order_id)
    session.hear(ack.client_order_id, OrderFilled)
    _expect(not session.broker.cancel(ack.client_order_id).accepted, "the cancel of a filled order was accepted")
    _expect_one_terminal(session, ack.client_order_id)


_NEED_TRADE.add(_cancels_too_late)


@_promise("stamps events in one order")
def _stamps(session: Session) -> None:
    session.rest()
    session.rest()
    numbers = [event.sequence_id for event in session.heard]
    _expect(numbers == sorted(set(numbers)) and numbers[0] > 0, f"sequence_id does not grow: {numbers}")
    _expect(all(event.timestamp > 0 for event in session.heard), "an event has no timestamp")


@_promise("lets a handler submit and cancel")
def _handlers_may_act(session: Session) -> None:
    sent: list[str] = []

    def act(event: OrderAccepted) -> None:
        if not sent:
            sent.append(new_client_order_id())
            session.broker.submit(session.bench.limit_order(sent[0]))
            session.broker.cancel(event.client_order_id)

    session.bus.subscribe(OrderAccepted, act)
    first = new_client_order_id()
    is_done = session.in_time(lambda: session.broker.submit(session.bench.limit_order(first)))
    _expect(is_done, "a handler that calls the broker blocks it for good")
    session.hear(first, OrderCancelled)
    session.hear(sent[0], OrderAccepted)


@_promise("closes more than once")
def _closes_twice(session: Session) -> None:
    session.broker.close()
    session.broker.close()


@_promise("refuses requests after close, and says nothing more")
def _is_closed_for_good(session: Session) -> None:
    ack = session.rest()
    session.broker.close()
    heard = len(session.heard)
    with _refused("submit after close", QktError):
        session.broker.submit(session.bench.limit_order())
    with _refused("cancel after close", QktError):
        session.broker.cancel(ack.client_order_id)
    with _refused("modify after close", QktError):
        session.broker.modify(ack.client_order_id, OrderModification(new_quantity=session.bench.quantity * 2))
    _expect(len(session.heard) == heard, f"events came after close: {session.heard[heard:]}")


@_promise("lets a handler close it")
def _handler_may_close(session: Session) -> None:
    session.bus.subscribe(OrderAccepted, lambda _event: session.broker.close())
    is_done = session.in_time(lambda: session.broker.submit(session.bench.limit_order()))
    was_heard = session.until(lambda: any(isinstance(event, OrderAccepted) for event in session.heard))
    _expect(is_done and was_heard, "a handler that closes the broker blocks it for good")


@_promise("is a context manager that closes it")
def _is_a_context_manager(session: Session) -> None:
    with session.broker as entered:
        _expect(entered is session.broker, f"`with broker as x` gives {entered!r}, not the broker")
    with _refused("submit after the with block", QktError):
        session.broker.submit(session.bench.limit_order())


@_promise("has a repr that tells what it is doing")
def _has_a_repr(session: Session) -> None:
    shown = repr(session.broker)
    _expect(session.broker.name in shown, f"the name {session.broker.name!r} is not in {shown}")
    _expect(" object at 0x" not in shown, f"{shown} tells nothing")
    session.broker.close()
    _expect(repr(session.broker) != shown, f"the repr does not tell that it is closed: {shown}")


BROKER_PROMISES: Sequence[str] = tuple(_CHECKS)
