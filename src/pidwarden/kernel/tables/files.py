"""Open files: of the machine against fs.file-max, and of each process against its RLIMIT_NOFILE."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pidwarden.kernel.tables.base import PROC, most, numbers
from pidwarden.model.gauge import Gauge, Scope, Table
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pidwarden.kernel.tables.crowd import Member

_UNLIMITED = 1 << 62  # what the kernel takes today is 2^63 - 1: more than memory can hold


def machine(members: Iterable[Member] = (), root: str = PROC) -> list[Gauge]:
    """fs.file-nr: files allocated, of them free (0 since 2.6), and the most there may be (proc_sys_fs(5))."""
    words = numbers(f"{root}/sys/fs/file-nr")
    if len(words) != 3:  # noqa: PLR2004
        return []
    limit = words[2] if words[2] < _UNLIMITED else None
    who = most((_name(m), m.files) for m in members if m.files > 0)
    return [Gauge(Table.FILES, Scope.MACHINE, "", words[0] - words[1], limit, 0, "fs.file-max", who=who)]


def processes(members: Iterable[Member]) -> list[Gauge]:
    """The descriptors of each process that has a limit on them. One shared by two processes counts for both.

    The limit is on the number of the descriptor, which is at least how many are open.
    """
    return [process(m) for m in members if m.files > 0 and m.nofile is not None]


def process(m: Member) -> Gauge:
    """Those of one process."""
    return Gauge(Table.PROCESS_FILES, Scope.PROCESS, _name(m), m.files, m.nofile, 0, "RLIMIT_NOFILE")


def _name(m: Member) -> str:
    return f"pid {m.pid} ({escape(m.name)})"
