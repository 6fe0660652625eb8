"""What everybody holds open, as far as tables are filled by it: inotify, pseudo-terminals, sockets; and namespaces.

For commands only: links of a process that is stuck within execve(2) do not answer (:mod:`pidwarden.kernel.patience`).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import patience
from pidwarden.kernel.tables.base import PROC, content

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.kernel.tables.crowd import Member

KINDS = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
SECONDS = 0.5  # for the whole walk, where some have very many descriptors
_INOTIFY, _WATCH = "anon_inode:inotify", b"inotify wd:"
_PTMX = ("/dev/ptmx", "/dev/pts/ptmx", "/ptmx")


class Instance(NamedTuple):
    """One inotify descriptor: which it is, the watches in it, and what tells it from others."""

    fd: int
    watches: int
    content: bytes


class Held(NamedTuple):
    """What one process holds; ``namespaces`` by kind, without those that cannot be looked at."""

    member: Member
    namespaces: dict[str, int]
    inotify: list[Instance]
    ptys: int
    sockets: list[int]  # inode numbers


class Walk(NamedTuple):
    """What was found, of how many processes it was not, and why; empty: of all."""

    held: list[Held]
    unseen: str


def walk(members: Iterable[Member], root: str = PROC, seconds: float = SECONDS) -> Walk:
    """Looks at all that have anything open, those with few descriptors first; some 4 µs a descriptor.

    Raises:
        BlockingIOError: no thread can be started.
    """
    wanted = sorted((m for m in members if m.files), key=lambda m: m.files)
    end = time.monotonic() + seconds
    hidden, late = [], []

    def look(member: Member) -> Held | None:
        if time.monotonic() > end:
            late.append(member.pid)
            return None
        try:
            return _look(member, root)
        except PermissionError:
            hidden.append(member.pid)
        except OSError:  # it has ended
            pass
        return None

    swept = patience.sweep(wanted, look)
    late += [m.pid for m in swept.left]
    reasons = []
    if hidden:
        reasons.append(f"{len(hidden)} processes of others are not ours to look at: `sudo pidwarden tables`")
    if swept.lost:
        pids = ", ".join(str(m.pid) for m in swept.lost[:5])
        reasons.append(f"the kernel does not answer for {pids}: `sudo pidwarden stuck`")
    if late:
        reasons.append(f"no time for {len(late)} processes with the most descriptors: `pidwarden tables --patience 10`")
    return Walk([held for _member, held in swept.found if held is not None], "; ".join(reasons))


def _look(member: Member, root: str) -> Held:
    folder = f"{root}/{member.pid}"
    link, inotify, sockets, ptys = os.readlink, [], [], 0
    for fd in os.listdir(f"{folder}/fd"):
        try:
            target = link(f"{folder}/fd/{fd}")
        except FileNotFoundError:  # closed meanwhile
            continue
        if target.startswith("socket:["):
            sockets.append(int(target[8:-1]))
        elif target == _INOTIFY:
            data = content(f"{folder}/fdinfo/{fd}") or b""
            inotify.append(Instance(int(fd), data.count(_WATCH), data))
        elif target in _PTMX:
            ptys += 1
    return Held(member, _namespaces(folder), inotify, ptys, sockets)


def _namespaces(folder: str) -> dict[str, int]:
    found = {}
    for kind in KINDS:
        try:
            found[kind] = os.stat(f"{folder}/ns/{kind}").st_ino
        except OSError:
            continue
    return found
