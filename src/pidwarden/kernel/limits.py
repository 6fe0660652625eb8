"""How full the process table is, and which limit will make fork fail first."""

from __future__ import annotations

import os
from typing import NamedTuple

from pidwarden.kernel import cgroup, procfs

# Once the machine has started, numbers below this are not given out again (RESERVED_PIDS in the kernel's kernel/pid.c).
_RESERVED_PIDS = 300
_CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 21, 24
_EVERY_UID = ["0", "0", "4294967295"]  # the uid_map of the machine's own user namespace


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


class PidsCgroup(NamedTuple):
    """A cgroup with a limit on tasks: its path as /proc/PID/cgroup shows it, where its files are, what it says."""

    path: str
    directory: str
    used: int
    limit: int


class Nproc(NamedTuple):
    """RLIMIT_NPROC of one process, or another of its limits; None is unlimited."""

    soft: int | None
    hard: int | None


def machine_limits(root: str = procfs.PROC, *, reserved: int | None = None) -> list[Limit]:
    """The limits that bind everybody, and the cgroup limits above this process; the tightest first.

    `reserved`: what :func:`never_used` said a while ago; to count that again takes longer than all else here.
    """
    found = table_limits(root, reserved=reserved)
    found += [Limit(f"pids.max of {c.path}", c.used, c.limit) for c in pids_cgroups("self", root)]
    return sorted(found, key=lambda limit: limit.free)


def table_limits(root: str = procfs.PROC, *, reserved: int | None = None) -> list[Limit]:
    """The limits that bind everybody: pid_max and threads-max. `reserved` as for :func:`machine_limits`."""
    used = procfs.tasks_in_use(root)
    found = []
    for name in ("pid_max", "threads-max"):
        value = procfs.read_int(f"{root}/sys/kernel/{name}")
        if value is not None:
            lost = (never_used(root) if reserved is None else reserved) if name == "pid_max" else 0
            found.append(Limit(name, used, value, lost))
    return found


def never_used(root: str = procfs.PROC) -> int:
    """Process ids that nobody has and nobody will get: 0, and the low ones whose first owner is gone."""
    return _RESERVED_PIDS - sum(os.path.exists(f"{root}/{pid}") for pid in range(1, _RESERVED_PIDS))


# -- cgroups -----------------------------------------------------------------------------------------------------------


def pids_cgroups(pid: int | str = "self", root: str = procfs.PROC) -> list[PidsCgroup]:
    """The cgroups with a limit on tasks that a process is in, its own first.

    Raises:
        OSError: it is gone.
    """
    mount, path = pids_cgroup(pid, root)
    return pids_cgroups_at(mount, path) if mount else []


def pids_cgroups_at(mount: str, path: str) -> list[PidsCgroup]:
    """The cgroups with a limit on tasks from one up to the root of the hierarchy that is mounted there."""
    found = []
    while True:
        # In a cgroup namespace, as in a container, "/" is a cgroup with a limit of its own; the real root has no files.
        directory = mount + path.rstrip("/")
        limit, current = (procfs.read_int(f"{directory}/pids.{f}") for f in ("max", "current"))
        if limit is not None and current is not None:
            found.append(PidsCgroup(path, directory, current, limit))
        if path == "/":
            break
        path = os.path.dirname(path)
    return found


def pids_cgroup(pid: int | str, root: str = procfs.PROC) -> tuple[str | None, str]:
    """Where the hierarchy with the pids controller is mounted, None if it is not, and the process's path in it.

    Raises:
        OSError: the process is gone.
    """
    mounts = cgroup.mounts(root)
    v1 = mounts.v1.get("pids")
    with open(f"{root}/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            _number, controllers, path = line.rstrip("\n").split(":", 2)
            # "/.." leads out of our cgroup namespace: no mount of ours shows it (cgroup_namespaces(7)).
            if ("pids" in controllers.split(",") if v1 else not controllers) and not path.startswith("/.."):
                return v1 or mounts.v2, path
    return None, "/"


def pids_directory(path: str, root: str = procfs.PROC) -> str | None:
    """Where a cgroup of the pids hierarchy has its files, v1 or v2; None if that is not mounted."""
    found = cgroup.mounts(root)
    mount = found.v1.get("pids") or found.v2
    return None if mount is None else f"{mount}{path.rstrip('/')}"


def refused_in(directory: str) -> int:
    """Forks of tasks in this very cgroup that it or one above refused; of all below as well, where v2 counts so.

    ``max`` of pids.events. Under v1, and v2 before 6.11 or mounted with pids_localevents, it counts where the task is
    that was refused; since then where the limit is, and in all above (73e75e6fc352, "Separate semantics of
    pids.events").
    """
    return event(f"{directory}/pids.events", "max")


def refused_by(directory: str) -> int | None:
    """Forks that this cgroup's own limit refused; None where the kernel does not tell it from the others."""
    path = f"{directory}/pids.events.local"
    return event(path, "max") if os.path.exists(path) else None


def event(path: str, name: str) -> int:
    """One counter of a file of lines "name count"; 0 if it has none."""
    for line in (procfs.read_bytes(path) or b"").splitlines():
        word, _space, number = line.decode("utf-8", "replace").partition(" ")
        if word == name and number.isdecimal():
            return int(number)
    return 0


# -- RLIMIT_NPROC ------------------------------------------------------------------------------------------------------


def nproc(pid: int, root: str = procfs.PROC) -> Nproc | None:
    """RLIMIT_NPROC of a process; None if it is gone or hidden."""
    return rlimit(pid, b"Max processes", root)


def rlimit(pid: int, title: bytes, root: str = procfs.PROC) -> Nproc | None:
    """One line of ``/proc/PID/limits``, which waits for nobody; None if it is gone or hidden."""
    for line in (procfs.read_bytes(f"{root}/{pid}/limits") or b"").splitlines():
        if line.startswith(title):
            soft, hard = (None if word == b"unlimited" else int(word) for word in line[len(title) :].split()[:2])
            return Nproc(soft, hard)
    return None


def nproc_exempt(pid: int, root: str = procfs.PROC) -> str:
    """Why RLIMIT_NPROC does not bind a process; empty if it does (copy_process() in kernel/fork.c).

    Root is by its real uid, and like the capabilities only in the machine's own user namespace.
    """
    if (procfs.read_bytes(f"{root}/{pid}/uid_map") or b"").decode().split() != _EVERY_UID:
        return ""
    fields = status(pid, root)
    if fields.get("Uid", "").split()[:1] == ["0"]:
        return "root"
    capabilities = int(fields.get("CapEff", "0"), 16)
    for name, bit in (("CAP_SYS_RESOURCE", _CAP_SYS_RESOURCE), ("CAP_SYS_ADMIN", _CAP_SYS_ADMIN)):
        if capabilities >> bit & 1:
            return name
    return ""


def status(pid: int | str, root: str = procfs.PROC) -> dict[str, str]:
    """The lines of ``/proc/PID/status``; none if it is gone or hidden. No name can forge one."""
    data = procfs.read_bytes(f"{root}/{pid}/status", 65536) or b""
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    return {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
