"""What sources without BPF have in common: the books, what only /proc can tell, and the answers to questions.

A process that events announced gets its exact start time from /proc before anybody outside hears of it; one that is
gone by then keeps the time of its announcement, and nobody can act on it. Existence is asked with getpgid(2): it costs
a third of a microsecond, and hidepid does not hide from it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pidwarden.kernel import procfs
from pidwarden.kernel.clock import boot_ns
from pidwarden.kernel.devices import kernel_device
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.record import GroupFlag, ProcFlag, Rule
from pidwarden.watch.books import Books, Found
from pidwarden.watch.dump import pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pidwarden.kernel.config import Config
    from pidwarden.kernel.procfs import Stat
    from pidwarden.model.record import Counters, Group, Record, Signal
    from pidwarden.watch.entries import Entry, Pool

_SLACK_NS = 2_000_000_000  # between the start of a process and its announcement: the creator may lose the processor
_BYTES_A_RECORD = 1200  # an Entry, its key, its name and its places in the dictionaries (sys.getsizeof)
_KTHREADD = 2
_LOOKED_AT = 200  # members, to say whether a group is busy
_HIDDEN = (0, 0)  # instead of a program


def _after(creator: Entry | None, start_ns: int) -> int:
    """A start within the tick of `start_ns`, later than the creator's: ticks are coarse, and order is what matters."""
    if creator and start_ns <= creator.key.start_ns < (start_ns // TICK_NS + 1) * TICK_NS - 1:
        return creator.key.start_ns + 1
    return start_ns


class Live:
    """The books of a running machine. Subclasses say what happens in it."""

    name = ""
    how = ""
    gated, keeps_scope, left_out = False, False, 0
    sees_parents = False  # whoever comes is looked at for his parent; otherwise that is done after a loss only

    def __init__(self, max_records: int) -> None:
        self.books = Books(lambda entry: not procfs.exists(entry.pid), self._leads_terminal, boot_ns, max_records)
        self._executables: dict[tuple[int, int], int] = {}
        self._only: tuple[int, ...] = ()
        self._packed = bytearray()
        self.notes: list[str] = []

    # -- set up and events -----------------------------------------------------------------------------------------

    def configure(self, config: Config) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""
        self.books.config, self._only = config, config.only

    def set_executables(self, flags: dict[tuple[int, int], int]) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""
        self._executables = flags

    def refresh(self) -> None:
        """Reads what happened since the last time."""
        raise NotImplementedError

    def signals(self) -> Iterator[Signal]:
        """See :class:`~pidwarden.watch.base.Source`."""
        self.refresh()
        return self._take_signals()

    def _take_signals(self) -> Iterator[Signal]:
        waiting, self.books.signals = self.books.signals, []
        for signal, by in waiting:
            if by and not by.exact and by.slots > 0:
                self.check(by)
            yield signal._replace(by=by.key) if by else signal

    def begin_lease(self) -> bool:
        """Nobody ends a hold when the guard is lost."""
        return False

    def seen(self) -> None:
        """Nothing to renew."""

    def take_notes(self) -> list[str]:
        """See :class:`~pidwarden.watch.base.Source`."""
        notes, self.notes = self.notes, []
        return notes

    def close(self) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""

    # -- /proc -----------------------------------------------------------------------------------------------------

    def seed(self) -> int:
        """Sets the books right by a look at every process in /proc; how many were enrolled so far."""
        books = self.books
        books.now_ns = boot_ns()
        books.walks += 1
        seen: set[int] = set()
        new: dict[int, tuple[Stat, int]] = {}
        for pid in map(int, filter(str.isdecimal, os.listdir(procfs.PROC))):
            read_ns = boot_ns()
            stat = procfs.stat(pid) or procfs.veiled(pid)
            if stat is None:
                continue
            seen.add(pid)
            entry = books.alive.get(stat.pid)
            if entry is None or not self._is(entry, stat):
                new[stat.pid] = stat, read_ns
            else:
                self._reconcile(entry, stat, read_ns)
        for entry in [e for e in books.alive.values() if e.pid not in seen and not procfs.exists(e.pid)]:
            books.free(entry)
        for pid in sorted(new, key=lambda number: (new[number][0].start_ticks, number)):
            self._adopt_with_parents(pid, new)
        return books.seeded

    def _adopt_with_parents(self, pid: int, new: dict[int, tuple[Stat, int]]) -> None:
        """A newcomer, after those of his ancestors that are new as well: pids do not tell who came first in a tick."""
        line = []
        while pid in new:
            line.append(new.pop(pid))
            pid = line[-1][0].ppid
        for stat, read_ns in reversed(line):
            self._adopt(stat, read_ns)

    def _is(self, entry: Entry, stat: Stat) -> bool:
        """Whether the entry is the process of this `stat`; from then on its start time is known for sure."""
        if stat.start_ticks == procfs.VEILED:  # it passes for who had the pid at the last look: nobody acts on that
            return True
        ticks = entry.key.start_ticks
        if entry.exact:
            return stat.start_ticks == ticks
        if not -1 <= ticks - stat.start_ticks <= _SLACK_NS // TICK_NS:
            return False
        if ticks != stat.start_ticks:
            start_ns = _after(entry.parent, (stat.start_ticks + 1) * TICK_NS - TICK_NS // 2)
            self.books.rekey(entry, ProcessKey(entry.pid, start_ns))
        entry.exact = True
        return True

    def _reconcile(self, entry: Entry, stat: Stat, read_ns: int, *, met: bool = False) -> None:
        if not met:
            self._look_closer(entry, stat)
        entry.ppid, entry.state, entry.comm = stat.ppid, stat.state, stat.comm
        entry.counted_ns, entry.within_exec = read_ns, stat.start_ticks == procfs.VEILED
        ended = stat.state in "ZX"
        live = max(0, stat.threads - ended)
        if (live, ended) != (max(0, entry.live), entry.ended):
            self.books.threads_are(entry, live, leader_ended=ended, met=met)

    def _look_closer(self, entry: Entry, stat: Stat) -> None:
        """What events would have told: that it is another user's by now, or runs another program."""
        if (uid := procfs.owner(entry.pid)) >= 0:
            entry.uid = uid
        if self.sees_parents and stat.comm != entry.comm and stat.state not in "ZX":
            exe, flags = self._program(entry.pid)
            if exe not in (_HIDDEN, entry.exe):
                self.books.exec(entry, flags, stat.comm, exe)

    def check(self, entry: Entry) -> bool:
        """Whether the process is there, its start time known, and what /proc says of it noted. If not, it goes."""
        stat, read_ns = procfs.stat(entry.pid), boot_ns()
        if stat is not None and self._is(entry, stat):
            entry.ppid, entry.state, entry.comm = stat.ppid, stat.state, stat.comm
            return True
        if stat is not None or not procfs.exists(entry.pid):
            self.books.now_ns = read_ns
            self.books.free(entry)
        return False

    def _adopt(self, stat: Stat, read_ns: int) -> Entry:
        books, pid = self.books, stat.pid
        flags = int(ProcFlag.KTHREAD) if _KTHREADD in (pid, stat.ppid) else 0
        if pid in self._only:
            flags |= int(ProcFlag.SPAWNER | ProcFlag.SCOPE)
        if pid == 1:
            flags |= int(ProcFlag.SPAWNER)
        exe, of_program = _HIDDEN, 0
        if not flags & ProcFlag.KTHREAD:
            exe, of_program = self._program(pid)
        uid = procfs.owner(pid)
        before = books.alive.get(pid)
        if before:
            books.free(before)
        creator, sure = self._guess_creator(stat)
        exact = stat.start_ticks != procfs.VEILED
        flags |= self._entrance(stat, uid, exe, creator) if exact else 0
        flags |= of_program | (0 if sure else int(ProcFlag.GUESSED))
        books.now_ns = read_ns
        key = ProcessKey(pid, _after(creator, (stat.start_ticks * TICK_NS or 1) if exact else read_ns))
        entry = books.adopt(creator, Found(key, flags, uid, stat.comm, exe, exact))
        entry.leads = stat.session == pid
        self._reconcile(entry, stat, read_ns, met=True)
        return entry

    def _entrance(self, stat: Stat, uid: int, exe: tuple[int, int], creator: Entry | None) -> int:
        """For an ordinary user's guard: the marks of processes through which that user came in.

        Of a server's process for his session, of su and the like the program is hidden from him, and their parent is
        another's: each child founds a family. Whoever led a terminal before the guard came is not to be held.
        """
        first = self.books.walks <= 1
        if os.geteuid() == 0 or uid != os.geteuid():
            return 0
        flags = int(ProcFlag.EXEMPT) if first and stat.session == stat.pid and stat.tty else 0
        foreign = creator is None or (creator.uid != uid and creator.pid != 1)
        if exe == _HIDDEN and stat.state not in "ZX" and (foreign or first):
            flags |= int(ProcFlag.SPAWNER)
        return flags

    def _guess_creator(self, stat: Stat) -> tuple[Entry | None, bool]:
        """The parent it has now, and whether that is as good as sure.

        It is for who was born between two looks, unless a spawner may have taken it over from one that ended: then it
        is rather who leads its process group or session.
        """
        books = self.books
        parent = books.alive.get(stat.ppid)
        if parent is None:
            return None, False
        if not parent.flags & ProcFlag.SPAWNER:
            return parent, self.sees_parents and books.walks > 1
        above, at = {parent}, parent.parent
        while at:
            above.add(at)
            at = at.parent
        for pid in (stat.pgrp, stat.session):
            leader = books.latest.get(pid) if pid != stat.pid else None
            if leader and leader not in above and leader.key.start_ticks <= stat.start_ticks:
                return leader, False
        return parent, False

    def _program(self, pid: int) -> tuple[tuple[int, int], int]:
        """The executable of a process and what is configured for it; nothing if it is hidden from us."""
        st = procfs.program(pid)
        if st is None:
            return _HIDDEN, 0
        exe = kernel_device(st.st_dev), st.st_ino
        return exe, self._executables.get(exe, 0)

    def _leads_terminal(self, entry: Entry) -> bool:
        if entry.leads is False:
            return False
        stat = procfs.stat(entry.pid)
        if stat is None:
            return False
        entry.leads = stat.session == entry.pid
        return entry.leads and stat.tty != 0

    # -- ask -------------------------------------------------------------------------------------------------------

    def _publish(self, entries: Iterable[Entry]) -> list[Record]:
        found = list(entries)
        for entry in found:
            if not entry.exact and entry.slots > 0:
                self.check(entry)
        return [e.record() for e in found]

    def records(self, *families: int) -> list[Record]:
        """See :class:`~pidwarden.watch.base.Source`."""
        self.refresh()
        return self._publish(self.books.of(families))

    def lineage(self, *families: int) -> list[Record]:
        """See :class:`~pidwarden.watch.base.Source`."""
        self.refresh()
        return self._publish(self.books.lineage(families))

    def hidden(self, *_families: int) -> list[Record]:
        """See :class:`~pidwarden.watch.base.Source`. The living always have a record."""
        return []

    def stopped(self) -> list[Record]:
        """See :class:`~pidwarden.watch.base.Source`."""
        return self._publish([e for e in self.books.alive.values() if e.held_ns])

    def dump_records(self) -> memoryview:
        """See :class:`~pidwarden.watch.base.Source`."""
        self.seed()
        self._packed = pack(self._publish(self.books.of(())))
        return memoryview(self._packed)

    def groups(self) -> dict[int, Group]:
        """See :class:`~pidwarden.watch.base.Source`."""
        return {number: pool.group() for number, pool in self.books.pools.items()}

    def group(self, group: int) -> Group | None:
        """See :class:`~pidwarden.watch.base.Source`."""
        pool = self.books.pools.get(group)
        return pool.group() if pool else None

    def record(self, key: ProcessKey) -> Record | None:
        """See :class:`~pidwarden.watch.base.Source`."""
        entry = self.books.entries.get(key)
        return entry.record() if entry else None

    @property
    def max_records(self) -> int:
        """How many processes can have a record."""
        return self.books.max_records

    @property
    def ceiling(self) -> int:
        """Bytes that so many records take, about; nothing is allocated before it is needed."""
        return self.books.max_records * _BYTES_A_RECORD

    def counters(self) -> Counters:
        """See :class:`~pidwarden.watch.base.Source`."""
        return self.books.counters()

    # -- tell ------------------------------------------------------------------------------------------------------

    def _pool(self, group: int) -> Pool | None:
        self.books.now_ns = boot_ns()
        return self.books.pools.get(group)

    def hold(self, group: int) -> bool:
        """See :class:`~pidwarden.watch.base.Source`."""
        if pool := self._pool(group):
            self.books.hold(pool)
        return pool is not None

    def release(self, group: int, *, limit: int = 0, depth_limit: int = 0) -> bool:
        """See :class:`~pidwarden.watch.base.Source`."""
        if pool := self._pool(group):
            self.books.limit(pool, limit, depth_limit)
            self.books.release(pool)
        return pool is not None

    def alarm_again(self, group: int) -> None:
        """See :class:`~pidwarden.watch.base.Swept`."""
        pool = self._pool(group)
        if pool is None or pool.founder is None:
            return
        members = [e for e in pool.family.members if e.live > 0 and pool in (e.branch, e.family)]
        states = [stat.state for e in members[:_LOOKED_AT] if (stat := procfs.stat(e.pid))]
        if 2 * states.count("R") >= len(states) > 1:
            self.books.cross(pool, pool.founder, Rule(pool.rule or Rule.BRANCH_SLOTS))

    def set_limit(self, group: int, limit: int = 0, depth_limit: int = 0) -> bool:
        """See :class:`~pidwarden.watch.base.Source`."""
        if pool := self._pool(group):
            self.books.limit(pool, limit, depth_limit)
        return pool is not None

    def split(self, of: int, founder: ProcessKey) -> int:
        """See :class:`~pidwarden.watch.base.Source`."""
        pool = self._pool(of)
        return self.books.split(pool, self.books.entries.get(founder), founder).id if pool else 0

    def move(self, key: ProcessKey, group: int) -> bool:
        """See :class:`~pidwarden.watch.base.Source`."""
        pool, entry = self._pool(group), self.books.entries.get(key)
        return bool(pool and entry and self.books.move(entry, pool))

    def settle(self) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""
        self.refresh()
        self.books.settle()

    def sweep(self, cutoff_ns: int, early_ns: int = 0) -> int:
        """See :class:`~pidwarden.watch.base.Source`."""
        self.books.settle()
        return self.books.sweep(cutoff_ns, early_ns)

    def unfold(self, now_ns: int) -> None:
        """Nothing to do: the living always have a record."""

    def doubt(self, group: int) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""
        if pool := self._pool(group):
            pool.flags |= int(GroupFlag.DOUBTED)

    def forget(self, group: int) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""
        if pool := self._pool(group):
            self.books.forget(pool)

    def flag(self, key: ProcessKey, flags: int, clear: int = 0) -> bool:
        """See :class:`~pidwarden.watch.base.Source`."""
        entry = self.books.entries.get(key)
        if entry:
            entry.flags = (entry.flags | flags) & ~clear
        return entry is not None

    def unstop(self, key: ProcessKey) -> None:
        """See :class:`~pidwarden.watch.base.Source`."""
        if entry := self.books.entries.get(key):
            self.books.now_ns = boot_ns()
            self.books.runs(entry)
