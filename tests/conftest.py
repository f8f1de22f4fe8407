"""The proof says how much it proved, also where nobody asks with ``-s`` and where several processes run the tests."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def say(record_property: Any) -> Any:
    """Add a line to the summary at the end of the run."""
    return lambda line: record_property("proof", line)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    lines = [
        line
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, line in getattr(report, "user_properties", ())
        if name == "proof"
    ]
    if lines:
        terminalreporter.section("proof")
        for line in lines:
            terminalreporter.write_line(line)
