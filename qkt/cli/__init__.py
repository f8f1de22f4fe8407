"""``qkt``: the command line, for interactive use and for scripts.

Each command is a module that is imported only when it runs, so that ``qkt version`` needs neither rich nor aiohttp.
This module holds what is common to all: Ctrl-C exits with 130 and no traceback, a closed pipe exits quietly, an error
of qkt is one sentence on stderr.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from qkt._version import __version__
from qkt.cli import exit_codes
from qkt.cli.output import complain

COMMANDS = {
    "demo": ("qkt.cli.demo.command:run", "watch a bot survive a bad night, half a minute, no account"),
    "doctor": ("qkt.cli.doctor:run", "key, clock, connections, account: a light and a remedy each"),
    "watch": ("qkt.cli.watch:run", "orders, fills, balances and health, live"),
    "orders": ("qkt.cli.listings:run_orders", "the open orders"),
    "fills": ("qkt.cli.listings:run_fills", "what has traded lately"),
    "positions": ("qkt.cli.listings:run_positions", "the open positions of perpetuals"),
    "balances": ("qkt.cli.listings:run_balances", "what the account holds"),
    "submit": ("qkt.cli.submit:run", "send one order and say what became of it"),
    "modify": ("qkt.cli.modify_cancel:run_modify", "change the terms of a working order"),
    "cancel": ("qkt.cli.modify_cancel:run_cancel", "cancel orders by id"),
    "cancel-all": ("qkt.cli.modify_cancel:run_cancel_all", "cancel every open order"),
    "reconcile": ("qkt.cli.reconcile:run", "what differed, with the evidence; --html for a page"),
    "serve": ("qkt.cli.serve:run", "the status page in a browser on this machine, live, read-only"),
    "explain": ("qkt.cli.explain:run", "one order's story, from the account or from a recording"),
    "replay": ("qkt.cli.replay:run", "replay a recorded run, or verify that it was not altered"),
    "journal": ("qkt.cli.journal:run", "show, check or export a journal of intents"),
    "venue": ("qkt.cli.venue:run", "run the simulated Bybit on this machine"),
    "version": ("qkt.cli.version:run", "the versions of qkt and of what it stands on"),
}

_USAGE = """usage: qkt COMMAND [options]

Trade on Bybit V5 and know what the venue holds.

{commands}

qkt COMMAND --help tells the options of a command.
Keys come from the environment only: BYBIT_API_KEY and BYBIT_API_SECRET.
Exit codes: 0 done, 1 the answer is no, 2 wrong call, 3 venue not reachable,
4 outcome unknown, 130 Ctrl-C."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(arguments)
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)  # puts the shell's prompt on the line below ^C
        _quietly_drop_stdout()
        return exit_codes.INTERRUPTED
    except BrokenPipeError:  # the reader closed the pipe, e.g. `qkt orders | head -1`
        _quietly_drop_stdout()
        return exit_codes.OK
    except SystemExit as end:  # argparse: 2 for a wrong call, 0 for --help
        return end.code if isinstance(end.code, int) else exit_codes.USAGE


def _dispatch(arguments: list[str]) -> int:
    if arguments[:1] == ["help"] and arguments[1:2] and arguments[1] in COMMANDS:
        arguments = [arguments[1], "--help"]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        listed = "\n".join(f"  {name:<11} {what}" for name, (_, what) in COMMANDS.items())
        print(_USAGE.format(commands=listed))
        return exit_codes.OK if arguments else exit_codes.USAGE
    if arguments[0] in ("-V", "--version"):
        print(f"qkt {__version__}")
        return exit_codes.OK
    if arguments[0] not in COMMANDS:
        near = difflib.get_close_matches(arguments[0], COMMANDS, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        complain("qkt", f"there is no command {arguments[0]!r}; {hint}There are: {', '.join(COMMANDS)}")
        return exit_codes.USAGE
    module, _, function = COMMANDS[arguments[0]][0].partition(":")
    code = getattr(importlib.import_module(module), function)(arguments[1:])
    sys.stdout.flush()
    return int(code)


def _quietly_drop_stdout() -> None:
    """Redirect stdout to /dev/null, so that the interpreter's last flush of a closed pipe does not raise."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


__all__ = ["COMMANDS", "main"]
