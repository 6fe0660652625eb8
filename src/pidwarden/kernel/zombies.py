"""Who is a zombie, twice within a moment, and what is to be seen of the parents that owe the waits.

Twenty thousand zombies are read while somebody waits: of each only ``stat``, once; at the second look those of small
families are read again, of large ones a sample, and for the others it is enough that their pid is still listed. What is
costly is read of parents only.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import evidence
from pidwarden.kernel.procfs import PROC, read_bytes
from pidwarden.model.zombie import Zombie

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence

PAUSE = 0.2  # seconds between the looks; most parents reap within milliseconds
BRIEF = 0.05  # the same beside somebody who has many: there is more to see than who was late
MANY = 1000  # so many zombies are no matter of a moment: the second look need not be put off for them
SAMPLE = 64  # of a parent's zombies, for what costs a file each
_MOST_CHILDREN = 5000  # living children that are looked at again, for those that died meanwhile
_STAT_BYTES = 1500
_SMALL = 470  # bytes: all of a zombie's stat, and an object that Python has at hand; what is longer is read on
_Z = ord("Z")


class Group:
    """The zombies of one parent, as ``stat`` has them, and when the first was seen (CLOCK_MONOTONIC, ns)."""

    __slots__ = ("first_ns", "rows")

    def __init__(self, first_ns: int, rows: list[Zombie]) -> None:
        self.rows, self.first_ns = rows, first_ns


class Table(NamedTuple):
    """Everybody at one moment: zombies by parent, and the ``stat`` of who lives."""

    groups: dict[int, Group]
    living: dict[int, bytes]


class Second(NamedTuple):
    """What became of a group: who is still there, who is gone, how many are new; what was watched, and for how long.

    ``read_again`` is how many were read again; of the others only the pid was looked for.
    """

    stayed: list[Zombie]
    gone: list[Zombie]
    fresh: int
    watched_ns: int
    read_again: int


def first(root: str = PROC, without: Container[int] = ()) -> Table:
    """Reads everybody once, but those `without`.

    Raises:
        OSError: /proc cannot be listed.
    """
    folder, opened, read, close = f"{root}/".encode(), os.open, os.read, os.close
    flags, now = os.O_RDONLY | os.O_CLOEXEC, time.monotonic_ns
    found: dict[bytes, tuple[int, list[bytes], list[bytes]]] = {}
    living: dict[int, bytes] = {}
    for name in os.listdir(folder):  # as bytes: twenty thousand names need not be decoded
        if not name.isdigit() or (without and int(name) in without):
            continue
        try:
            fd = opened(folder + name + b"/stat", flags)
            try:
                data = read(fd, _SMALL)
                if len(data) == _SMALL:
                    data += read(fd, _STAT_BYTES)
            finally:
                close(fd)
            end = data.rindex(b")")
            if data[end + 2] != _Z:
                living[int(name)] = data
                continue
            ppid = data[end + 4 : data.index(b" ", end + 4)]
        except (OSError, ValueError, IndexError):  # gone meanwhile
            continue
        group = found.get(ppid)
        if group is None:
            group = found[ppid] = (now(), [], [])
        group[1].append(name)
        group[2].append(data)
    groups = {int(p): Group(ns, list(map(Zombie, map(int, names), stats))) for p, (ns, names, stats) in found.items()}
    return Table(groups, living)


def ppid_of(data: bytes) -> int:
    """The parent, out of ``stat``."""
    end = data.rindex(b")")
    return int(data[end + 4 : data.index(b" ", end + 4)])


def _start_of(data: bytes) -> bytes:
    """The field of ``stat`` that tells two processes of one pid apart, as it stands there."""
    return data[data.rindex(b")") + 2 :].split(None, 20)[19]


def wait_from(table: Table, meant: Container[int], pause: float = PAUSE) -> float:
    """How many seconds are left until the second look may be taken; reading a large table takes as long."""
    now, small = time.monotonic_ns(), [g for p, g in table.groups.items() if p in meant and len(g.rows) < MANY]
    if pause == PAUSE and any(len(g.rows) >= MANY for g in table.groups.values()):  # not one that somebody chose
        pause = BRIEF
    return max((pause - (now - group.first_ns) / 1e9 for group in small), default=0.0)


def second(table: Table, meant: Iterable[int], root: str = PROC, without: Iterable[int] = ()) -> dict[int, Second]:
    """Looks again for the zombies of these parents, at nobody `without`.

    Raises:
        OSError: /proc cannot be listed.
    """
    there = set(map(int, filter(str.isdecimal, os.listdir(root)))).difference(without)
    known = {ppid: {pid for pid, _stat in group.rows} for ppid, group in table.groups.items()}
    fresh = _fresh(table, there.difference(table.living, *known.values()), frozenset(meant), root)
    return {ppid: _again(ppid, table.groups[ppid], known[ppid] - there, fresh.get(ppid, 0), root) for ppid in meant}


def _again(ppid: int, group: Group, lost: set[int], fresh: int, root: str) -> Second:
    """`lost` are those whose pid is nobody's now."""
    rows, watched, asked = group.rows, 0, 0
    for pid, before in sample(rows):
        if pid in lost:
            continue
        data = read_bytes(f"{root}/{pid}/stat", _STAT_BYTES)
        asked += 1
        if data is None or not _same(before, data, ppid):
            lost.add(pid)
        elif not watched:
            watched = time.monotonic_ns() - group.first_ns
    stayed = [row for row in rows if row[0] not in lost] if lost else rows
    gone = [row for row in rows if row[0] in lost] if lost else []
    return Second(stayed, gone, fresh, watched, asked)


