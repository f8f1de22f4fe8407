"""``qkt reconcile``: read the venue's whole state, ask about what does not add up, and say what differed.

One process has no past, so it watches for a while: the first round reads everything, each further one tells what the
stream did not say in between. Exit codes: 0 everything was read and nothing is unresolved, 2 wrong call, 3 something
could not be read, 4 something stays unresolved, 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path

from qkt.cli import exit_codes
from qkt.cli.findings import Findings
from qkt.cli.formatting import counted, number, plain, span
from qkt.cli.progress import progress
from qkt.cli.reconcile_html import page
from qkt.cli.runner import command_parser, run_command
from qkt.cli.screen import Line, Screen, wrapped
from qkt.cli.session import KEYS_HELP, Session, add_account_options, session
from qkt.cli.tables import table
from qkt.errors import InvalidRequestError, ReconcileError
from qkt.reconcile.report import Discrepancy, ReconcileReport


def run(argv: Sequence[str]) -> int:
    """``qkt reconcile``."""
    parser = command_parser(
        "reconcile", "Read the venue's whole state and say what differed from what the stream told.", epilog=KEYS_HELP
    )
    add_account_options(parser)
    parser.add_argument("--report", action="store_true", help="every round in detail, with the evidence")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the report as one HTML page")
    parser.add_argument("--rounds", type=int, default=2, help="how many rounds (default 2; the first reads all)")
    parser.add_argument("--interval-ms", type=int, default=1_000, help="between two rounds (default 1000)")
    parser.add_argument(
        "--since-ms", type=int, default=300_000, help="how far back executions are read (default 300000: 5 minutes)"
    )
    return run_command(parser, argv, _reconcile)


def _reconcile(options: argparse.Namespace, screen: Screen) -> int:
    if options.rounds < 1 or options.interval_ms < 0:
        raise InvalidRequestError("--rounds must be at least 1, and --interval-ms not below 0")
    expected_s = options.rounds * options.interval_ms / 1000
    try:
        with session(options, screen, recovery_window_ms=options.since_ms) as account:
            with progress(screen, f"{options.rounds} rounds", expected_s=expected_s):
                reports = _rounds(account, options.rounds, options.interval_ms)
            broker = account.broker
            findings = Findings(
                place=account.place,
                reports=reports,
                orders=tuple(broker.open_orders()),
                wallet=account.client.wallet,
                health=broker.health,
            )
    except ReconcileError as error:  # the first round was incomplete: its report is the finding
        if isinstance(error.report, ReconcileReport):
            screen.lines(["", *_round_lines(error.report)])
        raise
    if options.html is not None:
        _write(options.html, page(findings))
    screen.result(_document(findings))
    screen.lines(_lines(findings, in_detail=options.report))
    if options.html is not None:
        screen.line(f"written to {options.html}")
    return findings.code


def _rounds(account: Session, count: int, interval_ms: int) -> tuple[ReconcileReport, ...]:
    """The first round was made when the broker was built."""
    reports = [account.broker.reports[0]]
    for _ in range(count - 1):
        threading.Event().wait(interval_ms / 1000)
        reports.append(account.broker.reconcile())
    return tuple(reports)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error


def _document(findings: Findings) -> dict[str, object]:
    return {
        "place": findings.place,
        "ok": findings.code == exit_codes.OK,
        "exit_code": findings.code,
        "discrepancies": plain(findings.discrepancies),
        "unresolved": list(findings.unresolved),
        "reports": [report.to_dict() for report in findings.reports],
        "open_orders": plain(findings.orders),
        "balances": plain(findings.wallet.coins),
    }


def _lines(findings: Findings, *, in_detail: bool) -> list[Line]:
    lines: list[Line] = []
    if in_detail:
        for report in findings.reports:
            lines += [*_round_lines(report), ""]
    last = findings.reports[-1]
    lines.append([("what differed", "bold")])
    for found in findings.discrepancies:
        lines += _discrepancy_lines(found)
    if not findings.discrepancies:
        lines.append("  nothing: every fact was told before a round had to find it")
    lines.append([("what is not known", "bold")])
    lines += [[(f"  {name}: nobody can speak for it yet", "bold yellow")] for name in findings.unresolved]
    lines += [[(f"  {path.path}: {'; '.join(path.problems)}", "red")] for path in last.failures]
    if not findings.unresolved and last.ok:
        lines.append("  nothing: orders, executions and balances were read in full")
    coins = ", ".join(f"{number(held.total)} {coin}" for coin, held in sorted(findings.wallet.coins.items()))
    lines.append([("what the venue holds", "bold")])
    lines += wrapped(f"{counted(len(findings.orders), 'open order')}; {coins or 'no coins'}, at {findings.place}", "  ")
    return lines


def _round_lines(report: ReconcileReport) -> list[Line]:
    state, style = ("complete", "green") if report.ok else ("incomplete", "red")
    head: Line = [(f"round ({report.trigger}) ", "bold"), (state, style), (f" in {report.duration_ms} ms", "")]
    rows = [
        [path.path, path.completeness.value, str(path.rows), str(path.pages), str(path.duration_ms)]
        for path in report.paths
    ]
    asked = f"  asked about {report.lookups_made} orders by id" if report.lookups_made else ""
    found = [line for item in report.discrepancies for line in _discrepancy_lines(item)]
    return [
        head,
        *(_indented(line) for line in table(("PATH", "READ", ">ROWS", ">PAGES", ">MS"), rows)),
        *([asked] if asked else []),
        *found,
    ]


def _indented(line: Line) -> Line:
    return f"  {line}" if isinstance(line, str) else [("  ", ""), *line]


def _discrepancy_lines(found: Discrepancy) -> list[Line]:
    who = found.client_order_id or found.broker_order_id
    age = "" if found.wrong_for_ms is None else f", wrong for {span(found.wrong_for_ms)}"
    detail = f"{found.what}; evidence: {found.evidence}; likely cause: {found.likely_cause}{age}"
    return [[(f"  {found.kind} {who}", "yellow")], *wrapped(detail, "    ")]
