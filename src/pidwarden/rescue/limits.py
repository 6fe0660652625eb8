"""The limits on tasks by name: what they are, changing one, and the way back through the ledger.

Names are those of `pidwarden limits`: ``pid_max``, ``pids.max:/path/of/cgroup``, ``nproc:PID`` and others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.act.places import UNLIMITED, Rlimit, failed, shown
from pidwarden.diagnose.setting import ordered
from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.kernel import limits, procfs
from pidwarden.kernel.procfs import PROC
from pidwarden.model import limit
from pidwarden.model.limit import NPROC, PIDS
from pidwarden.rescue import sysfiles

if TYPE_CHECKING:
    from pidwarden.model.limit import Setting
    from pidwarden.rescue.ledger import Ledger

HIGHEST = {name: limit.CATALOGUE[name].high for name in ("pid_max", "threads-max")}
_ROOM, _ROOM_BYTES = 256, 16 << 20


def more_tasks(allowed: int, most: int = limit.PID_MAX_LIMIT) -> int:
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
    try:
        named = limit.find(name)
    except ValueError as why:
        msg = f"{shown(name)!r} {why}"
        raise UsageError(msg) from why
    if named.setting.keys and name not in HIGHEST:
        return _sysctl(named.setting, value, ledger, root)
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
    if named.cgroup:
        return sysfiles.write(_pids_file(named.cgroup, root), "max" if number is None else str(number), ledger, root)
    which = named.setting.name.rstrip(":")
    try:
        return ledger.put(Rlimit(which, named.pid), UNLIMITED if number is None else str(number))
    except ProcessLookupError as why:
        msg = f"tried to change RLIMIT_{which.upper()} of process {named.pid}: it is gone; name one that lives"
        raise PidwardenError(msg) from why


def _sysctl(setting: Setting, value: str, ledger: Ledger, root: str) -> list[str]:
    """One that is not about tasks: file by file, in an order in which its numbers never cross."""
    try:
        wanted = limit.parse(setting, value)
    except ValueError as why:
        msg = f"tried to set {setting.name} to {shown(value)!r}: {why}"
        raise UsageError(msg) from why
    files = [f"{root}/sys/{limit.path(key)}" for key in setting.keys]
    if len(files) == 1:
        return sysfiles.write(files[0], wanted, ledger, root)
    now = [str(procfs.read_int(file) or 0) for file in files]
    new = wanted.split()
    return [line for n in ordered(now, new) for line in sysfiles.write(files[n], new[n], ledger, root)]


def _value(name: str, value: str) -> int | None:
    """A number, None for no limit."""
    if value in ("max", UNLIMITED):
        return None
    if not (value.isascii() and value.isdecimal() and int(value) < 1 << 62):
        msg = f"tried to set {shown(name)} to {shown(value)!r}: it takes a number, or max"
        raise UsageError(msg)
    return int(value)


def _pids_file(path: str, root: str) -> str:
    directory = limits.pids_directory(path, root)
    if directory is None:
        msg = f"tried to find {PIDS}{shown(path)}: no cgroups are mounted; type `limits` to see the names"
        raise NotPossible(msg)
    return f"{directory}/pids.max"
