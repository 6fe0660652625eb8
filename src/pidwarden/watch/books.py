"""The books of families, kept from events: the rules of bpf/track.h in Python, for machines without BPF. Pure.

Whoever reads the events sets ``now_ns`` (ns since boot) and calls :meth:`born`, :meth:`thread`, :meth:`exec`,
:meth:`exit` and :meth:`free`. Beside the BPF side there is one difference: the living always have a record, as one
without could not be stopped. What is limited is how many dead are remembered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pidwarden.model.key import ProcessKey
from pidwarden.model.record import Counters, GroupFlag, ProcFlag
from pidwarden.watch.entries import Entry, Pool
from pidwarden.watch.retain import Retained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TICK_NS = 1_000_000_000
_INHERITED = int(ProcFlag.SHELL | ProcFlag.PROTECTED)
_OF_THE_PROGRAM = int(ProcFlag.SHELL | ProcFlag.PROTECTED | ProcFlag.SPAWNER)


class Found(NamedTuple):
    """What /proc says of a process."""

    key: ProcessKey
    flags: int
    uid: int  # -1: hidden, or gone meanwhile
    comm: bytes
    exe: tuple[int, int]
    exact: bool = True  # whether the start in the key is known for sure


class Books(Retained):
    """Who there is, who made whom, and what each family and branch has.

    `reaped` says whether a process that has ended holds its slot no more; `leads_terminal` whether a process leads a
    session that has a terminal; `clock` is ns since boot.
    """

    def __init__(
        self,
        reaped: Callable[[Entry], bool],
        leads_terminal: Callable[[Entry], bool],
        clock: Callable[[], int],
        max_records: int = 65536,
    ) -> None:
        super().__init__(reaped, clock, max_records)
        self._leads_terminal = leads_terminal
        self.alive: dict[int, Entry] = {}  # by pid: who holds a slot
        self.latest: dict[int, Entry] = {}  # by pid: who had it last, as far as remembered
        self.fresh: list[Entry] = []  # born into a held group since somebody last looked
        self.interrupts: list[Entry] = []  # shells at a prompt that forked although their job is held
        self.seeded = self.adopted = self.forks = self.walks = 0
        self.lost_events = self.missed_frees = self.marks = 0

    # -- what happens ----------------------------------------------------------------------------------------------

    def born(self, creator: Entry, pid: int, start_ns: int, *, by_thread: bool = False, exact: bool = True) -> Entry:
        """A new process. ``by_thread``: made by another thread than the creator's leader."""
        self.forks += 1
        self._count_fork(creator, by_thread=by_thread)
        kthread = int(creator.flags & ProcFlag.KTHREAD)
        return self._enlist(self._enrol(creator, ProcessKey(pid, start_ns), kthread, exact=exact), creator)

    def adopt(self, creator: Entry | None, found: Found) -> Entry:
        """A process that nobody told of: it was there before, or what was told was lost.

        With GUESSED among its flags the creator is only likely, and no fork is counted for it.
        """
        self.seeded += 1
        entry = self._enrol(creator, found.key, found.flags, exact=found.exact)
        entry.uid, entry.comm = found.uid if found.uid >= 0 else entry.uid, found.comm
        if found.exe not in (entry.exe, (0, 0)):  # 0: it is hidden from us, or a zombie
            entry.execs = int(creator is not None)  # it runs another program than its creator
            entry.exe = found.exe
            entry.flags = entry.flags & ~_INHERITED | found.flags
        if creator is None or found.flags & ProcFlag.GUESSED:
            return self._enlist(entry, entry)
        self._count_fork(creator, by_thread=False)
        return self._enlist(entry, creator)

    def thread(self, entry: Entry, count: int = 1) -> None:
        """The process has so many more threads."""
        self.forks += count
        for _ in range(count):
            self._count_fork(entry, by_thread=False)
        self._more(entry, count)

    def exec(self, entry: Entry, flags: int, comm: bytes | None, exe: tuple[int, int], uid: int | None = None) -> None:
        """The process runs another program, with one thread; `flags` are what that program says of it."""
        if entry.live != 1 or entry.ended:
            self.threads_are(entry, 1, leader_ended=False)
        entry.exec_ns = self.now_ns
        entry.execs += 1
        entry.comm = entry.comm if comm is None else comm
        entry.uid = entry.uid if uid is None else uid
        entry.exe = exe
        if entry.flags & ProcFlag.KTHREAD:
            entry.flags &= ~ProcFlag.KTHREAD
            self._join(entry, None)
            if entry.family:
                entry.family.records += 1
                entry.family.members.add(entry)
            self.charge(entry.branch, entry, 0)
            self.charge(entry.family, entry, 0)
        clear = _OF_THE_PROGRAM
        if entry.flags & ProcFlag.SCOPE or entry.pid == 1:
            clear &= ~ProcFlag.SPAWNER
        entry.flags = entry.flags & ~clear | flags

    def threads_are(self, entry: Entry, live: int, *, leader_ended: bool, met: bool = False) -> None:
        """The process has so many living threads, whatever was counted; a leader that ended holds a slot, too.

        ``met``: it was just met, so nobody knows when it made them.
        """
        entry.ended = leader_ended
        slots = live + leader_ended
        if live > 0 and self.ended.get(entry.pid) is entry:
            del self.ended[entry.pid]
            entry.exit_ns = 0
        if slots > entry.slots:
            (self._more if met else self.thread)(entry, slots - entry.slots)
        elif slots < entry.slots:
            self._less(entry, entry.slots - slots)
        entry.live = live
        if live <= 0:
            self._end(entry, 0)

    def exit(self, entry: Entry, code: int, *, leader: bool) -> None:
        """One of its threads has ended: the leader, which holds its slot until it is reaped, or another."""
        if leader:
            if entry.ended:
                return
            entry.ended = True
            entry.live -= 1
        elif entry.live > (not entry.ended):
            entry.live -= 1
            self._less(entry, 1)
        if entry.live <= 0:
            self._end(entry, code)

    def _end(self, entry: Entry, code: int) -> None:
        if not entry.exit_ns:
            entry.exit_ns, entry.exit_code = self.now_ns, code
        self.ended[entry.pid] = entry

    def free(self, entry: Entry) -> None:
        """Its parent has reaped it: no slot is left."""
        if self.alive.get(entry.pid) is entry:
            del self.alive[entry.pid]
        if not entry.exit_ns:
            entry.exit_ns = self.now_ns  # its end was missed as well
        super().free(entry)
        self.retire(entry)

    # -- what is told ----------------------------------------------------------------------------------------------

    def move(self, entry: Entry, to: Pool) -> bool:
        """The process and its slots go over into a family."""
        family, branch, n = entry.family, entry.branch, entry.slots
        if family is to:
            return False
        if family:
            family.records -= 1
            family.members.discard(entry)
        to.records += 1
        if n > 0:
            to.members.add(entry)
        entry.family, entry.branch, entry.generation = to, None, 0
        to.slots += n
        to.peak = max(to.peak, to.slots)
        self.uncharge(branch, n)
        self.uncharge(family, n)
        return True

    def runs(self, entry: Entry) -> None:
        """It is not stopped any more. Time spent so is no part of its life."""
        if entry.held_ns:
            entry.stopped_ns += max(0, self.now_ns - entry.held_ns)
        entry.held_ns = 0

    def rehome(self, entry: Entry, creator: Entry) -> None:
        """It turned out who its creator is: it joins that one's family, as if it had been known at its birth."""
        if entry.parent:
            entry.parent.kids -= 1
        entry.parent = creator
        creator.kids += 1
        creator.forks += 1
        entry.flags |= int(ProcFlag.GUESSED)
        family, branch = entry.family, entry.branch
        if family:
            family.records -= 1
            family.members.discard(entry)
        self._leave(entry)
        self._join(entry, creator)
        if entry.family:
            entry.family.records += 1
        self._place(entry, creator)
        self.uncharge(branch, entry.slots)
        self.uncharge(family, entry.slots)

    @staticmethod
    def _leave(entry: Entry) -> None:
        entry.family = entry.branch = None
        entry.generation = 0

    # -- what is asked ---------------------------------------------------------------------------------------------

    def of(self, families: Iterable[int]) -> list[Entry]:
        """Everybody known, dead or alive; or those of some families."""
        wanted = set(families) - {0}
        if not wanted:
            return list(self.entries.values())
        return [e for e in self.entries.values() if e.family and e.family.id in wanted]

    def lineage(self, families: Iterable[int]) -> list[Entry]:
        """Who holds a slot in some families (none: in any), and of the dead only their ancestors there."""
        wanted = set(families) - {0}
        self.marks += 1
        mark, found = self.marks, []
        pools = [self.pools[n] for n in wanted if n in self.pools]
        holders: Iterable[Entry] = (e for pool in pools for e in pool.members) if wanted else list(self.alive.values())
        for holder in holders:
            entry: Entry | None = holder
            while entry and entry.checked != mark and (not wanted or (entry.family and entry.family.id in wanted)):
                entry.checked = mark
                found.append(entry)
                entry = entry.parent
        return found

    def counters(self) -> Counters:
        """What was counted."""
        return Counters(
            next_id=self._next_id, holds=self.holds, seeded=self.seeded, adopted=self.adopted, forks=self.forks,
            stops=self.stops, lost_tasks=0, lost_procs=0, lost_groups=0, lost_events=self.lost_events,
            missed_frees=self.missed_frees, records=len(self.entries), aged=self.aged, contracted=self.contracted,
            folded=self.folded, folded_alive=0, hidden=0, short_ns=self.short_ns, settle_after=self._settle_after,
            walks=self.walks, marks=self.marks, dumped=0,
            seen_ns=0, lapsed=0, woken=0,
        )  # fmt: skip

    # -- inside ----------------------------------------------------------------------------------------------------

    def _enrol(self, creator: Entry | None, key: ProcessKey, flags: int, *, exact: bool) -> Entry:
        entry = Entry(key, creator, exact=exact)
        entry.flags = flags
        if creator:
            entry.uid, entry.comm, entry.exe = creator.uid, creator.comm, creator.exe
            entry.lost_ns = creator.lost_ns + creator.stopped_ns
            if not flags & ProcFlag.GUESSED:
                entry.flags |= creator.flags & _INHERITED
        if not entry.flags & ProcFlag.KTHREAD:
            self._join(entry, creator)
        if creator:
            creator.kids += 1
            creator.forks += 1
        self.add(entry)
        return entry

    def _enlist(self, entry: Entry, by: Entry) -> Entry:
        if before := self.alive.get(entry.pid):
            self.free(before)  # reaped, or its pid would not be in use again
        entry.slots = entry.live = 1
        self.alive[entry.pid] = self.latest[entry.pid] = entry
        self._place(entry, by)
        return entry

    def _place(self, entry: Entry, by: Entry) -> None:
        """Its slots count in its groups from here on."""
        if entry.family:
            entry.family.members.add(entry)
        for _ in range(entry.slots):
            self.charge(entry.branch, by, entry.generation)
            self.charge(entry.family, by, 0)
        self._note_birth(entry, by)

    def _note_birth(self, entry: Entry, by: Entry) -> None:
        if by is not entry:
            self.runs(by)
        if any(g.held for g in entry.groups()):
            self.fresh.append(entry)
            if by is not entry and by.found_family and by.found_family.held and by.flags & ProcFlag.SHELL:
                by.found_family = None
                self.interrupts.append(by)
            elif by is not entry:
                by.stops += 1
                self.stops += 1

    def _join(self, entry: Entry, creator: Entry | None) -> None:
        """The design's words: family, branch, generation."""
        now = entry.key.start_ns
        shell = bool(creator and creator.flags & ProcFlag.SHELL and self._leads_terminal(creator))
        if creator and creator.family and not shell and not creator.flags & ProcFlag.SPAWNER:
            entry.family = creator.family
            if now - creator.key.start_ns - creator.stopped_ns < self.config.branch_age_ns:
                entry.branch, entry.generation = creator.branch, creator.generation + 1
        elif shell and creator and creator.found_family and now - creator.found_ns < self.config.job_gap_ns:
            entry.family = None if creator.found_family.gone else creator.found_family
        if not self.config.only_scoped or (creator and creator.flags & ProcFlag.SCOPE):
            scoped = True
        else:
            own = creator.family if creator else None
            scoped = bool(own and not own.gone and own.flags & GroupFlag.SCOPED)
        entry.family = entry.family or self.new(None, entry, scoped=scoped)
        entry.branch = entry.branch or self.new(entry.family, entry, scoped=scoped)
        if shell and creator:
            creator.found_ns, creator.found_family = now, entry.family

    def _count_fork(self, entry: Entry, *, by_thread: bool) -> None:
        now = self.now_ns
        entry.thread_forks += by_thread
        if now - entry.tick_ns >= _TICK_NS:
            entry.last_forks = entry.tick_forks if now - entry.tick_ns < 2 * _TICK_NS else 0
            entry.tick_forks = 0
            entry.tick_ns = now
        entry.tick_forks += 1

    def _remove(self, entry: Entry) -> None:
        super()._remove(entry)
        if self.latest.get(entry.pid) is entry:
            del self.latest[entry.pid]

    def _more(self, entry: Entry, slots: int) -> None:
        for _ in range(slots):
            entry.slots += 1
            entry.live += 1
            self.charge(entry.branch, entry, entry.generation)
            self.charge(entry.family, entry, 0)

    def _less(self, entry: Entry, slots: int) -> None:
        entry.slots -= slots
        self.uncharge(entry.branch, slots)
        self.uncharge(entry.family, slots)
