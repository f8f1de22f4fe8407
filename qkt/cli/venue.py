"""``qkt venue``: runs the simulated Bybit as a program, for a bot in any language."""

from __future__ import annotations

from collections.abc import Sequence

from qkt.cli import exit_codes
from qkt.cli.extras import missing_extra
from qkt.cli.output import complain


def run(argv: Sequence[str]) -> int:
    """Run until Ctrl-C; see ``qkt venue --help``."""
    missing = missing_extra("venue")
    if missing is not None:
        complain("qkt venue", missing)
        return exit_codes.USAGE
    from qkt.venue.__main__ import main

    return main(argv)
