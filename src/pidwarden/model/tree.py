"""The history tree: processes, the dead among them, by who created whom; and the sums over its subtrees. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record


class Tree:
    """Records linked by creator. A record whose creator is not among them is a root."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.by_key: dict[ProcessKey, Record] = {r.key: r for r in records}
        self.children: dict[ProcessKey, list[Record]] = {}
        self.roots: list[Record] = []
        for record in self.by_key.values():
            if record.parent in self.by_key and record.parent != record.key:
                self.children.setdefault(record.parent, []).append(record)
            else:
                self.roots.append(record)

    def __len__(self) -> int:
        return len(self.by_key)

    def kids(self, key: ProcessKey) -> list[Record]:
        """Who was created by `key`, in no special order."""
        return self.children.get(key, [])

    def subtree(self, root: ProcessKey) -> Iterator[Record]:
        """The record of `root` and all that descend from it; each once, creators before children."""
        todo = [self.by_key[root]] if root in self.by_key else []
        while todo:
            record = todo.pop()
            yield record
            todo.extend(self.children.get(record.key, ()))

    def sums(self, weight: Callable[[Record], int]) -> dict[ProcessKey, int]:
        """For each record the sum of `weight` over its subtree, in one pass.

        A child is never older than its creator, so going from the youngest to the oldest meets children first.
        """
        total = {key: weight(record) for key, record in self.by_key.items()}
        for record in sorted(self.by_key.values(), key=lambda r: r.key.start_ns, reverse=True):
            if record.parent in total and record.parent != record.key:
                total[record.parent] += total[record.key]
        return total
