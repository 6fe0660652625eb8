"""Pid namespaces, as far as /proc shows them (pid_namespaces(7)): which one, and what a process is called in it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pidwarden.kernel.procfs import PROC, read_bytes, within_exec

if TYPE_CHECKING:
    from collections.abc import Iterable

INIT_PID_NS = 0xEFFFFFFC  # PROC_PID_INIT_INO (include/linux/proc_ns.h)
INIT_CGROUP_NS = 0xEFFFFFFB  # PROC_CGROUP_INIT_INO
INIT_USER_NS = 0xEFFFFFFD  # PROC_USER_INIT_INO
_STATUS_BYTES = 4096  # NSpid stands within the first 1,500; at most 32 levels of numbers follow


def inner_pids(pid: int | str, root: str = PROC) -> tuple[int, ...]:
    """The pid in each pid namespace it has one in: ours first, its own last; empty if it is gone.

    ``status`` takes no lock of the process's memory (fs/proc/array.c).
    """
    data = read_bytes(f"{root}/{pid}/status", _STATUS_BYTES) or b""
    at = data.find(b"\nNSpid:")  # a name cannot have a newline here: the kernel escapes it
    if at < 0:
        return ()
    try:
        return tuple(map(int, data[at + 7 :].split(b"\n", 1)[0].split()))
    except ValueError:
        return ()


def members(namespace: int | None, pids: Iterable[int], root: str = PROC) -> list[int]:
    """Those of these processes that are in a pid namespace of that number; not those that cannot be looked at."""
    return [pid for pid in pids if pid_namespace(pid, root) == namespace]


def created(kind: str, pids: Iterable[int], root: str = PROC) -> int:
    """How many namespaces of a kind (a name in ``/proc/PID/ns``), other than that of pid 1, these processes are in.

    Where pid 1 cannot be looked at, other than our own. No more can be told: one that only a mount or a descriptor
    keeps is counted by the kernel alone.
    """
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            found.add(os.stat(f"{root}/{pid}/ns/{kind}").st_ino)
    for first in ("1", "self"):
        with contextlib.suppress(OSError):
            found.discard(os.stat(f"{root}/{first}/ns/{kind}").st_ino)
            break
    return len(found)


def is_inner(pid: int, number: int, namespace: int = 0, root: str = PROC) -> bool:
    """Whether a process has that number in a pid namespace of its own, not ours; in that very one, if it is given."""
    found = inner_pids(pid, root)
    return len(found) > 1 and found[-1] == number and namespace in (0, pid_namespace(pid, root))


def pid_namespace(pid: int | str, root: str = PROC) -> int | None:
    """The number of its pid namespace; None if it is gone, a zombie, within execve, or not ours to see (ptrace(2))."""
    return number_of("pid", pid, root)


def number_of(kind: str, pid: int | str = "self", root: str = PROC) -> int | None:
    """The number of its namespace of a kind (a name in ``/proc/PID/ns``); None as for :func:`pid_namespace`."""
    try:
        if within_exec(f"{root}/{pid}"):
            return None
        return os.stat(f"{root}/{pid}/ns/{kind}").st_ino
    except OSError:
        return None
