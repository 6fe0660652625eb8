"""How full the process table is, and which limit will make fork fail first."""

from __future__ import annotations

import os
from typing import NamedTuple

from pidwarden.kernel import cgroup, procfs

# Once the machine has started, numbers below this are not given out again (RESERVED_PIDS in the kernel's kernel/pid.c).
_RESERVED_PIDS = 300


class Limit(NamedTuple):
    """A limit on tasks: what it is called, how much of it is used, how much there is, what of that nobody can have."""

    name: str
    used: int
    limit: int
    reserved: int = 0

    @property
    def free(self) -> int:
        """What is left."""
        return max(0, self.limit - self.used - self.reserved)


def machine_limits(root: str = procfs.PROC) -> list[Limit]:
    """The limits that bind everybody, and the cgroup limits above this process; the tightest first."""
    used = procfs.tasks_in_use(root)
    found = []
    for name in ("pid_max", "threads-max"):
        value = procfs.read_int(f"{root}/sys/kernel/{name}")
        if value is not None:
            found.append(Limit(name, used, value, _never_used(root) if name == "pid_max" else 0))
    mount, path = _pids_cgroup(root)
    while mount:
        # In a cgroup namespace, as in a container, "/" is a cgroup with a limit of its own; the real root has no files.
        limit, current = (procfs.read_int(f"{mount}{path.rstrip('/')}/pids.{f}") for f in ("max", "current"))
        if limit is not None and current is not None:
            found.append(Limit(f"pids.max of {path}", current, limit))
        if path == "/":
            break
        path = os.path.dirname(path)
    return sorted(found, key=lambda limit: limit.free)


def _never_used(root: str) -> int:
    """Process ids that nobody has and nobody will get: 0, and the low ones whose first owner is gone."""
    return _RESERVED_PIDS - sum(os.path.exists(f"{root}/{pid}") for pid in range(1, _RESERVED_PIDS))


def _pids_cgroup(root: str) -> tuple[str | None, str]:
    """Where the hierarchy with the pids controller is mounted, None if it is not, and this process's path in it."""
    mounts = cgroup.mounts(root)
    v1 = mounts.v1.get("pids")
    with open(f"{root}/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _number, controllers, path = line.rstrip("\n").split(":", 2)
            # "/.." leads out of our cgroup namespace: no mount of ours shows it (cgroup_namespaces(7)).
            if ("pids" in controllers.split(",") if v1 else not controllers) and not path.startswith("/.."):
                return v1 or mounts.v2, path
    return None, "/"
