"""What is not installed, said so that it can be installed."""

from __future__ import annotations

import importlib.util

_WHAT = {"venue": "aiohttp", "cli": "rich"}


def missing_extra(extra: str) -> str | None:
    """The sentence that helps when an extra is not installed; None when it is."""
    package = _WHAT[extra]
    if importlib.util.find_spec(package) is not None:
        return None
    return f"this needs {package}, which is not installed. Install it with: pip install 'qkt[{extra}]'"
