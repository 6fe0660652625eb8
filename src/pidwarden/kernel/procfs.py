"""/proc, as far as it can be read without waiting for anybody.

Only ``stat``, ``statm``, ``status`` and ``comm`` of other processes are read here: ``cmdline``, ``environ`` and
``maps`` take the victim's memory lock and can hang the reader for as long as the victim is stuck.

Since Linux 6.18 ``stat`` and the links can hang it as well, while the victim is within execve(2). So they are read
through :func:`answered` and what is made of it; docs/adr/0027 says how, and what is left of the danger.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pidwarden.model.key import ProcessKey

PROC = "/proc"
PAGE = os.sysconf("SC_PAGE_SIZE")
_STAT_BYTES = 1500
_STATM_BYTES = 160  # seven numbers of at most 20 digits


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


def _has_no_text(statm: bytes) -> bool:
    fields = statm.split(None, 4)
    return len(fields) > 4 and fields[3] == b"0" and fields[0] != b"0"  # noqa: PLR2004  (text is the fourth of seven)


def within_exec(folder: str, directory: int | None = None) -> bool:
    """Whether who has this folder is within execve(2), so that the kernel may not answer for it.

    From when it has its new memory until the program is about to be mapped it holds ``exec_update_lock``
    (fs/exec.c), and closes its files meanwhile: on a server that does not answer that may last for ever. ``statm``
    takes no lock, and shows memory without text just then: who has run an instruction has text, who has ended, or is
    the kernel's, has no memory.
    """
    try:
        fd = os.open(f"{folder}/statm", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    except OSError as why:
        return why.errno not in (errno.ENOENT, errno.ESRCH)  # if it is gone, that is what the next read says
    try:
        return _has_no_text(os.read(fd, _STATM_BYTES))
    except OSError:
        return False
    finally:
        os.close(fd)


def stat_line(folder: str) -> bytes | None:
    """``stat`` of a folder; None if its process is gone, hidden from us, or within execve. One descriptor at a time.

    Whoever enters execve in the instant between the look at that and the read keeps us waiting.
    """
    return None if within_exec(folder) else read_bytes(f"{folder}/stat", _STAT_BYTES)


def stat(pid: int, root: str = PROC) -> Stat | None:
    """A process's ``stat``, None if it is gone, hidden from us, or within execve."""
    data = stat_line(f"{root}/{pid}")
    return parse_stat(data) if data else None


VEILED = -1  # instead of a start in ticks that is not known


def veiled(pid: int, root: str = PROC) -> Stat | None:
    """Of one within execve, what `status` says in place of ``stat``; None if it is not there, or gone.

    Its start is :data:`VEILED`, its terminal does not show, its name may be escaped (proc_pid_status(5)).
    """
    if not within_exec(f"{root}/{pid}") or not (data := read_bytes(f"{root}/{pid}/status")):
        return None
    fields = dict(line.partition(b":\t")[::2] for line in data.split(b"\n"))
    try:
        ppid, pgrp, session, threads = (
            int(fields[name].split()[0]) for name in (b"PPid", b"NSpgid", b"NSsid", b"Threads")
        )
        state = fields[b"State"][:1].decode()
    except (KeyError, IndexError, ValueError):
        return None
    return Stat(pid, fields.get(b"Name", b""), state, ppid, pgrp, session, 0, -1, threads, VEILED)


def link(pid: int | str, name: str, root: str = PROC) -> str:
    """Where a link of a process leads, as ``ns/pid``.

    Raises:
        OSError: it is gone, or not ours to look at; TimeoutError: it is within execve.
    """
    folder = f"{root}/{pid}"
    if within_exec(folder):
        raise TimeoutError(errno.ETIMEDOUT, "within execve", f"{folder}/{name}")
    return os.readlink(f"{folder}/{name}")


def program(pid: int, root: str = PROC) -> os.stat_result | None:
    """The file that a process runs; None if it is gone, hidden from us, or within execve."""
    folder = f"{root}/{pid}"
    try:
        return None if within_exec(folder) else os.stat(f"{folder}/exe")
    except OSError:
        return None


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
    """The ``stat`` of just this process, None if its pid belongs to another one by now, or as :func:`stat` says."""
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
    """Whether no thread of it runs: it is gone, or a zombie without living threads. Of one that does not show, no."""
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
