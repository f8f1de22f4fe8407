"""An order's story as one HTML page without scripts or external files."""

from __future__ import annotations

from datetime import datetime
from html import escape

from qkt._version import __version__
from qkt.cli.reconcile_html import STYLE
from qkt.orders.wording import moment_words
from qkt.recorder.story import Story

_MORE_STYLE = """
td.time { white-space: nowrap; font-variant-numeric: tabular-nums; } td.evidence { color: #666; font-size: .85em; }
@media (prefers-color-scheme: dark) { td.evidence { color: #aaa; } }
"""


def page(told: Story, place: str) -> str:
    """The page as text."""
    zone = datetime.now().astimezone().tzname() or "local time"
    rows = [
        f'<tr><td class="time">{escape(moment_words(entry.at_ms, None))}</td><td class="time">{escape(delta)}</td>'
        f"<td>{escape(entry.origin)}</td><td>{escape(entry.what)}</td><td>{escape(entry.changed)}</td>"
        f'<td class="evidence">{escape(entry.evidence)}</td></tr>'
        for entry, delta in zip(told.entries, told.deltas, strict=True)
    ]
    remarks = "".join(f'<p class="doubt">{escape(remark)}</p>' for remark in told.remarks)
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>qkt explain {escape(told.name)}</title><style>{STYLE}{_MORE_STYLE}</style></head><body>",
            f"<h1>{escape(told.name)}</h1><p><strong>{escape(told.headline)}</strong></p>",
            f"<p>From {escape(place)}. Times are {escape(zone)}.</p>{remarks}",
            '<div class="wide"><table><tr><th>Time</th><th>After</th><th>From</th><th>What</th><th>Changed</th>'
            "<th>Evidence</th></tr>",
            *rows,
            f"</table></div><p>qkt {escape(__version__)}</p></body></html>",
        ]
    )
