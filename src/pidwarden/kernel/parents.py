"""What is to be seen of a process that does not wait for its children: each thread, and what holds it up."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pidwarden.kernel import cgroup, evidence, freezer, namespaces
from pidwarden.kernel.evidence import Unknown
from pidwarden.kernel.procfs import PROC, read_bytes
from pidwarden.model import syscalls
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.zombie import Freeze, Parent, Sleep, Thread

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.kernel.evidence import Read
    from pidwarden.model.task import Status

THREADS = 128  # of one parent that are looked at
_STAT_BYTES = 1500
_PF_EXITING, _PF_FORKNOEXEC = 0x4, 0x40  # include/linux/sched.h; field 9 of stat
_DEAD = "ZX"
_SIGCHLD_BIT = 1 << 16
# A first argument that is a descriptor.
FD_CALLS = frozenset(
    ["read", "write", "pread64", "pwrite64", "readv", "writev", "connect", "accept", "accept4", "sendto", "sendmsg"]
) | frozenset(
    ["recvfrom", "recvmsg", "recvmmsg", "fcntl", "flock", "fsync", "fdatasync", "ioctl", "sendfile", "splice", "syncfs"]
)
_P_PIDFD = 3


def parent(pid: int, read: Read | None = None, machine: str = "", root: str = PROC) -> Parent | None:
    """All that is seen without asking others; None if it is gone. Without `read` system calls stay unknown."""
    data = read_bytes(f"{root}/{pid}/stat", _STAT_BYTES)
    status = evidence.status(evidence.path(pid, root=root))
    if not data or not status:
        return None
    tids = evidence.threads(pid, root)
    # A dead leader has neither descriptors nor namespaces any more, nor (in v1) its cgroup: another thread has them.
    alive = pid if status.state not in _DEAD else next((t for t in tids if _lives(pid, t, root)), pid)
    looked = [_thread(pid, tid, alive, read, machine or os.uname().machine, root) for tid in tids[:THREADS]]
    return by_stat(data, status)._replace(
        threads=living(looked),
        unseen=max(0, len(tids) - THREADS),
        signalfd=_signalfd(alive, root),
        freeze=frozen(alive, root),
        pidns=namespaces.pid_namespace(alive, root),
        cgroup=cgroup.path_in(alive, "name=systemd", root) or cgroup.path_in(alive, cgroup.V2, root) or "",
    )


def by_stat(data: bytes, status: Status) -> Parent:
    """What a line of ``stat`` tells of a parent (proc_pid_stat(5)); of its threads and places nothing yet."""
    end = data.rindex(b")")
    fields = data[end + 2 :].split()
    cminflt, cutime, cstime, flags = int(fields[8]), int(fields[13]), int(fields[14]), int(fields[6])
    return Parent(
        ProcessKey(int(data[: data.index(b"(")]), int(fields[19]) * TICK_NS),
        data[data.index(b"(") + 1 : end],
        int(fields[1]),
        int(fields[2]),
        status,
        (),
        waited=bool(cminflt or cutime or cstime),
        copy=bool(flags & _PF_FORKNOEXEC),
        exiting=bool(flags & _PF_EXITING),
    )


def living(threads: Iterable[Thread | None]) -> list[Thread]:
    """Those that have not ended, nor are gone."""
    return [t for t in threads if t and t.state not in _DEAD]


def _lives(pid: int, tid: int, root: str) -> bool:
    found = evidence.status(evidence.path(pid, tid, root))
    return found is not None and found.state not in _DEAD


def _thread(pid: int, tid: int, alive: int, read: Read | None, machine: str, root: str) -> Thread | None:  # noqa: PLR0913
    folder = evidence.path(pid, tid, root)
    status = evidence.status(folder)
    if status is None:
        return None
    sleep = _sleep(alive, folder, read, machine, root)
    if sleep.hidden and not os.path.exists(folder):
        return None  # it ended meanwhile, which hides nothing
    return Thread(tid, status.state, status, sleep)


def _sleep(pid: int, folder: str, read: Read | None, machine: str, root: str) -> Sleep:
    wchan = evidence.wchan(folder)
    if isinstance(wchan, Unknown):
        return Sleep(hidden=wchan.why)
    wchan = wchan or ""
    call = evidence.syscall(folder, read) if read else Unknown("system calls were not asked for")
    if isinstance(call, Unknown):
        return Sleep(wchan=wchan, hidden=call.why)
    if call is None:
        return Sleep(wchan=wchan)
    name = syscalls.name_of(call, machine, wchan)
    target, awaited = "", 0
    if name in FD_CALLS:
        found = evidence.descriptor(pid, syscalls.signed(call.args[0]), root)
        target = "" if isinstance(found, Unknown) else found
    elif name == "waitid" and call.args[0] == _P_PIDFD:
        awaited = _pid_of_pidfd(pid, syscalls.signed(call.args[1]), root)
    return Sleep(call, name, wchan, target=target, awaited=awaited)


def _pid_of_pidfd(pid: int, fd: int, root: str) -> int:
    with contextlib.suppress(ValueError):
        return max(0, int(evidence.fdinfo(pid, fd, b"Pid", root)))
    return 0


def _signalfd(pid: int, root: str) -> bool | None:
    """Whether it has a descriptor from which it reads SIGCHLD (signalfd(2)); None if that may not be seen."""
    try:
        os.listdir(f"{root}/{pid}/fd")
    except OSError:
        return None
    for fd, link in evidence.descriptors(pid, root).items():
        if link == "anon_inode:[signalfd]":
            with contextlib.suppress(ValueError):
                if int(evidence.fdinfo(pid, fd, b"sigmask", root) or b"0", 16) & _SIGCHLD_BIT:
                    return True
    return False


def frozen(pid: int, root: str = PROC) -> Freeze | None:
    """The frozen cgroup it is in, v2's before v1's; None if there is none, or none that we can see."""
    found = cgroup.mounts(root)
    for version, hierarchy in ((2, cgroup.V2), (1, freezer.CONTROLLER)):
        directory = cgroup.directory_of(pid, hierarchy, found, root)
        if directory is None or not freezer.exists(directory):
            continue
        asked, whole = _asked(directory), freezer.is_frozen(directory)
        if asked or whole:
            return Freeze(version, directory, asked or directory, whole)
    return None


def _asked(directory: str) -> str:
    """The cgroup, it or one above, that somebody asked to be frozen; empty if none is seen."""
    while freezer.exists(directory):
        if freezer.is_asked(directory):
            return directory
        directory = os.path.dirname(directory)
    return ""


def awaited(thread: Thread) -> int:
    """A child that a thread's wait names, 0 if none."""
    call = thread.sleep.call
    if call is None:
        return 0
    if thread.sleep.name == "waitid":
        return thread.sleep.awaited if call.args[0] == _P_PIDFD else syscalls.signed(call.args[1])
    return max(0, syscalls.signed(call.args[0])) if thread.sleep.name in ("wait4", "waitpid") else 0
