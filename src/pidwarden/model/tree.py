"""The history tree: processes, the dead among them, by who created whom; and the sums over its subtrees. Pure.

A family may have tens of thousands of records. So each gets a number once, in the order of birth, and everything that
is worked out about it is a list with one entry a number: a loop from the first to the last meets creators before their
children, a loop from the last to the first meets children first, and neither needs to look anything up.
"""

from __future__ import annotations

from collections import Counter
from functools import cached_property
from itertools import accumulate
from operator import itemgetter, sub
from typing import TYPE_CHECKING, Any

from pidwarden.model.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pidwarden.model.key import ProcessKey

NO_PARENT = -1


class Tree:
    """Records linked by creator. One whose creator is not among them is a root.

    So is one that is not younger than its creator: no kernel makes that, and links that always lead from younger to
    older cannot run in a circle, whatever the data.

    `records` are the oldest first, `parents` has the number of each one's creator (or NO_PARENT), `broods` how many
    each created, `number` is the way from a key to a number. `births` are the start times without the time for which
    holds had stopped their ancestors: so the age that a creator had is the time it was free to do something.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        unsorted = list(records)
        births = [r[0][1] for r in unsorted]  # first, so that sorting calls no function of ours
        order = sorted(range(len(births)), key=births.__getitem__)
        self.records: list[Record] = [unsorted[i] for i in order]
        self.number: dict[ProcessKey, int] = {r[0]: i for i, r in enumerate(self.records)}
        if len(self.number) < len(self.records):  # a key came twice
            order = [order[i] for i in self.number.values()]
            self.records = [unsorted[i] for i in order]
            self.number = {r[0]: i for i, r in enumerate(self.records)}
        self.births: list[int] = [births[i] for i in order]
        lost = [r.lost_ns for r in self.records]
        if any(lost):
            self.births = list(map(sub, self.births, lost))
        find = self.number.get
        found = [find(r[1], NO_PARENT) for r in self.records]
        self.parents: list[int] = [parent if parent < i else NO_PARENT for i, parent in enumerate(found)]
        # Everybody by creator, one row for all; `broods` says how many each has, `_first` where its own begin.
        self._row = sorted(range(len(found)), key=self.parents.__getitem__)
        self.broods: Counter[int] = Counter(self.parents)
        creators = sorted(self.broods)
        ends = accumulate(map(self.broods.__getitem__, creators), initial=0)
        self._first = dict(zip(creators, ends, strict=False))
        self._columns: dict[str, list[Any]] = {}
        self._below: dict[int, list[int]] = {}

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
        return list(self.children(NO_PARENT))

    def children(self, number: int) -> Sequence[int]:
        """The numbers of those that `number` created, the oldest first."""
        at = self._first.get(number)
        return () if at is None else self._row[at : at + self.broods[number]]

    def kids(self, key: ProcessKey) -> list[Record]:
        """Who was created by `key`, the oldest first."""
        at = self.number.get(key, NO_PARENT)
        return [self.records[i] for i in self.children(at)] if at != NO_PARENT else []

    def subtree(self, root: ProcessKey) -> Iterator[Record]:
        """The record of `root` and all that descend from it; each once, creators before children."""
        return (self.records[i] for i in self.below(self.number.get(root, NO_PARENT)))

    def below(self, number: int) -> list[int]:
        """`number` and the numbers of all that descend from it, creators before children; empty for NO_PARENT."""
        if (found := self._below.get(number)) is None:
            found = [number] if number != NO_PARENT else []
            first, row, broods = self._first, self._row, self.broods
            for i in found:  # it grows while we go
                if i in first:
                    found += row[first[i] : first[i] + broods[i]]
            self._below[number] = found
        return found

    def column(self, name: str) -> list[Any]:
        """One field of every record, by number."""
        if (found := self._columns.get(name)) is None:
            found = self._columns[name] = list(map(itemgetter(Record._fields.index(name)), self.records))
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
