"""The board of the documentation: valid by the types of Grafana's own SDK, and about metrics that exist."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard
from prometheus_client import CollectorRegistry

from qkt.monitoring import Metrics
from tests.monitoring.conftest import Account

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
BOARD: dict[str, Any] = json.loads((HOW_TO / "monitoring" / "grafana-board.json").read_text())
NAME = re.compile(r"\bqkt_[a-z_0-9]+")


def lost(given: Any, kept: Any, path: str = "board") -> Iterator[str]:
    """Paths of ``given`` that did not survive the way through the SDK's types."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(kept, dict) or key not in kept:
                if value not in (None, {}, []):
                    yield f"{path}.{key}"
            else:
                yield from lost(value, kept[key], f"{path}.{key}")
    elif isinstance(given, list):
        if not isinstance(kept, list) or len(given) != len(kept):
            yield path
        else:
            for number, pair in enumerate(zip(given, kept, strict=True)):
                yield from lost(*pair, f"{path}[{number}]")
    elif given != kept:
        yield path


def through_the_types(board: dict[str, Any]) -> list[str]:
    register_default_plugins()
    return list(lost(board, json.loads(JSONEncoder().encode(Dashboard.from_json(board)))))


def exported(account: Account) -> set[str]:
    """Every name a scrape holds, with the suffixes of counters and histograms."""
    registry = CollectorRegistry()
    metrics = Metrics(account.broker, registry, clock=account.clock)
    names: set[str] = set()
    for family in registry.collect():
        if family.name.startswith("qkt_"):
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum", ""]}.get(family.type, [""])
            names |= {family.name + suffix for suffix in suffixes}
    metrics.close()
    return names


def expressions() -> list[str]:
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def test_every_field_of_the_board_is_one_of_grafanas() -> None:
    assert through_the_types(BOARD) == []


def test_the_check_notices_a_field_that_grafana_does_not_have() -> None:
    assert through_the_types({**BOARD, "refreshEvery": "15s"}) == ["board.refreshEvery"]


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    places = [panel["gridPos"] for panel in BOARD["panels"]]
    cells = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(BOARD["panels"])


def test_the_board_asks_only_for_metrics_that_exist(account: Account) -> None:
    asked = {name for expression in expressions() for name in NAME.findall(expression)}
    assert asked - exported(account) == set()


@pytest.mark.parametrize("page", ["export-metrics.md"])
def test_the_page_lists_exactly_the_metrics_that_exist(account: Account, page: str) -> None:
    table = (HOW_TO / page).read_text().partition("## What is exported")[2].partition("## Alert rules")[0]
    listed = {name for line in table.splitlines() if line.startswith("| `qkt") for name in NAME.findall(line)}
    names = {name for name in exported(account) if not name.endswith(("_bucket", "_count", "_sum"))}
    assert listed == names
