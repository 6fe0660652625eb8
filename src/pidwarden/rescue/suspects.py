"""Who fills the table, out of two looks at it a moment apart. Pure.

There is no history here: nobody watched while the bomb grew. What is left of it is who is whose parent, who never
called exec (``PF_FORKNOEXEC``), when each was born, and who is an orphan. Processes are put together that copied
themselves or started themselves again. One that somebody else started, and that has no copies, stays by itself, though
it runs the same program as the bomb: a name or a program alone convicts nobody.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from pidwarden.judge.onset import onset
from pidwarden.model.key import TICK_NS, ProcessKey
from pidwarden.model.text import escape

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from pidwarden.rescue.table import Proc

SECOND = 1_000_000_000
_FEWEST = 20  # slots: fewer are nobody's trouble
_WITNESS_NS = SECOND // 10  # births closer together than this are one burst
_BEFORE_NS = SECOND  # who is this much older than the growth was there before
_MOST, _HALF, _QUARTER = 0.8, 0.5, 0.25
_DEEP_COPIES = 3  # copies of copies of copies; a pool or a prefork server is two deep at most
_DEEP_AGAIN = 5  # the same by exec; make in make in make is less deep
_BUSY = "RD"
_BREEDERS = 6  # members that have members as children
_AT_ONCE_TICKS = 1000  # zombies that took longer to come are a leak
_GROWS = 0.05  # of its slots, born between the two looks


class Suspect(NamedTuple):
    """Processes that belong together and hold many slots."""

    members: tuple[Proc, ...]  # alive
    zombies: int  # slots of those that have ended, with a member as their parent or in a member's process group
    slots: int  # all, threads too
    born: int  # of the members: between the two looks
    groups: frozenset[int]  # their process groups, and those of the zombies
    sure: bool  # whether it is a bomb as far as the table can tell
    reasons: tuple[str, ...]

    @property
    def keys(self) -> frozenset[ProcessKey]:
        """Who they are."""
        return frozenset(p.key for p in self.members)

    @property
    def program(self) -> str:
        """What most of them run; their commonest name where that is hidden."""
        if not self.members:
            return "nobody who lives"
        exe = Counter(p.exe for p in self.members).most_common(1)[0][0]
        return exe or escape(Counter(p.comm for p in self.members).most_common(1)[0][0])

    @property
    def users(self) -> list[int]:
        """Whose they are, the commonest first."""
        return [uid for uid, _count in Counter(p.uid for p in self.members).most_common()]


class Room(NamedTuple):
    """The limit that is nearest: what it is called, how much of it is used, and how much there is."""

    name: str
    used: int
    limit: int
    cgroup: str = ""  # whose it is; empty: the whole machine's

    @property
    def pressure(self) -> float:
        """How full it is."""
        return self.used / self.limit if self.limit else 0.0


def find(before: Sequence[Proc], now: Sequence[Proc], spared: Collection[ProcessKey], room: Room) -> list[Suspect]:
    """Those that hold many slots, the most first. `spared` are nobody's members."""
    groups = _Groups(now, spared, {p.key for p in before if p.state in _BUSY})
    there = {p.key for p in before}
    found = []
    for numbers in groups.found():
        members, zombies = groups.split(numbers)
        slots = sum(p.threads for p in members) + len(zombies)
        if slots >= _FEWEST:
            born = sum(p.key not in there for p in members) if there else 0
            over = not members and all(z.key in there for z in zombies)
            found.append(_opinion(members, zombies, slots, born, room, over=over))
    return sorted(found, key=lambda s: -s.slots)


