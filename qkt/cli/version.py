"""``qkt version``: versions of qkt and its dependencies, for a bug report."""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib import metadata

from qkt._version import __version__
from qkt.cli import exit_codes
from qkt.cli.output import Screen

_CORE = ("requests", "websocket-client", "attrs", "blinker")
_EXTRAS = {"cli": "rich", "venue": "aiohttp", "rsa": "cryptography", "postgres": "psycopg"}


def versions() -> dict[str, str | None]:
    """Package -> version, None for what is not installed."""
    found: dict[str, str | None] = {"qkt": __version__, "python": platform.python_version()}
    for package in (*_CORE, *_EXTRAS.values()):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def run(argv: Sequence[str]) -> int:
    """Print the versions."""
    parser = argparse.ArgumentParser(prog="qkt version", description="The versions of qkt and of what it stands on.")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    options = parser.parse_args(argv)
    screen = Screen(is_json=options.json)
    found = versions()
    screen.result({**found, "platform": platform.platform(), "executable": sys.executable})
    extra_of = {package: extra for extra, package in _EXTRAS.items()}
    for package, version in found.items():
        missing = f"not installed (pip install 'qkt[{extra_of[package]}]')" if package in extra_of else "not installed"
        screen.line([(f"{package:<18}", "dim"), (version or missing, "" if version else "yellow")])
    screen.line([(f"{'platform':<18}", "dim"), (platform.platform(), "")])
    return exit_codes.OK
