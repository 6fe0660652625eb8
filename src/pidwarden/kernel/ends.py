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
from pidwarden.kernel.zombies import ppid_of
from pidwarden.model import syscalls
from pidwarden.model.zombie import Holder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pidwarden.model.zombie import Parent, Sleep, Thread

SECONDS = 1.0  # for all descriptors of everybody, for one parent
_WRITES = ("write", "writev", "pwrite64", "sendto", "sendmsg", "sendfile")
_LOCKS = ("flock", "fcntl")
_FORKS = ("vfork", "clone", "clone3")
_MOST = 20  # holders that are named
_CUT = "not all processes could be looked at in time"


def with_ends(parent: Parent, living: Mapping[int, bytes], root: str = PROC) -> Parent:
    """The parent, with the holders of what its threads wait for; `living` is the ``stat`` of everybody who lives."""
    if not any(t.sleep.target or _is_vfork(t) for t in parent.threads):
        return parent
    near = {pid: stat for pid, stat in living.items() if ppid_of(stat) == parent.key.tgid}
    everybody = {**near, **living}  # children first, who have what the parent made, should time run out
    threads = [t._replace(sleep=_searched(parent.key.tgid, t, everybody, root)) for t in parent.threads]
    return parent._replace(threads=threads)


def _searched(pid: int, thread: Thread, living: Mapping[int, bytes], root: str) -> Sleep:
    sleep = thread.sleep
    if _is_vfork(thread):
        return _vfork(pid, thread.tid, sleep, living, root)
    search = _search(sleep) if sleep.call and sleep.target else None
    return search(pid, syscalls.signed(sleep.call.args[0]), sleep, living, root) if search and sleep.call else sleep


def _search(sleep: Sleep) -> Callable[[int, int, Sleep, Mapping[int, bytes], str], Sleep] | None:
    """How the other end of what it sleeps in is found; None if there is none."""
    if sleep.name in _LOCKS:
        return _lock
    if sleep.target.startswith("pipe:[") or _is_fifo(sleep):
        return _pipe
    if sleep.target == "anon_inode:[eventfd]":
        return _eventfd
    return _socket if sleep.target.startswith("socket:[") else None


def _is_vfork(thread: Thread) -> bool:
    return thread.state == "D" and thread.sleep.name in _FORKS


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


def _socket(pid: int, _fd: int, sleep: Sleep, living: Mapping[int, bytes], root: str) -> Sleep:
    from pidwarden.kernel import socketpeer  # noqa: PLC0415  (few sleep there)

    inode = int(sleep.target[len("socket:[") : -1])
    peer = socketpeer.unix_peer(inode)
    if peer is None:
        words, anybody = socketpeer.remote(pid, inode, root)
        if not words and "unix" in sleep.wchan:
            words = "who has the other end is not known: it is in another network namespace, or there is no unix_diag"
        return sleep._replace(remark=words, anybody=anybody)
    if not peer and sleep.name == "connect":
        return sleep._replace(remark="a Unix socket: who listens there has many that wait, and accepts none")
    if not peer:
        return sleep._replace(remark="a Unix socket that is connected to nobody", anybody=True)
    found: dict[int, Holder] = {}
    remark = ""
    for other, _number, link in _links(living, root):
        if not other:
            remark = _CUT
        elif link == f"socket:[{peer}]":
            found[other] = Holder(other, _name(other, living))
    return sleep._replace(holders=_first(found, pid), searched=True, remark=remark)


# -- locks of files ----------------------------------------------------------------------------------------------------


def _lock(pid: int, fd: int, sleep: Sleep, living: Mapping[int, bytes], root: str) -> Sleep:
    """Who has a lock on that file, by the fdinfo of everybody's descriptors of it (proc_pid_fdinfo(5)).

    The pid in ``/proc/locks`` is no more than that of who asked for it: a lock of flock(2), or of an open file, passes
    on to children, and outlives that process.
    """
    found: dict[int, Holder] = {}
    remark = ""
    for other, name, link in _links(living, root):
        if not other:
            remark = _CUT
        elif link == sleep.target and (other, name) != (pid, str(fd)) and fdinfo(other, int(name), b"lock", root):
            found[other] = Holder(other, _name(other, living))
    return sleep._replace(holders=_first(found, pid), searched=True, remark=remark)


# -- vfork -------------------------------------------------------------------------------------------------------------


def _vfork(pid: int, tid: int, sleep: Sleep, living: Mapping[int, bytes], root: str) -> Sleep:
    from pidwarden.kernel import vforks  # noqa: PLC0415  (few sleep there)

    children = vforks.children(pid, tid, root)
    return sleep._replace(holders=[Holder(c, _name(c, living)) for c in children], searched=bool(children))