class _Groups:
    """Which processes belong together: disjoint sets, joined pair by pair. Nobody is joined to who is spared."""

    def __init__(self, everybody: Iterable[Proc], spared: Collection[ProcessKey], busy: Collection[ProcessKey]) -> None:
        self._busy = busy  # at the look before
        self._everybody = {p.pid: p for p in everybody}
        known = [p for p in self._everybody.values() if not p.kernel and p.key not in spared]
        self.procs = sorted(known, key=lambda p: (p.start_ticks, p.pid))
        self.number = {p.pid: i for i, p in enumerate(self.procs)}
        self._above = list(range(len(self.procs)))
        self._programs: dict[str, list[int]] = {}
        for i, p in enumerate(self.procs):
            if not p.ended:
                self._programs.setdefault(_program(p), []).append(i)
        self._began = {
            program: _onset([self.procs[i] for i in numbers]) - _BEFORE_NS
            for program, numbers in self._programs.items()
            if sum(self.procs[i].threads for i in numbers) >= _FEWEST
        }
        self._join_families()
        self._join_orphans()
        self._join_zombies()
        self._join_started()

    # -- disjoint sets ---------------------------------------------------------------------------------------------

    def _root(self, i: int) -> int:
        above = self._above
        while above[i] != i:
            above[i] = above[above[i]]
            i = above[i]
        return i

    def _join(self, i: int, j: int) -> None:
        i, j = sorted((self._root(i), self._root(j)))
        self._above[j] = i

    def found(self) -> list[list[int]]:
        """The sets, each in order of birth."""
        sets: dict[int, list[int]] = {}
        for i in range(len(self.procs)):
            sets.setdefault(self._root(i), []).append(i)
        return list(sets.values())

    def split(self, numbers: Iterable[int]) -> tuple[list[Proc], list[Proc]]:
        """The living and the zombies of a set."""
        procs = [self.procs[i] for i in numbers]
        return [p for p in procs if not p.ended], [p for p in procs if p.ended]

    # -- who belongs to whom ---------------------------------------------------------------------------------------

    def _parent(self, p: Proc) -> int | None:
        i = self.number.get(p.ppid)
        return i if i is not None and self.procs[i].start_ticks <= p.start_ticks else None

    def _is_elder(self, p: Proc) -> bool:
        """Whether it was there before its program was started so often: a shell, a script, a test that sets it off."""
        return (p.start_ticks + 1) * TICK_NS < self._began.get(_program(p), 0)

    def _join_families(self) -> None:
        """Copies with their creators, and who runs the program of its parent, or of the parent's parent, again."""
        broods = Counter(self.number.get(p.ppid) for p in self.procs)
        for i, p in enumerate(self.procs):
            above = self._parent(p)
            if p.ended or above is None:
                continue
            parent = self.procs[above]
            if _alike(p, parent):
                # The children of one who was there before have nothing to do with each other, unless they are all.
                if not self._is_elder(parent) or broods[above] >= _HALF * len(self._programs[_program(p)]):
                    self._join(i, above)
                continue
            upper = self._parent(parent)
            if upper is not None and p.exe and _alike(p, top := self.procs[upper]) and not self._is_elder(top):
                self._join(i, above)
                self._join(above, upper)

    def _join_orphans(self) -> None:
        """Copies whose creator is gone, with others that run its program, if they are as young and one user's."""
        for program, numbers in self._programs.items():
            orphans = [i for i in numbers if self._is_orphan(self.procs[i]) and not self._is_elder(self.procs[i])]
            if len(numbers) < _FEWEST or not orphans:
                continue
            first_of: dict[int, int] = {}  # by user, the first that is joined to
            for i in orphans:
                self._join(first_of.setdefault(self.procs[i].uid, i), i)
            largest, size = Counter(self._root(i) for i in numbers).most_common(1)[0]
            users = {self.procs[i].uid for i in numbers if self._root(i) == largest}
            for uid, i in first_of.items():
                if uid in users or size < _FEWEST:  # or each is another user's, and its creator is gone
                    self._join(largest, i)
            self._join_first(numbers, self._root(largest), self._began.get(program, 0))

    def _join_first(self, numbers: list[int], largest: int, began: int) -> None:
        """The first of those whose creator they deny (CLONE_PARENT): as busy as they, in their process group."""
        groups = {self.procs[i].pgrp for i in numbers if self._root(i) == largest}
        for i in numbers:
            p = self.procs[i]
            busy = p.state in _BUSY or p.key in self._busy
            if busy and p.pgrp in groups and p.start_ticks * TICK_NS >= began:
                self._join(largest, i)

    def _is_orphan(self, p: Proc) -> bool:
        """Whether its creator is gone, or denied: it never called exec, but its parent runs something else."""
        parent = self._everybody.get(p.ppid)
        return p.copy and (parent is None or not _alike(p, parent))

    def _join_zombies(self) -> None:
        """Zombies with the parent that does not reap them; those of others by process group, with who lives in it."""
        groups: dict[int, int] = {}
        for i, p in enumerate(self.procs):
            if not p.ended and (p.copy or p.pgrp == p.pid):
                groups.setdefault(p.pgrp, i)
        for i, p in enumerate(self.procs):
            if p.ended:
                above = self._parent(p)
                self._join(groups.setdefault(p.pgrp, i) if above is None else above, i)

    def _join_started(self) -> None:
        """One program that a member or somebody else has started many times, with who started it."""
        sizes = Counter(self._root(i) for i in range(len(self.procs)))
        brood: dict[tuple[int, str], list[int]] = {}
        for i, p in enumerate(self.procs):
            above = self._parent(p)
            if not p.ended and above is not None and self._root(i) != self._root(above):
                brood.setdefault((above, _program(p)), []).append(i)
        of_many = {above for above, _exe in brood if sizes[self._root(above)] >= _FEWEST}
        for (above, _exe), numbers in brood.items():
            if len(numbers) >= _FEWEST or above in of_many:
                for i in numbers:
                    self._join(above, i)


def _program(p: Proc) -> str:
    """What it runs; by name where that is hidden."""
    return p.exe or "\0" + p.comm.decode("latin-1")


