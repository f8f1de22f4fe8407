"""Messages about extras that are not installed."""

from __future__ import annotations

import importlib.util

_WHAT = {"venue": "aiohttp", "cli": "rich"}


def missing_extra(extra: str) -> str | None:
    """Message that names the extra to install; None when it is installed."""
    package = _WHAT[extra]
    if importlib.util.find_spec(package) is not None:
        return None
    return f"this needs {package}, which is not installed. Install it with: pip install 'qkt[{extra}]'"
