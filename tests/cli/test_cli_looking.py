"""`qkt doctor`, `watch`, `reconcile`, `venue`: looking changes nothing, and every screen is seen on a terminal."""

from __future__ import annotations

import io
import json
import signal
import sys
import threading
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from qkt.cli.doctor_checks import (
    Colour,
    account_type,
    clock_skew,
    expiry,
    ip_binding,
    key_is_valid,
    latency,
    percentile,
    permissions,
    withdrawal,
)
from qkt.cli.findings import Findings
from qkt.cli.output import Screen
from qkt.cli.reconcile import _lines as lines_of
from qkt.cli.reconcile_html import page
from qkt.model.balances import Wallet
from qkt.reconcile.report import Discrepancy, ReconcileReport
from tests.support.cli_rig import end, environment, many_on_a_terminal, on_a_terminal, start

SEEN = {
    "orders": ("orders",),
    "fills": ("fills",),
    "balances": ("balances",),
    "doctor": ("doctor",),
    "reconcile": ("reconcile", "--report", "--interval", "0s"),
    "watch": ("watch", "--for", "0s"),
    "version": ("version",),
    "submit": ("submit", "buy", "1", "SOLUSDT", "--limit", "100", "--yes"),
    "modify": ("modify", "to-modify", "--limit", "49000", "--yes"),
    "cancel": ("cancel", "to-cancel", "--yes"),
    "cancel-all": ("cancel-all", "--dry-run"),
}


def test_every_command_on_a_terminal_is_coloured_and_at_most_eighty_wide(venue: Any, venue_env: Any) -> None:
    for name in ("to-modify", "to-cancel", "stays"):
        venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000", orderLinkId=name)
    venue.trade(symbol="BTCUSDT", side="Buy", quantity="0.01")

    seen = dict(zip(SEEN, many_on_a_terminal(*SEEN.values(), env=venue_env), strict=True))

    assert {name: ended.code for name, ended in seen.items()} == dict.fromkeys(SEEN, 0)
    for name, ended in seen.items():
        assert "\x1b[" in ended.out, name
        assert max(map(len, ended.lines)) <= 80, ended.text
        assert "Traceback" not in ended.text
    assert "stays" in seen["orders"].text
    assert "0 red" in seen["doctor"].text


# -- doctor ------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few samples: what is measured is not the point of the test."""
    monkeypatch.setattr("qkt.cli.doctor._SAMPLES", 2)


@pytest.mark.usefixtures("quick_doctor")
def test_doctor_gives_a_light_per_line_and_says_what_to_do(qkt: Any, qkt_json: Any) -> None:
    code, told = qkt_json("doctor")
    assert (code, told["ok"]) == (0, True)
    lights = {light["name"]: light for light in told["lights"]}
    assert {"versions", "keys", "connection", "clock", "REST latency", "stream latency", "key", "permissions"} <= set(
        lights
    )
    assert {"withdrawal", "IP binding", "expiry", "account", "state", "open orders", "rate limits"} <= set(lights)
    assert lights["IP binding"]["colour"] == "yellow"
    assert all(bool(light["remedy"]) is (light["colour"] != "green") for light in told["lights"])