def _alike(p: Proc, parent: Proc) -> bool:
    if p.exe and parent.exe:
        return p.exe == parent.exe
    return p.comm == parent.comm or p.copy


def _onset(procs: Sequence[Proc]) -> int:
    births = [(p.start_ticks * TICK_NS, p.threads) for p in procs]
    return onset(births, _HALF * sum(weight for _birth, weight in births), _WITNESS_NS)


# -- what they are -----------------------------------------------------------------------------------------------------


def _opinion(  # noqa: PLR0913  (what two looks say of one set)
    members: list[Proc], zombies: list[Proc], slots: int, born: int, room: Room, *, over: bool
) -> Suspect:
    young = _without_elders(members, len(zombies))
    slots -= sum(p.threads for p in members) - sum(p.threads for p in young)
    share = slots / room.used if room.used else 0.0
    reasons = [f"holds {slots:,} of {room.used:,} slots in use ({100 * share:.0f} %; {room.name} is {room.limit:,})"]
    shape = _shape(young, zombies, slots)
    if shape:
        reasons.append(shape)
    if born:
        reasons.append(f"{born:,} born between two looks")
    pressing = room.pressure >= _HALF or born >= _GROWS * slots
    if over:
        reasons.append("nobody of it lives, and none was born between two looks: what is left waits to be reaped")
    elif not pressing:
        reasons.append("nothing is full, and it does not grow")
    elif not shape:
        reasons.append("a pool, a server or a build may look like this")
    sure = bool(shape) and pressing and share >= _QUARTER and not over
    groups = frozenset(p.pgrp for p in (*young, *zombies))
    return Suspect(tuple(young), len(zombies), slots, born, groups, sure, tuple(reasons))


def _without_elders(members: list[Proc], zombies: int) -> list[Proc]:
    """Without who was there before the growth began: the script or the shell that the bomb was typed into."""
    if len(members) < _FEWEST or zombies > len(members):
        return members
    began = _onset(members) - _BEFORE_NS
    # To a tick: what /proc says of births is no finer.
    young = [p for p in members if (p.start_ticks + 1) * TICK_NS >= began]
    return young if len(young) >= _MOST * len(members) else members


def _shape(members: list[Proc], zombies: list[Proc], slots: int) -> str:
    """What an honest program does not look like; empty if this might be one."""
    one = max(members, key=lambda p: p.threads, default=None)
    if one and one.threads >= max(_FEWEST, _HALF * slots):
        return f"{one.threads:,} threads of one process, {one.pid}"
    if len(zombies) >= _MOST * slots:
        return _shape_of_zombies(members, zombies)
    copies = sum(p.copy for p in members)
    number = {p.pid: p for p in members}
    depth, depth_of_copies, breeders = _rows(members, number)
    orphans = sum(p.copy and p.ppid not in number for p in members)
    text = f"{copies:,} of {len(members):,} never called exec: copies"
    if copies >= _MOST * len(members):
        if depth_of_copies >= _DEEP_COPIES and breeders >= _BREEDERS:
            return f"{text} of copies, {depth_of_copies} deep, {breeders:,} have children of their own"
        if orphans >= _HALF * len(members):
            return f"{text}, {orphans:,} of them without the one who made them"
    elif depth >= _DEEP_AGAIN and breeders >= _BREEDERS:
        return f"a program that starts itself again, {depth} deep, {breeders:,} have children of their own"
    return ""


def _shape_of_zombies(members: list[Proc], zombies: list[Proc]) -> str:
    text = f"{len(zombies):,} of them are zombies, children that ended"
    births = sorted(z.start_ticks for z in zombies)
    if births[-1] - births[len(births) // 10] > _AT_ONCE_TICKS:
        return ""  # a leak
    pids = {p.pid for p in members}
    if sum(z.ppid in pids for z in zombies) >= _HALF * len(zombies):
        return f"{text} and that their parent does not reap"
    if sum(z.copy for z in zombies) >= _MOST * len(zombies):
        return f"{text}: each made the next and ended"
    return ""


def _rows(members: Iterable[Proc], number: Mapping[int, Proc]) -> tuple[int, int, int]:
    """The longest row of parents and children, the longest of copies, and how many have children."""
    depth: dict[int, int] = {}
    of_copies: dict[int, int] = {}
    parents = set()
    for p in sorted(members, key=lambda p: (p.start_ticks, p.pid)):
        line: list[Proc] = []
        at: Proc | None = p
        while at is not None and at.pid not in depth and at not in line:
            line.append(at)
            at = number.get(at.ppid)
        for one in reversed(line):
            above = number.get(one.ppid)
            known = above is not None and above.pid in depth
            depth[one.pid] = depth[one.ppid] + 1 if known else 0
            of_copies[one.pid] = of_copies[one.ppid] + 1 if known and one.copy else 0
            if known:
                parents.add(one.ppid)
    return max(depth.values(), default=0), max(of_copies.values(), default=0), len(parents)