def _same(before: bytes, now: bytes, ppid: int) -> bool:
    """Whether it is that zombie still, of that parent."""
    end = now.rindex(b")")
    return now[end + 2] == _Z and ppid_of(now) == ppid and _start_of(before) == _start_of(now)


def _fresh(table: Table, new: Iterable[int], meant: Container[int], root: str) -> dict[int, int]:
    """By parent, how many have become zombies since: children that lived, and such as did not exist."""
    children = [pid for pid, data in table.living.items() if ppid_of(data) in meant]
    found: dict[int, int] = {}
    for pid in [*children, *new][:_MOST_CHILDREN]:
        data = read_bytes(f"{root}/{pid}/stat", _STAT_BYTES)
        if data and data[data.rindex(b")") + 2] == _Z:
            ppid = ppid_of(data)
            found[ppid] = found.get(ppid, 0) + 1
    return found


def sample(rows: Sequence[Zombie], size: int = SAMPLE) -> list[Zombie]:
    """The first of them, the last, and others between, evenly spread; all, if they are not more than that."""
    if len(rows) <= size:
        return list(rows)
    return [rows[at * (len(rows) - 1) // (size - 1)] for at in range(size)]


def tracers(rows: Sequence[Zombie], root: str = PROC) -> tuple[dict[int, int], int]:
    """By zombie who traces it, and how many were asked: a sample, and all of them as soon as one of those is traced."""
    asked = sample(rows)
    found = _tracers(asked, root)
    if found and len(asked) < len(rows):
        found, asked = _tracers(rows, root), list(rows)
    return found, len(asked)


def _tracers(rows: Iterable[Zombie], root: str) -> dict[int, int]:
    found = {}
    for pid, _data in rows:
        data = read_bytes(f"{root}/{pid}/status") or b""
        at = data.find(b"\nTracerPid:")
        if at >= 0 and (tracer := int(data[at + 11 :].split(None, 1)[0])):
            found[pid] = tracer
    return found


def dead_leaders(rows: Iterable[Zombie]) -> list[int]:
    """Those that have more than one thread: the others live."""
    return [pid for pid, stat in rows if stat[stat.rindex(b")") + 2 :].split(None, 18)[17] != b"1"]


def living_threads(pid: int, root: str = PROC) -> list[tuple[int, str]]:
    """The threads of a process whose leader is dead that live on, with their states."""
    found = []
    for tid in evidence.threads(pid, root):
        data = read_bytes(f"{evidence.path(pid, tid, root)}/stat", _STAT_BYTES)
        state = chr(data[data.rindex(b")") + 2]) if data else "X"
        if state not in "ZX":
            found.append((tid, state))
    return found
