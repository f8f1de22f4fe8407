"""The page of the events' JSON form is what the classes say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parents[2] / "docs"


def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("event_schema_page", DOCS / "event_schema_page.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_generated_from_the_classes() -> None:
    written = (DOCS / "reference" / "event-schema.md").read_text()

    assert written == program().page(), "run python docs/event_schema_page.py"
