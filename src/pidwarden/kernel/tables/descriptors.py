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
_MOST_LOST = 3  # who do not answer, 0.2 s each
_INOTIFY, _WATCH = "anon_inode:inotify", b"inotify wd:"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
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
    """Looks at all that have anything open, few descriptors first; some 4 µs a descriptor and 25 µs a process.

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

    # Who is in no hurry waits longer for those who do not answer: on a busy machine it may be us who do not run.
    most_lost = max(_MOST_LOST, int(seconds / patience.SECONDS))
    swept = patience.sweep(wanted, look, most_lost=most_lost)
    found = swept.found
    if swept.lost and time.monotonic() < end:
        swept = patience.sweep([*swept.lost, *swept.left], look, 2 * patience.SECONDS, most_lost=_MOST_LOST)
        found += swept.found
    late += [m.pid for m in swept.left]
    reasons = []
    if hidden:
        count = f"{len(hidden)} process{'es' * (len(hidden) != 1)} "
        hint = ": `sudo pidwarden tables`" if os.geteuid() else " (a container)"
        reasons.append(f"{count} of others not ours to look at{hint}".replace("  ", " "))
    if swept.lost:
        pids = ", ".join(str(m.pid) for m in swept.lost[:5])
        reasons.append(f"the kernel does not answer for {pids}: `sudo pidwarden stuck`")
    if late:
        reasons.append(f"no time for {len(late)} processes with the most descriptors: `pidwarden tables --patience 10`")
    return Walk([held for _member, held in found if held is not None], "; ".join(reasons))


def _look(member: Member, root: str) -> Held:
    folder = f"{root}/{member.pid}"
    held = Held(member, _namespaces(f"{folder}/ns"), [], 0, [])
    directory = os.open(f"{folder}/fd", _FOLDER)
    link, ptys = os.readlink, 0
    try:
        for fd in os.listdir(directory):
            try:
                target = link(fd, dir_fd=directory)
            except FileNotFoundError:  # closed meanwhile
                continue
            if target.startswith("socket:["):
                held.sockets.append(int(target[8:-1]))
            elif target == _INOTIFY:
                data = content(f"{folder}/fdinfo/{fd}") or b""
                held.inotify.append(Instance(int(fd), data.count(_WATCH), data))
            elif target in _PTMX:
                ptys += 1
    finally:
        os.close(directory)
    return held._replace(ptys=ptys) if ptys else held


def number_of(link: str) -> int:
    """The number in a link such as ``net:[4026531840]``."""
    return int(link[link.index("[") + 1 : -1])


def _namespaces(folder: str) -> dict[str, int]:
    """By kind, those that can be looked at."""
    found: dict[str, int] = {}
    try:
        directory = os.open(folder, _FOLDER)
    except OSError:
        return found
    link = os.readlink
    try:
        for kind in KINDS:
            found[kind] = number_of(link(kind, dir_fd=directory))
    except OSError:  # it has ended, it is not ours to look at, or the kernel lacks one
        pass
    finally:
        os.close(directory)
    return found
