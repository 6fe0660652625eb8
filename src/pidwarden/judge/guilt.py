"""Which subtree of a family is guilty. Pure: records in, suspects out.

Depth first from the founder, the dead included, as the kernel design of 2011 did; what differs is the question asked
at each step. Score alone would take the session along with the bomb whenever the bomb is most of the session. So only
what was born since the trouble began weighs anything, and a process whose subtree is heavy is passed over as soon as
something speaks for it: its heavy children are looked at instead, and all else that it started is spared. What is left
over of a bomb that way is caught by the next alarm; a wrong kill is not undone.

Processes are numbers here: see :mod:`pidwarden.model.tree`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.judge.case import SECOND, Rules
from pidwarden.judge.kin import AGAIN, COPY, CYCLE, PROLIFIC, STRANGER, Kin
from pidwarden.model.record import ProcFlag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.model.record import Record

MEMORY_UNIT = 16 << 20  # bytes that weigh as much as a slot
_GUESSED = int(ProcFlag.GUESSED)
_LIVED = "it lived"
_LIKE_ITS_CHILDREN = 4  # children that breed as it does: a bomb's first process has them, a server or script does not
_ALIKE = 3  # times as many children as the busiest of its copies: more of them are requests that it serves
_EAGER = 0.9  # of its children that want to fork at this moment, as it does itself: it is one of them
_PACK = 10  # such children, however old they are
_CAME_AND_WENT = 3  # children beyond those still known: somebody who runs one program after another
_SLOWER = 4  # a bomb's first process waits as long as its copies do before it forks; its parent waited longer than this
_MIMICS = 2  # copies that start just the program that it starts as well: the program is a decoy
_PROLIFIC = 3  # children that have several children each, and are as many programs


class Suspect(NamedTuple):
    """The root of a heavy subtree, and what speaks for it all the same; empty if nothing does."""

    root: int
    excuse: str

    @property
    def older(self) -> bool:
        """Whether that is its age."""
        return self.excuse.startswith(_LIVED)


def weights(kin: Kin, scope: bytearray, began: int, *, dead_count: bool) -> list[int]:
    """The weight of each process: its slots and its memory, if it is in question at all and was born since the onset.

    Memory at most doubles what the slots weigh: one large program beside the bomb must not hide it.

    A dead ancestor holds no slot, but a chain of them (`dead_count`) is all there is to see of a fork-and-exit bomb.
    """
    records, slots = kin.tree.records, kin.slots
    starts = kin.tree.births
    if dead_count:
        slots = [(held or 1) + r.skipped for held, r in zip(slots, records, strict=True)]
    asked = zip(slots, starts, scope, kin.spared, strict=True)
    found = [held if born >= began and inside and not off else 0 for held, born, inside, off in asked]
    return [w + min(w, m // MEMORY_UNIT) if m else w for w, m in zip(found, kin.memory, strict=True)]


def find_suspects(kin: Kin, sums: Sequence[int], began: int, rules: Rules) -> list[Suspect]:
    """The roots of the subtrees that carry the growth, the heaviest first.

    `sums` holds the weight of each subtree, `began` the onset. Empty if no subtree reaches ``min_members``.
    """
    least = rules.min_members
    found: list[Suspect] = []
    todo = [i for i in kin.tree.root_numbers if sums[i] >= least]
    while todo:
        at = todo.pop()
        heavy = [c for c in kin.tree.children(at) if sums[c] >= least]
        excuse = "it is protected" if kin.spared[at] else _excuse(kin, at, heavy, began, rules)
        if excuse and heavy:
            todo.extend(heavy)
        else:
            found.append(Suspect(at, excuse))
    return sorted(found, key=lambda s: (-sums[s.root], s.root))


def _excuse(kin: Kin, parent: int, heavy: list[int], began: int, rules: Rules) -> str:
    """What speaks for the parent of heavy children, or for a process that is heavy without any; empty if nothing."""
    if _like_its_children(kin, parent, began) or _leads_a_pack(kin, parent, heavy):
        return ""
    older = "" if _at_their_pace(kin, parent, heavy) else _lived_before(kin, parent, heavy, began, rules)
    if older or _becomes_others(kin, parent, began):
        return older
    return _other_work(kin, parent, heavy, rules)


def _born(kin: Kin, number: int) -> int:
    return kin.tree.births[number]


def _lived_before(kin: Kin, parent: int, heavy: list[int], began: int, rules: Rules) -> str:
    """A bomb's parent is older than the bomb; a slow bomb's first process is only as slow as its copies."""
    age = began - _born(kin, parent)
    if age < rules.branch_age_ns and heavy:
        age = min(_born(kin, h) for h in heavy) - _born(kin, parent)
        if age < _SLOWER * min(_before_its_first_copy(kin, h) for h in heavy):
            return ""
    return f"{_LIVED} {age / SECOND:.1f} s before that began" if age >= rules.branch_age_ns else ""


def _before_its_first_copy(kin: Kin, number: int) -> int:
    births = [_born(kin, c) for c in kin.tree.children(number) if kin.kin[c] == COPY]
    return max(0, min(births, default=0) - _born(kin, number))


def _other_work(kin: Kin, parent: int, heavy: list[int], rules: Rules) -> str:
    """A bomb does nothing but copy itself; whoever starts programs, or has other children at work, is not one."""
    tree, records = kin.tree, kin.tree.records
    same = _Same(kin, parent)
    decoys = _decoys(kin, heavy)
    if any(not same(h) for h in heavy):
        return "it started another program"
    first = min((_born(kin, h) for h in heavy), default=0)
    known = set(heavy)
    # A copy at the head of a heavy subtree may be a subshell that runs a build: that makes the parent a script as well.
    for child in tree.children(parent):
        kids = tree.children(child)
        strange = [k for k in kids if not same(k)] if same(child) else [child]
        if any(records[k].exe not in decoys for k in strange):
            return "it has children that run other programs"
        record = records[child]
        # One that breeds is light in this branch, but not in another; what comes and goes beside its copies is a decoy.
        if child in known or strange or not record.alive or sum(kin.kin[k] == COPY for k in kids) >= _MIMICS:
            continue
        if record.forks - record.hidden >= len(kids) + _CAME_AND_WENT:
            return "it has a child whose own children come and go"
        if first - _born(kin, child) >= rules.witness_ns:
            return "it has a child that was there before that began"
    return ""


class _Same:
    """Whether a child, or a child's child, of `parent` is what a copy of `parent` may be."""

    def __init__(self, kin: Kin, parent: int) -> None:
        self._kin = kin.kin
        self._records = kin.tree.records
        self._like = {COPY}
        self._links: set[tuple[int, int]] = set()
        children = kin.tree.children
        # Children that start themselves again, and theirs in turn: not a script that starts a script.
        if any(kin.kin[c] == AGAIN and any(kin.kin[k] == AGAIN for k in children(c)) for c in children(parent)):
            self._like |= {AGAIN}
        # The same by way of another program, mostly a shell.
        exe = self._records[parent].exe
        for child in children(parent):
            if kin.kin[child] != STRANGER:
                continue
            back = [k for k in children(child) if kin.kin[k] == CYCLE and self._records[k].exe == exe]
            if any(kin.kin[g] == CYCLE for k in back for c in children(k) for g in children(c)):
                self._like |= {AGAIN, CYCLE}
                self._links.add(self._records[child].exe)

    def __call__(self, number: int) -> bool:
        return self._kin[number] in self._like or self._records[number].exe in self._links


