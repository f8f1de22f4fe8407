"""The documentation builds without a warning, and the reference has an entry for every public member."""

from __future__ import annotations

import enum
import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import qkt

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The text of all reference pages, built."""
    built = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(ROOT / "docs"), str(built)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    return "".join(page.read_text() for page in (built / "reference").glob("*.html"))


def public_members() -> Iterator[str]:
    """Every public class of qkt with its own public methods, properties and enum members, as anchors."""
    for name in qkt.__all__:
        found = getattr(qkt, name)
        if not inspect.isclass(found):
            continue
        yield f"qkt.{name}"
        if issubclass(found, enum.Enum):
            yield from (f"qkt.{name}.{member.name}" for member in found)
            continue
        for member, value in inspect.getmembers(found):
            is_documented = inspect.isfunction(value) or inspect.ismethod(value) or isinstance(value, property)
            if not member.startswith("_") and is_documented and not issubclass(found, BaseException):
                yield f"qkt.{name}.{member}"


@pytest.mark.timeout(180)
def test_every_public_class_method_and_enum_member_has_an_anchor(reference: str) -> None:
    assert [anchor for anchor in public_members() if f'id="{anchor}"' not in reference] == []
