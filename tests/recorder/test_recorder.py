"""The flight recorder writes everything that was heard, sent, concluded and told, and nothing that is secret."""

from __future__ import annotations

import json
import logging
import threading
from pathlib import Path
from typing import Any

import pytest

from qkt import BybitSpotBroker, EventBus, InvalidRequestError, OrderFilled, Side
from qkt.events import BalancesUpdated
from qkt.recorder import FlightRecorder
from qkt.recorder.reading import Recording, verify
from qkt.recorder.recorder import _ClientTap
from qkt.testing import FakeBybitClient
from tests.recorder.conftest import KEY, SECRET, Recorded

DEADLINE_MS = 5_000


def lines(path: Path) -> list[dict[str, Any]]:
    return [line.fields for line in Recording(path).lines()]


def kinds(path: Path) -> set[str]:
    return {line["kind"] for line in lines(path)}


def test_a_run_holds_wire_operations_and_manifest(recorded: Recorded) -> None:
    name = recorded.submit("61000")
    recorded.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)
    path = recorded.end()

    assert kinds(path) == {"run", "transport", "broker", "request", "reply", "frame", "link", "op", "end"}
    first = lines(path)[0]
    assert {"format", "run", "started_ms", "qkt", "python", "platform", "nonce"} <= first.keys()
    settings = next(line["settings"] for line in lines(path) if line["kind"] == "broker")
    assert (settings["category"], settings["intervals_ms"]["orders"]) == ("spot", 60_000)


def test_a_request_and_its_reply_are_found_by_number(recorded: Recorded) -> None:
    name = recorded.submit()
    found = lines(recorded.end())

    request = next(line for line in found if line["kind"] == "request" and line["path"] == "/v5/order/create")
    reply = next(line for line in found if line["kind"] == "reply" and line["id"] == request["id"])
    assert json.loads(request["payload"])["orderLinkId"] == name
    assert json.loads(reply["text"])["retCode"] == 0


def test_a_request_without_a_reply_is_recorded_as_failed(recorded: Recorded) -> None:
    recorded.venue.faults.add("reply_lost", path="/v5/order/create", mode="reset")
    recorded.submit()
    found = lines(recorded.end())

    failure = next(line for line in found if line["kind"] == "failure")
    request = next(line for line in found if line["kind"] == "request" and line["id"] == failure["id"])
    assert request["path"] == "/v5/order/create"
    assert failure["has_left"] is True


def test_no_secret_and_no_signature_is_written(recorded: Recorded) -> None:
    recorded.submit("61000")
    recorded.client.get_signed("/v5/user/query-api", {})
    path = recorded.end()

    text = "".join(part.read_text() for part in sorted(path.iterdir()))
    assert KEY not in text
    assert SECRET not in text
    assert "X-BAPI-SIGN" not in text
    assert "***" in text  # the venue's echo of the key was there


def test_events_of_other_publishers_are_recorded_once(recorded: Recorded) -> None:
    recorded.bus.publish(BalancesUpdated(source="MINE"))
    name = recorded.submit("61000")
    recorded.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)
    found = lines(recorded.end())

    foreign = [line["event"] for line in found if line["kind"] == "event"]
    told = [event["_"] for line in found if line["kind"] == "op" for event in line.get("events", ())]
    assert [event["source"] for event in foreign] == ["MINE"]
    assert told.count(OrderFilled.__name__) == 1


def test_files_are_rotated_by_size_and_chained(tmp_path: Path) -> None:
    with FlightRecorder(tmp_path, max_file_bytes=2_000) as recorder:
        fill(recorder, 100)
    recording = Recording(recorder.path)

    assert len(recording.parts) > 3
    assert all(part.stat().st_size < 3_000 for part in recording.parts)
    assert verify(recording).ok
    assert [line.fields["id"] for line in recording.lines() if line.kind == "reply"] == list(range(100))


def test_only_so_many_files_are_kept(tmp_path: Path) -> None:
    with FlightRecorder(tmp_path, max_file_bytes=1_000, keep_files=3) as recorder:
        fill(recorder, 100)
    recording = Recording(recorder.path)

    assert len(recording.parts) == 3
    assert not recording.begins_at_the_start
    assert verify(recording).ok


