"""Plain-text tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], indent: str = "  ") -> list[str]:
    """Lines of a table: a column of numbers to the right, any other to the left, the last as long as it is."""
    if not rows:
        return []
    right = [all(isinstance(row[at], (int, float)) for row in rows) for at in range(len(headings))]
    cells = [list(headings), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[at]) for row in cells) for at in range(len(headings))]
    lines = []
    for row in cells:
        padded = (c.rjust(w) if r else c.ljust(w) for c, w, r in zip(row, widths, right, strict=True))
        lines.append((indent + "  ".join(padded)).rstrip())
    return lines
