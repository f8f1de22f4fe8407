"""The order audit log: one line for each request, answer, fill and end, in the logger ``qkt.orders`` at INFO."""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Iterator
from decimal import Decimal

import pytest

from qkt.broker import order_log
from qkt.broker.state import BrokerState
from qkt.bus import EventBus
from qkt.model.orders import OrderModification
from qkt.orders.facts import (
    AnyFact,
    CancelIntended,
    CancelUnanswered,
    CancelWithdrawn,
    ModifyIntended,
    ModifyRefused,
    ModifyUnanswered,
    ModifyWithdrawn,
    NonArrivalProved,
    StatusBecameUnknown,
    SubmitRefused,
    SubmitUnanswered,
    SubmitWithdrawn,
    TerminalReleased,
)
from qkt.orders.ledger import Ledger
from qkt.testing import FixedClock
from qkt.testing.builders import acknowledged, execution_reported, order_reported, submit_intended


@pytest.fixture
def state() -> Iterator[BrokerState]:
    clock = FixedClock(1_000)
    state = BrokerState(source="BYBIT_SPOT", bus=EventBus(clock), clock=clock)
    yield state
    state.close()


@pytest.fixture
def audit(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, logger="qkt.orders")
    return caplog


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "qkt.orders"]


def phrase_of(line: str) -> str:
    return re.split(r" \w+=", line, maxsplit=1)[0]


def phrases(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [phrase_of(line) for line in lines(caplog)]


def fields(line: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in shlex.split(line) if "=" in part)


def unanswered() -> SubmitUnanswered:
    return SubmitUnanswered(client_order_id="c1", reason="no answer in 5000 ms", provable_from_ms=9_000, at_ms=500)


def test_an_ordinary_life_is_five_lines(state: BrokerState, audit: pytest.LogCaptureFixture) -> None:
    state.begin_submit(submit_intended())
    state.absorb([acknowledged(), order_reported("New")])
    state.absorb([execution_reported("e1", "0.4", leaves="0.6"), execution_reported("e2", "0.6", leaves="0")])

    assert phrases(audit) == ["order submit", "order acknowledged", "order accepted", "order fill", "order filled"]


def test_a_submit_line_names_ids_symbol_and_terms(state: BrokerState, audit: pytest.LogCaptureFixture) -> None:
    state.begin_submit(submit_intended(reduce_only=True))

    told = fields(lines(audit)[0])
    assert told["client_order_id"] == "c1"
    assert told["symbol"] == "BYBIT_SPOT:BTCUSDT"
    assert (told["side"], told["quantity"], told["limit_price"], told["type"]) == ("BUY", "1", "100", "LIMIT")
    assert told["reduce_only"] == "true"
    assert told["source"] == "BYBIT_SPOT"


def test_an_unknown_submit_and_its_resolution_are_logged(state: BrokerState, audit: pytest.LogCaptureFixture) -> None:
    state.begin_submit(submit_intended())
    state.absorb([unanswered()])
    state.absorb([order_reported("New", at_ms=2_500, origin="reconcile")])

    assert phrases(audit) == ["order submit", "order unknown", "order resolved", "order accepted"]
    assert fields(lines(audit)[1])["reason"] == "no answer in 5000 ms"
    resolved = fields(lines(audit)[2])
    assert (resolved["status"], resolved["after_ms"], resolved["origin"]) == ("NEW", "2000", "reconcile")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ([SubmitRefused(client_order_id="c1", reason="110007")], ["order rejected"]),
        ([unanswered(), NonArrivalProved(client_order_id="c1")], ["order unknown", "order resolved", "order rejected"]),
        ([SubmitWithdrawn(client_order_id="c1")], ["order withdrawn"]),
        (
            [order_reported("New"), CancelIntended(client_order_id="c1"), order_reported("Cancelled")],
            ["order accepted", "order cancel", "order cancelled"],
        ),
        (
            [
                order_reported("New"),
                CancelIntended(client_order_id="c1"),
                CancelUnanswered(client_order_id="c1", reason="silence", provable_from_ms=1),
            ],
            ["order accepted", "order cancel", "order cancel unknown"],
        ),
        (
            [order_reported("New"), CancelIntended(client_order_id="c1"), CancelWithdrawn(client_order_id="c1")],
            ["order accepted", "order cancel", "order cancel withdrawn"],
        ),
        (
            [order_reported("New"), CancelIntended(client_order_id="c1"), execution_reported("e1", 1, leaves=0)],
            ["order accepted", "order cancel", "order cancel failed", "order filled"],
        ),
        ([order_reported("Cancelled", "0.5"), TerminalReleased(client_order_id="c1")],
         ["order accepted", "order end held", "order cancelled"]),
        (
            [order_reported("New"), StatusBecameUnknown(client_order_id="c1", since_ms=1, reason="asked twice")],
            ["order accepted", "order status unknown"],
        ),
    ],
)  # fmt: skip
def test_each_turn_of_an_order_has_its_line(
    state: BrokerState, audit: pytest.LogCaptureFixture, facts: list[AnyFact], expected: list[str]
) -> None:
    state.begin_submit(submit_intended())
    state.absorb(facts)

    assert phrases(audit)[1:] == expected


