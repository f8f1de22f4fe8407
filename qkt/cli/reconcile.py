"""``qkt reconcile``: read the venue's whole state, look up what does not add up, and report what differed.

A new process has no earlier belief to compare, so the command runs several rounds: the first reads everything, each
further one reports what the stream did not deliver in between. Exit codes: 0 everything was read, nothing differed and
nothing is unresolved, 1 something differed, 2 wrong call, 3 something could not be read, 4 something stays unresolved,
130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Sequence
from pathlib import Path

from qkt.cli import exit_codes
from qkt.cli.findings import Findings, nothing_differed
from qkt.cli.formatting import counted, number, plain, span
from qkt.cli.output import Line, Screen, wrapped
from qkt.cli.progress import progress
from qkt.cli.reconcile_html import page
from qkt.cli.runner import command_parser, run_command
from qkt.cli.session import KEYS_HELP, Session, add_account_options, session, span_ms
from qkt.cli.tables import table
from qkt.errors import InvalidRequestError, ReconcileError
from qkt.reconcile.report import Discrepancy, ReconcileReport


def run(argv: Sequence[str]) -> int:
    """``qkt reconcile``."""
    parser = command_parser(
        "reconcile", "Read the venue's whole state and say what differed from what the stream told.", epilog=KEYS_HELP
    )
    add_account_options(parser, categories="both")
    parser.add_argument("--report", action="store_true", help="every round in detail, with the evidence")
    parser.add_argument("--html", metavar="FILE", type=Path, help="write the report as one HTML page")
    parser.add_argument("--rounds", type=int, default=2, help="how many rounds (default 2; the first reads all)")
    parser.add_argument("--interval", default="1s", help="between two rounds (default 1s)")
    parser.add_argument("--since", default="5m", help="how far back executions are read (default 5m)")
    return run_command(parser, argv, _reconcile)


def _reconcile(options: argparse.Namespace, screen: Screen) -> int:
    if options.rounds < 1:
        raise InvalidRequestError("--rounds must be at least 1")
    interval_ms = span_ms(options.interval)
    expected_s = options.rounds * interval_ms / 1000
    try:
        with session(options, screen, recovery_window_ms=span_ms(options.since)) as account:
            with progress(screen, f"{options.rounds} rounds", expected_s=expected_s):
                reports = _rounds(account, options.rounds, interval_ms)
            findings = Findings(
                place=account.place,
                scope=account.scope,
                reports=reports,
                orders=tuple(account.broker.open_orders()),
                wallet=account.client.wallet,
                unresolved=account.unresolved,
                lookups_waiting=sum(broker.health.lookups_waiting for broker in account.brokers.values()),
                unread=account.unread,
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
    """The reports of all rounds; the first round of each category was made when its broker was built."""
    brokers = account.brokers.values()
    reports = [broker.reports[0] for broker in brokers]
    for _ in range(count - 1):
        threading.Event().wait(interval_ms / 1000)
        reports += [broker.reconcile() for broker in brokers]
    return tuple(reports)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InvalidRequestError(f"cannot write {path}: {error.strerror}") from error


def _document(findings: Findings) -> dict[str, object]:
    return {
        "place": findings.place,
        "categories": findings.scope.split(" and "),
        "unread": dict(findings.unread),
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
    lines.append([("what differed", "bold")])
    for found in findings.discrepancies:
        lines += _discrepancy_lines(found)
    if not findings.discrepancies:
        lines += wrapped(nothing_differed(findings), "  ")
    lines.append([("what is not known", "bold")])
    lines += [[(f"  {name}: no definite answer yet", "bold yellow")] for name in findings.unresolved]
    lines += [
        [(f"  {report.source} {path.path}: {'; '.join(path.problems)}", "red")]
        for report in findings.last_reports
        for path in report.failures
    ]
    lines += [[(f"  {category}: {reason}", "red")] for category, reason in findings.unread.items()]
    if findings.code in (exit_codes.OK, exit_codes.NO):
        lines.append(
            f"  nothing: {findings.scope} were read in full"
            if " and " in findings.scope
            else f"  nothing: {findings.scope} was read in full"
        )
    coins = ", ".join(f"{number(held.total)} {coin}" for coin, held in sorted(findings.wallet.coins.items()))
    lines.append([("what the venue holds", "bold")])
    lines += wrapped(f"{counted(len(findings.orders), 'open order')}; {coins or 'no coins'}, at {findings.place}", "  ")
    return lines


def _round_lines(report: ReconcileReport) -> list[Line]:
    state, style = ("complete", "green") if report.ok else ("incomplete", "red")
    head: Line = [
        (f"{report.source} round ({report.trigger}) ", "bold"),
        (state, style),
        (f" in {report.duration_ms} ms", ""),
    ]
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
