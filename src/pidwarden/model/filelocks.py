"""Locks of files: what ``/proc/locks`` and ``fdinfo`` show of them (proc_locks(5)). Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

EOF_BYTE = (1 << 63) - 1
_FIELDS = 8


class FileLock(NamedTuple):
    """One lock, granted or asked for. ``pid`` is who asked for it, -1 for a lock of an open file (OFD)."""

    kind: str  # POSIX, OFDLCK, FLOCK, LEASE, DELEG
    access: str  # READ or WRITE
    pid: int
    inode: str  # major:minor:inode, as the kernel writes it
    start: int
    end: int

    @property
    def words(self) -> str:
        """What it is, in words."""
        whole = self.start == 0 and self.end == EOF_BYTE
        part = "" if whole else f", bytes {self.start} to {'the end' if self.end == EOF_BYTE else self.end}"
        return f"{self.kind} {self.access}{part}"

    def is_same(self, other: FileLock) -> bool:
        """Whether it is that lock, though another namespace may number its owner otherwise."""
        return self._replace(pid=0) == other._replace(pid=0)


def parse(line: str) -> tuple[FileLock, bool] | None:
    """A line of ``/proc/locks``, or what follows ``lock:`` in fdinfo: the lock, and whether it waits."""
    words = line.split()
    waits = len(words) > 1 and words[1] == "->"
    fields = [w for w in words[1:] if w != "->"]
    if len(fields) < _FIELDS - 1:
        return None
    kind, _advisory, access, pid, inode, start, end = fields[:7]
    try:
        return FileLock(kind, access, int(pid), inode, int(start), EOF_BYTE if end == "EOF" else int(end)), waits
    except ValueError:
        return None


def blocking(lines: Iterable[str], pid: int, inode: int) -> list[tuple[FileLock, FileLock]]:
    """What a process has asked for of a file and does not get, each with the granted lock that is in its way.

    Who asks for a lock of an open file (OFD) is not told: all who wait for one of that file are taken.
    """
    found: list[tuple[FileLock, FileLock]] = []
    granted: FileLock | None = None
    for line in lines:
        parsed = parse(line)
        if parsed is None:
            continue
        lock, waits = parsed
        if not waits:
            granted = lock
        elif lock.pid in (pid, -1) and lock.inode.endswith(f":{inode}") and granted is not None:
            found.append((lock, granted))
    return found
