"""CompositeBroker: a symbol decides who trades it, an id decides who answers for it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from qkt.broker.composite import CompositeBroker
from qkt.broker.paper.broker import PaperBroker
from qkt.broker.paper.dry_run import LogBroker
from qkt.broker.protocol import Broker, OrderTypeCapability, SubmitAck, SubmitOutcome
from qkt.broker.symbol_pattern import SymbolPattern
from qkt.bus import EventBus
from qkt.errors import InvalidRequestError, VenueUnavailableError
from qkt.events import OrderAccepted, OrderCancelled, OrderEvent, OrderFilled
from qkt.model.instruments import InstrumentRules
from qkt.model.orders import (
    LimitOrder,
    MarketOrder,
    OrderModification,
    OrderRequest,
    OrderStatus,
    OrderType,
    OrderView,
    Side,
)

SPOT, PAPER, OTHER = "BYBIT_SPOT:BTCUSDT", "PAPER:BTCUSDT", "ACME:GOLD"


def a_limit(symbol: str, client_order_id: str | None = None, price: str = "100") -> LimitOrder:
    return LimitOrder(
        symbol=symbol, side=Side.BUY, quantity=Decimal(1), limit_price=Decimal(price), client_order_id=client_order_id
    )


def a_view(client_order_id: str, broker_order_id: str) -> OrderView:
    return OrderView(
        client_order_id=client_order_id,
        broker_order_id=broker_order_id,
        symbol=SPOT,
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force="GTC",
        quantity=Decimal(1),
        limit_price=Decimal(1),
        stop_price=None,
        status=OrderStatus.NEW,
        venue_status="New",
        is_open=True,
        is_unresolved=False,
        external=True,
    )


class BareBroker:
    """The protocol and nothing more; remembers what it was asked."""

    def __init__(self, name: str, *, open_orders: Sequence[OrderView] = (), fails: Exception | None = None) -> None:
        self.name = name
        self.asked: list[tuple[Any, ...]] = []
        self._open = list(open_orders)
        self._fails = fails

    def _ack(self, *asked: Any) -> SubmitAck:
        self.asked.append(asked)
        if self._fails is not None:
            raise self._fails
        return SubmitAck(client_order_id=str(asked[1]), outcome=SubmitOutcome.ACCEPTED)

    def submit(self, request: OrderRequest) -> SubmitAck:
        return self._ack("submit", request.client_order_id)

    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        return self._ack("cancel", client_order_id, broker_order_id)

    def modify(self, client_order_id: str, changes: OrderModification, **ids: Any) -> SubmitAck:
        return self._ack("modify", client_order_id)

    def open_orders(self) -> Sequence[OrderView]:
        return self._open

    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        return frozenset({OrderTypeCapability.LIMIT})

    def supports(self, symbol: str) -> bool:
        return True

    def close(self) -> None:
        self.asked.append(("close",))
        if self._fails is not None:
            raise self._fails

    def __enter__(self) -> BareBroker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Desk:
    """Paper for two families of symbols, the log for the rest, one bus."""

    def __init__(self) -> None:
        self.heard: list[OrderEvent] = []
        self.bus = EventBus()
        self.bus.subscribe(OrderEvent, self.heard.append)
        self.spot = PaperBroker(self.bus, name="SPOT")
        self.paper = PaperBroker(self.bus)
        self.log = LogBroker(self.bus)
        self.broker = CompositeBroker(
            routes=[(SymbolPattern.prefix("BYBIT_SPOT:"), self.spot), (SymbolPattern.prefix("PAPER:"), self.paper)],
            fallback=self.log,
        )


@pytest.fixture
def desk() -> Desk:
    return Desk()


def of(*leaves: Any, fallback: Any = None) -> CompositeBroker:
    return CompositeBroker([(SymbolPattern.exact(leaf.name), leaf) for leaf in leaves], fallback)


# -- patterns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "takes", "leaves", "text"),
    [
        (SymbolPattern.prefix("BYBIT_SPOT:"), SPOT, "BYBIT_LINEAR:BTCUSDT", "BYBIT_SPOT:*"),
        (SymbolPattern.prefix("A*"), "A*B", "AAB", "A**"),
        (SymbolPattern.exact(SPOT), SPOT, SPOT + "X", SPOT),
        (SymbolPattern.prefix("bybit"), "bybit:x", "BYBIT:x", "bybit*"),
    ],
)
def test_a_pattern_takes_what_it_says_and_case_matters(pattern: Any, takes: Any, leaves: Any, text: Any) -> None:
    assert pattern.matches(takes)
    assert not pattern.matches(leaves)
    assert str(pattern) == text


def test_the_pattern_any_takes_everything() -> None:
    assert SymbolPattern.any().matches("whatever")


def test_patterns_with_the_same_meaning_are_equal() -> None:
    assert SymbolPattern.prefix("A:") == SymbolPattern.prefix("A:") != SymbolPattern.exact("A:")


@pytest.mark.parametrize("text", ["", None, 7])
def test_a_pattern_of_nothing_is_refused(text: Any) -> None:
    with pytest.raises(InvalidRequestError, match="symbol pattern is text"):
        SymbolPattern.prefix(text)


# -- routing ---------------------------------------------------------------------------------------------------------


def test_it_is_a_broker(desk: Any) -> None:
    checked: Broker = desk.broker
    assert isinstance(checked, Broker)


def test_each_symbol_goes_to_its_route_and_the_rest_to_the_fallback(desk: Any) -> None:
    for symbol in (SPOT, PAPER, OTHER):
        desk.broker.submit(a_limit(symbol))
    assert [[view.symbol for view in leaf.open_orders()] for leaf in (desk.spot, desk.paper, desk.log)] == [
        [SPOT],
        [PAPER],
        [OTHER],
    ]


def test_the_first_route_that_matches_wins() -> None:
    first, second = BareBroker("first"), BareBroker("second")
    broker = CompositeBroker([(SymbolPattern.exact(SPOT), first), (SymbolPattern.any(), second)])  # type: ignore[list-item]
    broker.submit(a_limit(SPOT))
    broker.submit(a_limit(PAPER))
    assert (len(first.asked), len(second.asked)) == (1, 1)


def test_a_symbol_nobody_takes_is_refused_with_the_routes() -> None:
    broker = CompositeBroker(
        [(SymbolPattern.prefix("A:"), BareBroker("a")), (SymbolPattern.prefix("B:"), BareBroker("b"))]  # type: ignore[list-item]
    )
    with pytest.raises(InvalidRequestError, match=r"no route takes 'ACME:GOLD' \(routes: A:\*, B:\*\)"):
        broker.submit(a_limit(OTHER))


def test_what_can_be_done_is_what_the_leaf_can_do(desk: Any) -> None:
    assert OrderTypeCapability.BRACKET not in desk.broker.capabilities_for(SPOT)
    assert OrderTypeCapability.BRACKET in desk.broker.capabilities_for(OTHER)
    assert all(desk.broker.supports(symbol) for symbol in (SPOT, PAPER, OTHER))


def test_without_a_route_nothing_is_supported() -> None:
    broker = of(BareBroker("a"))
    assert not broker.supports(OTHER)
    assert broker.capabilities_for(OTHER) == frozenset()


def test_support_is_the_leafs_own_word() -> None:
    paper = PaperBroker(EventBus(), serves=lambda symbol: symbol == SPOT)
    broker = CompositeBroker([(SymbolPattern.any(), paper)])
    assert broker.supports(SPOT)
    assert not broker.supports(PAPER)


@pytest.mark.parametrize(
    "routes", [[], [("BYBIT_SPOT:", BareBroker("a"))], [BareBroker("a")], [(SymbolPattern.any(),)]]
)
def test_routes_that_cannot_be_meant_are_refused(routes: list[Any]) -> None:
    with pytest.raises(InvalidRequestError, match=r"route"):
        CompositeBroker(routes)


# -- ids -------------------------------------------------------------------------------------------------------------


def test_cancel_and_modify_find_the_leaf_that_has_the_order(desk: Any) -> None:
    acks = [desk.broker.submit(a_limit(symbol)) for symbol in (SPOT, PAPER, OTHER)]
    for ack in acks:
        assert desk.broker.modify(ack.client_order_id, OrderModification(new_quantity=Decimal(2))).accepted
        assert desk.broker.cancel(ack.client_order_id).accepted
    assert desk.broker.open_orders() == ()


def test_cancel_by_the_brokers_id_finds_the_leaf_too(desk: Any) -> None:
    ack = desk.broker.submit(a_limit(PAPER))
    assert desk.broker.cancel(broker_order_id=ack.broker_order_id).accepted
    assert desk.paper.open_orders() == []


def test_modify_by_the_brokers_id_finds_the_leaf_too(desk: Any) -> None:
    ack = desk.broker.submit(a_limit(PAPER))
    changes = OrderModification(new_quantity=Decimal(2))
    assert desk.broker.modify(changes=changes, broker_order_id=ack.broker_order_id).accepted
    assert desk.broker.order(broker_order_id=ack.broker_order_id).quantity == 2


def test_an_order_sent_to_a_leaf_directly_can_be_cancelled_through_the_composite(desk: Any) -> None:
    ack = desk.paper.submit(a_limit(PAPER))
    assert desk.broker.order(ack.client_order_id).is_open
    assert desk.broker.cancel(ack.client_order_id).accepted


def test_an_adopted_order_of_a_leaf_that_can_only_list_is_found_by_either_id() -> None:
    leaf = BareBroker("a", open_orders=[a_view("theirs", "v-1"), a_view("", "v-2")])
    broker = of(BareBroker("b"), leaf)
    broker.cancel("theirs")
    broker.cancel(broker_order_id="v-2")
    assert leaf.asked == [("cancel", "theirs", None), ("cancel", None, "v-2")]


def test_an_id_nobody_knows_is_refused_and_no_leaf_is_asked_to_act() -> None:
    leaves = [BareBroker("a"), BareBroker("b", open_orders=[a_view("", "")])]
    broker = of(*leaves)
    for call in (
        lambda: broker.cancel("nobody"),
        lambda: broker.cancel(broker_order_id="nobody"),
        lambda: broker.modify("nobody", OrderModification(new_quantity=Decimal(1))),
    ):
        with pytest.raises(InvalidRequestError, match=r"no order .*'nobody' at any leaf of COMPOSITE \(a, b\)"):
            call()  # type: ignore[no-untyped-call]
    assert [leaf.asked for leaf in leaves] == [[], []]


def test_it_lives_on_after_an_unknown_id(desk: Any) -> None:
    with pytest.raises(InvalidRequestError):
        desk.broker.cancel("nobody")
    assert desk.broker.submit(a_limit(SPOT)).accepted


def test_a_broker_id_that_two_leaves_know_is_refused_rather_than_guessed() -> None:
    broker = of(*(BareBroker(name, open_orders=[a_view("", "7")]) for name in "ab"))
    with pytest.raises(InvalidRequestError, match="an order at each of a, b"):
        broker.cancel(broker_order_id="7")


def test_a_client_order_id_is_used_once_across_all_leaves(desk: Any) -> None:
    desk.broker.submit(a_limit(SPOT, "bot-1"))
    with pytest.raises(InvalidRequestError, match="'bot-1' was used before, at SPOT"):
        desk.broker.submit(a_limit(PAPER, "bot-1"))
    assert desk.paper.open_orders() == []


def test_an_id_whose_submit_was_refused_is_free_again(desk: Any) -> None:
    with pytest.raises(InvalidRequestError, match="BRACKET"):
        desk.broker.submit(
            LimitOrder(symbol=SPOT, side=Side.BUY, quantity=1, limit_price=1, stop_loss=1, client_order_id="x")
        )
    assert desk.broker.submit(a_limit(PAPER, "x")).accepted


def test_a_refused_reuse_does_not_lose_the_older_order() -> None:
    leaf = PaperBroker(EventBus())
    broker = CompositeBroker([(SymbolPattern.any(), leaf)])
    leaf.submit(a_limit(SPOT, "bot-1"))
    with pytest.raises(InvalidRequestError, match="used before"):
        broker.submit(a_limit(SPOT, "bot-1"))
    assert broker.cancel("bot-1").accepted


def test_a_handler_may_cancel_by_client_id_before_the_submit_has_returned(desk: Any) -> None:
    desk.bus.subscribe(OrderAccepted, lambda event: desk.broker.cancel(event.client_order_id))
    desk.broker.submit(a_limit(SPOT))
    assert [type(event) for event in desk.heard] == [OrderAccepted, OrderCancelled]


@pytest.mark.parametrize(
    "call", [lambda broker: broker.cancel(), lambda broker: broker.cancel("a", broker_order_id="b")]
)
def test_cancel_takes_exactly_one_id(desk: Any, call: Any) -> None:
    with pytest.raises(InvalidRequestError, match="exactly one"):
        call(desk.broker)


def test_a_dict_is_not_an_order(desk: Any) -> None:
    with pytest.raises(InvalidRequestError, match="submit takes an order"):
        desk.broker.submit({"symbol": SPOT})


# -- everything a leaf can do ----------------------------------------------------------------------------------------


def test_open_orders_are_merged_in_the_order_of_the_leaves(desk: Any) -> None:
    for symbol in (OTHER, PAPER, SPOT):
        desk.broker.submit(a_limit(symbol))
    assert [view.symbol for view in desk.broker.open_orders()] == [SPOT, PAPER, OTHER]


def test_wait_order_fills_and_explain_reach_the_leaf(desk: Any) -> None:
    desk.spot.on_price(SPOT, Decimal(99))
    order = desk.broker.submit(a_limit(SPOT)).client_order_id
    assert desk.broker.wait(order, until="closed", timeout_ms=0).status is OrderStatus.FILLED
    assert desk.broker.order(order).avg_price == 99
    assert [fill.price for fill in desk.broker.fills(order)] == [99]
    assert desk.broker.explain(order)


def test_a_leaf_that_cannot_is_named() -> None:
    leaf = BareBroker("bare", open_orders=[a_view("c1", "v1")])
    with pytest.raises(InvalidRequestError, match=r"bare \(BareBroker\) cannot wait"):
        of(leaf).wait("c1")


def test_cancel_all_reaches_every_leaf_or_the_one_of_a_symbol(desk: Any) -> None:
    for symbol in (SPOT, PAPER, OTHER):
        desk.broker.submit(a_limit(symbol))
    assert len(desk.broker.cancel_all(PAPER)) == 1
    assert len(desk.broker.cancel_all()) == 2
    assert desk.broker.open_orders() == ()


def test_cancel_all_at_a_bare_leaf_leaves_orders_that_are_not_ours() -> None:
    leaf = BareBroker("bare", open_orders=[a_view("theirs", "v1")])
    assert of(leaf).cancel_all() == []
    assert len(of(leaf).cancel_all(include_external=True)) == 1
    assert leaf.asked == [("cancel", None, "v1")]


def test_reconcile_asks_the_leaves_that_can(desk: Any) -> None:
    desk.spot.reconcile = lambda: "compared"
    assert desk.broker.reconcile() == {"SPOT": "compared"}


def test_the_health_of_each_leaf_is_told_by_name(desk: Any) -> None:
    assert {name: health.ok for name, health in desk.broker.health.items()} == {
        "SPOT": True,
        "PAPER": True,
        "LOG": True,
    }


def test_events_of_all_leaves_are_one_order_on_their_bus(desk: Any) -> None:
    desk.paper.on_price(PAPER, Decimal(1))
    desk.broker.submit(a_limit(SPOT))
    desk.broker.submit(MarketOrder(symbol=PAPER, side=Side.BUY, quantity=1))
    assert [type(event) for event in desk.heard] == [OrderAccepted, OrderAccepted, OrderFilled]
    assert [event.sequence_id for event in desk.heard] == sorted(event.sequence_id for event in desk.heard)


def test_a_composite_may_be_a_leaf(desk: Any) -> None:
    outer = CompositeBroker([(SymbolPattern.any(), desk.broker)], name="OUTER")
    order = outer.submit(a_limit(PAPER)).client_order_id
    assert outer.order(order).symbol == PAPER
    assert outer.cancel(order).accepted


# -- several at once, rules and the kill switch ----------------------------------------------------------------------


def test_several_orders_go_to_their_leaves_and_come_back_in_the_order_given(desk: Any) -> None:
    symbols = [OTHER, SPOT, PAPER, SPOT]
    acks = desk.broker.submit_many([a_limit(symbol, f"c{at}") for at, symbol in enumerate(symbols)])
    assert [ack.client_order_id for ack in acks] == ["c0", "c1", "c2", "c3"]
    assert [desk.broker.order(ack.client_order_id).symbol for ack in acks] == symbols


def test_a_leaf_that_takes_one_at_a_time_is_asked_one_by_one() -> None:
    leaf = BareBroker("bare")
    broker = CompositeBroker([(SymbolPattern.any(), leaf)])  # type: ignore[list-item]
    broker.submit_many([a_limit(SPOT, "a"), a_limit(SPOT, "b")])
    assert leaf.asked == [("submit", "a"), ("submit", "b")]


def test_of_several_none_is_sent_when_one_cannot_be_right(desk: Any) -> None:
    bad = LimitOrder(symbol=SPOT, side=Side.BUY, quantity=1, limit_price=1, stop_loss=Decimal("0.5"))
    with pytest.raises(InvalidRequestError, match="BRACKET"):
        desk.broker.submit_many([a_limit(PAPER), bad])
    with pytest.raises(InvalidRequestError, match="used before"):
        desk.broker.submit_many([a_limit(PAPER, "x"), a_limit(PAPER, "x")])
    assert (desk.heard, desk.broker.open_orders()) == ([], ())


def test_what_other_leaves_took_stands_when_one_fails_and_the_rest_was_never_sent(desk: Any) -> None:
    failing = BareBroker("down", fails=VenueUnavailableError("nothing was sent"))
    broker = CompositeBroker([(SymbolPattern.exact(PAPER), desk.paper), (SymbolPattern.any(), failing)])  # type: ignore[list-item]
    acks = broker.submit_many([a_limit(PAPER), a_limit(SPOT, "x")])
    assert [ack.outcome for ack in acks] == [SubmitOutcome.ACCEPTED, SubmitOutcome.REJECTED]
    assert acks[1].reject_reason == "never sent: nothing was sent"
    with pytest.raises(VenueUnavailableError):
        broker.submit_many([a_limit(SPOT, "x"), a_limit(PAPER)])


def test_several_cancels_go_to_their_leaves_and_come_back_in_the_order_given(desk: Any) -> None:
    acks = [desk.broker.submit(a_limit(symbol)) for symbol in (SPOT, PAPER, SPOT, OTHER)]
    done = desk.broker.cancel_many(
        [acks[3].client_order_id, acks[0].client_order_id],
        broker_order_ids=[acks[1].broker_order_id, acks[2].broker_order_id],
    )
    assert [ack.client_order_id for ack in done] == [acks[at].client_order_id for at in (3, 0, 1, 2)]
    assert desk.broker.open_orders() == ()


def test_of_several_cancels_none_is_sent_when_one_id_is_unknown(desk: Any) -> None:
    ack = desk.broker.submit(a_limit(SPOT))
    with pytest.raises(InvalidRequestError, match="nobody"):
        desk.broker.cancel_many([ack.client_order_id, "nobody"])
    assert len(desk.broker.open_orders()) == 1


@pytest.mark.parametrize("call", [lambda broker: broker.submit_many("BUY"), lambda broker: broker.cancel_many("id")])
def test_one_is_not_several(desk: Any, call: Any) -> None:
    with pytest.raises(InvalidRequestError, match="takes a list"):
        call(desk.broker)


def test_rules_check_and_quantize_are_the_leafs_own() -> None:
    rules = InstrumentRules(symbol=PAPER, base_coin="BTC", quote_coin="USDT", tick_size=Decimal(1))
    broker = CompositeBroker(
        [(SymbolPattern.exact(PAPER), PaperBroker(EventBus(), rules={PAPER: rules}.get))],
        BareBroker("bare"),  # type: ignore[arg-type]
    )
    assert broker.rules(PAPER) is rules
    assert broker.quantize(a_limit(PAPER, price="99.5")).limit_price == 99
    with pytest.raises(InvalidRequestError, match="tick size"):
        broker.check(a_limit(PAPER, price="99.5"))
    assert broker.rules(OTHER) is None
    assert broker.quantize(a_limit(OTHER, price="99.5")).limit_price == Decimal("99.5")
    broker.check(a_limit(OTHER, price="99.5"))


def test_frozen_nothing_goes_to_any_leaf_but_cancels(desk: Any) -> None:
    ack = desk.broker.submit(a_limit(SPOT))
    desk.broker.freeze("night")
    for call in (
        lambda: desk.broker.submit(a_limit(OTHER)),
        lambda: desk.broker.submit_many([a_limit(OTHER)]),
        lambda: desk.broker.modify(ack.client_order_id, OrderModification(new_quantity=Decimal(2))),
        lambda: desk.paper.submit(a_limit(PAPER)),
    ):
        with pytest.raises(InvalidRequestError, match="night"):
            call()  # type: ignore[no-untyped-call]
    assert "frozen" in repr(desk.broker)
    assert desk.broker.cancel(ack.client_order_id).accepted
    desk.broker.unfreeze()
    assert not desk.broker.is_frozen
    assert desk.broker.submit(a_limit(PAPER)).accepted


# -- the end ---------------------------------------------------------------------------------------------------------


def test_each_leaf_is_closed_once_whatever_its_routes_and_however_often_it_is_asked() -> None:
    leaf = BareBroker("a")
    broker = CompositeBroker([(SymbolPattern.exact("X"), leaf), (SymbolPattern.exact("Y"), leaf)], fallback=leaf)  # type: ignore[arg-type, list-item]
    broker.close()
    broker.close()
    assert leaf.asked == [("close",)]


def test_the_others_are_closed_though_one_fails_and_the_failure_is_told() -> None:
    bad, good = BareBroker("bad", fails=OSError("stuck")), BareBroker("good")
    with pytest.raises(OSError, match="stuck"):
        of(bad, good).close()
    assert good.asked == [("close",)]


def test_several_failures_are_told_together() -> None:
    broker = of(BareBroker("a", fails=OSError("one")), BareBroker("b", fails=ValueError("two")))
    with pytest.raises(ExceptionGroup) as failed:
        broker.close()
    assert [str(error) for error in failed.value.exceptions] == ["one", "two"]


def test_after_close_nothing_is_sent(desk: Any) -> None:
    with desk.broker:
        pass
    with pytest.raises(InvalidRequestError, match="COMPOSITE is closed"):
        desk.broker.submit(a_limit(SPOT))


def test_the_repr_shows_the_routes(desk: Any) -> None:
    assert repr(desk.broker) == "<CompositeBroker COMPOSITE BYBIT_SPOT:*->SPOT PAPER:*->PAPER fallback=LOG>"
