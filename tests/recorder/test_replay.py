"""A replay of a recording gives the same events and the same state, or names the first difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import qkt.orders.machine
from qkt import BybitClient, BybitSpotBroker, EventBus, InvalidRequestError, OrderModification, Side
from qkt.recorder import FlightRecorder
from qkt.recorder.chain import ChainWriter
from qkt.recorder.reading import Recording
from qkt.recorder.replay import Replay, ReplayResult
from qkt.venue import SimulatedBybit
from tests.recorder.conftest import Recorded

DEADLINE_MS = 5_000


def replayed(path: Path) -> ReplayResult:
    return Replay(Recording(path)).run()


def a_busy_minute(rig: Recorded) -> Path:
    """Fills, a cancel, an amend, a lost reply, lost frames, a broken stream, an order of another program."""
    filled, resting, changed = rig.submit("61000"), rig.submit(), rig.submit("49000")
    rig.broker.wait(resting, until="accepted", timeout_ms=DEADLINE_MS)
    rig.broker.wait(changed, until="accepted", timeout_ms=DEADLINE_MS)
    rig.broker.cancel(resting)
    rig.broker.modify(changed, OrderModification(new_limit_price=Decimal(48_000)))
    rig.venue.faults.add("reply_lost", path="/v5/order/create", mode="reset")
    unknown = rig.submit("47000")
    rig.venue.faults.add("frame_drop", topic="execution", count=1)
    rig.venue.faults.add("frame_drop", topic="order", count=1)
    missed = rig.submit("61000")
    rig.venue.faults.add("stream_half_open", count=1)
    rig.broker.reconcile()
    for name in (filled, resting, missed):
        rig.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)
    rig.broker.wait(unknown, until="resolved", timeout_ms=DEADLINE_MS)
    rig.broker.cancel_all()
    rig.broker.reconcile()
    return rig.end()


def altered(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """The run with changed lines and a chain that fits again."""
    lines = [line.fields for line in Recording(path).lines()]
    chain = ChainWriter()
    target = path.parent / "altered"
    target.mkdir()
    with (target / "0001.jsonl").open("w", encoding="utf-8") as out:
        for fields in lines:
            change(fields)
            out.write(chain.line(fields))
    return target


def test_a_busy_minute_is_replayed_event_for_event(recorded: Recorded) -> None:
    told: list[object] = []
    recorded.bus.subscribe(qkt.BrokerEvent, told.append)
    result = replayed(a_busy_minute(recorded))

    assert result.difference is None, str(result.difference)
    assert result.is_identical
    assert result.events >= len(told) > 15
    assert (result.orders, result.brokers) == (5, ("BYBIT_SPOT",))
    assert result.frames > 5


def test_the_replayed_state_is_what_the_broker_believed(recorded: Recorded) -> None:
    name = recorded.submit("61000")
    view = recorded.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)
    view = recorded.broker.order(name)
    replay = Replay(Recording(recorded.end()))
    replay.run()

    assert replay.view(name) == view
    assert replay.view(view.broker_order_id) == view
    assert replay.view("nobody") is None


def test_a_core_that_concludes_otherwise_is_found_at_its_line(
    recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = a_busy_minute(recorded)
    join = qkt.orders.machine._join

    def forgetful(order: Any, fact: Any, news: Any) -> None:
        if type(fact).__name__ != "CancelIntended":
            join(order, fact, news)

    monkeypatch.setattr(qkt.orders.machine, "_join", forgetful)
    result = replayed(path)

    assert result.difference is not None
    assert ".jsonl:" in result.difference.place
    assert "recorded" in str(result.difference)


def test_an_event_that_was_changed_is_named_with_its_field(recorded: Recorded) -> None:
    name = recorded.submit("61000")
    recorded.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)

    def richer(fields: dict[str, Any]) -> None:
        for event in fields.get("events", ()):
            if event["_"] == "OrderFilled":
                event["price"] = "=1"

    result = replayed(altered(recorded.end(), richer))
    assert result.difference is not None
    assert result.difference.what == "event 2, OrderFilled: price"


def test_a_fact_that_no_frame_says_is_named(recorded: Recorded) -> None:
    name = recorded.submit("61000")
    recorded.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)

    def other_price(fields: dict[str, Any]) -> None:
        if fields["kind"] == "frame" and '"execPrice"' in fields["text"]:
            frame = json.loads(fields["text"])
            frame["data"][0]["execPrice"] = "1"
            fields["text"] = json.dumps(frame)

    result = replayed(altered(recorded.end(), other_price))
    assert result.difference is not None
    assert result.difference.what.startswith("a fact of the stream that no frame says: ExecutionReported")


def test_a_gap_ends_the_replay_and_says_so(recorded: Recorded) -> None:
    recorded.submit("61000", side=Side.SELL)

    def gap(fields: dict[str, Any]) -> None:
        if fields["kind"] == "link":
            fields.update(kind="gap", dropped=7)

    result = replayed(altered(recorded.end(), gap))
    assert not result.is_identical
    assert "7 entries are missing here" in result.stopped


def test_an_altered_file_ends_the_replay(recorded: Recorded) -> None:
    recorded.submit("61000")
    path = recorded.end()
    part = path / "0001.jsonl"
    part.write_text(part.read_text().replace('"op":"submit"', '"op":"absorb"', 1))

    assert "was altered" in replayed(path).stopped


def test_a_run_without_its_first_file_is_refused(recorded: Recorded) -> None:
    path = recorded.end()
    (path / "0001.jsonl").rename(path / "0002.jsonl")

    with pytest.raises(InvalidRequestError, match="lost its first files"):
        replayed(path)


def test_a_folder_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="is no recording"):
        Recording(tmp_path)


def test_a_broker_with_an_owner_and_names_is_replayed_alike(tmp_path: Path) -> None:
    told: list[qkt.OrderEvent] = []
    with SimulatedBybit(seed=1) as venue, FlightRecorder(tmp_path) as recorder:
        bus = EventBus()
        bus.subscribe(qkt.OrderEvent, told.append)
        client = BybitClient("key", "secret", rest_url=venue.rest_url, ws_url=venue.ws_url, name="main")
        recorder.attach(client, bus)
        with client:
            venue.place(
                symbol="BTCUSDT",
                side="Buy",
                orderType="Limit",
                qty="0.01",
                price="50000",
                orderLinkId="qkt-grid-0123456789-7",
            )
            with BybitSpotBroker(client, bus, owner="grid") as broker:
                assert not broker.order("qkt-grid-0123456789-7").external
                broker.cancel("qkt-grid-0123456789-7")
                broker.wait("qkt-grid-0123456789-7", until="closed", timeout_ms=DEADLINE_MS)
        path = recorder.path
    result = replayed(path)

    assert result.difference is None, str(result.difference)
    assert {(event.account, event.source) for event in told} == {("main", "main:BYBIT_SPOT")}
    assert result.brokers == ("main:BYBIT_SPOT",)
