"""A look at every process, made of pieces so small that the guard can stop after any of them. Reads `stat` alone.

``stat``, ``status``, ``wchan`` and ``cgroup`` wait for nobody. ``syscall``, ``stack``, ``cmdline`` and all else that
may wait for a stuck task is not read by a guard (see :mod:`pidwarden.kernel.evidence`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import abi, procfs
from pidwarden.kernel.parse import parse_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.kernel.procfs import Stat
    from pidwarden.model.record import Record
    from pidwarden.watch.base import Source

_AT_ONCE = 32  # records; some 8 µs each
Who = tuple[int, int]  # a pid and its start in ticks: what /proc shows of a process key


class Task(NamedTuple):
    """One thread; of a process without more of them, or whose others are not asked for, the process."""

    tgid: int
    stat: Stat


def walk(*, threads: bool, root: str = procfs.PROC) -> Iterator[Task]:
    """Every process that is shown, one at a time; with `threads` each of its threads, its leader first.

    Raises:
        OSError: /proc cannot be listed: no descriptor is left.
    """
    with os.scandir(root) as entries:
        for entry in entries:
            if not entry.name.isdecimal() or (stat := procfs.stat(int(entry.name), root)) is None:
                continue
            yield Task(stat.pid, stat)
            if threads and stat.threads > 1:
                yield from _others(stat.pid, root)


def _others(pid: int, root: str) -> Iterator[Task]:
    try:
        names = os.listdir(f"{root}/{pid}/task")
    except OSError:  # it has just ended
        return
    for name in names:
        if int(name) != pid and (stat := procfs.stat(int(name), f"{root}/{pid}/task")) is not None:
            yield Task(pid, stat)


class Records:
    """What the history knows of the processes that matter, by pid and start in ticks."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.found: dict[Who, Record] = {}

    def get(self, who: Who) -> Record | None:
        """The record of a process that was asked for."""
        return self.found.get(who)

    def load(self, wanted: set[int] | None) -> Iterator[None]:
        """Reads the records of these pids, None: of everybody. One copy of all, then piece by piece."""
        self.found = {}
        view = self._source.dump_records()
        data = bytes(view)
        view.release()
        step = _AT_ONCE * abi.DUMP.size
        for at in range(0, len(data), step):
            for record in parse_records(data[at : at + step]):
                if wanted is None or record.key.tgid in wanted:
                    self.found[record.key.tgid, record.key.start_ticks] = record
            yield
