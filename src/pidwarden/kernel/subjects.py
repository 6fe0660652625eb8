"""Processes put together by what limits their forks, so that each case is looked at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import limits
from pidwarden.kernel.procfs import PROC, link, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.kernel.tasks import Tasks

MOST = 16  # cases that are told apart; who has more of them asks for one
_LOOKED_AT = 2000  # processes, 60 µs each


class Subject(NamedTuple):
    """One process, its real user, and how many others are under the same limits."""

    pid: int
    uid: int
    alike: int = 0


class Subjects(NamedTuple):
    """Those found; ``left_out`` processes were not looked at."""

    found: tuple[Subject, ...]
    left_out: int


def apart(pids: Iterable[int], counted: Tasks, root: str = PROC) -> Subjects:
    """One process for each case of user, RLIMIT_NPROC, cgroups and pid namespace for children; the most usual first."""
    cases: dict[tuple[object, ...], list[int]] = {}
    living = [pid for pid in pids if (p := counted.processes.get(pid)) and not p.zombie]
    for pid in sorted(living, reverse=True)[:_LOOKED_AT]:
        cgroups = read_bytes(f"{root}/{pid}/cgroup")
        if cgroups is None:
            continue
        try:
            namespace = link(pid, "ns/pid_for_children", root)
        except OSError:
            namespace = ""
        case = (counted.processes[pid].uid, limits.nproc(pid, root), cgroups, namespace)
        cases.setdefault(case, []).append(pid)
    most = sorted(cases.values(), key=lambda case: (-len(case), case[-1]))
    found = tuple(Subject(case[-1], counted.processes[case[-1]].uid, len(case) - 1) for case in most[:MOST])
    return Subjects(found, len(living) - sum(one.alike + 1 for one in found))
