"""What stands around stuck threads: FUSE connections, suspended devices, the owners of locks that the log names."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING

from pidwarden.kernel import fuse, kmsg
from pidwarden.kernel.patience import sweep
from pidwarden.kernel.procfs import PROC, read_bytes
from pidwarden.model.mount import parse_mounts
from pidwarden.model.stuck import Blocker, Connection, Someone, Thread, World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pidwarden.model.mount import Mount

_MOUNT_BYTES = 1 << 22
_MESSAGES = 4000
_FUSE = ("request_wait", "fuse_", "__fuse_")
_BLOCKED = re.compile(
    rb"task .*:(\d+) (?:<\w+> |is )*blocked on an? ([\w-]+),? likely (?:last )?owned by task (.*):(\d+)(?: <\w+>)?\.?$"
)


def read_all(path: str) -> bytes:
    """A file of /proc as far as 4 MiB; empty if it cannot be read."""
    parts: list[bytes] = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        while sum(map(len, parts)) < _MOUNT_BYTES and (part := os.read(fd, 1 << 16)):
            parts.append(part)
    except OSError:
        pass
    finally:
        os.close(fd)
    return b"".join(parts)


def someone(pid: int, root: str = PROC) -> Someone:
    """A process's name and state, out of files that wait for nobody."""
    state, name = fuse.state_and_name(pid, root)
    return Someone(pid, name, state)


def world(threads: Sequence[Thread], blind: list[str], root: str = PROC) -> World:
    """All of it that these threads may wait for; `blind` gets what could not be learnt."""
    return World(_connections(threads, blind, root), _suspended(), tuple(m.number for m in _own_mounts(root)))


def _own_mounts(root: str) -> tuple[Mount, ...]:
    return parse_mounts(read_all(f"{root}/self/mountinfo"))


def _connections(threads: Sequence[Thread], blind: list[str], root: str) -> dict[int, Connection]:
    """The FUSE connections that stuck threads can see, if any of them may wait for one."""
    if not any(t.silent or any(f.startswith(_FUSE) for f in t.functions) for t in threads):
        return {}
    numbers = {m.connection for t in threads for m in t.mounts if m.is_fuse}
    pids = sorted({int(name) for name in os.listdir(root) if name.isdecimal()} - {t.pid for t in threads if t.silent})
    holders: dict[int | None, list[int]] = {}
    for pid, held in sweep(pids, lambda pid: fuse.held_by(pid, root)).found:
        for number in set(held):
            holders.setdefault(number, []).append(pid)
    if numbers and not holders and os.geteuid():
        blind.append("who serves a FUSE filesystem is not shown of others' processes: type `sudo pidwarden stuck`")
    found = {}
    for number in numbers:
        exact = number in holders
        them = holders.get(number, holders.get(None, []))
        holds = tuple(someone(pid, root) for pid in them)
        found[number] = Connection(fuse.waiting(number), holds, exact, fuse.is_controllable(number))
    return found


def _suspended(devices: str = "/sys/block") -> dict[str, str]:
    """Device-mapper devices that are suspended (Documentation/ABI/testing/sysfs-block-dm)."""
    found = {}
    try:
        names = [name for name in os.listdir(devices) if name.startswith("dm-")]
    except OSError:
        return {}
    for name in names:
        if (read_bytes(f"{devices}/{name}/dm/suspended") or b"").strip() == b"1":
            number = (read_bytes(f"{devices}/{name}/dev") or b"").strip().decode()
            found[number] = (read_bytes(f"{devices}/{name}/dm/name") or b"").strip().decode("utf-8", "surrogateescape")
    return found


def parse_blocked(text: bytes) -> tuple[int, Blocker] | None:
    """The thread that hangs and its blocker, of a line of the kernel's watch (kernel/hung_task.c); a name may lie."""
    found = _BLOCKED.search(text)
    if not found:
        return None
    return int(found[1]), Blocker(found[2].decode("ascii", "replace"), Someone(int(found[4]), found[3]))


def with_blockers(threads: list[Thread], blind: list[str]) -> list[Thread]:
    """With the owners of locks that the kernel's log names, of sleeps that go on."""
    if not any(t.state == "D" for t in threads):
        return threads
    try:
        messages = kmsg.read(_MESSAGES)
    except OSError:
        blind.append("the kernel's log, which may name the owner of a lock, is not ours to read; type `sudo …`")
        return threads
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    named = {found[0]: (found[1], m.us) for m in messages if (found := parse_blocked(m.text))}
    result = []
    for thread in threads:
        blocker, us = named.get(thread.tid, (None, None))
        begun = now - thread.asleep_ns if thread.asleep_ns is not None else thread.start_ns
        valid = blocker is not None and us is not None and us * 1000 >= begun and thread.same
        result.append(thread._replace(blocker=blocker) if valid else thread)
    return result
