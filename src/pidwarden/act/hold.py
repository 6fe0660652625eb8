"""Hold and release: the undo stands beside the do."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from pidwarden.act.spare import take
from pidwarden.kernel import procfs
from pidwarden.model.key import TICK_NS, ProcessKey

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.model.record import Record
    from pidwarden.watch.base import Source


def hold(source: Source, group: int) -> bool:
    """Stops the forks of a family or branch. False if it is gone. Undo: :func:`release`, then :func:`wake`."""
    return source.hold(group)


def release(source: Source, groups: Iterable[int], *, limit: int = 0, depth_limit: int = 0) -> None:
    """Lets forks proceed. Those already stopped are woken by :func:`wake`, which must follow, twice."""
    for group in groups:
        source.release(group, limit=limit, depth_limit=depth_limit)


def wake_released(source: Source) -> None:
    """Continues everybody who was stopped by a gate and whose family and branch are not held any more."""
    held = {g.id for g in source.groups().values() if g.held}
    wake(source, [r for r in source.stopped() if r.family not in held and r.branch not in held])
    wake_hidden(source)


def wake(source: Source, records: Iterable[Record]) -> int:
    """Continues the processes that a gate stopped and nobody else; how many.

    A gate that saw the group held an instant before it was released may stop its task an instant after this: call it
    once more some milliseconds later. SIGCONT also takes back a SIGSTOP that is still on its way (signal(7)).
    """
    woken = 0
    for record in records:
        if not record.held_ns or not record.alive:
            continue
        held = take(record, lambda key: (found := source.record(key)) is not None and found.alive)
        if held is None:
            continue
        source.unstop(record.key)
        woken += held.signal(signal.SIGCONT)
        held.close()
    return woken


def wake_hidden(source: Source) -> int:
    """Continues the processes that have no record, for want of room, and are stopped; how many.

    Which of them a gate stopped the kernel side does not say without a record. Whoever of them a person stopped goes on
    as well: better than one of a released family that sleeps for ever.
    """
    if not source.counters().hidden:
        return 0
    known = {r.key.tgid for r in source.records()}
    return sum(_continue(int(name)) for name in os.listdir(procfs.PROC) if name.isdecimal() and int(name) not in known)


def continue_one(key: ProcessKey) -> bool:
    """Continues one process that is stopped, whoever did that. False if it is not there, or not stopped."""
    try:
        fd = os.pidfd_open(key.tgid)
    except OSError:
        return False
    try:
        stat = procfs.stat_of(key)  # of whom the descriptor is
        if stat is None or stat.state != "T":
            return False
        signal.pidfd_send_signal(fd, signal.SIGCONT)
    except ProcessLookupError:
        return False
    finally:
        os.close(fd)
    return True


def _continue(pid: int) -> bool:
    stat = procfs.stat(pid)
    return stat is not None and stat.state == "T" and continue_one(ProcessKey(pid, stat.start_ticks * TICK_NS))
