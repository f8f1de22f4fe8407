"""A real Prometheus scrapes the status page, answers every query of the board, and accepts the page's alert rules."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import requests

from qkt import BybitClient, BybitSpotBroker, EventBus, LimitOrder, Side, TimeInForce
from qkt.monitoring import StatusServer, serve_status
from qkt.venue import SimulatedBybit
from tests.monitoring.test_grafana_board import HOW_TO, expressions

pytestmark = [
    pytest.mark.verify,
    pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs Prometheus: apt-get install prometheus"),
    pytest.mark.timeout(120),
]
TOKEN = "a-token-of-the-test"


@pytest.fixture
def status(bybit_venue: SimulatedBybit) -> Iterator[StatusServer]:
    """The page of a bot that has submitted an order and seen a fill."""
    client = BybitClient("key", "secret", rest_url=bybit_venue.rest_url, ws_url=bybit_venue.ws_url)
    client.connect()
    broker = BybitSpotBroker(client, EventBus())
    server = serve_status(broker, 0, token=TOKEN)
    order = LimitOrder(
        symbol="BYBIT_SPOT:BTCUSDT",
        side=Side.BUY,
        quantity=Decimal("0.01"),
        limit_price=Decimal("59000"),
        time_in_force=TimeInForce.GTC,
        client_order_id="grid-1",
    )
    broker.submit(order)
    bybit_venue.fill("grid-1", "0.004")
    broker.wait("grid-1", until=lambda view: view.cum_quantity > 0)
    yield server
    server.close()
    broker.close()
    client.close()


class Prometheus:
    """The server with its HTTP API."""

    def __init__(self, folder: Path, target: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        (folder / "token").write_text(TOKEN)
        config = (
            (HOW_TO / "export-metrics.md").read_text().partition("```yaml\n# prometheus.yml\n")[2].partition("```")[0]
        )
        config = config.replace("127.0.0.1:8790", target).replace("scrape_interval: 15s", "scrape_interval: 1s")
        config = config.replace("/etc/prometheus/qkt-token", str(folder / "token"))
        (folder / "prometheus.yml").write_text(config)
        self._log = (folder / "log").open("w")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={self.url.removeprefix('http://')}",
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query; raises when it is no query."""
        answer = requests.get(f"{self.url}/api/v1/query", params={"query": expression}, timeout=5).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        self._log.close()


@pytest.fixture
def prometheus(status: StatusServer, tmp_path: Path) -> Iterator[Prometheus]:
    running = Prometheus(tmp_path, f"127.0.0.1:{status.port}")
    yield running
    running.close()


def until(check: Callable[[], Any], timeout_s: float = 40) -> Any:
    """The first true answer of ``check``; a refused connection is none."""
    pause, deadline = threading.Event(), time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            found = check()
        except requests.ConnectionError:
            found = None
        if found:
            return found
        pause.wait(0.2)
    raise AssertionError("Prometheus did not answer as expected in time")


def test_prometheus_scrapes_the_page_with_its_token(prometheus: Prometheus) -> None:
    ages = until(lambda: prometheus.query("qkt_state_age_seconds"))

    assert {row["metric"]["domain"] for row in ages} == {"orders", "executions", "balances"}
    assert prometheus.query("up{job='qkt'}")[0]["value"][1] == "1"
    assert prometheus.query('qkt_open_orders{status="PARTIALLY_FILLED"}')[0]["value"][1] == "1"
    assert prometheus.query("qkt_submit_latency_seconds_count")[0]["value"][1] == "1"
    assert prometheus.query("sum(qkt_fills_total)")[0]["value"][1] == "1"


def test_every_query_of_the_board_is_understood(prometheus: Prometheus) -> None:
    until(lambda: prometheus.query("qkt_state_age_seconds"))
    asked = [expression.replace("$broker", ".*") for expression in expressions()]

    answers = {expression: len(prometheus.query(expression)) for expression in asked}

    assert answers['max by (broker) (qkt_state_age_seconds{broker=~".*"})'] == 1
    assert answers["qkt_rate_headroom_ratio"] == 1


def test_promtool_accepts_the_rules_of_the_page(tmp_path: Path) -> None:
    text = (HOW_TO / "export-metrics.md").read_text()
    rules = re.search(r"```yaml\n(groups:.*?)```", text, re.S)
    assert rules is not None
    (tmp_path / "rules.yml").write_text(rules[1])

    command = ["promtool", "check", "rules", str(tmp_path / "rules.yml")]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "5 rules found" in checked.stdout


def test_promtool_finds_nothing_to_criticise_in_the_exposition(status: StatusServer) -> None:
    text = requests.get(status.address + "metrics", headers={"Authorization": f"Bearer {TOKEN}"}, timeout=10).text
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=30, check=False
    )

    assert (checked.returncode, checked.stderr) == (0, "")
