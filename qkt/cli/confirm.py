"""Confirmation before anything is sent: at the prompt, or with ``--yes``."""

from __future__ import annotations

import argparse
import sys

from qkt.cli.output import Screen
from qkt.errors import InvalidRequestError


def add_sending_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--dry-run``, ``--yes`` and ``--wait``."""
    parser.add_argument("--dry-run", action="store_true", help="check everything and show it; send nothing")
    parser.add_argument("--yes", action="store_true", help="do not ask; needed where nobody can answer")
    parser.add_argument("--wait", default="30s", help="how long to wait for the outcome (default 30s)")


def is_confirmed(options: argparse.Namespace, screen: Screen, question: str) -> bool:
    """True when the request may be sent. Raises InvalidRequestError without a terminal and without ``--yes``."""
    if options.yes:
        return True
    if screen.is_json or not sys.stdin.isatty():
        raise InvalidRequestError("nothing was sent: nobody is here to confirm it; say --yes, or look with --dry-run")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("nothing was sent", file=sys.stderr)
    return False
