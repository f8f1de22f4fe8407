"""The how-to pages do what they say: their code is run."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from qkt.venue import SimulatedBybit
from qkt.venue.__main__ import _arm, _story

HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", (HOW_TO / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("peer", ["pybit", "ccxt"])
def test_the_python_of_the_page_runs(peer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    package = pytest.importorskip("pybit.unified_trading" if peer == "pybit" else "ccxt", reason="extra `peers`")
    if peer == "pybit":
        monkeypatch.setattr(package, "PRIVATE_WSS", package.PRIVATE_WSS)  # the page replaces it: put it back
    found = blocks(f"use-the-venue-with-{peer}.md", "python")
    assert len(found) >= 2
    for number, code in enumerate(found):
        exec(compile(code, f"{peer} block {number}", "exec"), {})


def test_the_python_of_the_page_about_tests_runs() -> None:
    for number, code in enumerate(blocks("use-the-venue-in-tests.md", "python")):
        if "def test_" not in code:  # the fixture's example is about a bot of the reader's
            exec(compile(code, f"block {number}", "exec"), {})


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl")
def test_the_shell_of_the_page_runs() -> None:
    (script,) = blocks("use-the-venue-with-curl.md", "sh")
    with SimulatedBybit(seed=1) as venue:
        shell = script.replace("http://127.0.0.1:8765", venue.rest_url)
        done = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, timeout=20, check=False)
    lines = done.stdout.splitlines()
    assert '"lastPrice":"60000.0"' in lines[0]
    assert '"orderLinkId":"mine-1"' in lines[1]
    assert '"cumExecQty":"0.0004"' in lines[2]
    assert lines[3:] == ["no reply", '"orderLinkId": "lost-1"']


def test_the_story_of_the_page_is_one(tmp_path: Path) -> None:
    (story,) = blocks("use-the-venue-with-curl.md", "toml")
    path = tmp_path / "story.toml"
    path.write_text(story)
    venue = SimulatedBybit()
    _arm(venue, _story(str(path)))
    assert [fault.name for fault in venue.faults.active] == ["frame_drop", "stream_half_open"]
