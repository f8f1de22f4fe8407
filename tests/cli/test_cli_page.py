"""The page on the command line tells the truth: its commands run, in order, and its lists are complete."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from qkt.cli import COMMANDS, exit_codes
from qkt.cli.demo.sabotage import RULES

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-the-command-line.md"


def test_the_commands_of_the_page_run(qkt: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("qkt.cli.doctor._SAMPLES", 2)
    blocks = re.findall(r"^```console\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    commands = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    assert len(commands) > 10
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "qkt"
        ended = qkt(*arguments)
        assert (command, ended.code, ended.err) == (command, 0, "")
    assert (tmp_path / "report.html").exists()


def test_the_page_names_every_command_exit_code_and_rule() -> None:
    text = PAGE.read_text()
    assert [name for name in COMMANDS if f"`qkt {name}" not in text] == []
    codes = {value for name, value in vars(exit_codes).items() if name.isupper()}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.M)} == codes
    assert [rule for rule in RULES if rule not in text] == []
