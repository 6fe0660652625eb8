"""Why a parent does not wait, as far as a guard may look: by `stat`, `status`, `wchan` and its cgroups.

System calls and descriptors are not asked for: the one may wait for a stuck task, the others may be a million.
`pidwarden zombies` reads them as well, and knows more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.diagnose.zombies import diagnose
from pidwarden.kernel import evidence, namespaces, procfs
from pidwarden.kernel.evidence import Unknown
from pidwarden.kernel.parents import frozen
from pidwarden.kernel.zombies import tracers
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.zombie import Case, History, Parent, Sleep, Thread, Zombie

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.diagnose.zombies import Finding
    from pidwarden.guard.rules.survey import Who
    from pidwarden.model.record import Record

_THREADS = 8  # of a parent, and …
_ZOMBIES = 8  # … of its zombies that are looked at
_PF_FORKNOEXEC = 0x40
_HIDDEN = "the kernel does not show where it sleeps"


def why(ppid: int, zombies: Sequence[Who], record: Record | None) -> Finding | None:
    """The cause of most of a parent's zombies; None if they, or the parent, are gone by now."""
    rows = []
    for pid, _ticks in zombies[:_ZOMBIES]:
        data = procfs.stat_line(f"{procfs.PROC}/{pid}")
        if data and b")" in data:
            rows.append(Zombie(pid, data))
    if not rows:
        return None
    traced, asked = tracers(rows)
    history = History(record.exec_ns) if record is not None else None
    found = diagnose(Case(ppid, _parent(ppid), rows, tracers=traced, asked=asked, history=history))
    return max(found, key=lambda finding: len(finding.zombies), default=None)


def _parent(pid: int) -> Parent | None:
    data = procfs.stat_line(f"{procfs.PROC}/{pid}")
    status = evidence.status(evidence.path(pid))
    if not data or not status:
        return None
    end = data.rindex(b")")
    fields = data[end + 2 :].split()
    tids = evidence.threads(pid)
    threads = [t for tid in tids[:_THREADS] if (t := _thread(pid, tid)) and t.state not in "ZX"]
    return Parent(
        ProcessKey(pid, int(fields[19]) * TICK_NS),
        data[data.index(b"(") + 1 : end],
        int(fields[1]),
        int(fields[2]),
        status,
        threads,
        unseen=max(0, len(tids) - _THREADS),
        waited=any(int(fields[at]) for at in (8, 13, 14)),
        copy=bool(int(fields[6]) & _PF_FORKNOEXEC),
        freeze=frozen(pid),
        pidns=namespaces.pid_namespace(pid),
    )


def _thread(pid: int, tid: int) -> Thread | None:
    folder = evidence.path(pid, tid)
    status = evidence.status(folder)
    if status is None:
        return None
    wchan = evidence.wchan(folder, evidence.unless_within_exec)
    if isinstance(wchan, Unknown) or (wchan is None and status.state not in "RTt"):
        return Thread(tid, status.state, status, Sleep(hidden=_HIDDEN))
    return Thread(tid, status.state, status, Sleep(wchan=wchan or ""))
