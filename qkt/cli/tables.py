"""Tables of plain characters: the same on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from qkt.cli.screen import Line


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Line]:
    """Rows under headings. A heading that begins with ``>`` belongs to a column of numbers, set to the right."""
    headings = [column.removeprefix(">") for column in columns]
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]

    def laid_out(cells: Sequence[str]) -> str:
        parts = [
            cell.rjust(width) if column.startswith(">") else cell.ljust(width)
            for column, cell, width in zip(columns, cells, widths, strict=True)
        ]
        return "  ".join(parts).rstrip()

    return [[(laid_out(headings), "bold")], *(laid_out(row) for row in rows)]
