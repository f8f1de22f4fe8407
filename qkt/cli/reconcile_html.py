"""The reconcile report as one HTML page without scripts or external files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from qkt._version import __version__
from qkt.cli.findings import Findings, nothing_differed
from qkt.cli.formatting import ORDER_COLUMNS, date_time, number, order_row, span
from qkt.reconcile.report import ReconcileReport

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1c1c1c; background: #fff; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; color: #555; padding: .3rem 0; }
th, td { text-align: left; padding: .25rem .8rem .25rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
.good { color: #14692e; } .bad { color: #a31515; } .doubt { color: #8a5a00; }
@media (prefers-color-scheme: dark) {
  body { color: #e6e6e6; background: #181818; } th, td { border-color: #3a3a3a; } caption { color: #aaa; }
  .good { color: #7ccf93; } .bad { color: #ff8d85; } .doubt { color: #f0c060; }
}
"""


def page(findings: Findings) -> str:
    """The page as text."""
    first = findings.reports[0]
    verdict = {
        0: ("good", "Everything was read, nothing differed and nothing is unresolved."),
        1: ("doubt", "Everything was read and nothing is unresolved; something had differed, see below."),
        3: ("bad", "Not everything was read."),
    }
    style, sentence = verdict.get(findings.code, ("doubt", "Something is unresolved."))
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>qkt reconcile {escape(findings.place)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(findings.scope)} at {escape(findings.place)}, {date_time(first.started_ms)} UTC</h1>",
            f'<p class="{style}"><strong>{sentence}</strong></p>',
            _discrepancies(findings),
            _unresolved(findings.unresolved),
            _rounds(findings.reports),
            _orders(findings),
            _balances(findings),
            f"<p>qkt {escape(__version__)}</p></body></html>",
        ]
    )


def _discrepancies(findings: Findings) -> str:
    found = findings.discrepancies
    if not found:
        return f"<h2>What differed</h2><p>{escape(nothing_differed(findings).capitalize())}.</p>"
    rows = [
        [
            one.kind,
            one.client_order_id or one.broker_order_id,
            one.what,
            one.evidence,
            one.likely_cause,
            "unknown" if one.wrong_for_ms is None else span(one.wrong_for_ms),
        ]
        for one in found
    ]
    columns = ("Kind", "Order", "What was believed wrongly", "Evidence", "Likely cause", "Wrong for")
    return "<h2>What differed</h2>" + _table(columns, rows)


def _unresolved(names: Sequence[str]) -> str:
    if not names:
        return "<h2>What is not known</h2><p>Nothing is unresolved.</p>"
    return "<h2>What is not known</h2><ul>" + "".join(f"<li>{escape(name)}</li>" for name in names) + "</ul>"


def _rounds(reports: Iterable[ReconcileReport]) -> str:
    tables = []
    for report in reports:
        rows = [
            [
                path.path,
                path.completeness.value,
                str(path.rows),
                str(path.pages),
                str(path.duration_ms),
                "; ".join(path.problems),
            ]
            for path in report.paths
        ]
        caption = (
            f"{report.source}, {report.trigger}, {report.duration_ms} ms, {report.lookups_made} orders looked up by id"
        )
        tables.append(_table(("Path", "Read", ">Rows", ">Pages", ">ms", "Problems"), rows, caption=caption))
    return "<h2>Rounds</h2>" + "".join(tables)


def _orders(findings: Findings) -> str:
    if not findings.orders:
        return "<h2>Open orders</h2><p>None.</p>"
    return "<h2>Open orders</h2>" + _table(
        [column.capitalize() for column in ORDER_COLUMNS], [order_row(view) for view in findings.orders]
    )


def _balances(findings: Findings) -> str:
    rows = [
        [coin, number(held.total), number(held.locked), number(held.available)]
        for coin, held in sorted(findings.wallet.coins.items())
    ]
    return "<h2>Balances</h2>" + _table(("Coin", ">Total", ">Locked", ">Available"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str = "") -> str:
    def cell(tag: str, column: str, text: str) -> str:
        style = ' class="number"' if column.startswith(">") else ""
        return f"<{tag}{style}>{escape(text)}</{tag}>"

    head = "".join(cell("th", column, column.removeprefix(">")) for column in columns)
    body = "".join(
        "<tr>" + "".join(cell("td", column, text) for column, text in zip(columns, row, strict=True)) + "</tr>"
        for row in rows
    )
    titled = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="wide"><table>{titled}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
