"""The last check before a signal: is this still that process, and is it one that is spared by rule?"""

from __future__ import annotations

import contextlib
import os
import signal

from pidwarden.kernel import procfs
from pidwarden.model.record import ProcFlag, Record


class Held:
    """A process held by a pidfd that was checked against its key: it cannot become another one any more."""

    def __init__(self, record: Record, fd: int, stat: procfs.Stat) -> None:
        self.record, self.fd, self.stat = record, fd, stat

    def signal(self, number: int) -> bool:
        """Sends a signal through the pidfd. False if the process is gone."""
        try:
            signal.pidfd_send_signal(self.fd, number)
        except ProcessLookupError:
            return False
        return True

    def close(self) -> None:
        """Lets go of the pidfd."""
        with contextlib.suppress(OSError):
            os.close(self.fd)


def take(record: Record) -> Held | None:
    """Opens a process by its key. None if it is gone, is another one by now, or its start time is not known."""
    if not record.key.known:
        return None
    try:
        fd = os.pidfd_open(record.key.tgid)
    except OSError:
        return None
    stat = procfs.stat_of(record.key)
    if stat is None:
        os.close(fd)
        return None
    return Held(record, fd, stat)


def is_interactive(record: Record, stat: procfs.Stat) -> bool:
    """Whether a shell leads a session that has a terminal: somebody may be typing in it."""
    return bool(record.flags & ProcFlag.SHELL) and stat.session == record.key.tgid and stat.tty != 0


def why_spared(held: Held) -> str:
    """The rule that protects a process, or an empty string.

    A name protects nobody: whoever wants to be spared would choose it.
    """
    record, stat = held.record, held.stat
    if record.key.tgid == 1:
        return "pid 1"
    if record.flags & ProcFlag.KTHREAD:
        return "kernel thread"
    if record.flags & ProcFlag.EXEMPT or record.key.tgid == os.getpid():
        return "the guard or its ancestor"
    if record.flags & ProcFlag.PROTECTED:
        return "protected by configuration"
    if record.flags & ProcFlag.SPAWNER:
        return "spawner"
    return "interactive shell" if is_interactive(record, stat) else ""
