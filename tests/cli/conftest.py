"""A venue to run the commands against, and `qkt` as a function."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from qkt.cli import main
from qkt.venue import SimulatedBybit
from tests.support.cli_rig import Ended, environment


@pytest.fixture
def venue() -> Iterator[Any]:
    with SimulatedBybit(seed=1) as running:
        yield running


def account_of(venue: SimulatedBybit) -> dict[str, str]:
    """The environment variables that point `qkt` at a venue."""
    return {
        "BYBIT_API_KEY": "key",
        "BYBIT_API_SECRET": "secret",
        "BYBIT_REST_URL": venue.rest_url,
        "BYBIT_WS_URL": venue.ws_url,
    }


@pytest.fixture
def venue_env(venue: Any) -> dict[str, str]:
    """The whole environment of a process that is to work on the venue."""
    return environment(**account_of(venue))


@pytest.fixture
def qkt(venue: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command piped, in this process; it must leave no thread behind."""
    for name, value in account_of(venue).items():
        monkeypatch.setenv(name, value)

    def run(*arguments: str) -> Ended:
        before = set(threading.enumerate())
        capsys.readouterr()
        code = main(arguments)
        captured = capsys.readouterr()
        left = [thread.name for thread in threading.enumerate() if thread not in before]
        assert left == [], f"`qkt {' '.join(arguments)}` left threads"
        return Ended(code=code, out=captured.out, err=captured.err)

    return run


@pytest.fixture
def qkt_json(qkt: Any) -> Any:
    """`qkt ... --json`: the exit code and the one document."""

    def run(*arguments: str) -> tuple[Any, ...]:
        ended = qkt(*arguments, "--json")
        assert len(ended.lines) == 1, ended.out
        return ended.code, json.loads(ended.out)

    return run
