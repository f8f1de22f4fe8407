"""Draws the packages of qkt and the imports between them, read from the source, as an SVG.

    python docs/architecture_picture.py            writes docs/explanation/architecture.svg

A package stands above every package that it imports. The number in a box is its lines of code.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).parents[1] / "qkt"
PICTURE = Path(__file__).parent / "explanation" / "architecture.svg"
PACKAGES = (
    *("bybit.codec", "bybit.transport", "bybit.queries", "bybit.account", "bybit"),
    *(
        "broker.paper",
        "broker",
        "journal",
        "net",
        "reconcile",
        "orders",
        "events",
        "model",
        "health",
        "bus",
        "positions",
    ),
    *("monitoring", "recorder", "prices", "testing", "cli", "venue"),
)
FOUNDATIONS = "foundations"
FACE = ("", "__main__")
WIDTH, BOX_HEIGHT, GAP, FLOOR = 900, 44, 14, 84


def package_of(module: str) -> str:
    """The package that a module, named below ``qkt``, belongs to; modules outside every package are foundations."""
    for package in sorted(PACKAGES, key=len, reverse=True):
        if module == package or module.startswith(f"{package}."):
            return package
    return FOUNDATIONS


def measure() -> tuple[dict[str, int], dict[str, set[str]]]:
    """Lines per package, and the packages that each package imports."""
    lines: dict[str, int] = defaultdict(int)
    imports: dict[str, set[str]] = defaultdict(set)
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if module in ("__init__", *FACE):
            continue
        text, package = path.read_text(), package_of(module)
        lines[package] += text.count("\n")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("qkt."):
                imports[package].add(package_of((node.module or "").removeprefix("qkt.")))
        imports[package].discard(package)
    return dict(lines), dict(imports)


def floors(imports: dict[str, set[str]], packages: list[str]) -> list[list[str]]:
    """Packages by height: each stands one above the highest package that it imports."""
    height: dict[str, int] = {}

    def level(package: str, above: tuple[str, ...] = ()) -> int:
        if package in above:
            raise ValueError(f"import cycle: {' -> '.join((*above, package))}")
        if package not in height:
            below = [level(each, (*above, package)) for each in imports.get(package, ())]
            height[package] = 1 + max(below, default=-1)
        return height[package]

    found: list[list[str]] = [[] for _ in range(1 + max(level(package) for package in packages))]
    for package in packages:
        found[height[package]].append(package)
    return found


def direct(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows to draw: an import that a longer path of imports implies is left out."""

    def reach(package: str) -> set[str]:
        return {far for near in imports.get(package, ()) for far in (near, *reach(near))}

    return [
        (package, target)
        for package, targets in sorted(imports.items())
        for target in sorted(targets)
        if not any(target in reach(other) for other in targets - {target})
    ]


def draw() -> str:
    """The SVG's text."""
    lines, imports = measure()
    rows = floors(imports, sorted(lines))
    height = len(rows) * FLOOR + 20
    place: dict[str, tuple[float, float, float]] = {}
    parts = []
    for floor, packages in enumerate(rows):
        width = min(190.0, (WIDTH - GAP * (len(packages) + 1)) / len(packages))
        left = (WIDTH - len(packages) * (width + GAP) + GAP) / 2
        top = height - (floor + 1) * FLOOR
        for number, package in enumerate(packages):
            x = left + number * (width + GAP)
            place[package] = (x + width / 2, top, width)
            parts.append(
                f'<rect x="{x:.0f}" y="{top}" width="{width:.0f}" height="{BOX_HEIGHT}" rx="6" class="box"/>'
                f'<text x="{x + width / 2:.0f}" y="{top + 19}" class="name">{escape(package)}</text>'
                f'<text x="{x + width / 2:.0f}" y="{top + 35}" class="lines">{lines[package]:,} lines</text>'
            )
    arrows = []
    for package, target in direct(imports):
        (x1, y1, _), (x2, y2, _) = place[package], place[target]
        curve = f"M{x1:.0f} {y1 + BOX_HEIGHT} C{x1:.0f} {y1 + FLOOR} {x2:.0f} {y2 - 40} {x2:.0f} {y2 - 4}"
        arrows.append(f'<path class="arrow" d="{curve}"/>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif">',
            "<style>.box{fill:#eef2ff;stroke:#4f46e5}.name{font-size:13px;text-anchor:middle;fill:#111827}"
            ".lines{font-size:10px;text-anchor:middle;fill:#6b7280}.arrow{fill:none;stroke:#9ca3af;marker-end:url(#a)}</style>",
            '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
            '<path d="M0 0L8 4L0 8z" style="fill:#9ca3af;stroke:none"/></marker></defs>',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *arrows,
            *parts,
            "</svg>",
            "",
        ]
    )


if __name__ == "__main__":
    PICTURE.write_text(draw())
