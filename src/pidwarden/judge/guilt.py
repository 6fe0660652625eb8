"""Which subtree of a family is guilty. Pure: records in, roots out.

Depth first from the founder, the dead included, as the kernel design of 2011 did; what differs is the question asked
at each step. Score alone would take the session along with the bomb whenever the bomb is most of the session. So a
process whose subtree is heavy is passed over when something speaks for it (it lived before the trouble began, it merely
started another program, it has children that live a life of their own) and is taken when nothing does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pidwarden.model.key import ProcessKey
from pidwarden.model.record import Record
from pidwarden.model.tree import Tree

SECOND = 1_000_000_000


class Rules(NamedTuple):
    """The judge's numbers; each is a setting of the same name."""

    min_members: int = 10  # a subtree lighter than this is never guilty (the 2011 patch hard-coded ten)
    branch_age_ns: int = SECOND  # a parent that lived this long before is not part of what it started
    heavy_share: float = 0.15  # of the parent's score: what makes a child worth a look
    flat_share: float = 0.5  # more than this in the process itself and its light children: it is the breeder
    early_share: float = 0.1  # of the score: what may have been born before the trouble began
    witness_ns: int = SECOND // 10  # a sibling this much older than the heavy one was there first


def find_guilty(tree: Tree, score: Callable[[Record], int], rules: Rules) -> list[Record]:
    """The roots of the guilty subtrees, the heaviest first; empty if no subtree reaches ``min_members``."""
    sums = tree.sums(score)
    began = onset(tree, score, rules)
    found: list[Record] = []
    todo = sorted(tree.roots, key=lambda r: sums[r.key], reverse=True)
    todo = [r for r in todo if sums[r.key] >= max(rules.min_members, _share(sums[todo[0].key], rules))]
    while todo:
        record = todo.pop()
        heavy = heavy_children(tree, record, sums, rules)
        rest = sums[record.key] - sum(sums[h.key] for h in heavy)
        if not heavy or rest > rules.flat_share * sums[record.key] or not _innocent(tree, record, heavy, began, rules):
            found.append(record)
        else:
            todo.extend(heavy)
    return sorted(found, key=lambda r: sums[r.key], reverse=True)


def _share(total: int, rules: Rules) -> float:
    return rules.heavy_share * total


def heavy_children(tree: Tree, record: Record, sums: dict[ProcessKey, int], rules: Rules) -> list[Record]:
    """The children whose subtrees carry a good part of the record's score."""
    least = max(rules.min_members, _share(sums[record.key], rules))
    return [c for c in tree.kids(record.key) if sums[c.key] >= least]


def onset(tree: Tree, score: Callable[[Record], int], rules: Rules) -> int:
    """When the trouble began: the birth before which only ``early_share`` of the score was born, in ns since boot."""
    births = sorted((key.start_ns, score(record)) for key, record in tree.by_key.items())
    left = rules.early_share * sum(weight for _birth, weight in births)
    for birth, weight in births:
        left -= weight
        if left < 0:
            return birth
    return 0


def _innocent(tree: Tree, parent: Record, heavy: list[Record], began: int, rules: Rules) -> bool:
    """Whether something speaks for the parent of the heavy children."""
    first = min(h.key.start_ns for h in heavy)
    if max(first, began) - parent.key.start_ns >= rules.branch_age_ns:
        return True  # it lived before; a bomb's parent is as young as the bomb
    if all(h.execs for h in heavy):
        return True  # it started a program; the program is the bomb
    known = {h.key for h in heavy}
    return any(
        child.alive and (child.execs > 0 or first - child.key.start_ns >= rules.witness_ns)
        or (child.execs == 0 and any(g.execs for g in tree.kids(child.key)))
        for child in tree.kids(parent.key)
        if child.key not in known
    )
