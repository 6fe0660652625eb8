"""Cgroups, in whichever layout the machine has: v1, v2, or both (cgroups(7))."""

from __future__ import annotations

import contextlib
import os
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


def identities(path: str, root: str = PROC) -> list[tuple[int, int]]:
    """What the kernel knows a cgroup by, in each hierarchy that has it: (hierarchy's number, inode of its directory).

    The numbers are those of ``/proc/self/cgroup``, 0 for v2; the inode is the id of the cgroup's kernfs node.
    """
    found, known = mounts(root), []
    try:
        with open(f"{root}/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = [line.split(":", 2) for line in file]
    except OSError:
        return []
    for number, controllers, _path in lines:
        where = found.v1.get(controllers.split(",")[0]) if controllers else found.v2
        if where is None:
            continue
        with contextlib.suppress(OSError):
            known.append((int(number), os.stat(where.rstrip("/") + path).st_ino))
    return known


def within(pid: int, path: str) -> bool:
    """Whether a process is in the cgroup `path` or below it, in any hierarchy."""
    path = path.rstrip("/")
    return any(p == path or p.startswith(path + "/") for p in paths(pid))


# -- a process's place, and who else is there --------------------------------------------------------------------------

V2 = ""  # the name of the v2 hierarchy in `path_in`; those of v1 are named by a controller
_MOST_BELOW = 2048  # cgroups below one; who has more of them is not worth the time


def path_in(pid: int, hierarchy: str, root: str = PROC) -> str | None:
    """The process's path in one hierarchy, None if it is gone or there is no such hierarchy."""
    try:
        with open(f"{root}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                _number, controllers, path = line.rstrip("\n").split(":", 2)
                if hierarchy in controllers.split(","):
                    return path
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None


def directory_of(pid: int, hierarchy: str, found: Mounts, root: str = PROC) -> str | None:
    """Where the process's cgroup can be written; None if it is gone, or outside of what our cgroup namespace shows.

    The directory is the right one only if the process is listed there (:func:`processes`): a mount may begin somewhere
    else than the paths do (cgroup_namespaces(7)).
    """
    path = path_in(pid, hierarchy, root)
    where = found.v2 if hierarchy == V2 else found.v1.get(hierarchy)
    if path is None or where is None or path == "/.." or path.startswith("/../"):
        return None
    return where if path == "/" else where.rstrip("/") + path


def processes(directory: str) -> set[int] | None:
    """Who is in a cgroup itself: pids, 0 for those that our pid namespace does not see. Zombies are not listed.

    None: it is gone, or threaded (EOPNOTSUPP).
    """
    try:
        with open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            return set(map(int, file.read().split()))
    except OSError:
        return None


def processes_below(directory: str) -> set[int] | None:
    """Who is in a cgroup or below it; None if that cannot be told."""
    found: set[int] = set()
    todo, seen = [directory], 0
    while todo:
        here = todo.pop()
        inside = processes(here)
        seen += 1
        if inside is None or seen > _MOST_BELOW:
            if here != directory and not os.path.isdir(here):
                continue  # removed meanwhile
            return None
        found |= inside
        try:
            with os.scandir(here) as entries:
                todo += [e.path for e in entries if e.is_dir(follow_symlinks=False)]
        except OSError:
            return None
    return found


def is_root(directory: str, found: Mounts) -> bool:
    """Whether it is a hierarchy's root, as we see it."""
    return directory.rstrip("/") in {root.rstrip("/") for root in found.roots}


def read(path: str) -> str:
    """A cgroup file, without the newline at its end; empty if it is not there or cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def put(path: str, text: str) -> bool:
    """Writes a cgroup file; False if it is not there or the kernel refuses."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def move(pid: int, directory: str) -> bool:
    """Moves a process with all its threads into a cgroup. False if it is gone or the kernel refuses."""
    return put(f"{directory}/cgroup.procs", str(pid))
