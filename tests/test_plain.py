"""Events and views leave the process: as exact JSON, through pickle and through deepcopy."""

from __future__ import annotations

import copy
import enum
import json
import multiprocessing
import pickle
import typing
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import attrs
import pytest

import qkt.events
from qkt.broker.protocol import SubmitAck, SubmitOutcome
from qkt.events import BrokerEvent, OrderFilled
from qkt.health import Health
from qkt.model.balances import CoinBalance, Wallet
from qkt.model.orders import OrderView, Side
from qkt.model.positions import Position
from qkt.orders.ledger import Ledger
from qkt.plain import decimal_text, to_plain
from qkt.readonly import ReadOnlyDict
from qkt.reconcile.report import Discrepancy, PathResult, ReconcileReport
from qkt.reconcile.snapshot import Completeness
from qkt.testing.builders import execution_reported, order_reported, submit_intended

WALLET = Wallet(coins={"BTC": CoinBalance(total=Decimal("0.10"), available=Decimal("1E-8"))}, as_of_ms=7)


def event_classes() -> Iterator[type[BrokerEvent]]:
    found = [value for value in vars(qkt.events).values() if isinstance(value, type)]
    return (value for value in found if issubclass(value, BrokerEvent))


def a_value(hint: Any, name: str) -> Any:
    """A telling value of a field's type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Wallet:
        return WALLET
    if isinstance(hint, type) and attrs.has(hint):
        hints = typing.get_type_hints(hint)
        return hint(**{field.name: a_value(hints[field.name], field.name) for field in attrs.fields(hint)})
    if origin is typing.Literal:
        return arguments[-1]
    if origin is frozenset:
        return frozenset({"BTC", "ADA", "USDT"})
    if origin is not None and isinstance(origin, type) and issubclass(origin, Mapping):
        return {"USDT": Decimal("1000.50"), "BTC": Decimal("0.00000001")}
    if origin is not None:
        return a_value(arguments[0], name)
    if issubclass(hint, enum.Enum):
        return next(iter(hint))
    return {str: f"{name} é \u2028\"'", int: 1_795_558_232_363, bool: True, Decimal: Decimal("0.0010")}[hint]


def an_event(cls: type[BrokerEvent]) -> BrokerEvent:
    hints = typing.get_type_hints(cls)
    return cls(**{field.name: a_value(hints[field.name], field.name) for field in attrs.fields(cls)})


def a_view() -> OrderView:
    ledger = Ledger()
    fill = execution_reported("e1", "0.5", leaves="0.5", fee=Decimal("0.01"), fee_currency="USDT")
    ledger.apply_all([submit_intended(), order_reported("New"), fill])
    order = ledger.get("c1")
    assert order is not None
    return order.view()


VIEWS: list[Any] = [
    a_view(),
    WALLET,
    Health(source="BYBIT_SPOT", orders=5, degraded={"stream": "lost"}),
    Position(quantity=Decimal("-1.50")),
    SubmitAck(client_order_id="c1", outcome=SubmitOutcome.UNKNOWN),
    ReconcileReport(
        source="BYBIT_SPOT",
        trigger="timer",
        started_ms=1,
        duration_ms=2,
        paths=(PathResult(path="orders", completeness=Completeness.COMPLETE, rows=3),),
        discrepancies=(Discrepancy(kind="missed_fill", what="w", evidence="e", likely_cause="l"),),
    ),
]


@pytest.mark.parametrize("cls", list(event_classes()))
def test_every_event_survives_pickle_deepcopy_and_json(cls: type[BrokerEvent]) -> None:
    event = an_event(cls)

    assert pickle.loads(pickle.dumps(event)) == event
    assert copy.deepcopy(event) == event
    told = json.loads(event.to_json())
    assert told == event.to_dict()
    assert list(told) == ["event", *(field.name for field in attrs.fields(cls))]
    assert told["event"] == cls.__name__


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: type(view).__name__)
def test_every_view_survives_pickle_deepcopy_and_json(view: Any) -> None:
    assert pickle.loads(pickle.dumps(view)) == view
    assert copy.deepcopy(view) == view
    assert json.loads(view.to_json()) == view.to_dict()


def test_an_event_of_a_live_ledger_can_be_pickled() -> None:
    changes = Ledger().apply_all([submit_intended(), execution_reported("e1", 1, leaves=0)])
    events = [event for change in changes for event in change.events]

    assert pickle.loads(pickle.dumps(events)) == events
    assert len(events) == 2


def test_events_pass_through_a_queue_between_processes() -> None:
    queue: Any = multiprocessing.get_context("spawn").Queue()
    event = an_event(qkt.events.BalancesUpdated)
    try:
        queue.put(event)
        assert queue.get(timeout=5) == event
    finally:
        queue.close()


def test_decimals_are_strings_with_every_digit() -> None:
    event = OrderFilled(
        client_order_id="c1", symbol="S", side=Side.BUY, price=Decimal("1E+3"), quantity=Decimal("0.00100")
    )

    told = event.to_dict()
    assert (told["price"], told["quantity"], told["leaves_quantity"]) == ("1000", "0.00100", None)
    assert told["side"] == "BUY"


@pytest.mark.parametrize("text", ["0", "0.00", "1E-8", "-1.50", "123456789012345678901234567890.5", "1E+500"])
def test_a_decimal_is_read_back_as_it_was(text: str) -> None:
    assert Decimal(decimal_text(Decimal(text))) == Decimal(text)
    assert len(decimal_text(Decimal(text))) < 100


def test_sets_are_sorted_so_that_two_runs_write_the_same_text() -> None:
    assert to_plain({"changed": frozenset({"USDT", "ADA", "BTC"})}) == {"changed": ["ADA", "BTC", "USDT"]}


def test_a_value_without_a_plain_form_is_refused() -> None:
    with pytest.raises(TypeError, match="object has no plain form"):
        to_plain({"x": object()})


def test_a_report_and_health_say_whether_all_is_well() -> None:
    report: ReconcileReport = VIEWS[-1]

    assert report.to_dict()["ok"] is True
    assert report.to_dict()["paths"][0]["completeness"] == Completeness.COMPLETE.value
    assert Health(source="X", degraded={"stream": "lost"}).to_dict()["ok"] is False


@pytest.mark.parametrize(
    "change",
    [
        lambda mapping: mapping.__setitem__("a", 1),
        lambda mapping: mapping.__delitem__("a"),
        lambda mapping: mapping.update(a=1),
        lambda mapping: mapping.pop("a"),
        lambda mapping: mapping.popitem(),
        lambda mapping: mapping.clear(),
        lambda mapping: mapping.setdefault("b", 1),
        lambda mapping: mapping.__ior__({"b": 1}),
    ],
)
def test_a_read_only_dict_refuses_every_change(change: Any) -> None:
    mapping = ReadOnlyDict({"a": 0})

    with pytest.raises(TypeError, match="read-only"):
        change(mapping)
    assert mapping == {"a": 0}


def test_a_read_only_dict_is_private() -> None:
    coins = {"BTC": CoinBalance(total=Decimal(1))}
    wallet = Wallet(coins=coins)
    coins.clear()

    assert "BTC" in wallet
