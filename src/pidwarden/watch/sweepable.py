"""Who has to be stopped so that held families stand still, where no gate does it: members that grow."""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

from pidwarden.kernel import procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.model.record import ProcFlag
from pidwarden.watch.live import Live

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pidwarden.model.key import ProcessKey
    from pidwarden.watch.entries import Entry

_RECENT_NS = 2_000_000_000  # who was born or has forked so long before the hold may have made it necessary
_NOT_STOPPED = int(ProcFlag.EXEMPT | ProcFlag.SPAWNER | ProcFlag.KTHREAD | ProcFlag.PROTECTED)


def _process_group(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return -1


class Sweepable(Live):
    """See :class:`~pidwarden.watch.base.Swept`."""

    _rechecked = 0

    def loose(self) -> list[ProcessKey]:
        """See :class:`~pidwarden.watch.base.Swept`."""
        return [e.key for e in self._held() if not e.held_ns and self._grows(e) and self._can_be_stopped(e)]

    def fresh(self, families: set[int] | None = None) -> list[ProcessKey]:
        """See :class:`~pidwarden.watch.base.Swept`."""
        born, self.books.fresh = self.books.fresh, []
        if families is not None:
            born = [e for e in born if e.family and e.family.id in families]
        return [e.key for e in born if e.live > 0 and not e.held_ns and self._can_be_stopped(e)]

    def interrupts(self) -> list[ProcessKey]:
        """See :class:`~pidwarden.watch.base.Swept`."""
        shells, self.books.interrupts = self.books.interrupts, []
        return [e.key for e in shells if self.check(e)]

    def mark_stopped(self, key: ProcessKey) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""
        if entry := self.books.entries.get(key):
            self._note(entry, boot_ns(), wanted=False)

    def confirm(self, key: ProcessKey) -> bool:
        """See :class:`~pidwarden.watch.base.Swept`."""
        entry = self.books.entries.get(key)
        if entry is None:
            return False
        wanted = entry.state == "R"
        if not self.check(entry) and not self._waits_in_execve(entry):
            return False
        self._note(entry, boot_ns(), wanted=wanted)
        return True

    def _waits_in_execve(self, entry: Entry) -> bool:
        """Whether the kernel does not say who it is, but events do: it runs nothing before it stops."""
        told = not self.sees_parents and entry.live > 0 and self.books.alive.get(entry.pid) is entry
        return told and procfs.within_exec(f"{procfs.PROC}/{entry.pid}")

    def _note(self, entry: Entry, now_ns: int, *, wanted: bool) -> None:
        """It is stopped. Looks tell of no fork: who was running counts as about to do it again."""
        entry.held_ns = now_ns
        entry.stops += self.sees_parents and wanted

    def recheck(self, most: int) -> int:
        """See :class:`~pidwarden.watch.base.Swept`."""
        stopped = [e for e in self.books.alive.values() if e.held_ns and e.live > 0]
        if not stopped:
            return 0
        at = self._rechecked % len(stopped)
        self._rechecked = at + most
        runs = 0
        for entry in islice(stopped[at:] + stopped[:at], most):
            stat = procfs.stat(entry.pid)
            if stat and stat.state not in "TtZXD":
                self.books.now_ns = boot_ns()
                self.books.runs(entry)
                entry.stops += 1  # somebody continues it: it will not be left alone
                runs += 1
        return runs

    def whole_process_groups(self) -> list[int]:
        """See :class:`~pidwarden.watch.base.Swept`."""
        wanted = {_process_group(key.tgid) for key in self.loose()} - {-1}
        if not wanted:
            return []
        members = {e.pid for e in self._held() if self._may_stop(e)}
        for pid in self._everybody():
            if pid not in members and (found := _process_group(pid)) in wanted:
                wanted.discard(found)
        return sorted(wanted)

    def is_whole_user(self, uid: int) -> bool:
        """See :class:`~pidwarden.watch.base.Swept`."""
        members = {e.pid for e in self._held() if self._may_stop(e)} | {os.getpid()}
        for pid in self._everybody():
            if pid in members:
                continue
            entry = self.books.alive.get(pid)
            if (entry.uid if entry else procfs.owner(pid)) == uid:
                return False
        return bool(members)

    def note_stopped(self, *, process_groups: list[int], uid: int | None) -> list[ProcessKey]:
        """See :class:`~pidwarden.watch.base.Swept`."""
        self.refresh()
        now, hit = boot_ns(), []
        groups, held = set(process_groups), set(self._held())
        for entry in list(self.books.alive.values()):
            if entry.live <= 0 or entry.pid == os.getpid():
                continue
            if entry.uid != uid and (not groups or _process_group(entry.pid) not in groups):
                continue
            if entry in held and self._may_stop(entry):
                self._note(entry, now, wanted=entry.state == "R")
            elif (stat := procfs.stat(entry.pid)) and stat.state == "T":
                hit.append(entry.key)
        return hit

    def _held(self) -> Iterator[Entry]:
        """Living members of held groups."""
        pools = [p for p in self.books.pools.values() if p.held]
        families = {p.family for p in pools}
        for family in families:
            whole = family.held
            for entry in list(family.members):
                if entry.live > 0 and (whole or (entry.branch and entry.branch.held)):
                    yield entry

    def _grows(self, entry: Entry) -> bool:
        since = max((p.held_ns for p in entry.groups() if p.held), default=0) - _RECENT_NS
        return bool(entry.key.start_ns > since or entry.tick_ns > since or entry.stops)

    def _may_stop(self, entry: Entry) -> bool:
        if entry.flags & _NOT_STOPPED or entry.pid == os.getpid():
            return False
        return not (entry.flags & ProcFlag.SHELL and entry.execs and self._leads_terminal(entry))

    def _can_be_stopped(self, entry: Entry) -> bool:
        """Whether it may be, and that can be confirmed: looks do not tell who is within execve."""
        return not (self.sees_parents and entry.within_exec) and self._may_stop(entry)

    def _everybody(self) -> Iterator[int]:
        """Pids of all that we can see or have heard of, and that may run."""
        yield from [e.pid for e in self.books.alive.values() if e.live > 0]
