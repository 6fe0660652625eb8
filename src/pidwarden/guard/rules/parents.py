"""Why a parent does not wait, as far as a guard may look: by `stat`, `status`, `wchan` and its cgroups.

System calls and descriptors are not asked for: the one may wait for a stuck task, the others may be a million.
`pidwarden zombies` reads them as well, and knows more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.diagnose.zombies import diagnose
from pidwarden.kernel import evidence, namespaces, parents, procfs
from pidwarden.kernel.evidence import Unknown
from pidwarden.kernel.zombies import tracers
from pidwarden.model.zombie import Case, History, Sleep, Thread, Zombie

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.diagnose.zombies import Finding
    from pidwarden.guard.rules.survey import Who
    from pidwarden.model.record import Record
    from pidwarden.model.zombie import Parent

_THREADS = 8  # of a parent, and …
_ZOMBIES = 8  # … of its zombies that are looked at
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
    tids = evidence.threads(pid)
    return parents.by_stat(data, status)._replace(
        threads=parents.living(_thread(pid, tid) for tid in tids[:_THREADS]),
        unseen=max(0, len(tids) - _THREADS),
        freeze=parents.frozen(pid),
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