def test_what_does_not_fit_is_counted_and_trading_is_not_held_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    write = FlightRecorder._write
    monkeypatch.setattr(FlightRecorder, "_write", lambda self: (may_write.wait(5), write(self)))
    recorder = FlightRecorder(tmp_path, max_waiting_bytes=10_000)
    with caplog.at_level(logging.WARNING, logger="qkt"):
        fill(recorder, 1_000)  # the writer has not begun: nothing here waits for it
        may_write.set()
        recorder.close()

    dropped = sum(line["dropped"] for line in lines(recorder.path) if line["kind"] == "gap")
    written = sum(line["kind"] == "reply" for line in lines(recorder.path))
    assert dropped + written == 1_000
    assert dropped == recorder.stats.dropped > 900
    assert "recording has a gap" in caplog.text


def test_a_disk_that_fails_stops_the_recording_and_nothing_else(
    recorded: Recorded, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_text: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(recorded.recorder._files, "write", full)
    name = recorded.submit("61000")
    order = recorded.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)
    recorded.end()

    assert order.status.name == "FILLED"
    assert "recording stopped" in caplog.text
    assert not recorded.recorder.stats.is_recording


def test_a_program_that_was_killed_leaves_a_run_that_can_be_read(recorded: Recorded) -> None:
    recorded.submit()
    path = recorded.end()
    part = max(path.iterdir())
    part.write_text(part.read_text()[:-50])  # the last line is torn

    found = verify(Recording(path))
    assert found.ok
    assert not found.is_complete


def test_close_is_idempotent_and_leaves_no_thread(tmp_path: Path) -> None:
    recorder = FlightRecorder(tmp_path)
    recorder.close()
    recorder.close()
    fill(recorder, 3)

    assert [line["kind"] for line in lines(recorder.path)] == ["run", "end"]
    assert "qkt-recorder" not in [thread.name for thread in threading.enumerate()]
    assert "closed" in repr(recorder)


def test_two_recorders_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    with FlightRecorder(tmp_path) as first, FlightRecorder(tmp_path) as second:
        assert first.path != second.path


@pytest.mark.parametrize("limit", [{"max_file_bytes": 0}, {"keep_files": -1}, {"max_waiting_bytes": True}])
def test_a_senseless_limit_is_refused(tmp_path: Path, limit: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequestError, match="must be a whole number above zero"):
        FlightRecorder(tmp_path, **limit)


def test_what_is_no_client_and_no_bus_is_refused(tmp_path: Path) -> None:
    with FlightRecorder(tmp_path) as recorder, pytest.raises(InvalidRequestError, match="BybitTransport"):
        recorder.attach(object())


def test_brokers_on_any_transport_are_recorded(tmp_path: Path) -> None:
    with FlightRecorder(tmp_path) as recorder:
        client, bus = FakeBybitClient(), EventBus()
        recorder.attach(client, bus)
        with BybitSpotBroker(client, bus):
            pass

    assert {"broker", "op"} <= kinds(recorder.path)


def test_a_sell_and_a_buy_are_told_apart(recorded: Recorded) -> None:
    recorded.submit("61000", side=Side.SELL)
    found = lines(recorded.end())

    submitted = next(line for line in found if line["kind"] == "op" and line["op"] == "submit")
    assert submitted["inputs"][0]["request"]["side"] == "#Side.SELL"


def fill(recorder: FlightRecorder, count: int) -> None:
    tap = _ClientTap(recorder, 0)
    for number in range(count):
        tap.answered(number, 200, b'{"retCode":0}')


def test_a_recorder_whose_disk_failed_leaves_the_bus_and_the_file_at_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = EventBus()
    before = repr(bus)
    recorder = FlightRecorder(tmp_path).attach(bus)
    begin = recorder._files._begin
    opened: list[Any] = []

    def begin_and_fail() -> None:
        begin()
        opened.append(recorder._files._file)
        raise OSError("no space left on device")

    monkeypatch.setattr(recorder._files, "_begin", begin_and_fail)
    unregistered: list[object] = []
    monkeypatch.setattr("atexit.unregister", unregistered.append)
    recorder._put("link", {"news": "ready", "detail": ""})
    recorder._writer.join(DEADLINE_MS / 1_000)
    recorder.close()

    assert repr(bus) == before
    assert [file.closed for file in opened] == [True]
    assert unregistered == [recorder._at_exit]
