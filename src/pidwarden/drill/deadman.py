"""The dead-man switch of the pen: empties and removes cgroups when whoever owns them is gone.

Run by its path, as ``python -I -S deadman.py FD SECONDS DIRECTORY…``. It imports nothing of pidwarden, so that it works
however broken that is; pidwarden's pen takes its functions from here. FD is the read end of a pipe whose only write end
the owner holds: it closes when the owner is done, and also when the owner is killed with SIGKILL. SECONDS is the time
after which the switch no longer believes the owner.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

READY = b"ready\n"
_PATIENCE = 60.0  # seconds to go on trying, once fired; a task in D state can take so long to die
_LOOK_AGAIN = 0.02  # seconds, where the kernel has nothing to wait on


def put(path: str, text: str) -> bool:
    """Writes a cgroup file; False if it is not there or the kernel refuses."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, text.encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def members(directories: Iterable[str]) -> set[int]:
    """The live processes in the cgroups. Zombies are not listed (cgroups(7)); a cgroup that is gone has none."""
    found: set[int] = set()
    for directory in directories:
        # ENODEV, or EOPNOTSUPP of a threaded cgroup: no processes either way
        with contextlib.suppress(OSError), open(f"{directory}/cgroup.procs", encoding="ascii") as file:
            found.update(map(int, file.read().split()))
    found.discard(0)  # a process outside this pid namespace
    return found


def inside(pid: int, names: Iterable[str]) -> bool:
    """Whether a process is in a cgroup of one of these names (the last part of its path)."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            paths = [line.rstrip("\n").split(":", 2)[2] for line in file]
    except OSError:
        return False
    return any(os.path.basename(path) in names for path in paths)


def _strike(pid: int, names: Iterable[str]) -> int | None:
    """SIGKILLs a process that is still in its cgroup; a pidfd, readable once it is dead, or None."""
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    # Asked again with the pidfd in hand: the number may have gone to somebody else in the meantime.
    if not inside(pid, names):
        os.close(fd)
        return None
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(fd, signal.SIGKILL)
    return fd


def empty(directories: list[str], seconds: float) -> bool:
    """Kills everybody in the cgroups; whether nobody lives there any more, after at most so many seconds.

    Forking is stopped first (``pids.max`` 0), or killing would only make room. ``cgroup.kill`` is atomic against fork
    but exists in v2 alone; the sweep works in every hierarchy and ends, because nobody is born any more.
    """
    end = time.monotonic() + seconds
    names = {os.path.basename(d) for d in directories}
    for directory in directories:
        put(f"{directory}/pids.max", "0")
    for directory in directories:
        put(f"{directory}/cgroup.kill", "1")
    while left := members(directories):
        if time.monotonic() >= end:
            return False
        last = None
        for pid in left:
            struck = _strike(pid, names)
            if struck is not None:
                if last is not None:
                    os.close(last)  # a pidfd each for thousands would be too many, and one is enough to wait for
                last = struck
        if last is not None:
            poll = select.poll()
            poll.register(last, select.POLLIN)
            poll.poll(_LOOK_AGAIN * 1000)
            os.close(last)
    return True


def remove(directories: list[str], seconds: float) -> list[str]:
    """Removes the cgroups; those that would not go within so many seconds."""
    end = time.monotonic() + seconds
    left = list(directories)
    while left:
        left = [d for d in left if not _gone(d)]
        if not left or time.monotonic() >= end:
            break
        # EBUSY: the last to die is not yet off the cgroup's list, and a v1 cgroup has no file to wait on.
        time.sleep(_LOOK_AGAIN)
    return left


def _gone(directory: str) -> bool:
    try:
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def harden() -> None:
    """Deaf to what ends the owner, first in line for the processor, last for the out-of-memory killer."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):  # already the leader of a group
        os.setsid()
    put("/proc/self/oom_score_adj", "-1000")
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


def main(argv: list[str]) -> int:
    """Waits for the pipe or the deadline, then sees to it that the cgroups are gone. Exit code 1 if they are not."""
    pipe, seconds, directories = int(argv[0]), float(argv[1]), argv[2:]
    harden()
    os.write(1, READY)
    select.select([pipe], [], [], seconds)
    if not any(map(os.path.isdir, directories)):
        return 0
    quiet = empty(directories, _PATIENCE)
    left = remove(directories, 5.0)
    if not quiet or left:
        sys.stderr.write(f"dead-man switch: these would not go: {' '.join(left or directories)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
