"""The reference is complete: every public name, every log phrase, every setting."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import qkt
import qkt.testing
from qkt.broker import order_log
from qkt.bybit.transport import client

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
PRODUCT = [path for path in sorted((ROOT / "qkt").rglob("*.py")) if "venue" not in path.relative_to(ROOT).parts]
LEVELS = {"debug", "info", "warning", "error", "exception"}


def pages() -> str:
    return "\n".join(path.read_text() for path in REFERENCE.glob("*.md"))


def log_calls() -> list[tuple[str, str]]:
    """Level and phrase of every line the product logs; the phrase ends where the first value begins."""
    found = [("info", phrase) for phrase in order_log.PHRASES]
    for path in PRODUCT:
        for node in ast.walk(ast.parse(path.read_text())):
            is_log = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS
            if is_log and isinstance(node.func.value, ast.Name) and node.func.value.id == "log":  # type: ignore[attr-defined]
                text = ast.literal_eval(node.args[0])  # type: ignore[attr-defined]
                phrase = re.split(r"\s*\S*%", text, maxsplit=1)[0].strip() or text
                found.append(("error" if node.func.attr == "exception" else node.func.attr, phrase))  # type: ignore[attr-defined]
    return found


def test_every_public_name_has_its_entry() -> None:
    text = pages()
    names = [f"qkt.{name}" for name in qkt.__all__ if name != "__version__"]
    names += [f"qkt.testing.{name}" for name in qkt.testing.__all__]

    assert [name for name in names if not re.search(rf":: {re.escape(name)}$", text, re.M)] == []


def test_every_log_phrase_is_listed_under_its_level() -> None:
    listed: dict[str, str] = {}
    for section in re.split(r"^## ", (REFERENCE / "log-phrases.md").read_text(), flags=re.M)[1:]:
        listed[section.split("\n", 1)[0].strip().lower()] = section

    assert [(level, phrase) for level, phrase in log_calls() if f"`{phrase}`" not in listed[level]] == []


def test_no_log_phrase_is_listed_that_nobody_logs() -> None:
    said = {phrase for _, phrase in log_calls()}
    listed = re.findall(r"^\| `([^`]+)`", (REFERENCE / "log-phrases.md").read_text(), re.M)

    assert [phrase for phrase in listed if phrase not in said] == []


def test_every_environment_variable_is_listed() -> None:
    source = Path(client.__file__).read_text()
    variables = set(re.findall(r"BYBIT_[A-Z_]+", source)) - {"BYBIT_SPOT", "BYBIT_LINEAR"}

    assert [name for name in sorted(variables) if f"`{name}`" not in (REFERENCE / "settings.md").read_text()] == []


def test_every_setting_is_listed() -> None:
    """Every optional argument of whatever a trader constructs, but for the clock and the name of what it works on."""
    listed = (REFERENCE / "settings.md").read_text()
    built = [
        getattr(qkt, name)
        for name in (
            "BybitClient",
            "BybitSpotBroker",
            "RiskLimits",
            "LogBroker",
            "PaperBroker",
            "CompositeBroker",
            "EventBus",
            "PeriodicReconciler",
            "ThreadScheduler",
            "ReconnectSupervisor",
            "ExponentialBackoff",
            "FixedDelayBackoff",
            "PositionTracker",
        )
    ]
    settings = {name for kind in built for name in inspect.signature(kind).parameters} - {"client", "bus"}

    assert [name for name in sorted(settings) if f"`{name}`" not in listed] == []
