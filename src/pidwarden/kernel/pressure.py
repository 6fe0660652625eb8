"""Whether the machine is short of memory, and what that has cost: ``/proc/vmstat`` and ``/proc/pressure/memory``."""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from pidwarden.kernel.procfs import PROC


class Memory(NamedTuple):
    """Counters since boot, and the share of time in which somebody waited for memory."""

    stalls: int = 0  # allocations that had to reclaim themselves: allocstall_* of every zone
    scanned: int = 0  # pages looked at by kswapd
    oom_kills: int = 0
    waiting: float = 0.0  # percent of the last 10 s in which some task waited (PSI; 0 where the kernel has none)


def _lines(path: str) -> list[list[str]]:
    with contextlib.suppress(OSError), open(path, encoding="ascii") as file:
        return [line.split() for line in file]
    return []


def memory(root: str = PROC) -> Memory:
    """What the kernel says now. A counter that this kernel does not have is 0 (proc_vmstat(5), accounting/psi.rst)."""
    counters = {line[0]: int(line[1]) for line in _lines(os.path.join(root, "vmstat"))}
    stalls = sum(n for name, n in counters.items() if name.startswith("allocstall"))
    some = next((line for line in _lines(os.path.join(root, "pressure/memory")) if line[0] == "some"), [])
    waiting = next((float(word[6:]) for word in some if word.startswith("avg10=")), 0.0)
    return Memory(stalls, counters.get("pgscan_kswapd", 0), counters.get("oom_kill", 0), waiting)
