"""Killing a closed set and proving it: pidfd each, the key checked, SIGKILL, and nobody left running."""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

from pidwarden.act.spare import UNPROTECTED, Held, Protection, take, why_spared
from pidwarden.kernel import cgroup, freezer
from pidwarden.kernel.clock import boot_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from pidwarden.model.key import ProcessKey
    from pidwarden.model.record import Record

_NEWBORN_NS = 50_000_000  # a pid comes round again after all others; 32768 forks take far longer than this
_BATCH = 512  # pidfds open at a time


class Execution:
    """Signals members as they become known and knows which of them still run. `lives`: see :func:`spare.take`."""

    def __init__(self, protection: Protection = UNPROTECTED, lives: Callable[[ProcessKey], bool] | None = None) -> None:
        self._protection, self._lives = protection, lives
        self._open: dict[ProcessKey, Held] = {}
        self.killed: set[ProcessKey] = set()
        self.spared: dict[ProcessKey, str] = {}
        self.cgroups: list[str] = []  # those that were killed as a whole

    def strike(self, members: Iterable[Record]) -> int:
        """SIGKILLs the living among `members` that were not signalled yet; how many."""
        count = 0
        for record in members:
            if not record.alive or record.key in self.killed or record.key in self.spared:
                continue
            if len(self._open) >= _BATCH:
                self.running(0.0)
            held = take(record, self._lives)
            if held is None:
                continue
            if reason := why_spared(held, self._protection):
                self.spared[record.key] = reason
                held.close()
                continue
            if held.signal(signal.SIGKILL):
                self.killed.add(record.key)
                count += 1
            if len(self._open) < _BATCH:
                self._open[record.key] = held
            else:
                held.close()
        return count

    def strike_newborn(self, key: ProcessKey) -> bool:
        """SIGKILLs a process that the kernel announced a moment ago, a copy of one that was not spared.

        There is no time to ask /proc: its pid cannot have been given to another one since. Whether it was reached.
        """
        if boot_ns() - key.start_ns > _NEWBORN_NS:
            return False
        try:
            fd = os.pidfd_open(key.tgid)
        except OSError:
            return False
        try:
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        except OSError:
            return False
        finally:
            os.close(fd)
        self.killed.add(key)
        return True

    def strike_whole(self, members: Iterable[Record], directories: Sequence[str]) -> int:
        """SIGKILLs all of some v2 cgroups at once, atomic against fork, if they hold just `members`; how many.

        0, and nothing is done, if one of them is spared or somebody else is in there. What is left, and what the kernel
        refuses, is for :meth:`strike`.
        """
        held: list[Held] = []
        checked: dict[int, ProcessKey] = {}
        try:
            for record in members:
                if not record.alive or record.key in self.killed or (one := take(record, self._lives)) is None:
                    continue
                reason = why_spared(one, self._protection)
                if len(held) < _BATCH:
                    held.append(one)
                else:
                    one.close()
                if reason:
                    return 0
                checked[record.key.tgid] = record.key
            inside: set[int] = set()
            for directory in directories:
                inside |= cgroup.processes_below(directory) or set()
            if not inside or inside - checked.keys() or sum(map(freezer.kill, directories)) < len(directories):
                return 0
            self.cgroups.extend(directories)
            self.killed.update(checked[pid] for pid in inside)
            self._open.update((h.record.key, h) for h in held if h.record.key.tgid in inside)
            return len(inside)
        finally:
            for one in held:
                if self._open.get(one.record.key) is not one:
                    one.close()

    @property
    def killed_by(self) -> str:
        """How, for events."""
        return "cgroup.kill" if self.cgroups else "pidfd"

    def populated(self) -> bool:
        """Whether one of the killed is still in a cgroup that was killed: the kernel's word, ``populated``, decides."""
        pids = {key.tgid for key in self.killed}
        return any(
            freezer.is_populated(d) and not pids.isdisjoint(cgroup.processes_below(d) or ()) for d in self.cgroups
        )

    def running(self, wait_seconds: float) -> int:
        """How many of the signalled still run, after waiting at most so long for all of them to end.

        A pidfd is readable once every thread of its process has ended (pidfd_open(2)).
        """
        until = time.monotonic() + wait_seconds
        poll = select.poll()
        by_fd = {held.fd: key for key, held in self._open.items()}
        for fd in by_fd:
            poll.register(fd, select.POLLIN)
        while self._open:
            for fd, _event in poll.poll(max(0.0, until - time.monotonic()) * 1000):
                self._open.pop(by_fd[fd])
                poll.unregister(fd)
                os.close(fd)
            if time.monotonic() >= until:
                break
        return len(self._open)

    def close(self) -> None:
        """Lets go of every pidfd."""
        for held in self._open.values():
            held.close()
        self._open.clear()
