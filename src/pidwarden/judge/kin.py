"""Who is whose copy: what each process is to the one that created it, worked out once for all questions. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.model.record import ProcFlag, Record
from pidwarden.model.tree import NO_PARENT, Tree

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pidwarden.model.key import ProcessKey

# What a process is to its creator. Plain numbers, one byte each in a list of 50,000.
STRANGER = 0  # it runs another program
COPY = 1  # it never called exec
AGAIN = 2  # it called exec, and runs its creator's program again
CYCLE = 3  # … or that of its creator's creator, or of the one before: a program that starts itself through a shell

# What a process does about having children.
BREEDS_COPIES = 1  # it has a copy, or is one and tried to fork when the gate was shut
BREEDS_KIN = 2  # the same with any kin but strangers
PROLIFIC = 4  # it lives and has several children
ALL_MARKS = BREEDS_COPIES | BREEDS_KIN | PROLIFIC

_SEVERAL = 3
_GUESSED = int(ProcFlag.GUESSED)  # a plain number: an IntFlag's & takes a microsecond, 50,000 times over


def copied(record: Record, creator: Record | None) -> bool:
    """Whether a process is a plain copy of its creator: it never called exec.

    Of a process that was there before the guard nobody counted the execs; it passes for a copy if it runs the same
    program under the same name, which is what a copy inherits.
    """
    if record.execs:
        return False
    # The name as well: where one file is many programs (busybox, an interpreter) the file says little.
    return not record.flags & _GUESSED or (
        creator is not None and record.exe == creator.exe and record.comm == creator.comm
    )


def itself_again(record: Record, creator: Record | None) -> bool:
    """Whether a process called exec only to become what its creator is: a bomb may start itself instead of copying."""
    return record.execs > 0 and creator is not None and record.exe == creator.exe


class Kin:
    """The tree, and for each number in it: what it is to its creator and what it does about having children.

    `kin` and `breeds` are the marks above, `slots` the slots, `memory` the resident bytes, `spared` whether it is
    protected. `level` is how far below
    a root of the tree it is; `depth`, `repeats` and `rounds` are how many of the last steps down to it were copies, the
    same or exec of the same program, the same or that through a shell.
    """

    def __init__(
        self, tree: Tree, spared: Iterable[ProcessKey] = (), memory: Mapping[ProcessKey, int] | None = None
    ) -> None:
        self.tree = tree
        size = len(tree)
        self.spared, self.kin, self.breeds = bytearray(size), bytearray(size), bytearray(size)
        for key in spared:
            if (i := tree.number.get(key)) is not None:
                self.spared[i] = 1
        self.memory = [0] * size
        for key, resident in (memory or {}).items():
            if (i := tree.number.get(key)) is not None:
                self.memory[i] = resident
        self.slots = [max(0, held) for held in tree.column("slots")]
        self.level, self.depth, self.repeats, self.rounds = [0] * size, [0] * size, [0] * size, [0] * size
        self._relate()
        self._measure()

    def _relate(self) -> None:
        records, parents, kin, breeds, spared = self.tree.records, self.tree.parents, self.kin, self.breeds, self.spared
        for i, record in enumerate(records):
            parent = parents[i]
            if parent == NO_PARENT:
                continue
            creator = records[parent]
            if record.execs:
                what = AGAIN if record.exe == creator.exe else self._cycle(record.exe, parents[parent])
            elif record.flags & _GUESSED:
                what = COPY if copied(record, creator) else STRANGER
            else:
                what = COPY
            kin[i] = what
            if what:
                marks = BREEDS_COPIES | BREEDS_KIN if what == COPY else BREEDS_KIN
                if not spared[i]:
                    breeds[parent] |= marks
                    if record.stops:
                        breeds[i] |= marks
        for i, brood in self.tree.broods.items():
            if brood >= _SEVERAL and i != NO_PARENT and records[i].live > 0:
                breeds[i] |= PROLIFIC

    def _cycle(self, exe: tuple[int, int], above: int) -> int:
        for _ in range(2):
            if above == NO_PARENT:
                break
            if self.tree.records[above].exe == exe:
                return CYCLE
            above = self.tree.parents[above]
        return STRANGER

    def _measure(self) -> None:
        level, depth, repeats, rounds = self.level, self.depth, self.repeats, self.rounds
        skipped = self.tree.column("skipped")
        for i, (parent, what, left_out) in enumerate(zip(self.tree.parents, self.kin, skipped, strict=True)):
            if parent == NO_PARENT:
                continue
            # Those left out are older than the history's window: no part of what began just now.
            level[i] = level[parent] + 1 + left_out
            if what == STRANGER:
                continue
            rounds[i] = rounds[parent] + 1
            if what != CYCLE:
                repeats[i] = repeats[parent] + 1
            if what == COPY:
                depth[i] = depth[parent] + 1
