"""Everybody, in one pass: tasks by user, open files and limits by process. Reads what waits for nobody.

``status`` and ``limits`` are world-readable, and since Linux 6.2 the size of ``/proc/PID/fd`` is how many descriptors
are open there (f1f1f2569901, "proc: report open files as size in stat() for /proc/pid/fd").
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import procfs, tasks
from pidwarden.kernel.tables import userns
from pidwarden.kernel.tables.base import PROC

if TYPE_CHECKING:
    from collections.abc import Iterator

_FEW = 16
_NPROC, _NOFILE = b"\nMax processes", b"\nMax open files"


class Member(NamedTuple):
    """One process: its limits (None: unlimited), and its open descriptors (-1: not shown to us)."""

    pid: int
    uid: int
    name: bytes  # as `status` escapes it
    threads: int
    nproc: int | None
    nofile: int | None
    files: int


class Crowd(NamedTuple):
    """All that are shown, and those counts that need them all."""

    tasks: tasks.Tasks
    members: list[Member]


def take(root: str = PROC) -> Crowd:
    """Looks at everybody; about 35 µs each.

    Root's limits are read only where much is open: no limit on tasks binds him, and one on so few files nobody sets.

    Raises:
        OSError: /proc cannot be listed.
    """
    counted = tasks.count(root)
    initial = userns.is_initial(root)
    found = []
    for pid, process in counted.processes.items():
        few = _FEW if initial and process.uid == 0 else 0
        if (m := member(pid, process, root, few=few)) is not None:
            found.append(m)
    return Crowd(counted, found)


def pieces(root: str = PROC) -> Iterator[Member | None]:
    """The same one at a time, for one who has other things to do between two.

    Raises:
        OSError: /proc cannot be listed.
    """
    with os.scandir(root) as entries:
        for entry in entries:
            if entry.name.isdecimal():
                process = tasks.one(entry.name, root)
                yield member(int(entry.name), process, root) if process else None


def member(pid: int, process: tasks.Process, root: str = PROC, *, few: int = 0) -> Member | None:
    """One process; None if it has ended. Of one with no more than so few descriptors no limits are read."""
    files = 0 if process.zombie else open_files(f"{root}/{pid}/fd")
    if 0 <= files <= few:  # without any it is a zombie, a kernel thread, or it has closed all it had
        return Member(pid, process.uid, process.name, process.threads, None, None, files)
    data = procfs.read_bytes(f"{root}/{pid}/limits")
    if not data:
        return None
    soft = [_soft(data, title) for title in (_NPROC, _NOFILE)]
    return Member(pid, process.uid, process.name, process.threads, soft[0], soft[1], files)


def _soft(data: bytes, title: bytes) -> int | None:
    at = data.find(title)
    word = data[at + len(title) :].split(None, 1)[0] if at >= 0 else b""
    return int(word) if word.isdigit() else None


def open_files(folder: str) -> int:
    """How many descriptors a process has in its folder of them; -1: that is not shown to us, 0: it has ended."""
    try:
        found = os.stat(folder)
        if found.st_size:
            return found.st_size
        return len(os.listdir(folder))
    except PermissionError:
        return -1
    except OSError:
        return 0
