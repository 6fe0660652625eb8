"""A look at every process, made of pieces so small that the guard can stop after any of them. Reads `stat` alone.

``stat`` and ``wchan`` are not read of who is within execve (see :mod:`pidwarden.kernel.procfs`), ``status`` and
``cgroup`` wait for nobody. ``syscall``, ``stack``, ``cmdline`` and all else that may wait for a stuck task is not read
by a guard (see :mod:`pidwarden.kernel.evidence`).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import abi, procfs
from pidwarden.kernel.parse import parse_records

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.kernel.procfs import Stat
    from pidwarden.model.record import Record
    from pidwarden.watch.base import Source

_STAT_BYTES = 1500
_AT_ONCE = 32  # records; some 8 µs each
Who = tuple[int, int]  # a pid and its start in ticks: what /proc shows of a process key


class Task(NamedTuple):
    """One thread; of a process without more of them, or whose others are not asked for, the process."""

    tgid: int
    stat: Stat


def walk(states: str, *, threads: bool, root: str = procfs.PROC) -> Iterator[Task | None]:
    """Everybody that is shown in one of these states, one at a time, and None for each of the others.

    With `threads` each thread of a process is looked at, else its first for all.

    Raises:
        OSError: /proc cannot be listed: no descriptor is left.
    """
    wanted = frozenset(map(ord, states))
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.isdecimal():
                data = _read(f"{root}/{entry.name}")
                yield _task(int(entry.name), data, wanted)
                if threads and data and _threads(data) > 1:
                    yield from _others(entry.name, wanted, root)


def _others(pid: str, wanted: frozenset[int], root: str) -> Iterator[Task | None]:
    try:
        tids = os.listdir(f"{root}/{pid}/task")
    except OSError:  # it has just ended
        return
    for tid in tids:
        if tid != pid:
            yield _task(int(pid), _read(f"{root}/{pid}/task/{tid}"), wanted)


def _read(folder: str) -> bytes:
    """As :func:`procfs.stat_line`, but for one who reads thousands: empty if it is gone."""
    try:
        fd = os.open(f"{folder}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as why:
        if why.errno in (errno.EMFILE, errno.ENFILE):
            raise
        return b""
    try:
        return b"" if procfs.within_exec(folder) else os.read(fd, _STAT_BYTES)
    except OSError:
        return b""
    finally:
        os.close(fd)


def _task(tgid: int, data: bytes, wanted: frozenset[int]) -> Task | None:
    """The state is looked at first: of a thousand tasks hardly one is of interest, and taking them apart costs most."""
    at = data.rfind(b")") + 2
    return Task(tgid, procfs.parse_stat(data)) if 1 < at < len(data) and data[at] in wanted else None


def _threads(data: bytes) -> int:
    return int(data[data.rindex(b")") + 2 :].split(None, 18)[17])


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
