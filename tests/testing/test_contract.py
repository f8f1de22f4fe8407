"""check_broker: what qkt ships keeps the contract, and what breaks it is told which promise broke."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import attrs
import pytest

from qkt.broker.composite import CompositeBroker
from qkt.broker.paper.broker import PaperBroker
from qkt.broker.paper.dry_run import LogBroker
from qkt.broker.protocol import OrderTypeCapability, SubmitAck, SubmitOutcome
from qkt.broker.symbol_pattern import SymbolPattern
from qkt.bus import EventBus
from qkt.errors import InvalidRequestError
from qkt.events import BrokerEvent, OrderAccepted, OrderCancelled, OrderFilled, OrderPartiallyFilled
from qkt.model.orders import OrderModification, OrderRequest
from qkt.testing.contract import BROKER_PROMISES, broker_checks, check_broker

SYMBOL = "BYBIT_SPOT:BTCUSDT"


def trade(broker: PaperBroker, client_order_id: str) -> None:
    broker.on_price(SYMBOL, Decimal(9_000), Decimal("0.004"))
    broker.on_price(SYMBOL, Decimal(9_000))


def a_composite(bus: EventBus) -> CompositeBroker:
    """Paper for one symbol and the log for its family; nothing for the rest."""
    return CompositeBroker(
        [(SymbolPattern.exact(SYMBOL), PaperBroker(bus)), (SymbolPattern.prefix("BYBIT_SPOT:"), LogBroker(bus))]
    )


@pytest.mark.parametrize("check", broker_checks(LogBroker), ids=str)
def test_the_log_broker_keeps_the_contract(check: Any) -> None:
    check()


@pytest.mark.parametrize("check", broker_checks(PaperBroker, trade=trade), ids=str)
def test_the_paper_broker_keeps_the_contract(check: Any) -> None:
    check()


@pytest.mark.parametrize(
    "check",
    broker_checks(
        lambda bus: PaperBroker(
            bus,
            maker_fee_rate=Decimal("0.001"),
            balances={"USDT": Decimal(100_000)},
            serves=SymbolPattern.prefix("BYBIT_SPOT:").matches,
        ),
        trade=trade,
        unserved_symbol="ACME:GOLD",
    ),
    ids=str,
)
def test_the_paper_broker_with_an_account_keeps_the_contract(check: Any) -> None:
    check()


@pytest.mark.parametrize(
    "check",
    broker_checks(a_composite, trade=lambda broker, order: trade(broker.leaves[0], order), unserved_symbol="ACME:GOLD"),
    ids=str,
)
def test_the_composite_keeps_the_contract(check: Any) -> None:
    check()


def test_every_promise_can_be_asked_for_and_has_a_name_of_its_own() -> None:
    checks = broker_checks(PaperBroker, trade=trade, unserved_symbol="X")
    assert [check.promise for check in checks] == list(BROKER_PROMISES)
    assert len({str(check) for check in checks}) == len(BROKER_PROMISES)


def test_without_a_way_to_trade_the_checks_about_fills_are_left_out() -> None:
    kept = check_broker(LogBroker)
    assert set(BROKER_PROMISES) - set(kept) == {
        "tells each execution once and the end last, and they add up",
        "refuses to cancel a filled order and leaves it filled",
        "claims nothing on a symbol it does not serve and refuses orders for it",
    }


# -- it can fail -----------------------------------------------------------------------------------------------------
# Each broker below does one thing wrong; the text is the promise that must be reported broken.


class Mangling(PaperBroker):
    """A paper broker whose events pass through ``mangle`` on their way to the bus."""

    def __init__(self, bus: EventBus) -> None:
        inner = EventBus()
        super().__init__(inner)
        self.outer = bus
        inner.subscribe(BrokerEvent, lambda event: [bus.publish(each) for each in self.mangle(event)])  # type: ignore[func-returns-value]

    def mangle(self, event: BrokerEvent) -> list[BrokerEvent]:
        return [event]


class NamesNoSymbol(Mangling):
    def mangle(self, event: Any) -> Any:
        return [attrs.evolve(event, symbol="")] if isinstance(event, OrderAccepted) else [event]


class SaysAcceptedTwice(Mangling):
    def mangle(self, event: Any) -> Any:
        return [event, event] if isinstance(event, OrderAccepted) else [event]


class NeverSaysAccepted(Mangling):
    def mangle(self, event: Any) -> Any:
        return [] if isinstance(event, OrderAccepted) else [event]


class EndsTwice(Mangling):
    def mangle(self, event: Any) -> Any:
        return [event, event] if isinstance(event, OrderCancelled) else [event]


class RepeatsAnExecution(Mangling):
    def mangle(self, event: Any) -> Any:
        return [event, event] if isinstance(event, OrderPartiallyFilled) else [event]


class LosesAnExecution(Mangling):
    def mangle(self, event: Any) -> Any:
        return [] if isinstance(event, OrderPartiallyFilled) else [event]


class FillsBeforeItAccepts(Mangling):
    held: tuple[BrokerEvent, ...] = ()

    def mangle(self, event: Any) -> list[Any]:
        if isinstance(event, OrderAccepted):
            self.held = (event,)
            return []
        return [event, *self.held]


class SpeaksAfterTheEnd(Mangling):
    def mangle(self, event: Any) -> Any:
        late = OrderCancelled(client_order_id=event.client_order_id)
        return [event, late] if isinstance(event, OrderFilled) else [event]


class TakesAnId(PaperBroker):
    def submit(self, request: OrderRequest) -> SubmitAck:
        return attrs.evolve(super().submit(request), client_order_id="another")


class SharesAnId(PaperBroker):
    def submit(self, request: OrderRequest) -> SubmitAck:
        named = request if request.client_order_id else attrs.evolve(request, client_order_id="bot")
        return super().submit(named)


class TakesReusedIds(PaperBroker):
    def submit(self, request: OrderRequest) -> SubmitAck:
        try:
            return super().submit(request)
        except InvalidRequestError:
            return super().submit(attrs.evolve(request, client_order_id=None))


class TakesAnything(PaperBroker):
    def submit(self, request: Any) -> SubmitAck:
        if not isinstance(request, OrderRequest):
            return SubmitAck(client_order_id="?", outcome=SubmitOutcome.ACCEPTED)
        return super().submit(request)


class RaisesTheWrongError(PaperBroker):
    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        try:
            return super().cancel(client_order_id, broker_order_id=broker_order_id)
        except InvalidRequestError as error:
            raise KeyError(client_order_id) from error


class AnswersNone(PaperBroker):
    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> Any:
        super().cancel(client_order_id, broker_order_id=broker_order_id)


class IgnoresCancels(PaperBroker):
    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        view = self.order(client_order_id, broker_order_id=broker_order_id)
        return SubmitAck(client_order_id=view.client_order_id, outcome=SubmitOutcome.ACCEPTED)


class AcceptsLateCancels(PaperBroker):
    def cancel(self, client_order_id: str | None = None, *, broker_order_id: str | None = None) -> SubmitAck:
        ack = super().cancel(client_order_id, broker_order_id=broker_order_id)
        return attrs.evolve(ack, outcome=SubmitOutcome.ACCEPTED)


class ForgetsToModify(PaperBroker):
    def modify(self, client_order_id: str, changes: OrderModification) -> SubmitAck:  # type: ignore[override]
        view = self.order(client_order_id)
        if not isinstance(changes, OrderModification):
            raise InvalidRequestError("no")
        return SubmitAck(client_order_id=view.client_order_id, outcome=SubmitOutcome.ACCEPTED)


class ClaimsTooMuch(PaperBroker):
    capabilities = frozenset(OrderTypeCapability)


class ClaimsTooLittle(PaperBroker):
    def capabilities_for(self, symbol: str) -> frozenset[OrderTypeCapability]:
        return frozenset({OrderTypeCapability.LIMIT})

    def _check_capability(self, request: OrderRequest) -> None:
        pass


class BatchesBackwards(PaperBroker):
    def submit_many(self, requests: Any) -> Any:
        return super().submit_many(requests)[::-1]


class BatchesByHalves(PaperBroker):
    def submit_many(self, requests: Any) -> list[Any]:
        return [self.submit(request) for request in requests]


class WaitsForNothing(PaperBroker):
    def wait(self, client_order_id: Any = None, **options: Any) -> Any:
        return self.order(client_order_id)


class HidesOrders(PaperBroker):
    def open_orders(self) -> list[Any]:
        return []


class KeepsClosedOrders(PaperBroker):
    def open_orders(self) -> Any:
        return self._state.ask(lambda ledger: [order.view() for order in ledger])


class ClosesOnce(PaperBroker):
    def close(self) -> None:
        self._state.check_open()
        super().close()


class NeverCloses(PaperBroker):
    def close(self) -> None:
        pass


class EntersNothing(PaperBroker):
    def __enter__(self) -> Any:
        return None


class SaysNothingOfItself(PaperBroker):
    __repr__ = object.__repr__


class ServesEverything(PaperBroker):
    def supports(self, symbol: str) -> bool:
        return True


class HasNoName(PaperBroker):
    name = ""


class DeliversUnderItsLock(PaperBroker):
    def _absorb(self, facts: Any) -> None:
        super()._absorb(facts)
        self._bus.deliver()


BROKEN = {
    NamesNoSymbol: "announces an order once, before anything else about it",
    SaysAcceptedTwice: "announces an order once, before anything else about it",
    NeverSaysAccepted: "announces an order once, before anything else about it",
    EndsTwice: "ends a cancelled order with one OrderCancelled, by either id",
    RepeatsAnExecution: "tells each execution once and the end last, and they add up",
    LosesAnExecution: "tells each execution once and the end last, and they add up",
    FillsBeforeItAccepts: "tells each execution once and the end last, and they add up",
    SpeaksAfterTheEnd: "tells each execution once and the end last, and they add up",
    TakesAnId: "keeps the client order id it is given",
    SharesAnId: "names an order that has no client order id, never twice the same",
    TakesReusedIds: "refuses a client order id that was used before, and sends nothing",
    TakesAnything: "refuses what is not an order or a modification, and sends nothing",
    RaisesTheWrongError: "refuses an id it does not know",
    AnswersNone: "ends a cancelled order with one OrderCancelled, by either id",
    IgnoresCancels: "ends a cancelled order with one OrderCancelled, by either id",
    AcceptsLateCancels: "does not end a closed order a second time",
    ForgetsToModify: "modifies an order and tells the new terms, if it claims MODIFY",
    ClaimsTooMuch: "takes every kind of order it claims and refuses the others",
    ClaimsTooLittle: "takes every kind of order it claims and refuses the others",
    BatchesBackwards: "submits and cancels several at once, all or none of them, if it claims BATCH",
    BatchesByHalves: "submits and cancels several at once, all or none of them, if it claims BATCH",
    WaitsForNothing: "answers order() and wait() about an order, where it has them",
    HidesOrders: "answers a submit with an ack and shows the order among the open ones",
    KeepsClosedOrders: "ends a cancelled order with one OrderCancelled, by either id",
    ClosesOnce: "closes more than once",
    NeverCloses: "refuses requests after close, and says nothing more",
    EntersNothing: "is a context manager that closes it",
    SaysNothingOfItself: "has a repr that tells what it is doing",
    ServesEverything: "claims nothing on a symbol it does not serve and refuses orders for it",
    HasNoName: "has every member of the Broker protocol and a name",
    DeliversUnderItsLock: "lets a handler submit and cancel",
}


@pytest.mark.parametrize(("broken", "promise"), BROKEN.items(), ids=lambda value: getattr(value, "__name__", "breaks"))
def test_a_broker_that_breaks_a_promise_is_told_which(broken: Any, promise: Any) -> None:
    checks = {
        check.promise: check
        for check in broker_checks(broken, trade=trade, unserved_symbol="ACME:GOLD", patience_ms=30)
    }
    with pytest.raises(AssertionError):
        checks[promise]()


def test_every_promise_is_broken_by_somebody() -> None:
    never_tested = set(BROKER_PROMISES) - set(BROKEN.values())
    assert never_tested == {
        "serves its symbol and says what it can do on it",
        "cancels by exactly one id",
        "refuses to cancel a filled order and leaves it filled",
        "stamps events in one order",
        "lets a handler close it",
    }


def test_all_broken_promises_are_listed_at_once() -> None:
    class Careless(ClosesOnce, EntersNothing):
        pass

    with pytest.raises(AssertionError) as broken:
        check_broker(Careless, patience_ms=50)
    message = str(broken.value)
    assert message.startswith("the broker breaks 2 of 23 promises:")
    assert "- closes more than once: it raised InvalidRequestError: PAPER is closed" in message
    assert "- is a context manager that closes it: `with broker as x` gives None, not the broker" in message


def test_a_broker_that_cannot_even_be_built_is_an_assertion_error_too() -> None:
    def make(bus: EventBus) -> PaperBroker:
        raise OSError("no venue")

    with pytest.raises(AssertionError, match="no venue"):
        check_broker(make)
