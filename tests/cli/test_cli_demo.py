"""`qkt demo`: the night ends in agreement, the check can fail, and a stranger can read it."""

from __future__ import annotations

import contextlib
import io
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from qkt.cli import main
from tests.support.cli_rig import Ended, end, environment, on_a_terminal, start

RUNS = {
    "absence-is-cancel": ("--json", "--sabotage", "absence-is-cancel"),
    "timeout-is-reject": ("--json", "--sabotage", "timeout-is-reject"),
    "no-reconcile": ("--sabotage", "no-reconcile"),
}


@pytest.fixture(scope="module")
def runs() -> dict[str, Ended]:
    """All the runs, side by side: they mostly wait."""
    with ThreadPoolExecutor(1) as beside:
        seen = beside.submit(on_a_terminal, "demo", "--fast")
        begun = {name: start("demo", "--fast", *options) for name, options in RUNS.items()}
        with contextlib.redirect_stdout(io.StringIO()) as out:
            honest = Ended(code=main(["demo", "--fast", "--json"]), out=out.getvalue())
        return {"honest": honest, "terminal": seen.result(), **{name: end(each) for name, each in begun.items()}}


def test_the_night_ends_in_agreement(runs: Any) -> None:
    assert (runs["honest"].code, runs["honest"].err) == (0, "")
    told = json.loads(runs["honest"].out)
    assert told["agrees"] is True
    assert set(told["counts"].values()) == {0}
    assert told["differences"] == []
    assert told["executions_told"] == told["executions_at_venue"] >= 5
    assert all(row["agrees"] for row in told["books"])


def test_what_no_frame_told_was_learned_by_asking(runs: Any) -> None:
    story = json.loads(runs["honest"].out)["story"]
    learned = {line["what"]: line["origin"] for line in story if line.get("origin")}

    assert learned["OrderCancelled C: CancelByUser"] == "reconcile"
    assert learned["OrderAccepted D"] == "reconcile"
    assert next(origin for what, origin in learned.items() if what.startswith("OrderFilled B")) == "reconcile"
    assert all(line["known_after_ms"] is None or line["known_after_ms"] < 5_000 for line in story if "origin" in line)


@pytest.mark.parametrize(
    ("rule", "counted"),
    [
        ("absence-is-cancel", "orders_falsely_ended"),
        ("timeout-is-reject", "orders_falsely_ended"),
    ],
)
def test_a_naive_rule_is_found_out(runs: Any, rule: str, counted: str) -> None:
    assert runs[rule].code == 1
    told = json.loads(runs[rule].out)
    assert told["agrees"] is False
    assert told["counts"][counted] >= 1
    assert told["sabotage"] == rule


def test_a_rule_is_taken_out_again_after_the_night() -> None:
    from qkt.bybit import order_entry, recovery
    from qkt.cli.demo.sabotage import RULES, sabotaged
    from qkt.reconcile.plan import settled_requests

    before = (settled_requests, order_entry.OrderEntry.unanswered_submit, recovery.BybitStateRecovery._round)
    for name in RULES:
        with sabotaged(name):
            now = (
                vars(recovery)["settled_requests"],
                order_entry.OrderEntry.unanswered_submit,
                recovery.BybitStateRecovery._round,
            )
            assert now != before
    after = (
        vars(recovery)["settled_requests"],
        order_entry.OrderEntry.unanswered_submit,
        recovery.BybitStateRecovery._round,
    )
    assert after == before


def test_piped_it_is_plain_text_within_eighty_columns(runs: Any) -> None:
    plain = runs["no-reconcile"]
    assert plain.code == 1
    assert "\x1b" not in plain.out
    assert max(map(len, plain.lines)) <= 80
    assert "The bot is wrong about its account." in plain.text
    assert "1 lost, 0 duplicated, 0 invented" in plain.text
    assert "fill lost: B" in plain.text


def test_on_a_terminal_it_is_the_same_text_in_colour(runs: Any) -> None:
    seen = runs["terminal"]

    assert seen.code == 0
    assert "\x1b[" in seen.out
    assert max(map(len, seen.lines)) <= 80
    assert "The bot believes exactly what the venue has." in seen.text
    assert "0 lost, 0 duplicated, 0 invented" in seen.text
    headings = [line for line in runs["no-reconcile"].lines if line[:1].isdigit()]
    assert [line.rstrip() for line in seen.lines if line[:1].isdigit()] == headings
    assert len(headings) == 7


def test_ctrl_c_ends_it_at_once_without_a_traceback() -> None:
    seen = on_a_terminal("demo", answer=("holds 10 BTC", "\x03"), timeout_s=20)

    assert seen.code == 130
    assert "Traceback" not in seen.text


def test_without_the_extra_it_says_which_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "aiohttp", None)

    assert main(["demo"]) == 2
    assert "pip install 'qkt[venue]'" in capsys.readouterr().err


def test_an_unknown_rule_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--sabotage", "hope"]) == 2
    assert "absence-is-cancel" in capsys.readouterr().err


@pytest.mark.verify
@pytest.mark.timeout(300)
def test_ten_seeds_agree() -> None:
    for first in range(2, 12, 2):
        pair = [start("demo", "--fast", "--json", "--seed", str(seed)) for seed in (first, first + 1)]
        for process in pair:
            ended = end(process)
            assert ended.code == 0, ended.out + ended.err


@pytest.mark.verify
@pytest.mark.timeout(120)
def test_the_whole_story_takes_half_a_minute() -> None:
    begun = start("demo", "--json", env=environment())
    ended = end(begun, timeout_s=60)
    told = json.loads(ended.out)
    assert ended.code == 0
    assert 15_000 < told["story"][-1]["at_ms"] < 40_000
