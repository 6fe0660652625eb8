"""Memory as far as it can refuse a fork, in bytes: what is available, what may be promised, what a cgroup may have."""

from __future__ import annotations

import os
from typing import NamedTuple

from pidwarden.kernel import cgroup, limits, procfs

_NONE = 1 << 60  # v1 says "no limit" with the largest number of pages there is
_KIB = 1024
STRICT = 2  # vm.overcommit_memory: never promise more than CommitLimit (Documentation/mm/overcommit-accounting.rst)


class MemoryCgroup(NamedTuple):
    """A limit of a memory cgroup.

    ``reclaimable`` is what of ``used`` the kernel takes back before it refuses: who is full of cache is not full.
    """

    what: str  # memory, memory and swap, kernel memory
    path: str
    file: str  # where the limit is written
    used: int
    limit: int
    reclaimable: int
    refused: str  # what the kernel counted, in its own words; empty if nothing


def meminfo(root: str = procfs.PROC) -> dict[str, int]:
    """The lines of ``/proc/meminfo`` that are in kB, in bytes; none if it cannot be read."""
    found = {}
    for line in (procfs.read_bytes(f"{root}/meminfo", 16384) or b"").decode("ascii", "replace").splitlines():
        name, _colon, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = int(value.split()[0]) * _KIB
    return found


def fork_bytes(pid: int, root: str = procfs.PROC) -> int:
    """What a fork of a process promises anew: its private memory that can be written, which the child gets as well."""
    fields = limits.status(pid, root)
    return sum(int(fields.get(name, "0").split()[0]) * _KIB for name in ("VmData", "VmStk"))


def cgroups(pid: int, root: str = procfs.PROC) -> list[MemoryCgroup]:
    """The memory limits of the cgroups that a process is in, its own first; none if it is gone."""
    path = cgroup.path_in(pid, "memory" if cgroup.mounts(root).v1.get("memory") else cgroup.V2, root)
    return cgroups_at(path, root) if path and not path.startswith("/..") else []


def cgroups_at(path: str, root: str = procfs.PROC) -> list[MemoryCgroup]:
    """The memory limits of a cgroup and of those above it, its own first."""
    mounts = cgroup.mounts(root)
    v1 = mounts.v1.get("memory")
    mount = v1 or mounts.v2
    found: list[MemoryCgroup] = []
    while mount:
        directory = mount + path.rstrip("/")
        found += _v1(path, directory) if v1 else _v2(path, directory)
        if path == "/":
            break
        path = os.path.dirname(path)
    return found


def _v1(path: str, directory: str) -> list[MemoryCgroup]:
    found = []
    for what, name in (("memory", ""), ("memory and swap", ".memsw"), ("kernel memory", ".kmem")):
        file = f"{directory}/memory{name}.limit_in_bytes"
        limit = procfs.read_int(file)
        used = procfs.read_int(f"{directory}/memory{name}.usage_in_bytes")
        if limit is None or used is None or limit >= _NONE:
            continue
        failed = procfs.read_int(f"{directory}/memory{name}.failcnt") or 0
        killed = limits.event(f"{directory}/memory.oom_control", "oom_kill")
        refused = [f"failcnt {failed}"] * bool(failed) + [f"oom_kill {killed}"] * bool(killed)
        cache = 0 if name == ".kmem" else _cache(directory, "total_")
        found.append(MemoryCgroup(what, path, file, used, limit, cache, ", ".join(refused)))
    return found


def _v2(path: str, directory: str) -> list[MemoryCgroup]:
    file = f"{directory}/memory.max"
    limit, used = procfs.read_int(file), procfs.read_int(f"{directory}/memory.current")
    if limit is None or used is None:
        return []
    counted = [(name, limits.event(f"{directory}/memory.events", name)) for name in ("max", "oom", "oom_kill")]
    refused = ", ".join(f"{name} {n}" for name, n in counted if n)
    return [MemoryCgroup("memory", path, file, used, limit, _cache(directory, ""), refused)]


def _cache(directory: str, prefix: str) -> int:
    """What the kernel can take back without swap: cache of files, and slabs that shrink."""
    found = 0
    for line in (procfs.read_bytes(f"{directory}/memory.stat", 16384) or b"").decode("ascii", "replace").splitlines():
        name, _space, value = line.partition(" ")
        if name in (f"{prefix}inactive_file", f"{prefix}active_file", "slab_reclaimable") and value.isdecimal():
            found += int(value)
    return found
