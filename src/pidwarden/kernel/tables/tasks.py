"""Process ids and threads of the machine, and the tasks of each user against his RLIMIT_NPROC."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pidwarden.kernel import limits, namespaces
from pidwarden.kernel.tables.base import PROC, most
from pidwarden.model.gauge import Gauge, Scope, Table
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pidwarden.kernel.tables.crowd import Crowd, Member

_TABLES = {"pid_max": Table.PIDS, "threads-max": Table.THREADS}


def machine(crowd: Crowd | None = None, *, reserved: int | None = None, root: str = PROC) -> list[Gauge]:
    """pid_max and threads-max. `crowd` None: without those who use most; `reserved` as for ``limits.table_limits``."""
    users = most((f"uid {uid}", n) for uid, n in crowd.tasks.users().items()) if crowd else ()
    # Since Linux 6.14 pid_max is that of our pid namespace, and only who is in it has an id of it.
    inside = namespaces.pid_namespace("self", root) not in (namespaces.INIT_PID_NS, None)
    found = []
    for limit in limits.table_limits(root, reserved=reserved):
        used: int | None = limit.used
        if inside and limit.name == "pid_max":
            used = crowd.tasks.total if crowd else None  # the kernel counts those of the machine alone
        table = _TABLES[limit.name]
        setting = f"kernel.{limit.name}"
        found.append(
            Gauge(table, Scope.MACHINE, "", used, limit.limit, limit.reserved, setting, who=users)
        )  # fmt: skip
    return found


def users(members: Iterable[Member], root: str = PROC) -> list[Gauge]:
    """The tasks of each user whom RLIMIT_NPROC binds, against the least limit that one of his processes has.

    The kernel compares the limit of the one who forks with the tasks of his real user (copy_process() in
    kernel/fork.c).
    """
    tasks: Counter[int] = Counter()
    names: dict[int, Counter[bytes]] = {}
    least: dict[int, dict[int, int]] = {}  # by user and limit: a process that has it
    for m in members:
        tasks[m.uid] += m.threads
        names.setdefault(m.uid, Counter())[m.name] += m.threads
        if m.nproc is not None:
            least.setdefault(m.uid, {}).setdefault(m.nproc, m.pid)
    found = []
    for uid, ways in least.items():
        bound = _bound(ways, root)
        if bound is None:
            continue
        limit, pid = bound
        who = most((escape(name), n) for name, n in names[uid].items())
        detail = f"the limit is that of process {pid}"
        found.append(
            Gauge(Table.USER_TASKS, Scope.USER, f"uid {uid}", tasks[uid], limit, 0, "RLIMIT_NPROC", None, None)
            ._replace(who=who, detail=detail)
        )  # fmt: skip
    return found


def _bound(ways: Mapping[int, int], root: str) -> tuple[int, int] | None:
    """The least limit of a process that is bound by it, and that process."""
    for limit, pid in sorted(ways.items()):
        if not limits.nproc_exempt(pid, root):
            return limit, pid
    return None
