"""Reading any file and writing the kernel's settings, without ever waiting for somebody who may be stuck.

A regular file on a disk that has died can still hang the reader: nothing in the kernel tells beforehand.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.kernel import cgroup
from pidwarden.kernel.procfs import PROC
from pidwarden.model.text import escape
from pidwarden.rescue.follow import below, failed, resolve, shown

if TYPE_CHECKING:
    from pidwarden.rescue.ledger import Ledger

MOST = 64 * 1024  # bytes that are shown of a file
_CONSUMED = frozenset(("trace_pipe", "trace_pipe_raw"))
# Files that are commands, not values: what is read is not what was written.
_COMMANDS = frozenset(("cgroup.event_control", "cgroup.kill", "cgroup.procs", "cgroup.subtree_control", "cgroup.type"))
_COMMANDS |= {"cgroup.threads", "compact_memory", "devices.allow", "devices.deny", "drop_caches", "memory.force_empty"}
_COMMANDS |= {"memory.reclaim", "stat_refresh", "tasks"}
_COUNTERS = ("failcnt", "max_usage_in_bytes", ".peak")  # writing resets them
_STOPPERS = {"cgroup.kill": "", "cgroup.freeze": "0", "freezer.state": "THAWED"}  # and the value that stops nobody


# -- reading -----------------------------------------------------------------------------------------------------------


def cat(path: str, root: str = PROC, *, force: bool = False) -> list[str]:
    """The lines of the first 64 KiB of a file, made harmless; tabs as spaces.

    Raises:
        UsageError: it is no path, or no regular file.
        NotPossible: reading could hang, or take it away from others.
        NoPermission, PidwardenError: it cannot be read.
    """
    where = resolve(path, root, force=force)
    if where == f"{root}/kmsg" or os.path.basename(where) in _CONSUMED:
        msg = f"{shown(where)} is taken from whoever else reads it; `log` shows the kernel's messages without that"
        raise NotPossible(msg)
    try:
        data = _read(where, MOST + 1)
    except FileNotFoundError as why:
        raise failed(f"tried to read {shown(where)}", why) from why
    text = [escape(line.expandtabs()) for line in data[:MOST].split(b"\n")]
    if text[-1] == "":
        text.pop()
    return text + [f"(the first {MOST // 1024} KiB; there is more)"] * (len(data) > MOST)


def _read(where: str, most: int) -> bytes:
    """A regular file's first bytes.

    Raises:
        FileNotFoundError: it is gone.
        PidwardenError: it is none, or cannot be read.
    """
    tried = f"tried to read {shown(where)}"
    try:
        _regular(where, os.stat(where, follow_symlinks=False).st_mode)
        # O_NONBLOCK for what it may have become meanwhile, and for files that wait for news.
        fd = os.open(where, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            _regular(where, os.fstat(fd).st_mode)
            data = b""
            while len(data) < most and (part := os.read(fd, most - len(data))):
                data += part
            return data
        finally:
            os.close(fd)
    except FileNotFoundError:
        raise
    except BlockingIOError as why:
        msg = f"{tried}: it has nothing to say now, and would keep us waiting; type it again later"
        raise NotPossible(msg) from why
    except OSError as why:
        if why.errno in (errno.ENODEV, errno.ESRCH):
            raise FileNotFoundError(why.errno, os.strerror(why.errno), where) from why
        raise failed(tried, why) from why


def _regular(where: str, mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        kind = kinds.get(stat.S_IFMT(mode), "a device")
        msg = f"{shown(where)} is {kind}: opening it could hang or set something off; only files are read and written"
        raise UsageError(msg)


# -- writing -----------------------------------------------------------------------------------------------------------


class File:
    """A file of the kernel's that holds one value: a :class:`~pidwarden.rescue.ledger.Place`."""

    def __init__(self, path: str) -> None:
        self.name = path

    def read(self) -> str:
        """Its text, without the newline at its end."""
        return os.fsdecode(_read(self.name, MOST)).rstrip("\n")

    def write(self, value: str) -> None:
        """One write; under v2 a limit below what is used does not make us reclaim that ourselves (O_NONBLOCK, 6.16)."""
        tried = f"tried to write {shown(value)} to {shown(self.name)}"
        try:
            # O_TRUNC as a shell's redirection has it.
            flags = os.O_WRONLY | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self.name, flags)
            try:
                _regular(self.name, os.fstat(fd).st_mode)
                os.write(fd, os.fsencode(value) or b"\n")
            finally:
                os.close(fd)
        except FileNotFoundError:
            raise
        except OSError as why:
            if why.errno == errno.ENODEV:  # a cgroup that was removed meanwhile
                raise FileNotFoundError(why.errno, why.strerror, self.name) from why
            raise failed(tried, why, f"`cat {self.name}` shows what it holds, in the form that it takes") from why


def write(path: str, value: str, ledger: Ledger, root: str = PROC, *, once: bool = False) -> list[str]:
    """Changes a setting below /proc/sys or in a cgroup, and enters in the ledger what it was.

    `once`: also where there is no way back, which is refused otherwise.

    Raises:
        UsageError: it is neither of those, or cannot be undone, or would stop this console.
        NoPermission, NotPossible, PidwardenError: the kernel refuses.
    """
    if "\n" in value or "\0" in value:
        msg = f"tried to write {shown(value)!r}: a value is one line; type one write for each"
        raise UsageError(msg)
    where, found = resolve(path, root), cgroup.mounts(root)
    allowed = _writable(found, root)
    if not any(below(where, folder) for folder in allowed):
        leads = f", which is {shown(where)}" * (where != path)
        folders = " ".join(map(shown, allowed))
        msg = f"tried to write {shown(path)}{leads}: what can be written is below {folders}"
        raise UsageError(msg)
    directory, name = os.path.split(where)
    if value.strip() != _STOPPERS.get(name, value.strip()) and _holds_us(directory, found, root):
        msg = f"tried to write {shown(where)}: this console is in there itself, and would stop; name a cgroup below it"
        raise UsageError(msg)
    place = File(where)
    try:
        why_not = _no_way_back(place)
        if why_not and not once:
            what = f"{shown(path)} {shown(value)}"
            msg = f"tried to write {shown(where)}: {why_not}, so it cannot be undone; `write --once {what}` does it"
            raise UsageError(msg)
        return ledger.put(place, value, once=bool(why_not))
    except FileNotFoundError as why:
        raise failed(f"tried to write {shown(where)}", why) from why


def _writable(found: cgroup.Mounts, root: str) -> list[str]:
    """The folders below which files may be written."""
    folders = []
    for folder in (f"{root}/sys", *sorted(found.roots)):
        with contextlib.suppress(PidwardenError):  # something else is mounted over it
            folders.append(resolve(folder, root))
    return folders


def _holds_us(directory: str, found: cgroup.Mounts, root: str) -> bool:
    """Whether this process is in a cgroup or below it."""
    own = [cgroup.directory_of(os.getpid(), hierarchy, found, root) for hierarchy in (cgroup.V2, *found.v1)]
    return any(d is not None and (d == directory or below(d, directory)) for d in own)


def _no_way_back(place: File) -> str:
    """Why the value that a file holds cannot be written back; empty if it can."""
    mode, name = os.stat(place.name, follow_symlinks=False).st_mode, os.path.basename(place.name)
    _regular(place.name, mode)
    if name in _COMMANDS:
        return "it takes commands and holds no value"
    if name.endswith(_COUNTERS):
        return "it is a counter, and writing resets it"
    if not mode & 0o444:
        return "it can be written only, not read"
    if "\n" in place.read():
        return "it holds several values, each written by itself"
    return ""
