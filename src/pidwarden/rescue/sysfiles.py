"""Reading any file and writing the kernel's settings, without ever waiting for somebody who may be stuck.

A regular file on a disk that has died can still hang the reader: nothing in the kernel tells beforehand.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from pidwarden.act.places import MOST, File, failed, read_file, regular, shown
from pidwarden.errors import NotPossible, PidwardenError, UsageError
from pidwarden.kernel import cgroup
from pidwarden.kernel.procfs import PROC
from pidwarden.model.text import escape
from pidwarden.rescue.follow import below, resolve

if TYPE_CHECKING:
    from pidwarden.rescue.ledger import Ledger

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
        data = read_file(where, MOST + 1)
    except FileNotFoundError as why:
        raise failed(f"tried to read {shown(where)}", why) from why
    text = [escape(line.expandtabs()) for line in data[:MOST].split(b"\n")]
    if text[-1] == "":
        text.pop()
    return text + [f"(the first {MOST // 1024} KiB; there is more)"] * (len(data) > MOST)


# -- writing -----------------------------------------------------------------------------------------------------------


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
    regular(place.name, mode)
    if name in _COMMANDS:
        return "it takes commands and holds no value"
    if name.endswith(_COUNTERS):
        return "it is a counter, and writing resets it"
    if not mode & 0o444:
        return "it can be written only, not read"
    if "\n" in place.read():
        return "it holds several values, each written by itself"
    return ""
