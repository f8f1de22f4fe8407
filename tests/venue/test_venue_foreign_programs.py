"""Foreign programs trade on the venue, unmodified, each installed into an environment of its own.

The environments are described by the files under ``foreign/`` and kept in pytest's cache between runs. Only the URLs
of the exchange are overridden.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from qkt.venue import SimulatedBybit

FOREIGN = Path(__file__).parent / "foreign"
INSTALL_S, TRADE_S = 480, 90

pytestmark = [pytest.mark.verify, pytest.mark.timeout(INSTALL_S + 2 * TRADE_S)]


def environment(config: pytest.Config, name: str, description: Path) -> tuple[Path, bool]:
    """The folder of an environment, and whether it is complete; another description is another folder."""
    digest = hashlib.sha256(description.read_bytes() + sys.version.encode()).hexdigest()[:12]
    folder = config.cache.mkdir("qkt-foreign") / f"{name}-{digest}"
    return folder, (folder / "complete").exists()


def run(*command: str | Path, cwd: Path | None = None, timeout_s: float = INSTALL_S) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=timeout_s, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="session")
def freqtrade(pytestconfig: pytest.Config) -> Path:
    """The program, from the packages of its requirements file."""
    requirements = FOREIGN / "freqtrade" / "requirements.txt"
    folder, is_complete = environment(pytestconfig, "freqtrade", requirements)
    if not is_complete:
        shutil.rmtree(folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", folder)
        run(folder / "bin" / "python", "-m", "pip", "install", "-q", "-r", requirements)
        (folder / "complete").touch()
    return folder / "bin" / "freqtrade"


@pytest.fixture(scope="session")
def bybit_api(pytestconfig: pytest.Config) -> Path:
    """The folder with the script and the packages of its package.json."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    source = FOREIGN / "bybit-api"
    folder, is_complete = environment(pytestconfig, "bybit-api", source / "package.json")
    folder.mkdir(exist_ok=True)
    shutil.copytree(source, folder, dirs_exist_ok=True)
    if not is_complete:
        run("npm", "install", "--no-audit", "--no-fund", "--no-save", cwd=folder)
        (folder / "complete").touch()
    return folder


def freqtrade_config(venue: SimulatedBybit, folder: Path, mode: str, pair: str) -> Path:
    parts = ("spot", "futures", "v2", "public", "private")
    book = {"price_side": "other", "use_order_book": True, "order_book_top": 1}
    config = {
        "dry_run": False,
        "initial_state": "running",
        "trading_mode": mode,
        "margin_mode": "isolated" if mode == "futures" else "",
        "max_open_trades": 1,
        "stake_currency": "USDT",
        "stake_amount": 200,
        "entry_pricing": book,
        "exit_pricing": book,
        "exchange": {
            "name": "bybit",
            "key": "key",
            "secret": "secret",
            "enable_ws": False,
            "pair_whitelist": [pair],
            "ccxt_config": {"urls": {"api": dict.fromkeys(parts, venue.rest_url)}, "enableRateLimit": False},
        },
        "pairlists": [{"method": "StaticPairList"}],
        "internals": {"process_throttle_secs": 1},
        "db_url": f"sqlite:///{folder / 'trades.sqlite'}",
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def run_freqtrade(program: Path, config: Path, until: str) -> list[str]:
    """Let freqtrade trade until its log has a line with some words; returns the log.

    Ends it with Ctrl-C, and kills it when the words do not come in time.
    """
    strategies = FOREIGN / "freqtrade" / "strategies"
    command: list[str | Path] = [program, "trade", "-c", config, "--userdir", config.parent, "--strategy", "RoundTrip"]
    command += ["--strategy-path", strategies]
    log: list[str] = []
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        watchdog = threading.Timer(TRADE_S, process.kill)
        watchdog.start()
        assert process.stdout is not None
        for line in process.stdout:
            log.append(line)
            if until in line:
                process.send_signal(signal.SIGINT)
        watchdog.cancel()
    return log


def refusals(venue: SimulatedBybit) -> list[Any]:
    return [
        (entry["path"], entry["status"], entry["retCode"])
        for entry in venue.journal.entries()
        if entry["event"] == "request" and (entry["status"] != 200 or entry["retCode"] != 0)
    ]


def first_trade(database: Path) -> tuple[str, int] | None:
    """The first trade in freqtrade's database, as exit reason and whether it is open; None before there is one."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        rows = connection.execute("select exit_reason, is_open from trades order by id limit 1").fetchall()
    return rows[0] if rows else None


@pytest.mark.parametrize(("mode", "pair"), [("spot", "BTC/USDT"), ("futures", "BTC/USDT:USDT")])
def test_freqtrade_trades_live_and_books_what_the_venue_holds(
    freqtrade: Path, tmp_path: Path, mode: str, pair: str
) -> None:
    with SimulatedBybit(seed=1, market="live", balances={"USDT": 10_000}) as venue:
        config = freqtrade_config(venue, tmp_path, mode, pair)
        log = run_freqtrade(freqtrade, config, until="- Pair BTC/USDT")  # which it locks after a trade
        orders = venue.truth()["orders"]
    assert len(orders) >= 2, "".join(log[-60:])
    bought, sold = orders[:2]
    assert [(row["side"], row["orderStatus"]) for row in (bought, sold)] == [("Buy", "Filled"), ("Sell", "Filled")]
    paid_in_btc = Decimal(bought["cumExecQty"]) - Decimal(sold["cumExecQty"])  # the fee of a spot buy
    assert paid_in_btc > 0 if mode == "spot" else paid_in_btc == 0
    assert Decimal(sold["cumExecQty"]) >= Decimal("0.003")
    assert first_trade(tmp_path / "trades.sqlite") == ("round trip", 0)
    assert refusals(venue) == []


def test_the_node_client_trades_over_rest_and_both_streams(bybit_api: Path) -> None:
    with SimulatedBybit(seed=1, rate_limits=False) as venue:
        urls = (venue.rest_url, venue.ws_url, venue.trade_ws_url)
        learned = json.loads(run("node", "trade.mjs", *urls, cwd=bybit_api, timeout_s=TRADE_S).splitlines()[-1])
    assert set(learned["codes"].values()) == {0}, learned["codes"]
    assert learned["candles"] == 300
    assert learned["open"] == [["n-1", "0.002000", "New"]]
    assert (learned["ended"], learned["batch"], learned["refused"]) == (["Cancelled"], [0, 170136], 170131)
    assert learned["executions"] == ["0.001"]
    assert learned["topics"] == ["execution", "order", "wallet"]
    assert learned["entry"] == [0, "n-4", "order.cancel"]
    statuses = {row["orderLinkId"]: row["orderStatus"] for row in venue.truth()["orders"]}
    assert {name: statuses[name] for name in ("n-1", "n-2", "n-3", "n-4")} == {
        "n-1": "Cancelled",
        "n-2": "Filled",
        "n-3": "Filled",
        "n-4": "Cancelled",
    }
