"""``qkt demo``: half a minute on a simulated Bybit, judged at the end.

Exit codes: 0 the bot believes what the venue holds, 1 it does not, 2 an extra is missing or the call is wrong, 130
Ctrl-C.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import attrs

from qkt.cli import exit_codes
from qkt.cli.extras import missing_extra
from qkt.cli.output import Screen, wrapped
from qkt.cli.runner import command_parser, run_command
from qkt.errors import InvalidRequestError

_RULES = ("absence-is-cancel", "timeout-is-reject", "no-reconcile")

_INTRO = (
    "A trading bot has a bad night on a simulated Bybit that runs on this machine: real sockets, no account, "
    "no network. Each line says what happens at the venue, what the bot does or believes, and what qkt tells it: "
    "by which way, and how many milliseconds after it came true."
)


def run(argv: Sequence[str]) -> int:
    """Run the scenario and the judge; returns the exit code."""
    return run_command(_parser(), argv, _play)


def _parser() -> argparse.ArgumentParser:
    parser = command_parser("demo", "Watch a bot survive a bad night on a simulated Bybit: no account, no network.")
    parser.add_argument("--fast", action="store_true", help="without the pauses for reading: a few seconds")
    parser.add_argument("--seed", type=int, default=1, help="decides sizes and prices (default 1)")
    parser.add_argument(
        "--sabotage",
        choices=_RULES,
        metavar="RULE",
        help=f"the same night with a naive rule in qkt's place, to see the check fail: {', '.join(_RULES)}",
    )
    return parser


def _play(options: argparse.Namespace, screen: Screen) -> int:
    missing = missing_extra("venue")
    if missing is not None:
        raise InvalidRequestError(missing)
    from qkt.cli.demo.final_page import book_rows, page
    from qkt.cli.demo.narrator import HEADER
    from qkt.cli.demo.sabotage import RULES, sabotaged
    from qkt.cli.demo.scenario import Story
    from qkt.cli.demo.setup import FAST, STROLL, Night
    from qkt.venue import SimulatedBybit

    screen.lines(wrapped(_INTRO))
    naive = RULES[options.sabotage] if options.sabotage else None
    pace = FAST if options.fast else STROLL
    if naive is not None:
        # with a naive rule some events never come, so the scenario waits for less time
        pace = attrs.evolve(pace, patience_ms=pace.patience_ms // 4)
        screen.line()
        screen.lines([(text, "bold red")] for text in wrapped(f'Tonight a naive rule holds: "{naive.rule}".'))
    screen.line()
    screen.line([(HEADER, "dim")])
    night = Night(screen, SimulatedBybit(seed=options.seed), pace)
    with sabotaged(options.sabotage), night:
        Story(night, options.seed).run()
        verdict, truth, views, wallet = night.judged(), night.venue.truth(), night.views(), night.client.wallet
    rows = book_rows(truth, views, wallet, night.ear.events)
    screen.line()
    screen.line([("7  The account, twice", "bold")])
    screen.lines(page(rows, verdict, sabotage=naive))
    if naive is None:
        screen.line(f"  To see this check fail: qkt demo --sabotage {_RULES[0]}")
    agrees = verdict.agrees and all(row.agrees for row in rows)
    screen.result(
        {
            "agrees": agrees,
            "seed": options.seed,
            "sabotage": options.sabotage,
            "counts": verdict.counts,
            "executions_at_venue": verdict.executions_at_venue,
            "executions_told": verdict.executions_told,
            "events_heard": verdict.events_heard,
            "differences": [str(difference) for difference in verdict.differences],
            "books": [{"label": row.label, "venue": row.venue, "bot": row.bot, "agrees": row.agrees} for row in rows],
            "story": night.teller.lines,
        }
    )
    return exit_codes.OK if agrees else exit_codes.NO
