"""How much of a limit is used now, and what one more costs, as far as a few files tell."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pidwarden.kernel import limits, memory, netstat, patience, procfs, slab
from pidwarden.kernel.procfs import PROC
from pidwarden.kernel.tables import crowd, timewait
from pidwarden.kernel.tables.base import content
from pidwarden.model import limit

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.model.limit import Named


def used(named: Named, root: str = PROC) -> int | None:
    """How many slots are taken; None: that is not known, or takes a look at every process."""
    ways: dict[str, Callable[[], int | None]] = {
        "pid_max": lambda: procfs.tasks_in_use(root) or None,
        "threads-max": lambda: procfs.tasks_in_use(root) or None,
        "file-max": lambda: procfs.read_int(f"{root}/sys/fs/file-nr"),
        limit.CONNTRACK_MAX: lambda: procfs.read_int(f"{root}/sys/net/netfilter/nf_conntrack_count"),
        "arp.gc_thresh": lambda: _neighbours(f"{root}/net/stat/arp_cache"),
        "ndisc.gc_thresh": lambda: _neighbours(f"{root}/net/stat/ndisc_cache"),
        "tcp_max_tw_buckets": lambda: timewait.sockets(root).get("tw"),
        "pty.max": lambda: procfs.read_int(f"{root}/sys/kernel/pty/nr"),
        "aio-max-nr": lambda: procfs.read_int(f"{root}/sys/fs/aio-nr"),
        "mount-max": lambda: _lines(f"{root}/self/mountinfo"),
        limit.PIDS: lambda: procfs.read_int(f"{limits.pids_directory(named.cgroup, root)}/pids.current"),
        limit.NOFILE: lambda: _descriptors(named.pid, root),
        limit.NPROC: lambda: _tasks_of_the_user(named.pid, root),
    }
    way = ways.get(named.setting.name)
    return way() if way else None


def _neighbours(path: str) -> int | None:
    found = netstat.totals(path)
    return found["entries"] if found else None


def _lines(path: str) -> int | None:
    data = content(path)
    return None if data is None else data.count(b"\n")


def _descriptors(pid: int, root: str) -> int | None:
    found = crowd.open_files(f"{root}/{pid}/fd")
    return found if found >= 0 else None


def _tasks_of_the_user(pid: int, root: str) -> int | None:
    """Tasks of the real user of a process: of those who have it as their effective one, near enough."""
    uid = procfs.owner(pid, root)
    if uid < 0:
        return None

    def threads(other: int) -> int:
        if procfs.owner(other, root) != uid:
            return 0
        found = procfs.stat(other, root)
        return found.threads if found else 0

    try:
        pids = [int(name) for name in os.listdir(root) if name.isdecimal()]
        return sum(number for _pid, number in patience.sweep(pids, threads).found) or None
    except OSError:
        return None


def each(named: Named, root: str = PROC) -> int | None:
    """Bytes of kernel memory that a slot takes when it is used, at least; None: not known, or not for us."""
    if not named.setting.caches:
        return None
    try:
        found = slab.caches(root)
    except OSError:
        return None
    if named.setting.caches[0][0] not in found:
        return None
    return sum(int(found[name].footprint) * times for name, times in named.setting.caches if name in found)


def available(root: str = PROC) -> int | None:
    """MemAvailable in bytes."""
    return memory.meminfo(root).get("MemAvailable")


def other_limits(root: str = PROC, pid: int | str = "self") -> dict[str, int]:
    """Those that bind tasks of a process together with the one that is changed: by name."""
    found = {entry.name: entry.limit for entry in limits.table_limits(root, reserved=0)}
    for name, path in (
        ("nr_open", "fs/nr_open"),
        ("ip_unprivileged_port_start", "net/ipv4/ip_unprivileged_port_start"),
    ):
        if (value := procfs.read_int(f"{root}/sys/{path}")) is not None:
            found[name] = value
    with contextlib.suppress(OSError):
        found |= {f"{limit.PIDS}{c.path}": c.limit for c in limits.pids_cgroups(pid, root)}
    return found
