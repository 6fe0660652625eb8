"""What a rescue needs to get to run at all on a machine that is drowning, and what is given back before a shell."""

from __future__ import annotations

import contextlib
import os
import resource
from typing import NamedTuple

from pidwarden.rescue.hurry import had

_OOM = "-1000"
_DESCRIPTORS = 16_384  # a pidfd for each of those that are killed


class Before(NamedTuple):
    """What this process had: nice value, scheduling policy and out-of-memory score."""

    nice: int
    policy: int
    score: str


def now() -> Before:
    """What it had before it hurried; what it has now if it did not."""
    return Before(*had())


def strengthen() -> None:
    """After `hurry.hurry`: memory and descriptors. What is refused is done without. Undo: :func:`weaken`."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(_OOM)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _DESCRIPTORS)), hard))


def weaken(before: Before) -> None:
    """Undo of both, for the shell that takes this process's place. Descriptors stay allowed."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, before.policy, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, before.nice)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write(before.score)
