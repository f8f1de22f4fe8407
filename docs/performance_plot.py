"""Draws the scaling curves of `explanation/performance.json` as an SVG beside it.

    python docs/performance_plot.py

Both axes are logarithmic: a cost that does not grow is a level line.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from xml.sax.saxutils import escape

DATA = Path(__file__).parent / "explanation" / "performance.json"
SERIES = (
    ("fact-orders", "an order fact, by open orders", "#2563eb"),
    ("fact-fills", "an execution, by fills of its order", "#dc2626"),
    ("lives", "a whole life in three frames, by orders lived", "#059669"),
)
WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 20, 20, 110
Point = tuple[float, float]


def plot(curves: dict[str, list[Point]]) -> str:
    """The SVG's text."""
    points = [point for key, _, _ in SERIES for point in curves.get(key, [])]
    x_range = (0.0, math.ceil(math.log10(max(x for x, _ in points))))
    y_range = (
        math.floor(math.log10(min(y for _, y in points))),
        math.ceil(math.log10(max(y for _, y in points))),
    )

    def place(x: float, y: float) -> Point:
        across = (math.log10(max(x, 1)) - x_range[0]) / (x_range[1] - x_range[0])
        up = (math.log10(y) - y_range[0]) / (y_range[1] - y_range[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(place, int(x_range[1]), int(y_range[0]), int(y_range[1]))]
    for row, (key, title, colour) in enumerate(SERIES):
        parts.append(_curve([place(*point) for point in curves.get(key, [])], colour))
        height = HEIGHT - 48 + row * 16
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + 24}" y1="{height - 4}" y2="{height - 4}" stroke="{colour}"/>')
        parts.append(f'<text x="{LEFT + 32}" y="{height}">{escape(title)}</text>')
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="sans-serif" font-size="12" stroke-width="2" fill="#6b7280">\n'
        f"{body}\n</svg>\n"
    )


def _grid(place: object, x_most: int, y_least: int, y_most: int) -> str:
    assert callable(place)
    parts = []
    for power in range(x_most + 1):
        x, _ = place(10**power, 10**y_least)
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM))
        parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{10**power:,}</text>')
    for power in range(y_least, y_most + 1):
        _, y = place(1, 10**power)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y))
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{10**power:,} µs</text>')
    return "\n".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#d1d5db" stroke-width="1"/>'


def _curve(points: list[Point], colour: str) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}"/>{dots}'


def main() -> None:
    """Read the data, write the drawing."""
    curves = json.loads(DATA.read_text())["curves"]
    DATA.with_suffix(".svg").write_text(plot(curves))


if __name__ == "__main__":
    main()
