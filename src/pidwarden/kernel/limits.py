"""How full the process table is, and which limit will make fork fail first."""

from __future__ import annotations

import os
from typing import NamedTuple

from pidwarden.kernel import cgroup, procfs


class Limit(NamedTuple):
    """A limit on tasks: what it is called, how much of it is used, how much there is."""

    name: str
    used: int
    limit: int

    @property
    def free(self) -> int:
        """What is left."""
        return max(0, self.limit - self.used)


def machine_limits(root: str = procfs.PROC) -> list[Limit]:
    """The limits that bind everybody, and the cgroup limits above this process; the tightest first."""
    used = procfs.tasks_in_use(root)
    found = []
    for name in ("pid_max", "threads-max"):
        value = procfs.read_int(f"{root}/sys/kernel/{name}")
        if value is not None:
            found.append(Limit(name, used, value))
    mounts = cgroup.mounts(root)
    pids = mounts.v1.get("pids") or mounts.v2
    for path in cgroup.paths(os.getpid(), root) if pids else []:
        while path not in ("", "/"):
            limit, current = (procfs.read_int(f"{pids}{path}/pids.{f}") for f in ("max", "current"))
            if limit is not None and current is not None:
                found.append(Limit(f"pids.max of {path}", current, limit))
            path = os.path.dirname(path)  # noqa: PLW2901
    return sorted(set(found), key=lambda limit: limit.free)