def test_doctor_is_red_without_keys_or_with_wrong_ones(
    qkt: Any, qkt_json: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYBIT_API_SECRET", "wrong")
    code, told = qkt_json("doctor")
    assert code == 1
    assert told["lights"][-1]["colour"] == "red"
    assert "BYBIT_API_SECRET" in told["lights"][-1]["remedy"]
    monkeypatch.delenv("BYBIT_API_KEY")
    ended = qkt("doctor")
    assert (ended.code, "BAD" in ended.text) == (1, True)


@pytest.mark.usefixtures("quick_doctor")
def test_doctor_sees_a_clock_that_is_wrong(venue: Any, qkt_json: Any) -> None:
    venue.faults.add("clock_skew", ms=-2_500)
    _, told = qkt_json("doctor")
    clock = next(light for light in told["lights"] if light["name"] == "clock")
    assert clock["colour"] == "red"
    assert clock["details"]["skew_ms"] == pytest.approx(-2_500, abs=200)


def test_a_clock_is_judged_by_what_the_line_can_tell() -> None:
    assert clock_skew([40.0], [100.0], recv_window_ms=5_000).colour is Colour.GREEN
    assert clock_skew([400.0], [100.0], recv_window_ms=5_000).colour is Colour.YELLOW
    assert clock_skew([6_000.0], [100.0], recv_window_ms=5_000).colour is Colour.RED
    assert clock_skew([-1_200.0], [100.0], recv_window_ms=5_000).colour is Colour.RED
    assert clock_skew([9_000.0, 10.0], [900.0, 20.0], recv_window_ms=5_000).colour is Colour.GREEN
    assert clock_skew([], [], recv_window_ms=5_000).colour is Colour.RED


def test_percentiles_are_samples_that_were_seen() -> None:
    samples = [5.0, 1.0, 4.0, 2.0, 3.0]
    assert [percentile(samples, percent) for percent in (50, 90, 100)] == [3.0, 5.0, 5.0]
    assert percentile([7.0], 50) == 7.0
    assert latency("REST latency", [2_000.0], "nearer").colour is Colour.YELLOW
    assert latency("REST latency", [], "nearer").value == "not measured"


@pytest.mark.parametrize(
    ("look", "reply", "colour"),
    [
        (key_is_valid, {"readOnly": 0}, Colour.GREEN),
        (key_is_valid, {"readOnly": 1}, Colour.YELLOW),
        (permissions, {"permissions": {"Spot": ["SpotTrade"]}}, Colour.GREEN),
        (permissions, {"permissions": {"Spot": []}}, Colour.RED),
        (permissions, {}, Colour.RED),
        (withdrawal, {"permissions": {"Wallet": ["AccountTransfer"]}}, Colour.GREEN),
        (withdrawal, {"permissions": {"Wallet": ["AccountTransfer", "Withdraw"]}}, Colour.YELLOW),
        (ip_binding, {"ips": ["*"]}, Colour.YELLOW),
        (ip_binding, {"ips": []}, Colour.YELLOW),
        (ip_binding, {"ips": ["10.0.0.1"]}, Colour.GREEN),
        (expiry, {"deadlineDay": 90}, Colour.GREEN),
        (expiry, {"deadlineDay": 30}, Colour.YELLOW),
        (expiry, {"deadlineDay": 3}, Colour.RED),
        (expiry, {"deadlineDay": "soon"}, Colour.GREEN),
        (expiry, {}, Colour.GREEN),
    ],
)
def test_what_the_key_is_good_for(look: Any, reply: dict[str, Any], colour: Any) -> None:
    light = look(reply)
    assert light.colour is colour
    assert bool(light.remedy) is (colour is not Colour.GREEN)


@pytest.mark.parametrize(
    ("status", "colour"),
    [(5, Colour.GREEN), (6, Colour.GREEN), (4, Colour.YELLOW), (1, Colour.RED), (None, Colour.YELLOW)],
)
def test_what_the_account_is(status: int | None, colour: Any) -> None:
    assert account_type({"unifiedMarginStatus": status}, "UNIFIED").colour is colour


# -- reconcile ---------------------------------------------------------------------------------------------------


def test_reconcile_reads_everything_and_finds_nothing(venue: Any, qkt: Any, qkt_json: Any) -> None:
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000")
    code, told = qkt_json("reconcile", "--interval", "0s")
    assert (code, told["ok"], told["discrepancies"], told["unresolved"]) == (0, True, [], [])
    assert [report["source"] for report in told["reports"]] == ["BYBIT_SPOT", "BYBIT_LINEAR"] * 2
    assert len(told["open_orders"]) == 1
    assert "what differed" in qkt("reconcile", "--interval", "0s").text


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: Any, attrs: Any) -> None:
        if tag not in ("meta", "!doctype"):
            self.open.append(tag)

    def handle_endtag(self, tag: Any) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: Any) -> None:
        self.words += data


def test_reconcile_writes_a_page_of_its_own(venue: Any, qkt: Any, tmp_path: Path) -> None:
    venue.place(
        symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000", orderLinkId="a-resting-order"
    )
    target = tmp_path / "report.html"
    assert qkt("reconcile", "--report", "--html", str(target), "--rounds", "1").code == 0
    page = _Page(target.read_text())
    assert page.open == []
    assert "Everything was read, nothing differed and nothing is unresolved." in page.words
    assert "a-resting-order" in page.words
    assert "<script" not in target.read_text()

    ended = qkt("reconcile", "--html", str(tmp_path / "no" / "such" / "folder.html"), "--rounds", "1")
    assert (ended.code, "cannot write" in ended.err) == (2, True)


def test_reconcile_says_what_it_could_not_read(venue: Any, qkt: Any) -> None:
    venue.faults.add("missing_list", path="/v5/execution/list")
    ended = qkt("reconcile", "--report")
    assert ended.code == 3
    assert "executions" in ended.text
    assert "incomplete" in ended.text


@pytest.mark.verify
def test_reconcile_finds_what_the_stream_did_not_tell(venue: Any, venue_env: Any) -> None:
    """A fill whose frames are dropped, older than what a healthy stream would still be about to tell."""
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000", orderLinkId="quiet")
    venue.faults.add("stream_mute")
    process = start("reconcile", "--json", "--rounds", "2", "--interval", "4s", env=venue_env)
    wait_for_the_first_round(venue)
    venue.fill("quiet", "0.04")
    ended = end(process)
    told = json.loads(ended.out)
    assert (ended.code, [found["kind"] for found in told["discrepancies"]][:1]) == (1, ["missed_fill"])
    assert told["discrepancies"][0]["client_order_id"] == "quiet"


