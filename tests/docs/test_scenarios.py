"""The scenarios page lists every scenario once, a test names each, and every citation in the code resolves."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "scenarios.md"


def listed() -> list[int]:
    return [int(number) for number in re.findall(r"^\| S(\d+) \|", PAGE.read_text(), re.M)]


def cited(pattern: str, folder: str) -> dict[int, str]:
    """Scenario number -> one file that cites it."""
    found: dict[int, str] = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        for number in re.findall(pattern, path.read_text()):
            found.setdefault(int(number), str(path.relative_to(ROOT)))
    return found


def test_the_first_94_scenarios_are_listed_and_none_twice() -> None:
    numbers = listed()
    assert len(numbers) == len(set(numbers))
    assert set(range(1, 95)) <= set(numbers)


def test_every_citation_in_the_product_is_a_listed_scenario() -> None:
    unknown = {number: path for number, path in cited(r"\bS(\d{1,3})\b", "qkt").items() if number not in listed()}
    assert unknown == {}


def test_every_scenario_in_a_test_name_is_listed() -> None:
    named = cited(r"def test_S(\d+)", "tests")
    assert {number: path for number, path in named.items() if number not in listed()} == {}


def test_every_listed_scenario_is_named_by_a_test() -> None:
    named = {
        int(number) for path in (ROOT / "tests").rglob("*.py") for number in re.findall(r"S0*(\d+)_", path.read_text())
    }
    assert [number for number in listed() if number not in named] == []