def test_an_amend_is_logged_from_request_to_outcome(state: BrokerState, audit: pytest.LogCaptureFixture) -> None:
    changes = OrderModification(new_limit_price=Decimal(99))
    state.begin_submit(submit_intended())
    state.absorb([order_reported("New")])
    for outcome in (
        ModifyUnanswered(client_order_id="c1", reason="silence", provable_from_ms=1),
        ModifyRefused(client_order_id="c1", reason="110001"),
    ):
        state.absorb([ModifyIntended(client_order_id="c1", changes=changes), outcome])
    state.absorb([ModifyIntended(client_order_id="c1", changes=changes), ModifyWithdrawn(client_order_id="c1")])
    state.absorb([ModifyIntended(client_order_id="c1", changes=changes)])
    state.absorb([order_reported("New", limit_price=Decimal(99), updated_ms=5, as_of_ms=5)])

    assert phrases(audit)[2:] == [
        "order amend",
        "order amend unknown",
        "order amend",
        "order amend failed",
        "order amend",
        "order amend withdrawn",
        "order amend",
        "order changed",
    ]
    assert fields(lines(audit)[2])["new_limit_price"] == "99"


def test_what_teaches_nothing_new_is_not_logged(state: BrokerState, audit: pytest.LogCaptureFixture) -> None:
    state.absorb([order_reported("New")])
    audit.clear()
    state.absorb([order_reported("New"), order_reported("New")])

    assert lines(audit) == []


def test_a_value_cannot_forge_a_line_or_a_key(state: BrokerState, audit: pytest.LogCaptureFixture) -> None:
    state.begin_submit(submit_intended())
    reason = 'bad"\norder filled client_order_id=c9 \x1b[31m\u202e' + "x" * 500
    state.absorb([SubmitRefused(client_order_id="c1", reason=reason)])

    line = lines(audit)[-1]
    assert line.isprintable()
    assert fields(line)["client_order_id"] == "c1"
    assert len(line) < 500


def test_no_line_is_built_when_the_logger_is_silent(state: BrokerState, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_arguments: object, **_named: object) -> None:
        raise AssertionError("built a line that no logger wants")

    monkeypatch.setattr(order_log, "lines_of", forbidden)
    logging.getLogger("qkt.orders").setLevel(logging.WARNING)
    try:
        state.begin_submit(submit_intended())
        state.absorb([order_reported("New")])
    finally:
        logging.getLogger("qkt.orders").setLevel(logging.NOTSET)

    assert state.order("c1").has_evidence


def test_a_fault_in_a_line_does_not_cost_the_fact(
    state: BrokerState, audit: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_arguments: object, **_named: object) -> None:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(order_log, "lines_of", broken)
    state.absorb([order_reported("New")])

    assert state.order("c1").has_evidence
    assert "order log failed source=BYBIT_SPOT" in audit.text


def test_no_line_is_written_while_the_lock_is_held(state: BrokerState, audit: pytest.LogCaptureFixture) -> None:
    held: list[bool] = []

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            held.append(state._lock._is_owned())  # type: ignore[attr-defined]

    watching = Watching()
    for name in ("qkt.orders", "qkt.broker.state"):
        logging.getLogger(name).addHandler(watching)
    try:
        state.begin_submit(submit_intended())
        state.absorb([acknowledged(), execution_reported("e1", 1, leaves=0)])
        state.degrade("stream", "lost")
        state.restore("stream")
    finally:
        for name in ("qkt.orders", "qkt.broker.state"):
            logging.getLogger(name).removeHandler(watching)

    assert held
    assert not any(held)


def test_every_alarm_is_a_warning_and_its_end_an_info(state: BrokerState, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="qkt")
    state.begin_submit(submit_intended())
    state.absorb([unanswered(), NonArrivalProved(client_order_id="c1"), order_reported("New")])
    state.degrade("stream", "no pong in 5000 ms")
    state.degrade("stream", "no pong in 6000 ms")
    state.restore("stream")

    told = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "qkt.broker.state"]
    assert [level for level, _ in told] == ["WARNING", "WARNING", "INFO"]
    assert told[0][1].startswith("degraded source=BYBIT_SPOT domain=resurrected since_ms=0 reason=")
    assert told[1][1] == 'degraded source=BYBIT_SPOT domain=stream since_ms=1000 reason="no pong in 5000 ms"'
    assert told[2][1].startswith("restored source=BYBIT_SPOT domain=stream since_ms=1000")


def test_every_phrase_of_a_line_is_declared() -> None:
    ledger = Ledger()
    changes = ledger.apply_all([submit_intended(), unanswered(), order_reported("New"), execution_reported(leaves=0)])

    found = {phrase_of(line) for line in order_log.lines_of(changes, source="TEST")}
    assert found <= set(order_log.PHRASES)
    assert len(found) == 5
