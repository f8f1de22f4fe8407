"""Whatever is done to the paper broker, its books balance and its events keep their order."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from qkt.broker.paper.broker import PaperBroker
from qkt.bus import EventBus
from qkt.errors import InvalidRequestError
from qkt.events import FillEvent, OrderAccepted, OrderCancelled, OrderEvent, OrderFilled, OrderRejected
from qkt.model.orders import (
    IfTouchedOrder,
    LimitOrder,
    MarketOrder,
    OrderModification,
    Side,
    StopLimitOrder,
    StopOrder,
    TimeInForce,
)
from qkt.positions import PositionTracker

SYMBOL = "BYBIT_SPOT:BTCUSDT"
START = {"USDT": Decimal(200), "BTC": Decimal(3)}
TERMINAL = (OrderFilled, OrderCancelled, OrderRejected)

prices = st.integers(90, 110).map(Decimal)
sizes = st.integers(1, 40).map(lambda tenths: Decimal(tenths) / 10)
sides = st.sampled_from(Side)
common = {"symbol": st.just(SYMBOL), "side": sides, "quantity": sizes}
lifetimes = st.sampled_from([TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.POST_ONLY])

orders = st.one_of(
    st.builds(MarketOrder, **common, quote_sized=st.booleans()),
    st.builds(LimitOrder, **common, limit_price=prices, time_in_force=lifetimes),
    st.builds(StopOrder, **common, stop_price=prices),
    st.builds(StopLimitOrder, **common, stop_price=prices, limit_price=prices, time_in_force=lifetimes),
    st.builds(IfTouchedOrder, **common, trigger_price=prices, limit_price=st.none() | prices),
)
changes = st.builds(OrderModification, new_quantity=sizes, new_limit_price=st.none() | prices)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), orders),
        st.tuples(st.just("price"), prices, st.none() | sizes),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
        st.tuples(st.just("modify"), st.integers(0, 20), changes),
    ),
    max_size=40,
)


class Run:
    """A paper broker, put through some steps; what cannot be meant is refused and skipped."""

    def __init__(self, script: list[tuple[Any, ...]], **options: Any) -> None:
        self.heard: list[OrderEvent] = []
        self.offered = Decimal(0)
        self.is_unlimited = False
        bus = EventBus()
        bus.subscribe(OrderEvent, self.heard.append)
        self.tracker = PositionTracker()
        bus.subscribe(FillEvent, self.tracker.apply_fill)
        self.broker = PaperBroker(bus, **options)
        self.sent: list[Any] = []
        deeds: dict[str, Callable[..., object]] = {
            "submit": self.submit,
            "price": self.price,
            "cancel": lambda at: self.broker.cancel(self.sent[at].id),
            "modify": lambda at, new: self.broker.modify(self.sent[at].id, new),
        }
        for deed, *arguments in script:
            try:
                deeds[deed](*arguments)
            except (InvalidRequestError, IndexError):
                continue

    def submit(self, order: Any) -> None:
        self.sent.append(Sent(self.broker.submit(order).client_order_id, order))

    def price(self, price: Decimal, liquidity: Decimal | None) -> None:
        self.is_unlimited = self.is_unlimited or liquidity is None
        self.offered += liquidity or 0
        self.broker.on_price(SYMBOL, price, liquidity)

    def about(self, sent: Sent) -> list[OrderEvent]:
        return [event for event in self.heard if event.client_order_id == sent.id]

    @property
    def fills(self) -> list[FillEvent]:
        return [event for event in self.heard if isinstance(event, FillEvent) and event.quantity]


class Sent:
    def __init__(self, client_order_id: str, order: Any) -> None:
        self.id = client_order_id
        self.order = order


@settings(max_examples=80, deadline=None)
@given(script=steps)
def test_every_order_is_accepted_first_and_ends_at_most_once(script: Any) -> None:
    run = Run(script)
    for sent in run.sent:
        kinds = [type(event) for event in run.about(sent)]
        assert kinds[0] is OrderAccepted
        assert kinds.count(OrderAccepted) == 1
        ends = [kind for kind in kinds if kind in TERMINAL]
        assert len(ends) == (0 if run.broker.order(sent.id).is_open else 1)
        after = kinds[kinds.index(ends[0]) + 1 :] if ends else []
        assert all(not issubclass(kind, FillEvent | OrderCancelled) for kind in after)


@settings(max_examples=80, deadline=None)
@given(script=steps)
def test_nothing_trades_worse_than_its_limit_or_more_than_its_size(script: Any) -> None:
    run = Run(script)
    for sent in run.sent:
        view = run.broker.order(sent.id)
        fills = [event for event in run.about(sent) if isinstance(event, FillEvent) and event.quantity]
        total = sum((fill.quantity for fill in fills), Decimal(0))
        assert total == view.cum_quantity
        if view.quote_sized:
            assert sum(fill.quantity * fill.price for fill in fills) <= view.quantity  # type: ignore[operator]
        else:
            assert total <= view.quantity  # type: ignore[operator]
            assert (view.leaves_quantity == 0) or view.is_open
        limits = {getattr(sent.order, "limit_price", None), view.limit_price} - {None}
        if len(limits) == 1:  # never moved
            (limit,) = limits
            assert all((limit - fill.price) * fill.side.sign >= 0 for fill in fills)  # type: ignore[operator]


@settings(max_examples=80, deadline=None)
@given(script=steps)
def test_no_more_trades_than_was_offered(script: Any) -> None:
    run = Run(script)
    if not run.is_unlimited:
        assert sum(fill.quantity for fill in run.fills) <= run.offered


@settings(max_examples=80, deadline=None)
@given(script=steps)
def test_fill_or_kill_is_all_or_nothing_and_nothing_immediate_stays(script: Any) -> None:
    run = Run([("price", Decimal(100), None), *script])
    for sent in run.sent:
        view = run.broker.order(sent.id)
        is_limit = isinstance(sent.order, LimitOrder)
        if is_limit and sent.order.time_in_force is TimeInForce.FOK:
            assert view.cum_quantity in (0, view.quantity)
        if isinstance(sent.order, MarketOrder) or (
            is_limit and sent.order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
        ):
            assert not view.is_open


@settings(max_examples=80, deadline=None)
@given(script=steps, maker=st.sampled_from(["0", "0.001", "-0.0005"]))
def test_the_account_is_what_it_was_and_what_its_fills_moved(script: Any, maker: Any) -> None:
    rates = {"maker_fee_rate": Decimal(maker), "taker_fee_rate": Decimal("0.002")}
    run = Run(script, balances=START, **rates)
    expected = dict(START)
    for fill in run.fills:
        expected["BTC"] += fill.side.sign * fill.quantity
        expected["USDT"] -= fill.side.sign * fill.quantity * fill.price
        if fill.fee:
            expected[fill.fee_currency] -= fill.fee
    assert run.broker.balances == expected
    for coin in expected:
        assert expected[coin] >= 0
        held = run.broker.wallet[coin]
        assert held.locked is not None
        assert held.available is not None
        assert held.locked >= 0
        assert held.available >= 0


@settings(max_examples=100, deadline=None)
@given(script=steps)
def test_a_tracker_holds_what_the_account_gained(script: Any) -> None:
    run = Run(script, balances=START, taker_fee_rate=Decimal("0.001"), maker_fee_rate=Decimal("0.001"))
    held = run.tracker.position(SYMBOL)
    gained = run.broker.balances["BTC"] - START["BTC"]
    assert (held.quantity if held is not None else 0) == gained


@settings(max_examples=60, deadline=None)
@given(script=steps)
def test_the_open_orders_are_those_that_have_not_ended(script: Any) -> None:
    run = Run(script)
    ended = {event.client_order_id for event in run.heard if isinstance(event, TERMINAL)}
    assert {view.client_order_id for view in run.broker.open_orders()} == {sent.id for sent in run.sent} - ended