def wait_for_the_first_round(venue: Any) -> None:
    """Until a client has read its executions: it asks for the wallet when it connects, and after them in each round."""
    finished = threading.Event()
    wallets = []

    def look(entry: Any) -> None:
        if entry["event"] == "request" and entry.get("path") == "/v5/account/wallet-balance":
            wallets.append(entry)
            if len(wallets) == 2:
                finished.set()

    venue.journal.listen(look)
    assert finished.wait(20)


def test_a_discrepancy_is_shown_with_its_evidence() -> None:
    found = Discrepancy(
        kind="missed_fill",
        client_order_id="quiet",
        what="0.04 @ 50000 unknown",
        evidence="execution 17",
        likely_cause="ws_drop: no frame told it",
        wrong_for_ms=2_500,
    )
    report = ReconcileReport(
        source="BYBIT_SPOT", trigger="asked", started_ms=0, duration_ms=5, paths=(), discrepancies=(found,)
    )
    findings = Findings(
        place="testnet",
        scope="spot",
        reports=(report,),
        orders=(),
        wallet=Wallet(),
        unresolved=("lost",),
    )
    text = "\n".join(
        line if isinstance(line, str) else "".join(t for t, _ in line) for line in lines_of(findings, in_detail=True)
    )
    for words in (text, _Page(page(findings)).words):
        assert [
            part for part in ("missed_fill", "quiet", "execution 17", "ws_drop", "2.5 s", "lost") if part not in words
        ] == []
    assert findings.code == 4


# -- watch -------------------------------------------------------------------------------------------------------


def test_watch_shows_orders_fills_balances_and_the_age_of_each(venue: Any, qkt: Any, qkt_json: Any) -> None:
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000", orderLinkId="watched")
    venue.fill("watched", "0.04")
    seen = qkt("watch", "--once")
    assert seen.code == 0
    assert "stream live" in seen.text
    assert [
        word for word in ("AGE", "spot", "linear", "orders", "executions", "balances") if word not in seen.text
    ] == []
    assert "0.04" in next(line for line in seen.lines if line.startswith("watched"))

    code, told = qkt_json("watch", "--once")
    assert (code, set(told["health"])) == (0, {"spot", "linear"})
    for health in told["health"].values():
        assert health["stream"] == "live"
        assert all(health[domain] is not None for domain in ("orders", "executions", "balances"))


def test_watch_stays_through_a_lost_stream_and_shows_it(venue: Any, venue_env: Any) -> None:
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000", orderLinkId="watched")
    process = start("watch", "--json", "--poll", "500ms", env=venue_env)
    told = (json.loads(line) for line in process.stdout)  # type: ignore[union-attr]
    assert any("state" in each for each in told)
    venue.cut_streams()
    venue.fill("watched", "0.04")
    heard = []
    for each in told:
        heard.append(each.get("event"))
        if {"HealthDegraded", "HealthRestored", "OrderPartiallyFilled"} <= set(heard):
            break
    process.send_signal(signal.SIGINT)
    ended = end(process)
    assert (ended.code, ended.err) == (130, "")


def test_ctrl_c_ends_watch_and_gives_the_screen_back(venue_env: Any) -> None:
    seen = on_a_terminal("watch", env=venue_env, answer=("balances", "\x03"))
    assert seen.code == 130
    assert "\x1b[?1049h" in seen.out
    assert "\x1b[?1049l" in seen.out
    assert "Traceback" not in seen.text


@pytest.mark.verify
def test_ctrl_c_while_it_connects_is_clean(venue: Any, venue_env: Any) -> None:
    venue.faults.add("half_open")
    seen = on_a_terminal("orders", env=venue_env, answer=("connecting", "\x03"))
    assert seen.code == 130
    assert "Traceback" not in seen.text


# -- venue -------------------------------------------------------------------------------------------------------


@pytest.mark.verify
def test_venue_listens_and_ends_on_ctrl_c() -> None:
    seen = on_a_terminal("venue", "--port", "0", "--market", "still", answer=("Ctrl-C ends it", "\x03"))
    assert "simulated Bybit V5" in seen.text
    assert "Traceback" not in seen.text
    assert seen.code == 0  # its normal end


def test_venue_without_its_extra_says_which_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from qkt.cli import main

    monkeypatch.setitem(__import__("sys").modules, "aiohttp", None)
    assert main(["venue"]) == 2
    assert "pip install 'qkt[venue]'" in capsys.readouterr().err


def test_without_rich_a_terminal_gets_plain_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for out, is_plain in ((Terminal(), False), (Terminal(), True), (io.StringIO(), True)):
        if is_plain and out.isatty():
            monkeypatch.setitem(sys.modules, "rich.console", None)
        Screen(out=out).line([("green", "green"), (" plain", "")])
        assert ("\x1b" in out.getvalue()) is not is_plain


@pytest.mark.verify
def test_the_pipe_may_close_early(venue_env: Any) -> None:
    process = start("version", env=environment())
    process.stdout.close()  # type: ignore[union-attr]
    assert process.wait(20) in (0, 120)
    assert "Traceback" not in process.stderr.read()  # type: ignore[union-attr]
