"""The tasks of the whole machine, counted for each user in one pass over /proc."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import procfs

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

_STATUS_BYTES = 4096  # who is in hundreds of groups has more, and is read again


class Process(NamedTuple):
    """What counts against a limit of one process: its real user, its name as ``status`` escapes it, its threads.

    ``zombie``: it has ended and its ``parent``, 0 for all others, has not waited for it.
    """

    uid: int
    name: bytes
    threads: int
    zombie: bool = False
    parent: int = 0


class Tasks(NamedTuple):
    """All processes that are shown to us.

    ``kept`` are ids that nobody has but a process group or a session goes by: the kernel does not give them out either.
    """

    processes: dict[int, Process]
    kept: int
    hidden: bool  # whether /proc hides some (hidepid, proc(5))

    @property
    def total(self) -> int:
        """Threads and zombies."""
        return sum(p.threads for p in self.processes.values())

    def users(self) -> Counter[int]:
        """Tasks by real user."""
        found: Counter[int] = Counter()
        for process in self.processes.values():
            found[process.uid] += process.threads
        return found

    def names(self, pids: Iterable[int]) -> Counter[bytes]:
        """Tasks of these processes by name."""
        found: Counter[bytes] = Counter()
        for pid in pids:
            if process := self.processes.get(pid):
                found[process.name] += process.threads
        return found

    def reapers(self, *, uid: int | None = None, among: Container[int] | None = None) -> Counter[int]:
        """Zombies by the parent that has not waited for them: of a user, or of parents `among` some."""
        return Counter(
            p.parent
            for p in self.processes.values()
            if p.zombie and uid in (None, p.uid) and (among is None or p.parent in among)
        )


def one(pid: str, root: str = procfs.PROC) -> Process | None:
    """What counts of one process; None if it is gone or hidden."""
    data = _status(pid, root)
    return _process(data) if data else None


def count(root: str = procfs.PROC) -> Tasks:
    """Counts them: a zombie is one, a process has as many as threads. About 15 µs a process.

    The real user stands in ``status`` alone, which takes no lock of the process's memory.

    Raises:
        OSError: the folder cannot be listed (no descriptor is left).
    """
    found: dict[int, Process] = {}
    led: set[int] = set()
    hidden = False
    for name in os.listdir(root):
        if not name.isdecimal():
            continue
        data = _status(name, root)
        if not data:
            hidden = hidden or name == "1"  # it does not end, so it is hidden
            continue
        found[int(name)] = _process(data)
        led.add(_number(data, b"\nNSpgid:", 0))
        led.add(_number(data, b"\nNSsid:", 0))
    return Tasks(found, len(led - found.keys() - {0}), hidden or 1 not in found)


def _status(pid: str, root: str) -> bytes | None:
    data = procfs.read_bytes(f"{root}/{pid}/status", _STATUS_BYTES)
    if data and b"\nThreads:" not in data:
        data = procfs.read_bytes(f"{root}/{pid}/status", 1 << 20)
    return data


def _process(data: bytes) -> Process:
    threads, zombie = _number(data, b"\nThreads:", 1), b"\nState:\tZ" in data
    # A leader that has ended while its threads live is in state Z as well, and nobody can wait for it.
    return Process(
        _number(data, b"\nUid:", -1),
        data[6 : data.find(b"\n")],
        threads,
        zombie and threads <= 1,
        _number(data, b"\nPPid:", 0) if zombie else 0,
    )


def _number(data: bytes, field: bytes, missing: int) -> int:
    """The first number of a line of ``status``; a name cannot forge one, as its newlines are escaped."""
    at = data.find(field)
    return int(data[at + len(field) :].split(None, 1)[0]) if at >= 0 else missing
