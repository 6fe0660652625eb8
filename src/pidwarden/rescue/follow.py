"""Where a path leads, found without touching what may never answer."""

from __future__ import annotations

import errno
import os
import re
from typing import TYPE_CHECKING

from pidwarden.act.places import failed, shown
from pidwarden.errors import NotPossible, UsageError
from pidwarden.kernel import procfs
from pidwarden.kernel.procfs import PROC

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_LINKS = 40  # as the kernel has it
_ESCAPED = re.compile(r"\\([0-7]{3})")  # blanks in the fields of mounts (fstab(5))
# A server that does not answer keeps the reader waiting; so does a process that serves fuse, if it is stopped.
_REMOTE = frozenset(
    ("9p", "afs", "autofs", "ceph", "cifs", "gfs2", "glusterfs", "lustre", "nfs", "nfs4", "ocfs2", "smb3", "virtiofs")
)
# Of other processes: what neither takes the lock of their memory nor waits for an exec of theirs (fs/proc/base.c).
_FREE = frozenset(("autogroup", "cgroup", "comm", "coredump_filter", "cpuset", "gid_map", "limits", "loginuid"))
_FREE |= {"mountinfo", "mounts", "oom_adj", "oom_score", "oom_score_adj", "projid_map", "sched", "schedstat"}
_FREE |= {"sessionid", "setgroups", "statm", "status", "task", "timerslack_ns", "uid_map"}
_FREE_UNLESS_WITHIN_EXEC = frozenset(("stat", "wchan"))
# These lead to what that process sees, which need not be what has that name here.
_LINKS = frozenset(("cwd", "exe", "fd", "map_files", "ns", "root"))


def below(path: str, folder: str) -> bool:
    """Whether a path lies in a folder or deeper."""
    return path.startswith(folder.rstrip("/") + "/")


def resolve(path: str, root: str = PROC, *, force: bool = False) -> str:
    """Where a path leads once every link in it is followed, without touching what may hang.

    `force` leaves the care for file systems that may hang, and for the memory of other processes, to the caller.

    Raises:
        UsageError: it does not begin with a slash, or is a ring.
        NotPossible: it leads to something that can keep us waiting for ever.
        NoPermission, PidwardenError: it cannot be followed, or leads nowhere.
    """
    if not path.startswith("/") or "\0" in path:
        msg = f"{shown(path)!r} is no path; type it with all its folders, like /proc/meminfo"
        raise UsageError(msg)
    mounts = _mounts(root)
    todo, done, links = path.split("/")[::-1], "", 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done.rpartition("/")[0]
        if part in ("", ".", ".."):
            continue
        here = f"{done}/{part}"
        _refuse(here, mounts, force=force)
        try:
            target = os.readlink(here)
        except OSError as why:
            if why.errno != errno.EINVAL:
                raise failed(f"tried to follow {shown(path)} as far as {shown(here)}", why) from why
            done = here  # no link
            continue
        links += 1
        if links > _MOST_LINKS:
            msg = f"{shown(path)} is a ring of links; type the path that is meant"
            raise UsageError(msg)
        done = "" if target.startswith("/") else done
        todo += target.split("/")[::-1]
    return done or "/"


def _mounts(root: str) -> list[tuple[str, str]]:
    """Where what kind of file system is mounted; `root` is a /proc in any case."""
    try:
        fields = procfs.mounts(root)
    except OSError as why:
        raise failed(f"tried to read {root}/self/mounts", why, "without it no path is safe to follow") from why
    found = [(_ESCAPED.sub(lambda octal: chr(int(octal[1], 8)), where), kind) for _device, where, kind, *_ in fields]
    return [*found, (root, "proc")]


def _refuse(here: str, mounts: Sequence[tuple[str, str]], *, force: bool) -> None:
    where = kind = ""
    for place, its_kind in mounts:
        # Of two on one place the later one hides the other.
        if len(place) >= len(where) and (here == place or below(here, place)):
            where, kind = place, its_kind
    if kind == "proc":
        _refuse_process(here, where, force=force)
    elif not force and (kind in _REMOTE or kind.startswith("fuse")):
        msg = (
            f"{shown(here)} is on {shown(where)} ({shown(kind)}): if whoever serves it does not answer, reading hangs, "
            "and this console with it; add `--force` to risk it"
        )
        raise NotPossible(msg)


def _refuse_process(here: str, proc: str, *, force: bool) -> None:
    """Refuses what can hang, or mislead, in the folder of another process."""
    parts = here[len(proc.rstrip("/")) + 1 :].split("/")
    if not parts[0].isdecimal() or int(parts[0]) == os.getpid():
        return
    file = (parts[3:] if parts[1:2] == ["task"] else parts[1:])[:1]
    if not file or file[0] in _FREE:
        return
    if file[0] in _FREE_UNLESS_WITHIN_EXEC and not procfs.within_exec(f"{proc}/{parts[0]}"):
        return
    harmless = f"`cat {shown(proc)}/{parts[0]}/status` waits for nobody"
    if file[0] in _LINKS:
        msg = f"{shown(here)} leads to what process {parts[0]} sees, maybe not to what has that name here; {harmless}"
        raise NotPossible(msg)
    if not force:
        msg = (
            f"{shown(here)} comes out of the memory of process {parts[0]}, or waits for its exec: while that is stuck "
            f"reading hangs, and this console with it; {harmless}, or add `--force` to risk it"
        )
        raise NotPossible(msg)
