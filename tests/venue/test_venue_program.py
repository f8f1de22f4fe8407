"""The venue as a program, its lifecycle, and what it may import."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import requests

import qkt.venue
from qkt.venue import KINDS, SimulatedBybit
from qkt.venue.__main__ import describe, main
from qkt.venue.faults.reference_page import reference_page

PACKAGE = Path(qkt.venue.__file__).parent
ROOT = PACKAGE.parent.parent


def run(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "qkt.venue", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_it_says_where_it_listens_logs_what_happens_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    story = tmp_path / "story.toml"
    story.write_text(
        '[[fault]]\nname = "http_429"\npath = "/v5/market/time"\ncount = 1\n\n'
        '[[event]]\nat_ms = 0\ndo = "price"\nsymbol = "BTCUSDT"\nprice = "61000"\n'
    )
    journal = tmp_path / "journal.jsonl"
    process = run("--market", "still", "--faults", str(story), "--journal", str(journal))
    try:
        assert process.stdout is not None
        first = process.stdout.readline()
        rest_url = next(word for word in first.split() if word.startswith("http://127.0.0.1:"))
        assert requests.get(rest_url + "/v5/market/time", timeout=5).status_code == 429
        assert requests.get(rest_url + "/v5/market/time", timeout=5).status_code == 200
        seen: set[str] = set()
        while not {"fault", "request", "price"} <= seen:
            seen |= set(process.stdout.readline().split())
    finally:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (0, "")
    assert output.strip().endswith("stopped")
    events = [json.loads(line)["event"] for line in journal.read_text().splitlines()]
    assert {"fault", "request", "price"} <= set(events)


def test_with_json_every_line_on_stdout_is_a_document() -> None:
    process = run("--market", "still", "--json")
    try:
        assert process.stdout is not None
        first = json.loads(process.stdout.readline())
        while first["event"] != "listening":  # what the journal tells of the start may come before it
            first = json.loads(process.stdout.readline())
        assert requests.get(first["rest_url"] + "/v5/market/time", timeout=5).status_code == 200
    finally:
        process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    events = [json.loads(line)["event"] for line in output.splitlines()]
    assert (process.returncode, errors) == (0, "")
    assert "request" in events
    assert events[-1] == "stopped"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not toml", "story.toml"),
        ("[oops]", "only [[fault]] and [[event]]"),
        ('[[fault]]\nname = "nope"', "no fault is called"),
        ('[[event]]\ndo = "dance"', "dance"),
    ],
)
def test_a_story_that_makes_no_sense_ends_with_a_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    story = tmp_path / "story.toml"
    story.write_text(text)
    assert main(["--port", "0", "--faults", str(story)]) == 2
    assert words in capsys.readouterr().err


def test_a_taken_port_is_said_and_not_traced(venue: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", str(venue.port), "--quiet"]) == 1
    assert "cannot listen" in capsys.readouterr().err


def test_a_log_line_is_readable() -> None:
    entry = {
        "n": 1,
        "t": 1_767_225_600_123,
        "event": "order placed",
        "account": "key",
        "orderId": "7",
        "price": "59000",
    }
    assert describe(entry) == "00:00:00.123 order placed      [key] orderId=7 price=59000"


def test_the_events_of_a_story_happen() -> None:
    from qkt.venue.__main__ import _timer

    venue = SimulatedBybit()
    for event in (
        {"do": "price", "symbol": "BTCUSDT", "price": 61000},
        {"do": "deposit", "coin": "SOL", "amount": "5"},
        {"do": "restart", "cut_streams": True},
        {"do": "cut"},
    ):
        timer = _timer(venue, event)
        timer.start()
        timer.join()
    assert venue.last_price("BTCUSDT") == 61_000
    assert venue.truth()["balances"]["SOL"]["walletBalance"] == "1005"
    assert [entry["event"] for entry in venue.journal.entries()] == [
        "price",
        "deposit",
        "restart",
        "streams cut",
        "streams cut",
    ]


def test_the_controls_open_accounts_and_move_money(venue: Any, new_rest: Any) -> None:
    controls = venue.rest_url + "/_venue"

    def post(path: str, **body: object) -> int:
        return requests.post(controls + path, json=body, timeout=10).status_code

    assert post("/account", key="other", secret="o", balances={"USDT": 1000}) == 200
    assert post("/deposit", account="other", coin="BTC", amount="1") == 200
    assert post("/trade", account="other", symbol="BTCUSDT", side="Sell", quantity="0.5") == 200
    truth = venue.truth("other")
    assert truth["balances"]["BTC"]["walletBalance"] == "0.5"
    order = venue.place("other", symbol="BTCUSDT", side="Sell", orderType="Limit", qty="0.1", price="61000")
    assert post("/cancel", orderId=order["orderId"], cancel_type="CancelByAdmin") == 200
    assert post("/trade", account="other", symbol="BTCUSDT", side="Sell", quantity="50") == 400
    assert post("/account", key="other", secret="again") == 400
    assert post("/fill") == 400


def test_start_and_stop_are_idempotent_and_leave_no_thread() -> None:
    venue = SimulatedBybit()
    before = set(threading.enumerate())
    for _ in range(2):
        venue.start()
        venue.start()
        assert venue.is_running
        assert requests.get(venue.rest_url + "/v5/market/time", timeout=10).status_code == 200
        venue.stop()
        venue.stop()
        assert not venue.is_running
    assert set(threading.enumerate()) == before


def test_a_venue_that_refused_connections_can_be_started_again() -> None:
    venue = SimulatedBybit()
    with venue:
        venue.faults.add("connection_refused")
    venue.faults.clear()
    with venue:
        assert requests.get(venue.rest_url + "/v5/market/time", timeout=10).status_code == 200


def test_stopping_lets_go_of_clients_that_hang(venue: Any, rest: Any) -> None:
    venue.faults.add("half_open")
    caught: list[Exception] = []

    def ask() -> None:
        try:
            rest.timeout_s = 10
            rest.get("/v5/order/realtime", category="spot")
        except requests.exceptions.ConnectionError as error:
            caught.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    assert venue.wait_for("fault", fault="half_open")
    venue.stop()
    thread.join(10)
    assert len(caught) == 1


def test_waiting_for_an_event_ends_when_it_happens_or_when_time_is_up(venue: Any, rest: Any) -> None:
    rest.create(orderLinkId="a")
    assert venue.wait_for("order", orderLinkId="a", orderStatus="New")
    assert not venue.wait_for("order", orderLinkId="a", orderStatus="Filled", timeout_s=0.01)


def test_truth_survives_the_stop(venue: Any, rest: Any) -> None:
    rest.create(orderLinkId="a")
    venue.stop()
    assert [order["orderLinkId"] for order in venue.truth()["orders"]] == ["a"]
    json.dumps(venue.truth())


def test_the_hand_of_god_works_without_any_connection() -> None:
    venue = SimulatedBybit()
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.01", price="59000", orderLinkId="a")
    venue.set_price("BTCUSDT", "58999")
    assert venue.cut_streams() == 0
    assert venue.wait_idle() in (True, False)
    assert venue.truth()["orders"][0]["orderStatus"] == "Filled"


def test_the_hand_of_god_may_be_many_threads(venue: Any, rest: Any) -> None:
    def hand(name: int) -> None:
        for number in range(25):
            link = f"{name}-{number}"
            venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.001", price="59000", orderLinkId=link)
            venue.fill(link) if number % 2 else venue.cancel(link)

    threads = [threading.Thread(target=hand, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(venue.truth()["orders"]) == 100
    assert len(venue.truth()["executions"]) == 48
    assert venue.total("USDT") == 100_000


def test_it_answers_to_both_of_its_names() -> None:
    assert qkt.venue.SimulatedVenue is SimulatedBybit


def test_a_repr_says_where_and_what(venue: Any, rest: Any) -> None:
    rest.create()
    assert repr(venue) == (
        f"<SimulatedBybit at {venue.rest_url} orders=1 BTCUSDT=60000 ETHUSDT=3000 SOLUSDT=150 faults=0>"
    )


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_venue_shares_no_code_with_the_sdk(path: Any) -> None:
    """They check each other, so they cannot share a mistake: not even a helper for decimals."""
    depth = len(path.relative_to(PACKAGE).parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name == "qkt" or alias.name.startswith("qkt.") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= depth, "a relative import leaves the package"
            assert not (node.level == 0 and node.module and node.module.split(".")[0] == "qkt")


@pytest.mark.parametrize("path", sorted((PACKAGE / "exchange").rglob("*.py")), ids=lambda path: path.name)
def test_the_exchange_is_pure(path: Any) -> None:
    """No I/O, no threads, no clock of its own: what it needs comes in."""
    forbidden = {"asyncio", "aiohttp", "threading", "socket", "time", "datetime", "http", "logging"}
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        assert not {name.split(".")[0] for name in names} & forbidden


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_room_says_why_it_exists(path: Any) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))
    assert len(path.read_text().splitlines()) < 500


def test_the_reference_page_of_faults_is_the_catalogue() -> None:
    """Written by ``python -m qkt.venue.faults.reference_page``; this holds it to the code."""
    assert (ROOT / "docs/reference/venue-faults.md").read_text() == reference_page()
    for name in KINDS:
        assert f"### `{name}`" in reference_page()


class TestTheControlsAreForThisMachineOnly:
    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Host": "attacker.example"}, 403),
            ({"Origin": "https://attacker.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Content-Type": "text/plain"}, 415),
            ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
            ({"Host": "localhost:1", "Origin": "http://localhost:3000"}, 200),
            ({"Host": "[::1]:80", "Content-Type": "application/json; charset=utf-8"}, 200),
        ],
    )
    def test_who_may_post(self, venue: SimulatedBybit, headers: dict[str, str], status: int) -> None:
        answer = requests.post(
            venue.rest_url + "/_venue/deposit",
            data=b'{"coin": "BTC", "amount": "1"}',
            headers={"Content-Type": "application/json", **headers},
            timeout=10,
        )
        assert answer.status_code == status
        assert venue.truth()["balances"]["BTC"]["walletBalance"] == ("11" if status == 200 else "10")

    def test_a_rebound_name_cannot_read_the_truth(self, venue: SimulatedBybit) -> None:
        answer = requests.get(venue.rest_url + "/_venue/truth", headers={"Host": "rebound.example:8765"}, timeout=10)
        assert (answer.status_code, "error" in answer.json()) == (403, True)

    def test_deeply_nested_json_is_answered_with_400(self, venue: SimulatedBybit) -> None:
        answer = requests.post(
            venue.rest_url + "/_venue/deposit",
            data=b"[" * 100_000,
            headers={"Content-Type": "application/json"},
            timeout=10,
        )
        assert answer.status_code == 400


def test_deeply_nested_json_to_the_api_is_answered_with_10001(rest: Any) -> None:
    assert rest.post_raw("/v5/order/create", "[" * 100_000).json()["retCode"] == 10001
    assert rest.post_raw("/v5/order/create", '{"a":' * 100_000).json()["retCode"] == 10001


def test_a_url_before_the_start_says_what_is_missing() -> None:
    venue = SimulatedBybit()
    for read in (lambda: venue.rest_url, lambda: venue.ws_url, lambda: venue.trade_ws_url, venue.public_ws_url):
        with pytest.raises(RuntimeError, match=r"start\(\)"):
            read()  # type: ignore[no-untyped-call]


def test_a_journal_in_a_missing_folder_ends_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port", "0", "--journal", str(tmp_path / "missing" / "file.jsonl")]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1
    assert "missing" in errors[0]


@pytest.mark.parametrize("port", ["80000", "-1", "http"])
def test_a_port_that_cannot_be_one_is_said(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([f"--port={port}"])
    assert f"{port!r} is not a port" in capsys.readouterr().err


def imports_within_the_package() -> dict[str, set[str]]:
    """Module -> the modules of `qkt.venue` it imports, those for type checking included."""
    names = {".".join(("qkt", "venue", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in modules()}
    graph: dict[str, set[str]] = {}
    for name, path in names.items():
        package = name.split(".")[:-1]
        graph[name] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
                graph[name] |= {found for found in (base, *(f"{base}.{a.name}" for a in node.names)) if found in names}
    return graph


def test_no_module_of_the_venue_imports_itself_through_others() -> None:
    graph = imports_within_the_package()
    assert graph["qkt.venue.venue"], "the graph is empty: nothing would be tested"
    while leaves := [name for name, imported in graph.items() if not imported]:
        for leaf in leaves:
            del graph[leaf]
        graph = {name: imported - set(leaves) for name, imported in graph.items()}
    assert graph == {}
