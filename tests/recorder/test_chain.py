"""Whoever changes a recording is found out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from qkt.recorder.chain import BrokenChainError, ChainWriter, read_chain
from qkt.recorder.reading import Recording, verify


def written(count: int = 5) -> list[str]:
    writer = ChainWriter()
    return [
        writer.line({"kind": "run" if not n else "reply", "format": 1, "id": n, "text": f"é{n}"}) for n in range(count)
    ]


def test_what_was_written_is_read() -> None:
    assert [line.fields["id"] for line in read_chain(written())] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("alter", "line"),
    [
        (lambda lines: [lines[0], lines[1].replace("é1", "é9"), *lines[2:]], 2),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 3),
        (lambda lines: [*lines[:2], '{"id":9,"hash":"' + "0" * 32 + '"}\n', *lines[2:]], 3),
        (lambda lines: [*lines[:2], '{"id":9}\n', *lines[2:]], 3),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:3], "\n", *lines[3:]], 4),
    ],
    ids=["changed", "removed", "reordered", "repeated", "forged", "without hash", "first removed", "blank line"],
)
def test_every_alteration_is_found_at_its_line(alter: Callable[[list[str]], list[str]], line: int) -> None:
    with pytest.raises(BrokenChainError, match=f"line {line} ") as raised:
        list(read_chain(alter(written())))

    assert raised.value.line == line


def test_a_torn_last_line_is_left_out() -> None:
    *whole, torn = written()

    assert [line.fields["id"] for line in read_chain([*whole, torn[:-9]])] == [0, 1, 2, 3]


def test_a_missing_file_of_a_run_is_found(tmp_path: Path) -> None:
    for number in (1, 3):
        (tmp_path / f"{number:04}.jsonl").write_text("".join(written()))

    assert "0002.jsonl is missing" in verify(Recording(tmp_path)).problem


def test_a_file_of_another_run_does_not_follow(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"{number:04}.jsonl").write_text("".join(written()))

    assert "0002.jsonl line 1 was altered" in verify(Recording(tmp_path)).problem
