"""Cgroups, in whichever layout the machine has: v1, v2, or both (cgroups(7))."""

from __future__ import annotations

from typing import NamedTuple

from pidwarden.kernel import procfs
from pidwarden.kernel.procfs import PROC


class Mounts(NamedTuple):
    """Where the hierarchies are: v2's root, and v1's root by controller."""

    v2: str | None
    v1: dict[str, str]

    @property
    def roots(self) -> set[str]:
        """Where hierarchies are mounted, each once: v1 controllers may share one."""
        return {*self.v1.values(), *([self.v2] if self.v2 else [])}


def mounts(root: str = PROC) -> Mounts:
    """The mounted hierarchies, out of ``/proc/self/mounts``."""
    v2: str | None = None
    v1: dict[str, str] = {}
    for _device, where, kind, options, *_ in procfs.mounts(root):
        if kind == "cgroup2" and v2 is None:
            v2 = where
        elif kind == "cgroup":
            v1.update(dict.fromkeys(options.split(","), where))
    return Mounts(v2, v1)


def paths(pid: int, root: str = PROC) -> list[str]:
    """The process's path in every hierarchy, empty if it is gone."""
    try:
        with open(f"{root}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            return [line.rstrip("\n").split(":", 2)[2] for line in file]
    except (FileNotFoundError, ProcessLookupError):
        return []


def relative(path: str, found: Mounts) -> str:
    """A path below a mount point as ``/proc/PID/cgroup`` shows it; others are returned as they are."""
    for where in sorted(found.roots, key=len, reverse=True):
        if path == where or path.startswith(where.rstrip("/") + "/"):
            return path[len(where.rstrip("/")) :] or "/"
    return path


def within(pid: int, path: str) -> bool:
    """Whether a process is in the cgroup `path` or below it, in any hierarchy."""
    path = path.rstrip("/")
    return any(p == path or p.startswith(path + "/") for p in paths(pid))
