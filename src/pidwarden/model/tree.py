"""The history tree: processes, the dead among them, by who created whom; and the sums over its subtrees. Pure.

A family may have tens of thousands of records. So each gets a number once, in the order of birth, and everything that
is worked out about it is a list with one entry a number: a loop from the first to the last meets creators before their
children, a loop from the last to the first meets children first, and neither needs to look anything up.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record

NO_PARENT = -1


def _birth(record: Record) -> int:
    """What to sort by: the start time."""
    return record[0][1]


class Tree:
    """Records linked by creator. One whose creator is not among them is a root.

    So is one that is not younger than its creator: no kernel makes that, and links that always lead from younger to
    older cannot run in a circle, whatever the data.

    `records` are the oldest first, `parents` has the number of each one's creator (or NO_PARENT), `number` is the way
    from a key to a number.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.records: list[Record] = sorted(records, key=_birth)
        self.number: dict[ProcessKey, int] = {r[0]: i for i, r in enumerate(self.records)}
        if len(self.number) < len(self.records):  # a key came twice
            self.records = [self.records[i] for i in self.number.values()]
            self.number = {r[0]: i for i, r in enumerate(self.records)}
        find = self.number.get
        self.parents: list[int] = [find(r[1], NO_PARENT) for r in self.records]
        self._children: list[list[int] | None] = [None] * len(self.records)
        children = self._children
        for i, parent in enumerate(self.parents):
            if parent >= i:
                self.parents[i] = NO_PARENT
            elif parent != NO_PARENT:
                kids = children[parent]
                if kids is None:
                    children[parent] = [i]
                else:
                    kids.append(i)

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def by_key(self) -> dict[ProcessKey, Record]:
        """Each record by its key, the oldest first."""
        return {r.key: r for r in self.records}

    @cached_property
    def roots(self) -> list[Record]:
        """Those whose creator is not known, the oldest first."""
        return [self.records[i] for i in self.root_numbers]

    @cached_property
    def root_numbers(self) -> list[int]:
        """The same as numbers."""
        return [i for i, parent in enumerate(self.parents) if parent == NO_PARENT]

    def children(self, number: int) -> Sequence[int]:
        """The numbers of those that `number` created, the oldest first."""
        return self._children[number] or ()

    def kids(self, key: ProcessKey) -> list[Record]:
        """Who was created by `key`, the oldest first."""
        at = self.number.get(key, NO_PARENT)
        return [self.records[i] for i in self.children(at)] if at != NO_PARENT else []

    def subtree(self, root: ProcessKey) -> Iterator[Record]:
        """The record of `root` and all that descend from it; each once, creators before children."""
        return (self.records[i] for i in self.below(self.number.get(root, NO_PARENT)))

    def below(self, number: int) -> list[int]:
        """`number` and the numbers of all that descend from it, creators before children; empty for NO_PARENT."""
        found = [number] if number != NO_PARENT else []
        children = self._children
        for i in found:  # it grows while we go
            if kids := children[i]:
                found += kids
        return found

    def totals(self, weights: list[int]) -> list[int]:
        """For each number the sum of `weights` over its subtree, in one pass."""
        total = list(weights)
        parents = self.parents
        for i in range(len(total) - 1, -1, -1):
            if (parent := parents[i]) != NO_PARENT:
                total[parent] += total[i]
        return total

    def sums(self, weight: Callable[[Record], int]) -> dict[ProcessKey, int]:
        """For each record the sum of `weight` over its subtree."""
        total = self.totals([weight(r) for r in self.records])
        return {r.key: total[i] for i, r in enumerate(self.records)}
