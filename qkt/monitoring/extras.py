"""The error for an optional package that is not installed."""

from __future__ import annotations

import importlib.util

from qkt.errors import InvalidRequestError


def is_installed(package: str) -> bool:
    """True when ``package`` can be imported."""
    return importlib.util.find_spec(package) is not None


def require(package: str, extra: str, what: str) -> None:
    """Raise InvalidRequestError, which says what to install, unless ``package`` can be imported."""
    if not is_installed(package):
        raise InvalidRequestError(f"{what} needs {package}, which is not installed: pip install 'qkt[{extra}]'")
