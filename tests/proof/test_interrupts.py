"""Ctrl-C at every instruction: whatever an interrupt breaks off, the broker is as it was before or completes it later.

Each case lets a broker do one thing on the main thread, interrupts it at one instruction, and then lets time pass. In
the end the broker must believe what the venue holds, every order must have been told lawfully and each execution once,
and no lock may be held. The fast suite tries a part of the instructions, `make verify` all.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import attrs
import pytest

from qkt import InvalidRequestError, LimitOrder, OrderModification
from qkt.broker.state import BrokerState, _Transaction
from qkt.events import BrokerEvent
from qkt.testing.builders import a_limit_order, envelope
from tests.support.interrupts import Outcome, run
from tests.support.stage import OPEN, Stage, assert_lawful, word

DEADLINE_S = 5
PAST_EVERY_DEADLINE_MS = 70_000


@attrs.frozen
class Case:
    """``prepare`` sets the scene, ``act`` is interrupted, ``finish`` is what the venue does afterwards."""

    prepare: Callable[[Stage], object]
    act: Callable[[Stage], Any]
    finish: Callable[[Stage], object] = lambda stage: None
    step: int = 1


def _nothing(stage: Stage) -> None:
    stage.open()


def _batches(stage: Stage) -> None:
    """A venue that takes batches."""

    def create_batch(body: Mapping[str, Any]) -> dict[str, Any]:
        rows = [stage.venue.create(item)["result"] for item in body["request"]]
        verdicts = {"list": [{"code": 0, "msg": "OK"}] * len(rows)}
        return {**envelope(), "result": {"list": rows}, "retExtInfo": verdicts}

    stage.client.responses["/v5/order/create-batch"] = create_batch
    stage.open()


def _open_order(stage: Stage) -> None:
    stage.has_open_order()


def _open_order_that_trades(stage: Stage) -> None:
    stage.has_open_order()
    stage.venue.trades("e1", "0.4")


def _missed_things(stage: Stage) -> None:
    stage.has_open_order()
    stage.has_open_order("c2")
    stage.venue.trades("e1", "0.4")
    stage.venue.ends("b2")
    stage.venue.rests("b3", "from-the-app")
    stage.clock.advance_ms(3_000)


def _orders_from_before(stage: Stage) -> None:
    stage.venue.rests("b1", "x1")
    stage.venue.rests("b2", "")
    stage.venue.trades("e1", "0.4")


def _cancelled(stage: Stage) -> None:
    stage.venue.ends("b1")
    stage.venue.push_order("b1")


def _modified(stage: Stage) -> object:
    return stage.broker.modify("c1", OrderModification(new_limit_price=Decimal(90)))


def _request(name: str = "c1") -> LimitOrder:
    return a_limit_order(client_order_id=name)


CASES = {
    "submit": Case(_nothing, lambda stage: stage.broker.submit(_request()), step=5),
    "submit_many": Case(_batches, lambda stage: stage.broker.submit_many([_request(), _request("c2")]), step=11),
    "cancel": Case(_open_order, lambda stage: stage.broker.cancel("c1"), _cancelled, step=5),
    "modify": Case(_open_order, _modified, _cancelled, step=5),
    "execution frame": Case(_open_order_that_trades, lambda stage: stage.venue.push_execution("e1"), step=3),
    "order frame": Case(_open_order_that_trades, lambda stage: stage.venue.push_order("b1"), step=5),
    "reconcile": Case(_missed_things, lambda stage: stage.broker.reconcile(), step=29),
    "adoption": Case(_orders_from_before, lambda stage: stage.open(), step=37),
}


def _staged(case: Case) -> Stage:
    stage = Stage()
    case.prepare(stage)
    return stage


def _check_locks(stage: Stage, where: str) -> None:
    """Another thread can use everything."""
    done = threading.Event()

    def use() -> None:
        stage.broker.open_orders()
        _ = stage.broker.health
        stage.bus.deliver()
        stage.broker.reconcile()
        done.set()

    threading.Thread(target=use, daemon=True).start()
    assert done.wait(DEADLINE_S), f"{where}: a lock is held, or the other thread failed"


def _check_end(stage: Stage, told: list[BrokerEvent], where: str) -> None:
    assert_lawful(told)
    numbers = [event.sequence_id for event in told]
    assert numbers == sorted(set(numbers)), f"{where}: {numbers}"
    assert stage.bus.drain(DEADLINE_S * 1000), where
    words = [f"{getattr(event, 'broker_order_id', '')} {word(event)}" for event in told]
    for exec_id in stage.venue.executions:
        heard = [one for one in words if one.endswith((f"part {exec_id}", f"filled {exec_id}"))]
        assert len(heard) == 1, f"{where}: {exec_id} was told {len(heard)} times: {words}"
    for order_id, row in stage.venue.orders.items():
        view = stage.broker.order(broker_order_id=order_id)
        assert view.is_open == (row["orderStatus"] in OPEN), f"{where}: {view}"
        assert str(view.cum_quantity) == row["cumExecQty"], f"{where}: {view}"
        if not view.is_open:
            assert sum(one.startswith(f"{order_id} ") and "cancelled" in one for one in words) == 1, f"{where}: {words}"
    assert stage.broker.health.unresolved == (), f"{where}: {stage.broker.health}"
    stood = {row["orderId"] for row in stage.venue.orders.values() if row["orderStatus"] in OPEN}
    believed = {view.broker_order_id for view in stage.broker.open_orders()}
    assert believed == stood, f"{where}: believed {believed}, the venue has {stood}"


def play(case: Case, at: int) -> Outcome:
    """One interrupt; raises AssertionError where it leaves a wrong state."""
    stage = Stage()
    told: list[BrokerEvent] = []
    stage.bus.subscribe(BrokerEvent, told.append)  # C code: an interrupt cannot break off the handler itself
    case.prepare(stage)
    outcome = run(lambda: case.act(stage), at)
    where = f"interrupted at {at}"
    if not stage._broker:
        told.clear()  # the broker that was being built is gone, and the next one tells its own story
        stage.open()
    _check_locks(stage, where)
    case.finish(stage)
    stage.pass_ms(PAST_EVERY_DEADLINE_MS)
    for _ in range(3):
        stage.round(after_ms=6_000)
    _check_end(stage, told, where)
    _check_that_ids_say_what_happened(stage, where)
    stage.broker.close()
    return outcome


def _check_that_ids_say_what_happened(stage: Stage, where: str) -> None:
    """An order that the venue never got is unknown, its id free, or it was told as never arrived."""
    arrived = {row["orderLinkId"] for row in stage.venue.orders.values()}
    for name in {"c1", "c2"} - arrived:
        try:
            view = stage.broker.order(name)
        except InvalidRequestError:
            continue
        assert not view.is_open, f"{where}: {view}"


def _tries(name: str, *, every: bool) -> list[int]:
    case = CASES[name]
    return list(range(1, _count(case) + 1, 1 if every else case.step))


def _count(case: Case) -> int:
    stage = _staged(case)
    instructions = run(lambda: case.act(stage), 0).instructions
    stage.broker.close()
    return instructions


@pytest.mark.parametrize("name", CASES)
@pytest.mark.timeout(120)
def test_an_interrupt_at_some_instructions_leaves_no_wrong_state(name: str, say: Callable[[str], None]) -> None:
    _try_all(name, say, every=False)


@pytest.mark.verify
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", CASES)
def test_an_interrupt_at_any_instruction_leaves_no_wrong_state(name: str, say: Callable[[str], None]) -> None:
    _try_all(name, say, every=True)


def _try_all(name: str, say: Callable[[str], None], *, every: bool) -> None:
    wrong: list[str] = []
    interrupted = 0
    tries = _tries(name, every=every)
    for at in tries:
        try:
            interrupted += play(CASES[name], at).is_interrupted
        except AssertionError as error:
            wrong.append(str(error).splitlines()[0])
    say(f"interrupts: {name}: {interrupted} of {len(tries)} tries broke it off, {len(wrong)} left a wrong state")
    assert not wrong, "\n".join(wrong[:10])
    assert interrupted > len(tries) // 2


def test_without_the_pending_transaction_the_same_tries_find_wrong_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proof of the proof: a change that is written without being decided first is lost halfway."""

    def write_directly(self: BrokerState, transaction: _Transaction) -> None:
        for commit in transaction.commits:
            self._ledger.commit(commit)
        self.bus.enqueue(transaction.events, source=self)

    monkeypatch.setattr(BrokerState, "_write", write_directly)
    with pytest.raises(AssertionError, match="e1 was told 0 times"):
        _try_all("execution frame", lambda _line: None, every=True)
