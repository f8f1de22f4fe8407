"""``qkt replay PATH``: replay a recorded run in a fresh core, or verify that its files were not altered.

Exit codes: 0 identical (or unaltered), 1 something differs (or was altered), 2 wrong call.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from qkt.cli import exit_codes
from qkt.cli.formatting import plain
from qkt.cli.output import Screen
from qkt.cli.runner import command_parser, run_command
from qkt.recorder.reading import Recording, verify
from qkt.recorder.replay import Replay, ReplayResult

_HELP = """PATH is the folder of a run, one of its files (the replay then ends with it), or a
recorder's folder, whose last run is taken."""


def run(argv: Sequence[str]) -> int:
    """``qkt replay``."""
    parser = command_parser("replay", "Replay a recorded run, and name the first thing that differs.", epilog=_HELP)
    parser.add_argument("path", metavar="PATH", help="a run, a file of it, or the folder of runs")
    parser.add_argument("--verify", action="store_true", help="only check that no line was altered")
    parser.add_argument("--last-hash", metavar="HASH", help="with --verify: the last hash, kept elsewhere, to compare")
    return run_command(parser, argv, _act)


def _act(options: argparse.Namespace, screen: Screen) -> int:
    recording = Recording(options.path)
    return _verify(recording, options.last_hash, screen) if options.verify else _replay(recording, screen)


def _verify(recording: Recording, expected: str | None, screen: Screen) -> int:
    found = verify(recording)
    problem = found.problem
    if not problem and expected is not None and found.last_hash != expected:
        problem = f"the last hash is {found.last_hash}, not {expected}: the end was cut off, or all was written anew"
    document = {**plain(found), "problem": problem, "ok": not problem, "path": str(found.path)}
    screen.result(document)
    if problem:
        screen.line([(f"ALTERED: {problem}", "bold red")])
        return exit_codes.NO
    screen.line([("nothing was altered", "bold green"), (f": {found.lines} lines in {found.files} files", "")])
    screen.line(f"last hash {found.last_hash}")
    if not found.is_complete:
        screen.line("The recording was not closed: the program was killed or still runs, or the end was cut off.")
    return exit_codes.OK


def _replay(recording: Recording, screen: Screen) -> int:
    manifest = recording.manifest()
    result = Replay(recording).run()
    screen.result({**plain(result), "identical": result.is_identical, "run": manifest.get("run")})
    if result.is_identical:
        screen.line([("identical", "bold green"), (f": {_counted(result)}", "")])
        return exit_codes.OK
    if result.difference is not None:
        screen.line([("DIFFERENT", "bold red"), (f" after {_counted(result)}", "")])
        screen.lines(str(result.difference).splitlines())
    if result.stopped:
        screen.line([("STOPPED", "bold red"), (f" after {_counted(result)}", "")])
        screen.line(result.stopped)
    screen.line(f"recorded by qkt {manifest.get('qkt')} on Python {manifest.get('python')}")
    return exit_codes.NO


def _counted(result: ReplayResult) -> str:
    brokers = ", ".join(result.brokers) or "no broker"
    return (
        f"{result.events} events and {result.orders} orders of {brokers}, from {result.facts} facts, {result.frames} "
        f"frames and {result.lines} lines"
    )
