"""The examples run as a reader would run them, and end as they say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def run(name: str) -> str:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=60, check=False, cwd=EXAMPLES
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("blocking_script.py", ["stop: FILLED", "open orders: 0 unresolved: 0"]),
        (
            "embedded_in_a_threaded_bot.py",
            ["refused before sending: 1", "position: Position(quantity=Decimal('0.002997')"],
        ),
        ("grid_bot_that_restarts.py", ["first run sends 4", "second run sends 0", "orders at the venue: 4"]),
        ("funds_aware_sizer.py", ["free 50000 USDT: an order of 0.500000 BTC"]),
        ("test_a_bot.py", ["passed test_a_timeout_does_not_make_it_quote_twice"]),
    ],
)
def test_the_example_ends_as_it_says(name: str, lines: list[Any]) -> None:
    said = run(name)

    assert [line for line in lines if line not in said] == []
