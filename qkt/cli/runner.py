"""Common frame of the commands that use the venue: parse, run, and turn an error into a message and an exit code.

No traceback is printed for errors that qkt raises on purpose; with ``--json`` the error is a document too.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from qkt.cli import exit_codes
from qkt.cli.output import Screen, complain
from qkt.errors import (
    BybitApiError,
    InvalidRequestError,
    OutcomeUnknownError,
    QktError,
    WaitTimeoutError,
)

_CODES = """exit codes: 0 done, 1 the answer is no, 2 wrong call, 3 venue not reachable,
4 outcome unknown, 130 Ctrl-C"""

_KEY_CODES = frozenset({10003, 10004, 10005, 10007, 10008, 10010, 33004, -2015})

Action = Callable[[argparse.Namespace, Screen], int]


def run_command(parser: argparse.ArgumentParser, argv: Sequence[str], action: Action) -> int:
    """Parse ``argv`` and run ``action(options, screen)``; returns the exit code."""
    options = parser.parse_args(argv)
    screen = Screen(is_json=options.json)
    try:
        return action(options, screen)
    except QktError as error:
        code = code_of(error)
        screen.result({"error": type(error).__name__, "message": str(error), "exit_code": code})
        complain(parser.prog, str(error))
        return code


def code_of(error: QktError) -> int:
    """Exit code of an error."""
    if _is_about_the_key(error):
        return exit_codes.USAGE
    match error:
        case InvalidRequestError():
            return exit_codes.USAGE
        case BybitApiError():
            return exit_codes.NO
        case OutcomeUnknownError() | WaitTimeoutError():
            return exit_codes.UNKNOWN
        case _:
            return exit_codes.UNAVAILABLE


def _is_about_the_key(error: BaseException) -> bool:
    """True when the venue refused the key itself, so that trying again cannot help (docs v5/error)."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, BybitApiError) and seen.ret_code in _KEY_CODES:
            return True
        seen = seen.__cause__
    return False


def command_parser(name: str, description: str, *, epilog: str = "") -> argparse.ArgumentParser:
    """An argument parser with ``--json`` whose help text keeps its line breaks."""
    parser = argparse.ArgumentParser(
        prog=f"qkt {name}",
        description=description,
        epilog=f"{epilog}\n\n{_CODES}".lstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout and nothing else")
    return parser
