"""Processes as lines for the console: a table, a tree, groups, zombies. Pure.

The terminal may be a serial line, and the table full: what is alike is one line, and lists end after a screen.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from pidwarden.model.key import TICK_NS
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from pidwarden.model.key import ProcessKey
    from pidwarden.rescue.table import Proc

_SECOND = 1_000_000_000
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_DEEPEST = 30


def age(p: Proc, now_ns: int) -> str:
    """How long it has lived, in the unit that fits."""
    seconds = max(0, now_ns - p.start_ticks * TICK_NS) / _SECOND
    for size, unit in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "m")):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def columns(rows: Iterable[Sequence[str]], head: Sequence[str]) -> list[str]:
    """Rows under a head, as wide as they need; the last column ends where it ends."""
    everything = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(head) - 1)]
    return ["  ".join([*(text.rjust(w) for text, w in zip(row, widths, strict=False)), row[-1]]) for row in everything]


def table(procs: Iterable[Proc], now_ns: int, login: Callable[[int], str]) -> list[str]:
    """One line a process. `login` gives the user that logged in, by pid."""
    head = ("PID", "PPID", "UID", "LOGIN", "PGRP", "SESS", "TTY", "TPGID", "S", "THR", "AGE", "NAME")
    rows = [
        (
            str(p.pid), str(p.ppid), str(p.uid), login(p.pid), str(p.pgrp), str(p.session), _tty(p.tty), str(p.tpgid),
            p.state, str(p.threads), age(p, now_ns), escape(p.comm),
        )
        for p in procs
    ]  # fmt: skip
    return columns(rows, head)


def _tty(device: int) -> str:
    """What ps calls a terminal (proc_pid_stat(5): minor in bits 31 to 20 and 7 to 0, major in 15 to 8)."""
    if not device:
        return "-"
    major, minor = device >> 8 & 0xFFF, device & 0xFF | device >> 12 & 0xFFF00
    names = {4: f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"}  # noqa: PLR2004  (Documentation/admin-guide/devices.txt)
    if 136 <= major <= 143:  # noqa: PLR2004
        return f"pts/{minor + 256 * (major - 136)}"
    return names.get(major, f"{major}:{minor}")


def groups(
    everybody: Sequence[Proc], before: Sequence[Proc], by: str, path: Callable[[int], str] = lambda _pid: ""
) -> list[str]:
    """The largest groups of processes that have something in common, and how much they grew between two looks.

    `path` gives the cgroup of a pid.
    """
    there = {p.key for p in before}
    value: dict[str, Callable[[Proc], object]] = {
        "exe": lambda p: p.exe or f"({escape(p.comm)})",
        "user": lambda p: p.uid,
        "pgrp": lambda p: p.pgrp,
        "session": lambda p: p.session,
        "cgroup": lambda p: escape(os.fsencode(path(p.pid))) or "/",
    }
    slots: Counter[object] = Counter()
    born: Counter[object] = Counter()
    for p in everybody:
        if not p.kernel:
            slots[value[by](p)] += p.threads
            born[value[by](p)] += p.key not in there
    rows = [(f"{n:,}", f"+{born[what]:,}", str(what)) for what, n in slots.most_common(5)]
    return columns(rows, ("SLOTS", "GROWTH", by.upper()))


def tree(everybody: Sequence[Proc], roots: Sequence[Proc]) -> list[str]:
    """Who is whose parent now. Children that are alike and have none of their own are one line."""
    children: dict[int, list[Proc]] = {}
    for p in everybody:
        children.setdefault(p.ppid, []).append(p)
    lines: list[str] = []
    todo = [(p, 0, 1) for p in reversed(roots)]
    shown: set[int] = set()
    while todo:
        p, depth, times = todo.pop()
        if p.pid in shown:  # read one after the other: a pid that was given again may seem its own ancestor
            continue
        shown.add(p.pid)
        indent = "  " * depth if depth <= _DEEPEST else "  " * _DEEPEST + f"({depth} deep) "
        threads = f", {p.threads} threads" if p.threads > 1 else ""
        many = f" and {times - 1:,} more like it" if times > 1 else ""
        lines.append(f"{indent}{escape(p.comm)} {p.pid} ({p.state}{threads}){many}")
        below = sorted(children.get(p.pid, []), key=lambda c: (c.start_ticks, c.pid))
        leaves: dict[tuple[bytes, str], list[Proc]] = {}
        for c in below:
            if c.pid not in children:
                leaves.setdefault((c.comm, c.state), []).append(c)
        found = [(same[0], depth + 1, len(same)) for same in leaves.values()]
        found += [(c, depth + 1, 1) for c in below if c.pid in children]
        todo += reversed(found)
    return lines


def zombies(everybody: Sequence[Proc], spared: Mapping[ProcessKey, str]) -> list[str]:
    """Zombies by the parent that owes them a wait, the most first."""
    parents = {p.pid: p for p in everybody}
    owed: Counter[int] = Counter(p.ppid for p in everybody if p.ended)
    rows = []
    for ppid, count in owed.most_common(20):
        parent = parents.get(ppid)
        if parent is None:
            rows.append((f"{count:,}", str(ppid), "-", "gone by now"))
            continue
        why = spared.get(parent.key, "")
        if parent.state in "Tt":
            why = f"{why}; " * bool(why) + f"it is stopped: `thaw pid:{ppid}`"
        rows.append((f"{count:,}", str(ppid), parent.state, escape(parent.comm) + f" ({why})" * bool(why)))
    return columns(rows, ("ZOMBIES", "PARENT", "S", "NAME")) if rows else ["no zombies"]
