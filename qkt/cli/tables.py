"""Tables of plain characters: the same on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from qkt.cli.output import Line

_SHORTEST = 6


def table(
    columns: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = 0, keep: Sequence[str] = ()
) -> list[Line]:
    """Rows under headings. A heading that begins with ``>`` belongs to a column of numbers, aligned to the right.

    With ``width`` the table fits it: the longest cells of the columns not in ``keep`` are shortened with an ellipsis,
    then columns not in ``keep`` are left out from the right.
    """
    headings = [column.removeprefix(">") for column in columns]
    widths = [max(map(len, cells)) for cells in zip(headings, *rows, strict=True)]
    shown = _fit(columns, widths, width, keep) if width else list(range(len(columns)))

    def laid_out(cells: Sequence[str]) -> str:
        parts = []
        for at in shown:
            cell = _shortened(cells[at], widths[at])
            parts.append(cell.rjust(widths[at]) if columns[at].startswith(">") else cell.ljust(widths[at]))
        return "  ".join(parts).rstrip()

    return [[(laid_out(headings), "bold")], *(laid_out(row) for row in rows)]


def _fit(columns: Sequence[str], widths: list[int], width: int, keep: Sequence[str]) -> list[int]:
    """The columns to show; shrinks ``widths`` in place."""
    shown = list(range(len(columns)))

    def excess() -> int:
        return sum(widths[at] for at in shown) + 2 * (len(shown) - 1) - width

    while excess() > 0:
        text = [
            at for at in shown if (not columns[at].startswith(">") and columns[at] not in keep) or columns[at] == "ID"
        ]
        widest = max(text, key=lambda at: widths[at], default=-1)
        if widest >= 0 and widths[widest] > _SHORTEST:
            widths[widest] = max(_SHORTEST, widths[widest] - excess())
            continue
        dispensable = [at for at in shown if columns[at] not in keep]
        if not dispensable:
            break
        shown.remove(dispensable[-1])
    return shown


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
