"""/proc, as far as it can be read without waiting for anybody.

Only ``stat``, ``statm``, ``status`` and ``comm`` of other processes are read here: ``cmdline``, ``environ`` and
``maps`` take the victim's memory lock and can hang the reader for as long as the victim is stuck.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pidwarden.model.key import ProcessKey

PROC = "/proc"
PAGE = os.sysconf("SC_PAGE_SIZE")
_STAT_BYTES = 1500


class Stat(NamedTuple):
    """Fields of ``/proc/PID/stat`` (proc_pid_stat(5)). ``comm`` is bytes its owner chose."""

    pid: int
    comm: bytes
    state: str
    ppid: int
    pgrp: int
    session: int
    tty: int
    tpgid: int
    threads: int
    start_ticks: int


def parse_stat(data: bytes) -> Stat:
    """Parses one ``stat`` line; the name may hold anything, so it ends at the last ``)``."""
    opening, closing = data.index(b"("), data.rindex(b")")
    rest = data[closing + 2 :].split()
    ppid, pgrp, session, tty, tpgid = map(int, rest[1:6])
    comm, state = data[opening + 1 : closing], rest[0].decode()
    return Stat(int(data[:opening]), comm, state, ppid, pgrp, session, tty, tpgid, int(rest[17]), int(rest[19]))


def read_bytes(path: str, size: int = 4096) -> bytes | None:
    """The file's first bytes; None if the process is gone or hidden."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return os.read(fd, size)
    except OSError:
        return None
    finally:
        os.close(fd)


def stat(pid: int, root: str = PROC) -> Stat | None:
    """A process's ``stat``, None if it is gone (or hidden from us)."""
    data = read_bytes(f"{root}/{pid}/stat")
    return parse_stat(data) if data else None


def stats_of(keys: Iterable[ProcessKey], root: str = PROC) -> Iterator[tuple[ProcessKey, bytes]]:
    """The ``stat`` lines of those pids that are there: quickly, for tens of thousands. Who has them now is not checked.

    Raises:
        OSError: /proc cannot be opened.
    """
    directory = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    opened, read, close, flags = os.open, os.read, os.close, os.O_RDONLY | os.O_CLOEXEC
    try:
        for key in keys:
            try:
                fd = opened(f"{key.tgid}/stat", flags, dir_fd=directory)
            except OSError:
                continue
            try:
                data = read(fd, _STAT_BYTES)
            except OSError:
                continue
            finally:
                close(fd)
            yield key, data
    finally:
        os.close(directory)


def stat_of(key: ProcessKey, root: str = PROC) -> Stat | None:
    """The ``stat`` of just this process, None if it is gone or its pid belongs to another one by now."""
    found = stat(key.tgid, root)
    return found if found and found.start_ticks == key.start_ticks else None


def exists(pid: int) -> bool:
    """Whether somebody, alive or a zombie, has this pid; also where /proc hides him (hidepid, proc(5))."""
    try:
        os.getpgid(pid)
    except ProcessLookupError:
        return False
    return True


def has_ended(key: ProcessKey, root: str = PROC) -> bool:
    """Whether no thread of it runs: it is gone, or a zombie without living threads. Of one that is hidden, no."""
    found = stat(key.tgid, root)
    if found is None:
        return not exists(key.tgid)
    return found.start_ticks != key.start_ticks or (found.state in "ZX" and found.threads <= 1)


def owner(pid: int, root: str = PROC) -> int:
    """The user of a process, -1 if it is gone or hidden.

    The owner of its directory is the effective user, but root where the process is not dumpable (proc(5)): then its
    `status` says it, which waits for nobody either.
    """
    try:
        uid = os.stat(f"{root}/{pid}").st_uid
    except OSError:
        return -1
    if uid == 0 and (data := read_bytes(f"{root}/{pid}/status")) and (at := data.find(b"\nUid:")) >= 0:
        return int(data[at + 5 :].split(None, 1)[0])
    return uid


def mounts(root: str = PROC) -> list[list[str]]:
    """The fields of each line of ``/proc/self/mounts``: device, where, kind, options, … (fstab(5))."""
    with open(f"{root}/self/mounts", encoding="utf-8", errors="surrogateescape") as file:
        return [line.split() for line in file]


def resident_bytes(pid: int, root: str = PROC) -> int:
    """Resident memory in bytes, 0 if the process is gone. ``statm`` takes no lock."""
    data = read_bytes(f"{root}/{pid}/statm")
    return int(data.split()[1]) * PAGE if data else 0


def read_int(path: str) -> int | None:
    """The first number of a one-line file, None if there is none."""
    data = read_bytes(path)
    try:
        return int(data.split()[0]) if data else None
    except (ValueError, IndexError):
        return None


class Load(NamedTuple):
    """Tasks of the whole machine, zombies included, and the last pid that was given (proc_loadavg(5))."""

    tasks: int
    last_pid: int


def load(root: str = PROC) -> Load:
    """What stands in ``/proc/loadavg``; zeros if it cannot be read."""
    data = read_bytes(f"{root}/loadavg")
    if not data:
        return Load(0, 0)
    fields = data.split()
    return Load(int(fields[3].split(b"/")[1]), int(fields[4]))


def name_again() -> None:
    """Gives our own process the name that it has, which those who listen to process events are told of.

    Raises:
        OSError: /proc is not that of this process.
    """
    with open(f"{PROC}/self/comm", "r+b", buffering=0) as file:
        name = file.read()
        file.write(name.rstrip(b"\n"))


def tasks_in_use(root: str = PROC) -> int:
    """Tasks of the whole machine, zombies included."""
    return load(root).tasks


def ancestors(pid: int, root: str = PROC) -> list[int]:
    """The chain of current parents from the parent of `pid` up to pid 1."""
    chain: list[int] = []
    while (found := stat(pid, root)) and found.ppid and found.ppid not in chain:
        chain.append(found.ppid)
        pid = found.ppid
    return chain
