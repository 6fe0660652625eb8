"""Who is never touched by a rescue: this process, those above it, what lets people in, and what the settings protect.

A name protects nobody: whoever wants to be spared would choose it. A program does, but the file itself has to be it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pidwarden.act.spare import UNPROTECTED
from pidwarden.judge.onset import onset
from pidwarden.kernel import procfs
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.programs import SHELLS, SPAWNERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pidwarden.act.spare import Protection
    from pidwarden.rescue.table import Proc

_CROWD = 20  # interactive shells that came all at once: no people have opened those
_SECOND = 1_000_000_000


class Programs(Protocol):
    """The settings that say which programs are spared."""

    @property
    def spawners(self) -> tuple[str, ...]:
        """Those that start what others want done."""

    @property
    def shells(self) -> tuple[str, ...]:
        """Those that somebody may be typing in."""

    @property
    def protect_executables(self) -> tuple[str, ...]:
        """Those that are never to be killed."""


class _Defaults(NamedTuple):
    spawners: tuple[str, ...] = SPAWNERS
    shells: tuple[str, ...] = SHELLS
    protect_executables: tuple[str, ...] = ()


DEFAULTS: Programs = _Defaults()  # as the settings have them, which take longer to read in than a look takes


class Sparing:
    """What is spared here. The files are looked up once, before anything is wrong."""

    def __init__(self, settings: Programs, protection: Protection = UNPROTECTED, pid: int = 0) -> None:
        self._pid = pid or os.getpid()
        self.protection = protection
        self._spawners, self._shells = _files(settings.spawners), _files(settings.shells)
        self._protected = _files(settings.protect_executables)

    def why(self, everybody: Sequence[Proc]) -> dict[ProcessKey, str]:
        """Those of `everybody` that are spared, each with the reason. Kernel threads are left out."""
        found = self._near({p.pid: p for p in everybody})
        shells = []
        for p in everybody:
            if p.kernel or p.ended or p.key in found:
                continue
            if why := self._rule(p):
                found[p.key] = why
            elif p.exe in self._shells and p.session == p.pid and p.tty and _runs(p, self._shells[p.exe]):
                shells.append(p)
        for p in _of_people(shells):
            found[p.key] = "somebody may be typing in this shell"
        return found

    def _near(self, by_pid: dict[int, Proc]) -> dict[ProcessKey, str]:
        """Who runs this, its ancestors, who leads its session, and process 1."""
        found: dict[ProcessKey, str] = {}
        me = by_pid.get(self._pid)
        at = me
        while at is not None and at.key not in found:
            found[at.key] = "an ancestor of this program" if found else "this program"
            at = by_pid.get(at.ppid)
        if me and me.session in by_pid:
            found.setdefault(by_pid[me.session].key, "leads the session of this terminal")
        if 1 in by_pid:
            found.setdefault(by_pid[1].key, "process 1")
        return found

    def _rule(self, p: Proc) -> str:
        """What of the settings spares a process, or an empty string."""
        if p.uid in self.protection.uids:
            return f"user {p.uid} is protected"
        if p.exe in self._spawners and _runs(p, self._spawners[p.exe]):
            return f"{p.exe} starts what others want done"
        if p.exe in self._protected and _runs(p, self._protected[p.exe]):
            return f"{p.exe} is protected"
        return self.protection.why(p.record) if self.protection.by_cgroup else ""


def _files(paths: Iterable[str]) -> dict[str, tuple[int, int]]:
    """The path that the kernel shows of each program, to its device and inode."""
    found = {}
    for path in paths:
        try:
            real = os.path.realpath(path)
            st = os.stat(real)
        except OSError:
            continue
        found[real] = st.st_dev, st.st_ino
    return found


def _runs(p: Proc, file: tuple[int, int]) -> bool:
    """Whether it is that file, and not one of the same path in a container. The path is known, so it is a local one."""
    st = procfs.program(p.pid)
    if st is None:
        return True  # of another user, or within execve: better spared
    return (st.st_dev, st.st_ino) == file


def _of_people(shells: list[Proc]) -> list[Proc]:
    """Without a crowd of them that was started in one burst, each with a terminal of its own."""
    if len(shells) < _CROWD:
        return shells
    began = onset([(p.start_ticks * TICK_NS, 1) for p in shells], len(shells) / 2, _SECOND)
    return [p for p in shells if (p.start_ticks + 1) * TICK_NS < began - _SECOND]
