"""Wakes who was stopped, when the guard is lost.

The kernel lets holds lapse by itself (``bpf/lease.h``), but somebody has to send SIGCONT. Before 6.13 BPF programs
cannot signal others at all; since then they can, but on x86 not while the processor is idle: where nobody runs, nobody
is ever woken. So the guard starts this small process, which sleeps, looks at the guard's last sign of life in shared
memory, and does nothing as long as there are some. ``python -m pidwarden.guard.waker DIRECTORY SECONDS`` is what it
runs; it ends with the pins.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import sys
import time

from pidwarden.act import hold as holding
from pidwarden.errors import PidwardenError
from pidwarden.guard.harden import harden
from pidwarden.kernel.bpf import Programs

_LOOKS_A_LEASE = 16
_LONGEST_SLEEP = 2.0  # seconds
_LOST = 0.75  # of the lease, as in the kernel
# Whoever reads what the guard prints is to see its end when the guard ends.
_NOBODY_LISTENS = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in range(3)]


def start(directory: str, lost_after: float) -> int:
    """Starts one for the pins in `directory`; its pid. It needs no further care, and one too many ends by itself."""
    command = [sys.executable, "-m", "pidwarden.guard.waker", directory, str(lost_after)]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=_NOBODY_LISTENS, setpgroup=0)


def stop(pid: int) -> None:
    """Ends one that this process has started."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)


def main(directory: str, lost_after: float) -> None:
    """Sleeps and looks until the pins are gone."""
    only = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(only, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return  # that of a guard before this one is still there
    with contextlib.suppress(PidwardenError):
        programs = Programs.adopt(directory)
        harden()
        while os.path.isdir(directory):
            time.sleep(min(_LONGEST_SLEEP, lost_after / _LOOKS_A_LEASE))
            if time.monotonic_ns() - programs.counters().seen_ns > _LOST * lost_after * 1e9:
                holding.wake_released(programs)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
