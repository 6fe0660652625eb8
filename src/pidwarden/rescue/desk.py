"""What a rescue works with, for a person at the console and for `--auto` alike."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from pidwarden.kernel import cgroup, procfs
from pidwarden.kernel.limits import machine_limits
from pidwarden.model.key import TICK_NS
from pidwarden.rescue.hunt import Hunt
from pidwarden.rescue.suspects import Room, Suspect, find
from pidwarden.rescue.table import First, Proc, Table

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pidwarden.rescue.sparing import Sparing

_BETWEEN = 0.2  # seconds from one look to the next …
_BETWEEN_FULL = 0.05  # … where hardly anybody can be born any more: what grew is no news then
_FULL = 0.95
_MANY_USERS = 8  # users of one bomb that make it likely that each member becomes another
_SECOND = 1_000_000_000
_AT_ONCE_TICKS = 1000  # threads that took longer to come are a leak, or a load
_SAMPLE = 50


class Desk:
    """The table, who is spared, and whom the last look made suspects of."""

    def __init__(self, sparing: Sparing, first: First | None = None) -> None:
        self.table, self.sparing = first.table if first else Table(), sparing
        self._first = first
        self.suspects: list[Suspect] = []
        self.everybody: list[Proc] = []

    def room(self) -> Room:
        """The limit that is nearest.

        Raises:
            OSError: /proc tells none.
        """
        nearest = machine_limits()[0]
        _pids_max, _of, path = nearest.name.partition(" of ")
        return Room(nearest.name, nearest.used, nearest.limit, path)

    def look(self) -> list[Suspect]:
        """Two looks at everybody; who holds many slots, the most first."""
        first, self._first = self._first or First(self.table), None
        apart = _BETWEEN_FULL if self.room().pressure >= _FULL else _BETWEEN
        time.sleep(max(0.0, first.began + apart - time.monotonic()))
        self.everybody = self.table.read()
        spared = self.sparing.why(self.everybody)
        room = self.room()
        self.suspects = [_in_doubt(s, room) for s in find(first.everybody, self.everybody, spared, room)]
        return self.suspects

    def hunt(self, suspect: Suspect, on_pass: Callable[[int, int, int], None] | None = None) -> Hunt:
        """To freeze and kill a suspect, and whoever turns out to belong to it."""
        return Hunt(self.table, suspect.members, self.sparing, self._kin(suspect), on_pass)

    def hunt_of(
        self,
        members: list[Proc],
        fits: Callable[[Proc], bool] | None,
        on_pass: Callable[[int, int, int], None] | None = None,
    ) -> Hunt:
        """The same for processes a person chose; `fits` says of somebody new whether he is one of them."""
        return Hunt(self.table, members, self.sparing, (lambda p, _parent: fits(p)) if fits else None, on_pass)

    def _kin(self, suspect: Suspect) -> Callable[[Proc, Proc | None], bool]:
        """Who belongs to a suspect though its members are not his parents: orphans like them, and its groups'."""
        programs = {p.exe or p.comm for p in suspect.members}
        users = set(suspect.users)
        anybody = len(users) >= _MANY_USERS
        keys = suspect.keys
        began = min((p.start_ticks for p in suspect.members), default=0)
        others = {p.pgrp for p in self.everybody if p.key not in keys and not p.ended}
        closed = {group for group in suspect.groups - others if group > 1}

        def belongs(p: Proc, parent: Proc | None) -> bool:
            if not p.copy or p.start_ticks < began:
                return False
            if p.pgrp in closed and (anybody or not users or p.uid in users):
                return True
            alone = parent is None or (parent.exe or parent.comm) != (p.exe or p.comm)
            return bool(suspect.members) and alone and (p.exe or p.comm) in programs and (anybody or p.uid in users)

        return belongs


def _in_doubt(suspect: Suspect, room: Room) -> Suspect:
    """With what speaks for it that has to be read process by process."""
    if not suspect.sure:
        return suspect
    if room.cgroup and not _mostly_within(suspect.members, room.cgroup):
        why = f"but it is elsewhere: not in {room.cgroup}"
        return suspect._replace(sure=False, reasons=(*suspect.reasons, why))
    crowd = max(suspect.members, key=lambda p: p.threads, default=None)
    if crowd and crowd.threads >= suspect.slots / 2 and (took := _thread_ticks(crowd.pid)) > _AT_ONCE_TICKS:
        why = f"but they came over {took * TICK_NS / _SECOND:.0f} s: a leak, or a load"
        return suspect._replace(sure=False, reasons=(*suspect.reasons, why))
    return suspect


def _mostly_within(members: Sequence[Proc], path: str) -> bool:
    some = members[:: max(1, len(members) // _SAMPLE)]
    return 2 * sum(cgroup.within(p.pid, path) for p in some) >= len(some)


def _thread_ticks(pid: int) -> int:
    """How long it took until nine tenths of the threads of a process were there, in ticks; 0 if it is gone."""
    try:
        tids = sorted(map(int, os.listdir(f"{procfs.PROC}/{pid}/task")))
    except OSError:
        return 0
    some = tids[:: max(1, len(tids) // _SAMPLE)]
    started = sorted(s.start_ticks for tid in some if (s := procfs.stat(tid, f"{procfs.PROC}/{pid}/task")))
    return started[-1] - started[len(started) // 10] if started else 0
