"""Priority, first of all. Nothing is read in but ``os``: beside thousands that spin a millisecond may take a second."""

from __future__ import annotations

import os

_NICE = -20
_before: list[tuple[int, int, str]] = []


def had() -> tuple[int, int, str]:
    """What this process had before it first hurried, or has now: nice value, scheduling policy, out-of-memory score."""
    if _before:
        return _before[0]
    try:
        with open("/proc/self/oom_score_adj", encoding="ascii") as file:
            score = file.read().strip()
    except OSError:
        score = "0"
    return os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0), score


def hurry() -> None:
    """The highest priority that can be had, for this process and not for what it starts. Undo: `strength.weaken`."""
    if not _before:
        _before.append(had())
    try:  # noqa: SIM105  (contextlib takes milliseconds to be read in)
        os.setpriority(os.PRIO_PROCESS, 0, _NICE)
    except OSError:
        pass
    try:  # noqa: SIM105  (refused in some cgroups, RT group scheduling: nice -20 then has to do)
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:
        pass
