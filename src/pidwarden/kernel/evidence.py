"""What the kernel tells of one thread: `status`, `syscall`, `wchan`, `stack`, its descriptors. Decides nothing.

``syscall`` and ``stack`` take the lock that execve(2) holds while it changes a program (``exec_update_lock``), so that
a task which is stuck in there holds up whoever reads them. So do ``stat``, ``wchan`` and the links to descriptors on
newer kernels. What waits is read through a :data:`Read`, which may give up, or within a sweep:
:mod:`pidwarden.kernel.patience` has both.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel.procfs import PROC, read_bytes, within_exec
from pidwarden.model.task import Status, Syscall, parse_stack, parse_status, parse_syscall

if TYPE_CHECKING:
    from collections.abc import Callable

    # The file's bytes. OSError: why not; TimeoutError: it gave up.
    Read = Callable[[str], bytes]

_BYTES = 16384
_LOST_TRACE = "it takes the right to trace it (ptrace(2)): root's, as a rule"
_LOST_STACK = "it takes root (CAP_SYS_ADMIN)"


class Unknown(NamedTuple):
    """What could not be learnt, and why, for a person."""

    why: str


def path(pid: int, tid: int = 0, root: str = PROC) -> str:
    """The folder of a process, or of one of its threads."""
    return f"{root}/{pid}/task/{tid}" if tid else f"{root}/{pid}"


def read(name: str) -> bytes:
    """The file's first 16 KiB. May wait; see the module.

    Raises:
        OSError: it cannot be opened or read.
    """
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, _BYTES)
    finally:
        os.close(fd)


def unless_within_exec(name: str) -> bytes:
    """A :data:`Read` for those who must not wait and have no thread: it gives up before it would.

    Raises:
        OSError: it cannot be opened or read; TimeoutError: its process is within execve.
    """
    if within_exec(os.path.dirname(name)):
        raise TimeoutError(errno.ETIMEDOUT, "within execve", name)
    return read(name)


def status(folder: str) -> Status | None:
    """``status`` of a folder of :func:`path`; None if it is gone or hidden. Waits for nobody."""
    data = read_bytes(f"{folder}/status", _BYTES)
    return parse_status(data) if data else None


def is_kernel(status: bytes) -> bool:
    """Whether it is a thread of the kernel: newer kernels say so; those have no memory of their own."""
    return b"\nKthread:\t1" in status if b"\nKthread:\t" in status else b"\nVmSize:" not in status


def threads(pid: int, root: str = PROC) -> list[int]:
    """The ids of its threads; empty if it is gone."""
    try:
        return sorted(map(int, os.listdir(f"{root}/{pid}/task")))
    except OSError:
        return []


def syscall(folder: str, read: Read = read) -> Syscall | Unknown | None:
    """The call it sleeps in; None if it runs. Needs the right to ptrace it."""
    data = _text(f"{folder}/syscall", read, _LOST_TRACE)
    return data if isinstance(data, Unknown) else parse_syscall(data)


def wchan(folder: str, read: Read = read) -> str | Unknown | None:
    """The kernel function it sleeps in; None if it runs. Needs the right to ptrace it: without it the kernel says 0."""
    data = _text(f"{folder}/wchan", read, _LOST_TRACE)
    if isinstance(data, Unknown):
        return data
    if data.strip() not in (b"0", b""):
        return data.decode("ascii", "replace")
    if within_exec(folder):
        return None
    try:
        os.readlink(f"{folder}/exe")
    except PermissionError:
        return Unknown(f"where it sleeps is not shown: {_LOST_TRACE}")
    except OSError:
        pass
    return None


def stack(folder: str, read: Read = read) -> tuple[str, ...] | Unknown:
    """The kernel functions it sleeps in, innermost first. Needs CAP_SYS_ADMIN in the first user namespace."""
    data = _text(f"{folder}/stack", read, _LOST_STACK)
    return data if isinstance(data, Unknown) else parse_stack(data)


def descriptor(pid: int, fd: int, root: str = PROC) -> str | Unknown:
    """What a descriptor leads to, as ``pipe:[1234]`` or a path; the file behind it is not looked at."""
    try:
        return os.readlink(f"{root}/{pid}/fd/{fd}")
    except OSError as why:
        return Unknown(_reason(why, _LOST_TRACE))


def descriptors(pid: int, root: str = PROC) -> dict[int, str]:
    """All descriptors of a process and where they lead; empty if that may not be seen."""
    found = {}
    try:
        names = os.listdir(f"{root}/{pid}/fd")
    except OSError:
        return {}
    for name in names:
        link = descriptor(pid, int(name), root)
        if isinstance(link, str):
            found[int(name)] = link
    return found


def fdinfo(pid: int, fd: int, key: bytes, root: str = PROC) -> bytes:
    """One line's value out of ``fdinfo`` (proc_pid_fdinfo(5)), empty if it is not there."""
    for line in (read_bytes(f"{root}/{pid}/fdinfo/{fd}") or b"").split(b"\n"):
        name, _colon, value = line.partition(b":")
        if name == key:
            return value.strip()
    return b""


def exit_code(pid: int, root: str = PROC) -> int | None:
    """A zombie's status as wait(2) would give it (field 52 of ``stat``); None if it is gone or not ours to see.

    Who may not ptrace it is shown 0, which is not told from success (proc_pid_stat(5)).
    """
    data = read_bytes(f"{root}/{pid}/stat")
    if not data:
        return None
    fields = data[data.rindex(b")") + 2 :].split()
    return int(fields[49]) if len(fields) > 49 else None  # noqa: PLR2004  (field 52 counts from the pid)


def _text(name: str, read: Read, right: str) -> bytes | Unknown:
    try:
        return read(name)
    except OSError as why:
        return Unknown(_reason(why, right))


def _reason(why: OSError, right: str) -> str:
    if isinstance(why, TimeoutError):
        return "the kernel did not answer: the task seems stuck in the midst of execve"
    if why.errno in (errno.EACCES, errno.EPERM):
        return right
    if why.errno in (errno.ENOENT, errno.ESRCH):
        return "it is gone, or the kernel was built without it"
    return why.strerror or str(why)
