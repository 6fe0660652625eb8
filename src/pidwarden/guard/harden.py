"""What keeps the guard running when the machine does not: memory, priority, descriptors, and no garbage collection."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource

from pidwarden.errors import NotPossible
from pidwarden.kernel import namespaces, place

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_DESCRIPTORS = 8192  # a pidfd for each of the at most 512 members signalled at a time, and plenty


def refuse_nested() -> None:
    """Refuses to guard from inside a container.

    Raises:
        NotPossible: this is a nested pid namespace; the message has what to type where.
    """
    if namespaces.pid_namespace("self") in (namespaces.INIT_PID_NS, None):
        return
    inside = place.container_at(os.getpid())
    only = f" --only container:{inside.short}" if inside else " --only cgroup:PATH"
    msg = (
        "this is a nested pid namespace (a container), and the kernel side counts by the machine's own pids; type "
        f"`sudo pidwarden guard{only}` on the host to guard what is in here, or start the container with the host's "
        "pid namespace (`docker run --pid=host --privileged`, `hostPID: true` in a pod)"
    )
    raise NotPossible(msg)


def harden() -> list[str]:
    """Hardens this process, once; what could not be done, in words."""
    missing = []
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        missing.append(f"memory is not locked ({os.strerror(ctypes.get_errno())})")
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("-1000")
    except OSError as why:
        missing.append(f"the kernel may choose the guard when memory is out ({why.strerror})")
    try:
        os.setpriority(os.PRIO_PROCESS, 0, -20)
    except OSError as why:
        missing.append(f"ordinary priority ({why.strerror})")
    with contextlib.suppress(OSError):  # refused in some cgroups (RT group scheduling): nice -20 then has to do
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _DESCRIPTORS)), hard))
    gc.collect()
    gc.freeze()
    return missing
