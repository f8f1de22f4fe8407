"""The proof says how much it proved, also where nobody asks with ``-s``."""

from __future__ import annotations

import pytest

_lines = pytest.StashKey[list[str]]()


@pytest.fixture
def say(request):
    """Add a line to the summary at the end of the run."""
    return request.config.stash.setdefault(_lines, []).append


def pytest_terminal_summary(terminalreporter, config):
    lines = config.stash.get(_lines, [])
    if lines:
        terminalreporter.section("proof")
        for line in lines:
            terminalreporter.write_line(line)
