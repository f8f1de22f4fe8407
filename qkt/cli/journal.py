"""``qkt journal show|verify|export WHERE``: what a journal holds. Reads only, no account and no lease.

Exit codes: 0 shown, or sound; 1 ``verify`` found something inconsistent; 2 wrong call.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from qkt.cli import exit_codes
from qkt.cli.output import Screen
from qkt.cli.runner import command_parser, run_command
from qkt.errors import InvalidRequestError
from qkt.journal import PostgresJournal, SqliteJournal
from qkt.journal.protocol import Journal, JournalSnapshot
from qkt.journal.verify import export_lines, verify

_HELP = """WHERE is the file of a SqliteJournal, or the postgresql:// URL of a PostgresJournal."""


def run(argv: Sequence[str]) -> int:
    """``qkt journal``."""
    parser = command_parser("journal", "Show, check or export a journal; changes nothing.", epilog=_HELP)
    parser.add_argument("what", choices=("show", "verify", "export"), help="what to do")
    parser.add_argument("where", metavar="WHERE", help="a file, or a postgresql:// URL")
    parser.add_argument("--account", metavar="NAME", help="one account, e.g. BYBIT:7001; all by default")
    return run_command(parser, argv, _act)


def _act(options: argparse.Namespace, screen: Screen) -> int:
    with _opened(options.where) as journal:
        accounts = [lease.account for lease in journal.leases()]
        if options.account is not None and options.account not in accounts:
            raise InvalidRequestError(
                f"the journal has no account {options.account!r}; it has {', '.join(accounts) or 'none'}"
            )
        snapshots = [journal.snapshot(name) for name in accounts if options.account in (None, name)]
    if options.what == "export":
        for snapshot in snapshots:
            for line in export_lines(snapshot):
                print(line)
        return exit_codes.OK
    return _show(snapshots, screen) if options.what == "show" else _verify(snapshots, screen)


def _opened(where: str) -> Journal:
    if where.startswith(("postgresql://", "postgres://")):
        return PostgresJournal(where, owner="qkt journal")
    if not Path(where).is_file():
        raise InvalidRequestError(f"there is no journal {where}; name the file that the bot's SqliteJournal was given")
    return SqliteJournal(where, owner="qkt journal")


def _show(snapshots: Sequence[JournalSnapshot], screen: Screen) -> int:
    shown = [_summary(snapshot) for snapshot in snapshots]
    for one in shown:
        screen.line([(str(one["account"]), "bold")])
        for name, value in one.items():
            if name != "account":
                screen.line(f"  {name:<12} {value}")
    screen.result({"accounts": shown})
    return exit_codes.OK


def _summary(snapshot: JournalSnapshot) -> dict[str, object]:
    lease = snapshot.lease
    outcomes = Counter(permit.outcome.value for permit in snapshot.permits)
    return {
        "account": snapshot.account,
        "owner": "" if lease is None else lease.owner,
        "epoch": 0 if lease is None else lease.epoch,
        "lease_ms": 0 if lease is None else lease.remaining_ms,
        "permits": len(snapshot.permits),
        **dict(sorted(outcomes.items())),
        "facts": len(snapshot.facts),
        "events": len(snapshot.events),
        "schema": snapshot.schema_version,
    }


def _verify(snapshots: Sequence[JournalSnapshot], screen: Screen) -> int:
    findings = [(snapshot.account, finding) for snapshot in snapshots for finding in verify(snapshot)]
    for account, finding in findings:
        screen.line(f"{account} {finding}")
    if not findings:
        screen.line(f"sound: {sum(len(one.permits) for one in snapshots)} permits of {len(snapshots)} accounts")
    screen.result({"findings": [f"{account} {finding}" for account, finding in findings]})
    return exit_codes.NO if findings else exit_codes.OK
