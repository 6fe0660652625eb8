"""Who descends from whom, over rows by number: no recursion, no cycle, whatever the rows say. Pure.

A history may be a hundred thousand deep, may lack ancestors, and may, where it is put together from /proc while
processes come and go, even claim that two processes made each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Sequence

NOT_THERE = -1


def links(keys: Sequence[Hashable], creators: Sequence[Hashable]) -> list[int]:
    """For each row the number of its creator's row, NOT_THERE if that is not among them. Without cycles.

    Of a cycle the first row is taken for the root.
    """
    rows = {key: row for row, key in enumerate(keys)}
    found = [rows.get(creator, NOT_THERE) for creator in creators]
    for row, above in enumerate(found):
        if above == row:
            found[row] = NOT_THERE
    ready, waiting = _leaves_first(found)
    if len(ready) < len(found):
        for row in range(len(found)):
            if waiting[row] > 0:  # only those in a cycle wait for ever
                at, found[row] = found[row], NOT_THERE
                while at != NOT_THERE:
                    waiting[at], at = 0, found[at]
                waiting[row] = 0
    return found


def _leaves_first(above: Sequence[int]) -> tuple[list[int], list[int]]:
    """Rows in an order in which all below a row come before it; and how many each still waits for at the end."""
    waiting = [0] * len(above)
    for row in above:
        if row >= 0:
            waiting[row] += 1
    ready = [row for row, count in enumerate(waiting) if not count]
    for row in ready:  # grows as we go
        up = above[row]
        if up >= 0:
            waiting[up] -= 1
            if not waiting[up]:
                ready.append(up)
    return ready, waiting


def sums(above: Sequence[int], weights: Iterable[int]) -> list[int]:
    """For each row the weights of itself and all below it."""
    total = list(weights)
    for row in _leaves_first(above)[0]:
        if above[row] >= 0:
            total[above[row]] += total[row]
    return total


def children(above: Sequence[int]) -> dict[int, list[int]]:
    """The rows directly below each row that has any, in the order of the rows."""
    found: dict[int, list[int]] = {}
    for row, up in enumerate(above):
        if up >= 0:
            found.setdefault(up, []).append(row)
    return found


def below(above: Sequence[int], roots: Iterable[int]) -> list[int]:
    """Those rows and all that descend from them, each once."""
    found = dict.fromkeys(roots)
    kids = children(above)
    todo = list(found)
    for row in todo:  # grows as we go
        new = [kid for kid in kids.get(row, ()) if kid not in found]
        found.update(dict.fromkeys(new))
        todo += new
    return todo


def chain(above: Sequence[int], row: int) -> list[int]:
    """The row, its creator, that one's creator, up to where it is not known any more."""
    found = []
    while row != NOT_THERE:
        found.append(row)
        row = above[row]
    return found
