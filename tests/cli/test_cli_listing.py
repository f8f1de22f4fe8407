"""`qkt orders`, `fills`, `balances`, `version`, and what is common to every command."""

from __future__ import annotations

import json
from typing import Any

import pytest

from qkt.cli import COMMANDS, main
from qkt.cli.formatting import span
from qkt.cli.listings import span_ms  # type: ignore[attr-defined]
from qkt.errors import InvalidRequestError


def test_orders_lists_every_open_order_whoever_placed_it(venue: Any, qkt: Any, qkt_json: Any) -> None:
    assert "no open orders" in qkt("orders").text
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000", orderLinkId="mine")
    venue.fill("mine", "0.04")
    venue.place(
        symbol="ETHUSDT", side="Sell", orderType="Market", qty="1", triggerPrice="2000", orderFilter="StopOrder"
    )

    seen = qkt("orders")
    assert seen.code == 0
    assert "2 open orders" in seen.text
    row = next(line for line in seen.lines if line.startswith("mine"))
    assert row.split() == ["mine", "BTCUSDT", "buy", "0.1", "50000", "0.04", "partial"]
    assert "stop 2000" in seen.text

    code, told = qkt_json("orders", "--symbol", "btcusdt")
    assert (code, [order["client_order_id"] for order in told["orders"]]) == (0, ["mine"])
    assert told["orders"][0]["cum_quantity"] == "0.04"


def test_fills_lists_what_has_traded_oldest_first(venue: Any, qkt: Any, qkt_json: Any) -> None:
    venue.trade(symbol="BTCUSDT", side="Buy", quantity="0.01")
    venue.trade(symbol="ETHUSDT", side="Sell", quantity="1")

    code, told = qkt_json("fills", "--since", "5m")
    assert (code, [fill["symbol"] for fill in told["fills"]]) == (0, ["BYBIT_SPOT:BTCUSDT", "BYBIT_SPOT:ETHUSDT"])
    record = venue.truth()["executions"]
    assert [fill["exec_id"] for fill in told["fills"]] == [row["execId"] for row in record]
    assert "1 fill of spot and linear in the last 1h" in qkt("fills", "--symbol", "ETHUSDT").text


def test_balances_shows_what_is_there_and_what_is_locked(venue: Any, qkt: Any, qkt_json: Any) -> None:
    venue.place(symbol="BTCUSDT", side="Buy", orderType="Limit", qty="0.1", price="50000")

    code, told = qkt_json("balances")
    assert code == 0
    usdt = told["balances"]["USDT"]
    assert (usdt["total"], usdt["locked"], usdt["available"]) == ("100000", "5000", "95000")
    assert (usdt["equity"], usdt["borrowed"]) == ("100000", "0")
    row = next(line for line in qkt("balances").lines if line.startswith("USDT"))
    assert row.split() == ["USDT", "100000", "5000", "95000"]


def test_version_names_what_qkt_stands_on(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"qkt", "python", "requests", "websocket-client", "attrs", "blinker"} <= found.keys()
    assert main(["version"]) == 0
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.endswith(f"qkt {found['qkt']}\n")


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 80
    assert main([]) == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"qkt {command}" in capsys.readouterr().out


def test_an_unknown_command_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["oders"]) == 2
    assert "'oders'" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["orders", "fills", "balances", "reconcile", "watch"])
def test_without_keys_nothing_is_asked(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("BYBIT_API_KEY", raising=False)
    monkeypatch.delenv("BYBIT_API_SECRET", raising=False)
    assert main([command]) == 2
    assert "BYBIT_API_KEY and BYBIT_API_SECRET" in capsys.readouterr().err


def test_no_command_takes_a_key_as_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    for command in COMMANDS:
        main([command, "--help"])
        text = capsys.readouterr().out
        assert "--api-key" not in text
        assert "--secret" not in text


def test_the_live_host_in_the_environment_needs_the_word_live(qkt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYBIT_REST_URL", "https://api.bybit.com")
    ended = qkt("orders")
    assert ended.code == 2
    assert "--live" in ended.err


def test_a_wrong_secret_is_said_in_a_sentence(qkt: Any, qkt_json: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BYBIT_API_SECRET", "wrong-one")
    code, told = qkt_json("balances")
    assert (code, told["exit_code"], told["error"]) == (2, 2, "BybitConnectError")
    assert "10004" in told["message"]
    assert "wrong-one" not in told["message"]


@pytest.mark.verify
def test_nobody_at_home_is_exit_code_three(venue: Any, qkt: Any) -> None:
    venue.stop()
    ended = qkt("orders")
    assert ended.code == 3
    assert "Traceback" not in ended.err


def test_a_venue_that_cannot_be_read_in_full_is_exit_code_three(venue: Any, qkt: Any) -> None:
    venue.faults.add("empty_result", path="/v5/order/realtime")
    ended = qkt("orders")
    assert ended.code == 3
    assert "orders" in ended.err


@pytest.mark.parametrize(("text", "ms"), [("30s", 30_000), ("5m", 300_000), ("12h", 43_200_000), ("7d", 604_800_000)])
def test_spans_as_typed(text: str, ms: int) -> None:
    assert span_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1.5h", "1w"])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="12h"):
        span_ms(text)


@pytest.mark.parametrize(
    ("ms", "text"),
    [(None, "never"), (0, "0 ms"), (999, "999 ms"), (1_500, "1.5 s"), (61_000, "61 s"), (150_000, "2 min")],
)
def test_spans_as_shown(ms: int | None, text: str) -> None:
    assert span(ms) == text
