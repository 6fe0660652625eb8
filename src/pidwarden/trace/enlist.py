"""Who is to be traced, out of /proc, once the hooks are up: whoever is born to a member from then on is one already.

/proc is gone through until a pass finds nobody new. What no pass can find is a child whose parent ended before it was
looked at: its parent is somebody else now. A guard's history has those.
"""

from __future__ import annotations

import os
from collections import defaultdict
from typing import TYPE_CHECKING

from pidwarden.kernel import procfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pidwarden.trace.tracer import Tracer

_PASSES = 50  # a family that has new members in each of so many is a bomb; the hooks have all who come after


def parents(root: str = procfs.PROC) -> dict[int, tuple[int, int]]:
    """Of every process its parent and its start in ticks; of one within execve the start is not known (VEILED)."""
    found = {}
    for name in os.listdir(root):
        if name.isdecimal() and (stat := procfs.stat(int(name), root) or procfs.veiled(int(name), root)):
            found[stat.pid] = stat.ppid, stat.start_ticks
    return found


def below(roots: Iterable[int], table: Mapping[int, tuple[int, int]]) -> set[int]:
    """The processes of `table` that are among `roots` or descend from them."""
    children = defaultdict[int, list[int]](list)
    for pid, (ppid, _start) in table.items():
        children[ppid].append(pid)
    found, todo = set[int](), [pid for pid in roots if pid in table]
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += children[pid]
    return found


def threads(pid: int, root: str = procfs.PROC) -> list[int]:
    """The threads of a process; none if it is gone."""
    try:
        return [int(name) for name in os.listdir(f"{root}/{pid}/task")]
    except OSError:
        return []


class Enlisting:
    """Puts on a tracer's list whom `look` names, until it names nobody new."""

    def __init__(self, tracer: Tracer, look: Callable[[], Mapping[int, int]]) -> None:
        """`look` gives who is meant now: start in ticks by process id. It is told nothing of earlier looks."""
        self._tracer, self._look = tracer, look
        self.members: dict[int, int] = {}
        self.tids: set[int] = set()

    def run(self) -> int:
        """Goes on until a pass finds nobody new; how many passes it took."""
        for passes in range(1, _PASSES + 1):
            if not sum(self._take(pid, start) for pid, start in self._look().items()):
                return passes
        return _PASSES

    def _take(self, pid: int, start: int) -> bool:
        """Whether anybody of that process was new: who was born to a member is on the list already."""
        unseen = [tid for tid in threads(pid) if tid not in self.tids]
        if not unseen:
            return False
        fresh = [tid for tid in unseen if not self._tracer.lists(tid)]
        self._tracer.enlist(fresh)
        if _start_of(pid) not in (start, procfs.VEILED) and start != procfs.VEILED:
            self._tracer.dismiss(fresh)  # it is gone, and somebody else may have its number
            return False
        self.members[pid] = start
        self.tids.update(unseen)
        return bool(fresh)


def _start_of(pid: int) -> int:
    """0 if it is gone."""
    stat = procfs.stat(pid) or procfs.veiled(pid)
    return stat.start_ticks if stat else 0


def tree(roots: Mapping[int, int]) -> Callable[[], Mapping[int, int]]:
    """A look for :class:`Enlisting`: these processes, starts by id, and all who descend from them."""
    known = dict(roots)

    def look() -> Mapping[int, int]:
        table = parents()
        here = {pid for pid, start in known.items() if pid in table and _is_same(start, table[pid][1])}
        known.update({pid: table[pid][1] for pid in below(here, table)})
        return {pid: start for pid, start in known.items() if pid in table and _is_same(start, table[pid][1])}

    return look


def _is_same(start: int, now: int) -> bool:
    return start == now or procfs.VEILED in (start, now)


def alone(roots: Mapping[int, int]) -> Callable[[], Mapping[int, int]]:
    """A look: these processes, starts by id, with all their threads."""
    return lambda: {pid: start for pid, start in roots.items() if _is_same(start, _start_of(pid))}
