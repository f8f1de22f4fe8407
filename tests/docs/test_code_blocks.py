"""Every Python block in the documentation runs, page by page, in the order of the page.

A block marked ``python no-run`` is shown and not run (it needs an account or never ends); it must still compile. The
blocks of a page share their names, as a reader's session does.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^(?P<indent> *)```python(?P<options>[^\n]*)\n(?P<code>.*?)^(?P=indent)```", re.M | re.S)


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """Line, options and code of each Python block."""
    text = page.read_text()
    found = []
    for match in BLOCK.finditer(text):
        indent = len(match["indent"])
        code = "\n".join(line[indent:] for line in match["code"].splitlines())
        found.append((text.count("\n", 0, match.start()) + 2, match["options"].strip(), code))
    return found


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """A page may configure logging; the tests after it must not see that."""
    loggers = [logging.getLogger(name) for name in ("", "qkt", "qkt.orders")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)
            handler.close()


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_code_of_a_page_runs(page: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BYBIT_API_KEY", "key")
    monkeypatch.setenv("BYBIT_API_SECRET", "secret")
    names: dict[str, object] = {"__name__": "documentation"}

    for line, options, code in blocks(page):
        program = compile("\n" * (line - 1) + code, str(page), "exec")
        if "no-run" not in options:
            exec(program, names)

    left = [thread.name for thread in threading.enumerate() if thread.name.startswith("qkt")]
    assert left == [], f"{page.name} leaves threads behind: close what it opens"
