"""The limits on tasks by name: what they are, changing one, and the way back through the ledger.

Names: ``pid_max``, ``threads-max``, ``pids.max:/path/of/cgroup`` and ``nproc:PID``, the RLIMIT_NPROC of a process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.act.places import UNLIMITED, Rlimit, failed, shown
from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.kernel import cgroup, limits, procfs
from pidwarden.kernel.procfs import PROC
from pidwarden.rescue import sysfiles

if TYPE_CHECKING:
    from pidwarden.rescue.ledger import Ledger

NPROC, PIDS = "nproc:", "pids.max:"
HIGHEST = {"pid_max": limits.PID_MAX_LIMIT, "threads-max": 0x3FFFFFFF}  # FUTEX_TID_MASK (kernel/fork.c)
_ROOM, _ROOM_BYTES = 256, 16 << 20


def more_tasks(allowed: int, most: int = limits.PID_MAX_LIMIT) -> int:
    """A limit with some room: a quarter more, 256 at least. More than that would feed a bomb that still runs."""
    return max(allowed, min(most, allowed + max(_ROOM, allowed // 4)))


def more_bytes(allowed: int) -> int:
    """The same for memory, in whole pages: 16 MiB at least."""
    return (allowed + max(_ROOM_BYTES, allowed // 4)) // procfs.PAGE * procfs.PAGE


def read(pid: int, root: str = PROC) -> list[str]:
    """The limits on tasks that a process is under, by the names that :func:`put` takes.

    Raises:
        PidwardenError: it is gone.
    """
    found = [(name, procfs.read_int(f"{root}/sys/kernel/{name}")) for name in HIGHEST]
    text = [f"{value} {name}" for name, value in found if value is not None]
    own = limits.nproc(pid, root)
    if own is None:
        msg = f"looked for the limits of process {pid}: it is gone or hidden; name one that lives, or be root"
        raise PidwardenError(msg)
    soft, hard = (UNLIMITED if n is None else str(n) for n in own)
    text.append(f"{soft} {NPROC}{pid} (at most {hard} without CAP_SYS_RESOURCE)")
    try:
        text += [f"{c.limit} {PIDS}{shown(c.path)} ({c.used} used)" for c in limits.pids_cgroups(pid, root)]
    except OSError as why:
        raise failed(f"tried to find the cgroup of process {pid}", why, "type it again") from why
    width = max(len(line.split(" ", 1)[0]) for line in text)
    return [line.split(" ", 1)[0].rjust(width) + "  " + line.split(" ", 1)[1] for line in text]


def put(name: str, value: str, ledger: Ledger, root: str = PROC) -> list[str]:
    """Changes a limit; what it was goes into the ledger. A cgroup's may be lowered below what is used: that holds it.

    Raises:
        UsageError: there is no such limit, or that is no value for it.
        NoPermission, NotPossible, PidwardenError: the kernel refuses.
    """
    number = _value(name, value)
    if name in HIGHEST:
        if number is None or not procfs.tasks_in_use(root) < number <= HIGHEST[name]:
            msg = (
                f"tried to set {name} to {shown(value)}: it takes a number above the "
                f"{procfs.tasks_in_use(root)} tasks there are, and at most {HIGHEST[name]}; to hold a bomb lower "
                f"`limits {PIDS}CGROUP NUMBER`"
            )
            raise UsageError(msg)
        return sysfiles.write(f"{root}/sys/kernel/{name}", str(number), ledger, root)
    if name.startswith(PIDS):
        return sysfiles.write(_pids_file(name, root), "max" if number is None else str(number), ledger, root)
    pid = name.removeprefix(NPROC)
    if pid == name or not (pid.isascii() and pid.isdecimal()) or int(pid) == 0:
        known = ", ".join([*HIGHEST, f"{PIDS}/PATH/OF/CGROUP", f"{NPROC}PID"])
        msg = f"{shown(name)!r} is no limit; type one of {known}, as `limits` lists them"
        raise UsageError(msg)
    try:
        return ledger.put(Rlimit("nproc", int(pid)), UNLIMITED if number is None else str(number))
    except ProcessLookupError as why:
        msg = f"tried to change RLIMIT_NPROC of process {pid}: it is gone; name one that lives"
        raise PidwardenError(msg) from why


def _value(name: str, value: str) -> int | None:
    """A number, None for no limit."""
    if value in ("max", UNLIMITED):
        return None
    if not (value.isascii() and value.isdecimal() and int(value) < 1 << 62):
        msg = f"tried to set {shown(name)} to {shown(value)!r}: it takes a number, or max"
        raise UsageError(msg)
    return int(value)


def _pids_file(name: str, root: str) -> str:
    found = cgroup.mounts(root)
    mount = found.v1.get("pids") or found.v2
    path = name.removeprefix(PIDS)
    if mount is None or not path.startswith("/"):
        msg = (
            f"tried to find {shown(name)}: "
            + ("no cgroups are mounted" if mount is None else "a cgroup's path begins with a slash")
            + "; type `limits` to see the names"
        )
        raise NotPossible(msg) if mount is None else UsageError(msg)
    return f"{mount}{path.rstrip('/')}/pids.max"
