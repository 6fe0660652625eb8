"""How long a thread has been asleep: the kernel keeps no such time, but it keeps when it last ran.

``se.exec_start`` in ``/proc/PID/sched`` is the clock of the processor that a task last ran on, in ms, as of its last
moment there (kernel/sched/debug.c). The clock of each processor is its own, and goes slower where interrupts or the
host of a machine take time from it. So the time now is that of a task which runs on that very processor: ourselves.
What comes out is at least: seconds short on a machine whose host is busy, and without the time it was suspended.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.kernel.procfs import PROC, read_bytes

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEY = b"se.exec_start"
_BYTES = 4096


def last_ran_ns(folder: str) -> int | None:
    """On the clock of the processor it ran on; None if it is gone, moved since, or the kernel does not tell.

    Anybody may read it, and it waits for nobody.
    """
    data = read_bytes(f"{folder}/sched", _BYTES) or b""
    at = data.find(b"\n" + _KEY)
    if at < 0:
        return None
    try:
        whole, _dot, rest = data[at:].partition(b":")[2].split(None, 1)[0].partition(b".")
        return (int(whole) * 1_000_000 + int(rest[:6].ljust(6, b"0"))) or None
    except (ValueError, IndexError):
        return None


def now_ns(processors: Iterable[int]) -> dict[int, int]:
    """The clocks of processors, read by going there; those that we may not run on are missing. Comes back after."""
    allowed = os.sched_getaffinity(0)
    found = {}
    try:
        for number in sorted(set(processors)):
            try:
                os.sched_setaffinity(0, {number})
            except OSError:
                continue
            if ns := last_ran_ns(f"{PROC}/thread-self"):
                found[number] = ns
    finally:
        os.sched_setaffinity(0, allowed)
    return found
