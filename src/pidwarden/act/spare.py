"""The last check before a signal: is this still that process, and is it one that is spared by rule?"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.kernel import cgroup, procfs
from pidwarden.model.record import ProcFlag, Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from pidwarden.model.key import ProcessKey

_LEAVES = (".service", ".scope")  # units that have processes and no units below: what is below is delegated


_SPARED = {
    ProcFlag.KTHREAD: "kernel thread",
    ProcFlag.EXEMPT: "the guard or its ancestor",
    ProcFlag.OUTSIDE: "not in scope",
    ProcFlag.PROTECTED: "protected by configuration",
    ProcFlag.SPAWNER: "spawner",
}


class Protection(NamedTuple):
    """Whom the configuration protects, beyond the executables, which the kernel side marks."""

    uids: frozenset[int] = frozenset()
    cgroups: tuple[str, ...] = ()  # paths as /proc/PID/cgroup shows them, without a slash at the end
    units: frozenset[str] = frozenset()

    @property
    def by_cgroup(self) -> bool:
        """Whether a process's cgroup matters, which has to be read process by process."""
        return bool(self.cgroups or self.units)

    def why(self, record: Record) -> str:
        """What protects a process, or an empty string. Reads /proc/PID/cgroup if it must, which waits for nobody."""
        if record.uid in self.uids:
            return f"user {record.uid} is protected"
        if not self.by_cgroup:
            return ""
        for path in cgroup.paths(record.key.tgid):
            for above in self.cgroups:
                if path == above or path.startswith(above + "/"):
                    return f"cgroup {above or '/'} is protected"
            if found := self.units.intersection(system_units(path)):
                return f"unit {min(found)} is protected"
        return ""


def system_units(path: str) -> list[str]:
    """The units that systemd itself keeps in a cgroup's path, slices and the first service or scope.

    Whatever is below that one belongs to whom it is delegated to, who may call a cgroup there what he likes.
    """
    found = []
    for part in path.split("/"):
        found.append(part)
        if part.endswith(_LEAVES):
            break
    return found


UNPROTECTED = Protection()


class Held:
    """A process held by a pidfd that was checked against its key: it cannot become another one any more."""

    def __init__(self, record: Record, fd: int, stat: procfs.Stat) -> None:
        self.record, self.fd, self.stat = record, fd, stat

    def signal(self, number: int) -> bool:
        """Sends a signal through the pidfd. False if the process is gone, or not ours to signal."""
        try:
            signal.pidfd_send_signal(self.fd, number)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def close(self) -> None:
        """Lets go of the pidfd."""
        with contextlib.suppress(OSError):
            os.close(self.fd)


def take(record: Record, lives: Callable[[ProcessKey], bool] | None = None) -> Held | None:
    """Opens a process by its key. None if it is gone, is another one by now, or its start time is not known.

    Of one within execve /proc does not show who it is. Then `lives` says it, asked after the process was opened:
    whether that of the key has not ended. Without that nobody can say.
    """
    if not record.key.known:
        return None
    try:
        fd = os.pidfd_open(record.key.tgid)
    except OSError:
        return None
    stat = procfs.stat_of(record.key)
    if stat is None and lives and procfs.within_exec(f"{procfs.PROC}/{record.key.tgid}") and lives(record.key):
        stat = _without_proc(record)
    if stat is None:
        os.close(fd)
        return None
    return Held(record, fd, stat)


def _without_proc(record: Record) -> procfs.Stat | None:
    """What is known of one within execve; None of a shell that leads a session: whether people type there is not.

    A session that is gone has no number (getsid(2)). State ``D`` is what such a process is in for all that matters.
    """
    try:
        session = os.getsid(record.key.tgid)
    except OSError:
        return None
    if record.flags & ProcFlag.SHELL and session == record.key.tgid:
        return None
    key = record.key
    return procfs.Stat(key.tgid, record.comm, "D", record.ppid, 0, session, 0, -1, record.live, key.start_ticks)


def is_interactive(record: Record, stat: procfs.Stat) -> bool:
    """Whether a shell leads a session that has a terminal: somebody may be typing in it."""
    return bool(record.flags & ProcFlag.SHELL) and stat.session == record.key.tgid and stat.tty != 0


def why_spared(held: Held, protection: Protection = UNPROTECTED) -> str:
    """The rule that protects a process, or an empty string. The cgroup is that of this moment.

    A name protects nobody: whoever wants to be spared would choose it.
    """
    record, stat = held.record, held.stat
    if record.key.tgid == 1:
        return "pid 1"
    if record.key.tgid == os.getpid():
        return _SPARED[ProcFlag.EXEMPT]
    for flag, why in _SPARED.items():
        if record.flags & flag:
            return why
    return "interactive shell" if is_interactive(record, stat) else protection.why(record)