def _decoys(kin: Kin, heavy: list[int]) -> set[tuple[int, int]]:
    """Programs that a process starts, but every one of its heavy copies as well: they are part of what is copied."""
    copies = [h for h in heavy if kin.kin[h] == COPY]
    if len(copies) < _MIMICS:
        return set()
    children, records = kin.tree.children, kin.tree.records
    started = [{records[k].exe for k in children(c) if kin.kin[k] == STRANGER} for c in copies]
    return set.intersection(*started)


def _becomes_others(kin: Kin, parent: int, began: int) -> bool:
    """Whether it has several children, which are as many programs, and so do they and theirs, all since the onset.

    What a build starts over and over is one program; what it starts several of has no several children in turn.
    """

    def prolific(number: int) -> list[int]:
        return [c for c in kin.tree.children(number) if kin.breeds[c] & PROLIFIC and _born(kin, c) >= began]

    if not kin.breeds[parent] & PROLIFIC:
        return False
    alike = prolific(parent)
    programs = {kin.tree.records[c].exe for c in alike}
    return len(programs) >= _PROLIFIC and any(prolific(c) for c in alike)


def _at_their_pace(kin: Kin, parent: int, heavy: list[int]) -> bool:
    """Whether it waited as long before its first copy as its heavy copies did before theirs: it does what they do."""
    if len(kin.tree.children(parent)) < _MIMICS or any(kin.kin[h] != COPY for h in heavy):
        return False
    own, theirs = _before_its_first_copy(kin, parent), [_before_its_first_copy(kin, h) for h in heavy]
    return bool(heavy) and max(theirs) <= _SLOWER * own and own <= _SLOWER * min(theirs)


def _like_its_children(kin: Kin, parent: int, began: int) -> bool:
    """Whether a process is the first of its copies, however old: all it ever forked is itself, and that breeds."""
    kids = kin.tree.children(parent)
    record = kin.tree.records[parent]
    if len(kids) < _LIKE_ITS_CHILDREN or record.flags & _GUESSED or record.forks - record.hidden > 2 * len(kids):
        return False
    broods = []
    for child in kids:
        own = kin.tree.children(child)
        plain = (COPY, AGAIN)
        if _born(kin, child) < began or kin.kin[child] not in plain or any(kin.kin[k] not in plain for k in own):
            return False
        broods.append(len(own))
    breeding = len(broods) - broods.count(0)
    if breeding < _LIKE_ITS_CHILDREN:
        return False
    eager = sum(kin.tree.records[c].stops > 0 for c in kids)
    return _ALIKE * max(broods) >= len(kids) or (record.stops > 0 and eager >= _EAGER * len(kids))


def _leads_a_pack(kin: Kin, parent: int, heavy: list[int]) -> bool:
    """Whether it and all its copies, however long they slept, fork at this moment, and one of them is heavy already.

    Each of them lived before the trouble began, and for each that speaks; but workers are not all asked at once to
    fork, by the one who serves none, and do not breed copies of copies.
    """
    kids, records = kin.tree.children(parent), kin.tree.records
    if not heavy or not _at_the_gate(records[parent]) or any(kin.kin[c] != COPY for c in kids):
        return False
    living = [c for c in kids if records[c].alive]
    return len(living) >= _PACK and sum(_at_the_gate(records[c]) for c in living) >= _EAGER * len(living)


def _at_the_gate(record: Record) -> bool:
    """Whether it wants to fork just now: it was stopped when it tried, and still is."""
    return record.stops > 0 and record.held_ns > 0 and record.alive
