"""One order's story from a recording: each line in plain words and with its evidence."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from qkt import InvalidRequestError, OrderModification
from qkt.cli import main
from qkt.recorder.reading import Recording
from qkt.recorder.story import Story, story_of
from tests.recorder.conftest import SYMBOL, Recorded

DEADLINE_MS = 5_000


def text_of(story: Story) -> str:
    return "\n".join(f"{entry.what} | {entry.changed} | {entry.evidence}" for entry in story.entries)


def a_filled_order(rig: Recorded, name: str = "bot-1") -> Path:
    rig.submit("61000", name=name)
    rig.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)
    return rig.end()


def an_unknown_order(rig: Recorded) -> Path:
    rig.venue.faults.add("reply_lost", path="/v5/order/create", mode="reset")
    rig.submit(name="bot-9")
    rig.broker.wait("bot-9", until="resolved", timeout_ms=DEADLINE_MS)
    return rig.end()


def test_an_ordinary_order_is_told_from_request_to_fill(recorded: Recorded) -> None:
    story = story_of(Recording(a_filled_order(recorded)), "bot-1")

    told = text_of(story)
    assert story.headline.startswith(f"{SYMBOL} LIMIT BUY 0.01 @ 61000: FILLED, 0.01 executed at 60000.1")
    assert "about to send LIMIT BUY 0.01 @ 61000 GTC | unknown -> SUBMITTING" in told
    assert "sent the order by REST |  | POST /v5/order/create, 0001.jsonl:" in told
    assert "retCode 0 OK" in told
    assert "told OrderAccepted, OrderFilled | frame execution.spot, 0001.jsonl:" in told
    assert "SubmitIntended" not in told


def test_the_evidence_of_a_fill_is_the_line_that_holds_it(recorded: Recorded) -> None:
    recording = Recording(a_filled_order(recorded))
    fill = next(entry for entry in story_of(recording, "bot-1").entries if "execution " in entry.what)

    number = int(fill.evidence.rpartition(":")[2])
    line = next(line for line in recording.lines() if line.number == number)
    assert fill.what.split()[1] in line.text


def test_a_lost_reply_is_told_with_its_resolution(recorded: Recorded) -> None:
    told = text_of(story_of(Recording(an_unknown_order(recorded)), "bot-9"))

    assert "no reply after" in told
    assert "the venue may have it" in told
    assert "no definite answer to the order request" in told
    assert "UNRESOLVED -> NEW; told OrderAccepted" in told


def test_both_ids_tell_the_same_story(recorded: Recorded) -> None:
    recording = Recording(a_filled_order(recorded))
    by_name = story_of(recording, "bot-1")
    assert by_name.order is not None

    assert story_of(recording, by_name.order.broker_order_id).entries == by_name.entries


def test_an_id_that_begins_like_another_is_not_mixed_up(recorded: Recorded) -> None:
    recorded.submit("50000", name="bot-1")
    recording = Recording(a_filled_order(recorded, name="bot-10"))

    story = story_of(recording, "bot-1")
    assert [entry.what for entry in story.entries].count("sent the order by REST") == 1


def test_amend_and_cancel_are_told_in_plain_words(recorded: Recorded) -> None:
    name = recorded.submit(name="bot-2")
    recorded.broker.wait(name, until="accepted", timeout_ms=DEADLINE_MS)
    recorded.broker.modify(name, OrderModification(new_limit_price=Decimal(49_000)))
    recorded.broker.cancel(name)
    recorded.broker.wait(name, until="closed", timeout_ms=DEADLINE_MS)

    told = text_of(story_of(Recording(recorded.end()), name))
    assert "about to send an amend: limit price 49000" in told
    assert "sent an amend by REST" in told
    assert "about to send a cancel" in told


def test_an_order_that_the_recording_does_not_mention_is_an_error(recorded: Recorded) -> None:
    path = a_filled_order(recorded)

    with pytest.raises(InvalidRequestError, match="does not mention an order 'bot-7'"):
        story_of(Recording(path), "bot-7")


def test_the_command_tells_the_story_and_writes_a_page(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, html = a_filled_order(recorded), tmp_path / "story.html"

    assert main(["explain", "bot-1", "--recording", str(path), "--html", str(html)]) == 0
    out = capsys.readouterr().out
    assert "LIMIT BUY 0.01 @ 61000: FILLED" in out
    assert max(map(len, out.splitlines())) <= 110
    page = html.read_text()
    assert "<h1>bot-1</h1>" in page
    assert "src=" not in page
    assert "<script" not in page


def test_the_command_prints_one_json_document(recorded: Recorded, capsys: pytest.CaptureFixture[str]) -> None:
    path = a_filled_order(recorded)

    assert main(["explain", "bot-1", "--recording", str(path), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["order"]["status"] == "FILLED"
    assert {"at_ms", "origin", "what", "changed", "evidence"} == document["entries"][0].keys()


def test_the_command_asks_the_account_when_there_is_no_recording(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    a_filled_order(recorded)
    environment = {
        "BYBIT_API_KEY": "key-of-the-recorded-account",
        "BYBIT_API_SECRET": "secret-of-the-recorded-account",
        "BYBIT_REST_URL": recorded.venue.rest_url,
        "BYBIT_WS_URL": recorded.venue.ws_url,
    }
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)

    assert main(["explain", "bot-1"]) == 0
    out = capsys.readouterr().out
    assert "the order was created as" in out
    assert "executed 0.01 @ 60000.1 as taker" in " ".join(out.split())
    assert "last change: Filled, 0.01 executed" in " ".join(out.split())
    assert main(["explain", "bot-7"]) == 2
    assert "knows no order 'bot-7'" in capsys.readouterr().err


@pytest.mark.parametrize("options", [[], ["--verify"]])
def test_replay_and_verify_say_yes_to_a_good_run(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    path = a_filled_order(recorded)

    assert main(["replay", str(path.parent), *options]) == 0  # the folder of runs: its last one
    assert capsys.readouterr().out.startswith("nothing was altered" if options else "identical")


@pytest.mark.parametrize("options", [[], ["--verify"]])
def test_replay_and_verify_name_an_altered_line(
    recorded: Recorded, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    path = a_filled_order(recorded)
    part = path / "0001.jsonl"
    part.write_text(part.read_text().replace("60000.1", "60000.2", 1))

    assert main(["replay", str(path), *options]) == 1
    assert "was altered" in capsys.readouterr().out


def test_a_cut_off_end_is_found_by_the_hash_that_was_kept(
    recorded: Recorded, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_filled_order(recorded)
    part = path / "0001.jsonl"
    kept = json.loads(part.read_text().splitlines()[-1])["hash"]

    assert main(["replay", str(path), "--verify", "--last-hash", kept]) == 0
    part.write_text("".join(f"{line}\n" for line in part.read_text().splitlines()[:-3]))
    assert main(["replay", str(path), "--verify"]) == 0
    assert "was not closed" in capsys.readouterr().out
    assert main(["replay", str(path), "--verify", "--last-hash", kept]) == 1
