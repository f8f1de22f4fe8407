"""What a stranger types, in an empty environment. Longer work: it builds, clones and installs (`make verify`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.verify, pytest.mark.timeout(600)]


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """Run a command as a person would, without this project's environment; returns what it said."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("BYBIT_", "VIRTUAL_ENV"))}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=540,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone of what is committed."""
    there = tmp_path_factory.mktemp("clone") / "qkt"
    run("git", "clone", "--quiet", ROOT, there, cwd=ROOT)
    return there


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of that clone."""
    dist = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", dist, ".", cwd=clone)
    (built,) = dist.glob("*.whl")
    return built


def an_environment(where: Path, what: str) -> Path:
    run(sys.executable, "-m", "venv", where, cwd=where.parent)
    run(where / "bin" / "python", "-m", "pip", "install", "--quiet", what, cwd=where.parent)
    return where / "bin"


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and nothing else."""
    return an_environment(tmp_path_factory.mktemp("bare") / "venv", str(wheel))


def test_the_core_brings_four_packages_and_imports_with_them(bare: Path, tmp_path: Path) -> None:
    listed = run(bare / "python", "-m", "pip", "list", "--format", "freeze", cwd=tmp_path)
    packages = {line.split("==")[0].lower() for line in listed.splitlines() if "==" in line}
    of_requests = {"certifi", "charset-normalizer", "idna", "urllib3"}

    brought = packages - of_requests - {"pip", "setuptools", "wheel", "qkt"}
    assert brought == {"requests", "websocket-client", "attrs", "blinker"}
    run(bare / "python", "-W", "error", "-c", "import qkt, qkt.testing, qkt.testing.builders", cwd=tmp_path)


def test_the_demo_says_which_extra_it_needs(bare: Path, tmp_path: Path) -> None:
    said = run(bare / "qkt", "demo", cwd=tmp_path, code=2)

    assert "qkt[venue]" in said
    assert "Traceback" not in said


def test_types_ship_with_the_wheel(bare: Path, tmp_path: Path) -> None:
    said = run(
        bare / "python",
        "-c",
        "import qkt, pathlib; print((pathlib.Path(qkt.__file__).parent / 'py.typed').exists())",
        cwd=tmp_path,
    )

    assert said.strip() == "True"


def test_the_readmes_first_block_and_the_tutorial_run_with_only_the_venue_extra(wheel: Path, tmp_path: Path) -> None:
    bin_ = an_environment(tmp_path / "venv", f"{wheel}[venue]")
    pages = {page: (ROOT / page).read_text() for page in ("README.md", "docs/tutorial/first-order.md")}
    for page, text in pages.items():
        blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
        script = tmp_path / f"{Path(page).stem}.py"
        script.write_text("\n".join(blocks))
        assert "Traceback" not in run(bin_ / "python", script, cwd=tmp_path)


def test_make_demo_works_in_a_clean_clone_and_a_second_call_installs_nothing(clone: Path) -> None:
    first = run("make", "demo", f"PYTHON={sys.executable}", cwd=clone)
    stamp = (clone / ".venv" / ".installed").stat().st_mtime_ns
    run("make", "install", f"PYTHON={sys.executable}", cwd=clone)

    assert "0 lost, 0 duplicated, 0 invented" in first
    assert (clone / ".venv" / ".installed").stat().st_mtime_ns == stamp


def test_the_documentation_builds_without_a_warning(clone: Path) -> None:
    run("make", "docs", f"PYTHON={sys.executable}", cwd=clone)

    assert (clone / "docs" / "_build" / "index.html").exists()
