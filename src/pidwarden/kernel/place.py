"""Where a process is: its pid namespace, cgroup and container, out of files of /proc that wait for nobody."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.kernel import cgroup, namespaces
from pidwarden.kernel.procfs import PROC
from pidwarden.model.container import Container, Place, container_of, containers, str_or_none

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


def main_path(pid: int, root: str = PROC) -> str | None:
    """The path of its cgroup: v2's, or where that says nothing the longest of v1's; None if it is gone."""
    found = cgroup.paths(pid, root)
    if not found:
        return None
    v2 = cgroup.path_in(pid, cgroup.V2, root)
    return v2 if v2 not in (None, "/") else max(found, key=len)


def container_at(pid: int, root: str = PROC) -> Container | None:
    """The innermost container it seems to be in."""
    return container_of(cgroup.paths(pid, root))


def place_of(pid: int, root: str = PROC) -> Place:
    """All of it; what is not known is None."""
    pids = namespaces.inner_pids(pid, root)
    return Place(pids[-1] if len(pids) > 1 else None, main_path(pid, root), container_at(pid, root))


def is_in(pid: int, ids: Iterable[str], root: str = PROC) -> bool:
    """Whether a process is in one of these containers, however deep below it."""
    wanted = frozenset(ids)
    return any(c.id in wanted for path in cgroup.paths(pid, root) for c in containers(path))


def all_ids(root: str = PROC) -> set[str]:
    """The ids of all containers that have a process."""
    found: set[str] = set()
    seen: set[str] = set()
    for name in os.listdir(root):
        if name.isdecimal():
            fresh = set(cgroup.paths(int(name), root)) - seen
            seen |= fresh
            found.update(c.id for path in fresh for c in containers(path))
    return found


def roots_of(identity: str, root: str = PROC) -> list[str]:
    """The cgroups at the top of the container with this id, one for each path by which its processes show it."""
    found: set[str] = set()
    for name in os.listdir(root):
        for path in cgroup.paths(int(name), root) if name.isdecimal() else ():
            parts = path.split("/")
            tops = ("/".join(parts[:n]) for n in range(2, len(parts) + 1))
            found.update([t for t in tops if any(c.id == identity for c in containers(t))][:1])
    return sorted(found)


def columns(pids: Iterable[int], wanted: Iterable[str], root: str = PROC) -> dict[str, list[object]]:
    """Values by field (``nspid``, ``pidns``, ``cgroup``, ``container``) for each pid; 0 stands for one that is dead.

    ``container`` is the text ``engine:id``.
    """
    pids = list(pids)
    look: dict[str, Callable[[int], object]] = {
        "nspid": lambda pid: (namespaces.inner_pids(pid, root) or (None,))[-1],
        "pidns": lambda pid: namespaces.pid_namespace(pid, root),
        "cgroup": lambda pid: main_path(pid, root),
        "container": lambda pid: str_or_none(container_at(pid, root)),
    }
    return {name: [look[name](pid) if pid else None for pid in pids] for name in wanted}
