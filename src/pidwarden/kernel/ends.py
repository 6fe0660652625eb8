"""Who has the other end of what a thread waits for: pipes, fifos, sockets, event descriptors, locks of files.

The kernel names no holder: the descriptors of everybody are gone through, for a limited time. What lies behind a
descriptor is not looked at, only its link, which waits for nobody.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING

from pidwarden.kernel.evidence import fdinfo
from pidwarden.kernel.procfs import PROC
from pidwarden.model import syscalls
from pidwarden.model.zombie import Holder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pidwarden.model.zombie import Parent, Sleep, Thread

SECONDS = 0.3  # for all descriptors of everybody, for one parent
_WRITES = ("write", "writev", "pwrite64", "sendto", "sendmsg", "sendfile")
_LOCKS = ("flock", "fcntl")
_MOST = 20  # holders that are named
_CUT = "not all processes could be looked at in time"


def with_ends(parent: Parent, living: Mapping[int, bytes], root: str = PROC) -> Parent:
    """The parent, with the holders of what its threads wait for; `living` is the ``stat`` of everybody who lives."""
    threads = [t._replace(sleep=_searched(parent.key.tgid, t, living, root)) for t in parent.threads]
    return parent._replace(threads=threads)


def _searched(pid: int, thread: Thread, living: Mapping[int, bytes], root: str) -> Sleep:
    sleep = thread.sleep
    if sleep.call is None or not sleep.target:
        return sleep
    if sleep.name in _LOCKS:
        return _lock(pid, thread.tid, sleep, living, root)
    fd = syscalls.signed(sleep.call.args[0])
    if sleep.target.startswith("pipe:[") or _is_fifo(sleep):
        return _pipe(pid, fd, sleep, living, root)
    if sleep.target == "anon_inode:[eventfd]":
        return _eventfd(pid, fd, sleep, living, root)
    if sleep.target.startswith("socket:["):
        return _socket(pid, sleep, living, root)
    return sleep


def _name(pid: int, living: Mapping[int, bytes]) -> bytes:
    stat = living.get(pid, b"")
    return stat[stat.index(b"(") + 1 : stat.rindex(b")")] if stat else b""


def _is_fifo(sleep: Sleep) -> bool:
    """Whether its link names a fifo: the thread sleeps in the code of pipes, and the link is a path."""
    return "pipe" in sleep.wchan and sleep.target.startswith("/")


def _links(living: Mapping[int, bytes], root: str) -> Iterator[tuple[int, str, str]]:
    """(pid, descriptor, where it leads) of everybody, while there is time; (0, "", "") at the end if there is none."""
    end = time.monotonic() + SECONDS
    for pid in living:
        try:
            names = os.listdir(f"{root}/{pid}/fd")
        except OSError:
            continue
        for name in names:
            with contextlib.suppress(OSError):
                yield pid, name, os.readlink(f"{root}/{pid}/fd/{name}")
        if time.monotonic() > end:
            yield 0, "", ""
            return


def _mode(pid: int, fd: int | str, root: str) -> int:
    """How a descriptor was opened: 0o400 to read, 0o200 to write; the mode of its link says so (proc_pid_fd(5))."""
    try:
        return os.lstat(f"{root}/{pid}/fd/{fd}").st_mode & 0o600
    except OSError:
        return 0


def _pipe(pid: int, fd: int, sleep: Sleep, living: Mapping[int, bytes], root: str) -> Sleep:
    wanted = 0o400 if sleep.name in _WRITES else 0o200
    found: dict[int, Holder] = {}
    remark = ""
    for other, name, link in _links(living, root):
        if not other:
            remark = _CUT
        elif link == sleep.target and (other, name) != (pid, str(fd)) and _mode(other, name, root) & wanted:
            found[other] = Holder(other, _name(other, living))
    return sleep._replace(holders=_first(found, pid), searched=True, remark=remark)


def _first(found: Mapping[int, Holder], last: int) -> list[Holder]:
    """Some of them, oldest pid first, the parent itself at the end."""
    return [found[p] for p in sorted(found, key=lambda p: (p == last, p))][:_MOST]


def _eventfd(pid: int, fd: int, sleep: Sleep, living: Mapping[int, bytes], root: str) -> Sleep:
    number = fdinfo(pid, fd, b"eventfd-id", root)
    if not number:  # before 5.2
        return sleep
    found: dict[int, Holder] = {}
    remark = ""
    for other, name, link in _links(living, root):
        if not other:
            remark = _CUT
        elif link == sleep.target and other != pid and fdinfo(other, int(name), b"eventfd-id", root) == number:
            found[other] = Holder(other, _name(other, living))
    return sleep._replace(holders=_first(found, pid), searched=True, remark=remark)


# -- sockets -----------------------------------------------------------------------------------------------------------


def _socket(pid: int, sleep: Sleep, living: Mapping[int, bytes], root: str) -> Sleep:
    from pidwarden.kernel import socketpeer  # noqa: PLC0415  (few sleep there)

    inode = int(sleep.target[len("socket:[") : -1])
    peer = socketpeer.unix_peer(inode)
    if not peer:
        return sleep._replace(remark=socketpeer.remote(pid, inode, root))
    found: dict[int, Holder] = {}
    remark = ""
    for other, _fd, link in _links(living, root):
        if not other:
            remark = _CUT
        elif link == f"socket:[{peer}]":
            found[other] = Holder(other, _name(other, living))
    return sleep._replace(holders=_first(found, pid), searched=True, remark=remark)


# -- locks of files ----------------------------------------------------------------------------------------------------


def _lock(pid: int, tid: int, sleep: Sleep, living: Mapping[int, bytes], root: str) -> Sleep:
    """The owner out of ``/proc/locks``: who waits stands below that lock, after an arrow (proc_locks(5))."""
    owner = 0
    for line in _locks(root):
        words = line.split()
        if "->" not in words:
            owner = _owner(words)
        elif _owner(words) in (pid, tid):
            if owner in (0, -1):
                return sleep._replace(remark="the lock belongs to an open file, not to one process (/proc/locks)")
            return sleep._replace(holders=[Holder(owner, _name(owner, living))], searched=True)
    return sleep


def _locks(root: str) -> list[str]:
    try:
        with open(f"{root}/locks", encoding="ascii", errors="replace") as file:
            return file.read().splitlines()
    except OSError:
        return []


def _owner(words: list[str]) -> int:
    """The pid of a line: ``1: [->] FLOCK ADVISORY WRITE 123 00:2b:5 0 EOF``."""
    at = 5 if "->" in words else 4
    try:
        return int(words[at])
    except (IndexError, ValueError):
        return 0
