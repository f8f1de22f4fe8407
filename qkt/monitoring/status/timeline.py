"""The time line as an SVG: fills, discrepancies and degraded spells of the last half hour. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

import attrs

from qkt.monitoring.status.history import Mark, Spell

WINDOW_MS = 30 * 60_000

_LANES = ("fills", "differed", "degraded")
_LANE_OF = {"buy": 0, "sell": 0, "discrepancy": 1, "alarm": 2}
_MERGE_PX = 9
_MOST_SPELL_ROWS = 4


@attrs.frozen(kw_only=True)
class _Plot:
    """Geometry: ``width`` in px of the view box, time from ``begin_ms`` to ``end_ms``."""

    width: int
    left: int
    begin_ms: int
    end_ms: int
    tick_ms: int
    lane_px: int = 34
    top: int = 6

    def x(self, at_ms: int) -> float:
        """Horizontal place of a moment, within the plot."""
        share = (at_ms - self.begin_ms) / (self.end_ms - self.begin_ms)
        return round(self.left + min(1.0, max(0.0, share)) * (self.width - self.left - 8), 1)

    def y(self, lane: int) -> float:
        """Vertical centre of a lane."""
        return self.top + lane * self.lane_px + self.lane_px / 2


def timeline_svg(
    marks: Sequence[Mark], spells: Sequence[Spell], *, end_ms: int, window_ms: int = WINDOW_MS, is_narrow: bool = False
) -> str:
    """The picture: 960 px wide, or 360 for a phone. Marks that would overlap are drawn as one with their number."""
    plot = _Plot(
        width=360 if is_narrow else 960,
        left=62 if is_narrow else 84,
        begin_ms=end_ms - window_ms,
        end_ms=end_ms,
        tick_ms=window_ms // 3 if is_narrow else window_ms // 6,
    )
    rows = _rows(spells, plot)
    height = plot.top + len(_LANES) * plot.lane_px + max(0, len(rows) - 2) * 12 + 22
    body = [*_axis(plot, height), *_lanes(plot), *_spells(rows, plot), *_marks(marks, plot)]
    kind = "narrow" if is_narrow else "wide"
    return (
        f'<svg class="timeline {kind}" viewBox="0 0 {plot.width} {height}" role="img" '
        f'aria-label="{escape(_summary(marks, spells, window_ms))}">{"".join(body)}</svg>'
    )


def _summary(marks: Sequence[Mark], spells: Sequence[Spell], window_ms: int) -> str:
    fills = sum(mark.kind in ("buy", "sell") for mark in marks)
    differed = sum(mark.kind == "discrepancy" for mark in marks)
    return (
        f"Last {window_ms // 60_000} minutes: {fills} fills, {differed} discrepancies, "
        f"{len(spells)} degraded spells. The list below names the latest."
    )


def _axis(plot: _Plot, height: int) -> list[str]:
    found = []
    tick = (plot.begin_ms // plot.tick_ms + 1) * plot.tick_ms
    while tick <= plot.end_ms:
        x = plot.x(tick)
        label = datetime.fromtimestamp(tick / 1000, UTC).strftime("%H:%M")
        found.append(f'<line class="tick" x1="{x}" y1="{plot.top}" x2="{x}" y2="{height - 18}"/>')
        if x < plot.width - 58:  # room for "now"
            found.append(f'<text class="axis" x="{x}" y="{height - 5}" text-anchor="middle">{label}</text>')
        tick += plot.tick_ms
    x = plot.x(plot.end_ms)
    found.append(f'<line class="now" x1="{x}" y1="{plot.top}" x2="{x}" y2="{height - 18}"/>')
    found.append(f'<text class="axis" x="{x + 6}" y="{height - 5}" text-anchor="end">now</text>')
    return found


def _lanes(plot: _Plot) -> list[str]:
    found = []
    for number, name in enumerate(_LANES):
        found.append(f'<text class="lane" x="0" y="{plot.y(number) + 4}">{name}</text>')
        y = plot.top + (number + 1) * plot.lane_px
        if number + 1 < len(_LANES):
            found.append(f'<line class="tick" x1="{plot.left}" y1="{y}" x2="{plot.width - 8}" y2="{y}"/>')
    return found


def _rows(spells: Sequence[Spell], plot: _Plot) -> list[list[Spell]]:
    """Spells in as few rows as keep them apart; beyond four rows they overlap."""
    rows: list[list[Spell]] = []
    for spell in spells:
        for row in rows:
            last = row[-1].until_ms
            if last is not None and plot.x(last) + 3 < plot.x(spell.since_ms):
                row.append(spell)
                break
        else:
            if len(rows) < _MOST_SPELL_ROWS:
                rows.append([spell])
            else:
                rows[-1].append(spell)
    return rows


def _spells(rows: Sequence[Sequence[Spell]], plot: _Plot) -> list[str]:
    found = []
    for number, row in enumerate(rows):
        y = plot.top + 2 * plot.lane_px + 9 + number * 12
        for spell in row:
            begin = plot.x(spell.since_ms)
            end = plot.x(plot.end_ms if spell.until_ms is None else spell.until_ms)
            state = "open" if spell.until_ms is None else "over"
            found.append(
                f'<rect class="spell {state}" x="{begin}" y="{y}" width="{max(4.0, round(end - begin, 1))}" '
                f'height="9" rx="2"><title>{escape(f"{spell.broker} {spell.domain}: {spell.reason}")}</title></rect>'
            )
    return found


def _marks(marks: Sequence[Mark], plot: _Plot) -> list[str]:
    groups: list[tuple[float, list[Mark]]] = []
    last_of: dict[str, int] = {}
    for mark in marks:
        x, at = plot.x(mark.at_ms), last_of.get(mark.kind)
        if at is not None and x - groups[at][0] < _MERGE_PX:
            groups[at][1].append(mark)
        else:
            last_of[mark.kind] = len(groups)
            groups.append((x, [mark]))
    return [_group(x, group, plot) for x, group in groups]


def _group(x: float, group: Sequence[Mark], plot: _Plot) -> str:
    kind = group[0].kind
    y = plot.y(_LANE_OF[kind]) + {"buy": 6, "sell": -5}.get(kind, 0)
    titles = "\n".join(escape(f"{mark.broker} {mark.text}") for mark in group[:10])
    if len(group) > 10:
        titles += f"\nand {len(group) - 10} more"
    at_edge = x > plot.width - 26
    place = f'x="{x - 8:.1f}" text-anchor="end"' if at_edge else f'x="{x + 7:.1f}"'
    count = f'<text class="count" {place} y="{y + 4}">{len(group)}</text>' if len(group) > 1 else ""
    return f'<g class="mark {kind}"><path d="{_shape(kind, x, y)}"/>{count}<title>{titles}</title></g>'


def _shape(kind: str, x: float, y: float) -> str:
    if kind == "buy":
        return f"M{x} {y - 6}l6 10h-12z"
    if kind == "sell":
        return f"M{x} {y + 6}l6 -10h-12z"
    if kind == "discrepancy":
        return f"M{x} {y - 7}l7 7l-7 7l-7 -7z"
    return f"M{x - 6} {y - 6}h12v12h-12z"
