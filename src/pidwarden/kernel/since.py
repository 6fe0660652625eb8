"""How long a thread has been asleep: the kernel keeps no such time, but it keeps when it last ran.

``se.exec_start`` in ``/proc/PID/sched`` is the clock of the processor that a task last ran on, in ms, as of its last
moment there (kernel/sched/debug.c). The clock of each processor is its own, and goes slower where interrupts or the
host of a machine take time from it. So the time now is that of a task which runs on that very processor: ourselves.
What comes out is at least: seconds short on a machine whose host is busy, and without the time it was suspended.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.kernel.patience import sweep
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
    """The clocks of processors, read by a thread that goes there.

    Missing are those that we may not run on, that do not come to run it in time, and that are kept free of others'
    work (``isolcpus=``, ``nohz_full=``).

    Raises:
        BlockingIOError: no thread can be started.
    """
    wanted = sorted({*processors} - _kept_free())
    return {number: ns for number, ns in sweep(wanted, _clock).found if ns}


def _clock(processor: int) -> int | None:
    try:
        os.sched_setaffinity(0, {processor})  # of this thread alone, which ends after
    except OSError:
        return None
    return last_ran_ns(f"{PROC}/thread-self")


def _kept_free(root: str = "/sys/devices/system/cpu") -> set[int]:
    found: set[int] = set()
    for name in ("isolated", "nohz_full"):
        found |= parse_list((read_bytes(f"{root}/{name}") or b"").decode("ascii", "replace"))
    return found


def parse_list(text: str) -> set[int]:
    """Numbers out of ``0-3,8``; what is none is passed over (``(null)`` of nohz_full)."""
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _dash, last = part.partition("-")
        if first.isdecimal() and (last or first).isdecimal():
            found.update(range(int(first), int(last or first) + 1))
    return found
