"""``qkt explain ID``: one order's story, from a recording or from the account itself.

Exit codes: 0 told, 2 the id is not known or the call is wrong, 3 the venue could not be reached, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from qkt.cli import exit_codes
from qkt.cli.explain_html import page
from qkt.cli.explain_venue import story_from_venue
from qkt.cli.output import Line, Screen, wrapped
from qkt.cli.runner import command_parser, run_command
from qkt.cli.session import KEYS_HELP, PREFIXES, add_account_options, new_client, place_of
from qkt.orders.wording import moment_words
from qkt.recorder.reading import Recording
from qkt.recorder.story import Story, story_of


def run(argv: Sequence[str]) -> int:
    """``qkt explain``."""
    parser = command_parser("explain", "Tell what became of one order and how that is known.", epilog=KEYS_HELP)
    parser.add_argument("id", metavar="ID", help="client order id or the venue's order id")
    parser.add_argument("--recording", metavar="PATH", help="a recorded run; else the account is asked")
    parser.add_argument("--html", metavar="FILE", help="write a page")
    add_account_options(parser, categories="both")
    return run_command(parser, argv, _act)


def _act(options: argparse.Namespace, screen: Screen) -> int:
    if options.recording:
        recording = Recording(options.recording)
        told, place = story_of(recording, options.id), str(recording.path)
    else:
        place = place_of(options)
        categories = tuple(PREFIXES) if options.category == "both" else (options.category,)
        with new_client(options) as client:
            told = story_from_venue(client, categories, options.id)
    screen.result({**told.to_dict(), "headline": told.headline, "place": place})
    screen.lines(_lines(told, place))
    if options.html:
        Path(options.html).write_text(page(told, place), encoding="utf-8")
        screen.line(f"written: {options.html}")
    return exit_codes.OK


def _lines(told: Story, place: str) -> list[Line]:
    zone = datetime.now().astimezone().tzname() or "local time"
    lines: list[Line] = [[(told.name, "bold"), (f"  {place}", "")], *wrapped(told.headline), f"Times are {zone}.", ""]
    day = ""
    for entry, delta in zip(told.entries, told.deltas, strict=True):
        moment = moment_words(entry.at_ms, None)
        if moment[:10] != day:
            day = moment[:10]
            lines.append([(day, "bold")])
        text = entry.what + (f": {entry.changed}" if entry.changed else "")
        head = f"{moment[11:]} {delta:>12}  {entry.origin:<9} "
        first, *rest = wrapped(text, width=max(40, 100 - len(head))) or [""]
        lines.append([(head, ""), (first, "")])
        lines += [" " * len(head) + more for more in rest]
        if entry.evidence:
            lines.append([(" " * len(head) + f"[{entry.evidence}]", "dim")])
    for remark in told.remarks:
        lines += ["", [(remark, "bold yellow")]]
    return lines
